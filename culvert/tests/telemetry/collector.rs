//! A collector of OTLP, of the real messages, that does what a test wants of it.

use std::net::SocketAddr;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::logs_service_server::{LogsService, LogsServiceServer};
use opentelemetry_proto::tonic::collector::logs::v1::{ExportLogsServiceRequest, ExportLogsServiceResponse};
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_server::{
    MetricsService, MetricsServiceServer,
};
use opentelemetry_proto::tonic::collector::metrics::v1::{
    ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tonic::transport::server::TcpIncoming;
use tonic::{Request, Response, Status};

/// What it does with what it is sent.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Mood {
    Takes,
    /// Never answers.
    Stalls,
    /// Says that it has no room, which may pass.
    Busy,
    /// Refuses for good.
    Refuses,
}

/// What has arrived. Cheap to clone.
#[derive(Clone)]
pub(crate) struct Inbox {
    mood: Arc<Mutex<Mood>>,
    spans: Arc<Mutex<Vec<Span>>>,
    metrics: Arc<Mutex<Vec<Metric>>>,
    logs: Arc<Mutex<Vec<(Resource, LogRecord)>>>,
    headers: Arc<Mutex<Option<String>>>,
}

/// A running one.
pub(crate) struct Collector {
    pub(crate) address: SocketAddr,
    pub(crate) inbox: Inbox,
    server: JoinHandle<()>,
}

impl Collector {
    pub(crate) async fn start() -> Self {
        let inbox = Inbox {
            mood: Arc::new(Mutex::new(Mood::Takes)),
            spans: Arc::default(),
            metrics: Arc::default(),
            logs: Arc::default(),
            headers: Arc::default(),
        };
        Self::again("127.0.0.1:0".parse().unwrap(), inbox).await
    }

    /// At an address where there was one before.
    pub(crate) async fn again(address: SocketAddr, inbox: Inbox) -> Self {
        let listener = TcpListener::bind(address).await.unwrap();
        let address = listener.local_addr().unwrap();
        let serve = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(inbox.clone()))
            .add_service(MetricsServiceServer::new(inbox.clone()))
            .add_service(LogsServiceServer::new(inbox.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        let server = tokio::spawn(async move {
            let _ = serve.await;
        });
        Self { address, inbox, server }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends at once, with its connections.
    pub(crate) async fn kill(self) -> (SocketAddr, Inbox) {
        self.server.abort();
        let _ = self.server.await;
        (self.address, self.inbox)
    }
}

impl Inbox {
    pub(crate) fn be(&self, mood: Mood) {
        *self.mood.lock().unwrap() = mood;
    }

    pub(crate) fn spans(&self) -> Vec<Span> {
        self.spans.lock().unwrap().clone()
    }

    pub(crate) fn metrics(&self) -> Vec<Metric> {
        self.metrics.lock().unwrap().clone()
    }

    /// Each with what it is about.
    pub(crate) fn logs(&self) -> Vec<(Resource, LogRecord)> {
        self.logs.lock().unwrap().clone()
    }

    pub(crate) fn authorization(&self) -> Option<String> {
        self.headers.lock().unwrap().clone()
    }

    /// The spans once there are such as are waited for.
    pub(crate) async fn spans_when(&self, enough: impl Fn(&[Span]) -> bool) -> Vec<Span> {
        loop {
            let spans = self.spans();
            if enough(&spans) {
                return spans;
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }

    async fn answer(&self) -> Result<(), Status> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Takes => Ok(()),
            Mood::Stalls => std::future::pending().await,
            Mood::Busy => Err(Status::unavailable("no room")),
            Mood::Refuses => Err(Status::invalid_argument("nonsense")),
        }
    }
}

#[tonic::async_trait]
impl TraceService for Inbox {
    async fn export(
        &self,
        request: Request<ExportTraceServiceRequest>,
    ) -> Result<Response<ExportTraceServiceResponse>, Status> {
        self.answer().await?;
        let header = request.metadata().get("authorization").map(|value| value.to_str().unwrap().to_owned());
        *self.headers.lock().unwrap() = header;
        let scopes = request.into_inner().resource_spans.into_iter().flat_map(|all| all.scope_spans);
        self.spans.lock().unwrap().extend(scopes.flat_map(|scope| scope.spans));
        Ok(Response::new(ExportTraceServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl MetricsService for Inbox {
    async fn export(
        &self,
        request: Request<ExportMetricsServiceRequest>,
    ) -> Result<Response<ExportMetricsServiceResponse>, Status> {
        self.answer().await?;
        let scopes = request.into_inner().resource_metrics.into_iter().flat_map(|all| all.scope_metrics);
        self.metrics.lock().unwrap().extend(scopes.flat_map(|scope| scope.metrics));
        Ok(Response::new(ExportMetricsServiceResponse::default()))
    }
}

#[tonic::async_trait]
impl LogsService for Inbox {
    async fn export(
        &self,
        request: Request<ExportLogsServiceRequest>,
    ) -> Result<Response<ExportLogsServiceResponse>, Status> {
        self.answer().await?;
        for all in request.into_inner().resource_logs {
            let resource = all.resource.unwrap();
            let records = all.scope_logs.into_iter().flat_map(|scope| scope.log_records);
            self.logs.lock().unwrap().extend(records.map(|record| (resource.clone(), record)));
        }
        Ok(Response::new(ExportLogsServiceResponse::default()))
    }
}

/// The text of an attribute.
pub(crate) fn text(attributes: &[KeyValue], name: &str) -> Option<String> {
    let value = attributes.iter().find(|attribute| attribute.key == name)?.value.as_ref()?.value.as_ref()?;
    Some(match value {
        any_value::Value::StringValue(text) => text.clone(),
        any_value::Value::BoolValue(flag) => flag.to_string(),
        any_value::Value::IntValue(number) => number.to_string(),
        other => format!("{other:?}"),
    })
}
