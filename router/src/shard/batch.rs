//! Packets on their way out, gathered so that one system call sends many (UDP GSO).
//!
//! A packet is sealed straight into the batch: [`SendQueue::reserve`] gives the room, [`SendQueue::commit`] takes the packet
//! in. Without a commit nothing has happened. Packets of one SA leave in the order they were sealed, also when they differ
//! in DF or TOS and so cannot share a batch.

use std::collections::VecDeque;
use std::io;
use std::net::IpAddr;
use std::sync::Arc;

use esp::Spi;

use crate::counters::{Counter, Counters};
use crate::options::Encapsulation;
use crate::port::{Path, Port};
use crate::shard_port::{Exit, ShardPort};
use crate::sys::transmit::{self, Envelope};

/// What packets of one batch have in common.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Wrapping {
    pub(crate) path: Path,
    /// TOS or traffic class of the outer header.
    pub(crate) class: u8,
    pub(crate) dont_fragment: bool,
}

/// A packet that the path does not take.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Refused {
    pub(crate) spi: Spi,
    /// Octets of ESP.
    pub(crate) len: usize,
}

/// The batches of one shard.
pub(crate) struct SendQueue {
    /// One socket per listener.
    ports: Arc<[ShardPort]>,
    counters: Arc<Counters>,
    batches: Vec<Batch>,
    /// Batches in use are the first so many.
    used: usize,
    /// The one that goes first when all are in use.
    next_victim: usize,
    told: Told,
}

/// What the kernel has said about packets that were sent.
#[derive(Default)]
struct Told {
    /// The pairs that had a packet refused since the last look, the first packet of each.
    refused: Vec<Refused>,
    /// Remotes whose route does without segmentation offload, the last of them: the interface there cannot compute the checksums, or a
    /// transformation of the kernel's own is on the way.
    plain: VecDeque<IpAddr>,
    /// So many refused it one after the other.
    in_a_row: usize,
}

impl Told {
    /// A remote's route refuses offloaded segments.
    fn refuses_offload(&mut self, remote: IpAddr, port: &Port) {
        self.plain.truncate(PLAIN - 1);
        self.plain.push_front(remote);
        self.in_a_row += 1;
        if self.in_a_row > PLAIN {
            port.give_up_offload();
        }
    }
}

struct Batch {
    /// The pair whose packets these are.
    spi: Spi,
    wrapping: Wrapping,
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
    pub(crate) fn new(ports: Arc<[ShardPort]>, counters: Arc<Counters>) -> Self {
        let batches = (0..BATCHES).map(|_| Batch::new()).collect();
        Self { ports, counters, batches, used: 0, next_victim: 0, told: Told::default() }
    }

    /// Room for a packet of `len` octets of the pair `spi`, and the batch to commit it to. `None` when it is too large
    /// for UDP.
    pub(crate) fn reserve(&mut self, spi: Spi, wrapping: Wrapping, len: usize) -> Option<(usize, &mut [u8])> {
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
        let max_packets = self.ports.get(wrapping.path.listener)?.udp.max_segments().clamp(1, BATCH_PACKETS);
        // Without offload a batch is sent packet by packet, but gathered all the same: the code path is one.
        let max_packets = if max_packets == 1 { BATCH_PACKETS } else { max_packets };
        let batch = self.batches.get_mut(at)?;
        if !batch.takes(spi, &wrapping, len, max_packets) {
            batch.send(&self.ports, &self.counters, &mut self.told);
            *batch = Batch { spi, wrapping, ..batch.emptied() };
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
            batch.send(&self.ports, &self.counters, &mut self.told);
        }
        self.used = 0;
    }

    /// Throws everything away: so many packets.
    #[cfg(feature = "bench")]
    pub(crate) fn discard(&mut self) -> usize {
        let used = self.batches.iter_mut().take(self.used);
        let packets = used.map(|batch| {
            (batch.len, batch.closed) = (0, false);
            std::mem::take(&mut batch.packets)
        });
        let packets = packets.sum();
        self.used = 0;
        packets
    }

    /// One of the packets that were refused for their size.
    pub(crate) fn take_refused(&mut self) -> Option<Refused> {
        self.told.refused.pop()
    }
}

impl Batch {
    fn new() -> Self {
        let nowhere = std::net::SocketAddr::from(([0, 0, 0, 0], 0));
        Self {
            spi: Spi(0),
            wrapping: Wrapping {
                path: Path { listener: 0, source: None, remote: nowhere, encapsulation: Encapsulation::Udp },
                class: 0,
                dont_fragment: false,
            },
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
    fn takes(&self, spi: Spi, wrapping: &Wrapping, len: usize, max_packets: usize) -> bool {
        let same = self.spi == spi && self.wrapping == *wrapping;
        same && (self.packets == 0
            || !self.closed
                && len <= self.segment
                && self.len + len <= BATCH_OCTETS
                && self.packets < max_packets)
    }

    /// Sends what is in, if anything, and empties it.
    fn send(&mut self, ports: &[ShardPort], counters: &Counters, told: &mut Told) {
        let (packets, len) = (std::mem::take(&mut self.packets), std::mem::take(&mut self.len));
        self.closed = false;
        let Wrapping { path, class, dont_fragment } = self.wrapping;
        let Some(contents) = self.buffer.get(..len).filter(|_| packets > 0) else { return };
        let exit = ports.get(path.listener).and_then(|port| port.exit(path.encapsulation, dont_fragment));
        let Some(exit) = exit else { return counters.add(Counter::SendFailed, packets as u64) };
        let envelope = path.envelope(class);
        if !self.send_offloaded(exit, &envelope, packets, contents, counters, told) {
            self.send_each(exit, &envelope, contents, counters, &mut told.refused);
        }
    }

    /// Sends all by one call; false when that is not possible.
    fn send_offloaded(
        &self,
        exit: Exit<'_>,
        envelope: &Envelope,
        packets: usize,
        contents: &[u8],
        counters: &Counters,
        told: &mut Told,
    ) -> bool {
        let Some(port) = exit.udp.filter(|port| packets > 1 && port.max_segments() > 1) else { return false };
        let largest = if self.wrapping.path.remote.is_ipv4() { OFFLOAD_MAX_V4 } else { OFFLOAD_MAX_V6 };
        let remote = self.wrapping.path.remote.ip();
        if self.segment > largest || told.plain.contains(&remote) {
            return false;
        }
        counters.count(Counter::SendCalls);
        match transmit::segments(exit.fd, envelope, self.segment as u16, contents) {
            Ok(()) => {
                told.in_a_row = 0;
                counters.add(Counter::EspSent, packets as u64);
            }
            Err(error) if error.kind() == io::ErrorKind::WouldBlock || is_queue_full(&error) => {
                counters.add(Counter::SendBufferFull, packets as u64);
            }
            Err(error) if leads_nowhere(&error) => counters.add(Counter::SendFailed, packets as u64),
            Err(error) => {
                if error.raw_os_error() == Some(libc::EIO) {
                    told.refuses_offload(remote, port);
                }
                // A segment may also be larger than the path takes: then it shows which ones are.
                return false;
            }
        }
        true
    }

    /// Sends packet by packet, many by one call.
    fn send_each(
        &self,
        exit: Exit<'_>,
        envelope: &Envelope,
        contents: &[u8],
        counters: &Counters,
        refused: &mut Vec<Refused>,
    ) {
        let segment = self.segment.max(1);
        let mut rest = contents;
        while let Some(first) = rest.chunks(segment).next() {
            counters.count(Counter::SendCalls);
            let done = match transmit::each(exit.fd, envelope, segment, rest) {
                Ok(sent) => {
                    counters.add(Counter::EspSent, sent as u64);
                    sent.max(1)
                }
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => {
                    return counters.add(Counter::SendBufferFull, rest.len().div_ceil(segment) as u64);
                }
                Err(error) if is_queue_full(&error) => {
                    counters.count(Counter::SendBufferFull);
                    1
                }
                Err(error) if error.raw_os_error() == Some(libc::EMSGSIZE) => {
                    counters.count(Counter::OuterTooBig);
                    let known = refused.iter().any(|known| known.spi == self.spi);
                    // One is enough to learn from, and of more pairs than there are batches the next packet will tell.
                    if !known && refused.len() < BATCHES {
                        refused.push(Refused { spi: self.spi, len: first.len() });
                    }
                    1
                }
                Err(error) if leads_nowhere(&error) => {
                    return counters.add(Counter::SendFailed, rest.len().div_ceil(segment) as u64);
                }
                Err(_) => {
                    counters.count(Counter::SendFailed);
                    1
                }
            };
            rest = rest.get(done * segment..).unwrap_or_default();
        }
    }
}

/// Whether the address itself cannot be sent to, so that nothing of a batch can. To find that out takes some calls under a lock of
/// the process (`sys::error_queue`), which the packets of a peer without a route must not cost everybody else one by one.
fn leads_nowhere(error: &io::Error) -> bool {
    let all = [libc::ENETUNREACH, libc::EHOSTUNREACH, libc::EHOSTDOWN, libc::ENONET, libc::EACCES];
    error.raw_os_error().is_some_and(|error| all.contains(&error))
}

/// Whether the device's queue dropped a packet. The kernel tells that only at sockets whose ICMP errors are queued.
fn is_queue_full(error: &io::Error) -> bool {
    error.raw_os_error() == Some(libc::ENOBUFS)
}

/// Pairs sent to between two flushes without sending early. 2 MiB per shard.
const BATCHES: usize = 32;
/// Remotes of which it is known that their route refuses offload: a look at a cache line or five for each batch. Where more of them do one after
/// the other, and nobody takes any meanwhile, it is not the route but the machine.
const PLAIN: usize = 16;
/// The most packets that one system call takes: `UDP_MAX_SEGMENTS` of kernels before 6.9.
const BATCH_PACKETS: usize = 64;
/// The longest UDP datagram over IPv4 has 65,507 octets, and the kernel sets the same bound for a whole batch.
pub(super) const BATCH_OCTETS: usize = 65_000;
/// Offloaded segments are not fragmented, so larger ones go one by one: 1500 less the headers of IPv4 and UDP, and of IPv6 and UDP.
const OFFLOAD_MAX_V4: usize = 1472;
const OFFLOAD_MAX_V6: usize = 1452;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use super::*;
    use crate::port::Listener;

    fn queue() -> (SendQueue, Arc<Counters>) {
        let listener = Listener::open(IpAddr::V4(Ipv4Addr::UNSPECIFIED), 0, 0, 1).unwrap();
        let mut udp = listener.natt_shards.into_iter().zip(listener.natt_fragmenting);
        let (udp, fragmenting) = udp.next().unwrap();
        let counters = Arc::new(Counters::new());
        (SendQueue::new(Arc::new([ShardPort::new(udp, fragmenting, None)]), counters.clone()), counters)
    }

    #[test]
    fn a_remote_that_refuses_offload_takes_it_from_nobody_else_and_many_do() {
        let (queue, _) = queue();
        let (mut told, port) = (Told::default(), &queue.ports[0].udp);
        let offered = port.max_segments();
        let remote = |n: usize| IpAddr::V4(Ipv4Addr::from_bits(0x0a00_0000 + n as u32));
        for n in 0..PLAIN {
            told.refuses_offload(remote(n), port);
        }
        assert_eq!((told.plain.len(), port.max_segments()), (PLAIN, offered));
        // One that takes it shows that it is not the machine.
        told.in_a_row = 0;
        told.refuses_offload(remote(PLAIN), port);
        assert_eq!((told.plain.len(), port.max_segments()), (PLAIN, offered));
        assert!(!told.plain.contains(&remote(0)) && told.plain.contains(&remote(PLAIN)));
        told.in_a_row = PLAIN;
        told.refuses_offload(remote(PLAIN + 1), port);
        assert_eq!(port.max_segments(), 1);
    }

    /// To an address that is refused whatever the routes: without a leave of its own a socket does not send to all of a network.
    #[test]
    fn what_leads_nowhere_is_given_up_as_a_whole() {
        for (packets, len) in [(40, 1400), (40, 1480), (1, 100)] {
            let (mut queue, counters) = queue();
            let path = Path {
                listener: 0,
                source: None,
                remote: SocketAddr::from((Ipv4Addr::BROADCAST, 4500)),
                encapsulation: Encapsulation::Udp,
            };
            for _ in 0..packets {
                let wrapping = Wrapping { path, class: 0, dont_fragment: true };
                let (batch, room) = queue.reserve(Spi(256), wrapping, len).unwrap();
                room.fill(7);
                queue.commit(batch, len);
            }
            queue.flush();
            let mut counted = crate::counters::total([&*counters]);
            counted.retain(|(_, count)| *count > 0);
            counted.sort_unstable();
            assert_eq!(counted, [("drop_send_failed", packets), ("send_calls", 1)], "{packets} of {len}");
        }
    }
}
