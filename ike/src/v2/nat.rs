//! NAT detection (RFC 7296 section 2.23).

use std::net::{IpAddr, SocketAddr};

use crate::event::Nat;
use crate::host::{Host, random_array};
use crate::wire::message::Payloads;
use crate::wire::numbers::NotifyType;
use crate::wire::payload::{Notify, Payload};

/// SHA-1 (SPIi | SPIr | IP | port).
fn hash(spi_i: u64, spi_r: u64, addr: SocketAddr) -> Vec<u8> {
    let mut data = [spi_i.to_be_bytes(), spi_r.to_be_bytes()].concat();
    match addr.ip() {
        IpAddr::V4(ip) => data.extend_from_slice(&ip.octets()),
        IpAddr::V6(ip) => data.extend_from_slice(&ip.octets()),
    }
    data.extend_from_slice(&addr.port().to_be_bytes());
    openssl::sha::sha1(&data).to_vec()
}

/// Both notifies. With `force` the source hash is random, so that the peer finds a NAT and puts ESP into UDP.
pub(crate) fn notifies(
    spis: (u64, u64),
    local: SocketAddr,
    remote: SocketAddr,
    force: bool,
    host: &mut dyn Host,
) -> [Payload; 2] {
    let source = if force { random_array::<20>(host).to_vec() } else { hash(spis.0, spis.1, local) };
    let destination = hash(spis.0, spis.1, remote);
    [
        Payload::Notify(Notify::with_data(NotifyType::NAT_DETECTION_SOURCE_IP, source)),
        Payload::Notify(Notify::with_data(NotifyType::NAT_DETECTION_DESTINATION_IP, destination)),
    ]
}

/// What the peer's notifies say about a message from `remote` to `local`; `None` when it does not do NAT traversal.
pub(crate) fn detect(
    spis: (u64, u64),
    payloads: Payloads<'_>,
    local: SocketAddr,
    remote: SocketAddr,
) -> Option<Nat> {
    let destination = payloads.notify(NotifyType::NAT_DETECTION_DESTINATION_IP)?;
    // A multihomed peer may send several sources.
    let mut sources =
        payloads.notifies().filter(|n| n.kind == NotifyType::NAT_DETECTION_SOURCE_IP).peekable();
    sources.peek()?;
    let from = hash(spis.0, spis.1, remote);
    Some(Nat {
        local: destination.data != hash(spis.0, spis.1, local),
        remote: !sources.any(|n| n.data == from),
    })
}
