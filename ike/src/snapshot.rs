//! A connection on its way to another node: all that a standby needs to go on with it, without its peer noticing.
//!
//! What is here is the same for both versions of IKE; `v2/snapshot.rs` and `v1/snapshot.rs` have the connections. What has fields of
//! its own has a `snapshot.rs` beside it. Everything is written by taking it apart and read by putting it together, so a new field
//! does not compile before it is said what becomes of it. What there is of every connection is written field by field, what there is of few as a
//! message that is made for it; read is all of it as messages.

pub(crate) mod keys;
pub(crate) mod policies;
pub(crate) mod values;

use std::fmt;
use std::ops::{Deref, DerefMut};
use std::sync::Arc;
use std::time::Instant;

use prost::{Message, Oneof};
use snapshot::{Due, Form, SnapshotError, Writer, required};
use thiserror::Error;

use crate::config::PeerConfig;
use crate::crypto::CryptoError;
use crate::{v1, v2};

/// Everything of a [`Connection`](crate::Connection) that is not configured: keys, SPIs, Message IDs, stored answers, requests under way
/// with their schedules, Child SAs, plans, and how long until each timer. It holds keys: it is wiped when dropped, and printed without
/// them.
///
/// Not in it:
///
/// * The configuration. A standby has it from the catalog, and is told by [`Snapshot::peer`] whose it needs. The policies that Child
///   SAs were made by are in it, for they may have been others then.
/// * Half-open connections of strangers. Until IKE_AUTH is done they hold nothing that anybody counts on: an initiator without an
///   answer begins anew, as it does when a message is lost. And what strangers cost is bounded for one node; a second one is
///   not to pay for it as well.
/// * Fragments that wait for the rest of their message: the peer sends all of them again.
/// * Texts of failures are kept, and not the values that they were made of.
#[derive(Clone, PartialEq, Message)]
#[prost(skip_debug)]
pub struct Snapshot {
    #[prost(string, tag = "1")]
    peer: String,
    #[prost(oneof = "Version", tags = "2, 3")]
    version: Option<Version>,
}

#[derive(Clone, PartialEq, Oneof)]
#[prost(skip_debug)]
#[allow(clippy::large_enum_variant)] // On its way into octets, or out of them.
pub(crate) enum Version {
    #[prost(message, tag = "2")]
    V2(v2::ConnectionForm),
    #[prost(message, tag = "3")]
    V1(v1::ConnectionForm),
}

impl fmt::Debug for Version {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::V2(_) => "V2(..)",
            Self::V1(_) => "V1(..)",
        })
    }
}

impl Form for Snapshot {
    const OF: &'static str = "an IKE connection";
    const KIND: u8 = 4;
    const VERSION: u16 = 1;
}

impl fmt::Debug for Snapshot {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Snapshot({:?}, {:?})", self.peer, self.version)
    }
}

impl Snapshot {
    /// The name of the peer whose configuration it takes to restore it ([`PeerConfig::name`]).
    pub fn peer(&self) -> &str {
        &self.peer
    }

    pub(crate) fn version(&self) -> Result<&Version, SnapshotError> {
        required(self.version.as_ref(), "which version of IKE is spoken")
    }
}

/// Where a restored connection goes on. No IV may be used twice under a key of an AEAD.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Resume {
    /// Where the snapshot was made: its former owner has sent nothing since then, and will not.
    Exactly,
    /// Beyond everything that its former owner may have sent: the IVs of its messages go on 2^32 later, and nobody sends as many
    /// between two snapshots. What it is that a peer has seen of the rest is another matter: no message may leave before a snapshot
    /// that has it. So no Message ID is behind, and none has to be synchronized with the peer (RFC 6311 section 5.1).
    Beyond,
}

impl Resume {
    /// How many IVs are jumped over.
    pub(crate) const fn jump(self) -> u64 {
        match self {
            Self::Exactly => 0,
            Self::Beyond => 1 << 32,
        }
    }
}

/// Why there is no snapshot of a connection at this moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Error)]
pub enum NotNow {
    /// What it has said has to be carried out and sent first, for it would be lost.
    #[error(
        "the connection has events or messages that nobody has taken: drain it before a snapshot is made"
    )]
    Undrained,
    /// It belongs to nobody yet.
    #[error("the peer is not authenticated yet, and begins anew with whoever takes over")]
    HalfOpen,
    /// Nothing is left of it.
    #[error("the connection is over")]
    Finished,
}

/// Why a connection cannot be made of a snapshot.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// What it says is no connection.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// It is another peer's.
    #[error("the snapshot is of a connection with {snapshot}, the configuration of {config} was given")]
    Peer {
        /// Whose it is.
        snapshot: String,
        /// Whose configuration was given.
        config: String,
    },
    /// Its keys do not suit its algorithms.
    #[error("the keys of the snapshot cannot be used: {0}")]
    Crypto(#[from] CryptoError),
}

/// What is needed while one is written: where, the clock, and policies that are there once.
pub(crate) struct Writing<'a> {
    out: Writer,
    now: Instant,
    policies: policies::Table<'a>,
}

impl<'a> Writing<'a> {
    pub(crate) fn new(out: Writer, now: Instant) -> Self {
        Self { out, now, policies: policies::Table::default() }
    }

    pub(crate) fn due(&self, at: Instant) -> Option<Due> {
        Some(Due::new(at, self.now))
    }

    /// As a field of its own.
    pub(crate) fn at(&mut self, tag: u32, at: Instant) {
        let due = Due::new(at, self.now);
        self.out.due(tag, due);
    }

    /// As a field of its own, if there is one.
    pub(crate) fn maybe_at(&mut self, tag: u32, at: Option<Instant>) {
        at.into_iter().for_each(|at| self.at(tag, at));
    }

    /// A message that `fill` writes the fields of.
    pub(crate) fn message(&mut self, tag: u32, fill: impl FnOnce(&mut Self)) {
        let begun = self.out.begin(tag);
        fill(self);
        self.out.end(begun);
    }

    /// Numbers of policies.
    pub(crate) fn policy_numbers(&mut self, tag: u32, all: &'a [Arc<crate::config::ChildConfig>]) {
        let Self { out, policies, .. } = self;
        out.uints(tag, all.iter().map(|policy| policies.number(policy).into()));
    }

    /// The number of a policy.
    pub(crate) fn policy(&mut self, config: &'a Arc<crate::config::ChildConfig>) -> u32 {
        self.policies.number(config)
    }

    /// All policies that were asked for, which therefore are the last to be written.
    pub(crate) fn policies(mut self, tag: u32) -> Writer {
        self.policies.write(&mut self.out, tag);
        self.out
    }
}

impl Deref for Writing<'_> {
    type Target = Writer;

    fn deref(&self) -> &Writer {
        &self.out
    }
}

impl DerefMut for Writing<'_> {
    fn deref_mut(&mut self) -> &mut Writer {
        &mut self.out
    }
}

/// What is needed while one is read.
pub(crate) struct Reading {
    now: Instant,
    resume: Resume,
    policies: Vec<Arc<crate::config::ChildConfig>>,
}

impl Reading {
    /// Policies that are configured as they were are the configured ones.
    pub(crate) fn new(
        now: Instant,
        resume: Resume,
        policies: &[policies::PolicyForm],
        config: &PeerConfig,
    ) -> Result<Self, SnapshotError> {
        let read = |form: &policies::PolicyForm| form.read(&config.children);
        Ok(Self { now, resume, policies: policies.iter().map(read).collect::<Result<_, _>>()? })
    }

    /// A time that has to be there.
    pub(crate) fn at(&self, due: Option<Due>, field: &'static str) -> Result<Instant, SnapshotError> {
        Ok(required(due, field)?.at(self.now))
    }

    pub(crate) fn when(&self, due: Due) -> Instant {
        due.at(self.now)
    }

    /// A time that need not.
    pub(crate) fn maybe_at(&self, due: Option<Due>) -> Option<Instant> {
        due.map(|due| due.at(self.now))
    }

    pub(crate) const fn resume(&self) -> Resume {
        self.resume
    }

    /// The policy of this number.
    pub(crate) fn policy(&self, number: u32) -> Result<Arc<crate::config::ChildConfig>, SnapshotError> {
        let at = usize::try_from(number).ok().and_then(|at| self.policies.get(at)).cloned();
        at.ok_or_else(|| SnapshotError::value("a policy", format!("there is no number {number}")))
    }
}
