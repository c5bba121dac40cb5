//! Traffic selectors, which `ike` and `esp` have alike.

use std::net::IpAddr;

use prost::Message;

use crate::error::SnapshotError;
use crate::fields::{ip, ip_octets};
use crate::writer::Writer;

/// What a [`Range`] stands for: protocol, lowest and highest address, lowest and highest port.
pub type Bounds = (u8, (IpAddr, IpAddr), (u16, u16));

/// A range of addresses of one family and of ports, and a protocol.
#[derive(Clone, PartialEq, Eq, Message)]
pub struct Range {
    #[prost(uint32, tag = "1")]
    protocol: u32,
    #[prost(bytes = "vec", tag = "2")]
    start: Vec<u8>,
    /// Not there where it is the same as the lowest.
    #[prost(bytes = "vec", optional, tag = "3")]
    end: Option<Vec<u8>>,
    /// The lowest and the highest in one number. Most selectors are of all ports: that is zero.
    #[prost(fixed32, tag = "4")]
    ports: u32,
}

impl Range {
    /// From the lowest to the highest.
    pub fn new(protocol: u8, (start, end): (IpAddr, IpAddr), (start_port, end_port): (u16, u16)) -> Self {
        let ports = u32::from(start_port) << 16 | u32::from(end_port);
        let highest = (start != end).then(|| ip_octets(end));
        Self { protocol: protocol.into(), start: ip_octets(start), end: highest, ports: ports ^ ALL_PORTS }
    }

    /// Writes what [`Self::new`] would make of these.
    pub fn write(w: &mut Writer, tag: u32, (protocol, (start, end), (start_port, end_port)): Bounds) {
        let range = w.begin(tag);
        w.uint(1, protocol.into());
        w.ip(2, start);
        if start != end {
            w.ip(3, end);
        }
        w.fixed32(4, (u32::from(start_port) << 16 | u32::from(end_port)) ^ ALL_PORTS);
        w.end(range);
    }

    /// What it stands for.
    ///
    /// # Errors
    /// With the name of the field, if it stands for nothing.
    pub fn read(&self, field: &'static str) -> Result<Bounds, SnapshotError> {
        let protocol = u8::try_from(self.protocol).map_err(|error| SnapshotError::value(field, error))?;
        let start = ip(&self.start, field)?;
        let end = self.end.as_ref().map_or(Ok(start), |end| ip(end, field))?;
        if start.is_ipv4() != end.is_ipv4() {
            return Err(SnapshotError::value(
                field,
                "it begins in one family of addresses and ends in another",
            ));
        }
        let ports = self.ports ^ ALL_PORTS;
        Ok((protocol, (start, end), ((ports >> 16) as u16, ports as u16)))
    }
}

/// 0 to 65535.
const ALL_PORTS: u32 = 0xffff;
