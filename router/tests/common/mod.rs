//! A running router and the remote ends of its tunnels, over real UDP sockets on loopback.
#![allow(dead_code, unreachable_pub)] // Not every test file uses everything.
#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

pub mod cluster;

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::{Duration, Instant};

use esp::{
    Encryption, InboundSa, Limits, MAX_OVERHEAD, Mode, OpenError, OutboundSa, SaKeys, Selector, SelectorPair,
    Spi, Suite,
};
use router::{
    ChildSa, Encapsulation, Reserve, Router, RouterConfig, RouterEvent, RouterHandle, SaStats, TenantId,
    TunnelConfig, TunnelId, TunnelOptions, Uplink, UplinkStatus,
};
use tokio::runtime::Runtime;
use tokio::sync::mpsc::{Receiver, channel};

/// How long to wait before a test fails; nothing ever waits that long when all is well.
pub const PATIENCE: Duration = Duration::from_secs(20);

/// The slot that is open at start.
pub const SLOT: u8 = 9;

pub struct Gateway {
    pub router: Router,
    pub handle: RouterHandle,
    pub events: Receiver<RouterEvent>,
    pub runtime: Runtime,
}

impl Gateway {
    pub fn start(shards: usize) -> Self {
        Self::start_with(shards, vec![IpAddr::V4(Ipv4Addr::UNSPECIFIED)], 1000)
    }

    pub fn start_with(shards: usize, listen: Vec<IpAddr>, events: usize) -> Self {
        let config =
            RouterConfig { listen, ike_port: 0, natt_port: 0, shards, slot: SLOT, ..RouterConfig::default() };
        Self::start_config(config, events)
    }

    pub fn start_config(config: RouterConfig, events: usize) -> Self {
        let (sender, receiver) = channel(events);
        let router = Router::start(config, sender).unwrap();
        let handle = router.handle();
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap();
        Self { router, handle, events: receiver, runtime }
    }

    pub fn natt(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.handle.natt_port()))
    }

    /// The router's address that a peer with this address speaks to.
    fn natt_for(&self, peer: SocketAddr) -> SocketAddr {
        match peer {
            SocketAddr::V4(_) => self.natt(),
            SocketAddr::V6(_) => SocketAddr::from((Ipv6Addr::LOCALHOST, self.handle.natt_port())),
        }
    }

    pub fn ike(&self) -> SocketAddr {
        SocketAddr::from(([127, 0, 0, 1], self.handle.ike_port()))
    }

    pub fn hub(&self, tenant: u32) -> TenantId {
        self.handle.add_tenant(TenantId(tenant), Uplink::Hub).unwrap();
        TenantId(tenant)
    }

    /// A tenant with a device, which is there when this returns, or has failed.
    pub fn tun(&self, tenant: TenantId, uplink: Uplink) -> Arc<UplinkStatus> {
        self.handle.add_tenant(tenant, uplink).unwrap();
        self.settle();
        self.handle.uplink(tenant).unwrap()
    }

    /// Waits until what was wanted of devices is done.
    pub fn settle(&self) {
        let settled = async { tokio::time::timeout(PATIENCE, self.handle.uplinks_settled()).await };
        self.runtime.block_on(settled).expect("devices are done in time");
    }

    /// The next event that is not about an uplink.
    pub fn next_event(&mut self) -> RouterEvent {
        loop {
            match self.next_of_all() {
                RouterEvent::Uplink { .. } => {}
                other => return other,
            }
        }
    }

    /// The next time that an uplink is said to stand otherwise.
    pub fn next_uplink(&mut self) -> (TenantId, Arc<UplinkStatus>) {
        loop {
            if let RouterEvent::Uplink { tenant, status } = self.next_of_all() {
                return (tenant, status);
            }
        }
    }

    fn next_of_all(&mut self) -> RouterEvent {
        let next = async { tokio::time::timeout(PATIENCE, self.events.recv()).await };
        self.runtime.block_on(next).expect("an event comes in time").expect("the router runs")
    }

    pub fn stats(&self) -> Vec<SaStats> {
        self.runtime.block_on(self.handle.stats())
    }

    pub fn stats_of(&self, spi: Spi) -> SaStats {
        self.stats().into_iter().find(|stats| stats.spi == spi).expect("the pair is there")
    }

    /// Returns once the shards have done all that they were told, and are through with the packets that they had in hand: what comes by a
    /// socket may be seen before what was told before it, and what leaves by one before it is counted.
    pub fn has_been_told(&self) {
        let shards = u8::try_from(self.handle.shards()).unwrap();
        // Every shard is asked, be there a pair on it or not.
        let nobody = (0..shards).map(|shard| Spi::compose(Spi::MAX_SLOT, shard, 0).unwrap()).collect();
        assert!(self.runtime.block_on(self.handle.stats_of(nobody)).is_empty());
    }

    /// What was counted of all that has been seen of the shards.
    pub fn counter(&self, name: &str) -> u64 {
        self.has_been_told();
        self.counted_by_now(name)
    }

    fn counted_by_now(&self, name: &str) -> u64 {
        let counters = self.handle.counters();
        counters.iter().find(|(known, _)| *known == name).unwrap_or_else(|| panic!("no counter {name}")).1
    }

    /// Waits until a counter has reached a value.
    pub fn wait_for(&self, name: &str, value: u64) {
        let deadline = Instant::now() + PATIENCE;
        while self.counted_by_now(name) < value {
            assert!(Instant::now() < deadline, "{name} is {} and not {value}", self.counted_by_now(name));
            std::thread::yield_now();
        }
    }

    /// A remote gateway with one activated pair.
    pub fn connect(&self, tenant: TenantId, tunnel: u64, host: u8, local: &str, remote: &str) -> Remote {
        let remote = self.install(tenant, tunnel, host, local, remote, Limits::default());
        self.handle.activate(remote.spi);
        remote
    }

    /// A remote gateway at 127.0.0.`host` with one installed pair.
    pub fn install(
        &self,
        tenant: TenantId,
        tunnel: u64,
        host: u8,
        local: &str,
        remote: &str,
        limits: Limits,
    ) -> Remote {
        self.install_on(socket(host), tenant, tunnel, local, remote, limits)
    }

    pub fn install_on(
        &self,
        socket: UdpSocket,
        tenant: TenantId,
        tunnel: u64,
        local: &str,
        remote: &str,
        limits: Limits,
    ) -> Remote {
        self.install_with(socket, tenant, tunnel, (local, remote), |child| child.limits = limits)
    }

    /// A pair of `tenant` that could be installed, for tests that make it one that cannot.
    pub fn spare_pair(&self, tenant: TenantId) -> ChildSa {
        let keys = || esp::SaKeys::new(vec![1; 20], Vec::new());
        ChildSa {
            tenant,
            tunnel: TunnelId(2),
            inbound_spi: self.handle.allocate_spi(SLOT, [127, 0, 0, 12].into()).unwrap(),
            own: false,
            follows: false,
            outbound_spi: 0x1234,
            suite: Suite::new(Encryption::AesGcm16_128, None, true).unwrap(),
            inbound_keys: keys(),
            outbound_keys: keys(),
            iv_seed: [0; 32],
            mode: Mode::Tunnel,
            selectors: SelectorPair::default(),
            replay_window: 8192,
            limits: Limits::default(),
            local: self.natt(),
            remote: "127.0.0.12:4500".parse().unwrap(),
            encapsulation: Encapsulation::Udp,
            options: TunnelOptions::default(),
            reserve: Reserve::default(),
        }
    }

    /// Declares a tunnel for all of our side.
    pub fn declare(&self, tenant: TenantId, tunnel: u64, remote: &str, on_demand: bool) {
        let selectors = SelectorPair { local: vec![subnet("0.0.0.0/0")], remote: vec![subnet(remote)] };
        let config = TunnelConfig { tenant, tunnel: TunnelId(tunnel), selectors, on_demand };
        self.handle.declare_tunnel(config).unwrap();
    }

    /// As [`Gateway::connect`], for all of our side and without waiting for routes.
    pub fn connect_unsettled(&self, tenant: TenantId, tunnel: u64, host: u8, remote: &str) -> Remote {
        let remote = self.install_unsettled(socket(host), tenant, tunnel, ("0.0.0.0/0", remote), |_| {});
        self.handle.activate(remote.spi);
        remote
    }

    /// With a pair that `change` may change before it is installed. Its routes are there when this returns.
    pub fn install_with(
        &self,
        socket: UdpSocket,
        tenant: TenantId,
        tunnel: u64,
        networks: (&str, &str),
        change: impl FnOnce(&mut ChildSa),
    ) -> Remote {
        let remote = self.install_unsettled(socket, tenant, tunnel, networks, change);
        self.settle();
        remote
    }

    fn install_unsettled(
        &self,
        socket: UdpSocket,
        tenant: TenantId,
        tunnel: u64,
        networks: (&str, &str),
        change: impl FnOnce(&mut ChildSa),
    ) -> Remote {
        let spi = self.handle.allocate_spi(SLOT, socket.local_addr().unwrap().ip()).unwrap();
        self.install_under(spi, socket, tenant, tunnel, networks, change)
    }

    /// With one more pair of a tunnel, activated: that of the shard which the SPI names.
    pub fn connect_own(&self, spi: Spi, tenant: TenantId, tunnel: u64, host: u8, remote: &str) -> Remote {
        let networks = ("0.0.0.0/0", remote);
        let remote =
            self.install_under(spi, socket(host), tenant, tunnel, networks, |child| child.own = true);
        // Its tenant's device leaves the choice of the queue to the kernel.
        self.settle();
        self.handle.activate(spi);
        remote
    }

    pub fn install_under(
        &self,
        spi: Spi,
        socket: UdpSocket,
        tenant: TenantId,
        tunnel: u64,
        (local, remote): (&str, &str),
        change: impl FnOnce(&mut ChildSa),
    ) -> Remote {
        let address = socket.local_addr().unwrap();
        let theirs = Spi(0xc000_0000 | spi.0 & 0x03ff_ffff);
        let suite = Suite::new(Encryption::AesGcm16_128, None, true).unwrap();
        let (up, down) = (key(spi, 1), key(spi, 2));
        let selectors = SelectorPair { local: vec![subnet(local)], remote: vec![subnet(remote)] };
        let mut child = ChildSa {
            tenant,
            tunnel: TunnelId(tunnel),
            inbound_spi: spi,
            own: false,
            follows: false,
            outbound_spi: theirs.0,
            suite,
            inbound_keys: up.clone(),
            outbound_keys: down.clone(),
            iv_seed: [3; 32],
            mode: Mode::Tunnel,
            selectors: selectors.clone(),
            replay_window: 1024,
            limits: Limits::default(),
            local: self.natt_for(address),
            remote: address,
            encapsulation: Encapsulation::Udp,
            options: TunnelOptions::default(),
            reserve: Reserve::default(),
        };
        change(&mut child);
        let selectors = child.selectors.clone();
        self.handle.install(child).unwrap();
        let mirrored = SelectorPair { local: selectors.remote, remote: selectors.local };
        let none = Limits::default();
        Remote {
            socket,
            router: self.natt_for(address),
            entry: self.natt_for(address),
            spi,
            outbound: OutboundSa::new(spi, suite, &up, &[4; 32], &none).unwrap(),
            inbound: InboundSa::new(theirs, suite, &down, Arc::new(mirrored), 1024, &none).unwrap(),
        }
    }
}

/// The other end of a tunnel.
pub struct Remote {
    pub socket: UdpSocket,
    pub router: SocketAddr,
    /// Where it sends, which may be another node of the router's cluster.
    pub entry: SocketAddr,
    /// The router's inbound SPI.
    pub spi: Spi,
    pub outbound: OutboundSa,
    pub inbound: InboundSa,
}

impl Remote {
    pub fn seal(&mut self, inner: &[u8]) -> Vec<u8> {
        let mut out = vec![0; inner.len() + MAX_OVERHEAD];
        let sealed = self.outbound.seal(inner, &mut out).unwrap();
        out.truncate(sealed.len);
        out
    }

    pub fn send(&mut self, inner: &[u8]) {
        let sealed = self.seal(inner);
        self.socket.send_to(&sealed, self.entry).unwrap();
    }

    pub fn try_receive(&mut self) -> Result<Vec<u8>, OpenError> {
        self.try_receive_sized().1
    }

    /// With the octets of ESP that it came in.
    pub fn try_receive_sized(&mut self) -> (usize, Result<Vec<u8>, OpenError>) {
        let mut buffer = vec![0; 65_536];
        let (len, from) = self.socket.recv_from(&mut buffer).expect("a packet comes in time");
        assert_eq!(from, self.router, "from the NAT traversal port");
        (len, self.inbound.open(&mut buffer[..len]).map(|opened| buffer[opened.inner].to_vec()))
    }

    /// From whichever node, and its address.
    pub fn receive_from_anywhere(&mut self) -> (SocketAddr, Vec<u8>) {
        let mut buffer = vec![0; 65_536];
        let (len, from) = self.socket.recv_from(&mut buffer).expect("a packet comes in time");
        let opened = self.inbound.open(&mut buffer[..len]).expect("for this SA");
        (from, buffer[opened.inner].to_vec())
    }

    /// What comes within the time-out of the socket, from whichever node.
    pub fn receive_now(&mut self) -> Option<Vec<u8>> {
        let mut buffer = vec![0; 65_536];
        let len = self.socket.recv(&mut buffer).ok()?;
        let opened = self.inbound.open(&mut buffer[..len]).expect("for this SA");
        Some(buffer[opened.inner].to_vec())
    }

    pub fn receive_sized(&mut self) -> (usize, Vec<u8>) {
        let (len, inner) = self.try_receive_sized();
        (len, inner.expect("for this SA"))
    }

    pub fn receive(&mut self) -> Vec<u8> {
        self.try_receive().expect("for this SA")
    }

    /// Whether nothing has arrived. Only meaningful when whatever could have been sent is known to be sent.
    pub fn is_silent(&self) -> bool {
        self.socket.set_nonblocking(true).unwrap();
        let silent = self.socket.recv_from(&mut [0; 100]).is_err();
        self.socket.set_nonblocking(false).unwrap();
        silent
    }
}

/// The socket of a remote gateway at 127.0.0.`host`.
pub fn socket(host: u8) -> UdpSocket {
    let socket = UdpSocket::bind((Ipv4Addr::new(127, 0, 0, host), 0)).unwrap();
    socket.set_read_timeout(Some(PATIENCE)).unwrap();
    socket
}

/// The checksum of the Internet protocols; 0 over what contains a right one.
pub fn checksum(octets: &[u8]) -> u16 {
    let words = octets.chunks(2).map(|word| [word[0], *word.get(1).unwrap_or(&0)]);
    let mut sum: u32 = words.map(|word| u32::from(u16::from_be_bytes(word))).sum();
    while sum > 0xffff {
        sum = (sum & 0xffff) + (sum >> 16);
    }
    !(sum as u16)
}

/// Makes the checksum of an IPv4 header right.
pub fn fix_checksum(packet: &mut [u8]) {
    packet[10..12].fill(0);
    let sum = checksum(&packet[..20]).to_be_bytes();
    packet[10..12].copy_from_slice(&sum);
}

fn key(spi: Spi, direction: u8) -> SaKeys {
    let mut key = vec![direction; 20];
    key[..4].copy_from_slice(&spi.0.to_be_bytes());
    SaKeys::new(key, Vec::new())
}

pub fn subnet(text: &str) -> Selector {
    let (address, prefix) = text.split_once('/').unwrap();
    Selector::subnet(address.parse().unwrap(), prefix.parse().unwrap())
}

/// A UDP packet with `len` octets of payload that start with `number`.
pub fn udp(source: &str, destination: &str, number: u32, len: usize) -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv4Addr>().unwrap().octets();
    let total = (28 + len) as u16;
    let mut packet = vec![0x45, 0];
    packet.extend(total.to_be_bytes());
    packet.extend([0, 1, 0, 0, 64, 17, 0, 0]);
    packet.extend(address(source));
    packet.extend(address(destination));
    fix_checksum(&mut packet);
    packet.extend([0x13, 0x88, 0x13, 0x89]);
    packet.extend(((8 + len) as u16).to_be_bytes());
    packet.extend([0, 0]);
    let mut payload = number.to_be_bytes().to_vec();
    payload.resize(len.max(4), 0xaa);
    packet.extend(&payload[..len]);
    packet
}

/// The same over IPv6.
pub fn udp_v6(source: &str, destination: &str, len: usize) -> Vec<u8> {
    let address = |text: &str| text.parse::<Ipv6Addr>().unwrap().octets();
    let mut packet = vec![0x60, 0, 0, 0];
    packet.extend(((8 + len) as u16).to_be_bytes());
    packet.extend([17, 64]);
    packet.extend(address(source));
    packet.extend(address(destination));
    packet.extend([0x13, 0x88, 0x13, 0x89]);
    packet.extend(((8 + len) as u16).to_be_bytes());
    packet.extend([0, 0]);
    packet.extend((0..len).map(|i| i as u8));
    packet
}

/// The packet as it leaves the hub: with one hop less.
pub fn hopped(packet: &[u8]) -> Vec<u8> {
    let mut packet = packet.to_vec();
    assert!(esp::ip::decrement_ttl(&mut packet));
    packet
}
