//! Who may have sent a first message, and by what a peer is found: identities, addresses, secrets, names, versions and modes.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{catalog, create_peer, name, peer, try_create, violation};
use culvert_proto::v1;
use ike::config::Opening;
use ike::verbs::MAX_CANDIDATES;
use tenants::{LookupError, SecretName};

#[test]
fn a_responder_finds_the_peer_by_identities_and_address() {
    let catalog = catalog(&["acme", "globex"]);
    let from = |tenant: &str, local: &str, address: &str| v1::Peer {
        local_identity: local.to_owned(),
        remote_identity: "branch.example".to_owned(),
        remote_addresses: vec![address.to_owned()],
        ..peer(tenant, "b1", "10.1.0.0/24")
    };
    try_create(&catalog, from("acme", "gw.acme", "192.0.2.0/24")).unwrap();
    try_create(&catalog, from("globex", "gw.globex", "192.0.0.0/16")).unwrap();
    let find = |local: Option<&str>, remote: &str, address: &str| {
        let local = local.map(name);
        let found =
            catalog.find_peers(Opening::Init, local.as_ref(), &name(remote), address.parse().unwrap());
        found.map(|peers| {
            let mut tenants: Vec<_> = peers.iter().map(|peer| peer.name.tenant().id().to_owned()).collect();
            tenants.sort_unstable();
            tenants.join(" ")
        })
    };
    assert_eq!(find(Some("gw.acme"), "branch.example", "192.0.2.9").unwrap(), "acme");
    assert_eq!(find(Some("gw.globex"), "branch.example", "192.0.2.9").unwrap(), "globex");
    assert_eq!(find(None, "branch.example", "192.0.9.9").unwrap(), "globex");
    assert_eq!(find(None, "branch.example", "192.0.2.9").unwrap(), "acme globex", "its key will tell");
    let elsewhere = find(Some("gw.other"), "branch.example", "192.0.2.9");
    assert!(matches!(elsewhere, Err(LookupError::Elsewhere { .. })));
    assert!(matches!(find(None, "branch.example", "203.0.113.1"), Err(LookupError::Elsewhere { .. })));
    assert!(matches!(find(None, "nobody.example", "192.0.2.9"), Err(LookupError::UnknownIdentity(_))));
    assert_eq!(find(None, "branch.example", "::ffff:192.0.9.9").unwrap(), "globex");
    // Names of hosts have no case.
    assert_eq!(find(Some("GW.acme"), "Branch.EXAMPLE", "192.0.2.9").unwrap(), "acme");
}

#[test]
fn no_tenant_keeps_another_out_by_the_number_of_its_peers() {
    let catalog = catalog(&["acme", "many"]);
    let from_anywhere = |tenant: &str, n: usize, local: String| v1::Peer {
        local_identity: local,
        remote_identity: "branch.example".to_owned(),
        remote_addresses: Vec::new(),
        ..peer(tenant, &format!("b{n}"), &format!("10.{n}.0.0/24"))
    };
    try_create(&catalog, from_anywhere("acme", 1, "gw.acme".to_owned())).unwrap();
    for n in 1..=2 * MAX_CANDIDATES {
        try_create(&catalog, from_anywhere("many", n, format!("0.0.0.{n}"))).unwrap();
    }
    // The initiator does not say whom it wants.
    let address = "192.0.2.9".parse().unwrap();
    let find = || catalog.find_peers(Opening::Init, None, &name("branch.example"), address).unwrap();
    assert_eq!(find().len(), MAX_CANDIDATES);
    assert!(find().iter().any(|peer| peer.name.tenant().id() == "acme"));
    // Whoever says where it comes from goes first.
    let mut last = from_anywhere("many", 199, "gw.many".to_owned());
    last.remote_addresses = vec!["192.0.2.9".to_owned()];
    try_create(&catalog, last).unwrap();
    assert_eq!(find()[0].name.id(), "b199");
}

#[test]
fn ike_proposals_of_those_who_may_come_from_an_address() {
    let catalog = catalog(&["acme"]);
    let with = |id: &str, subnet: &str, proposal: &str, addresses: &[&str]| v1::Peer {
        remote_addresses: addresses.iter().map(ToString::to_string).collect(),
        ike: Some(v1::IkeConfig { proposals: vec![proposal.to_owned()], ..Default::default() }),
        ..peer("acme", id, subnet)
    };
    try_create(&catalog, with("any", "10.1.0.0/24", "aes128gcm16-prfsha256-x25519", &[])).unwrap();
    try_create(&catalog, with("one", "10.2.0.0/24", "aes256-sha256-prfsha256-modp2048", &["192.0.2.1"]))
        .unwrap();
    let at = |address: &str| -> Vec<String> {
        let callers = catalog.callers(address.parse().unwrap(), Opening::Init);
        callers.candidates.proposals().iter().map(ToString::to_string).collect()
    };
    assert_eq!(at("192.0.2.1"), ["aes256-sha256-prfsha256-modp2048", "aes128gcm16-prfsha256-x25519"]);
    assert_eq!(at("192.0.2.2"), ["aes128gcm16-prfsha256-x25519"]);
    let delete = v1::DeletePeerRequest { name: "tenants/acme/peers/any".to_owned(), ..Default::default() };
    catalog.delete_peer(&delete).unwrap();
    assert!(at("192.0.2.2").is_empty());
}

/// A peer with IKEv1 in this mode that may come from these addresses.
fn old_peer(tenant: &str, id: &str, subnet: &str, mode: v1::IkeV1Mode, addresses: &[&str]) -> v1::Peer {
    let v1 = Some(v1::IkeV1Config { mode: mode.into(), ..Default::default() });
    v1::Peer {
        remote_addresses: addresses.iter().map(ToString::to_string).collect(),
        ike: Some(v1::IkeConfig { version: v1::IkeVersion::Ikev1.into(), v1, ..Default::default() }),
        ..peer(tenant, id, subnet)
    }
}

#[test]
fn a_peer_is_found_by_the_version_and_mode_that_it_is_configured_with() {
    use v1::IkeV1Mode::{Aggressive, Main};
    let catalog = catalog(&["acme"]);
    let (here, elsewhere) = ("192.0.2.1".parse().unwrap(), "203.0.113.9".parse().unwrap());
    let new =
        v1::Peer { remote_addresses: vec!["192.0.2.1".to_owned()], ..peer("acme", "new", "10.1.0.0/24") };
    try_create(&catalog, new).unwrap();
    assert_eq!(catalog.openings(here), [Opening::Init]);
    assert!(catalog.openings(elsewhere).is_empty());
    try_create(&catalog, old_peer("acme", "old", "10.2.0.0/24", Main, &["192.0.2.1"])).unwrap();
    try_create(&catalog, old_peer("acme", "mobile", "10.3.0.0/24", Aggressive, &[])).unwrap();
    assert_eq!(catalog.openings(here), Opening::ALL);
    assert_eq!(catalog.openings("::ffff:203.0.113.9".parse().unwrap()), [Opening::Aggressive]);

    for peer in catalog.peers() {
        for opening in Opening::ALL {
            let found = catalog.find_peers(opening, None, &peer.spec.remote_identity, here);
            assert_eq!(found.is_ok(), opening == peer.spec.ike.opening(), "{} {opening}", peer.name);
            let callers = catalog.callers(here, opening);
            let allowed = callers.candidates.proposals();
            let fits = peer.spec.ike.proposals.iter().all(|proposal| allowed.contains(proposal));
            assert_eq!(fits, (opening == Opening::Init) != peer.spec.ike.version.is_v1(), "{}", peer.name);
        }
    }
    let error =
        catalog.find_peers(Opening::Main, None, &name("new.acme.example"), here).unwrap_err().to_string();
    assert!(error.contains("with IKEv1 in Main Mode"), "{error}");
    // A change of the mode moves it.
    let mut changed = old_peer("acme", "old", "10.2.0.0/24", Aggressive, &["192.0.2.1"]);
    changed.name = "tenants/acme/peers/old".to_owned();
    catalog.update_peer(&v1::UpdatePeerRequest { peer: Some(changed), ..Default::default() }).unwrap();
    assert_eq!(catalog.openings(here), [Opening::Init, Opening::Aggressive]);
    assert!(catalog.callers(here, Opening::Main).candidates.is_empty());
}

#[test]
fn where_only_the_address_tells_who_it_may_be_the_closest_come_first() {
    use v1::IkeV1Mode::Main;
    let catalog = catalog(&["acme", "globex"]);
    let from = |address: &str| -> Vec<String> {
        let found = catalog.peers_from(address.parse().unwrap(), Opening::Main);
        found.iter().map(|peer| peer.name.id().to_owned()).collect()
    };
    for (tenant, id, subnet, addresses) in [
        ("acme", "a-anywhere", "10.1.0.0/24", &[][..]),
        ("acme", "b-wide", "10.2.0.0/24", &["192.0.0.0/16"]),
        ("globex", "c-net", "10.3.0.0/24", &["192.0.2.0/24"]),
        // By the address and by a subnet: it is there once.
        ("acme", "d-host", "10.4.0.0/24", &["192.0.0.0/16", "192.0.2.1", "192.0.2.1:4500"]),
        // Two at one address, whose keys tell them apart.
        ("globex", "e-host", "10.5.0.0/24", &["192.0.2.1"]),
    ] {
        try_create(&catalog, old_peer(tenant, id, subnet, Main, addresses)).unwrap();
    }
    assert_eq!(from("192.0.2.1"), ["d-host", "e-host", "c-net", "b-wide", "a-anywhere"]);
    assert_eq!(from("192.0.2.9"), ["c-net", "b-wide", "d-host", "a-anywhere"]);
    assert_eq!(from("2001:db8::1"), ["a-anywhere"]);
    assert!(catalog.peers_from("192.0.2.1".parse().unwrap(), Opening::Init).is_empty());

    // A tenant may have some of those that are tried, at one place or at those around it.
    for n in 2..=16 {
        let (id, subnet) = (format!("z{n}"), format!("10.{}.0.0/24", 100 + n));
        try_create(&catalog, old_peer("acme", &id, &subnet, Main, &[])).unwrap();
    }
    assert_eq!(from("192.0.2.1").len(), 20);
    assert_eq!(from("192.0.2.1")[..2], ["d-host", "e-host"]);
    let error = try_create(&catalog, old_peer("acme", "one-more", "10.9.0.0/24", Main, &[])).unwrap_err();
    violation(&error, "peer.remote_addresses");
    let host = old_peer("acme", "one-more", "10.9.0.0/24", Main, &["203.0.113.7"]);
    violation(&try_create(&catalog, host).unwrap_err(), "peer.remote_addresses[0]");
    try_create(&catalog, old_peer("acme", "one-more", "10.9.0.0/24", v1::IkeV1Mode::Aggressive, &[]))
        .unwrap();
}

/// Neither by what may be configured, nor by what is tried.
#[test]
fn no_tenant_takes_an_address_for_itself() {
    use v1::IkeV1Mode::Main;
    let tenants: Vec<String> = (0..8).map(|n| format!("t{n}")).collect();
    let names: Vec<&str> = tenants.iter().map(String::as_str).chain(["branch"]).collect();
    let catalog = catalog(&names);
    let make = |tenant: &str, n: usize, from: &[&str]| {
        try_create(&catalog, old_peer(tenant, &format!("p{n}"), &format!("10.{n}.0.0/24"), Main, from))
    };
    make("branch", 0, &[]).unwrap();
    for tenant in &tenants {
        for n in 0..16 {
            // First so that nobody counts the others, then where all of them are.
            let wide = if n < 8 { format!("203.0.113.0/{}", 24 + n % 4) } else { "203.0.113.7".to_owned() };
            let made = make(tenant, n, &[&wide]);
            if let Err(error) = made {
                violation(&error, "peer.remote_addresses[0]");
            }
        }
        let error = make(tenant, 99, &["203.0.113.7"]).unwrap_err();
        violation(&error, "peer.remote_addresses[0]");
    }
    let found = catalog.peers_from("203.0.113.7".parse().unwrap(), Opening::Main);
    assert_eq!(found.len(), MAX_CANDIDATES);
    for name in names {
        assert!(found.iter().any(|peer| peer.name.tenant().id() == name), "{name}");
    }
}

#[test]
fn what_is_weaker_than_it_could_be_is_read_with_the_peer() {
    let catalog = catalog(&["acme"]);
    let request = create_peer(old_peer("acme", "b1", "10.1.0.0/24", v1::IkeV1Mode::Main, &[]));
    let created = catalog.create_peer(&request).unwrap();
    let read = created.to_proto();
    assert_eq!((read.warnings.len(), created.spec.warnings()), (1, read.warnings.clone()));
    // It is no value of the peer: what was read changes nothing.
    let request = v1::UpdatePeerRequest { peer: Some(read.clone()), ..Default::default() };
    assert!(catalog.update_peer(&request).unwrap().is_unchanged());
    let objects = vec![v1::Object { kind: Some(v1::object::Kind::Peer(read)) }];
    let applied =
        catalog.apply(v1::ApplyRequest { objects, validate_only: true, ..Default::default() }).unwrap();
    assert_eq!((applied[0].action, applied[0].warnings.len()), (tenants::Action::Unchanged, 1));
}

#[test]
fn udp_is_forced_where_all_want_it_who_may_come_from_an_address() {
    let catalog = catalog(&["acme", "globex"]);
    let with = |tenant: &str, id: &str, subnet: &str, force: bool, addresses: &[&str]| v1::Peer {
        remote_addresses: addresses.iter().map(ToString::to_string).collect(),
        force_encapsulation: force,
        ..peer(tenant, id, subnet)
    };
    let forced = |address: &str| catalog.callers(address.parse().unwrap(), Opening::Init).force_encapsulation;
    assert!(!forced("203.0.113.9"), "nobody is nobody who wants it");
    try_create(&catalog, with("acme", "roaming", "10.1.0.0/24", true, &[])).unwrap();
    assert!(forced("203.0.113.9"));
    try_create(&catalog, with("globex", "fixed", "10.1.0.0/24", false, &["192.0.2.1"])).unwrap();
    try_create(&catalog, with("globex", "net", "10.2.0.0/24", false, &["198.51.100.0/24"])).unwrap();
    assert!(forced("203.0.113.9") && !forced("192.0.2.1") && !forced("198.51.100.7"));
    try_create(&catalog, with("globex", "roaming", "10.3.0.0/24", false, &[])).unwrap();
    assert!(!forced("203.0.113.9"), "one decides nothing for the other");
    try_create(&catalog, with("acme", "fixed", "10.4.0.0/24", true, &["192.0.2.7", "192.0.2.7:4500"]))
        .unwrap();
    assert!(forced("192.0.2.7"), "whoever is configured with the very address");
    for name in ["tenants/acme/peers/fixed", "tenants/globex/peers/roaming", "tenants/globex/peers/net"] {
        let delete = v1::DeletePeerRequest { name: name.to_owned(), ..Default::default() };
        catalog.delete_peer(&delete).unwrap();
    }
    assert!(forced("192.0.2.7") && forced("198.51.100.7"));
}

#[test]
fn a_peer_is_found_by_its_address_and_by_its_secret_without_looking_at_others() {
    let catalog = catalog(&["acme", "globex"]);
    for (tenant, id, subnet, address) in [
        ("acme", "b1", "10.1.0.0/24", "192.0.2.1"),
        ("acme", "b2", "10.2.0.0/24", "192.0.2.1"),
        ("globex", "b1", "10.1.0.0/24", "192.0.2.2:4500"),
    ] {
        let remote_addresses = vec![address.to_owned()];
        try_create(&catalog, v1::Peer { remote_addresses, ..peer(tenant, id, subnet) }).unwrap();
    }
    let at = |address: &str, limit| -> Vec<String> {
        let peers = catalog.peers_at(address.parse().unwrap(), limit);
        peers.iter().map(|peer| peer.name.to_string()).collect()
    };
    assert_eq!(at("192.0.2.1", 8), ["tenants/acme/peers/b1", "tenants/acme/peers/b2"]);
    assert_eq!(at("::ffff:192.0.2.1", 1), ["tenants/acme/peers/b1"]);
    assert_eq!(at("192.0.2.2", 8), ["tenants/globex/peers/b1"]);
    assert!(at("192.0.2.3", 8).is_empty());
    let users = |secret: &str| catalog.users_of(&name::<SecretName>(secret)).len();
    let Some(v1::auth::Method::Psk(secret)) = peer("acme", "b1", "10.1.0.0/24").auth.unwrap().method else {
        panic!("a key")
    };
    assert_eq!((users(&secret), users("tenants/acme/secrets/other")), (2, 0));
}

#[test]
fn a_name_stands_for_what_it_last_resolved_to() {
    let catalog = catalog(&["acme", "globex"]);
    let named = |tenant: &str, id: &str, subnet: &str, host: &str, force: bool| v1::Peer {
        remote_addresses: vec![host.to_owned()],
        force_encapsulation: force,
        ..peer(tenant, id, subnet)
    };
    try_create(&catalog, named("acme", "b1", "10.1.0.0/24", "Branch.example", true)).unwrap();
    let (host, address) = ("branch.example".parse().unwrap(), "192.0.2.1".parse().unwrap());
    let at = |limit| -> Vec<String> {
        catalog.peers_at(address, limit).iter().map(|peer| peer.name.to_string()).collect()
    };
    let b1 = catalog.get_peer(&name("tenants/acme/peers/b1")).unwrap();
    let found = || catalog.find_peers(Opening::Init, None, &b1.spec.remote_identity, address).is_ok();
    assert!(at(8).is_empty() && !found() && catalog.callers(address, Opening::Init).candidates.is_empty());
    assert!(!catalog.resolved(&host, Err("no such name".to_owned())));
    assert!(at(8).is_empty() && !catalog.admits(&b1.spec, address), "an unresolved name admits nobody");

    assert!(catalog.resolved(&host, Ok(vec![address])));
    assert_eq!(at(8), ["tenants/acme/peers/b1"]);
    assert!(found() && catalog.admits(&b1.spec, "::ffff:192.0.2.1".parse().unwrap()));
    assert!(
        catalog.callers(address, Opening::Init).force_encapsulation
            && !catalog.callers(address, Opening::Init).candidates.is_empty()
    );
    try_create(&catalog, named("globex", "b1", "10.1.0.0/24", "192.0.2.1", false)).unwrap();
    assert!(
        !catalog.callers(address, Opening::Init).force_encapsulation,
        "one decides nothing for the other"
    );
    assert_eq!((at(8).len(), at(1).len()), (2, 1));
    assert_eq!(catalog.peers_from(address, Opening::Init).len(), 2);
    assert_eq!(catalog.openings(address), [Opening::Init]);

    // It moves, and is then forgotten with the last peer that has it.
    assert!(catalog.resolved(&host, Ok(vec!["192.0.2.9".parse().unwrap()])));
    assert_eq!(at(8), ["tenants/globex/peers/b1"]);
    let delete = v1::DeletePeerRequest { name: "tenants/acme/peers/b1".to_owned(), ..Default::default() };
    catalog.delete_peer(&delete).unwrap();
    catalog.resolved(&host, Ok(vec![address]));
    assert_eq!((catalog.resolution(&host), at(8).len()), (None, 1));
}

#[test]
fn what_a_name_resolves_to_is_not_led_into_a_device() {
    let catalog = catalog(&["acme"]);
    let tun = v1::uplink::Tun { device: "tun0".to_owned(), ..Default::default() };
    let uplink = Some(v1::Uplink { kind: Some(v1::uplink::Kind::Tun(tun)) });
    let tenant = Some(v1::Tenant { name: "tenants/acme".to_owned(), uplink, ..Default::default() });
    catalog.update_tenant(&v1::UpdateTenantRequest { tenant, ..Default::default() }).unwrap();
    let named = |id: &str, subnet: &str, host: &str| v1::Peer {
        remote_addresses: vec![host.to_owned()],
        ..peer("acme", id, subnet)
    };
    try_create(&catalog, named("b1", "10.1.0.0/24", "b1.example")).unwrap();
    catalog.resolved(&"b1.example".parse().unwrap(), Ok(vec!["203.0.113.7".parse().unwrap()]));
    let error = try_create(&catalog, named("b2", "203.0.113.0/24", "b2.example")).unwrap_err().to_string();
    assert!(error.contains("203.0.113.0/24 contains 203.0.113.7, where tenants/acme/peers/b1 is"), "{error}");
    try_create(&catalog, named("b3", "198.51.100.0/24", "192.0.2.3")).unwrap();
    // Known though no peer has the name yet: another one had it until now.
    catalog.resolved(&"b1.example".parse().unwrap(), Ok(vec!["198.51.100.7".parse().unwrap()]));
    let error = try_create(&catalog, named("b4", "10.4.0.0/24", "b1.example")).unwrap_err().to_string();
    assert!(error.contains("b1.example is in another peer's subnet"), "{error}");
}
