//! A model of one slot and three nodes, looked at in every order in which things can happen: nodes that are paused between any two steps,
//! messages that arrive late or of which nobody hears whether they arrived, what etcd says that is old when it is acted upon, and what etcd is asked
//! for and makes later, or never.
//!
//! Two things hold in every state. What a connection says outside has a number (its Message ID), and no two nodes say something of their
//! own under one number; what the next owner knows of may still leave the former one late, as it may be late on its way. And no number of ESP is
//! sent twice. A third: what waits for a standby that could take over leaves by what the two of them do, whatever etcd does not. Faults that are put in
//! on purpose break them.

use std::collections::{HashSet, VecDeque};

const NODES: usize = 3;
/// Numbers that are reserved at a time.
const BLOCK: u8 = 1;
/// How far the model goes.
const MAX_SAID: u8 = 2;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Fault {
    None,
    /// What is said does not wait for the standby.
    NotGated,
    /// A standby that has taken over goes on taking what its former owner tells.
    NotOver,
    /// A standby is struck out whatever etcd knows by now.
    Blind,
    /// A standby counts as struck out as soon as etcd is asked for it.
    Asked,
    /// What an owner has given up and told again is taken when it comes late.
    Late,
    /// A standby takes nothing more as soon as it has asked etcd for the slot.
    Closed,
    /// It goes on with what it had when it asked for it.
    Stale,
    /// Whoever takes over goes on with the number after the last that it knows to have been sent, not after the block.
    NotBeyond,
}

/// What is looked at: all of it at once has more states than there is time for.
#[derive(Clone, Copy, Debug)]
struct Scope {
    fault: Fault,
    nodes: usize,
    /// The last one that is begun.
    terms: u8,
    /// The last number of ESP.
    sent: u8,
    /// What was given up may arrive later.
    late: bool,
}

/// Two take-overs, and a standby that is struck out in between.
const OF_TWO: Scope = Scope { fault: Fault::None, nodes: 2, terms: 5, sent: 1, late: true };
/// A standby that is struck out, another one that takes over.
const OF_THREE: Scope = Scope { nodes: 3, terms: 4, sent: 2, late: false, ..OF_TWO };

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Etcd {
    owner: usize,
    standby: Option<usize>,
    ready: bool,
    term: u8,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Told {
    to: usize,
    term: u8,
    gated: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Own {
    /// What it has read of etcd last is so still.
    current: bool,
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
    /// Something was told again since, and has arrived.
    outdone: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Kept {
    term: u8,
    /// Etcd was asked for the slot, and what is in it is as it was then: of faults.
    closed: bool,
    said: u8,
    sent: u8,
    reserved: u8,
}

/// What etcd was asked for, and may make as long as nobody has written the slot since. Whoever asked may not wait for it any more.
#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Asked {
    strike: bool,
    ready: bool,
    take: bool,
}

#[derive(Clone, Copy, Default, PartialEq, Eq, Hash)]
struct Node {
    own: Option<Own>,
    /// What waits until the standby has it: a number that is to be said, and the numbers of ESP that are to be reserved.
    waits: Option<(u8, u8)>,
    /// On its way to the standby, or how it was answered.
    flight: Option<Flight>,
    answer: Option<bool>,
    /// What was given up, and may arrive after what was told again.
    late: Option<Flight>,
    kept: Option<Kept>,
    over: u8,
    asked: Asked,
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
        let etcd = Etcd { owner: 0, standby: None, ready: false, term: 1 };
        let mut nodes = [Node::default(); NODES];
        nodes[0].own = Some(Own { current: true, told: None, said: 0, sent: 0, reserved: 0 });
        Self { etcd, nodes, said: Default::default(), sent: 0 }
    }

    fn write(&mut self, change: impl FnOnce(&mut Etcd)) {
        change(&mut self.etcd);
        for node in &mut self.nodes {
            // What compares with what was before is refused from now on.
            node.asked = Asked::default();
            node.own = node.own.map(|own| Own { current: false, ..own });
        }
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
    fn next(&self, scope: Scope) -> Vec<Next> {
        let mut all = Vec::new();
        for at in 0..scope.nodes {
            if self.stands_still(at, scope) {
                all.push(Err("what waits stands still until etcd says something"));
            }
            self.arrive(at, scope, &mut all);
            self.as_owner(at, scope, &mut all);
            self.as_standby(at, scope, &mut all);
            self.as_etcd(at, scope, &mut all);
        }
        all
    }

    /// Whether rows are taken by whom they are for.
    fn takes(&self, flight: &Flight, scope: Scope) -> bool {
        let other = &self.nodes[flight.told.to];
        let known = other.over < flight.told.term;
        let closed = scope.fault == Fault::Closed && other.asked.take;
        let fits = other.kept.is_some_and(|kept| kept.term == flight.told.term) && !closed;
        let outdone = flight.outdone && scope.fault != Fault::Late;
        (fits && known && !outdone) || (scope.fault == Fault::NotOver && !known)
    }

    /// Whether what waits would wait though its standby is there, and could be told again.
    fn stands_still(&self, at: usize, scope: Scope) -> bool {
        let node = &self.nodes[at];
        let told = node.own.and_then(|own| own.told).filter(|told| told.gated);
        let Some((told, (said, reserved))) = told.zip(node.waits) else { return false };
        let flight = Flight { told, said, sent: 0, reserved, outdone: false };
        self.etcd.owner == at && self.etcd.term == told.term && !self.takes(&flight, scope)
    }

    /// Rows of a node come to its standby.
    fn arrive(&self, at: usize, scope: Scope, all: &mut Vec<Next>) {
        let node = self.nodes[at];
        for (flight, is_late) in [(node.flight.filter(|_| node.answer.is_none()), false), (node.late, true)] {
            let Some(flight) = flight else { continue };
            let taken = self.takes(&flight, scope);
            let mut world = *self;
            if let Some(kept) = world.nodes[flight.told.to].kept.as_mut().filter(|kept| taken && !kept.closed)
            {
                (kept.said, kept.sent, kept.reserved) = (flight.said, flight.sent, flight.reserved);
            }
            let node = &mut world.nodes[at];
            if is_late {
                node.late = None;
            } else {
                node.answer = Some(taken);
                node.late = node.late.map(|late| Flight { outdone: true, ..late });
            }
            all.push(Ok(world));
        }
    }

    /// What waits leaves.
    fn release(mut self, at: usize) -> Next {
        let node = &mut self.nodes[at];
        let (waits, before) = (node.waits.take(), node.own);
        (node.flight, node.answer) = (None, None);
        let Some(((said, reserved), own)) = waits.zip(before) else { return Ok(self) };
        node.own = Some(Own { said, reserved, ..own });
        if said > own.said { self.say(at, said) } else { Ok(self) }
    }

    fn as_owner(&self, at: usize, scope: Scope, all: &mut Vec<Next>) {
        let node = self.nodes[at];
        let Some(own) = node.own else { return };
        if node.answer == Some(true) {
            all.push(self.release(at));
        }
        if let Some(flight) = node.flight {
            // It is given up: refused, or its answer has not come in time, or it has not arrived yet.
            let mut world = *self;
            let node = &mut world.nodes[at];
            if node.answer.is_none() && scope.late {
                node.late = Some(flight);
            }
            (node.flight, node.answer) = (None, None);
            all.push(Ok(world));
        }
        let gated = own.told.filter(|told| told.gated && scope.fault != Fault::NotGated);
        if let Some((told, (said, reserved))) = gated.zip(node.waits).filter(|_| node.flight.is_none()) {
            let mut world = *self;
            world.nodes[at].flight = Some(Flight { told, said, sent: own.sent, reserved, outdone: false });
            all.push(Ok(world));
        }
        // A message, or numbers.
        for (said, more) in [(own.said + 1, 0), (own.said, BLOCK)] {
            let reserved = own.reserved + more;
            if node.waits.is_some() || said > MAX_SAID || reserved > scope.sent {
                continue;
            }
            let mut world = *self;
            world.nodes[at].waits = Some((said, reserved));
            all.push(if gated.is_some() { Ok(world) } else { world.release(at) });
        }
        if own.sent < own.reserved {
            let (mut world, number) = (*self, own.sent + 1);
            world.nodes[at].own = Some(Own { sent: number, ..own });
            let twice = world.sent >> number & 1 == 1;
            world.sent |= 1 << number;
            all.push(if twice { Err("a number of ESP is sent twice") } else { Ok(world) });
        }
        if !own.current {
            // It sees what etcd knows by now.
            let mut world = *self;
            let node = &mut world.nodes[at];
            if self.etcd.owner == at {
                // The term that somebody was told in may be over: then nobody takes over by it.
                let told = own.told.filter(|told| told.term >= self.etcd.term);
                node.own = Some(Own { current: true, told, ..own });
                let over = told.is_none();
                all.push(if over { world.release(at) } else { Ok(world) });
            } else {
                (node.own, node.waits, node.flight, node.answer) = (None, None, None, None);
                all.push(Ok(world));
            }
        }
        match own.told {
            None if own.current && self.etcd.term < scope.terms => {
                for to in (0..scope.nodes).filter(|to| *to != at) {
                    let mut world = *self;
                    world.write(|etcd| {
                        (etcd.standby, etcd.ready, etcd.term) = (Some(to), false, etcd.term + 1);
                    });
                    let told = Some(Told { to, term: world.etcd.term, gated: false });
                    world.nodes[at].own = Some(Own { told, ..own });
                    all.push(Ok(world));
                }
            }
            Some(told) if !told.gated => {
                // From here on it is gated, and the standby is told of everything.
                let mut world = *self;
                let other = &mut world.nodes[told.to];
                if other.over < told.term && other.kept.is_none_or(|kept| kept.term < told.term) {
                    let Own { said, sent, reserved, .. } = own;
                    other.kept = Some(Kept { term: told.term, closed: false, said, sent, reserved });
                    world.nodes[at].own = Some(Own { told: Some(Told { gated: true, ..told }), ..own });
                    all.push(Ok(world));
                }
            }
            _ => {}
        }
        // Etcd is asked, whatever the standby answers by then; it is a question to which the answer may never come.
        let asks = own.current || scope.fault == Fault::Blind;
        if own.told.is_some_and(|told| told.gated) && asks && !self.etcd.ready && !node.asked.ready {
            let mut world = *self;
            world.nodes[at].asked.ready = true;
            all.push(Ok(world));
        }
        if own.told.is_some() && asks && self.etcd.term < scope.terms && !node.asked.strike {
            let mut world = *self;
            world.nodes[at].asked.strike = true;
            all.push(if scope.fault == Fault::Asked { world.release(at) } else { Ok(world) });
        }
    }

    fn as_standby(&self, at: usize, scope: Scope, all: &mut Vec<Next>) {
        let Node { own: None, kept: Some(kept), asked, .. } = self.nodes[at] else { return };
        let of_etcd = self.etcd.standby == Some(at) && self.etcd.ready && self.etcd.term == kept.term;
        if of_etcd && !asked.take && self.etcd.term < scope.terms {
            let mut world = *self;
            world.nodes[at].asked.take = true;
            world.nodes[at].kept = Some(Kept { closed: scope.fault == Fault::Stale, ..kept });
            all.push(Ok(world));
        }
        // It hears that this was made, by an answer or later.
        if self.etcd.owner == at && self.etcd.term == kept.term + 1 {
            let mut world = *self;
            let node = &mut world.nodes[at];
            let sent = if scope.fault == Fault::NotBeyond { kept.sent } else { kept.reserved };
            let Kept { said, reserved, .. } = kept;
            node.own = Some(Own { current: true, told: None, said, sent, reserved });
            node.over = kept.term;
            node.kept = None;
            all.push(Ok(world));
        }
    }

    /// Etcd makes what it was asked for, and nobody has heard of it yet.
    fn as_etcd(&self, at: usize, scope: Scope, all: &mut Vec<Next>) {
        let Asked { strike, ready, take } = self.nodes[at].asked;
        let mut make = |asked: bool, change: &dyn Fn(&mut Etcd)| {
            let mut world = *self;
            if asked {
                world.write(change);
                all.push(Ok(world));
            }
        };
        make(ready, &|etcd| etcd.ready = true);
        make(strike, &|etcd| {
            let owner = if scope.fault == Fault::Blind { at } else { etcd.owner };
            (etcd.owner, etcd.standby, etcd.ready, etcd.term) = (owner, None, false, etcd.term + 1);
        });
        make(take, &|etcd| {
            (etcd.owner, etcd.standby, etcd.ready, etcd.term) = (at, None, false, etcd.term + 1);
        });
    }
}

/// Looks at all states, and says how many there are or what is wrong with one.
fn look(scope: Scope) -> Result<usize, &'static str> {
    let first = World::begin();
    let (mut seen, mut next) = (HashSet::from([first]), VecDeque::from([first]));
    while let Some(world) = next.pop_front() {
        for world in world.next(scope) {
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
    for scope in [OF_TWO, OF_THREE] {
        let states = look(scope).unwrap_or_else(|what| panic!("{what}"));
        assert!(states > 10_000, "{states} states are hardly all");
    }
}

#[test]
fn faults_on_purpose_are_found() {
    for fault in [Fault::NotGated, Fault::NotOver, Fault::Blind, Fault::Asked, Fault::Late, Fault::Stale] {
        let found = look(Scope { fault, ..OF_TWO });
        assert_eq!(found, Err("two nodes say something under one number"), "{fault:?}");
    }
    let of = |fault| look(Scope { fault, ..OF_TWO });
    assert_eq!(of(Fault::NotBeyond), Err("a number of ESP is sent twice"));
    assert_eq!(of(Fault::Closed), Err("what waits stands still until etcd says something"));
}
