//! Cutting a run into its packets.

use super::{CWR, FIN, PSH, Run, RunKind, finished};
use crate::checksum;
use crate::ip::IPV4_HEADER_LEN;

/// The packets of a run, written one by one.
#[derive(Debug, Clone)]
pub struct Segments<'a> {
    run: Run,
    headers: &'a [u8],
    /// What is still to be written.
    payload: &'a [u8],
    /// Packets written.
    done: u16,
    /// Octets of payload written.
    offset: u32,
    /// The sum of the pseudo-header without the length.
    pseudo: u16,
}

impl<'a> Segments<'a> {
    /// Of a packet that [`Run::of`] has described. Its checksum field holds the sum of the pseudo-header, as hosts leave it, with the
    /// length of the whole. `None` when the packet is shorter than its headers.
    pub fn new(packet: &'a [u8], run: Run) -> Option<Self> {
        let (headers, payload) = packet.split_at_checked(run.headers.into())?;
        let upper = headers.get(run.upper.into()..)?;
        let seed = upper.get(run.kind.checksum_offset()..)?.first_chunk::<2>()?;
        let len = u16::try_from(packet.len() - usize::from(run.upper)).ok()?;
        // From the host's sum and not from the addresses: with a routing header others count (RFC 8200 section 8.1).
        let pseudo = checksum::add(u16::from_be_bytes(*seed), !len);
        Some(Self { run, headers, payload, done: 0, offset: 0, pseudo })
    }

    /// Octets of the next packet; `None` when all are written.
    pub fn next_len(&self) -> Option<usize> {
        (!self.payload.is_empty())
            .then(|| self.headers.len() + self.payload.len().min(self.run.segment.into()))
    }

    /// Writes the next packet to the front of `out`: its length. `None` when all are written or `out` is too small.
    pub fn write_next(&mut self, out: &mut [u8]) -> Option<usize> {
        let len = self.next_len()?;
        let out = out.get_mut(..len)?;
        let (headers, body) = out.split_at_mut_checked(self.headers.len())?;
        let (now, later) = self.payload.split_at_checked(body.len())?;
        headers.copy_from_slice(self.headers);
        body.copy_from_slice(now);
        let (ip, upper) = headers.split_at_mut_checked(self.run.upper.into())?;
        self.number_ip(ip, len)?;
        let upper_len = (len - ip.len()) as u16;
        match self.run.kind {
            RunKind::Udp => upper.get_mut(4..6)?.copy_from_slice(&upper_len.to_be_bytes()),
            RunKind::Tcp4 | RunKind::Tcp6 => {
                let place = upper.get_mut(4..8)?.first_chunk_mut::<4>()?;
                *place = u32::from_be_bytes(*place).wrapping_add(self.offset).to_be_bytes();
                let flags = upper.get_mut(13)?;
                if !later.is_empty() {
                    *flags &= !(FIN | PSH);
                }
                if self.done > 0 {
                    // The answer to one congestion mark is said once (RFC 3168 section 6.1.2).
                    *flags &= !CWR;
                }
            }
        }
        let at = self.run.kind.checksum_offset();
        upper.get_mut(at..at + 2)?.fill(0);
        let whole = out.get(self.run.upper.into()..)?;
        let sum = checksum::add(checksum::add(self.pseudo, upper_len), checksum::sum(whole));
        let sum = finished(sum, at);
        let place = usize::from(self.run.upper) + at;
        out.get_mut(place..place + 2)?.copy_from_slice(&sum.to_be_bytes());
        self.payload = later;
        self.done = self.done.wrapping_add(1);
        self.offset += u32::from(self.run.segment);
        Some(len)
    }

    /// What of the IP header differs from packet to packet.
    fn number_ip(&self, ip: &mut [u8], len: usize) -> Option<()> {
        if ip.first()? >> 4 == 6 {
            let body = (len - crate::ip::IPV6_HEADER_LEN) as u16;
            ip.get_mut(4..6)?.copy_from_slice(&body.to_be_bytes());
            return Some(());
        }
        let fixed = ip.first_chunk_mut::<IPV4_HEADER_LEN>()?;
        [fixed[2], fixed[3]] = (len as u16).to_be_bytes();
        let id = u16::from_be_bytes([fixed[4], fixed[5]]).wrapping_add(self.done);
        [fixed[4], fixed[5]] = id.to_be_bytes();
        [fixed[10], fixed[11]] = [0, 0];
        let sum = checksum::of(&[ip]).to_be_bytes();
        ip.get_mut(10..12)?.copy_from_slice(&sum);
        Some(())
    }
}
