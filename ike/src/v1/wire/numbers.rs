//! The numbers of IKEv1, which are other ones than IKEv2's.

use crate::wire::numbers::{IdType, numbers};

/// The IPsec Domain of Interpretation (RFC 2407 section 4.2).
pub(crate) const DOI_IPSEC: u32 = 1;
/// The generic DOI of ISAKMP itself, which notifies and deletes about phase 1 may have (RFC 2408 section 3.14).
pub(crate) const DOI_ISAKMP: u32 = 0;

numbers! {
    /// Payload types (RFC 2408 section 3.1, RFC 3947 section 6). Those of drafts are still sent: of NAT
    /// traversal, drafts 00 to 03 had 130 and 131, later ones 15 and 16.
    pub(crate) PayloadType(u8) {
        NONE = 0, SA = 1, PROPOSAL = 2, TRANSFORM = 3, KE = 4, ID = 5, CERT = 6, CERT_REQUEST = 7, HASH = 8,
        SIGNATURE = 9, NONCE = 10, NOTIFY = 11, DELETE = 12, VENDOR = 13, ATTRIBUTE = 14, NAT_D_LATER_DRAFTS = 15,
        NAT_D = 20, NAT_OA = 21, NAT_D_DRAFT = 130, NAT_OA_DRAFT = 131, FRAGMENT = 132,
    }
}

impl PayloadType {
    /// The name for an error, whatever the number.
    pub(crate) const fn told(self) -> &'static str {
        match self.name() {
            Some(name) => name,
            None => "of unknown type",
        }
    }

    /// Whether a payload of this type can be one of IKEv1's: all numbers from IKEv2's first to the last one below those for
    /// private use never will be.
    pub(crate) const fn possible(self) -> bool {
        self.0 < 33 || self.0 >= 128
    }
}

numbers! {
    /// Exchange types (RFC 2408 section 3.1, RFC 2409 appendix A).
    pub(crate) Exchange(u8) {
        BASE = 1, MAIN = 2, AUTH_ONLY = 3, AGGRESSIVE = 4, INFORMATIONAL = 5, TRANSACTION = 6, QUICK = 32,
        NEW_GROUP = 33,
    }
}

numbers! {
    /// Notify message types (RFC 2408 section 3.14.1, RFC 2407 section 4.6.3, RFC 3706 section 5.3): below 16384 errors.
    pub(crate) NotifyType(u16) {
        INVALID_PAYLOAD_TYPE = 1, DOI_NOT_SUPPORTED = 2, SITUATION_NOT_SUPPORTED = 3, INVALID_COOKIE = 4,
        INVALID_MAJOR_VERSION = 5, INVALID_MINOR_VERSION = 6, INVALID_EXCHANGE_TYPE = 7, INVALID_FLAGS = 8,
        INVALID_MESSAGE_ID = 9, INVALID_PROTOCOL_ID = 10, INVALID_SPI = 11, INVALID_TRANSFORM_ID = 12,
        ATTRIBUTES_NOT_SUPPORTED = 13, NO_PROPOSAL_CHOSEN = 14, BAD_PROPOSAL_SYNTAX = 15, PAYLOAD_MALFORMED = 16,
        INVALID_KEY_INFORMATION = 17, INVALID_ID_INFORMATION = 18, INVALID_CERT_ENCODING = 19,
        INVALID_CERTIFICATE = 20, CERT_TYPE_UNSUPPORTED = 21, INVALID_CERT_AUTHORITY = 22,
        INVALID_HASH_INFORMATION = 23, AUTHENTICATION_FAILED = 24, INVALID_SIGNATURE = 25,
        ADDRESS_NOTIFICATION = 26, NOTIFY_SA_LIFETIME = 27, CERTIFICATE_UNAVAILABLE = 28,
        UNSUPPORTED_EXCHANGE_TYPE = 29, UNEQUAL_PAYLOAD_LENGTHS = 30,
        CONNECTED = 16384, RESPONDER_LIFETIME = 24576, REPLAY_STATUS = 24577, INITIAL_CONTACT = 24578,
        R_U_THERE = 36136, R_U_THERE_ACK = 36137,
    }
}

impl NotifyType {
    /// Whether this type reports an error.
    pub(crate) const fn is_error(self) -> bool {
        self.0 < 16384
    }

    /// Whether an error may be the answer to a quick mode though it does not say which. Others are about another message or SA, or
    /// about certificates, which only phase 1 has.
    pub(crate) const fn refuses_quick_mode(self) -> bool {
        let elsewhere = matches!(
            self,
            Self::INVALID_COOKIE
                | Self::INVALID_SPI
                | Self::INVALID_CERT_ENCODING
                | Self::INVALID_CERTIFICATE
                | Self::CERT_TYPE_UNSUPPORTED
                | Self::INVALID_CERT_AUTHORITY
                | Self::INVALID_SIGNATURE
                | Self::ADDRESS_NOTIFICATION
                | Self::NOTIFY_SA_LIFETIME
                | Self::CERTIFICATE_UNAVAILABLE
        );
        self.is_error() && !elsewhere
    }
}

/// Identification types that IKEv2 has no more, for it has traffic selectors instead (RFC 2407 section 4.6.2.1).
impl IdType {
    /// An address and a mask.
    pub(crate) const IPV4_SUBNET: Self = Self(4);
    /// An address and a mask.
    pub(crate) const IPV6_SUBNET: Self = Self(6);
    /// The first address and the last.
    pub(crate) const IPV4_RANGE: Self = Self(7);
    /// The first address and the last.
    pub(crate) const IPV6_RANGE: Self = Self(8);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_print_by_name_and_unknown_ones_survive() {
        assert_eq!(PayloadType::NAT_D.to_string(), "NAT_D");
        assert_eq!(Exchange::QUICK.to_string(), "QUICK");
        assert_eq!(Exchange(240).to_string(), "Exchange(240)");
        assert_eq!(NotifyType::R_U_THERE_ACK.to_string(), "R_U_THERE_ACK");
        assert_eq!(NotifyType(40_501).to_string(), "NotifyType(40501)");
        assert!(NotifyType::UNEQUAL_PAYLOAD_LENGTHS.is_error() && !NotifyType::CONNECTED.is_error());
        assert!(!PayloadType(33).possible() && !PayloadType(127).possible());
        assert!(PayloadType(32).possible() && PayloadType(130).possible());
    }
}
