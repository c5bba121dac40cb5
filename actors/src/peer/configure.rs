//! Changes of a peer's configuration, and its end.

use std::sync::Arc;
use std::time::Instant;

use actix::prelude::*;
use ike::Command;
use ike::config::PeerConfig;
use ike::coverage::policy_of;
use ike::resources::{configured, resource_of};
use ike::supervise::{ConnId, Ended, Few, State};
use tenants::StartAction;
use tenants::impact::{ChildChanges, Effect, of_peer};

use super::not_rekeyed::Rekeying;
use super::{ChildEntry, PeerActor};
use crate::convert;
use crate::mailbox::deliver;
use crate::numbered::Numbered;
use crate::vocabulary::{Configure, Do, Reconfigure, RemovePeer, SecretChanged};

impl PeerActor {
    /// Tells whoever looks for this peer what it negotiates with.
    fn register(&self) {
        if let Some((place, _)) = &self.places {
            place.configure(&self.peer, self.config.clone());
        }
    }

    /// Brings the Child SAs of running connections in line with the children that are configured now. Those that stay are not
    /// touched; those that are changed are made anew before the old ones go.
    fn change_children(&mut self, changes: &ChildChanges) {
        // A new child on demand waits for its first packet.
        let on_demand = self.peer.spec.start_action == StartAction::OnDemand;
        let added = changes.added.iter().filter(|_| !on_demand);
        let wanted: Vec<Arc<str>> = added.chain(&changes.changed).map(|name| name.as_str().into()).collect();
        let gone = self.pairs_of(&changes.removed);
        if !wanted.is_empty() {
            self.forget_asked();
        }
        for name in changes.removed.iter().chain(&changes.changed) {
            if self.gaps.remove(name.as_str()).is_some() {
                // What was said of it is history.
                self.view_mut().last_error.clear();
                if let Some(current) = self.supervisor.current().filter(|_| self.gaps.is_empty()) {
                    self.history().recovered(current);
                }
            }
        }
        if let (Some(current), Some((Rekeying::Child(of), _))) =
            (self.supervisor.current(), &self.not_rekeyed)
            && changes.removed.iter().any(|name| *name == configured(of))
        {
            let of = of.clone();
            self.new_keys(current, &Rekeying::Child(of));
        }
        for (spi, conn) in gone {
            self.command(conn, Command::DeleteChild(spi));
        }
        for (spi, _) in self.pairs_of(&changes.changed) {
            if let Some(child) = self.children.get_mut(&spi) {
                child.outdated = true;
            }
        }
        if let Some(current) = self.supervisor.current() {
            wanted.into_iter().for_each(|name| self.command(current, Command::CreateChild(name)));
        }
    }

    /// A connection that has come from another node was agreed on by what is not configured any more: what that node did not do, or did not end, is
    /// done here.
    pub(super) fn begin_anew(&mut self, id: ConnId) {
        if let Some(conn) = self.conns.get_mut(&id).filter(|conn| !conn.closing) {
            (conn.overtaken, conn.closing) = (true, true);
            deliver(&conn.addr, Do(Command::Close), &self.env.counters);
            self.history().step(id, "was agreed on by another configuration of the peer: it begins anew");
        }
    }

    /// Whether the policy of a pair that has come from another node is configured otherwise now, and was agreed on in parts, or in more of them
    /// than it may have: then it is agreed on anew as a whole.
    pub(super) fn is_overtaken_in_parts(&self, name: &str) -> bool {
        let of = |name: &str| policy_of(resource_of(name).0).0.to_owned();
        let policy = of(name);
        if !self.peer.spec.children.iter().any(|child| child.name == policy) {
            return false;
        }
        let pairs = || self.children.values().filter(|child| of(&child.view.name) == policy);
        let in_parts = pairs().any(|child| policy_of(resource_of(&child.view.name).0).1 > 0);
        self.peer.is_beyond(name) || (in_parts && pairs().any(|child| child.overtaken))
    }

    /// Whether all connections are agreed on by this already: they have come from a node that knew of it before.
    fn is_agreed_on(&self, by: &Numbered) -> bool {
        let mut there = self.conns.values().filter(|conn| !conn.down).peekable();
        there.peek().is_some() && there.all(|conn| conn.agreed.is_as(by.agreed()))
    }

    /// Whether a pair of this name was asked for before its child was configured as it is now. Its connection `knows` of what it was told
    /// before that pair was in place; what came to it later is seen by what it was configured by then.
    pub(super) fn is_overtaken(&self, name: &str, config: Option<&Arc<PeerConfig>>, knows: bool) -> bool {
        let policy = configured(name);
        let of =
            |config: &Arc<PeerConfig>| config.children.iter().find(|child| *child.name == *policy).cloned();
        let changed = config.zip(self.config.as_ref()).is_some_and(|(then, now)| {
            !Arc::ptr_eq(then, now)
                && of(then).zip(of(now)).is_none_or(|(then, now)| !then.asks_for_the_same(&now))
        });
        knows || changed
    }

    /// A pair that was asked for before its child was configured anew is made once more, or goes.
    pub(super) fn renew_overtaken(&self, id: ConnId, spi: u32) {
        let Some(child) = self.children.get(&spi).filter(|child| child.overtaken) else { return };
        if self.conns.get(&id).is_some_and(|conn| conn.closing) {
            return;
        }
        let name = resource_of(&child.view.name).0.to_owned();
        let policy = configured(&name);
        let is_configured = self.peer.spec.children.iter().any(|child| child.name == policy);
        let command = if is_configured {
            Command::CreateChild(name.as_str().into())
        } else {
            Command::DeleteChild(spi)
        };
        self.command(id, command);
    }

    /// The pairs of these policies, and the connections that they are on.
    fn pairs_of(&self, names: &[String]) -> Vec<(u32, ConnId)> {
        let named = |name: &str| names.iter().any(|n| *n == configured(name));
        let pairs = self.children.iter().filter(|(_, child)| named(&child.view.name));
        pairs.map(|(spi, child)| (*spi, child.conn)).collect()
    }

    /// The pairs of a child as it was configured before go: its new one is there, or refused.
    pub(super) fn drop_outdated(&mut self, name: &str) {
        self.delete_pairs(name, |_, child| child.outdated);
    }

    /// What came up with its connection goes: there is one by what is configured now.
    pub(super) fn drop_overtaken(&mut self, name: &str, newer: u32) {
        self.delete_pairs(name, |spi, child| child.overtaken && spi != newer);
    }

    fn delete_pairs(&mut self, name: &str, which: impl Fn(u32, &ChildEntry) -> bool) {
        let of_name = self.children.iter().filter(|(_, child)| resource_of(&child.view.name).0 == name);
        let pairs = of_name.filter(|(spi, child)| which(**spi, child));
        let pairs: Vec<(u32, ConnId)> = pairs.map(|(spi, child)| (*spi, child.conn)).collect();
        for (spi, conn) in pairs {
            self.command(conn, Command::DeleteChild(spi));
        }
    }
}

impl Handler<Configure> for PeerActor {
    type Result = ();

    fn handle(&mut self, Configure(peer, author): Configure, ctx: &mut Self::Context) {
        let mut impact = of_peer(&self.peer.spec, &peer.spec);
        // A policy that was agreed on in parts is agreed on anew as a whole, and so is one that has more of them than it may have among
        // more children.
        let parts = self.children.values().any(|child| {
            let (policy, part) = policy_of(resource_of(&child.view.name).0);
            let is_changed = || impact.children.changed.iter().any(|name| name == policy);
            part > 0 && (is_changed() || peer.is_beyond(&child.view.name))
        });
        if parts && impact.effect == Effect::Children {
            impact.effect = Effect::IkeRestart;
        }
        let is_known = !self.peer.agreed().is_as(peer.agreed()) && self.is_agreed_on(&peer);
        let restart = match impact.effect {
            Effect::None | Effect::TakenOver | Effect::Children => false,
            Effect::IkeRestart | Effect::TenantRestart => parts || !is_known,
        };
        let begins_otherwise = self.peer.spec.start_action != peer.spec.start_action;
        (self.peer, self.author) = (peer, author);
        self.config =
            convert::peer_config(&self.env.catalog, self.env.raw_esp, self.env.router.shards(), &self.peer)
                .map(Arc::new);
        self.register();
        tracing::info!(peer = %self.peer.name, %impact, "configuration changed");
        let plan = self.plan();
        if restart {
            self.gaps = Few::new();
            // It may be on its way down by an earlier change.
            self.recall |= self.supervisor.current().is_some();
            self.close_all();
            if let Some(resolving) = self.names.resolving.take() {
                // No connection tells of its end.
                self.ended(resolving.conn, Ended::ByUs);
            }
            self.refresh_names(ctx);
        } else if let Some(config) = &self.config {
            for conn in self.conns.values_mut() {
                conn.agreed = conn.agreed.seen_from(self.peer.agreed());
                deliver(&conn.addr, Reconfigure(self.peer.clone(), config.clone()), &self.env.counters);
            }
            self.change_children(&impact.children);
            if is_known {
                // Its addresses may be others.
                self.refresh_names(ctx);
            }
        }
        self.go_by(plan);
        // There may be children that were not there when it was said where the tunnel is.
        self.lead();
        if begins_otherwise {
            self.supervisor.lift(Instant::now());
        }
        if impact.effect != Effect::None {
            self.acquit();
        }
        self.settle(ctx);
    }
}

impl PeerActor {
    /// What is only waited for failed by another configuration.
    fn acquit(&mut self) {
        if self.supervisor.state() == State::Waiting {
            let view = self.view_mut();
            view.last_cause = "";
            view.last_error.clear();
        }
    }

    /// Nodes have come or gone. A connection that is there stays; who begins with the next one may be another node.
    pub(super) fn rehome(&mut self, ctx: &mut Context<Self>) {
        self.tell_holder();
        self.replan();
        self.look_at_taken_down();
        self.settle(ctx);
    }
}

impl Handler<SecretChanged> for PeerActor {
    type Result = ();

    /// Running SAs stay: a key authenticates only the start of a connection, or a phase 1 that takes the place of another (IKEv1).
    fn handle(&mut self, _: SecretChanged, ctx: &mut Self::Context) {
        self.config =
            convert::peer_config(&self.env.catalog, self.env.raw_esp, self.env.router.shards(), &self.peer)
                .map(Arc::new);
        self.register();
        if let Some(config) = &self.config {
            for conn in self.conns.values() {
                deliver(&conn.addr, Reconfigure(self.peer.clone(), config.clone()), &self.env.counters);
            }
        }
        self.acquit();
        self.settle(ctx);
    }
}

impl Handler<RemovePeer> for PeerActor {
    type Result = ();

    fn handle(&mut self, _: RemovePeer, ctx: &mut Self::Context) {
        self.depart(ctx);
    }
}

impl PeerActor {
    /// Closes everything, and ends when that is done.
    pub(super) fn depart(&mut self, ctx: &mut Context<Self>) {
        self.leaving = true;
        // Whoever comes from now on is not for this actor. It stays on the board until it is gone.
        if let Some((place, _)) = &self.places {
            place.configure(&self.peer, None);
        }
        self.close_all();
        self.leave(ctx);
    }
}
