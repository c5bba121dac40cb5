//! Handing packets from one thread to another.
//!
//! Between every two threads lies a ring with one writer and one reader. Buffers travel back by a second ring, so that
//! after a while nothing is allocated but for runs. A full ring means that the other thread cannot keep up: what came from the
//! network is dropped and counted, as a full queue of a network card would; a device is not read until there is room.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering, fence};

use esp::Spi;
use esp::run::Run;
use rtrb::{Consumer, Producer, RingBuffer};

use crate::came_from::CameFrom;
use crate::model::TenantId;
use crate::port::Origin;

/// What to do with a packet that is handed over.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Task {
    /// A datagram of the NAT traversal port, or of raw ESP.
    Datagram(Origin),
    /// An inner packet, or all that it stands for, to seal on the pair `spi`, if that is still a pair of `tenant`.
    Seal { spi: Spi, tenant: TenantId, from: CameFrom, run: Option<Run> },
}

/// A packet on its way.
pub(crate) struct Handoff {
    pub(crate) task: Task,
    pub(crate) packet: Vec<u8>,
}

/// The writing end towards one thread.
pub(crate) struct Outbox {
    packets: Producer<Handoff>,
    empties: Consumer<Vec<u8>>,
    shared: Arc<Shared>,
}

/// What both ends know of a ring.
#[derive(Debug, Default)]
struct Shared {
    /// Octets under way.
    octets: AtomicUsize,
    /// The writer waits for room.
    starved: AtomicBool,
}

impl Outbox {
    /// Copies the packet into the ring; false when that is full.
    pub(crate) fn push(&mut self, task: Task, packet: &[u8]) -> bool {
        if self.is_full() {
            return false;
        }
        self.shared.octets.fetch_add(packet.len(), Ordering::Relaxed);
        let mut buffer = self.empties.pop().unwrap_or_default();
        buffer.clear();
        buffer.extend_from_slice(packet);
        self.packets.push(Handoff { task, packet: buffer }).is_ok()
    }

    /// Whether there is room. If not, the reader wakes this thread when there is.
    pub(crate) fn has_room(&self) -> bool {
        if !self.is_full() {
            return true;
        }
        self.shared.starved.store(true, Ordering::Relaxed);
        // Either this sees what the reader has taken out meanwhile, or the reader sees that somebody waits.
        fence(Ordering::SeqCst);
        !self.is_full()
    }

    fn is_full(&self) -> bool {
        self.packets.is_full() || self.shared.octets.load(Ordering::Relaxed) >= RING_OCTETS
    }
}

/// The reading end from one thread.
pub(crate) struct Inbox {
    packets: Consumer<Handoff>,
    empties: Producer<Vec<u8>>,
    shared: Arc<Shared>,
}

impl Inbox {
    /// The next packet.
    pub(crate) fn pop(&mut self) -> Option<Handoff> {
        let handoff = self.packets.pop().ok()?;
        self.shared.octets.fetch_sub(handoff.packet.len(), Ordering::Relaxed);
        Some(handoff)
    }

    /// Whether the writer waits for room, now that something was taken out; told once.
    pub(crate) fn writer_waits(&self) -> bool {
        fence(Ordering::SeqCst);
        self.shared.starved.load(Ordering::Relaxed) && self.shared.starved.swap(false, Ordering::Relaxed)
    }

    /// Whether a packet waits.
    pub(crate) fn is_empty(&self) -> bool {
        self.packets.is_empty()
    }

    /// Gives the buffer back to the writer.
    pub(crate) fn recycle(&mut self, buffer: Vec<u8>) {
        // Large ones are few at a time, and a ring full of them would hold 64 MiB.
        if buffer.capacity() <= KEPT_OCTETS {
            // The ring of empties is as long as that of packets, so there is room; if not, the buffer is freed.
            let _ = self.empties.push(buffer);
        }
    }
}

/// One thread's ends of all its rings: element `i` is for thread `i`; its own are never used.
pub(crate) struct Mailboxes {
    pub(crate) outboxes: Vec<Outbox>,
    pub(crate) inboxes: Vec<Inbox>,
}

/// Connects every one of `threads` threads with every other.
pub(crate) fn connect(threads: usize) -> Vec<Mailboxes> {
    let mut all: Vec<_> =
        (0..threads).map(|_| Mailboxes { outboxes: Vec::new(), inboxes: Vec::new() }).collect();
    for from in 0..threads {
        for to in 0..threads {
            let capacity = if from == to { 1 } else { RING_PACKETS };
            let (outbox, inbox) = ring(capacity);
            if let Some(sender) = all.get_mut(from) {
                sender.outboxes.push(outbox);
            }
            if let Some(receiver) = all.get_mut(to) {
                receiver.inboxes.push(inbox);
            }
        }
    }
    all
}

fn ring(capacity: usize) -> (Outbox, Inbox) {
    let (packets_in, packets_out) = RingBuffer::new(capacity);
    let (empties_in, empties_out) = RingBuffer::new(capacity);
    let shared = Arc::<Shared>::default();
    (
        Outbox { packets: packets_in, empties: empties_out, shared: shared.clone() },
        Inbox { packets: packets_out, empties: empties_in, shared },
    )
}

/// What one receiving system call can bring: 16 buffers of 64 joined datagrams. A thread looks at its inboxes after each.
pub(crate) const RING_PACKETS: usize = 1024;
/// Octets under way at a time: as many full packets as there are places, or 24 runs and one more.
const RING_OCTETS: usize = RING_PACKETS * 1500;
/// Buffers up to this size are used again: those of single packets on all usual paths.
const KEPT_OCTETS: usize = 9216;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use super::*;

    const TASK: Task = Task::Seal { spi: Spi(7), tenant: TenantId(1), from: CameFrom::Device, run: None };

    #[test]
    fn a_full_ring_refuses_and_recovers() {
        let mut threads = connect(2);
        let mut second = threads.pop().unwrap();
        let mut first = threads.pop().unwrap();
        for number in 0..RING_PACKETS {
            assert!(first.outboxes[1].push(TASK, &[number as u8; 100]));
        }
        assert!(!first.outboxes[1].push(TASK, &[0; 100]));
        for number in 0..RING_PACKETS {
            let handoff = second.inboxes[0].pop().unwrap();
            assert_eq!((handoff.task, handoff.packet[0]), (TASK, number as u8));
            second.inboxes[0].recycle(handoff.packet);
        }
        assert!(second.inboxes[0].is_empty());
        assert!(first.outboxes[1].push(TASK, &[1; 100]));
    }

    #[test]
    fn whoever_waits_for_room_is_told_once() {
        let (mut outbox, mut inbox) = ring(RING_PACKETS);
        for _ in 0..RING_OCTETS / 60_000 {
            assert!(outbox.has_room() && outbox.push(TASK, &[0; 60_000]));
        }
        assert!(outbox.push(TASK, &[0; 60_000]));
        assert!(!inbox.writer_waits());
        assert!(!outbox.push(TASK, &[0; 1]) && !outbox.has_room());
        let large = inbox.pop().unwrap();
        assert!(inbox.writer_waits() && !inbox.writer_waits());
        assert!(outbox.has_room());
        inbox.recycle(large.packet);
        assert!(outbox.empties.pop().is_err());
    }

    #[test]
    fn buffers_come_back() {
        let (mut outbox, mut inbox) = ring(4);
        outbox.push(TASK, &[1; 1400]);
        let handoff = inbox.pop().unwrap();
        let address = handoff.packet.as_ptr();
        inbox.recycle(handoff.packet);
        outbox.push(TASK, &[2; 1000]);
        let handoff = inbox.pop().unwrap();
        assert_eq!(handoff.packet.as_ptr(), address);
        assert_eq!(handoff.packet, [2; 1000]);
    }

    #[test]
    fn every_thread_reaches_every_other() {
        let mut threads = connect(4);
        for from in 0..4usize {
            for to in (0..4).filter(|to| *to != from) {
                assert!(threads[from].outboxes[to].push(TASK, &[from as u8]));
                assert_eq!(threads[to].inboxes[from].pop().unwrap().packet, [from as u8]);
            }
        }
    }
}
