//! IKEv1 (RFC 2407, 2408, 2409): a connection with one peer, that is its ISAKMP SAs, here called IKE_SAs as everywhere, and
//! the Child SAs. `v2` has the same file names for the same concepts.
//!
//! The two differ in one thing above all: the pairs do not hang on the IKE_SA that made them. It may end first, and is made
//! anew when it is next needed; and the peer makes a new one by starting phase 1 again, which arrives as a stranger's does and
//! joins the connection once it is known whose it is ([`Connection::absorb`]).
//!
//! [`Connection`] is sans-IO, and reached by [`crate::Connection`] alone. Where to find what:
//!
//! | file | what |
//! |---|---|
//! | `initiator.rs`, `responder.rs` | phase 1, from either side |
//! | `first.rs`, `respond_main.rs`, `respond_aggressive.rs` | its first message as it is answered, and what then comes in either mode |
//! | `initiate_aggressive.rs` | aggressive mode, begun |
//! | `handshake.rs`, `announced.rs` | what both sides of phase 1 have in common, and vendor IDs |
//! | `answer_child.rs`, `request_child.rs` | quick mode: answered, requested |
//! | `match_child.rs` | which policy a request is for, and what of its offer is taken |
//! | `rekey_ike.rs` | a phase 1 that takes another's place |
//! | `accept.rs` | whether an answer is one to what was asked |
//! | `asked.rs` | rekeyings that the host waits for |
//! | `crossed.rs` | which pair of a policy is sent by, also where both sides made one |
//! | `parts.rs` | policies of several pairs of subnets, for which there is a pair of SAs each |
//! | `informational.rs` | notifies, deletes |
//! | `liveness.rs` | dead peer detection (RFC 3706) |
//! | `tasks.rs`, `timers.rs` | what waits to be done, and everything with a time |
//! | `receive.rs`, `send.rs` | from a datagram to its exchange, and back |
//! | `exchange.rs` | what is sent again, and what is known to have come before |
//! | `fragment.rs` | the fragments of other vendors |
//! | `nat.rs` | NAT detection (RFC 3947 and its drafts) |
//! | `lifetime.rs` | what both sides say of how long an SA lasts |
//! | `told.rs` | identities and subnets in words |
//! | `wire/`, `keys.rs`, `offer.rs` | messages, the key schedule, proposals by their numbers |
//! | `forge.rs` | what a hostile peer sends, for the fuzz targets |
//! | `hooks.rs` | what a hostile peer that has the keys needs, for tests |
//! | `snapshot.rs` | all of it on its way to another node |
//! | `view.rs`, `invariants.rs`, `key_log.rs` | how it stands, what must hold of it, its keys for who must see them |

mod accept;
mod announced;
mod answer_child;
mod asked;
mod child;
mod crossed;
mod exchange;
mod first;
#[cfg(feature = "test-hooks")]
pub mod forge;
mod fragment;
mod handshake;
#[cfg(feature = "test-hooks")]
mod hooks;
mod ike_sa;
mod informational;
mod initiate_aggressive;
mod initiator;
mod invariants;
mod key_log;
mod keys;
mod lifetime;
mod liveness;
mod match_child;
mod nat;
mod offer;
mod parts;
mod receive;
mod rekey_ike;
mod request_child;
mod respond_aggressive;
mod respond_main;
mod responder;
mod send;
mod snapshot;
mod tasks;
mod timers;
mod told;
mod view;
pub(crate) mod wire;

#[cfg(test)]
mod captures;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::asked::Rekeyings;
use crate::config::PeerConfig;
use crate::coverage::Gap;
use crate::event::{ChildEnd, CloseReason, Datagram, Event, Nat, Transmit};
use crate::failure::Failure;
use crate::fruit::Fruit;
use crate::host::Host;
use crate::proposal::IkeProposal;
use crate::silence::Silence;
use crate::verbs::{Command, Counters, MAX_CHILDREN, Path};

use child::Child;
use exchange::{Quick, Step};
use fragment::Reassembly;
use handshake::Handshake;
use ike_sa::IkeSa;
use tasks::{Queued, Task};

pub(crate) use snapshot::ConnectionForm;

/// How long a replaced IKE_SA stays: what the peer had under way on it still arrives. Who made the new one deletes it then.
const REPLACED_IKE: Duration = Duration::from_secs(10);
/// IKE_SAs of one connection. A peer that deletes what it has replaced leaves two; one that does not, and crosses ours, leaves
/// one more each time.
const MAX_IKE_SAS: usize = 16;
/// Quick modes that are under way or just over: all pairs that there may be, made and renewed within a minute, for as long are those kept
/// that are over, as their last message may have been lost. Beyond it the oldest of those goes.
const MAX_QUICK: usize = 2 * MAX_CHILDREN;

/// How far the connection is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// Nobody is authenticated yet.
    Handshake,
    /// Somebody is. There need not be an IKE_SA at this moment.
    Up,
    /// Over.
    Finished,
}

/// A connection with a peer.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Connection {
    config: Option<Arc<PeerConfig>>,
    path: Path,
    /// Messages go over the NAT traversal port.
    floated: bool,
    /// We have made the peer find a NAT, or will.
    forced: bool,
    nat: Nat,
    /// What both sides do for NAT traversal, if anything.
    natt: Option<nat::Natt>,
    initiator: bool,
    phase: Phase,
    /// Phase 1 under way, ours or the peer's.
    handshake: Option<Box<Handshake>>,
    /// Oldest first; new exchanges go on the newest that is not replaced. Boxed, for there is one as a rule.
    #[allow(clippy::vec_box)]
    sas: Vec<Box<IkeSa>>,
    quick: Vec<Quick>,
    children: Vec<Child>,
    /// Policies for which the peer refuses a pair of its subnets, with what it was.
    gaps: Vec<Gap>,
    gaps_changed: bool,
    /// Since when that is so.
    gaps_since: Option<Instant>,
    tasks: VecDeque<Queued>,
    /// Rekeyings that the host waits for.
    asked: Rekeyings,
    fruit: Fruit,
    /// The peer has said that it has nothing else with us.
    initial_contact: bool,
    /// Whoever it is that begins had a connection then. One that came up meanwhile is none that the peer has lost.
    met: bool,
    began: Instant,
    silence: Silence,
    /// The question that waits for its answer.
    probe: Option<liveness::Probe>,
    keepalive: Option<Instant>,
    /// The first message is sent once, and not again.
    once: bool,
    /// Phase 1 that renews another was refused so often in a row.
    reopen_failures: u32,
    reassembly: Option<Box<Reassembly>>,
    /// The way the message came that is being handled, if it is not the one that ours take. Boxed, for it is rare.
    detour: Option<Box<send::Way>>,
    /// What was computed for the message just handled, in the units of [`crate::reception::Budget`].
    spent: u32,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
    /// Refuses every quick mode, for tests of the other side.
    #[cfg(feature = "test-hooks")]
    refuses: bool,
}

impl Connection {
    fn new(path: Path, initiator: bool, now: Instant) -> Self {
        Self {
            config: None,
            path,
            floated: false,
            forced: false,
            nat: Nat::default(),
            initiator,
            phase: Phase::Handshake,
            handshake: None,
            natt: None,
            sas: Vec::new(),
            quick: Vec::new(),
            children: Vec::new(),
            gaps: Vec::new(),
            gaps_changed: false,
            gaps_since: None,
            tasks: VecDeque::new(),
            asked: Rekeyings::default(),
            fruit: Fruit::None(None),
            initial_contact: false,
            met: false,
            began: now,
            silence: Silence::new(now),
            probe: None,
            keepalive: None,
            once: false,
            reopen_failures: 0,
            reassembly: None,
            detour: None,
            spent: 0,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
            #[cfg(feature = "test-hooks")]
            refuses: false,
        }
    }

    /// The next datagram to send.
    pub(crate) fn poll_transmit(&mut self) -> Option<Transmit> {
        crate::verbs::take(&mut self.transmits)
    }

    /// The next event.
    pub(crate) fn poll_event(&mut self) -> Option<Event> {
        crate::verbs::take(&mut self.events)
    }

    /// When [`Self::handle_timeout`] wants to be called.
    pub(crate) fn poll_timeout(&self) -> Option<Instant> {
        self.next_timeout()
    }

    /// Carries out a command of the host.
    pub(crate) fn handle_command(&mut self, now: Instant, host: &mut dyn Host, command: Command) {
        if self.phase == Phase::Finished {
            return;
        }
        match command {
            Command::CreateChild(name) => self.queue_create(&name, now),
            Command::RekeyChild(spi) => self.ask_rekey(spi, now),
            Command::DeleteChild(spi) => self.delete_child(now, host, spi, ChildEnd::Deleted),
            Command::ExpireChild(spi) => self.delete_child(now, host, spi, ChildEnd::Expired),
            Command::RekeyIke => self.renewal_due(now),
            Command::Close => self.close(host, CloseReason::Local),
            Command::Abandon => self.down(CloseReason::Failed(Failure::Replaced)),
            Command::InboundSeen(spi) => self.inbound_seen(now, spi),
            Command::Heard(at) => self.heard(now, at),
            Command::Probe => drop(self.queue(Task::Liveness, now)),
            Command::Once => self.send_first_once(),
            Command::RemoteMoved(remote) => self.moved(remote),
        }
        self.settle(now, host);
    }

    /// Takes in a datagram for this connection. What cannot be authenticated changes nothing.
    pub(crate) fn handle_datagram(&mut self, now: Instant, host: &mut dyn Host, datagram: Datagram<'_>) {
        let way = (datagram.local, datagram.remote, datagram.natt);
        self.detour = (way != self.way()).then(|| Box::new(way));
        let before = self.counters;
        self.receive(now, host, datagram);
        self.counters.settle(before);
        self.detour = None;
        self.settle(now, host);
    }

    /// Does what is due.
    pub(crate) fn handle_timeout(&mut self, now: Instant, host: &mut dyn Host) {
        self.run_timers(now, host);
        self.settle(now, host);
    }

    /// Starts what can be started, and tells what has changed by all that was done.
    fn settle(&mut self, now: Instant, host: &mut dyn Host) {
        self.retire_full(now, host);
        self.run_tasks(now, host);
        self.tell_gaps(now);
        self.assert_invariants();
    }

    /// The IKE_SA that carries new exchanges.
    fn current_sa(&self) -> Option<&IkeSa> {
        self.sas.iter().rev().find(|sa| sa.replaced.is_none()).map(Box::as_ref)
    }

    /// The IKE_SA to tell something by that nobody answers: also one that is being replaced.
    fn telling_sa(&self) -> Option<&IkeSa> {
        self.current_sa().or_else(|| self.sas.last().map(Box::as_ref))
    }

    fn sa(&self, spi: u64) -> Option<&IkeSa> {
        self.sas.iter().find(|sa| sa.spi_local == spi).map(Box::as_ref)
    }

    fn sa_mut(&mut self, spi: u64) -> Option<&mut IkeSa> {
        self.sas.iter_mut().find(|sa| sa.spi_local == spi).map(Box::as_mut)
    }

    /// What IKE proposals the peer may use.
    fn proposals(&self) -> &[IkeProposal] {
        self.config.as_ref().map_or(&[], |c| &c.ike_proposals)
    }

    /// The connection is over: removes everything and reports why. There is nothing that the peer could ask again.
    fn down(&mut self, reason: CloseReason) {
        if self.phase == Phase::Finished {
            return;
        }
        self.drop_handshake();
        for quick in std::mem::take(&mut self.quick) {
            self.release_quick(quick);
        }
        self.remove_all_children(ChildEnd::IkeClosed);
        for spi in self.sas.iter().map(|sa| sa.spi_local).collect::<Vec<_>>() {
            self.drop_sa(self.began, spi);
        }
        self.tasks = VecDeque::new();
        self.asked = Rekeyings::default();
        self.keepalive = None;
        self.probe = None;
        self.reassembly = None;
        self.phase = Phase::Finished;
        self.events.push_back(Event::Down(reason));
        self.events.push_back(Event::Finished);
    }

    fn failed(&mut self, failure: Failure) {
        self.down(CloseReason::Failed(failure));
    }

    /// Phase 1 is given up.
    fn drop_handshake(&mut self) {
        if let Some(handshake) = self.handshake.take() {
            self.events.push_back(Event::IkeSpiRemoved(handshake.spi_local));
        }
    }

    /// Drops an IKE_SA at once, and the quick modes on it: what we have asked for is asked for again on another, and what the
    /// peer has asked for is there if it uses it.
    fn drop_sa(&mut self, now: Instant, spi: u64) {
        let (gone, left): (Vec<_>, Vec<_>) =
            std::mem::take(&mut self.quick).into_iter().partition(|quick| quick.ike == spi);
        self.quick = left;
        let proof = now + self.policy_of_repeats().budget();
        for quick in gone {
            if let Step::Answered(answered) = &quick.step {
                self.child_mut(answered.spi_in).into_iter().for_each(|child| child.has_to_show_itself(proof));
            }
            self.ask_again(now, quick);
        }
        let before = self.sas.len();
        self.sas.retain(|sa| sa.spi_local != spi);
        if self.sas.len() < before {
            self.events.push_back(Event::IkeSpiRemoved(spi));
        }
        // There is nothing to ask by any more.
        if self.current_sa().is_none() {
            self.probe = None;
            // It was put off while there was one to go on by.
            self.hurry(&Task::RekeyIke, now);
        }
    }

    /// What was computed for its peer since that was last asked.
    pub(crate) const fn spent(&self) -> u32 {
        self.spent
    }

    /// The same, which begins anew.
    pub(crate) fn take_spent(&mut self) -> u32 {
        std::mem::take(&mut self.spent)
    }
}
