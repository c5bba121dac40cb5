//! The actor of one connection: the IKE_SA in use and its successors by rekeying. Hands datagrams, commands and the
//! time to [`ike::Connection`] and carries out what it says.
//!
//! `mod.rs` is the actor; `carry_out.rs` what it does of what the core says; `told.rs` what the standby of its slot is told; `moved.rs` how it begins with what another node has told, and
//! how it ends when another node goes on.

mod carry_out;
mod moved;
mod told;

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use esp::{Lifetime, LifetimeEvent};
use ike::{CloseReason, Command, Connection, Datagram, Event, Failure};
use router::{IkeDatagram, Unsent};

use crate::adopted::{Adopted, Given};
use crate::alarm::Alarm;
use crate::datagram::Deliver;
use crate::env::ConnEnv;
use crate::held::Held;
use crate::host::{CoreHost, slot_of};
use crate::mailbox::{MAILBOX, deliver};
use crate::moves::Agreed;
use crate::numbered::Numbered;
use crate::span::SpanContext;
use crate::trail::{Received, Trail};
use crate::vocabulary::{Begin, ConnEvent, Do, Reconfigure, Report, Vanish};
use crate::watch::DeathWatch;
use told::Told;

/// Hosts one connection.
pub(crate) struct IkeSaActor {
    id: u64,
    env: Arc<ConnEnv>,
    peer_spec: Arc<Numbered>,
    conn: Option<Connection>,
    /// Given back when the actor ends, after a panic too: no SPI leads to an actor that is gone.
    held: Held,
    lifetime: Option<Lifetime>,
    alarm: Alarm,
    /// Why the system did not send the last message.
    unsent: Option<Unsent>,
    /// What has happened in this turn, and the peer's actor is not told yet.
    news: Vec<(ConnEvent, Option<SpanContext>)>,
    /// Of the peer's actor, to which it reports too.
    watch: DeathWatch<Report>,
    counted: ike::Counters,
    /// Which exchanges are under way, and what is told of them.
    trail: Trail,
    /// IKE_SAs whose keys are in the key log. Empty without one.
    logged: Vec<(u64, u64)>,
    /// In whose SPIs it is, for as long as it lives.
    slot: u8,
    /// What others have to know of it. Only in a cluster.
    told: Option<Box<Told>>,
    /// When the IKE_SA in use was made.
    since: Instant,
    /// By which configuration of its peer it was agreed on.
    agreed: Agreed,
    /// Our address in place of that of the node that it comes from.
    here: Option<IpAddr>,
}

impl IkeSaActor {
    pub(crate) fn new(id: u64, env: Arc<ConnEnv>, peer_spec: Arc<Numbered>, peer: Recipient<Report>) -> Self {
        Self {
            slot: env.slot(),
            told: None,
            since: Instant::now(),
            agreed: peer_spec.agreed(),
            here: None,
            id,
            env,
            peer_spec,
            conn: None,
            held: Held::default(),
            lifetime: None,
            alarm: Alarm::default(),
            unsent: None,
            news: Vec::new(),
            watch: DeathWatch::new(id, peer),
            counted: ike::Counters::default(),
            trail: Trail::default(),
            logged: Vec::new(),
        }
    }

    /// Calls the core, then drains it.
    fn with(&mut self, ctx: &mut Context<Self>, call: impl FnOnce(&mut Connection, &mut CoreHost<'_>)) {
        self.call(ctx, call);
        self.drain(ctx);
    }

    /// Calls the core.
    fn call(&mut self, ctx: &Context<Self>, call: impl FnOnce(&mut Connection, &mut CoreHost<'_>)) {
        let owner = ctx.address().recipient();
        self.trail.begin_turn();
        if let Some(conn) = &mut self.conn {
            let (env, held) = (&self.env, &mut self.held);
            let (slot, arbiter) = (self.slot, self.peer_spec.uid);
            call(conn, &mut CoreHost { env, owner: &owner, slot, arbiter, held });
        }
    }

    /// Another connection of the peer joins this one.
    fn join(
        &mut self,
        Given { conn: other, held, counted, mut trail, begun }: Given,
        owner: &Recipient<Deliver>,
    ) {
        let Some(conn) = &mut self.conn else { return };
        let (env, now) = (&self.env, Instant::now());
        let (slot, arbiter) = (self.slot, self.peer_spec.uid);
        let mut host = CoreHost { env, owner, slot, arbiter, held: &mut self.held };
        // What is of one connection moves as one: it is in one slot.
        let joined =
            if slot_of(other.spis().0) == slot { conn.absorb(now, &mut host, other) } else { Err(other) };
        match joined {
            Ok(()) => {
                self.held.join(held);
                self.counted.join(counted);
                self.trail.join(&mut trail);
            }
            Err(conn) => {
                let given = Given { conn, held, counted, trail, begun };
                let adopted = Adopted::new(given, self.env.clone(), owner.clone(), self.peer_spec.uid);
                self.report(ConnEvent::NotJoined(Box::new(adopted)));
            }
        }
    }

    /// Reports this, and what was noted before.
    fn report(&mut self, event: ConnEvent) {
        self.note(event);
        self.report_news();
    }

    /// Has this reported with the rest of the turn.
    fn note(&mut self, event: ConnEvent) {
        self.news.push((event, self.trail.context()));
    }

    fn report_news(&mut self) {
        let news = std::mem::take(&mut self.news);
        if !news.is_empty() {
            deliver(self.watch.supervisor(), Report::Connection(self.id, news), &self.env.counters);
        }
    }

    fn drain(&mut self, ctx: &mut Context<Self>) {
        self.log_keys();
        let (mut finished, mut sender_changes) = (false, false);
        while let Some(event) = self.conn.as_mut().and_then(Connection::poll_event) {
            self.trail.happened(&self.env, &event);
            if matches!(event, Event::Finished) {
                // Told last: what is still to be sent goes before it, and nobody is there to send it afterwards.
                finished = true;
                continue;
            }
            if let Some(event) = self.carry_out(event, ctx) {
                sender_changes |= event.changes_sender();
                self.note(event);
            }
        }
        // Only after the events: an SA has to be in place before the peer learns of it.
        if self.conn.is_none() {
            return self.report_news();
        }
        let mut datagrams = Vec::new();
        while let Some(transmit) = self.conn.as_mut().and_then(Connection::poll_transmit) {
            if transmit.keepalive {
                let local = self.our_address(transmit.local);
                self.env.router.send_keepalive(local.ip(), transmit.remote);
                continue;
            }
            self.trail.sent(&self.env, &transmit.bytes);
            let (local, remote) = (self.our_address(transmit.local), transmit.remote);
            datagrams.push(IkeDatagram { local, remote, bytes: transmit.bytes });
        }
        // Nor is anybody to learn of what a node that has to go on with this does not know.
        if let Some(datagrams) = self.tell(ctx, datagrams, sender_changes, finished) {
            if !sender_changes {
                // Whoever hears by the peer that it is up may order something here at once, and that is to come after the news.
                self.report_news();
            }
            self.send(datagrams, sender_changes);
        }
        self.count();
        if finished {
            self.note(ConnEvent::Finished);
        }
        self.report_news();
        self.trail.end_turn();
        if finished {
            return ctx.stop();
        }
        self.arm(ctx);
    }

    /// Sends what the connection has to say.
    fn send(&mut self, datagrams: Vec<IkeDatagram>, sender_changes: bool) {
        if sender_changes && !datagrams.is_empty() {
            // And no packet is to go by an SA that the peer, once it has these, takes for deleted: the peer's actor, which
            // decides between connections, moves to the other pair first.
            return self.note(ConnEvent::Send(datagrams));
        }
        for datagram in datagrams {
            match self.env.router.send_ike(datagram) {
                Ok(()) => self.unsent = None,
                Err(why) => self.not_sent(why),
            }
        }
    }

    /// The system has not sent a message.
    fn not_sent(&mut self, why: Unsent) {
        // Of the moment, and repeated by the core.
        let passes = matches!(why, Unsent::Congested | Unsent::Stopped);
        // Told once: the same again with every retransmission is no news.
        if !passes && self.unsent.as_ref() != Some(&why) {
            self.unsent = Some(why.clone());
            self.report(ConnEvent::Unsent(why));
        }
    }

    /// Our address as it is at this node.
    fn our_address(&self, local: SocketAddr) -> SocketAddr {
        self.here.map_or(local, |here| SocketAddr::new(here, local.port()))
    }

    /// Writes keys that have not been written to the key log, if there is one.
    fn log_keys(&mut self) {
        let (Some(log), Some(conn)) = (&self.env.key_log, &self.conn) else { return };
        for keys in conn.logged_keys() {
            if !self.logged.contains(&keys.spis()) {
                log.ike(&keys);
                self.logged.push(keys.spis());
            }
        }
    }

    fn count(&mut self) {
        let Some(now) = self.conn.as_ref().map(Connection::counters) else { return };
        let c = &self.env.counters;
        if now.retransmissions > self.counted.retransmissions {
            self.trail.sent_again();
        }
        c.retransmissions.add(now.retransmissions - self.counted.retransmissions);
        c.answered_again.add(now.answered_again - self.counted.answered_again);
        c.ike_dropped.add(now.dropped - self.counted.dropped);
        c.ike_taken.add(now.taken - self.counted.taken);
        self.counted = now;
    }

    /// One timer for the connection and for the lifetime of its IKE_SA.
    fn arm(&mut self, ctx: &mut Context<Self>) {
        let lifetime = self.lifetime.as_ref().and_then(Lifetime::poll_timeout);
        let conn = self.conn.as_ref().and_then(Connection::poll_timeout);
        self.alarm.set(ctx, lifetime.into_iter().chain(conn).min(), Self::tick);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        while let Some(event) = self.lifetime.as_mut().and_then(|l| l.handle_timeout(now)) {
            self.with(ctx, |conn, host| match event {
                LifetimeEvent::Soft => conn.handle_command(now, host, Command::RekeyIke),
                LifetimeEvent::Hard => conn.expire(now, host),
            });
        }
        self.with(ctx, |conn, host| conn.handle_timeout(now, host));
    }
}

impl Actor for IkeSaActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.watch.disarm();
        Running::Stop
    }
}

impl Handler<Begin> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, begin: Begin, ctx: &mut Self::Context) {
        let owner = ctx.address().recipient();
        match begin {
            Begin::Initiate { config, path, cause } => {
                if !self.tells_here(ctx) {
                    // It goes to another node, or has been lost, and nothing that is in it is said here. Tried again by the one that is then this node's.
                    tracing::debug!(peer = %self.peer_spec.name, slot = self.slot, "its slot has gone before it has begun");
                    self.report(ConnEvent::Down(CloseReason::Local));
                    self.report(ConnEvent::Finished);
                    return ctx.stop();
                }
                self.trail = Trail::initiate(&self.env, &self.peer_spec.name, &config, &path, cause);
                let (env, held) = (&self.env, &mut self.held);
                let (slot, arbiter) = (self.slot, self.peer_spec.uid);
                let mut host = CoreHost { env, owner: &owner, slot, arbiter, held };
                match Connection::initiate(Instant::now(), &mut host, config, path) {
                    Ok(conn) => self.conn = Some(conn),
                    Err(failure) => {
                        if let Some(story) = self.trail.first_mut() {
                            story.fail(&failure);
                        }
                        self.report(ConnEvent::Down(ike::CloseReason::Failed(failure)));
                        self.report(ConnEvent::Finished);
                        return ctx.stop();
                    }
                }
            }
            Begin::Adopt(adopted) => {
                if self.conn.is_none() && !self.begins_here(&adopted, ctx) {
                    return adopted.forsake();
                }
                let Some(given) = adopted.take() else { return ctx.stop() };
                given.held.lead_to(&owner);
                match &mut self.conn {
                    None => {
                        // It is told of from here on, so its slot has to wait for it no longer.
                        let Given { conn, held, counted, trail, begun: _ } = given;
                        (self.held, self.counted, self.conn) = (held, counted, Some(conn));
                        self.trail = trail;
                        self.trail.set_peer(&self.peer_spec.name);
                    }
                    Some(_) => self.join(given, &owner),
                }
            }
            Begin::GoOn(moved, config) => {
                self.slot = moved.slot;
                self.trail = Trail::moved(&self.peer_spec.name);
                if !self.tells_here(ctx) {
                    tracing::debug!(peer = %self.peer_spec.name, slot = self.slot, "its slot has gone on before it has begun here");
                    self.report(ConnEvent::Given(None));
                    return ctx.stop();
                }
                match self.go_on(*moved, config, &owner) {
                    // The peer believes in them, so they are deleted in order.
                    Ok(commands) => {
                        commands.into_iter().for_each(|command| ctx.notify(Do(command)));
                        self.catch_up(ctx);
                    }
                    Err(reason) => {
                        tracing::warn!(peer = %self.peer_spec.name, reason, "a tunnel of another node cannot go on here");
                        // Whoever waits for it begins anew.
                        let failure = Failure::NotInstalled(reason);
                        self.report(ConnEvent::Down(CloseReason::Failed(failure)));
                        self.report(ConnEvent::Finished);
                        return ctx.stop();
                    }
                }
            }
        }
        self.drain(ctx);
    }
}

impl Handler<Deliver> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, Deliver(datagram): Deliver, ctx: &mut Self::Context) {
        let natt = datagram.local.port() == self.env.router.natt_port();
        let Some(before) = self.conn.as_ref().map(Connection::counters) else {
            // It came before the connection, or after: then that may have gone to another node.
            let others = self.env.others.0.as_ref();
            return match others.is_some_and(|cluster| cluster.pass_on(self.slot, &datagram)) {
                true => self.env.counters.ike_passed_on.up(),
                false => self.env.counters.ike_unknown_spi.up(),
            };
        };
        let IkeDatagram { local, remote, bytes } = &datagram;
        let view = Datagram { local: *local, remote: *remote, natt, bytes };
        self.call(ctx, |conn, host| conn.handle_datagram(Instant::now(), host, view));
        if let Some(after) = self.conn.as_ref().map(Connection::counters) {
            self.trail.received(&self.env, bytes, Received::of(&before, &after));
        }
        self.drain(ctx);
    }
}

impl Handler<Do> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, Do(command): Do, ctx: &mut Self::Context) {
        self.with(ctx, |conn, host| conn.handle_command(Instant::now(), host, command));
    }
}

impl Handler<Reconfigure> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, Reconfigure(spec, config): Reconfigure, ctx: &mut Self::Context) {
        self.agreed = self.agreed.seen_from(spec.agreed());
        self.peer_spec = spec;
        self.with(ctx, |conn, _| conn.set_config(config));
    }
}

impl Handler<Vanish> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, _: Vanish, ctx: &mut Self::Context) {
        self.untell();
        ctx.stop();
    }
}

#[cfg(feature = "fault-injection")]
impl Handler<crate::vocabulary::Panic> for IkeSaActor {
    type Result = ();

    #[allow(clippy::panic)] // What it is for: tests see what follows.
    fn handle(&mut self, _: crate::vocabulary::Panic, _: &mut Self::Context) {
        panic!("injected into the connection of {}", self.peer_spec.name);
    }
}
