//! One side: a connection with its host, and what has come of what it has said.

use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use ike::config::{Mode, PeerConfig};
use ike::event::Limit;
use ike::{Candidates, Event, Transmit};

use super::twin::Twin;
use super::{Spec, TestHost, many};

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
    /// SPIs of ESP that were given out and not given back.
    pub fn held(&self) -> BTreeSet<u32> {
        self.host.held.clone()
    }

    pub fn new(seed: u64, spec: &Spec, addr: &str) -> Self {
        let config = spec.config();
        let host = TestHost::new(seed, config.clone());
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
