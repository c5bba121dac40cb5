//! The last negotiations of a peer, and those that were refused before it was known whose they were: what `explain`
//! tells.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use culvert_proto::v1;
use ike::Failure;
use ike::explain::explain;

/// Negotiations kept for each peer: enough to see whether it is always the same.
const KEPT: usize = 6;
/// Steps kept for each; a long-lived connection keeps its first and its last ones.
const STEPS: usize = 24;
/// Refused negotiations of nobody in particular that are kept. An attacker pushes others out of this list, not more.
const STRANGERS: usize = 128;

/// One negotiation.
#[derive(Clone, Debug)]
pub(crate) struct Attempt {
    conn: u64,
    start: SystemTime,
    initiated: bool,
    pub(crate) remote: Option<SocketAddr>,
    steps: VecDeque<(SystemTime, String)>,
    /// Boxed: most have none.
    failure: Option<Box<Failure>>,
}

/// The negotiations of one peer.
#[derive(Clone, Debug, Default)]
pub(crate) struct History(VecDeque<Attempt>);

impl History {
    /// A negotiation begins.
    pub(crate) fn begin(&mut self, conn: u64, initiated: bool, remote: Option<SocketAddr>) {
        if self.0.len() == KEPT {
            self.0.pop_front();
        }
        let steps = VecDeque::new();
        self.0.push_back(Attempt { conn, start: SystemTime::now(), initiated, remote, steps, failure: None });
    }

    /// Something happened in it.
    pub(crate) fn step(&mut self, conn: u64, text: impl Into<String>) {
        if let Some(attempt) = self.0.iter_mut().rev().find(|a| a.conn == conn) {
            if attempt.steps.len() == STEPS {
                attempt.steps.remove(STEPS / 2);
            }
            attempt.steps.push_back((SystemTime::now(), text.into()));
        }
    }

    /// It failed, or something in it did.
    pub(crate) fn failed(&mut self, conn: u64, failure: &Failure) {
        self.step(conn, failure.to_string());
        if let Some(attempt) = self.0.iter_mut().rev().find(|a| a.conn == conn) {
            attempt.failure = Some(Box::new(failure.clone()));
        }
    }

    /// All is well again: what failed before is history.
    pub(crate) fn recovered(&mut self, conn: u64) {
        if let Some(attempt) = self.0.iter_mut().rev().find(|a| a.conn == conn) {
            attempt.failure = None;
        }
    }

    /// As the API tells it.
    pub(crate) fn attempts(&self) -> Vec<v1::Attempt> {
        self.0.iter().map(Attempt::to_proto).collect()
    }
}

impl Attempt {
    fn to_proto(&self) -> v1::Attempt {
        let step = |(time, text): &(SystemTime, String)| v1::AttemptStep {
            time: Some((*time).into()),
            text: text.clone(),
        };
        v1::Attempt {
            start_time: Some(self.start.into()),
            initiated: self.initiated,
            remote_address: self.remote.map(|r| r.to_string()).unwrap_or_default(),
            unidentified: false,
            steps: self.steps.iter().map(step).collect(),
            cause: self.failure.as_deref().map(cause),
        }
    }
}

fn cause(failure: &Failure) -> v1::AttemptCause {
    let cause = explain(failure);
    v1::AttemptCause { kind: cause.kind.to_owned(), summary: cause.summary, advice: cause.advice }
}

/// Negotiations that were refused before anybody knew whose they were.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<VecDeque<(SystemTime, SocketAddr, Failure)>>);

impl Strangers {
    /// One more.
    pub(crate) fn note(&self, remote: SocketAddr, failure: &Failure) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        // The same again and again, as a peer that keeps trying makes it, is one entry.
        all.retain(|(_, from, what)| (from.ip(), what) != (remote.ip(), failure));
        if all.len() == STRANGERS {
            all.pop_front();
        }
        all.push_back((SystemTime::now(), remote, failure.clone()));
    }

    /// Those that may be of the peer that `fits` describes.
    pub(crate) fn attempts(&self, fits: impl Fn(&SocketAddr, &Failure) -> bool) -> Vec<v1::Attempt> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = |(time, remote, failure): &(SystemTime, SocketAddr, Failure)| v1::Attempt {
            start_time: Some((*time).into()),
            initiated: false,
            remote_address: remote.to_string(),
            unidentified: true,
            steps: Vec::new(),
            cause: Some(cause(failure)),
        };
        all.iter().filter(|(_, remote, failure)| fits(remote, failure)).map(attempt).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_negotiations_are_kept_with_their_steps() {
        let mut history = History::default();
        for conn in 0..10 {
            history.begin(conn, true, None);
            for n in 0..100 {
                history.step(conn, format!("step {n}"));
            }
            history.failed(conn, &Failure::NoSpi);
        }
        history.recovered(9);
        let attempts = history.attempts();
        assert_eq!(attempts.len(), KEPT);
        assert_eq!(attempts[0].steps.len(), STEPS);
        assert_eq!(attempts[0].steps[0].text, "step 0");
        assert_eq!(attempts[0].cause.as_ref().unwrap().kind, "resources");
        assert!(attempts[KEPT - 1].cause.is_none());
    }

    #[test]
    fn strangers_are_bounded_and_repetitions_are_one() {
        let strangers = Strangers::default();
        for n in 0..300u16 {
            strangers.note(SocketAddr::from(([192, 0, 2, 1], n)), &Failure::NoSpi);
        }
        assert_eq!(strangers.attempts(|_, _| true).len(), 1);
        for n in 0..=255u8 {
            strangers.note(SocketAddr::from(([192, 0, 2, n], 1)), &Failure::NoSpi);
        }
        assert_eq!(strangers.attempts(|_, _| true).len(), STRANGERS);
        assert_eq!(strangers.attempts(|remote, _| remote.ip().to_string() == "192.0.2.255").len(), 1);
    }
}
