//! Negotiations that peers start, until it is known who they are: what they may cost, cookie gate, half-open table, hand-over
//! to the peer's actor. Each has a thread of its own, apart from those that keep tunnels alive.

mod acquaintances;
mod doors;
mod first;
mod table;

use std::sync::{Arc, Mutex, PoisonError};
use std::time::Instant;

use actix::ArbiterHandle;
use actix::prelude::*;
use culvert_proto::v1;
use ike::reception::{Budget, Class, CookieGate, Settled, classify};
use ike::{CloseReason, Connection, Datagram, Event, Failure};
use router::IkeDatagram;

use crate::adopted::{Adopted, Given};
use crate::alarm::Alarm;
use crate::counters::Inside;
use crate::datagram::Deliver;
use crate::env::NodeEnv;
use crate::events::Whose;
use crate::held::Held;
use crate::host::{CoreHost, slot_of};
use crate::mailbox::deliver;
use crate::outcomes::Stage;
use crate::rate::Rate;
use crate::refusals;
use crate::trail::{Received, Trail};
use crate::vocabulary::ToPeer;

use acquaintances::Acquaintances;
use doors::Init;
use table::HalfOpens;

pub(crate) use doors::Doors;

/// Datagrams that wait for a reception. Bursts beyond it are dropped and sent again by their senders.
const RECEPTION_MAILBOX: usize = 4_096;
/// Refusals logged per second; the rest are counted only.
const LOG_RATE: u32 = 10;

/// Negotiations of strangers that failed and that a trace tells of per second; the rest are counted only.
const TOLD_RATE: u32 = 20;

/// Half-open negotiations that all receptions of a node hold together.
pub(crate) fn capacity(env: &NodeEnv) -> u64 {
    (Doors::count(env) * table::MAX_HALF_OPEN) as u64
}

/// A connection and what is reserved for it.
struct Negotiation {
    conn: Connection,
    held: Held,
    counted: ike::Counters,
    /// What is told of it.
    trail: Trail,
    /// Until it is known who the peer is, or that nothing comes of it.
    open: Option<Inside>,
    /// Until somebody has taken it on, or nothing comes of it.
    begun: Option<Inside>,
}

/// Holds half-open connections.
pub(crate) struct Reception {
    env: Arc<NodeEnv>,
    number: u64,
    /// What stands at the door. Made when the actor starts.
    guard: Option<Guard>,
    half_open: HalfOpens<Negotiation>,
    acquaintances: Acquaintances,
    /// Of all receptions: a first message may come again from another address.
    settled: Arc<Mutex<Settled>>,
    alarm: Alarm,
    /// When it rings.
    armed: Option<Instant>,
    logged: Rate,
    noted: Rate,
    told: Rate,
}

struct Guard {
    gate: CookieGate,
    budget: Budget,
    owner: Recipient<Deliver>,
}

impl Reception {
    /// Starts one.
    fn open(
        env: &Arc<NodeEnv>,
        number: u64,
        thread: &ArbiterHandle,
        settled: &Arc<Mutex<Settled>>,
    ) -> Recipient<Init> {
        let (env, settled) = (env.clone(), settled.clone());
        Self::start_in_arbiter(thread, move |_| Self::new(env, number, settled)).recipient()
    }

    fn new(env: Arc<NodeEnv>, number: u64, settled: Arc<Mutex<Settled>>) -> Self {
        let now = Instant::now();
        Self {
            env,
            number,
            guard: None,
            half_open: HalfOpens::default(),
            acquaintances: Acquaintances::default(),
            settled,
            alarm: Alarm::default(),
            armed: None,
            logged: Rate::new(now, LOG_RATE),
            noted: Rate::new(now, refusals::RATE),
            told: Rate::new(now, TOLD_RATE),
        }
    }

    fn reply(&self, to: &IkeDatagram, bytes: Vec<u8>) {
        let _ = self.env.router.send_ike(IkeDatagram { local: to.local, remote: to.remote, bytes });
    }

    /// Keeps a refusal to be explained, unless there are many.
    fn note(&mut self, now: Instant, from: std::net::SocketAddr, failure: &Failure, proved: bool) {
        if self.noted.take(now) {
            refusals::refused(&self.env, from, failure, proved);
        }
    }

    /// A further message of a half-open connection, or its first once more.
    fn go_on(&mut self, spi: u64, datagram: &IkeDatagram) {
        let natt = datagram.local.port() == self.env.router.natt_port();
        let view = Datagram { local: datagram.local, remote: datagram.remote, natt, bytes: &datagram.bytes };
        let now = Instant::now();
        let from = datagram.remote.ip();
        let proved = self.half_open.is_proved(spi);
        if let Some(guard) = &mut self.guard
            && !guard.budget.admits(now, from, proved)
        {
            return self.env.counters.init_over_budget.up();
        }
        let before = self.half_open.get_mut(spi).map(|slot| slot.conn.conn.counters());
        let outcome = self.with(spi, |conn, host| conn.handle_datagram(now, host, view));
        if let (Some(before), Some(slot)) = (before, self.half_open.get_mut(spi)) {
            let after = slot.conn.conn.counters();
            let what = Received::of(&before, &after);
            slot.conn.trail.received(&self.env.peer.conn, &datagram.bytes, what);
        }
        let cost = self.half_open.get_mut(spi).map_or(0, |slot| slot.conn.conn.take_cost());
        if let Some(guard) = self.guard.as_mut().filter(|_| cost > 0) {
            guard.budget.charge(now, from, proved, cost);
        }
        match outcome {
            None => self.env.counters.ike_unknown_spi.up(),
            Some(true) => self.hand_over(spi),
            Some(false) => self.drain(spi),
        }
    }

    /// The peer is known: its own actor takes the connection, with everything that waits in it.
    fn hand_over(&mut self, spi: u64) {
        let Some(slot) = self.half_open.get_mut(spi) else { return };
        let config = slot.conn.conn.config().cloned();
        let (first, remote) = (slot.first, slot.key.0);
        let misjudged = slot.conn.conn.is_misjudged();
        self.settled.lock().unwrap_or_else(PoisonError::into_inner).add(first);
        self.env.strangers.admitted(remote);
        if let Some(config) = config.clone().filter(|_| misjudged) {
            self.env.counters.init_misjudged.up();
            self.acquaintances.note(remote.ip(), config);
        }
        let name = config.and_then(|c| c.name.parse::<tenants::PeerName>().ok());
        let others = &self.env.peer.conn.others.0;
        let is_here = others.as_ref().is_none_or(|cluster| cluster.holds(slot_of(spi)));
        if !is_here {
            // The slot has gone to another node since the first message, and nothing that is in it is said here: see `Adopted::forsake`.
            self.env.counters.not_adopted.up();
            self.half_open.remove(spi);
            return;
        }
        let entry = name.and_then(|name| self.env.registry.peers.get(&name));
        let Some(entry) = entry else {
            // Deleted in this very moment.
            let now = Instant::now();
            self.with(spi, |conn, host| conn.handle_command(now, host, ike::Command::Close));
            return self.drain(spi);
        };
        let Some(owner) = self.guard.as_ref().map(|guard| guard.owner.clone()) else { return };
        if let Some(slot) = self.half_open.remove(spi) {
            let Negotiation { conn, held, counted, trail, open: _, begun } = slot.conn;
            let given = Given { conn, held, counted, trail, begun };
            let adopted = Adopted::new(given, self.env.peer.conn.clone(), owner, self.number);
            #[cfg(feature = "fault-injection")]
            if self.env.faults.is_due(crate::fault::Fault::Adoption) {
                deliver(&entry.to, ToPeer::Panic { connection: false }, &self.env.counters);
            }
            deliver(&entry.to, ToPeer::Adopt(Box::new(adopted)), &self.env.counters);
        }
    }

    /// Calls the core of a half-open connection; whether it is up.
    fn with(&mut self, spi: u64, call: impl FnOnce(&mut Connection, &mut CoreHost<'_>)) -> Option<bool> {
        let slot = self.half_open.get_mut(spi)?;
        let owner = &self.guard.as_ref()?.owner;
        let env = &self.env.peer.conn;
        let Negotiation { conn, held, counted, trail, .. } = &mut slot.conn;
        trail.begin_turn();
        call(conn, &mut CoreHost { env, owner, slot: slot_of(spi), arbiter: self.number, held });
        let now = conn.counters();
        self.env.counters.answered_again.add(now.answered_again - counted.answered_again);
        self.env.counters.ike_dropped.add(now.dropped - counted.dropped);
        self.env.counters.ike_taken.add(now.taken - counted.taken);
        *counted = now;
        Some(conn.is_up())
    }

    /// A peer that is connected came from elsewhere and was refused. Perhaps it has moved: then the old connection shall not
    /// wait for its next silence to be found out.
    fn doubt(&self, name: &str) {
        self.env.counters.duplicates.up();
        if let Some(entry) = name.parse().ok().and_then(|name| self.env.registry.peers.get(&name)) {
            deliver(&entry.to, ToPeer::Doubt, &self.env.counters);
        }
    }

    fn drain(&mut self, spi: u64) {
        let Some(slot) = self.half_open.get_mut(spi) else { return };
        let (remote, proved) = (slot.key.0, slot.is_proved());
        let Negotiation { conn, held, trail, open, begun, .. } = &mut slot.conn;
        let mut down = None;
        while let Some(event) = conn.poll_event() {
            trail.happened(&self.env.peer.conn, &event);
            match event {
                Event::IkeSpiRemoved(spi) => held.release_ike(spi),
                Event::ReleaseSpi(spi) => held.release_esp(spi),
                Event::Down(reason) => {
                    // It only lingers.
                    (*open, *begun) = (None, None);
                    down = Some(reason);
                }
                _ => {}
            }
        }
        while let Some(transmit) = conn.poll_transmit() {
            let (local, remote, bytes) = (transmit.local, transmit.remote, transmit.bytes);
            trail.sent(&self.env.peer.conn, &bytes);
            let _ = self.env.router.send_ike(IkeDatagram { local, remote, bytes });
        }
        if matches!(down, Some(CloseReason::Failed(_))) && !self.told.take(Instant::now()) {
            // Whoever makes up addresses leaves nothing but these.
            trail.forgo();
        }
        trail.end_turn();
        let (finished, octets, due) = (conn.is_finished(), conn.half_open_octets(), conn.poll_timeout());
        if finished {
            self.half_open.remove(spi);
        } else if !self.half_open.note(spi, octets, due) {
            self.env.counters.half_open_octets.up();
            self.half_open.remove(spi);
        }
        if let Some(CloseReason::Failed(failure)) = down {
            let now = Instant::now();
            self.env.counters.failures.up();
            self.env.outcomes.failed(Stage::Respond, &failure);
            if let Failure::Duplicate { name, .. } = &failure {
                self.doubt(name);
            }
            self.note(now, remote, &failure, proved);
            if self.logged.take(now) {
                tracing::warn!(%remote, reason = %failure, "negotiation failed");
                self.publish(format!("{remote}: {failure}"));
            }
        }
    }

    /// Looks at whatever is due.
    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        self.armed = None;
        // Each once: what is due once more at once waits for the next turn.
        for _ in 0..self.half_open.len() {
            let Some(spi) = self.half_open.take_due(now) else { break };
            self.with(spi, |conn, host| conn.handle_timeout(now, host));
            self.drain(spi);
        }
        self.arm(ctx);
    }

    /// One timer, for the earliest deadline. One that would ring too early is left as it is: there is less to do then.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let due = self.half_open.next_due();
        if due.is_some_and(|due| self.armed.is_none_or(|armed| due < armed)) {
            self.armed = due;
            self.alarm.set(ctx, due, Self::tick);
        }
    }

    fn publish(&self, message: String) {
        let kind = v1::EventType::NegotiationFailed;
        let event = v1::Event { r#type: kind.into(), message, ..v1::Event::default() };
        self.env.hub.publish(event, Whose::default());
    }
}

impl Actor for Reception {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(RECEPTION_MAILBOX);
        let (now, owner) = (Instant::now(), ctx.address().recipient());
        let env = &self.env.peer.conn;
        let mut host = CoreHost {
            env,
            owner: &owner,
            slot: env.slot(),
            arbiter: self.number,
            held: &mut Held::default(),
        };
        let (gate, budget) = (CookieGate::new(now, &mut host), Budget::new(now, &mut host));
        self.guard = Some(Guard { gate, budget, owner });
    }
}

impl Handler<Init> for Reception {
    type Result = ();

    fn handle(&mut self, Init(opening, datagram, _): Init, ctx: &mut Self::Context) {
        #[cfg(feature = "fault-injection")]
        self.env.faults.strike(crate::fault::Fault::Reception);
        self.first_message(opening, &datagram);
        self.arm(ctx);
    }
}

impl Handler<Deliver> for Reception {
    type Result = ();

    fn handle(&mut self, Deliver(datagram): Deliver, ctx: &mut Self::Context) {
        if let Ok(Class::Existing(receivers)) = classify(&datagram.bytes) {
            match receivers.find(|spi| self.half_open.get_mut(spi).map(|_| spi)) {
                Some(spi) => {
                    self.half_open.answered(spi);
                    self.go_on(spi, &datagram);
                }
                None => self.env.counters.ike_unknown_spi.up(),
            }
        }
        self.arm(ctx);
    }
}
