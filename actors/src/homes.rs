//! Which node of a cluster begins with which peer.
//!
//! Every node has an actor for each peer and answers whoever comes to it. Only one may begin by itself, or a peer would get a tunnel
//! from each: the node that the peer is at home with, or the one that has a connection with it already. So who has a connection with
//! a peer of another node's says so ([`Hold`]).

use std::fmt;
use std::sync::Arc;

use tokio::sync::watch;

/// Knows where peers are at home.
pub trait HomeRule: Send + Sync + 'static {
    /// The other node that begins with the peer of this uid now; `None` if this one does.
    fn elsewhere(&self, uid: u64) -> Option<String>;

    /// The other node that says that it has a connection with the peer, which is none of its own.
    fn holder(&self, uid: u64) -> Option<String>;

    /// Whether the peer is at home with another node, whoever has a connection with it.
    fn is_guest(&self, uid: u64) -> bool;

    /// There is a connection with a guest here, or is none any more.
    fn hold(&self, uid: u64, held: bool);
}

/// Says where peers are at home, now and when nodes have come or gone.
#[derive(Clone, Default)]
pub struct Homes(Option<Inner>);

#[derive(Clone)]
struct Inner {
    rule: Arc<dyn HomeRule>,
    moved: watch::Receiver<()>,
}

/// That a connection with a guest is here, for as long as this lives.
pub(crate) struct Hold {
    rule: Arc<dyn HomeRule>,
    uid: u64,
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.rule.hold(self.uid, false);
    }
}

impl Homes {
    /// `moved` tells that the rule may say something else now.
    pub fn new(rule: impl HomeRule, moved: watch::Receiver<()>) -> Self {
        Self(Some(Inner { rule: Arc::new(rule), moved }))
    }

    /// The other node that begins with the peer; `None` if that is this one.
    pub(crate) fn elsewhere(&self, uid: u64) -> Option<String> {
        self.0.as_ref()?.rule.elsewhere(uid)
    }

    /// The other node that says that it has a connection with the peer, though it is not at home with it.
    pub(crate) fn holder(&self, uid: u64) -> Option<String> {
        self.0.as_ref()?.rule.holder(uid)
    }

    /// Brings `hold` in line with whether there is a connection with the peer.
    pub(crate) fn note(&self, hold: &mut Option<Hold>, uid: u64, connected: bool) {
        let Some(inner) = &self.0 else { return };
        match (connected && inner.rule.is_guest(uid), hold.is_some()) {
            (true, false) => {
                inner.rule.hold(uid, true);
                *hold = Some(Hold { rule: Arc::clone(&inner.rule), uid });
            }
            (false, true) => *hold = None,
            _ => {}
        }
    }

    /// Tells when peers may have moved. `None` for a node that is alone.
    pub(crate) fn moved(&self) -> Option<watch::Receiver<()>> {
        self.0.as_ref().map(|inner| inner.moved.clone())
    }
}

impl fmt::Debug for Homes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_tuple("Homes").field(&self.0.is_some()).finish()
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::collections::BTreeSet;
    use std::sync::Mutex;

    use super::*;

    #[derive(Clone, Default)]
    struct Even(Arc<Mutex<BTreeSet<u64>>>);

    impl HomeRule for Even {
        fn elsewhere(&self, uid: u64) -> Option<String> {
            self.is_guest(uid).then(|| "b".to_owned())
        }

        fn holder(&self, _: u64) -> Option<String> {
            None
        }

        fn is_guest(&self, uid: u64) -> bool {
            uid % 2 == 1
        }

        fn hold(&self, uid: u64, held: bool) {
            let mut all = self.0.lock().unwrap();
            assert!(if held { all.insert(uid) } else { all.remove(&uid) }, "told twice");
        }
    }

    #[test]
    fn guests_are_held_while_they_are_connected_and_no_longer_than_whoever_holds_them() {
        let (rule, (_moved, moved)) = (Even::default(), watch::channel(()));
        let homes = Homes::new(rule.clone(), moved);
        let (mut own, mut guest) = (None, None);
        for _ in 0..2 {
            homes.note(&mut own, 2, true);
            homes.note(&mut guest, 3, true);
        }
        assert_eq!(*rule.0.lock().unwrap(), BTreeSet::from([3]));
        homes.note(&mut guest, 3, false);
        assert!(rule.0.lock().unwrap().is_empty());
        homes.note(&mut guest, 3, true);
        drop(guest);
        assert!(rule.0.lock().unwrap().is_empty());
        assert_eq!((homes.elsewhere(2), homes.elsewhere(3)), (None, Some("b".to_owned())));
    }
}
