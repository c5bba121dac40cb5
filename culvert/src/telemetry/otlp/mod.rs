//! Export over OTLP: spans and records of logs as they come, metrics at intervals.
//!
//! A collector that is away, slow, stands still or answers nonsense costs what is sent to it and nothing else: nobody waits for
//! it but the tasks here, what waits for it is bounded, and what finds no room is counted (`exports.rs`).
//!
//! * `queue.rs` is where spans and records wait, `sender.rs` sends them.
//! * `traces.rs` has spans, `logs.rs` entries of the audit log and lines about tunnels.
//! * `metrics.rs` sends metrics.
//! * `collector.rs` is the connection, `values.rs` how values are written.

mod collector;
mod logs;
mod metrics;
mod queue;
mod sender;
mod traces;
mod values;

use std::sync::Arc;
use std::time::Duration;

use actors::Span;
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::config::OtlpConfig;
use crate::telemetry::exports::Exports;
use crate::telemetry::metrics::Source;
use collector::Collector;
pub use collector::CollectorError;
pub(crate) use collector::check_files;
pub use logs::LogQueue;
use logs::Logs;
use queue::Waiting;
pub use traces::SpanQueue;
use traces::Traces;

/// What is under way when the node goes down gets this long: an answer of a collector that is well takes milliseconds.
const FAREWELL: Duration = Duration::from_secs(2);

/// Who says it.
fn scope() -> InstrumentationScope {
    let version = env!("CARGO_PKG_VERSION").to_owned();
    InstrumentationScope { name: "culvert".to_owned(), version, ..InstrumentationScope::default() }
}

/// The exporter before the node runs: spans and records may be given to it.
pub struct Exporter {
    collector: Collector,
    config: OtlpConfig,
    exports: Exports,
    spans: Option<(Arc<SpanQueue>, Waiting<Span>)>,
    logs: Option<(Arc<LogQueue>, Waiting<LogRecord>)>,
}

/// The exporter at work. Ends when it is told to.
pub struct Exporting {
    stop: watch::Sender<bool>,
    tasks: Vec<JoinHandle<()>>,
}

impl Exporter {
    /// As configured; `None` without an endpoint. Nothing is sent yet, and whether the collector is there does not matter.
    ///
    /// # Errors
    /// When a file that it names cannot be used.
    pub fn new(config: &OtlpConfig, exports: Exports) -> Result<Option<Self>, CollectorError> {
        let Some(endpoint) = &config.endpoint else { return Ok(None) };
        let collector = Collector::new(endpoint, config)?;
        let spans = config.traces.then(|| SpanQueue::new(config.sample_ratio, exports.clone()));
        let logs = config.logs.then(|| LogQueue::new(exports.clone()));
        Ok(Some(Self { collector, config: config.clone(), exports, spans, logs }))
    }

    /// Where spans go, if they are exported.
    pub fn spans(&self) -> Option<Arc<SpanQueue>> {
        self.spans.as_ref().map(|(queue, _)| Arc::clone(queue))
    }

    /// Where entries of the audit log go and lines about tunnels, if they are exported.
    pub fn logs(&self) -> Option<Arc<LogQueue>> {
        self.logs.as_ref().map(|(queue, _)| Arc::clone(queue))
    }

    /// Starts to send, metrics of this source among it.
    pub fn start(self, source: Arc<Source>) -> Exporting {
        let (stop, stopped) = watch::channel(false);
        let mut tasks = Vec::new();
        if let Some((_, waiting)) = self.spans {
            let (collector, exports) = (self.collector.clone(), self.exports.clone());
            let traces = Traces::at(&collector);
            tasks.push(tokio::spawn(sender::run(collector, traces, waiting, exports, stopped.clone())));
        }
        if let Some((_, waiting)) = self.logs {
            let (collector, exports) = (self.collector.clone(), self.exports.clone());
            let logs = Logs::at(&collector);
            tasks.push(tokio::spawn(sender::run(collector, logs, waiting, exports, stopped.clone())));
        }
        if self.config.metrics {
            let interval = self.config.interval;
            tasks.push(tokio::spawn(metrics::run(self.collector, source, self.exports, interval, stopped)));
        }
        Exporting { stop, tasks }
    }
}

impl Exporting {
    /// Sends what waits, if the collector takes it soon, and ends.
    pub async fn stop(self) {
        // Those that have ended need not be told.
        let _ = self.stop.send(true);
        let all = async {
            for task in self.tasks {
                // One that has panicked has said so.
                let _ = task.await;
            }
        };
        if tokio::time::timeout(FAREWELL, all).await.is_err() {
            tracing::warn!("otlp: the collector did not take the last of it in time");
        }
    }
}
