//! All of it together, for whoever runs a node: the listener from the first moment on, the rest once the node runs.

use std::io;
use std::net::SocketAddr;
use std::sync::Arc;

use actors::{Node, SpanSink};
use tenants::Catalog;
use tokio::task::JoinHandle;

use super::exports::Exports;
use super::http::{self, Served};
use super::metrics::{Bounds, Others, Source};
use super::otlp::{CollectorError, Exporter, Exporting, LogQueue};
use super::probes::{InTheWay, Probes};
use super::rpc::Traced;
use crate::config::{MetricsConfig, OtlpConfig};

/// Why it cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum TelemetryError {
    /// The address cannot be listened on.
    #[error(transparent)]
    Listen(#[from] io::Error),
    /// The exporter cannot be made.
    #[error(transparent)]
    Export(#[from] CollectorError),
}

/// See the module. In this order: [`Self::start`] before the node, [`Self::spans`] into its configuration,
/// [`Self::node_runs`], and [`Self::stop`] after it.
pub struct Telemetry {
    probes: Probes,
    served: Served,
    bounds: Bounds,
    others: Others,
    exports: Exports,
    /// Where it is served, if it is.
    pub address: Option<SocketAddr>,
    listener: Option<JoinHandle<()>>,
    exporter: Option<Exporter>,
    exporting: Option<Exporting>,
    spans: Option<Arc<dyn SpanSink>>,
    logs: Option<Arc<LogQueue>>,
}

impl Telemetry {
    /// Listens, if configured, and makes the exporter.
    ///
    /// # Errors
    /// [`TelemetryError`].
    pub async fn start(metrics: &MetricsConfig, otlp: &OtlpConfig) -> Result<Self, TelemetryError> {
        let (probes, exports) = (Probes::default(), Exports::default());
        let served = Served::new(probes.clone());
        let exporter = Exporter::new(otlp, exports.clone())?;
        let spans = exporter.as_ref().and_then(Exporter::spans).map(|spans| spans as Arc<dyn SpanSink>);
        let logs = exporter.as_ref().and_then(Exporter::logs);
        let (address, listener) = match metrics.listen {
            None => (None, None),
            Some(address) => {
                let listener = http::bind(address).await?;
                let address = listener.local_addr()?;
                (Some(address), Some(tokio::spawn(http::serve(listener, served.clone()))))
            }
        };
        let (bounds, others) = (metrics.into(), Others::default());
        let exporting = None;
        Ok(Self {
            probes,
            served,
            bounds,
            others,
            exports,
            address,
            listener,
            exporter,
            exporting,
            spans,
            logs,
        })
    }

    /// Where spans go, if anywhere.
    pub fn spans(&self) -> Option<Arc<dyn SpanSink>> {
        self.spans.clone()
    }

    /// Where entries of the audit log and lines about tunnels go, if anywhere.
    pub fn logs(&self) -> Option<Arc<LogQueue>> {
        self.logs.clone()
    }

    /// The layer for requests.
    pub fn traced(&self) -> Traced {
        Traced::new(self.spans())
    }

    /// Where others say what there is to ask of them.
    pub fn others(&self) -> Others {
        self.others.clone()
    }

    /// Whether the node is well, as it is told.
    pub fn probes(&self) -> Probes {
        self.probes.clone()
    }

    /// The node runs: there is something to tell. `in_the_way` is why it is not to be sent work, if it is not.
    pub async fn node_runs(
        &mut self,
        node: &Node,
        catalog: &Arc<Catalog>,
        shards: usize,
        in_the_way: InTheWay,
    ) {
        self.probes.started(node.health(), in_the_way);
        let told = (self.probes.clone(), self.bounds);
        let (others, exports) = (self.others.clone(), self.exports.clone());
        let source = Source::new(Arc::clone(catalog), node.control(), shards, told, others, exports);
        let source = Arc::new(source);
        self.served.started(Arc::clone(&source)).await;
        self.exporting = self.exporter.take().map(|exporter| exporter.start(source));
    }

    /// Sends what there still is, and ends.
    pub async fn stop(self) {
        if let Some(exporting) = self.exporting {
            exporting.stop().await;
        }
        if let Some(listener) = self.listener {
            listener.abort();
        }
    }
}
