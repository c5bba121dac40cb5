//! Negotiations that peers start, until it is known who they are: what they may cost, cookie gate, half-open table, hand-over
//! to the peer's actor. Each has a thread of its own, apart from those that keep tunnels alive.

mod acquaintances;
mod doors;
mod table;

use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use actix::ArbiterHandle;
use actix::prelude::*;
use culvert_proto::v1;
use ike::config::Opening;
use ike::reception::{
    Budget, Class, CookieGate, FirstMessage, Prefix, Settled, Verdict, classify, cost_of_looking,
};
use ike::{CloseReason, Connection, Datagram, Event, Failure, InitReply};
use router::IkeDatagram;

use crate::adopted::{Adopted, Given};
use crate::alarm::Alarm;
use crate::counters::Inside;
use crate::datagram::Deliver;
use crate::env::NodeEnv;
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
use table::{Claim, HalfOpens};

pub(crate) use doors::Doors;

/// From this many half-open negotiations on, a first message has to return a cookie (RFC 7296 section 2.6), as it has where
/// the budget says so. A restart of some hundred peers passes without.
const COOKIE_THRESHOLD: usize = 256;
/// Datagrams that wait for a reception. Bursts beyond it are dropped and sent again by their senders.
const RECEPTION_MAILBOX: usize = 4_096;
/// Octets that a half-open negotiation is expected to hold besides its first message.
const EXPECTED_OCTETS: usize = 3_072;
/// A first message that comes again is answered again this often at most. Initiators wait for half a second or more.
const AGAIN: Duration = Duration::from_millis(100);
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
    fn note(&mut self, now: Instant, from: std::net::SocketAddr, failure: &Failure) {
        if self.noted.take(now) {
            refusals::refused(&self.env, from, failure);
        }
    }

    fn first_message(&mut self, opening: Opening, datagram: &IkeDatagram) {
        let now = Instant::now();
        let Ok(first) = FirstMessage::of(opening, &datagram.bytes) else {
            return self.env.counters.ike_malformed.up();
        };
        let key = (datagram.remote, first.spi_i());
        if let Some(spi) = self.half_open.find(&key) {
            return self.repeated(now, spi, datagram);
        }
        if self.settled.lock().unwrap_or_else(PoisonError::into_inner).contains(&first) {
            return self.env.counters.init_settled.up();
        }
        let Some(proved) = self.admit(now, opening, datagram) else { return };
        let from = datagram.remote.ip();
        let octets = EXPECTED_OCTETS + datagram.bytes.len();
        // Who has no way to prove its address before it is answered takes the place of one that has not made use of its answer.
        let claim = match (proved, opening.has_cookies()) {
            (true, _) => Claim::Proved,
            (false, true) => Claim::Waits,
            (false, false) => Claim::Displaces,
        };
        match self.half_open.make_room(Prefix::of(from), claim, octets) {
            Ok(None) => {}
            Ok(Some(_)) => self.env.counters.half_open_evicted.up(),
            Err(table::Full::Share) => return self.env.counters.half_open_share.up(),
            Err(table::Full::Table) => return self.env.counters.half_open_limit.up(),
        }
        let cost = self.answer(now, opening, datagram, first, proved);
        if let Some(guard) = &mut self.guard {
            guard.budget.charge(now, from, proved, cost);
        }
    }

    /// A first message whose negotiation is half-open: our answer was lost, or the network has made copies.
    fn repeated(&mut self, now: Instant, spi: u64, datagram: &IkeDatagram) {
        let Some(slot) = self.half_open.get_mut(spi) else { return };
        if slot.again.is_some_and(|at| now < at + AGAIN) {
            return self.env.counters.init_repeated.up();
        }
        slot.again = Some(now);
        self.go_on(spi, datagram);
    }

    /// Whether a first message may go on, and if so, whether it has proved its address.
    fn admit(&mut self, now: Instant, opening: Opening, datagram: &IkeDatagram) -> Option<bool> {
        let from = datagram.remote.ip();
        let many = self.half_open.len() >= COOKIE_THRESHOLD;
        let Guard { gate, budget, owner } = self.guard.as_mut()?;
        let within = budget.admits(now, from, false);
        if within && (!many || !opening.has_cookies()) {
            return Some(false);
        }
        if !opening.has_cookies() {
            self.env.counters.init_over_budget.up();
            return None;
        }
        let env = &self.env.peer.conn;
        let mut host =
            CoreHost { env, owner, slot: env.slot(), arbiter: self.number, held: &mut Held::default() };
        let natt = datagram.local.port() == env.router.natt_port();
        let view = Datagram { local: datagram.local, remote: datagram.remote, natt, bytes: &datagram.bytes };
        match gate.check(now, &mut host, view, true) {
            Verdict::Pass => {}
            Verdict::Challenge(bytes) => {
                self.env.counters.cookies.up();
                budget.charge(now, from, false, cost_of_looking(0));
                self.reply(datagram, bytes);
                return None;
            }
            Verdict::Malformed(_) => {
                self.env.counters.ike_malformed.up();
                return None;
            }
        }
        if budget.admits(now, from, true) {
            return Some(true);
        }
        self.env.counters.init_over_budget.up();
        None
    }

    /// Answers a first message. What it has cost.
    fn answer(
        &mut self,
        now: Instant,
        opening: Opening,
        datagram: &IkeDatagram,
        first: FirstMessage,
        proved: bool,
    ) -> u32 {
        let remote = datagram.remote;
        let looked = cost_of_looking(datagram.bytes.len());
        let callers = self.callers(remote.ip(), opening);
        if callers.candidates.is_empty() {
            self.env.counters.init_no_peer.up();
            let ours = self.env.catalog.openings(remote.ip());
            let failure = if ours.is_empty() {
                Failure::UnknownAddress { from: remote }
            } else {
                self.env.counters.ike_wrong_version.up();
                Failure::Opening { from: remote, theirs: opening, ours }
            };
            self.note(now, remote, &failure);
            if self.logged.take(now) {
                tracing::info!(%remote, reason = %failure, "a first message that is for no configured peer");
            }
            return looked;
        }
        let Some(guard) = &self.guard else { return looked };
        let mut held = Held::default();
        let env = &self.env.peer.conn;
        let mut host =
            CoreHost { env, owner: &guard.owner, slot: env.slot(), arbiter: self.number, held: &mut held };
        let natt = datagram.local.port() == env.router.natt_port();
        let view = Datagram { local: datagram.local, remote, natt, bytes: &datagram.bytes };
        let ports = (self.env.router.natt_port(), self.env.remote_ports.1);
        let force = !self.env.raw_esp || callers.force_encapsulation;
        let reply = Connection::respond(now, &mut host, opening, view, ports, &callers.candidates, force);
        let cost = reply.cost(datagram.bytes.len());
        match reply {
            InitReply::Accepted(conn) => {
                let spi = conn.spis().0;
                let counted = ike::Counters::default();
                let open = Some(self.env.half_open.enter());
                let mut trail = Trail::respond(env, opening, datagram);
                trail.received(env, &datagram.bytes, Received::Taken);
                let negotiation = Negotiation { conn: *conn, held, counted, trail, open };
                self.env.counters.init_accepted.up();
                self.half_open.insert(spi, negotiation, (remote, first.spi_i()), first, proved);
                if self.noted.take(now) {
                    refusals::arrived(&self.env, remote);
                }
                self.drain(spi);
            }
            InitReply::Refused(bytes, failure) => {
                self.env.counters.init_refused.up();
                // The initiator tries again with the group it is told; that is no failure.
                if !matches!(failure, Failure::NoGroup { .. }) {
                    self.env.outcomes.failed(Stage::Respond, &failure);
                    self.note(now, remote, &failure);
                    if self.told.take(now) {
                        let mut trail = Trail::respond(&self.env.peer.conn, opening, datagram);
                        trail.refused(&self.env.peer.conn, &datagram.bytes, &failure);
                    }
                    if self.logged.take(now) {
                        tracing::warn!(%remote, reason = %failure, "first message refused");
                        self.publish(format!("{remote}: {failure}"));
                    }
                }
                self.reply(datagram, bytes);
            }
            InitReply::Dropped(_) => self.env.counters.ike_malformed.up(),
        }
        cost
    }

    fn callers(&self, from: IpAddr, opening: Opening) -> tenants::Callers {
        self.acquaintances.refine(from, opening, self.env.catalog.callers(from, opening))
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
        let entry = name.filter(|_| is_here).and_then(|name| self.env.registry.peers.get(&name));
        let Some(entry) = entry else {
            // Deleted in this very moment; or the slot has gone to another node since the first message, and nothing that is in it is said here.
            let now = Instant::now();
            self.with(spi, |conn, host| conn.handle_command(now, host, ike::Command::Close));
            return self.drain(spi);
        };
        let Some(owner) = self.guard.as_ref().map(|guard| guard.owner.clone()) else { return };
        if let Some(slot) = self.half_open.remove(spi) {
            let Negotiation { conn, held, counted, trail, .. } = slot.conn;
            let given = Given { conn, held, counted, trail };
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
        let remote = slot.key.0;
        let Negotiation { conn, held, trail, open, .. } = &mut slot.conn;
        let mut down = None;
        while let Some(event) = conn.poll_event() {
            trail.happened(&self.env.peer.conn, &event);
            match event {
                Event::IkeSpiRemoved(spi) => held.release_ike(spi),
                Event::ReleaseSpi(spi) => held.release_esp(spi),
                Event::Down(reason) => {
                    // It only lingers.
                    *open = None;
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
            self.note(now, remote, &failure);
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
        self.env.hub.publish(v1::Event { r#type: kind.into(), message, ..v1::Event::default() });
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
