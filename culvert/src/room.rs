//! How many connections there may be, and of one source; and who gives way when there are too many.
//!
//! Whoever connects is a stranger until a credential of its was taken. A new connection always finds a place while there is a
//! stranger's to take, so strangers cannot keep out whoever has a credential, nor each other; a connection whose credential was
//! taken gives way to nobody. Where nobody has a credential, whoever was served gives way after those who have said nothing.

use std::collections::HashMap;
use std::net::IpAddr;
use std::pin::Pin;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::task::{Context, Poll};

use tokio::sync::oneshot;

/// Connections at once: each holds some 60 KiB of buffers and a descriptor.
const MAX: usize = 4_096;
/// Those of one source, so that nobody takes all of them: a fleet of agents behind one address has room.
const MAX_OF_SOURCE: usize = 256;
/// Of all connections, those that only this host gets: who mends the node gets in by its Unix socket whoever holds the rest. A
/// handful of people and their scripts.
const KEPT_FOR_HOST: usize = 64;

/// Room for connections.
#[derive(Clone, Debug)]
pub(crate) struct Room {
    taken: Arc<Mutex<Taken>>,
    most: usize,
    most_of_source: usize,
    /// Of `most`, those for this host.
    kept: usize,
    /// A source that has its share takes its next place from its own, and is not refused.
    within_source: bool,
}

#[derive(Debug, Default)]
struct Taken {
    places: HashMap<u64, Entry>,
    by_source: HashMap<IpAddr, usize>,
    of_host: usize,
    /// Numbers places, and uses of them.
    turn: u64,
}

#[derive(Debug)]
struct Entry {
    source: Option<IpAddr>,
    /// `None` once its credential was taken.
    stranger: Option<Stranger>,
}

/// A place that can be taken away.
#[derive(Debug)]
struct Stranger {
    /// When it was used last. Whoever was served without a credential, where that is allowed, comes after all who were not.
    used: (bool, u64),
    leave: oneshot::Sender<()>,
}

/// The place of a connection, for as long as it is there.
#[derive(Debug)]
pub(crate) struct Place {
    standing: Standing,
    lease: Lease,
}

/// For how long a place is a connection's.
#[derive(Debug)]
enum Lease {
    /// Until this says otherwise.
    Open(oneshot::Receiver<()>),
    /// As long as it likes: it is known.
    Kept,
    /// No longer.
    Over,
}

/// How a connection stands in its room.
#[derive(Clone, Debug)]
pub(crate) struct Standing {
    room: Room,
    number: u64,
    known: Arc<AtomicBool>,
}

/// A place, and whether a stranger has given way to it.
#[derive(Debug)]
pub(crate) struct Entered {
    pub(crate) place: Place,
    pub(crate) displaced: bool,
}

impl Default for Room {
    /// For connections.
    fn default() -> Self {
        Self { kept: KEPT_FOR_HOST, ..Self::of(MAX, MAX_OF_SOURCE) }
    }
}

impl Room {
    /// For so many in all, and of one source.
    pub(crate) fn of(most: usize, most_of_source: usize) -> Self {
        Self { taken: Arc::default(), most, most_of_source, kept: 0, within_source: false }
    }

    /// The same, but the newest of a source that has its share takes the place of another of its own.
    pub(crate) fn turning_over(self) -> Self {
        Self { within_source: true, ..self }
    }

    /// A place for a connection from this source; `None` for one of this host, which has no address.
    pub(crate) fn enter(&self, source: Option<IpAddr>) -> Option<Entered> {
        let mut taken = self.taken();
        let has_share = source.is_some_and(|of| taken.by_source.get(&of) >= Some(&self.most_of_source));
        if has_share && !self.within_source {
            return None;
        }
        // What is kept for this host counts as taken for others, as far as it is not.
        let kept = if source.is_some() { self.kept.saturating_sub(taken.of_host) } else { 0 };
        let displaced = has_share || taken.places.len() + kept >= self.most;
        if has_share {
            taken.displace(|entry| entry.source == source)?;
        } else if displaced {
            let of_others = source.is_some() && taken.of_host <= self.kept;
            // Others have no use of places that are kept for this host.
            taken.displace(|entry| !of_others || entry.source.is_some())?;
        }
        let number = taken.turn();
        let (leave, left) = oneshot::channel();
        let stranger = Some(Stranger { used: (false, number), leave });
        taken.places.insert(number, Entry { source, stranger });
        match source {
            Some(source) => *taken.by_source.entry(source).or_default() += 1,
            None => taken.of_host += 1,
        }
        let standing = Standing { room: self.clone(), number, known: Arc::default() };
        Some(Entered { place: Place { standing, lease: Lease::Open(left) }, displaced })
    }

    fn taken(&self) -> MutexGuard<'_, Taken> {
        self.taken.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Taken {
    fn turn(&mut self) -> u64 {
        self.turn += 1;
        self.turn
    }

    /// Of these has the stranger leave that was not used for longest; `None` if there is none.
    fn displace(&mut self, of_these: impl Fn(&Entry) -> bool) -> Option<()> {
        let strangers = self.places.iter().filter_map(|(number, entry)| {
            let stranger = entry.stranger.as_ref()?;
            of_these(entry).then_some((stranger.used, *number))
        });
        let (_, number) = strangers.min()?;
        if let Some(stranger) = self.remove(number).and_then(|entry| entry.stranger) {
            // Nobody hears it if the connection ends at this moment.
            let _ = stranger.leave.send(());
        }
        Some(())
    }

    fn remove(&mut self, number: u64) -> Option<Entry> {
        let entry = self.places.remove(&number)?;
        match entry.source {
            None => self.of_host -= 1,
            Some(source) => {
                if let Some(of_source) = self.by_source.get_mut(&source) {
                    *of_source -= 1;
                    if *of_source == 0 {
                        self.by_source.remove(&source);
                    }
                }
            }
        }
        Some(entry)
    }
}

impl Place {
    pub(crate) fn standing(&self) -> Standing {
        self.standing.clone()
    }

    /// Waits until the place was given to another.
    pub(crate) async fn left(&mut self) {
        std::future::poll_fn(|cx| self.poll_left(cx)).await;
    }

    /// Ready when the place was given to another.
    pub(crate) fn poll_left(&mut self, cx: &mut Context<'_>) -> Poll<()> {
        if let Lease::Open(leave) = &mut self.lease
            && let Poll::Ready(said) = Pin::new(leave).poll(cx)
        {
            // The other end goes without a word when it becomes known.
            self.lease = if said.is_ok() { Lease::Over } else { Lease::Kept };
        }
        if matches!(self.lease, Lease::Over) { Poll::Ready(()) } else { Poll::Pending }
    }
}

impl Standing {
    /// A credential was taken on the connection: it gives way to nobody any more.
    pub(crate) fn known(&self) {
        if !self.known.swap(true, Ordering::Relaxed)
            && let Some(entry) = self.room.taken().places.get_mut(&self.number)
        {
            entry.stranger = None;
        }
    }

    /// Something was served on the connection without a credential.
    pub(crate) fn served(&self) {
        if self.known.load(Ordering::Relaxed) {
            return;
        }
        let mut taken = self.room.taken();
        let turn = taken.turn();
        if let Some(stranger) = taken.places.get_mut(&self.number).and_then(|entry| entry.stranger.as_mut()) {
            stranger.used = (true, turn);
        }
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // It is not there any more if it was given to another.
        self.standing.room.taken().remove(self.standing.number);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn source(n: u32) -> Option<IpAddr> {
        Some(IpAddr::from((0xc000_0200 + n).to_be_bytes()))
    }

    fn has_left(place: &mut Place) -> bool {
        place.poll_left(&mut Context::from_waker(std::task::Waker::noop())).is_ready()
    }

    #[test]
    fn a_source_has_its_share_and_gives_it_back() {
        let room = Room::default();
        let taken: Vec<_> = std::iter::from_fn(|| room.enter(source(1))).collect();
        assert_eq!(taken.len(), MAX_OF_SOURCE);
        assert!(room.enter(source(2)).is_some());
        drop(taken);
        let taken = room.taken();
        assert_eq!((taken.places.len(), taken.by_source.len(), taken.of_host), (0, 0, 0));
    }

    #[test]
    fn seventeen_sources_keep_nobody_out() {
        let room = Room::default();
        let mut known = room.enter(source(100)).unwrap().place;
        known.standing().known();
        let mut flood: Vec<_> = (0..17)
            .flat_map(|n| std::iter::repeat_n(n, MAX_OF_SOURCE))
            .map(|n| room.enter(source(n)).unwrap().place)
            .collect();
        assert_eq!(room.taken().places.len(), MAX - KEPT_FOR_HOST);
        let mut late = room.enter(source(101)).unwrap();
        assert!(late.displaced);
        late.place.standing().known();
        let gone = flood.iter_mut().map(has_left).take_while(|left| *left).count();
        assert_eq!(gone, 17 * MAX_OF_SOURCE + 2 - (MAX - KEPT_FOR_HOST), "the oldest, one for each");
        assert!(flood.iter_mut().skip(gone).all(|place| !has_left(place)));
        // However many more come.
        for n in 0..MAX as u32 {
            flood.push(room.enter(source(200 + n)).unwrap().place);
        }
        assert!(!has_left(&mut known) && !has_left(&mut late.place));
        assert_eq!(room.taken().places.len(), MAX - KEPT_FOR_HOST);
        drop((flood, known, late));
        let taken = room.taken();
        assert_eq!((taken.places.len(), taken.by_source.len(), taken.of_host), (0, 0, 0));
    }

    #[test]
    fn whoever_is_known_gives_way_to_nobody_and_this_host_still_gets_in() {
        let room = Room { kept: 1, ..Room::of(4, 4) };
        let mut known: Vec<_> = (0..3).map(|n| room.enter(source(n)).unwrap().place).collect();
        known.iter().for_each(|place| place.standing().known());
        assert!(room.enter(source(9)).is_none(), "there is no stranger to take the place of");
        let mut local = room.enter(None).unwrap();
        assert!(!local.displaced);
        assert!(room.enter(source(9)).is_none(), "what is kept for this host is not for others");
        assert!(!has_left(&mut local.place));
        // Of this host it takes the place of one that has said nothing.
        let other = room.enter(None).unwrap();
        assert!(other.displaced && has_left(&mut local.place));
        assert!(known.iter_mut().all(|place| !has_left(place)));
    }

    #[test]
    fn where_a_source_turns_over_its_newest_takes_the_place_of_its_own() {
        let room = Room::of(4, 2).turning_over();
        let mut other = room.enter(source(1)).unwrap().place;
        let [mut a, mut b] = [(); 2].map(|()| room.enter(source(2)).unwrap().place);
        a.standing().served();
        let late = room.enter(source(2)).unwrap();
        assert!(late.displaced && has_left(&mut b) && !has_left(&mut a) && !has_left(&mut other));
        drop((a, b, late, other));
        let taken = room.taken();
        assert_eq!((taken.places.len(), taken.by_source.len()), (0, 0));
    }

    #[test]
    fn whoever_is_served_without_a_credential_gives_way_after_those_who_are_not() {
        let room = Room::of(3, 3);
        let [mut a, mut b, mut c] = [1, 2, 3].map(|n| room.enter(source(n)).unwrap().place);
        b.standing().served();
        a.standing().served();
        let mut d = room.enter(source(4)).unwrap().place;
        assert!(has_left(&mut c) && !has_left(&mut a) && !has_left(&mut b));
        d.standing().served();
        let _e = room.enter(source(5)).unwrap();
        assert!(has_left(&mut b) && !has_left(&mut a) && !has_left(&mut d), "the one served longest ago");
    }
}
