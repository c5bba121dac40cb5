//! An initiator: one peer of a concentrator, run as one task with one UDP socket.

mod sas;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ike::config::{Opening, PeerConfig};
use ike::reception::{Class, Receivers, classify};
use ike::{Candidates, Connection, Datagram, Event, Failure, Host, InitReply, Path, Transmit};
use socket2::{Domain, Protocol, Socket, Type};
use tokio::net::UdpSocket;
use tokio::sync::{mpsc, watch};
use tokio::time::{Interval, MissedTickBehavior};

use crate::host::ClientHost;
use crate::probe::{Flow, Ledger, Probe};
use sas::Sas;

/// Socket buffers: a second of probes at the highest rate used, so that a busy machine loses none.
const SOCKET_BUFFER: usize = 4 << 20;
/// Probes are sent in groups at this interval at least: a timer for each would cost more than the probe.
const TICK: Duration = Duration::from_millis(5);
/// The longest interval, also that of an initiator that sends nothing: replaced pairs are forgotten at ticks.
const SLOWEST_TICK: Duration = Duration::from_millis(500);
/// The largest UDP datagram.
const MAX_DATAGRAM: usize = 65_535;

/// What an initiator is.
#[derive(Clone, Debug)]
pub struct InitiatorConfig {
    /// Identities, key and policies, seen from this side.
    pub peer: Arc<PeerConfig>,
    /// The concentrator.
    pub server: IpAddr,
    /// Its IKE port.
    pub ike_port: u16,
    /// Its port for NAT traversal.
    pub natt_port: u16,
    /// Address to send from; the system's choice if `None`.
    pub source: Option<IpAddr>,
    /// Address of ours inside the tunnel.
    pub inner: Ipv4Addr,
    /// The flow that is sent, and the inner address it goes to.
    pub flow: Flow,
    /// Where the probes go.
    pub destination: Ipv4Addr,
    /// Probes per second.
    pub rate: u32,
    /// Octets of a probe's packet.
    pub packet_len: usize,
}

/// Why an initiator ended.
#[derive(Debug, thiserror::Error)]
pub enum InitiatorError {
    /// Its socket.
    #[error("socket of an initiator: {0}")]
    Socket(#[from] std::io::Error),
    /// Its negotiation.
    #[error("negotiation of an initiator: {0}")]
    Negotiation(#[from] Failure),
}

/// What an initiator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start or stop sending probes.
    Send(bool),
    /// Rekey the IKE_SA.
    RekeyIke,
    /// Rekey the Child SA in use.
    RekeyChild,
    /// Delete everything and end.
    Close,
}

/// What an initiator has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The tunnel carries traffic.
    pub up: bool,
    /// Times the tunnel came up.
    pub established: u64,
    /// Child SAs rekeyed, by either side.
    pub child_rekeys: u64,
    /// IKE_SAs rekeyed, by either side.
    pub ike_rekeys: u64,
    /// Probes sent.
    pub sent: u64,
    /// Probes due while no SA was there to send them.
    pub unsent: u64,
    /// Probes that arrived, by sender.
    pub received: HashMap<Flow, (u64, u64)>,
    /// Probes that belong to somebody else.
    pub strangers: u64,
    /// ESP packets that could not be opened.
    pub unopened: u64,
    /// Why it is not up.
    pub last_error: String,
}

/// A running initiator; [`Initiator::run`] is its task.
pub struct Initiator {
    config: InitiatorConfig,
    socket: UdpSocket,
    local: SocketAddr,
    host: ClientHost,
    conn: Connection,
    /// A phase 1 of IKEv1 that the node has begun, until it joins the connection.
    joining: Option<Connection>,
    sas: Sas,
    sending: bool,
    due: f64,
    next_number: u64,
    ledgers: HashMap<Flow, Ledger>,
    report: Report,
    reports: watch::Sender<Report>,
}

impl Initiator {
    /// Opens the socket and starts the negotiation.
    ///
    /// # Errors
    /// [`InitiatorError`].
    pub fn start(config: InitiatorConfig) -> Result<(Self, watch::Receiver<Report>), InitiatorError> {
        let source = match config.source {
            Some(source) => source,
            None => {
                // Connected for a moment only, to learn the address that packets leave with.
                let probe = std::net::UdpSocket::bind((unspecified(config.server), 0))?;
                probe.connect((config.server, config.ike_port))?;
                probe.local_addr()?.ip()
            }
        };
        let socket = open_socket(source)?;
        let local = SocketAddr::new(source, socket.local_addr()?.port());
        let path = Path {
            local,
            remote: SocketAddr::new(config.server, config.ike_port),
            local_natt: local.port(),
            remote_natt: config.natt_port,
        };
        let mut host = ClientHost::of(config.peer.clone());
        let conn = Connection::initiate(Instant::now(), &mut host, config.peer.clone(), path)?;
        let (reports, watched) = watch::channel(Report::default());
        let this = Self {
            config,
            socket,
            local,
            host,
            conn,
            joining: None,
            sas: Sas::default(),
            sending: false,
            due: 0.0,
            next_number: 0,
            ledgers: HashMap::new(),
            report: Report::default(),
            reports,
        };
        Ok((this, watched))
    }

    /// Runs until told to close or until the connection ends.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn run(mut self, mut commands: mpsc::Receiver<Command>) -> Result<(), InitiatorError> {
        let period = match self.config.rate {
            0 => SLOWEST_TICK,
            rate => (Duration::from_secs(1) / rate).clamp(TICK, SLOWEST_TICK),
        };
        // Many initiators must not tick in step.
        let phase = period.mul_f64(rand::random::<f64>());
        let mut ticks: Interval = tokio::time::interval_at((Instant::now() + phase).into(), period);
        ticks.set_missed_tick_behavior(MissedTickBehavior::Skip);
        let mut last = Instant::now();
        let mut buffer = vec![0; MAX_DATAGRAM];
        self.drain().await?;
        while !self.conn.is_finished() {
            let due = self
                .conn
                .poll_timeout()
                .into_iter()
                .chain(self.joining.iter().filter_map(Connection::poll_timeout));
            let timeout = due.min().unwrap_or_else(|| Instant::now() + Duration::from_secs(3600));
            tokio::select! {
                received = self.socket.recv_from(&mut buffer) => {
                    let (len, from) = received?;
                    self.receive(buffer.get_mut(..len).unwrap_or_default(), from);
                    // Whatever else has arrived already.
                    while let Ok((len, from)) = self.socket.try_recv_from(&mut buffer) {
                        self.receive(buffer.get_mut(..len).unwrap_or_default(), from);
                    }
                }
                _ = ticks.tick() => {
                    let now = Instant::now();
                    self.send_probes(now.saturating_duration_since(last)).await?;
                    last = now;
                    for spi in self.sas.expire(now) {
                        self.host.release(spi);
                    }
                    self.publish();
                }
                () = tokio::time::sleep_until(timeout.into()) => {
                    let now = Instant::now();
                    for conn in std::iter::once(&mut self.conn).chain(&mut self.joining) {
                        conn.handle_timeout(now, &mut self.host);
                    }
                }
                command = commands.recv() => self.command(command.unwrap_or(Command::Close)),
            }
            self.drain().await?;
            if self.report.up != (self.conn.is_up() && self.sas.is_up()) {
                self.publish();
            }
        }
        self.publish();
        Ok(())
    }

    fn command(&mut self, command: Command) {
        let now = Instant::now();
        let active = self.conn.child_sas().find(|c| c.3).map(|c| c.1);
        let command = match (command, active) {
            (Command::Send(on), _) => {
                self.sending = on;
                self.due = 0.0;
                return;
            }
            (Command::RekeyIke, _) => ike::Command::RekeyIke,
            (Command::RekeyChild, Some(spi)) => ike::Command::RekeyChild(spi),
            (Command::RekeyChild, None) => return,
            (Command::Close, _) => ike::Command::Close,
        };
        self.conn.handle_command(now, &mut self.host, command);
    }

    fn receive(&mut self, bytes: &mut [u8], from: SocketAddr) {
        if from.ip() != self.config.server {
            return;
        }
        let natt = from.port() == self.config.natt_port;
        match bytes.split_first_chunk::<4>() {
            // The non-ESP marker (RFC 3948 section 2.2).
            Some(([0, 0, 0, 0], message)) if natt => self.receive_ike(from, true, message),
            Some(_) if natt => self.receive_esp(bytes),
            Some(_) if from.port() == self.config.ike_port => self.receive_ike(from, false, bytes),
            _ => {}
        }
    }

    fn receive_ike(&mut self, remote: SocketAddr, natt: bool, bytes: &[u8]) {
        let datagram = Datagram { local: self.local, remote, natt, bytes };
        let now = Instant::now();
        match classify(bytes) {
            Ok(Class::First(opening)) if opening != Opening::Init => self.begun(now, opening, datagram),
            Ok(Class::Existing(receivers)) if self.is_joining(receivers) => {
                self.joining.iter_mut().for_each(|conn| conn.handle_datagram(now, &mut self.host, datagram));
                self.join(now);
            }
            _ => self.conn.handle_datagram(now, &mut self.host, datagram),
        }
    }

    /// The node has begun a phase 1 of IKEv1.
    fn begun(&mut self, now: Instant, opening: Opening, datagram: Datagram<'_>) {
        let candidates = Candidates::only(&self.config.peer.ike_proposals);
        let ports = (self.local.port(), self.config.natt_port);
        let reply = Connection::respond(now, &mut self.host, opening, datagram, ports, &candidates, true);
        if let InitReply::Accepted(conn) = reply {
            self.joining = Some(*conn);
        }
    }

    fn is_joining(&self, receivers: Receivers) -> bool {
        let spis = || self.joining.iter().flat_map(Connection::local_spis);
        receivers.spis().any(|spi| spis().any(|joining| joining == spi))
    }

    /// Phase 1 of the node's joins the connection once it is done.
    fn join(&mut self, now: Instant) {
        if let Some(done) = self.joining.take_if(|conn| conn.is_up()) {
            // One that does not join is dropped, and the node begins anew.
            let _ = self.conn.absorb(now, &mut self.host, done);
        }
    }

    fn receive_esp(&mut self, bytes: &mut [u8]) {
        let Some(inner) = self.sas.open(bytes) else {
            self.report.unopened += 1;
            return;
        };
        let (probe, first_of) = (Probe::parse(inner.packet), inner.first_of);
        match probe {
            Some(probe)
                if probe.flow.to == self.config.flow.from && probe.flow.tenant == self.config.flow.tenant =>
            {
                self.ledgers.entry(probe.flow).or_default().note(probe.number);
            }
            _ => self.report.strangers += 1,
        }
        if let Some(spi) = first_of {
            self.conn.handle_command(Instant::now(), &mut self.host, ike::Command::InboundSeen(spi));
        }
    }

    async fn send_probes(&mut self, elapsed: Duration) -> Result<(), InitiatorError> {
        if !self.sending {
            return Ok(());
        }
        self.due += elapsed.as_secs_f64() * f64::from(self.config.rate);
        let natt = SocketAddr::new(self.config.server, self.config.natt_port);
        while self.due >= 1.0 {
            self.due -= 1.0;
            let probe = Probe { flow: self.config.flow, number: self.next_number };
            let packet = probe.packet(self.config.inner, self.config.destination, self.config.packet_len);
            match self.sas.seal(&packet) {
                Some(sealed) => {
                    self.socket.send_to(&sealed, natt).await?;
                    self.next_number += 1;
                    self.report.sent += 1;
                }
                None => self.report.unsent += 1,
            }
        }
        Ok(())
    }

    async fn drain(&mut self) -> Result<(), InitiatorError> {
        while let Some(event) = self.conn.poll_event() {
            match event {
                Event::InstallChild(sa) => {
                    self.report.child_rekeys += u64::from(sa.replaces.is_some());
                    let mut seed = [0; 32];
                    self.host.random(&mut seed);
                    if self.sas.install(*sa, &seed).is_none() {
                        self.report.last_error = "a suite that ESP does not have".to_owned();
                    }
                }
                Event::ActivateChild { spi_in } => self.sas.activate(spi_in),
                Event::RemoveChild { spi_in, linger, .. } => self.sas.retire(spi_in, Instant::now(), linger),
                Event::ReleaseSpi(spi) => self.host.release(spi),
                Event::Established { .. } => {
                    self.report.established += 1;
                    self.host.connected = Some(self.conn.addresses().1);
                }
                Event::IkeRekeyed { .. } => self.report.ike_rekeys += 1,
                Event::ChildFailed { failure, .. } => self.report.last_error = failure.to_string(),
                Event::Down(reason) => self.report.last_error = reason.to_string(),
                _ => {}
            }
        }
        let joining = self.joining.iter_mut().flat_map(|conn| std::iter::from_fn(|| conn.poll_transmit()));
        let sent: Vec<Transmit> = std::iter::from_fn(|| self.conn.poll_transmit()).chain(joining).collect();
        for Transmit { remote, natt, keepalive, bytes, .. } in sent {
            let marked = if natt && !keepalive { [&[0; 4], bytes.as_slice()].concat() } else { bytes };
            self.socket.send_to(&marked, remote).await?;
        }
        Ok(())
    }

    fn publish(&mut self) {
        self.report.up = self.conn.is_up() && self.sas.is_up();
        self.report.received =
            self.ledgers.iter().map(|(flow, l)| (*flow, (l.received, l.duplicates))).collect();
        self.reports.send_replace(self.report.clone());
    }
}

const fn unspecified(like: IpAddr) -> IpAddr {
    match like {
        IpAddr::V4(_) => IpAddr::V4(Ipv4Addr::UNSPECIFIED),
        IpAddr::V6(_) => IpAddr::V6(std::net::Ipv6Addr::UNSPECIFIED),
    }
}

fn open_socket(source: IpAddr) -> std::io::Result<UdpSocket> {
    let domain = if source.is_ipv4() { Domain::IPV4 } else { Domain::IPV6 };
    let socket = Socket::new(domain, Type::DGRAM, Some(Protocol::UDP))?;
    // Best effort: the system may allow less.
    let _ = socket.set_recv_buffer_size(SOCKET_BUFFER);
    let _ = socket.set_send_buffer_size(SOCKET_BUFFER);
    socket.set_nonblocking(true)?;
    socket.bind(&SocketAddr::new(source, 0).into())?;
    UdpSocket::from_std(socket.into())
}
