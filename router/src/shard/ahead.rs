//! Packets that came together go through the shard together: what they need is fetched for all of them before the first needs it.
//!
//! With a million pairs each packet meets one whose state is in no cache. One after the other, packets would wait for some ten
//! lines of memory each, most of them behind a pointer in another; asked for together, those of a whole group come in little more
//! time than those of one.

use esp::Spi;
use esp::ip::PacketInfo;

use super::core::Core;
use super::inbound::{Arrived, Onward};
use super::sa::{Mark, Sa};
use crate::datagram::Datagram;
use crate::forwarding::Step;
use crate::port::{Origin, TOGETHER};
use crate::sys::prefetch::fetch;

impl Core {
    /// As [`Core::received`] for each of up to [`TOGETHER`] packets: all are opened, then asked where they go, then those are sealed
    /// that go on.
    pub(super) fn received_together(&mut self, packets: &mut [(&mut [u8], Origin)]) {
        let pairs = packets.iter().map(|(packet, _)| match Datagram::classify(packet) {
            Datagram::Esp(spi) => Some(spi),
            _ => None,
        });
        self.look_ahead(pairs, |sa| sa.fetch_inbound(), |sa| sa.fetch_window());
        // Where one may have the shard carry out its commands, they go one by one: a pair that goes meanwhile takes no packet along
        // that it has opened.
        if !packets.iter().all(|(packet, _)| self.meets_its_pair(packet)) {
            return packets.iter_mut().for_each(|(packet, origin)| self.received(packet, *origin));
        }
        let mut arrived = [const { None::<Arrived> }; TOGETHER];
        for ((packet, origin), arrived) in packets.iter_mut().zip(&mut arrived) {
            *arrived = self.take_in(packet, *origin);
        }
        self.look_ahead_of_routes(&arrived);
        let mut onwards = [const { None::<Onward> }; TOGETHER];
        for (((packet, _), arrived), onward) in packets.iter_mut().zip(arrived).zip(&mut onwards) {
            *onward = arrived.and_then(|arrived| self.find_way(packet, arrived));
        }
        let pairs = onwards.iter().map(|onward| Some(onward.as_ref()?.pair));
        self.look_ahead(pairs, |sa| sa.fetch_outbound(), |_| ());
        for ((packet, _), onward) in packets.iter().zip(&onwards) {
            if let Some(onward) = onward {
                self.send_onward(packet, onward);
            }
        }
    }

    /// Whether it is nothing that this shard looks for, or the pair is there.
    fn meets_its_pair(&self, packet: &[u8]) -> bool {
        let is_ours = |shard: usize| shard == self.id || shard >= self.control();
        match Datagram::classify(packet) {
            Datagram::Esp(spi) if is_ours(spi.shard().into()) => {
                self.table.get(spi).is_some_and(|sa| sa.mark != Mark::Early)
            }
            _ => true,
        }
    }

    /// Fetches these pairs, where they are: of each what the one says, then what the other says, which may read that. Nothing comes of it but time.
    fn look_ahead(
        &self,
        pairs: impl Iterator<Item = Option<Spi>>,
        itself: impl Fn(&Sa),
        behind_it: impl Fn(&Sa),
    ) {
        let (mut spis, mut count, mut last) = ([Spi(0); TOGETHER], 0, None);
        for spi in pairs.flatten() {
            // What is fetched for the packet before needs not be fetched again.
            if last.replace(spi) != Some(spi)
                && let Some(place) = spis.get_mut(count)
            {
                *place = spi;
                count += 1;
            }
        }
        // A pair by itself comes as soon when its packet asks for it.
        let Some(spis) = spis.get(..count).filter(|_| count > 1) else { return };
        // Each step reads what the one before has fetched.
        spis.iter().for_each(|spi| self.table.fetch_place(*spi));
        let sas = || spis.iter().filter_map(|spi| self.table.get(*spi));
        sas().for_each(itself);
        sas().for_each(|sa| {
            behind_it(sa);
            sa.fetch_parts();
        });
        sas().for_each(Sa::fetch_parts_of_parts);
    }

    /// Fetches what look-ups for these packets read.
    fn look_ahead_of_routes(&self, arrived: &[Option<Arrived>; TOGETHER]) {
        let (mut unknown, mut count) = ([None::<(&Sa, &PacketInfo)>; TOGETHER], 0);
        for arrived in arrived.iter().flatten() {
            if let Some(sa) = self.table.get(arrived.pair)
                && !sa.knows_way(&arrived.info)
                && let Some(place) = unknown.get_mut(count)
            {
                *place = Some((sa, &arrived.info));
                count += 1;
            }
        }
        // As above.
        let Some(unknown) = unknown.get(..count).filter(|_| count > 1) else { return };
        for step in Step::ALL {
            for (sa, packet) in unknown.iter().flatten() {
                sa.tenant.forwarding.fetch(step, packet);
            }
        }
    }
}

impl Sa {
    fn fetch_window(&self) {
        if let Some(block) = self.inbound.window().newest() {
            fetch(block);
        }
    }

    fn fetch_parts(&self) {
        fetch(&*self.tenant);
        if let Some(selectors) = self.inbound.selectors().behind() {
            fetch(selectors);
        }
    }

    /// Of either side the first selector, unless they are in the pair itself; and what is read of the tenant.
    fn fetch_parts_of_parts(&self) {
        self.tenant.fetch_parts();
        if let Some(selectors) = self.inbound.selectors().behind() {
            selectors.local.first().into_iter().chain(selectors.remote.first()).for_each(fetch);
        }
    }
}

#[cfg(all(test, feature = "bench"))]
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::net::{IpAddr, Ipv4Addr, SocketAddr};

    use esp::{Encryption, Limits, Mode, OutboundSa, SaKeys, Selector, SelectorPair, Spi, Suite};

    use crate::counters::Counter;
    use crate::model::{ChildSa, Reserve, TenantId, TunnelId};
    use crate::options::{Encapsulation, TunnelOptions};
    use crate::shard::memory::MemoryShard;

    /// More than come together.
    const PAIRS: u8 = 40;

    fn suite() -> Suite {
        Suite::new(Encryption::AesGcm16_128, None, false).unwrap()
    }

    /// What is behind a peer.
    fn selectors(pair: u8) -> SelectorPair {
        let selector = |address, prefix| Selector::subnet(IpAddr::V4(address), prefix);
        SelectorPair {
            local: vec![selector(Ipv4Addr::UNSPECIFIED, 0)],
            remote: vec![selector(Ipv4Addr::new(10, 0, 0, pair), 32)],
        }
    }

    /// Installs a pair, the only one of its tunnel: what its peer seals with.
    fn connect(shard: &mut MemoryShard, pair: u8) -> OutboundSa {
        let spi = shard.allocate_spi().unwrap();
        connect_under(shard, spi, pair)
    }

    fn connect_under(shard: &mut MemoryShard, spi: Spi, pair: u8) -> OutboundSa {
        let keys = |way: u8| SaKeys::new([pair, way].repeat(10), Vec::new());
        let child = ChildSa {
            tenant: TenantId(1),
            tunnel: TunnelId(pair.into()),
            inbound_spi: spi,
            own: false,
            follows: false,
            outbound_spi: 1000 + u32::from(pair),
            suite: suite(),
            inbound_keys: keys(0),
            outbound_keys: keys(1),
            iv_seed: [3; 32],
            mode: Mode::Tunnel,
            selectors: selectors(pair),
            replay_window: 64,
            limits: Limits::default(),
            local: shard.local(),
            remote: remote(),
            encapsulation: Encapsulation::Udp,
            options: TunnelOptions { outer_mtu: Some(1500), ..TunnelOptions::default() },
            reserve: Reserve::default(),
        };
        shard.install(&child).unwrap();
        OutboundSa::new(spi, suite(), &keys(0), &[0; 32], &Limits::default()).unwrap()
    }

    fn sealed(peer: &mut OutboundSa, from: u8, to: u8) -> Vec<u8> {
        let mut packet = vec![0; 200];
        let len = peer.seal(&inner(from, to), &mut packet).unwrap().len;
        packet.truncate(len);
        packet
    }

    fn shard() -> MemoryShard {
        let mut shard = MemoryShard::new(None).unwrap();
        shard.add_tenant(TenantId(1)).unwrap();
        shard
    }

    /// A shard, and packets of its peers: of each several to the tunnel of the next, and some that are to be dropped.
    fn shard_and_packets() -> (MemoryShard, Vec<Vec<u8>>) {
        let mut shard = shard();
        let mut packets = Vec::new();
        for pair in 0..PAIRS {
            let mut peer = connect(&mut shard, pair);
            packets.extend((0..3).map(|_| sealed(&mut peer, pair, (pair + 1) % PAIRS)));
        }
        // The peers by turns, then what is forged, sent again, of nobody, or too short.
        packets.sort_by_key(|packet| packet[4..8].to_vec());
        let (mut forged, again) = (packets[0].clone(), packets[1].clone());
        *forged.last_mut().unwrap() ^= 1;
        packets.splice(20..20, [forged, again, vec![9; 80], vec![0xff], vec![]]);
        (shard, packets)
    }

    fn inner(from: u8, to: u8) -> Vec<u8> {
        let mut packet = vec![0x45, 0, 0, 28, 0, 0, 0, 0, 64, 17, 0, 0, 10, 0, 0, from, 10, 0, 0, to];
        packet.extend([0, 7, 0, 9, 0, 8, 0, 0]);
        packet
    }

    fn remote() -> SocketAddr {
        SocketAddr::from(([198, 51, 100, 1], 4500))
    }

    #[test]
    fn together_they_become_what_they_do_one_by_one() {
        let ((mut one, packets), (mut together, mut same)) = (shard_and_packets(), shard_and_packets());
        assert_eq!(packets, same);
        let mut sent = (0, 0);
        for mut packet in packets {
            one.receive(&mut packet, remote());
            sent.0 += one.end_turn();
        }
        for some in same.chunks_mut(MemoryShard::TURN) {
            together.receive_batches(some, remote());
            sent.1 += together.end_turn();
        }
        let all = usize::from(PAIRS) * 3;
        assert_eq!(sent, (all, all));
        use Counter::{EspReceived, NatKeepalive, Runt, Switched, UnknownSpi};
        for counter in [EspReceived, UnknownSpi, NatKeepalive, Runt, Switched] {
            assert!(one.counted(counter) > 0, "{counter:?}");
            assert_eq!(one.counted(counter), together.counted(counter), "{counter:?}");
        }
    }

    /// The packet behind it is of nobody, so the shard carries out its commands: the pair goes after what it has opened.
    #[test]
    fn a_pair_that_goes_takes_no_packet_along() {
        let (mut shard, mut packets) = shard_and_packets();
        let first = packets.remove(0);
        let spi = esp::Spi(u32::from_be_bytes(*first.first_chunk().unwrap()));
        let nobody = esp::Spi::compose(spi.slot(), spi.shard(), spi.index() + 10_000).unwrap();
        let mut group = vec![first, [&nobody.0.to_be_bytes(), [9; 80].as_slice()].concat()];
        shard.remove_later(spi);
        shard.receive_batches(&mut group, remote());
        assert_eq!(shard.end_turn(), 1);
        let again = packets.iter().find(|packet| packet.starts_with(&spi.0.to_be_bytes())).unwrap();
        shard.receive(&mut again.clone(), remote());
        assert_eq!(shard.end_turn(), 0, "it is gone");
    }

    /// As what lies in the ring between two shards when one pair gives way to another.
    #[test]
    fn a_packet_whose_pair_has_gone_goes_by_the_next_one_of_its_tunnel() {
        let mut shard = shard();
        let (old, new) = (connect(&mut shard, 1).spi(), connect(&mut shard, 1).spi());
        shard.remove(old);
        shard.seal(old, TenantId(1), &inner(0, 1));
        assert_eq!(shard.end_turn(), 1);
        shard.remove(new);
        shard.seal(old, TenantId(1), &inner(0, 1));
        assert_eq!((shard.end_turn(), shard.counted(Counter::NoOutboundSa)), (0, 1));
    }

    /// The slot's word changes before the shard hears of it, and what waits for it goes when it does.
    #[test]
    fn what_waits_for_a_slot_goes_before_what_comes_once_it_is_ours() {
        const OTHER: u8 = 2;
        let mut shard = shard();
        shard.declare(TenantId(1), TunnelId(1), selectors(1), false).unwrap();
        shard.slots().open(OTHER);
        shard.told_of(OTHER, true);
        let spi = shard.allocate_in(OTHER).unwrap();
        let pass = |shard: &mut MemoryShard| {
            shard.inner_in(TenantId(1), &inner(0, 1));
            (shard.counted(Counter::SlotHeld), shard.end_turn())
        };
        shard.told_of(OTHER, false);
        shard.slots().expect(OTHER);
        assert_eq!(pass(&mut shard), (1, 0));
        connect_under(&mut shard, spi, 1);
        assert_eq!(pass(&mut shard), (2, 0), "it is there, and comes behind what waits");
        shard.slots().open(OTHER);
        assert_eq!(pass(&mut shard), (3, 0), "so it is before the shard has heard of it");
        shard.told_of(OTHER, true);
        assert_eq!(shard.end_turn(), 3);
        assert_eq!(pass(&mut shard), (3, 1));
    }

    /// The tunnel is up, and the shard has not been told yet that it may send what waits for that.
    #[test]
    fn what_waits_for_a_tunnel_goes_before_what_comes_later() {
        let mut shard = shard();
        let mut peer = connect(&mut shard, 0);
        shard.declare(TenantId(1), TunnelId(1), selectors(1), true).unwrap();
        for _ in 0..2 {
            shard.receive(&mut sealed(&mut peer, 0, 1), remote());
        }
        assert_eq!((shard.end_turn(), shard.counted(Counter::Held)), (0, 2));
        connect(&mut shard, 1);
        shard.receive(&mut sealed(&mut peer, 0, 1), remote());
        assert_eq!(shard.end_turn(), 3);
    }
}
