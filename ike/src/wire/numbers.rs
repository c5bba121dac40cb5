//! Protocol numbers as open newtypes: an unknown value survives parsing and prints as a number.

macro_rules! numbers {
    ($(#[$doc:meta])* $vis:vis $name:ident($inner:ty) { $($konst:ident = $value:expr),* $(,)? }) => {
        $(#[$doc])*
        #[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        $vis struct $name($vis $inner);

        #[allow(missing_docs, non_upper_case_globals)]
        impl $name {
            $($vis const $konst: Self = Self($value);)*

            /// The name in the registry, or `None` for a number this crate does not know.
            $vis const fn name(self) -> Option<&'static str> {
                match self {
                    $(Self::$konst => Some(stringify!($konst)),)*
                    _ => None,
                }
            }
        }

        impl std::fmt::Display for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                match self.name() {
                    Some(name) => f.write_str(name),
                    None => write!(f, "{}({})", stringify!($name), self.0),
                }
            }
        }

        impl std::fmt::Debug for $name {
            fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
                std::fmt::Display::fmt(self, f)
            }
        }
    };
}

pub(crate) use numbers;

numbers! {
    /// Exchange types (RFC 7296 section 3.1, and those of IKEv1, RFC 2408 section 3.1).
    pub ExchangeType(u8) {
        MAIN_MODE = 2, AGGRESSIVE_MODE = 4, INFORMATIONAL_V1 = 5, QUICK_MODE = 32,
        IKE_SA_INIT = 34, IKE_AUTH = 35, CREATE_CHILD_SA = 36, INFORMATIONAL = 37,
    }
}

numbers! {
    /// Payload types (RFC 7296 section 3.2).
    pub PayloadType(u8) {
        NONE = 0, SA = 33, KE = 34, IDi = 35, IDr = 36, CERT = 37, CERTREQ = 38, AUTH = 39, NONCE = 40,
        NOTIFY = 41, DELETE = 42, VENDOR_ID = 43, TSi = 44, TSr = 45, SK = 46, CP = 47, EAP = 48, SKF = 53,
    }
}

numbers! {
    /// Security protocol identifiers (RFC 7296 section 3.3.1).
    pub ProtocolId(u8) { NONE = 0, IKE = 1, AH = 2, ESP = 3 }
}

numbers! {
    /// Transform types (RFC 7296 section 3.3.2).
    pub TransformType(u8) { ENCR = 1, PRF = 2, INTEG = 3, KE = 4, ESN = 5 }
}

numbers! {
    /// Identification types (RFC 7296 section 3.5).
    pub IdType(u8) {
        ID_IPV4_ADDR = 1, ID_FQDN = 2, ID_RFC822_ADDR = 3, ID_IPV6_ADDR = 5, ID_DER_ASN1_DN = 9,
        ID_DER_ASN1_GN = 10, ID_KEY_ID = 11, ID_NULL = 13,
    }
}

numbers! {
    /// Authentication methods (RFC 7296 section 3.8).
    pub AuthMethod(u8) {
        RSA_SIGNATURE = 1, SHARED_KEY = 2, DSS_SIGNATURE = 3, ECDSA_SHA256_P256 = 9, ECDSA_SHA384_P384 = 10,
        ECDSA_SHA512_P521 = 11, SECURE_PASSWORD = 12, NULL = 13, DIGITAL_SIGNATURE = 14,
    }
}

numbers! {
    /// Traffic selector types (RFC 7296 section 3.13.1).
    pub TsType(u8) { TS_IPV4_ADDR_RANGE = 7, TS_IPV6_ADDR_RANGE = 8 }
}

numbers! {
    /// Notify message types (RFC 7296 section 3.10.1): below 16384 errors, above it status.
    pub NotifyType(u16) {
        UNSUPPORTED_CRITICAL_PAYLOAD = 1, INVALID_IKE_SPI = 4, INVALID_MAJOR_VERSION = 5, INVALID_SYNTAX = 7,
        INVALID_MESSAGE_ID = 9, INVALID_SPI = 11, NO_PROPOSAL_CHOSEN = 14, INVALID_KE_PAYLOAD = 17,
        AUTHENTICATION_FAILED = 24, SINGLE_PAIR_REQUIRED = 34, NO_ADDITIONAL_SAS = 35,
        INTERNAL_ADDRESS_FAILURE = 36, FAILED_CP_REQUIRED = 37, TS_UNACCEPTABLE = 38, INVALID_SELECTORS = 39,
        UNACCEPTABLE_ADDRESSES = 40, UNEXPECTED_NAT_DETECTED = 41, USE_ASSIGNED_HoA = 42,
        TEMPORARY_FAILURE = 43, CHILD_SA_NOT_FOUND = 44, INVALID_GROUP_ID = 45, AUTHORIZATION_FAILED = 46,
        STATE_NOT_FOUND = 47, TS_MAX_QUEUE = 48, REGISTRATION_FAILED = 49,
        INITIAL_CONTACT = 16384, SET_WINDOW_SIZE = 16385, ADDITIONAL_TS_POSSIBLE = 16386,
        IPCOMP_SUPPORTED = 16387, NAT_DETECTION_SOURCE_IP = 16388, NAT_DETECTION_DESTINATION_IP = 16389,
        COOKIE = 16390, USE_TRANSPORT_MODE = 16391, HTTP_CERT_LOOKUP_SUPPORTED = 16392, REKEY_SA = 16393,
        ESP_TFC_PADDING_NOT_SUPPORTED = 16394, NON_FIRST_FRAGMENTS_ALSO = 16395, MOBIKE_SUPPORTED = 16396,
        AUTH_LIFETIME = 16403, MULTIPLE_AUTH_SUPPORTED = 16404, REDIRECT_SUPPORTED = 16406, EAP_ONLY_AUTHENTICATION = 16417,
        CHILDLESS_IKEV2_SUPPORTED = 16418, IKEV2_MESSAGE_ID_SYNC_SUPPORTED = 16420,
        IPSEC_REPLAY_COUNTER_SYNC_SUPPORTED = 16421, IKEV2_MESSAGE_ID_SYNC = 16422, IPSEC_REPLAY_COUNTER_SYNC = 16423,
        IKEV2_FRAGMENTATION_SUPPORTED = 16430, SIGNATURE_HASH_ALGORITHMS = 16431, SA_RESOURCE_INFO = 16444,
    }
}

impl NotifyType {
    /// Whether this type reports an error (RFC 7296 section 3.10.1).
    pub const fn is_error(self) -> bool {
        self.0 < 16384
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unknown_numbers_survive_and_print() {
        assert_eq!(ExchangeType(200).to_string(), "ExchangeType(200)");
        assert_eq!(NotifyType::COOKIE.to_string(), "COOKIE");
        assert!(NotifyType::TS_UNACCEPTABLE.is_error());
        assert!(!NotifyType::INITIAL_CONTACT.is_error());
    }
}
