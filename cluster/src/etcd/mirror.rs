//! A part of etcd's keys as they are now, kept up to date: loses nothing when a watch ends, or what it has missed is compacted.
//!
//! A watch may tell nothing and not end, for what a member says of its connections is not what its disk says. That shows where a write is [known](Known)
//! that it does not tell of.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use culvert_proto::etcd::{KeyValue, event::EventType};
use latest::Follow as _;
use tokio::sync::watch;

use super::{Etcd, EtcdError, end_of};

/// Before a watch that has ended is begun again.
const PAUSE: Duration = Duration::from_millis(200);
/// The same, of what is refused again and again: whoever follows again is this late at most.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// A write that is known and not told of within this is asked for at another member: a watch tells of it within milliseconds.
const OVERDUE: Duration = Duration::from_secs(2);

/// The last write below a prefix that is known to be there, by whatever way, and whether writes come in. Clones are of the same.
#[derive(Clone, Debug, Default)]
pub(crate) struct Known {
    last: Arc<watch::Sender<i64>>,
    behind: Arc<AtomicBool>,
}

impl Known {
    /// Whether what is written does not come in.
    pub(crate) fn is_behind(&self) -> bool {
        self.behind.load(Ordering::Relaxed)
    }

    /// Says whether it does: whether that is news.
    fn is_now(&self, behind: bool) -> bool {
        self.behind.swap(behind, Ordering::Relaxed) != behind
    }

    /// There is one with this revision of etcd.
    pub(crate) fn raise(&self, revision: i64) {
        self.last.send_if_modified(|known| {
            let is_news = *known < revision;
            *known = revision.max(*known);
            is_news
        });
    }

    /// Waits until one is known that a watch does not tell of in time, which has told of all up to `told`: its revision.
    async fn overdue(&self, told: i64) -> i64 {
        match self.last.subscribe().until(|known| *known > told).await {
            Ok(revision) => {
                tokio::time::sleep(OVERDUE).await;
                revision
            }
            Err(_) => std::future::pending().await,
        }
    }
}

/// What is made of keys.
pub(crate) trait Mirrored: Clone + Send {
    /// Takes a key, without the cluster's prefix, over as it is now; `None` for one that is gone.
    fn take_in(&mut self, key: &str, now: Option<&KeyValue>) -> Result<(), EtcdError>;
}

/// All keys below `prefix` as they are now, on top of `state`, and at which revision of etcd that was.
pub(crate) async fn load<S: Mirrored>(
    etcd: &Etcd,
    prefix: &str,
    mut state: S,
) -> Result<(S, i64), EtcdError> {
    let key = etcd.key(prefix);
    let (found, revision) = etcd.all(key.clone(), end_of(key), 0).await?;
    for kv in &found {
        if let Some(key) = etcd.strip(&kv.key) {
            state.take_in(key, Some(kv))?;
        }
    }
    Ok((state, revision))
}

/// Tells of every change since what was [loaded](load), and of which revision of etcd it is, for ever: of those that are `known` by other ways
/// soon after that. `empty` is what there is without a key.
pub(crate) async fn mirror<S: Mirrored>(
    etcd: &Etcd,
    prefix: &str,
    empty: S,
    loaded: (S, i64),
    known: Known,
    mut tell: impl FnMut(&S, i64),
) {
    let mut at = Some(loaded);
    let (mut pause, mut told) = (PAUSE, false);
    loop {
        let error = until_it_ends(etcd, prefix, &empty, &mut at, &known, &mut tell).await;
        if known.is_now(true) {
            (pause, told) = (PAUSE, false);
        }
        if matches!(error, EtcdError::Away { .. }) {
            // Whoever keeps the lease says that.
            tracing::debug!(%error, prefix, "changes are not seen");
            tokio::time::sleep(PAUSE).await;
            continue;
        }
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(%error, prefix, "what other nodes write does not come in");
        }
        // What is refused once is refused again; all keys are another question, and work for etcd.
        at = None;
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(MAX_PAUSE);
    }
}

async fn until_it_ends<S: Mirrored>(
    etcd: &Etcd,
    prefix: &str,
    empty: &S,
    at: &mut Option<(S, i64)>,
    known: &Known,
    tell: &mut impl FnMut(&S, i64),
) -> EtcdError {
    let (state, from) = match at {
        Some(at) => at,
        None => match load(etcd, prefix, empty.clone()).await {
            Ok(loaded) => {
                tell(&loaded.0, loaded.1);
                at.insert(loaded)
            }
            Err(error) => return error,
        },
    };
    let mut events = match etcd.watch(prefix, *from + 1).await {
        Ok(events) => events,
        Err(error) => return error,
    };
    if known.is_now(false) {
        tracing::info!(prefix, "what other nodes write comes in again");
    }
    loop {
        let news = tokio::select! {
            biased;
            news = events.next() => match news {
                Ok(news) => news,
                Err(error) => return error,
            },
            revision = known.overdue(*from) => {
                etcd.turn_to_another();
                let reason = format!("the watch of {prefix} has not told of revision {revision} in {OVERDUE:?}");
                tracing::warn!(reason, "another member of etcd is asked");
                return EtcdError::Away { place: "etcd".to_owned(), reason };
            }
        };
        for event in &news.events {
            let Some(kv) = &event.kv else { continue };
            let now = (event.r#type() == EventType::Put).then_some(kv);
            if let Some(key) = etcd.strip(&kv.key)
                && let Err(error) = state.take_in(key, now)
            {
                return error;
            }
        }
        *from = (*from).max(news.revision);
        tell(state, *from);
    }
}

#[cfg(all(test, feature = "simulated"))]
#[allow(clippy::unwrap_used, reason = "a test, which clippy does not see behind `all`")]
mod tests {
    use std::collections::BTreeSet;

    use super::*;
    use crate::etcd::memory::{AtOnce, Memory};
    use crate::etcd::put;

    /// Which keys there are.
    type Keys = BTreeSet<String>;

    impl Mirrored for Keys {
        fn take_in(&mut self, key: &str, now: Option<&KeyValue>) -> Result<(), EtcdError> {
            let _ = if now.is_some() { self.insert(key.to_owned()) } else { self.remove(key) };
            Ok(())
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_watch_that_tells_nothing_of_what_is_known_is_begun_again_and_all_others_with_it() {
        let memory = Memory::begin();
        let etcd = memory.client(Arc::new(AtOnce));
        let known = [Known::default(), Known::default()];
        let (seen, mut sees) = watch::channel((0, 0));
        for (prefix, known) in ["a/", "b/"].into_iter().zip(known.clone()) {
            let (etcd, seen) = (etcd.clone(), seen.clone());
            tokio::spawn(async move {
                let loaded = load(&etcd, prefix, Keys::new()).await.unwrap();
                let tell = |now: &Keys, _| {
                    seen.send_modify(|(a, b)| *(if prefix == "a/" { a } else { b }) = now.len());
                };
                mirror(&etcd, prefix, Keys::new(), loaded, known, tell).await;
            });
        }
        let write = async |key: &str| {
            let made = etcd.transact(Vec::new(), vec![put(etcd.key(key), vec![1])], Vec::new()).await;
            made.unwrap().header.unwrap().revision
        };
        // What both have begun with.
        tokio::time::sleep(Duration::from_millis(10)).await;
        write("a/1").await;
        write("b/1").await;
        sees.until(|seen| *seen == (1, 1)).await.unwrap();
        memory.mute();
        write("b/2").await;
        let revision = write("a/2").await;
        let waiting = tokio::time::timeout(Duration::from_secs(60), sees.until(|seen| seen.0 == 2)).await;
        assert!(waiting.is_err(), "nobody knows of it");
        let [of_a, _] = &known;
        of_a.raise(revision);
        let told = tokio::time::timeout(2 * OVERDUE, sees.until(|seen| *seen == (2, 2))).await;
        told.unwrap().unwrap();
    }
}
