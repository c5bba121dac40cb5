//! Child SAs as the connection knows them: SPIs and policy. Keys and counters live in the router.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Connection;
use super::informational::delete_esp;
use super::tasks::Task;
use crate::config::ChildConfig;
use crate::coverage::Traffic;
use crate::crypto::keys::ChildKeys;
use crate::event::{ChildEnd, ChildSa, Event, Limit};
use crate::failure::Failure;
use crate::fruit::Fruit;
use crate::host::Host;
use crate::proposal::EspChoice;
use crate::verbs::LINGER_CHILD;

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
    /// Of its own key exchange, if it had one.
    pub(crate) group: Option<u16>,
    /// The IKE_SA has ended by which the peer would have said that it has the pair. If it is not seen to use it until then, it
    /// may have none.
    pub(crate) unproved: Option<Instant>,
    /// When its quick mode began and was agreed on, as far as we have seen it.
    pub(crate) span: (Instant, Instant),
    /// The peer has it.
    pub(crate) proven: bool,
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
    pub(crate) limit: Limit,
}

impl Child {
    pub(crate) fn is_installed(&self) -> bool {
        self.state == ChildState::Installed
    }

    /// When something is due of it. One that was replaced only waits for its end.
    pub(crate) fn due(&self) -> Option<Instant> {
        match (self.state, self.usable) {
            (ChildState::Replaced(until), _) => Some(until),
            (ChildState::Installed, Use::At(at) | Use::Connected(at)) => {
                Some(self.unproved.map_or(at, |unproved| unproved.min(at)))
            }
            (ChildState::Installed, Use::Free) => self.unproved,
        }
    }

    /// The IKE_SA has ended by which its peer would have said that it has it.
    pub(crate) fn has_to_show_itself(&mut self, until: Instant) {
        if self.is_installed() && !self.active {
            self.unproved = Some(until);
        }
    }
}

impl Connection {
    /// Hands a pair to the host. It receives at once; who sends by it and when is decided by the exchange.
    pub(crate) fn install_child(&mut self, agreed: Agreed, usable: Use, span: (Instant, Instant)) {
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
            group: agreed.choice.group,
            unproved: None,
            span,
            proven: false,
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

    /// The peer has not shown that it has a pair which it has asked for, so it has none. If it has, it is told; and where
    /// there is no other of the policy, one is made.
    pub(crate) fn remove_unproved(&mut self, now: Instant, host: &mut dyn Host, spi_in: u32) {
        let Some(child) = self.child(spi_in).filter(|child| !child.active) else { return };
        let name = child.config.name.clone();
        if let Some(spi) = self.telling_sa().map(|sa| sa.spi_local) {
            self.inform(host, spi, vec![delete_esp(spi_in)]);
        }
        self.remove_child(spi_in, ChildEnd::LostByPeer);
        if self.children.iter().any(|child| child.config.name == name) {
            self.asked_installed(&name, None);
        } else if !self.queue(Task::CreateChild(name.clone()), now) {
            self.asked_not_made(&name, Failure::ChildGone(ChildEnd::LostByPeer));
        }
    }

    /// A packet arrived: the peer has the pair installed, so it can take what we send by it.
    pub(crate) fn inbound_seen(&mut self, now: Instant, spi_in: u32) {
        if self.child(spi_in).is_some_and(Child::is_installed) {
            self.activate(now, spi_in);
        }
    }

    /// Removes a pair. If it was the sending one, another pair of its policy takes over first.
    pub(crate) fn remove_child(&mut self, spi_in: u32, reason: ChildEnd) {
        let Some(at) = self.children.iter().position(|c| c.spi_in == spi_in) else { return };
        let removed = self.children.remove(at);
        self.gaps_changed = true;
        self.forget_tasks(spi_in);
        let name = &removed.config.name;
        let mut left = self.children.iter_mut().rev().filter(|c| c.config.name == *name);
        let successor = left.find(|c| c.is_installed()).map(|c| {
            if removed.active {
                // There is nothing to go on by until it may be used.
                c.usable = Use::Free;
            }
            c.spi_in
        });
        // One that was replaced serves as long as it is there.
        let makeshift = || self.children.iter().rev().find(|c| c.config.name == *name).map(|c| c.spi_in);
        if let (true, Some(spi)) = (removed.active, successor.or_else(makeshift)) {
            for child in self.children.iter_mut().filter(|c| c.config.name == *name) {
                child.active = child.spi_in == spi;
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
