//! From a thread of the router to the control plane.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Instant;

use esp::Spi;
use tokio::sync::mpsc::Sender;
use tokio::sync::mpsc::error::TrySendError;

use crate::allowance::Allowance;
use crate::counters::{Counter, Counters};
use crate::model::{IkeDatagram, RouterEvent};

/// The sending end of one thread. Never blocks.
///
/// Policy when the control plane does not keep up: IKE messages are dropped, for peers send them again; other events
/// wait in a backlog and are only dropped beyond [`BACKLOG_EVENTS`].
pub(crate) struct EventSink {
    sender: Sender<RouterEvent>,
    backlog: VecDeque<RouterEvent>,
    unknown_spi: Allowance,
    counters: Arc<Counters>,
}

impl EventSink {
    pub(crate) fn new(sender: Sender<RouterEvent>, counters: Arc<Counters>) -> Self {
        Self { sender, backlog: VecDeque::new(), unknown_spi: Allowance::new(UNKNOWN_SPI_EVENTS), counters }
    }

    /// Passes an event on, now or later.
    pub(crate) fn send(&mut self, event: RouterEvent) {
        // Behind the backlog, to keep the order.
        self.backlog.push_back(event);
        self.flush();
        if self.backlog.len() > BACKLOG_EVENTS {
            self.backlog.pop_back();
            self.counters.count(Counter::EventLost);
        }
    }

    /// Passes an IKE message on, now or never.
    pub(crate) fn send_ike(&mut self, datagram: IkeDatagram) {
        match self.sender.try_reserve() {
            Ok(place) => {
                self.counters.count(Counter::IkeReceived);
                place.send(RouterEvent::Ike(datagram));
            }
            Err(_) => self.counters.count(Counter::IkeOverload),
        }
    }

    /// Reports a packet without an SA, at most [`UNKNOWN_SPI_EVENTS`] a second: anyone can send those.
    pub(crate) fn unknown_spi(&mut self, now: Instant, spi: Spi, remote: std::net::SocketAddr) {
        if self.unknown_spi.take(now) {
            self.send(RouterEvent::UnknownSpi { spi, remote });
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

/// All the SAs of a shard that carries 10,000 can end in the same moment; 100 octets each.
const BACKLOG_EVENTS: usize = 16_384;

/// Enough to see a peer that lost sync within a second; too few to be of use to an attacker.
const UNKNOWN_SPI_EVENTS: u32 = 10;

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::time::Duration;

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
        let mut sink = EventSink::new(sender, counters.clone());
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
        let mut sink = EventSink::new(sender, counters.clone());
        for spi in 0..BACKLOG_EVENTS as u32 + 11 {
            sink.send(soft(spi));
        }
        assert_eq!(sink.backlog.len(), BACKLOG_EVENTS);
        assert!(crate::counters::total([&*counters]).contains(&("event_lost", 10)));
    }

    #[test]
    fn unknown_spis_are_reported_now_and_then() {
        let (sender, mut receiver) = mpsc::channel(100);
        let mut sink = EventSink::new(sender, Arc::new(Counters::new()));
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
}
