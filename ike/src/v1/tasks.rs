//! What waits to be done until there is an IKE_SA to do it by, and everything with a time.

mod snapshot;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{Child, ChildState, Use};
use super::exchange::{self, Quick, Tries};
use super::handshake::Step;
use super::{Connection, MAX_QUICK, Phase};
use crate::config::Retransmit;
use crate::event::{ChildEnd, Event, Transmit};
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::refusal::Refusal;
use crate::verbs::{KEEPALIVE, MAX_CHILDREN};
use crate::wire::numbers::ExchangeType;

pub(crate) use snapshot::QueuedForm;

/// Tasks that wait. One for each Child SA and some more; beyond it the oldest plan is as good as a new one.
const MAX_TASKS: usize = 2 * MAX_CHILDREN;
/// First wait after a refusal; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_secs(2);
/// Longest wait: somebody has to change a configuration before it is of any use, and there are a few tries left between the
/// usual soft and hard lifetimes.
const BACKOFF_LAST: Duration = Duration::from_secs(300);
/// How old an IKE_SA is at most on which a peer that does not answer has to be gone: longer than all that is sent again takes.
const FRESH_IKE: Duration = Duration::from_secs(60);
/// Transmissions of a quick mode by an IKE_SA that was replaced, before it is asked for by the one in its place.
const UNHEARD: u32 = 2;
/// Quick modes of ours that are under way together. Peers that serve them one after the other are not asked for much more.
const MAX_REQUESTED: usize = 8;

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Make a Child SA for a policy, or for a pair of its subnets.
    CreateChild(Arc<str>),
    /// Renew a pair, by inbound SPI.
    RekeyChild(u32),
    /// Make a new IKE_SA.
    RekeyIke,
    /// Ask whether the peer is there.
    Liveness,
}

/// A task, not to be started before its time.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct Queued {
    task: Task,
    due: Instant,
    tries: Tries,
}

impl Connection {
    /// Queues a task unless it waits already, or is under way; false if there is no room.
    pub(crate) fn queue(&mut self, task: Task, now: Instant) -> bool {
        let waits = self.waits(&task) || self.is_under_way(&task);
        let room = self.tasks.len() < MAX_TASKS;
        if !waits && room {
            self.tasks.push_back(Queued { task, due: now, tries: Tries::default() });
        }
        waits || room
    }

    /// Queues what the host orders. If it waits already, be it put off for minutes, it is due at once: somebody waits for it.
    pub(crate) fn order(&mut self, task: Task, now: Instant) -> bool {
        self.hurry(&task, now);
        self.queue(task, now)
    }

    /// Whether a pair is being renewed by us. Another that is made is for whoever starts it to notice.
    fn is_under_way(&self, task: &Task) -> bool {
        let renews = |spi: u32| {
            self.quick.iter().any(|quick| match &quick.step {
                exchange::Step::Requested(offer) => offer.replaces == Some(spi),
                _ => false,
            })
        };
        matches!(task, Task::RekeyChild(spi) if renews(*spi))
    }

    /// Queues a task to be tried again at once, in another way.
    pub(crate) fn queue_again(&mut self, task: Task, now: Instant, tries: Tries) {
        self.tasks.push_front(Queued { task, due: now, tries });
    }

    /// Queues a task to be tried again, later each time, with jitter so that two sides do not keep meeting.
    pub(crate) fn queue_later(&mut self, task: Task, now: Instant, host: &mut dyn Host, tries: Tries) {
        let wait = BACKOFF_FIRST.saturating_mul(1 << tries.put_off.min(10)).min(BACKOFF_LAST);
        let jitter = u32::from(random_array::<1>(host)[0]);
        let due = now + wait + wait * jitter / 512;
        self.tasks.retain(|q| q.task != task);
        let tries = Tries { put_off: tries.put_off.saturating_add(1), ..tries };
        self.tasks.push_back(Queued { task, due, tries });
    }

    /// A task that waits is due at once.
    pub(crate) fn hurry(&mut self, task: &Task, now: Instant) {
        let waits = self.tasks.iter_mut().filter(|q| q.task == *task);
        waits.for_each(|q| q.due = q.due.min(now));
    }

    /// Whether a task waits.
    pub(crate) fn waits(&self, task: &Task) -> bool {
        self.tasks.iter().any(|q| q.task == *task)
    }

    /// A task need not be carried out any more.
    pub(crate) fn forget(&mut self, task: &Task) {
        self.tasks.retain(|q| q.task != *task);
    }

    /// The pair is gone, or need not be renewed.
    pub(crate) fn forget_tasks(&mut self, spi_in: u32) {
        self.tasks.retain(|q| q.task != Task::RekeyChild(spi_in));
    }

    /// Queues the making of the pairs of a policy.
    pub(crate) fn queue_create(&mut self, name: &str, now: Instant) {
        for config in self.pairs_of(name) {
            self.queue(Task::CreateChild(config.name.clone()), now);
        }
    }

    /// Queues the making of what is not there by then.
    pub(crate) fn ask_for_what_is_lacking(&mut self, due: Instant) {
        for config in self.policies() {
            let task = Task::CreateChild(config.name.clone());
            if !self.waits(&task) && self.tasks.len() < MAX_TASKS {
                self.tasks.push_back(Queued { task, due, tries: Tries::default() });
            }
        }
    }

    /// Queues the making of everything that is configured.
    pub(crate) fn ask_for_everything(&mut self, now: Instant) {
        for config in self.policies() {
            self.queue(Task::CreateChild(config.name.clone()), now);
        }
    }

    /// Whether a task can be started: there is an IKE_SA, or phase 1 can be started for it.
    fn startable(&self, task: &Task) -> bool {
        let requested = self.quick.iter().filter(|q| q.asks_for().is_some()).count();
        let room = requested < MAX_REQUESTED && self.quick.len() < MAX_QUICK;
        let asked = |name: &str| self.quick.iter().any(|q| q.asks_for().is_some_and(|c| &*c.name == name));
        match (self.current_sa(), task) {
            // What needs an IKE_SA waits for the one that is being made.
            (None, Task::RekeyIke) => self.handshake.is_none(),
            // If one could not be made, others wait until it is tried again, however long they have been due.
            (None, _) => self.handshake.is_none() && !self.waits(&Task::RekeyIke),
            (Some(_), Task::RekeyIke) => self.handshake.is_none(),
            (Some(_), Task::Liveness) => true,
            (Some(_), Task::CreateChild(name)) => room && !asked(name),
            (Some(_), Task::RekeyChild(spi)) => {
                room && !self.child(*spi).is_some_and(|c| asked(&c.config.name))
            }
        }
    }

    /// When a task is to begin, if it can be started.
    fn begins(&self, queued: &Queued) -> Instant {
        match (&queued.task, self.current_sa()) {
            (Task::CreateChild(_) | Task::RekeyChild(_), Some(sa)) => queued.due.max(sa.takes_requests()),
            _ => queued.due,
        }
    }

    /// Starts what is due and can be started.
    pub(crate) fn run_tasks(&mut self, now: Instant, host: &mut dyn Host) {
        while self.phase == Phase::Up {
            let next = self.tasks.iter().position(|q| self.begins(q) <= now && self.startable(&q.task));
            let Some(at) = next else { break };
            if self.current_sa().is_none() {
                // It stays where it is until there is one.
                if self.is_moot(at) {
                    if let Some(Queued { task: Task::CreateChild(name), .. }) = self.tasks.remove(at) {
                        self.not_asked_for(&name);
                    }
                    continue;
                }
                self.renew(now, host);
                break;
            }
            let Some(Queued { task, tries, .. }) = self.tasks.remove(at) else { break };
            self.start(now, host, task, tries);
        }
        if self.tasks.is_empty() && self.tasks.capacity() > 0 {
            // Holds no memory while nothing waits.
            self.tasks = VecDeque::new();
        }
        self.end_if_empty();
    }

    /// Whether nothing would come of a task.
    fn is_moot(&self, at: usize) -> bool {
        match self.tasks.get(at).map(|q| &q.task) {
            Some(Task::RekeyChild(spi)) => self.child(*spi).is_none_or(|c| !c.is_installed()),
            Some(Task::CreateChild(name)) => match self.policy(name) {
                None => true,
                Some(config) => self.has_or_awaits(&config),
            },
            _ => false,
        }
    }

    /// Nothing is asked for of a policy that is gone or has what it wants, and nobody waits for that. Where it is under way, what comes
    /// of it tells.
    fn not_asked_for(&mut self, name: &Arc<str>) {
        match self.policy(name) {
            None => self.asked_not_made(name, Failure::ChildGone(ChildEnd::LostByPeer)),
            Some(config) if self.has(&config) => self.asked_installed(name, None),
            Some(_) => {}
        }
    }

    fn start(&mut self, now: Instant, host: &mut dyn Host, task: Task, tries: Tries) {
        match task {
            Task::CreateChild(name) => {
                // Another exchange may have made it meanwhile.
                match self.policy(&name).filter(|config| !self.has_or_awaits(config)) {
                    Some(config) => self.request_child(now, host, config, None, tries),
                    None => self.not_asked_for(&name),
                }
            }
            Task::RekeyChild(spi_in) => {
                let old = self.child(spi_in).filter(|c| c.is_installed()).map(|c| c.config.clone());
                // The configuration may have changed since.
                if let Some(config) = old.map(|old| self.policy(&old.name).unwrap_or(old)) {
                    self.request_child(now, host, config, Some(spi_in), tries);
                }
            }
            Task::RekeyIke => self.renew(now, host),
            Task::Liveness => self.ask_alive(now, host),
        }
    }

    /// The schedule of what is sent again.
    pub(crate) fn policy_of_repeats(&self) -> Retransmit {
        self.config.as_ref().map_or(Retransmit::DEFAULT, |c| c.retransmit)
    }

    /// The same for phase 1. One by which the peer is to show that it is alive is repeated as that question is.
    pub(crate) fn phase1_policy(&self) -> Retransmit {
        let policy = self.policy_of_repeats();
        match self.phase {
            Phase::Handshake if self.once => Retransmit::ONCE,
            Phase::Up if self.current_sa().is_none() && self.waits(&Task::Liveness) => {
                self.interval().map_or(policy, |interval| policy.of_liveness(interval))
            }
            _ => policy,
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        if self.phase == Phase::Finished {
            return None;
        }
        let handshake = self
            .handshake
            .iter()
            .flat_map(|h| [h.repeat.due, h.deadline, h.refused.as_ref().map(Refusal::due)])
            .flatten();
        let sas = self.sas.iter().filter_map(|sa| sa.replaced);
        let quick = self.quick.iter().filter_map(Quick::due);
        let children = self.children.iter().filter_map(Child::due);
        // What has to wait for an answer is looked at when that has come.
        let startable = self.tasks.iter().filter(|q| self.phase == Phase::Up && self.startable(&q.task));
        let tasks = startable.map(|q| self.begins(q));
        let probe = self.probe.map(|probe| probe.due);
        let others = [self.liveness_due(), self.keepalive, self.gaps_due(), probe];
        handshake
            .chain(sas)
            .chain(quick)
            .chain(children)
            .chain(tasks)
            .chain(others.into_iter().flatten())
            .min()
    }

    pub(crate) fn run_timers(&mut self, now: Instant, host: &mut dyn Host) {
        self.run_handshake(now, host);
        self.run_quick(now, host);
        self.run_children(now, host);
        for spi in self.sas.iter().map(|sa| sa.spi_local).collect::<Vec<_>>() {
            let due = self.sa(spi).is_some_and(|sa| sa.replaced.is_some_and(|until| until <= now));
            if due {
                self.retire(now, host, spi);
            }
        }
        if self.phase == Phase::Finished {
            return;
        }
        if self.keepalive.is_some_and(|due| due <= now) {
            let (local, remote) = self.addresses();
            let bytes = vec![0xff];
            self.transmits.push_back(Transmit { local, remote, natt: true, keepalive: true, bytes });
            self.keepalive = Some(now + KEEPALIVE);
        }
        if self.probe.is_some_and(|probe| probe.due <= now) {
            self.probe_again(now, host);
        }
        if self.liveness_due().is_some_and(|due| due <= now) {
            self.check_liveness(now);
        }
        self.wear(now);
    }

    fn run_handshake(&mut self, now: Instant, host: &mut dyn Host) {
        let Some(handshake) = &mut self.handshake else { return };
        if handshake.deadline.is_some_and(|deadline| deadline <= now) {
            let failure = self.unfinished();
            return self.failed(failure);
        }
        if let Some(failure) = handshake.refused.as_ref().and_then(|refused| refused.believed_at(now)) {
            return self.phase1_failed(now, host, failure);
        }
        let fragments = handshake.peer.fragments;
        match handshake.repeat.retransmit(now) {
            None => {}
            Some(Ok(message)) => {
                self.counters.retransmissions += 1;
                self.ask(&message, fragments);
            }
            Some(Err(_)) if self.asks_for_packets(now) => {}
            Some(Err(tries)) => {
                let remote = self.addresses().1;
                let refused = self.handshake.as_ref().and_then(|h| h.refused.as_ref()).map(Refusal::told);
                let failure = refused.unwrap_or_else(|| self.unanswered(remote, tries));
                self.phase1_failed(now, host, failure);
            }
        }
    }

    /// Why phase 1 of ours has got no further.
    fn unanswered(&self, remote: std::net::SocketAddr, tries: u32) -> Failure {
        let step = self.handshake.as_ref().map(|h| &h.step);
        match step {
            // The first message that only the right key reads.
            Some(Step::MainProofSent(_)) => Failure::ProofUnanswered { remote, tries },
            _ => Failure::Timeout { exchange: self.phase1_exchange(), remote, tries },
        }
    }

    /// Why phase 1 of the peer's has got no further.
    fn unfinished(&self) -> Failure {
        let remote = self.path.remote;
        let Some(handshake) = &self.handshake else { return Failure::UnfinishedV1 { remote } };
        match &handshake.step {
            Step::AggressiveAnswered(expected) => match &expected.config {
                None => {
                    let remote_id = expected.id.told();
                    Failure::UnknownPeer { remote_id, local_id: None, from: remote }
                }
                // It has not taken our proof.
                Some(config) if handshake.objected => {
                    Failure::Authentication { id: config.remote_id.clone() }
                }
                Some(_) => Failure::UnfinishedV1 { remote },
            },
            _ => Failure::UnfinishedV1 { remote },
        }
    }

    fn run_quick(&mut self, now: Instant, host: &mut dyn Host) {
        while let Some(at) = self.quick.iter().position(|q| q.due().is_some_and(|due| due <= now)) {
            let Some(quick) = self.quick.get_mut(at) else { return };
            if matches!(quick.step, exchange::Step::Done(..)) {
                self.quick.remove(at);
                continue;
            }
            match quick.repeat.retransmit(now) {
                Some(Ok(message)) => {
                    let spi = quick.ike;
                    if self.has_a_newer_way(at) {
                        // The peer may take nothing in by the old one any more. strongSwan does not by one that it is about to replace.
                        let quick = self.quick.remove(at);
                        self.ask_again(now, quick);
                        continue;
                    }
                    let fragments = self.sa(spi).is_some_and(|sa| sa.peer.fragments);
                    self.counters.retransmissions += 1;
                    self.ask(&message, fragments);
                }
                Some(Err(tries)) => {
                    let Some(spi) =
                        self.quick.get(at).filter(|quick| quick.asks_for().is_some()).map(|q| q.ike)
                    else {
                        let quick = self.quick.remove(at);
                        self.quick_unfinished(now, host, quick);
                        continue;
                    };
                    if self.has_spoken_since(spi, at) {
                        self.quick_unanswered(now, host, at, tries);
                        continue;
                    }
                    if self.may_be_forgotten(now, spi) {
                        self.drop_sa(now, spi);
                        continue;
                    }
                    // The peer is taken for gone.
                    let (exchange, remote) = (ExchangeType::QUICK_MODE, self.addresses().1);
                    return self.failed(Failure::Timeout { exchange, remote, tries });
                }
                None => return,
            }
        }
        if self.quick.is_empty() && self.quick.capacity() > 0 {
            self.quick = Vec::new();
        }
    }

    /// Whether the peer has said something on the IKE_SA of a quick mode since that began: then it is there, has that IKE_SA, and does not
    /// want this one. Some say nothing to a policy that they do not know, and what they say may be lost.
    fn has_spoken_since(&self, spi: u64, at: usize) -> bool {
        let since = self.quick.get(at).map(|quick| quick.since);
        since.zip(self.sa(spi)).is_some_and(|(since, sa)| sa.heard > since)
    }

    /// Whether the peer may have ended an IKE_SA without our knowing: nobody acknowledges a Delete. One that was just made is
    /// there, and who does not answer on it will not on another.
    pub(crate) fn may_be_forgotten(&self, now: Instant, spi: u64) -> bool {
        let old = self.sa(spi).is_some_and(|sa| sa.since + FRESH_IKE < now);
        old && !self.children.is_empty()
    }

    /// Whether a quick mode of ours is on an IKE_SA whose place another has taken, and nobody has answered it there twice, which may be once
    /// that a message was lost. A peer of our own answers for as long as it has the IKE_SA; of two that crossed it may have the older one alone.
    fn has_a_newer_way(&self, at: usize) -> bool {
        let twice = |quick: &&Quick| quick.asks_for().is_some() && quick.repeat.sent > UNHEARD;
        let asked = self.quick.get(at).filter(twice).map(|quick| quick.ike);
        let sa = asked.and_then(|spi| self.sa(spi));
        sa.is_some_and(|sa| sa.replaced.is_some() && !sa.peer.culvert) && self.current_sa().is_some()
    }

    fn run_children(&mut self, now: Instant, host: &mut dyn Host) {
        for spi in self.children.iter().map(|c| c.spi_in).collect::<Vec<_>>() {
            let Some(child) = self.child(spi) else { continue };
            let (state, usable) = (child.state, child.usable);
            match (state, usable) {
                (ChildState::Replaced(until), _) if until <= now => {
                    self.delete_child(now, host, spi, ChildEnd::Rekeyed);
                }
                (ChildState::Installed, _) if child.unproved.is_some_and(|at| at <= now) => {
                    self.doubt(now, spi);
                }
                (ChildState::Installed, Use::At(at) | Use::Connected(at)) if at <= now => {
                    self.activate(now, spi);
                }
                _ => {}
            }
        }
    }

    /// Tells that the IKE_SA ended, and ends it.
    pub(crate) fn retire(&mut self, now: Instant, host: &mut dyn Host, spi: u64) {
        let delete = self.sa(spi).map(super::ike_sa::IkeSa::delete);
        self.inform(host, spi, delete.into_iter().collect());
        self.drop_sa(now, spi);
    }

    /// An event for the host about a failure to renew phase 1.
    pub(crate) fn tell_not_renewed(&mut self, failure: Failure) {
        self.events.push_back(Event::IkeRekeyFailed { failure });
    }
}
