//! First messages: which of them are taken, and what they are answered.

use std::net::IpAddr;
use std::sync::PoisonError;
use std::time::{Duration, Instant};

use ike::config::Opening;
use ike::reception::{FirstMessage, Prefix, Verdict, cost_of_looking};
use ike::{Connection, Datagram, Failure, InitReply};
use router::IkeDatagram;

use super::table::{Claim, Full};
use super::{Guard, Negotiation, Reception};
use crate::counters::Gauge;
use crate::held::Held;
use crate::host::{CoreHost, slot_of};
use crate::outcomes::Stage;
use crate::refusals;
use crate::trail::{Received, Trail};

/// From this many half-open negotiations on, a first message has to return a cookie (RFC 7296 section 2.6), as it has where
/// the budget says so. A restart of some hundred peers passes without.
const COOKIE_THRESHOLD: usize = 256;
/// Octets that a half-open negotiation is expected to hold besides its first message.
const EXPECTED_OCTETS: usize = 3_072;
/// A first message that comes again is answered again this often at most. Initiators wait for half a second or more.
const AGAIN: Duration = Duration::from_millis(100);

impl Reception {
    pub(super) fn first_message(&mut self, opening: Opening, datagram: &IkeDatagram) {
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
            Err(Full::Share) => return self.env.counters.half_open_share.up(),
            Err(Full::Table) => return self.env.counters.half_open_limit.up(),
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
            self.note(now, remote, &failure, proved);
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
                let begun = env.begun(slot_of(spi)).map(Gauge::enter);
                let negotiation = Negotiation { conn: *conn, held, counted, trail, open, begun };
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
                    self.note(now, remote, &failure, proved);
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
}
