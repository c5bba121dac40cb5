//! Two connections and the messages between them, delivered one at a time, in virtual time.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::indexing_slicing,
    clippy::panic,
    dead_code,
    unreachable_pub
)]
#![allow(clippy::disallowed_methods, missing_docs)]

pub mod many;
pub mod schedules;
pub mod tap;
pub mod twin;

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ike::config::{
    Auth, ChildConfig, Life, Mode, Opening, PeerConfig, Phase1, Psk, Retransmit, Uniqueness, V1, Version,
};
use ike::credentials::KeyHash;
use ike::event::Limit;
use ike::reception::{Class, classify};
use ike::wire::TrafficSelector;
use ike::{
    Candidates, Command, Connection, Datagram, Event, Host, Identity, InitReply, NoPeer, Path, Transmit,
};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};
use twin::Twin;

pub fn ts(start: &str, end: &str) -> TrafficSelector {
    TrafficSelector::range(start.parse().unwrap(), end.parse().unwrap())
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub psk: &'static [u8],
    /// In place of the key.
    pub auth: Option<Auth>,
    pub ike: Vec<&'static str>,
    pub esp: Vec<&'static str>,
    pub local_id: &'static str,
    pub remote_id: &'static str,
    pub local: Vec<TrafficSelector>,
    pub remote: Vec<TrafficSelector>,
    /// Selectors of further policies, `net1` and so on.
    pub more: Vec<(TrafficSelector, TrafficSelector)>,
    pub dpd: Duration,
    pub mode: Mode,
    pub force_encapsulation: bool,
    pub uniqueness: Uniqueness,
    pub version: Version,
    /// How long a pair of IKEv1 is offered to last.
    pub life: Life,
    /// Pairs of each policy at the same time.
    pub resources: u8,
}

impl Spec {
    pub fn left() -> Self {
        Self {
            psk: b"secret",
            auth: None,
            ike: vec!["aes128gcm16-prfsha256-x25519"],
            esp: vec!["aes128gcm16"],
            local_id: "left.example",
            remote_id: "right.example",
            local: vec![ts("10.1.0.0", "10.1.255.255")],
            remote: vec![ts("10.2.0.0", "10.2.255.255")],
            more: vec![],
            dpd: Duration::ZERO,
            mode: Mode::Tunnel,
            force_encapsulation: false,
            uniqueness: Uniqueness::Replace,
            version: Version::V2,
            life: Life::default(),
            resources: 1,
        }
    }

    /// The same by IKEv1.
    pub fn v1(self, mode: Phase1) -> Self {
        let version = Version::V1(V1 { mode, ..V1::default() });
        let (ike, esp) = (vec!["aes256-sha256-modp2048"], vec!["aes128gcm16"]);
        Self { version, ike, esp, ..self }
    }

    pub fn right() -> Self {
        let l = Self::left();
        Self { local_id: l.remote_id, remote_id: l.local_id, local: l.remote, remote: l.local, ..l }
    }

    /// Both sides with this many policies.
    pub fn with_policies(count: u8) -> [Self; 2] {
        let host = |side: u8, n: u8| ts(&format!("10.{side}.{n}.0"), &format!("10.{side}.{n}.255"));
        let more = |ours: u8, theirs: u8| (1..count).map(|n| (host(ours, n), host(theirs, n))).collect();
        [Self { more: more(11, 12), ..Self::left() }, Self { more: more(12, 11), ..Self::right() }]
    }

    fn children(&self) -> Vec<Arc<ChildConfig>> {
        let first = ("net".to_owned(), self.local.clone(), self.remote.clone());
        let more = self.more.iter().zip(1..);
        let more = more.map(|((local, remote), n)| (format!("net{n}"), vec![*local], vec![*remote]));
        std::iter::once(first)
            .chain(more)
            .map(|(name, local, remote)| {
                let proposals = self.esp.iter().map(|p| p.parse().unwrap()).collect();
                Arc::new(ChildConfig {
                    name: name.into(),
                    local,
                    remote,
                    proposals,
                    mode: self.mode,
                    life: self.life,
                    resources: self.resources,
                })
            })
            .collect()
    }

    pub fn config(&self) -> Arc<PeerConfig> {
        Arc::new(PeerConfig {
            name: format!("to {}", self.remote_id).into(),
            local_id: self.local_id.parse().unwrap(),
            remote_id: self.remote_id.parse().unwrap(),
            auth: self.auth.clone().unwrap_or_else(|| Auth::Psk(Psk::new(self.psk.to_vec().into()))),
            ike_proposals: self.ike.iter().map(|p| p.parse().unwrap()).collect(),
            children: self.children(),
            dpd_interval: self.dpd,
            force_encapsulation: self.force_encapsulation,
            uniqueness: self.uniqueness,
            retransmit: Retransmit::DEFAULT,
            version: self.version,
        })
    }
}

/// Supplies seeded randomness.
#[derive(Clone)]
pub struct TestHost {
    rng: ChaCha20Rng,
    next_esp: u32,
    next_ike: u64,
    pub peer: Arc<PeerConfig>,
    /// Others with the same identity, of other tenants.
    pub others: Vec<Arc<PeerConfig>>,
    pub free_spis: bool,
    pub peer_not_ready: bool,
    /// Another connection of the peer that is up.
    pub connected: Option<SocketAddr>,
    /// ESP SPIs that were given out and not given back.
    held: BTreeSet<u32>,
    /// What was drawn, for [`tap::Tap`].
    pub draws: tap::Draws,
}

impl TestHost {
    /// Draws other octets from now on.
    pub fn random_from(&mut self, seed: u64) {
        self.rng = ChaCha20Rng::seed_from_u64(seed);
    }

    /// Gives out other SPIs from now on: those of ESP beyond those of the other side, or not.
    pub fn skip_spis(&mut self, seed: u64) {
        self.next_esp += u32::try_from(seed).unwrap() * 0x1100;
        self.next_ike += seed * 0x1100;
    }
}

impl Side {
    /// SPIs of ESP that were given out and not given back.
    pub fn held(&self) -> BTreeSet<u32> {
        self.host.held.clone()
    }
}

impl Host for TestHost {
    fn random(&mut self, out: &mut [u8]) {
        self.rng.fill_bytes(out);
        if out.len() >= 32 {
            self.draws.push(out.to_vec());
        }
    }

    fn allocate_ike_spi(&mut self) -> u64 {
        self.next_ike += 1;
        self.next_ike
    }

    fn allocate_esp_spi(&mut self, _: SocketAddr) -> Option<u32> {
        self.next_esp += 1;
        let spi = self.free_spis.then_some(self.next_esp)?;
        self.held.insert(spi);
        Some(spi)
    }

    fn find_peers(
        &mut self,
        id_i: &Identity,
        id_r: Option<&Identity>,
        remote: SocketAddr,
        opening: Opening,
    ) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        let own = |c: &PeerConfig| c.name == self.peer.name && c.local_id == self.peer.local_id;
        let fits =
            |c: &Arc<PeerConfig>| c.remote_id == *id_i && (!own(c) || id_r.is_none_or(|r| *r == c.local_id));
        let all = self.all(remote, opening)?;
        let found: Vec<_> = all.into_iter().filter(fits).collect();
        if found.is_empty() { Err(NoPeer::Unknown) } else { Ok(found) }
    }

    fn peers_from(&mut self, remote: SocketAddr, opening: Opening) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        self.all(remote, opening)
    }

    fn authorities(&mut self, _: SocketAddr) -> Vec<KeyHash> {
        let all = std::iter::once(&self.peer).chain(&self.others);
        all.filter_map(|peer| peer.auth.certificates()).flat_map(|with| with.authorities().to_vec()).collect()
    }

    fn connected(&self, _: &PeerConfig) -> Option<SocketAddr> {
        self.connected
    }
}

impl TestHost {
    fn all(&self, _: SocketAddr, opening: Opening) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        if self.peer_not_ready {
            return Err(NoPeer::NotYet);
        }
        let all = std::iter::once(&self.peer).chain(&self.others);
        let found: Vec<_> = all.filter(|c| c.opening() == opening).cloned().collect();
        if found.is_empty() { Err(NoPeer::Unknown) } else { Ok(found) }
    }
}

/// A pair of ESP SAs as the router of this side has it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Installed {
    pub policy: Arc<str>,
    pub spi_out: u32,
    pub keys: Vec<Vec<u8>>,
    pub mode: Mode,
    /// Our address and the peer's.
    pub path: (SocketAddr, SocketAddr),
    pub active: bool,
}

pub struct Side {
    pub host: TestHost,
    /// With a copy that moves from node to node.
    pub conn: Option<Twin>,
    pub addr: SocketAddr,
    pub installed: BTreeMap<u32, Installed>,
    pub log: Vec<String>,
    pub refused: Vec<String>,
    /// What became of rekeyings that were asked for.
    pub ended: Vec<(u32, Result<(), String>)>,
    /// How often the host was asked for signs of life.
    pub asked: usize,
    /// What was told to be uncovered, and of which policy.
    pub gaps: Vec<(String, Vec<String>)>,
    pub outbox: VecDeque<Transmit>,
    pub config: Arc<PeerConfig>,
    /// Whose proposals IKE_SA_INIT is answered from.
    pub candidates: Candidates,
    /// Whether a NAT is announced in IKE_SA_INIT, if not as the peer is configured.
    pub forces: Option<bool>,
    /// Negotiations of IKEv1 that the peer has started beside the connection there is.
    pub half_open: Vec<many::HalfOpen>,
    /// First messages that have led to something, which are not answered anew.
    pub settled: Vec<Vec<u8>>,
    /// Pairs just removed, and how long what arrives by them is still taken.
    pub lingering: Vec<(u32, Duration)>,
    /// What the peer keeps a pair for at most, by SPI.
    pub limits: BTreeMap<u32, Limit>,
    /// SPIs that lead to the connection, by its word.
    pub registered: BTreeSet<u64>,
}

impl Side {
    pub fn new(seed: u64, spec: &Spec, addr: &str) -> Self {
        let config = spec.config();
        let host = TestHost {
            rng: ChaCha20Rng::seed_from_u64(seed),
            next_esp: 0x1000 * u32::try_from(seed).unwrap(),
            next_ike: 0x1000 * seed,
            peer: config.clone(),
            others: Vec::new(),
            free_spis: true,
            peer_not_ready: false,
            connected: None,
            held: BTreeSet::new(),
            draws: Vec::new(),
        };
        let addr = addr.parse().unwrap();
        Self {
            host,
            conn: None,
            addr,
            installed: BTreeMap::new(),
            log: vec![],
            refused: vec![],
            ended: vec![],
            asked: 0,
            gaps: vec![],
            outbox: VecDeque::new(),
            candidates: Candidates::only(&config.ike_proposals),
            forces: None,
            half_open: vec![],
            settled: vec![],
            lingering: vec![],
            limits: BTreeMap::new(),
            registered: BTreeSet::new(),
            config,
        }
    }

    pub fn drain(&mut self) {
        let Some(conn) = &mut self.conn else { return };
        while let Some(event) = conn.poll_event() {
            match event {
                Event::InstallChild(sa) => {
                    let keys = [&sa.keys_in, &sa.keys_out]
                        .iter()
                        .map(|k| [k.encryption.as_slice(), k.integrity.as_slice()].concat())
                        .collect();
                    let (policy, spi_out, mode) = (sa.name.clone(), sa.spi_out, sa.mode);
                    let path = (sa.local, sa.remote);
                    self.limits.insert(sa.spi_in, sa.limit);
                    let installed = Installed { policy, spi_out, keys, mode, path, active: false };
                    self.installed.insert(sa.spi_in, installed);
                    self.log.push(if sa.replaces.is_some() { "rekeyed".into() } else { "child up".into() });
                }
                Event::ActivateChild { spi_in } => {
                    let policy = self.installed[&spi_in].policy.clone();
                    for (spi, sa) in self.installed.iter_mut().filter(|(_, sa)| sa.policy == policy) {
                        sa.active = *spi == spi_in;
                    }
                }
                Event::RemoveChild { spi_in, reason, linger } => {
                    self.lingering.push((spi_in, linger));
                    assert!(self.installed.remove(&spi_in).is_some(), "removed twice");
                    assert!(self.host.held.remove(&spi_in), "an SPI given back twice");
                    self.log.push(format!("removed {reason:?}"));
                }
                Event::ReleaseSpi(spi) => assert!(self.host.held.remove(&spi), "an SPI given back twice"),
                Event::IkeSpiAdded(spi) => assert!(self.registered.insert(spi), "an IKE SPI added twice"),
                Event::IkeSpiRemoved(spi) => {
                    assert!(self.registered.remove(&spi), "an IKE SPI removed that leads nowhere");
                }
                Event::Finished => assert_eq!(self.host.held, BTreeSet::new(), "SPIs never given back"),
                Event::ChildFailed { failure, .. } => self.log.push(format!("child failed: {failure}")),
                Event::RekeyEnded { spi_in, outcome } => {
                    self.ended.push((spi_in, outcome.map_err(|failure| failure.to_string())));
                }
                Event::Coverage { policy, uncovered } => {
                    let texts: Vec<String> = uncovered.iter().map(ToString::to_string).collect();
                    self.gaps.push((policy.to_string(), texts));
                }
                Event::SignOfLifeDue => self.asked += 1,
                Event::IkeRekeyFailed { failure } => self.log.push(format!("ike not rekeyed: {failure}")),
                Event::MessageIdsSynced { ours, theirs } => {
                    self.log.push(format!("synced: {ours} of ours, {theirs} of the peer's"));
                }
                Event::AdvanceOutbound { pairs, by } => self.log.push(format!("advanced {pairs:x?} by {by}")),
                Event::LimitedByPeer(within) => self.log.push(format!("limited to {within:?}")),
                Event::RemoteMoved(remote) => self.log.push(format!("moved to {remote}")),
                Event::Down(reason) => self.log.push(format!("down: {reason}")),
                Event::Established { .. } => self.log.push("established".into()),
                Event::IkeRekeyed { initiated, .. } => {
                    self.log.push(if initiated { "ike rekeyed by us".into() } else { "ike rekeyed".into() });
                }
            }
        }
        while let Some(transmit) = conn.poll_transmit() {
            self.outbox.push_back(transmit);
        }
        let leading: BTreeSet<u64> = conn.local_spis().into_iter().collect();
        assert!(leading.is_subset(&self.registered), "{leading:x?} of {:x?}", self.registered);
    }
}

pub struct Pair {
    pub now: Instant,
    pub a: Side,
    pub b: Side,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Who {
    A,
    B,
}
pub use Who::{A, B};

impl Pair {
    pub fn new(left: &Spec, right: &Spec) -> Self {
        Self {
            now: Instant::now(),
            a: Side::new(1, left, "192.0.2.1:500"),
            b: Side::new(2, right, "192.0.2.2:500"),
        }
    }

    pub fn side(&mut self, who: Who) -> &mut Side {
        if who == A { &mut self.a } else { &mut self.b }
    }

    pub fn initiate(&mut self) {
        self.initiate_from(A);
    }

    pub fn initiate_from(&mut self, who: Who) {
        let (now, remote) = (self.now, self.side(if who == A { B } else { A }).addr);
        let side = self.side(who);
        let path = Path { local: side.addr, remote, local_natt: 4500, remote_natt: 4500 };
        let conn = Connection::initiate(now, &mut side.host, side.config.clone(), path).unwrap();
        side.conn = Some(conn.into());
        side.drain();
    }

    /// A and B established with one Child SA.
    pub fn up(left: &Spec, right: &Spec) -> Self {
        let mut pair = Self::new(left, right);
        pair.initiate();
        pair.settle();
        pair
    }

    pub fn command(&mut self, who: Who, command: Command) {
        let now = self.now;
        let side = self.side(who);
        side.conn.as_mut().unwrap().handle_command(now, &mut side.host, command);
        side.drain();
    }

    /// `who` rekeys its pair.
    pub fn rekey(&mut self, who: Who) {
        let spi = self.spi(who);
        self.command(who, Command::RekeyChild(spi));
    }

    /// `who` deletes its pair.
    pub fn delete(&mut self, who: Who) {
        let spi = self.spi(who);
        self.command(who, Command::DeleteChild(spi));
    }

    /// Takes the next message `from` wants to send.
    pub fn take(&mut self, from: Who) -> Transmit {
        self.side(from).outbox.pop_front().unwrap_or_else(|| panic!("{from:?} has nothing to send"))
    }

    /// Hands a message of `from` to the other side.
    pub fn put(&mut self, from: Who, message: &Transmit) {
        let now = self.now;
        let side = self.side(if from == A { B } else { A });
        let datagram = Datagram {
            local: message.remote,
            remote: message.local,
            natt: message.natt,
            bytes: &message.bytes,
        };
        if side.many(now, datagram) {
            return side.drain();
        }
        match &mut side.conn {
            Some(conn) => conn.handle_datagram(now, &mut side.host, datagram),
            None => {
                let proposals = side.candidates.clone();
                let force = side.forces.unwrap_or(side.config.force_encapsulation);
                let Ok(Class::First(opening)) = classify(&message.bytes) else {
                    side.refused.push("not a first message".into());
                    return;
                };
                let host = &mut side.host;
                match Connection::respond(now, host, opening, datagram, (4500, 4500), &proposals, force) {
                    InitReply::Accepted(conn) => side.conn = Some((*conn).into()),
                    InitReply::Refused(bytes, failure) => {
                        side.refused.push(failure.to_string());
                        let (local, remote) = (message.remote, message.local);
                        side.outbox.push_back(Transmit {
                            local,
                            remote,
                            natt: false,
                            keepalive: false,
                            bytes,
                        });
                    }
                    InitReply::Dropped(failure) => side.refused.push(failure.to_string()),
                }
            }
        }
        side.drain();
    }

    /// Delivers the next message of `from`.
    pub fn deliver(&mut self, from: Who) {
        let message = self.take(from);
        self.put(from, &message);
    }

    /// Delivers everything until both are silent.
    pub fn settle(&mut self) {
        for _ in 0..200 {
            match (self.a.outbox.is_empty(), self.b.outbox.is_empty()) {
                (false, _) => self.deliver(A),
                (_, false) => self.deliver(B),
                _ => return,
            }
        }
        panic!("the two never fall silent");
    }

    /// Lets time pass, firing timers; nothing is delivered.
    pub fn pass(&mut self, time: Duration) {
        let end = self.now + time;
        let (mut looks, mut last) = (0, self.now);
        loop {
            looks = if self.now > last { 0 } else { looks + 1 };
            last = self.now;
            assert!(
                looks < 1_000,
                "what is due at {last:?} is due again at once: {:?} {:?}",
                self.a.log,
                self.b.log
            );
            let sides = [&self.a, &self.b];
            let conns = sides.iter().flat_map(|s| s.conn.iter().chain(s.half_open.iter().map(|h| &h.conn)));
            let due = conns.filter_map(Twin::poll_timeout).min();
            let Some(at) = due.filter(|t| *t <= end) else { break };
            self.now = self.now.max(at);
            for who in [A, B] {
                let now = self.now;
                let side = self.side(who);
                if let Some(conn) = &mut side.conn {
                    conn.handle_timeout(now, &mut side.host);
                }
                side.half_open_timeouts(now);
                side.drain();
            }
        }
        self.now = end;
    }

    /// Lets time pass and delivers everything sent meanwhile.
    pub fn run(&mut self, seconds: u64) {
        for _ in 0..seconds {
            self.pass(Duration::from_secs(1));
            self.settle();
        }
    }

    pub fn spi(&mut self, who: Who) -> u32 {
        *self.side(who).installed.iter().find(|(_, sa)| sa.active).expect("an active pair").0
    }

    /// Both ends have the same pairs with the same keys, `count` of them, and send by matching ones.
    pub fn assert_children(&self, count: usize) {
        assert_eq!(self.a.installed.len(), count, "A: {:?}", self.a.log);
        assert_eq!(self.b.installed.len(), count, "B: {:?}", self.b.log);
        for (spi, sa) in &self.a.installed {
            let other = self.b.installed.get(&sa.spi_out).expect("B knows the pair");
            assert_eq!(other.spi_out, *spi);
            assert_eq!((&sa.keys[0], &sa.keys[1]), (&other.keys[1], &other.keys[0]));
            assert_eq!(sa.mode, other.mode);
        }
        for side in [&self.a, &self.b] {
            let policies: BTreeSet<_> = side.installed.values().map(|sa| &sa.policy).collect();
            for policy in policies {
                let active = side.installed.values().filter(|sa| sa.active && sa.policy == *policy);
                assert_eq!(active.count(), 1, "{policy} is sent by one pair");
            }
        }
    }

    pub fn assert_ike(&self, count: usize) {
        for side in [&self.a, &self.b] {
            let conn = side.conn.as_ref().unwrap();
            assert_eq!(conn.ike_sas(), count, "{:?}", side.log);
        }
        let (a, b) = (self.a.conn.as_ref().unwrap().spis(), self.b.conn.as_ref().unwrap().spis());
        assert_eq!((a.0, a.1), (b.1, b.0), "both use the same IKE_SA");
    }

    /// Both ends still understand each other.
    pub fn assert_alive(&mut self) {
        for who in [A, B] {
            let spi = self.spi(who);
            self.command(who, Command::RekeyChild(spi));
            self.settle();
            self.assert_children(1);
        }
    }

    /// The same where the end of an exchange takes its time.
    pub fn assert_alive_in_time(&mut self) {
        for who in [A, B] {
            let spi = self.spi(who);
            self.command(who, Command::RekeyChild(spi));
            self.settle();
            // Longer than it takes to notice that the other has forgotten the IKE_SA.
            self.run(60);
            self.assert_children(self.a.installed.len());
            assert_eq!(self.side(who).ended.last(), Some(&(spi, Ok(()))));
        }
    }
}
