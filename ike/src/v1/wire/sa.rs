//! The Security Association payload (RFC 2408 sections 3.3 to 3.6) with the situation of IPsec (RFC 2407 section 4.6.1).

use super::numbers::{DOI_IPSEC, PayloadType};
use crate::wire::error::WireError;
use crate::wire::numbers::ProtocolId;
use crate::wire::reader::Reader;
use crate::wire::writer::Writer;

/// The one situation in use; the others are labels of secrecy and integrity.
const SIT_IDENTITY_ONLY: u32 = 1;
/// Proposals in one SA payload. Large clients send under 20.
const MAX_PROPOSALS: usize = 32;
/// Transforms in one SA payload, of all proposals together. The largest seen offer some 100.
const MAX_TRANSFORMS: usize = 256;
/// Attributes of one transform. RFC 2407 and 2409 have under 20 classes each.
const MAX_ATTRIBUTES: usize = 32;
/// The bit of an attribute whose two octets of value stand where others have their length (RFC 2408 section 3.3).
const SHORT_FORM: u16 = 0x8000;
/// The longest SPI of an ISAKMP SA: both cookies (RFC 2408 section 3.5).
const MAX_ISAKMP_SPI: u8 = 16;

/// One attribute of a transform.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Attribute {
    /// Its class, without the bit for the form.
    pub(crate) kind: u16,
    /// Big-endian octets. What has two is written in the short form.
    pub(crate) value: Vec<u8>,
}

impl Attribute {
    /// An attribute of the short form.
    pub(crate) fn short(kind: u16, value: u16) -> Self {
        Self { kind, value: value.to_be_bytes().to_vec() }
    }

    /// An attribute of four octets.
    pub(crate) fn long(kind: u16, value: u32) -> Self {
        Self { kind, value: value.to_be_bytes().to_vec() }
    }

    /// The value as a number, if it has 1 to 8 octets.
    pub(crate) fn number(&self) -> Option<u64> {
        let fits = (1..=8).contains(&self.value.len());
        fits.then(|| self.value.iter().fold(0, |number, &octet| number << 8 | u64::from(octet)))
    }
}

/// One suite of algorithms offered or chosen.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SaTransform {
    /// An answer repeats the number it accepts.
    pub(crate) number: u8,
    /// KEY_IKE, or the cipher of ESP.
    pub(crate) id: u8,
    /// All else.
    pub(crate) attributes: Vec<Attribute>,
}

/// One proposal: a protocol, its SPI and the transforms to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct SaProposal {
    /// Proposals with the same number are to be taken together (RFC 2408 section 4.2).
    pub(crate) number: u8,
    /// ISAKMP, AH, ESP or another.
    pub(crate) protocol: ProtocolId,
    /// The sender's inbound SPI. Of ISAKMP it says nothing that the header does not.
    pub(crate) spi: Vec<u8>,
    /// In the order of preference.
    pub(crate) transforms: Vec<SaTransform>,
}

/// A Security Association payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Sa {
    /// The payload without its generic header: DOI, situation and proposals, octet by octet. SAi_b of RFC 2409 section 5.
    pub(crate) body: Vec<u8>,
    /// What the body says.
    pub(crate) proposals: Vec<SaProposal>,
}

impl Sa {
    /// Writes the body for these proposals.
    pub(crate) fn new(proposals: Vec<SaProposal>) -> Self {
        let mut w = preamble();
        for (i, proposal) in proposals.iter().enumerate() {
            write_proposal(&mut w, i + 1 == proposals.len(), proposal, |w| {
                for (j, t) in proposal.transforms.iter().enumerate() {
                    let last = j + 1 == proposal.transforms.len();
                    write_transform(w, last, t, |w| write_attributes(w, &t.attributes));
                }
            });
        }
        Self { body: w.finish(), proposals }
    }

    /// Reads the body.
    pub(crate) fn parse(mut r: Reader<'_>) -> Result<Self, WireError> {
        let body = Reader::take_rest(&mut r.clone()).to_vec();
        let mut transforms = 0;
        let proposals = walk(&mut r, |proposal, p| {
            let parsed = walk_transforms(p, |transform, t| {
                transforms += 1;
                if transforms > MAX_TRANSFORMS {
                    return Err(WireError::TooMany("transforms"));
                }
                Ok(SaTransform { attributes: read_attributes(t)?, ..transform })
            })?;
            Ok(SaProposal { transforms: parsed, ..proposal })
        })?;
        Ok(Self { body, proposals })
    }

    /// The answer that takes one transform of one proposal, by their places, with `spi` for the proposal's. The transform
    /// stays octet by octet as it was received, for an initiator may compare (RFC 2409 section 5).
    pub(crate) fn choose(&self, proposal: usize, transform: usize, spi: Vec<u8>) -> Option<Self> {
        let mut r = Reader::new(&self.body);
        let raw = walk(&mut r, |_, p| walk_transforms(p, |_, t| Ok(t.take_rest()))).ok()?;
        let attributes = *raw.get(proposal)?.get(transform)?;
        let theirs = self.proposals.get(proposal)?;
        let chosen = theirs.transforms.get(transform)?.clone();
        let mut w = preamble();
        let accepted = SaProposal { spi, transforms: vec![chosen.clone()], ..theirs.clone() };
        write_proposal(&mut w, true, &accepted, |w| {
            write_transform(w, true, &chosen, |w| w.bytes(attributes));
        });
        Some(Self { body: w.finish(), proposals: vec![accepted] })
    }
}

fn preamble() -> Writer {
    let mut w = Writer::new();
    w.u32(DOI_IPSEC);
    w.u32(SIT_IDENTITY_ONLY);
    w
}

fn write_proposal(w: &mut Writer, last: bool, proposal: &SaProposal, transforms: impl FnOnce(&mut Writer)) {
    w.with_length(2, |w| {
        w.u8(if last { PayloadType::NONE } else { PayloadType::PROPOSAL }.0);
        w.bytes(&[0, 0, 0, proposal.number, proposal.protocol.0]);
        w.u8(u8::try_from(proposal.spi.len()).unwrap_or(0));
        w.u8(u8::try_from(proposal.transforms.len()).unwrap_or(u8::MAX));
        w.bytes(&proposal.spi);
        transforms(w);
    });
}

fn write_transform(w: &mut Writer, last: bool, t: &SaTransform, attributes: impl FnOnce(&mut Writer)) {
    w.with_length(2, |w| {
        w.u8(if last { PayloadType::NONE } else { PayloadType::TRANSFORM }.0);
        w.bytes(&[0, 0, 0, t.number, t.id, 0, 0]);
        attributes(w);
    });
}

/// Reads DOI, situation and the chain of proposals. `of` reads what stands behind each one's SPI.
fn walk<'a, T>(
    r: &mut Reader<'a>,
    mut of: impl FnMut(SaProposal, &mut (u8, Reader<'a>)) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    if r.u32()? != DOI_IPSEC {
        return Err(WireError::BadField("domain of interpretation, expected IPsec's"));
    }
    if r.u32()? != SIT_IDENTITY_ONLY {
        return Err(WireError::BadField("situation, expected identity only"));
    }
    let mut found = Vec::new();
    loop {
        let (last, mut p) = substructure(r, PayloadType::PROPOSAL)?;
        let number = p.u8()?;
        let protocol = ProtocolId(p.u8()?);
        let size = p.u8()?;
        let count = p.u8()?;
        let fits = match protocol {
            ProtocolId::IKE => size <= MAX_ISAKMP_SPI,
            ProtocolId::AH | ProtocolId::ESP => size == 4,
            _ => true,
        };
        if !fits {
            return Err(WireError::SpiSize { protocol, size });
        }
        let spi = p.take(usize::from(size))?.to_vec();
        if found.len() == MAX_PROPOSALS {
            return Err(WireError::TooMany("proposals"));
        }
        found.push(of(SaProposal { number, protocol, spi, transforms: Vec::new() }, &mut (count, p))?);
        if last {
            break;
        }
    }
    r.finish()?;
    Ok(found)
}

/// Reads the chain of transforms of a proposal that says how many there are. `of` reads each one's attributes.
fn walk_transforms<'a, T>(
    (count, p): &mut (u8, Reader<'a>),
    mut of: impl FnMut(SaTransform, &mut Reader<'a>) -> Result<T, WireError>,
) -> Result<Vec<T>, WireError> {
    let mut found = Vec::new();
    for i in 0..*count {
        let (last, mut t) = substructure(p, PayloadType::TRANSFORM)?;
        let (number, id) = (t.u8()?, t.u8()?);
        t.u16()?; // reserved
        found.push(of(SaTransform { number, id, attributes: Vec::new() }, &mut t)?);
        if last != (i + 1 == *count) {
            return Err(WireError::BadField("number of transforms"));
        }
    }
    p.finish()?;
    Ok(found)
}

/// Reads a generic header inside of an SA payload: whether it is the last of its chain, and what it holds.
fn substructure<'a>(r: &mut Reader<'a>, kind: PayloadType) -> Result<(bool, Reader<'a>), WireError> {
    let next = PayloadType(r.u8()?);
    if next != PayloadType::NONE && next != kind {
        return Err(WireError::Payload(kind.told(), "is followed by another kind"));
    }
    if r.u8()? != 0 {
        return Err(WireError::Payload(kind.told(), "has a reserved field that is not zero"));
    }
    let bad = WireError::Payload(kind.told(), "has a bad length");
    let length = usize::from(r.u16()?).checked_sub(4).ok_or(bad)?;
    Ok((next == PayloadType::NONE, r.sub(length).map_err(|_| bad)?))
}

fn read_attributes(r: &mut Reader<'_>) -> Result<Vec<Attribute>, WireError> {
    let mut attributes = Vec::new();
    while r.remaining() > 0 {
        if attributes.len() == MAX_ATTRIBUTES {
            return Err(WireError::TooMany("attributes"));
        }
        let kind = r.u16()?;
        let value = if kind & SHORT_FORM == 0 {
            let length = usize::from(r.u16()?);
            r.take(length)?
        } else {
            r.take(2)?
        };
        attributes.push(Attribute { kind: kind & !SHORT_FORM, value: value.to_vec() });
    }
    Ok(attributes)
}

/// Reads attributes that stand alone, as in RESPONDER-LIFETIME.
pub(crate) fn parse_attributes(data: &[u8]) -> Result<Vec<Attribute>, WireError> {
    read_attributes(&mut Reader::new(data))
}

/// Writes attributes; those of two octets in the short form.
pub(crate) fn write_attributes(w: &mut Writer, attributes: &[Attribute]) {
    for a in attributes {
        if a.value.len() == 2 {
            w.u16(SHORT_FORM | a.kind);
        } else {
            w.u16(a.kind & !SHORT_FORM);
            w.u16(u16::try_from(a.value.len()).unwrap_or(u16::MAX));
        }
        w.bytes(&a.value);
    }
}

#[cfg(test)]
mod tests;
