//! What can be wrong with received octets.

use super::numbers::{PayloadType, ProtocolId};

/// A message that cannot be decoded. The sender is at fault; nothing in it can be trusted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum WireError {
    /// A field or a length reaches past the end.
    #[error("truncated")]
    Truncated,
    /// Octets are left after the last field.
    #[error("trailing data")]
    TrailingData,
    /// The header's length field is not the datagram's length.
    #[error("length field says {field}, the datagram has {actual} octets")]
    LengthMismatch {
        /// What the header says.
        field: u32,
        /// What arrived.
        actual: usize,
    },
    /// A first message larger than is looked at.
    #[error("first message of {0} octets, more than is taken")]
    TooLong(usize),
    /// The major version is not 2 (RFC 7296 section 2.5), or not 1 where IKEv1 is spoken (RFC 2408 section 5.2).
    #[error("major version {0} is not supported")]
    MajorVersion(u8),
    /// A payload of IKEv1 that is missing, repeated, misplaced or malformed: its name, and what is wrong with it.
    #[error("payload {0} {1}")]
    Payload(&'static str, &'static str),
    /// A payload's length field is below its header's four octets.
    #[error("payload {0} has a bad length")]
    PayloadLength(PayloadType),
    /// More payloads, proposals, transforms or selectors than any honest peer sends.
    #[error("too many {0}")]
    TooMany(&'static str),
    /// A critical payload of a type not implemented (RFC 7296 section 2.5).
    #[error("critical payload of unknown type {0}")]
    CriticalPayload(PayloadType),
    /// An SPI whose size does not fit its protocol.
    #[error("SPI of {size} octets for protocol {protocol}")]
    SpiSize {
        /// The protocol.
        protocol: ProtocolId,
        /// The size found.
        size: u8,
    },
    /// A nonce outside 16 to 256 octets (RFC 7296 section 3.9).
    #[error("nonce of {0} octets, expected 16 to 256")]
    NonceLength(usize),
    /// A field holds a value its payload does not allow.
    #[error("bad {0}")]
    BadField(&'static str),
    /// Payloads are missing, repeated, or of a kind this exchange does not have.
    #[error("payload {0} {1}")]
    Rule(PayloadType, &'static str),
}
