//! The actor of one Child SA: watches its lifetime. Octets and packets are counted by the router, which sends a
//! notice; seconds are counted here. It owns the pair's place in the router until the end.

use std::sync::Arc;
use std::time::{Duration, Instant};

use actix::prelude::*;
use esp::{Lifetime, LifetimeEvent, Spi};

use crate::env::Env;
use crate::mailbox::{MAILBOX, deliver};
use crate::peer::{ChildDue, Due, PeerActor};
use crate::watch::DeathWatch;

/// What the router has to say about a pair.
#[derive(Clone, Copy, Debug, Message)]
#[rtype(result = "()")]
pub(crate) enum ChildNotice {
    /// A soft limit in octets or packets.
    Soft,
    /// A hard one.
    Hard,
    /// The first packet came in.
    FirstInbound,
    /// Packets come from a new address.
    Moved(std::net::SocketAddr),
}

/// The pair is to be removed after this long; it does not send any more.
#[derive(Message)]
#[rtype(result = "()")]
pub(crate) struct Retire(pub(crate) Duration);

/// Supervises one pair of ESP SAs.
pub(crate) struct ChildSaActor {
    env: Arc<Env>,
    spi: u32,
    lifetime: Lifetime,
    timer: Option<SpawnHandle>,
    /// Of the peer's actor, to which it reports too.
    watch: DeathWatch<PeerActor>,
}

impl ChildSaActor {
    pub(crate) fn new(env: Arc<Env>, spi: u32, lifetime: Lifetime, peer: Addr<PeerActor>) -> Self {
        Self { env, spi, lifetime, timer: None, watch: DeathWatch::new(u64::from(spi), peer) }
    }

    fn tell(&self, due: Due) {
        deliver(self.watch.supervisor(), ChildDue { spi: self.spi, due }, &self.env.counters);
    }

    fn arm(&mut self, ctx: &mut Context<Self>) {
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if let Some(at) = self.lifetime.poll_timeout() {
            let wait = at.saturating_duration_since(Instant::now());
            self.timer = Some(ctx.run_later(wait, Self::tick));
        }
    }

    fn tick(&mut self, ctx: &mut Context<Self>) {
        while let Some(event) = self.lifetime.handle_timeout(Instant::now()) {
            self.tell(match event {
                LifetimeEvent::Soft => Due::Rekey,
                LifetimeEvent::Hard => Due::Expire,
            });
        }
        self.arm(ctx);
    }
}

impl Actor for ChildSaActor {
    type Context = Context<Self>;

    fn started(&mut self, ctx: &mut Self::Context) {
        ctx.set_mailbox_capacity(MAILBOX);
        self.env.registry.set_esp(self.spi, ctx.address().recipient());
        self.arm(ctx);
    }

    fn stopping(&mut self, _: &mut Self::Context) -> Running {
        self.watch.disarm();
        Running::Stop
    }
}

impl Drop for ChildSaActor {
    fn drop(&mut self) {
        // However the actor ends, its keys do not outlive it.
        self.env.registry.remove_esp(self.spi);
        self.env.router.remove(Spi(self.spi));
    }
}

impl Handler<ChildNotice> for ChildSaActor {
    type Result = ();

    fn handle(&mut self, notice: ChildNotice, _: &mut Self::Context) {
        self.tell(match notice {
            ChildNotice::Soft => Due::Rekey,
            ChildNotice::Hard => Due::Expire,
            ChildNotice::FirstInbound => Due::InboundSeen,
            ChildNotice::Moved(remote) => Due::Moved(remote),
        });
    }
}

impl Handler<Retire> for ChildSaActor {
    type Result = ();

    fn handle(&mut self, Retire(linger): Retire, ctx: &mut Self::Context) {
        self.env.router.retire(Spi(self.spi));
        if let Some(timer) = self.timer.take() {
            ctx.cancel_future(timer);
        }
        if linger.is_zero() {
            ctx.stop();
        } else {
            // The one timer of a retired pair: packets under way may still arrive until then.
            self.timer = Some(ctx.run_later(linger, |_, ctx| ctx.stop()));
        }
    }
}
