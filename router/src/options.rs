//! How the packets of a tunnel are wrapped (RFC 4301 sections 5.1.2 and 8, RFC 6040). Local choices: none is negotiated.

use esp::ip::{may_fragment, traffic_class};
use esp::{MssClamp, TfcPadding};

/// What carries the ESP packets of a pair.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum Encapsulation {
    /// UDP on the port of NAT traversal (RFC 3948): behind a NAT, or because it is wanted.
    #[default]
    Udp,
    /// IP protocol 50 itself (RFC 4303). Needs [`crate::RouterConfig::raw_esp`] and `CAP_NET_RAW`; see
    /// [`crate::RouterHandle::has_raw_esp`].
    Raw,
}

/// The DF bit of the outer IPv4 header (RFC 4301 section 8.1). IPv6 outside: whether we may fragment the outer packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OuterDf {
    /// As the inner packet has it, and set for inner IPv6, which no router fragments. So who can learn the path's MTU learns
    /// it, and everything else arrives.
    #[default]
    Copy,
    /// Always set.
    Set,
    /// Never set: what is too large is fragmented outside, and nobody inside is told.
    Clear,
}

/// The DSCP of the outer header (RFC 4301 section 5.1.2.1).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OuterDscp {
    /// As the inner packet has it.
    #[default]
    Copy,
    /// Always this, 0..=63; higher bits are ignored. Hides what kinds of traffic the tunnel carries.
    Fixed(u8),
}

/// The ECN field of the outer header (RFC 6040 section 4.1). Inwards every mode is treated alike (section 4.2).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum OuterEcn {
    /// Normal mode: as the inner packet has it.
    #[default]
    Copy,
    /// Compatibility mode, for a peer that knows nothing of ECN in tunnels: never ECN-capable.
    NotEct,
}

/// Options of a tunnel, given with each of its pairs. The default is what RFC 4301 and RFC 6040 recommend.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct TunnelOptions {
    /// Largest outer packet in octets, its IP header included, where the path is known to take less than the interface.
    /// Values below 576 (IPv4) or 1280 (IPv6) mean those.
    pub outer_mtu: Option<u16>,
    /// DF outside.
    pub df: OuterDf,
    /// DSCP outside.
    pub dscp: OuterDscp,
    /// Whether a packet that comes out of the tunnel takes over the outer DSCP (RFC 4301 section 5.1.2.2 leaves it alone).
    pub dscp_inward: bool,
    /// ECN outside.
    pub ecn: OuterEcn,
    /// The MSS of TCP connections through the tunnel, in both directions.
    pub mss: MssClamp,
    /// Padding against traffic analysis of what we send.
    pub tfc: TfcPadding,
}

impl TunnelOptions {
    /// TOS or traffic class of the outer header around `inner`.
    pub(crate) fn outer_class(&self, inner: &[u8]) -> u8 {
        let class = traffic_class(inner);
        let dscp = match self.dscp {
            OuterDscp::Copy => class & DSCP,
            OuterDscp::Fixed(dscp) => dscp << 2,
        };
        match self.ecn {
            OuterEcn::Copy => dscp | class & !DSCP,
            OuterEcn::NotEct => dscp,
        }
    }

    /// Whether nobody may fragment the outer packet around `inner`.
    pub(crate) fn outer_df(&self, inner: &[u8]) -> bool {
        match self.df {
            OuterDf::Copy => !may_fragment(inner),
            OuterDf::Set => true,
            OuterDf::Clear => false,
        }
    }
}

/// The six bits of a TOS octet that are the DSCP (RFC 2474 section 3).
pub(crate) const DSCP: u8 = 0xfc;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    #[test]
    fn the_outer_header_is_as_the_options_say() {
        let mut v4 = [0; 20];
        (v4[0], v4[1]) = (0x45, 0xb9);
        let mut v6 = [0; 40];
        (v6[0], v6[1]) = (0x6b, 0x90);
        let default = TunnelOptions::default();
        let fixed = TunnelOptions { dscp: OuterDscp::Fixed(0x0a), ..default };
        let hidden = TunnelOptions { ecn: OuterEcn::NotEct, ..fixed };
        for packet in [&v4[..], &v6] {
            assert_eq!(default.outer_class(packet), 0xb9);
            assert_eq!(fixed.outer_class(packet), 0x29);
            assert_eq!(hidden.outer_class(packet), 0x28);
        }
        assert!(!default.outer_df(&v4) && default.outer_df(&v6));
        v4[6] = 0x40;
        assert!(default.outer_df(&v4));
        assert!(!TunnelOptions { df: OuterDf::Clear, ..default }.outer_df(&v4));
        v4[6] = 0;
        assert!(TunnelOptions { df: OuterDf::Set, ..default }.outer_df(&v4));
    }
}
