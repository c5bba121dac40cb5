//! IKE passes through on both ports, and whatever else arrives there has its name.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::net::{IpAddr, SocketAddr, UdpSocket};

use common::{Gateway, PATIENCE, udp};
use esp::ecn::Ecn;
use router::{IkeDatagram, Router, RouterConfig, RouterError, RouterEvent, Unsent};

fn peer() -> UdpSocket {
    let socket = UdpSocket::bind("127.0.0.1:0").unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

fn receive(socket: &UdpSocket) -> (Vec<u8>, SocketAddr) {
    let mut buffer = vec![0; 65_536];
    let (len, from) = socket.recv_from(&mut buffer).unwrap();
    buffer.truncate(len);
    (buffer, from)
}

fn next_ike(gateway: &mut Gateway) -> IkeDatagram {
    match gateway.next_event() {
        RouterEvent::Ike(datagram) => datagram,
        other => panic!("{other:?}"),
    }
}

#[test]
fn messages_pass_both_ways_on_both_ports() {
    let mut gateway = Gateway::start(2);
    let peer = peer();
    let remote = peer.local_addr().unwrap();
    let message: Vec<u8> = (0..3000u32).map(|i| i as u8).collect();
    let marked = [&[0; 4], &message[..]].concat();
    for (to, on_wire) in [(gateway.ike(), &message), (gateway.natt(), &marked)] {
        peer.send_to(on_wire, to).unwrap();
        let datagram = next_ike(&mut gateway);
        // The wildcard listener still knows where the message was sent.
        assert_eq!((datagram.local, datagram.remote, &datagram.bytes), (to, remote, &message));
        gateway.handle.send_ike(datagram).unwrap();
        assert_eq!(receive(&peer), (on_wire.clone(), to));
    }
    assert_eq!((gateway.counter("ike_received"), gateway.counter("ike_sent")), (2, 2));
}

#[test]
fn a_wildcard_listener_answers_from_the_address_that_was_asked() {
    let mut gateway = Gateway::start(1);
    let peer = peer();
    let to = SocketAddr::from(([127, 0, 0, 77], gateway.handle.ike_port()));
    peer.send_to(b"message", to).unwrap();
    let datagram = next_ike(&mut gateway);
    assert_eq!(datagram.local, to);
    gateway.handle.send_ike(datagram).unwrap();
    assert_eq!(receive(&peer).1, to);
}

#[test]
fn both_families_at_once() {
    let listen: Vec<IpAddr> = vec!["0.0.0.0".parse().unwrap(), "::".parse().unwrap()];
    let mut gateway = Gateway::start_with(2, listen, 100);
    let peer = UdpSocket::bind("[::1]:0").unwrap();
    peer.set_read_timeout(Some(PATIENCE)).unwrap();
    let to: SocketAddr = format!("[::1]:{}", gateway.handle.natt_port()).parse().unwrap();
    peer.send_to(&[0, 0, 0, 0, 1, 2], to).unwrap();
    let datagram = next_ike(&mut gateway);
    assert_eq!((datagram.local, &datagram.bytes[..]), (to, &[1, 2][..]));
    gateway.handle.send_ike(datagram).unwrap();
    assert_eq!(receive(&peer), (vec![0, 0, 0, 0, 1, 2], to));
}

#[test]
fn keepalives_and_runts_are_counted() {
    let mut gateway = Gateway::start(2);
    let peer = peer();
    for datagram in [&[0xff][..], &[], &[0xff, 0xff], &[1, 2, 3], &[0, 0, 0, 0]] {
        peer.send_to(datagram, gateway.natt()).unwrap();
    }
    peer.send_to(&[], gateway.ike()).unwrap();
    gateway.handle.send_keepalive(gateway.natt().ip(), peer.local_addr().unwrap());
    assert_eq!(receive(&peer), (vec![0xff], gateway.natt()));
    gateway.wait_for("nat_keepalive", 1);
    gateway.wait_for("drop_runt", 5);
    peer.send_to(b"ike", gateway.ike()).unwrap();
    assert_eq!(next_ike(&mut gateway).bytes, b"ike");
}

#[test]
fn messages_beyond_what_the_control_plane_takes_are_dropped_and_counted() {
    let gateway = Gateway::start_with(1, vec!["127.0.0.1".parse().unwrap()], 3);
    let peer = peer();
    for _ in 0..10 {
        peer.send_to(b"ike", gateway.ike()).unwrap();
    }
    gateway.wait_for("drop_ike_overload", 7);
    assert_eq!(gateway.counter("ike_received"), 3);
}

#[test]
fn unsendable_messages_are_counted_and_named() {
    let gateway = Gateway::start_with(1, vec!["127.0.0.1".parse().unwrap()], 3);
    let remote = peer().local_addr().unwrap();
    let local: SocketAddr = "[::1]:500".parse().unwrap();
    let not_local = gateway.handle.send_ike(IkeDatagram { local, remote, bytes: vec![1] });
    assert_eq!(not_local, Err(Unsent::NotLocal(local.ip())));
    let too_long =
        gateway.handle.send_ike(IkeDatagram { local: gateway.ike(), remote, bytes: vec![1; 70_000] });
    assert_eq!(too_long, Err(Unsent::TooLong { remote: remote.ip(), octets: 70_000 }));
    assert_eq!(gateway.counter("drop_ike_send_failed"), 2);
}

/// Datagrams of one length that leave in one system call arrive joined, at the socket that the first of them is for.
#[test]
fn joined_datagrams_are_sorted_out() {
    let mut gateway = Gateway::start(2);
    let tenant = gateway.hub(1);
    let any = "0.0.0.0/0";
    let mut remotes: Vec<_> = (0..40u8)
        .map(|host| gateway.connect(tenant, u64::from(host), 50 + host, any, &format!("10.{host}.0.0/16")))
        .collect();
    let shard = remotes[0].spi.shard();
    let other = remotes.iter().position(|remote| remote.spi.shard() != shard).unwrap();
    let mut other = remotes.swap_remove(other);
    let mut one = remotes.swap_remove(0);
    assert_ne!(one.spi.shard(), other.spi.shard());
    let mut third = remotes.swap_remove(0);
    let address = |remote: &common::Remote| remote.inbound.selectors().local[0].start.to_string();
    let here = udp(&address(&one), &address(&third), 1, 50);
    let there = udp(&address(&other), &address(&third), 2, 50);
    let (mut first, second) = (one.seal(&here), other.seal(&there));
    let mut ike = vec![0; first.len()];
    ike[10] = 5;
    let segment = first.len();
    first.extend(second);
    first.extend(&ike);
    let state = quinn_udp::UdpSocketState::new((&one.socket).into()).unwrap();
    let transmit = quinn_udp::Transmit {
        destination: gateway.natt(),
        ecn: None,
        contents: &first,
        segment_size: Some(segment),
        src_ip: None,
    };
    state.try_send((&one.socket).into(), &transmit).unwrap();
    let mut got = [third.receive(), third.receive()].map(|inner| inner[31]);
    got.sort_unstable();
    assert_eq!(got, [1, 2]);
    loop {
        match gateway.next_event() {
            RouterEvent::Ike(datagram) => {
                assert_eq!(datagram.bytes, ike[4..]);
                assert_eq!(
                    (datagram.local, datagram.remote),
                    (gateway.natt(), one.socket.local_addr().unwrap())
                );
                break;
            }
            RouterEvent::FirstInbound { .. } | RouterEvent::RemoteMoved { .. } => {}
            event => panic!("{event:?}"),
        }
    }
}

#[test]
fn congestion_marks_go_in_and_out() {
    let gateway = Gateway::start(1);
    let tenant = gateway.hub(1);
    let mut sender = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let mut receiver = gateway.connect(tenant, 2, 12, "0.0.0.0/0", "10.2.0.0/16");
    let state = quinn_udp::UdpSocketState::new((&sender.socket).into()).unwrap();
    let mut send = |inner: &[u8]| {
        let sealed = sender.seal(inner);
        let transmit = quinn_udp::Transmit {
            destination: gateway.natt(),
            ecn: Some(quinn_udp::EcnCodepoint::Ce),
            contents: &sealed,
            segment_size: None,
            src_ip: None,
        };
        state.try_send((&sender.socket).into(), &transmit).unwrap();
    };
    let mut capable = udp("10.1.0.1", "10.2.0.1", 1, 50);
    capable[1] |= Ecn::Ect0.bits();
    send(&udp("10.1.0.1", "10.2.0.1", 1, 50));
    send(&capable);
    assert_eq!(Ecn::of(&receiver.receive()), Ecn::Ce);
    assert_eq!(gateway.counter("drop_ecn_not_capable"), 1);
}

#[test]
fn a_port_in_use_is_named() {
    let taken = UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    let config = RouterConfig {
        listen: vec!["127.0.0.1".parse().unwrap()],
        ike_port: port,
        natt_port: 0,
        ..RouterConfig::default()
    };
    let Err(error) = Router::start(config, sender.clone()) else { panic!("it is in use") };
    let text = error.to_string();
    assert!(text.contains(&format!("127.0.0.1:{port}")) && text.contains("another process"), "{text}");

    // Another router of the same user shares no port either.
    let gateway = Gateway::start(2);
    let config = RouterConfig {
        listen: vec!["0.0.0.0".parse().unwrap()],
        ike_port: 0,
        natt_port: gateway.handle.natt_port(),
        ..RouterConfig::default()
    };
    assert!(matches!(Router::start(config, sender), Err(RouterError::Listen { .. })));
}

#[test]
fn values_out_of_range_are_named() {
    let (sender, _receiver) = tokio::sync::mpsc::channel(1);
    let good = RouterConfig { ike_port: 0, natt_port: 0, ..RouterConfig::default() };
    for (config, field) in [
        (RouterConfig { shards: 0, ..good.clone() }, "shards"),
        (RouterConfig { shards: 65, ..good.clone() }, "shards"),
        (RouterConfig { slot: 0, ..good.clone() }, "slot"),
        (RouterConfig { slot: 64, ..good.clone() }, "slot"),
        (RouterConfig { listen: Vec::new(), ..good.clone() }, "listen"),
        (RouterConfig { ike_port: 77, natt_port: 77, ..good }, "natt_port"),
    ] {
        let Err(error) = Router::start(config, sender.clone()) else { panic!("{field} is out of range") };
        assert!(error.to_string().starts_with(field), "{error}");
    }
}

#[test]
fn after_shutdown_the_ports_are_free_and_handles_harmless() {
    let gateway = Gateway::start(2);
    let (ike, natt) = (gateway.handle.ike_port(), gateway.handle.natt_port());
    let tenant = gateway.hub(1);
    let remote = gateway.connect(tenant, 1, 11, "0.0.0.0/0", "10.1.0.0/16");
    let Gateway { router, handle, runtime, .. } = gateway;
    router.shutdown();
    for port in [ike, natt] {
        UdpSocket::bind(("0.0.0.0", port)).unwrap();
    }
    handle.remove(remote.spi);
    assert!(runtime.block_on(handle.stats()).is_empty());
    let local = SocketAddr::from(([127, 0, 0, 1], ike));
    let message = IkeDatagram { local, remote: local, bytes: vec![1] };
    assert_eq!(handle.send_ike(message), Err(Unsent::Stopped));
    assert!(handle.allocate_spi(common::SLOT, [127, 0, 0, 1].into()).is_some());
}
