//! A part of etcd's keys as they are now, kept up to date: loses nothing when a watch ends, or what it has missed is compacted.

use std::time::Duration;

use culvert_proto::etcd::{KeyValue, event::EventType};

use super::{Etcd, EtcdError, end_of};

/// Before a watch that has ended is begun again.
const PAUSE: Duration = Duration::from_millis(200);

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

/// Tells of every change since what was [loaded](load), and of which revision of etcd it is, for ever. `empty` is what there is without
/// a key.
pub(crate) async fn mirror<S: Mirrored>(
    etcd: &Etcd,
    prefix: &str,
    empty: S,
    loaded: (S, i64),
    mut tell: impl FnMut(&S, i64),
) {
    let mut at = Some(loaded);
    loop {
        let error = until_it_ends(etcd, prefix, &empty, &mut at, &mut tell).await;
        // What is refused once is refused again; all keys are another question.
        if !matches!(error, EtcdError::Away { .. }) {
            at = None;
        }
        tracing::debug!(%error, prefix, "changes are not seen");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn until_it_ends<S: Mirrored>(
    etcd: &Etcd,
    prefix: &str,
    empty: &S,
    at: &mut Option<(S, i64)>,
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
    loop {
        let news = match events.next().await {
            Ok(news) => news,
            Err(error) => return error,
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
