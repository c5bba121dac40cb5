//! What other nodes write, brought to the catalog of this one.

use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use culvert_proto::etcd::{Event, event::EventType};
use latest::Follow as _;
use tenants::store::{StoreError, is_audit};
use tenants::{Catalog, News};
use tokio::time::Instant;

use super::EtcdStore;
use super::head::{Head, Known};
use super::large::Rows;
use super::tidy::{blocking, tidy};
use crate::etcd::EtcdError;
use crate::etcd::watch::written;

/// Before a watch that ended is begun again.
const PAUSE: Duration = Duration::from_millis(200);
/// The same, of what is refused again and again: to ask for all rows is work for etcd, and whoever follows again is this late at most.
const MAX_PAUSE: Duration = Duration::from_secs(5);
/// Whoever has followed for so long has got over what was refused before.
const OVER: Duration = Duration::from_secs(60);

/// What is known to be there and does not come within this is asked for at another member. Whoever reads waits for it 5 s, and so gets it.
const OVERDUE: Duration = Duration::from_secs(2);

/// Follows etcd for as long as it is polled: every change that another node makes gets into `catalog`, in order and once. What was
/// missed, because etcd was away or has forgotten it, comes with all rows. Beside that it tidies up now and then (`tidy.rs`).
pub async fn follow(store: EtcdStore, catalog: Arc<Catalog>) {
    tokio::join!(follow_changes(&store, &catalog), tidy(&store, &catalog));
}

async fn follow_changes(store: &EtcdStore, catalog: &Arc<Catalog>) {
    if let Err(error) = store.clear_remains().await {
        tracing::debug!(%error, "remains of changes that were never made stay where they are");
    }
    // Up to here of etcd's revisions everything is in the catalog. Nothing is known yet of what was written since it was loaded.
    let mut seen = None;
    let mut told = false;
    let mut refusals = Refusals::default();
    // Of the catalog, what has come last.
    let mut come = 0;
    loop {
        let begun = Instant::now();
        let error = follow_until_it_ends(store, catalog, &mut seen, &mut come, &mut told).await;
        if begun.elapsed() > OVER {
            refusals = Refusals::default();
        }
        if let EtcdError::Compacted(_) = error {
            // All rows are wanted.
            seen = None;
            continue;
        }
        store.away.store(true, Ordering::Relaxed);
        store.behind.store(true, Ordering::Relaxed);
        if !std::mem::replace(&mut told, true) {
            tracing::warn!(%error, "what other nodes write does not come in");
        }
        let pause = refusals.meet(&error, &mut seen);
        tokio::time::sleep(pause).await;
    }
}

/// What was refused of late. The same question would get the same answer for ever: all rows are another one.
#[derive(Debug, Default)]
struct Refusals {
    /// How far it was at the last one.
    at: Option<i64>,
    /// The next pause, after the first.
    pause: Option<Duration>,
}

impl Refusals {
    /// How long to wait after an error. What is seen is forgotten where it is of no use to go on from there.
    fn meet(&mut self, error: &EtcdError, seen: &mut Option<i64>) -> Duration {
        if matches!(error, EtcdError::Away { .. }) {
            return PAUSE;
        }
        let again = seen.is_some() && self.at == *seen;
        self.at = *seen;
        if again || matches!(error, EtcdError::TooLarge { .. }) {
            *seen = None;
        }
        let pause = self.pause.unwrap_or(PAUSE);
        self.pause = Some((pause * 2).min(MAX_PAUSE));
        pause
    }
}

pub(super) async fn follow_until_it_ends(
    store: &EtcdStore,
    catalog: &Arc<Catalog>,
    seen: &mut Option<i64>,
    come: &mut u64,
    told: &mut bool,
) -> EtcdError {
    let from = match *seen {
        Some(seen) => seen,
        None => match renew(store, catalog).await {
            Ok(known) => {
                *come = known.head.revision;
                *seen.insert(known.at)
            }
            Err(error) => return error,
        },
    };
    let mut watch = match store.etcd.watch("", from + 1).await {
        Ok(watch) => watch,
        Err(error) => return error,
    };
    store.away.store(false, Ordering::Relaxed);
    store.behind.store(false, Ordering::Relaxed);
    if std::mem::take(told) {
        tracing::info!("what other nodes write comes in again");
    }
    loop {
        let events = tokio::select! {
            biased;
            events = watch.next() => match events {
                Ok(events) => events,
                Err(error) => return error,
            },
            revision = overdue(store, *come) => {
                store.etcd.turn_to_another();
                let reason = format!("the watch has not told of revision {revision} of the catalog in {OVERDUE:?}");
                return EtcdError::Away { place: "etcd".to_owned(), reason };
            }
        };
        for write in events.events.chunk_by(|one, next| written(one) == written(next)) {
            match take_over(store, catalog, write).await {
                Ok(revision) => *come = revision.unwrap_or(*come),
                Err(error) => return error,
            }
            if let Some(first) = write.first() {
                *seen = Some(written(first));
            }
        }
        *seen = (*seen).max(Some(events.revision));
    }
}

/// Waits until something is known to be there that has not come, and does not come in time: its revision.
async fn overdue(store: &EtcdStore, come: u64) -> u64 {
    match store.asked.subscribe().until(|asked| *asked > come).await {
        Ok(revision) => {
            tokio::time::sleep(OVERDUE).await;
            revision
        }
        Err(_) => std::future::pending().await,
    }
}

/// Takes over what one write to etcd has changed of the catalog: of which revision that is, if it is of the catalog.
async fn take_over(
    store: &EtcdStore,
    catalog: &Arc<Catalog>,
    write: &[Event],
) -> Result<Option<u64>, EtcdError> {
    let head = write
        .iter()
        .filter_map(|event| Some((event.r#type(), event.kv.as_ref()?)))
        .find(|(_, kv)| store.etcd.strip(&kv.key) == Some("head"));
    // Without a head it is a part, a row that is put in its place, when a token was shown at another node, or none of the catalog.
    let Some((kind, kv)) = head else {
        catalog.note_uses(&rows_of(store, write));
        return Ok(None);
    };
    if kind == EventType::Delete {
        // Somebody has deleted what he took for his own, or all of it. What there is now is looked at as a whole.
        return Err(EtcdError::Compacted(kv.mod_revision));
    }
    let head = Head::read(&kv.value)?;
    let mut rows = if head.parts > 0 {
        store.rows_in_parts(&head, kv.mod_revision).await?
    } else {
        rows_of(store, write)
    };
    // These are of whoever made the change.
    rows.retain(|(key, _)| !is_audit(key));
    if rows.is_empty() {
        // All that has changed is that a large change lies in its place.
        return Ok(Some(head.revision));
    }
    let news = News::Change { revision: head.revision, rows };
    match give(catalog, news).await {
        Ok(()) => Ok(Some(head.revision)),
        // There is one between that did not come.
        Err(StoreError::Outrun(_)) => Err(EtcdError::Compacted(kv.mod_revision)),
        Err(error) => Err(corrupt(&error)),
    }
}

fn rows_of(store: &EtcdStore, write: &[Event]) -> Rows {
    let row = |event: &Event| {
        let kv = event.kv.as_ref()?;
        let key = store.etcd.strip(&kv.key)?.strip_prefix("rows/")?.to_owned();
        let value = (event.r#type() == EventType::Put).then(|| kv.value.clone());
        Some((key, value))
    };
    write.iter().filter_map(row).collect()
}

/// Brings the catalog to where etcd is, and says where that was.
async fn renew(store: &EtcdStore, catalog: &Arc<Catalog>) -> Result<Known, EtcdError> {
    let loaded = store.load_all().await?;
    if loaded.known.written == 0 && catalog.snapshot().revision > 0 {
        let reason =
            "is gone, though nobody here has deleted it: what this node has of the catalog stays as it is";
        return Err(EtcdError::Corrupt { key: "head".to_owned(), reason: reason.to_owned() });
    }
    let rows = loaded.rows.into_iter().collect();
    give(catalog, News::All(rows)).await.map_err(|error| corrupt(&error))?;
    Ok(loaded.known)
}

/// The catalog may have to wait for who writes.
async fn give(catalog: &Arc<Catalog>, news: News) -> Result<(), StoreError> {
    blocking(catalog, move |catalog| catalog.follow(news)).await
}

fn corrupt(error: &StoreError) -> EtcdError {
    EtcdError::Corrupt { key: "rows".to_owned(), reason: error.to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_refused_twice_at_the_same_place_leads_to_all_rows() {
        let (mut refusals, mut seen) = (Refusals::default(), Some(7));
        let place = || "etcd".to_owned();
        let refused = EtcdError::Refused { place: place(), reason: "no".to_owned() };
        let away = EtcdError::Away { place: place(), reason: "no".to_owned() };
        let large = EtcdError::TooLarge { place: place(), reason: "no".to_owned() };
        for _ in 0..3 {
            assert_eq!(refusals.meet(&away, &mut seen), PAUSE);
        }
        assert_eq!((refusals.meet(&refused, &mut seen), seen), (PAUSE, Some(7)));
        seen = Some(8);
        assert_eq!((refusals.meet(&refused, &mut seen), seen), (PAUSE * 2, Some(8)));
        assert_eq!((refusals.meet(&refused, &mut seen), seen), (PAUSE * 4, None));
        seen = Some(9);
        assert_eq!((refusals.meet(&large, &mut seen), seen), (PAUSE * 8, None));
        (0..9).for_each(|_| assert!(refusals.meet(&refused, &mut seen) <= MAX_PAUSE));
    }
}
