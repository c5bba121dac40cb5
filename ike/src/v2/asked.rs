//! Rekeyings that the host has asked for: each ends with an [`Event::RekeyEnded`], whatever becomes of the pair, or with the
//! connection.

use std::sync::Arc;
use std::time::Instant;

use super::child::ChildState;
use super::tasks::Task;
use super::{Connection, Phase};
use crate::event::{ChildEnd, Event};
use crate::failure::Failure;
use crate::verbs::MAX_CHILDREN;

/// A pair that is to be rekeyed.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Asked {
    spi_in: u32,
    policy: Arc<str>,
    /// The peer did not know the pair, so that one is made anew.
    anew: bool,
}

impl Connection {
    /// The host asks for the rekeying of a pair.
    pub(crate) fn ask_rekey(&mut self, spi_in: u32, now: Instant) {
        if matches!(self.phase, Phase::Lingering(_) | Phase::Finished) {
            return;
        }
        match self.child(spi_in).map(|child| (child.state, child.config.name.clone())) {
            Some((ChildState::Installed, policy)) => {
                // No more than there are pairs.
                if !self.asked.iter().any(|asked| asked.spi_in == spi_in) {
                    self.asked.push(Asked { spi_in, policy, anew: false });
                }
                if !self.queue(Task::RekeyChild(spi_in), now) {
                    let full = Err(Failure::TooManyChildren(MAX_CHILDREN));
                    self.settle_asked(|asked| asked.spi_in == spi_in, &full);
                }
            }
            Some((ChildState::Replaced, _)) => self.rekey_ended(spi_in, Ok(())),
            Some((ChildState::Deleting(end), _)) => self.rekey_ended(spi_in, Err(Failure::ChildGone(end))),
            None => self.rekey_ended(spi_in, Err(Failure::ChildGone(ChildEnd::Deleted))),
        }
    }

    fn rekey_ended(&mut self, spi_in: u32, outcome: Result<(), Failure>) {
        self.events.push_back(Event::RekeyEnded { spi_in, outcome });
    }

    /// Ends the waiting for those that `ended` picks.
    fn settle_asked(&mut self, ended: impl Fn(&Asked) -> bool, outcome: &Result<(), Failure>) {
        for asked in self.asked.extract_if(.., |asked| ended(asked)) {
            let outcome = outcome.clone();
            self.events.push_back(Event::RekeyEnded { spi_in: asked.spi_in, outcome });
        }
        if self.asked.is_empty() {
            // Holds no memory while nobody waits.
            self.asked = Vec::new();
        }
    }

    /// A pair of a policy is in place, perhaps instead of another.
    pub(crate) fn asked_installed(&mut self, policy: &str, replaces: Option<u32>) {
        let made = |asked: &Asked| replaces == Some(asked.spi_in) || (asked.anew && *asked.policy == *policy);
        self.settle_asked(made, &Ok(()));
    }

    /// A pair is gone.
    pub(crate) fn asked_removed(&mut self, spi_in: u32, reason: ChildEnd, successor: bool) {
        if reason == ChildEnd::LostByPeer {
            let lost = self.asked.iter_mut().find(|asked| asked.spi_in == spi_in);
            return lost.into_iter().for_each(|asked| asked.anew = true);
        }
        let outcome = if successor { Ok(()) } else { Err(Failure::ChildGone(reason)) };
        self.settle_asked(|asked| asked.spi_in == spi_in && !asked.anew, &outcome);
    }

    /// Reports that a Child SA could not be made, to whoever asked for it as well.
    pub(crate) fn child_not_made(&mut self, policy: &Arc<str>, replaces: Option<u32>, failure: Failure) {
        self.tell_refused(policy, failure.clone());
        let failed =
            |asked: &Asked| replaces == Some(asked.spi_in) || (asked.anew && asked.policy == *policy);
        self.settle_asked(failed, &Err(failure));
    }
}
