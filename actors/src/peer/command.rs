//! What a peer is asked for by the API, and who waits for what becomes of it.

use std::sync::Arc;

use actix::prelude::*;
use ike::Command;
use ike::resources::{configured, resource_of};
use ike::supervise::{ConnId, State};

use super::PeerActor;
use crate::mailbox::deliver;
use crate::span::SpanContext;
use crate::vocabulary::{Do, Outcome, Refusal, RekeyTarget, Reply};

/// Commands of the API that wait for one peer. A client that asks more often is told to wait.
const MAX_WAITERS: usize = 64;

/// What a command waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Wait {
    /// Every child has its Child SA, or one was refused.
    Up,
    Down,
    IkeRekey,
    ChildRekey,
}

pub(super) struct Waiter {
    wait: Wait,
    reply: Reply,
    /// New keys that it waits for.
    keys: Vec<Keys>,
}

/// New keys that somebody waits for.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Keys {
    /// Of a connection.
    Ike(ConnId),
    /// In place of a pair, of this name.
    Pair(ConnId, u32, String),
    /// By the connection in use: that of the pair has ended.
    Anew(String),
}

impl PeerActor {
    pub(super) fn wait(&mut self, wait: Wait, reply: Reply) -> bool {
        self.wait_for(wait, Vec::new(), reply)
    }

    /// Whether there is room for one more who waits: if not it is refused, and nothing is to be done of what was asked.
    fn wait_for(&mut self, wait: Wait, keys: Vec<Keys>, reply: Reply) -> bool {
        self.waiters.retain(|waiter| !waiter.reply.is_closed());
        let room = self.waiters.len() < MAX_WAITERS;
        if room {
            self.waiters.push(Waiter { wait, reply, keys });
        } else {
            // The client may have gone away; then there is nobody to tell.
            let _ = reply.send(Err("too many commands wait for this peer".into()));
        }
        room
    }

    /// Answers everybody who waits for this.
    pub(super) fn resolve(&mut self, wait: Wait, outcome: Outcome) {
        if wait == Wait::Up && self.up_after && outcome != Err(Refusal::Moved) {
            // It is about a connection that is on its way down, and they wait for the next.
            return;
        }
        let (due, rest) = std::mem::take(&mut self.waiters).into_iter().partition(|w| w.wait == wait);
        self.waiters = rest;
        // Once the board shows it: who asked looks there next.
        self.answers.extend(due.into_iter().map(|waiter: Waiter| (waiter.reply, outcome.clone())));
    }

    /// The rekeying of a pair has ended.
    pub(super) fn rekey_ended(&mut self, spi: u32, outcome: Outcome) {
        self.keys_made(|keys| matches!(keys, Keys::Pair(_, of, _) if *of == spi), &outcome);
    }

    /// The rekeying of a connection's IKE_SA has ended.
    pub(super) fn ike_rekey_ended(&mut self, id: ConnId, outcome: Outcome) {
        self.keys_made(|keys| *keys == Keys::Ike(id), &outcome);
    }

    /// A pair was made, or could not be, where another connection had one.
    pub(super) fn made_anew(&mut self, name: &str, outcome: Outcome) {
        self.keys_made(|keys| matches!(keys, Keys::Anew(of) if of == name), &outcome);
    }

    /// Who waits for several is answered after the last of them, or the first that failed.
    fn keys_made(&mut self, these: impl Fn(&Keys) -> bool, outcome: &Outcome) {
        for mut waiter in std::mem::take(&mut self.waiters) {
            let all = waiter.keys.len();
            waiter.keys.retain(|keys| !these(keys));
            let asked = waiter.keys.len() < all;
            if asked && (waiter.keys.is_empty() || outcome.is_err()) {
                self.answers.push((waiter.reply, outcome.clone()));
            } else {
                self.waiters.push(waiter);
            }
        }
    }

    /// A connection has ended. What was to be rekeyed is gone with it, and made anew by the connection that is in use now, if there is one:
    /// who waits for new keys waits for those. Without one nothing comes of what was asked.
    pub(super) fn rekeyings_end(&mut self, id: ConnId, why: Outcome) {
        if self.supervisor.state() != State::Established {
            for wait in [Wait::IkeRekey, Wait::ChildRekey] {
                self.resolve(wait, why.clone());
            }
            return;
        }
        self.ike_rekey_ended(id, Ok(()));
        let of_this = |keys: &Keys| matches!(keys, Keys::Pair(conn, ..) if *conn == id);
        let mut there = Vec::new();
        for keys in self.waiters.iter_mut().flat_map(|waiter| &mut waiter.keys).filter(|keys| of_this(keys)) {
            if let Keys::Pair(_, _, name) = keys {
                // Pairs for resources come with use; the one that all else rests on does not wait for it.
                let name = resource_of(name).0.to_owned();
                there.push(name.clone());
                *keys = Keys::Anew(name);
            }
        }
        for name in there {
            if self.has_child(&name) {
                self.made_anew(&name, Ok(()));
            } else if let Some(why) = self.gaps.get(&*name).cloned() {
                // It was refused before the old one ended.
                self.made_anew(&name, Err(why.into()));
            } else if !self.peer.spec.children.iter().any(|child| child.name == configured(&name)) {
                self.made_anew(&name, Err("there is no such Child SA any more".into()));
            } else if let Some(id) = self.supervisor.current() {
                // Whoever has made the newer one may not ask for it by itself.
                self.command(id, Command::CreateChild(name.as_str().into()));
            }
        }
    }

    pub(super) fn close_all(&mut self) {
        for conn in self.conns.values_mut().filter(|c| !c.down) {
            conn.closing = true;
            deliver(&conn.addr, Do(Command::Close), &self.env.counters);
        }
    }

    /// Children without a Child SA on the connection in use.
    pub(super) fn missing(&self) -> Vec<Arc<str>> {
        let children = self.peer.spec.children.iter();
        children
            .filter(|child| !self.has_child(&child.name))
            .map(|child| child.name.as_str().into())
            .collect()
    }

    /// Starts a negotiation unless the tunnel is up. Answered when every child has its Child SA, or one is refused.
    pub(super) fn initiate(&mut self, reply: Reply, parent: Option<SpanContext>, ctx: &mut Context<Self>) {
        let Some(reply) = self.unless_moved(reply) else { return };
        if !self.wait(Wait::Up, reply) {
            return;
        }
        self.parent = parent;
        if !self.comes_after() {
            self.bring_up(ctx);
        }
        self.settle(ctx);
    }

    /// Begins, or asks for what is missing of a tunnel that is up.
    pub(super) fn bring_up(&mut self, ctx: &mut Context<Self>) {
        self.view_mut().state_reason.clear();
        match self.supervisor.current() {
            Some(id) => {
                let missing = self.missing();
                if missing.is_empty() {
                    self.resolve(Wait::Up, Ok(()));
                }
                if let Some(conn) = self.conns.get(&id) {
                    for name in missing {
                        deliver(&conn.addr, Do(Command::CreateChild(name)), &self.env.counters);
                    }
                }
            }
            None if self.supervisor.try_now() => self.start_connection(ctx),
            None => {}
        }
    }

    /// Rekeys the IKE_SA, or the Child SA of a name, or all of them.
    pub(super) fn rekey(&mut self, target: RekeyTarget, reply: Reply) {
        let Some(reply) = self.unless_moved(reply) else { return };
        let Some(id) = self.supervisor.current() else {
            let _ = reply.send(Err("the tunnel is not up".into()));
            return;
        };
        let name = match &target {
            RekeyTarget::Ike => {
                if self.wait_for(Wait::IkeRekey, vec![Keys::Ike(id)], reply) {
                    self.command(id, Command::RekeyIke);
                }
                return;
            }
            RekeyTarget::Children => None,
            RekeyTarget::Child(name) => Some(name.as_str()),
        };
        let pairs = self.pairs(name);
        if pairs.is_empty() {
            let _ = reply.send(Err("there is no such Child SA".into()));
            return;
        }
        let keys = pairs.iter().map(|(spi, conn, name)| Keys::Pair(*conn, *spi, name.clone())).collect();
        if !self.wait_for(Wait::ChildRekey, keys, reply) {
            return;
        }
        for (spi, conn, _) in pairs {
            self.command(conn, Command::RekeyChild(spi));
        }
    }

    /// Panics, or has the peer's connections do it.
    #[cfg(feature = "fault-injection")]
    #[allow(clippy::panic)] // What it is for: tests see what follows.
    pub(super) fn panic(&self, connection: bool) {
        if !connection {
            panic!("injected into the actor of {}", self.peer.name);
        }
        for conn in self.conns.values() {
            deliver(&conn.addr, crate::vocabulary::Panic, &self.env.counters);
        }
    }
}
