//! Packets while pairs are renewed: whatever a side sends by the pair that it uses arrives, at whatever moment, after any delay
//! up to a second, with messages delayed as well and now and then lost.

use std::collections::{BTreeMap, BTreeSet};
use std::time::{Duration, Instant};

use ike::config::Phase1;
use ike::{Command, Transmit};
use rand_chacha::ChaCha20Rng;
use rand_chacha::rand_core::{Rng, SeedableRng};

use crate::kit::{A, B, Pair, Spec, Who};
use crate::{MODES, specs};

const TICK: Duration = Duration::from_millis(20);

/// A path with delays, and what is on it.
struct Wire {
    pair: Pair,
    rng: ChaCha20Rng,
    /// One message in so many is lost; none if zero.
    loss: u32,
    messages: Vec<(Instant, Who, Transmit)>,
    packets: Vec<(Instant, Who, u32)>,
    /// Pairs that are gone, and until when what arrives by them is taken.
    lingering: BTreeMap<(bool, u32), Instant>,
    seen: BTreeSet<(bool, u32)>,
    arrived: usize,
}

fn other(who: Who) -> Who {
    if who == A { B } else { A }
}

impl Wire {
    fn new(left: &Spec, right: &Spec, seed: u64, loss: u32) -> Self {
        let mut pair = Pair::new(left, right);
        pair.initiate();
        pair.settle();
        pair.run(4);
        pair.assert_children(1);
        Self {
            pair,
            rng: ChaCha20Rng::seed_from_u64(seed),
            loss,
            messages: Vec::new(),
            packets: Vec::new(),
            lingering: BTreeMap::new(),
            seen: BTreeSet::new(),
            arrived: 0,
        }
    }

    fn delay(&mut self, most: u64) -> Duration {
        Duration::from_millis(u64::from(self.rng.next_u32()) % most)
    }

    fn tick(&mut self) {
        self.pair.pass(TICK);
        let now = self.pair.now;
        for who in [A, B] {
            let side = self.pair.side(who);
            let gone: Vec<_> = side.lingering.drain(..).collect();
            let active: Vec<u32> =
                side.installed.values().filter(|sa| sa.active).map(|sa| sa.spi_out).collect();
            let sent: Vec<_> = side.outbox.drain(..).collect();
            self.lingering.extend(gone.into_iter().map(|(spi, linger)| ((who == A, spi), now + linger)));
            for spi in active {
                let at = now + self.delay(1_000);
                self.packets.push((at, other(who), spi));
            }
            for m in sent {
                if self.loss == 0 || !self.rng.next_u32().is_multiple_of(self.loss) {
                    let at = now + self.delay(300);
                    self.messages.push((at, who, m));
                }
            }
        }
        let due: Vec<_> = self.messages.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, from, m) in due {
            self.pair.put(from, &m);
        }
        let due: Vec<_> = self.packets.extract_if(.., |(at, ..)| *at <= now).collect();
        for (_, to, spi) in due {
            let key = (to == A, spi);
            let there = self.pair.side(to).installed.contains_key(&spi);
            // What was taken out within this tick lingers from now on.
            let just =
                self.pair.side(to).lingering.iter().any(|(gone, linger)| *gone == spi && !linger.is_zero());
            let lingers = just || self.lingering.get(&key).is_some_and(|until| *until >= now);
            assert!(
                there || lingers,
                "a packet to {to:?} by {spi:#x} is lost\nA: {:?}\nB: {:?}",
                self.pair.a.log,
                self.pair.b.log
            );
            self.arrived += 1;
            if there && self.seen.insert(key) {
                self.pair.command(to, Command::InboundSeen(spi));
            }
        }
    }

    fn run(&mut self, seconds: u64) {
        for _ in 0..seconds * 50 {
            self.tick();
        }
    }
}

#[test]
fn no_packet_is_lost_while_pairs_are_renewed_by_either_side_and_both() {
    for seed in 0..6 {
        let [left, right] = specs(Phase1::Main);
        let mut wire = Wire::new(&left, &right, seed, 0);
        for round in 0..3 {
            let who: &[Who] = [&[A][..], &[B], &[A, B]][(round + seed as usize) % 3];
            for who in who {
                let spi = wire.pair.spi(*who);
                wire.pair.command(*who, Command::RekeyChild(spi));
                let wait = wire.delay(400);
                wire.pair.pass(wait);
            }
            wire.run(30);
        }
        // Where the two have seen it differently, the one that is left over goes with time.
        wire.run(200);
        wire.pair.assert_children(1);
        assert!(wire.arrived > 8_000, "{}", wire.arrived);
    }
}

#[test]
fn no_packet_is_lost_when_messages_are() {
    for seed in 0..8 {
        let [left, right] = specs(Phase1::Main);
        let mut wire = Wire::new(&left, &right, seed, 4);
        for who in [A, B] {
            let spi = wire.pair.spi(who);
            wire.pair.command(who, Command::RekeyChild(spi));
        }
        wire.run(30);
        wire.loss = 0;
        wire.run(60);
        assert_eq!(wire.pair.a.installed.values().filter(|sa| sa.active).count(), 1);
        assert_eq!(wire.pair.b.installed.values().filter(|sa| sa.active).count(), 1);
    }
}

#[test]
fn no_packet_is_lost_while_phase_1_is_renewed_or_ends() {
    for mode in MODES {
        for seed in 0..4 {
            let [left, right] = specs(mode);
            let mut wire = Wire::new(&left, &right, seed, 0);
            let who = if seed % 2 == 0 { A } else { B };
            wire.pair.command(who, Command::RekeyIke);
            wire.run(5);
            let spi = wire.pair.spi(other(who));
            wire.pair.command(other(who), Command::RekeyChild(spi));
            wire.run(20);
            wire.pair.assert_children(1);
            wire.pair.assert_ike(1);
            let now = wire.pair.now;
            let side = wire.pair.side(who);
            side.conn.as_mut().unwrap().expire(now, &mut side.host);
            side.drain();
            wire.run(3);
            let spi = wire.pair.spi(who);
            wire.pair.command(who, Command::RekeyChild(spi));
            wire.run(30);
            wire.pair.assert_children(1);
        }
    }
}
