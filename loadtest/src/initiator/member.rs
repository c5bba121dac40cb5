//! One initiator without a socket: what it makes of datagrams, time and commands, and what it wants to send.

use std::collections::HashMap;
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::{Duration, Instant};

use ike::config::Opening;
use ike::reception::{Class, Receivers};
use ike::wire::numbers::PayloadType;
use ike::{Candidates, Connection, Datagram, Event, Failure, Host, InitReply, Path, Transmit};
use tokio::sync::{OwnedSemaphorePermit, watch};

use super::pace::{Pace, first_turn, timed_from};
use super::sas::Sas;
use super::{Command, InitiatorConfig, Report};
use crate::engine::meter::Meter;
use crate::host::{ClientHost, Spis};
use crate::ledger::{Arrival, Ledger};
use crate::probe::{Flow, Probe, clock};

/// What happens is told to who watches the report after so long at most.
const TELL: Duration = Duration::from_millis(50);

/// An initiator that was ordered. One whose order is lost, as its group has ended, is counted as one that has failed: whoever waits
/// for all of them must not wait for it.
pub(crate) struct Ordered(Option<Arc<Meter>>);

/// Why it failed: a group ends before its time by nothing else.
const LOST: &str = "its socket has failed";

impl Ordered {
    pub(crate) const fn of(meter: Arc<Meter>) -> Self {
        Self(Some(meter))
    }

    /// It starts, and counts for itself.
    fn starts(mut self) {
        self.0 = None;
    }
}

impl Drop for Ordered {
    fn drop(&mut self) {
        if let Some(meter) = self.0.take() {
            meter.has_started();
            meter.has_failed(LOST);
            meter.has_ended();
        }
    }
}

/// How an initiator is started within a load.
pub(crate) struct Start {
    pub(crate) ordered: Ordered,
    pub(crate) config: InitiatorConfig,
    /// What it sends in turn, and where to.
    pub(crate) flows: Arc<[(Flow, Ipv4Addr)]>,
    /// Sizes of its probes in turn, instead of the one that its configuration has.
    pub(crate) sizes: Arc<[usize]>,
    /// Where in an interval, and among the sizes, it begins: from 0 to 1.
    pub(crate) phase: f64,
    /// When it was to start, if there was a time for it.
    pub(crate) due: Option<Instant>,
    /// It has failed if it is not up after this.
    pub(crate) patience: Option<Duration>,
    /// Given back once it is known whether it comes up.
    pub(crate) permit: Option<OwnedSemaphorePermit>,
    /// Where it tells what it has seen.
    pub(crate) report: watch::Sender<Report>,
}

/// Datagrams to send.
pub(super) type Outbox = Vec<(SocketAddr, Vec<u8>)>;

/// When it has failed, and how long it had.
type Deadline = (Instant, Duration);

pub(super) struct Member {
    config: InitiatorConfig,
    local: SocketAddr,
    host: ClientHost,
    conn: Connection,
    /// A phase 1 of IKEv1 that the node has begun, until it joins the connection.
    joining: Option<Connection>,
    sas: Sas,
    pace: Pace,
    flows: Arc<[(Flow, Ipv4Addr)]>,
    sizes: Arc<[usize]>,
    /// Several of its flows may go the same way, and are then one.
    next_numbers: HashMap<Flow, u64>,
    /// Probes so far, of which flow and size follow.
    turn: usize,
    ledgers: HashMap<Flow, Ledger>,
    meter: Arc<Meter>,
    /// From when on its latency counts.
    begun: Instant,
    /// Until it is known whether it comes up.
    unsettled: Option<(Option<OwnedSemaphorePermit>, Option<Deadline>)>,
    /// The peer was asked for a sign of life, and has given none yet.
    asked: bool,
    /// Closed while nobody had answered: there is nothing to delete.
    abandoned: bool,
    report: Report,
    reports: watch::Sender<Report>,
    tell_at: Option<Instant>,
}

impl Member {
    /// Starts the negotiation.
    pub(super) fn start(
        id: u32,
        start: Start,
        meter: Arc<Meter>,
        local: SocketAddr,
        spis: &mut Spis,
    ) -> Result<Self, Failure> {
        let Start { ordered, config, flows, sizes, phase, due, patience, permit, report: reports } = start;
        ordered.starts();
        let path = Path {
            local,
            remote: SocketAddr::new(config.server, config.ike_port),
            local_natt: local.port(),
            remote_natt: config.natt_port,
        };
        let mut host = ClientHost::of(id, config.peer.clone());
        let now = Instant::now();
        // What is due from now on is told by it.
        clock(now);
        meter.has_started();
        host.swap(spis);
        let conn = Connection::initiate(now, &mut host, config.peer.clone(), path);
        host.swap(spis);
        let conn = conn.inspect_err(|failure| {
            meter.has_failed(&failure.to_string());
            meter.has_ended();
        })?;
        Ok(Self {
            local,
            host,
            conn,
            joining: None,
            sas: Sas::default(),
            pace: Pace::new(config.rate, phase),
            config,
            next_numbers: HashMap::new(),
            turn: first_turn(phase, sizes.len(), flows.len()),
            flows,
            sizes,
            ledgers: HashMap::new(),
            meter,
            begun: due.map_or(now, |due| timed_from(due, now)),
            unsettled: Some((permit, patience.map(|patience| (now + patience, patience)))),
            asked: false,
            abandoned: false,
            report: Report::default(),
            reports,
            tell_at: None,
        })
    }

    pub(super) fn is_finished(&self) -> bool {
        self.abandoned || self.conn.is_finished()
    }

    /// When it wants to be woken next.
    pub(super) fn wake(&self) -> Option<Instant> {
        let deadline = self.unsettled.as_ref().and_then(|(_, deadline)| *deadline).map(|(at, _)| at);
        let joining = self.joining.as_ref().and_then(Connection::poll_timeout);
        let own = [self.conn.poll_timeout(), joining, self.pace.wake(), self.sas.next_expiry()];
        own.into_iter().chain([self.tell_at, deadline]).flatten().min()
    }

    /// Does what `work` says and what follows from it, with the group's table of SPIs.
    pub(super) fn turn(
        &mut self,
        spis: &mut Spis,
        out: &mut Outbox,
        work: impl FnOnce(&mut Self, &mut Outbox),
    ) {
        self.host.swap(spis);
        work(self, out);
        self.drain(out);
        self.host.swap(spis);
        if self.report.up != self.is_up() {
            self.publish();
        }
    }

    /// What is due.
    pub(super) fn wake_up(&mut self, now: Instant, out: &mut Outbox) {
        for conn in std::iter::once(&mut self.conn).chain(&mut self.joining) {
            if conn.poll_timeout().is_some_and(|at| at <= now) {
                conn.handle_timeout(now, &mut self.host);
            }
        }
        let (due, late) = self.pace.take(now);
        (1..=due).rev().for_each(|back| self.send_probe(self.pace.due_at(back), out));
        self.meter.late.add(late);
        for spi in self.sas.expire(now) {
            self.host.spis().release_esp(spi);
        }
        if self.tell_at.is_some_and(|at| at <= now) {
            self.publish();
        }
        let deadline = self.unsettled.as_ref().and_then(|(_, deadline)| *deadline);
        if let Some((_, patience)) = deadline.filter(|(at, _)| *at <= now) {
            let seen = if self.report.established > 0 { "no Child SA" } else { "no IKE_SA" };
            self.settle(Err(&format!("{seen} after {} s", patience.as_secs())));
            self.command(&Command::Close);
        }
    }

    pub(super) fn command(&mut self, command: &Command) {
        let now = Instant::now();
        let active = self.conn.child_sas().find(|c| c.3).map(|c| c.1);
        let command = match (command, active) {
            (Command::Send(on), _) => return self.pace.switch(*on, now),
            (Command::Tally, _) => {
                self.report.arrived = Some(self.ledgers.clone());
                return self.publish();
            }
            (Command::Ask, _) => {
                self.asked = true;
                ike::Command::Probe
            }
            (Command::RekeyIke, _) => ike::Command::RekeyIke,
            (Command::RekeyChild, Some(spi)) => ike::Command::RekeyChild(spi),
            (Command::RekeyChild, None) => return,
            (Command::Close, _) => {
                self.abandoned = self.report.established == 0;
                ike::Command::Close
            }
        };
        self.conn.handle_command(now, &mut self.host, command);
    }

    pub(super) fn receive_ike(&mut self, class: Option<Class>, remote: SocketAddr, natt: bool, bytes: &[u8]) {
        let datagram = Datagram { local: self.local, remote, natt, bytes };
        let now = Instant::now();
        match class {
            Some(Class::First(opening)) if opening != Opening::Init => self.begun(now, opening, datagram),
            Some(Class::Existing(receivers)) if self.is_joining(receivers) => {
                self.joining.iter_mut().for_each(|conn| conn.handle_datagram(now, &mut self.host, datagram));
                self.join(now);
            }
            _ => {
                let before = self.conn.counters().taken;
                self.conn.handle_datagram(now, &mut self.host, datagram);
                if self.conn.counters().taken > before && is_protected(bytes) && self.is_up() {
                    self.is_alive();
                }
            }
        }
    }

    /// The peer has the IKE_SA.
    fn is_alive(&mut self) {
        if std::mem::take(&mut self.asked) {
            self.meter.has_answered();
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

    pub(super) fn receive_esp(&mut self, bytes: &mut [u8], latencies: &mut Vec<u64>) {
        let now = Instant::now();
        self.tell_at = self.tell_at.or(Some(now + TELL));
        let Some(inner) = self.sas.open(bytes) else {
            self.report.unopened += 1;
            self.meter.unopened.add(1);
            return;
        };
        let (probe, len, first_of) = (Probe::parse(inner.packet), inner.packet.len(), inner.first_of);
        match probe {
            Some(probe)
                if probe.flow.to == self.config.flow.from && probe.flow.tenant == self.config.flow.tenant =>
            {
                let arrival = self.ledgers.entry(probe.flow).or_default().arrived(probe.number);
                self.count(arrival, len);
                // A copy of what has arrived says nothing of how long it took.
                if arrival != Arrival::Duplicate {
                    latencies.push(clock(now).saturating_sub(probe.sent));
                }
            }
            probe => {
                self.report.strangers += 1;
                let count = if probe.is_some() { &self.meter.strangers } else { &self.meter.others };
                count.add(1);
            }
        }
        if let Some(spi) = first_of {
            self.conn.handle_command(now, &mut self.host, ike::Command::InboundSeen(spi));
        }
    }

    fn count(&mut self, arrival: Arrival, len: usize) {
        if arrival == Arrival::Duplicate {
            return self.meter.duplicates.add(1);
        }
        if arrival == Arrival::Reordered {
            self.report.reordered += 1;
            self.meter.reordered.add(1);
        }
        self.meter.received.add(1);
        self.meter.octets.add(len as u64);
    }

    fn send_probe(&mut self, due: Option<Instant>, out: &mut Outbox) {
        let at = self.turn % self.flows.len().max(1);
        let size = self.sizes.get(self.turn / self.flows.len().max(1) % self.sizes.len().max(1));
        let (Some((flow, destination)), Some(size)) = (self.flows.get(at), size) else { return };
        let number = self.next_numbers.entry(*flow).or_default();
        let now = Instant::now();
        let sent = clock(due.map_or(now, |due| timed_from(due, now)));
        let probe = Probe { flow: *flow, number: *number, sent };
        let packet = probe.packet(self.config.inner, *destination, *size);
        self.tell_at = self.tell_at.or(Some(now + TELL));
        self.turn += 1;
        match self.sas.seal(&packet) {
            Some(sealed) => {
                out.push((SocketAddr::new(self.config.server, self.config.natt_port), sealed));
                *number += 1;
                self.report.sent += 1;
                self.meter.sent.add(1);
            }
            None => {
                self.report.unsent += 1;
                self.meter.unsent.add(1);
            }
        }
    }

    fn drain(&mut self, out: &mut Outbox) {
        while let Some(event) = self.conn.poll_event() {
            self.tell_at = self.tell_at.or_else(|| Some(Instant::now() + TELL));
            self.carry_out(event);
        }
        if self.is_up() {
            // Whoever hears that all are up looks at the reports next.
            if !self.report.up {
                self.publish();
            }
            self.settle(Ok(()));
        } else if self.conn.is_finished() {
            let cause = self.report.last_error.clone();
            self.settle(Err(&cause));
        }
        let joining = self.joining.iter_mut().flat_map(|conn| std::iter::from_fn(|| conn.poll_transmit()));
        let sent = std::iter::from_fn(|| self.conn.poll_transmit()).chain(joining);
        out.extend(sent.map(|Transmit { remote, natt, keepalive, bytes, .. }| {
            (remote, if natt && !keepalive { [&[0; 4], bytes.as_slice()].concat() } else { bytes })
        }));
    }

    fn carry_out(&mut self, event: Event) {
        match event {
            Event::IkeSpiRemoved(spi) => self.host.spis().release_ike(spi),
            Event::InstallChild(sa) => {
                let rekeyed = u64::from(sa.replaces.is_some());
                self.report.child_rekeys += rekeyed;
                self.meter.child_rekeys.add(rekeyed);
                let mut seed = [0; 32];
                self.host.random(&mut seed);
                if self.sas.install(*sa, &seed).is_none() {
                    self.report.last_error = "a suite that ESP does not have".to_owned();
                }
            }
            Event::ActivateChild { spi_in } => self.sas.activate(spi_in),
            Event::RemoveChild { spi_in, linger, .. } => self.sas.retire(spi_in, Instant::now(), linger),
            Event::ReleaseSpi(spi) => self.host.spis().release_esp(spi),
            Event::Established { .. } => {
                if self.report.established == 0 {
                    self.meter.ike_latency.note(self.begun.elapsed());
                    self.meter.ike_sas.add(1);
                }
                self.report.established += 1;
                self.host.connected = Some(self.conn.addresses().1);
            }
            Event::IkeRekeyed { .. } => {
                self.report.ike_rekeys += 1;
                self.meter.ike_rekeys.add(1);
            }
            Event::ChildFailed { failure, .. } => {
                self.report.last_error = failure.to_string();
                self.settle(Err(&format!("Child SA: {failure}")));
            }
            Event::Down(reason) => self.report.last_error = reason.to_string(),
            _ => {}
        }
    }

    /// Says once whether it has come up.
    fn settle(&mut self, outcome: Result<(), &str>) {
        if self.unsettled.take().is_some() {
            match outcome {
                Ok(()) => self.meter.is_up(self.begun.elapsed()),
                Err(cause) => self.meter.has_failed(cause),
            }
        }
    }

    fn is_up(&self) -> bool {
        self.conn.is_up() && self.sas.is_up()
    }

    pub(super) fn publish(&mut self) {
        self.tell_at = None;
        self.report.up = self.is_up();
        self.report.received =
            self.ledgers.iter().map(|(flow, l)| (*flow, (l.received, l.duplicates))).collect();
        self.reports.send_replace(self.report.clone());
    }
}

/// Whether a message of IKEv2 is one that was authenticated if it was taken. Who has forgotten an IKE_SA answers without protection,
/// that it does not know the SPI (RFC 7296 section 2.21.4).
fn is_protected(message: &[u8]) -> bool {
    // The header's next payload.
    message.get(16).is_some_and(|first| [PayloadType::SK, PayloadType::SKF].contains(&PayloadType(*first)))
}

impl Drop for Member {
    fn drop(&mut self) {
        self.settle(Err("stopped before it was up"));
        self.meter.has_ended();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_says_that_it_does_not_know_the_spi_gives_no_sign_of_life() {
        let message = |first: PayloadType| [&[7; 16][..], &[first.0, 0x20, 37, 0x20], &[0; 8]].concat();
        assert!(is_protected(&message(PayloadType::SK)) && is_protected(&message(PayloadType::SKF)));
        assert!(!is_protected(&message(PayloadType::NOTIFY)) && !is_protected(&[]));
    }
}
