//! Why an SA cannot be made, and why a packet is dropped.

use thiserror::Error;

use crate::suite::SuiteError;

/// An SA that cannot be made. Local misuse: none of these come from the peer.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SaError {
    /// The transforms do not go together.
    #[error(transparent)]
    Suite(#[from] SuiteError),
    /// The encryption key has the wrong length.
    #[error("encryption key has {got} octets, {want} are needed")]
    KeyLength {
        /// Octets given.
        got: usize,
        /// Octets the suite takes, salt included.
        want: usize,
    },
    /// The integrity key has the wrong length.
    #[error("integrity key has {got} octets, {want} are needed")]
    IntegrityKeyLength {
        /// Octets given.
        got: usize,
        /// Octets the suite takes.
        want: usize,
    },
    /// The replay window is not in its range.
    #[error("replay window of {0} packets is not in 64..=8192")]
    ReplayWindow(u32),
    /// The cryptographic library refused the key.
    #[error("the cryptographic library refused the key")]
    Crypto,
}

/// Declares an enum of drop reasons whose every variant has a counter name.
macro_rules! drop_reasons {
    ($(#[$meta:meta])* $name:ident { $($(#[$doc:meta])* $variant:ident = $text:literal, $message:literal;)* }) => {
        $(#[$meta])*
        #[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Error)]
        pub enum $name {
            $($(#[$doc])* #[error($message)] $variant,)*
        }

        impl $name {
            /// Every reason, in the order of [`Self::index`].
            pub const ALL: &[Self] = &[$(Self::$variant,)*];

            /// The name of the counter, stable across versions.
            pub fn name(self) -> &'static str {
                match self { $(Self::$variant => $text,)* }
            }

            /// Position in [`Self::ALL`], for arrays of counters.
            pub fn index(self) -> usize {
                self as usize
            }
        }
    };
}

drop_reasons! {
    /// Why an inbound packet was dropped. All are silent towards the peer (RFC 4303 section 3.4).
    OpenError {
        /// Shorter than the header, IV, trailer and ICV together.
        Truncated = "esp_truncated", "packet is too short to be ESP";
        /// The SPI in the packet is not this SA's.
        WrongSpi = "esp_wrong_spi", "packet is for another SA";
        /// The ciphertext is not a whole number of blocks.
        Misaligned = "esp_misaligned", "ciphertext is not a whole number of blocks";
        /// Sequence number 0, or one that no ESN can stand for.
        BadSequence = "esp_bad_sequence", "sequence number is never sent";
        /// Seen before (RFC 4303 section 3.4.3).
        ReplayDuplicate = "esp_replay_duplicate", "packet was seen before";
        /// Left of the replay window.
        ReplayTooOld = "esp_replay_too_old", "packet is older than the replay window";
        /// The integrity check failed.
        IcvMismatch = "esp_icv_mismatch", "integrity check failed";
        /// The trailer claims more padding than there is, or the padding is not 1, 2, 3...
        BadPadding = "esp_bad_padding", "padding is not as RFC 4303 section 2.4 has it";
        /// The payload is neither IPv4 nor IPv6.
        BadNextHeader = "esp_bad_next_header", "payload is neither IPv4 nor IPv6";
        /// Transport mode: an IPv6 header that belongs in front of ESP (RFC 4303 section 3.1.1).
        TransportHeader = "esp_transport_header", "payload begins with a header that belongs in front of ESP";
        /// A dummy packet (RFC 4303 section 2.6): no error of anyone's.
        Dummy = "esp_dummy", "dummy packet";
        /// The inner IP header does not parse.
        BadInner = "esp_bad_inner", "inner IP header is malformed";
        /// The inner packet is not one that was negotiated for this SA (RFC 4301 section 5.2).
        SelectorMismatch = "esp_selector_mismatch", "inner packet is outside the traffic selectors";
        /// The SA has reached its hard limit.
        HardLimit = "esp_inbound_hard_limit", "the hard limit of the SA is reached";
        /// The SA's hard lifetime in seconds is over.
        Expired = "esp_inbound_expired", "the hard lifetime of the SA is over";
        /// The cryptographic library failed.
        Crypto = "esp_inbound_crypto", "the cryptographic library failed";
    }
}

drop_reasons! {
    /// Why an outbound packet was not sealed.
    SealError {
        /// The output buffer is too small.
        NoSpace = "esp_no_space", "output buffer is too small";
        /// The payload is no IP packet.
        BadInner = "esp_outbound_bad_inner", "payload is not an IP packet";
        /// Transport mode: a fragment, which may not be sealed (RFC 4303 section 3.3.4).
        TransportFragment = "esp_outbound_transport_fragment", "a fragment cannot go in transport mode";
        /// Transport mode: IPv4 options, IPv6 extension headers, or no next header.
        TransportHeader = "esp_outbound_transport_header", "IP options cannot go in transport mode";
        /// Sequence numbers must never cycle (RFC 4303 section 3.3.3).
        SequenceExhausted = "esp_sequence_exhausted", "sequence numbers are used up";
        /// The numbers that this node has reserved are used up: its standby does not know of more yet.
        LeaseUsedUp = "esp_lease_used_up", "the numbers that were reserved are used up";
        /// The SA has reached its hard limit.
        HardLimit = "esp_outbound_hard_limit", "the hard limit of the SA is reached";
        /// The SA's hard lifetime in seconds is over.
        Expired = "esp_outbound_expired", "the hard lifetime of the SA is over";
        /// The cryptographic library failed.
        Crypto = "esp_outbound_crypto", "the cryptographic library failed";
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn index_is_the_position() {
        for (position, reason) in OpenError::ALL.iter().enumerate() {
            assert_eq!(reason.index(), position);
        }
        for (position, reason) in SealError::ALL.iter().enumerate() {
            assert_eq!(reason.index(), position);
        }
    }

    #[test]
    fn names_are_distinct() {
        let mut names: Vec<_> = OpenError::ALL.iter().map(|reason| reason.name()).collect();
        names.extend(SealError::ALL.iter().map(|reason| reason.name()));
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
    }
}
