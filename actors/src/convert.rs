//! Between the values of the catalog, of `ike` and of the router.

use std::ops::RangeInclusive;
use std::sync::Arc;

use esp::{Limits, MssClamp, Spi, TfcPadding};
use ike::config::{ChildConfig, PeerConfig, Psk, Retransmit};
use ike::supervise::{Plan, Start};
use ike::wire::TrafficSelector;
use router::{
    ChildSa, Encapsulation, InterfaceAddress, OuterDf, OuterDscp, OuterEcn, TenantId, TunnelId,
    TunnelOptions, Uplink,
};
use tenants::limits::MAX_CHILDREN;
use tenants::{
    Auth, Catalog, ChildSpec, Cidr, DontFragment, DpdAction, EspOptions, Mss, Padding, Peer, PeerSpec,
    StartAction, Tenant,
};

/// The peer as the negotiation needs it, or `None` while its secret is missing.
pub(crate) fn peer_config(catalog: &Catalog, raw_esp: bool, peer: &Peer) -> Option<PeerConfig> {
    let Auth::Psk(secret) = &peer.spec.auth;
    Some(PeerConfig {
        name: peer.name.to_string().into(),
        local_id: peer.spec.local_identity.clone(),
        remote_id: peer.spec.remote_identity.clone(),
        psk: Psk::new(catalog.resolve_secret(secret)?),
        ike_proposals: peer.spec.ike.proposals.clone(),
        children: peer.spec.children.iter().map(|c| Arc::new(child_config(c))).collect(),
        dpd_interval: peer.spec.ike.dpd_interval,
        // Without the privilege for anything else, every peer has to find a NAT.
        force_encapsulation: peer.spec.force_encapsulation || !raw_esp,
        uniqueness: peer.spec.ike.uniqueness,
        retransmit: Retransmit::DEFAULT,
        version: ike::config::Version::default(),
    })
}

/// Who begins, and when.
pub(crate) fn plan(spec: &PeerSpec) -> Plan {
    let start = match spec.start_action {
        StartAction::None => Start::Peer,
        StartAction::OnDemand => Start::OnDemand,
        StartAction::Start => Start::Us,
    };
    let lost = match spec.ike.dpd_action {
        None => start,
        Some(DpdAction::Clear) => Start::Peer,
        Some(DpdAction::Hold) => Start::OnDemand,
        Some(DpdAction::Restart) => Start::Us,
    };
    Plan { start, lost, reauth: spec.ike.reauth_time }
}

fn child_config(child: &ChildSpec) -> ChildConfig {
    let selectors =
        |nets: &[Cidr]| nets.iter().map(|n| TrafficSelector::range(n.first(), n.last())).collect();
    ChildConfig {
        name: child.name.as_str().into(),
        local: selectors(&child.local_subnets),
        remote: selectors(&child.remote_subnets),
        proposals: child.esp_proposals.clone(),
        mode: child.mode,
        life: ike::config::Life::default(),
    }
}

/// A negotiated pair as the router takes it; `None` for algorithms that ESP does not have.
pub(crate) fn router_sa(
    sa: ike::ChildSa,
    tenant: TenantId,
    tunnel: TunnelId,
    spec: &ChildSpec,
    iv_seed: [u8; 32],
) -> Option<ChildSa> {
    let (mode, selectors) = (negotiated::mode(&sa), negotiated::selectors(&sa));
    let limits = Limits {
        soft_bytes: spec.lifetime.bytes.map(|b| b.rekey),
        hard_bytes: spec.lifetime.bytes.map(|b| b.life),
        soft_packets: spec.lifetime.packets.map(|p| p.rekey),
        hard_packets: spec.lifetime.packets.map(|p| p.life),
    };
    Some(ChildSa {
        tenant,
        tunnel,
        inbound_spi: Spi(sa.spi_in),
        outbound_spi: sa.spi_out,
        suite: negotiated::suite(&sa.choice)?,
        inbound_keys: negotiated::keys(sa.keys_in),
        outbound_keys: negotiated::keys(sa.keys_out),
        iv_seed,
        mode,
        selectors,
        replay_window: spec.replay_window,
        limits,
        local: sa.local,
        remote: sa.remote,
        encapsulation: if sa.encapsulated { Encapsulation::Udp } else { Encapsulation::Raw },
        options: options(&spec.esp, sa.tfc),
    })
}

/// How packets are wrapped. A peer that does not take padding gets none.
fn options(spec: &EspOptions, tfc: bool) -> TunnelOptions {
    TunnelOptions {
        outer_mtu: spec.path_mtu,
        df: match spec.dont_fragment {
            DontFragment::Copy => OuterDf::Copy,
            DontFragment::Set => OuterDf::Set,
            DontFragment::Clear => OuterDf::Clear,
        },
        dscp: spec.dscp.map_or(OuterDscp::Copy, OuterDscp::Fixed),
        dscp_inward: spec.dscp_inward,
        ecn: if spec.ecn { OuterEcn::Copy } else { OuterEcn::NotEct },
        mss: match spec.mss {
            Mss::Auto => MssClamp::Auto,
            Mss::Off => MssClamp::Off,
            Mss::At(octets) => MssClamp::At(octets),
        },
        tfc: match spec.padding {
            _ if !tfc => TfcPadding::Off,
            Padding::Off => TfcPadding::Off,
            Padding::Multiple(unit) => TfcPadding::Multiple(unit),
            Padding::Full => TfcPadding::Fixed(u16::MAX),
        },
    }
}

/// A tenant's uplink as the router takes it.
pub(crate) fn uplink(tenant: &Tenant) -> Uplink {
    match &tenant.spec.uplink {
        tenants::Uplink::Hub => Uplink::Hub,
        tenants::Uplink::Tun(tun) => Uplink::Tun {
            name: tun.device.clone(),
            netns: tun.netns.clone(),
            addresses: tun
                .addresses
                .iter()
                .map(|&(address, prefix)| InterfaceAddress { address, prefix })
                .collect(),
            mtu: u16::try_from(tun.mtu).unwrap_or(u16::MAX),
            routes: true,
            clear_device: tun.clear_device.clone(),
        },
    }
}

/// The child that a Child SA of this name is for, as a whole or as a part (`ike::coverage`).
pub(crate) fn child_of_sa<'a>(peer: &'a Peer, sa: &str) -> Option<&'a ChildSpec> {
    let (policy, _) = ike::coverage::policy_of(sa);
    peer.spec.children.iter().find(|child| child.name == policy)
}

/// The number in the router of every tunnel that the peer with this uid may have.
pub(crate) const fn tunnels_of(uid: u64) -> RangeInclusive<u64> {
    uid * CHILDREN_PER_PEER..=uid * CHILDREN_PER_PEER + (CHILDREN_PER_PEER - 1)
}

/// The uid of the peer that a tunnel belongs to.
pub(crate) const fn peer_of_tunnel(tunnel: TunnelId) -> u64 {
    tunnel.0 / CHILDREN_PER_PEER
}

/// Numbers of a peer: those of its policies, and as many for parts of them.
pub(crate) const CHILDREN_PER_PEER: u64 = 64;
const _: () = assert!(MAX_CHILDREN + ike::coverage::MAX_PARTS_OF_PEER <= 64);
