//! The last negotiations of a peer, and those that were refused before it was known whose they were: what `explain`
//! tells.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::{Mutex, PoisonError};
use std::time::SystemTime;

use culvert_proto::v1;
use ike::Failure;
use ike::explain::explain;

use crate::events::Whose;

/// Negotiations kept for each peer: enough to see whether it is always the same.
const KEPT: usize = 6;
/// Steps kept for each; a long-lived connection keeps its first and its last ones.
const STEPS: usize = 24;
/// Refused negotiations of nobody in particular that are kept. An attacker pushes others out of this list, not more.
const STRANGERS: usize = 128;

/// In place of a connection's number, for there is none yet.
const STRANGER: u64 = 0;

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

    /// Somebody who may be the peer began a negotiation, and perhaps was refused. The same again from the same host adds to
    /// the attempt that is there.
    pub(crate) fn stranger(&mut self, remote: SocketAddr, failure: Option<&Failure>) {
        let last =
            self.0.back().filter(|a| a.conn == STRANGER && a.remote.is_some_and(|r| r.ip() == remote.ip()));
        if last.is_none() {
            self.begin(STRANGER, false, Some(remote));
        }
        match failure {
            Some(failure) => self.failed(STRANGER, failure),
            None => self.step(STRANGER, "IKE_SA_INIT came and was answered; IKE_AUTH is awaited"),
        }
    }

    /// Who had begun from there is let in: a negotiation of its own tells the rest.
    pub(crate) fn admitted(&mut self, remote: SocketAddr) {
        let from = |attempt: &Attempt| attempt.remote.is_some_and(|r| r.ip() == remote.ip());
        self.0.retain(|attempt| attempt.conn != STRANGER || attempt.failure.is_some() || !from(attempt));
    }

    /// It is known now where it leads to.
    pub(crate) fn leads_to(&mut self, conn: u64, remote: SocketAddr) {
        if let Some(attempt) = self.0.iter_mut().rev().find(|a| a.conn == conn) {
            attempt.remote = Some(remote);
        }
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
            node: String::new(),
        }
    }
}

fn cause(failure: &Failure) -> v1::AttemptCause {
    let cause = explain(failure);
    v1::AttemptCause { kind: cause.kind.to_owned(), summary: cause.summary, advice: cause.advice }
}

/// What a stranger did: from where, and why it was refused, if it was.
type Seen = (SystemTime, SocketAddr, Option<Failure>, Vec<Whose>);

/// What is looked at to say whose a stranger may be: from where, why it was refused, and the peers that were told of it.
type Fits<'a> = dyn Fn(&SocketAddr, Option<&Failure>, &[Whose]) -> bool + 'a;

/// Negotiations that were begun or refused before anybody knew whose they were.
#[derive(Debug, Default)]
pub(crate) struct Strangers(Mutex<VecDeque<Seen>>);

impl Strangers {
    /// One more. The same again and again, as a peer that keeps trying makes it, is one entry, and so is a first message and
    /// what became of it. Peers that are configured with its address were told of it.
    pub(crate) fn note(&self, remote: SocketAddr, failure: Option<&Failure>, told: Vec<Whose>) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let same = |from: &SocketAddr, what: Option<&Failure>| {
            from.ip() == remote.ip() && (what == failure || what.is_none())
        };
        all.retain(|(_, from, what, _)| !same(from, what.as_ref()));
        if all.len() == STRANGERS {
            all.pop_front();
        }
        all.push_back((SystemTime::now(), remote, failure.cloned(), told));
    }

    /// Who had begun from there is let in.
    pub(crate) fn admitted(&self, remote: SocketAddr) {
        let mut all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        all.retain(|(_, from, what, _)| what.is_some() || from.ip() != remote.ip());
    }

    /// Those that may be of the peer that `fits` describes.
    pub(crate) fn attempts(&self, fits: &Fits<'_>) -> Vec<v1::Attempt> {
        let all = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let attempt = |(time, remote, failure, _): &Seen| v1::Attempt {
            start_time: Some((*time).into()),
            initiated: false,
            remote_address: remote.to_string(),
            unidentified: true,
            steps: match failure {
                Some(_) => Vec::new(),
                None => vec![v1::AttemptStep {
                    time: Some((*time).into()),
                    text: "IKE_SA_INIT came and was answered; IKE_AUTH is awaited".to_owned(),
                }],
            },
            cause: failure.as_ref().map(cause),
            node: String::new(),
        };
        let fitting = all.iter().filter(|(_, remote, failure, told)| fits(remote, failure.as_ref(), told));
        fitting.map(attempt).collect()
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
            strangers.note(SocketAddr::from(([192, 0, 2, 1], n)), Some(&Failure::NoSpi), Vec::new());
        }
        assert_eq!(strangers.attempts(&|_, _, _| true).len(), 1);
        for n in 0..=255u8 {
            strangers.note(SocketAddr::from(([192, 0, 2, n], 1)), Some(&Failure::NoSpi), Vec::new());
        }
        assert_eq!(strangers.attempts(&|_, _, _| true).len(), STRANGERS);
        assert_eq!(strangers.attempts(&|remote, _, _| remote.ip().to_string() == "192.0.2.255").len(), 1);
    }

    #[test]
    fn a_first_message_shows_until_it_is_known_what_became_of_it() {
        let (strangers, from) = (Strangers::default(), SocketAddr::from(([192, 0, 2, 1], 500)));
        let mut history = History::default();
        strangers.note(from, None, Vec::new());
        history.stranger(from, None);
        assert!(strangers.attempts(&|_, _, _| true)[0].cause.is_none());
        assert_eq!(history.attempts()[0].steps.len(), 1);
        strangers.note(from, Some(&Failure::NoSpi), Vec::new());
        history.stranger(from, Some(&Failure::NoSpi));
        history.stranger(from, Some(&Failure::NoSpi));
        let attempts = strangers.attempts(&|_, _, _| true);
        assert!(attempts.len() == 1 && attempts[0].cause.is_some());
        let attempts = history.attempts();
        assert!(attempts.len() == 1 && attempts[0].cause.is_some() && attempts[0].steps.len() == 3);
        strangers.note(from, None, Vec::new());
        history.stranger(SocketAddr::from(([192, 0, 2, 2], 500)), None);
        strangers.admitted(from);
        history.admitted(SocketAddr::from(([192, 0, 2, 2], 4500)));
        assert!(strangers.attempts(&|_, failure, _| failure.is_none()).is_empty());
        assert_eq!(history.attempts().len(), 1, "what was refused stays");
    }
}
