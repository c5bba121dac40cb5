//! Nodes that vanish, and come back.

use std::sync::atomic::Ordering;
use std::time::Duration;

use latest::Follow as _;
use tokio::sync::watch;

use super::*;
use crate::mesh::dial::GIVEN_UP;
use crate::mesh::{Credentials, SILENT};

/// Two nodes with a way between them that can be cut.
async fn two() -> (Member, Member, Way) {
    let (place_a, place_b) = (place("a"), place("b"));
    let way = Way::to(place_b.bound.address()).await;
    let nodes = [("a", place_a.bound.address()), ("b", way.address)].into();
    let credentials = |name| Credentials::derive(name, &SECRET).unwrap();
    let (b, a) = (start(place_b, credentials("b"), &nodes), start(place_a, credentials("a"), &nodes));
    heard(&a.mesh, "b").await;
    heard(&b.mesh, "a").await;
    (a, b, way)
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_cut_off_is_silent_to_both_and_is_heard_again() {
    let (a, b, way) = two().await;
    let before =
        [(&a.mesh, "b"), (&b.mesh, "a")].map(|(mesh, other)| (mesh, other, mesh.silence(other).unwrap()));
    let cut = tokio::time::Instant::now();
    way.set(false);
    for (mesh, other, before) in before {
        silent(mesh, other).await;
        assert!(mesh.silence(other).unwrap() >= SILENT);
        assert!(cut.elapsed() + before >= SILENT - Duration::from_millis(10), "not before its time");
    }
    way.set(true);
    heard(&a.mesh, "b").await;
    heard(&b.mesh, "a").await;
    answered(&a.mesh, "b").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_a_long_silence_whatever_comes_first_is_used() {
    let (a, b, way) = two().await;
    way.set(false);
    // Longer than until the connection is given up, so that tries to make another are under way.
    while a.mesh.silence("b").unwrap() < GIVEN_UP * 2 {
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    silent(&b.mesh, "a").await;
    way.set(true);
    heard(&a.mesh, "b").await;
    heard(&b.mesh, "a").await;
    answered(&a.mesh, "b").await;
    assert_eq!((a.mesh.counters().connected, b.mesh.counters().connected), (1, 1));
}

#[tokio::test(flavor = "multi_thread")]
async fn one_direction_is_enough_to_be_heard_by_and_too_little_to_be_heard() {
    let (a, b, way) = two().await;
    way.back.store(false, Ordering::Relaxed);
    silent(&a.mesh, "b").await;
    // What a sends arrives, though it says that it does not hear the other.
    let begin = tokio::time::Instant::now();
    while b.mesh.silence("a").unwrap() >= SILENT {
        assert!(begin.elapsed() < PATIENCE, "nothing arrives");
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    way.back.store(true, Ordering::Relaxed);
    heard(&a.mesh, "b").await;
    heard(&b.mesh, "a").await;
    way.forth.store(false, Ordering::Relaxed);
    silent(&b.mesh, "a").await;
    way.forth.store(true, Ordering::Relaxed);
    heard(&b.mesh, "a").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_is_started_again_is_another_process_whoever_connects() {
    for restarted in ["a", "b"] {
        let (place_a, place_b) = (place("a"), place("b"));
        let addresses = [place_a.bound.address(), place_b.bound.address()];
        let nodes = [("a", addresses[0]), ("b", addresses[1])].into();
        let credentials = |name| Credentials::derive(name, &SECRET).unwrap();
        let (stays_at, goes_at) = if restarted == "a" { (place_b, place_a) } else { (place_a, place_b) };
        let address = goes_at.bound.address();
        let stays = start(stays_at, credentials(if restarted == "a" { "b" } else { "a" }), &nodes);
        let goes = start(goes_at, credentials(restarted), &nodes);
        assert_eq!(heard(&stays.mesh, restarted).await.instance, restarted.as_bytes());
        let mut standing = stays.mesh.standing();
        drop(goes);
        silent(&stays.mesh, restarted).await;
        // The old one may still hold the socket for a moment.
        let bound = loop {
            match crate::mesh::Bound::bind(address) {
                Ok(bound) => break bound,
                Err(_) => tokio::task::yield_now().await,
            }
        };
        let settings = crate::mesh::Settings {
            name: restarted.to_owned(),
            instance: b"second".to_vec(),
            credentials: credentials(restarted),
        };
        let (_, of_it) = watch::channel(std::sync::Arc::new(placement(restarted, &nodes)));
        let _again = crate::mesh::Mesh::start(bound, settings, of_it, std::sync::Arc::new(Nothing)).unwrap();
        let second = |all: &std::sync::Arc<crate::mesh::Standings>| {
            all[restarted].instance == b"second" && !all[restarted].silent
        };
        tokio::time::timeout(PATIENCE, standing.until(second)).await.unwrap().unwrap();
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_process_that_has_lost_its_name_does_not_take_the_place_of_the_one_that_has_it() {
    let (place_a, place_b, old) = (place("a"), place("b"), place("a"));
    let nodes = [("a", place_a.bound.address()), ("b", place_b.bound.address())].into();
    let credentials = |name| Credentials::derive(name, &SECRET).unwrap();
    // Its name is that of the process that it has heard of by etcd.
    let mut known = placement("b", &nodes);
    known.nodes[0].instance = b"a".to_vec();
    let (_told, known) = watch::channel(std::sync::Arc::new(known));
    let b = start_with(place_b, credentials("b"), known, std::sync::Arc::new(Nothing));
    let a = start(place_a, credentials("a"), &nodes);
    heard(&a.mesh, "b").await;
    assert_eq!(heard(&b, "a").await.instance, b"a");
    let settings = crate::mesh::Settings {
        name: "a".to_owned(),
        instance: b"before".to_vec(),
        credentials: credentials("a"),
    };
    let (_, of_it) = watch::channel(std::sync::Arc::new(placement("a", &nodes)));
    let old = crate::mesh::Mesh::start(old.bound, settings, of_it, std::sync::Arc::new(Nothing)).unwrap();
    // Where all stands still for as long as makes a node silent it may get in, and is pushed aside again.
    let refused = async {
        while old.counters().refused_identities < 3 {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, refused).await.expect("it is refused");
    let reason = old.inner.told.lock().unwrap().last.clone().unwrap();
    assert!(reason.contains("another process of node \"a\" is there"), "{reason}");
    let heard_again = async {
        while heard(&b, "a").await.instance != b"a" {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    };
    tokio::time::timeout(PATIENCE, heard_again).await.expect("the one that has the name is there");
    // As soon as that one is gone, whoever says that it is the node is as good as any.
    drop(a);
    heard(&old, "b").await;
}
