//! A model of one slot and three nodes, looked at in every order in which things can happen: nodes that are paused between any two steps,
//! messages that arrive late, and what etcd says that is old when it is acted upon.
//!
//! Two things hold in every state. What a connection says outside has a number (its Message ID), and no two nodes say something of their
//! own under one number; what the next owner knows of may still leave the former one late, as it may be late on its way. And no number of ESP is
//! sent twice. Faults that are put in on purpose break them.

use std::collections::{HashSet, VecDeque};

const NODES: usize = 3;
/// Numbers that are reserved at a time.
const BLOCK: u8 = 2;
/// How far the model goes: enough for two take-overs and a standby that is struck out in between.
const MAX_TERM: u8 = 5;
const MAX_SAID: u8 = 2;
const MAX_SENT: u8 = 5;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// What is said does not wait for the standby.
    NotGated,
    /// A standby that has taken over goes on taking what its former owner tells.
    NotOver,
    /// A standby is struck out whatever etcd knows by now.
    Blind,
    /// Whoever takes over goes on with the number after the last that it knows to have been sent, not after the block.
    NotBeyond,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Etcd {
    owner: usize,
    standby: Option<usize>,
    ready: bool,
    term: u8,
    revision: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Told {
    to: usize,
    term: u8,
    gated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Own {
    /// Of what it has read of etcd last.
    revision: u8,
    told: Option<Told>,
    said: u8,
    /// The last number of ESP that it has sent, and that it may send.
    sent: u8,
    reserved: u8,
}

/// Rows on their way to the standby.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Flight {
    told: Told,
    said: u8,
    sent: u8,
    reserved: u8,
    taken: Option<bool>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kept {
    term: u8,
    closed: bool,
    said: u8,
    sent: u8,
    reserved: u8,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Node {
    own: Option<Own>,
    flight: Option<Flight>,
    kept: Option<Kept>,
    over: u8,
    /// It is about to take over, by what it has read of etcd.
    taking: Option<u8>,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct World {
    etcd: Etcd,
    nodes: [Node; NODES],
    /// Who has said what was said outside.
    said: [Option<usize>; MAX_SAID as usize + 1],
    /// Numbers of ESP that were sent.
    sent: u16,
}

type Next = Result<World, &'static str>;

impl World {
    fn begin() -> Self {
        let etcd = Etcd { owner: 0, standby: None, ready: false, term: 1, revision: 1 };
        let mut nodes = [Node::default(); NODES];
        nodes[0].own = Some(Own { revision: 1, told: None, said: 0, sent: 0, reserved: 0 });
        Self { etcd, nodes, said: Default::default(), sent: 0 }
    }

    fn write(&mut self, seen: u8, change: impl FnOnce(&mut Etcd)) -> bool {
        let current = self.etcd.revision == seen;
        if current {
            change(&mut self.etcd);
            self.etcd.revision += 1;
        }
        current
    }

    fn say(mut self, node: usize, number: u8) -> Next {
        let said = &mut self.said[usize::from(number)];
        if said.is_some_and(|by| by != node) {
            return Err("two nodes say something under one number");
        }
        *said = Some(node);
        Ok(self)
    }

    /// Everything that can happen next.
    fn next(&self, fault: Fault) -> Vec<Next> {
        let mut all = Vec::new();
        for at in 0..NODES {
            self.as_owner(at, fault, &mut all);
            self.as_standby(at, fault, &mut all);
        }
        all
    }

    fn as_owner(&self, at: usize, fault: Fault, all: &mut Vec<Next>) {
        let node = self.nodes[at];
        if let Some(flight) = node.flight.filter(|flight| flight.taken.is_none()) {
            let (mut world, to) = (*self, flight.told.to);
            let other = &mut world.nodes[to];
            let known = other.over < flight.told.term;
            let fits = other.kept.is_some_and(|kept| kept.term == flight.told.term && !kept.closed);
            let taken = fits && known || fault == Fault::NotOver && !known;
            if let Some(kept) = other.kept.as_mut().filter(|_| taken) {
                (kept.said, kept.sent, kept.reserved) = (flight.said, flight.sent, flight.reserved);
            }
            world.nodes[at].flight = Some(Flight { taken: Some(taken), ..flight });
            all.push(Ok(world));
        }
        let Some(own) = node.own else { return };
        if let Some(flight) = node.flight.filter(|flight| flight.taken == Some(true)) {
            let mut world = *self;
            world.nodes[at].flight = None;
            world.nodes[at].own = Some(Own { said: flight.said, reserved: flight.reserved, ..own });
            all.push(if flight.said > own.said { world.say(at, flight.said) } else { Ok(world) });
        }
        // A message, or numbers.
        for (said, more) in [(own.said + 1, 0), (own.said, BLOCK)] {
            let reserved = own.reserved + more;
            if node.flight.is_some() || said > MAX_SAID || reserved > MAX_SENT {
                continue;
            }
            let mut world = *self;
            match own.told.filter(|told| told.gated) {
                Some(told) if fault != Fault::NotGated => {
                    let flight = Flight { told, said, sent: own.sent, reserved, taken: None };
                    world.nodes[at].flight = Some(flight);
                    all.push(Ok(world));
                }
                _ => {
                    world.nodes[at].own = Some(Own { said, reserved, ..own });
                    all.push(if said > own.said { world.say(at, said) } else { Ok(world) });
                }
            }
        }
        if own.sent < own.reserved {
            let (mut world, number) = (*self, own.sent + 1);
            world.nodes[at].own = Some(Own { sent: number, ..own });
            let twice = world.sent >> number & 1 == 1;
            world.sent |= 1 << number;
            all.push(if twice { Err("a number of ESP is sent twice") } else { Ok(world) });
        }
        if self.etcd.revision != own.revision {
            // It sees what etcd knows by now.
            let mut world = *self;
            let node = &mut world.nodes[at];
            if self.etcd.owner == at {
                node.own = Some(Own { revision: self.etcd.revision, ..own });
            } else {
                (node.own, node.flight) = (None, None);
            }
            all.push(Ok(world));
        }
        match own.told {
            None if self.etcd.term < MAX_TERM => {
                for to in (0..NODES).filter(|to| *to != at) {
                    let mut world = *self;
                    if world.write(own.revision, |etcd| {
                        (etcd.standby, etcd.ready, etcd.term) = (Some(to), false, etcd.term + 1);
                    }) {
                        let (term, revision) = (world.etcd.term, world.etcd.revision);
                        let told = Some(Told { to, term, gated: false });
                        world.nodes[at].own = Some(Own { told, revision, ..own });
                        all.push(Ok(world));
                    }
                }
            }
            Some(told) if !told.gated => {
                // From here on it is gated, and the standby is told of everything.
                let mut world = *self;
                let other = &mut world.nodes[told.to];
                if other.over < told.term
                    && other.kept.is_none_or(|kept| kept.term < told.term && !kept.closed)
                {
                    let Own { said, sent, reserved, .. } = own;
                    other.kept = Some(Kept { term: told.term, closed: false, said, sent, reserved });
                    world.nodes[at].own = Some(Own { told: Some(Told { gated: true, ..told }), ..own });
                    all.push(Ok(world));
                }
            }
            _ => {}
        }
        if own.told.is_some_and(|told| told.gated) && !self.etcd.ready {
            let mut world = *self;
            if world.write(own.revision, |etcd| etcd.ready = true) {
                world.nodes[at].own = Some(Own { revision: world.etcd.revision, ..own });
                all.push(Ok(world));
            }
        }
        // The standby does not answer, or refuses: it is struck out, and then what waits is said.
        if own.told.is_some() && self.etcd.term < MAX_TERM {
            let mut world = *self;
            let seen = if fault == Fault::Blind { world.etcd.revision } else { own.revision };
            if world.write(seen, |etcd| {
                (etcd.owner, etcd.standby, etcd.ready, etcd.term) = (at, None, false, etcd.term + 1);
            }) {
                let waited = world.nodes[at].flight.take();
                let mut now = Own { told: None, revision: world.etcd.revision, ..own };
                if let Some(flight) = waited {
                    (now.said, now.reserved) = (flight.said, flight.reserved);
                }
                world.nodes[at].own = Some(now);
                all.push(if now.said > own.said { world.say(at, now.said) } else { Ok(world) });
            }
        }
    }

    fn as_standby(&self, at: usize, fault: Fault, all: &mut Vec<Next>) {
        let Node { own, kept: Some(kept), taking, .. } = self.nodes[at] else { return };
        if own.is_some() {
            return;
        }
        match taking {
            None => {
                let of_etcd = self.etcd.standby == Some(at) && self.etcd.ready && self.etcd.term == kept.term;
                if of_etcd && self.etcd.term < MAX_TERM {
                    let mut world = *self;
                    world.nodes[at].kept = Some(Kept { closed: true, ..kept });
                    world.nodes[at].taking = Some(self.etcd.revision);
                    all.push(Ok(world));
                }
            }
            Some(seen) => {
                let mut world = *self;
                let taken = world.write(seen, |etcd| {
                    (etcd.owner, etcd.standby, etcd.ready, etcd.term) = (at, None, false, etcd.term + 1);
                });
                let revision = world.etcd.revision;
                let node = &mut world.nodes[at];
                node.taking = None;
                if taken {
                    let sent = if fault == Fault::NotBeyond { kept.sent } else { kept.reserved };
                    let reserved = kept.reserved;
                    node.own = Some(Own { revision, told: None, said: kept.said, sent, reserved });
                    node.over = kept.term;
                    node.kept = None;
                } else {
                    node.kept = Some(Kept { closed: false, ..kept });
                }
                all.push(Ok(world));
            }
        }
    }
}

/// Looks at all states, and says how many there are or what is wrong with one.
fn look(fault: Fault) -> Result<usize, &'static str> {
    let first = World::begin();
    let (mut seen, mut next) = (HashSet::from([first]), VecDeque::from([first]));
    while let Some(world) = next.pop_front() {
        for world in world.next(fault) {
            let world = world?;
            if seen.insert(world) {
                next.push_back(world);
            }
        }
    }
    Ok(seen.len())
}

#[test]
fn whatever_happens_in_whatever_order_two_never_act_for_one_slot() {
    let states = look(Fault::None).unwrap_or_else(|what| panic!("{what}"));
    assert!(states > 10_000, "{states} states are hardly all");
}

#[test]
fn faults_on_purpose_are_found() {
    assert_eq!(look(Fault::NotGated), Err("two nodes say something under one number"));
    assert_eq!(look(Fault::NotOver), Err("two nodes say something under one number"));
    assert_eq!(look(Fault::Blind), Err("two nodes say something under one number"));
    assert_eq!(look(Fault::NotBeyond), Err("a number of ESP is sent twice"));
}
