//! ICMP errors to the senders of inner packets.
//!
//! An error goes the way that any packet to that sender goes, so it comes back by the tunnel or the device that the packet
//! came from, and only if selectors and policy have it (RFC 4301 section 6). Where a tunnel is for everything that look-up
//! tells nothing of where a packet came from: what came from the device goes back there, and nothing goes into the tunnel that
//! the packet itself was for, behind which its sender is not. Into a tunnel its source is the address of
//! the tenant's TUN device, which is ours. A hub has no address, the device's may be outside the selectors, and the kernel
//! behind the device would not believe a packet from its own: then the error bears the address that the packet was sent
//! to, from which answers may come.

use std::net::IpAddr;

use esp::Spi;
use esp::icmp::{self, IcmpError};
use esp::ip::{self, PacketInfo};

use super::core::Core;
use super::route::Way;
use crate::came_from::CameFrom;
use crate::counters::Counter;
use crate::model::TunnelId;
use crate::published::Reading;
use crate::tenant::Tenant;

/// Which way a packet was going on the pair that it met its end on.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Met {
    /// It had come in by it.
    Arriving,
    /// It was to go out by it, and had come from there.
    Leaving(CameFrom),
}

impl Core {
    /// Tells the sender of `packet`, which met its end on the pair `spi` of this shard.
    pub(super) fn answer(&mut self, spi: Spi, met: Met, error: IcmpError, packet: &[u8], info: &PacketInfo) {
        if !icmp::is_answerable(packet, info) {
            return;
        }
        let Some(sa) = self.table.get_mut(spi) else { return };
        if !sa.may_answer(self.now) {
            return self.counters.count(Counter::IcmpLimited);
        }
        let (tenant, tunnel) = (sa.tenant.clone(), sa.tunnel_id);
        let Some((source, way)) = way_back(self.id, &tenant, (met, tunnel), error, info) else {
            return self.counters.count(Counter::IcmpNoWay);
        };
        let mut message = [0; icmp::MAX_LEN];
        let room = message.get_mut(..self.room_for(&way, info)).unwrap_or_default();
        let written = icmp::write(error, source, packet, info, room);
        let Some(message) = written.and_then(|len| message.get(..len)) else {
            return self.counters.count(Counter::IcmpNoWay);
        };
        match way {
            Back::Device => {
                let outcome = match tenant.write(self.id, false, message) {
                    Some(Ok(_)) => Counter::IcmpSent,
                    Some(Err(error)) if error.kind() == std::io::ErrorKind::WouldBlock => Counter::TunFull,
                    _ => Counter::TunFailed,
                };
                self.counters.count(outcome);
            }
            Back::Elsewhere(node) => {
                self.counters.count(Counter::IcmpSent);
                self.pass_inner(node, &tenant, CameFrom::Us, message);
            }
            Back::Pair(target) => {
                if let Some(info) = ip::parse(message) {
                    self.counters.count(Counter::IcmpSent);
                    // Never answered in turn, so this does not go round.
                    self.send_inner(target, tenant.id, CameFrom::Us, message, &info, None);
                }
            }
        }
    }
}

impl Core {
    /// Octets that an error may have. It must not be refused itself, for nobody would be told of that.
    fn room_for(&mut self, way: &Back, info: &PacketInfo) -> usize {
        match way {
            Back::Pair(target) if info.source.is_ipv4() => {
                let sa = self.table.get_mut(*target);
                sa.map_or(FITS_EVERYWHERE, |sa| sa.max_inner(self.now)).min(icmp::MAX_LEN)
            }
            Back::Elsewhere(_) if info.source.is_ipv4() => FITS_EVERYWHERE,
            // Every tunnel takes what IPv6 calls the least, and every device a little more.
            _ => icmp::MAX_LEN,
        }
    }
}

/// What a path of 576 octets takes of IPv4, whatever the suite: for pairs of other shards and nodes, whose path is not known here.
const FITS_EVERYWHERE: usize = 476;

/// Where the sender is.
enum Back {
    Device,
    Pair(Spi),
    Elsewhere(u32),
}

fn way_back(
    shard: usize,
    tenant: &Tenant,
    (met, tunnel): (Met, TunnelId),
    error: IcmpError,
    info: &PacketInfo,
) -> Option<(IpAddr, Back)> {
    let leave_out = match met {
        Met::Arriving => None,
        // No tunnel is asked whether it would take it: one that is for everything always would.
        Met::Leaving(CameFrom::Device) if tenant.has_device() => {
            return Some((info.destination, Back::Device));
        }
        Met::Leaving(_) => Some(tunnel),
    };
    let reading = Reading::new();
    let policy = tenant.policy(&reading);
    let by = |source| Way::onwards(shard, tenant, policy, &as_packet(error, source, info), leave_out);
    let own = tenant.address_for(info.source);
    match by(info.destination) {
        // The kernel behind the device takes nothing from what is its own address.
        None => Some((info.destination, Back::Device)),
        Some(Way::Pair(target, _)) => {
            // Whoever may answer is in the selectors; whether we are shows in the same look-up.
            let ours = own.filter(|own| matches!(by(*own), Some(Way::Pair(same, _)) if same == target));
            Some((ours.unwrap_or(info.destination), Back::Pair(target)))
        }
        Some(Way::Elsewhere(node, _)) => Some((info.destination, Back::Elsewhere(node))),
        Some(_) => None,
    }
}

/// The error as selectors and rules look at it.
fn as_packet(error: IcmpError, source: IpAddr, about: &PacketInfo) -> PacketInfo {
    let (protocol, kind) = match (about.source, error) {
        (IpAddr::V4(_), IcmpError::TooBig { .. }) => (ICMP, 0x0304),
        (IpAddr::V4(_), IcmpError::TimeExceeded) => (ICMP, 0x0b00),
        (IpAddr::V6(_), IcmpError::TooBig { .. }) => (ICMPV6, 0x0200),
        (IpAddr::V6(_), IcmpError::TimeExceeded) => (ICMPV6, 0x0300),
    };
    PacketInfo {
        source,
        destination: about.source,
        protocol,
        source_port: Some(kind),
        destination_port: Some(kind),
        len: 0,
    }
}

const ICMP: u8 = 1;
const ICMPV6: u8 = 58;
