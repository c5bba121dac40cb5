//! IKEv2 (RFC 7296): a connection with one peer, that is the IKE_SA in use, those it replaces or is replaced by, and the
//! Child SAs. `v1` has the same file names for the same concepts.
//!
//! [`Connection`] is sans-IO, and reached by [`crate::Connection`] alone. Where to find what:
//!
//! | file | what |
//! |---|---|
//! | `initiator.rs`, `authenticate.rs` | IKE_SA_INIT and IKE_AUTH, begun |
//! | `responder.rs` | both, answered |
//! | `answer_child.rs`, `request_child.rs` | CREATE_CHILD_SA for Child SAs: answered, requested |
//! | `rekey_ike.rs` | CREATE_CHILD_SA for the IKE_SA, both sides, and its collisions |
//! | `accept.rs` | whether an answer is one to what was asked |
//! | `closing.rs` | the end that is ours |
//! | `asked.rs` | rekeyings that the host waits for |
//! | `mode.rs` | transport mode |
//! | `nat.rs`, `moved.rs` | who is behind a NAT; a peer that sends from elsewhere |
//! | `parts.rs` | policies whose selectors the peer narrows |
//! | `resources.rs` | further pairs of a policy, one for each processor |
//! | `mend.rs` | what IKE_SA_INIT decided wrongly, as nobody knew yet who asked |
//! | `informational.rs` | deletes and liveness |
//! | `tasks.rs` | what waits to be done, timers |
//! | `receive.rs`, `send.rs` | from a datagram to its exchange, and back |
//! | `exchange.rs`, `window.rs` | Message IDs, retransmission; what may be under way together |
//! | `sync.rs` | Message IDs and numbers of ESP that a peer sets anew which is a cluster |
//! | `snapshot.rs` | all of it on its way to another node |
//! | `view.rs`, `invariants.rs`, `key_log.rs` | how it stands, what must hold of it, its keys for who must see them |

mod accept;
mod answer_child;
mod asked;
mod authenticate;
mod child;
mod closing;
mod exchange;
mod fragment;
mod fruit;
mod ike_sa;
mod informational;
mod initiator;
mod invariants;
mod key_log;
mod mend;
mod mode;
mod moved;
mod nat;
mod parts;
mod proof;
mod receive;
mod rekey_ike;
mod request;
mod request_child;
mod resources;
mod responder;
mod send;
mod snapshot;
mod sync;
mod tasks;
mod view;
mod window;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use crate::asked::Rekeyings;
use crate::config::{ChildConfig, PeerConfig, Retransmit};
use crate::coverage::Gap;
use crate::event::{ChildEnd, CloseReason, Datagram, Event, Nat, Transmit};
use crate::failure::Failure;
use crate::fruit::Fruit;
use crate::host::Host;
use crate::proposal::IkeProposal;
use crate::silence::Silence;
use crate::verbs::{Command, Counters, LINGER_IKE, Path};

use child::Child;
use ike_sa::IkeSa;
use request::Request;
use tasks::{Queued, Task};

pub(crate) use responder::refuse;
pub(crate) use snapshot::ConnectionForm;

/// How long a replaced IKE_SA waits for the delete its replacer owes, before it is dropped without.
const REPLACED_IKE: Duration = Duration::from_secs(90);
/// How long a replaced Child SA waits for the delete that the peer owes, before we delete it: longer than any known peer sends
/// a request again that it has no answer to, for until then it may not have the new one.
const REPLACED_CHILD: Duration = Duration::from_secs(180);
/// The same for the redundant one of two that were made at the same time, which never carries a packet.
const REDUNDANT_CHILD: Duration = Duration::from_secs(10);
/// Retransmissions of a request that deletes the IKE_SA.
const DELETE_TRIES: u32 = 2;
/// IKE_SAs of one connection, those being replaced and those that are only remembered included. A peer that deletes
/// what it has rekeyed leaves two or three.
const MAX_IKE_SAS: usize = 16;

/// How far the connection is.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
enum Phase {
    /// Initiator: IKE_SA_INIT is under way.
    InitSent(Box<initiator::InitSent>),
    /// Initiator: IKE_AUTH is under way.
    AuthSent(Box<authenticate::AuthSent>),
    /// Responder: waiting for IKE_AUTH.
    AwaitAuth(Box<responder::AwaitAuth>),
    /// Authenticated.
    Up,
    /// Down; retransmissions are answered until then.
    Lingering(Instant),
    /// Over.
    Finished,
}

/// A connection with a peer. Create it with [`Connection::initiate`] or [`Connection::respond`]; then, after each
/// `handle_*` call, drain [`Self::poll_event`] and carry every event out, then drain [`Self::poll_transmit`] and send,
/// then ask [`Self::poll_timeout`] when to call [`Self::handle_timeout`].
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Connection {
    config: Option<Arc<PeerConfig>>,
    path: Path,
    /// Messages go over the NAT traversal port.
    floated: bool,
    /// We have made the peer find a NAT.
    forced: bool,
    nat: Nat,
    initiator: bool,
    phase: Phase,
    /// Boxed, for a vector has room for more than the one there usually is.
    #[allow(clippy::vec_box)]
    sas: Vec<Box<IkeSa>>,
    /// Our SPI of the IKE_SA that carries new requests.
    current: u64,
    children: Vec<Child>,
    /// Parts of policies that are asked for by themselves.
    parts: Vec<Arc<ChildConfig>>,
    /// Those that the peer has refused.
    parts_refused: Vec<Arc<ChildConfig>>,
    /// Pairs beside those of policies.
    resources: resources::Resources,
    /// What of which policies the host was told to be uncovered.
    gaps: Vec<Gap>,
    /// That may be something else now.
    gaps_changed: bool,
    tasks: VecDeque<Queued>,
    /// Rekeyings that the host waits for.
    asked: Rekeyings,
    /// Why the peer does not rekey the IKE_SA in use.
    rekey_refused: Option<Box<Failure>>,
    fruit: Fruit,
    declined: Option<mode::Declined>,
    began: Instant,
    silence: Silence,
    keepalive: Option<Instant>,
    /// IKE_SA_INIT is sent once, and not again.
    once: bool,
    /// Until when the IKE_SA has to be rekeyed by the peer's own proposals.
    mend: Option<Instant>,
    /// When the peer ends the connection unless it is authenticated anew.
    limited: Option<Instant>,
    /// Where the peer may be now. Whoever answers from there is followed.
    elsewhere: Option<Box<SocketAddr>>,
    /// The way the request came that is being handled, if it is not the one that ours take. Boxed, for it is rare.
    detour: Option<Box<send::Way>>,
    transmits: VecDeque<Transmit>,
    events: VecDeque<Event>,
    counters: Counters,
}

impl Connection {
    fn new(path: Path, initiator: bool, phase: Phase, now: Instant) -> Self {
        Self {
            config: None,
            path,
            floated: false,
            forced: false,
            nat: Nat::default(),
            initiator,
            phase,
            sas: Vec::new(),
            current: 0,
            children: Vec::new(),
            parts: Vec::new(),
            parts_refused: Vec::new(),
            resources: resources::Resources::default(),
            gaps: Vec::new(),
            gaps_changed: false,
            tasks: VecDeque::new(),
            asked: Rekeyings::default(),
            rekey_refused: None,
            fruit: Fruit::None(None),
            declined: None,
            began: now,
            silence: Silence::new(now),
            keepalive: None,
            once: false,
            mend: None,
            limited: None,
            elsewhere: None,
            detour: None,
            transmits: VecDeque::new(),
            events: VecDeque::new(),
            counters: Counters::default(),
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
        match command {
            Command::CreateChild(name) => drop(self.queue_create(&name, now)),
            Command::RekeyChild(spi) => self.ask_rekey(spi, now),
            Command::DeleteChild(spi) => drop(self.queue(Task::DeleteChild(spi, ChildEnd::Deleted), now)),
            Command::ExpireChild(spi) => drop(self.queue(Task::DeleteChild(spi, ChildEnd::Expired), now)),
            Command::RekeyIke => drop(self.order(Task::RekeyIke, now)),
            Command::Close => self.close(now, host, CloseReason::Local),
            Command::Abandon => self.down(now, CloseReason::Failed(Failure::Replaced)),
            Command::InboundSeen(spi) => self.inbound_seen(spi),
            Command::Heard(at) => self.heard(now, at),
            Command::Probe => drop(self.queue(Task::Liveness, now)),
            Command::Once => self.send_init_once(),
            Command::RemoteMoved(remote) => self.moved(now, remote),
        }
        self.settle(now, host);
    }

    /// Starts what can be started, and tells what has changed by all that was done.
    fn settle(&mut self, now: Instant, host: &mut dyn Host) {
        self.plan_resources(now);
        self.run_tasks(now, host);
        self.tell_gaps();
        self.assert_invariants();
    }

    /// The schedule of a request.
    fn retransmit_policy(&self, request: &Request) -> Retransmit {
        if self.once && self.sas.is_empty() {
            return Retransmit::ONCE;
        }
        let policy = self.config.as_ref().map_or(Retransmit::DEFAULT, |c| c.retransmit);
        match (request, &self.config) {
            // A peer that does not answer a delete is gone; no use waiting long.
            (Request::DeleteIke, _) => Retransmit { tries: policy.tries.min(DELETE_TRIES), ..policy },
            (Request::Liveness, Some(config)) if !config.dpd_interval.is_zero() => {
                policy.of_liveness(config.dpd_interval)
            }
            _ => policy,
        }
    }

    fn current_sa(&self) -> Option<&IkeSa> {
        self.sas.iter().find(|sa| sa.spi_local == self.current).map(Box::as_ref)
    }

    fn sa_mut(&mut self, spi: u64) -> Option<&mut IkeSa> {
        self.sas.iter_mut().find(|sa| sa.spi_local == spi).map(Box::as_mut)
    }

    /// The connection is over: removes all Child SAs and reports why. Retransmissions are answered a while longer.
    fn down(&mut self, now: Instant, reason: CloseReason) {
        if matches!(self.phase, Phase::Lingering(_) | Phase::Finished) {
            return;
        }
        self.release_pending();
        self.remove_all_children(ChildEnd::IkeClosed);
        self.tasks.clear();
        self.asked = Rekeyings::default();
        self.keepalive = None;
        self.elsewhere = None;
        self.phase = Phase::Lingering(now + LINGER_IKE);
        self.events.push_back(Event::Down(reason));
    }

    /// Gives back the SPIs of everything that was asked of the peer and will not be answered.
    fn release_pending(&mut self) {
        for i in 0..self.sas.len() {
            let requests = self.sas.get_mut(i).map(|sa| sa.exchanges.abandon()).unwrap_or_default();
            self.release_requests(requests);
        }
        if let Phase::InitSent(init) = &self.phase {
            self.events.push_back(Event::IkeSpiRemoved(init.spi()));
        }
        if let Phase::AuthSent(auth) = &self.phase
            && let Some(spi) = auth.child_spi()
        {
            self.events.push_back(Event::ReleaseSpi(spi));
        }
    }

    fn release_requests(&mut self, requests: impl IntoIterator<Item = Request>) {
        for request in requests {
            match request {
                Request::Child(offer) => self.events.push_back(Event::ReleaseSpi(offer.spi_in)),
                Request::RekeyIke(offer) => self.events.push_back(Event::IkeSpiRemoved(offer.spi)),
                Request::Auth | Request::DeleteChild(_) | Request::DeleteIke | Request::Liveness => {}
            }
        }
    }

    /// Drops an IKE_SA at once.
    fn drop_sa(&mut self, spi: u64) {
        let requests = self.sa_mut(spi).map(|sa| sa.exchanges.abandon()).unwrap_or_default();
        self.release_requests(requests);
        self.sas.retain(|sa| sa.spi_local != spi);
        self.events.push_back(Event::IkeSpiRemoved(spi));
    }

    /// What IKE proposals a peer at this stage may use.
    fn proposals(&self) -> &[IkeProposal] {
        self.config.as_ref().map_or(&[], |c| &c.ike_proposals)
    }

    fn failed(&mut self, now: Instant, failure: Failure) {
        self.down(now, CloseReason::Failed(failure));
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
}
