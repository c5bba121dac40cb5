use std::net::IpAddr;

use super::*;
use proptest::prelude::*;

pub(super) fn tenant() -> TenantName {
    "tenants/acme".parse().unwrap()
}

pub(super) fn child(name: &str, local: &[&str], remote: &[&str]) -> v1::Child {
    let subnets = |texts: &[&str]| texts.iter().map(ToString::to_string).collect();
    v1::Child {
        name: name.to_owned(),
        local_subnets: subnets(local),
        remote_subnets: subnets(remote),
        ..Default::default()
    }
}

pub(super) fn valid() -> v1::Peer {
    v1::Peer {
        local_identity: "gw.acme.example".to_owned(),
        remote_identity: "branch-12.acme.example".to_owned(),
        remote_addresses: vec!["192.0.2.1".to_owned()],
        auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/acme/secrets/psk".to_owned())) }),
        children: vec![child("lan", &["10.0.0.0/24"], &["10.1.0.0/24"])],
        ..Default::default()
    }
}

pub(super) fn faults(change: impl FnOnce(&mut v1::Peer)) -> Vec<(String, String)> {
    let mut peer = valid();
    change(&mut peer);
    let faults = PeerSpec::parse(&tenant(), &peer).unwrap_err();
    faults.iter().map(|fault| (fault.field.clone(), fault.description.clone())).collect()
}

/// Exactly one fault, of this field, with this in its description.
pub(super) fn one_fault(field: &str, description: &str, change: impl FnOnce(&mut v1::Peer)) {
    let found = faults(change);
    let [(in_field, text)] = found.as_slice() else { panic!("{found:?}") };
    assert_eq!(in_field, field);
    assert!(text.contains(description), "{text}");
}

#[test]
fn defaults_are_written_out() {
    let spec = PeerSpec::parse(&tenant(), &valid()).unwrap();
    assert_eq!(spec.ike.dpd_interval, limits::DEFAULT_DPD_INTERVAL);
    assert_eq!(spec.children[0].replay_window, limits::DEFAULT_REPLAY_WINDOW);
    let written = spec.to_proto();
    assert!(!written.ike.as_ref().unwrap().proposals.is_empty());
    assert_eq!(written.children[0].lifetime.unwrap().rekey_time.unwrap().seconds, 3600);
    assert_eq!(written.children[0].lifetime.unwrap().life_time.unwrap().seconds, 3960);
    assert_eq!(PeerSpec::parse(&tenant(), &written).unwrap(), spec);
    assert_eq!(written.ike.unwrap().uniqueness(), v1::Uniqueness::Replace);
}

#[test]
fn a_connection_may_be_kept() {
    let ike = Some(v1::IkeConfig { uniqueness: v1::Uniqueness::Keep.into(), ..Default::default() });
    let spec = PeerSpec::parse(&tenant(), &v1::Peer { ike, ..valid() }).unwrap();
    assert_eq!(spec.ike.uniqueness, ike::config::Uniqueness::Keep);
    assert_eq!(PeerSpec::parse(&tenant(), &spec.to_proto()).unwrap(), spec);
}

#[test]
fn each_fault_has_its_field_and_says_what_is_expected() {
    one_fault("children[0].remote_subnets[0]", "did you mean 10.0.0.0/24", |peer| {
        peer.children[0].remote_subnets[0] = "10.0.0.1/24".to_owned();
    });
    one_fault("children[0].esp_proposals[0]", "3des", |peer| {
        peer.children[0].esp_proposals.push("3des".to_owned());
    });
    one_fault("ike.proposals[1]", "rot13", |peer| {
        let proposals = ["aes128gcm16-prfsha256-x25519", "rot13"].map(str::to_owned).to_vec();
        peer.ike = Some(v1::IkeConfig { proposals, ..Default::default() });
    });
    one_fault("remote_identity", "empty", |peer| peer.remote_identity.clear());
    one_fault("local_identity", "cannot be shown", |peer| peer.local_identity = "keyid:\u{1}".to_owned());
    one_fault("auth", "psk", |peer| peer.auth = None);
    one_fault("auth.psk", "not a secret of tenants/acme", |peer| {
        peer.auth =
            Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/evil/secrets/psk".to_owned())) });
    });
    one_fault("remote_addresses", "single address", |peer| {
        peer.start_action = v1::StartAction::Start.into();
        peer.remote_addresses = vec!["192.0.2.0/24".to_owned()];
    });
    one_fault("remote_addresses[0]", "neither an address nor a host name", |peer| {
        peer.remote_addresses = vec!["10.0.0.300".to_owned()];
    });
    one_fault("start_action", "unknown value 77", |peer| peer.start_action = 77);
    one_fault("children", "at least one", |peer| peer.children.clear());
    one_fault("children", "at most 32", |peer| peer.children = vec![v1::Child::default(); 33]);
    one_fault("children[0].local_subnets", "IPv6", |peer| {
        peer.children[0] = child("lan", &["10.0.0.0/8"], &["10.1.0.0/24", "2001:db8::/32"]);
    });
    one_fault("children[0].remote_subnets[1]", "already", |peer| {
        peer.children[0] = child("lan", &["10.0.0.0/8"], &["10.1.0.0/24", "10.1.0.0/24"]);
    });
    one_fault("children[1].remote_subnets[0]", "\"lan\"", |peer| {
        peer.children.push(child("wan", &["10.0.0.0/8"], &["10.1.0.0/24"]));
    });
    one_fault("children[1].name", "another child", |peer| {
        peer.children.push(child("lan", &["10.0.0.0/24"], &["10.2.0.0/24"]));
    });
    one_fault("children[0].replay_window", "64 to 8192", |peer| peer.children[0].replay_window = 63);
    one_fault("children[0].lifetime.rekey_time", "not before", |peer| {
        let lifetime = |rekey, life| v1::ChildLifetime {
            rekey_time: Some(prost_types::Duration { seconds: rekey, nanos: 0 }),
            life_time: Some(prost_types::Duration { seconds: life, nanos: 0 }),
            ..Default::default()
        };
        peer.children[0].lifetime = Some(lifetime(60, 60));
    });
    one_fault("ike.uniqueness", "expected REPLACE or KEEP", |peer| {
        peer.ike = Some(v1::IkeConfig { uniqueness: 3, ..Default::default() });
    });
    one_fault("ike.dpd_interval", "not a duration", |peer| {
        let dpd_interval = Some(prost_types::Duration { seconds: -1, nanos: 0 });
        peer.ike = Some(v1::IkeConfig { dpd_interval, ..Default::default() });
    });
}

#[test]
fn all_faults_are_reported_at_once() {
    let found = faults(|peer| {
        peer.remote_identity.clear();
        peer.remote_addresses.push("10.0.0.300".to_owned());
        peer.children[0].local_subnets.push("10.9.9.9/8".to_owned());
    });
    let fields: Vec<_> = found.iter().map(|(field, _)| field.as_str()).collect();
    assert_eq!(fields, ["remote_identity", "remote_addresses[1]", "children[0].local_subnets[1]"]);
}

#[test]
fn a_child_has_as_many_sas_as_a_node_may_have_shards() {
    for (given, kept, told) in [(0, 1, 0), (1, 1, 0), (2, 2, 2), (64, 64, 64)] {
        let mut peer = valid();
        peer.children[0].resource_sas = given;
        let spec = PeerSpec::parse(&tenant(), &peer).unwrap();
        assert_eq!((spec.children[0].resource_sas, spec.to_proto().children[0].resource_sas), (kept, told));
    }
    for wrong in [65, 257, u32::MAX] {
        one_fault("children[0].resource_sas", "is not 0 to 64", |peer| {
            peer.children[0].resource_sas = wrong;
        });
    }
}

/// A peer with one child in transport mode.
fn transport(peer: &mut v1::Peer) -> &mut v1::Child {
    peer.children = vec![child("host", &["198.51.100.1/32"], &["192.0.2.1/32"])];
    peer.children[0].mode = v1::ChildMode::Transport.into();
    &mut peer.children[0]
}

#[test]
fn transport_mode_is_between_two_hosts() {
    let mut peer = valid();
    transport(&mut peer);
    let spec = PeerSpec::parse(&tenant(), &peer).unwrap();
    assert_eq!(spec.children[0].mode, Mode::Transport);
    assert_eq!(PeerSpec::parse(&tenant(), &spec.to_proto()).unwrap(), spec);
    assert_eq!(
        PeerSpec::parse(&tenant(), &valid()).unwrap().to_proto().children[0].mode(),
        v1::ChildMode::Tunnel
    );

    one_fault("children[0].local_subnets", "more than one address", |peer| {
        transport(peer).local_subnets[0] = "198.51.100.0/31".to_owned();
    });
    one_fault("children[0].local_subnets", "more than one address", |peer| {
        transport(peer).local_subnets.push("198.51.100.2/32".to_owned());
    });
    one_fault("children[0].remote_subnets", "at least one", |peer| transport(peer).remote_subnets.clear());
    one_fault("children[0].remote_subnets[0]", "remote_addresses has no 192.0.2.2", |peer| {
        transport(peer).remote_subnets[0] = "192.0.2.2/32".to_owned();
    });
    one_fault("children[0].mode", "unknown value 9", |peer| transport(peer).mode = 9);
    one_fault("children[0].esp.dscp_inward", "one IP header", |peer| {
        transport(peer).esp = Some(v1::EspOptions { dscp_inward: true, ..Default::default() });
    });
    one_fault("children[0].esp.disable_ecn", "one IP header", |peer| {
        transport(peer).esp = Some(v1::EspOptions { disable_ecn: true, ..Default::default() });
    });
    one_fault("force_encapsulation", "\"host\"", |peer| {
        transport(peer);
        peer.force_encapsulation = true;
    });
    // Of IPv6 as well; and from wherever it comes.
    transport(&mut peer).local_subnets[0] = "2001:db8::1/128".to_owned();
    peer.children[0].remote_subnets[0] = "2001:db8::2/128".to_owned();
    peer.remote_addresses.clear();
    assert!(PeerSpec::parse(&tenant(), &peer).is_ok());
}

#[test]
fn a_name_is_a_destination() {
    let mut peer = valid();
    peer.start_action = v1::StartAction::Start.into();
    peer.remote_addresses = vec!["192.0.2.0/24".to_owned(), "Branch.Example:4501".to_owned()];
    let spec = PeerSpec::parse(&tenant(), &peer).unwrap();
    let expected = Destination::Name("branch.example".parse().unwrap(), 4501);
    assert_eq!(spec.initiate_to(500), Some(expected));
    assert_eq!(spec.host_names().count(), 1);
    peer.remote_addresses[1] = "branch.example".to_owned();
    transport(&mut peer);
    let spec = PeerSpec::parse(&tenant(), &peer).unwrap();
    assert!(matches!(spec.initiate_to(500), Some(Destination::Name(_, 500))));
}

#[test]
fn a_host_name_that_looks_like_an_address_stays_one() {
    let mut peer = valid();
    peer.remote_identity = "fqdn:10.0.0.1".to_owned();
    let spec = PeerSpec::parse(&tenant(), &peer).unwrap();
    assert_eq!(spec.to_proto().remote_identity, "fqdn:10.0.0.1");
    assert_eq!(PeerSpec::parse(&tenant(), &spec.to_proto()).unwrap(), spec);
}

fn any_child() -> impl Strategy<Value = v1::Child> {
    // Where both of a pair are given they are in order: the faults of pairs have a test of their own.
    let pair = |least: u64, most: u64| (least..most).prop_flat_map(move |life| (0..life, 0u8..4, Just(life)));
    let lifetime = (pair(200_000, 1 << 40), pair(200, 1 << 33), pair(10, 2_600_000)).prop_map(
        |((rekey_bytes, _, life_bytes), (rekey_packets, which, life_packets), (rekey, time, life))| {
            let seconds =
                |seconds: u64, nanos| Some(prost_types::Duration { seconds: seconds as i64, nanos });
            v1::ChildLifetime {
                rekey_time: if time & 1 == 0 { seconds(rekey.max(2), 5) } else { None },
                life_time: if time & 2 == 0 { seconds(life, 0) } else { None },
                rekey_bytes: rekey_bytes.max(100_000),
                life_bytes,
                rekey_packets: if which & 1 == 0 { rekey_packets.max(100) } else { 0 },
                life_packets: if which & 2 == 0 { life_packets } else { 0 },
            }
        },
    );
    let subnets = || {
        let subnet = (any::<u32>(), 0u8..=32).prop_map(|(bits, prefix)| {
            crate::Cidr::truncated(IpAddr::V4(bits.into()), prefix).unwrap().to_string()
        });
        proptest::collection::vec(subnet, 1..4)
    };
    let esp =
        proptest::sample::subsequence(vec!["aes128gcm16", "aes256-sha256", "aes256gcm16-x25519-esn"], 0..=3);
    ("[a-z]{1,4}", subnets(), subnets(), esp, proptest::option::of(lifetime), 64u32..=8192).prop_map(
        |(name, local_subnets, remote_subnets, esp, lifetime, replay_window)| v1::Child {
            mode: (replay_window % 2) as i32,
            name,
            local_subnets,
            remote_subnets,
            esp_proposals: esp.into_iter().map(str::to_owned).collect(),
            lifetime,
            replay_window,
            esp: None,
            resource_sas: replay_window % 65,
        },
    )
}

fn any_identity() -> impl Strategy<Value = String> {
    let address = any::<u128>().prop_map(|bits| IpAddr::V6(bits.into()).to_string());
    prop_oneof![
        "[a-z][a-z0-9.]{0,10}",
        "keyid:[ -~]{1,8}",
        "(fqdn:|@)?[1-9]\\.2\\.3\\.4",
        "[a-z]{1,5}@[a-z]{1,5}",
        "(fqdn:|@)[a-z]{1,5}@[a-z]{1,5}",
        address,
    ]
}

proptest! {
    /// What is valid survives being written and read: nothing depends on defaults of another version.
    #[test]
    fn a_valid_peer_round_trips(
        children in proptest::collection::vec(any_child(), 1..3),
        local in any_identity(),
        remote in any_identity(),
        force in any::<bool>(),
        start in 0i32..3,
    ) {
        let peer = v1::Peer {
            children,
            local_identity: local,
            remote_identity: remote,
            force_encapsulation: force,
            start_action: start,
            ..valid()
        };
        let spec = PeerSpec::parse(&tenant(), &peer);
        // Children whose names or subnets clash by chance.
        prop_assume!(spec.is_ok());
        let spec = spec.unwrap();
        prop_assert_eq!(&PeerSpec::parse(&tenant(), &spec.to_proto()).unwrap(), &spec);
        for child in &spec.children {
            prop_assert!(child.lifetime.time.rekey < child.lifetime.time.life);
            prop_assert!(child.lifetime.bytes.is_none_or(|span| span.rekey < span.life));
            prop_assert!(child.lifetime.packets.is_none_or(|span| span.rekey < span.life));
        }
    }

    #[test]
    fn any_message_is_refused_without_a_panic(octets in proptest::collection::vec(any::<u8>(), 0..200)) {
        use prost::Message as _;
        if let Ok(peer) = v1::Peer::decode(octets.as_slice()) {
            let _ = PeerSpec::parse(&tenant(), &peer);
        }
    }
}
