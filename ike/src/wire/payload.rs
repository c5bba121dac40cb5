//! Payloads (RFC 7296 section 3.2) and the chain that links them.

use zeroize::Zeroizing;

use super::error::WireError;
use super::numbers::{AuthMethod, IdType, NotifyType, PayloadType, ProtocolId};
use super::reader::Reader;
use super::sa::{self, Proposal};
use super::ts::{self, TrafficSelector};
use super::writer::Writer;
use crate::identity::Identity;

/// Payloads in one message. A negotiation with many vendor IDs has about 30.
pub(crate) const MAX_PAYLOADS: usize = 96;
/// SPIs in one Delete payload; a whole IKE_SA's children in the field are fewer.
const MAX_DELETE_SPIS: usize = 1024;

/// A Notify payload (RFC 7296 section 3.10).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Notify {
    /// Protocol of the SPI, NONE when there is none.
    pub protocol: ProtocolId,
    /// The SA spoken of, or empty.
    pub spi: Vec<u8>,
    /// What is said.
    pub kind: NotifyType,
    /// What goes with it.
    pub data: Vec<u8>,
}

impl Notify {
    /// A notify without SPI and data.
    pub const fn new(kind: NotifyType) -> Self {
        Self { protocol: ProtocolId::NONE, spi: Vec::new(), kind, data: Vec::new() }
    }

    /// A notify with data.
    pub const fn with_data(kind: NotifyType, data: Vec<u8>) -> Self {
        Self { protocol: ProtocolId::NONE, spi: Vec::new(), kind, data }
    }

    /// A notify about an ESP SA.
    pub fn about_esp(kind: NotifyType, spi: u32) -> Self {
        Self { protocol: ProtocolId::ESP, spi: spi.to_be_bytes().to_vec(), kind, data: Vec::new() }
    }

    /// The ESP SPI it speaks of.
    pub fn esp_spi(&self) -> Option<u32> {
        let spi = self.spi.as_slice().try_into().ok().map(u32::from_be_bytes)?;
        (self.protocol == ProtocolId::ESP).then_some(spi)
    }
}

/// An Identification payload (RFC 7296 section 3.5).
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Identification {
    /// Who it is.
    pub id: Identity,
    /// The octets that mean nothing. AUTH covers them as they were sent (section 2.15).
    pub reserved: [u8; 3],
}

impl Identification {
    /// The body: what AUTH covers.
    pub fn body(&self) -> Vec<u8> {
        [&[self.id.kind.0], &self.reserved[..], &self.id.data].concat()
    }

    fn parse(mut r: Reader<'_>) -> Result<Self, WireError> {
        let (kind, reserved) = (IdType(r.u8()?), r.array()?);
        // Of any length: that of nobody has none (RFC 7619 section 2.2), and who is called by something else is told so as any stranger is.
        Ok(Self { id: Identity { kind, data: r.take_rest().to_vec() }, reserved })
    }
}

impl From<Identity> for Identification {
    fn from(id: Identity) -> Self {
        Self { id, reserved: [0; 3] }
    }
}

/// One decoded payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Payload {
    /// Security Association.
    Sa(Vec<Proposal>),
    /// Key Exchange: group and public value.
    Ke {
        /// Key exchange group.
        group: u16,
        /// The public value.
        data: Vec<u8>,
    },
    /// Identification of the initiator.
    IdI(Identification),
    /// Identification of the responder.
    IdR(Identification),
    /// Authentication: method and value.
    Auth {
        /// How it was computed.
        method: AuthMethod,
        /// The value.
        data: Zeroizing<Vec<u8>>,
    },
    /// Nonce.
    Nonce(Vec<u8>),
    /// Notify.
    Notify(Notify),
    /// Delete: SPIs of ESP, or none for the IKE_SA itself.
    Delete {
        /// Whose SPIs these are.
        protocol: ProtocolId,
        /// The sender's inbound SPIs.
        spis: Vec<u32>,
    },
    /// Traffic selectors of the initiator of the exchange.
    TsI(Vec<TrafficSelector>),
    /// Traffic selectors of the responder of the exchange.
    TsR(Vec<TrafficSelector>),
    /// A payload this crate does not look into, such as a vendor ID or a certificate.
    Opaque(PayloadType, Vec<u8>),
}

impl Payload {
    /// The payload's type number.
    pub const fn kind(&self) -> PayloadType {
        match self {
            Self::Sa(_) => PayloadType::SA,
            Self::Ke { .. } => PayloadType::KE,
            Self::IdI(_) => PayloadType::IDi,
            Self::IdR(_) => PayloadType::IDr,
            Self::Auth { .. } => PayloadType::AUTH,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::NOTIFY,
            Self::Delete { .. } => PayloadType::DELETE,
            Self::TsI(_) => PayloadType::TSi,
            Self::TsR(_) => PayloadType::TSr,
            Self::Opaque(kind, _) => *kind,
        }
    }

    fn parse(kind: PayloadType, mut r: Reader<'_>) -> Result<Self, WireError> {
        Ok(match kind {
            PayloadType::SA => Self::Sa(sa::parse(r)?),
            PayloadType::KE => {
                let group = r.u16()?;
                r.take(2)?;
                Self::Ke { group, data: r.take_rest().to_vec() }
            }
            PayloadType::IDi => Self::IdI(Identification::parse(r)?),
            PayloadType::IDr => Self::IdR(Identification::parse(r)?),
            PayloadType::AUTH => {
                let method = AuthMethod(r.u8()?);
                r.take(3)?;
                Self::Auth { method, data: Zeroizing::new(r.take_rest().to_vec()) }
            }
            PayloadType::NONCE => {
                let nonce = r.take_rest();
                if !(16..=256).contains(&nonce.len()) {
                    return Err(WireError::NonceLength(nonce.len()));
                }
                Self::Nonce(nonce.to_vec())
            }
            PayloadType::NOTIFY => Self::Notify(parse_notify(r)?),
            PayloadType::DELETE => parse_delete(r)?,
            PayloadType::TSi => Self::TsI(ts::parse(r)?),
            PayloadType::TSr => Self::TsR(ts::parse(r)?),
            kind => Self::Opaque(kind, r.take_rest().to_vec()),
        })
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::Sa(proposals) => sa::write(w, proposals),
            Self::Ke { group, data } => {
                w.u16(*group);
                w.u16(0);
                w.bytes(data);
            }
            Self::IdI(id) | Self::IdR(id) => w.bytes(&id.body()),
            Self::Auth { method, data } => {
                w.bytes(&[method.0, 0, 0, 0]);
                w.bytes(data);
            }
            Self::Nonce(nonce) => w.bytes(nonce),
            Self::Notify(n) => {
                w.u8(n.protocol.0);
                w.u8(u8::try_from(n.spi.len()).unwrap_or(0));
                w.u16(n.kind.0);
                w.bytes(&n.spi);
                w.bytes(&n.data);
            }
            Self::Delete { protocol, spis } => {
                w.u8(protocol.0);
                w.u8(if *protocol == ProtocolId::IKE { 0 } else { 4 });
                w.u16(u16::try_from(spis.len()).unwrap_or(u16::MAX));
                for spi in spis {
                    w.u32(*spi);
                }
            }
            Self::TsI(selectors) | Self::TsR(selectors) => ts::write(w, selectors),
            Self::Opaque(_, data) => w.bytes(data),
        }
    }
}

fn parse_notify(mut r: Reader<'_>) -> Result<Notify, WireError> {
    let protocol = ProtocolId(r.u8()?);
    let spi_size = usize::from(r.u8()?);
    let kind = NotifyType(r.u16()?);
    Ok(Notify { protocol, spi: r.take(spi_size)?.to_vec(), kind, data: r.take_rest().to_vec() })
}

fn parse_delete(mut r: Reader<'_>) -> Result<Payload, WireError> {
    let protocol = ProtocolId(r.u8()?);
    let size = r.u8()?;
    let count = usize::from(r.u16()?);
    let fits = match protocol {
        ProtocolId::IKE => size == 0 && count == 0,
        ProtocolId::AH | ProtocolId::ESP => size == 4,
        _ => false,
    };
    if !fits {
        return Err(WireError::SpiSize { protocol, size });
    }
    if count > MAX_DELETE_SPIS {
        return Err(WireError::TooMany("deleted SPIs"));
    }
    let spis = (0..count).map(|_| r.u32()).collect::<Result<_, _>>()?;
    r.finish()?;
    Ok(Payload::Delete { protocol, spis })
}

/// A chain of payloads in plain, and the encrypted payload that ends it, if any.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Chain {
    /// The payloads before the encrypted one.
    pub payloads: Vec<Payload>,
    /// First inner payload type and the body of SK: IV, ciphertext and ICV.
    pub encrypted: Option<(PayloadType, std::ops::Range<usize>)>,
    /// Number and total when what is encrypted is a fragment (RFC 7383 section 2.5).
    pub fragment: Option<(u16, u16)>,
}

/// Walks a chain that starts with a payload of type `next`. `base` is the offset of `body` in its message, used for
/// the range of the encrypted payload.
pub fn parse_chain(mut next: PayloadType, body: &[u8], base: usize) -> Result<Chain, WireError> {
    let mut r = Reader::new(body);
    let mut payloads = Vec::new();
    while next != PayloadType::NONE {
        let kind = next;
        next = PayloadType(r.u8()?);
        let critical = r.u8()? & 0x80 != 0;
        let length = usize::from(r.u16()?);
        let length = length.checked_sub(4).ok_or(WireError::PayloadLength(kind))?;
        let start = base + body.len() - r.remaining();
        let content = r.sub(length).map_err(|_| WireError::PayloadLength(kind))?;
        if kind == PayloadType::SK {
            // SK is the last payload; its next field names the first one inside (RFC 7296 section 3.14).
            r.finish()?;
            return Ok(Chain { payloads, encrypted: Some((next, start..start + length)), fragment: None });
        }
        if kind == PayloadType::SKF {
            r.finish()?;
            let mut content = content;
            let (number, total) = (content.u16()?, content.u16()?);
            if number == 0 || number > total {
                return Err(WireError::BadField("fragment number"));
            }
            let encrypted = Some((next, start + 4..start + length));
            return Ok(Chain { payloads, encrypted, fragment: Some((number, total)) });
        }
        if critical && kind.name().is_none() {
            return Err(WireError::CriticalPayload(kind));
        }
        // IKEv1 payload types and the unassigned ones are skipped like any unknown type (RFC 7296 section 2.5).
        payloads.push(Payload::parse(kind, content)?);
        if payloads.len() > MAX_PAYLOADS {
            return Err(WireError::TooMany("payloads"));
        }
    }
    r.finish()?;
    Ok(Chain { payloads, encrypted: None, fragment: None })
}

/// Writes a chain and returns the type of its first payload.
pub fn write_chain(w: &mut Writer, payloads: &[Payload]) -> PayloadType {
    for (i, payload) in payloads.iter().enumerate() {
        w.with_length(2, |w| {
            w.u8(payloads.get(i + 1).map_or(PayloadType::NONE, Payload::kind).0);
            w.u8(0);
            w.u16(0);
            payload.write(w);
        });
    }
    payloads.first().map_or(PayloadType::NONE, Payload::kind)
}
