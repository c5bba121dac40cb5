//! Between the values of the catalog, of `ike` and of the router.

use std::ops::RangeInclusive;
use std::sync::Arc;

use esp::{Limits, MssClamp, Spi, TfcPadding};
use ike::config::{self, ChildConfig, Life, PeerConfig, Psk, Retransmit, V1, Version};
use ike::resources::{configured, resource_of};
use ike::supervise::{Plan, Start};
use ike::wire::TrafficSelector;
use router::{
    ChildSa, Encapsulation, InterfaceAddress, OuterDf, OuterDscp, OuterEcn, Reserve, TenantId, TrafficLimits,
    TunnelId, TunnelOptions, Uplink,
};
use tenants::limits::MAX_CHILDREN;
use tenants::{
    Auth, Catalog, ChildSpec, Cidr, DontFragment, DpdAction, EspOptions, IkeSpec, IkeVersion, Mss, Padding,
    Peer, PeerSpec, Quotas, StartAction, Tenant,
};

/// The peer as the negotiation needs it on a node with so many shards, or `None` while its secret is missing.
pub(crate) fn peer_config(
    catalog: &Catalog,
    raw_esp: bool,
    shards: usize,
    peer: &Peer,
) -> Option<PeerConfig> {
    let id = &peer.spec.local_identity;
    let (auth, local_id) = match &peer.spec.auth {
        Auth::Psk(secret) => (config::Auth::Psk(Psk::new(catalog.resolve_secret(secret)?)), id.clone()),
        Auth::Certificates { own, authorities } => {
            let credentials = catalog.credentials(own, authorities)?;
            let written = credentials.ours().written(id);
            (config::Auth::Certificates(Arc::new(credentials)), written)
        }
    };
    Some(PeerConfig {
        name: peer.name.to_string().into(),
        local_id,
        remote_id: peer.spec.remote_identity.clone(),
        auth,
        ike_proposals: peer.spec.ike.proposals.clone(),
        children: peer.spec.children.iter().map(|c| Arc::new(child_config(c, shards))).collect(),
        dpd_interval: peer.spec.ike.dpd_interval,
        // Without the privilege for anything else, every peer has to find a NAT.
        force_encapsulation: peer.spec.force_encapsulation || !raw_esp,
        uniqueness: peer.spec.ike.uniqueness,
        retransmit: Retransmit::DEFAULT,
        version: version(&peer.spec.ike),
    })
}

/// The version of IKE, with what an IKEv1 peer is told of the life of an IKE_SA.
fn version(spec: &IkeSpec) -> Version {
    match spec.version {
        IkeVersion::V2 => Version::V2,
        IkeVersion::V1(v1) => {
            let life = Life { time: spec.lifetime.life, kilobytes: v1.life_kilobytes };
            Version::V1(V1 { mode: v1.mode, life })
        }
    }
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

fn child_config(child: &ChildSpec, shards: usize) -> ChildConfig {
    let selectors =
        |nets: &[Cidr]| nets.iter().map(|n| TrafficSelector::range(n.first(), n.last())).collect();
    ChildConfig {
        name: child.name.as_str().into(),
        local: selectors(&child.local_subnets),
        remote: selectors(&child.remote_subnets),
        proposals: child.esp_proposals.clone(),
        mode: child.mode,
        life: Life {
            time: child.lifetime.time.life,
            kilobytes: child.lifetime.bytes.map(|bytes| bytes.life / OCTETS_PER_KILOBYTE),
        },
        // With more there would be two on one shard.
        resources: u8::try_from(shards).unwrap_or(u8::MAX).min(child.resource_sas),
    }
}

/// The unit of what an SA carries (RFC 2407 section 4.5).
const OCTETS_PER_KILOBYTE: u64 = 1_024;

/// A negotiated pair as the router takes it; `None` for algorithms that ESP does not have.
pub(crate) fn router_sa(
    sa: ike::ChildSa,
    tenant: TenantId,
    tunnel: TunnelId,
    spec: &ChildSpec,
    iv_seed: [u8; 32],
    follows: bool,
) -> Option<ChildSa> {
    let (mode, selectors) = (negotiated::mode(&sa), negotiated::selectors(&sa));
    let lifetime = spec.lifetime.within(sa.limit.time, sa.limit.octets);
    let limits = Limits {
        soft_bytes: lifetime.bytes.map(|b| b.rekey),
        hard_bytes: lifetime.bytes.map(|b| b.life),
        soft_packets: lifetime.packets.map(|p| p.rekey),
        hard_packets: lifetime.packets.map(|p| p.life),
    };
    Some(ChildSa {
        tenant,
        tunnel,
        inbound_spi: Spi(sa.spi_in),
        own: resource_of(&sa.name).1 > 0,
        follows,
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
        reserve: Reserve::default(),
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

/// What a tenant may carry per second as the router takes it.
pub(crate) fn limits(quotas: &Quotas) -> TrafficLimits {
    TrafficLimits { packets: quotas.packets_per_second, octets: quotas.bytes_per_second }
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

/// The child that a Child SA of this name is for, as a whole or as a part (`ike::coverage`), or for a shard
/// (`ike::resources`).
pub(crate) fn child_of_sa<'a>(peer: &'a Peer, sa: &str) -> Option<&'a ChildSpec> {
    let policy = configured(sa);
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

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use culvert_proto::v1;
    use ike::config::{Opening, Phase1};

    use super::*;

    /// The peer of a catalog that has it alone.
    fn converted(ike: v1::IkeConfig, lifetime: Option<v1::ChildLifetime>) -> PeerConfig {
        let catalog = Catalog::in_memory().unwrap();
        let secret = "tenants/acme/secrets/psk".to_owned();
        let child = v1::Child {
            name: "lan".to_owned(),
            local_subnets: vec!["10.0.0.0/24".to_owned()],
            remote_subnets: vec!["10.1.0.0/24".to_owned()],
            lifetime,
            ..Default::default()
        };
        let peer = v1::Peer {
            name: "tenants/acme/peers/b1".to_owned(),
            local_identity: "gw.example".to_owned(),
            remote_identity: "b1.example".to_owned(),
            auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk(secret.clone())) }),
            ike: Some(ike),
            children: vec![child],
            ..Default::default()
        };
        let tenant = v1::Tenant { name: "tenants/acme".to_owned(), ..Default::default() };
        let secret = v1::Secret { name: secret, value: b"x".to_vec(), ..Default::default() };
        let kinds = [
            v1::object::Kind::Tenant(tenant),
            v1::object::Kind::Secret(secret),
            v1::object::Kind::Peer(peer),
        ];
        let objects = kinds.map(|kind| v1::Object { kind: Some(kind) }).to_vec();
        catalog.apply(v1::ApplyRequest { objects, ..Default::default() }).unwrap();
        let peer = catalog.get_peer(&"tenants/acme/peers/b1".parse().unwrap()).unwrap();
        peer_config(&catalog, true, 2, &peer).unwrap()
    }

    #[test]
    fn a_peer_of_ikev1_is_told_the_hard_lifetimes() {
        let config = converted(v1::IkeConfig::default(), None);
        assert_eq!((config.version, config.opening()), (Version::V2, Opening::Init));
        let life = config.children[0].life;
        assert_eq!(life, Life { time: Duration::from_secs(3_960), kilobytes: None });

        let seconds = |seconds| Some(prost_types::Duration { seconds, nanos: 0 });
        let ike = v1::IkeConfig {
            version: v1::IkeVersion::Ikev1.into(),
            v1: Some(v1::IkeV1Config { mode: v1::IkeV1Mode::Aggressive.into(), life_kilobytes: 5_000 }),
            lifetime: Some(v1::IkeLifetime { rekey_time: seconds(7_200), life_time: seconds(8_000) }),
            ..Default::default()
        };
        let child = v1::ChildLifetime {
            rekey_time: seconds(600),
            life_time: seconds(700),
            life_bytes: 4_608_000 * 1_024,
            ..Default::default()
        };
        let config = converted(ike, Some(child));
        let life = Life { time: Duration::from_secs(8_000), kilobytes: Some(5_000) };
        assert_eq!(config.version, Version::V1(V1 { mode: Phase1::Aggressive, life }));
        let life = config.children[0].life;
        assert_eq!(life, Life { time: Duration::from_secs(700), kilobytes: Some(4_608_000) });
    }
}
