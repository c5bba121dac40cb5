//! The head: which change of the catalog is the last.

use prost::Message;

use crate::etcd::EtcdError;

/// Changes before the last one that are known by their names: others may write as often before one whose answer was lost asks again, which it does
/// within seconds.
const EARLIER: usize = 16;

/// The last change of the catalog.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct Head {
    /// Of the catalog.
    #[prost(uint64, tag = "1")]
    pub(crate) revision: u64,
    /// Of the change alone: whoever lost the answer to it finds out that it was made.
    #[prost(bytes = "vec", tag = "2")]
    pub(crate) commit: Vec<u8>,
    /// Its rows lie in so many parts and are not all in their places.
    #[prost(uint32, tag = "3")]
    pub(crate) parts: u32,
    /// The names of those before it, the newest first.
    #[prost(bytes = "vec", repeated, tag = "4")]
    pub(crate) earlier: Vec<Vec<u8>>,
}

impl Head {
    /// A name for a change: random.
    pub(crate) fn commit() -> Vec<u8> {
        rand::random::<[u8; 16]>().to_vec()
    }

    /// The head of a change that follows on this one.
    pub(crate) fn next(&self, revision: u64, commit: Vec<u8>) -> Self {
        let before = (!self.commit.is_empty()).then(|| self.commit.clone());
        let earlier = before.into_iter().chain(self.earlier.iter().cloned()).take(EARLIER).collect();
        Self { revision, commit, parts: 0, earlier }
    }

    /// Whether a change was made.
    pub(crate) fn has(&self, commit: &[u8]) -> bool {
        self.commit == commit || self.earlier.iter().any(|earlier| earlier == commit)
    }

    pub(crate) fn read(value: &[u8]) -> Result<Self, EtcdError> {
        Self::decode(value)
            .map_err(|error| EtcdError::Corrupt { key: "head".to_owned(), reason: error.to_string() })
    }

    pub(crate) fn write(&self) -> Vec<u8> {
        self.encode_to_vec()
    }

    /// Where its parts lie.
    pub(crate) fn folder(&self) -> String {
        let hex: String = self.commit.iter().map(|octet| format!("{octet:02x}")).collect();
        format!("parts/{hex}/")
    }

    pub(crate) fn part(&self, number: u32) -> String {
        format!("{}{number:06}", self.folder())
    }
}

/// A head, and when it was written.
#[derive(Clone, Default)]
pub(crate) struct Known {
    pub(crate) head: Head,
    /// Revision of etcd that wrote it; 0 if there is none.
    pub(crate) written: i64,
    /// Revision of etcd that it was read at.
    pub(crate) at: i64,
}

impl Known {
    /// What is left to do of a change, if it was made: whoever came after it has seen to its parts.
    pub(crate) fn made(self, commit: &[u8]) -> Result<Self, Self> {
        if self.head.commit == commit {
            return Ok(self);
        }
        if self.head.has(commit) { Ok(Self::default()) } else { Err(self) }
    }
}
