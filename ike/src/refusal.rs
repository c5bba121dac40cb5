//! What an answer says that nobody has authenticated: that there will be no IKE_SA.
//!
//! Whoever sees the first message of a negotiation can say so in the peer's place. It is believed only if nothing better comes (RFC 7296
//! section 2.21.1; IKEv1 has no other word for a refusal either).

use std::time::{Duration, Instant};

use prost::Message;
use snapshot::{Due, SnapshotError};

use crate::failure::Failure;
use crate::snapshot::values::retold;
use crate::snapshot::{Reading, Writing};

/// How long something better is waited for: the answer to what was sent is on its way already, and the request goes out once more
/// meanwhile. An operator hears so much later of an honest refusal.
const GRACE: Duration = Duration::from_secs(2);

/// A refusal that proves nothing. That which came first is told, for the peer repeats its own.
#[derive(Clone, Debug)]
pub(crate) struct Refusal {
    failure: Failure,
    until: Instant,
}

impl Refusal {
    pub(crate) fn new(now: Instant, failure: Failure) -> Self {
        Self { failure, until: now + GRACE }
    }

    /// When it is believed.
    pub(crate) const fn due(&self) -> Instant {
        self.until
    }

    /// Why there will be no IKE_SA, once nothing better has come in time.
    pub(crate) fn believed_at(&self, now: Instant) -> Option<Failure> {
        (self.until <= now).then(|| self.told())
    }

    /// The same, where nothing better can come any more.
    pub(crate) fn told(&self) -> Failure {
        self.failure.clone()
    }

    pub(crate) fn form(&self, w: &Writing<'_>) -> RefusalForm {
        RefusalForm { why: self.failure.to_string(), until: w.due(self.until) }
    }

    pub(crate) fn restore(form: &RefusalForm, r: &Reading) -> Result<Self, SnapshotError> {
        Ok(Self { failure: *retold(&form.why), until: r.at(form.until, "when a refusal is believed")? })
    }
}

/// As another node takes it over: the failure as text.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct RefusalForm {
    #[prost(string, tag = "1")]
    why: String,
    #[prost(message, optional, tag = "2")]
    until: Option<Due>,
}
