//! Joining packets of one flow to a run.

use super::head::{self, Head};
use super::{PSH, Run, RunKind};
use crate::checksum;
use crate::ip::IPV4_HEADER_LEN;

/// Makes one run at a time.
#[derive(Debug)]
pub struct Joiner {
    buffer: Box<[u8]>,
    len: usize,
    packets: usize,
    /// Of the first packet.
    head: Option<Head>,
    segment: usize,
    /// Nothing may follow: a packet was shorter, or pushed.
    closed: bool,
}

impl Default for Joiner {
    fn default() -> Self {
        Self::new()
    }
}

/// What has been joined.
#[derive(Debug, PartialEq, Eq)]
pub struct Joined<'a> {
    /// One packet, or a run with the sum of its pseudo-header in its checksum field.
    pub packet: &'a [u8],
    /// `None` for a packet that found no company and is as it was.
    pub run: Option<Run>,
    /// So many packets.
    pub packets: usize,
}

impl<'a> Joined<'a> {
    /// A packet by itself.
    pub const fn single(packet: &'a [u8]) -> Self {
        Self { packet, run: None, packets: 1 }
    }
}

impl Joiner {
    /// One that is empty.
    pub fn new() -> Self {
        Self {
            buffer: vec![0; MAX_RUN].into_boxed_slice(),
            len: 0,
            packets: 0,
            head: None,
            segment: 0,
            closed: false,
        }
    }

    /// Nothing has been joined.
    pub fn is_empty(&self) -> bool {
        self.packets == 0
    }

    /// Takes the packet as the first, if it may be one; what was there is gone. `udp` when whoever takes the run knows those of
    /// UDP.
    pub fn begin(&mut self, packet: &[u8], udp: bool) -> bool {
        self.clear();
        let takes = |head: &Head| (udp || head.kind != RunKind::Udp) && head.is_right(packet);
        let Some(head) = Head::of(packet).filter(takes) else { return false };
        let Some(place) = self.buffer.get_mut(..packet.len()) else { return false };
        place.copy_from_slice(packet);
        (self.len, self.packets) = (packet.len(), 1);
        self.segment = packet.len() - head.headers;
        self.closed = head.push;
        self.head = Some(head);
        true
    }

    /// Takes the packet as the next, if it continues what is there.
    pub fn append(&mut self, packet: &[u8]) -> bool {
        let Some(first) = self.head.filter(|_| !self.closed) else { return false };
        let Some(head) = Head::of(packet) else { return false };
        let (payload, len) = (packet.len() - head.headers, self.len + packet.len() - head.headers);
        let joined = (self.len - first.headers) as u32;
        let follows = match head.kind {
            RunKind::Udp => true,
            _ => head.seq == first.seq.wrapping_add(joined),
        };
        let numbered =
            first.upper != IPV4_HEADER_LEN || head.id == first.id.wrapping_add(self.packets as u16);
        if !follows
            || !numbered
            || payload > self.segment
            || self.packets >= MAX_PACKETS
            || !head.agrees(packet, &first, &self.buffer)
            || !head.is_right(packet)
        {
            return false;
        }
        let Some(place) = self.buffer.get_mut(self.len..len) else { return false };
        place.copy_from_slice(packet.get(head.headers..).unwrap_or_default());
        if head.push
            && let Some(flags) = self.buffer.get_mut(first.upper + 13)
        {
            *flags |= PSH;
        }
        (self.len, self.packets) = (len, self.packets + 1);
        self.closed = head.push || payload < self.segment;
        true
    }

    /// Whether the packet is of the flow whose packets are there, and so must not overtake them.
    pub fn holds_flow_of(&self, packet: &[u8]) -> bool {
        self.head.is_some_and(|head| Head::same_flow(packet, &head, &self.buffer))
    }

    /// What has been joined; afterwards it is empty. `None` when there is nothing.
    pub fn finish(&mut self) -> Option<Joined<'_>> {
        let head = self.head.take()?;
        let packets = std::mem::take(&mut self.packets);
        let packet = self.buffer.get_mut(..self.len)?;
        if packets == 1 {
            return Some(Joined::single(packet));
        }
        let run = Run {
            kind: head.kind,
            upper: head.upper as u16,
            headers: head.headers as u16,
            segment: self.segment as u16,
        };
        let upper_len = (packet.len() - head.upper) as u16;
        if head.upper == IPV4_HEADER_LEN {
            let len = packet.len() as u16;
            let fixed = packet.first_chunk_mut::<IPV4_HEADER_LEN>()?;
            [fixed[2], fixed[3]] = len.to_be_bytes();
            [fixed[10], fixed[11]] = [0, 0];
            [fixed[10], fixed[11]] = checksum::of(&[fixed]).to_be_bytes();
        } else {
            packet.get_mut(4..6)?.copy_from_slice(&upper_len.to_be_bytes());
        }
        if head.kind == RunKind::Udp {
            packet.get_mut(head.upper + 4..head.upper + 6)?.copy_from_slice(&upper_len.to_be_bytes());
        }
        let sum = head::pseudo(packet, head.upper, head.kind.protocol(), upper_len);
        let at = head.upper + head.kind.checksum_offset();
        packet.get_mut(at..at + 2)?.copy_from_slice(&sum.to_be_bytes());
        Some(Joined { packet, run: Some(run), packets })
    }

    fn clear(&mut self) {
        (self.len, self.packets, self.head, self.closed) = (0, 0, None, false);
    }
}

/// Whether a packet may be one of a run, by its headers; `None` where it does not show of what flow it is, so that nothing may come
/// after it that came before. `udp` as for [`Joiner::begin`].
pub fn may_be_of_a_run(packet: &[u8], udp: bool) -> Option<bool> {
    match Head::of(packet) {
        Some(head) => Some(udp || head.kind != RunKind::Udp),
        None => Head::shows_flow(packet).then_some(false),
    }
}

/// The longest packet of IPv4. Hosts take longer ones of IPv6 only when asked to.
const MAX_RUN: usize = 65_535;
/// What kernels before 6.9 take in one run of UDP (`UDP_MAX_SEGMENTS`), and more than fits of TCP on most paths.
const MAX_PACKETS: usize = 64;
