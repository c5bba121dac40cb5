//! Peers that a node has a connection with: the others are told, so that nobody else begins with them, and what is for them goes there.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latest::Follow as _;
use tokio::sync::{Notify, watch};

use super::uids::Uids;
use crate::etcd::{Etcd, EtcdError, found, put_leased, read as read_key, unchanged_since};

/// Changes within this are told together.
pub(crate) const TOGETHER: Duration = Duration::from_millis(100);
/// What a node writes of them at most. All of them are written anew each time, and every node reads it: without a bound 63 nodes to which
/// all peers return at once would write 10 MiB a second, and read 63 times that. A node that is told late begins with a peer of another's, which
/// has the older connection closed.
pub(crate) const OCTETS_PER_SECOND: u32 = 50_000;
/// Before what etcd did not take is told again.
const PAUSE: Duration = Duration::from_millis(500);
/// Peers that are told of at most: a request to etcd has 1.5 MiB, and one of a million peers takes two octets.
const MAX_HELD: usize = 500_000;

/// Changes that are gathered before they are taken over at the latest, or as many as there are peers: so each costs the same.
const TAKEN_OVER: usize = 1_024;

/// The peers that this node has a connection with.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    peers: Mutex<Peers>,
    /// [`publish`] waits for it, and nobody else.
    changed: Notify,
}

#[derive(Debug, Default)]
struct Peers {
    all: Uids,
    /// What has changed since, in the order in which it has.
    changes: Vec<(u64, bool)>,
}

impl Held {
    /// There is a connection with the peer of this uid, or is none any more.
    pub fn hold(&self, uid: u64, held: bool) {
        let mut peers = self.peers();
        peers.changes.push((uid, held));
        // While etcd takes nothing, nobody else takes them over.
        if peers.changes.len() >= TAKEN_OVER.max(peers.all.len()) {
            peers.take_over();
        }
        drop(peers);
        self.0.changed.notify_one();
    }

    /// As others read it. It is written while it is held: a copy, made and compared each time, costs more than that.
    fn write(&self) -> Vec<u8> {
        let mut peers = self.peers();
        peers.take_over();
        peers.all.write(MAX_HELD)
    }

    fn peers(&self) -> MutexGuard<'_, Peers> {
        // Nothing can panic in between.
        self.0.peers.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Peers {
    fn take_over(&mut self) {
        self.all.apply(&mut self.changes);
    }
}

pub(super) fn read(name: &str, value: &[u8]) -> Result<Uids, EtcdError> {
    Uids::read(|| key_of(name), value)
}

pub(super) fn key_of(name: &str) -> String {
    format!("nodes/{name}/held")
}

/// Tells the others, whenever connections come or go and when the lease is another one.
pub(super) async fn publish(etcd: Etcd, name: String, held: Held, mut lease: watch::Receiver<i64>) {
    let mut told = Vec::new();
    // Of the last write, 0 where there is none: a list that was on its way by a member that did not answer may arrive after the next one.
    let mut revision = 0;
    let mut of_lease = lease.take_latest();
    let mut pause = TOGETHER;
    loop {
        let now = held.write();
        let current = lease.take_latest();
        if now != told || (current != of_lease && !now.is_empty()) {
            let key = etcd.key(&key_of(&name));
            pause = pause_after(now.len());
            let unchanged = vec![unchanged_since(key.clone(), revision)];
            let instead = vec![read_key(key.clone())];
            // Also where there is nobody: a key that goes has the revision of one that never was, and a late list would find that.
            let change = put_leased(key, now.clone(), current);
            match etcd.transact(unchanged, vec![change], instead).await {
                Ok(made) if made.succeeded => {
                    (told, of_lease) = (now, current);
                    revision = made.header.map_or(0, |header| header.revision);
                }
                // One that was taken for lost was made, or it went with a lease.
                Ok(made) => {
                    revision = found(made).map_or(0, |kv| kv.mod_revision);
                    tokio::time::sleep(TOGETHER).await;
                    continue;
                }
                Err(error) => {
                    tracing::debug!(%error, "who is connected here is not told yet");
                    tokio::time::sleep(PAUSE).await;
                    continue;
                }
            }
        }
        tokio::select! {
            biased;
            () = held.0.changed.notified() => {}
            changed = lease.changed() => if changed.is_err() {
                return;
            }
        }
        tokio::time::sleep(pause).await;
    }
}

/// Until the list may be written again, which had as many octets.
fn pause_after(octets: usize) -> Duration {
    let octets = u32::try_from(octets).unwrap_or(u32::MAX);
    TOGETHER.max(Duration::from_secs(1) * octets / OCTETS_PER_SECOND)
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    #[test]
    fn a_list_takes_no_more_than_its_share_of_etcd() {
        assert_eq!(pause_after(0), TOGETHER);
        assert_eq!(pause_after(5_000), TOGETHER);
        assert_eq!(pause_after(20_000), Duration::from_millis(400));
        assert_eq!(pause_after(1_500_000), Duration::from_secs(30));
        assert!(pause_after(usize::MAX) > Duration::from_secs(3_600));
    }

    #[test]
    fn changes_are_taken_over_when_they_are_told_and_before_there_are_too_many() {
        let held = Held::default();
        for uid in 0..5_000 {
            held.hold(uid, true);
            let peers = held.peers();
            assert!(peers.changes.len() < TAKEN_OVER.max(peers.all.len()));
        }
        held.hold(7, false);
        let read = read("a", &held.write()).unwrap();
        assert_eq!((read.len(), read.contains(6), read.contains(7)), (4_999, true, false));
        assert!(held.peers().changes.is_empty());
    }

    #[cfg(feature = "simulated")]
    #[tokio::test(start_paused = true)]
    async fn a_list_that_comes_late_takes_nothing_back() {
        use std::sync::atomic::{AtomicBool, Ordering};

        use crate::etcd::memory::{AtOnce, Memory, Path};

        /// The first question takes long.
        #[derive(Debug, Default)]
        struct Late(AtomicBool);
        impl Path for Late {
            fn time(&self) -> Option<Duration> {
                let first = !self.0.swap(true, Ordering::Relaxed);
                Some(if first { Duration::from_secs(3) } else { Duration::ZERO })
            }
        }
        let paths: [Arc<dyn Path>; 2] = [Arc::new(Late::default()), Arc::new(AtOnce)];
        let etcd = Memory::begin().client_of(paths);
        let (held, (_lease, of_lease)) = (Held::default(), watch::channel(0));
        held.hold(1, true);
        let publishing = publish(etcd.clone(), "a".to_owned(), held.clone(), of_lease);
        let looks = async {
            tokio::time::sleep(Duration::from_millis(2_500)).await;
            held.hold(2, true);
            tokio::time::sleep(Duration::from_secs(5)).await;
            etcd.get(&key_of("a")).await.unwrap()
        };
        let found = tokio::select! {
            found = looks => found,
            () = publishing => panic!("it ends"),
        };
        assert!(read("a", &found.kvs[0].value).unwrap().contains(2));
    }
}
