//! Child SAs as the connection knows them: SPIs and policy. Keys and counters live in the router.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Connection;
use super::tasks::Task;
use crate::config::ChildConfig;
use crate::coverage::Traffic;
use crate::crypto::keys::ChildKeys;
use crate::event::{ChildEnd, ChildSa, Event, Limit};
use crate::fruit::Fruit;
use crate::proposal::EspChoice;
use crate::verbs::LINGER_CHILD;

/// How long a pair that we have renewed goes on receiving before we delete it: what the peer sent by it has arrived, and the
/// third message of the quick mode, which nobody acknowledges, has been asked for again if it was lost.
const REPLACED_BY_US: Duration = Duration::from_secs(10);
/// The same for one that the peer has renewed and should delete itself. Some keep it until its lifetime ends.
const REPLACED_BY_PEER: Duration = Duration::from_secs(180);
/// The same for one of two that both sides made at the same time.
const REDUNDANT: Duration = Duration::from_secs(10);
/// When a pair is renewed that serves again because the one that had taken its place is gone: a peer that deletes them all, one
/// by one, has done so by then.
const REVIVED: Duration = Duration::from_secs(2);
/// When a pair that takes another's place is sent by, unless the peer is seen to use it before: until then the peer, which
/// has it only with our third message, would have asked for that again. The other one carries the packets meanwhile.
const PEER_HAS_IT: Duration = Duration::from_secs(3);
/// The same for a pair that is the first of its policy, for which packets wait. Our third message is ahead of them.
const FIRST_PAIR: Duration = Duration::from_millis(50);

/// Where a Child SA is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildState {
    /// In place.
    Installed,
    /// Another one took its place. We delete it at that time.
    Replaced(Instant),
}

/// When the policy's packets go by a pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Use {
    /// They do, or another pair is the one.
    Free,
    /// Once the peer shows that it has the pair.
    Unproved,
    /// From then on, unless the peer is seen to use it before.
    At(Instant),
    /// When the peer says CONNECTED (RFC 2408 section 3.1), or is seen to use it. It says so soon after the exchange, or not.
    Connected(Instant),
}

/// One pair of ESP SAs.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Child {
    pub(crate) config: Arc<ChildConfig>,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) state: ChildState,
    /// The router sends by this pair.
    pub(crate) active: bool,
    pub(crate) usable: Use,
    /// We have started the quick mode that made it.
    pub(crate) initiated: bool,
    /// When that was started, or arrived.
    pub(crate) since: Instant,
    /// When it was there.
    pub(crate) made: Instant,
    /// Of its own key exchange, if it had one.
    pub(crate) group: Option<u16>,
}

/// What a quick mode agreed on, with its keys.
pub(crate) struct Agreed {
    pub(crate) config: Arc<ChildConfig>,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) choice: EspChoice,
    pub(crate) keys: ChildKeys,
    pub(crate) traffic: Traffic,
    pub(crate) initiated: bool,
    /// When that was started, or arrived.
    pub(crate) since: Instant,
    pub(crate) limit: Limit,
}

impl Child {
    /// What both sides order two pairs of one policy by that neither of them knew to be two: the same on either side, whichever
    /// SPI is whose.
    fn rank(&self) -> (u32, u32) {
        (self.spi_in.max(self.spi_out), self.spi_in.min(self.spi_out))
    }

    /// Whether both were made at the same time, each by another side: the peer's came while ours was under way.
    fn crosses(&self, other: &Self) -> bool {
        let (ours, theirs) = if self.initiated { (self, other) } else { (other, self) };
        let meet = ours.since <= theirs.made && theirs.made <= ours.made;
        meet && self.initiated != other.initiated && self.config.name == other.config.name
    }

    pub(crate) fn is_installed(&self) -> bool {
        self.state == ChildState::Installed
    }
}

impl Connection {
    /// Whether a pair of its policy was made after it that may take its place: then it is not for us to make another.
    pub(crate) fn has_newer(&self, child: &Child) -> bool {
        let after = self.children.iter().rev().take_while(|c| c.spi_in != child.spi_in);
        let may = |c: &&Child| c.usable != Use::Unproved || self.is_awaited(c.spi_in);
        after.into_iter().filter(may).any(|c| c.config.name == child.config.name && c.is_installed())
    }

    /// Hands a pair to the host. It receives at once; who sends by it and when is decided by the exchange.
    pub(crate) fn install_child(&mut self, now: Instant, agreed: Agreed, usable: Use) {
        let (keys_out, keys_in) = if agreed.initiated {
            (agreed.keys.initiator, agreed.keys.responder)
        } else {
            (agreed.keys.responder, agreed.keys.initiator)
        };
        let (mut local, mut remote) = self.addresses();
        let encapsulated = self.encapsulates();
        if encapsulated {
            // Also where IKE has stayed on its own port.
            local.set_port(self.path.local_natt);
            remote.set_port(self.path.remote_natt);
        }
        let name = agreed.config.name.clone();
        let older = |c: &&Child| c.config.name == name && c.is_installed();
        let replaces = self.children.iter().rev().find(older).map(|c| c.spi_in);
        self.gaps_changed = true;
        self.fruit = Fruit::Some;
        self.children.push(Child {
            config: agreed.config,
            spi_in: agreed.spi_in,
            spi_out: agreed.spi_out,
            state: ChildState::Installed,
            active: false,
            usable,
            initiated: agreed.initiated,
            since: agreed.since,
            made: now,
            group: agreed.choice.group,
        });
        if replaces.is_some() {
            self.counters.child_rekeys += 1;
        }
        self.events.push_back(Event::InstallChild(Box::new(ChildSa {
            name: name.clone(),
            spi_in: agreed.spi_in,
            spi_out: agreed.spi_out,
            choice: agreed.choice,
            keys_in,
            keys_out,
            local_ts: agreed.traffic.local,
            remote_ts: agreed.traffic.remote,
            mode: self.child(agreed.spi_in).map(|c| c.config.mode).unwrap_or_default(),
            local,
            remote,
            encapsulated,
            // Nobody asks in IKEv1, and dummies and padding are for those who have said that they take them.
            tfc: false,
            replaces,
            initiated: agreed.initiated,
            limit: agreed.limit,
        })));
        self.asked_installed(&name, replaces);
    }

    /// When a pair of ours may be sent by that the peer has once our last message arrives, which took so long one way and back.
    pub(crate) fn usable_after(&self, policy: &str, now: Instant, round_trip: Duration, commit: bool) -> Use {
        let carried = self.children.iter().any(|c| &*c.config.name == policy && c.active);
        let wait = if carried { PEER_HAS_IT } else { FIRST_PAIR };
        let at = now + wait.max(round_trip.min(PEER_HAS_IT));
        if commit { Use::Connected(now + 2 * PEER_HAS_IT) } else { Use::At(at) }
    }

    pub(crate) fn child(&self, spi_in: u32) -> Option<&Child> {
        self.children.iter().find(|c| c.spi_in == spi_in)
    }

    pub(crate) fn child_mut(&mut self, spi_in: u32) -> Option<&mut Child> {
        self.children.iter_mut().find(|c| c.spi_in == spi_in)
    }

    /// The pair the peer knows by its own inbound SPI.
    pub(crate) fn child_by_peer(&self, spi_out: u32) -> Option<&Child> {
        self.children.iter().find(|c| c.spi_out == spi_out)
    }

    /// Sends the policy's traffic by this pair from now on, for the peer has it. What it takes the place of goes, after a while.
    pub(crate) fn activate(&mut self, now: Instant, spi_in: u32) {
        let Some(child) = self.child_mut(spi_in) else { return };
        child.usable = Use::Free;
        if child.active || !child.is_installed() {
            return;
        }
        let name = child.config.name.clone();
        if let Some(kept) = self.kept_instead(spi_in) {
            return self.replaced_by(now, spi_in, kept);
        }
        let Some(this) = self.child(spi_in) else { return };
        let before = self.children.iter().take_while(|c| c.spi_in != spi_in);
        // One that crosses it is decided on once the peer is known to have that too.
        let older = before.filter(|c| !c.crosses(this));
        let rivals = self.children.iter().filter(|c| c.crosses(this) && c.usable == Use::Free);
        let of_policy = |c: &&Child| c.config.name == name;
        let over: Vec<u32> = older.chain(rivals).filter(of_policy).map(|c| c.spi_in).collect();
        for child in self.children.iter_mut().filter(|c| c.config.name == name) {
            child.active = child.spi_in == spi_in;
        }
        self.events.push_back(Event::ActivateChild { spi_in });
        for old in over {
            self.replaced_by(now, old, spi_in);
        }
    }

    /// The pair of its policy that is kept instead of this one, if there is one: one that was made after it and is sent by
    /// already, or of two that crossed the one that both sides keep.
    fn kept_instead(&self, spi_in: u32) -> Option<u32> {
        let this = self.child(spi_in)?;
        let of_policy = |c: &&Child| c.config.name == this.config.name && c.is_installed();
        let wins = |c: &&Child| c.usable == Use::Free && c.crosses(this) && c.rank() > this.rank();
        let crossed = self.children.iter().filter(of_policy).filter(wins).max_by_key(|c| c.rank());
        let after = self.children.iter().rev().take_while(|c| c.spi_in != spi_in);
        let newer = after.filter(of_policy).find(|c| c.active && !c.crosses(this));
        crossed.or(newer).map(|c| c.spi_in)
    }

    /// A pair has no use any more where another is. Who has made the one that is kept deletes what was before it, and each
    /// side its own of two that crossed.
    fn replaced_by(&mut self, now: Instant, spi_in: u32, kept: u32) {
        let (Some(old), Some(new)) = (self.child(spi_in), self.child(kept)) else { return };
        let stays = match old.crosses(new) {
            true if old.initiated => REDUNDANT,
            false if new.initiated => REPLACED_BY_US,
            _ => REPLACED_BY_PEER,
        };
        self.replace(spi_in, now + stays);
    }

    /// Another pair has taken its place, or what has done so gave place to another: the sooner of two ends counts.
    fn replace(&mut self, spi_in: u32, until: Instant) {
        if let Some(child) = self.child_mut(spi_in) {
            child.state = match child.state {
                ChildState::Replaced(before) => ChildState::Replaced(before.min(until)),
                ChildState::Installed => ChildState::Replaced(until),
            };
            child.usable = Use::Free;
        }
        self.forget_tasks(spi_in);
    }

    /// A packet arrived: the peer has the pair installed, so it can take what we send by it.
    pub(crate) fn inbound_seen(&mut self, now: Instant, spi_in: u32) {
        if self.child(spi_in).is_some_and(Child::is_installed) {
            self.activate(now, spi_in);
        }
    }

    /// Removes a pair. If it was the sending one, another pair of its policy takes over first.
    pub(crate) fn remove_child(&mut self, now: Instant, spi_in: u32, reason: ChildEnd) {
        let Some(at) = self.children.iter().position(|c| c.spi_in == spi_in) else { return };
        let removed = self.children.remove(at);
        self.gaps_changed = true;
        self.forget_tasks(spi_in);
        let name = &removed.config.name;
        let left = || self.children.iter().rev().filter(|c| c.config.name == *name && c.is_installed());
        let proved = left().find(|c| c.usable != Use::Unproved);
        let successor = proved.or_else(|| left().next()).map(|c| c.spi_in);
        // One that it has taken the place of serves again, until there is another.
        let mut left = self.children.iter_mut().rev().filter(|c| c.config.name == *name);
        let revived = left.next().filter(|_| successor.is_none()).map(|c| {
            c.state = ChildState::Installed;
            c.spi_in
        });
        if let Some(spi) = revived {
            self.queue_at(Task::RekeyChild(spi), now + REVIVED);
        }
        let successor = successor.or(revived);
        if let (true, Some(spi)) = (removed.active, successor) {
            for child in self.children.iter_mut().filter(|c| c.config.name == *name) {
                child.active = child.spi_in == spi;
                if child.active && child.usable != Use::Unproved {
                    child.usable = Use::Free;
                }
            }
            self.events.push_back(Event::ActivateChild { spi_in: spi });
        }
        self.asked_removed(spi_in, reason, successor.is_some());
        let linger = match (removed.state, reason) {
            // Packets the peer sent before it switched over may still be under way.
            (ChildState::Replaced(_), _) | (_, ChildEnd::Rekeyed | ChildEnd::Redundant) => LINGER_CHILD,
            _ => Duration::ZERO,
        };
        self.events.push_back(Event::RemoveChild { spi_in, linger, reason });
    }

    pub(crate) fn remove_all_children(&mut self, reason: ChildEnd) {
        self.gaps = Vec::new();
        for child in std::mem::take(&mut self.children) {
            let spi_in = child.spi_in;
            self.events.push_back(Event::RemoveChild { spi_in, linger: Duration::ZERO, reason });
        }
    }

    /// Why a pair that was to be deleted ends, to the host.
    pub(crate) fn end_of(&self, spi_in: u32, reason: ChildEnd) -> ChildEnd {
        match self.child(spi_in).map(|c| c.state) {
            Some(ChildState::Replaced(_)) => ChildEnd::Rekeyed,
            _ => reason,
        }
    }
}
