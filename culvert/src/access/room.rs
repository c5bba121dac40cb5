//! How many connections there may be, and of one source.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError};

/// Connections at once: each holds some 60 KiB of buffers and a descriptor.
const MAX: usize = 4_096;
/// Those of one source, so that nobody takes all of them: a fleet of agents behind one address has room.
const MAX_OF_SOURCE: usize = 256;

/// Room for connections.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    taken: Arc<Mutex<Taken>>,
    most: usize,
    most_of_source: usize,
}

#[derive(Debug, Default)]
struct Taken {
    all: usize,
    by_source: HashMap<IpAddr, usize>,
}

/// The place of a connection, for as long as it is there.
#[derive(Debug)]
pub(crate) struct Place {
    room: Room,
    source: Option<IpAddr>,
}

impl Default for Room {
    /// For connections.
    fn default() -> Self {
        Self::of(MAX, MAX_OF_SOURCE)
    }
}

impl Room {
    /// For so many in all, and of one source.
    pub(crate) fn of(most: usize, most_of_source: usize) -> Self {
        Self { taken: Arc::default(), most, most_of_source }
    }

    /// A place for a connection from this source; `None` for one of this host, which has no address.
    pub(crate) fn enter(&self, source: Option<IpAddr>) -> Option<Place> {
        let mut taken = self.taken.lock().unwrap_or_else(PoisonError::into_inner);
        if taken.all >= self.most {
            return None;
        }
        if let Some(source) = source {
            let of_source = taken.by_source.entry(source).or_default();
            if *of_source >= self.most_of_source {
                return None;
            }
            *of_source += 1;
        }
        taken.all += 1;
        Some(Place { room: self.clone(), source })
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let mut taken = self.room.taken.lock().unwrap_or_else(PoisonError::into_inner);
        taken.all -= 1;
        if let Some(source) = self.source
            && let Some(of_source) = taken.by_source.get_mut(&source)
        {
            *of_source -= 1;
            if *of_source == 0 {
                taken.by_source.remove(&source);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_has_its_share_and_gives_it_back() {
        let (room, a, b) = (Room::default(), IpAddr::from([192, 0, 2, 1]), IpAddr::from([192, 0, 2, 2]));
        let taken: Vec<_> = std::iter::from_fn(|| room.enter(Some(a))).collect();
        assert_eq!(taken.len(), MAX_OF_SOURCE);
        assert!(room.enter(Some(b)).is_some());
        let local: Vec<_> = std::iter::from_fn(|| room.enter(None)).collect();
        assert_eq!(local.len(), MAX - MAX_OF_SOURCE);
        assert!(room.enter(Some(b)).is_none());
        drop((taken, local));
        let taken = room.taken.lock().unwrap();
        assert_eq!((taken.all, taken.by_source.len()), (0, 0));
    }
}
