//! The operations of the catalog, one after another as a client sees them.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::sync::Arc;

use common::{catalog, create_peer, create_secret, create_tenant, mask, name, peer, try_create, violation};
use culvert_proto::v1;
use tenants::{Catalog, ChangeKind, Error, PeerName, SecretName, TenantName};

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

/// Each field is named with the first peer, in the order of names, that has the subnet for one of the same addresses.
#[test]
fn each_of_many_subnets_is_held_against_all_peers() {
    let catalog = catalog(&["acme"]);
    let subnets = |kind: u8, n: u8, count: u8| -> Vec<String> {
        (0..count).map(|k| format!("10.{}.{k}.0/24", kind + n)).collect()
    };
    let with = |id: &str, kinds: &[(u8, u8)]| {
        let child = |(n, (local, remote)): (usize, &(u8, u8))| v1::Child {
            name: format!("c{n}"),
            local_subnets: subnets(100, *local, 16),
            remote_subnets: subnets(200, *remote, 16),
            ..Default::default()
        };
        let children = kinds.iter().enumerate().map(child).collect();
        v1::Peer { children, ..peer("acme", id, "10.0.0.0/24") }
    };
    try_create(&catalog, with("b2", &[(0, 0), (1, 1)])).unwrap();
    try_create(&catalog, with("b1", &[(1, 0), (0, 1)])).unwrap();
    let error = try_create(&catalog, with("b3", &[(2, 0), (0, 1)])).unwrap_err();
    let Error::Invalid(faults) = &error else { panic!("{error:?}") };
    let faults: Vec<_> = faults.iter().collect();
    assert_eq!(faults.len(), 16, "the first child is for addresses of its own");
    assert_eq!(faults[3].field, "peer.children[1].remote_subnets[3]");
    assert_eq!(faults[3].description, "10.201.3.0/24 is behind tenants/acme/peers/b1 too");
    try_create(&catalog, with("b3", &[(2, 0), (3, 1)])).unwrap();

    let many: Vec<_> = (0..32).map(|n| (n, n)).collect();
    try_create(&catalog, with("most", &many.iter().map(|(l, r)| (l + 10, r + 10)).collect::<Vec<_>>()))
        .unwrap();
    let mut more = with("more", &many);
    more.children[31].local_subnets.push("172.16.0.0/24".to_owned());
    assert_eq!(
        violation(&try_create(&catalog, more).unwrap_err(), "peer.children"),
        "1025 subnets of all of them, local and remote; at most 1024"
    );
}

#[test]
fn secrets_are_bounded_sealed_and_kept_while_in_use() {
    let catalog = catalog(&["acme"]);
    let error = catalog.create_secret(create_secret("acme", "big", &vec![7; 10 << 20])).unwrap_err();
    assert_eq!(violation(&error, "secret.value"), "10485760 octets; at most 16384");
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

#[test]
fn a_tenants_own_rules_lead_nothing_away_from_the_peers_of_others() {
    let catalog = catalog(&["acme", "globex"]);
    let at = |tenant: &str, id: &str, subnet: &str, address: &str| v1::Peer {
        remote_addresses: vec![address.to_owned()],
        ..peer(tenant, id, subnet)
    };
    try_create(&catalog, at("globex", "g1", "10.2.0.0/16", "198.51.100.7")).unwrap();
    try_create(&catalog, at("globex", "g2", "10.3.0.0/16", "192.0.2.7")).unwrap();
    try_create(&catalog, at("acme", "b1", "10.4.0.0/16", "203.0.113.7")).unwrap();
    let rule = |action: v1::PolicyAction, subnet: &str| v1::PolicyRule {
        name: format!("{action:?}-{}", subnet.replace(['.', '/'], "-")).to_lowercase(),
        action: action.into(),
        remote_subnets: vec![subnet.to_owned()],
        ..Default::default()
    };
    let update = |rules: &[v1::PolicyRule]| {
        let tun = v1::uplink::Tun { device: "acme".to_owned(), ..Default::default() };
        let tenant = v1::Tenant {
            name: "tenants/acme".to_owned(),
            uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Tun(tun)) }),
            policy: Some(v1::Policy { rules: rules.to_vec() }),
            ..Default::default()
        };
        catalog.update_tenant(&v1::UpdateTenantRequest { tenant: Some(tenant), ..Default::default() })
    };
    let of_acme = Arc::new(tenants::Author {
        tenant: Some(name("tenants/acme")),
        role: tenants::Role::Admin,
        ..(*tenants::Author::node()).clone()
    });
    let (protect, discard) = (v1::PolicyAction::Protect, v1::PolicyAction::Discard);
    // Who has the whole node knows how its routes are.
    update(&[rule(protect, "192.0.2.0/24")]).unwrap();
    of_acme.acting(|| {
        // What has been led there by others stays.
        update(&[rule(protect, "192.0.2.0/24"), rule(protect, "203.0.113.0/24")]).unwrap();
        for action in [protect, discard] {
            let rules = [rule(protect, "192.0.2.0/24"), rule(action, "198.51.0.0/16")];
            let field = "tenant.policy.rules[1].remote_subnets[0]";
            let fault = violation(&update(&rules).unwrap_err(), field);
            assert!(fault.contains("a peer of another tenant"), "{fault}");
            assert!(!fault.contains("globex") && !fault.contains("198.51.100.7"), "{fault}");
        }
        let bypass = v1::PolicyAction::Bypass;
        update(&[rule(bypass, "198.51.100.7/32"), rule(protect, "198.51.0.0/16")]).unwrap();
        // Without the rule before it the second leads to what it did not.
        let fault = update(&[rule(protect, "198.51.0.0/16")]).unwrap_err();
        violation(&fault, "tenant.policy.rules[0].remote_subnets[0]");
    });
    update(&[rule(protect, "198.51.0.0/16")]).unwrap();
}

#[test]
fn an_identity_in_other_letters_is_another_text() {
    let catalog = catalog(&["acme"]);
    let written = |local: &str, remote: &str| v1::Peer {
        local_identity: local.to_owned(),
        remote_identity: remote.to_owned(),
        ..peer("acme", "b1", "10.4.0.0/16")
    };
    try_create(&catalog, written("Gw.Example", "B1.example")).unwrap();
    let key = name("tenants/acme/peers/b1");
    let update = |local: &str, remote: &str| {
        let request = v1::UpdatePeerRequest { peer: Some(written(local, remote)), ..Default::default() };
        catalog.update_peer(&request).unwrap()
    };
    for (local, remote, field) in
        [("gw.example", "B1.example", "local_identity"), ("gw.example", "b1.example", "remote_identity")]
    {
        let before = catalog.get_peer(&key).unwrap();
        let changed = update(local, remote);
        assert_ne!(changed.meta.etag(), before.meta.etag());
        let now = catalog.get_peer(&key).unwrap().spec.to_proto();
        assert_eq!((now.local_identity.as_str(), now.remote_identity.as_str()), (local, remote));
        let impact = changed.impact();
        assert_eq!(
            (impact.effect, impact.fields),
            (tenants::impact::Effect::IkeRestart, vec![field.to_owned()])
        );
    }
    assert!(update("gw.example", "b1.example").is_unchanged());
}
