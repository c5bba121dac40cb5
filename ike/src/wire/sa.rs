//! Security Association payload (RFC 7296 section 3.3): proposals and their transforms.

use super::error::WireError;
use super::numbers::{ProtocolId, TransformType};
use super::reader::Reader;
use super::writer::Writer;

/// Proposals of one SA payload that are looked at. Large clients send under 20.
const MAX_PROPOSALS: usize = 64;
/// The Key Length attribute in its TV form (RFC 7296 section 3.3.5).
const KEY_LENGTH_TV: u16 = 0x8000 | 14;

/// One algorithm offered or chosen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Transform {
    /// What it is for.
    pub kind: TransformType,
    /// Which algorithm.
    pub id: u16,
    /// Key length in bits, where the algorithm has a variable one.
    pub key_bits: Option<u16>,
    /// It carries an attribute this crate does not know, or one twice, so it must not be chosen.
    pub unknown_attribute: bool,
}

impl Transform {
    /// A transform without attributes.
    pub const fn new(kind: TransformType, id: u16) -> Self {
        Self { kind, id, key_bits: None, unknown_attribute: false }
    }

    /// A transform with a Key Length attribute.
    pub const fn with_key_bits(kind: TransformType, id: u16, key_bits: u16) -> Self {
        Self { kind, id, key_bits: Some(key_bits), unknown_attribute: false }
    }
}

/// One proposal: a protocol, its SPI and the transforms to choose from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Proposal {
    /// Counts from 1 in an offer; an answer repeats the number it accepts.
    pub number: u8,
    /// IKE, AH or ESP.
    pub protocol: ProtocolId,
    /// Empty (initial IKE), eight octets (IKE rekey) or four (ESP).
    pub spi: Vec<u8>,
    /// In the order of preference.
    pub transforms: Vec<Transform>,
}

impl Proposal {
    /// The SPI as ESP has it.
    pub fn esp_spi(&self) -> Option<u32> {
        self.spi.as_slice().try_into().ok().map(u32::from_be_bytes).filter(|&spi| spi != 0)
    }

    /// The SPI as an IKE rekey has it.
    pub fn ike_spi(&self) -> Option<u64> {
        self.spi.as_slice().try_into().ok().map(u64::from_be_bytes).filter(|&spi| spi != 0)
    }
}

impl Proposal {
    /// The offer of these transforms alone, for an IKE SA.
    pub fn of_ike(transforms: Vec<Transform>) -> [Self; 1] {
        [Self { number: 1, protocol: ProtocolId::IKE, spi: Vec::new(), transforms }]
    }
}

/// Reads the body of an SA payload. What stands beyond [`MAX_PROPOSALS`] has to be well formed, and is as if it were not there: nothing forbids
/// an offer to be long, and the best of it stands first (RFC 7296 section 3.3).
pub fn parse(mut r: Reader<'_>) -> Result<Vec<Proposal>, WireError> {
    let mut proposals = Vec::new();
    loop {
        let last = r.u8()?;
        r.u8()?; // reserved
        let length = usize::from(r.u16()?);
        let mut p = r.sub(length.checked_sub(4).ok_or(WireError::Truncated)?)?;
        let proposal = parse_proposal(&mut p)?;
        if proposals.len() < MAX_PROPOSALS {
            proposals.push(proposal);
        }
        match last {
            0 => break,
            2 => {}
            _ => return Err(WireError::BadField("last substructure")),
        }
    }
    r.finish()?;
    Ok(proposals)
}

fn parse_proposal(p: &mut Reader<'_>) -> Result<Proposal, WireError> {
    let number = p.u8()?;
    let protocol = ProtocolId(p.u8()?);
    let spi_size = p.u8()?;
    let count = p.u8()?;
    let fits = match protocol {
        ProtocolId::IKE => spi_size == 0 || spi_size == 8,
        ProtocolId::AH | ProtocolId::ESP => spi_size == 4,
        _ => true,
    };
    if !fits {
        return Err(WireError::SpiSize { protocol, size: spi_size });
    }
    let spi = p.take(usize::from(spi_size))?.to_vec();
    let mut transforms = Vec::new();
    for i in 0..count {
        let last = p.u8()?;
        p.u8()?;
        let length = usize::from(p.u16()?);
        let mut t = p.sub(length.checked_sub(4).ok_or(WireError::Truncated)?)?;
        transforms.push(parse_transform(&mut t)?);
        if (last == 0) != (i + 1 == count) {
            return Err(WireError::BadField("last transform"));
        }
    }
    p.finish()?;
    Ok(Proposal { number, protocol, spi, transforms })
}

fn parse_transform(t: &mut Reader<'_>) -> Result<Transform, WireError> {
    let kind = TransformType(t.u8()?);
    t.u8()?;
    let mut transform = Transform::new(kind, t.u16()?);
    while t.remaining() > 0 {
        let kind = t.u16()?;
        let value = t.u16()?;
        if kind == KEY_LENGTH_TV {
            // Two lengths are none that could be agreed on.
            transform.unknown_attribute |= transform.key_bits.is_some();
            transform.key_bits = Some(value);
        } else {
            transform.unknown_attribute = true;
            if kind & 0x8000 == 0 {
                t.take(usize::from(value))?;
            }
        }
    }
    Ok(transform)
}

/// Writes the body of an SA payload.
pub fn write(w: &mut Writer, proposals: &[Proposal]) {
    for (i, proposal) in proposals.iter().enumerate() {
        w.with_length(2, |w| {
            w.u8(if i + 1 == proposals.len() { 0 } else { 2 });
            w.u8(0);
            w.u16(0);
            w.u8(proposal.number);
            w.u8(proposal.protocol.0);
            w.u8(u8::try_from(proposal.spi.len()).unwrap_or(0));
            w.u8(u8::try_from(proposal.transforms.len()).unwrap_or(u8::MAX));
            w.bytes(&proposal.spi);
            for (j, t) in proposal.transforms.iter().enumerate() {
                w.with_length(2, |w| {
                    w.u8(if j + 1 == proposal.transforms.len() { 0 } else { 3 });
                    w.u8(0);
                    w.u16(0);
                    w.u8(t.kind.0);
                    w.u8(0);
                    w.u16(t.id);
                    if let Some(bits) = t.key_bits {
                        w.u16(KEY_LENGTH_TV);
                        w.u16(bits);
                    }
                });
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A proposal for IKE with one transform, AES-GCM, that carries `attributes`.
    fn with_attributes(attributes: &[u16]) -> Result<Transform, WireError> {
        let mut w = Writer::new();
        w.with_length(2, |w| {
            w.bytes(&[0, 0, 0, 0, 1, 1, 0, 1]);
            w.with_length(2, |w| {
                w.bytes(&[0, 0, 0, 0, 1, 0, 0, 20]);
                attributes.iter().for_each(|&word| w.u16(word));
            });
        });
        let bytes = w.finish();
        parse(Reader::new(&bytes)).map(|proposals| proposals[0].transforms[0])
    }

    #[test]
    fn a_transform_with_an_attribute_nobody_knows_is_marked() {
        let known = Transform::with_key_bits(TransformType::ENCR, 20, 256);
        assert_eq!(with_attributes(&[KEY_LENGTH_TV, 256]), Ok(known));
        let unknown = Transform { unknown_attribute: true, ..known };
        // In the short form, in the long one, and the key length a second time.
        assert_eq!(with_attributes(&[KEY_LENGTH_TV, 256, 0x8000 | 15, 7]), Ok(unknown));
        assert_eq!(with_attributes(&[15, 4, 0xdead, 0xbeef, KEY_LENGTH_TV, 256]), Ok(unknown));
        assert_eq!(with_attributes(&[KEY_LENGTH_TV, 128, KEY_LENGTH_TV, 256]), Ok(unknown));
        // A long one that goes on behind its transform, and half an attribute.
        assert_eq!(with_attributes(&[15, 4, 0xdead]), Err(WireError::Truncated));
        assert_eq!(with_attributes(&[KEY_LENGTH_TV]), Err(WireError::Truncated));
    }
}
