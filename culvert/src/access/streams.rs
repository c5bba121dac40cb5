//! How many answers a caller has under way that stream: they last for as long as the client reads, and hold what it has not read.

use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Streams of one caller, or one tenant, at a time: some for each person and program that watches. How much lists of SAs hold that are
/// streamed is bounded for all nodes together (`wide/memory.rs`).
pub(crate) const MAX_STREAMS_OF_ONE: usize = 32;

/// The streams that there are.
#[derive(Debug, Default)]
pub(crate) struct Streams(Mutex<HashMap<String, usize>>);

/// One of them, for as long as this lives.
#[derive(Debug)]
pub(crate) struct Streaming {
    streams: Arc<Streams>,
    of: String,
}

impl Streams {
    /// One more of a caller, or of its tenant; `None` if these are too many.
    pub(crate) fn begin(self: &Arc<Self>, of: String) -> Option<Streaming> {
        let mut counts = self.lock();
        let count = counts.entry(of.clone()).or_default();
        // Whoever is at the bound has an entry already.
        if *count >= MAX_STREAMS_OF_ONE {
            return None;
        }
        *count += 1;
        drop(counts);
        Some(Streaming { streams: Arc::clone(self), of })
    }

    fn lock(&self) -> MutexGuard<'_, HashMap<String, usize>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Drop for Streaming {
    fn drop(&mut self) {
        let mut counts = self.streams.lock();
        if let Some(count) = counts.get_mut(&self.of) {
            *count -= 1;
            if *count == 0 {
                counts.remove(&self.of);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_has_so_many_and_leaves_nothing_behind() {
        let streams = Arc::new(Streams::default());
        let all: Vec<_> = (0..MAX_STREAMS_OF_ONE).map(|_| streams.begin("a".to_owned()).unwrap()).collect();
        assert!(streams.begin("a".to_owned()).is_none());
        let other = streams.begin("b".to_owned()).unwrap();
        drop(all);
        assert!(streams.begin("a".to_owned()).is_some());
        drop(other);
        assert!(streams.lock().is_empty());
    }
}
