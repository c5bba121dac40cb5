//! What of a first message is looked at before it is decoded: enough for the cookie, and to know it again.

use std::collections::{BTreeSet, VecDeque};

use sha2::{Digest, Sha256};

use crate::config::Opening;
use crate::v1;
use crate::wire::error::WireError;
use crate::wire::header::Header;
use crate::wire::numbers::{NotifyType, PayloadType};
use crate::wire::payload::MAX_PAYLOADS;
use crate::wire::reader::Reader;

/// The largest first message that is looked at. An offer of every algorithm there is with the key of the largest group has
/// 2 KiB, and one with keys of post-quantum algorithms goes by IKE_INTERMEDIATE (RFC 9242), for this message cannot be
/// fragmented.
pub const MAX_FIRST_MESSAGE: usize = 8_192;

/// Negotiations that are known again once they are over. At a hundred a second it takes ten minutes until one is forgotten: far
/// longer than any network keeps a datagram. 4 MiB.
const MAX_SETTLED: usize = 65_536;

/// The parts of a first message that are found without decoding it: no octet of it is copied.
pub(super) struct Glance<'a> {
    pub(super) header: Header,
    pub(super) nonce: &'a [u8],
    pub(super) cookie: Option<&'a [u8]>,
}

impl<'a> Glance<'a> {
    pub(super) fn at(bytes: &'a [u8]) -> Result<Self, WireError> {
        if bytes.len() > MAX_FIRST_MESSAGE {
            return Err(WireError::TooLong(bytes.len()));
        }
        let mut r = Reader::new(bytes);
        let header = Header::parse(&mut r, bytes.len())?;
        let (mut nonce, mut cookie) = (None, None);
        let mut next = header.next;
        for _ in 0..MAX_PAYLOADS {
            if next == PayloadType::NONE {
                break;
            }
            let kind = next;
            next = PayloadType(r.u8()?);
            r.u8()?;
            let length = usize::from(r.u16()?).checked_sub(4).ok_or(WireError::PayloadLength(kind))?;
            let mut body = r.sub(length).map_err(|_| WireError::PayloadLength(kind))?;
            match kind {
                PayloadType::NONCE => nonce = nonce.or(Some(body.take_rest())),
                PayloadType::NOTIFY => {
                    body.u8()?;
                    let spi_size = usize::from(body.u8()?);
                    let notify = NotifyType(body.u16()?);
                    body.take(spi_size)?;
                    if notify == NotifyType::COOKIE && cookie.is_none() {
                        cookie = Some(body.take_rest());
                    }
                }
                _ => {}
            }
        }
        let nonce = nonce.ok_or(WireError::Rule(PayloadType::NONCE, "is missing"))?;
        if !(16..=256).contains(&nonce.len()) {
            return Err(WireError::NonceLength(nonce.len()));
        }
        Ok(Self { header, nonce, cookie })
    }
}

/// What a first message is known by: the initiator's SPI and a digest of its nonce. Both are new for each negotiation, and
/// stay the same when the message is sent again (RFC 7296 section 2.1), with a cookie or for another group too. That of IKEv1
/// is sent again as it is, and main mode has no nonce in it: the digest is of the whole.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct FirstMessage {
    spi_i: u64,
    nonce: [u8; 16],
}

impl FirstMessage {
    /// That of a datagram.
    ///
    /// # Errors
    /// When it is no first message, or none that is looked at.
    pub fn of(opening: Opening, bytes: &[u8]) -> Result<Self, WireError> {
        let (spi_i, digest) = match opening {
            Opening::Init => {
                let glance = Glance::at(bytes)?;
                (glance.header.spi_i, Sha256::digest(glance.nonce))
            }
            Opening::Main | Opening::Aggressive => {
                (v1::wire::Header::parse(bytes)?.spi_i, Sha256::digest(bytes))
            }
        };
        Ok(Self { spi_i, nonce: digest.first_chunk().copied().unwrap_or_default() })
    }

    /// The initiator's SPI.
    pub const fn spi_i(&self) -> u64 {
        self.spi_i
    }
}

/// First messages whose negotiations have succeeded. One that comes again is a copy that the network made or somebody kept: it
/// is ignored (RFC 7296 section 2.1), also when its connection has been rekeyed since or is over.
#[derive(Debug, Default)]
pub struct Settled {
    known: BTreeSet<FirstMessage>,
    order: VecDeque<FirstMessage>,
}

impl Settled {
    /// Remembers one, and forgets the oldest when there are many.
    pub fn add(&mut self, first: FirstMessage) {
        if !self.known.insert(first) {
            return;
        }
        self.order.push_back(first);
        if self.order.len() > MAX_SETTLED
            && let Some(oldest) = self.order.pop_front()
        {
            self.known.remove(&oldest);
        }
    }

    /// Whether it is remembered.
    pub fn contains(&self, first: &FirstMessage) -> bool {
        self.known.contains(first)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_oldest_are_forgotten() {
        let mut settled = Settled::default();
        let first = |n: usize| FirstMessage { spi_i: n as u64, nonce: [0; 16] };
        for n in 0..MAX_SETTLED + 10 {
            settled.add(first(n));
            settled.add(first(n));
        }
        assert!(!settled.contains(&first(9)) && settled.contains(&first(10)));
        assert_eq!((settled.known.len(), settled.order.len()), (MAX_SETTLED, MAX_SETTLED));
    }
}
