//! A device with a queue for each of two shards, in a network namespace of its own.
#![allow(dead_code, unreachable_pub)] // Not every test file uses everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(unsafe_code, clippy::print_stderr)] // No safe crate asks the system whether it has what these tests are about.

use std::env;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::time::Instant;

use esp::Spi;
use router::{RouterConfig, TenantId, Uplink};

use crate::common::{Gateway, PATIENCE, Remote, SLOT, socket};
use crate::netns;

/// [`netns::inside`], where a program may choose the queues of a device. In CI it may.
pub fn inside(test: &str) -> bool {
    if !netns::inside(test) {
        return false;
    }
    // A map of prefixes, which is what a system refuses first.
    let wish: [u32; 5] = [11, 20, 4, 1, 1];
    // SAFETY: BPF_MAP_CREATE reads five numbers, which outlive the call.
    let made = unsafe { libc::syscall(libc::SYS_bpf, 0, wish.as_ptr(), size_of_val(&wish)) };
    if made >= 0 {
        return true;
    }
    assert!(env::var_os("CI").is_none(), "CI must not skip this: it needs CAP_BPF");
    eprintln!("skipped: needs CAP_BPF");
    false
}

pub const TENANT: TenantId = TenantId(1);
/// Whom the flows are for.
pub const FAR: &str = "10.2.0.9:9";
pub const FAR_V6: &str = "[fd02::9]:9";

pub fn gateway(offload: bool) -> Gateway {
    let config = RouterConfig {
        listen: vec![IpAddr::V4(Ipv4Addr::LOCALHOST)],
        ike_port: 0,
        natt_port: 0,
        shards: 2,
        slot: SLOT,
        tun_offload: offload,
        ..RouterConfig::default()
    };
    let gateway = Gateway::start_config(config, 1000);
    let uplink = Uplink::Tun {
        name: "culvert0".to_owned(),
        netns: None,
        addresses: vec!["10.50.0.1/24".parse().unwrap(), "fd50::1/64".parse().unwrap()],
        mtu: 1400,
        routes: true,
        clear_device: None,
    };
    gateway.tun(TENANT, uplink);
    gateway
}

/// A pair on this shard, which the tunnel sends on.
pub fn connect(gateway: &Gateway, shard: u8, tunnel: u64, remote: &str) -> Remote {
    let local = if remote.contains(':') { "::/0" } else { "0.0.0.0/0" };
    let spi = spi_on(gateway, shard);
    let remote = gateway.install_under(spi, socket(11), TENANT, tunnel, (local, remote), |_| {});
    gateway.settle();
    gateway.handle.activate(spi);
    remote
}

/// One of a pair on this shard.
pub fn spi_on(gateway: &Gateway, shard: u8) -> Spi {
    let addresses = (0..).map(|host| IpAddr::from([10, 99, 0, host]));
    let mut spis = addresses.map(|address| gateway.handle.allocate_spi(SLOT, address).unwrap());
    spis.find(|spi| spi.shard() == shard).unwrap()
}

/// Sockets of as many flows.
pub fn flows(count: usize, to: &str) -> Vec<UdpSocket> {
    let from = if to.starts_with('[') { "[fd50::1]:0" } else { "10.50.0.1:0" };
    let flow = || {
        let socket = UdpSocket::bind(from).unwrap();
        socket.connect(to).unwrap();
        socket
    };
    (0..count).map(|_| flow()).collect()
}

/// A numbered datagram of this many octets.
pub fn datagram(number: u32, len: usize) -> Vec<u8> {
    let mut datagram = number.to_be_bytes().to_vec();
    datagram.resize(len, 0xaa);
    datagram
}

/// Sends this often by each of many flows, and says how many packets were handed over on the way to a pair.
pub fn handed_over(gateway: &Gateway, pair: Spi, to: &str) -> u64 {
    const FLOWS: u64 = 32;
    let count = || (gateway.counter("handed_over"), gateway.stats_of(pair).packets_out);
    let (handed, out) = count();
    for flow in flows(FLOWS as usize, to) {
        flow.send(&datagram(1, 100)).unwrap();
    }
    let deadline = Instant::now() + PATIENCE;
    while count().1 < out + FLOWS {
        assert!(Instant::now() < deadline, "what is for {to} goes by another pair");
    }
    count().0 - handed
}
