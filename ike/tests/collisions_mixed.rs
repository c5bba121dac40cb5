//! Exchanges on Child SAs that cross some on the IKE_SA (x1 to x7): RFC 7296 sections 2.25 and 2.25.2, message by message, both ends' SAs
//! asserted.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, missing_docs, unused_crate_dependencies)]

mod kit;
#[path = "kit/owed.rs"]
mod owed;

use ike::Command;
use kit::{A, B, Pair, Spec};
use owed::owes_the_delete;

fn up() -> Pair {
    Pair::up(&Spec::left(), &Spec::right())
}

/// What both have to send is on its way at the same time.
fn cross(pair: &mut Pair) {
    let (a, b) = (pair.take(A), pair.take(B));
    pair.put(A, &a);
    pair.put(B, &b);
    pair.settle();
}

/// The answer to a rekeying is lost: what is sent again for it comes by the same IKE_SA, which is not rekeyed before.
#[test]
fn an_ike_rekey_waits_for_a_delete_that_is_owed() {
    let mut pair = up();
    pair.rekey(A);
    pair.deliver(A);
    let lost = pair.take(B);
    pair.command(B, Command::RekeyIke);
    assert!(pair.b.outbox.is_empty(), "B waits");
    pair.pass(std::time::Duration::from_secs(2));
    pair.settle();
    assert!(lost.bytes.len() > 28);
    let rekeyed = |side: &kit::Side| side.log.iter().any(|l| l.starts_with("ike rekeyed"));
    assert!(rekeyed(&pair.b), "{:?}", pair.b.log);
    pair.assert_children(1);
    pair.assert_alive();
}

#[test]
fn an_ike_rekey_does_not_wait_long_for_a_delete_that_is_owed() {
    for (seconds, done) in [(5, false), (7, true)] {
        let mut pair = up();
        let old = pair.spi(A);
        pair.rekey(A);
        owes_the_delete(&mut pair, A, old);
        pair.settle();
        pair.command(B, Command::RekeyIke);
        pair.run(seconds);
        assert_eq!(pair.b.log.iter().any(|l| l.starts_with("ike rekeyed")), done, "{:?}", pair.b.log);
    }
}

#[test]
fn x1_child_and_ike_rekey_cross() {
    let mut pair = up();
    pair.rekey(A);
    pair.command(B, Command::RekeyIke);
    cross(&mut pair);
    pair.assert_children(1);
    pair.run(60);
    pair.assert_children(1);
    pair.assert_ike(1);
    assert!(
        pair.a.log.iter().any(|l| l.starts_with("ike rekeyed")) && pair.a.log.contains(&"rekeyed".to_owned())
    );
    pair.assert_alive();
}

#[test]
fn x2_a_new_child_and_an_ike_rekey_cross() {
    let mut pair = up();
    // The pair is deleted first, so that there is something to make.
    pair.delete(A);
    pair.settle();
    pair.assert_children(0);
    pair.command(A, Command::CreateChild("net".into()));
    pair.command(B, Command::RekeyIke);
    cross(&mut pair);
    pair.run(60);
    pair.assert_children(1);
    pair.assert_ike(1);
    assert!(pair.a.log.iter().any(|l| l.starts_with("ike rekeyed")));
    pair.assert_alive();
}

#[test]
fn x3_a_child_delete_crosses_an_ike_rekey() {
    let mut pair = up();
    pair.delete(A);
    pair.command(B, Command::RekeyIke);
    cross(&mut pair);
    pair.run(60);
    pair.assert_children(0);
    pair.assert_ike(1);
    assert!(pair.a.log.iter().any(|l| l.starts_with("ike rekeyed")));
}

fn close_crosses(start: impl FnOnce(&mut Pair)) {
    let mut pair = up();
    start(&mut pair);
    pair.command(B, Command::Close);
    cross(&mut pair);
    pair.run(60);
    pair.assert_children(0);
    assert!(pair.a.conn.as_ref().unwrap().is_finished() && pair.b.conn.as_ref().unwrap().is_finished());
}

#[test]
fn x4_a_child_rekey_crosses_a_close() {
    close_crosses(|pair| pair.rekey(A));
}

#[test]
fn x5_a_child_delete_crosses_a_close() {
    close_crosses(|pair| pair.delete(A));
}

#[test]
fn x6_no_further_child_sa_is_allowed() {
    let mut pair = up();
    pair.b.host.free_spis = false;
    pair.rekey(A);
    pair.settle();
    pair.assert_children(1);
    assert!(pair.a.log.iter().any(|l| l.contains("NO_ADDITIONAL_SAS")), "{:?}", pair.a.log);
    // It is tried again, and works once there is room.
    pair.b.host.free_spis = true;
    pair.run(10);
    pair.assert_children(1);
    assert!(pair.a.log.contains(&"rekeyed".to_owned()), "{:?}", pair.a.log);
}

/// B has rekeyed the IKE_SA but its delete never comes, so it refuses everything on the old one; A is put off again
/// and again, waits longer each time, and gives up in the end.
#[test]
fn x7_temporary_failure_for_minutes() {
    let mut pair = up();
    pair.b.conn.as_mut().unwrap().refuse_everything();
    pair.rekey(A);
    let mut requests = 0;
    for _ in 0..1200 {
        pair.pass(std::time::Duration::from_secs(1));
        requests += pair.a.outbox.len();
        pair.settle();
    }
    assert!((10..20).contains(&requests), "{requests} requests in twenty minutes");
    assert!(pair.a.log.iter().any(|l| l.contains("kept answering TEMPORARY_FAILURE")), "{:?}", pair.a.log);
    pair.assert_children(0);
}
