//! Inner packets larger than the tunnel's path takes (RFC 4301 section 8.2).
//!
//! In this order: what may be fragmented is cut before it is sealed, so that nobody has to reassemble ESP; the sender of
//! what may not be is told; and where neither is possible the outer packet is fragmented.

use esp::fragment::Fragments;
use esp::icmp::IcmpError;
use esp::ip::PacketInfo;
use esp::transport::Upper;
use esp::{Spi, ip};

use super::core::Core;
use super::icmp::Met;
use super::outbound::Inner;
use super::sa::Sa;
use crate::came_from::CameFrom;
use crate::counters::Counter;
use crate::options::OuterDf;

/// What becomes of a packet that is too large.
#[derive(Debug, PartialEq, Eq)]
enum Choice {
    /// It is cut.
    Cut,
    /// It goes in one piece, and the IP layer cuts the outer packet.
    Whole,
    /// It goes nowhere, and its sender is told.
    Tell,
}

impl Core {
    /// Sends, or refuses, a packet of the pair `spi` that does not fit.
    pub(super) fn oversize(
        &mut self,
        spi: Spi,
        from: CameFrom,
        packet: &[u8],
        info: &PacketInfo,
        upper: Option<Upper>,
    ) {
        let Some(sa) = self.table.get_mut(spi) else { return };
        let max = sa.max_inner(self.now);
        match choose(sa, packet, info) {
            Choice::Cut => self.cut(spi, packet, max),
            Choice::Whole => {
                let class = sa.options.outer_class(packet);
                let inner = Inner { len: packet.len(), class, dont_fragment: false, upper };
                if self.seal_whole(spi, packet, &inner) {
                    self.counters.count(Counter::OuterFragmented);
                }
            }
            Choice::Tell => {
                sa.count_drop(Counter::PacketTooBig.name());
                self.counters.count(Counter::PacketTooBig);
                let mtu = u16::try_from(max).unwrap_or(u16::MAX);
                self.answer(spi, Met::Leaving(from), IcmpError::TooBig { mtu }, packet, info);
            }
        }
    }

    fn cut(&mut self, spi: Spi, packet: &[u8], max: usize) {
        let Some(mut fragments) = Fragments::new(packet, max) else {
            return self.counters.count(Counter::BadInner);
        };
        let mut cut = false;
        while let Some(len) = fragments.next_len() {
            let Some(sa) = self.table.get_mut(spi) else { return };
            let (class, dont_fragment) = (sa.options.outer_class(packet), sa.outer_df(packet));
            let inner = Inner { len, class, dont_fragment, upper: None };
            let mut written = false;
            let sealed = self.seal(spi, &inner, |room| written = fragments.write_next(room).is_some());
            if !sealed || !written {
                // Which is counted; the packet is lost with this fragment of it.
                return;
            }
            if !std::mem::replace(&mut cut, true) {
                self.counters.count(Counter::InnerFragmented);
            }
        }
    }
}

fn choose(sa: &Sa, packet: &[u8], info: &PacketInfo) -> Choice {
    if ip::may_fragment(packet) {
        // A fragment may not be sealed in transport mode (RFC 4303 section 3.3.4).
        if sa.hosts.is_some() {
            return Choice::Whole;
        }
        return if takes_fragments(sa, info) { Choice::Cut } else { Choice::Whole };
    }
    // A host of IPv6 need not send less than 1280 octets, so a tunnel that takes less does the rest (RFC 2473 section 7.1).
    let least = info.source.is_ipv6() && packet.len() <= V6_MIN_MTU;
    if least || sa.options.df == OuterDf::Clear { Choice::Whole } else { Choice::Tell }
}

/// Whether the pair's selectors take later fragments, which show no ports (RFC 4301 section 7).
fn takes_fragments(sa: &Sa, info: &PacketInfo) -> bool {
    sa.inbound.selectors().matches_outbound(&PacketInfo {
        source_port: None,
        destination_port: None,
        ..*info
    })
}

/// RFC 8200 section 5.
const V6_MIN_MTU: usize = 1280;
