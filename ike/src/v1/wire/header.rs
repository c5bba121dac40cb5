//! The ISAKMP header (RFC 2408 section 3.1).

use super::numbers::{Exchange, PayloadType};
use crate::config::Opening;
use crate::wire::error::WireError;
use crate::wire::reader::Reader;
use crate::wire::writer::Writer;

/// Octets of the header.
pub(crate) const HEADER_LEN: usize = 28;
const FLAG_ENCRYPTED: u8 = 0x01;
const FLAG_COMMIT: u8 = 0x02;
const VERSION_1_0: u8 = 0x10;

/// The fixed header of every IKEv1 message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Header {
    /// Cookie of the initiator of phase 1, CKY-I.
    pub(crate) spi_i: u64,
    /// Cookie of its responder, CKY-R; zero in the first message.
    pub(crate) spi_r: u64,
    /// Type of the first payload.
    pub(crate) next: PayloadType,
    /// The exchange.
    pub(crate) exchange: Exchange,
    /// What follows the header is encrypted.
    pub(crate) encrypted: bool,
    /// The sender wants to be told by CONNECTED before the SA is used.
    pub(crate) commit: bool,
    /// Names the exchange in phase 2; zero in phase 1.
    pub(crate) message_id: u32,
    /// Octets of the whole message.
    pub(crate) length: u32,
}

/// What a message opens, if it is the first of phase 1: nobody has told its sender an SPI of ours yet.
pub(crate) fn opening(header: &Header) -> Option<Opening> {
    let first = header.spi_r == 0 && header.message_id == 0 && !header.encrypted && header.spi_i != 0;
    match header.exchange {
        Exchange::MAIN if first => Some(Opening::Main),
        Exchange::AGGRESSIVE if first => Some(Opening::Aggressive),
        _ => None,
    }
}

impl Header {
    /// Reads the header of a datagram and checks version and length. The flag of authentication without encryption and the
    /// reserved ones are ignored, and so is the minor version.
    pub(crate) fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(datagram);
        let (spi_i, spi_r) = (r.u64()?, r.u64()?);
        let next = PayloadType(r.u8()?);
        let version = r.u8()?;
        let exchange = Exchange(r.u8()?);
        let flags = r.u8()?;
        let (message_id, length) = (r.u32()?, r.u32()?);
        if version >> 4 != VERSION_1_0 >> 4 {
            return Err(WireError::MajorVersion(version >> 4));
        }
        if usize::try_from(length) != Ok(datagram.len()) {
            return Err(WireError::LengthMismatch { field: length, actual: datagram.len() });
        }
        let (encrypted, commit) = (flags & FLAG_ENCRYPTED != 0, flags & FLAG_COMMIT != 0);
        Ok(Self { spi_i, spi_r, next, exchange, encrypted, commit, message_id, length })
    }

    /// Writes the header.
    pub(crate) fn write(&self, w: &mut Writer) {
        w.u64(self.spi_i);
        w.u64(self.spi_r);
        w.u8(self.next.0);
        w.u8(VERSION_1_0);
        w.u8(self.exchange.0);
        let encrypted = if self.encrypted { FLAG_ENCRYPTED } else { 0 };
        w.u8(encrypted | if self.commit { FLAG_COMMIT } else { 0 });
        w.u32(self.message_id);
        w.u32(self.length);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const HEADER: Header = Header {
        spi_i: 1,
        spi_r: 2,
        next: PayloadType::HASH,
        exchange: Exchange::QUICK,
        encrypted: true,
        commit: false,
        message_id: 7,
        length: 28,
    };

    fn written(header: Header) -> Vec<u8> {
        let mut w = Writer::new();
        header.write(&mut w);
        w.finish()
    }

    #[test]
    fn a_header_is_read_as_written() {
        for (encrypted, commit) in [(false, false), (true, false), (false, true), (true, true)] {
            let header = Header { encrypted, commit, ..HEADER };
            assert_eq!(written(header).len(), HEADER_LEN);
            assert_eq!(Header::parse(&written(header)), Ok(header));
        }
    }

    #[test]
    fn another_version_length_or_too_few_octets_are_refused() {
        let mut other = written(HEADER);
        other[17] = 0x20;
        assert_eq!(Header::parse(&other), Err(WireError::MajorVersion(2)));
        for field in [0, 27, 29, u32::MAX] {
            let error = WireError::LengthMismatch { field, actual: HEADER_LEN };
            assert_eq!(Header::parse(&written(Header { length: field, ..HEADER })), Err(error));
        }
        for length in 0..HEADER_LEN {
            assert_eq!(Header::parse(&written(HEADER)[..length]), Err(WireError::Truncated));
        }
    }
}
