//! Which node of a cluster begins with which peer.
//!
//! Every node has an actor for each peer and answers whoever comes to it. Only one may begin by itself, or a peer would get a tunnel
//! from each: the node that the peer is at home with, or the one that has a connection with it already. So who has a connection with
//! a peer of another node's says so ([`Hold`]).

use std::collections::BTreeSet;
use std::fmt;
use std::sync::{Arc, Mutex, PoisonError};

use tokio::sync::Notify;

/// Knows where peers are at home.
pub trait HomeRule: Send + Sync + 'static {
    /// The other node that begins with the peer of this uid now, without a name if that is nobody for now; `None` if this one does. `held` says whether there is a connection with
    /// it here, which the others may not have been told yet; one that has ended counts until they have.
    fn elsewhere(&self, uid: u64, held: bool) -> Option<String>;

    /// The other node that says that it has a connection with the peer.
    fn holder(&self, uid: u64) -> Option<String>;

    /// There is a connection with the peer here, or is none any more.
    fn hold(&self, uid: u64, held: bool);
}

/// Says where peers are at home, now and when nodes have come or gone.
#[derive(Clone, Default)]
pub struct Homes(Option<Inner>);

#[derive(Clone)]
struct Inner {
    rule: Arc<dyn HomeRule>,
    news: HomeNews,
}

/// So many peers are looked at singly; where more have changed, all are.
const SINGLY: usize = 4_096;

/// Peers of which the rule may say something else now.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Rehomed {
    /// These, by uid.
    These(BTreeSet<u64>),
    /// Any.
    #[default]
    All,
}

/// Tells which peers are to be looked at again. What is told before anybody looks comes together. Clones are the same.
#[derive(Clone, Debug, Default)]
pub struct HomeNews(Arc<(Mutex<Option<Rehomed>>, Notify)>);

impl HomeNews {
    /// Nodes have come or gone: any peer may be at home elsewhere.
    pub fn all(&self) {
        self.add(|now| *now = Rehomed::All);
    }

    /// Other nodes have or have not a connection with these peers now.
    pub fn these(&self, uids: impl IntoIterator<Item = u64>) {
        let mut uids = uids.into_iter().peekable();
        if uids.peek().is_none() {
            return;
        }
        self.add(|now| {
            if let Rehomed::These(all) = now {
                all.extend(uids);
                if all.len() > SINGLY {
                    *now = Rehomed::All;
                }
            }
        });
    }

    fn add(&self, add: impl FnOnce(&mut Rehomed)) {
        // A panic leaves what was told before.
        let mut now = self.0.0.lock().unwrap_or_else(PoisonError::into_inner);
        add(now.get_or_insert_with(|| Rehomed::These(BTreeSet::new())));
        self.0.1.notify_one();
    }

    /// Waits for some. For one who asks.
    pub(crate) async fn next(&self) -> Rehomed {
        loop {
            let some = self.0.0.lock().unwrap_or_else(PoisonError::into_inner).take();
            if let Some(some) = some {
                return some;
            }
            self.0.1.notified().await;
        }
    }
}

/// That a connection with the peer is here, for as long as this lives.
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
    /// `news` tells of which peers the rule may say something else now.
    pub fn new(rule: impl HomeRule, news: HomeNews) -> Self {
        Self(Some(Inner { rule: Arc::new(rule), news }))
    }

    /// The other node that begins with the peer; `None` if that is this one.
    pub(crate) fn elsewhere(&self, uid: u64, held: bool) -> Option<String> {
        self.0.as_ref()?.rule.elsewhere(uid, held)
    }

    /// The other node that says that it has a connection with the peer.
    pub(crate) fn holder(&self, uid: u64) -> Option<String> {
        self.0.as_ref()?.rule.holder(uid)
    }

    /// Brings `hold` in line with whether there is a connection with the peer. Whether it was not: then another node may begin with it now.
    pub(crate) fn note(&self, hold: &mut Option<Hold>, uid: u64, connected: bool) -> bool {
        let Some(inner) = self.0.as_ref().filter(|_| connected != hold.is_some()) else { return false };
        *hold = connected.then(|| {
            inner.rule.hold(uid, true);
            Hold { rule: Arc::clone(&inner.rule), uid }
        });
        true
    }

    /// Tells which peers may have moved. `None` for a node that is alone.
    pub(crate) fn news(&self) -> Option<HomeNews> {
        self.0.as_ref().map(|inner| inner.news.clone())
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
    use super::*;

    #[tokio::test]
    async fn what_is_told_comes_together_and_too_much_is_all() {
        let news = HomeNews::default();
        news.these([3, 1]);
        news.these([2]);
        assert_eq!(news.next().await, Rehomed::These(BTreeSet::from([1, 2, 3])));
        news.these([]);
        news.these([4]);
        news.all();
        news.these([5]);
        assert_eq!(news.next().await, Rehomed::All);
        news.these(0..5_000);
        assert_eq!(news.next().await, Rehomed::All);
        assert!(tokio::time::timeout(std::time::Duration::ZERO, news.next()).await.is_err());
    }

    #[derive(Clone, Default)]
    struct Even(Arc<Mutex<BTreeSet<u64>>>);

    impl HomeRule for Even {
        fn elsewhere(&self, uid: u64, held: bool) -> Option<String> {
            (uid % 2 == 1 && !held).then(|| "b".to_owned())
        }

        fn holder(&self, _: u64) -> Option<String> {
            None
        }

        fn hold(&self, uid: u64, held: bool) {
            let mut all = self.0.lock().unwrap();
            assert!(if held { all.insert(uid) } else { all.remove(&uid) }, "told twice");
        }
    }

    /// Whether they are at home here or elsewhere: that may be another matter a moment later.
    #[test]
    fn peers_are_held_while_they_are_connected_and_no_longer_than_whoever_holds_them() {
        let rule = Even::default();
        let homes = Homes::new(rule.clone(), HomeNews::default());
        let (mut own, mut guest) = (None, None);
        for is_news in [true, false] {
            assert_eq!(homes.note(&mut own, 2, true), is_news);
            assert_eq!(homes.note(&mut guest, 3, true), is_news);
        }
        assert_eq!(*rule.0.lock().unwrap(), BTreeSet::from([2, 3]));
        assert!(homes.note(&mut guest, 3, false));
        assert_eq!(*rule.0.lock().unwrap(), BTreeSet::from([2]));
        assert!(homes.note(&mut guest, 3, true));
        drop((own, guest));
        assert!(rule.0.lock().unwrap().is_empty());
        assert_eq!((homes.elsewhere(2, false), homes.elsewhere(3, false)), (None, Some("b".to_owned())));
    }
}
