//! A lifetime as another node takes it over: by its own clock.

use std::time::Instant;

use prost::Message;
use snapshot::{Due, Form};

use super::Lifetime;

/// How much of a [`Lifetime`] is left.
#[derive(Clone, Copy, PartialEq, Eq, Message)]
pub struct LifetimeSnapshot {
    #[prost(message, optional, tag = "1")]
    soft: Option<Due>,
    #[prost(message, optional, tag = "2")]
    hard: Option<Due>,
}

impl Form for LifetimeSnapshot {
    const OF: &'static str = "a lifetime";
    const KIND: u8 = 3;
    const VERSION: u16 = 1;
}

impl Lifetime {
    /// What is left of it.
    pub fn snapshot(&self, now: Instant) -> LifetimeSnapshot {
        let left = |at: Option<Instant>| at.map(|at| Due::new(at, now));
        LifetimeSnapshot { soft: left(self.soft), hard: left(self.hard) }
    }

    /// The rest of it, from `now` on.
    pub fn restore(snapshot: &LifetimeSnapshot, now: Instant) -> Self {
        let at = |left: Option<Due>| left.map(|left| left.at(now));
        Self { soft: at(snapshot.soft), hard: at(snapshot.hard) }
    }
}
