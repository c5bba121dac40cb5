//! What the exporter has done and what it had to let go, for the metrics.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

use actors::Queue;

/// What is exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Signal {
    /// Spans.
    Traces,
    /// All metrics at one moment.
    Metrics,
    /// Records of logs.
    Logs,
}

/// Why something was not exported.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Lost {
    /// As many wait as may.
    QueueFull,
    /// The collector did not take it: it is away, slow, or refuses.
    Failed,
    /// The collector has taken the request and thrown this away.
    Rejected,
}

const SIGNALS: [Signal; 3] = [Signal::Traces, Signal::Metrics, Signal::Logs];
const LOSSES: [Lost; 3] = [Lost::QueueFull, Lost::Failed, Lost::Rejected];

impl Signal {
    /// In a word.
    pub(crate) const fn name(self) -> &'static str {
        match self {
            Self::Traces => "traces",
            Self::Metrics => "metrics",
            Self::Logs => "logs",
        }
    }

    /// What of it waits to be sent.
    const fn queue(self) -> &'static str {
        match self {
            Self::Traces => "otlp_spans",
            // Made when they are sent.
            Self::Metrics => "otlp_metrics",
            Self::Logs => "otlp_logs",
        }
    }
}

impl Lost {
    const fn name(self) -> &'static str {
        match self {
            Self::QueueFull => "queue_full",
            Self::Failed => "failed",
            Self::Rejected => "rejected",
        }
    }
}

#[derive(Debug, Default)]
struct OfSignal {
    exported: AtomicU64,
    lost: [AtomicU64; LOSSES.len()],
    /// 0 before the first export, 1 after one that failed, 2 after one that was taken.
    up: AtomicU8,
    /// How many wait, and may; the latter is 0 where nothing does.
    waiting: AtomicU64,
    limit: AtomicU64,
}

#[derive(Debug, Default)]
struct Inner {
    signals: [OfSignal; SIGNALS.len()],
}

/// Cheap to clone.
#[derive(Clone, Debug, Default)]
pub struct Exports(Arc<Inner>);

/// What was read of them. Without an exporter there is nothing.
#[derive(Clone, Debug, Default)]
pub struct ExportFigures {
    /// By signal.
    pub exported: Vec<(&'static str, u64)>,
    /// By signal and reason.
    pub dropped: Vec<(&'static str, &'static str, u64)>,
    /// By signal, once something was exported.
    pub up: Vec<(&'static str, bool)>,
    /// What waits.
    pub queues: Vec<Queue>,
}

impl Exports {
    fn of(&self, signal: Signal) -> Option<&OfSignal> {
        self.0.signals.get(signal as usize)
    }

    /// The collector has taken so many. Whether it had not taken the last ones.
    pub(crate) fn taken(&self, signal: Signal, count: u64) -> bool {
        self.of(signal).is_some_and(|of| {
            of.exported.fetch_add(count, Ordering::Relaxed);
            of.up.swap(2, Ordering::Relaxed) == 1
        })
    }

    /// So many were let go.
    pub(crate) fn lost(&self, signal: Signal, why: Lost, count: u64) {
        if let Some(cell) = self.of(signal).and_then(|of| of.lost.get(why as usize)) {
            cell.fetch_add(count, Ordering::Relaxed);
        }
    }

    /// The collector does not take what it is sent, of which so many are let go. Whether that is news.
    pub(crate) fn failed(&self, signal: Signal, count: u64) -> bool {
        self.lost(signal, Lost::Failed, count);
        self.of(signal).is_some_and(|of| of.up.swap(1, Ordering::Relaxed) != 1)
    }

    /// So many wait.
    pub(crate) fn waiting(&self, signal: Signal, count: usize, limit: usize) {
        if let Some(of) = self.of(signal) {
            of.waiting.store(count as u64, Ordering::Relaxed);
            of.limit.store(limit as u64, Ordering::Relaxed);
        }
    }

    /// What there is to say of them.
    pub fn read(&self) -> ExportFigures {
        let mut figures = ExportFigures::default();
        for (signal, of) in SIGNALS.iter().zip(&self.0.signals) {
            let limit = of.limit.load(Ordering::Relaxed);
            if limit > 0 {
                let depth = of.waiting.load(Ordering::Relaxed);
                figures.queues.push(Queue { name: signal.queue(), depth, limit });
            }
            figures.exported.push((signal.name(), of.exported.load(Ordering::Relaxed)));
            for (why, cell) in LOSSES.iter().zip(&of.lost) {
                figures.dropped.push((signal.name(), why.name(), cell.load(Ordering::Relaxed)));
            }
            match of.up.load(Ordering::Relaxed) {
                0 => {}
                up => figures.up.push((signal.name(), up == 2)),
            }
        }
        figures
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_collector_that_goes_and_comes_is_news_once_each() {
        let exports = Exports::default();
        assert!(!exports.taken(Signal::Logs, 1), "nobody had missed it");
        assert!(exports.failed(Signal::Logs, 0) && !exports.failed(Signal::Logs, 2));
        assert!(exports.failed(Signal::Traces, 0), "each for itself");
        exports.lost(Signal::Logs, Lost::QueueFull, 1);
        assert!(exports.taken(Signal::Logs, 1) && !exports.taken(Signal::Logs, 1));
        assert!(exports.read().dropped.contains(&("logs", "failed", 2)));
    }
}
