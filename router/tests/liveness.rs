//! A thread of the router that ends is told.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg(feature = "fault-injection")]

mod common;

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use common::{Gateway, PATIENCE};
use router::RouterThread;

#[test]
fn the_death_of_any_thread_is_reported() {
    for (thread, name) in [
        (RouterThread::Shard(0), "shard-0"),
        (RouterThread::Shard(1), "shard-1"),
        (RouterThread::Control, "router-control"),
        (RouterThread::Devices, "router-devices"),
    ] {
        let gateway = Gateway::start(2);
        assert!(gateway.handle.dead_threads().is_empty());
        gateway.handle.inject_panic(thread);
        let failed = async { tokio::time::timeout(PATIENCE, gateway.handle.failed()).await };
        let death = gateway.runtime.block_on(failed).expect("it is told in time");
        assert_eq!((death.thread.as_str(), death.reason.as_str()), (name, "panic: injected"));
        assert_eq!(gateway.handle.dead_threads(), [death]);
        assert_eq!(gateway.counter("router_thread_died"), 1);
        // What is left of it can be stopped.
        gateway.router.shutdown();
    }
}

#[test]
fn a_router_that_is_stopped_has_not_failed() {
    let gateway = Gateway::start(2);
    let handle = gateway.handle.clone();
    gateway.router.shutdown();
    assert!(handle.dead_threads().is_empty());
    let failed = async { tokio::time::timeout(std::time::Duration::ZERO, handle.failed()).await };
    assert!(gateway.runtime.block_on(failed).is_err());
}

/// More commands than the queue of a shard holds.
const MORE: u64 = 3000;

/// How often figures are asked for before the test fails.
const TRIES: usize = 5;

#[test]
fn a_shard_that_stands_still_keeps_nobody_waiting_who_asks_for_figures() {
    let gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    // Of many addresses, so that both shards have some.
    for n in 1..=16 {
        gateway.connect(tenant, n, 10 + u8::try_from(n).unwrap(), "0.0.0.0/0", &format!("10.{n}.0.0/16"));
    }
    let read = |silent: &[usize]| {
        let told = async { tokio::time::timeout(PATIENCE, gateway.handle.read_stats()).await };
        let told = gateway.runtime.block_on(told).expect("it is told in time");
        (told.silent == silent).then_some(told)
    };
    // A machine that stands still keeps those from answering that run.
    let read = |silent: &[usize]| (0..TRIES).find_map(|_| read(silent)).expect("a shard that runs answers");
    let (mut all, beaten) = (read(&[]), Arc::new(AtomicU64::new(0)));
    assert_eq!(all.stats.len(), 16);
    let held = gateway.handle.inject_stall(1);
    let told = read(&[1]);
    all.stats.retain(|stats| stats.spi.shard() == 0);
    assert!(!all.stats.is_empty() && all.stats.len() < 16);
    assert_eq!(told.stats.len(), all.stats.len());
    // Nor when its queue is full.
    let taken = (1..=MORE).filter(|beat| gateway.handle.beat(1, beaten.clone(), *beat)).count();
    assert!(taken > 0 && taken < MORE as usize);
    assert_eq!(read(&[1]).stats.len(), all.stats.len());
    assert_eq!(beaten.load(Ordering::Relaxed), 0);
    drop(held);
    assert_eq!(read(&[]).stats.len(), 16);
    assert!(beaten.load(Ordering::Relaxed) > 0);
}
