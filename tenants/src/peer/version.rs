//! Which version of IKE is spoken with a peer.

use culvert_proto::v1;
use ike::config::{Opening, Phase1};

use crate::limits;
use crate::violation::Violations;

/// Which version of IKE is spoken with a peer.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum IkeVersion {
    /// RFC 7296.
    #[default]
    V2,
    /// RFC 2409.
    V1(IkeV1),
}

/// What is configured of IKEv1 alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct IkeV1 {
    /// How phase 1 goes.
    pub mode: Phase1,
    /// What is offered as the lifetime of an IKE SA in units of 1,024 octets.
    pub life_kilobytes: Option<u64>,
}

impl IkeVersion {
    pub(crate) fn parse(given: &v1::IkeConfig, faults: &mut Violations) -> Self {
        match v1::IkeVersion::try_from(given.version) {
            Ok(v1::IkeVersion::Ikev1) => Self::V1(IkeV1::parse(given.v1.unwrap_or_default(), faults)),
            Ok(v1::IkeVersion::Unspecified | v1::IkeVersion::Ikev2) => {
                if given.v1.is_some() {
                    faults.add("v1", "goes with version IKEV1 alone; expected that, or no v1");
                }
                Self::V2
            }
            Err(_) => {
                let value = given.version;
                faults.add("version", format!("unknown value {value}; expected IKEV2 or IKEV1"));
                Self::V2
            }
        }
    }

    /// The version, and what there is to say of IKEv1 if it is that.
    pub(crate) fn to_proto(self) -> (v1::IkeVersion, Option<v1::IkeV1Config>) {
        match self {
            Self::V2 => (v1::IkeVersion::Ikev2, None),
            Self::V1(v1) => (v1::IkeVersion::Ikev1, Some(v1.to_proto())),
        }
    }

    /// How a negotiation opens.
    pub const fn opening(self) -> Opening {
        match self {
            Self::V2 => Opening::Init,
            Self::V1(IkeV1 { mode: Phase1::Main, .. }) => Opening::Main,
            Self::V1(IkeV1 { mode: Phase1::Aggressive, .. }) => Opening::Aggressive,
        }
    }

    /// Whether it is IKEv1.
    pub const fn is_v1(self) -> bool {
        matches!(self, Self::V1(_))
    }
}

impl IkeV1 {
    fn parse(given: v1::IkeV1Config, faults: &mut Violations) -> Self {
        let mode = match v1::IkeV1Mode::try_from(given.mode) {
            Ok(v1::IkeV1Mode::Unspecified | v1::IkeV1Mode::Main) => Phase1::Main,
            Ok(v1::IkeV1Mode::Aggressive) => Phase1::Aggressive,
            Err(_) => {
                faults.add("v1.mode", format!("unknown value {}; expected MAIN or AGGRESSIVE", given.mode));
                Phase1::Main
            }
        };
        let kilobytes = given.life_kilobytes;
        if kilobytes > limits::MAX_LIFE_KILOBYTES {
            let fault = format!("{kilobytes} of them; at most {}", limits::MAX_LIFE_KILOBYTES);
            faults.add("v1.life_kilobytes", fault);
        }
        Self { mode, life_kilobytes: Some(kilobytes).filter(|n| *n > 0) }
    }

    fn to_proto(self) -> v1::IkeV1Config {
        let mode = match self.mode {
            Phase1::Main => v1::IkeV1Mode::Main,
            Phase1::Aggressive => v1::IkeV1Mode::Aggressive,
        };
        v1::IkeV1Config { mode: mode.into(), life_kilobytes: self.life_kilobytes.unwrap_or_default() }
    }
}
