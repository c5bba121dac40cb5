//! Which queue of a TUN device a packet comes by: a program that asks a map for its destination.
//!
//! By itself the kernel takes a hash, of the ports as well where it sees them, and then the queue that wrote to the flow last. So the
//! fragments of a datagram may come by another queue than the whole datagram before it, and a flow moves to another while packets of
//! it are under way; two shards read them then, and what came first need not leave first. By the program the queue is a function of the
//! destination alone, whatever the packet is. The map says which shard has the pair for it, so that nothing is handed over. It is only
//! for that: any answer keeps the order, as long as it stays the same.
#![allow(unsafe_code)]

use std::fs::File;
use std::io;
use std::net::IpAddr;
use std::os::fd::{AsRawFd, OwnedFd};
use std::sync::atomic::{AtomicBool, Ordering};

use super::bpf::{self, PrefixKey, PrefixMap};
use super::bpf_code::*;

/// The program of a device, and what it asks.
pub(crate) struct DeviceSteering {
    map: PrefixMap,
    /// The kernel asks it.
    asked: AtomicBool,
}

impl DeviceSteering {
    /// Has the device of this queue steered from now on: Linux 4.16, and `CAP_BPF` (before 5.8 `CAP_SYS_ADMIN`).
    pub(crate) fn attach(queue: &File) -> io::Result<Self> {
        let (map, program) = make()?;
        set(queue, program.as_raw_fd())?;
        Ok(Self { map, asked: AtomicBool::new(true) })
    }

    /// Leaves the choice to the kernel again, for good.
    pub(crate) fn detach(&self, queue: &File) -> io::Result<()> {
        self.asked.store(false, Ordering::Relaxed);
        set(queue, NO_PROGRAM)
    }

    /// What is for this network comes by this queue from now on.
    pub(crate) fn lead(&self, network: (IpAddr, u8), queue: u32) {
        if self.is_asked() {
            seen_to(network, self.map.set(&key(network), queue));
        }
    }

    /// The same, unless it was said of another queue already.
    pub(crate) fn lead_first(&self, network: (IpAddr, u8), queue: u32) {
        if self.is_asked() {
            seen_to(network, self.map.set_first(&key(network), queue));
        }
    }

    /// What is for this network comes by any queue, by the same for each address.
    pub(crate) fn forget(&self, network: (IpAddr, u8)) {
        if self.is_asked() {
            seen_to(network, self.map.remove(&key(network)));
        }
    }

    pub(crate) fn is_asked(&self) -> bool {
        self.asked.load(Ordering::Relaxed)
    }
}

/// Without its entry the network goes by the hash, which keeps the order as well: nobody has to know.
fn seen_to((address, prefix): (IpAddr, u8), outcome: io::Result<()>) {
    match outcome.as_ref().map_err(io::Error::kind) {
        // It had no room before; there is one already.
        Ok(()) | Err(io::ErrorKind::NotFound | io::ErrorKind::AlreadyExists) => {}
        Err(_) => tracing::debug!(%address, prefix, ?outcome, "no queue of its own for a network"),
    }
}

/// The most networks that the map of a device has. Each is 64 octets of the kernel's memory, and as much again where two part. What has no
/// room goes by the hash of its destination, and half of it is handed over.
pub(crate) const MAX_NETWORKS: usize = 1 << 16;

fn make() -> io::Result<(PrefixMap, OwnedFd)> {
    let map = PrefixMap::new(MAX_NETWORKS as u32)?;
    let program = bpf::load(&program(&map))?;
    Ok((map, program))
}

fn set(queue: &File, program: libc::c_int) -> io::Result<()> {
    // SAFETY: TUNSETSTEERINGEBPF reads one int, which outlives the call, and holds the program by itself.
    let result = unsafe { libc::ioctl(queue.as_raw_fd(), libc::TUNSETSTEERINGEBPF, &raw const program) };
    if result == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}

const NO_PROGRAM: libc::c_int = -1;

/// Of IPv4 as of what IPv6 writes `::ffff:0:0/96`: no packet of IPv6 has such a destination.
fn key((address, prefix): (IpAddr, u8)) -> PrefixKey {
    let (address, before) = match address {
        IpAddr::V4(address) => (address.to_ipv6_mapped(), MAPPED_PREFIX),
        IpAddr::V6(address) => (address, 0),
    };
    PrefixKey { length: before + u32::from(prefix), address: address.octets() }
}

const MAPPED_PREFIX: u32 = 96;

/// The program. The packet begins with its IP header, as a TUN device has nothing before it. What is too short or of neither version
/// comes by the first queue. The kernel takes what is returned modulo the queues.
fn program(map: &PrefixMap) -> Vec<Instruction> {
    let [map, end] = address_of_map(ARGUMENT_1, map.fd());
    vec![
        // Loads from the packet want it there. One beyond its end returns 0 by itself.
        copy(PACKET, ARGUMENT_1),
        load_octet(0),
        shift_right(RESULT, 4),
        store(KEY, 128),
        store(KEY + 4, 0),
        store(KEY + 8, 0),
        store(KEY + 12, i32::from_ne_bytes([0, 0, 0xff, 0xff])),
        store(KEY + 16, 0),
        copy(ARGUMENT_1, PACKET),
        copy(ARGUMENT_3, STACK),
        jump(libc::BPF_JEQ, RESULT, 4, 5), // to the destination of IPv4
        jump(JNE, RESULT, 6, 27),          // to the first queue
        set_to(ARGUMENT_2, V6_DESTINATION),
        set_to(ARGUMENT_4, 16),
        add(ARGUMENT_3, KEY + 4),
        jump(libc::BPF_JA, RESULT, 0, 3), // to the call
        set_to(ARGUMENT_2, V4_DESTINATION),
        set_to(ARGUMENT_4, 4),
        add(ARGUMENT_3, KEY + 16),
        call(SKB_LOAD_BYTES),
        jump(JNE, RESULT, 0, 18), // to the first queue
        map,
        end,
        copy(ARGUMENT_2, STACK),
        add(ARGUMENT_2, KEY),
        call(MAP_LOOKUP_ELEM),
        jump(libc::BPF_JEQ, RESULT, 0, 2), // to the hash
        load(RESULT, RESULT, 0),
        exit(),
        // Nobody's: any queue, the same for all packets to that address.
        load(RESULT, STACK, KEY + 4),
        load(ARGUMENT_1, STACK, KEY + 8),
        xor(RESULT, ARGUMENT_1),
        load(ARGUMENT_1, STACK, KEY + 12),
        xor(RESULT, ARGUMENT_1),
        load(ARGUMENT_1, STACK, KEY + 16),
        xor(RESULT, ARGUMENT_1),
        multiply(RESULT, GOLDEN_RATIO),
        shift_right(RESULT, 16),
        exit(),
        set_to(RESULT, 0),
        exit(),
    ]
}

/// Where a header has its destination.
const V4_DESTINATION: i32 = 16;
const V6_DESTINATION: i32 = 24;
/// Where the key is on the stack, which grows downwards.
const KEY: i16 = -(size_of::<PrefixKey>() as i16) - 4;
/// 2^32 divided by it: a multiplication spreads the low bits over the high ones.
const GOLDEN_RATIO: i32 = 0x9e37_79b1_u32 as i32;

#[cfg(test)]
#[allow(clippy::print_stderr)] // How a test says that it was skipped.
mod tests {
    use std::net::{Ipv4Addr, Ipv6Addr};

    use super::*;

    /// `None` where the system does not let us, which is said.
    fn ready() -> Option<(DeviceSteering, OwnedFd)> {
        match make() {
            Ok((map, program)) => Some((DeviceSteering { map, asked: AtomicBool::new(true) }, program)),
            Err(error) if error.kind() == io::ErrorKind::PermissionDenied => {
                assert!(std::env::var_os("CI").is_none(), "CI must not skip this: it needs CAP_BPF");
                eprintln!("skipped: needs CAP_BPF");
                None
            }
            Err(error) => panic!("the kernel does not take it: {error}"),
        }
    }

    fn packet(to: IpAddr, port: u16) -> Vec<u8> {
        let mut packet = match to {
            IpAddr::V4(to) => [&[0x45; 16][..], &to.octets()].concat(),
            IpAddr::V6(to) => [&[0x60; 24][..], &to.octets()].concat(),
        };
        packet.extend(port.to_be_bytes());
        packet.extend([0; 30]);
        packet
    }

    fn address(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn the_longest_prefix_says_the_queue() {
        let Some((steering, program)) = ready() else { return };
        let queue = |to: &str| bpf::try_out(&program, &packet(address(to), 7)).unwrap();
        for (network, prefix, queue) in [
            ("10.0.0.0", 8, 3),
            ("10.1.0.0", 16, 5),
            ("10.1.2.3", 32, 7),
            ("fd01::", 64, 9),
            ("fd01::1", 128, 11),
        ] {
            steering.lead((address(network), prefix), queue);
        }
        assert_eq!(["10.2.0.1", "10.1.0.1", "10.1.2.3", "10.1.2.4"].map(queue), [3, 5, 7, 5]);
        assert_eq!(["fd01::2", "fd01::1"].map(queue), [9, 11]);
        steering.lead((address("10.1.0.0"), 16), 6);
        assert_eq!(queue("10.1.0.1"), 6);
        for _ in 0..2 {
            steering.forget((address("10.1.0.0"), 16));
            assert_eq!(queue("10.1.0.1"), 3);
        }
        // All of IPv4 is not all of IPv6.
        steering.lead((address("0.0.0.0"), 0), 13);
        assert_eq!(queue("192.0.2.1"), 13);
        steering.lead((address("::"), 0), 15);
        assert_eq!(["192.0.2.1", "2001:db8::1"].map(queue), [13, 15]);
    }

    #[test]
    fn what_is_nobodys_comes_by_a_queue_of_its_address_alone() {
        let Some((_steering, program)) = ready() else { return };
        let queue = |to, port| bpf::try_out(&program, &packet(to, port)).unwrap() % 2;
        let v4 = |host: u32| IpAddr::V4(Ipv4Addr::from_bits(0x0a01_0000 + host));
        let v6 = |host: u32| IpAddr::V6(Ipv6Addr::from_bits((0xfd01 << 112) + u128::from(host)));
        for of in [&v4 as &dyn Fn(u32) -> IpAddr, &v6] {
            assert!((0..100).all(|port| queue(of(1), port) == queue(of(1), 100)));
            let second = (0..1000).filter(|host| queue(of(*host), 1) == 1).count();
            assert!((400..600).contains(&second), "{second} of 1000");
        }
    }

    #[test]
    fn what_is_no_whole_header_comes_by_the_first_queue() {
        let Some((steering, program)) = ready() else { return };
        for network in ["0.0.0.0", "::"] {
            steering.lead((address(network), 0), 1);
        }
        for (to, needed) in [("10.1.0.1", 20), ("fd01::1", 40)] {
            let whole = packet(address(to), 1);
            for len in 1..needed {
                assert_eq!(bpf::try_out(&program, &whole[..len]).unwrap(), 0, "{len} octets");
            }
            assert_eq!(bpf::try_out(&program, &whole[..needed]).unwrap(), 1);
        }
        for version in [0, 1, 5, 7, 15] {
            let mut other = packet(address("10.1.0.1"), 1);
            other[0] = version << 4;
            assert_eq!(bpf::try_out(&program, &other).unwrap(), 0, "version {version}");
        }
    }

    #[test]
    fn only_so_many_networks_have_room() {
        let Some((steering, program)) = ready() else { return };
        let network = |host: usize| (IpAddr::V4(Ipv4Addr::from_bits(host as u32)), 32);
        for host in 0..MAX_NETWORKS {
            steering.lead(network(host), 0);
        }
        let queue = |host| bpf::try_out(&program, &packet(network(host).0, 1)).unwrap();
        steering.lead(network(MAX_NETWORKS), 1 << 20);
        assert!(queue(MAX_NETWORKS) < 1 << 16, "by its hash");
        steering.forget(network(MAX_NETWORKS));
        steering.forget(network(1));
        steering.lead(network(MAX_NETWORKS), 1 << 20);
        assert_eq!(queue(MAX_NETWORKS), 1 << 20);
    }

    #[test]
    fn what_is_known_already_is_not_said_again() {
        let Some((steering, program)) = ready() else { return };
        let network = (address("10.1.0.0"), 16);
        for (queue, told) in [(3, 3), (5, 3)] {
            steering.lead_first(network, queue);
            assert_eq!(bpf::try_out(&program, &packet(address("10.1.0.9"), 7)).unwrap(), told);
        }
    }
}
