//! Which pair carries what we send. Each connection says which of its own pairs that is; while a peer has several
//! connections, as after both sides started at once, one of them must be followed and the others kept in reserve.

mod snapshot;

use std::sync::Arc;

use super::{ConnId, Few};

pub use snapshot::SendersSnapshot;

#[derive(Debug)]
struct Pair {
    conn: ConnId,
    policy: Arc<str>,
    /// Its connection sends by it.
    active: bool,
}

/// The pairs of one peer, by inbound SPI, and the sending one of each policy.
#[derive(Debug, Default)]
pub struct Senders {
    pairs: Few<u32, Pair>,
    sending: Few<Arc<str>, u32>,
}

impl Senders {
    /// A pair is in place.
    pub fn installed(&mut self, conn: ConnId, spi: u32, policy: Arc<str>) {
        self.pairs.insert(spi, Pair { conn, policy, active: false });
    }

    /// A connection sends by this pair now. Returns the pair to send by, if that changes.
    pub fn activated(&mut self, spi: u32, current: Option<ConnId>) -> Option<u32> {
        let (conn, policy) = self.pairs.get(&spi).map(|p| (p.conn, p.policy.clone()))?;
        for (other, pair) in self.pairs.iter_mut().filter(|(_, p)| p.conn == conn && p.policy == policy) {
            pair.active = *other == spi;
        }
        self.choose(&policy, current)
    }

    /// A pair is gone, or about to. Returns the pair to send by instead, if it was the sending one.
    pub fn removed(&mut self, spi: u32, current: Option<ConnId>) -> Option<u32> {
        let policy = self.pairs.remove(&spi)?.policy;
        self.choose(&policy, current)
    }

    /// Another connection is to be sent by. Returns the pairs to send by instead.
    pub fn moved(&mut self, current: Option<ConnId>) -> Vec<u32> {
        let policies: Vec<_> = self.sending.keys().cloned().collect();
        policies.iter().filter_map(|policy| self.choose(policy, current)).collect()
    }

    /// The sending pair of a policy.
    pub fn sending(&self, policy: &str) -> Option<u32> {
        self.sending.get(policy).copied()
    }

    fn choose(&mut self, policy: &Arc<str>, current: Option<ConnId>) -> Option<u32> {
        let candidates = || self.pairs.iter().filter(|(_, p)| p.policy == *policy && p.active);
        let preferred = candidates().find(|(_, p)| Some(p.conn) == current);
        let sending = self.sending.get(policy).copied();
        let stays = || sending.filter(|spi| candidates().any(|(s, _)| s == spi));
        let chosen = preferred
            .map(|(spi, _)| *spi)
            .or_else(stays)
            .or_else(|| candidates().map(|(s, _)| *s).next_back());
        match chosen {
            Some(spi) => self.sending.insert(policy.clone(), spi),
            None => self.sending.remove(policy),
        };
        chosen.filter(|_| chosen != sending)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rekeying_moves_over_and_back_when_the_new_one_goes() {
        let mut s = Senders::default();
        s.installed(1, 10, "net".into());
        assert_eq!(s.activated(10, Some(1)), Some(10));
        s.installed(1, 11, "net".into());
        assert_eq!(s.activated(11, Some(1)), Some(11));
        assert_eq!(s.removed(10, Some(1)), None);
        assert_eq!(s.sending("net"), Some(11));
        assert_eq!(s.removed(11, Some(1)), None);
        assert_eq!(s.sending("net"), None);
    }

    #[test]
    fn the_connection_that_stays_is_followed() {
        let mut s = Senders::default();
        s.installed(1, 10, "net".into());
        assert_eq!(s.activated(10, Some(1)), Some(10));
        // A crossing connection comes up and is to be closed by its initiator.
        s.installed(2, 20, "net".into());
        assert_eq!(s.activated(20, Some(1)), None);
        assert_eq!(s.removed(20, Some(1)), None);
        assert_eq!(s.sending("net"), Some(10));
    }

    #[test]
    fn all_policies_move_over() {
        let mut s = Senders::default();
        for (spi, policy) in [(10, "a"), (11, "b")] {
            s.installed(1, spi, policy.into());
            s.activated(spi, Some(1));
        }
        for (spi, policy) in [(20, "a"), (21, "b")] {
            s.installed(2, spi, policy.into());
            assert_eq!(s.activated(spi, Some(1)), None);
        }
        assert_eq!(s.moved(Some(2)), [20, 21]);
        assert!(s.moved(Some(2)).is_empty());
    }

    #[test]
    fn the_reserve_takes_over() {
        let mut s = Senders::default();
        s.installed(1, 10, "net".into());
        s.activated(10, Some(1));
        s.installed(2, 20, "net".into());
        assert_eq!(s.activated(20, Some(2)), Some(20));
        assert_eq!(s.removed(20, None), Some(10));
    }
}
