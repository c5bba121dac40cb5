//! Payloads of IKEv1 (RFC 2408 section 3) and how they are written.

use super::header::Header;
use super::id::Id;
use super::numbers::{DOI_IPSEC, NotifyType, PayloadType};
use super::sa::Sa;
use crate::wire::numbers::ProtocolId;
use crate::wire::writer::Writer;

/// A Notify payload (RFC 2408 section 3.14).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Notify {
    /// Protocol of the SPI.
    pub(crate) protocol: ProtocolId,
    /// The SA spoken of, or empty.
    pub(crate) spi: Vec<u8>,
    /// What is said.
    pub(crate) kind: NotifyType,
    /// What goes with it.
    pub(crate) data: Vec<u8>,
}

/// A Delete payload (RFC 2408 section 3.15).
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Delete {
    /// Whose SPIs these are.
    pub(crate) protocol: ProtocolId,
    /// Both cookies of an ISAKMP SA, or the sender's inbound SPIs of ESP or AH.
    pub(crate) spis: Vec<Vec<u8>>,
}

/// One decoded payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) enum Payload {
    /// Security Association with its proposals.
    Sa(Sa),
    /// Key Exchange: the public value. The group is in the SA.
    Ke(Vec<u8>),
    /// Identification.
    Id(Id),
    /// A hash: of phase 1, or of one of the messages of phase 2.
    Hash(Vec<u8>),
    /// Nonce.
    Nonce(Vec<u8>),
    /// Notify.
    Notify(Notify),
    /// Delete.
    Delete(Delete),
    /// Vendor ID.
    Vendor(Vec<u8>),
    /// NAT Discovery (RFC 3947 section 3.2).
    NatD {
        /// By the number of a draft.
        draft: bool,
        /// The hash of an address and port.
        hash: Vec<u8>,
    },
    /// NAT Original Address (RFC 3947 section 5.2).
    NatOa {
        /// By the number of a draft.
        draft: bool,
        /// The address, as an identification has it.
        id: Id,
    },
    /// A part of a message.
    Fragment {
        /// Which message.
        id: u16,
        /// Counts from 1.
        number: u8,
        /// There is none behind it.
        last: bool,
        /// The part.
        data: Vec<u8>,
    },
    /// A payload that is not looked into, such as a certificate.
    Opaque(PayloadType, Vec<u8>),
}

impl Payload {
    /// The payload's type number.
    pub(crate) const fn kind(&self) -> PayloadType {
        match self {
            Self::Sa(_) => PayloadType::SA,
            Self::Ke(_) => PayloadType::KE,
            Self::Id(_) => PayloadType::ID,
            Self::Hash(_) => PayloadType::HASH,
            Self::Nonce(_) => PayloadType::NONCE,
            Self::Notify(_) => PayloadType::NOTIFY,
            Self::Delete(_) => PayloadType::DELETE,
            Self::Vendor(_) => PayloadType::VENDOR,
            Self::NatD { draft: false, .. } => PayloadType::NAT_D,
            Self::NatD { draft: true, .. } => PayloadType::NAT_D_DRAFT,
            Self::NatOa { draft: false, .. } => PayloadType::NAT_OA,
            Self::NatOa { draft: true, .. } => PayloadType::NAT_OA_DRAFT,
            Self::Fragment { .. } => PayloadType::FRAGMENT,
            Self::Opaque(kind, _) => *kind,
        }
    }

    fn write(&self, w: &mut Writer) {
        match self {
            Self::Sa(sa) => w.bytes(&sa.body),
            Self::Id(id) | Self::NatOa { id, .. } => w.bytes(&id.body()),
            Self::Notify(n) => {
                w.u32(DOI_IPSEC);
                w.u8(n.protocol.0);
                w.u8(u8::try_from(n.spi.len()).unwrap_or(0));
                w.u16(n.kind.0);
                w.bytes(&n.spi);
                w.bytes(&n.data);
            }
            Self::Delete(d) => {
                w.u32(DOI_IPSEC);
                w.u8(d.protocol.0);
                let size = d.spis.first().map_or(0, Vec::len);
                w.u8(u8::try_from(size).unwrap_or(0));
                w.u16(u16::try_from(d.spis.len()).unwrap_or(u16::MAX));
                d.spis.iter().for_each(|spi| w.bytes(spi));
            }
            Self::Fragment { id, number, last, data } => {
                w.u16(*id);
                w.bytes(&[*number, u8::from(*last)]);
                w.bytes(data);
            }
            Self::Ke(data)
            | Self::Hash(data)
            | Self::Nonce(data)
            | Self::Vendor(data)
            | Self::NatD { hash: data, .. }
            | Self::Opaque(_, data) => w.bytes(data),
        }
    }
}

/// Writes a chain and returns the type of its first payload.
pub(crate) fn write_chain(w: &mut Writer, payloads: &[Payload]) -> PayloadType {
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

/// A message in plain. Type of the first payload and length are filled in.
pub(crate) fn encode(header: Header, payloads: &[Payload]) -> Vec<u8> {
    const LENGTH_AT: usize = 24;
    let mut w = Writer::new();
    Header { next: payloads.first().map_or(PayloadType::NONE, Payload::kind), ..header }.write(&mut w);
    write_chain(&mut w, payloads);
    w.patch_u32(LENGTH_AT, u32::try_from(w.len()).unwrap_or(u32::MAX));
    w.finish()
}

/// Payloads by what they are.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Payloads<'a>(pub(crate) &'a [Payload]);

impl<'a> Payloads<'a> {
    fn find<T>(self, of: impl Fn(&'a Payload) -> Option<T>) -> Option<T> {
        self.0.iter().find_map(of)
    }

    /// The first Security Association.
    pub(crate) fn sa(self) -> Option<&'a Sa> {
        self.find(|p| if let Payload::Sa(sa) = p { Some(sa) } else { None })
    }

    /// The first public value.
    pub(crate) fn ke(self) -> Option<&'a [u8]> {
        self.find(|p| if let Payload::Ke(data) = p { Some(data.as_slice()) } else { None })
    }

    /// The first nonce.
    pub(crate) fn nonce(self) -> Option<&'a [u8]> {
        self.find(|p| if let Payload::Nonce(data) = p { Some(data.as_slice()) } else { None })
    }

    /// The first hash.
    pub(crate) fn hash(self) -> Option<&'a [u8]> {
        self.find(|p| if let Payload::Hash(data) = p { Some(data.as_slice()) } else { None })
    }

    /// The identifications, in order.
    pub(crate) fn ids(self) -> impl Iterator<Item = &'a Id> {
        self.0.iter().filter_map(|p| if let Payload::Id(id) = p { Some(id) } else { None })
    }

    /// The notifies, in order.
    pub(crate) fn notifies(self) -> impl Iterator<Item = &'a Notify> {
        self.0.iter().filter_map(|p| if let Payload::Notify(n) = p { Some(n) } else { None })
    }

    /// The deletes, in order.
    pub(crate) fn deletes(self) -> impl Iterator<Item = &'a Delete> {
        self.0.iter().filter_map(|p| if let Payload::Delete(d) = p { Some(d) } else { None })
    }

    /// The vendor IDs, in order.
    pub(crate) fn vendors(self) -> impl Iterator<Item = &'a [u8]> {
        self.0.iter().filter_map(|p| if let Payload::Vendor(data) = p { Some(data.as_slice()) } else { None })
    }

    /// Of each NAT-D payload, in order, whether it is by the number of a draft, and its hash.
    pub(crate) fn nat_d(self) -> impl Iterator<Item = (bool, &'a [u8])> {
        self.0.iter().filter_map(|p| match p {
            Payload::NatD { draft, hash } => Some((*draft, hash.as_slice())),
            _ => None,
        })
    }

    /// How many payloads of a type there are.
    pub(crate) fn count(self, kind: PayloadType) -> usize {
        self.0.iter().filter(|p| p.kind() == kind).count()
    }
}
