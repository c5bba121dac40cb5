//! Rounds of the shard and of the bare AEAD, in turn, over packets of the same contents.

use std::time::{Duration, Instant};

use router::bench::MemoryShard;

use super::world::{Destination, World};
use crate::subjects::{BareAead, Cipher};

/// How far packets go.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Way {
    /// Opened, and the look-up of where they go; no tunnel takes them. Against opening.
    In,
    /// Out again by another tunnel. Against opening and sealing.
    Through,
}

impl Way {
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::In => "in",
            Self::Through => "through",
        }
    }
}

/// What was measured, in nanoseconds for a packet.
pub(crate) struct Figure {
    pub(crate) pairs: u32,
    pub(crate) way: Way,
    pub(crate) size: usize,
    pub(crate) shard: Spread,
    pub(crate) bare: Spread,
    /// Of the two in each round.
    pub(crate) ratio: Spread,
}

/// A median and what lies a quarter from the ends.
#[derive(Clone, Copy)]
pub(crate) struct Spread {
    pub(crate) median: f64,
    pub(crate) low: f64,
    pub(crate) high: f64,
}

impl Spread {
    fn of(mut values: Vec<f64>) -> Self {
        values.sort_by(f64::total_cmp);
        let at = |part: usize| values[(values.len() - 1) * part / 4];
        Self { median: at(2), low: at(1), high: at(3) }
    }
}

/// Packets of a round.
const PACKETS: usize = 1024;

pub(crate) fn measure(world: &mut World, way: Way, size: usize, rounds: usize) -> anyhow::Result<Figure> {
    let destination = match way {
        Way::In => Destination::Nowhere,
        Way::Through => Destination::Tunnel,
    };
    world.lead_on()?;
    let mut bare = (BareAead::new(Cipher::AesGcm128, false), BareAead::new(Cipher::AesGcm128, true));
    // The first packet of a pair tells the control plane, and a context makes what it needs.
    for from in 0..world.pairs() {
        let mut packet = world.packet(from, destination, size);
        world.shard.receive(&mut packet, World::remote());
        if (from as usize).is_multiple_of(MemoryShard::TURN) {
            world.shard.end_turn();
        }
    }
    world.shard.end_turn();

    let (mut shard_times, mut bare_times) = (Vec::new(), Vec::new());
    for round in 0..rounds.max(1) {
        let (mut packets, mut copies) = world.packets(PACKETS, destination, size);
        // By turns, so that neither has always the warmer cache.
        for first in [round % 2 == 0, round % 2 != 0] {
            if first {
                shard_times.push(per_packet(through_shard(world, way, &mut packets)));
            } else {
                bare_times.push(per_packet(through_bare(&mut bare, way, &mut copies)));
            }
        }
    }
    let ratios = shard_times.iter().zip(&bare_times).map(|(shard, bare)| shard / bare).collect();
    Ok(Figure {
        pairs: world.pairs(),
        way,
        size,
        shard: Spread::of(shard_times),
        bare: Spread::of(bare_times),
        ratio: Spread::of(ratios),
    })
}

fn through_shard(world: &mut World, way: Way, packets: &mut [Vec<u8>]) -> Duration {
    let (begin, mut sent) = (Instant::now(), 0);
    for turn in packets.chunks_mut(MemoryShard::TURN) {
        world.shard.receive_batches(turn, World::remote());
        sent += world.shard.end_turn();
    }
    let took = begin.elapsed();
    // Or it would be measured how fast packets are lost.
    assert_eq!(sent, if way == Way::Through { packets.len() } else { 0 });
    took
}

fn through_bare(bare: &mut (BareAead, BareAead), way: Way, packets: &mut [Vec<u8>]) -> Duration {
    let begin = Instant::now();
    for packet in packets {
        bare.0.open(packet);
        if way == Way::Through {
            bare.1.seal(packet);
        }
    }
    begin.elapsed()
}

fn per_packet(time: Duration) -> f64 {
    time.as_nanos() as f64 / PACKETS as f64
}

#[cfg(test)]
mod tests {
    use indicatif::ProgressBar;

    use super::*;

    /// Where a packet was lost, it would be measured how fast that goes, so there would be no figure.
    #[test]
    fn every_packet_goes_its_way_however_many_pairs_there_are() {
        let mut world = World::new().unwrap();
        for more in [1, 1, 998, 1, 1] {
            world.install(more, &ProgressBar::hidden()).unwrap();
            for (way, size) in [(Way::In, 64), (Way::Through, 64), (Way::Through, 1400)] {
                measure(&mut world, way, size, 2).unwrap();
            }
        }
        assert_eq!(world.pairs(), 1002);
    }
}
