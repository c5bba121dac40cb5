//! Requests the tests begin with.

#![allow(dead_code, clippy::unwrap_used, clippy::indexing_slicing, clippy::panic)]

use culvert_proto::v1;
use tenants::{Catalog, Error};

pub(crate) fn create_tenant(id: &str) -> v1::CreateTenantRequest {
    v1::CreateTenantRequest { tenant_id: id.to_owned(), ..Default::default() }
}

pub(crate) fn create_secret(tenant: &str, id: &str, value: &[u8]) -> v1::CreateSecretRequest {
    v1::CreateSecretRequest {
        parent: format!("tenants/{tenant}"),
        secret_id: id.to_owned(),
        secret: Some(v1::Secret { value: value.to_vec(), ..Default::default() }),
        ..Default::default()
    }
}

/// A peer of `tenant` with the identity `{id}.{tenant}` and the secret `psk`.
pub(crate) fn peer(tenant: &str, id: &str, remote_subnet: &str) -> v1::Peer {
    v1::Peer {
        name: format!("tenants/{tenant}/peers/{id}"),
        local_identity: "gw.example".to_owned(),
        remote_identity: format!("{id}.{tenant}.example"),
        auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk(format!("tenants/{tenant}/secrets/psk"))) }),
        children: vec![v1::Child {
            name: "lan".to_owned(),
            local_subnets: vec!["10.0.0.0/16".to_owned()],
            remote_subnets: vec![remote_subnet.to_owned()],
            ..Default::default()
        }],
        ..Default::default()
    }
}

pub(crate) fn create_peer(peer: v1::Peer) -> v1::CreatePeerRequest {
    let (parent, id) = peer.name.split_once("/peers/").unwrap();
    let (parent, peer_id) = (parent.to_owned(), id.to_owned());
    v1::CreatePeerRequest { parent, peer_id, peer: Some(peer), ..Default::default() }
}

pub(crate) fn mask(paths: &[&str]) -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: paths.iter().map(ToString::to_string).collect() })
}

/// A catalog with these tenants, each with the secret `psk`.
pub(crate) fn catalog(tenants: &[&str]) -> Catalog {
    let catalog = Catalog::in_memory().unwrap();
    for tenant in tenants {
        catalog.create_tenant(&create_tenant(tenant)).unwrap();
        catalog.create_secret(create_secret(tenant, "psk", b"correct horse")).unwrap();
    }
    catalog
}

/// A name of its text.
pub(crate) fn name<N: std::str::FromStr<Err: std::fmt::Debug>>(text: &str) -> N {
    text.parse().unwrap()
}

/// The error names this one field.
pub(crate) fn violation(error: &Error, field: &str) -> String {
    let Error::Invalid(faults) = error else { panic!("{error:?}") };
    let faults: Vec<_> = faults.iter().collect();
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!(faults[0].field, field);
    faults[0].description.clone()
}

pub(crate) fn try_create(catalog: &Catalog, peer: v1::Peer) -> Result<(), Error> {
    catalog.create_peer(&create_peer(peer)).map(|_| ())
}
