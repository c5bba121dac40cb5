//! What two nodes with their supervisors make of messages in every order. Both sides start at once, with up to one message
//! lost: one tunnel remains, in use at both ends, and the end of the other does not touch it. One rekeys and one deletes:
//! a new tunnel comes.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    missing_docs,
    unused_crate_dependencies
)]

use std::collections::VecDeque;
use std::time::Duration;

use ike::{Command, Connection, Resume};
use sim::clock::Clock;
use sim::invariants::Witness;
use sim::net::Packet;
use sim::node::Node;
use sim::{Scenario, World};

/// Messages of two handshakes and what each of them takes back: more are delivered in turn.
const CHOICES: u32 = 8;

struct Crossing {
    nodes: Vec<Node>,
    clock: Clock,
    witness: Witness,
    /// On the way to each of the two.
    wires: [VecDeque<Packet>; 2],
    /// Messages put on a wire so far.
    sent: usize,
    /// The one that is lost.
    lost: Option<usize>,
}

impl Crossing {
    fn new(lost: Option<usize>, both_start: bool) -> Self {
        let mut this = Self::of_seed(7, lost, both_start);
        this.due();
        this
    }

    /// Nothing is sent yet.
    fn of_seed(seed: u64, lost: Option<usize>, both_start: bool) -> Self {
        let scenario = Scenario {
            branches: 1,
            policies: 1,
            both_start,
            nat: None,
            ..Scenario::rekeys(Duration::from_secs(600))
        };
        let world = World::new(seed, scenario);
        let (nodes, clock, witness) = (world.nodes, Clock::default(), world.witness);
        Self { nodes, clock, witness, wires: Default::default(), sent: 0, lost }
    }

    fn command(&mut self, at: usize, command: Command) {
        self.nodes[at].command(self.clock.instant(), 0, command, &mut self.witness);
        self.collect();
    }

    fn collect(&mut self) {
        for at in 0..2 {
            for packet in self.nodes[at].take_packets() {
                if Some(self.sent) != self.lost {
                    self.wires[1 - at].push_back(packet);
                }
                self.sent += 1;
            }
        }
    }

    fn due(&mut self) {
        (0..2).for_each(|at| self.due_of(at));
    }

    fn due_of(&mut self, at: usize) {
        self.nodes[at].handle_timeout(self.clock.instant(), &mut self.witness);
        self.collect();
    }

    /// Delivers the next message for one of the two; false if there is none.
    fn deliver(&mut self, to: usize) -> bool {
        let Some(packet) = self.wires[to].pop_front() else { return false };
        self.nodes[to].receive(self.clock.instant(), packet, &mut self.witness);
        self.collect();
        true
    }

    fn settle(&mut self) {
        for _ in 0..200 {
            if !self.deliver(0) && !self.deliver(1) {
                return;
            }
        }
        panic!("the two never fall silent");
    }

    /// Lets time pass with traffic both ways, as it shows each side what the other has in place.
    fn pass(&mut self, time: Duration) {
        let end = self.clock.elapsed() + time;
        while self.clock.elapsed() < end {
            self.clock.advance_to(self.clock.elapsed() + Duration::from_millis(500));
            self.due();
            self.settle();
            self.probe();
        }
    }

    /// [`Self::traffic`], and what follows from it.
    fn probe(&mut self) -> [bool; 2] {
        let arrived = self.traffic();
        self.settle();
        arrived
    }

    /// Sends a packet each way; which of them came out at the other end.
    fn traffic(&mut self) -> [bool; 2] {
        let mut arrived = [false; 2];
        for (from, arrived) in arrived.iter_mut().enumerate() {
            let inner = sim::tunnel::inner_packet(0, 0, from == 0, 1);
            self.nodes[from].send_inner(0, &sim::tunnel::policy_name(0), &inner, &mut self.witness);
            for packet in self.nodes[from].take_packets() {
                let delivered = self.nodes[1 - from].receive(self.clock.instant(), packet, &mut self.witness);
                *arrived |= delivered.is_some_and(|delivered| delivered.inner == inner);
            }
            self.collect();
        }
        arrived
    }
}

/// Runs one order; returns how many messages it took until both were silent.
fn run(order: u32, lost: Option<usize>) -> usize {
    let mut crossing = Crossing::new(lost, true);
    for at in 0..CHOICES {
        let to = usize::from(order & (1 << at) != 0);
        if !crossing.deliver(to) {
            crossing.deliver(1 - to);
        }
    }
    crossing.settle();
    let messages = crossing.sent;
    crossing.pass(Duration::from_secs(60));
    assert_one_tunnel(&mut crossing, &format!("order {order:08b}, lost {lost:?}"));
    messages
}

fn assert_one_tunnel(crossing: &mut Crossing, case: &str) {
    assert!(crossing.witness.violations.is_empty(), "{case}: {:?}", crossing.witness.violations);
    assert_eq!(crossing.probe(), [true, true], "{case}: both directions carry packets");
    let mut spis = Vec::new();
    for node in &crossing.nodes {
        let peer = &node.peers[0];
        let current = peer.current().unwrap_or_else(|| panic!("{case}: no connection"));
        let connections = peer.conns.values().filter(|conn| !conn.down).count();
        assert_eq!(connections, 1, "{case}: connections");
        let pairs: Vec<u32> =
            peer.sas.pairs.iter().filter(|(_, p)| p.until.is_none()).map(|(spi, _)| *spi).collect();
        assert_eq!(pairs.len(), 1, "{case}: pairs");
        assert_eq!(
            peer.sas.active.values().copied().collect::<Vec<_>>(),
            pairs,
            "{case}: the pair is in use"
        );
        spis.push((peer.conns[&current].core.initiator_spi(), pairs[0], peer.sas.pairs[&pairs[0]].spi_out));
    }
    assert_eq!(spis[0].0, spis[1].0, "{case}: the same IKE_SA");
    assert_eq!((spis[0].1, spis[0].2), (spis[1].2, spis[1].1), "{case}: the same pair");
}

/// A message takes this long, and what is due is looked at as often.
const STEP: Duration = Duration::from_millis(20);

/// Both begin by themselves, one of them later; what arrives before is lost. From when the first tunnel is up, nothing is.
fn staggered(seed: u64, late: usize, by: Duration) {
    let mut crossing = Crossing::of_seed(seed, None, true);
    let case = format!("seed {seed}, node {late} late by {by:?}");
    let mut up = false;
    while crossing.clock.elapsed() < Duration::from_secs(30) {
        crossing.clock.advance_to(crossing.clock.elapsed() + STEP);
        crossing.due_of(1 - late);
        if crossing.clock.elapsed() < by {
            crossing.wires[late].clear();
        } else {
            crossing.due_of(late);
        }
        // One message for each, so that two negotiations go side by side.
        let [first, second] = if seed.is_multiple_of(2) { [0, 1] } else { [1, 0] };
        crossing.deliver(first);
        crossing.deliver(second);
        let arrived = crossing.traffic();
        assert!(
            !up || arrived == [true, true],
            "{case}: lost at {:?}: {arrived:?}",
            crossing.clock.elapsed()
        );
        up |= arrived == [true, true];
    }
    crossing.settle();
    assert_one_tunnel(&mut crossing, &case);
}

#[test]
fn nothing_is_lost_where_one_of_two_starts_late() {
    for seed in 0..4 {
        for late in [0, 1] {
            for step in 0..70 {
                staggered(seed, late, step * STEP);
            }
        }
    }
}

/// Both begin at once, and one message after the other is lost: what both have agreed on last takes over without a loss.
#[test]
fn nothing_is_lost_where_one_message_of_two_negotiations_is() {
    for seed in 0..16 {
        for lost in 0..12 {
            let mut crossing = Crossing::of_seed(seed, Some(lost), true);
            let mut up = false;
            while crossing.clock.elapsed() < Duration::from_secs(20) {
                crossing.due();
                crossing.deliver(0);
                crossing.deliver(1);
                let arrived = crossing.traffic();
                let at = crossing.clock.elapsed();
                assert!(!up || arrived == [true, true], "seed {seed}, {lost} lost, at {at:?}: {arrived:?}");
                up |= arrived == [true, true];
                crossing.clock.advance_to(at + STEP);
            }
            crossing.settle();
            assert_one_tunnel(&mut crossing, &format!("seed {seed}, {lost} lost"));
        }
    }
}

/// A node's first message is lost, the peer comes meanwhile, and then the repeated one is answered: the node says nothing
/// that makes the peer delete the tunnel that is up.
#[test]
fn a_negotiation_that_is_overtaken_takes_nothing_down() {
    for seed in 0..16 {
        let mut crossing = Crossing::of_seed(seed, Some(0), true);
        crossing.due_of(0);
        crossing.due_of(1);
        crossing.settle();
        assert_eq!(crossing.probe(), [true, true], "seed {seed}: the peer's is up");
        while crossing.clock.elapsed() < Duration::from_secs(60) {
            crossing.clock.advance_to(crossing.clock.elapsed() + STEP);
            crossing.due();
            crossing.settle();
            assert_eq!(crossing.probe(), [true, true], "seed {seed}: {:?}", crossing.clock.elapsed());
        }
        assert_one_tunnel(&mut crossing, &format!("seed {seed}"));
    }
}

/// The one that starts the tunnel is the second.
fn rekey_and_delete(rekeys: usize, deletes: usize, order: u32, delay: u32, lost: Option<usize>) {
    let mut crossing = Crossing::new(None, false);
    crossing.settle();
    crossing.pass(Duration::from_secs(5));
    let pairs = |crossing: &Crossing, at: usize| -> Vec<u32> {
        let sas = &crossing.nodes[at].peers[0].sas;
        sas.pairs.iter().filter(|(_, p)| p.until.is_none()).map(|(spi, _)| *spi).collect()
    };
    let old = pairs(&crossing, rekeys);
    crossing.lost = lost.map(|lost| crossing.sent + lost);
    crossing.command(rekeys, Command::RekeyChild(old[0]));
    for at in 0..=CHOICES {
        if at == delay {
            // The newest that it has.
            let newest = pairs(&crossing, deletes).pop();
            newest.into_iter().for_each(|spi| crossing.command(deletes, Command::DeleteChild(spi)));
        }
        let to = usize::from(order & (1 << at) != 0);
        if !crossing.deliver(to) {
            crossing.deliver(1 - to);
        }
    }
    crossing.settle();
    crossing.pass(Duration::from_secs(30));
    let case = format!("{rekeys} rekeys, {deletes} deletes after {delay}, order {order:08b}, lost {lost:?}");
    assert_one_tunnel(&mut crossing, &case);
}

#[test]
fn every_order_of_a_rekeying_and_a_delete_with_any_one_message_lost_ends_with_a_tunnel() {
    for (rekeys, deletes) in [(0, 0), (0, 1), (1, 0), (1, 1)] {
        for delay in 0..6 {
            for order in 0..1 << 6 {
                for lost in [None, Some(0), Some(1), Some(2), Some(3), Some(4), Some(5)] {
                    rekey_and_delete(rekeys, deletes, order, delay, lost);
                }
            }
        }
    }
}

#[test]
fn every_order_of_two_negotiations_leaves_one_tunnel() {
    for order in 0..1 << CHOICES {
        run(order, None);
    }
}

#[test]
fn every_order_with_any_one_message_lost_leaves_one_tunnel() {
    for order in 0..1 << CHOICES {
        let messages = run(order, None);
        for lost in 0..messages {
            run(order, Some(lost));
        }
    }
}

/// Two nodes take themselves for the owner of a connection. The second to send uses no IV of the first if it has begun beyond it.
#[test]
fn an_iv_that_is_used_twice_is_noticed() {
    for (resume, noticed) in [(Resume::Exactly, true), (Resume::Beyond, false)] {
        let mut crossing = Crossing::new(None, false);
        crossing.settle();
        let now = crossing.clock.instant();
        let peer = &crossing.nodes[0].peers[0];
        let id = peer.current().unwrap();
        let snapshot = peer.conns[&id].core.snapshot(now).unwrap();
        let second = Connection::restore(&snapshot, now, resume, peer.config.clone()).unwrap();
        crossing.command(0, Command::RekeyIke);
        crossing.nodes[0].peers[0].conns.get_mut(&id).unwrap().core = second;
        crossing.command(0, Command::Probe);
        let violations = &crossing.witness.violations;
        assert_eq!(violations.iter().any(|what| what.contains("IV 1 of IKE")), noticed, "{violations:?}");
    }
}
