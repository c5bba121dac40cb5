//! The device thread.

use std::collections::{BTreeSet, HashMap};
use std::io;
use std::net::IpAddr;
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use super::book::Book;
use super::device::{Device, DeviceConfig, Health, Queues};
use super::nudge::{Key, Nudge};
use super::status::{MAX_REFUSED_SHOWN, UplinkState, UplinkStatus};
use crate::command::{Command, CommandSender};
use crate::counters::{Counter, Counters};
use crate::events::EventSink;
use crate::model::RouterEvent;
use crate::registry::Registry;
use crate::tenant::Tenant;

/// What the thread is made of.
pub(crate) struct DeviceParts {
    pub(crate) nudges: Receiver<Nudge>,
    pub(crate) registry: Arc<Mutex<Registry>>,
    pub(crate) shards: Vec<CommandSender>,
    pub(crate) events: EventSink,
    pub(crate) counters: Arc<Counters>,
    /// The addresses that the node listens on.
    pub(crate) listen: Arc<[IpAddr]>,
    pub(crate) book: Arc<Book>,
    /// Whether devices shall have segmentation offload.
    pub(crate) offload: bool,
}

/// Makes and keeps the devices of all tenants.
pub(crate) struct DeviceThread {
    parts: DeviceParts,
    slots: HashMap<Key, Slot>,
    /// Those whose device does not work, and those with routes that were refused: few, so that nothing has to look at all.
    ailing: BTreeSet<Key>,
    refused: BTreeSet<Key>,
    /// A route was given back in this round: others may have waited for it.
    freed: bool,
    next_look: Instant,
}

/// A tenant that is to have a device.
struct Slot {
    tenant: Arc<Tenant>,
    config: Arc<DeviceConfig>,
    device: Option<Device>,
    /// Somebody has set it down.
    down: bool,
    /// When to try again to make it, or to look whether it is up, and how long to wait after that.
    retry: Instant,
    wait: Duration,
}

impl DeviceThread {
    pub(crate) fn new(parts: DeviceParts) -> Self {
        Self {
            parts,
            slots: HashMap::new(),
            ailing: BTreeSet::new(),
            refused: BTreeSet::new(),
            freed: false,
            next_look: Instant::now() + LOOK_INTERVAL,
        }
    }

    /// Runs until told to stop. Then no device is left.
    pub(crate) fn run(mut self) -> io::Result<()> {
        loop {
            let delivered = self.parts.events.flush();
            let now = Instant::now();
            let wait = self.next_wake().saturating_duration_since(now);
            let wait = if delivered { wait } else { wait.min(EVENT_RETRY) };
            match self.parts.nudges.recv_timeout(wait) {
                Ok(Nudge::Stop) | Err(RecvTimeoutError::Disconnected) => break,
                Ok(nudge) => self.take(nudge),
                Err(RecvTimeoutError::Timeout) => {}
            }
            self.look(Instant::now());
            if std::mem::take(&mut self.freed) {
                self.retry_refused();
            }
        }
        for key in self.slots.keys().copied().collect::<Vec<_>>() {
            self.remove(key);
        }
        Ok(())
    }

    fn take(&mut self, nudge: Nudge) {
        match nudge {
            Nudge::Changed(key) => self.update(key),
            Nudge::Gone(key) => self.remove(key),
            Nudge::Check(key) => self.check(key),
            Nudge::Retry(tenant) => {
                let slots = self.slots.iter_mut().filter(|(key, _)| key.tenant == tenant);
                slots.for_each(|(_, slot)| slot.retry = Instant::now());
            }
            Nudge::Settled(reply) => {
                if std::mem::take(&mut self.freed) {
                    self.retry_refused();
                }
                // Whoever asked may have given up.
                let _ = reply.send(());
            }
            Nudge::Stop => {}
            #[cfg(feature = "fault-injection")]
            Nudge::Panic => crate::liveness::injected(),
        }
    }

    /// When something is due.
    fn next_wake(&self) -> Instant {
        let due = self.ailing.iter().filter_map(|key| self.slots.get(key)).map(|slot| slot.retry);
        due.chain([self.next_look]).min().unwrap_or(self.next_look)
    }

    /// Does what is due: devices that do not work, and now and then a look at all.
    fn look(&mut self, now: Instant) {
        for key in self.ailing.clone() {
            let Some(slot) = self.slots.get(&key).filter(|slot| slot.retry <= now) else { continue };
            if slot.device.is_some() { self.check(key) } else { self.open(key) }
        }
        if self.next_look <= now {
            self.next_look = now + LOOK_INTERVAL;
            for key in self.slots.keys().copied().collect::<Vec<_>>() {
                self.check(key);
                while self.registry().lead_late(key) {}
            }
            // A route of the host may have gone as well.
            self.retry_refused();
        }
    }

    /// The wish of a tenant changed.
    fn update(&mut self, key: Key) {
        if !self.slots.contains_key(&key) {
            let Some((tenant, config)) = self.registry().wish_of(key) else { return };
            let slot =
                Slot { tenant, config, device: None, down: false, retry: Instant::now(), wait: RETRY_FIRST };
            self.slots.insert(key, slot);
            return self.open(key);
        }
        let Some(slot) = self.slots.get_mut(&key).filter(|slot| slot.device.is_some()) else {
            // All of it is read when there is a device.
            return;
        };
        let changes = lock(&self.parts.registry).changes(key, false);
        if let (Some(device), Some(changes)) = (&mut slot.device, changes) {
            self.freed |= !changes.removed.is_empty() || changes.without.is_some();
            device.apply(changes, &self.parts.book);
            self.show_again(key);
        }
    }

    /// Makes a device.
    fn open(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let queues = Queues { count: self.parts.shards.len(), offload: self.parts.offload };
        let listen = &self.parts.listen;
        let mut device = match Device::open(key, &slot.config, queues, listen, &self.parts.book) {
            Ok(device) => device,
            Err(error) => {
                slot.retry = Instant::now() + slot.wait;
                slot.wait = (slot.wait * 2).min(RETRY_LAST);
                self.parts.counters.count(Counter::UplinkFailed);
                return self.show(key, UplinkState::Failed(error));
            }
        };
        slot.wait = RETRY_FIRST;
        // Before what it is to say is asked for, so that nothing that is said meanwhile is lost.
        slot.tenant.steer_by(device.steering.clone());
        // In a statement of its own: in the condition the lock would be held for as long as the kernel takes, and everybody's pairs wait for it.
        let changes = lock(&self.parts.registry).changes(key, true);
        if let Some(changes) = changes {
            device.apply(changes, &self.parts.book);
        }
        slot.tenant.attach(device.attached.clone());
        for shard in &self.parts.shards {
            // A shard that has stopped needs no queue.
            let _ = shard.send(Command::Attach(slot.tenant.clone(), device.attached.clone()));
        }
        slot.device = Some(device);
        self.show(key, UplinkState::Up);
    }

    /// Looks whether a device is still what it was.
    fn check(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let Some(device) = &mut slot.device else { return };
        match device.check(slot.config.netns.as_deref()) {
            health @ (Health::Up | Health::Bare) => {
                let was_down = std::mem::take(&mut slot.down);
                let (bare, name) = (matches!(health, Health::Bare), &slot.config.name);
                if bare && !was_down {
                    tracing::warn!(
                        tenant = key.tenant.0,
                        device = name,
                        "addresses or routes went; made again"
                    );
                }
                if bare || was_down {
                    device.reinstate(&self.parts.book);
                    self.parts.counters.count(Counter::UplinkReinstated);
                    self.show(key, UplinkState::Up);
                }
            }
            Health::Down => {
                slot.down = true;
                slot.retry = Instant::now() + RETRY_FIRST;
                self.show(key, UplinkState::Down);
            }
            Health::Gone(reason) => {
                self.parts.counters.count(Counter::UplinkLost);
                self.take_down(key);
                if let Some(slot) = self.slots.get_mut(&key) {
                    slot.retry = Instant::now() + slot.wait;
                }
                self.show(key, UplinkState::Lost(reason));
            }
        }
    }

    /// The tenant does without.
    fn remove(&mut self, key: Key) {
        self.take_down(key);
        self.slots.remove(&key);
        self.ailing.remove(&key);
        self.refused.remove(&key);
    }

    /// Takes a device away. The shards let go of their queues first, so that it is this thread that closes them.
    fn take_down(&mut self, key: Key) {
        let Some(slot) = self.slots.get_mut(&key) else { return };
        let Some(mut device) = slot.device.take() else { return };
        slot.down = false;
        slot.tenant.steer_by(None);
        slot.tenant.detach();
        let (done, answers) = channel();
        for shard in &self.parts.shards {
            let _ = shard.send(Command::Detach(key.tenant, done.clone()));
        }
        drop(done);
        // Each shard drops its end when it has done it, or with its queue when it has stopped.
        while answers.recv().is_ok() {}
        device.withdraw(&self.parts.book);
        self.freed = true;
    }

    fn retry_refused(&mut self) {
        for key in self.refused.clone() {
            if let Some(device) = self.slots.get_mut(&key).and_then(|slot| slot.device.as_mut()) {
                device.retry_refused(&self.parts.book);
                self.show_again(key);
            }
        }
    }

    /// Shows what else has changed of a device whose state is the same.
    fn show_again(&mut self, key: Key) {
        if let Some(slot) = self.slots.get(&key) {
            let state = slot.tenant.uplink().state.clone();
            self.show(key, state);
        }
    }

    /// Shows how a device stands, and tells of it when that is new.
    fn show(&mut self, key: Key, state: UplinkState) {
        let Some(slot) = self.slots.get(&key) else { return };
        let refused =
            slot.device.as_ref().map(|device| device.refused(MAX_REFUSED_SHOWN)).unwrap_or_default();
        let status = UplinkStatus { state, refused: refused.0, refused_total: refused.1 };
        if status.state == UplinkState::Up {
            self.ailing.remove(&key);
        } else {
            self.ailing.insert(key);
        }
        if status.refused_total > 0 {
            self.refused.insert(key);
        } else {
            self.refused.remove(&key);
        }
        let before = slot.tenant.uplink();
        if *before == status {
            return;
        }
        let (tenant, device) = (key.tenant.0, &slot.config.name);
        match &status.state {
            state if *state == before.state => {}
            UplinkState::Pending | UplinkState::Up => tracing::info!(tenant, device, "the uplink is up"),
            state => tracing::warn!(tenant, device, %state, "the uplink does not work; it is tried again"),
        }
        let status = Arc::new(status);
        slot.tenant.set_uplink(status.clone());
        self.parts.events.send(RouterEvent::Uplink { tenant: key.tenant, status });
    }

    fn registry(&self) -> MutexGuard<'_, Registry> {
        lock(&self.parts.registry)
    }
}

fn lock(registry: &Mutex<Registry>) -> MutexGuard<'_, Registry> {
    // As for the handles: a panic leaves a book that is out of date by one entry.
    registry.lock().unwrap_or_else(PoisonError::into_inner)
}

/// How often all devices are looked at: somebody who sets one down by hand sees it told while he still looks, and routes
/// that went are back before a connection gives up. A look is some ten microseconds for each.
const LOOK_INTERVAL: Duration = Duration::from_secs(2);
/// A device that cannot be made is tried again after this long, and twice as long after every failure up to the last.
const RETRY_FIRST: Duration = Duration::from_secs(1);
const RETRY_LAST: Duration = Duration::from_secs(30);
/// How soon to offer events again that the control plane did not take.
const EVENT_RETRY: Duration = Duration::from_millis(5);
