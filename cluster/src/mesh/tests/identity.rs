//! Whom a node speaks with, and whom it refuses.

use std::time::Duration;

use bytes::Bytes;
use latest::Latest as _;

use super::pki::{Authority, NOW};
use super::*;
use crate::mesh::refusal::of_identity;
use crate::mesh::{Credentials, Lane, endpoint};

fn derived(node: &str) -> Credentials {
    Credentials::derive(node, &SECRET).unwrap()
}

/// Waits until both have refused each other, and sees that neither has heard the other. The reasons that they have told.
async fn refused(a: Credentials, b: Credentials) -> [String; 2] {
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
        assert!(member.mesh.standing().latest().is_empty() && member.mesh.silence(other).is_none());
        assert_eq!(member.mesh.counters().connected, 0);
    }
    [&a, &b].map(|member| member.mesh.inner.told.lock().unwrap().last.clone().unwrap())
}

#[tokio::test(flavor = "multi_thread")]
async fn another_key_of_the_secrets_is_refused_by_both_with_the_reason() {
    let other = Credentials::derive("b", &[8; 32]).unwrap();
    let [of_a, of_b] = refused(derived("a"), other).await;
    assert!(
        of_a.starts_with("its certificate is of another authority") && of_a.contains("vault.key_file"),
        "{of_a}"
    );
    assert_eq!(of_b, format!("the other side refuses us: {of_a}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn a_certificate_of_another_name_is_refused_by_both_with_the_reason() {
    // Of who is connected to, and of who connects.
    let [of_a, of_b] = refused(derived("a"), derived("c")).await;
    assert_eq!(of_a, "its certificate is of another node");
    assert_eq!(of_b, format!("the other side refuses us: {of_a}"));
    let [of_a, of_b] = refused(derived("c"), derived("b")).await;
    assert_eq!(of_b, "it says that it is node \"a\", which its certificate does not name");
    assert_eq!(of_a, format!("the other side refuses us: {of_b}"));
}

#[tokio::test(flavor = "multi_thread")]
async fn files_are_as_good_and_those_of_another_authority_are_not() {
    let (ours, theirs) = (Authority::new("ours"), Authority::new("theirs"));
    let name = |node| crate::mesh::certified_name(node);
    let (place_a, place_b) = (place("a"), place("b"));
    let nodes = [("a", place_a.bound.address()), ("b", place_b.bound.address())].into();
    let read = |authority: &Authority, node: &str, names: &[&str]| {
        let directory = tempfile::tempdir().unwrap();
        Credentials::read(node, &authority.issue(names, NOW).write(directory.path())).unwrap()
    };
    // One certificate for all nodes is as good as one each.
    let b = start(place_b, read(&ours, "b", &["*.nodes.culvert"]), &nodes);
    let a = start(place_a, read(&ours, "a", &[&name("a"), "elsewhere.example"]), &nodes);
    heard(&a.mesh, "b").await;
    heard(&b.mesh, "a").await;
    a.mesh.ask("b", Lane::Control, 1, Bytes::new(), PATIENCE).await.unwrap();
    let [of_a, _] = refused(read(&ours, "a", &[&name("a")]), read(&theirs, "b", &[&name("b")])).await;
    assert!(of_a.starts_with("its certificate is of another authority"), "{of_a}");
    let [of_a, _] = refused(derived("a"), read(&ours, "b", &[&name("b")])).await;
    assert!(of_a.starts_with("its certificate is of another authority"), "{of_a}");
}

#[tokio::test(flavor = "multi_thread")]
async fn certificates_out_of_their_time_are_refused_by_both_with_the_reason() {
    let ours = Authority::new("ours");
    let (a, b) = (crate::mesh::certified_name("a"), crate::mesh::certified_name("b"));
    let good = || ours.issue(&[&a, &b], NOW).unchecked();
    let [of_a, _] = refused(good(), ours.issue(&[&b], (-9, -1)).unchecked()).await;
    assert!(of_a.starts_with("its certificate has expired"), "{of_a}");
    let [of_a, _] = refused(good(), ours.issue(&[&b], (1, 9)).unchecked()).await;
    assert!(of_a.starts_with("its certificate is not valid yet"), "{of_a}");
    let [of_a, of_b] = refused(ours.issue(&[&a], (-9, -1)).unchecked(), good()).await;
    assert!(of_b.starts_with("its certificate has expired"), "{of_b}");
    assert_eq!(of_a, format!("the other side refuses us: {of_b}"));
}

#[test]
fn files_that_are_of_no_use_are_named_with_the_reason() {
    let (ours, directory) = (Authority::new("ours"), tempfile::tempdir().unwrap());
    let (a, b) = (crate::mesh::certified_name("a"), crate::mesh::certified_name("b"));
    let wrong = |files: &crate::mesh::CredentialFiles| Credentials::read("a", files).unwrap_err().to_string();
    let other = ours.issue(&[&b], NOW).write(directory.path());
    assert!(
        wrong(&other).contains("cert.pem: does not name this node; expected a.nodes.culvert"),
        "{}",
        wrong(&other)
    );
    for (days, reason) in [((-9, -1), "has expired on"), ((1, 9), "is valid from")] {
        let files = ours.issue(&[&a], days).write(directory.path());
        assert!(wrong(&files).contains(reason), "{}", wrong(&files));
    }
    let mut files = ours.issue(&[&a], NOW).write(directory.path());
    assert!(Credentials::read("a", &files).is_ok());
    let elsewhere = tempfile::tempdir().unwrap();
    let key = std::mem::replace(&mut files.key, ours.issue(&[&a], NOW).write(elsewhere.path()).key);
    assert!(wrong(&files).contains("is not the key of the certificate in"), "{}", wrong(&files));
    files.key = files.certificate.clone();
    assert!(wrong(&files).contains("cert.pem: has no private key in PEM"), "{}", wrong(&files));
    files.key = directory.path().join("none.pem");
    assert!(wrong(&files).contains("none.pem: No such file"), "{}", wrong(&files));
    (files.key, files.ca) = (key.clone(), key);
    assert!(wrong(&files).contains("key.pem: has no certificate in PEM"), "{}", wrong(&files));
}

#[tokio::test]
async fn a_node_that_listens_everywhere_says_where_it_is() {
    let bound = crate::mesh::Bound::bind(([0, 0, 0, 0], 0).into()).unwrap();
    let port = bound.address().port();
    let etcd = ["http://127.0.0.1:2379".to_owned()];
    assert_eq!(bound.advertised(&etcd).await.unwrap(), ([127, 0, 0, 1], port).into());
    assert!(bound.advertised(&[]).await.unwrap_err().to_string().ends_with("set cluster.advertise"));
    let bound = crate::mesh::Bound::bind(([127, 0, 0, 2], 0).into()).unwrap();
    assert_eq!(bound.advertised(&etcd).await.unwrap(), bound.address());
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_renewed_holds_for_the_next_connection() {
    let [a, b] = cluster(["a", "b"]).await;
    let ours = Authority::new("ours");
    let name = |node: &str| crate::mesh::certified_name(node);
    a.mesh.renew(&ours.issue(&[&name("a")], NOW).unchecked()).unwrap();
    a.mesh.ask("b", Lane::Control, 1, Bytes::new(), PATIENCE).await.unwrap();
    a.mesh.inner.link("b").unwrap().connection().close(0u32.into(), b"");
    while a.mesh.counters().refused_identities == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    b.mesh.renew(&ours.issue(&[&name("b")], NOW).unchecked()).unwrap();
    while a.mesh.counters().connected == 0 {
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    a.mesh.ask("b", Lane::Control, 1, Bytes::new(), PATIENCE).await.unwrap();
}

/// One who is no node at all: shows no certificate, or speaks another version.
#[tokio::test(flavor = "multi_thread")]
async fn strangers_are_told_why() {
    let [a, b] = cluster(["a", "b"]).await;
    let address = b.mesh.inner.endpoint.local_addr().unwrap();
    let socket = || crate::mesh::Bound::bind(([127, 0, 0, 1], 0).into()).unwrap().socket;
    let (endpoint, _) = endpoint::endpoint(socket(), &derived("c")).unwrap();
    let (client, _) = endpoint::configurations_with(&derived("c"), b"culvert-nodes/2").unwrap();
    let error = endpoint.connect_with(client, address, "b.nodes.culvert").unwrap().await.unwrap_err();
    let reason = of_identity(&error, false).unwrap();
    assert!(reason.contains("another version of the protocol"), "{reason}");
    assert_eq!(a.mesh.counters().connected, 1, "nobody is harmed");
}
