//! What the work on one tenant's TUN device does to others: nothing. Needs no privilege.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::fs::OpenOptions;
use std::process::Command;

use common::{Gateway, udp};
use router::{TenantId, Uplink, UplinkFault, UplinkState, UplinkStatus};

#[test]
fn device_work_that_takes_for_ever_holds_up_nobody() {
    let directory = tempfile::tempdir().unwrap();
    // Whoever opens this waits until somebody writes to it.
    let pipe = directory.path().join("netns");
    assert!(Command::new("mkfifo").arg(&pipe).status().unwrap().success());
    let uplink = || Uplink::Tun {
        name: "tun-a".to_owned(),
        netns: Some(pipe.display().to_string()),
        addresses: Vec::new(),
        mtu: 1400,
        routes: true,
        clear_device: None,
    };
    let mut gateway = Gateway::start(2);
    let slow = TenantId(1);
    gateway.handle.add_tenant(slow, uplink()).unwrap();
    assert_eq!(gateway.handle.uplink(slow).unwrap().state, UplinkState::Pending);
    // Another tenant comes, and both have tunnels; the slow one's work as well.
    gateway.handle.add_tenant(TenantId(2), Uplink::Hub).unwrap();
    for (tenant, host) in [(slow, 20), (TenantId(2), 30)] {
        let mut first = gateway.connect_unsettled(tenant, u64::from(host), host, "10.1.0.0/16");
        let mut second = gateway.connect_unsettled(tenant, u64::from(host) + 1, host + 1, "10.2.0.0/16");
        first.send(&udp("10.1.0.1", "10.2.0.1", 7, 8));
        assert_eq!(second.receive()[28..32], 7u32.to_be_bytes());
    }
    // Whether or not its first device is being made by now: it is removed and comes again.
    gateway.handle.remove_tenant(slow);
    gateway.handle.add_tenant(slow, uplink()).unwrap();
    assert_eq!(gateway.stats().len(), 2);
    assert_eq!(gateway.handle.uplink(slow).unwrap().state, UplinkState::Pending, "nothing of it is done");
    // With both ends open here nobody waits any more. The first device fails, unless the thread had not begun with it when it
    // was no longer wanted; then the second does.
    let _ends = OpenOptions::new().read(true).write(true).open(&pipe).unwrap();
    let failed = |status: &UplinkStatus| matches!(&status.state, UplinkState::Failed(error) if error.fault == UplinkFault::Namespace);
    gateway.settle();
    let status = gateway.handle.uplink(slow).unwrap();
    assert!(failed(&status), "{status:?}");
    let (tenant, status) = gateway.next_uplink();
    assert!(tenant == slow && failed(&status), "{status:?}");
    gateway.handle.remove_tenant(slow);
    gateway.settle();
}
