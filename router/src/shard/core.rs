//! What a shard knows and does, apart from where packets come from.

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::sync::mpsc::Sender;
use std::time::{Duration, Instant};

use esp::transport::MAX_PACKET;
use esp::{Spi, ip};
use mio::Waker;

use super::batch::SendQueue;
use super::deliver::Joins;
use super::hold::Holds;
use super::run::packets;
use super::sa::{Mark, Sa};
use super::table::SaTable;
use super::waiting::Waiting;
use crate::allowance::Allowance;
use crate::came_from::CameFrom;
use crate::command::{Command, Commands};
use crate::counters::{Counter, Counters};
use crate::directory::Directory;
use crate::elsewhere::{Elsewhere, PassedReceiver};
use crate::events::EventSink;
use crate::handoff::{Inbox, Mailboxes, Outbox, RING_PACKETS, Task};
use crate::model::{RouterEvent, TenantId, TunnelId};
use crate::options::Encapsulation;
use crate::pair_snapshot::WindowSnapshot;
use crate::shard_port::ShardPort;
use crate::slots::Slots;
use crate::tenant::{Attached, Tenant};
use crate::uplink::{CHECKS_PER_SECOND, Nudge, Nudges};

/// The state of a shard.
pub(crate) struct Core {
    /// This shard's number.
    pub(crate) id: usize,
    pub(super) table: SaTable,
    pub(super) slots: Arc<Slots>,
    /// The slots that were open, a bit for each, as far as this shard has carried out what it was told of them.
    pub(super) open_here: u64,
    /// The way to the other nodes.
    pub(super) elsewhere: Option<Arc<dyn Elsewhere>>,
    /// What they pass on.
    pub(super) passed: Option<PassedReceiver>,
    pub(super) waiting: Waiting,
    /// Whose what they pass on is.
    pub(super) tenants: Arc<Directory>,
    /// Pairs whose replay window has moved, each once.
    pub(super) moved: VecDeque<Spi>,
    /// Pairs that came before their slot.
    early: Vec<Spi>,
    /// Slots for which nothing has to wait any more.
    pub(super) opened: Vec<u8>,
    pub(super) queue: SendQueue,
    pub(super) holds: Holds,
    pub(super) joins: Joins,
    pub(super) counters: Arc<Counters>,
    pub(super) events: EventSink,
    /// The time of this turn. Reading the clock per packet would cost a tenth of a small packet.
    pub(super) now: Instant,
    commands: Commands,
    mailboxes: Mailboxes,
    /// One per thread of the router, the control thread last.
    peers: Arc<[Arc<Waker>]>,
    /// To whom something was handed over in this turn.
    wake: Vec<bool>,
    /// Where packets of transport mode get their headers. Here and not on the stack, for it is large.
    pub(super) scratch: Box<[u8]>,
    nudges: Nudges,
    /// Looks at devices that this shard finds broken.
    checks: Allowance,
    /// Commands that are the thread's business.
    pub(super) for_thread: Vec<ThreadCommand>,
}

/// What a shard is made of.
pub(crate) struct CoreParts {
    pub(crate) id: usize,
    pub(crate) slots: Arc<Slots>,
    pub(crate) elsewhere: Option<Arc<dyn Elsewhere>>,
    pub(crate) passed: Option<PassedReceiver>,
    pub(crate) slot_wait: Duration,
    pub(crate) tenants: Arc<Directory>,
    pub(crate) ports: Arc<[ShardPort]>,
    pub(crate) counters: Arc<Counters>,
    pub(crate) events: EventSink,
    pub(crate) commands: Commands,
    pub(crate) mailboxes: Mailboxes,
    pub(crate) peers: Arc<[Arc<Waker>]>,
    pub(crate) nudges: Nudges,
}

/// Commands that concern the sources of packets.
pub(super) enum ThreadCommand {
    Attach(Arc<Tenant>, Arc<Attached>),
    Detach(TenantId, Sender<()>),
    /// What waits for a tunnel that is up goes at the end of the turn, if nothing has taken it along before: commands may run in the middle
    /// of another packet.
    Release(Spi, TenantId, TunnelId),
    SendDummies(Spi, u16, u16),
    Stop,
}

impl Core {
    pub(crate) fn new(parts: CoreParts) -> Self {
        Self {
            id: parts.id,
            table: SaTable::new(parts.id as u8),
            open_here: parts.slots.open_ones(),
            slots: parts.slots,
            elsewhere: parts.elsewhere,
            passed: parts.passed,
            waiting: Waiting::new(parts.slot_wait),
            tenants: parts.tenants,
            early: Vec::new(),
            opened: Vec::new(),
            moved: VecDeque::new(),
            queue: SendQueue::new(parts.ports, parts.counters.clone()),
            holds: Holds::default(),
            joins: Joins::new(),
            counters: parts.counters,
            events: parts.events,
            now: Instant::now(),
            commands: parts.commands,
            mailboxes: parts.mailboxes,
            wake: vec![false; parts.peers.len()],
            peers: parts.peers,
            scratch: vec![0; MAX_PACKET].into_boxed_slice(),
            nudges: parts.nudges,
            checks: Allowance::new(CHECKS_PER_SECOND),
            for_thread: Vec::new(),
        }
    }

    /// Carries out all commands that wait.
    ///
    /// Also called when a packet meets no SA: the install that it needs was sent before the packet could be, but the
    /// packet may have overtaken it.
    pub(super) fn run_commands(&mut self) {
        self.commands.look();
        while let Some(command) = self.commands.next() {
            match command {
                Command::Install(sa) => self.install(sa),
                Command::Remove(spi) => self.remove(spi),
                Command::Expire(spi) => {
                    if let Some(sa) = self.table.get_mut(spi) {
                        sa.inbound.expire();
                        sa.outbound.expire();
                    }
                }
                Command::SetRemote(spi, remote, encapsulation) => self.set_remote(spi, remote, encapsulation),
                Command::SendDummies(spi, count, len) => {
                    self.for_thread.push(ThreadCommand::SendDummies(spi, count, len));
                }
                Command::Stats(spis, reply) => {
                    let stats = spis.iter().filter_map(|spi| self.table.get(*spi).map(Sa::stats));
                    // Whoever asked may have given up.
                    let _ = reply.send(stats.collect());
                }
                Command::Attach(tenant, device) => {
                    self.for_thread.push(ThreadCommand::Attach(tenant, device));
                }
                Command::Detach(tenant, done) => {
                    self.for_thread.push(ThreadCommand::Detach(tenant, done));
                }
                Command::Beat(answered, beat) => answered.store(beat, Ordering::Relaxed),
                #[cfg(feature = "fault-injection")]
                Command::Panic => crate::liveness::injected(),
                #[cfg(feature = "fault-injection")]
                Command::Stall(held) => {
                    // Ends when the other end is dropped.
                    let _ = held.recv();
                }
                Command::Release(tenant, tunnel, spi) => {
                    self.for_thread.push(ThreadCommand::Release(spi, tenant, tunnel));
                }
                Command::PassHeld(tenant, tunnel, node) => {
                    self.pass_held(node, &tenant, tunnel);
                }
                Command::DropHeld(tenant, tunnel) => {
                    let dropped = self.holds.refuse((tenant, tunnel));
                    self.counters.add(Counter::HoldFailed, dropped as u64);
                }
                Command::Reserve(spi, reserve) => {
                    if let Some(sa) = self.table.get_mut(spi) {
                        sa.reserve(&reserve);
                    }
                }
                Command::Advance(spi, by) => {
                    if let Some(sa) = self.table.get_mut(spi)
                        && let Some(limit) = sa.outbound.advance(by)
                    {
                        sa.raise(limit, &mut self.events);
                    }
                }
                Command::Snapshot(spis, reply) => {
                    let snapshots = spis.iter().filter_map(|spi| self.table.get(*spi).map(Sa::snapshot));
                    let _ = reply.send(snapshots.collect());
                }
                Command::Extract(spis, reply) => {
                    let pairs = spis.iter().filter_map(|spi| self.table.remove(*spi)).map(|sa| {
                        sa.inbound.leave_thread();
                        sa.outbound.leave_thread();
                        *sa
                    });
                    let _ = reply.send(pairs.collect());
                }
                Command::Windows(most, reply) => {
                    let _ = reply.send(self.take_windows(most));
                }
                Command::OpenSlot(slot) => self.open_slot(slot),
                Command::CloseSlot(slot) => self.close_slot(slot),
                Command::Stop => self.for_thread.push(ThreadCommand::Stop),
            }
        }
    }

    /// How far pairs have come whose window has moved, and how many more there are.
    fn take_windows(&mut self, most: usize) -> (Vec<WindowSnapshot>, usize) {
        let mut windows = Vec::new();
        for spi in self.moved.drain(..most.min(self.moved.len())) {
            // Pairs go, and come again.
            if let Some(sa) = self.table.get_mut(spi).filter(|sa| sa.mark == Mark::Quiet) {
                sa.mark = Mark::Clean;
                windows.push(sa.window());
            }
        }
        (windows, self.moved.len())
    }

    pub(super) fn install(&mut self, mut sa: Box<Sa>) {
        match sa.mark {
            Mark::Early => self.early.push(sa.spi()),
            // A node that is alone has no use for a list of what changes.
            Mark::Clean | Mark::Quiet => sa.mark = self.mark(),
        }
        self.table.insert(sa);
    }

    pub(super) fn remove(&mut self, spi: Spi) {
        if let Some(sa) = self.table.remove(spi) {
            self.wipe(sa);
        }
    }

    fn wipe(&mut self, sa: Box<Sa>) {
        let (spi, stats) = (sa.spi(), sa.stats());
        // The keys are wiped here, before anyone is told so.
        drop(sa);
        self.events.send(RouterEvent::Removed { spi, stats });
    }

    /// The mark of a pair that nothing is known of.
    fn mark(&self) -> Mark {
        if self.elsewhere.is_some() { Mark::Clean } else { Mark::Quiet }
    }

    /// What waited for a slot can be opened, when no other packet is.
    fn open_slot(&mut self, slot: u8) {
        self.opened.push(slot);
    }

    /// The pairs of a slot that is open now are not early any more.
    pub(super) fn clear_early(&mut self, slot: u8) {
        let mark = self.mark();
        for spi in self.early.extract_if(.., |spi| spi.slot() == slot) {
            if let Some(sa) = self.table.get_mut(spi) {
                sa.mark = mark;
            }
        }
    }

    /// Everything of a slot goes.
    fn close_slot(&mut self, slot: u8) {
        for sa in self.table.remove_slot(slot) {
            self.wipe(sa);
        }
        self.early.retain(|spi| spi.slot() != slot);
        // It was opened a moment ago, and what waited for it goes where it has gone.
        self.opened.retain(|opened| *opened != slot);
        self.close_waiting(slot);
    }

    fn set_remote(&mut self, spi: Spi, remote: SocketAddr, encapsulation: Option<Encapsulation>) {
        if let Some(sa) = self.table.get_mut(spi) {
            sa.set_remote(remote, encapsulation, self.now);
        }
    }

    /// Hands a packet to another thread.
    pub(super) fn hand_over(&mut self, to: usize, task: Task, packet: &[u8]) {
        let Some(outbox) = self.mailboxes.outboxes.get_mut(to) else {
            return self.counters.count(Counter::Runt);
        };
        let run = if let Task::Seal { run, .. } = task { run } else { None };
        if outbox.push(task, packet) {
            self.counters.count(Counter::HandedOver);
        } else {
            self.counters.add(Counter::HandoffFull, packets(packet, run));
        }
        // Also when it is full: then above all.
        if let Some(wake) = self.wake.get_mut(to) {
            *wake = true;
        }
    }

    /// Whether a thread can be handed a packet now. If not, it wakes this one when it can.
    pub(super) fn has_room(&mut self, to: usize) -> bool {
        let room = self.mailboxes.outboxes.get(to).is_none_or(Outbox::has_room);
        if !room && let Some(wake) = self.wake.get_mut(to) {
            *wake = true;
        }
        room
    }

    /// Takes what other threads handed over; true when something is left.
    pub(super) fn run_inboxes(&mut self) -> bool {
        let mut left = false;
        for from in 0..self.mailboxes.inboxes.len() {
            for _ in 0..RING_PACKETS {
                let Some(mut handoff) = self.mailboxes.inboxes.get_mut(from).and_then(|inbox| inbox.pop())
                else {
                    break;
                };
                match handoff.task {
                    Task::Datagram(origin) => self.received(&mut handoff.packet, origin),
                    Task::Seal { spi, tenant, from, run } => {
                        self.seal_here(spi, tenant, from, &handoff.packet, None, run);
                    }
                }
                if let Some(inbox) = self.mailboxes.inboxes.get_mut(from) {
                    inbox.recycle(handoff.packet);
                }
            }
            let inbox = self.mailboxes.inboxes.get(from);
            left |= inbox.is_some_and(|inbox| !inbox.is_empty());
            if inbox.is_some_and(Inbox::writer_waits)
                && let Some(wake) = self.wake.get_mut(from)
            {
                *wake = true;
            }
        }
        left
    }

    /// A tenant's device does not take or give packets: somebody should look at it.
    pub(super) fn suspect(&mut self, tenant: &Tenant) {
        if let Some(device) = tenant.device()
            && self.checks.take(self.now)
        {
            self.nudges.send(Nudge::Check(device));
        }
    }

    /// The number of the control thread, and so the number of shards.
    pub(super) fn control(&self) -> usize {
        self.peers.len() - 1
    }

    /// Sends an inner packet that waited for its pair.
    pub(super) fn send_held(&mut self, spi: Spi, tenant: TenantId, from: CameFrom, packet: &[u8]) {
        match ip::parse(packet) {
            Some(info) => self.send_inner(spi, tenant, from, packet, &info, None),
            None => self.counters.count(Counter::BadInner),
        }
    }

    /// Drops what has waited too long. When there is more to drop; `None` when nothing waits.
    pub(super) fn expire_held(&mut self) -> Option<Instant> {
        if self.waiting.next_expiry().is_none() && self.holds.is_empty() {
            return None;
        }
        self.expire_waiting();
        let expired = self.holds.expire(self.now);
        self.counters.add(Counter::HoldExpired, expired as u64);
        self.holds.next_expiry().into_iter().chain(self.waiting.next_expiry()).min()
    }

    /// Ends a turn: sends what was gathered and wakes those who have work. False when events still wait.
    pub(super) fn finish_turn(&mut self) -> bool {
        self.deliver_joined();
        self.queue.flush();
        while let Some(refused) = self.queue.take_refused() {
            if let Some(sa) = self.table.get_mut(refused.spi) {
                sa.note_refusal(refused.len, self.now);
            }
        }
        self.wake_others();
        self.events.flush()
    }

    /// Whether something is left of what this turn was to do: a command that was carried out late in it.
    pub(super) fn has_left_something(&self) -> bool {
        !self.for_thread.is_empty() || !self.opened.is_empty()
    }

    fn wake_others(&mut self) {
        for (wake, peer) in self.wake.iter_mut().zip(self.peers.iter()) {
            if std::mem::take(wake)
                && let Err(error) = peer.wake()
            {
                tracing::debug!(%error, "cannot wake another thread");
            }
        }
    }
}
