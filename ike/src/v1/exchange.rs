//! What is sent again until it is answered, what has come before, and the quick modes under way (RFC 2408 section 5.1).

mod snapshot;

use std::sync::Arc;
use std::time::{Duration, Instant};

use sha2::{Digest as _, Sha256};

use crate::config::{ChildConfig, Retransmit};
use crate::crypto::dh::KeyPair;

pub(crate) use snapshot::{QuickForm, RepeatForm, TriesForm};

/// How long a quick mode is remembered whose last message was ours: as long as a peer that has missed it asks again.
pub(crate) const REMEMBERED: Duration = Duration::from_secs(60);

/// What a message is known by when it comes again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Digest([u8; 16]);

impl Digest {
    pub(crate) fn of(message: &[u8]) -> Self {
        Self(Sha256::digest(message).first_chunk().copied().unwrap_or_default())
    }
}

/// The last message of ours in an exchange: sent again when it is due, and when what it answers comes again.
#[derive(Clone, Debug)]
pub(crate) struct Repeat {
    /// The message.
    pub(crate) message: Vec<u8>,
    /// What it answers, if it answers something.
    pub(crate) answers: Option<Digest>,
    /// Transmissions so far.
    pub(crate) sent: u32,
    /// When the next is due by itself. One that is the last word of its exchange, or whose receiver has not proved its
    /// address, is not sent by itself.
    pub(crate) due: Option<Instant>,
    policy: Retransmit,
}

impl Repeat {
    /// One that is sent again until it is answered.
    pub(crate) fn asking(
        now: Instant,
        message: Vec<u8>,
        answers: Option<Digest>,
        policy: Retransmit,
    ) -> Self {
        Self { message, answers, sent: 1, due: Some(now + policy.wait(0)), policy }
    }

    /// One that is sent again if what it answers comes again.
    pub(crate) fn answering(message: Vec<u8>, answers: Digest) -> Self {
        Self { message, answers: Some(answers), sent: 1, due: None, policy: Retransmit::ONCE }
    }

    /// It is not sent again.
    pub(crate) fn send_once(&mut self) {
        self.policy.tries = 0;
    }

    /// Whether this is what it answers.
    pub(crate) fn is_answer_to(&self, digest: Digest) -> bool {
        self.answers == Some(digest)
    }

    /// If it is due: the message, or how often it was sent when that was often enough.
    pub(crate) fn retransmit(&mut self, now: Instant) -> Option<Result<Vec<u8>, u32>> {
        self.due.filter(|due| *due <= now)?;
        if self.sent > self.policy.tries {
            self.due = None;
            return Some(Err(self.sent));
        }
        self.due = Some(now + self.policy.wait(self.sent));
        self.sent += 1;
        Some(Ok(self.message.clone()))
    }
}

/// A quick mode (RFC 2409 section 5.5).
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Quick {
    /// Our SPI of the IKE_SA it is on.
    pub(crate) ike: u64,
    /// Its Message ID.
    pub(crate) id: u32,
    /// The last block of ciphertext: what the next message is encrypted with.
    pub(crate) iv: Vec<u8>,
    pub(crate) step: Step,
    pub(crate) repeat: Repeat,
    /// When it began.
    pub(crate) since: Instant,
}

/// What it waits for.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) enum Step {
    /// Ours: the second message.
    Requested(Box<ChildOffer>),
    /// The peer's: the third.
    Answered(Box<Answered>),
    /// Nothing: the last message was ours, or the peer's. Forgotten at that time. If the peer has asked for it with the commit
    /// bit, its CONNECTED (RFC 2408 section 3.1) lets this pair be used.
    Done(Instant, Option<u32>),
}

/// Our half of a quick mode that we have started.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct ChildOffer {
    pub(crate) config: Arc<ChildConfig>,
    pub(crate) spi_in: u32,
    pub(crate) nonce: Vec<u8>,
    pub(crate) dh: Option<KeyPair>,
    /// The pair that is to be replaced.
    pub(crate) replaces: Option<u32>,
    pub(crate) tries: Tries,
}

/// What has been tried so far for one task.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct Tries {
    /// Put off after a refusal.
    pub(crate) put_off: u32,
    /// Which of the ways to do without or with perfect forward secrecy is asked for.
    pub(crate) way: usize,
}

/// A quick mode of the peer's that we have answered.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Answered {
    /// The pair, which is in place and not sent by yet.
    pub(crate) spi_in: u32,
    pub(crate) nonces: (Vec<u8>, Vec<u8>),
    /// Its initiator has set the commit bit: it says itself when the pair may be used.
    pub(crate) commit: bool,
}

impl Quick {
    /// Whether nothing is waited for any more: it is kept for what its last message answers, which may come again.
    pub(crate) const fn is_over(&self) -> bool {
        matches!(self.step, Step::Done(..))
    }

    /// The inbound SPI of what it makes.
    pub(crate) fn spi_in(&self) -> Option<u32> {
        match &self.step {
            Step::Requested(offer) => Some(offer.spi_in),
            Step::Answered(answered) => Some(answered.spi_in),
            Step::Done(..) => None,
        }
    }

    /// The policy that we ask for by it.
    pub(crate) fn asks_for(&self) -> Option<&Arc<ChildConfig>> {
        match &self.step {
            Step::Requested(offer) => Some(&offer.config),
            Step::Answered(_) | Step::Done(..) => None,
        }
    }

    /// When something is due.
    pub(crate) fn due(&self) -> Option<Instant> {
        match &self.step {
            Step::Done(until, _) => Some(*until),
            Step::Requested(_) | Step::Answered(_) => self.repeat.due,
        }
    }
}
