//! What holds of a connection after every call, whatever the peer does. Debug builds assert it, so that every test and every
//! simulated hour looks at it; a release build does not pay for it.

use std::collections::BTreeSet;

use super::ike_sa::SaState;
use super::request::Request;
use super::{Connection, MAX_IKE_SAS, Phase};
use crate::verbs::{Broken, MAX_CHILDREN};

impl Connection {
    /// Looks whether everything holds.
    ///
    /// # Errors
    /// What does not.
    pub(crate) fn check(&self) -> Result<(), Broken> {
        let broken = |what: &str| Err(Broken(format!("{what}: {self:?}")));
        // A rekeying of our own may add one to those that the peer could make.
        if self.sas.len() > MAX_IKE_SAS + 1 {
            return broken("more IKE_SAs than the bound");
        }
        if self.children.len() > MAX_CHILDREN {
            return broken("more Child SAs than the bound");
        }
        let ours: BTreeSet<u32> = self.children.iter().map(|child| child.spi_in).collect();
        if ours.len() != self.children.len() {
            return broken("two Child SAs with one SPI of ours");
        }
        let spis: BTreeSet<u64> = self.sas.iter().map(|sa| sa.spi_local).collect();
        if spis.len() != self.sas.len() {
            return broken("two IKE_SAs with one SPI of ours");
        }
        for sa in &self.sas {
            let subjects: Vec<_> = sa.exchanges.pending().map(|r| self.subject_of_request(r)).collect();
            for (at, subject) in subjects.iter().enumerate() {
                if subjects.iter().skip(at + 1).any(|other| !subject.apart(other)) {
                    return broken("two requests under way about one Child SA");
                }
            }
            let alone =
                |r: &&Request| !matches!(r, Request::Child(_) | Request::DeleteChild(_) | Request::Liveness);
            if subjects.len() > 1 && sa.exchanges.pending().any(|r| alone(&r)) {
                return broken("a request about the IKE_SA beside another");
            }
        }
        for child in &self.children {
            let of_policy = self.children.iter().filter(|other| other.config.name == child.config.name);
            if of_policy.filter(|other| other.active).count() > 1 {
                return broken("a policy sends by two pairs");
            }
        }
        match self.phase {
            // Nobody is authenticated yet, so nothing may carry packets (RFC 7296 section 1.2).
            Phase::InitSent(_) | Phase::AuthSent(_) | Phase::AwaitAuth(_) if !self.children.is_empty() => {
                broken("a Child SA before the peer is authenticated")
            }
            // No key outlives its SA.
            Phase::Lingering(_) | Phase::Finished if !self.children.is_empty() => {
                broken("a Child SA of a connection that is down")
            }
            Phase::Finished if !self.sas.is_empty() => broken("an IKE_SA of a connection that is over"),
            Phase::Up => match self.current_sa().map(|sa| sa.state) {
                None => broken("an established connection without its IKE_SA"),
                Some(SaState::Dead(_)) => broken("an established connection whose IKE_SA is dead"),
                Some(_) => Ok(()),
            },
            _ => Ok(()),
        }
    }

    /// Asserts it in debug builds.
    pub(crate) fn assert_invariants(&self) {
        debug_assert_eq!(self.check(), Ok(()));
    }
}
