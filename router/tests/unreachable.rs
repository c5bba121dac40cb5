//! Why IKE does not get through: what the system says at once, and what ICMP says later. No error of one peer costs another
//! a datagram. Some need root; they say so where they are skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/netns.rs"]
mod netns;

use std::collections::HashSet;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::os::fd::IntoRawFd as _;

use common::{Gateway, PATIENCE, udp};
use router::{IcmpReason, IkeDatagram, RouterEvent, Unreachable, Unsent};

/// An IKE message from SPI 1 to SPI 2.
fn message(local: SocketAddr, remote: SocketAddr) -> IkeDatagram {
    let mut bytes = vec![0; 28];
    (bytes[7], bytes[15]) = (1, 2);
    IkeDatagram { local, remote, bytes }
}

/// A port on this host where nobody listens, and nobody else can while the test runs: it is taken by a socket that hears
/// only one other, and stays open.
fn dead(host: u8) -> SocketAddr {
    let socket = UdpSocket::bind(SocketAddr::from(([127, 0, 0, host], 0))).unwrap();
    let address = socket.local_addr().unwrap();
    socket.connect(SocketAddr::from(([127, 0, 0, host], 9))).unwrap();
    let _ = socket.into_raw_fd();
    address
}

fn next_unreachable(gateway: &mut Gateway) -> Unreachable {
    loop {
        match gateway.next_event() {
            RouterEvent::Unreachable(what) => return what,
            RouterEvent::FirstInbound { .. } | RouterEvent::RemoteMoved { .. } => {}
            other => panic!("{other:?}"),
        }
    }
}

#[test]
fn a_port_where_nobody_listens_is_told_at_once() {
    let mut gateway = Gateway::start(1);
    let remote = dead(1);
    for local in [gateway.ike(), gateway.natt()] {
        // Each port of its own remote, for one is told of only once a second.
        let remote = if local == gateway.ike() { remote } else { dead(2) };
        gateway.handle.send_ike(message(local, remote)).unwrap();
        let what = next_unreachable(&mut gateway);
        assert_eq!((what.local, what.remote, what.reason), (local, remote, IcmpReason::Port));
        assert_eq!((what.reporter, what.ike_spis), (Some(remote.ip()), Some((1, 2))));
    }
    assert_eq!(gateway.counter("unreachable_told"), 2);
}

/// The kernel queues an error of the NAT traversal port at any socket of the port.
#[test]
fn errors_of_every_socket_of_the_port_are_found() {
    let mut gateway = Gateway::start(3);
    let remotes: HashSet<SocketAddr> = (1..=40).map(dead).collect();
    for remote in &remotes {
        gateway.handle.send_ike(message(gateway.natt(), *remote)).unwrap();
    }
    let told: HashSet<SocketAddr> = remotes.iter().map(|_| next_unreachable(&mut gateway).remote).collect();
    assert_eq!(told, remotes);
}

#[test]
fn an_error_of_one_peer_costs_no_other_a_message() {
    let mut gateway = Gateway::start(1);
    let peer = UdpSocket::bind("127.0.0.1:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let (alive, mut buffer) = (peer.local_addr().unwrap(), [0; 100]);
    for local in [gateway.ike(), gateway.natt()] {
        let marker = if local == gateway.ike() { 0 } else { 4 };
        for number in 0..40 {
            // On loopback the error is there before the call is done.
            gateway.handle.send_ike(message(local, dead(number + 1))).unwrap();
            let mut numbered = message(local, alive);
            numbered.bytes[27] = number;
            assert_eq!(gateway.handle.send_ike(numbered), Ok(()));
            peer.recv_from(&mut buffer).unwrap();
            assert_eq!(buffer[marker + 27], number);

            gateway.handle.send_ike(message(local, dead(number + 1))).unwrap();
            let answer = [&vec![0; marker][..], &[number; 28]].concat();
            peer.send_to(&answer, local).unwrap();
            loop {
                match gateway.next_event() {
                    RouterEvent::Ike(datagram) => break assert_eq!(datagram.bytes, [number; 28]),
                    RouterEvent::Unreachable(_) => {}
                    other => panic!("{other:?}"),
                }
            }
        }
    }
    assert_eq!(gateway.counter("receive_failed"), 0);
}

#[test]
fn an_error_of_one_tunnel_costs_no_other_a_packet() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    // As many as it takes for errors at every socket of the port.
    for host in 20..40 {
        drop(gateway.connect(tenant, host.into(), host, "0.0.0.0/0", &format!("10.{host}.0.0/16")));
    }
    let mut alive = gateway.connect(tenant, 3, 13, "0.0.0.0/0", "10.3.0.0/16");
    for number in 0..200 {
        let mut to_dead = udp("10.1.0.1", &format!("10.{}.0.1", 20 + number / 2 % 20), number, 50);
        let mut to_alive = udp("10.1.0.1", "10.3.0.1", number, 50);
        // By both sockets of the shard: with DF and without.
        for packet in [&mut to_dead, &mut to_alive] {
            packet[6] |= if number % 2 == 0 { 0x40 } else { 0 };
            common::fix_checksum(packet);
        }
        sender.send(&to_dead);
        sender.send(&to_alive);
        assert_eq!(alive.receive()[28..32], number.to_be_bytes());
    }
    assert_eq!((gateway.counter("drop_send_failed"), gateway.counter("receive_failed")), (0, 0));
    gateway.wait_for("unreachable_told", 1);
}

#[test]
fn what_this_host_does_not_send_is_named() {
    if !netns::inside("what_this_host_does_not_send_is_named") {
        return;
    }
    netns::run("ip link add lan type veth peer name other; ip link set lan up; ip link set other up");
    netns::run("ip addr add 192.0.2.1/24 dev lan; ip addr add 2001:db8::1/64 dev lan nodad");
    let mut gateway = Gateway::start_with(1, vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()], 1000);
    let port = gateway.handle.ike_port();
    let here = |remote: IpAddr| {
        let local = if remote.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" };
        SocketAddr::new(local.parse().unwrap(), port)
    };
    let send = |gateway: &Gateway, remote: &str| {
        let remote: IpAddr = remote.parse().unwrap();
        gateway.handle.send_ike(message(here(remote), (remote, 500).into()))
    };
    for remote in ["198.51.100.1", "2001:db8:1::1"] {
        assert_eq!(send(&gateway, remote), Err(Unsent::NoRoute(remote.parse().unwrap())));
    }
    netns::run("ip route add unreachable 198.51.100.2; ip route add prohibit 198.51.100.3");
    netns::run("ip route add blackhole 198.51.100.4");
    let remote = |text: &str| text.parse::<IpAddr>().unwrap();
    let two = remote("198.51.100.2");
    assert_eq!(send(&gateway, "198.51.100.2"), Err(Unsent::HostUnreachable(two)));
    assert_eq!(send(&gateway, "198.51.100.3"), Err(Unsent::Forbidden(remote("198.51.100.3"))));
    let four = remote("198.51.100.4");
    assert_eq!(send(&gateway, "198.51.100.4"), Err(Unsent::Blackhole(four)));

    netns::run("nft add table inet f; nft add chain inet f o '{ type filter hook output priority 0; }'");
    netns::run("nft add rule inet f o ip daddr 192.0.2.8 udp dport 500 drop");
    netns::run(
        "nft add rule inet f o ip daddr 192.0.2.9 udp dport 500 reject with icmpx type admin-prohibited",
    );
    assert_eq!(send(&gateway, "192.0.2.8"), Err(Unsent::Forbidden(remote("192.0.2.8"))));
    assert_eq!(send(&gateway, "192.0.2.9"), Err(Unsent::Forbidden(remote("192.0.2.9"))));
    let what = next_unreachable(&mut gateway);
    assert_eq!((what.remote.ip(), what.reason), (remote("192.0.2.9"), IcmpReason::Prohibited));

    netns::run("nft flush ruleset; ip addr del 192.0.2.1/24 dev lan; ip addr add 192.0.2.2/24 dev lan");
    let local = remote("192.0.2.1");
    assert_eq!(send(&gateway, "192.0.2.9"), Err(Unsent::AddressGone(local)));
    assert_eq!(gateway.counter("ike_sent"), 0);
    assert_eq!(gateway.counter("drop_ike_send_failed"), 8);
}

#[test]
fn what_the_network_says_is_named() {
    if !netns::inside("what_the_network_says_is_named") {
        return;
    }
    let peer = netns::Neighbour::new();
    netns::run(&format!("ip link add lan type veth peer name lan netns {}", peer.id()));
    peer.run(
        "ip link set lan address 02:00:00:00:00:02; ip addr add 192.0.2.2/24 dev lan; ip addr add 2001:db8::2/64 dev lan nodad; ip link set lan up;
         ip link set lo up; sysctl -qw net.ipv4.icmp_ratemask=0 net.ipv6.icmp.ratelimit=0;
         sysctl -qw net.ipv4.ip_forward=1 net.ipv6.conf.all.forwarding=1",
    );
    // A neighbour that does not answer is given up after one question, soon; the one that is there needs not be asked.
    netns::run(
        "ip addr add 192.0.2.1/24 dev lan; ip addr add 2001:db8::1/64 dev lan nodad; ip link set lan up;
         sysctl -qw net.ipv4.neigh.lan.mcast_solicit=1 net.ipv4.neigh.lan.retrans_time_ms=10;
         sysctl -qw net.ipv6.neigh.lan.mcast_solicit=1 net.ipv6.neigh.lan.retrans_time_ms=10;
         ip neigh add 192.0.2.2 lladdr 02:00:00:00:00:02 nud permanent dev lan;
         ip neigh add 2001:db8::2 lladdr 02:00:00:00:00:02 nud permanent dev lan;
         ip route add 198.51.100.0/24 via 192.0.2.2; ip route add 2001:db8:1::/64 via 2001:db8::2",
    );
    let mut gateway = Gateway::start_with(1, vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()], 1000);
    let (ike, natt) = (gateway.handle.ike_port(), gateway.handle.natt_port());
    let mut told = |remote: &str, port: u16| {
        let remote: SocketAddr = remote.parse().unwrap();
        let ip: IpAddr = if remote.is_ipv4() { "192.0.2.1" } else { "2001:db8::1" }.parse().unwrap();
        gateway.handle.send_ike(message((ip, port).into(), remote)).unwrap();
        let what = next_unreachable(&mut gateway);
        assert_eq!((what.local, what.remote), ((ip, port).into(), remote));
        (what.reason, what.reporter.unwrap().to_string(), what.ike_spis)
    };
    let quoted = Some((1, 2));
    let at = |host: &str, port: u16| {
        if host.contains(':') { format!("[{host}]:{port}") } else { format!("{host}:{port}") }
    };
    for (own, port) in [(ike, 500), (natt, 4500)] {
        let mut expect = |host: &str, reason: IcmpReason, reporter: &str| {
            assert_eq!(told(&at(host, port), own), (reason, reporter.to_owned(), quoted), "{host}");
        };
        expect("192.0.2.2", IcmpReason::Port, "192.0.2.2");
        expect("2001:db8::2", IcmpReason::Port, "2001:db8::2");
        expect("198.51.100.1", IcmpReason::Net, "192.0.2.2");
        expect("2001:db8:1::1", IcmpReason::Net, "2001:db8::2");
        // This host itself: nobody has the address.
        expect("192.0.2.9", IcmpReason::Host, "192.0.2.1");
        expect("2001:db8::9", IcmpReason::Host, "2001:db8::1");
    }
    peer.run(
        "nft add table inet f; nft add chain inet f i \"{ type filter hook input priority 0; }\";
         nft add rule inet f i udp dport 501 reject with icmpx type admin-prohibited;
         nft add rule inet f i udp dport 502 reject with icmpx type host-unreachable",
    );
    for host in ["192.0.2.2", "2001:db8::2"] {
        assert_eq!(told(&at(host, 501), ike), (IcmpReason::Prohibited, host.to_owned(), quoted));
        assert_eq!(told(&at(host, 502), ike), (IcmpReason::Host, host.to_owned(), quoted));
    }
}
