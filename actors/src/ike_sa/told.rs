//! What the standby of a connection's slot is told, and when its messages leave: not before that is known there.

use std::time::{Duration, Instant};

use actix::prelude::*;
use esp::Spi;
use ike::supervise::Few;
use router::{IkeDatagram, RouterError, TenantId, Unsent};
use snapshot::{Kept, Octets, Row};

use super::IkeSaActor;
use crate::adopted::Adopted;
use crate::mailbox::offer;
use crate::moves::{
    ConnectionRow, Moving, PairFacts, PairRow, Place, class, gone, numbers, reserve_after, row,
};
use crate::post::Post;
use crate::vocabulary::{ConnEvent, Report};

/// What a connection tells.
pub(super) struct Told {
    /// What its rows are called by.
    pub(super) key: u64,
    /// Its pairs, those included that linger after a rekeying.
    pub(super) pairs: Few<u32, PairFacts>,
    /// Until when those do.
    lingering: Few<u32, Instant>,
    /// What goes with the next row of the connection.
    rows: Vec<Row>,
    /// Where it is found by its slot.
    _place: Place,
}

impl IkeSaActor {
    /// From now on it can be asked what there is of it. Nothing without a cluster.
    fn begin_telling(&mut self, ctx: &Context<Self>) {
        if self.env.others.0.is_none() || self.told.is_some() {
            return;
        }
        let key = rand::random();
        let to = ctx.address().recipient();
        self.told = Some(Box::new(Told {
            key,
            pairs: Few::new(),
            lingering: Few::new(),
            rows: Vec::new(),
            _place: self.env.registry.moving.register(key, self.slot, to),
        }));
    }

    /// Tells how the connection stands, and sends these messages once that is known. They come back if nobody is to know.
    pub(super) fn tell(
        &mut self,
        ctx: &Context<Self>,
        datagrams: Vec<IkeDatagram>,
        sender_changes: bool,
        finished: bool,
    ) -> Option<Vec<IkeDatagram>> {
        let now = Instant::now();
        self.prune(now);
        let Some(cluster) = self.env.others.0.clone() else { return Some(datagrams) };
        if !cluster.is_told(self.slot) {
            if let Some(told) = &mut self.told {
                // Whoever becomes the standby is told of everything.
                told.rows.clear();
            }
            return Some(datagrams);
        }
        let rows = self.rows(now, finished);
        if rows.is_empty() {
            return Some(datagrams);
        }
        let (env, id, supervisor) = (self.env.clone(), self.id, self.watch.supervisor().clone());
        let nothing = datagrams.is_empty();
        let (span, connection) = (self.trail.context(), ctx.address().recipient());
        let send = move || {
            if sender_changes {
                // What is lost with a full mailbox is sent again, as what is lost on the way.
                return offer(
                    &supervisor,
                    Report::Connection(id, vec![(ConnEvent::Send(datagrams), span)]),
                    &env.counters,
                );
            }
            for datagram in datagrams {
                if let Err(why) = env.router.send_ike(datagram) {
                    offer(&connection, NotSent(why), &env.counters);
                }
            }
        };
        let post = Post::here();
        let done = Box::new(move |kept| match kept {
            _ if nothing => {}
            // At once, and this may be the last that is heard of it.
            Kept::Free => send(),
            Kept::Known => post.leave(send),
            Kept::Lost => {}
        });
        // It may be known at once, and what is sent then comes after what has happened.
        self.report_news();
        cluster.put(self.slot, rows, done);
        None
    }

    /// The connection ends without a word to its peer. The standby is not to go on with it.
    pub(super) fn untell(&mut self) {
        let rows = self.rows(Instant::now(), true);
        if let Some(cluster) = self.env.others.0.as_ref().filter(|_| !rows.is_empty()) {
            cluster.put(self.slot, rows, Box::new(|_| ()));
        }
    }

    /// What is to be told now.
    fn rows(&mut self, now: Instant, finished: bool) -> Vec<Row> {
        let connection = if finished { None } else { self.connection_row(now) };
        let Some(told) = &mut self.told else { return Vec::new() };
        let mut rows = std::mem::take(&mut told.rows);
        match connection {
            Some(connection) => rows.push(row(class::CONNECTION, told.key, connection, now)),
            None if finished => {
                rows.push(gone(class::CONNECTION, told.key, now));
                rows.extend(told.pairs.keys().flat_map(|spi| pair_gone(*spi, now)));
            }
            // It has not come so far that anybody could go on with it.
            None => {}
        }
        rows
    }

    fn connection_row(&self, now: Instant) -> Option<Octets> {
        let (conn, reserved) = (self.conn.as_ref()?, self.held.reserved());
        let (uid, lifetime) = (self.peer_spec.uid, self.lifetime.as_ref());
        ConnectionRow::write(uid, conn, lifetime, &reserved, (self.agreed, self.since), now).ok()
    }

    /// Gives a pair to the router. It is told of with the message that makes the peer use it.
    pub(super) fn give_to_router(
        &mut self,
        mut sa: router::ChildSa,
        facts: &PairFacts,
    ) -> Result<(), RouterError> {
        let Some((cluster, told)) = self.env.others.0.as_ref().zip(self.told.as_mut()) else {
            return self.env.router.install(sa);
        };
        let (spi, reserve, now) = (sa.inbound_spi.0, reserve_after(0), Instant::now());
        sa.reserve = reserve;
        let pair = self.env.router.install_told(sa)?;
        if cluster.is_told(self.slot) {
            let pair = PairRow::write(told.key, &pair, facts, now);
            told.rows.push(row(class::PAIR, spi.into(), pair, now));
            told.rows.push(numbers(spi, &reserve, now));
        }
        told.pairs.insert(spi, facts.clone());
        Ok(())
    }

    /// A pair is to go, after a while.
    pub(super) fn forget_pair(&mut self, spi: u32, linger: Duration) {
        if let Some(told) = self.told.as_mut().filter(|told| told.pairs.get(&spi).is_some()) {
            told.lingering.insert(spi, Instant::now() + linger);
        }
    }

    fn prune(&mut self, now: Instant) {
        let Some(told) = &mut self.told else { return };
        let over: Vec<u32> =
            told.lingering.iter().filter(|(_, until)| **until <= now).map(|(spi, _)| *spi).collect();
        for spi in over {
            told.lingering.remove(&spi);
            told.pairs.remove(&spi);
            told.rows.extend(pair_gone(spi, now));
        }
    }

    /// The rows of these pairs as the router has them.
    fn pair_rows(&self, pairs: Vec<router::PairSnapshot>, now: Instant) -> Vec<Row> {
        let Some(told) = &self.told else { return Vec::new() };
        let row_of = |pair: router::PairSnapshot| {
            let spi = pair.spi().0;
            let octets = PairRow::write(told.key, &pair, told.pairs.get(&spi)?, now);
            Some(row(class::PAIR, spi.into(), octets, now))
        };
        pairs.into_iter().filter_map(row_of).collect()
    }

    fn spis(&self) -> Vec<Spi> {
        self.told.iter().flat_map(|told| told.pairs.keys()).map(|spi| Spi(*spi)).collect()
    }

    /// Tells everything.
    fn resync(&mut self, ctx: &mut Context<Self>, done: tokio::sync::mpsc::UnboundedSender<()>) {
        let (router, spis) = (self.env.router.clone(), self.spis());
        let asked = async move { router.snapshot_pairs(spis).await }.into_actor(self);
        ctx.spawn(asked.map(move |pairs, this, _| {
            let now = Instant::now();
            let mut rows = this.pair_rows(pairs, now);
            rows.extend(this.rows(now, false));
            if let Some(cluster) = &this.env.others.0 {
                cluster.put(this.slot, rows, Box::new(|_| ()));
            }
            drop(done);
        }));
    }

    /// Tells everything, if somebody is told already: whoever was asked what there is in the slot was asked before this connection was there, and
    /// with its messages it tells nothing of pairs that have come with it.
    pub(super) fn catch_up(&mut self, ctx: &mut Context<Self>) {
        if self.env.others.0.as_ref().is_some_and(|cluster| cluster.is_told(self.slot)) {
            let (done, _nobody_waits) = tokio::sync::mpsc::unbounded_channel();
            self.resync(ctx, done);
        }
    }

    /// Can be asked from now on. Whether the slot is this node's then, also where it is alone: looked at after that, for whoever gives the slot
    /// away asks those who can be asked.
    pub(super) fn tells_here(&mut self, ctx: &Context<Self>) -> bool {
        self.begin_telling(ctx);
        self.env.others.0.as_ref().is_none_or(|cluster| cluster.holds(self.slot))
    }

    /// Whether a connection that the peer has begun goes on here. Its slot may have gone to another node since it was authenticated, and nothing
    /// that is in it is said here; or the connection that it belongs into is being given to one, and this actor ends with that.
    pub(super) fn begins_here(&mut self, adopted: &Adopted, ctx: &mut Context<Self>) -> bool {
        if self.told.is_some() {
            return false;
        }
        self.slot = adopted.slot().unwrap_or(self.slot);
        let here = self.tells_here(ctx);
        if !here {
            tracing::debug!(peer = %self.peer_spec.name, slot = self.slot, "its slot has gone before it was taken on");
            self.report(ConnEvent::Finished);
            ctx.stop();
        }
        here
    }

    /// What is for its tunnels goes there from now on.
    fn lead(&self, to: Option<u32>) {
        let tenant = TenantId(self.peer_spec.tenant);
        for tunnel in self.peer_spec.tunnels() {
            self.env.router.set_elsewhere(tenant, tunnel, to);
        }
    }

    /// Ends here, and says how everything stands.
    fn give(
        &mut self,
        ctx: &mut Context<Self>,
        to: Option<u32>,
        reply: tokio::sync::mpsc::UnboundedSender<Vec<Row>>,
    ) {
        let now = Instant::now();
        self.lead(to);
        let connection = self.connection_row(now);
        let key = self.told.as_ref().map_or(0, |told| told.key);
        // What comes for it from now on is for the other node.
        self.conn = None;
        self.held = crate::held::Held::default();
        let (router, spis) = (self.env.router.clone(), self.spis());
        let asked = async move { router.extract_pairs(spis).await }.into_actor(self);
        ctx.spawn(asked.map(move |pairs, this, ctx| {
            pairs.iter().for_each(|(_, stats)| this.env.board.add_past_here(stats));
            let pairs: Vec<_> = pairs.into_iter().map(|(pair, _)| pair).collect();
            let mut rows = Vec::new();
            if let Some(connection) = connection {
                rows.push(row(class::CONNECTION, key, connection, now));
                rows.extend(this.pair_rows(pairs, Instant::now()));
            }
            this.report(ConnEvent::Given(to));
            // Whoever asked may have given up; then nobody has it, and its peer begins anew.
            let _ = reply.send(rows);
            ctx.stop();
        }));
    }
}

fn pair_gone(spi: u32, now: Instant) -> [Row; 3] {
    [class::PAIR, class::NUMBERS, class::WINDOW].map(|class| gone(class, spi.into(), now))
}

/// The system did not send a message that had waited.
#[derive(Message)]
#[rtype(result = "()")]
struct NotSent(Unsent);

impl Handler<NotSent> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, NotSent(why): NotSent, _: &mut Self::Context) {
        self.not_sent(why);
    }
}

impl Handler<Moving> for IkeSaActor {
    type Result = ();

    fn handle(&mut self, moving: Moving, ctx: &mut Self::Context) {
        match moving {
            Moving::Resync(done) => self.resync(ctx, done),
            Moving::Give(to, reply) => self.give(ctx, to, reply),
            Moving::Lose(to, done) => {
                self.lead(to);
                self.conn = None;
                self.held = crate::held::Held::default();
                self.report(ConnEvent::Given(to));
                drop(done);
                ctx.stop();
            }
        }
    }
}
