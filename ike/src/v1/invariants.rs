//! What holds of a connection after every call, whatever the peer does. Debug builds assert it, so that every test and every
//! simulated hour looks at it; a release build does not pay for it.

use std::collections::BTreeSet;

use super::handshake::Step;
use super::{Connection, MAX_IKE_SAS, MAX_QUICK, Phase};
use crate::verbs::{Broken, MAX_CHILDREN};

impl Connection {
    /// Looks whether everything holds.
    ///
    /// # Errors
    /// What does not.
    pub(crate) fn check(&self) -> Result<(), Broken> {
        let broken = |what: &str| Err(Broken(format!("{what}: {self:?}")));
        if self.sas.len() > MAX_IKE_SAS {
            return broken("more IKE_SAs than the bound");
        }
        if self.children.len() > MAX_CHILDREN || self.quick.len() > MAX_QUICK {
            return broken("more Child SAs or quick modes than the bound");
        }
        let ours: BTreeSet<u32> = self.children.iter().map(|child| child.spi_in).collect();
        if ours.len() != self.children.len() {
            return broken("two Child SAs with one SPI of ours");
        }
        let spis: BTreeSet<u64> = self.local_spis().into_iter().collect();
        if spis.len() != self.local_spis().len() {
            return broken("two IKE_SAs with one SPI of ours");
        }
        let exchanges: BTreeSet<(u64, u32)> = self.quick.iter().map(|quick| (quick.ike, quick.id)).collect();
        if exchanges.len() != self.quick.len() {
            return broken("two quick modes with one Message ID");
        }
        if self.quick.iter().any(|quick| self.sa(quick.ike).is_none()) {
            return broken("a quick mode on an IKE_SA that is gone");
        }
        for child in &self.children {
            let of_policy = self.children.iter().filter(|other| other.config.name == child.config.name);
            if of_policy.filter(|other| other.active).count() > 1 {
                return broken("a policy sends by two pairs");
            }
        }
        if self.handshake.as_ref().is_some_and(|h| matches!(h.step, Step::Taken)) {
            return broken("a phase 1 that waits for nothing");
        }
        match self.phase {
            // Nobody is authenticated yet, so nothing may carry packets.
            Phase::Handshake
                if !self.children.is_empty() || !self.sas.is_empty() || !self.quick.is_empty() =>
            {
                broken("phase 2 before phase 1 is done")
            }
            Phase::Handshake if self.handshake.is_none() => broken("a connection that does not come up"),
            Phase::Up if self.config.is_none() => broken("an established connection with nobody"),
            Phase::Finished
                if !self.children.is_empty() || !self.sas.is_empty() || self.handshake.is_some() =>
            {
                broken("something of a connection that is over")
            }
            _ => Ok(()),
        }
    }

    /// Asserts it in debug builds.
    pub(crate) fn assert_invariants(&self) {
        debug_assert_eq!(self.check(), Ok(()));
    }
}
