//! One history: a concentrator, its branches, the network between them, and the order of events.

mod verdict;

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::time::{Duration, Instant};

use ike::config::Mode;
use ike::{Command, Path};

use crate::clock::Clock;
use crate::faults::{self, Disturbance, Order};
use crate::invariants::Witness;
use crate::net::{Conditions, Nat, Network, Packet};
use crate::node::moves::Handover;
use crate::node::peer::Peer;
use crate::node::{IKE, NATT, Node};
use crate::random::Random;
use crate::report::Report;
use crate::scenario::Scenario;
use crate::tunnel::{config, mode, numbered, policy_name, subnet};

/// After a disturbance ends, tunnels carry traffic again within this: a dead peer is noticed (30 s of silence and 41 s
/// of retransmission), the longest back-off (90 s with jitter) passes, and a negotiation that began in vain is given
/// up (41 s).
const RECOVERY: Duration = Duration::from_secs(300);
/// Where a NAT has forgotten its mappings, what is not repeated does not get to who is behind it until that one is heard again,
/// which takes a liveness check (30 s of silence, and 41 s of retransmission at most).
const NOTICED: Duration = Duration::from_secs(75);
/// Probes arrive within this, or never.
const ARRIVAL: Duration = Duration::from_secs(10);
/// The last part of a history is left in peace, so that both ends can be compared.
const PEACE: Duration = Duration::from_secs(600);

/// What is to happen. Ordered by time, then by when it was scheduled.
#[derive(Debug, PartialEq, Eq, PartialOrd, Ord)]
enum What {
    Arrive(usize, SocketAddr, SocketAddr, Vec<u8>),
    Timer(usize),
    Probe(usize, bool),
    Command,
    HandOver,
    Disturb,
    Calm,
}

/// The inner packet of a probe, and when it was sent.
#[derive(Debug)]
struct Probe {
    tunnel: usize,
    sent: Duration,
    arrived: bool,
    /// Nothing was wrong when it was sent.
    must_arrive: bool,
}

/// A history.
pub struct World {
    scenario: Scenario,
    /// Its time.
    pub clock: Clock,
    chance: Random,
    /// Of handovers alone, so that a seed's history is the same with and without them.
    handovers: Random,
    /// Node 0 is the concentrator.
    pub nodes: Vec<Node>,
    /// The network.
    pub network: Network,
    /// The invariants.
    pub witness: Witness,
    queue: BinaryHeap<Reverse<(Duration, u64, What)>>,
    timers: Vec<Option<Duration>>,
    scheduled: u64,
    events: u64,
    probes: Vec<Probe>,
    disturbed_until: Duration,
    disturbed: bool,
}

impl World {
    /// The history of a seed.
    pub fn new(seed: u64, scenario: Scenario) -> Self {
        let mut chance = Random::new(seed);
        let clock = Clock::default();
        let mut network = Network::new(chance.fork());
        network.conditions = scenario.conditions;
        let hub_ip: IpAddr = Ipv4Addr::new(198, 51, 100, 1).into();
        let mut nodes = vec![Node::new(clock.instant(), 0, hub_ip, chance.fork())];
        let mut behind = Vec::new();
        for tunnel in 0..scenario.branches {
            let private = scenario.nat.is_some() && tunnel % 3 != 2;
            let octet = u8::try_from(tunnel % 250).unwrap_or(0) + 1;
            let ip: IpAddr = if private { [10, 0, 0, octet].into() } else { [203, 0, 113, octet].into() };
            if private {
                behind.push(ip);
            }
            let mut node = Node::new(clock.instant(), tunnel + 1, ip, chance.fork());
            let both = scenario.both_start && !private;
            let hub_starts = both || (!private && tunnel % 4 == 3);
            let branch_starts = both || !hub_starts;
            let path = |local, remote| Path {
                local: SocketAddr::new(local, IKE),
                remote: SocketAddr::new(remote, IKE),
                local_natt: NATT,
                remote_natt: NATT,
            };
            let (now, lifetimes) = (clock.instant(), scenario.lifetimes);
            let hub_path = (!private).then(|| path(hub_ip, ip));
            if let Some(hub) = nodes.first_mut() {
                let config = config(tunnel, true, (hub_ip, ip), &scenario);
                hub.add_peer(Peer::new(now, tunnel, config, hub_path, hub_starts, lifetimes, 1));
            }
            let config = config(tunnel, false, (hub_ip, ip), &scenario);
            node.add_peer(Peer::new(
                now,
                tunnel,
                config,
                Some(path(ip, hub_ip)),
                branch_starts,
                lifetimes,
                1,
            ));
            nodes.push(node);
        }
        if let Some(kind) = scenario.nat {
            network.add_nat(Nat::new(kind, [192, 0, 2, 1].into()), &behind);
        }
        let timers = vec![None; nodes.len()];
        let mut this = Self {
            scenario,
            clock,
            chance,
            handovers: Random::new(!seed),
            nodes,
            network,
            witness: Witness::default(),
            queue: BinaryHeap::new(),
            timers,
            scheduled: 0,
            events: 0,
            probes: Vec::new(),
            disturbed_until: Duration::ZERO,
            disturbed: false,
        };
        this.prepare();
        this
    }

    fn prepare(&mut self) {
        for node in 0..self.nodes.len() {
            self.arm(node);
        }
        for tunnel in 0..self.scenario.branches {
            for from_hub in [true, false] {
                let at = self.chance.time_up_to(self.scenario.probes);
                self.schedule(at, What::Probe(tunnel, from_hub));
            }
        }
        if !self.scenario.commands.is_zero() {
            self.schedule(Duration::from_secs(20), What::Command);
        }
        if !self.scenario.disturbances.is_zero() {
            self.schedule(self.scenario.disturbances / 2, What::Disturb);
        }
        if !self.scenario.handovers.is_zero() {
            self.schedule(self.scenario.handovers, What::HandOver);
        }
    }

    fn schedule(&mut self, at: Duration, what: What) {
        self.scheduled += 1;
        self.queue.push(Reverse((at, self.scheduled, what)));
    }

    /// Runs the history to its end.
    pub fn run(mut self) -> Report {
        let end = self.scenario.length;
        while let Some(Reverse((at, _, what))) = self.queue.pop() {
            if at > end {
                break;
            }
            self.clock.advance_to(at);
            self.witness.at = at;
            self.events += 1;
            self.handle(what);
            if !self.witness.violations.is_empty() {
                // The first one tells; what follows is its consequence.
                break;
            }
        }
        self.conclude()
    }

    fn peaceful(&self) -> bool {
        self.clock.elapsed() + PEACE > self.scenario.length
    }

    fn handle(&mut self, what: What) {
        let now = self.clock.instant();
        self.witness.disturbed = self.disturbed || self.clock.elapsed() < self.disturbed_until + NOTICED;
        match what {
            What::Arrive(node, from, to, bytes) => {
                let Some(n) = self.nodes.get_mut(node) else { return };
                if let Some(delivered) = n.receive(now, Packet { from, to, bytes }, &mut self.witness) {
                    self.delivered(delivered.tunnel, &delivered.inner);
                }
                self.after(node);
            }
            What::Timer(node) => {
                let due = self.timers.get(node).copied().flatten();
                if due.is_some_and(|due| due <= self.clock.elapsed()) {
                    if let Some(slot) = self.timers.get_mut(node) {
                        *slot = None;
                    }
                    if let Some(n) = self.nodes.get_mut(node) {
                        n.handle_timeout(now, &mut self.witness);
                    }
                    self.after(node);
                }
            }
            What::Probe(tunnel, from_hub) => {
                self.probe(tunnel, from_hub);
                let next = self.clock.elapsed() + faults::interval(&mut self.chance, self.scenario.probes);
                self.schedule(next, What::Probe(tunnel, from_hub));
            }
            What::Command => {
                if !self.peaceful() {
                    self.command(now);
                    let next =
                        self.clock.elapsed() + faults::interval(&mut self.chance, self.scenario.commands);
                    self.schedule(next, What::Command);
                }
            }
            What::HandOver => {
                self.hand_over(now);
                let next =
                    self.clock.elapsed() + faults::interval(&mut self.handovers, self.scenario.handovers);
                self.schedule(next, What::HandOver);
            }
            What::Disturb => {
                if !self.peaceful() {
                    self.disturb(now);
                }
            }
            What::Calm => {
                self.network.conditions = self.scenario.conditions;
                self.network.cut_off.clear();
                self.disturbed = false;
                self.disturbed_until = self.clock.elapsed();
                let next =
                    self.clock.elapsed() + faults::interval(&mut self.chance, self.scenario.disturbances);
                self.schedule(next, What::Disturb);
            }
        }
    }

    /// Sends what a node has to send, and arms its timer.
    fn after(&mut self, node: usize) {
        let packets = self.nodes.get_mut(node).map(Node::take_packets).unwrap_or_default();
        for packet in packets {
            for (at, packet) in self.network.send(self.clock.elapsed(), packet) {
                if let Some(to) = self.nodes.iter().position(|n| n.ip == packet.to.ip()) {
                    self.schedule(at, What::Arrive(to, packet.from, packet.to, packet.bytes));
                }
            }
        }
        self.arm(node);
    }

    fn arm(&mut self, node: usize) {
        let Some(at) = self.nodes.get(node).and_then(Node::next_timeout) else { return };
        let at = self.clock.since_start(at).max(self.clock.elapsed());
        if self.timers.get(node).copied().flatten() != Some(at) {
            if let Some(slot) = self.timers.get_mut(node) {
                *slot = Some(at);
            }
            self.schedule(at, What::Timer(node));
        }
    }

    /// Where a tunnel ends: node and index of the peer there.
    fn end(&self, tunnel: usize, hub: bool) -> (usize, usize) {
        if hub { (0, tunnel) } else { (tunnel + 1, 0) }
    }

    /// Where the packets of a policy come from and go to.
    fn sides(&self, tunnel: usize, policy: usize, from_hub: bool) -> (Ipv4Addr, Ipv4Addr) {
        let ip = |hub| self.nodes.get(self.end(tunnel, hub).0).map(|node| node.ip);
        match (ip(from_hub), ip(!from_hub)) {
            (Some(IpAddr::V4(ours)), Some(IpAddr::V4(theirs)))
                if mode(tunnel, policy, theirs.is_private() || ours.is_private(), &self.scenario)
                    == Mode::Transport =>
            {
                (ours, theirs)
            }
            _ => (subnet(tunnel, policy, from_hub).0, subnet(tunnel, policy, !from_hub).0),
        }
    }

    fn probe(&mut self, tunnel: usize, from_hub: bool) {
        let policy = usize::try_from(self.chance.below(u64::try_from(self.scenario.policies).unwrap_or(1)))
            .unwrap_or(0);
        let number = self.probes.len();
        let inner = numbered(self.sides(tunnel, policy, from_hub), number);
        let (node, at) = self.end(tunnel, from_hub);
        let sent = self
            .nodes
            .get_mut(node)
            .is_some_and(|n| n.send_inner(at, &policy_name(policy), &inner, &mut self.witness));
        let now = self.clock.elapsed();
        let calm = !self.disturbed
            && now >= self.disturbed_until + RECOVERY
            && !self.is_forsaken(tunnel, &policy_name(policy));
        if !sent {
            if calm {
                self.witness.violation(format!(
                    "tunnel {tunnel}: no SA to send on though nothing was wrong for {RECOVERY:?}"
                ));
            }
            return;
        }
        // Towards the end of the history there is no time left to arrive.
        let must_arrive = calm && now + ARRIVAL < self.scenario.length;
        self.probes.push(Probe { tunnel, sent: now, arrived: false, must_arrive });
        self.after(node);
    }

    /// Whether one end of a tunnel has a pair for a policy that the other may have deleted without being heard.
    fn is_forsaken(&self, tunnel: usize, policy: &str) -> bool {
        let ends = [true, false].map(|hub| self.end(tunnel, hub));
        let peers = ends.iter().filter_map(|(node, at)| self.nodes.get(*node)?.peers.get(*at));
        let pairs = peers.flat_map(|peer| peer.sas.current());
        pairs.filter(|pair| *pair.2 == *policy).any(|pair| self.witness.is_forsaken(pair.0))
    }

    fn delivered(&mut self, tunnel: usize, inner: &[u8]) {
        let number = inner.get(28..36).and_then(|b| b.try_into().ok()).map(u64::from_be_bytes);
        let probe = number.and_then(|n| usize::try_from(n).ok()).and_then(|n| self.probes.get_mut(n));
        match probe {
            Some(probe) if probe.tunnel == tunnel && !probe.arrived => probe.arrived = true,
            Some(probe) if probe.tunnel == tunnel => {
                self.witness.violation(format!("tunnel {tunnel}: a packet was delivered twice"));
            }
            _ => self.witness.violation(format!("tunnel {tunnel}: a packet of another tunnel came out")),
        }
    }

    fn command(&mut self, now: Instant) {
        let branches = u64::try_from(self.scenario.branches).unwrap_or(1);
        let tunnel = usize::try_from(self.chance.below(branches)).unwrap_or(0);
        let order = faults::order(&mut self.chance, self.scenario.deletes);
        // Often from both sides at once: that is where the trouble is.
        let sides: &[bool] = match self.chance.below(3) {
            0 => &[true],
            1 => &[false],
            _ => &[true, false],
        };
        for &hub in sides {
            let order = if self.chance.chance(1, 4) {
                faults::order(&mut self.chance, self.scenario.deletes)
            } else {
                order
            };
            if matches!(order, Order::DeleteChild | Order::Close) {
                self.disturbed_until = self.clock.elapsed();
                self.excuse_what_is_under_way();
            }
            let (node, at) = self.end(tunnel, hub);
            let Some(n) = self.nodes.get_mut(node) else { continue };
            let pairs: Vec<u32> = n
                .peers
                .get(at)
                .map(|p| p.sas.current().iter().filter(|c| c.3).map(|c| c.0).collect())
                .unwrap_or_default();
            let commands: Vec<Command> = match order {
                Order::RekeyChild => pairs.into_iter().map(Command::RekeyChild).collect(),
                Order::DeleteChild => pairs.into_iter().take(1).map(Command::DeleteChild).collect(),
                Order::RekeyIke => vec![Command::RekeyIke],
                Order::Close => vec![Command::Close],
            };
            for command in commands {
                n.command(now, at, command, &mut self.witness);
            }
            self.after(node);
        }
    }

    /// A node is drained or lost, and another takes its place. Nothing is excused by it.
    fn hand_over(&mut self, now: Instant) {
        let nodes = u64::try_from(self.nodes.len()).unwrap_or(1);
        let node = usize::try_from(self.handovers.below(nodes)).unwrap_or(0);
        let how = match self.handovers.chance(1, 2) {
            _ if self.scenario.careless => Handover::Careless,
            true => Handover::Drained,
            false => Handover::Lost,
        };
        if let Some(node) = self.nodes.get_mut(node) {
            node.hand_over(now, how, &mut self.witness);
        }
        self.arm(node);
    }

    /// Packets on their way when something befalls the world may be lost by it.
    fn excuse_what_is_under_way(&mut self) {
        let now = self.clock.elapsed();
        for probe in self.probes.iter_mut().rev().take_while(|p| p.sent + ARRIVAL > now) {
            probe.must_arrive = false;
        }
    }

    fn disturb(&mut self, now: Instant) {
        self.disturbed = true;
        self.excuse_what_is_under_way();
        let nodes = self.nodes.len();
        let mut length = self.chance.time_up_to(Duration::from_secs(240));
        match faults::disturbance(&mut self.chance, nodes, self.network.nats() > 0) {
            Disturbance::BadNetwork(conditions) => self.network.conditions = Conditions { ..conditions },
            Disturbance::CutOff(node) => self.network.cut_off.extend(self.nodes.get(node).map(|n| n.ip)),
            Disturbance::Restart(node) => {
                if let Some(n) = self.nodes.get_mut(node) {
                    n.restart(now, &mut self.witness);
                }
                self.arm(node);
                length = Duration::ZERO;
            }
            Disturbance::NatReboot => {
                self.network.reboot_nats();
                length = Duration::ZERO;
            }
        }
        self.schedule(self.clock.elapsed() + length, What::Calm);
    }
}
