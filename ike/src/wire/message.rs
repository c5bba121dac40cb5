//! Whole messages: header and payload chain.

use super::error::WireError;
use super::header::{HEADER_LEN, Header};
use super::numbers::{AuthMethod, NotifyType, PayloadType};
use super::payload::{self, Chain, Identification, Notify, Payload};
use super::reader::Reader;
use super::writer::Writer;
use crate::wire::sa::Proposal;
use crate::wire::ts::TrafficSelector;

/// The largest datagram taken. UDP allows no more.
pub const MAX_MESSAGE: usize = 65_535;

/// A datagram decoded as far as it is in plain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// The header.
    pub header: Header,
    /// The payloads, the encrypted one as a range of the datagram.
    pub chain: Chain,
}

impl Message {
    /// Decodes a datagram.
    pub fn parse(datagram: &[u8]) -> Result<Self, WireError> {
        let mut r = Reader::new(datagram);
        let header = Header::parse(&mut r, datagram.len())?;
        let chain = payload::parse_chain(header.next, r.take_rest(), HEADER_LEN)?;
        Ok(Self { header, chain })
    }

    /// Encodes a message in plain.
    pub fn encode(mut header: Header, payloads: &[Payload]) -> Vec<u8> {
        let mut body = Writer::new();
        header.next = payload::write_chain(&mut body, payloads);
        header.length = u32::try_from(HEADER_LEN + body.len()).unwrap_or(u32::MAX);
        let mut w = Writer::new();
        header.write(&mut w);
        w.bytes(body.as_slice());
        w.finish()
    }
}

/// Decoded payloads by kind, for code that asks for one rather than walking them all.
#[derive(Clone, Copy, Debug)]
pub struct Payloads<'a>(pub &'a [Payload]);

impl<'a> Payloads<'a> {
    /// The first SA payload.
    pub fn sa(self) -> Option<&'a [Proposal]> {
        self.0.iter().find_map(|p| if let Payload::Sa(sa) = p { Some(sa.as_slice()) } else { None })
    }

    /// The first KE payload.
    pub fn ke(self) -> Option<(u16, &'a [u8])> {
        self.0.iter().find_map(|p| {
            if let Payload::Ke { group, data } = p { Some((*group, data.as_slice())) } else { None }
        })
    }

    /// The nonce.
    pub fn nonce(self) -> Option<&'a [u8]> {
        self.0.iter().find_map(|p| if let Payload::Nonce(n) = p { Some(n.as_slice()) } else { None })
    }

    /// IDi.
    pub fn id_i(self) -> Option<&'a Identification> {
        self.0.iter().find_map(|p| if let Payload::IdI(id) = p { Some(id) } else { None })
    }

    /// IDr.
    pub fn id_r(self) -> Option<&'a Identification> {
        self.0.iter().find_map(|p| if let Payload::IdR(id) = p { Some(id) } else { None })
    }

    /// AUTH: the method and the value.
    pub fn auth(self) -> Option<(AuthMethod, &'a [u8])> {
        self.0.iter().find_map(|p| {
            if let Payload::Auth { method, data } = p { Some((*method, data.as_slice())) } else { None }
        })
    }

    /// TSi.
    pub fn ts_i(self) -> Option<&'a [TrafficSelector]> {
        self.0.iter().find_map(|p| if let Payload::TsI(ts) = p { Some(ts.as_slice()) } else { None })
    }

    /// TSr.
    pub fn ts_r(self) -> Option<&'a [TrafficSelector]> {
        self.0.iter().find_map(|p| if let Payload::TsR(ts) = p { Some(ts.as_slice()) } else { None })
    }

    /// All notifies.
    pub fn notifies(self) -> impl Iterator<Item = &'a Notify> {
        self.0.iter().filter_map(|p| if let Payload::Notify(n) = p { Some(n) } else { None })
    }

    /// The first notify of a type.
    pub fn notify(self, kind: NotifyType) -> Option<&'a Notify> {
        self.notifies().find(|n| n.kind == kind)
    }

    /// The first notify that reports an error.
    pub fn error(self) -> Option<&'a Notify> {
        self.notifies().find(|n| n.kind.is_error())
    }

    /// How many payloads of a type there are.
    pub fn count(self, kind: PayloadType) -> usize {
        self.0.iter().filter(|p| p.kind() == kind).count()
    }
}
