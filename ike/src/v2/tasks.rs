//! What waits to be done while the window is taken or the peer asked for patience, and everything with a time.

mod snapshot;

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::child::{Child, ChildState};
use super::exchange::Pending;
use super::ike_sa::SaState;
use super::request::{PutOff, Request, Tries};
use super::{Connection, Phase, REDUNDANT_CHILD, REPLACED_CHILD};
use crate::config::ChildConfig;
use crate::event::{ChildEnd, CloseReason, Event, Transmit};
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::refusal::Refusal;
use crate::verbs::{KEEPALIVE, LINGER_IKE, MAX_CHILDREN};
use crate::wire::numbers::ExchangeType;

pub(crate) use snapshot::QueuedForm;

/// Tasks that wait. One for each Child SA and some more; beyond it the oldest plan is as good as a new one.
const MAX_TASKS: usize = 2 * MAX_CHILDREN;
/// First wait after TEMPORARY_FAILURE or a refused rekeying; doubled each time.
const BACKOFF_FIRST: Duration = Duration::from_secs(2);
/// Longest wait after TEMPORARY_FAILURE.
const BUSY_LAST: Duration = Duration::from_secs(60);
/// Longest wait after a refusal: somebody has to change a configuration before it is of any use, and there are a few tries
/// left between the usual soft and hard lifetimes.
const REFUSED_LAST: Duration = Duration::from_secs(300);
/// Answers of TEMPORARY_FAILURE in a row before the IKE_SA is given up: some ten minutes of them (RFC 7296 section 2.25).
const MAX_BUSY: u32 = 14;

/// How long a rekeying of the IKE_SA waits for a delete that the peer owes: longer than strongSwan takes to send a request again (4 s). It
/// takes our answer for the request of the same number that it is at work on, and drops it, where both sides ask in one moment.
const OWED_MOMENT: Duration = Duration::from_secs(6);

/// How long the peer has for a delete that it owes.
const fn owed_for(reason: ChildEnd) -> Duration {
    match reason {
        ChildEnd::Redundant => REDUNDANT_CHILD,
        _ => REPLACED_CHILD,
    }
}

/// One thing to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Task {
    /// Make a Child SA for a policy.
    CreateChild(std::sync::Arc<str>),
    /// Make one more pair of a policy, for a resource.
    AskResource(std::sync::Arc<str>),
    /// Rekey a pair, by inbound SPI.
    RekeyChild(u32),
    /// Delete a pair.
    DeleteChild(u32, ChildEnd),
    /// Delete a pair that the peer has replaced and owes the delete of.
    DeleteOwed(u32, ChildEnd),
    /// Delete a pair of the peer's that never was installed here.
    DeleteStray(u32),
    /// Rekey the IKE_SA.
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
    /// Queues a task unless it waits already; false if there is no room.
    pub(crate) fn queue(&mut self, task: Task, now: Instant) -> bool {
        let waits = self.is_planned(&task);
        let room = self.tasks.len() < MAX_TASKS;
        if !waits && room {
            self.tasks.push_back(Queued { task, due: now, tries: Tries::default() });
        }
        waits || room
    }

    /// Queues what the host orders. If it waits already, be it put off for minutes, it is due at once: somebody waits for it.
    pub(crate) fn order(&mut self, task: Task, now: Instant) -> bool {
        let waits = self.tasks.iter_mut().filter(|q| q.task == task);
        waits.for_each(|q| q.due = q.due.min(now));
        self.queue(task, now)
    }

    /// A task need not be carried out any more.
    pub(crate) fn forget(&mut self, task: &Task) {
        self.tasks.retain(|q| q.task != *task);
    }

    /// Whether a task waits.
    pub(super) fn is_planned(&self, task: &Task) -> bool {
        self.tasks.iter().any(|q| q.task == *task)
    }

    /// What waits.
    pub(super) fn planned(&self) -> impl Iterator<Item = &Task> {
        self.tasks.iter().map(|q| &q.task)
    }

    /// The peer owes the delete of a pair no more.
    pub(super) fn forget_owed(&mut self, spi_in: u32) {
        self.tasks.retain(|q| !matches!(q.task, Task::DeleteOwed(spi, _) if spi == spi_in));
    }

    pub(crate) fn queue_first(&mut self, task: Task, now: Instant) {
        self.queue_again(task, now, Tries::default());
    }

    /// Queues a task to be tried again as soon as the window has room.
    pub(crate) fn queue_again(&mut self, task: Task, now: Instant, tries: Tries) {
        self.tasks.push_front(Queued { task, due: now, tries });
    }

    /// The peer owes the delete of a pair. One whose answer from us was lost may never learn that the pair is there.
    pub(crate) fn expect_delete(&mut self, spi_in: u32, reason: ChildEnd, now: Instant) {
        if self.tasks.len() < MAX_TASKS {
            let (task, due) = (Task::DeleteOwed(spi_in, reason), now + owed_for(reason));
            self.tasks.push_back(Queued { task, due, tries: Tries::default() });
        }
    }

    /// When a task is to begin, if it can be started. A rekeying of the IKE_SA waits while a pair that the peer has just made has not led to
    /// the delete of the one before: our answer may be lost, and what the peer sends again for it comes by the IKE_SA that there is.
    fn begins(&self, queued: &Queued) -> Instant {
        if queued.task != Task::RekeyIke {
            return queued.due;
        }
        let owed = self.tasks.iter().filter_map(|q| match q.task {
            // Not since it was due, but since it is owed.
            Task::DeleteOwed(_, reason) => (q.due + OWED_MOMENT).checked_sub(owed_for(reason)),
            _ => None,
        });
        owed.max().map_or(queued.due, |owed| owed.min(queued.due + OWED_MOMENT).max(queued.due))
    }

    /// The pair is gone, and with it what was planned for it.
    pub(crate) fn forget_tasks(&mut self, spi_in: u32) {
        self.tasks.retain(|q| match q.task {
            Task::RekeyChild(spi) | Task::DeleteChild(spi, _) | Task::DeleteOwed(spi, _) => spi != spi_in,
            Task::CreateChild(_)
            | Task::AskResource(_)
            | Task::DeleteStray(_)
            | Task::RekeyIke
            | Task::Liveness => true,
        });
    }

    /// Queues the making of a Child SA; false if there is no such policy any more, or no room.
    pub(crate) fn queue_create(&mut self, name: &str, now: Instant) -> bool {
        let name = self.policy(name).map(|c| c.name.clone());
        name.is_some_and(|name| self.queue(Task::CreateChild(name), now))
    }

    /// Queues a task to be tried again, later each time, with jitter so that two sides do not keep colliding.
    pub(crate) fn queue_later(
        &mut self,
        task: Task,
        now: Instant,
        host: &mut dyn Host,
        tries: Tries,
        why: PutOff,
    ) {
        let (busy, longest) = match why {
            PutOff::Busy => (tries.busy + 1, BUSY_LAST),
            PutOff::Refused => (0, REFUSED_LAST),
        };
        if busy > MAX_BUSY {
            return self.close(now, host, CloseReason::Failed(Failure::StillBusy));
        }
        let wait = BACKOFF_FIRST.saturating_mul(1 << tries.put_off.min(10)).min(longest);
        let jitter = u32::from(random_array::<1>(host)[0]);
        let due = now + wait + wait * jitter / 512;
        self.tasks.retain(|q| q.task != task);
        let tries = Tries { put_off: tries.put_off.saturating_add(1), busy, ..Tries::default() };
        self.tasks.push_back(Queued { task, due, tries });
    }

    /// Starts what is due as long as the window has room.
    pub(crate) fn run_tasks(&mut self, now: Instant, host: &mut dyn Host) {
        while self.may_start() {
            let next = self.tasks.iter().position(|q| self.begins(q) <= now && self.startable(&q.task));
            let Some(Queued { task, tries, .. }) = next.and_then(|at| self.tasks.remove(at)) else { return };
            if self.tasks.is_empty() {
                // Holds no memory while nothing waits.
                self.tasks = VecDeque::new();
            }
            self.start(now, host, task, tries);
        }
    }

    fn start(&mut self, now: Instant, host: &mut dyn Host, task: Task, tries: Tries) {
        match task {
            Task::CreateChild(name) => {
                // Another exchange may have made it meanwhile. One that was made as the policy was before does not count.
                let exists = |config: &Arc<ChildConfig>| {
                    let made =
                        |c: &Child| c.config.asks_for_the_same(config) && c.state == ChildState::Installed;
                    self.children.iter().any(made)
                };
                match self.policy(&name).cloned() {
                    // Somebody may wait for it in place of a pair that the peer has lost.
                    None => self.asked_not_made(&name, Failure::ChildGone(ChildEnd::LostByPeer)),
                    Some(config) if exists(&config) => self.asked_installed(&name, None),
                    Some(config) => self.request_child(now, host, config, None, tries),
                }
            }
            Task::AskResource(policy) => self.ask_resource(now, host, &policy, tries),
            Task::RekeyChild(spi_in) if self.is_superfluous(spi_in) => {
                self.request_delete(now, host, spi_in, ChildEnd::Redundant);
            }
            Task::RekeyChild(spi_in) => {
                let installed = |c: &&super::Child| c.state == super::child::ChildState::Installed;
                let name = self.child(spi_in).filter(installed).map(|c| c.config.clone());
                // The configuration may have changed since.
                let config = name.map(|old| self.policy(&old.name).cloned().unwrap_or(old));
                if let Some(config) = config {
                    self.request_child(now, host, config, Some(spi_in), tries);
                }
            }
            Task::DeleteChild(spi_in, reason) => self.request_delete(now, host, spi_in, reason),
            Task::DeleteOwed(spi_in, reason) => {
                let owed = |c: &super::Child| c.state == super::child::ChildState::Replaced;
                if self.child(spi_in).is_some_and(owed) && self.step_aside(spi_in) {
                    self.request_delete(now, host, spi_in, reason);
                }
            }
            Task::DeleteStray(spi_in) => self.send_delete(now, host, spi_in),
            Task::RekeyIke => self.request_ike_rekey(now, host, tries),
            Task::Liveness => {
                let spi = self.current;
                self.send_request(now, host, spi, ExchangeType::INFORMATIONAL, &[], Request::Liveness);
            }
        }
    }

    /// When the peer has been silent for long enough to be asked, or the host to say what it has heard.
    fn liveness_due(&self) -> Option<Instant> {
        let interval = self.interval()?;
        self.startable(&Task::Liveness).then(|| self.silence.due(interval))
    }

    fn interval(&self) -> Option<Duration> {
        self.config.as_ref().map(|c| c.dpd_interval).filter(|d| !d.is_zero())
    }

    /// Asks the host, or then the peer.
    fn check_liveness(&mut self, now: Instant) {
        if self.silence.ask_host(now, !self.children.is_empty()) {
            self.events.push_back(Event::SignOfLifeDue);
        } else {
            self.queue(Task::Liveness, now);
        }
    }

    /// The host says when ESP arrived last.
    pub(crate) fn heard(&mut self, now: Instant, at: Option<Instant>) {
        let Some(interval) = self.interval().filter(|_| self.is_up()) else { return };
        if self.silence.goes_on(now, at, interval) && self.liveness_due().is_some() {
            self.check_liveness(now);
        }
    }

    pub(crate) fn next_timeout(&self) -> Option<Instant> {
        let phase = match &self.phase {
            Phase::InitSent(init) => {
                init.exchanges.due().into_iter().chain(init.refused.as_ref().map(Refusal::due)).min()
            }
            Phase::AwaitAuth(state) => Some(state.deadline),
            Phase::Lingering(until) => Some(*until),
            _ => None,
        };
        let sas = self.sas.iter().flat_map(|sa| {
            let state = match sa.state {
                SaState::Replaced(until) | SaState::Dead(until) => Some(until),
                _ => None,
            };
            [state, sa.exchanges.due()]
        });
        // What has to wait for an answer is looked at when that has come.
        let startable = self.tasks.iter().filter(|q| self.startable(&q.task));
        let tasks = startable.map(|q| self.begins(q)).min();
        let others =
            [phase, tasks, self.liveness_due(), self.keepalive, self.mend_due(), self.resources_due()];
        sas.chain(others).flatten().min()
    }

    pub(crate) fn run_timers(&mut self, now: Instant, host: &mut dyn Host) {
        match &self.phase {
            Phase::AwaitAuth(state) if state.deadline <= now => {
                let remote = self.path.remote;
                self.failed(now, Failure::Unfinished { remote });
            }
            Phase::Lingering(until) if *until <= now => return self.finish(),
            Phase::InitSent(_) => self.retransmit_init(now),
            _ => {}
        }
        for spi in self.sas.iter().map(|sa| sa.spi_local).collect::<Vec<_>>() {
            self.run_sa_timers(now, spi);
        }
        if self.keepalive.is_some_and(|due| due <= now) {
            let (local, remote) = self.addresses();
            let bytes = vec![0xff];
            self.transmits.push_back(Transmit { local, remote, natt: true, keepalive: true, bytes });
            self.keepalive = Some(now + KEEPALIVE);
        }
        if self.mend_due().is_some_and(|due| due <= now) {
            self.give_up_mending(now, host);
        }
        if self.liveness_due().is_some_and(|due| due <= now) {
            self.check_liveness(now);
        }
        self.run_tasks(now, host);
    }

    fn retransmit_init(&mut self, now: Instant) {
        let Phase::InitSent(init) = &mut self.phase else { return };
        if let Some(failure) = init.refused.as_ref().and_then(|refused| refused.believed_at(now)) {
            return self.failed(now, failure);
        }
        match init.exchanges.retransmit(now) {
            None => {}
            Some(Ok(datagrams)) => {
                self.counters.retransmissions += 1;
                self.ask(datagrams);
            }
            Some(Err(pending)) => {
                let refused = init.refused.as_ref().map(Refusal::told);
                let (remote, tries) = (self.addresses().1, pending.sent);
                let timeout = Failure::Timeout { exchange: ExchangeType::IKE_SA_INIT, remote, tries };
                self.failed(now, refused.unwrap_or(timeout));
            }
        }
    }

    fn run_sa_timers(&mut self, now: Instant, spi: u64) {
        let Some(sa) = self.sa_mut(spi) else { return };
        if matches!(sa.state, SaState::Replaced(until) | SaState::Dead(until) if until <= now) {
            return self.drop_sa(spi);
        }
        while let Some(due) = self.sa_mut(spi).and_then(|sa| sa.exchanges.retransmit(now)) {
            match due {
                Ok(datagrams) => {
                    self.counters.retransmissions += 1;
                    self.ask(datagrams);
                }
                Err(lost) => return self.unanswered(now, spi, lost),
            }
        }
    }

    /// A request was sent as often as the policy says, and the peer is taken for gone.
    fn unanswered(&mut self, now: Instant, spi: u64, lost: Pending) {
        let (exchange, tries) = (lost.exchange, lost.sent);
        let remote = self.addresses().1;
        self.release_requests([lost.request]);
        if matches!(self.phase, Phase::Lingering(_)) {
            self.finish_if_idle();
        } else if spi == self.current {
            self.failed(now, Failure::Timeout { exchange, remote, tries });
        } else {
            self.drop_sa(spi);
        }
    }

    /// Our delete of an IKE_SA was answered.
    pub(crate) fn ike_delete_answered(&mut self, now: Instant, spi: u64) {
        if let Some(sa) = self.sa_mut(spi) {
            sa.state = SaState::Dead(now + LINGER_IKE);
        }
    }

    pub(crate) fn finish(&mut self) {
        for spi in self.sas.iter().map(|sa| sa.spi_local).collect::<Vec<_>>() {
            self.drop_sa(spi);
        }
        self.phase = Phase::Finished;
        self.events.push_back(Event::Finished);
    }

    /// Ends the connection because its hard lifetime is over: the peer is told as on a close.
    pub(crate) fn expire(&mut self, now: Instant, host: &mut dyn Host) {
        let failure = self.rekey_refused.take().map_or(Failure::Expired, Failure::NotRekeyed);
        self.close(now, host, CloseReason::Failed(failure));
    }
}
