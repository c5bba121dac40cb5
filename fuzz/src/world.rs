//! Two connections of ours joined by a network in virtual time, and a tap that knows their keys. Every event of theirs
//! goes through a model of what their host holds, which panics when a promise is broken.

use std::collections::{BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::{Arc, LazyLock};
use std::time::{Duration, Instant};

use ike::config::{
    Auth, ChildConfig, Mode, Opening, PeerConfig, Phase1, Psk, Retransmit, Uniqueness, V1, Version,
};
use ike::reception::{Class, classify};
use ike::wire::TrafficSelector;
use ike::{
    Candidates, Command, Connection, Datagram, Event, Host, Identity, InitReply, NoPeer, Path, Transmit,
};

use crate::tap::{Draws, Tap};

/// Datagrams a connection may want to send after one call: an answer and a request, each in at most 64 fragments,
/// and what was waiting.
const MAX_TRANSMITS: usize = 256;
/// Events of one call: all Child SAs may go at once.
const MAX_EVENTS: usize = 2048;
/// IKE_SAs of a connection that are not yet forgotten: 16 are the bound for those that the peer makes.
const MAX_IKE_SAS: usize = 20;
/// Negotiations beside a connection, below what a host takes.
const MAX_HALF_OPEN: usize = 4;
/// Datagrams under way in one direction; what is beyond is lost, as in a network.
const MAX_FLIGHT: usize = 64;

/// Which of the two.
pub type Side = usize;

/// A host whose randomness is a counter, well mixed, and is kept for the tap.
#[cfg_attr(culvert_fuzz, derive(Clone))]
#[derive(Debug)]
pub struct FuzzHost {
    state: u64,
    /// What was drawn.
    pub draws: Draws,
    next_esp: u32,
    next_ike: u64,
    /// The configured peer.
    pub peer: Arc<PeerConfig>,
    /// Whether SPIs are left.
    pub free_spis: bool,
    esp_out: BTreeSet<u32>,
    ike_out: BTreeSet<u64>,
}

impl Host for FuzzHost {
    fn random(&mut self, out: &mut [u8]) {
        for octet in out.iter_mut() {
            self.state = self.state.wrapping_add(0x9e37_79b9_7f4a_7c15);
            let z = (self.state ^ (self.state >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            *octet = (z >> 56) as u8;
        }
        if out.len() >= 32 {
            self.draws.push(out.to_vec());
        }
    }

    fn allocate_ike_spi(&mut self) -> u64 {
        self.next_ike += 1;
        self.ike_out.insert(self.next_ike);
        self.next_ike
    }

    fn allocate_esp_spi(&mut self, _: SocketAddr) -> Option<u32> {
        if !self.free_spis {
            return None;
        }
        self.next_esp += 1;
        self.esp_out.insert(self.next_esp);
        Some(self.next_esp)
    }

    fn find_peers(
        &mut self,
        id_i: &Identity,
        _: Option<&Identity>,
        remote: SocketAddr,
        opening: Opening,
    ) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        if *id_i == self.peer.remote_id { self.peers_from(remote, opening) } else { Err(NoPeer::Unknown) }
    }

    fn peers_from(&mut self, _: SocketAddr, opening: Opening) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        if opening == self.peer.opening() { Ok(vec![self.peer.clone()]) } else { Err(NoPeer::Unknown) }
    }
}

/// One end: a connection, its host, and what the host holds by the events so far.
#[cfg_attr(culvert_fuzz, derive(Clone))]
#[derive(Debug)]
pub struct End {
    /// The host.
    pub host: FuzzHost,
    /// The connection, once there is one.
    pub conn: Option<Connection>,
    /// Its address.
    pub addr: SocketAddr,
    /// What is under way from here.
    pub flight: VecDeque<Transmit>,
    installed: BTreeSet<u32>,
    ike_spis: BTreeSet<u64>,
    /// Phase 1 of IKEv1 that the other side has begun beside the connection that there is.
    half_open: Vec<Connection>,
    established: bool,
    down: bool,
    finished: bool,
}

impl End {
    fn new(side: Side, peer: Arc<PeerConfig>) -> Self {
        let host = FuzzHost {
            state: side as u64 + 1,
            draws: Vec::new(),
            next_esp: 0x1000 * (side as u32 + 1),
            next_ike: 0x1000 * (side as u64 + 1),
            peer,
            free_spis: true,
            esp_out: BTreeSet::new(),
            ike_out: BTreeSet::new(),
        };
        Self {
            host,
            conn: None,
            addr: SocketAddr::from(([192, 0, 2, side as u8 + 1], 500)),
            flight: VecDeque::new(),
            installed: BTreeSet::new(),
            ike_spis: BTreeSet::new(),
            half_open: Vec::new(),
            established: false,
            down: false,
            finished: false,
        }
    }

    /// SPIs of the pairs in place.
    pub fn spis(&self) -> Vec<u32> {
        self.installed.iter().copied().collect()
    }

    /// Begins or goes on with a phase 1 beside the connection, which it joins once it is done; as the host does it. False if
    /// the datagram is for the connection itself.
    fn beside(&mut self, now: Instant, datagram: Datagram<'_>) -> bool {
        let at = match classify(datagram.bytes) {
            Ok(Class::First(opening)) if opening != Opening::Init => {
                let proposals = Candidates::only(&self.host.peer.ike_proposals);
                let ports = (4500, 4500);
                let reply =
                    Connection::respond(now, &mut self.host, opening, datagram, ports, &proposals, false);
                if let InitReply::Accepted(conn) = reply
                    && self.half_open.len() < MAX_HALF_OPEN
                {
                    self.half_open.push(*conn);
                }
                None
            }
            Ok(Class::Existing(receivers)) => {
                receivers.find(|spi| self.half_open.iter().position(|conn| conn.local_spis().contains(&spi)))
            }
            _ => return false,
        };
        let Some(at) = at else { return matches!(classify(datagram.bytes), Ok(Class::First(_))) };
        self.half_open[at].handle_datagram(now, &mut self.host, datagram);
        if self.half_open[at].is_up() {
            let joining = self.half_open.remove(at);
            let spis = joining.local_spis();
            if let Some(conn) = &mut self.conn
                && conn.absorb(now, &mut self.host, joining).is_ok()
            {
                self.ike_spis.extend(spis);
            }
        }
        true
    }

    /// What those beside the connection send. They have nothing that would have to be given back but their SPIs.
    fn drain_half_open(&mut self) -> Vec<Transmit> {
        let mut sent = Vec::new();
        for conn in &mut self.half_open {
            while let Some(event) = conn.poll_event() {
                assert!(
                    matches!(
                        event,
                        Event::IkeSpiAdded(_) | Event::IkeSpiRemoved(_) | Event::Down(_) | Event::Finished
                    ),
                    "{event:?} before anybody is known"
                );
            }
            sent.extend(std::iter::from_fn(|| conn.poll_transmit()));
        }
        self.half_open.retain(|conn| !conn.is_finished());
        sent
    }

    /// Takes what the connection has to say and holds it against its promises. Returns what it sends.
    fn drain(&mut self) -> Vec<Transmit> {
        let Some(conn) = &mut self.conn else { return Vec::new() };
        let mut events = 0;
        while let Some(event) = conn.poll_event() {
            events += 1;
            assert!(events <= MAX_EVENTS, "events without end");
            assert!(!self.finished, "{event:?} after the end");
            match event {
                Event::IkeSpiAdded(spi) => assert!(self.ike_spis.insert(spi), "IKE SPI {spi:x} added twice"),
                Event::IkeSpiRemoved(spi) => {
                    assert!(self.ike_spis.remove(&spi), "IKE SPI {spi:x} removed but not there");
                    self.host.ike_out.remove(&spi);
                }
                Event::Established { .. } => {
                    assert!(!self.established && !self.down, "established again");
                    self.established = true;
                }
                Event::IkeRekeyed { local_spi, .. } => {
                    assert!(self.established && !self.down);
                    assert!(self.ike_spis.contains(&local_spi), "rekeyed to an unknown SPI");
                }
                Event::InstallChild(sa) => {
                    assert!(self.established && !self.down, "a Child SA without an IKE_SA");
                    assert!(self.host.esp_out.contains(&sa.spi_in), "SPI not allocated");
                    assert!(self.installed.insert(sa.spi_in), "SPI {:x} given away twice", sa.spi_in);
                    assert!(sa.spi_out != 0, "the peer's SPI is zero");
                    let policy = &self.host.peer.children;
                    let policy = policy
                        .iter()
                        .find(|c| *c.name == *ike::resources::configured(&sa.name))
                        .expect("a configured policy");
                    for (got, allowed) in [(&sa.local_ts, &policy.local), (&sa.remote_ts, &policy.remote)] {
                        assert!(!got.is_empty());
                        assert!(
                            got.iter().all(|g| allowed.iter().any(|a| a.contains(g))),
                            "wider than allowed"
                        );
                    }
                }
                Event::ActivateChild { spi_in } => {
                    assert!(self.installed.contains(&spi_in), "activated but gone")
                }
                Event::RemoveChild { spi_in, .. } => {
                    assert!(self.installed.remove(&spi_in), "removed but not there");
                    assert!(self.host.esp_out.remove(&spi_in), "given back twice");
                }
                Event::ReleaseSpi(spi) => {
                    assert!(!self.installed.contains(&spi), "released while in use");
                    assert!(self.host.esp_out.remove(&spi), "released twice");
                }
                Event::ChildFailed { failure, .. } | Event::IkeRekeyFailed { failure } => {
                    assert!(!self.down, "{failure} after the end");
                }
                Event::RekeyEnded { outcome, .. } => {
                    assert!(!self.down, "{outcome:?} after the end");
                }
                Event::RemoteMoved(_) | Event::SignOfLifeDue | Event::LimitedByPeer(_) => {}
                Event::MessageIdsSynced { .. } => assert!(!self.down, "synchronized after the end"),
                Event::AdvanceOutbound { pairs, by } => {
                    assert!(
                        by > 0 && pairs.iter().all(|spi| self.installed.contains(spi)),
                        "advanced but gone"
                    );
                }
                Event::Coverage { policy, uncovered } => {
                    let policies = &self.host.peer.children;
                    assert!(policies.iter().any(|c| c.name == policy), "a configured policy");
                    assert!(!self.down && uncovered.len() <= 64);
                }
                Event::Down(reason) => {
                    drop(reason.to_string());
                    assert!(!self.down, "down twice");
                    self.down = true;
                    // Removed before, so that nothing is left to the host.
                    assert!(self.installed.is_empty(), "down with Child SAs in place");
                }
                Event::Finished => self.finished = true,
            }
        }
        if self.finished {
            assert!(conn.is_finished() && self.down);
            assert!(self.host.esp_out.is_empty(), "ESP SPIs never given back: {:x?}", self.host.esp_out);
            assert!(self.ike_spis.is_empty(), "IKE SPIs never given back: {:x?}", self.ike_spis);
        }
        assert!(conn.local_spis().len() <= MAX_IKE_SAS, "IKE_SAs without end: {}", conn.local_spis().len());
        let children: BTreeSet<u32> = conn.child_sas().map(|c| c.1).collect();
        assert!(children.len() <= ike::verbs::MAX_CHILDREN);
        assert_eq!(children, self.installed, "the connection and its host agree");
        let mut sent = Vec::new();
        while let Some(transmit) = conn.poll_transmit() {
            sent.push(transmit);
            assert!(sent.len() <= MAX_TRANSMITS, "datagrams without end");
        }
        sent
    }
}

/// The whole.
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub struct World {
    /// Now.
    pub now: Instant,
    /// Both ends.
    pub ends: [End; 2],
    /// The tap on the wire.
    pub tap: Tap,
    /// The tap follows rekeyings.
    pub follow: bool,
}

impl Default for World {
    fn default() -> Self {
        Self::new()
    }
}

impl World {
    /// Nothing has happened.
    pub fn new() -> Self {
        static CONFIGS: LazyLock<[Arc<PeerConfig>; 2]> =
            LazyLock::new(|| [0, 1].map(|side| config(side, Version::V2)));
        let ends = [0, 1].map(|side| End::new(side, CONFIGS[side].clone()));
        Self { now: Instant::now(), ends, tap: Tap::default(), follow: true }
    }

    /// The same of IKEv1. The tap knows nothing of that.
    pub fn of_v1(mode: Phase1) -> Self {
        let version = Version::V1(V1 { mode, ..V1::default() });
        let ends = [0, 1].map(|side| End::new(side, config(side, version)));
        Self { now: Instant::now(), ends, tap: Tap::default(), follow: false }
    }

    /// Side 0 has sent its IKE_SA_INIT.
    pub fn initiated() -> Self {
        Self::new().initiate()
    }

    /// Side 0 has sent its first message.
    #[must_use]
    pub fn initiate(self) -> Self {
        let mut world = self;
        let (a, b) = (world.ends[0].addr, world.ends[1].addr);
        let path = Path { local: a, remote: b, local_natt: 4500, remote_natt: 4500 };
        let end = &mut world.ends[0];
        let config = end.host.peer.clone();
        end.conn = Some(Connection::initiate(world.now, &mut end.host, config, path).expect("a group"));
        world.drain(0);
        world
    }

    /// Both are established with one Child SA. While fuzzing the handshake is made once and then copied.
    pub fn up() -> Self {
        #[cfg(culvert_fuzz)]
        {
            thread_local!(static UP: World = World::negotiated(World::initiated()));
            UP.with(Self::clone)
        }
        #[cfg(not(culvert_fuzz))]
        Self::negotiated(Self::initiated())
    }

    /// The same of IKEv1.
    pub fn up_v1(mode: Phase1) -> Self {
        #[cfg(culvert_fuzz)]
        {
            thread_local! {
                static MAIN: World = World::negotiated(World::of_v1(Phase1::Main).initiate());
                static AGGRESSIVE: World = World::negotiated(World::of_v1(Phase1::Aggressive).initiate());
            }
            match mode {
                Phase1::Main => MAIN.with(Self::clone),
                Phase1::Aggressive => AGGRESSIVE.with(Self::clone),
            }
        }
        #[cfg(not(culvert_fuzz))]
        Self::negotiated(Self::of_v1(mode).initiate())
    }

    fn negotiated(mut world: Self) -> Self {
        world.settle();
        assert!(world.ends.iter().all(|e| e.established && !e.installed.is_empty()));
        world
    }

    /// Takes in what a side has to say.
    pub fn drain(&mut self, side: Side) {
        let beside = self.ends[side].drain_half_open();
        for transmit in self.ends[side].drain().into_iter().chain(beside) {
            if self.follow {
                let [a, b] = &self.ends;
                self.tap.saw(&transmit.bytes, [&a.host.draws, &b.host.draws]);
            }
            if self.ends[side].flight.len() < MAX_FLIGHT {
                self.ends[side].flight.push_back(transmit);
            }
        }
    }

    /// Gives octets to a side, as from the other.
    pub fn put(&mut self, to: Side, bytes: &[u8], natt: bool) {
        let from = self.ends[1 - to].addr;
        let end = &mut self.ends[to];
        let datagram = Datagram { local: end.addr, remote: from, natt, bytes };
        if end.conn.is_some() && end.beside(self.now, datagram) {
        } else if let Some(conn) = &mut end.conn {
            conn.handle_datagram(self.now, &mut end.host, datagram);
        } else {
            let proposals = Candidates::only(&end.host.peer.ike_proposals);
            let Ok(Class::First(opening)) = classify(datagram.bytes) else { return };
            match Connection::respond(
                self.now,
                &mut end.host,
                opening,
                datagram,
                (4500, 4500),
                &proposals,
                false,
            ) {
                InitReply::Accepted(conn) => end.conn = Some(*conn),
                InitReply::Refused(bytes, failure) => {
                    drop(failure.to_string());
                    let (local, remote) = (end.addr, from);
                    end.flight.push_back(Transmit { local, remote, natt, keepalive: false, bytes });
                }
                InitReply::Dropped(failure) => drop(failure.to_string()),
            }
        }
        self.drain(to);
    }

    /// Delivers the next datagram of a side.
    pub fn deliver(&mut self, from: Side) {
        if let Some(transmit) = self.ends[from].flight.pop_front()
            && !transmit.keepalive
        {
            self.put(1 - from, &transmit.bytes, transmit.natt);
        }
    }

    /// Delivers until both are silent. The two may have much to say to each other, but not without end.
    pub fn settle(&mut self) {
        for _ in 0..600 {
            match (self.ends[0].flight.is_empty(), self.ends[1].flight.is_empty()) {
                (false, _) => self.deliver(0),
                (_, false) => self.deliver(1),
                _ => return,
            }
        }
        panic!("the two never fall silent");
    }

    /// Carries out a command.
    pub fn command(&mut self, side: Side, command: Command) {
        let end = &mut self.ends[side];
        if let Some(conn) = &mut end.conn {
            conn.handle_command(self.now, &mut end.host, command);
        }
        self.drain(side);
    }

    /// When one of the two next has something to do by itself.
    pub fn next_timeout(&self) -> Option<Instant> {
        let conns = self.ends.iter().flat_map(|end| end.conn.iter().chain(&end.half_open));
        conns.filter_map(Connection::poll_timeout).min()
    }

    /// Lets time pass. A timer that has been served must not be due again at the same moment.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let mut served = (self.now, 0);
        while let Some(at) = self.next_timeout().filter(|t| *t <= end) {
            self.now = self.now.max(at);
            served = if served.0 == self.now { (served.0, served.1 + 1) } else { (self.now, 1) };
            assert!(served.1 <= 8, "a timer is due again and again");
            for side in [0, 1] {
                let end = &mut self.ends[side];
                for conn in end.conn.iter_mut().chain(&mut end.half_open) {
                    conn.handle_timeout(self.now, &mut end.host);
                }
                self.drain(side);
            }
        }
        self.now = end;
    }
}

/// The configuration of a side: two policies, and choices to make in every proposal.
fn config(side: Side, version: Version) -> Arc<PeerConfig> {
    let names = ["left.example", "right.example"];
    let net = |side: usize, policy: u8| {
        let side = side as u8 + 1;
        let (start, end) = ([10, side, policy, 0], [10, side, policy, 255]);
        vec![TrafficSelector::range(start.into(), end.into())]
    };
    let child = |name: &str, policy, proposals: &[&str]| {
        Arc::new(ChildConfig {
            name: name.into(),
            local: net(side, policy),
            remote: net(1 - side, policy),
            proposals: proposals.iter().map(|p| p.parse().expect("a proposal")).collect(),
            mode: Mode::Tunnel,
            life: ike::config::Life::default(),
            // A pair for a resource beside that of the first.
            resources: if policy == 0 { 2 } else { 1 },
        })
    };
    Arc::new(PeerConfig {
        name: names[1 - side].into(),
        local_id: names[side].parse().expect("an identity"),
        remote_id: names[1 - side].parse().expect("an identity"),
        auth: Auth::Psk(Psk::new(b"secret".to_vec().into())),
        ike_proposals: [match version {
            Version::V2 => "aes128gcm16-prfsha256-x25519".parse().expect("a proposal"),
            Version::V1(_) => "aes128-sha256-x25519".parse().expect("a proposal"),
        }]
        .into(),
        children: vec![child("first", 1, &["aes128gcm16"]), child("second", 2, &["aes128gcm16-x25519"])],
        dpd_interval: Duration::from_secs(30),
        force_encapsulation: false,
        uniqueness: Uniqueness::Replace,
        retransmit: Retransmit::DEFAULT,
        version,
    })
}
