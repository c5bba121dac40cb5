//! The IKE header (RFC 7296 section 3.1).

use super::error::WireError;
use super::numbers::{ExchangeType, PayloadType};
use super::reader::Reader;
use super::writer::Writer;

/// Octets of the header.
pub const HEADER_LEN: usize = 28;
const FLAG_INITIATOR: u8 = 0x08;
const FLAG_RESPONSE: u8 = 0x20;
const VERSION_2_0: u8 = 0x20;

/// The fixed header of every IKE message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Header {
    /// SPI of the original initiator.
    pub spi_i: u64,
    /// SPI of the original responder; zero in the first message.
    pub spi_r: u64,
    /// Type of the first payload.
    pub next: PayloadType,
    /// The exchange.
    pub exchange: ExchangeType,
    /// The sender is the original initiator of this IKE_SA.
    pub from_initiator: bool,
    /// This is a response.
    pub response: bool,
    /// Message ID.
    pub message_id: u32,
    /// Octets of the whole message.
    pub length: u32,
}

impl Header {
    /// The major version that a datagram says, without looking at the rest.
    pub fn major(datagram: &[u8]) -> Option<u8> {
        datagram.get(17).map(|version| version >> 4)
    }

    /// Reads a header and checks version and length against the datagram of `datagram_len` octets.
    pub fn parse(r: &mut Reader<'_>, datagram_len: usize) -> Result<Self, WireError> {
        let (spi_i, spi_r) = (r.u64()?, r.u64()?);
        let next = PayloadType(r.u8()?);
        let version = r.u8()?;
        let exchange = ExchangeType(r.u8()?);
        let flags = r.u8()?;
        let (message_id, length) = (r.u32()?, r.u32()?);
        // The minor version is ignored (RFC 7296 section 2.5).
        if version >> 4 != 2 {
            return Err(WireError::MajorVersion(version >> 4));
        }
        if usize::try_from(length) != Ok(datagram_len) {
            return Err(WireError::LengthMismatch { field: length, actual: datagram_len });
        }
        let (from_initiator, response) = (flags & FLAG_INITIATOR != 0, flags & FLAG_RESPONSE != 0);
        Ok(Self { spi_i, spi_r, next, exchange, from_initiator, response, message_id, length })
    }

    /// The SPI by which the receiver knows the IKE_SA.
    pub const fn receiver_spi(&self) -> u64 {
        if self.from_initiator { self.spi_r } else { self.spi_i }
    }

    /// Writes the header.
    pub fn write(&self, w: &mut Writer) {
        w.u64(self.spi_i);
        w.u64(self.spi_r);
        w.u8(self.next.0);
        w.u8(VERSION_2_0);
        w.u8(self.exchange.0);
        let initiator = if self.from_initiator { FLAG_INITIATOR } else { 0 };
        w.u8(initiator | if self.response { FLAG_RESPONSE } else { 0 });
        w.u32(self.message_id);
        w.u32(self.length);
    }
}
