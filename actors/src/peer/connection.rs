//! A peer's connections: what comes of them, and what follows for the others.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use actix::prelude::*;
use culvert_proto::v1;
use esp::Lifetime;
use ike::explain::explain;
use ike::proposal::IkeChoice;
use ike::supervise::{Age, ConnId, Disposal, Ended, Few, State};
use ike::{ChildEnd, CloseReason, Command, Failure};
use tenants::IkeVersion;

use super::PeerActor;
use super::command::Wait;
use super::not_rekeyed::Rekeying;
use super::reach::unreachable;
use super::rival::UpSince;
use crate::adopted::Adopted;
use crate::clock::{past, wall};
use crate::ike_sa::IkeSaActor;
use crate::mailbox::deliver;
use crate::moves::Agreed;
use crate::outcomes::Stage;
use crate::status::IkeView;
use crate::vocabulary::{Begin, Do, Established, Vanish};

/// Refusals of one peer are told to those who watch this often at most: a peer that tries for ever needs no more.
pub(super) const REFUSAL_INTERVAL: Duration = Duration::from_secs(5);

/// A connection of the peer.
pub(crate) struct ConnEntry {
    pub(super) addr: Addr<IkeSaActor>,
    /// Where it leads to at first, as far as that is known.
    pub(super) remote: Option<SocketAddr>,
    /// We began.
    pub(super) initiated: bool,
    pub(super) ike: Option<Arc<IkeView>>,
    /// It is up.
    pub(super) up: Option<UpSince>,
    /// Why its messages do not get to the peer, as far as anybody says.
    pub(super) obstacle: Option<String>,
    /// It has reported its end and only lingers.
    pub(super) down: bool,
    /// By which configuration of the peer it was agreed on.
    pub(super) agreed: Agreed,
    /// It came from another node, and was agreed on by what is not configured any more.
    pub(super) overtaken: bool,
    /// We close it; its end is worth waiting for, because the peer then knows.
    pub(super) closing: bool,
}

impl ConnEntry {
    pub(super) const fn new(
        addr: Addr<IkeSaActor>,
        remote: Option<SocketAddr>,
        initiated: bool,
        agreed: Agreed,
    ) -> Self {
        Self {
            addr,
            remote,
            initiated,
            ike: None,
            up: None,
            obstacle: None,
            down: false,
            agreed,
            overtaken: false,
            closing: false,
        }
    }
}

impl Drop for ConnEntry {
    fn drop(&mut self) {
        // A peer's actor that panics takes its connections down, so that nobody is left unsupervised.
        if !self.down {
            let _ = self.addr.try_send(Do(Command::Close));
        }
    }
}

impl PeerActor {
    /// Takes on a connection that the peer started. One that comes while this actor leaves is dropped, which closes it, and
    /// the peer begins anew.
    pub(super) fn adopt(&mut self, adopted: Box<Adopted>, ctx: &mut Context<Self>) {
        if self.leaving {
            return;
        }
        if !self.config.as_ref().is_some_and(|config| adopted.is_by(config)) {
            // The peer was configured anew since: it begins by that.
            return tracing::debug!(peer = %self.peer.name, "authenticated by a configuration that is none any more");
        }
        match self.home_of(&adopted) {
            Some(conn) => deliver(&conn.addr, Begin::Adopt(adopted), &self.env.counters),
            None => self.take_on(adopted, ctx),
        }
    }

    /// The connection that it joins, if it does.
    fn home_of(&self, adopted: &Adopted) -> Option<&ConnEntry> {
        let current = self.supervisor.current().and_then(|id| self.conns.get(&id));
        let begun = || self.conns.values().rev().find(|conn| conn.ike.is_none());
        let home = current.filter(|conn| !conn.down).or_else(begun);
        home.filter(|conn| !conn.down && !conn.closing && adopted.joins(conn.ike.is_some()))
    }

    /// Takes on a connection of its own.
    pub(super) fn take_on(&mut self, adopted: Box<Adopted>, ctx: &mut Context<Self>) {
        if self.leaving {
            return;
        }
        let (id, remote) = (self.next_conn(), adopted.remote());
        if let Some(remote) = remote {
            self.history().admitted(remote);
        }
        self.history().begin(id, false, remote);
        self.spawn_connection(ctx, id, remote, Begin::Adopt(adopted));
    }

    /// Somebody who may be the peer has begun a negotiation, or was refused. Where a tunnel is up that is no news of it. Unless he has
    /// `proved` that he is where he says, and the peer may come from there, it is no cause either: whoever knows the address or the name of
    /// a peer could have everybody told that it fails. Of one that may come from anywhere whoever knows its name still can.
    pub(super) fn stranger(&mut self, remote: SocketAddr, failure: Option<&Failure>, proved: bool) {
        self.history().stranger(remote, failure);
        if let Some(failure) = failure {
            let why = format!("{remote} was refused: {failure}");
            if self.supervisor.current().is_none() {
                let may_be_it = proved && self.env.catalog.admits(&self.peer.spec, remote.ip());
                let view = self.view_mut();
                view.last_error.clone_from(&why);
                if may_be_it {
                    view.blame(explain(failure).kind);
                }
                self.reached(true, "Answered", "");
            }
            let now = Instant::now();
            if self.told_refusal.is_none_or(|at| now >= at + REFUSAL_INTERVAL) {
                self.told_refusal = Some(now);
                self.publish(v1::EventType::NegotiationFailed, why);
            }
        }
        self.show();
    }

    /// Puts a command to a connection, if it is there.
    pub(super) fn command(&self, conn: ConnId, command: Command) {
        if let Some(conn) = self.conns.get(&conn) {
            deliver(&conn.addr, Do(command), &self.env.counters);
        }
    }

    /// Asks for a sign of life.
    pub(super) fn doubt(&self) {
        if let Some(current) = self.supervisor.current() {
            self.command(current, Command::Probe);
        }
    }

    /// A connection's peer is authenticated.
    pub(super) fn established(&mut self, id: ConnId, new: Established) {
        let (spis, (local, remote), initiator) = (new.spis, new.addresses, new.initiator);
        self.log_soon(id, &new);
        let contested = std::mem::take(&mut self.contested) | self.given.take().is_some();
        if !new.moved {
            let took = new.began.elapsed();
            self.env.outcomes.handshake(initiator, took);
            self.env.outcomes.succeeded(if initiator { Stage::Initiate } else { Stage::Respond });
            self.history().step(id, format!("IKE SA established, {}", told(new.choice.as_ref())));
        }
        let mut ike = IkeView {
            initiator_spi: spis.0,
            responder_spi: spis.1,
            initiator,
            opening: new.opening,
            proposal: told(new.choice.as_ref()),
            legacy: new.choice.as_ref().map(IkeChoice::legacy).unwrap_or_default(),
            local,
            remote,
            encapsulated: new.encapsulated,
            installed: past(new.since),
            rekey_due: None,
            expires: None,
        };
        set_times(&mut ike, new.lifetime.as_ref());
        if let Some(conn) = self.conns.get_mut(&id) {
            conn.ike = Some(Arc::new(ike));
            // One that comes from another node is as old as it was there.
            let since = if new.moved { new.began } else { Instant::now() };
            conn.up = Some(UpSince { initiator, spi: spis.0, began: new.began, since, moved: new.moved });
        }
        if new.moved && self.has_newer(id) {
            // Its node was lost, and the peer has begun anew before anybody went on with it.
            self.history().step(id, "comes from another node, and is older than the one in use");
            return self.dispose(Disposal::Close(id));
        }
        if self.conns.get(&id).is_some_and(|conn| conn.closing) {
            // Its end was ordered while the peer's last answer was on its way here, or right behind its coming from the reception, and is on its
            // way there. It is nobody's tunnel any more, and what was ordered stands.
            return self.history().step(id, "is on its way down already");
        }
        // The news of one that has moved was told when it was new, perhaps to who has a newer one by now.
        if contested || !new.moved {
            self.tell_others(id);
        }
        let moved = if new.moved { " from another node" } else { "" };
        self.publish(v1::EventType::IkeSaEstablished, format!("{} {}{moved}", hex(spis.0), hex(spis.1)));
        self.note_takeover(id, remote, initiator);
        self.address_worked(remote);
        let (now, contact) = (Instant::now(), new.initial_contact);
        self.recall = false;
        // One that comes from another node is authenticated anew when it would have been there.
        let up = if new.moved { now.saturating_duration_since(new.began) } else { Duration::ZERO };
        let age = Age { began: new.began, up, jitter: rand::random() };
        for disposal in self.supervisor.established(now, id, age, initiator, spis.0, contact) {
            self.dispose(disposal);
        }
        if !initiator || new.moved {
            // What the peer does not ask for by itself, we do, where it is ours to begin; and what the node asked for that had it before.
            self.ask_for_missing();
        }
        self.view_mut().last_error.clear();
        self.view_mut().last_cause = "";
        self.view_mut().state_reason.clear();
        self.reached(true, "Answered", "");
        self.history().recovered(id);
    }

    /// A connection's IKE_SA was replaced by another.
    pub(super) fn rekeyed(
        &mut self,
        id: ConnId,
        spis: (u64, u64),
        initiated: bool,
        choice: Option<IkeChoice>,
        lifetime: Option<&Lifetime>,
    ) {
        self.view_mut().ike_rekeys += 1;
        self.supervisor.ike_rekeyed(id);
        self.env.outcomes.succeeded(Stage::Rekey);
        let proposal = told(choice.as_ref());
        self.history().step(id, format!("IKE SA rekeyed, {proposal}"));
        if let Some(ike) = self.conns.get_mut(&id).and_then(|c| c.ike.as_mut()).map(Arc::make_mut) {
            (ike.initiator_spi, ike.responder_spi) = spis;
            (ike.initiator, ike.proposal) = (initiated, proposal);
            ike.legacy = choice.map(|choice| choice.legacy()).unwrap_or_default();
            ike.installed = SystemTime::now();
            set_times(ike, lifetime);
        }
        tracing::info!(peer = %self.peer.name, spi_i = %hex(spis.0), spi_r = %hex(spis.1), initiated, "IKE_SA rekeyed");
        self.publish(v1::EventType::IkeSaRekeyed, format!("{} {}", hex(spis.0), hex(spis.1)));
        self.new_keys(id, &Rekeying::Ike(id));
        self.ike_rekey_ended(id, Ok(()));
    }

    pub(super) fn dispose(&mut self, disposal: Disposal) {
        let (id, command) = match disposal {
            Disposal::Close(id) => (id, Command::Close),
            Disposal::Abandon(id) => (id, Command::Abandon),
        };
        if let Some(conn) = self.conns.get(&id) {
            tracing::info!(peer = %self.peer.name, ?disposal, "a newer connection takes over");
            deliver(&conn.addr, Do(command), &self.env.counters);
        }
    }

    /// The IKE_SA could not be rekeyed; it stays for the time being.
    pub(super) fn rekey_failed(&mut self, id: ConnId, failure: &Failure, ends: Option<Instant>) {
        // In IKEv1 a new one is another negotiation anyway.
        if let (IkeVersion::V2, Some(ends)) = (&self.peer.spec.ike.version, ends) {
            self.supervisor.ike_rekey_refused(Instant::now(), id, ends);
        }
        self.env.counters.failures.up();
        self.env.outcomes.failed(Stage::Rekey, failure);
        self.view_mut().failures += 1;
        tracing::warn!(peer = %self.peer.name, reason = %failure, "the IKE_SA is not rekeyed");
        self.history().failed(id, failure);
        let why = format!("rekeying of the IKE SA: {failure}");
        self.not_rekeyed(Rekeying::Ike(id), &why);
        self.publish(v1::EventType::NegotiationFailed, why.as_str());
        self.ike_rekey_ended(id, Err(why.into()));
    }

    /// The peer's address changed: all its SAs follow.
    pub(super) fn moved(&mut self, id: ConnId, remote: SocketAddr) {
        tracing::info!(peer = %self.peer.name, %remote, "the peer's address changed");
        for (spi, _) in self.children.iter().filter(|(_, c)| c.conn == id) {
            self.env.router.set_remote(esp::Spi(*spi), remote);
        }
        if let Some(ike) = self.conns.get_mut(&id).and_then(|c| c.ike.as_mut()).map(Arc::make_mut) {
            ike.remote = remote;
        }
        self.history().step(id, format!("the peer moved to {remote}"));
        self.publish(v1::EventType::PeerMoved, remote.to_string());
    }

    /// Another member of the peer's cluster goes on with the connection.
    pub(super) fn synced(&mut self, id: ConnId, ours: u32, theirs: u32) {
        tracing::info!(peer = %self.peer.name, ours, theirs, "another member of the peer's cluster goes on");
        let text = format!(
            "another member of the peer's cluster goes on: Message IDs {ours} of ours, {theirs} of its own"
        );
        self.history().step(id, text);
    }

    pub(super) fn connection_down(&mut self, id: ConnId, reason: &CloseReason) {
        let Some(conn) = self.conns.get_mut(&id) else { return };
        conn.down = true;
        let (was_up, initiated) = (conn.ike.take().is_some(), conn.initiated);
        let overtaken = conn.overtaken && *reason == CloseReason::Local;
        let (obstacle, remote) = (conn.obstacle.take(), conn.remote);
        let beside = self.has_another(id);
        self.recall |= overtaken && !beside;
        if let CloseReason::Failed(failure) = reason {
            match failure {
                Failure::Replaced => {}
                // It answers by another one.
                Failure::Timeout { .. } if beside => {}
                Failure::Timeout { .. } => self.reached(false, "NoAnswer", &failure.to_string()),
                // Whatever it said, it said something.
                _ => self.reached(true, "Answered", ""),
            }
        }
        let text = match &obstacle {
            Some(obstacle) if matches!(reason, CloseReason::Failed(Failure::Timeout { .. })) => {
                format!("{reason}; {obstacle}")
            }
            _ if *reason == CloseReason::Local && !self.view.state_reason.is_empty() => {
                format!("{reason}: {}", self.view.state_reason)
            }
            _ => reason.to_string(),
        };
        match reason {
            // What kept our messages from the peer is the cause, and was told.
            CloseReason::Failed(Failure::Timeout { .. }) if obstacle.is_some() => {
                self.history().step(id, &text)
            }
            CloseReason::Failed(failure) if *failure != Failure::Replaced => {
                self.history().failed(id, failure)
            }
            _ => self.history().step(id, &text),
        }
        match reason {
            CloseReason::Failed(Failure::Replaced) => {}
            CloseReason::Failed(failure) => {
                self.env.counters.failures.up();
                let stage = match (was_up, initiated) {
                    (true, _) => Stage::Liveness,
                    (false, true) => Stage::Initiate,
                    (false, false) => Stage::Respond,
                };
                let cause = match (failure, &obstacle, remote) {
                    (Failure::Timeout { .. }, Some(obstacle), Some(remote)) => {
                        self.env.outcomes.failed(stage, &unreachable(obstacle, remote))
                    }
                    _ => self.env.outcomes.failed(stage, failure),
                };
                self.view_mut().failures += 1;
                if !beside {
                    self.view_mut().blame(cause);
                }
                tracing::warn!(peer = %self.peer.name, was_up, reason = %failure, "connection failed");
                let dead = was_up && matches!(failure, Failure::Timeout { .. });
                let kind = match (dead, beside) {
                    (true, false) => v1::EventType::PeerDead,
                    (true, true) => v1::EventType::IkeSaDeleted,
                    (false, _) => v1::EventType::NegotiationFailed,
                };
                self.publish(kind, &text);
            }
            _ => {
                tracing::info!(peer = %self.peer.name, reason = %text, "connection closed");
                self.publish(v1::EventType::IkeSaDeleted, &text);
            }
        }
        if matches!(reason, CloseReason::Failed(failure) if *failure != Failure::Replaced) {
            self.attempt_failed(text, id, reason.into());
        } else {
            self.ended(id, reason.into());
            self.rekeyings_end(id, Err(text.clone().into()));
            self.resolve(Wait::Down, Ok(()));
            if self.supervisor.state() == State::Waiting {
                // Nobody here begins again.
                self.resolve(Wait::Up, Err(text.into()));
            }
        }
        if self.supervisor.current().is_none() {
            self.gaps = Few::new();
            self.refresh_names_soon();
        }
    }

    /// Whether another connection is in use.
    pub(super) fn has_another(&self, id: ConnId) -> bool {
        self.supervisor.current().is_some_and(|current| current != id)
    }

    /// An attempt or a connection failed. One that began before another came up, or has made room for it, is no news of the tunnel; that it
    /// cannot be authenticated anew is, until that is tried again.
    pub(super) fn attempt_failed(&mut self, why: String, id: ConnId, how: Ended) {
        let was_up = self.conns.get(&id).is_some_and(|conn| conn.up.is_some());
        let is_news =
            self.supervisor.current().is_none_or(|current| current == id || current < id && !was_up);
        self.ended(id, how);
        if self.supervisor.current().is_none() {
            self.drop_held();
        }
        if self.supervisor.state() != State::Established {
            // Another one that is up may yet come to what it was asked for.
            self.resolve(Wait::Up, Err(why.clone().into()));
        }
        self.rekeyings_end(id, Err(why.clone().into()));
        self.resolve(Wait::Down, Ok(()));
        if is_news {
            self.view_mut().last_error = why;
        }
    }

    /// The connection's actor is gone.
    pub(super) fn connection_gone(&mut self, ctx: &mut Context<Self>, id: ConnId) {
        if !self.leaving {
            // It was up here until a moment ago, so nobody else calls back, wherever it is at home.
            self.call_back(ctx, self.is_had_elsewhere());
        }
        if let Some(mut conn) = self.conns.remove(&id) {
            conn.down = true;
        }
        self.leave(ctx);
    }

    /// A connection ends at once, and everything on it. Nobody is told.
    pub(super) fn forget_connection(&mut self, id: ConnId) {
        self.remove_children_of(id);
        let Some(mut conn) = self.conns.remove(&id) else { return };
        let was_down = std::mem::replace(&mut conn.down, true);
        deliver(&conn.addr, Vanish, &self.env.counters);
        if !was_down {
            // Of one that only lingers the end was told.
            self.ended(id, Ended::ByUs);
            self.rekeyings_end(id, Err("the connection was given up".into()));
        }
    }

    /// The pairs of a connection go.
    pub(super) fn remove_children_of(&mut self, id: ConnId) {
        let spis: Vec<u32> =
            self.children.iter().filter(|(_, c)| c.conn == id).map(|(spi, _)| *spi).collect();
        for spi in spis {
            self.child_removed(spi, Duration::ZERO, ChildEnd::IkeClosed);
        }
    }

    /// Ends the actor once the peer is to go and knows it. Connections that only linger do so by themselves.
    pub(super) fn leave(&self, ctx: &mut Context<Self>) {
        if self.leaving && !self.conns.values().any(|c| c.closing) {
            ctx.stop();
        }
    }
}

/// Algorithms as text; none where the peer has ended the IKE_SA of IKEv1 and its pairs go on.
pub(super) fn told(choice: Option<&IkeChoice>) -> String {
    choice.map(ToString::to_string).unwrap_or_default()
}

fn set_times(ike: &mut IkeView, lifetime: Option<&Lifetime>) {
    ike.rekey_due = lifetime.and_then(Lifetime::soft).map(wall);
    ike.expires = lifetime.and_then(Lifetime::hard).map(wall);
}

pub(super) fn hex(spi: u64) -> String {
    format!("{spi:016x}")
}
