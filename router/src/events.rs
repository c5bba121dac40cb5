//! From a thread of the router to the control plane.
//!
//! Whatever a peer or a stranger can cause has an allowance, so that none of them makes work for others:
//!
//! | event | allowed |
//! |---|---|
//! | an IKE message that is not taken at once ([`crate::Entrance`]) | as many as the control plane takes; first messages leave room for those of SAs that exist |
//! | ESP for an SPI that is not there | [`UNKNOWN_SPI_EVENTS`] a second, whichever thread met it |
//! | an ICMP error | one a second of each remote, and [`UNREACHABLE_EVENTS`] of all |
//! | the first packet, a soft limit of a pair | once each, and once more where another node goes on with it |
//! | a hard limit of a pair | once, and once a second while it stands in the way of packets |
//! | numbers of a pair that run low | once for each block that is reserved |
//! | a peer that moves | [`MOVES`] a second for each pair |
//!
//! What is lost here counts as not told: the next packet of the pair has it told again.
//!
//! The others, a tunnel that is wanted and a pair that is removed, are our own doing.

use std::collections::{HashSet, VecDeque};
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use esp::Spi;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::allowance::{Allowance, SharedAllowance};
use crate::counters::{Counter, Counters};
use crate::model::{IkeDatagram, RouterEvent};
use crate::unreachable::Unreachable;

/// The sending end of one thread. Never blocks.
///
/// Policy when the control plane does not keep up: IKE messages are dropped, for peers send them again, and of those the first
/// messages of anybody before what belongs to an SA; other events wait in a backlog and are only dropped beyond
/// [`BACKLOG_EVENTS`], and what a pair has come to that is removed not even then.
pub(crate) struct EventSink {
    sender: Sender<RouterEvent>,
    backlog: VecDeque<RouterEvent>,
    unknown_spi: Arc<SharedAllowance>,
    unreachable: Told,
    counters: Arc<Counters>,
}

impl EventSink {
    /// The sinks of one router share what is allowed of packets without an SA ([`unknown_spi_events`]).
    pub(crate) fn new(
        sender: Sender<RouterEvent>,
        unknown_spi: Arc<SharedAllowance>,
        counters: Arc<Counters>,
    ) -> Self {
        Self { sender, backlog: VecDeque::new(), unknown_spi, unreachable: Told::default(), counters }
    }

    /// Passes an event on, now or later. False when it is lost.
    pub(crate) fn send(&mut self, event: RouterEvent) -> bool {
        // What a pair has come to is in no other place, and there are no more such events than there were pairs: they have no bound.
        let stays = matches!(event, RouterEvent::Removed { .. });
        // Behind the backlog, to keep the order.
        self.backlog.push_back(event);
        self.flush();
        let kept = stays || self.backlog.len() <= BACKLOG_EVENTS;
        if !kept {
            self.backlog.pop_back();
            self.counters.count(Counter::EventLost);
        }
        kept
    }

    /// Passes an IKE message on, now or never.
    pub(crate) fn send_ike(&mut self, datagram: IkeDatagram) {
        if is_first(&datagram.bytes) && self.sender.capacity() < self.sender.max_capacity() / 2 {
            return self.counters.count(Counter::IkeFirstOverload);
        }
        match self.sender.try_reserve() {
            Ok(place) => {
                self.counters.count(Counter::IkeReceived);
                place.send(RouterEvent::Ike(datagram));
            }
            Err(_) => self.counters.count(Counter::IkeOverload),
        }
    }

    /// Reports that packets of a pair come from elsewhere, unless the pair has used up its allowance; whether it did, and it is not
    /// lost.
    pub(crate) fn moved(
        &mut self,
        now: Instant,
        allowance: &mut Allowance,
        spi: Spi,
        remote: SocketAddr,
    ) -> bool {
        if allowance.take(now) {
            return self.send(RouterEvent::RemoteMoved { spi, remote });
        }
        self.counters.count(Counter::MoveLimited);
        false
    }

    /// Reports a packet without an SA, at most [`UNKNOWN_SPI_EVENTS`] a second: anyone can send those.
    pub(crate) fn unknown_spi(&mut self, now: Instant, spi: Spi, remote: SocketAddr) {
        if self.unknown_spi.take(now) {
            self.send(RouterEvent::UnknownSpi { spi, remote });
        }
    }

    /// Reports an ICMP error, of one remote at most one a second and [`UNREACHABLE_EVENTS`] of all: anyone can forge those.
    pub(crate) fn unreachable(&mut self, now: Instant, what: Unreachable) {
        if self.unreachable.may(now, what.remote) {
            self.counters.count(Counter::UnreachableTold);
            self.send(RouterEvent::Unreachable(what));
        } else {
            self.counters.count(Counter::UnreachableLimited);
        }
    }

    /// Passes on what waits; false when something still does.
    pub(crate) fn flush(&mut self) -> bool {
        while let Some(event) = self.backlog.pop_front() {
            match self.sender.try_send(event) {
                Ok(()) => {}
                Err(TrySendError::Full(event)) => {
                    self.backlog.push_front(event);
                    return false;
                }
                // Nobody is left to hear it: the router is being taken down.
                Err(TrySendError::Closed(_)) => self.backlog.clear(),
            }
        }
        true
    }
}

/// Of which remotes was told in the second that began then.
#[derive(Default)]
struct Told {
    since: Option<Instant>,
    remotes: HashSet<SocketAddr>,
}

impl Told {
    fn may(&mut self, now: Instant, remote: SocketAddr) -> bool {
        if self.since.is_none_or(|since| now.saturating_duration_since(since) >= SECOND) {
            self.since = Some(now);
            self.remotes.clear();
        }
        self.remotes.len() < UNREACHABLE_EVENTS && self.remotes.insert(remote)
    }
}

const SECOND: Duration = Duration::from_secs(1);
/// A node whose uplink broke hears of its thousand peers within some seconds, in which each is sent to several times.
const UNREACHABLE_EVENTS: usize = 256;

/// All the SAs of a shard that carries 10,000 can end in the same moment; 100 octets each.
const BACKLOG_EVENTS: usize = 16_384;

/// Enough to see a peer that lost sync within a second; too few to be of use to an attacker. For all threads together.
const UNKNOWN_SPI_EVENTS: u32 = 10;

/// A NAT gives a peer another port when it has forgotten the old one, which takes it minutes. One that alternates between two
/// ports is followed once a second.
const MOVES: u32 = 1;

/// What all threads of a router may report of packets without an SA.
pub(crate) fn unknown_spi_events() -> Arc<SharedAllowance> {
    Arc::new(SharedAllowance::new(UNKNOWN_SPI_EVENTS))
}

/// What one pair may report of its peer's moves.
pub(crate) const fn moves() -> Allowance {
    Allowance::new(MOVES)
}

/// Whether an IKE message has no SPI of ours yet (RFC 7296 section 3.1).
fn is_first(message: &[u8]) -> bool {
    message.get(8..16).is_some_and(|spi| spi.iter().all(|octet| *octet == 0))
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use tokio::sync::mpsc;

    use super::*;

    fn soft(spi: u32) -> RouterEvent {
        RouterEvent::SoftLimit { spi: Spi(spi) }
    }

    fn spi_of(event: RouterEvent) -> u32 {
        match event {
            RouterEvent::SoftLimit { spi } | RouterEvent::UnknownSpi { spi, .. } => spi.0,
            other => panic!("{other:?}"),
        }
    }

    #[test]
    fn events_wait_in_order_and_ike_does_not() {
        let (sender, mut receiver) = mpsc::channel(2);
        let counters = Arc::new(Counters::new());
        let mut sink = EventSink::new(sender, unknown_spi_events(), counters.clone());
        for spi in 0..5 {
            sink.send(soft(spi));
        }
        let local = "127.0.0.1:500".parse().unwrap();
        sink.send_ike(IkeDatagram { local, remote: local, bytes: vec![1] });
        assert!(!sink.flush());
        let mut got = Vec::new();
        while let Ok(event) = receiver.try_recv() {
            got.push(spi_of(event));
            sink.flush();
        }
        assert_eq!(got, [0, 1, 2, 3, 4]);
        assert!(crate::counters::total([&*counters]).contains(&("drop_ike_overload", 1)));
    }

    #[test]
    fn the_backlog_has_a_bound() {
        let (sender, _receiver) = mpsc::channel(1);
        let counters = Arc::new(Counters::new());
        let mut sink = EventSink::new(sender, unknown_spi_events(), counters.clone());
        for spi in 0..BACKLOG_EVENTS as u32 + 11 {
            sink.send(soft(spi));
        }
        assert_eq!(sink.backlog.len(), BACKLOG_EVENTS);
        assert!(crate::counters::total([&*counters]).contains(&("event_lost", 10)));
    }

    #[test]
    fn first_messages_leave_room_for_those_of_sas() {
        let (sender, mut receiver) = mpsc::channel(8);
        let counters = Arc::new(Counters::new());
        let mut sink = EventSink::new(sender, unknown_spi_events(), counters.clone());
        let local = "127.0.0.1:500".parse().unwrap();
        let message = |responder: u8| {
            let mut bytes = vec![1; 28];
            bytes[8..16].fill(responder);
            IkeDatagram { local, remote: local, bytes }
        };
        for _ in 0..20 {
            sink.send_ike(message(0));
        }
        for _ in 0..3 {
            sink.send_ike(message(7));
        }
        let mut taken = Vec::new();
        while let Ok(RouterEvent::Ike(datagram)) = receiver.try_recv() {
            taken.push(datagram.bytes[8]);
        }
        assert_eq!(taken, [0, 0, 0, 0, 0, 7, 7, 7]);
        assert!(crate::counters::total([&*counters]).contains(&("drop_ike_first_overload", 15)));
    }

    #[test]
    fn whoever_reports_is_told_what_is_lost() {
        let (sender, mut receiver) = mpsc::channel(1);
        let counters = Arc::new(Counters::new());
        let mut sink = EventSink::new(sender, unknown_spi_events(), counters.clone());
        let soft = |number| RouterEvent::SoftLimit { spi: Spi(number) };
        for number in 0..=BACKLOG_EVENTS as u32 {
            assert!(sink.send(soft(number)), "{number}");
        }
        assert!(!sink.send(soft(7)));
        assert!(crate::counters::total([&*counters]).contains(&("event_lost", 1)));
        assert_eq!(receiver.try_recv().map(spi_of), Ok(0));
        assert!(sink.send(soft(8)), "there is room again");
    }

    #[test]
    fn what_is_allowed_of_unknown_spis_is_for_all_threads() {
        let (sender, mut receiver) = mpsc::channel(100);
        let shared = unknown_spi_events();
        let now = Instant::now();
        for spi in 0..8 {
            let mut sink = EventSink::new(sender.clone(), shared.clone(), Arc::new(Counters::new()));
            (0..9).for_each(|_| sink.unknown_spi(now, Spi(spi), "127.0.0.1:4500".parse().unwrap()));
        }
        let got = std::iter::from_fn(|| receiver.try_recv().ok()).count();
        assert_eq!(got as u32, UNKNOWN_SPI_EVENTS);
    }

    #[test]
    fn unknown_spis_are_reported_now_and_then() {
        let (sender, mut receiver) = mpsc::channel(100);
        let mut sink = EventSink::new(sender, unknown_spi_events(), Arc::new(Counters::new()));
        let start = Instant::now();
        let remote = "127.0.0.1:4500".parse().unwrap();
        for second in 0..2 {
            for spi in 0..50 {
                sink.unknown_spi(start + Duration::from_secs(second), Spi(spi), remote);
            }
        }
        let got: Vec<_> = std::iter::from_fn(|| receiver.try_recv().ok()).map(spi_of).collect();
        assert_eq!(got.len() as u32, 2 * UNKNOWN_SPI_EVENTS);
    }

    #[test]
    fn nobody_uses_up_what_is_told_of_others() {
        let (mut told, start) = (Told::default(), Instant::now());
        let remote = |number: usize| SocketAddr::from(([192, 0, 2, 1], 1000 + number as u16));
        for second in 0..2 {
            let now = start + SECOND * second;
            assert_eq!((0..100_000).filter(|_| told.may(now, remote(0))).count(), 1);
            assert!(told.may(now, remote(1)));
            let others = (2..1000).filter(|number| told.may(now, remote(*number))).count();
            assert_eq!(others, UNREACHABLE_EVENTS - 2);
        }
    }
}
