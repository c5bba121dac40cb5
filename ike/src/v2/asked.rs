//! Rekeyings that the host has asked for.

use std::sync::Arc;
use std::time::Instant;

use super::child::ChildState;
use super::tasks::Task;
use super::{Connection, Phase};
use crate::asked::ended;
use crate::event::ChildEnd;
use crate::failure::Failure;
use crate::resources::resource_of;
use crate::verbs::MAX_CHILDREN;

impl Connection {
    /// The host asks for the rekeying of a pair.
    pub(crate) fn ask_rekey(&mut self, spi_in: u32, now: Instant) {
        if matches!(self.phase, Phase::Lingering(_) | Phase::Finished) {
            return;
        }
        match self.child(spi_in).map(|child| (child.state, child.config.name.clone())) {
            Some((ChildState::Installed, policy)) => {
                self.asked.add(spi_in, policy);
                if !self.order(Task::RekeyChild(spi_in), now) {
                    self.asked.refused(&mut self.events, spi_in, Failure::TooManyChildren(MAX_CHILDREN));
                }
            }
            Some((ChildState::Replaced, _)) => ended(&mut self.events, spi_in, Ok(())),
            Some((ChildState::Deleting(end), _)) => {
                ended(&mut self.events, spi_in, Err(Failure::ChildGone(end)));
            }
            None => ended(&mut self.events, spi_in, Err(Failure::ChildGone(ChildEnd::Deleted))),
        }
    }

    /// A pair of a policy is in place, perhaps instead of another.
    pub(crate) fn asked_installed(&mut self, policy: &str, replaces: Option<u32>) {
        self.asked.installed(&mut self.events, policy, replaces);
    }

    /// One that was to be made in place of a pair that the peer has lost is not.
    pub(crate) fn asked_not_made(&mut self, policy: &Arc<str>, failure: Failure) {
        self.asked.not_made(&mut self.events, policy, None, failure);
    }

    /// A pair is gone.
    pub(crate) fn asked_removed(&mut self, spi_in: u32, reason: ChildEnd, successor: bool) {
        self.asked.removed(&mut self.events, spi_in, reason, successor);
    }

    /// Reports that a Child SA could not be made, to whoever asked for it as well.
    pub(crate) fn child_not_made(&mut self, policy: &Arc<str>, replaces: Option<u32>, failure: Failure) {
        // Of one that is not there yet nothing is missing where the policy has its pair.
        match resource_of(policy) {
            (of, 1..) if replaces.is_none() => self.no_more_resources(of),
            _ => self.tell_refused(policy, failure.clone()),
        }
        self.asked.not_made(&mut self.events, policy, replaces, failure);
    }
}
