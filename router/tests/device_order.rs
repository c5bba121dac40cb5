//! The order of flows that come by a device with a queue for each of two shards. Needs root; says so where it is skipped.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

mod common;
#[path = "common/device.rs"]
mod device;
#[path = "common/netns.rs"]
mod netns;

use std::collections::{BTreeMap, HashMap, HashSet};
use std::net::{IpAddr, UdpSocket};
use std::ops::Range;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread::{self, ScopedJoinHandle};
use std::time::Instant;

use common::{Gateway, PATIENCE, Remote, socket, udp};
use device::{FAR, FAR_V6, TENANT, connect, datagram, flows, gateway, handed_over, inside, spi_on};
use esp::InboundSa;

/// What has come of the flows, by their ports: the number of the datagram and where in it a packet begins, in the order in which they came.
#[derive(Default)]
struct Arrivals {
    by_port: HashMap<u16, Vec<(u32, u16)>>,
    /// Flow and number of datagrams whose first fragment has come.
    begun: HashMap<(IpAddr, u32), (u16, u32)>,
    /// Those of which another fragment came first.
    headless: HashSet<(IpAddr, u32)>,
    packets: usize,
}

impl Arrivals {
    fn take(&mut self, packet: &[u8]) {
        let word = |at: usize| u16::from_be_bytes([packet[at], packet[at + 1]]);
        let number = |at: usize| u32::from_be_bytes(packet[at..at + 4].try_into().unwrap());
        let (whole, offset, id, upper) = match packet[0] >> 4 {
            4 if packet[9] == 17 => {
                let source = IpAddr::from(<[u8; 4]>::try_from(&packet[12..16]).unwrap());
                (word(6) & 0x3fff == 0, word(6) << 3, (source, u32::from(word(4))), 20)
            }
            6 if packet[6] == 44 && packet[40] == 17 => {
                let source = IpAddr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap());
                (false, word(42) & !7, (source, number(44)), 48)
            }
            6 if packet[6] == 17 => {
                let source = IpAddr::from(<[u8; 16]>::try_from(&packet[8..24]).unwrap());
                (true, 0, (source, 0), 40)
            }
            // What the kernel itself has to say.
            _ => return,
        };
        self.packets += 1;
        if offset > 0 {
            match self.begun.get(&id) {
                Some(&(port, datagram)) => self.by_port.entry(port).or_default().push((datagram, offset)),
                None => drop(self.headless.insert(id)),
            }
            return;
        }
        let (port, datagram) = (word(upper), number(upper + 8));
        if !whole {
            assert!(!self.headless.contains(&id), "a fragment of datagram {datagram} came before the first");
            self.begun.insert(id, (port, datagram));
        }
        self.by_port.entry(port).or_default().push((datagram, 0));
    }

    /// How many flows are out of order, and where the first of them is.
    fn disorder(&self) -> (usize, Option<[(u32, u16); 2]>) {
        let fault =
            |came: &Vec<(u32, u16)>| came.windows(2).find(|two| two[0] >= two[1]).map(|two| [two[0], two[1]]);
        let faults: BTreeMap<_, _> =
            self.by_port.iter().filter_map(|(port, came)| Some((port, fault(came)?))).collect();
        (faults.len(), faults.into_values().next())
    }

    fn assert_order(&self, flows: usize) {
        let (faults, first) = self.disorder();
        assert_eq!(faults, 0, "so many of {flows} flows are out of order, one of them at {first:?}");
        // What the socket has no room for is lost, and not out of order.
        assert!(self.packets >= flows, "{} packets came", self.packets);
    }
}

/// Takes what comes for the other end until it is told that no more will.
fn collect(socket: UdpSocket, mut inbound: InboundSa, all_sent: &AtomicBool) -> Arrivals {
    let mut arrivals = Arrivals::default();
    let mut buffer = vec![0; 65_536];
    socket.set_nonblocking(true).unwrap();
    loop {
        let over = all_sent.load(Ordering::Acquire);
        match socket.recv(&mut buffer) {
            Ok(len) => {
                let inner = inbound.open(&mut buffer[..len]).expect("for this SA").inner;
                arrivals.take(&buffer[inner]);
            }
            Err(_) if over => return arrivals,
            Err(_) => thread::yield_now(),
        }
    }
}

/// Has `send` send so many packets into the device, and returns what has come of them.
fn sent(
    gateway: &Gateway,
    remote: Remote,
    packets: u64,
    send: impl FnOnce(&mut dyn FnMut(&[u8])),
) -> Arrivals {
    let before = gateway.counter("tun_read");
    let all_sent = AtomicBool::new(false);
    let Remote { socket, router, inbound, mut outbound, .. } = remote;
    let answering = socket.try_clone().unwrap();
    thread::scope(|scope| {
        let collector: ScopedJoinHandle<'_, Arrivals> = scope.spawn(|| collect(socket, inbound, &all_sent));
        send(&mut |answer| {
            let mut sealed = vec![0; answer.len() + esp::MAX_OVERHEAD];
            let len = outbound.seal(answer, &mut sealed).unwrap().len;
            answering.send_to(&sealed[..len], router).unwrap();
        });
        // The device holds them all, so none is lost before it is read. Then those that were handed over are seen to.
        gateway.wait_for("tun_read", before + packets);
        for _ in 0..2 {
            gateway.has_been_told();
        }
        all_sent.store(true, Ordering::Release);
        collector.join().unwrap()
    })
}

/// Small datagrams and large ones, which the kernel cuts in pieces, by turns.
fn sizes_of_a_flow_stay_in_order(shard: u8, to: &str, network: &str) {
    const FLOWS: usize = 64;
    const EACH: u32 = 30;
    let gateway = gateway(true);
    let remote = connect(&gateway, shard, 1, network);
    let flows = flows(FLOWS, to);
    let packets = FLOWS as u64 * u64::from(EACH) * 2;
    let arrivals = sent(&gateway, remote, packets, |_| {
        for number in 0..EACH {
            for flow in &flows {
                let len = if number % 2 == 0 { 100 } else { 3000 };
                flow.send(&datagram(number, len)).unwrap();
            }
        }
    });
    arrivals.assert_order(FLOWS);
    assert!(!arrivals.begun.is_empty(), "there were fragments");
}

#[test]
fn whatever_the_sizes_a_flow_stays_in_order() {
    if inside("whatever_the_sizes_a_flow_stays_in_order") {
        for shard in [0, 1] {
            sizes_of_a_flow_stay_in_order(shard, FAR, "10.2.0.0/16");
        }
    }
}

#[test]
fn whatever_the_sizes_a_flow_of_ipv6_stays_in_order() {
    if inside("whatever_the_sizes_a_flow_of_ipv6_stays_in_order") {
        for shard in [0, 1] {
            sizes_of_a_flow_stay_in_order(shard, FAR_V6, "fd02::/64");
        }
    }
}

/// The kernel draws a flow to the queue that an answer is written by, unless it is told which is the right one.
#[test]
fn a_flow_stays_in_order_when_an_answer_comes() {
    const FLOWS: usize = 16;
    const EACH: u32 = 200;
    if !inside("a_flow_stays_in_order_when_an_answer_comes") {
        return;
    }
    for shard in [0, 1, 0, 1, 0, 1] {
        let gateway = gateway(true);
        let remote = connect(&gateway, shard, 1, "10.2.0.0/16");
        let flows = flows(FLOWS, FAR);
        let ports: Vec<u16> = flows.iter().map(|flow| flow.local_addr().unwrap().port()).collect();
        let arrivals = sent(&gateway, remote, FLOWS as u64 * u64::from(EACH), |answer| {
            for number in 0..EACH {
                // One after the other, so that what is sent does not cease.
                if number >= EACH / 2 {
                    let mut packet = udp("10.2.0.9", "10.50.0.1", number, 4);
                    packet[20..22].copy_from_slice(&9u16.to_be_bytes());
                    packet[22..24].copy_from_slice(&ports[number as usize % FLOWS].to_be_bytes());
                    answer(&packet);
                }
                for flow in &flows {
                    flow.send(&datagram(number, 100)).unwrap();
                }
            }
        });
        arrivals.assert_order(FLOWS);
    }
}

/// What waits does so on the shard that it came by, and is not overtaken by what comes when the pair is there. A while later it comes by the
/// pair's own shard.
#[test]
fn what_waited_for_a_tunnel_goes_before_what_comes_later() {
    const FLOWS: usize = 4;
    if !inside("what_waited_for_a_tunnel_goes_before_what_comes_later") {
        return;
    }
    for shard in [0, 1] {
        let gateway = gateway(true);
        gateway.declare(TENANT, 1, "10.2.0.0/16", true);
        gateway.settle();
        let spi = spi_on(&gateway, shard);
        let networks = ("0.0.0.0/0", "10.2.0.0/16");
        let remote = gateway.install_under(spi, socket(11), TENANT, 1, networks, |_| {});
        let flows = flows(FLOWS, FAR);
        let send = |numbers: Range<u32>| {
            for number in numbers {
                for flow in &flows {
                    flow.send(&datagram(number, 100)).unwrap();
                }
            }
        };
        send(0..4);
        gateway.wait_for("held", 16);
        let arrivals = sent(&gateway, remote, 4 * 200, |_| {
            gateway.handle.activate(spi);
            send(4..204);
        });
        arrivals.assert_order(FLOWS);
        let deadline = Instant::now() + PATIENCE;
        while handed_over(&gateway, spi, FAR) > 0 {
            assert!(Instant::now() < deadline, "it is not led");
        }
    }
}
