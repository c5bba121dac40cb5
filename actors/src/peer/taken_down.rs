//! A tunnel that is taken down by command, here or at another node of the cluster, and until when it stays down.

use std::time::Instant;

use actix::prelude::*;
use ike::supervise::State;

use super::PeerActor;
use super::command::Wait;
use crate::moves::Rival;
use crate::vocabulary::{Refusal, Reply};

/// When that was.
#[derive(Clone, Copy, Debug)]
pub(super) struct TakenDown {
    at: Instant,
    /// Another node had the tunnel then, and has it still.
    beside: bool,
}

impl PeerActor {
    /// Takes down the tunnel, which was here when this was asked for.
    pub(super) fn terminate_held(&mut self, by: String, reply: Reply, ctx: &mut Context<Self>) {
        let Some(reply) = self.unless_moved(reply) else { return };
        if self.supervisor.current().is_none() && self.env.homes.holder(self.peer.uid).is_some() {
            let _ = reply.send(Err(Refusal::Moved));
            return;
        }
        self.terminate(by, reply, ctx);
    }

    /// Takes the tunnel down if it is here, and does not begin with the peer.
    pub(super) fn terminate(&mut self, by: String, reply: Reply, ctx: &mut Context<Self>) {
        if !self.wait(Wait::Down, reply) {
            return;
        }
        tracing::info!(peer = %self.peer.name, by, "taken down by command");
        self.supervisor.terminate();
        self.up_after = false;
        let beside = self.is_beside();
        self.taken_down = Some(TakenDown { at: Instant::now(), beside });
        self.recall = false;
        self.resolve(Wait::Up, Err(format!("taken down by {by}").into()));
        self.view_mut().state_reason = format!("taken down by {by}");
        self.drop_held();
        if self.conns.values().any(|c| !c.down) {
            self.close_all();
        } else {
            self.resolve(Wait::Down, Ok(()));
        }
        self.settle(ctx);
    }

    /// Whether what is up, or is being made, has been told to close and has not said yet that it has ended. It can come to nothing that is asked for
    /// now, and where it was the only one its end decides who begins next.
    fn is_going_down(&self) -> bool {
        let closing = |id| self.conns.get(&id).is_some_and(|conn| conn.closing);
        self.supervisor.current().is_none_or(closing) && self.conns.values().any(|c| c.closing && !c.down)
    }

    /// Ordered up. Whether that waits for what is on its way down.
    pub(super) fn comes_after(&mut self) -> bool {
        self.up_after = self.is_going_down();
        self.up_after
    }

    /// Begins what was ordered while the one before was on its way down, once that is down.
    pub(super) fn begin_after(&mut self, ctx: &mut Context<Self>) {
        if !self.up_after || self.is_going_down() {
            return;
        }
        self.up_after = false;
        if !self.leaving && !self.was_given_away() {
            self.bring_up(ctx);
        }
    }

    /// It was ordered up elsewhere, or what another node was to take down is up all the same.
    pub(super) fn let_be(&mut self, reply: Reply, ctx: &mut Context<Self>) {
        self.down_no_more();
        // Once the board shows it.
        self.answers.push((reply, Ok(())));
        self.settle(ctx);
    }

    /// Other nodes have a connection with the peer now, or have none any more. It stays down until the peer comes, to whichever node.
    pub(super) fn look_at_taken_down(&mut self) {
        let beside = self.is_beside();
        match &mut self.taken_down {
            Some(TakenDown { beside: false, .. }) if beside => self.down_no_more(),
            Some(taken) => taken.beside = beside,
            None => {}
        }
    }

    /// Whether another node has the tunnel, be it that it has not said so yet.
    fn is_beside(&self) -> bool {
        self.was_given_away() || self.env.homes.holder(self.peer.uid).is_some()
    }

    /// Whether the tunnel was here a moment ago, and went to another node.
    fn was_given_away(&self) -> bool {
        self.given.is_some_and(|given| given.by_us) && self.supervisor.current().is_none()
    }

    /// The peer has come to another node. If that was after the tunnel was taken down, that is over.
    pub(super) fn came_elsewhere(&mut self, rival: &Rival, ctx: &mut Context<Self>) {
        if self.taken_down.is_some_and(|taken| rival.claim.began < taken.at.elapsed()) {
            self.down_no_more();
            self.settle(ctx);
        }
    }

    fn down_no_more(&mut self) {
        if self.taken_down.take().is_some() && self.supervisor.state() == State::Terminated {
            self.view_mut().state_reason.clear();
            self.supervisor.let_be(Instant::now());
            self.replan();
        }
    }

    /// The one who asks, unless the tunnel was here and nobody has said yet where it is.
    pub(super) fn unless_moved(&self, reply: Reply) -> Option<Reply> {
        let told =
            self.given.is_some_and(|given| given.is_told) || self.env.homes.holder(self.peer.uid).is_some();
        if !self.was_given_away() || told {
            return Some(reply);
        }
        let _ = reply.send(Err(Refusal::Moved));
        None
    }
}
