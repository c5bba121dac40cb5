//! Peers that a node has a connection with: the others are told, so that nobody else begins with them, and what is for them goes there.

use std::collections::BTreeSet;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use latest::Follow as _;
use prost::Message;
use tokio::sync::{Notify, watch};

use crate::etcd::{Etcd, EtcdError, delete, put_leased};

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

/// The peers that this node has a connection with.
#[derive(Clone, Debug, Default)]
pub struct Held(Arc<Inner>);

#[derive(Debug, Default)]
struct Inner {
    uids: Mutex<BTreeSet<u64>>,
    /// [`publish`] waits for it, and nobody else.
    changed: Notify,
}

impl Held {
    /// There is a connection with the peer of this uid, or is none any more.
    pub fn hold(&self, uid: u64, held: bool) {
        let mut uids = self.uids();
        let changed = if held { uids.insert(uid) } else { uids.remove(&uid) };
        if changed {
            self.0.changed.notify_one();
        }
    }

    /// As others read it. It is written while it is held: a copy, made and compared each time, costs more than that.
    fn write(&self) -> Vec<u8> {
        write(&self.uids())
    }

    fn uids(&self) -> MutexGuard<'_, BTreeSet<u64>> {
        // Nothing can panic in between.
        self.0.uids.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Uids as they are stored: each as what it is more than the one before. Nobody is no octets.
#[derive(Clone, PartialEq, Message)]
struct Stored {
    #[prost(uint64, repeated, tag = "1")]
    steps: Vec<u64>,
}

pub(super) fn write(uids: &BTreeSet<u64>) -> Vec<u8> {
    let mut before = 0;
    let steps = uids.iter().take(MAX_HELD).map(|uid| uid - std::mem::replace(&mut before, *uid));
    Stored { steps: steps.collect() }.encode_to_vec()
}

pub(super) fn read(name: &str, value: &[u8]) -> Result<BTreeSet<u64>, EtcdError> {
    let corrupt = |reason: String| EtcdError::Corrupt { key: key_of(name), reason };
    let stored = Stored::decode(value).map_err(|error| corrupt(error.to_string()))?;
    let mut uid = 0u64;
    let step = |step: u64| {
        uid = uid.checked_add(step).ok_or_else(|| corrupt("a number is too large".to_owned()))?;
        Ok(uid)
    };
    stored.steps.into_iter().map(step).collect()
}

pub(super) fn key_of(name: &str) -> String {
    format!("nodes/{name}/held")
}

/// Tells the others, whenever connections come or go and when the lease is another one.
pub(super) async fn publish(etcd: Etcd, name: String, held: Held, mut lease: watch::Receiver<i64>) {
    let mut told = Vec::new();
    let mut of_lease = lease.take_latest();
    let mut pause = TOGETHER;
    loop {
        let now = held.write();
        let current = lease.take_latest();
        if now != told || (current != of_lease && !now.is_empty()) {
            let key = etcd.key(&key_of(&name));
            pause = pause_after(now.len());
            let change = if now.is_empty() { delete(key) } else { put_leased(key, now.clone(), current) };
            match etcd.transact(Vec::new(), vec![change], Vec::new()).await {
                Ok(_) => (told, of_lease) = (now, current),
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
    fn uids_come_back_as_they_were_and_are_short() {
        for uids in [BTreeSet::new(), BTreeSet::from([0, 1, u64::MAX]), (1_000_000..1_010_000).collect()] {
            assert_eq!(read("a", &write(&uids)).unwrap(), uids);
        }
        let third: BTreeSet<u64> = (0..30_000).map(|n| n * 3).collect();
        assert!(write(&third).len() < 31_000);
        let odd = Stored { steps: vec![u64::MAX, 1] }.encode_to_vec();
        assert!(read("a", &odd).unwrap_err().to_string().contains("nodes/a/held"));
    }
}
