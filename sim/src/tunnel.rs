//! What every tunnel of a history is: its policies and their subnets, what both sides are configured with, its packets.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ike::config::{
    Auth, ChildConfig, Life, Mode, Opening, PeerConfig, Phase1, Psk, Retransmit, Uniqueness, V1, Version,
};
use ike::wire::TrafficSelector;

use crate::scenario::Scenario;

/// Name of a policy of every tunnel, from 0 on.
pub fn policy_name(policy: usize) -> String {
    format!("p{policy}")
}

/// Subnet of a policy on one side of a tunnel.
pub(crate) fn subnet(tunnel: usize, policy: usize, hub: bool) -> (Ipv4Addr, Ipv4Addr) {
    let (t, p) = (u8::try_from(tunnel % 250).unwrap_or(0), u8::try_from(policy % 60).unwrap_or(0));
    let base = if hub { 64 } else { 0 };
    (Ipv4Addr::new(10, t, base + p, 0), Ipv4Addr::new(10, t, base + p, 255))
}

/// What a policy of a tunnel protects.
pub(crate) fn mode(tunnel: usize, policy: usize, nat: bool, scenario: &Scenario) -> Mode {
    // Now the one of IKE_AUTH, now another.
    let chosen = has_transport(tunnel, nat, scenario) && policy == tunnel / 2 % scenario.policies.max(1);
    if chosen { Mode::Transport } else { Mode::Tunnel }
}

fn has_transport(tunnel: usize, nat: bool, scenario: &Scenario) -> bool {
    scenario.transport && !nat && tunnel.is_multiple_of(2)
}

/// What one side of a tunnel is configured with; `ips` are the hub's address and the branch's.
pub(crate) fn config(
    tunnel: usize,
    hub: bool,
    ips: (IpAddr, IpAddr),
    scenario: &Scenario,
) -> Arc<PeerConfig> {
    let nat = matches!(ips.1, IpAddr::V4(ip) if ip.is_private());
    let selector = |policy: usize, hub: bool| {
        let (first, last) = subnet(tunnel, policy, hub);
        match mode(tunnel, policy, nat, scenario) {
            Mode::Tunnel => TrafficSelector::range(first.into(), last.into()),
            Mode::Transport if hub => TrafficSelector::range(ips.0, ips.0),
            Mode::Transport => TrafficSelector::range(ips.1, ips.1),
        }
    };
    let version = version(tunnel, scenario);
    // Suites differ from tunnel to tunnel; some have PFS, some do not agree on the group at first.
    let (ike, esp): (&[&str], &[&str]) = match (version, tunnel % 4) {
        (Version::V1(_), 0) => (&["aes128-sha256-x25519"], &["aes128gcm16-noesn"]),
        (Version::V1(_), 1) if hub => (&["aes256-sha256-ecp256-x25519"], &["aes128gcm16-ecp256-x25519"]),
        (Version::V1(_), 1) => (&["aes256-sha256-x25519-ecp256"], &["aes128gcm16-x25519-ecp256"]),
        (Version::V1(_), 2) => (&["aes256-sha384-x25519"], &["aes256gcm16-esn"]),
        (Version::V1(_), _) => (&["aes256-sha512-ecp256"], &["aes256-sha256-noesn"]),
        (Version::V2, 0) => (&["aes128gcm16-prfsha256-x25519"], &["aes128gcm16"]),
        (Version::V2, 1) if hub => (&["aes256-sha256-ecp256-x25519"], &["aes128gcm16-ecp256-x25519"]),
        (Version::V2, 1) => (&["aes256-sha256-x25519-ecp256"], &["aes128gcm16-x25519-ecp256"]),
        (Version::V2, 2) => (&["chacha20poly1305-prfsha384-x25519"], &["chacha20poly1305-esn"]),
        (Version::V2, _) => (&["aes256gcm16-prfsha512-ecp256"], &["aes256-sha256-noesn"]),
    };
    let identity = |hub: bool| if hub { "hub.example".to_owned() } else { format!("b{tunnel}.example") };
    // The texts above are constants of this file, and a test reads them all.
    #[allow(clippy::expect_used)]
    Arc::new(PeerConfig {
        name: format!("tunnel {tunnel}").into(),
        local_id: identity(hub).parse().expect("an identity"),
        remote_id: identity(!hub).parse().expect("an identity"),
        auth: Auth::Psk(Psk::new(format!("key of tunnel {tunnel}").into_bytes().into())),
        ike_proposals: ike.iter().map(|p| p.parse().expect("a proposal")).collect(),
        children: (0..scenario.policies)
            .map(|policy| {
                Arc::new(ChildConfig {
                    name: policy_name(policy).into(),
                    local: vec![selector(policy, hub)],
                    remote: vec![selector(policy, !hub)],
                    proposals: esp.iter().map(|p| p.parse().expect("a proposal")).collect(),
                    mode: mode(tunnel, policy, nat, scenario),
                    life: life(scenario.lifetimes.child.1, hub),
                    resources: if hub { scenario.resources } else { scenario.resources.min(2) },
                })
            })
            .collect(),
        dpd_interval: scenario.dpd,
        force_encapsulation: !has_transport(tunnel, nat, scenario),
        uniqueness: Uniqueness::Replace,
        retransmit: Retransmit::DEFAULT,
        version,
    })
}

/// What a tunnel speaks.
fn version(tunnel: usize, scenario: &Scenario) -> Version {
    let mode = match scenario.spoken.get(tunnel % scenario.spoken.len().max(1)) {
        Some(Opening::Main) => Phase1::Main,
        Some(Opening::Aggressive) => Phase1::Aggressive,
        Some(Opening::Init) | None => return Version::V2,
    };
    // What a branch would keep for longer lasts as long as the hub says, on both sides.
    Version::V1(V1 { mode, life: life(scenario.lifetimes.ike.1, true) })
}

/// How long an SA lasts to those who are told: a branch would keep it for twice as long.
fn life(hard: Duration, hub: bool) -> Life {
    Life { time: if hub { hard } else { 2 * hard }, kilobytes: None }
}

/// An inner UDP packet of a policy in tunnel mode that carries a number.
pub fn inner_packet(tunnel: usize, policy: usize, from_hub: bool, number: usize) -> Vec<u8> {
    numbered((subnet(tunnel, policy, from_hub).0, subnet(tunnel, policy, !from_hub).0), number)
}

/// A UDP packet that carries a number.
pub(crate) fn numbered((source, destination): (Ipv4Addr, Ipv4Addr), number: usize) -> Vec<u8> {
    let mut packet = vec![0x45, 0, 0, 36, 0, 0, 0, 0, 64, 17, 0, 0];
    packet.extend_from_slice(&source.octets());
    packet.extend_from_slice(&destination.octets());
    packet.extend_from_slice(&[0, 9, 0, 9, 0, 16, 0, 0]);
    packet.extend_from_slice(&u64::try_from(number).unwrap_or(u64::MAX).to_be_bytes());
    packet
}
