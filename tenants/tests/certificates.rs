//! Peers that authenticate with certificates: what is taken, what is refused, and what is read only once.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::time::SystemTime;

use certificates::issue::{Authority, KeyKind};
use common::{catalog, create_peer, create_secret, create_tenant, name, peer, try_create, violation};
use culvert_proto::v1;
use ike::credentials::Certificates as _;
use tenants::{Auth, Catalog, Error};

const HUB: &str = "hub.example";

fn authority() -> Authority {
    Authority::new("authority").unwrap()
}

fn own(authority: &Authority, id: &str) -> Vec<u8> {
    authority.issue(&id.parse().unwrap(), KeyKind::P256).unwrap().to_pem().unwrap()
}

/// A tenant with a hub's certificate in `own` and its authority in `ca`.
fn with_secrets() -> (Catalog, Authority) {
    let (catalog, authority) = (catalog(&["acme", "globex"]), authority());
    catalog.create_secret(create_secret("acme", "own", &own(&authority, HUB))).unwrap();
    catalog.create_secret(create_secret("acme", "ca", &authority.to_pem().unwrap())).unwrap();
    (catalog, authority)
}

fn with(own: &str, authorities: &str) -> Option<v1::Auth> {
    let full = |name: &str| format!("tenants/acme/secrets/{name}");
    let with = v1::Certificates { own: full(own), authorities: full(authorities) };
    Some(v1::Auth { method: Some(v1::auth::Method::Certificates(with)) })
}

fn branch(id: &str, subnet: &str) -> v1::Peer {
    v1::Peer { local_identity: HUB.to_owned(), auth: with("own", "ca"), ..peer("acme", id, subnet) }
}

fn update(catalog: &Catalog, secret: &str, value: Vec<u8>) -> Result<(), Error> {
    let name = format!("tenants/acme/secrets/{secret}");
    let secret = Some(v1::Secret { name, value, ..Default::default() });
    catalog.update_secret(v1::UpdateSecretRequest { secret, ..Default::default() }).map(drop)
}

#[test]
fn a_peer_has_its_certificates_by_the_names_of_secrets() {
    let (catalog, _) = with_secrets();
    let peer = catalog.create_peer(&create_peer(branch("b1", "10.1.0.0/24"))).unwrap();
    let Auth::Certificates { own, authorities } = &peer.spec.auth else { panic!("{:?}", peer.spec.auth) };
    assert_eq!(peer.to_proto().auth, with("own", "ca"));
    let credentials = catalog.credentials(own, authorities).unwrap();
    assert_eq!((credentials.chain().len(), credentials.authorities().len()), (1, 1));
    for secret in [own, authorities] {
        let delete = v1::DeleteSecretRequest { name: secret.to_string(), ..Default::default() };
        assert!(catalog.delete_secret(&delete).unwrap_err().to_string().contains("in use by"));
    }
}

#[test]
fn a_secret_tells_when_its_certificates_end_as_long_as_it_has_them() {
    let (catalog, authority) = with_secrets();
    let ends = |name: &str| {
        catalog.get_secret(&format!("tenants/acme/secrets/{name}").parse().unwrap()).unwrap().ends
    };
    assert_eq!(ends("psk"), None);
    let first = ends("own").unwrap();
    assert!(first > SystemTime::now());
    let days = (-1, 30);
    let other = authority.issue_for(&[HUB.parse().unwrap()], KeyKind::P256, days).unwrap().to_pem().unwrap();
    update(&catalog, "own", other).unwrap();
    let second = ends("own").unwrap();
    assert!(second < first);
    // Another name for people is none of its value's.
    let own = "tenants/acme/secrets/own".to_owned();
    let secret = v1::Secret { name: own, display_name: "ours".to_owned(), ..Default::default() };
    let update = |secret| {
        catalog.update_secret(v1::UpdateSecretRequest { secret: Some(secret), ..Default::default() })
    };
    let shown = update(secret).unwrap().after.to_proto();
    assert_eq!(shown.certificate_end_time, Some(second.into()));
    // Said by somebody else it counts for nothing.
    let said = v1::Secret { certificate_end_time: Some(first.into()), ..shown };
    assert_eq!(update(said).unwrap().after.ends, Some(second));
    let psk = v1::Secret {
        name: "tenants/acme/secrets/own".to_owned(),
        value: b"a key".to_vec(),
        ..Default::default()
    };
    assert_eq!(update(psk).unwrap().after.ends, None);
}

#[test]
fn the_end_of_a_certificate_outlives_the_process() {
    let directory = tempfile::tempdir().unwrap();
    let of = |catalog: &Catalog| catalog.get_secret(&name("tenants/acme/secrets/own")).unwrap().ends;
    let first = {
        let catalog = Catalog::open(directory.path()).unwrap();
        catalog.create_tenant(&create_tenant("acme")).unwrap();
        catalog.create_secret(create_secret("acme", "own", &own(&authority(), HUB))).unwrap();
        of(&catalog)
    };
    assert!(first.is_some());
    assert_eq!(of(&Catalog::open(directory.path()).unwrap()), first);
}

#[test]
fn what_is_in_the_secrets_has_to_fit_the_peer() {
    let (catalog, authority) = with_secrets();
    catalog.create_secret(create_secret("acme", "other", &own(&authority, "other.example"))).unwrap();
    let field = |peer: v1::Peer, field: &str| violation(&try_create(&catalog, peer).unwrap_err(), field);
    let of = |auth| v1::Peer { auth, ..branch("b1", "10.1.0.0/24") };
    for (auth, place, said) in [
        (with("psk", "ca"), "own", "it has no private key"),
        (with("ca", "ca"), "own", "it has no private key"),
        (with("own", "psk"), "authorities", "it has no certificate"),
        (with("none", "ca"), "own", "does not exist"),
        (with("other", "ca"), "own", "for [other.example], not for the local identity hub.example"),
        (with("", "ca"), "own", ""),
    ] {
        let text = field(of(auth), &format!("peer.auth.certificates.{place}"));
        assert!(text.contains(said), "{text}");
    }
    let v1 = Some(v1::IkeConfig { version: v1::IkeVersion::Ikev1.into(), ..Default::default() });
    let text = field(v1::Peer { ike: v1, ..branch("b1", "10.1.0.0/24") }, "peer.auth.certificates");
    assert!(text.contains("expected psk with version IKEV1"), "{text}");
    let keyed = v1::Peer { remote_identity: "keyid:branch".to_owned(), ..branch("b1", "10.1.0.0/24") };
    field(keyed, "peer.remote_identity");
    let foreign = v1::Certificates {
        own: "tenants/globex/secrets/own".to_owned(),
        authorities: "tenants/acme/secrets/ca".to_owned(),
    };
    let foreign = of(Some(v1::Auth { method: Some(v1::auth::Method::Certificates(foreign)) }));
    assert!(field(foreign, "peer.auth.certificates.own").contains("not a secret of tenants/acme"));
    assert!(catalog.peers().is_empty());
}

#[test]
fn a_certificate_is_renewed_in_its_place_and_what_its_peers_could_not_use_is_refused() {
    let (catalog, authority) = with_secrets();
    let peer = catalog.create_peer(&create_peer(branch("b1", "10.1.0.0/24"))).unwrap();
    let Auth::Certificates { own: name, authorities } = &peer.spec.auth else { panic!() };
    let chain = || catalog.credentials(name, authorities).unwrap().chain().to_vec();
    let before = chain();
    update(&catalog, "own", own(&authority, HUB)).unwrap();
    assert_ne!(chain(), before);
    for (secret, value, said) in [
        (
            "own",
            own(&authority, "other.example"),
            "for tenants/acme/peers/b1, tenants/acme/secrets/own: its certificate is for",
        ),
        ("own", b"correct horse".to_vec(), "it has no private key"),
        ("ca", own(&authority, HUB)[..40].to_vec(), "a certificate or revocation list in it is damaged"),
    ] {
        let text = violation(&update(&catalog, secret, value).unwrap_err(), "secret.value");
        assert!(text.contains(said), "{text}");
    }
    // Both at once, as one who moves to another authority has it.
    update(&catalog, "ca", [authority.to_pem().unwrap(), self::authority().to_pem().unwrap()].concat())
        .unwrap();
    assert_eq!(catalog.credentials(name, authorities).unwrap().authorities().len(), 2);
}

/// A thousand peers of one gateway have its key once.
#[test]
fn what_many_have_is_read_once() {
    let (catalog, _) = with_secrets();
    try_create(&catalog, branch("b1", "10.1.0.0/24")).unwrap();
    let (own, ca) = (name("tenants/acme/secrets/own"), name("tenants/acme/secrets/ca"));
    let (one, two) = (catalog.credentials(&own, &ca).unwrap(), catalog.credentials(&own, &ca).unwrap());
    assert!(std::ptr::eq(one.chain(), two.chain()) && std::ptr::eq(one.authorities(), two.authorities()));
}

/// However many have the same one, and whatever they are called.
#[test]
fn an_authority_that_one_of_very_many_peers_has_is_named_as_well() {
    let (catalog, other) = (with_secrets().0, self::authority());
    catalog.create_secret(create_secret("acme", "other", &other.to_pem().unwrap())).unwrap();
    let quotas = Some(v1::Quotas { max_peers: 2_000, ..Default::default() });
    let tenant = Some(v1::Tenant { name: "tenants/acme".to_owned(), quotas, ..Default::default() });
    catalog.update_tenant(&v1::UpdateTenantRequest { tenant, ..Default::default() }).unwrap();
    let peers = (0..1_200u32).map(|n| branch(&format!("b{n}"), &format!("10.{}.{}.0/24", n / 256, n % 256)));
    peers.for_each(|peer| try_create(&catalog, peer).unwrap());
    let asked = || catalog.authorities_from("192.0.2.1".parse().unwrap()).len();
    assert_eq!(asked(), 1);
    let last = v1::Peer { auth: with("own", "other"), ..branch("z", "10.99.0.0/24") };
    try_create(&catalog, last).unwrap();
    assert_eq!(asked(), 2);
    // Of the others one alone is left, then none.
    for n in 0..1_200 {
        assert_eq!(asked(), 2, "{n}");
        let name = format!("tenants/acme/peers/b{n}");
        catalog.delete_peer(&v1::DeletePeerRequest { name, ..Default::default() }).unwrap();
    }
    assert_eq!(asked(), 1);
}

#[test]
fn only_who_may_come_with_a_certificate_is_asked_for_one() {
    let (catalog, _) = with_secrets();
    let asked = |address: &str| catalog.authorities_from(address.parse().unwrap()).len();
    assert_eq!(asked("192.0.2.1"), 0);
    // More of them than are looked at for somebody.
    for n in 0..600 {
        let subnet = format!("10.{}.{}.0/24", 100 + n / 256, n % 256);
        for tenant in ["acme", "globex"] {
            try_create(&catalog, peer(tenant, &format!("k{n}"), &subnet)).unwrap();
        }
    }
    assert_eq!(asked("192.0.2.1"), 0, "who has a pre-shared key is not asked");
    let from = |id: &str, subnet: &str, address: &str| v1::Peer {
        remote_addresses: vec![address.to_owned()],
        ..branch(id, subnet)
    };
    try_create(&catalog, from("b1", "10.1.0.0/24", "192.0.2.1")).unwrap();
    try_create(&catalog, from("b2", "10.2.0.0/24", "192.0.2.0/24")).unwrap();
    assert_eq!(asked("192.0.2.1"), 1, "of two who have the same authority");
    assert_eq!((asked("192.0.2.2"), asked("::ffff:192.0.2.2")), (1, 1));
    assert_eq!(asked("198.51.100.1"), 0, "nobody of them is there");
    for peer in ["b1", "b2"] {
        let name = format!("tenants/acme/peers/{peer}");
        catalog.delete_peer(&v1::DeletePeerRequest { name, ..Default::default() }).unwrap();
    }
    assert_eq!(asked("192.0.2.1"), 0);
}
