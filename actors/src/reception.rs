//! Negotiations that peers start, until it is known who they are: cookie gate, half-open table, hand-over to the
//! peer's actor. One for each arbiter.

use std::collections::HashMap;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use culvert_proto::v1;
use ike::reception::{CookieGate, Verdict, initiator_spi};
use ike::{CloseReason, Connection, Datagram, Event, Failure, InitReply};
use router::IkeDatagram;

use crate::datagram::Deliver;
use crate::env::NodeEnv;
use crate::held::Held;
use crate::host::CoreHost;
use crate::mailbox::deliver;
use crate::vocabulary::{Adopted, ToPeer};

/// Half-open negotiations of one reception. Each holds some 4 KiB for up to 30 s; a storm beyond it is refused.
const MAX_HALF_OPEN: usize = 8_192;
/// From this many on, a first message has to return a cookie (RFC 7296 section 2.6). A restart of some hundred peers
/// passes without.
const COOKIE_THRESHOLD: usize = 256;
/// Datagrams that wait for a reception. Bursts beyond it are dropped and sent again by their senders.
const RECEPTION_MAILBOX: usize = 4_096;
/// Refusals logged per second; the rest are counted only.
const LOG_RATE: u32 = 10;

/// A first message.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Init(pub(crate) IkeDatagram);

/// Holds half-open connections.
pub(crate) struct Reception {
    env: Arc<NodeEnv>,
    index: u64,
    gate: Option<CookieGate>,
    /// By our SPI.
    half_open: HashMap<u64, HalfOpen>,
    /// First messages seen, so that a retransmission finds its connection.
    by_initiator: HashMap<(SocketAddr, u64), u64>,
    logged: (Instant, u32),
}

struct HalfOpen {
    conn: Connection,
    held: Held,
    key: (SocketAddr, u64),
}

impl Reception {
    pub(crate) fn new(env: Arc<NodeEnv>, index: u64) -> Self {
        let logged = (Instant::now(), 0);
        Self { env, index, gate: None, half_open: HashMap::new(), by_initiator: HashMap::new(), logged }
    }

    fn reply(&self, to: &IkeDatagram, bytes: Vec<u8>) {
        self.env.router.send_ike(IkeDatagram { local: to.local, remote: to.remote, bytes });
    }

    /// Whether one more line may be logged this second.
    fn may_log(&mut self) -> bool {
        let now = Instant::now();
        if now.saturating_duration_since(self.logged.0) >= Duration::from_secs(1) {
            self.logged = (now, 0);
        }
        self.logged.1 += 1;
        self.logged.1 <= LOG_RATE
    }

    fn first_message(&mut self, ctx: &mut Context<Self>, datagram: &IkeDatagram) {
        let now = Instant::now();
        let natt = datagram.local.port() == self.env.router.natt_port();
        let view = Datagram { local: datagram.local, remote: datagram.remote, natt, bytes: &datagram.bytes };
        let Some(spi_i) = initiator_spi(&datagram.bytes) else { return };
        let key = (datagram.remote, spi_i);
        if let Some(spi) = self.by_initiator.get(&key).copied() {
            return self.go_on(spi, datagram, ctx);
        }
        let (mut held, owner) = (Held::default(), ctx.address().recipient());
        let mut host =
            CoreHost { env: &self.env.peer.conn, owner: &owner, arbiter: self.index, held: &mut held };
        let Some(gate) = &mut self.gate else { return };
        match gate.check(now, &mut host, view, self.half_open.len() >= COOKIE_THRESHOLD) {
            Verdict::Pass => {}
            Verdict::Challenge(bytes) => {
                self.env.counters.cookies.up();
                return self.reply(datagram, bytes);
            }
            Verdict::Malformed(_) => return self.env.counters.ike_malformed.up(),
        }
        if self.half_open.len() >= MAX_HALF_OPEN {
            return self.env.counters.half_open_limit.up();
        }
        let callers = self.env.catalog.callers(datagram.remote.ip());
        if callers.candidates.is_empty() {
            self.env.counters.init_no_peer.up();
            self.env.strangers.note(datagram.remote, &Failure::UnknownAddress { from: datagram.remote });
            if self.may_log() {
                tracing::info!(remote = %datagram.remote, "IKE_SA_INIT from an address of no configured peer");
            }
            return;
        }
        let ports = (self.env.router.natt_port(), self.env.remote_ports.1);
        let force = !self.env.raw_esp || callers.force_encapsulation;
        match Connection::respond(now, &mut host, view, ports, &callers.candidates, force) {
            InitReply::Accepted(conn) => {
                let spi = conn.spis().0;
                self.by_initiator.insert(key, spi);
                self.half_open.insert(spi, HalfOpen { conn: *conn, held, key });
                self.drain(spi, ctx);
            }
            InitReply::Refused(bytes, failure) => {
                self.env.counters.init_refused.up();
                // The initiator tries again with the group it is told; that is no failure.
                let again = matches!(failure, Failure::NoGroup { .. });
                if !again {
                    self.env.strangers.note(datagram.remote, &failure);
                }
                if !again && self.may_log() {
                    tracing::warn!(remote = %datagram.remote, reason = %failure, "IKE_SA_INIT refused");
                    self.publish(format!("{}: {failure}", datagram.remote));
                }
                self.reply(datagram, bytes);
            }
            InitReply::Dropped(_) => self.env.counters.ike_malformed.up(),
        }
    }

    /// A further message of a half-open connection.
    fn go_on(&mut self, spi: u64, datagram: &IkeDatagram, ctx: &mut Context<Self>) {
        let natt = datagram.local.port() == self.env.router.natt_port();
        let view = Datagram { local: datagram.local, remote: datagram.remote, natt, bytes: &datagram.bytes };
        let now = Instant::now();
        let Some(half) = self.with(spi, ctx, |conn, host| conn.handle_datagram(now, host, view)) else {
            return self.env.counters.ike_unknown_spi.up();
        };
        if half.conn.is_up() {
            self.hand_over(spi, ctx);
        } else {
            self.drain(spi, ctx);
        }
    }

    /// The peer is known: its own actor takes the connection, with everything that waits in it.
    fn hand_over(&mut self, spi: u64, ctx: &mut Context<Self>) {
        let Some(half) = self.half_open.remove(&spi) else { return };
        let name = half.conn.config().and_then(|c| c.name.parse::<tenants::PeerName>().ok());
        let Some(entry) = name.and_then(|name| self.env.registry.peers.get(&name)) else {
            // Deleted in this very moment.
            self.half_open.insert(spi, half);
            let now = Instant::now();
            self.with(spi, ctx, |conn, host| conn.handle_command(now, host, ike::Command::Close));
            return self.drain(spi, ctx);
        };
        self.by_initiator.remove(&half.key);
        let adopted = Adopted { conn: half.conn, held: half.held };
        deliver(&entry.to, ToPeer::Adopt(Box::new(adopted)), &self.env.counters);
    }

    /// Calls the core of a half-open connection.
    fn with(
        &mut self,
        spi: u64,
        ctx: &Context<Self>,
        call: impl FnOnce(&mut Connection, &mut CoreHost<'_>),
    ) -> Option<&mut HalfOpen> {
        let half = self.half_open.get_mut(&spi)?;
        let owner = ctx.address().recipient();
        let env = &self.env.peer.conn;
        call(&mut half.conn, &mut CoreHost { env, owner: &owner, arbiter: self.index, held: &mut half.held });
        Some(half)
    }

    /// A peer that is connected came from elsewhere and was refused. Perhaps it has moved: then the old connection shall not
    /// wait for its next silence to be found out.
    fn doubt(&self, name: &str) {
        self.env.counters.duplicates.up();
        if let Some(entry) = name.parse().ok().and_then(|name| self.env.registry.peers.get(&name)) {
            deliver(&entry.to, ToPeer::Doubt, &self.env.counters);
        }
    }

    fn drain(&mut self, spi: u64, ctx: &mut Context<Self>) {
        let Some(half) = self.half_open.get_mut(&spi) else { return };
        let mut down = None;
        while let Some(event) = half.conn.poll_event() {
            match event {
                Event::IkeSpiRemoved(spi) => half.held.release_ike(spi),
                Event::ReleaseSpi(spi) => half.held.release_esp(spi),
                Event::Down(reason) => down = Some(reason),
                _ => {}
            }
        }
        while let Some(transmit) = half.conn.poll_transmit() {
            let (local, remote, bytes) = (transmit.local, transmit.remote, transmit.bytes);
            self.env.router.send_ike(IkeDatagram { local, remote, bytes });
        }
        let (finished, timeout, remote) = (half.conn.is_finished(), half.conn.poll_timeout(), half.key.0);
        if finished && let Some(half) = self.half_open.remove(&spi) {
            self.by_initiator.remove(&half.key);
        }
        if let Some(CloseReason::Failed(failure)) = down {
            self.env.counters.failures.up();
            if let Failure::Duplicate { name, .. } = &failure {
                self.doubt(name);
            }
            self.env.strangers.note(remote, &failure);
            if self.may_log() {
                tracing::warn!(%remote, reason = %failure, "negotiation failed");
                self.publish(format!("{remote}: {failure}"));
            }
        }
        if let (false, Some(at)) = (finished, timeout) {
            // At most a handful per connection: the half-open deadline, then the end of its lingering.
            ctx.run_later(at.saturating_duration_since(Instant::now()), move |this, ctx| this.tick(spi, ctx));
        }
    }

    fn tick(&mut self, spi: u64, ctx: &mut Context<Self>) {
        let now = Instant::now();
        let due = self.half_open.get(&spi).and_then(|half| half.conn.poll_timeout());
        if due.is_some_and(|at| at <= now) {
            self.with(spi, ctx, |conn, host| conn.handle_timeout(now, host));
            self.drain(spi, ctx);
        }
    }

    fn publish(&self, message: String) {
        let kind = v1::EventType::NegotiationFailed;
        self.env.hub.publish(v1::Event { r#type: kind.into(), message, ..v1::Event::default() });
    }
}

impl Actor for Reception {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(RECEPTION_MAILBOX);
        let (mut held, owner) = (Held::default(), ctx.address().recipient());
        let env = &self.env.peer.conn;
        let mut host = CoreHost { env, owner: &owner, arbiter: self.index, held: &mut held };
        self.gate = Some(CookieGate::new(Instant::now(), &mut host));
    }
}

impl Handler<Init> for Reception {
    type Result = ();

    fn handle(&mut self, Init(datagram): Init, ctx: &mut Self::Context) {
        #[cfg(feature = "fault-injection")]
        self.env.faults.strike(crate::fault::Fault::Reception);
        self.first_message(ctx, &datagram);
    }
}

impl Handler<Deliver> for Reception {
    type Result = ();

    fn handle(&mut self, Deliver(datagram): Deliver, ctx: &mut Self::Context) {
        if let Ok(ike::reception::Class::Existing(spi)) = ike::reception::classify(&datagram.bytes) {
            self.go_on(spi, &datagram, ctx);
        }
    }
}
