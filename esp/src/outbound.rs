//! The sending half of a Child SA.

mod snapshot;

use std::fmt;

use crate::error::{SaError, SealError};
use crate::keys::SaKeys;
use crate::lease::Lease;
use crate::limits::{LimitEvent, Limits, Meter};
use crate::spi::Spi;
use crate::suite::Suite;
use crate::transform::{Direction, IvSource, PacketCrypto, Transform};
use crate::transport::Upper;
use crate::wire::{
    ESP_HEADER_LEN, Layout, NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, NEXT_HEADER_NONE, PADDING, TRAILER_LEN,
    payload_offset,
};

pub use snapshot::{OutboundProgress, OutboundSnapshot, Resume};

/// Seals packets: the outbound processing of RFC 4303 section 3.3.
///
/// Whether a packet belongs into this SA is the caller's decision ([`crate::SelectorPair::matches_outbound`]).
pub struct OutboundSa {
    spi: Spi,
    suite: Suite,
    transform: Transform,
    ivs: IvSource,
    /// The number of the last packet; 0 before the first.
    sequence: u64,
    /// The last number that may be sent: that of the lease, or the last there is.
    last: u64,
    /// It was told how far it may count, be it as far as the numbers go.
    leased: bool,
    /// The last number that is sent without further thought: `last`, or the one before a warning is due.
    gate: u64,
    meter: Meter,
}

/// A sealed packet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Sealed {
    /// Octets written, from the SPI to the end of the ICV.
    pub len: usize,
    /// The whole sequence number.
    pub sequence: u64,
    /// A limit that this packet reached.
    pub limit: Option<LimitEvent>,
}

impl OutboundSa {
    /// `spi` is the one the peer chose. `iv_seed` must come from a random source, be secret and be used for this SA
    /// alone; only CBC suites draw on it.
    ///
    /// Without ESN a soft limit stands at 7/8 of the 32-bit numbers even when none is asked for, so that an SA is rekeyed
    /// before its numbers run out.
    pub fn new(
        spi: Spi,
        suite: Suite,
        keys: &SaKeys,
        iv_seed: &[u8; 32],
        limits: &Limits,
    ) -> Result<Self, SaError> {
        Ok(Self {
            spi,
            suite,
            transform: Transform::new(&suite, keys, Direction::Seal)?,
            ivs: IvSource::new(suite.encryption, iv_seed)?,
            sequence: 0,
            last: last_number(suite),
            leased: false,
            gate: last_number(suite),
            meter: Meter::new(limits),
        })
    }

    /// Continues after `sequence`: for an SA taken over from another node, whose last numbers may not all be known and
    /// are jumped over. Never goes back, because a number used twice breaks the AEADs.
    pub fn resume_at(&mut self, sequence: u64) {
        self.sequence = self.sequence.max(sequence);
    }

    /// Skips `by` numbers, for a peer that takes only later ones from now on (RFC 6311 section 6.4). What the caller has to do for it to go on, if
    /// no packet will say so any more: reserve further numbers, or rekey when there are none.
    pub fn advance(&mut self, by: u64) -> Option<LimitEvent> {
        let end = last_number(self.suite);
        self.resume_at(self.sequence.saturating_add(by).min(end));
        match self.sequence {
            sequence if sequence == end => Some(LimitEvent::Soft),
            sequence if sequence >= self.last => Some(LimitEvent::NumbersLow),
            _ => None,
        }
    }

    /// Up to which number it may send from now on. Nobody has told it of one when it is made, so it then goes as far as the numbers do.
    /// When they are used up it seals nothing until more are reserved.
    /// Nothing warns of that; see [`OutboundSa::warn_at`].
    pub fn reserve(&mut self, lease: Lease) {
        self.last = lease.last().min(last_number(self.suite));
        self.leased = lease.end().is_some();
        self.gate = self.last;
    }

    /// The packet with this number, or the next one where it is sent already, comes with [`LimitEvent::NumbersLow`]: once, until
    /// this is called again. It costs the packets before it nothing.
    pub fn warn_at(&mut self, number: u64) {
        self.gate = self.last.min(number.saturating_sub(1));
    }

    /// Up to which number it may send, if it was told. A lease that goes as far as the numbers do is one all the same: whoever takes
    /// over goes on beyond it, and nowhere before.
    pub fn lease(&self) -> Lease {
        if self.leased { Lease::up_to(self.last) } else { Lease::UNBOUNDED }
    }

    /// The hard lifetime in seconds is over (RFC 4301 section 4.4.2.1): nothing is sealed any more. The clock is the
    /// caller's.
    pub fn expire(&mut self) {
        self.meter.expire();
    }

    /// The next packet beyond the soft limit tells of it once more ([`LimitEvent::Soft`]), for whoever was told may not have been
    /// able to do anything: the SA was on its way to another node.
    pub fn tell_soft_again(&mut self) {
        self.meter.tell_soft_again();
    }

    /// Seals `inner`, an IPv4 or IPv6 packet, into the front of `out`.
    ///
    /// [`OutboundSa::sealed_len`] says how much room it takes. Nothing is counted when it fails.
    pub fn seal(&mut self, inner: &[u8], out: &mut [u8]) -> Result<Sealed, SealError> {
        let at = self.payload_offset();
        let place = out.get_mut(at..at + inner.len()).ok_or(SealError::NoSpace)?;
        place.copy_from_slice(inner);
        self.seal_in_place(out, inner.len())
    }

    /// Seals the packet of `inner_len` octets that the caller has put at [`OutboundSa::payload_offset`] of `out`.
    pub fn seal_in_place(&mut self, out: &mut [u8], inner_len: usize) -> Result<Sealed, SealError> {
        self.seal_padded(out, inner_len, inner_len)
    }

    /// As [`OutboundSa::seal_in_place`], with the packet padded to `payload_len` octets against traffic analysis (RFC 4303
    /// section 2.7; [`crate::TfcPadding`] says how many). Needs the room that [`OutboundSa::sealed_len`] says for those.
    pub fn seal_padded(
        &mut self,
        out: &mut [u8],
        inner_len: usize,
        payload_len: usize,
    ) -> Result<Sealed, SealError> {
        let at = self.payload_offset();
        let next_header = match out.get(at) {
            Some(first) if inner_len > 0 && first >> 4 == 4 => NEXT_HEADER_IPV4,
            Some(first) if inner_len > 0 && first >> 4 == 6 => NEXT_HEADER_IPV6,
            None if inner_len > 0 => return Err(SealError::NoSpace),
            _ => return Err(SealError::BadInner),
        };
        let payload_len = self.pad(out, inner_len, payload_len)?;
        self.seal_payload(out, payload_len, next_header, inner_len)
    }

    /// Seals in transport mode: the caller has put what follows the IP header, [`Upper::len`] octets, at
    /// [`OutboundSa::payload_offset`] of `out`. Padded to `payload_len` octets if [`Upper::may_be_padded`]. The whole packet
    /// is counted.
    pub fn seal_transport(
        &mut self,
        out: &mut [u8],
        upper: &Upper,
        payload_len: usize,
    ) -> Result<Sealed, SealError> {
        let wanted = if upper.may_be_padded() { payload_len } else { upper.len() };
        let payload_len = self.pad(out, upper.len(), wanted)?;
        self.seal_payload(out, payload_len, upper.protocol(), upper.header_len() + upper.len())
    }

    /// Fills the payload up to `payload_len` octets with zeros; how many it has then.
    fn pad(&self, out: &mut [u8], len: usize, payload_len: usize) -> Result<usize, SealError> {
        let at = self.payload_offset();
        let payload_len = payload_len.max(len);
        if payload_len > len {
            // The buffer may hold what belongs to another tenant.
            out.get_mut(at + len..at + payload_len).ok_or(SealError::NoSpace)?.fill(0);
        }
        Ok(payload_len)
    }

    /// Seals a dummy packet with `payload_len` octets of nothing into the front of `out` (RFC 4303 section 2.6). The
    /// receiver drops it; whoever watches cannot tell it from others of that size. It counts as a packet of no octets.
    pub fn seal_dummy(&mut self, payload_len: usize, out: &mut [u8]) -> Result<Sealed, SealError> {
        let at = self.payload_offset();
        out.get_mut(at..at + payload_len).ok_or(SealError::NoSpace)?.fill(0);
        self.seal_payload(out, payload_len, NEXT_HEADER_NONE, 0)
    }

    /// Seals the payload that stands in its place.
    fn seal_payload(
        &mut self,
        out: &mut [u8],
        payload_len: usize,
        next_header: u8,
        counted: usize,
    ) -> Result<Sealed, SealError> {
        if self.meter.is_expired() {
            return Err(SealError::Expired);
        }
        if self.meter.is_spent() {
            return Err(SealError::HardLimit);
        }
        let layout = Layout::for_payload(&self.suite, payload_len);
        if self.sequence >= self.gate {
            return self.seal_at_gate(out, payload_len, next_header, counted);
        }
        let packet = out.get_mut(..layout.total).ok_or(SealError::NoSpace)?;
        let sequence = self.sequence + 1;
        write_header(packet, self.spi, sequence);
        let iv = packet.get_mut(layout.iv..layout.payload).ok_or(SealError::NoSpace)?;
        self.ivs.write(sequence, iv).map_err(|_| SealError::Crypto)?;
        let trailer = packet.get_mut(layout.payload + payload_len..layout.icv).ok_or(SealError::NoSpace)?;
        write_trailer(trailer, layout.padding, next_header);
        // From here on the number is used up, whatever happens: the nonce may have been seen.
        self.sequence = sequence;
        let at = PacketCrypto { sequence, payload: layout.payload, icv: layout.icv };
        self.transform.seal(packet, at).map_err(|_| SealError::Crypto)?;
        if sequence >= LAST_NUMBERS && !self.suite.esn {
            self.meter.end_soon();
        }
        let limit = self.meter.count(counted);
        Ok(Sealed { len: layout.total, sequence, limit })
    }

    /// As [`OutboundSa::seal_payload`], where the next number is one to warn of, or is none. Numbers must never cycle
    /// (RFC 4303 section 3.3.3).
    #[cold]
    fn seal_at_gate(
        &mut self,
        out: &mut [u8],
        payload_len: usize,
        next_header: u8,
        counted: usize,
    ) -> Result<Sealed, SealError> {
        if self.sequence >= last_number(self.suite) {
            return Err(SealError::SequenceExhausted);
        }
        if self.sequence >= self.last {
            return Err(SealError::LeaseUsedUp);
        }
        let gate = std::mem::replace(&mut self.gate, self.last);
        let mut sealed = self.seal_payload(out, payload_len, next_header, counted);
        match &mut sealed {
            Ok(Sealed { limit: limit @ None, .. }) => *limit = Some(LimitEvent::NumbersLow),
            // A limit goes first; the warning comes with the next packet.
            Ok(_) | Err(_) => self.gate = gate,
        }
        sealed
    }

    /// Where in the sealed packet the inner one begins.
    pub fn payload_offset(&self) -> usize {
        payload_offset(&self.suite)
    }

    /// Octets of the sealed packet for an inner one of `inner_len` octets.
    pub fn sealed_len(&self, inner_len: usize) -> usize {
        Layout::for_payload(&self.suite, inner_len).total
    }

    /// Octets that sealing adds to an inner packet of `inner_len` octets.
    pub fn overhead(&self, inner_len: usize) -> usize {
        self.sealed_len(inner_len) - inner_len
    }

    /// The largest payload whose sealed packet has at most `room` octets; 0 when not even the smallest fits.
    pub fn max_payload(&self, room: usize) -> usize {
        let text = room.saturating_sub(self.payload_offset() + self.suite.icv_len());
        let align = self.suite.encryption.alignment();
        (text / align * align).saturating_sub(TRAILER_LEN)
    }

    /// As [`crate::InboundSa::leave_thread`].
    pub fn leave_thread(&self) {
        self.transform.leave_thread();
    }

    /// The SPI that the peer chose.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// The algorithms.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// The number of the last packet; 0 before the first.
    pub fn sequence(&self) -> u64 {
        self.sequence
    }

    /// Packets sealed.
    pub fn packets(&self) -> u64 {
        self.meter.packets
    }

    /// Octets of inner packets sealed.
    pub fn bytes(&self) -> u64 {
        self.meter.bytes
    }
}

/// The last number there is.
fn last_number(suite: Suite) -> u64 {
    if suite.esn { u64::MAX } else { u64::from(u32::MAX) }
}

impl fmt::Debug for OutboundSa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("OutboundSa")
            .field("spi", &self.spi)
            .field("suite", &self.suite)
            .field("sequence", &self.sequence)
            .finish_non_exhaustive()
    }
}

/// From this number on an SA without ESN asks for a rekey, whatever its limits: at 10 million packets a second that
/// leaves 53 s.
const LAST_NUMBERS: u64 = 0xe000_0000;

fn write_header(packet: &mut [u8], spi: Spi, sequence: u64) {
    let low = sequence as u32;
    let header = spi.0.to_be_bytes().into_iter().chain(low.to_be_bytes());
    for (to, from) in packet.iter_mut().take(ESP_HEADER_LEN).zip(header) {
        *to = from;
    }
}

/// Padding 1, 2, 3..., its length and the next header (RFC 4303 section 2.4).
fn write_trailer(trailer: &mut [u8], padding: usize, next_header: u8) {
    if let Some((place, end)) = trailer.split_last_chunk_mut::<TRAILER_LEN>()
        && let Some(octets) = PADDING.get(..padding)
        && place.len() == padding
    {
        place.copy_from_slice(octets);
        *end = [padding as u8, next_header];
    }
}
