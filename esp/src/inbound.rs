//! The receiving half of a Child SA.

mod snapshot;

use std::fmt;
use std::ops::Range;
use std::sync::Arc;

use crate::error::{OpenError, SaError};
use crate::ip::{self, PacketInfo};
use crate::keys::SaKeys;
use crate::limits::{LimitEvent, Limits, Meter};
use crate::replay::{ReplayError, ReplayWindow};
use crate::returning::returning;
use crate::selector::SelectorPair;
use crate::selectors::Selectors;
use crate::spi::Spi;
use crate::suite::Suite;
use crate::transform::{Direction, PacketCrypto, Transform, TransformError};
use crate::transport::Hosts;
use crate::wire::{
    NEXT_HEADER_IPV4, NEXT_HEADER_IPV6, NEXT_HEADER_NONE, PADDING, TRAILER_LEN, payload_offset, read_u32,
};

pub use snapshot::{InboundProgress, InboundSnapshot};

/// Opens packets: the inbound processing of RFC 4303 section 3.4 and RFC 4301 section 5.2.
///
/// What a packet out of the other SA of the pair asks as well stands last, so that it lies beside that one ([`InboundSa::selectors`]).
#[repr(C)]
pub struct InboundSa {
    spi: Spi,
    suite: Suite,
    transform: Transform,
    window: ReplayWindow,
    meter: Meter,
    selectors: Selectors,
}

/// An opened packet.
#[derive(Debug, Clone)]
pub struct Opened {
    /// Where the inner packet lies in its buffer, without padding of any kind.
    pub inner: Range<usize>,
    /// The inner packet's headers, or what it stands for if the selectors take only that.
    pub info: PacketInfo,
    /// It is an ICMP error, and `info` what it [stands for](crate::returning).
    pub stands_for: bool,
    /// The whole sequence number.
    pub sequence: u64,
    /// A limit that this packet reached.
    pub limit: Option<LimitEvent>,
    /// Whether this is the first packet that the SA ever delivered.
    pub first: bool,
}

impl InboundSa {
    /// `replay_window` is in packets ([`ReplayWindow::MIN_SIZE`]`..=`[`ReplayWindow::MAX_SIZE`]).
    pub fn new(
        spi: Spi,
        suite: Suite,
        keys: &SaKeys,
        selectors: Arc<SelectorPair>,
        replay_window: u32,
        limits: &Limits,
    ) -> Result<Self, SaError> {
        Ok(Self {
            spi,
            suite,
            transform: Transform::new(&suite, keys, Direction::Open)?,
            window: ReplayWindow::new(replay_window)?,
            meter: Meter::new(limits),
            selectors: Selectors::new(selectors),
        })
    }

    /// Continues an SA of which another node accepted numbers up to `top`: nothing at or below it is taken.
    pub fn resume_at(&mut self, top: u64) -> Result<(), SaError> {
        self.window = ReplayWindow::resume(self.window.size(), top)?;
        Ok(())
    }

    /// The hard lifetime in seconds is over (RFC 4301 section 4.4.2.1): nothing is opened any more. The clock is the
    /// caller's.
    pub fn expire(&mut self) {
        self.meter.expire();
    }

    /// The next packet beyond the soft limit tells of it once more ([`LimitEvent::Soft`]), for whoever was told may not have been
    /// able to do anything: the SA was on its way to another node.
    pub fn tell_soft_again(&mut self) {
        self.meter.tell_soft_again();
    }

    /// Opens `packet`, which starts with the SPI and ends with the ICV, in place.
    ///
    /// The order is that of the RFC: replay check, integrity, replay window moved, then what is inside. So whatever is
    /// dropped for its contents was authentic, and its sequence number is used up. After an error the buffer's contents
    /// mean nothing.
    pub fn open(&mut self, packet: &mut [u8]) -> Result<Opened, OpenError> {
        let (at, end, next_header) = self.unwrap(packet)?;
        let inner = packet.get(at.payload..end).ok_or(OpenError::BadPadding)?;
        let version = match next_header {
            NEXT_HEADER_IPV4 => 4,
            NEXT_HEADER_IPV6 => 6,
            NEXT_HEADER_NONE => return Err(OpenError::Dummy),
            _ => return Err(OpenError::BadNextHeader),
        };
        if inner.first().is_none_or(|octet| octet >> 4 != version) {
            return Err(OpenError::BadInner);
        }
        self.admit(inner, at.payload, at.sequence)
    }

    /// As [`InboundSa::open`], in transport mode: the packet as `hosts.remote` sent it is written to the front of `out`, where
    /// [`Opened::inner`] is. `class` is the TOS or traffic class of the header in front of ESP. `out` takes every packet if
    /// it has [`transport::MAX_PACKET`](crate::transport::MAX_PACKET) octets.
    pub fn open_transport(
        &mut self,
        packet: &mut [u8],
        hosts: &Hosts,
        class: u8,
        out: &mut [u8],
    ) -> Result<Opened, OpenError> {
        let (at, end, next_header) = self.unwrap(packet)?;
        let payload = packet.get(at.payload..end).ok_or(OpenError::BadPadding)?;
        let len = hosts.rebuild(next_header, class, payload, out)?;
        self.admit(out.get(..len).ok_or(OpenError::BadInner)?, 0, at.sequence)
    }

    /// Takes the packet out of its cryptography: where its parts are, where the payload ends, and what that is.
    fn unwrap(&mut self, packet: &mut [u8]) -> Result<(PacketCrypto, usize, u8), OpenError> {
        if self.meter.is_expired() {
            return Err(OpenError::Expired);
        }
        if self.meter.is_spent() {
            return Err(OpenError::HardLimit);
        }
        if read_u32(packet, 0).ok_or(OpenError::Truncated)? != self.spi.0 {
            return Err(OpenError::WrongSpi);
        }
        let at = self.locate(packet)?;
        self.window.check(at.sequence).map_err(replay)?;
        self.transform.open(packet, at).map_err(|error| match error {
            TransformError::Icv => OpenError::IcvMismatch,
            TransformError::Library => OpenError::Crypto,
        })?;
        self.window.accept(at.sequence).map_err(replay)?;
        let (end, next_header) = strip_trailer(packet, &at)?;
        Ok((at, end, next_header))
    }

    /// Holds the packet that begins at `at` of its buffer against the selectors, and counts it.
    fn admit(&mut self, inner: &[u8], at: usize, sequence: u64) -> Result<Opened, OpenError> {
        let mut info = ip::parse(inner).ok_or(OpenError::BadInner)?;
        let stands_for = !self.selectors.matches_inbound(&info);
        if stands_for {
            let taken = returning(inner, &info).filter(|info| self.selectors.matches_inbound(info));
            info = taken.ok_or(OpenError::SelectorMismatch)?;
        }
        let first = self.meter.packets == 0;
        let limit = self.meter.count(info.len);
        Ok(Opened { inner: at..at + info.len, info, stands_for, sequence, limit, first })
    }

    /// Has this thread keep nothing of the keys, before the SA goes to another. Dropping it does so by itself.
    pub fn leave_thread(&self) {
        self.transform.leave_thread();
    }

    /// The SPI this SA answers to.
    pub fn spi(&self) -> Spi {
        self.spi
    }

    /// The algorithms.
    pub fn suite(&self) -> Suite {
        self.suite
    }

    /// What may come out of this SA.
    pub fn selectors(&self) -> &Selectors {
        &self.selectors
    }

    /// Which numbers were received.
    pub fn window(&self) -> &ReplayWindow {
        &self.window
    }

    /// Highest sequence number accepted; 0 before the first packet.
    pub fn top(&self) -> u64 {
        self.window.top()
    }

    /// Packets delivered.
    pub fn packets(&self) -> u64 {
        self.meter.packets
    }

    /// Octets of inner packets delivered.
    pub fn bytes(&self) -> u64 {
        self.meter.bytes
    }

    /// Checks the packet's length and works out where its parts are.
    fn locate(&self, packet: &[u8]) -> Result<PacketCrypto, OpenError> {
        let low = read_u32(packet, 4).ok_or(OpenError::Truncated)?;
        let payload = payload_offset(&self.suite);
        let icv = packet.len().checked_sub(self.suite.icv_len()).ok_or(OpenError::Truncated)?;
        if icv < payload + TRAILER_LEN {
            return Err(OpenError::Truncated);
        }
        if !(icv - payload).is_multiple_of(self.suite.encryption.alignment()) {
            return Err(OpenError::Misaligned);
        }
        let sequence = if self.suite.esn {
            self.window.infer(low).ok_or(OpenError::BadSequence)?
        } else {
            u64::from(low)
        };
        Ok(PacketCrypto { sequence, payload, icv })
    }
}

impl fmt::Debug for InboundSa {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("InboundSa")
            .field("spi", &self.spi)
            .field("suite", &self.suite)
            .field("top", &self.top())
            .finish_non_exhaustive()
    }
}

/// Reads pad length and next header and checks the padding: where the payload ends, and what it is.
///
/// All our algorithms use the default padding 1, 2, 3..., which the receiver should inspect (RFC 4303 section 2.4).
fn strip_trailer(packet: &[u8], at: &PacketCrypto) -> Result<(usize, u8), OpenError> {
    let text = packet.get(at.payload..at.icv).ok_or(OpenError::BadPadding)?;
    let (text, &[pad_len, next_header]) =
        text.split_last_chunk::<TRAILER_LEN>().ok_or(OpenError::BadPadding)?;
    let inner_len = text.len().checked_sub(usize::from(pad_len)).ok_or(OpenError::BadPadding)?;
    let padding = text.get(inner_len..).ok_or(OpenError::BadPadding)?;
    if PADDING.get(..padding.len()).is_none_or(|expected| padding != expected) {
        return Err(OpenError::BadPadding);
    }
    Ok((at.payload + inner_len, next_header))
}

fn replay(error: ReplayError) -> OpenError {
    match error {
        ReplayError::NeverSent => OpenError::BadSequence,
        ReplayError::Duplicate => OpenError::ReplayDuplicate,
        ReplayError::TooOld => OpenError::ReplayTooOld,
    }
}
