//! How much one caller may ask, and how often one source may show a credential that is not good.

use std::net::IpAddr;
use std::time::{Duration, Instant};

use dashmap::DashMap;

/// Callers and sources that are told apart at once. Whoever finds no room shares one account with all others like it, so a
/// flood of sources cannot buy itself more than one of them has.
const MAX_ACCOUNTS: usize = 10_000;
/// Logins that may fail in one second from one source: a person who mistypes, a pipeline whose token has ended.
const FAILED_LOGINS: u32 = 10;
/// Logins that may fail in one second from everywhere: as many lines of the audit log, and as much work of the disk.
const ALL_FAILED_LOGINS: u32 = 100;
/// Refusals of one caller, or of all callers of a tenant, that are noted in one second: they show what somebody tries, and need not show
/// every time.
const REFUSALS: u32 = 10;
/// Connections with TLS that may begin in one second from one source: a handshake costs about a millisecond of a core.
const HANDSHAKES: u32 = 50;

/// What may be spent in a second, saved up for two.
#[derive(Debug)]
struct Account {
    left: f64,
    at: Instant,
}

impl Account {
    fn full(rate: u32, now: Instant) -> Self {
        Self { left: f64::from(rate) * 2.0, at: now }
    }

    fn take(&mut self, rate: u32, now: Instant) -> bool {
        let rate = f64::from(rate);
        let earned = now.saturating_duration_since(self.at).as_secs_f64() * rate;
        self.at = self.at.max(now);
        self.left = (self.left + earned).min(rate * 2.0);
        let enough = self.left >= 1.0;
        if enough {
            self.left -= 1.0;
        }
        enough
    }

    /// As good as a new one.
    fn is_idle(&self, now: Instant) -> bool {
        now.saturating_duration_since(self.at) > Duration::from_secs(2)
    }
}

/// Accounts of one kind.
#[derive(Debug)]
struct Accounts<K: std::hash::Hash + Eq> {
    rate: u32,
    own: DashMap<K, Account>,
    shared: std::sync::Mutex<Option<Account>>,
}

impl<K: std::hash::Hash + Eq> Accounts<K> {
    fn new(rate: u32) -> Self {
        Self { rate, own: DashMap::new(), shared: std::sync::Mutex::new(None) }
    }

    fn take(&self, key: K, now: Instant) -> bool {
        if let Some(mut account) = self.own.get_mut(&key) {
            return account.take(self.rate, now);
        }
        if self.own.len() >= MAX_ACCOUNTS {
            self.own.retain(|_, account| !account.is_idle(now));
        }
        if self.own.len() >= MAX_ACCOUNTS {
            let mut shared = self.shared.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
            return shared.get_or_insert_with(|| Account::full(self.rate, now)).take(self.rate, now);
        }
        self.own.entry(key).or_insert_with(|| Account::full(self.rate, now)).take(self.rate, now)
    }
}

/// All that is limited.
#[derive(Debug)]
pub(crate) struct Limits {
    callers: Accounts<String>,
    failures: Accounts<Option<IpAddr>>,
    all_failures: Accounts<()>,
    refusals: Accounts<String>,
    handshakes: Accounts<IpAddr>,
}

impl Limits {
    /// With so many requests a second for each caller.
    pub(crate) fn new(requests: u32) -> Self {
        Self {
            callers: Accounts::new(requests),
            failures: Accounts::new(FAILED_LOGINS),
            all_failures: Accounts::new(ALL_FAILED_LOGINS),
            refusals: Accounts::new(REFUSALS),
            handshakes: Accounts::new(HANDSHAKES),
        }
    }

    /// Whether a caller may ask once more.
    pub(crate) fn request(&self, principal: String, now: Instant) -> bool {
        self.callers.take(principal, now)
    }

    /// Whether a login from this source that has failed is still told why, and noted.
    pub(crate) fn failed_login(&self, source: Option<IpAddr>, now: Instant) -> bool {
        self.failures.take(source, now) && self.all_failures.take((), now)
    }

    /// Whether a request of this caller, or tenant, that was refused is noted.
    pub(crate) fn refusal(&self, whose: String, now: Instant) -> bool {
        self.refusals.take(whose, now)
    }

    /// Whether a source may begin another handshake.
    pub(crate) fn handshake(&self, source: IpAddr, now: Instant) -> bool {
        self.handshakes.take(source, now)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_asks_too_much_waits_and_nobody_else_does() {
        let (limits, start) = (Limits::new(100), Instant::now());
        let many = |who: &str, at| (0..1000).filter(|_| limits.request(who.to_owned(), at)).count();
        assert_eq!(many("a", start), 200, "two seconds' worth at once");
        assert_eq!(many("b", start), 200);
        assert_eq!(many("a", start + Duration::from_millis(500)), 50);
        assert_eq!(many("a", start + Duration::from_secs(3600)), 200, "no more is saved up");
        assert_eq!(many("a", start), 0, "a clock reading of before gives nothing");
    }

    #[test]
    fn a_flood_of_sources_has_one_account_for_all_that_find_no_room() {
        let (limits, now) = (Limits::new(1), Instant::now());
        let passed = (0..50_000).filter(|n| limits.request(n.to_string(), now)).count();
        assert_eq!(passed, MAX_ACCOUNTS + 2);
        assert_eq!(limits.callers.own.len(), MAX_ACCOUNTS);
        // Those that have gone quiet make room.
        let later = now + Duration::from_secs(3);
        assert!(limits.request("somebody".to_owned(), later));
        assert_eq!(limits.callers.own.len(), 1);
    }
}
