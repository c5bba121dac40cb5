//! Sends what waits in a queue: many at a time, and again what a collector cannot take at the moment.

use std::time::Duration;

use latest::{Follow as _, Latest as _};
use opentelemetry_proto::tonic::resource::v1::Resource;
use tokio::sync::watch;
use tonic::{Request, Status};

use super::collector::{Collector, may_pass, words};
use super::queue::Waiting;
use crate::telemetry::exports::{Exports, Lost, Signal};

/// How long a request that is not full waits for more.
const LINGER: Duration = Duration::from_millis(500);
/// How often it looks for more meanwhile: what is waiting stays far from its bound at 10,000 negotiations a second.
const LOOKS: u32 = 10;
/// How often what was not taken is sent in all, each time after twice as long: for half a minute.
const TRIES: u32 = 6;
/// The first wait.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// A service of a collector that takes what comes by a queue.
pub(super) trait Service: Send {
    /// Under which it is counted.
    const SIGNAL: Signal;
    /// Items of one request, which stays far below the 4 MiB that collectors take.
    const BATCH: usize;
    /// What waits.
    type Item: Send;
    /// Many of them.
    type Message: Clone + Send;

    /// As it is sent.
    fn message(resource: Resource, items: Vec<Self::Item>) -> Self::Message;

    /// Sends it. How many the collector has thrown away, as it says.
    fn export(&mut self, request: Request<Self::Message>)
    -> impl Future<Output = Result<i64, Status>> + Send;
}

/// Sends what comes until it is told to stop, then what is left.
pub(super) async fn run<S: Service>(
    collector: Collector,
    mut service: S,
    mut waiting: Waiting<S::Item>,
    exports: Exports,
    mut stop: watch::Receiver<bool>,
) {
    loop {
        let first = tokio::select! {
            first = waiting.from.recv() => first,
            _ = stop.until(|stop| *stop) => waiting.from.try_recv().ok(),
        };
        let Some(mut batch) = first else { return };
        waiting.taken(&batch);
        // Looked for now and then, not waited for: whoever gives something would have to wake this task, each time anew.
        for look in 0..=LOOKS {
            while batch.len() < S::BATCH
                && let Ok(more) = waiting.from.try_recv()
            {
                waiting.taken(&more);
                batch.extend(more);
            }
            if batch.len() >= S::BATCH || look == LOOKS || stop.latest() {
                break;
            }
            tokio::select! {
                () = tokio::time::sleep(LINGER / LOOKS) => {}
                _ = stop.until(|stop| *stop) => {}
            }
        }
        send(&collector, &mut service, batch, &exports, &mut stop).await;
    }
}

/// Sends these, again if need be. What is not taken in the end is gone, and counted.
async fn send<S: Service>(
    collector: &Collector,
    service: &mut S,
    batch: Vec<S::Item>,
    exports: &Exports,
    stop: &mut watch::Receiver<bool>,
) {
    let (count, signal) = (batch.len() as u64, S::SIGNAL.name());
    let message = S::message(collector.resource(), batch);
    let mut wait = FIRST_WAIT;
    for attempt in 1..=TRIES {
        let call = service.export(collector.request(message.clone()));
        match collector.answer(call).await {
            Ok(rejected) => {
                // A collector may say anything.
                let rejected = u64::try_from(rejected).unwrap_or(0).min(count);
                if exports.taken(S::SIGNAL, count - rejected) {
                    tracing::info!(signal, "otlp: the collector takes them again");
                }
                exports.lost(S::SIGNAL, Lost::Rejected, rejected);
                return;
            }
            Err(status) if may_pass(status.code()) && attempt < TRIES && !stop.latest() => {
                if exports.failed(S::SIGNAL, 0) {
                    tracing::warn!(signal, reason = %words(&status), "otlp: the collector does not take them; again later");
                }
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.until(|stop| *stop) => {}
                }
                wait *= 2;
            }
            Err(status) => {
                exports.failed(S::SIGNAL, count);
                tracing::warn!(signal, count, reason = %words(&status), "otlp: not taken by the collector");
                return;
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;
    use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};

    use actors::{Span, SpanContext, SpanKind, SpanSink as _};
    use hyper_util::rt::TokioIo;
    use opentelemetry_proto::tonic::collector::trace::v1::trace_service_server::{
        TraceService, TraceServiceServer,
    };
    use opentelemetry_proto::tonic::collector::trace::v1::{
        ExportTraceServiceRequest, ExportTraceServiceResponse,
    };
    use tokio::io::DuplexStream;
    use tonic::{Request, Response, Status};

    use super::super::collector::endpoint;
    use super::super::traces::{MAX_SPANS, SpanQueue, Traces};
    use super::*;
    use crate::config::OtlpConfig;

    /// Counts the spans that it takes.
    #[derive(Clone, Default)]
    struct Taker(Arc<AtomicU64>);

    #[tonic::async_trait]
    impl TraceService for Taker {
        async fn export(
            &self,
            request: Request<ExportTraceServiceRequest>,
        ) -> Result<Response<ExportTraceServiceResponse>, Status> {
            let all = request.into_inner().resource_spans;
            let count: usize = all.iter().flat_map(|of| &of.scope_spans).map(|of| of.spans.len()).sum();
            self.0.fetch_add(count as u64, Ordering::Relaxed);
            Ok(Response::new(ExportTraceServiceResponse::default()))
        }
    }

    /// One that accepts connections, and stands still while it is told to.
    fn connect(stands: Arc<AtomicBool>, taker: Taker) -> tonic::transport::Channel {
        let accept = move |_: http::Uri| {
            let (ours, theirs): (DuplexStream, DuplexStream) = tokio::io::duplex(1 << 16);
            let taker = taker.clone();
            if stands.load(Ordering::Relaxed) {
                // Open, and never read.
                tokio::spawn(async move {
                    let _held = theirs;
                    std::future::pending::<()>().await;
                });
            } else {
                let incoming = tokio_stream::once(Ok::<_, std::io::Error>(theirs));
                let server = tonic::transport::Server::builder().add_service(TraceServiceServer::new(taker));
                tokio::spawn(
                    server.serve_with_incoming(tokio_stream::StreamExt::chain(
                        incoming,
                        tokio_stream::pending(),
                    )),
                );
            }
            async move { Ok::<_, std::io::Error>(TokioIo::new(ours)) }
        };
        endpoint("http://collector").unwrap().connect_with_connector_lazy(tower::service_fn(accept))
    }

    #[tokio::test(start_paused = true)]
    async fn a_collector_that_stands_still_for_an_hour_costs_what_it_was_sent_and_is_used_again() {
        let (stands, taker, exports) =
            (Arc::new(AtomicBool::new(true)), Taker::default(), Exports::default());
        let (queue, waiting) = SpanQueue::new(1.0, exports.clone());
        let channel = connect(Arc::clone(&stands), taker.clone());
        let collector = Collector::over(channel, &OtlpConfig::default());
        let (stop, stopped) = watch::channel(false);
        let task =
            tokio::spawn(run(collector.clone(), Traces::at(&collector), waiting, exports.clone(), stopped));
        let begun = tokio::time::Instant::now();
        let mut given = 0;
        while begun.elapsed() < Duration::from_secs(3600) {
            for _ in 0..10 {
                queue.take(vec![Span::begin(SpanContext::root(), None, "x", SpanKind::Internal)]);
            }
            given += 10;
            assert!(exports.read().queues[0].depth <= MAX_SPANS as u64);
            tokio::time::sleep(Duration::from_secs(1)).await;
        }
        assert_eq!(taker.0.load(Ordering::Relaxed), 0);
        let lost = |why: &str| {
            let dropped = exports.read().dropped;
            dropped.iter().find(|(signal, reason, _)| *signal == "traces" && *reason == why).unwrap().2
        };
        assert!(lost("queue_full") > 0 && lost("failed") > 0, "{:?}", exports.read());
        assert_eq!(exports.read().up, [("traces", false)]);
        // It goes on: what still waits is taken, and nothing is taken twice.
        stands.store(false, Ordering::Relaxed);
        tokio::time::sleep(Duration::from_secs(600)).await;
        let _ = stop.send(true);
        task.await.unwrap();
        let taken = taker.0.load(Ordering::Relaxed);
        assert!(taken >= MAX_SPANS as u64, "{taken}");
        assert_eq!(taken + lost("queue_full") + lost("failed"), given);
        assert_eq!(exports.read().up, [("traces", true)]);
    }
}
