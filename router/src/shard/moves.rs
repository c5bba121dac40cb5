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
    /// The last address that was told as new, when, and for how long it is not told again.
    told: Option<(SocketAddr, Instant, Duration)>,
}

impl Moves {
    /// Between the first two times that one address is told while it is not followed, and twice as long each time after: whoever was told may have
    /// been on its way to another node, or may have asked the peer in vain. A peer may as well send from elsewhere for good.
    const AGAIN: Duration = Duration::from_secs(10);
    /// At most.
    const LONGEST: Duration = Duration::from_secs(600);

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
        let pause = match self.told {
            Some((told, at, pause)) if told == from => {
                if now.saturating_duration_since(at) < pause {
                    return;
                }
                (pause * 2).min(Self::LONGEST)
            }
            _ => Self::AGAIN,
        };
        if events.moved(now, &mut self.allowance, spi, from) {
            self.told = Some((from, now, pause));
        }
    }
}

#[cfg(test)]
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
        let mut seconds = Vec::new();
        for second in 0..3_600 {
            moves.note_elsewhere(start + Duration::from_secs(second), SPI, address(1), &mut events);
            seconds.extend(told(&mut receiver).iter().map(|_| second));
        }
        assert_eq!(seconds, [0, 10, 30, 70, 150, 310, 630, 1_230, 1_830, 2_430, 3_030]);
        let later = start + Duration::from_secs(3_601);
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
