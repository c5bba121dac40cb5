//! The operations of the catalog, one after another as a client sees them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{catalog, create_peer, create_secret, create_tenant, mask, peer};
use culvert_proto::v1;
use ike::config::Opening;
use ike::verbs::MAX_CANDIDATES;
use tenants::{Catalog, ChangeKind, Error, LookupError, PeerName, SecretName, TenantName};

fn name<N: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> N {
    text.parse().unwrap()
}

/// The error names this one field.
fn violation(error: &Error, field: &str) -> String {
    let Error::Invalid(faults) = error else { panic!("{error:?}") };
    let faults: Vec<_> = faults.iter().collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].field, field);
    faults[0].description.clone()
}

fn try_create(catalog: &Catalog, peer: v1::Peer) -> Result<(), Error> {
    catalog.create_peer(&create_peer(peer)).map(|_| ())
}

#[test]
fn a_name_is_taken_once_unless_the_same_request_asks_again() {
    let catalog = Catalog::in_memory().unwrap();
    let request = v1::CreateTenantRequest { request_id: "7f3a".to_owned(), ..create_tenant("acme") };
    let first = catalog.create_tenant(&request).unwrap();
    assert_eq!(catalog.create_tenant(&request).unwrap(), first);
    assert!(matches!(catalog.create_tenant(&create_tenant("acme")), Err(Error::AlreadyExists(_))));
}

#[test]
fn a_stale_etag_is_refused_and_a_vain_update_keeps_the_etag() {
    let catalog = catalog(&["acme"]);
    let first = catalog.create_peer(&create_peer(peer("acme", "b1", "10.1.0.0/24"))).unwrap();
    let patch = v1::Peer { display_name: "Branch 1".to_owned(), etag: first.meta.etag(), ..first.to_proto() };
    let update = v1::UpdatePeerRequest { peer: Some(patch), update_mask: mask(&["*"]), ..Default::default() };
    let second = catalog.update_peer(&update).unwrap();
    assert_ne!(second.meta.etag(), first.meta.etag());
    assert_eq!((second.uid, second.meta.created), (first.uid, first.meta.created));
    assert!(matches!(catalog.update_peer(&update), Err(Error::StaleEtag { .. })));

    let vain = v1::UpdatePeerRequest { peer: Some(second.to_proto()), update_mask: mask(&["*"]), ..update };
    let vain = catalog.update_peer(&vain).unwrap();
    assert!(vain.is_unchanged() && vain.after == second.after);
}

#[test]
fn a_mask_changes_what_it_names_and_nothing_else() {
    let catalog = catalog(&["acme"]);
    let old = catalog.create_peer(&create_peer(peer("acme", "b1", "10.1.0.0/24"))).unwrap();
    let patch = v1::Peer {
        ike: Some(v1::IkeConfig {
            proposals: vec!["aes256-sha256-modp2048".to_owned()],
            dpd_interval: Some(prost_types::Duration { seconds: 7, nanos: 0 }),
            ..Default::default()
        }),
        ..peer("acme", "b1", "10.99.0.0/24")
    };
    let update_mask = mask(&["ike.dpd_interval"]);
    let update = v1::UpdatePeerRequest { peer: Some(patch), update_mask, ..Default::default() };
    let new = catalog.update_peer(&update).unwrap();
    assert_eq!(new.spec.ike.dpd_interval.as_secs(), 7);
    assert_eq!(new.spec.ike.proposals, old.spec.ike.proposals);
    assert_eq!(new.spec.children, old.spec.children);
}

#[test]
fn validate_only_answers_and_changes_nothing() {
    let catalog = catalog(&["acme"]);
    let before = catalog.snapshot().revision;
    let mut changes = catalog.subscribe();
    let request =
        v1::CreatePeerRequest { validate_only: true, ..create_peer(peer("acme", "b1", "10.1.0.0/24")) };
    assert_eq!(catalog.create_peer(&request).unwrap().name.to_string(), "tenants/acme/peers/b1");
    let request = v1::CreateTenantRequest { validate_only: true, ..create_tenant("other") };
    catalog.create_tenant(&request).unwrap();
    let force = v1::DeleteTenantRequest {
        name: "tenants/acme".to_owned(),
        force: true,
        validate_only: true,
        ..Default::default()
    };
    catalog.delete_tenant(&force).unwrap();
    assert_eq!(catalog.snapshot().revision, before);
    assert_eq!((catalog.tenants().len(), catalog.peers().len()), (1, 0));
    assert!(changes.try_recv().is_err());
}

#[test]
fn a_peer_needs_its_tenant_and_its_secret() {
    let catalog = catalog(&["acme"]);
    assert!(matches!(try_create(&catalog, peer("nobody", "b1", "10.1.0.0/24")), Err(Error::NotFound(_))));
    let mut orphan = peer("acme", "b1", "10.1.0.0/24");
    orphan.auth =
        Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/acme/secrets/nope".to_owned())) });
    let error = try_create(&catalog, orphan).unwrap_err();
    assert!(violation(&error, "peer.auth.psk").contains("does not exist"));
}

#[test]
fn peers_a_responder_could_not_tell_apart_are_refused() {
    let catalog = catalog(&["acme", "globex"]);
    let from = |tenant: &str, id: &str, subnet: &str, addresses: &[&str]| v1::Peer {
        remote_identity: "branch.example".to_owned(),
        remote_addresses: addresses.iter().map(ToString::to_string).collect(),
        ..peer(tenant, id, subnet)
    };
    try_create(&catalog, from("acme", "b1", "10.1.0.0/24", &["192.0.2.0/28"])).unwrap();
    // Another address: fine, in the same tenant and in another, whatever the subnets of the other.
    try_create(&catalog, from("acme", "b2", "10.2.0.0/24", &["192.0.2.16"])).unwrap();
    try_create(&catalog, from("globex", "b1", "10.1.0.0/24", &["198.51.100.1"])).unwrap();

    let error = try_create(&catalog, from("acme", "b3", "10.3.0.0/24", &["192.0.2.3:4500"])).unwrap_err();
    assert!(violation(&error, "peer.remote_identity").contains("tenants/acme/peers/b1"));
    let error = try_create(&catalog, from("globex", "b2", "10.3.0.0/24", &[])).unwrap_err();
    assert!(matches!(&error, Error::Invalid(_)));
    let error = try_create(&catalog, from("globex", "b2", "10.3.0.0/24", &["192.0.2.1"])).unwrap_err();
    let text = violation(&error, "peer.remote_identity");
    assert!(text.contains("another tenant") && !text.contains("acme"), "{text}");
}

#[test]
fn one_remote_subnet_behind_two_peers_of_a_tenant_is_refused() {
    let catalog = catalog(&["acme", "globex"]);
    try_create(&catalog, peer("acme", "b1", "10.1.0.0/24")).unwrap();
    try_create(&catalog, peer("globex", "b1", "10.1.0.0/24")).unwrap();
    // A part of it is more specific, so it is clear which is meant.
    try_create(&catalog, peer("acme", "b2", "10.1.0.0/25")).unwrap();
    let error = try_create(&catalog, peer("acme", "b3", "10.1.0.0/24")).unwrap_err();
    let text = violation(&error, "peer.children[0].remote_subnets[0]");
    assert_eq!(text, "10.1.0.0/24 is behind tenants/acme/peers/b1 too");
    // From other subnets of ours it is another way.
    let mut other = peer("acme", "b3", "10.1.0.0/24");
    other.children[0].local_subnets = vec!["172.16.0.0/16".to_owned()];
    try_create(&catalog, other).unwrap();
    // A peer does not stand in its own way.
    let update = v1::UpdatePeerRequest {
        peer: Some(v1::Peer { display_name: "x".to_owned(), ..peer("acme", "b1", "10.1.0.0/24") }),
        ..Default::default()
    };
    catalog.update_peer(&update).unwrap();
}

#[test]
fn secrets_are_bounded_sealed_and_kept_while_in_use() {
    let catalog = catalog(&["acme"]);
    let error = catalog.create_secret(create_secret("acme", "big", &vec![7; 10 << 20])).unwrap_err();
    assert_eq!(violation(&error, "secret.value"), "10485760 octets; at most 1024");
    let error = catalog.create_secret(create_secret("acme", "none", b"")).unwrap_err();
    violation(&error, "secret.value");

    let psk: SecretName = name("tenants/acme/secrets/psk");
    assert_eq!(catalog.resolve_secret(&psk).unwrap().as_slice(), b"correct horse");
    assert!(catalog.get_secret(&psk).unwrap().to_proto().value.is_empty());
    let set = |value: &[u8]| v1::UpdateSecretRequest {
        secret: Some(v1::Secret { name: psk.to_string(), value: value.to_vec(), ..Default::default() }),
        ..Default::default()
    };
    let etag = catalog.get_secret(&psk).unwrap().meta.etag();
    assert_eq!(catalog.update_secret(set(b"correct horse")).unwrap().meta.etag(), etag);
    assert_ne!(catalog.update_secret(set(b"battery staple")).unwrap().meta.etag(), etag);
    assert_eq!(catalog.resolve_secret(&psk).unwrap().as_slice(), b"battery staple");

    try_create(&catalog, peer("acme", "b1", "10.1.0.0/24")).unwrap();
    let delete = v1::DeleteSecretRequest { name: psk.to_string(), ..Default::default() };
    let error = catalog.delete_secret(&delete).unwrap_err();
    assert!(error.to_string().contains("in use by tenants/acme/peers/b1"), "{error}");
    let peer = v1::DeletePeerRequest { name: "tenants/acme/peers/b1".to_owned(), ..Default::default() };
    catalog.delete_peer(&peer).unwrap();
    catalog.delete_secret(&delete).unwrap();
    assert!(catalog.resolve_secret(&psk).is_none());
}

#[test]
fn quotas_bound_a_tenant_and_cannot_fall_below_what_is_there() {
    let catalog = catalog(&["acme", "globex"]);
    let quota = |max_peers| v1::UpdateTenantRequest {
        tenant: Some(v1::Tenant {
            name: "tenants/acme".to_owned(),
            quotas: Some(v1::Quotas { max_peers, ..Default::default() }),
            ..Default::default()
        }),
        update_mask: mask(&["quotas.max_peers"]),
        ..Default::default()
    };
    catalog.update_tenant(&quota(2)).unwrap();
    try_create(&catalog, peer("acme", "b1", "10.1.0.0/24")).unwrap();
    try_create(&catalog, peer("acme", "b2", "10.2.0.0/24")).unwrap();
    let error = try_create(&catalog, peer("acme", "b3", "10.3.0.0/24")).unwrap_err();
    assert_eq!(error.to_string(), "tenants/acme: at most 2 peers");
    try_create(&catalog, peer("globex", "b3", "10.3.0.0/24")).unwrap();
    let error = catalog.update_tenant(&quota(1)).unwrap_err();
    assert!(violation(&error, "tenant.quotas.max_peers").contains("below the 2"));
}

#[test]
fn a_tenant_with_peers_goes_by_force_only_and_its_numbers_are_not_reused() {
    let catalog = catalog(&["acme"]);
    try_create(&catalog, peer("acme", "b1", "10.1.0.0/24")).unwrap();
    let old = catalog.get_peer(&name("tenants/acme/peers/b1")).unwrap();
    let mut delete = v1::DeleteTenantRequest { name: "tenants/acme".to_owned(), ..Default::default() };
    assert!(matches!(catalog.delete_tenant(&delete), Err(Error::FailedPrecondition { .. })));
    let mut changes = catalog.subscribe();
    delete.force = true;
    catalog.delete_tenant(&delete).unwrap();
    let told: Vec<_> = std::iter::from_fn(|| changes.try_recv().ok()).collect();
    assert!(told.iter().all(|change| change.kind == ChangeKind::Deleted));
    let names: Vec<_> = told.iter().map(|change| change.object.name()).collect();
    assert_eq!(names, ["tenants/acme/peers/b1", "tenants/acme/secrets/psk", "tenants/acme"]);

    assert!(matches!(catalog.delete_tenant(&delete), Err(Error::NotFound(_))));
    delete.allow_missing = true;
    catalog.delete_tenant(&delete).unwrap();

    catalog.create_tenant(&create_tenant("acme")).unwrap();
    catalog.create_secret(create_secret("acme", "psk", b"x")).unwrap();
    try_create(&catalog, peer("acme", "b1", "10.1.0.0/24")).unwrap();
    let new = catalog.get_peer(&old.name).unwrap();
    assert!(new.uid > old.uid && new.tenant > old.tenant);
}

#[test]
fn lists_come_in_pages_of_a_tenant_or_of_all() {
    let catalog = catalog(&["acme", "acme-2", "globex"]);
    for i in 0..5 {
        try_create(&catalog, peer("acme", &format!("b{i}"), &format!("10.{i}.0.0/24"))).unwrap();
        try_create(&catalog, peer("acme-2", &format!("b{i}"), &format!("10.{i}.0.0/24"))).unwrap();
    }
    let all = |parent: &str| {
        let (mut names, mut token) = (Vec::new(), String::new());
        loop {
            let page = catalog.page_peers(parent, 2, &token).unwrap();
            names.extend(page.items.iter().map(|peer| peer.name.to_string()));
            token = page.next_page_token;
            if token.is_empty() {
                return names;
            }
        }
    };
    assert_eq!(all("tenants/acme").len(), 5);
    assert_eq!(all("tenants/-").len(), 10);
    assert!(all("tenants/globex").is_empty());
    assert!(matches!(catalog.page_peers("tenants/nobody", 0, ""), Err(Error::NotFound(_))));
    assert!(matches!(catalog.page_peers("acme", 0, ""), Err(Error::Invalid(_))));
    let token = catalog.page_peers("tenants/acme", 2, "").unwrap().next_page_token;
    violation(&catalog.page_peers("tenants/-", 2, &token).unwrap_err(), "page_token");
    assert_eq!(catalog.page_tenants(2, "").unwrap().items.len(), 2);
    assert_eq!(catalog.page_secrets("tenants/-", 0, "").unwrap().items.len(), 3);
}

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

    // No more than are tried may be configured at one place, nor are found at several.
    for n in 2..=MAX_CANDIDATES {
        let (id, subnet) = (format!("z{n}"), format!("10.{}.0.0/24", 100 + n));
        try_create(&catalog, old_peer("acme", &id, &subnet, Main, &[])).unwrap();
    }
    assert_eq!(from("192.0.2.1").len(), MAX_CANDIDATES);
    assert_eq!(from("192.0.2.1")[..2], ["d-host", "e-host"]);
    let error = try_create(&catalog, old_peer("acme", "one-more", "10.9.0.0/24", Main, &[])).unwrap_err();
    violation(&error, "peer.remote_addresses");
    try_create(&catalog, old_peer("acme", "one-more", "10.9.0.0/24", v1::IkeV1Mode::Aggressive, &[]))
        .unwrap();
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
    let applied = catalog.apply(v1::ApplyRequest { objects, validate_only: true }).unwrap();
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

#[test]
fn two_tenants_cannot_share_a_device() {
    let catalog = catalog(&["acme"]);
    let tun = |id: &str, netns: &str| {
        let tun =
            v1::uplink::Tun { device: "tun0".to_owned(), netns: netns.to_owned(), ..Default::default() };
        let uplink = Some(v1::Uplink { kind: Some(v1::uplink::Kind::Tun(tun)) });
        let tenant = Some(v1::Tenant { uplink, ..Default::default() });
        v1::CreateTenantRequest { tenant, ..create_tenant(id) }
    };
    catalog.create_tenant(&tun("t1", "")).unwrap();
    catalog.create_tenant(&tun("t2", "red")).unwrap();
    violation(&catalog.create_tenant(&tun("t3", "red")).unwrap_err(), "tenant.uplink.tun.device");
    assert!(catalog.get_tenant(&name::<TenantName>("tenants/t3")).is_none());
    assert!(catalog.get_peer(&name::<PeerName>("tenants/t1/peers/x")).is_none());
}

#[test]
fn transport_mode_needs_a_device_in_a_namespace_and_keeps_it() {
    let catalog = catalog(&["acme"]);
    let mut transport = peer("acme", "b1", "192.0.2.1/32");
    transport.children[0].local_subnets = vec!["198.51.100.1/32".to_owned()];
    transport.children[0].mode = v1::ChildMode::Transport.into();
    let uplink = |netns: &str| {
        let tun =
            v1::uplink::Tun { device: "acme0".to_owned(), netns: netns.to_owned(), ..Default::default() };
        v1::Tenant {
            name: "tenants/acme".to_owned(),
            uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Tun(tun)) }),
            ..Default::default()
        }
    };
    let update = |tenant| {
        let tenant = Some(tenant);
        catalog.update_tenant(&v1::UpdateTenantRequest { tenant, ..Default::default() }).map(|_| ())
    };
    let refused = |peer: &v1::Peer| {
        violation(&try_create(&catalog, peer.clone()).unwrap_err(), "peer.children[0].mode")
    };
    assert!(refused(&transport).contains("uplink.tun.netns"));
    update(uplink("")).unwrap();
    assert!(refused(&transport).contains("uplink.tun.netns"));
    update(uplink("acme")).unwrap();
    try_create(&catalog, transport).unwrap();
    assert!(violation(&update(uplink("")).unwrap_err(), "tenant.uplink").contains("tenants/acme/peers/b1"));
    update(uplink("other")).unwrap();
}

#[test]
fn what_the_node_sends_to_a_peer_is_not_led_into_a_tunnel() {
    let catalog = catalog(&["acme", "globex"]);
    let uplink = |tenant: &str, netns: &str| {
        let tun =
            v1::uplink::Tun { device: tenant.to_owned(), netns: netns.to_owned(), ..Default::default() };
        v1::Tenant {
            name: format!("tenants/{tenant}"),
            uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Tun(tun)) }),
            ..Default::default()
        }
    };
    let update = |tenant, validate_only| {
        let request = v1::UpdateTenantRequest { tenant: Some(tenant), validate_only, ..Default::default() };
        catalog.update_tenant(&request).map(|_| ())
    };
    let at = |tenant: &str, id: &str, subnet: &str, addresses: &[&str]| v1::Peer {
        remote_addresses: addresses.iter().map(ToString::to_string).collect(),
        ..peer(tenant, id, subnet)
    };
    // A hub has no routes, and a device elsewhere has none that concern the node.
    try_create(&catalog, at("globex", "g1", "192.0.2.0/24", &["192.0.2.1"])).unwrap();
    update(uplink("globex", "globex"), false).unwrap();
    let fault = violation(&update(uplink("globex", ""), true).unwrap_err(), "tenant.uplink.tun.netns");
    assert!(fault.contains("tenants/globex/peers/g1") && fault.contains("192.0.2.1"), "{fault}");

    update(uplink("acme", ""), false).unwrap();
    let field = "peer.children[0].remote_subnets[0]";
    let refused = |peer: v1::Peer, field: &str| {
        let dry = v1::CreatePeerRequest { validate_only: true, ..create_peer(peer.clone()) };
        let dry = violation(&catalog.create_peer(&dry).unwrap_err(), field);
        assert_eq!(violation(&try_create(&catalog, peer).unwrap_err(), field), dry);
        dry
    };
    // Its own address, a range that it may come from, another's address, and most of everything.
    assert!(
        refused(at("acme", "b1", "198.51.100.0/24", &["198.51.100.7:4500"]), field)
            .contains("the peer itself is")
    );
    refused(at("acme", "b1", "198.51.100.0/24", &["203.0.113.1", "198.51.100.128/25"]), field);
    let mut v6 = at("acme", "b1", "2001:db8::/32", &["2001:db8::7"]);
    v6.children[0].local_subnets = vec!["fd00::/16".to_owned()];
    refused(v6, field);
    let fault = refused(at("acme", "b1", "192.0.0.0/16", &["198.51.100.7"]), field);
    assert!(!fault.contains("globex") && !fault.contains("192.0.2.1"), "another tenant's business: {fault}");
    assert!(refused(at("acme", "b1", "0.0.0.0/1", &[]), field).contains("8 bits"));
    try_create(&catalog, at("acme", "b1", "198.51.100.0/24", &["203.0.113.1"])).unwrap();
    try_create(&catalog, at("acme", "b2", "0.0.0.0/0", &["203.0.113.2"])).unwrap();
    refused(at("acme", "b3", "10.3.0.0/16", &["203.0.113.3", "198.51.100.7"]), "peer.remote_addresses[1]");
    refused(at("globex", "g2", "10.3.0.0/16", &["198.51.100.7"]), "peer.remote_addresses[0]");
    // A change that takes the address out of the subnet is judged by what will be.
    let moved = at("acme", "b1", "203.0.113.0/31", &["198.51.100.1"]);
    let request = v1::UpdatePeerRequest { peer: Some(moved), ..Default::default() };
    catalog.update_peer(&request).unwrap();

    // A rule keeps the route to a peer's address as it is, and is itself refused only when it takes everything.
    let rule = |action: v1::PolicyAction, name: &str, subnet: &str| v1::PolicyRule {
        name: name.to_owned(),
        action: action.into(),
        remote_subnets: vec![subnet.to_owned()],
        ..Default::default()
    };
    let with =
        |rules: Vec<v1::PolicyRule>| v1::Tenant { policy: Some(v1::Policy { rules }), ..uplink("acme", "") };
    let bypass = rule(v1::PolicyAction::Bypass, "gateway", "198.51.100.1/32");
    let protect = rule(v1::PolicyAction::Protect, "all", "198.51.100.0/24");
    update(with(vec![bypass, protect.clone()]), false).unwrap();
    let inside = at("acme", "b1", "198.51.100.0/24", &["198.51.100.1"]);
    let request = v1::UpdatePeerRequest { peer: Some(inside), ..Default::default() };
    catalog.update_peer(&request).unwrap();
    let fault = violation(&update(with(vec![protect]), false).unwrap_err(), "tenant.policy");
    assert!(fault.contains("tenants/acme/peers/b1"), "{fault}");
    let all = with(vec![rule(v1::PolicyAction::Protect, "half", "128.0.0.0/1")]);
    let refused = update(all, false).unwrap_err();
    let tenants::Error::Invalid(faults) = &refused else { panic!("{refused:?}") };
    assert!(faults.iter().any(|fault| fault.field == "tenant.policy.rules[0].remote_subnets[0]"));
}
