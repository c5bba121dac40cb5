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
    ExportMetricsPartialSuccess, ExportMetricsServiceRequest, ExportMetricsServiceResponse,
};
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
    TraceService, TraceServiceServer,
};
use opentelemetry_proto::tonic::collector::trace::v1::{
    ExportTracePartialSuccess, ExportTraceServiceRequest, ExportTraceServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::{KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1::LogRecord;
use opentelemetry_proto::tonic::metrics::v1::Metric;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1::Span;
use tokio::net::TcpListener;
use tokio::runtime::Runtime;
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
    /// Takes what it is sent, and throws a part of it away.
    Discards,
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
    /// Of its own, for what it serves goes on by connections that nobody else ends.
    runtime: Option<Runtime>,
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
        let runtime =
            tokio::runtime::Builder::new_multi_thread().worker_threads(1).enable_all().build().unwrap();
        let listener = loop {
            // The one before may not have let go of it yet, and its number is of those that others are given.
            match runtime.spawn(TcpListener::bind(address)).await.unwrap() {
                Ok(listener) => break listener,
                Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::AddrInUse, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(10)).await;
        };
        let address = listener.local_addr().unwrap();
        let serve = tonic::transport::Server::builder()
            .add_service(TraceServiceServer::new(inbox.clone()))
            .add_service(MetricsServiceServer::new(inbox.clone()))
            .add_service(LogsServiceServer::new(inbox.clone()))
            .serve_with_incoming(TcpIncoming::from(listener));
        runtime.spawn(serve);
        Self { address, inbox, runtime: Some(runtime) }
    }

    pub(crate) fn endpoint(&self) -> String {
        format!("http://{}", self.address)
    }

    /// Ends at once, with its connections.
    pub(crate) fn kill(self) -> (SocketAddr, Inbox) {
        (self.address, self.inbox.clone())
    }
}

impl Drop for Collector {
    fn drop(&mut self) {
        if let Some(runtime) = self.runtime.take() {
            runtime.shutdown_background();
        }
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

    fn discards<T>(&self, partial: T) -> Option<T> {
        (*self.mood.lock().unwrap() == Mood::Discards).then_some(partial)
    }

    async fn answer(&self) -> Result<(), Status> {
        let mood = *self.mood.lock().unwrap();
        match mood {
            Mood::Takes | Mood::Discards => Ok(()),
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
        let partial = ExportTracePartialSuccess { rejected_spans: 1, ..Default::default() };
        Ok(Response::new(ExportTraceServiceResponse { partial_success: self.discards(partial) }))
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
        let partial = ExportMetricsPartialSuccess { rejected_data_points: 1, ..Default::default() };
        Ok(Response::new(ExportMetricsServiceResponse { partial_success: self.discards(partial) }))
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
