//! Packets on their way out, gathered so that one system call sends many (UDP GSO).
//!
//! A packet is sealed straight into the batch: [`SendQueue::reserve`] gives the room, [`SendQueue::commit`] takes the packet
//! in. Without a commit nothing has happened. Packets of one SA leave in the order they were sealed.

use std::io;
use std::sync::Arc;

use esp::Spi;
use esp::ecn::Ecn;

use crate::counters::{Counter, Counters};
use crate::port::{Path, Port};

/// The batches of one shard.
pub(crate) struct SendQueue {
    /// One socket per listener.
    ports: Arc<[Port]>,
    counters: Arc<Counters>,
    batches: Vec<Batch>,
    /// Batches in use are the first so many.
    used: usize,
    /// The one that goes first when all are in use.
    next_victim: usize,
}

struct Batch {
    /// The pair whose packets these are.
    spi: Spi,
    path: Path,
    ecn: Ecn,
    /// Octets of every packet but the last.
    segment: usize,
    /// Octets of all.
    len: usize,
    packets: usize,
    /// A shorter packet has ended it.
    closed: bool,
    buffer: Box<[u8]>,
}

impl SendQueue {
    pub(crate) fn new(ports: Arc<[Port]>, counters: Arc<Counters>) -> Self {
        let batches = (0..BATCHES).map(|_| Batch::new()).collect();
        Self { ports, counters, batches, used: 0, next_victim: 0 }
    }

    /// Room for a packet of `len` octets of the pair `spi`, and the batch to commit it to. `None` when it is too large
    /// for UDP.
    pub(crate) fn reserve(
        &mut self,
        spi: Spi,
        path: Path,
        ecn: Ecn,
        len: usize,
    ) -> Option<(usize, &mut [u8])> {
        if len > BATCH_OCTETS {
            return None;
        }
        let at = match self.batches.iter().take(self.used).position(|batch| batch.spi == spi) {
            Some(at) => at,
            None if self.used < self.batches.len() => {
                self.used += 1;
                self.used - 1
            }
            None => {
                self.next_victim = (self.next_victim + 1) % self.batches.len();
                self.next_victim
            }
        };
        let max_packets = self.ports.get(path.listener)?.max_segments().clamp(1, BATCH_PACKETS);
        // Without offload a batch is sent packet by packet, but gathered all the same: the code path is one.
        let max_packets = if max_packets == 1 { BATCH_PACKETS } else { max_packets };
        let batch = self.batches.get_mut(at)?;
        if !batch.takes(spi, &path, ecn, len, max_packets) {
            batch.send(&self.ports, &self.counters);
            *batch = Batch { spi, path, ecn, ..batch.emptied() };
        }
        let from = batch.len;
        let room = batch.buffer.get_mut(from..from + len)?;
        Some((at, room))
    }

    /// Takes in the packet of `len` octets that was sealed into the room of `batch`.
    pub(crate) fn commit(&mut self, batch: usize, len: usize) {
        let Some(batch) = self.batches.get_mut(batch) else { return };
        if batch.packets == 0 {
            batch.segment = len;
        }
        batch.closed = len < batch.segment;
        batch.packets += 1;
        batch.len += len;
    }

    /// Sends everything.
    pub(crate) fn flush(&mut self) {
        for batch in self.batches.iter_mut().take(self.used) {
            batch.send(&self.ports, &self.counters);
        }
        self.used = 0;
    }
}

impl Batch {
    fn new() -> Self {
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            spi: Spi(0),
            path: Path { listener: 0, source: None, remote: nowhere },
            ecn: Ecn::NotEct,
            segment: 0,
            len: 0,
            packets: 0,
            closed: false,
            buffer: vec![0; BATCH_OCTETS].into_boxed_slice(),
        }
    }

    /// Empties it and hands over its buffer.
    fn emptied(&mut self) -> Self {
        Self {
            segment: 0,
            len: 0,
            packets: 0,
            closed: false,
            buffer: std::mem::take(&mut self.buffer),
            ..*self
        }
    }

    /// Whether a packet may follow those that are in.
    fn takes(&self, spi: Spi, path: &Path, ecn: Ecn, len: usize, max_packets: usize) -> bool {
        let same = self.spi == spi && self.path == *path && self.ecn == ecn;
        same && (self.packets == 0
            || !self.closed
                && len <= self.segment
                && self.len + len <= BATCH_OCTETS
                && self.packets < max_packets)
    }

    /// Sends what is in, if anything, and empties it.
    fn send(&mut self, ports: &[Port], counters: &Counters) {
        let (packets, len) = (std::mem::take(&mut self.packets), std::mem::take(&mut self.len));
        self.closed = false;
        let (Some(port), Some(contents)) = (ports.get(self.path.listener), self.buffer.get(..len)) else {
            return;
        };
        if packets > 1 && port.max_segments() > 1 && self.segment <= OFFLOAD_SEGMENT_MAX {
            counters.count(Counter::SendCalls);
            match port.send_segments(&self.path, self.ecn, self.segment, contents) {
                Ok(()) => return counters.add(Counter::EspSent, packets as u64),
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return counters.add(Counter::SendBufferFull, packets as u64);
                }
                // The interface may not do segmentation, or a segment be larger than the path takes unfragmented:
                // one by one it works, and the kernel fragments where it must.
                Err(_) => {}
            }
        }
        if packets == 0 {
            return;
        }
        for packet in contents.chunks(self.segment.max(1)) {
            counters.count(Counter::SendCalls);
            counters.count(match port.send(&self.path, self.ecn, packet) {
                Ok(()) => Counter::EspSent,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => Counter::SendBufferFull,
                Err(_) => Counter::SendFailed,
            });
        }
    }
}

/// Pairs sent to between two flushes without sending early. 2 MiB per shard.
const BATCHES: usize = 32;
/// The most packets that one system call takes: `UDP_MAX_SEGMENTS` of kernels before 6.9.
const BATCH_PACKETS: usize = 64;
/// The longest UDP datagram over IPv4 has 65,507 octets, and the kernel sets the same bound for a whole batch.
const BATCH_OCTETS: usize = 65_000;
/// Offloaded segments are not fragmented, so larger ones go one by one: 1500 less the headers of IPv6 and UDP.
const OFFLOAD_SEGMENT_MAX: usize = 1452;
