//! Peers that are told apart by little: how many of them there may be, for each is held against all others.

#![allow(clippy::unwrap_used, clippy::indexing_slicing, clippy::panic, unused_crate_dependencies)]

mod common;

use common::{catalog, create_peer, peer, violation};
use culvert_proto::v1;
use tenants::limits::MAX_ALIKE;

/// The peers of `make` up to the bound are taken, and one more is not: what is said of it in `field`.
fn refused(make: impl Fn(usize) -> v1::Peer, field: &str) -> String {
    let catalog = catalog(&["acme"]);
    for number in 0..=MAX_ALIKE {
        catalog.create_peer(&create_peer(make(number))).unwrap();
    }
    let patch = v1::Peer { display_name: "first".to_owned(), ..make(0) };
    let update = v1::UpdatePeerRequest { peer: Some(patch), ..Default::default() };
    assert_eq!(catalog.update_peer(&update).unwrap().spec.display_name, "first");
    violation(&catalog.create_peer(&create_peer(make(MAX_ALIKE + 1))).unwrap_err(), field)
}

#[test]
fn no_more_than_so_many_have_remote_subnets_in_common() {
    let make = |number: usize| {
        let mut peer = peer("acme", &format!("b{number}"), "10.200.0.0/24");
        peer.children[0].local_subnets = vec![format!("10.1.{number}.0/24")];
        peer
    };
    let told = refused(make, "peer.children");
    assert!(told.contains("64 other peers") && told.contains("10.200.0.0/24"), "{told}");
}

/// One that has a subnet in common with each of many is not one too many of any.
#[test]
fn a_peer_that_many_have_something_in_common_with_can_be_changed() {
    let catalog = catalog(&["acme"]);
    let subnet = |number: usize| format!("10.200.{number}.0/24");
    let mut gateway = peer("acme", "gateway", "10.201.0.0/24");
    gateway.children[0].remote_subnets = (0..16).map(subnet).collect();
    gateway.children[0].local_subnets = vec!["10.2.0.0/16".to_owned()];
    catalog.create_peer(&create_peer(gateway.clone())).unwrap();
    for number in 0..MAX_ALIKE + 8 {
        let mut branch = peer("acme", &format!("b{number}"), &subnet(number % 16));
        branch.children[0].local_subnets = vec![format!("10.1.{number}.0/24")];
        catalog.create_peer(&create_peer(branch)).unwrap();
    }
    gateway.children[0].local_subnets = vec!["10.3.0.0/16".to_owned()];
    let update = v1::UpdatePeerRequest { peer: Some(gateway), ..Default::default() };
    catalog.update_peer(&update).unwrap();
}

#[test]
fn no_more_than_so_many_have_both_identities_in_common() {
    let make = |number: usize| v1::Peer {
        remote_identity: "branch.example".to_owned(),
        remote_addresses: vec![format!("192.0.2.{number}")],
        ..peer("acme", &format!("b{number}"), &format!("10.200.{number}.0/24"))
    };
    let told = refused(make, "peer.remote_identity");
    assert!(told.contains("64 other peers") && told.contains("branch.example"), "{told}");
}
