//! Where the peer of a pair sends from, as far as the control plane is told.

use std::net::SocketAddr;
use std::time::{Duration, Instant};

use esp::Spi;

use crate::allowance::Allowance;
use crate::events::{self, EventSink};

/// What is told of the peer's moves.
pub(super) struct Moves {
    /// How often something is.
    allowance: Allowance,
    /// The last address that was told as new, and when.
    told: Option<(SocketAddr, Instant)>,
}

impl Moves {
    /// Between two times that one address is told while it is not followed: whoever was told may have been on its way to another
    /// node, or may have asked the peer in vain.
    const AGAIN: Duration = Duration::from_secs(10);

    pub(super) const fn new() -> Self {
        Self { allowance: events::moves(), told: None }
    }

    /// The peer sends from where we send to, or from anywhere as far as is known.
    pub(super) fn settle(&mut self) {
        self.told = None;
    }

    /// The newest packet came from elsewhere. Told at once, and again while that goes on; not as told counts what was lost.
    pub(super) fn note_elsewhere(
        &mut self,
        now: Instant,
        spi: Spi,
        from: SocketAddr,
        events: &mut EventSink,
    ) {
        let known = self
            .told
            .is_some_and(|(told, at)| told == from && now.saturating_duration_since(at) < Self::AGAIN);
        if !known && events.moved(now, &mut self.allowance, spi, from) {
            self.told = Some((from, now));
        }
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
mod tests {
    use std::sync::Arc;

    use tokio::sync::mpsc;

    use super::*;
    use crate::counters::Counters;
    use crate::model::RouterEvent;

    const SPI: Spi = Spi(7);

    fn sink(sender: mpsc::Sender<RouterEvent>) -> EventSink {
        EventSink::new(sender, events::unknown_spi_events(), Arc::new(Counters::new()))
    }

    fn address(port: u16) -> SocketAddr {
        SocketAddr::from(([192, 0, 2, 1], port))
    }

    fn told(receiver: &mut mpsc::Receiver<RouterEvent>) -> Vec<u16> {
        let events = std::iter::from_fn(|| receiver.try_recv().ok());
        let ports = events.filter_map(|event| match event {
            RouterEvent::RemoteMoved { remote, .. } => Some(remote.port()),
            _ => None,
        });
        ports.collect()
    }

    #[test]
    fn a_move_is_told_again_until_it_is_followed() {
        let (sender, mut receiver) = mpsc::channel(100);
        let (mut events, mut moves, start) = (sink(sender), Moves::new(), Instant::now());
        for second in 0..25 {
            moves.note_elsewhere(start + Duration::from_secs(second), SPI, address(1), &mut events);
        }
        assert_eq!(told(&mut receiver), [1, 1, 1], "at once, and every ten seconds");
        let later = start + Duration::from_secs(26);
        moves.note_elsewhere(later, SPI, address(2), &mut events);
        moves.settle();
        let later = later + Duration::from_secs(1);
        moves.note_elsewhere(later, SPI, address(2), &mut events);
        assert_eq!(told(&mut receiver), [2, 2], "another address, and the same one anew");
    }

    #[test]
    fn a_move_that_nobody_hears_of_counts_as_not_told() {
        let (sender, mut receiver) = mpsc::channel(1);
        let (mut events, mut moves, start) = (sink(sender), Moves::new(), Instant::now());
        while events.send(RouterEvent::FirstInbound { spi: SPI }) {}
        moves.note_elsewhere(start, SPI, address(1), &mut events);
        // Room again.
        while receiver.try_recv().is_ok() {
            events.flush();
        }
        moves.note_elsewhere(start + Duration::from_secs(1), SPI, address(1), &mut events);
        assert_eq!(told(&mut receiver), [1]);
    }
}
