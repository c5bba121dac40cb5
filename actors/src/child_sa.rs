//! The actor of one Child SA: watches its lifetime. Octets and packets are counted by the router, which sends a
//! notice; seconds are counted here. It owns the pair's place in the router until the end.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use esp::{Lifetime, LifetimeEvent};

use crate::alarm::Alarm;
use crate::env::ChildEnv;
use crate::held::Pair;
use crate::mailbox::{MAILBOX, deliver};
use crate::table::{Registration, Turn};
use crate::vocabulary::{ChildNotice, Due, Given, Report, Retire};
use crate::watch::DeathWatch;

/// Supervises one pair of ESP SAs.
pub(crate) struct ChildSaActor {
    env: Arc<ChildEnv>,
    /// However the actor ends, its keys do not outlive it.
    pair: Pair,
    place: Option<Registration<u32, Recipient<ChildNotice>>>,
    lifetime: Lifetime,
    /// When a retired pair goes: packets under way may still arrive until then.
    retired: Option<Instant>,
    alarm: Alarm,
    /// Of the peer's actor, to which it reports too.
    watch: DeathWatch<Report>,
}

impl ChildSaActor {
    pub(crate) fn new(env: Arc<ChildEnv>, pair: Pair, lifetime: Lifetime, peer: Recipient<Report>) -> Self {
        let watch = DeathWatch::new(u64::from(pair.spi().0), peer);
        Self { env, pair, place: None, lifetime, retired: None, alarm: Alarm::default(), watch }
    }

    fn tell(&self, due: Due, ctx: &mut Context<Self>) {
        if !self.watch.supervisor().connected() {
            // Nobody supervises the pair any more.
            return ctx.stop();
        }
        deliver(self.watch.supervisor(), Report::Child(self.pair.spi().0, due), &self.env.counters);
    }

    fn hear(&mut self, notice: ChildNotice, ctx: &mut Context<Self>) {
        match notice {
            ChildNotice::Soft => self.tell(Due::Rekey, ctx),
            ChildNotice::Hard => self.expire(ctx),
            ChildNotice::FirstInbound => self.tell(Due::InboundSeen, ctx),
            ChildNotice::Moved(remote) => self.tell(Due::Moved(remote), ctx),
        }
    }

    /// The hard lifetime ends the pair's use at once, whenever the peer answers the delete.
    fn expire(&mut self, ctx: &mut Context<Self>) {
        self.env.router.expire(self.pair.spi());
        self.tell(Due::Expire, ctx);
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        let at = self.retired.or_else(|| self.lifetime.poll_timeout());
        self.alarm.set(ctx, at, Self::tick);
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        let now = Instant::now();
        if self.retired.is_some_and(|at| at <= now) {
            return ctx.stop();
        }
        while let Some(event) = self.lifetime.handle_timeout(now).filter(|_| self.retired.is_none()) {
            match event {
                LifetimeEvent::Soft => self.tell(Due::Rekey, ctx),
                LifetimeEvent::Hard => self.expire(ctx),
            }
        }
        self.arm(ctx);
    }
}

impl Actor for ChildSaActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.place =
            Some(self.env.registry.esp.register(self.pair.spi().0, Turn::next(), ctx.address().recipient()));
        // After that, so that nothing is kept any more that nobody looks for.
        for notice in self.env.early.take(Instant::now(), self.pair.spi().0) {
            self.hear(notice, ctx);
        }
        self.arm(ctx);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.watch.disarm();
        Running::Stop
    }
}

impl Handler<ChildNotice> for ChildSaActor {
    type Result = ();

    fn handle(&mut self, notice: ChildNotice, ctx: &mut Self::Context) {
        self.hear(notice, ctx);
    }
}

impl Handler<Retire> for ChildSaActor {
    type Result = ();

    fn handle(&mut self, Retire(linger): Retire, ctx: &mut Self::Context) {
        self.env.router.retire(self.pair.spi());
        if linger.is_zero() {
            return ctx.stop();
        }
        self.retired = Some(Instant::now() + linger);
        self.arm(ctx);
    }
}

impl Handler<Given> for ChildSaActor {
    type Result = ();

    fn handle(&mut self, _: Given, ctx: &mut Self::Context) {
        self.pair.given();
        ctx.stop();
    }
}
