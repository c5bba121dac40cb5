//! Reading a chain of payloads (RFC 2408 sections 3.2 and 5.3 to 5.15).

use std::ops::Range;

use super::id::Id;
use super::numbers::{DOI_IPSEC, DOI_ISAKMP, NotifyType, PayloadType};
use super::payload::{Delete, Notify, Payload};
use super::sa::Sa;
use crate::wire::error::WireError;
use crate::wire::numbers::{IdType, ProtocolId};
use crate::wire::reader::Reader;

/// Payloads in one message. A first message with the vendor IDs of all that its sender knows has about 30.
pub(crate) const MAX_PAYLOADS: usize = 64;
/// Octets behind the last payload of an encrypted message. A block has 16; what one octet can count is the most that any
/// scheme of padding in the field adds.
pub(crate) const MAX_PADDING: usize = 255;
/// SPIs in one Delete payload; all SAs that a peer has under one phase 1 are fewer.
const MAX_DELETE_SPIS: usize = 1024;
/// What a nonce may have in octets (RFC 2409 section 5).
const NONCE: std::ops::RangeInclusive<usize> = 8..=256;

/// A chain of payloads.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Chain {
    /// In the order of the message.
    pub(crate) payloads: Vec<Payload>,
    /// The octets of the body from behind the first payload to the end of the last one: what HASH(1) and HASH(2) cover
    /// (RFC 2409 section 5.5).
    pub(crate) rest: Range<usize>,
}

/// Walks a chain that starts with a payload of type `next`. With `padded`, octets may follow the last payload, as
/// encryption leaves them.
pub(crate) fn parse_chain(mut next: PayloadType, body: &[u8], padded: bool) -> Result<Chain, WireError> {
    let mut r = Reader::new(body);
    let mut payloads = Vec::new();
    let mut rest = 0..0;
    while next != PayloadType::NONE {
        let kind = next;
        let wrong = |what| WireError::Payload(kind.told(), what);
        if !kind.possible() {
            return Err(wrong("is not one of IKEv1"));
        }
        if payloads.len() == MAX_PAYLOADS {
            return Err(WireError::TooMany("payloads"));
        }
        next = PayloadType(r.u8()?);
        if r.u8()? != 0 {
            return Err(wrong("has a reserved field that is not zero"));
        }
        let length = usize::from(r.u16()?).checked_sub(4).ok_or_else(|| wrong("has a bad length"))?;
        let content = r.sub(length).map_err(|_| wrong("has a bad length"))?;
        payloads.push(parse_payload(kind, content)?);
        let end = body.len() - r.remaining();
        rest = if payloads.len() == 1 { end..end } else { rest.start..end };
    }
    if padded && r.remaining() <= MAX_PADDING {
        return Ok(Chain { payloads, rest });
    }
    r.finish()?;
    Ok(Chain { payloads, rest })
}

fn parse_payload(kind: PayloadType, mut r: Reader<'_>) -> Result<Payload, WireError> {
    let wrong = |what| Err(WireError::Payload(kind.told(), what));
    Ok(match kind {
        PayloadType::PROPOSAL | PayloadType::TRANSFORM => return wrong("stands outside of an SA payload"),
        PayloadType::SA => Payload::Sa(Sa::parse(r)?),
        PayloadType::KE | PayloadType::HASH if r.remaining() == 0 => return wrong("is empty"),
        PayloadType::KE => Payload::Ke(r.take_rest().to_vec()),
        PayloadType::HASH => Payload::Hash(r.take_rest().to_vec()),
        PayloadType::ID => Payload::Id(Id::parse(r)?),
        PayloadType::NONCE if !NONCE.contains(&r.remaining()) => {
            return Err(WireError::BadField("nonce length, expected 8 to 256 octets"));
        }
        PayloadType::NONCE => Payload::Nonce(r.take_rest().to_vec()),
        PayloadType::NOTIFY => Payload::Notify(parse_notify(r)?),
        PayloadType::DELETE => Payload::Delete(parse_delete(r)?),
        PayloadType::VENDOR => Payload::Vendor(r.take_rest().to_vec()),
        PayloadType::NAT_D | PayloadType::NAT_D_DRAFT | PayloadType::NAT_D_LATER_DRAFTS => {
            Payload::NatD { draft: kind != PayloadType::NAT_D, hash: r.take_rest().to_vec() }
        }
        PayloadType::NAT_OA | PayloadType::NAT_OA_DRAFT => {
            let id = Id::parse(r)?;
            // RFC 3947 section 5.2 has these two only.
            match (id.kind, id.data.len()) {
                (IdType::ID_IPV4_ADDR, 4) | (IdType::ID_IPV6_ADDR, 16) => {}
                _ => return wrong("has no address"),
            }
            Payload::NatOa { draft: kind == PayloadType::NAT_OA_DRAFT, id }
        }
        PayloadType::FRAGMENT => {
            let (id, number, flags) = (r.u16()?, r.u8()?, r.u8()?);
            if number == 0 || r.remaining() == 0 {
                return wrong("has no number or no content");
            }
            Payload::Fragment { id, number, last: flags & 1 != 0, data: r.take_rest().to_vec() }
        }
        kind => Payload::Opaque(kind, r.take_rest().to_vec()),
    })
}

/// The DOI of a notify or delete (RFC 2408 sections 3.14 and 3.15).
fn parse_doi(r: &mut Reader<'_>) -> Result<(), WireError> {
    match r.u32()? {
        DOI_ISAKMP | DOI_IPSEC => Ok(()),
        _ => Err(WireError::BadField("domain of interpretation")),
    }
}

fn parse_notify(mut r: Reader<'_>) -> Result<Notify, WireError> {
    parse_doi(&mut r)?;
    let protocol = ProtocolId(r.u8()?);
    let spi_size = usize::from(r.u8()?);
    let kind = NotifyType(r.u16()?);
    Ok(Notify { protocol, spi: r.take(spi_size)?.to_vec(), kind, data: r.take_rest().to_vec() })
}

fn parse_delete(mut r: Reader<'_>) -> Result<Delete, WireError> {
    parse_doi(&mut r)?;
    let protocol = ProtocolId(r.u8()?);
    let size = r.u8()?;
    let count = usize::from(r.u16()?);
    let fits = match protocol {
        ProtocolId::IKE => size == 16,
        ProtocolId::AH | ProtocolId::ESP => size == 4,
        _ => false,
    };
    if !fits {
        return Err(WireError::SpiSize { protocol, size });
    }
    if count > MAX_DELETE_SPIS {
        return Err(WireError::TooMany("deleted SPIs"));
    }
    let spis = (0..count).map(|_| r.take(usize::from(size)).map(<[u8]>::to_vec)).collect::<Result<_, _>>()?;
    r.finish()?;
    Ok(Delete { protocol, spis })
}
