//! Sends heartbeats, and tells who is heard.

use std::sync::Arc;
use std::sync::atomic::Ordering;

use latest::Latest as _;
use tokio::time::Instant;

use super::hearing::{BEAT, Standing, Standings};
use super::peer::Inner;

/// As long as the mesh is there.
pub(super) async fn beat(inner: Arc<Inner>) {
    let (mut beat_at, mut due) = (Instant::now(), Instant::now());
    loop {
        let now = Instant::now();
        inner.hearing.woken(due, now);
        if now >= beat_at {
            for peer in inner.peers().values() {
                // To those who are silent as well: they hear us as soon as they can.
                if let Some(link) = peer.link() {
                    link.heartbeat(now < inner.hearing.silent_at(&peer.heard));
                }
            }
            beat_at = now + BEAT;
        }
        due = tell(&inner, now).map_or(beat_at, |silent_at| silent_at.min(beat_at));
        tokio::select! {
            () = tokio::time::sleep_until(due) => {}
            () = inner.news.notified() => due = Instant::now(),
        }
    }
}

/// Tells what has changed, and says when a node that is heard now will be silent.
fn tell(inner: &Inner, now: Instant) -> Option<Instant> {
    let before = inner.standings.latest();
    let (mut after, mut next) = (Standings::new(), None::<Instant>);
    for peer in inner.peers().values() {
        let silent_at = inner.hearing.silent_at(&peer.heard);
        let silent = now >= silent_at || !peer.hears_us.load(Ordering::Relaxed);
        peer.silent.store(silent, Ordering::Relaxed);
        if !silent {
            next = Some(next.map_or(silent_at, |next| next.min(silent_at)));
        }
        let known = before.get(&*peer.name);
        let instance = peer.link().map(|link| link.instance.clone());
        let instance = instance.or_else(|| known.map(|known| known.instance.clone())).unwrap_or_default();
        let since = known.filter(|known| known.silent == silent).map_or(now, |known| known.since);
        after.insert(peer.name.to_string(), Standing { silent, since, instance });
    }
    if *before != after {
        for (name, standing) in &after {
            match (before.get(name).map(|before| before.silent), standing.silent) {
                (Some(false), true) => tracing::warn!(node = name, "is silent"),
                (None | Some(true), false) => tracing::info!(node = name, "is heard"),
                _ => {}
            }
        }
        inner.standings.send_replace(Arc::new(after));
    }
    inner.forget();
    next
}
