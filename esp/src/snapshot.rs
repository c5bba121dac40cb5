//! What the snapshots of both directions have in common: algorithms, keys, selectors. Each snapshot stands with what it is of
//! (`inbound/snapshot.rs`, `outbound/snapshot.rs`, `lifetime/snapshot.rs`).

use prost::Message;
use snapshot::{Range, Secret, SnapshotError, required};
use thiserror::Error;

use crate::error::SaError;
use crate::keys::SaKeys;
use crate::selector::{Selector, SelectorPair};
use crate::suite::Suite;

/// Why an SA cannot be made of a snapshot.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum RestoreError {
    /// What it says is no SA.
    #[error(transparent)]
    Snapshot(#[from] SnapshotError),
    /// The SA that it says cannot be made.
    #[error("the SA of the snapshot cannot be made: {0}")]
    Sa(#[from] SaError),
}

/// The numbers of IKEv2, or of ours where it has none ([`Suite::from_transforms`]).
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SuiteForm {
    #[prost(uint32, tag = "1")]
    encryption: u32,
    #[prost(uint32, optional, tag = "2")]
    key_bits: Option<u32>,
    #[prost(uint32, optional, tag = "3")]
    integrity: Option<u32>,
    #[prost(bool, tag = "4")]
    esn: bool,
}

impl SuiteForm {
    pub(crate) fn new(suite: Suite) -> Self {
        let (encryption, key_bits) = suite.encryption.transform();
        let integrity = suite.integrity.map(|integrity| integrity.transform().into());
        Self { encryption: encryption.into(), key_bits: key_bits.map(u32::from), integrity, esn: suite.esn }
    }

    pub(crate) fn read(&self) -> Result<Suite, SnapshotError> {
        const FIELD: &str = "the algorithms";
        let small = |number| u16::try_from(number).map_err(|error| SnapshotError::value(FIELD, error));
        let (key_bits, integrity) =
            (self.key_bits.map(small).transpose()?, self.integrity.map(small).transpose()?);
        let suite = Suite::from_transforms(small(self.encryption)?, key_bits, integrity, self.esn);
        suite.ok_or_else(|| SnapshotError::value(FIELD, format!("ESP has none like {self:?}")))
    }
}

/// The keys of one direction.
#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct KeysForm {
    #[prost(message, optional, tag = "1")]
    encryption: Option<Secret>,
    /// Empty for an AEAD.
    #[prost(message, optional, tag = "2")]
    integrity: Option<Secret>,
}

impl KeysForm {
    pub(crate) fn new(keys: &SaKeys) -> Self {
        let kept = |key: &[u8]| (!key.is_empty()).then(|| Secret::new(key));
        Self { encryption: kept(&keys.encryption), integrity: kept(&keys.integrity) }
    }

    /// Lengths are checked when the SA is made.
    pub(crate) fn read(&self) -> SaKeys {
        let octets = |key: &Option<Secret>| key.as_ref().map_or_else(Vec::new, |key| key.octets().to_vec());
        SaKeys::new(octets(&self.encryption), octets(&self.integrity))
    }
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct SelectorsForm {
    #[prost(message, repeated, tag = "1")]
    local: Vec<Range>,
    #[prost(message, repeated, tag = "2")]
    remote: Vec<Range>,
}

impl SelectorsForm {
    pub(crate) fn new(pair: &SelectorPair) -> Self {
        let all = |from: &[Selector]| from.iter().map(form).collect();
        Self { local: all(&pair.local), remote: all(&pair.remote) }
    }

    pub(crate) fn read(&self) -> Result<SelectorPair, SnapshotError> {
        let all = |from: &[Range]| from.iter().map(selector).collect::<Result<_, _>>();
        Ok(SelectorPair { local: all(&self.local)?, remote: all(&self.remote)? })
    }
}

fn form(selector: &Selector) -> Range {
    let Selector { protocol, start, end, start_port, end_port } = *selector;
    Range::new(protocol, (start, end), (start_port, end_port))
}

fn selector(form: &Range) -> Result<Selector, SnapshotError> {
    let (protocol, (start, end), (start_port, end_port)) = form.read("a traffic selector")?;
    Ok(Selector { protocol, start, end, start_port, end_port })
}

/// An SPI: never zero.
pub(crate) fn spi(number: u32) -> Result<crate::Spi, SnapshotError> {
    required((number != 0).then_some(crate::Spi(number)), "the SPI")
}
