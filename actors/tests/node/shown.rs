//! What the operator of one tenant sees of a branch that is refused, and the operator of another does not.

use std::sync::Arc;

use culvert_proto::v1;
use ike::config::Psk;
use tenants::{Catalog, Peer, PeerName};

use crate::common::{branch_with, catalog, create_peer, node, until};

/// A second tenant, one of whose peers may come from wherever the branches of the first are.
fn globex(catalog: &Catalog) -> Arc<Peer> {
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
    peer.remote_addresses = vec!["127.0.0.0/8".into()];
    catalog.create_peer(&request).unwrap().clone()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_refused_branch_is_shown_to_its_own_tenant_alone() {
    let catalog = catalog();
    let theirs = globex(&catalog);
    let node = node(Arc::clone(&catalog));
    let name: PeerName = "tenants/acme/peers/b0".parse().unwrap();
    let mut refused = branch_with(&node, 0, |config| {
        Arc::get_mut(&mut config.peer).unwrap().psk = Psk::new(b"a wrong secret".to_vec().into());
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
