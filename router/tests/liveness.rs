//! A thread of the router that ends is told.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![cfg(feature = "fault-injection")]

mod common;

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
