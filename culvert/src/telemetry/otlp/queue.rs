//! Where spans wait to be sent. Putting one there is a few stores to memory, whatever becomes of the collector.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};

use actors::{Span, SpanSink};
use tokio::sync::mpsc;

use crate::telemetry::exports::{Exports, Lost, Signal};

/// Spans that wait at most: a restart of some thousand peers, each of which makes three, in about 12 MB.
pub(super) const MAX_SPANS: usize = 8_192;

/// Takes spans of traces that have ended.
#[derive(Debug)]
pub struct SpanQueue {
    /// Traces whose number is below it are sampled.
    below: u64,
    waiting: Arc<AtomicUsize>,
    to: mpsc::UnboundedSender<Vec<Span>>,
    exports: Exports,
}

/// The other end.
pub(super) struct Waiting {
    pub(super) from: mpsc::UnboundedReceiver<Vec<Span>>,
    waiting: Arc<AtomicUsize>,
    exports: Exports,
}

impl SpanQueue {
    /// One that samples so many of all traces.
    pub(super) fn new(ratio: f64, exports: Exports) -> (Arc<Self>, Waiting) {
        // Bounded by the number of spans, which the channel does not know.
        let (to, from) = mpsc::unbounded_channel();
        let waiting = Arc::<AtomicUsize>::default();
        exports.waiting(0, MAX_SPANS);
        let queue = Self { below: threshold(ratio), waiting: waiting.clone(), to, exports: exports.clone() };
        (Arc::new(queue), Waiting { from, waiting, exports })
    }
}

/// The part of the numbers that a share of them is below.
fn threshold(ratio: f64) -> u64 {
    // The conversion saturates, and a ratio is 0 to 1.
    #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss, clippy::cast_precision_loss)]
    let below = (ratio * u64::MAX as f64) as u64;
    below
}

impl SpanSink for SpanQueue {
    /// By the trace's own number, so that all who see it come to the same.
    fn samples(&self, trace: u128) -> bool {
        let low = u64::try_from(trace & u128::from(u64::MAX)).unwrap_or(u64::MAX);
        low < self.below || self.below == u64::MAX
    }

    fn take(&self, spans: Vec<Span>) {
        let count = spans.len();
        let before = self.waiting.fetch_add(count, Ordering::Relaxed);
        if before + count > MAX_SPANS || self.to.send(spans).is_err() {
            self.waiting.fetch_sub(count, Ordering::Relaxed);
            self.exports.lost(Signal::Traces, Lost::QueueFull, count as u64);
        } else {
            self.exports.waiting(before + count, MAX_SPANS);
        }
    }
}

impl Waiting {
    /// These have left the queue.
    pub(super) fn taken(&self, spans: &[Span]) {
        let before = self.waiting.fetch_sub(spans.len(), Ordering::Relaxed);
        self.exports.waiting(before.saturating_sub(spans.len()), MAX_SPANS);
    }
}

#[cfg(test)]
mod tests {
    use actors::{SpanContext, SpanKind};

    use super::*;

    #[test]
    fn what_finds_no_room_is_counted_and_no_more_is_held() {
        let exports = Exports::default();
        let (queue, mut waiting) = SpanQueue::new(1.0, exports.clone());
        let span = || Span::begin(SpanContext::root(), None, "x", SpanKind::Internal);
        for _ in 0..MAX_SPANS {
            queue.take(vec![span(), span()]);
        }
        let figures = exports.read();
        assert_eq!(figures.queues[0].depth, MAX_SPANS as u64);
        assert!(figures.dropped.contains(&("traces", "queue_full", MAX_SPANS as u64)), "{figures:?}");
        let mut held = 0;
        while let Ok(spans) = waiting.from.try_recv() {
            waiting.taken(&spans);
            held += spans.len();
        }
        assert_eq!(held, MAX_SPANS);
        assert_eq!(exports.read().queues[0].depth, 0);
        queue.take(vec![span()]);
        assert_eq!(waiting.from.try_recv().unwrap().len(), 1);
    }

    #[test]
    fn a_ratio_samples_its_share_and_the_same_trace_always() {
        for (ratio, least, most) in [(0.0, 0, 0), (0.25, 2_000, 3_000), (1.0, 10_000, 10_000)] {
            let (queue, _waiting) = SpanQueue::new(ratio, Exports::default());
            let traces =
                || (1..=10_000u128).map(|n| n.wrapping_mul(0x9e37_79b9_7f4a_7c15_f39c_c060_5ced_c835));
            let sampled = traces().filter(|trace| queue.samples(*trace)).count();
            assert!((least..=most).contains(&sampled), "{ratio}: {sampled}");
            assert!(traces().all(|trace| queue.samples(trace) == queue.samples(trace)));
        }
    }
}
