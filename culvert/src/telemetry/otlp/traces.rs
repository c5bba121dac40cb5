//! Spans: which are sent, and how they are written.

use std::sync::Arc;

use actors::{Span, SpanContext, SpanKind, SpanSink};
use opentelemetry_proto::tonic::collector::trace::v1::ExportTraceServiceRequest;
use opentelemetry_proto::tonic::collector::trace::v1::trace_service_client::TraceServiceClient;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_proto::tonic::trace::v1 as otlp;
use otlp::span::{Event, Link, SpanKind as Kind};
use otlp::status::StatusCode;
use tonic::transport::Channel;
use tonic::{Request, Status};

use super::collector::Collector;
use super::queue::{Queue, Waiting, queue};
use super::sender::Service;
use super::values::{attribute, nanos};
use crate::telemetry::exports::{Exports, Signal};

/// Spans that wait at most: a restart of some thousand peers, each of which makes three, in about 12 MB.
pub(super) const MAX_SPANS: usize = 8_192;

/// Spans of one request: some 300 KB.
const BATCH: usize = 512;

/// Takes spans of traces that have ended.
#[derive(Debug)]
pub struct SpanQueue {
    /// Traces whose number is below it are sampled.
    below: u64,
    queue: Queue<Span>,
}

impl SpanQueue {
    /// One that samples so many of all traces.
    pub(super) fn new(ratio: f64, exports: Exports) -> (Arc<Self>, Waiting<Span>) {
        let (queue, waiting) = queue(Signal::Traces, MAX_SPANS, exports);
        (Arc::new(Self { below: threshold(ratio), queue }), waiting)
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
        self.queue.put(spans);
    }
}

/// The service of a collector that takes spans.
pub(super) struct Traces(TraceServiceClient<Channel>);

impl Traces {
    pub(super) fn at(collector: &Collector) -> Self {
        Self(TraceServiceClient::new(collector.channel.clone()))
    }
}

impl Service for Traces {
    const SIGNAL: Signal = Signal::Traces;
    const BATCH: usize = BATCH;
    type Item = Span;
    type Message = ExportTraceServiceRequest;

    fn message(resource: Resource, items: Vec<Span>) -> Self::Message {
        let spans = items.into_iter().map(span).collect();
        let scope = otlp::ScopeSpans { scope: Some(super::scope()), spans, ..otlp::ScopeSpans::default() };
        let all = otlp::ResourceSpans {
            resource: Some(resource),
            scope_spans: vec![scope],
            ..otlp::ResourceSpans::default()
        };
        ExportTraceServiceRequest { resource_spans: vec![all] }
    }

    async fn export(&mut self, request: Request<Self::Message>) -> Result<i64, Status> {
        let answer = self.0.export(request).await?.into_inner();
        Ok(answer.partial_success.map_or(0, |partial| partial.rejected_spans))
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
        attributes: event.attributes.settle().into_iter().map(attribute).collect(),
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
        attributes: span.attributes.settle().into_iter().map(attribute).collect(),
        events: span.events.into_iter().map(event).collect(),
        dropped_events_count: span.events_dropped,
        links: span.links.into_iter().map(link).collect(),
        status,
        ..otlp::Span::default()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

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
