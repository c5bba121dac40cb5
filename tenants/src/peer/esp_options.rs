//! How the packets of a child are wrapped.

use std::ops::RangeInclusive;

use culvert_proto::v1;

use crate::violation::Violations;

/// Outer packets that a path may be limited to: what IPv4 hosts must take (RFC 791), and the largest jumbo frames.
const PATH_MTU: RangeInclusive<u32> = 576..=9_000;
/// Some hosts take no smaller MSS than 88; nothing larger fits a jumbo frame.
const MSS: RangeInclusive<u32> = 88..=8_960;

/// How packets are wrapped. The default is what RFC 4301 and RFC 6040 recommend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct EspOptions {
    /// Largest outer packet in octets; `None` for what the interface takes.
    pub path_mtu: Option<u16>,
    /// DF outside.
    pub dont_fragment: DontFragment,
    /// DSCP outside, 0..=63; `None` for that of the inner packet.
    pub dscp: Option<u8>,
    /// Whether a packet takes over the outer DSCP as it comes out.
    pub dscp_inward: bool,
    /// Whether the outer header may be ECN-capable.
    pub ecn: bool,
    /// The MSS of TCP connections.
    pub mss: Mss,
    /// Padding against traffic analysis.
    pub padding: Padding,
}

/// DF outside.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DontFragment {
    /// As the inner packet has it.
    Copy,
    /// Always set.
    Set,
    /// Never set.
    Clear,
}

/// The MSS of TCP connections.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Mss {
    /// Lowered to what fits the tunnel.
    Auto,
    /// Left alone.
    Off,
    /// Lowered to so many octets.
    At(u16),
}

/// Padding against traffic analysis.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Padding {
    /// None.
    Off,
    /// Up to a multiple of so many octets.
    Multiple(u16),
    /// Up to what the path takes.
    Full,
}

impl Default for EspOptions {
    fn default() -> Self {
        Self {
            path_mtu: None,
            dont_fragment: DontFragment::Copy,
            dscp: None,
            dscp_inward: false,
            ecn: true,
            mss: Mss::Auto,
            padding: Padding::Off,
        }
    }
}

impl EspOptions {
    pub(crate) fn parse(given: Option<&v1::EspOptions>, faults: &mut Violations) -> Self {
        let Some(given) = given else { return Self::default() };
        let mut within = |field: &str, value: u32, range: &RangeInclusive<u32>| {
            let ok = value == 0 || range.contains(&value);
            if !ok {
                faults.add(field, format!("{value} is not {} to {}", range.start(), range.end()));
            }
            u16::try_from(value).ok().filter(|value| ok && *value > 0)
        };
        let path_mtu = within("path_mtu", given.path_mtu, &PATH_MTU);
        let mss = within("mss", given.mss, &MSS);
        let padding = within("tfc_padding", given.tfc_padding, &(1..=u32::from(u16::MAX)));
        if given.disable_mss_clamp && given.mss > 0 {
            faults.add("mss", "is given though disable_mss_clamp is set; expected one of the two");
        }
        let dscp = given.dscp.and_then(|dscp| {
            let fits = u8::try_from(dscp).ok().filter(|dscp| *dscp < 64);
            if fits.is_none() {
                faults.add("dscp", format!("{dscp} is not 0 to 63"));
            }
            fits
        });
        let dont_fragment = match v1::DontFragment::try_from(given.dont_fragment) {
            Ok(v1::DontFragment::Unspecified | v1::DontFragment::Copy) => DontFragment::Copy,
            Ok(v1::DontFragment::Set) => DontFragment::Set,
            Ok(v1::DontFragment::Unset) => DontFragment::Clear,
            Err(_) => {
                let value = given.dont_fragment;
                faults.add("dont_fragment", format!("unknown value {value}; expected COPY, SET or UNSET"));
                DontFragment::Copy
            }
        };
        Self {
            path_mtu,
            dont_fragment,
            dscp,
            dscp_inward: given.dscp_inward,
            ecn: !given.disable_ecn,
            mss: match mss {
                _ if given.disable_mss_clamp => Mss::Off,
                Some(octets) => Mss::At(octets),
                None => Mss::Auto,
            },
            padding: match padding {
                None => Padding::Off,
                Some(u16::MAX) => Padding::Full,
                Some(unit) => Padding::Multiple(unit),
            },
        }
    }

    /// As a message; absent for the default.
    pub(crate) fn to_proto(self) -> Option<v1::EspOptions> {
        let dont_fragment = match self.dont_fragment {
            DontFragment::Copy => v1::DontFragment::Copy,
            DontFragment::Set => v1::DontFragment::Set,
            DontFragment::Clear => v1::DontFragment::Unset,
        };
        (self != Self::default()).then(|| v1::EspOptions {
            path_mtu: self.path_mtu.map_or(0, u32::from),
            dont_fragment: dont_fragment.into(),
            dscp: self.dscp.map(u32::from),
            dscp_inward: self.dscp_inward,
            disable_ecn: !self.ecn,
            disable_mss_clamp: self.mss == Mss::Off,
            mss: if let Mss::At(octets) = self.mss { octets.into() } else { 0 },
            tfc_padding: match self.padding {
                Padding::Off => 0,
                Padding::Multiple(unit) => unit.into(),
                Padding::Full => u16::MAX.into(),
            },
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn options_survive_and_faults_name_their_field() {
        let given = v1::EspOptions {
            path_mtu: 1400,
            dont_fragment: v1::DontFragment::Unset.into(),
            dscp: Some(46),
            dscp_inward: true,
            disable_ecn: true,
            mss: 1300,
            tfc_padding: 65_535,
            ..v1::EspOptions::default()
        };
        let mut faults = Violations::new();
        let options = EspOptions::parse(Some(&given), &mut faults);
        assert_eq!((options.to_proto(), options.padding), (Some(given), Padding::Full));
        assert_eq!(EspOptions::parse(None, &mut faults).to_proto(), None);
        assert_eq!(faults.iter().count(), 0);
        let bad = v1::EspOptions {
            path_mtu: 500,
            dont_fragment: 9,
            dscp: Some(64),
            disable_mss_clamp: true,
            mss: 87,
            tfc_padding: 65_536,
            ..v1::EspOptions::default()
        };
        EspOptions::parse(Some(&bad), &mut faults);
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["path_mtu", "mss", "tfc_padding", "mss", "dscp", "dont_fragment"]);
    }
}
