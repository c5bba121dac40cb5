//! Child SAs as the connection knows them: SPIs and policy. Keys and counters live in the router.

use std::sync::Arc;
use std::time::Duration;

use super::Connection;
use super::tasks::Task;
use crate::config::ChildConfig;
use crate::coverage::Traffic;
use crate::crypto::CryptoError;
use crate::crypto::keys;
use crate::crypto::prf::Prf;
use crate::event::{ChildEnd, ChildSa, Event, Limit};
use crate::fruit::Fruit;
use crate::proposal::EspChoice;
use crate::verbs::LINGER_CHILD;
use crate::wire::ts::TrafficSelector;

/// Where a Child SA is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum ChildState {
    /// In place.
    Installed,
    /// Another one took its place; its delete is owed by one of the sides.
    Replaced,
    /// Our delete is under way.
    Deleting(ChildEnd),
}

/// One pair of ESP SAs.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Child {
    pub(crate) config: Arc<ChildConfig>,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) state: ChildState,
    /// Of its own key exchange, if it had one.
    pub(crate) group: Option<u16>,
    /// The router sends by this pair.
    pub(crate) active: bool,
    /// What it carries, if that is less than its policy.
    pub(crate) narrowed: Option<Box<Traffic>>,
}

/// What an exchange agreed on, before the keys are made.
pub(crate) struct Agreed<'a> {
    pub(crate) config: Arc<ChildConfig>,
    pub(crate) spi_in: u32,
    pub(crate) spi_out: u32,
    pub(crate) choice: EspChoice,
    pub(crate) shared: Option<&'a [u8]>,
    /// Nonces of the initiator and the responder of the exchange.
    pub(crate) nonces: (&'a [u8], &'a [u8]),
    pub(crate) local_ts: Vec<TrafficSelector>,
    pub(crate) remote_ts: Vec<TrafficSelector>,
    pub(crate) replaces: Option<u32>,
    /// We started the exchange.
    pub(crate) initiated: bool,
    /// The peer takes packets with padding against traffic analysis.
    pub(crate) tfc: bool,
}

impl Connection {
    /// Makes the keys of a Child SA and hands it to the host. It receives at once; who sends by it and when is the
    /// caller's decision.
    pub(crate) fn install_child(
        &mut self,
        prf: Prf,
        sk_d: &[u8],
        agreed: Agreed<'_>,
    ) -> Result<(), CryptoError> {
        let (ni, nr) = agreed.nonces;
        let keys = keys::child(prf, sk_d, &agreed.choice, agreed.shared, ni, nr)?;
        let (keys_out, keys_in) = if agreed.initiated {
            (keys.initiator, keys.responder)
        } else {
            (keys.responder, keys.initiator)
        };
        let (mut local, mut remote) = self.addresses();
        let encapsulated = self.encapsulates();
        if encapsulated {
            // Also where IKE has stayed on its own port.
            local.set_port(self.path.local_natt);
            remote.set_port(self.path.remote_natt);
        }
        let traffic = Traffic { local: agreed.local_ts.clone(), remote: agreed.remote_ts.clone() };
        let whole = traffic.contains(&Traffic::of(&agreed.config));
        self.note_part(&agreed.config, &traffic);
        self.note_resource(&agreed.config);
        self.note_resources(&agreed.config, agreed.initiated);
        self.gaps_changed = true;
        self.fruit = Fruit::Some;
        self.children.push(Child {
            config: agreed.config.clone(),
            spi_in: agreed.spi_in,
            spi_out: agreed.spi_out,
            state: ChildState::Installed,
            group: agreed.choice.group,
            active: false,
            narrowed: (!whole).then(|| Box::new(traffic)),
        });
        if agreed.replaces.is_some() {
            self.counters.child_rekeys += 1;
        }
        let (policy, replaces) = (agreed.config.name.clone(), agreed.replaces);
        self.events.push_back(Event::InstallChild(Box::new(ChildSa {
            name: agreed.config.name.clone(),
            spi_in: agreed.spi_in,
            spi_out: agreed.spi_out,
            choice: agreed.choice,
            keys_in,
            keys_out,
            local_ts: agreed.local_ts,
            remote_ts: agreed.remote_ts,
            mode: agreed.config.mode,
            local,
            remote,
            encapsulated,
            tfc: agreed.tfc,
            replaces: agreed.replaces,
            initiated: agreed.initiated,
            limit: Limit::default(),
        })));
        self.asked_installed(&policy, replaces);
        Ok(())
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

    /// Sends the policy's traffic by this pair from now on.
    pub(crate) fn activate(&mut self, spi_in: u32) {
        let Some(name) = self.child(spi_in).filter(|c| !c.active).map(|c| c.config.name.clone()) else {
            return;
        };
        for child in self.children.iter_mut().filter(|c| c.config.name == name) {
            child.active = child.spi_in == spi_in;
        }
        self.events.push_back(Event::ActivateChild { spi_in });
    }

    /// Whether another pair of the policy carries what this one could: it came by an exchange that knew nothing of this one,
    /// and this one is not worth a successor.
    pub(crate) fn is_superfluous(&self, spi_in: u32) -> bool {
        let idle = |c: &&Child| c.state == ChildState::Installed && !c.active;
        self.child(spi_in).filter(idle).is_some_and(|child| {
            let same = |c: &&Child| c.config.name == child.config.name && c.state == ChildState::Installed;
            self.children.iter().filter(same).any(|c| c.active)
        })
    }

    /// Another pair of the policy is sent by, instead of this one, if there is one. A peer that made it and has not been seen
    /// to use it has had the time to put it in place.
    pub(crate) fn step_aside(&mut self, spi_in: u32) -> bool {
        let Some(child) = self.child(spi_in) else { return false };
        let successor = |c: &&Child| c.config.name == child.config.name && c.state == ChildState::Installed;
        match self.children.iter().rev().find(successor).map(|c| c.spi_in) {
            _ if !child.active => true,
            Some(successor) => {
                self.activate(successor);
                true
            }
            // Nothing would be left: it stays until its own lifetime ends.
            None => false,
        }
    }

    /// A packet arrived: the peer has the pair installed, so it can take what we send by it.
    pub(crate) fn inbound_seen(&mut self, spi_in: u32) {
        if self.child(spi_in).is_some_and(|c| c.state == ChildState::Installed) {
            self.activate(spi_in);
        }
    }

    /// Removes a pair. If it was the sending one, another pair of its policy takes over first; be it the one that it had replaced.
    pub(crate) fn remove_child(&mut self, spi_in: u32, reason: ChildEnd) {
        let Some(at) = self.children.iter().position(|c| c.spi_in == spi_in) else { return };
        let removed = self.children.remove(at);
        self.gaps_changed = true;
        self.forget_tasks(spi_in);
        let name = &removed.config.name;
        let successor =
            self.children.iter().rev().find(|c| c.config.name == *name && c.state == ChildState::Installed);
        let successor = successor.map(|c| c.spi_in);
        // A peer that has lost the pair may have lost the one before as well.
        let lost = reason == ChildEnd::LostByPeer;
        let heir = successor.or_else(|| if lost { None } else { self.reinstate(&removed.config.name) });
        if let (true, Some(spi)) = (removed.active, heir) {
            self.activate(spi);
        }
        // A pair that was there before is no successor.
        self.asked_removed(spi_in, reason, successor.is_some());
        let linger = match reason {
            // Packets the peer sent before it switched over may still be under way.
            ChildEnd::Rekeyed | ChildEnd::Redundant => LINGER_CHILD,
            _ => Duration::ZERO,
        };
        self.events.push_back(Event::RemoveChild { spi_in, linger, reason });
    }

    /// The pair that took the place of another is gone, and there is none besides: the one before is the policy's again, unless we
    /// delete it. A peer that cannot use the new one takes that away and keeps the old one, to rekey it once more; if it deletes both,
    /// that comes all the same.
    fn reinstate(&mut self, policy: &str) -> Option<u32> {
        let deleted = |spi: u32| {
            self.planned().any(|task| matches!(*task, Task::DeleteChild(planned, _) if planned == spi))
        };
        let replaced =
            |c: &&Child| *c.config.name == *policy && c.state == ChildState::Replaced && !deleted(c.spi_in);
        let spi_in = self.children.iter().rev().find(replaced).map(|c| c.spi_in)?;
        self.child_mut(spi_in)?.state = ChildState::Installed;
        // The peer owes no delete of it any more.
        self.forget_owed(spi_in);
        Some(spi_in)
    }

    pub(crate) fn remove_all_children(&mut self, reason: ChildEnd) {
        self.gaps = Vec::new();
        for child in std::mem::take(&mut self.children) {
            self.events.push_back(Event::RemoveChild {
                spi_in: child.spi_in,
                linger: Duration::ZERO,
                reason,
            });
        }
    }
}
