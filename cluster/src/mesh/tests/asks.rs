//! Questions and answers.

use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex};

use bytes::Bytes;
use tokio::sync::{Notify, mpsc, watch};

use super::*;
use crate::mesh::{Answer, Credentials, Handler, Lane, MAX_BODY, MeshError};

#[tokio::test(flavor = "multi_thread")]
async fn three_nodes_ask_each_other() {
    let [a, b, c] = cluster(["a", "b", "c"]).await;
    for (from, to) in [(&a, "b"), (&b, "a"), (&a, "c"), (&c, "a"), (&b, "c"), (&c, "b")] {
        for lane in [Lane::Checkpoint, Lane::Control] {
            let answer =
                from.mesh.ask(to, lane, 0x0102, Bytes::from_static(b"hello"), PATIENCE).await.unwrap();
            assert_eq!(&*answer, b"\x01\x02hello");
        }
    }
    let figures = a.mesh.counters();
    assert_eq!((figures.connected, figures.connections), (2, 2), "one for each pair");
    assert_eq!(
        (figures.asked, figures.asked_octets, figures.answered, figures.answered_octets),
        (4, 20, 4, 20)
    );
    assert!(a.mesh.silence("b").is_some() && a.mesh.silence("x").is_none());
    let refused = a.mesh.ask("c", Lane::Control, 99, Bytes::new(), PATIENCE).await.unwrap_err();
    assert_eq!(refused.to_string(), "node c: not for a");
    let away = a.mesh.ask("x", Lane::Control, 1, Bytes::new(), PATIENCE).await.unwrap_err();
    assert!(matches!(away, MeshError::Away(node) if node == "x"));
}

#[tokio::test(flavor = "multi_thread")]
async fn the_largest_bodies_go_both_ways_and_larger_ones_do_not() {
    let [a, _b] = cluster(["a", "b"]).await;
    let body: Bytes = (0..MAX_BODY - 2).map(|n| (n * n) as u8).collect::<Vec<_>>().into();
    let asked: Vec<_> = (0..5).map(|n| a.mesh.ask("b", Lane::Control, n, body.clone(), PATIENCE)).collect();
    for (n, asked) in (0u16..).zip(asked) {
        let answer = asked.await.unwrap();
        assert!(answer[..2] == n.to_be_bytes() && answer[2..] == body);
    }
    // Two octets are more in the answer than there were in the question.
    let full = Bytes::from(vec![0; MAX_BODY]);
    let refused = a.mesh.ask("b", Lane::Control, 1, full, PATIENCE).await.unwrap_err();
    assert!(refused.to_string().contains("at most 4194304"), "{refused}");
    let more = Bytes::from(vec![0; MAX_BODY + 1]);
    let refused = a.mesh.ask("b", Lane::Control, 1, more, PATIENCE).await.unwrap_err();
    assert!(matches!(refused, MeshError::TooLarge { .. }), "{refused}");
}

#[tokio::test(flavor = "multi_thread")]
async fn keys_that_are_renewed_are_as_good() {
    let [a, b] = cluster(["a", "b"]).await;
    for n in 0..20 {
        let (from, to) = if n % 2 == 0 { (&a, "b") } else { (&b, "a") };
        from.mesh.inner.link(to).unwrap().connection().force_key_update();
        from.mesh.ask(to, Lane::Control, n, Bytes::new(), PATIENCE).await.unwrap();
    }
    assert_eq!((a.mesh.counters().connections, b.mesh.counters().connections), (1, 1));
}

/// Notes what it is asked, and whether it is asked while it answers.
#[derive(Default)]
struct Notes {
    kinds: Mutex<Vec<u64>>,
    busy: AtomicU64,
    overlaps: AtomicU64,
}

impl Handler for Notes {
    fn ask<'a>(&'a self, _from: &'a str, _lane: Lane, _kind: u16, body: Bytes) -> Answer<'a> {
        Box::pin(async move {
            self.overlaps.fetch_add(self.busy.fetch_add(1, Ordering::SeqCst), Ordering::SeqCst);
            let number = u64::from_be_bytes(body[..8].try_into().unwrap());
            if number % 7 == 0 {
                tokio::task::yield_now().await;
            }
            self.kinds.lock().unwrap().push(number);
            self.busy.fetch_sub(1, Ordering::SeqCst);
            Ok(body)
        })
    }

    fn packet(&self, _from: &str, _kind: u8, _packet: Bytes) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn ten_thousand_questions_are_answered_one_after_the_other_in_order() {
    let (place_a, place_b) = (place("a"), place("b"));
    let nodes = [("a", place_a.bound.address()), ("b", place_b.bound.address())].into();
    let notes = Arc::new(Notes::default());
    let (_, of_b) = watch::channel(Arc::new(placement("b", &nodes)));
    let credentials = |name| Credentials::derive(name, &SECRET).unwrap();
    let _b = start_with(place_b, credentials("b"), of_b, notes.clone());
    let a = start(place_a, credentials("a"), &nodes);
    heard(&a.mesh, "b").await;
    let body = |number: u64| Bytes::from([&number.to_be_bytes()[..], &[1; 600]].concat());
    let asked: Vec<_> =
        (0..10_000).map(|number| a.mesh.ask("b", Lane::Checkpoint, 1, body(number), PATIENCE)).collect();
    for (number, asked) in (0..).zip(asked) {
        assert_eq!(asked.await.unwrap(), body(number));
    }
    assert!(notes.kinds.lock().unwrap().iter().copied().eq(0..10_000));
    assert_eq!(notes.overlaps.load(Ordering::SeqCst), 0);
}

/// Answers when it is told to.
struct Slow {
    begun: mpsc::UnboundedSender<u16>,
    go_on: Notify,
}

impl Handler for Slow {
    fn ask<'a>(&'a self, _from: &'a str, _lane: Lane, kind: u16, body: Bytes) -> Answer<'a> {
        Box::pin(async move {
            self.begun.send(kind).unwrap();
            if kind > 0 {
                self.go_on.notified().await;
            }
            Ok(body)
        })
    }

    fn packet(&self, _from: &str, _kind: u8, _packet: Bytes) {}
}

#[tokio::test(flavor = "multi_thread")]
async fn what_waits_fails_at_once_when_the_connection_ends_and_nobody_waits_for_who_is_slow() {
    let (place_a, place_b) = (place("a"), place("b"));
    let nodes = [("a", place_a.bound.address()), ("b", place_b.bound.address())].into();
    let (begun, mut begins) = mpsc::unbounded_channel();
    let slow = Arc::new(Slow { begun, go_on: Notify::new() });
    let (_, of_b) = watch::channel(Arc::new(placement("b", &nodes)));
    let credentials = |name| Credentials::derive(name, &SECRET).unwrap();
    let b = start_with(place_b, credentials("b"), of_b, slow.clone());
    let a = start(place_a, credentials("a"), &nodes);
    heard(&a.mesh, "b").await;
    let ask = |lane, kind, patience| a.mesh.ask("b", lane, kind, Bytes::new(), patience);
    // An answer that is there is not kept back by the next question, which takes its time.
    let (quick, held) = (ask(Lane::Control, 0, PATIENCE), ask(Lane::Control, 1, PATIENCE));
    quick.await.unwrap();
    assert_eq!((begins.recv().await, begins.recv().await), (Some(0), Some(1)));
    // Nor is the other lane.
    ask(Lane::Checkpoint, 0, PATIENCE).await.unwrap();
    begins.recv().await;
    let late = ask(Lane::Control, 2, std::time::Duration::from_millis(1)).await.unwrap_err();
    assert!(matches!(late, MeshError::Late(..)), "{late}");
    // Nobody answers, so that more wait than may.
    let waiting: Vec<_> = (0..20_000).map(|_| Box::pin(ask(Lane::Control, 3, PATIENCE))).collect();
    let full = a.mesh.counters().asks_full;
    assert!((10_000..=10_010).contains(&full), "{full}");
    drop(b);
    let (mut lost, mut refused) = (0, 0);
    for asked in waiting {
        match asked.await.unwrap_err() {
            MeshError::Lost(_) => lost += 1,
            MeshError::Full(_) => refused += 1,
            other => panic!("{other}"),
        }
    }
    assert_eq!((lost, refused), (20_000 - full, full));
    let lost = held.await.unwrap_err();
    assert!(matches!(lost, MeshError::Lost(_)), "{lost}");
}
