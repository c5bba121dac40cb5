//! What the actors of a peer's SAs report.

use std::time::Instant;

use actix::prelude::*;
use ike::Command;
use ike::supervise::{ConnId, Ended, State};

use super::PeerActor;
use crate::span::SpanContext;
use crate::vocabulary::{ConnEvent, Died, Report};

impl Handler<Report> for PeerActor {
    type Result = ();

    fn handle(&mut self, report: Report, ctx: &mut Self::Context) {
        match report {
            Report::Child(spi, due) => return self.child_due(spi, due),
            Report::Connection(id, events) => {
                let mut changed = false;
                for (event, span) in events {
                    if changed && matches!(event, ConnEvent::Down(_)) {
                        self.log_news(None);
                        // A tunnel that was up for a moment counts as one.
                        self.settle(ctx);
                    }
                    // Nothing changes by a message that is shown.
                    changed |= !matches!(event, ConnEvent::Send(_));
                    // Every line about it names the trace that tells the rest.
                    let _entered = SpanContext::enter(span);
                    self.connection_event(id, event, ctx);
                }
                self.log_news(None);
                if !changed {
                    return;
                }
            }
            Report::Died(Died(key)) => self.sa_died(key, ctx),
        }
        self.settle(ctx);
    }
}

impl PeerActor {
    fn connection_event(&mut self, id: ConnId, event: ConnEvent, ctx: &mut Context<Self>) {
        use ConnEvent::{Finished, Given, NotJoined, Send};
        if self.conns.get(&id).is_none() && !matches!(event, Send(_) | NotJoined(_) | Given(_) | Finished) {
            // It was forgotten before this was read. A pair that it tells of goes with what is told.
            return;
        }
        match event {
            ConnEvent::Established(new) => self.established(id, *new),
            ConnEvent::Rekeyed { spis, initiated, choice, lifetime } => {
                self.rekeyed(id, spis, initiated, choice, lifetime.as_ref());
            }
            ConnEvent::Installed(installed) => self.child_installed(ctx, id, *installed),
            ConnEvent::Activated { spi_in } => {
                self.send_by(|senders, current| senders.activated(spi_in, current));
            }
            ConnEvent::Removed { spi_in, linger, reason } => self.child_removed(spi_in, linger, reason),
            ConnEvent::ChildFailed { name, failure } if self.is_removed(&name) => {
                self.removed_child_failed(id, &name, &failure);
            }
            ConnEvent::ChildFailed { name, failure } => {
                self.history().failed(id, &failure);
                self.child_failed(&name, &failure);
            }
            ConnEvent::Coverage { policy, uncovered } => self.coverage_changed(id, &policy, &uncovered),
            ConnEvent::RekeyEnded(spi, outcome) => {
                self.rekey_ended(spi, outcome.map_err(|failure| failure.to_string().into()));
            }
            ConnEvent::RekeyFailed(failure, ends) => self.rekey_failed(id, &failure, ends),
            ConnEvent::LimitedByPeer(within) => {
                self.history()
                    .step(id, format!("the peer wants to be authenticated to anew within {within:?}"));
                self.supervisor.limited_by_peer(Instant::now(), id, within);
            }
            ConnEvent::Unsent(why) => self.unsent(id, &why),
            ConnEvent::Synced { ours, theirs } => self.synced(id, ours, theirs),
            ConnEvent::Moved(remote) => self.moved(id, remote),
            ConnEvent::Down(reason) => self.connection_down(id, &reason),
            ConnEvent::Send(datagrams) => {
                for datagram in datagrams {
                    let _ = self.env.router.send_ike(datagram);
                }
            }
            ConnEvent::Given(to) => self.connection_given(ctx, id, to),
            ConnEvent::NotJoined(adopted) => self.take_on(adopted, ctx),
            ConnEvent::Finished => self.connection_gone(ctx, id),
        }
    }

    /// A connection is none any more. If it was the one in use, and we have not ended it, the tunnel is lost.
    pub(super) fn ended(&mut self, id: ConnId, how: Ended) {
        let was_up = self.supervisor.state() == State::Established;
        self.supervisor.ended(Instant::now(), id, how, rand::random());
        let is_up = self.supervisor.state() == State::Established;
        if was_up && !is_up && how != Ended::ByUs && !self.leaving {
            self.view_mut().losses += 1;
        }
    }

    /// One of the peer's SA actors panicked. Connections are numbered from 1 up, SPIs of Child SAs have the slot in
    /// their top bits, so the two never meet.
    fn sa_died(&mut self, key: u64, ctx: &mut Context<Self>) {
        self.env.counters.panics.up();
        if self.conns.contains_key(&key) {
            tracing::error!(peer = %self.peer.name, connection = key, "the actor of a connection panicked");
            self.remove_children_of(key);
            self.attempt_failed("the actor of the connection panicked".to_owned(), key, Ended::Failed);
            self.connection_gone(ctx, key);
        } else if let Some(child) = u32::try_from(key).ok().and_then(|spi| self.children.remove(&spi)) {
            tracing::error!(peer = %self.peer.name, child = %child.view.name, "the actor of a Child SA panicked");
            // Its pair left the router with it. Deleting it makes room for a new one.
            self.command(child.conn, Command::ExpireChild(child.view.spi_in));
            self.send_by(|senders, current| senders.removed(child.view.spi_in, current));
            self.supervisor.child_missing(Instant::now(), &child.view.name.as_str().into());
        }
    }
}
