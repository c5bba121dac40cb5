//! The selectors of an SA where its packets find them.

use std::ops::Deref;
use std::sync::Arc;

use crate::ip::PacketInfo;
use crate::selector::{Selector, SelectorPair};

/// A [`SelectorPair`] that many share, asked for every packet. Where it has one selector of either side, as most have, that is kept here as well:
/// there it is two pointers away, and with many SAs each of them leads out of the caches.
#[derive(Debug, Clone)]
pub struct Selectors {
    shared: Arc<SelectorPair>,
    /// Local and remote.
    only: Option<(Selector, Selector)>,
}

impl Selectors {
    /// To ask these.
    pub fn new(shared: Arc<SelectorPair>) -> Self {
        let only = match (shared.local.as_slice(), shared.remote.as_slice()) {
            (&[local], &[remote]) => Some((local, remote)),
            _ => None,
        };
        Self { shared, only }
    }

    /// What they are shared as.
    pub fn shared(&self) -> &Arc<SelectorPair> {
        &self.shared
    }

    /// What is read for a packet besides this itself.
    pub fn behind(&self) -> Option<&SelectorPair> {
        self.only.is_none().then_some(&*self.shared)
    }

    /// As [`SelectorPair::matches_inbound`].
    #[inline]
    pub fn matches_inbound(&self, packet: &PacketInfo) -> bool {
        match &self.only {
            Some((local, remote)) => {
                remote.matches(packet.source, packet.protocol, packet.source_port)
                    && local.matches(packet.destination, packet.protocol, packet.destination_port)
            }
            None => self.shared.matches_inbound(packet),
        }
    }

    /// As [`SelectorPair::matches_outbound`].
    #[inline]
    pub fn matches_outbound(&self, packet: &PacketInfo) -> bool {
        match &self.only {
            Some((local, remote)) => {
                local.matches(packet.source, packet.protocol, packet.source_port)
                    && remote.matches(packet.destination, packet.protocol, packet.destination_port)
            }
            None => self.shared.matches_outbound(packet),
        }
    }
}

impl Deref for Selectors {
    type Target = SelectorPair;

    fn deref(&self) -> &SelectorPair {
        &self.shared
    }
}

#[cfg(test)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr};

    use proptest::prelude::*;

    use super::*;

    fn host() -> impl Strategy<Value = IpAddr> {
        (0u8..4).prop_map(|last| IpAddr::V4(Ipv4Addr::new(10, 0, 0, last)))
    }

    fn some() -> impl Strategy<Value = Vec<Selector>> {
        let one =
            (host(), host(), 16u8..19, 0u16..3, 0u16..4).prop_map(|(start, end, protocol, low, high)| {
                Selector { protocol, start_port: low, end_port: high, ..Selector::range(start, end) }
            });
        proptest::collection::vec(one, 0..3)
    }

    proptest! {
        #[test]
        fn they_say_what_the_pair_says(
            local in some(), remote in some(), source in host(), destination in host(), protocol in 16u8..19,
            source_port in proptest::option::of(0u16..4), destination_port in proptest::option::of(0u16..4),
        ) {
            let pair = Arc::new(SelectorPair { local, remote });
            let packet = PacketInfo { source, destination, protocol, source_port, destination_port, len: 28 };
            let selectors = Selectors::new(pair.clone());
            prop_assert_eq!(selectors.matches_inbound(&packet), pair.matches_inbound(&packet));
            prop_assert_eq!(selectors.matches_outbound(&packet), pair.matches_outbound(&packet));
        }
    }
}
