//! What first messages may cost, for each source and altogether, whether they are refused or lead to something.
//!
//! The sender of a first message may be anybody, from any address. What it makes us compute is charged in microseconds
//! of one core: once without proof of its address, which is worth little, and once with the cookie returned, which is
//! worth more. Where the first account is used up a cookie is demanded; where the second is, the message is dropped. So
//! whoever invents addresses uses up nothing of those who have them.

use std::hash::{DefaultHasher, Hash, Hasher};
use std::net::IpAddr;
use std::time::Instant;

use crate::host::{Host, random_array};

/// The addresses that one party is taken to have.
///
/// Of IPv4 a /24: the smallest block that is routed on the Internet, so whoever has addresses of one may have all of it. Of
/// IPv6 a /56, the least that a site is given (RFC 6177 section 2): by /64 each would have 256 shares.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct Prefix(u64);

impl Prefix {
    /// That of an address.
    pub fn of(address: IpAddr) -> Self {
        // The lowest octet tells the families apart.
        match address.to_canonical() {
            IpAddr::V4(v4) => Self(u64::from(v4.to_bits() >> 8) << 8 | 4),
            IpAddr::V6(v6) => Self((v6.to_bits() >> 72 << 8 | 6) as u64),
        }
    }
}

/// An account: it is used up at `burst`, and `rate` of it is free again every second. In microseconds of one core.
#[derive(Clone, Copy)]
struct Terms {
    rate: u64,
    burst: u64,
}

/// What one prefix may cost without proof: at once some hundred negotiations by Curve25519, or fifty by a large group. An office
/// whose peers all return after a power cut gets cookies, which cost it a round trip.
const UNPROVED: Terms = Terms { rate: 20_000, burst: 50_000 };
/// What all may cost without proof: a fifth of the core.
const UNPROVED_ALL: Terms = Terms { rate: 200_000, burst: 400_000 };
/// What one prefix may cost that has returned cookies: a quarter of the core, which are 3,000 negotiations a second by
/// Curve25519 and 250 by a large group, and at first four times as many: many peers may be behind one NAT.
const PROVED: Terms = Terms { rate: 250_000, burst: 1_000_000 };
/// What all of those may cost. With those without proof it leaves a fifth of the core to go on with what is half-open.
const PROVED_ALL: Terms = Terms { rate: 600_000, burst: 1_200_000 };

/// Rows and columns of the table. A prefix has a cell in each row and is judged by the better one: it has to share both with
/// someone to suffer from others. 2 × 2,048 cells are 64 KiB.
const ROWS: usize = 2;
const COLUMNS: usize = 2048;

/// What a datagram costs beside a key exchange: a microsecond to look at it, the rest to receive and to answer it.
const LOOK: u32 = 12;
/// And so many octets one microsecond more: an offer that was made up to be work.
const OCTETS: usize = 128;

/// What it costs to look at a first message of this length and to refuse it.
pub fn cost_of_looking(octets: usize) -> u32 {
    LOOK.saturating_add(u32::try_from(octets / OCTETS).unwrap_or(u32::MAX))
}

/// What it costs to answer a key exchange of this group: a key pair, the secret, and the keys. Measured on a core of a
/// present server; that another is faster or slower makes the accounts larger or smaller by as much.
pub const fn cost_of_exchange(group: u16) -> u32 {
    match group {
        2 => 230,
        5 => 470,
        14 => 800,
        15 => 1_700,
        16 => 3_000,
        17 => 8_400,
        18 => 14_500,
        20 => 1_000,
        21 => 2_400,
        _ => 60,
    }
}

/// What a source has used, without proof and with.
#[derive(Clone, Copy, Debug, Default)]
struct Account {
    spent: [u32; 2],
    /// Milliseconds since the budget began.
    at: u32,
}

impl Account {
    /// Lets time pass.
    fn settle(&mut self, now: u32, terms: [Terms; 2]) {
        let elapsed = now.wrapping_sub(self.at);
        // Times that come out of order are no time.
        if elapsed > u32::MAX / 2 {
            return;
        }
        for (spent, terms) in self.spent.iter_mut().zip(terms) {
            let free = u32::try_from(u64::from(elapsed) * terms.rate / 1000).unwrap_or(u32::MAX);
            *spent = spent.saturating_sub(free);
        }
        self.at = now;
    }

    fn spend(&mut self, proved: bool, cost: u32) {
        if let Some(spent) = self.spent.get_mut(usize::from(proved)) {
            *spent = spent.saturating_add(cost);
        }
    }

    fn has_room(&self, proved: bool, terms: [Terms; 2]) -> bool {
        let (at, terms) = (usize::from(proved), if proved { terms[1] } else { terms[0] });
        self.spent.get(at).is_some_and(|spent| u64::from(*spent) < terms.burst)
    }
}

const ONE: [Terms; 2] = [UNPROVED, PROVED];
const ALL: [Terms; 2] = [UNPROVED_ALL, PROVED_ALL];

/// The accounts of all who send first messages to one reception. Of a fixed size, whoever sends.
#[derive(Debug)]
pub struct Budget {
    began: Instant,
    /// Makes the places of the table unknown, so that nobody can choose addresses that share those of another.
    key: [u8; 16],
    table: Vec<Account>,
    all: Account,
}

impl Budget {
    /// With nothing spent.
    pub fn new(now: Instant, host: &mut dyn Host) -> Self {
        let table = vec![Account::default(); ROWS * COLUMNS];
        Self { began: now, key: random_array(host), table, all: Account::default() }
    }

    /// Whether a first message from there may be looked at: as it is, or, if it has `proved` its address, by its cookie.
    pub fn admits(&mut self, now: Instant, from: IpAddr, proved: bool) -> bool {
        let at = self.millis(now);
        self.all.settle(at, ALL);
        let mut one = false;
        for place in self.places(from) {
            if let Some(account) = self.table.get_mut(place) {
                account.settle(at, ONE);
                one |= account.has_room(proved, ONE);
            }
        }
        one && self.all.has_room(proved, ALL)
    }

    /// Charges what a message from there has cost.
    pub fn charge(&mut self, now: Instant, from: IpAddr, proved: bool, cost: u32) {
        let at = self.millis(now);
        self.all.settle(at, ALL);
        self.all.spend(proved, cost);
        for place in self.places(from) {
            if let Some(account) = self.table.get_mut(place) {
                account.settle(at, ONE);
                account.spend(proved, cost);
            }
        }
    }

    fn millis(&self, now: Instant) -> u32 {
        // Comes round after 49 days, which is no worse than an account that has rested.
        (now.saturating_duration_since(self.began).as_millis() & u128::from(u32::MAX)) as u32
    }

    fn places(&self, from: IpAddr) -> [usize; ROWS] {
        let mut hasher = DefaultHasher::new();
        (self.key, Prefix::of(from)).hash(&mut hasher);
        let hash = hasher.finish();
        let column = |bits: u64| usize::try_from(bits % COLUMNS as u64).unwrap_or(0);
        [column(hash), COLUMNS + column(hash >> 32)]
    }
}

#[cfg(test)]
#[allow(clippy::disallowed_methods)]
mod tests {
    use std::collections::HashMap;
    use std::net::SocketAddr;
    use std::sync::Arc;
    use std::time::Duration;

    use proptest::prelude::*;

    use super::*;
    use crate::config::{Opening, PeerConfig};

    struct Zeros;

    impl Host for Zeros {
        fn random(&mut self, out: &mut [u8]) {
            out.fill(7);
        }

        fn allocate_ike_spi(&mut self) -> u64 {
            1
        }

        fn allocate_esp_spi(&mut self, _: SocketAddr) -> Option<u32> {
            None
        }

        fn find_peers(
            &mut self,
            _: &crate::Identity,
            _: Option<&crate::Identity>,
            _: SocketAddr,
            _: Opening,
        ) -> Result<Vec<Arc<PeerConfig>>, crate::NoPeer> {
            Err(crate::NoPeer::Unknown)
        }
    }

    fn ip(text: &str) -> IpAddr {
        text.parse().unwrap()
    }

    #[test]
    fn a_prefix_is_what_one_party_has() {
        assert_eq!(Prefix::of(ip("192.0.2.1")), Prefix::of(ip("192.0.2.255")));
        assert_eq!(Prefix::of(ip("192.0.2.1")), Prefix::of(ip("::ffff:192.0.2.9")));
        assert_ne!(Prefix::of(ip("192.0.2.1")), Prefix::of(ip("192.0.3.1")));
        assert_eq!(Prefix::of(ip("2001:db8:0:12::1")), Prefix::of(ip("2001:db8:0:ff:1::9")));
        assert_ne!(Prefix::of(ip("2001:db8:0:12::1")), Prefix::of(ip("2001:db8:0:112::1")));
        assert_ne!(Prefix::of(ip("2001:db8::1")), Prefix::of(ip("3001:db8::1")));
        assert_ne!(Prefix::of(ip("::4")), Prefix::of(ip("0.0.0.0")));
    }

    #[test]
    fn invented_addresses_use_up_nothing_of_those_who_return_a_cookie() {
        let now = Instant::now();
        let mut budget = Budget::new(now, &mut Zeros);
        for n in 0..1_000_000u32 {
            let from = IpAddr::V4((0x0a00_0000 + n * 256).into());
            if budget.admits(now, from, false) {
                budget.charge(now, from, false, cost_of_exchange(20));
            } else {
                budget.charge(now, from, false, cost_of_looking(500));
            }
        }
        let peer = ip("192.0.2.1");
        assert!(!budget.admits(now, peer, false), "cookies are demanded of everybody");
        assert!(budget.admits(now, peer, true));
        assert!(budget.admits(now + Duration::from_secs(7_200), peer, false), "it ends some time after");
    }

    #[test]
    fn refused_messages_count() {
        let now = Instant::now();
        let mut budget = Budget::new(now, &mut Zeros);
        let from = ip("192.0.2.1");
        let taken = (0..100_000).take_while(|_| {
            let admitted = budget.admits(now, from, false);
            budget.charge(now, from, false, cost_of_looking(8192));
            admitted
        });
        assert!(taken.count() < 1_000);
        assert!(budget.admits(now, ip("198.51.100.1"), false), "others are not concerned");
    }

    #[test]
    fn one_who_returns_cookies_is_bounded_and_leaves_the_rest_to_others() {
        let now = Instant::now();
        let mut budget = Budget::new(now, &mut Zeros);
        let greedy = ip("192.0.2.1");
        while budget.admits(now, greedy, true) {
            budget.charge(now, greedy, true, cost_of_exchange(20));
        }
        assert!(budget.admits(now, ip("198.51.100.1"), true));
        assert!(budget.admits(now + Duration::from_millis(100), greedy, true));
    }

    proptest! {
        /// Whatever comes when and from where, what is admitted costs no more than its account grants.
        #[test]
        fn what_is_admitted_keeps_to_the_terms(
            steps in prop::collection::vec((0u64..200, 0u8..6, any::<bool>(), 1u32..5_000), 1..400)
        ) {
            let start = Instant::now();
            let mut budget = Budget::new(start, &mut Zeros);
            let mut now = start;
            let mut spent: HashMap<(u8, bool), u64> = HashMap::new();
            for (wait, source, proved, cost) in steps {
                now += Duration::from_millis(wait);
                let from = IpAddr::V4([192, 0, source, 1].into());
                if budget.admits(now, from, proved) {
                    budget.charge(now, from, proved, cost);
                    *spent.entry((source, proved)).or_default() += u64::from(cost);
                }
                let elapsed = now.duration_since(start).as_millis() as u64;
                let granted = |terms: Terms| terms.burst + terms.rate * elapsed / 1000 + 5_000;
                for (proved, one, all) in [(false, UNPROVED, UNPROVED_ALL), (true, PROVED, PROVED_ALL)] {
                    let of = |p: &(&(u8, bool), &u64)| p.0.1 == proved;
                    prop_assert!(spent.iter().filter(of).all(|(_, sum)| *sum <= granted(one)));
                    prop_assert!(spent.iter().filter(of).map(|(_, sum)| sum).sum::<u64>() <= granted(all));
                }
            }
        }

        /// An account that has rested for long enough is as new, and time that goes back harms nobody.
        #[test]
        fn rest_restores(costs in prop::collection::vec(1u32..100_000, 1..50), back in 0u64..10_000) {
            let start = Instant::now();
            let mut budget = Budget::new(start, &mut Zeros);
            let from = ip("192.0.2.1");
            let later = start + Duration::from_secs(20);
            for cost in costs {
                budget.charge(later, from, false, cost);
                budget.charge(later - Duration::from_millis(back), from, true, cost);
            }
            prop_assert!(budget.admits(later + Duration::from_secs(300), from, false));
            prop_assert!(budget.admits(later + Duration::from_secs(300), from, true));
        }
    }
}
