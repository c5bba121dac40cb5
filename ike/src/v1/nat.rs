//! NAT detection (RFC 3947 section 3.2): as in IKEv2, but with the hash of phase 1, and payloads whose numbers the drafts
//! have chosen otherwise.

use std::net::{IpAddr, SocketAddr};

use super::keys::Suite;
use super::offer::Encapsulation;
use super::wire::{Payload, Payloads};
use crate::event::Nat;
use crate::host::Host;

/// Which of the specifications of NAT traversal both sides have announced.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Natt {
    /// RFC 3947.
    Rfc,
    /// draft-ietf-ipsec-nat-t-ike-02 and -03, which peers still announce.
    Draft,
}

impl Natt {
    /// How a pair says that its ESP goes in UDP.
    pub(crate) const fn encapsulation(self) -> Encapsulation {
        match self {
            Self::Rfc => Encapsulation::Rfc,
            Self::Draft => Encapsulation::Draft,
        }
    }
}

/// HASH (CKY-I | CKY-R | IP | port).
fn hash(suite: Suite, (spi_i, spi_r): (u64, u64), addr: SocketAddr) -> Vec<u8> {
    let (spi_i, spi_r, port) = (spi_i.to_be_bytes(), spi_r.to_be_bytes(), addr.port().to_be_bytes());
    let digest = |ip: &[u8]| suite.hash.digest(&[&spi_i, &spi_r, ip, &port]).to_vec();
    match addr.ip() {
        IpAddr::V4(ip) => digest(&ip.octets()),
        IpAddr::V6(ip) => digest(&ip.octets()),
    }
}

/// Both payloads: first that of where the message goes, then that of where it comes from. With `force` the latter is random,
/// so that the peer finds a NAT and puts ESP into UDP.
pub(crate) fn payloads(
    suite: Suite,
    spis: (u64, u64),
    (local, remote): (SocketAddr, SocketAddr),
    natt: Natt,
    force: bool,
    host: &mut dyn Host,
) -> [Payload; 2] {
    let mut source = hash(suite, spis, local);
    if force {
        host.random(&mut source);
    }
    let draft = natt == Natt::Draft;
    [Payload::NatD { draft, hash: hash(suite, spis, remote) }, Payload::NatD { draft, hash: source }]
}

/// What the peer's payloads say about a message from `remote` to `local`; `None` when there are none.
pub(crate) fn detect(
    suite: Suite,
    spis: (u64, u64),
    payloads: Payloads<'_>,
    (local, remote): (SocketAddr, SocketAddr),
) -> Option<Nat> {
    let mut hashes = payloads.nat_d().map(|(_, hash)| hash);
    let destination = hashes.next()?;
    let mut sources = hashes.peekable();
    sources.peek()?;
    let from = hash(suite, spis, remote);
    // A multihomed peer may send several sources.
    Some(Nat { local: destination != hash(suite, spis, local), remote: !sources.any(|hash| hash == from) })
}
