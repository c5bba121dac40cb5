//! Sends spans.

use std::time::Duration;

use actors::{Span, SpanContext, SpanKind};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use otlp::span::{Event, Link, SpanKind as Kind};
use otlp::status::StatusCode;
use tokio::sync::watch;

use super::collector::{Collector, may_pass};
use super::queue::Waiting;
use super::values::{attribute, nanos};
use crate::telemetry::exports::{Exports, Lost, Signal};

/// Spans of one request: some 300 KB, far below the 4 MiB that collectors take.
const BATCH: usize = 512;
/// How long a request that is not full waits for more.
const LINGER: Duration = Duration::from_millis(500);
/// How often what was not taken is sent in all, each time after twice as long: for half a minute.
const TRIES: u32 = 6;
/// The first wait.
const FIRST_WAIT: Duration = Duration::from_millis(500);

/// Sends what comes until it is told to stop, then what is left.
pub(super) async fn run(
    collector: Collector,
    mut waiting: Waiting,
    exports: Exports,
    mut stop: watch::Receiver<bool>,
) {
    let mut client = TraceServiceClient::new(collector.channel.clone());
    loop {
        let first = tokio::select! {
            first = waiting.from.recv() => first,
            _ = stop.wait_for(|stop| *stop) => waiting.from.try_recv().ok(),
        };
        let Some(mut batch) = first else { return };
        waiting.taken(&batch);
        let linger = tokio::time::sleep(LINGER);
        tokio::pin!(linger);
        while batch.len() < BATCH {
            let more = tokio::select! {
                more = waiting.from.recv() => more,
                () = &mut linger => None,
                _ = stop.wait_for(|stop| *stop) => waiting.from.try_recv().ok(),
            };
            let Some(more) = more else { break };
            waiting.taken(&more);
            batch.extend(more);
        }
        send(&collector, &mut client, batch, &exports, &mut stop).await;
    }
}

/// Sends these, again if need be. What is not taken in the end is gone, and counted.
async fn send(
    collector: &Collector,
    client: &mut TraceServiceClient<tonic::transport::Channel>,
    batch: Vec<Span>,
    exports: &Exports,
    stop: &mut watch::Receiver<bool>,
) {
    let count = batch.len() as u64;
    let spans = batch.into_iter().map(span).collect();
    let scope = otlp::ScopeSpans { scope: Some(super::scope()), spans, ..otlp::ScopeSpans::default() };
    let all = otlp::ResourceSpans {
        resource: Some(collector.resource()),
        scope_spans: vec![scope],
        ..otlp::ResourceSpans::default()
    };
    let message = ExportTraceServiceRequest { resource_spans: vec![all] };
    let mut wait = FIRST_WAIT;
    for attempt in 1..=TRIES {
        let call = client.export(collector.request(message.clone()));
        match collector.answer(call).await {
            Ok(answer) => {
                let rejected =
                    answer.into_inner().partial_success.map_or(0, |partial| partial.rejected_spans);
                // A collector may say anything.
                let rejected = u64::try_from(rejected).unwrap_or(0).min(count);
                exports.taken(Signal::Traces, count - rejected);
                exports.lost(Signal::Traces, Lost::Rejected, rejected);
                return;
            }
            Err(status) if may_pass(status.code()) && attempt < TRIES && !*stop.borrow() => {
                tracing::debug!(code = ?status.code(), attempt, "otlp: the collector does not take spans; again later");
                exports.lost(Signal::Traces, Lost::Failed, 0);
                tokio::select! {
                    () = tokio::time::sleep(wait) => {}
                    _ = stop.wait_for(|stop| *stop) => {}
                }
                wait *= 2;
            }
            Err(status) => {
                tracing::warn!(code = ?status.code(), spans = count, "otlp: the collector did not take spans");
                return exports.lost(Signal::Traces, Lost::Failed, count);
            }
        }
    }
}

fn ids(context: SpanContext) -> (Vec<u8>, Vec<u8>) {
    (context.trace.to_be_bytes().to_vec(), context.span.to_be_bytes().to_vec())
}

/// The flags of W3C Trace Context.
const fn flags(context: SpanContext) -> u32 {
    context.sampled as u32
}

fn span(span: Span) -> otlp::Span {
    let (trace_id, span_id) = ids(span.context);
    let link = |context: SpanContext| {
        let (trace_id, span_id) = ids(context);
        Link { trace_id, span_id, flags: flags(context), ..Link::default() }
    };
    let event = |event: actors::SpanEvent| Event {
        time_unix_nano: nanos(event.time),
        name: event.name.to_owned(),
        attributes: event.attributes.into_iter().map(attribute).collect(),
        ..Event::default()
    };
    let kind = match span.kind {
        SpanKind::Internal => Kind::Internal,
        SpanKind::Client => Kind::Client,
        SpanKind::Server => Kind::Server,
    };
    let status = span.error.map(|message| otlp::Status { message, code: StatusCode::Error.into() });
    otlp::Span {
        trace_id,
        span_id,
        parent_span_id: span.parent.map(|parent| parent.to_be_bytes().to_vec()).unwrap_or_default(),
        flags: flags(span.context),
        name: span.name.into_owned(),
        kind: kind.into(),
        start_time_unix_nano: nanos(span.start),
        // A clock that was set back must not make it end before it began.
        end_time_unix_nano: nanos(span.end.max(span.start)),
        attributes: span.attributes.into_iter().map(attribute).collect(),
        events: span.events.into_iter().map(event).collect(),
        dropped_events_count: span.events_dropped,
        links: span.links.into_iter().map(link).collect(),
        status,
        ..otlp::Span::default()
    }
}
