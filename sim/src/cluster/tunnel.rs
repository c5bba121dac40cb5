//! A tunnel as far as its node's place in a cluster is concerned: messages of IKE that have numbers, and a sending SA.

use std::time::Instant;

use esp::{Lease, Limits, OutboundSa, OutboundSnapshot, Resume, SaKeys, Spi, Suite};
use snapshot::{Handover, Row, SnapshotError, decode, encode};

/// What the rows of tunnels are called.
const CLASS: u8 = 1;
/// Payload of a packet: only its number counts.
const PAYLOAD: usize = 16;

/// A tunnel at its node.
pub(super) struct Tunnel {
    /// The number of the last message that it wanted to say, and what that was: the standby knows of it before anybody hears it.
    pub(super) message: u64,
    pub(super) what: u64,
    /// The end of the numbers that the standby has been told of.
    pub(super) reserved: u64,
    pub(super) outbound: OutboundSa,
    /// Numbers are being reserved.
    pub(super) reserving: bool,
}

impl Tunnel {
    /// A new one; the key is of this tunnel alone.
    pub(super) fn new(id: u64) -> Result<Self, String> {
        let mut key = vec![0x5a; 20];
        key.splice(..8, id.to_be_bytes());
        let suite = Suite::from_transforms(20, Some(128), None, true).ok_or("there is no AES-GCM")?;
        let keys = SaKeys::new(key, Vec::new());
        let made = OutboundSa::new(Spi(0x1000), suite, &keys, &[7; 32], &Limits::default());
        let mut outbound = made.map_err(|error| error.to_string())?;
        outbound.reserve(Lease::up_to(0));
        Ok(Self { message: 0, what: 0, reserved: 0, outbound, reserving: false })
    }

    /// As another node is told of it.
    pub(super) fn row(&self, id: u64, at: Instant) -> Row {
        let mut octets = Vec::new();
        for number in [self.message, self.what, self.reserved] {
            octets.extend(number.to_be_bytes());
        }
        octets.extend_from_slice(&encode(&self.outbound.snapshot()));
        Row { class: CLASS, id, octets: Some(octets.into()), at }
    }

    /// That it is no more.
    pub(super) fn gone(id: u64, at: Instant) -> Row {
        Row { class: CLASS, id, octets: None, at }
    }

    /// As it goes on at another node.
    pub(super) fn of(row: &Row, handover: Handover) -> Result<Self, String> {
        let octets = row.octets.as_ref().ok_or("a row of nothing")?;
        let number = |at: usize| {
            let octets = octets.get(8 * at..).and_then(<[u8]>::first_chunk);
            octets.map(|octets| u64::from_be_bytes(*octets)).ok_or("a short row")
        };
        let (message, what, reserved) = (number(0)?, number(1)?, number(2)?);
        let words = |error: SnapshotError| error.to_string();
        let snapshot: OutboundSnapshot = decode(octets.get(24..).unwrap_or_default()).map_err(words)?;
        let resume = match handover {
            Handover::Sudden => Resume::Beyond(reserved),
            Handover::Exact => Resume::Exactly,
        };
        let outbound = OutboundSa::restore(&snapshot, resume, Lease::up_to(reserved));
        let outbound = outbound.map_err(|error| error.to_string())?;
        Ok(Self { message, what, reserved, outbound, reserving: false })
    }

    /// Sends a packet: its number, if one may be used.
    pub(super) fn send(&mut self) -> Option<u64> {
        let mut out = vec![0; self.outbound.sealed_len(PAYLOAD)];
        self.outbound.seal_dummy(PAYLOAD, &mut out).ok().map(|sealed| sealed.sequence)
    }
}
