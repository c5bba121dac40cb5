//! By which of its queues a device brings a packet. Needs root; says so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/device.rs"]
mod device;
#[path = "common/netns.rs"]
mod netns;

use std::env;
use std::process::Command;
use std::time::Instant;

use common::PATIENCE;
use device::{FAR, FAR_V6, TENANT, connect, gateway, handed_over, inside, spi_on};
use netns::run;
use router::UplinkState;

#[test]
fn what_is_for_a_pair_comes_by_the_queue_of_its_shard() {
    if !inside("what_is_for_a_pair_comes_by_the_queue_of_its_shard") {
        return;
    }
    for offload in [true, false] {
        let gateway = gateway(offload);
        let far = "10.3.0.9:9";
        let on_first = connect(&gateway, 0, 1, "10.2.0.0/16");
        let on_second = connect(&gateway, 1, 2, "10.3.0.0/16");
        let of_v6 = connect(&gateway, 1, 3, "fd02::/64");
        for (remote, to) in [(&on_first, FAR), (&on_second, far), (&of_v6, FAR_V6)] {
            assert_eq!(handed_over(&gateway, remote.spi, to), 0, "to {to}");
        }
        // A rekeying, which moves it.
        let moved = connect(&gateway, 0, 2, "10.3.0.0/16");
        assert_eq!(handed_over(&gateway, moved.spi, far), 0);
        gateway.handle.remove(on_second.spi);
        assert_eq!(handed_over(&gateway, moved.spi, far), 0);
        // Another tunnel for the same, and one for less, and then what was there before.
        let newer = connect(&gateway, 1, 4, "10.3.0.0/16");
        assert_eq!(handed_over(&gateway, newer.spi, far), 0);
        let narrow = connect(&gateway, 0, 5, "10.3.0.8/29");
        assert_eq!(handed_over(&gateway, narrow.spi, far), 0);
        gateway.handle.remove(narrow.spi);
        assert_eq!(handed_over(&gateway, newer.spi, far), 0);
        gateway.handle.remove(newer.spi);
        assert_eq!(handed_over(&gateway, moved.spi, far), 0);
        // What is configured says where it goes, whatever else a pair takes.
        gateway.declare(TENANT, 2, "10.4.0.0/16", false);
        gateway.handle.remove(moved.spi);
        let declared = connect(&gateway, 1, 2, "10.0.0.0/8");
        assert_eq!(handed_over(&gateway, declared.spi, "10.4.0.9:9"), 0);
        gateway.declare(TENANT, 2, "10.5.0.0/16", false);
        gateway.settle();
        assert_eq!(handed_over(&gateway, declared.spi, "10.5.0.9:9"), 0);
    }
}

#[test]
fn a_device_that_comes_later_is_told_of_the_tunnels_that_are_up() {
    if !inside("a_device_that_comes_later_is_told_of_the_tunnels_that_are_up") {
        return;
    }
    run("ip tuntap add culvert0 mode tun");
    let gateway = gateway(true);
    assert!(matches!(gateway.handle.uplink(TENANT).unwrap().state, UplinkState::Failed(_)));
    let remotes =
        [0, 1].map(|shard| connect(&gateway, shard, shard.into(), &format!("10.{}.0.0/16", 2 + shard)));
    run("ip tuntap del culvert0 mode tun");
    gateway.handle.retry_uplink(TENANT);
    let deadline = Instant::now() + PATIENCE;
    while gateway.handle.uplink(TENANT).unwrap().state != UplinkState::Up {
        assert!(Instant::now() < deadline, "the device is made");
        gateway.settle();
    }
    for (remote, to) in remotes.iter().zip([FAR, "10.3.0.9:9"]) {
        assert_eq!(handed_over(&gateway, remote.spi, to), 0, "to {to}");
    }
}

/// Without the privilege everything goes on, and packets come by any queue.
#[test]
fn without_the_privilege_the_kernel_chooses() {
    const MARK: &str = "CULVERT_TEST_WITHOUT_BPF";
    let name = "without_the_privilege_the_kernel_chooses";
    if !netns::inside(name) {
        return;
    }
    if env::var_os(MARK).is_none() {
        let status = Command::new("setpriv")
            .args(["--bounding-set", "-bpf,-sys_admin", "--inh-caps", "-bpf,-sys_admin"])
            .arg(env::current_exe().unwrap())
            .args([name, "--exact", "--nocapture"])
            .env(MARK, "1")
            .status();
        return assert!(status.unwrap().success(), "{name} failed without the privilege");
    }
    let gateway = gateway(true);
    assert_eq!(gateway.handle.uplink(TENANT).unwrap().state, UplinkState::Up);
    for shard in [0, 1] {
        let remote = connect(&gateway, shard, shard.into(), &format!("10.{}.0.0/16", 2 + shard));
        let handed = handed_over(&gateway, remote.spi, &format!("10.{}.0.9:9", 2 + shard));
        assert!(handed > 0 && handed < 32, "{handed} of 32 flows");
    }
}

/// Where a tunnel has several pairs the kernel chooses, for all of the device and for good.
#[test]
fn a_device_with_a_tunnel_of_several_pairs_is_left_to_the_kernel() {
    if !inside("a_device_with_a_tunnel_of_several_pairs_is_left_to_the_kernel") {
        return;
    }
    let gateway = gateway(true);
    let other = connect(&gateway, 1, 1, "10.2.0.0/16");
    assert_eq!(handed_over(&gateway, other.spi, FAR), 0);
    let own = gateway.connect_own(spi_on(&gateway, 0), TENANT, 2, 12, "10.3.0.0/16");
    gateway.handle.remove(own.spi);
    let later = connect(&gateway, 0, 3, "10.4.0.0/16");
    for (remote, to) in [(&other, FAR), (&later, "10.4.0.9:9")] {
        let handed = handed_over(&gateway, remote.spi, to);
        assert!(handed > 0 && handed < 32, "{handed} of 32 flows to {to}");
    }
}
