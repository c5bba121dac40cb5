//! Whom a node speaks with, and whom it refuses.

use std::time::Duration;

use super::*;
use crate::mesh::Credentials;

/// Waits until both have refused each other, and sees that neither has heard the other.
async fn refused(a: Credentials, b: Credentials) {
    let (place_a, place_b) = (place("a"), place("b"));
    let nodes = [("a", place_a.bound.address()), ("b", place_b.bound.address())].into();
    let (b, a) = (start(place_b, b, &nodes), start(place_a, a, &nodes));
    let both = async {
        while [&a, &b].iter().any(|member| member.mesh.counters().refused_identities == 0) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, both).await.expect("both refuse");
    for (member, other) in [(&a, "b"), (&b, "a")] {
        assert!(member.mesh.standing().borrow().is_empty() && member.mesh.silence(other).is_none());
        assert_eq!(member.mesh.counters().connected, 0);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_of_the_secrets_is_refused_by_both() {
    refused(Credentials::derive("a", &SECRET).unwrap(), Credentials::derive("b", &[8; 32]).unwrap()).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_is_refused_by_both() {
    // Of who is connected to, and of who connects.
    refused(Credentials::derive("a", &SECRET).unwrap(), Credentials::derive("c", &SECRET).unwrap()).await;
    refused(Credentials::derive("c", &SECRET).unwrap(), Credentials::derive("b", &SECRET).unwrap()).await;
}
