//! What waits to be done until there is an IKE_SA to do it by.

mod snapshot;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::exchange::{Quick, Step, Tries};
use super::{Connection, MAX_QUICK, Phase};
use crate::config::Retransmit;
use crate::event::ChildEnd;
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::verbs::MAX_CHILDREN;

pub(crate) use snapshot::QueuedForm;

/// Tasks that wait. One for each Child SA and some more; beyond it the oldest plan is as good as a new one.
const MAX_TASKS: usize = 2 * MAX_CHILDREN;
/// First wait after a refusal; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_secs(2);
/// Longest wait: somebody has to change a configuration before it is of any use, and there are a few tries left between the
/// usual soft and hard lifetimes.
const BACKOFF_LAST: Duration = Duration::from_secs(300);
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
    pub(super) task: Task,
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
                Step::Requested(offer) => offer.replaces == Some(spi),
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
    pub(super) fn startable(&self, task: &Task) -> bool {
        let requested = self.quick.iter().filter(|q| q.asks_for().is_some()).count();
        let room = requested < MAX_REQUESTED && self.has_room_for_quick();
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

    /// Whether one more quick mode may begin: what is over makes room for it.
    pub(super) fn has_room_for_quick(&self) -> bool {
        self.quick.len() < MAX_QUICK || self.quick.iter().any(Quick::is_over)
    }

    /// Forgets the oldest of what is over, where there is no room for another.
    pub(super) fn make_room_for_quick(&mut self) {
        while self.quick.len() >= MAX_QUICK
            && let Some(oldest) = self.quick.iter().position(Quick::is_over)
        {
            self.quick.remove(oldest);
        }
    }

    /// When a task is to begin, if it can be started.
    pub(super) fn begins(&self, queued: &Queued) -> Instant {
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
}
