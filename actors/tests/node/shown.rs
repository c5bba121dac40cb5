//! What the operator of one tenant sees of a branch that is refused, and the operator of another does not.

use std::net::UdpSocket;
use std::sync::Arc;

use culvert_proto::v1;
use ike::config::{Auth, Psk};
use tenants::{Catalog, Peer, PeerName};

use crate::common::{also_has, branch_with, catalog, create_peer, fill, node, until};

/// A second tenant with a peer that may come from there; of no address from anywhere.
fn globex(catalog: &Catalog, from: &[&str]) -> Arc<Peer> {
    let uplink = v1::Uplink { kind: Some(v1::uplink::Kind::Hub(v1::uplink::Hub {})) };
    let tenant = v1::Tenant { uplink: Some(uplink), ..Default::default() };
    let request =
        v1::CreateTenantRequest { tenant_id: "globex".into(), tenant: Some(tenant), ..Default::default() };
    catalog.create_tenant(&request).unwrap();
    let secret = v1::Secret { value: b"another secret".to_vec(), ..Default::default() };
    let request = v1::CreateSecretRequest {
        parent: "tenants/globex".into(),
        secret_id: "psk".into(),
        secret: Some(secret),
        ..Default::default()
    };
    catalog.create_secret(request).unwrap();
    let mut request = create_peer(9);
    request.parent = "tenants/globex".into();
    let peer = request.peer.as_mut().unwrap();
    peer.auth = Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/globex/secrets/psk".into())) });
    peer.remote_addresses = from.iter().map(ToString::to_string).collect();
    catalog.create_peer(&request).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_branch_is_shown_to_its_own_tenant_alone() {
    let catalog = catalog();
    let theirs = globex(&catalog, &["127.0.0.0/8"]);
    let node = node(Arc::clone(&catalog));
    let name: PeerName = "tenants/acme/peers/b0".parse().unwrap();
    let mut refused = branch_with(&node, 0, |config| {
        Arc::get_mut(&mut config.peer).unwrap().auth = Auth::Psk(Psk::new(b"a wrong secret".to_vec().into()));
    });
    // It ends with its failure.
    while refused.report.changed().await.is_ok() {}
    let control = node.control();
    let last_error = || control.peer(&name).map(|view| view.last_error.clone()).unwrap_or_default();
    until("the last error", || last_error().contains("pre-shared keys differ")).await;
    let ours = catalog.get_peer(&name).unwrap();
    let told = control.explain(&ours).await;
    assert!(told.attempts.iter().any(|a| a.cause.as_ref().is_some_and(|c| c.kind == "psk")), "{told:?}");
    let told = control.explain(&theirs).await;
    assert!(!format!("{told:?}").contains("b0.example"), "{told:?}");
    assert!(told.attempts.iter().all(|attempt| attempt.cause.is_none()), "{told:?}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_refused_at_the_address_of_another_may_be_of_a_peer_of_the_same_tenant_that_comes_from_anywhere()
 {
    let catalog = catalog();
    let theirs = globex(&catalog, &[]);
    let mut request = create_peer(7);
    request.peer.as_mut().unwrap().remote_addresses = vec!["127.0.0.1".into()];
    catalog.create_peer(&request).unwrap();
    let node = node(Arc::clone(&catalog));
    let mut refused = branch_with(&node, 0, |config| {
        let peer = Arc::get_mut(&mut config.peer).unwrap();
        peer.ike_proposals = ["aes128-sha1-modp2048".parse().unwrap()].into();
    });
    while refused.report.changed().await.is_ok() {}
    let control = node.control();
    let why = |id: &str| {
        let view = control.peer(&format!("tenants/acme/peers/{id}").parse().unwrap());
        view.map_or("", |view| view.why_down())
    };
    let error = || {
        let view = control.peer(&"tenants/acme/peers/b7".parse().unwrap());
        view.map_or_else(String::new, |view| view.last_error.clone())
    };
    until("it is told to the one of the address", || error().contains("was refused")).await;
    // A first message is of anybody who knows that address: it has nobody told that a tunnel is down.
    assert_eq!(why("b7"), "waiting");
    assert_eq!(why("b0"), "waiting", "nobody can say that it was this one");
    let ours = catalog.get_peer(&"tenants/acme/peers/b0".parse().unwrap()).unwrap();
    let told = control.explain(&ours).await;
    assert!(told.attempts.iter().any(|a| a.cause.as_ref().is_some_and(|c| c.kind == "proposal")), "{told:?}");
    let of_address = catalog.get_peer(&"tenants/acme/peers/b7".parse().unwrap()).unwrap();
    assert_eq!(control.explain(&of_address).await.attempts.len(), 1, "it is told once");
    assert!(control.explain(&theirs).await.attempts.is_empty());
    // It was told to a peer of a tenant that is gone. Another one that gets the name has nothing of that.
    let whole = v1::DeleteTenantRequest { name: "tenants/acme".into(), force: true, ..Default::default() };
    catalog.delete_tenant(&whole).unwrap();
    fill(&catalog);
    let next = catalog.get_peer(&ours.name).unwrap();
    let told = control.explain(&next).await;
    assert!(told.attempts.is_empty(), "{told:?}");
    node.shutdown().await;
}

/// What was refused once says nothing of what is configured now.
#[tokio::test(flavor = "multi_thread")]
async fn what_only_waits_is_down_for_nothing_once_it_is_configured_anew() {
    let catalog = catalog();
    let node = node(Arc::clone(&catalog));
    let name: PeerName = "tenants/acme/peers/b0".parse().unwrap();
    let mut refused = branch_with(&node, 0, |config| {
        let config = Arc::get_mut(&mut config.peer).unwrap();
        config.auth = Auth::Psk(Psk::new(b"another secret".to_vec().into()));
    });
    while refused.report.changed().await.is_ok() {}
    let why = || node.control().peer(&name).map_or("", |view| view.why_down());
    until("its secret is not ours", || why() == "psk").await;
    let mut peer = create_peer(0).peer.unwrap();
    peer.name = name.to_string();
    peer.children[0].local_subnets = vec!["10.0.0.0/9".into()];
    catalog.update_peer(&v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() }).unwrap();
    until("it waits", || why() == "waiting").await;
    assert_eq!(node.control().peer(&name).unwrap().last_error, "");
    node.shutdown().await;
}

/// Anybody may say its name, wherever he is.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_is_not_down_for_who_says_its_name_where_it_cannot_be() {
    let catalog = catalog();
    let mut request = create_peer(6);
    request.peer.as_mut().unwrap().remote_addresses = vec!["192.0.2.6/31".into()];
    catalog.create_peer(&request).unwrap();
    let node = node(Arc::clone(&catalog));
    let mut refused = branch_with(&node, 6, |_| {});
    while refused.report.changed().await.is_ok() {}
    let name: PeerName = "tenants/acme/peers/b6".parse().unwrap();
    let view = || node.control().peer(&name);
    until("it is told", || view().is_some_and(|view| view.last_error.contains("was refused"))).await;
    assert_eq!(view().unwrap().why_down(), "waiting");
    node.shutdown().await;
}

/// It is answered with what another has, and once it has proved who it is that is not for it.
#[tokio::test(flavor = "multi_thread")]
async fn a_peer_from_anywhere_that_has_proved_who_it_is_is_down_for_what_it_was_refused_for() {
    let catalog = catalog();
    let mut request = create_peer(5);
    let strict =
        v1::IkeConfig { proposals: vec!["aes256gcm16-prfsha384-ecp384".to_owned()], ..Default::default() };
    request.peer.as_mut().unwrap().ike = Some(strict);
    catalog.create_peer(&request).unwrap();
    let node = node(Arc::clone(&catalog));
    let mut refused = branch_with(&node, 5, |config| {
        let peer = Arc::get_mut(&mut config.peer).unwrap();
        peer.ike_proposals = ["aes128gcm16-prfsha256-x25519".parse().unwrap()].into();
    });
    while refused.report.changed().await.is_ok() {}
    let control = node.control();
    let why = |id: &str| {
        let view = control.peer(&format!("tenants/acme/peers/{id}").parse().unwrap());
        view.map_or("", |view| view.why_down())
    };
    until("the cause is shown", || why("b5") == "proposal").await;
    assert_eq!(why("b0"), "waiting");
    let told = |id: &str| catalog.get_peer(&format!("tenants/acme/peers/{id}").parse().unwrap()).unwrap();
    let ours = control.explain(&told("b5")).await;
    let mut causes = ours.attempts.iter().filter(|attempt| attempt.cause.is_some());
    assert!(causes.all(|attempt| !attempt.unidentified), "{ours:?}");
    let theirs = control.explain(&told("b0")).await;
    assert!(theirs.attempts.iter().all(|attempt| attempt.cause.is_none()), "{theirs:?}");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_asks_for_beyond_its_policies_is_told_in_words_and_with_its_cause() {
    let catalog = catalog();
    let node = node(Arc::clone(&catalog));
    let mut branch = branch_with(&node, 0, |config| {
        also_has(config, 99);
    });
    branch.until("up", |r| r.up).await;
    let name: PeerName = "tenants/acme/peers/b0".parse().unwrap();
    let view = || node.control().peer(&name).unwrap();
    until("refused", || view().state == v1::PeerState::Degraded).await;
    assert_eq!(view().why_down(), "selectors");
    let error = view().last_error.clone();
    assert!(
        error.starts_with("a Child SA that the peer asked for was refused: no common traffic"),
        "{error}"
    );
    node.shutdown().await;
}

/// As after a mistake in its selectors was mended there, while the IKE SA stayed.
#[tokio::test(flavor = "multi_thread")]
async fn what_a_peer_asked_for_is_history_once_it_has_what_is_configured() {
    let catalog = catalog();
    let node = node(Arc::clone(&catalog));
    let mut branch = branch_with(&node, 0, |config| {
        also_has(config, 99);
        Arc::get_mut(&mut config.peer).unwrap().children.swap(0, 1);
    });
    branch.until("up", |r| r.up).await;
    let name: PeerName = "tenants/acme/peers/b0".parse().unwrap();
    let view = || node.control().peer(&name).unwrap();
    until("all that is configured is there", || view().state == v1::PeerState::Established).await;
    assert_eq!((view().why_down(), view().last_error.as_str()), ("", ""));
    assert!(view().failures > 0, "it was refused before");
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_peer_that_the_network_says_is_not_there_is_down_for_that_while_it_is_still_tried() {
    let catalog = catalog();
    // Nobody listens there, and nobody else is given the port: it is taken by a socket that hears one other alone.
    let deaf = UdpSocket::bind("127.0.0.1:0").unwrap();
    deaf.connect("127.0.0.1:9").unwrap();
    let closed = deaf.local_addr().unwrap();
    let mut request = create_peer(8);
    let peer = request.peer.as_mut().unwrap();
    peer.remote_addresses = vec![closed.to_string()];
    peer.start_action = v1::StartAction::Start.into();
    catalog.create_peer(&request).unwrap();
    let node = node(Arc::clone(&catalog));
    let name: PeerName = "tenants/acme/peers/b8".parse().unwrap();
    let view = || node.control().peer(&name);
    until("ICMP was told", || view().is_some_and(|view| view.last_error.contains("port unreachable"))).await;
    let shown = view().unwrap();
    assert_eq!((shown.state, shown.why_down()), (v1::PeerState::Connecting, "unreachable"));
    let ours = catalog.get_peer(&name).unwrap();
    let told = node.control().explain(&ours).await;
    assert!(
        told.attempts.iter().any(|a| a.cause.as_ref().is_some_and(|c| c.kind == "unreachable")),
        "{told:?}"
    );
    node.shutdown().await;
}
