//! Rekeyings that the host has asked for: each ends with an [`Event::RekeyEnded`], whatever becomes of the pair, or with the
//! connection.

mod snapshot;

use std::collections::VecDeque;
use std::sync::Arc;

use crate::event::{ChildEnd, Event};
use crate::failure::Failure;

pub(crate) use snapshot::AskedForm;

/// A pair that is to be rekeyed.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
struct Asked {
    spi_in: u32,
    policy: Arc<str>,
    /// The peer did not know the pair, so that one is made anew.
    anew: bool,
}

/// Those that the host waits for: no more than there are pairs.
#[derive(Debug, Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Rekeyings(Vec<Asked>);

/// Tells what became of a rekeying.
pub(crate) fn ended(events: &mut VecDeque<Event>, spi_in: u32, outcome: Result<(), Failure>) {
    events.push_back(Event::RekeyEnded { spi_in, outcome });
}

impl Rekeyings {
    /// The host waits for one.
    pub(crate) fn add(&mut self, spi_in: u32, policy: Arc<str>) {
        if !self.0.iter().any(|asked| asked.spi_in == spi_in) {
            self.0.push(Asked { spi_in, policy, anew: false });
        }
    }

    /// Ends the waiting for those that `over` picks.
    fn settle(
        &mut self,
        events: &mut VecDeque<Event>,
        over: impl Fn(&Asked) -> bool,
        outcome: &Result<(), Failure>,
    ) {
        for asked in self.0.extract_if(.., |asked| over(asked)) {
            ended(events, asked.spi_in, outcome.clone());
        }
        if self.0.is_empty() {
            // Holds no memory while nobody waits.
            self.0 = Vec::new();
        }
    }

    /// One cannot be tried.
    pub(crate) fn refused(&mut self, events: &mut VecDeque<Event>, spi_in: u32, failure: Failure) {
        self.settle(events, |asked| asked.spi_in == spi_in, &Err(failure));
    }

    /// A pair of a policy is in place, perhaps instead of another.
    pub(crate) fn installed(&mut self, events: &mut VecDeque<Event>, policy: &str, replaces: Option<u32>) {
        let made = |asked: &Asked| replaces == Some(asked.spi_in) || (asked.anew && *asked.policy == *policy);
        self.settle(events, made, &Ok(()));
    }

    /// A pair is gone.
    pub(crate) fn removed(
        &mut self,
        events: &mut VecDeque<Event>,
        spi_in: u32,
        reason: ChildEnd,
        successor: bool,
    ) {
        if reason == ChildEnd::LostByPeer {
            let lost = self.0.iter_mut().find(|asked| asked.spi_in == spi_in);
            return lost.into_iter().for_each(|asked| asked.anew = true);
        }
        let outcome = if successor { Ok(()) } else { Err(Failure::ChildGone(reason)) };
        self.settle(events, |asked| asked.spi_in == spi_in && !asked.anew, &outcome);
    }

    /// A pair could not be made.
    pub(crate) fn not_made(
        &mut self,
        events: &mut VecDeque<Event>,
        policy: &Arc<str>,
        replaces: Option<u32>,
        failure: Failure,
    ) {
        let failed =
            |asked: &Asked| replaces == Some(asked.spi_in) || (asked.anew && asked.policy == *policy);
        self.settle(events, failed, &Err(failure));
    }
}
