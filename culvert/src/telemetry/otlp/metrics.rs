//! Sends metrics: the same that Prometheus reads, read at the time.

use std::sync::Arc;
use std::time::{Duration, SystemTime};

use actors::Histogram;
use latest::Follow as _;
use opentelemetry_proto::tonic::collector::metrics::v1::ExportMetricsServiceRequest;
use opentelemetry_proto::tonic::collector::metrics::v1::metrics_service_client::MetricsServiceClient;
use opentelemetry_proto::tonic::metrics::v1 as otlp;
use otlp::metric::Data;
use otlp::number_data_point::Value;
use otlp::{AggregationTemporality, HistogramDataPoint, NumberDataPoint};
use tokio::sync::watch;
use tokio::time::MissedTickBehavior;

use super::collector::{Collector, words};
use super::values::{nanos, text};
use crate::telemetry::exports::{Exports, Lost, Signal};
use crate::telemetry::metrics::definition::{Definition, Kind};
use crate::telemetry::metrics::{Exit, Number, Source};

/// Series of one request: some 600 KB, far below the 4 MiB that collectors take.
const POINTS: usize = 4_096;

/// Sends at intervals until it is told to stop, and then once more.
pub(super) async fn run(
    collector: Collector,
    source: Arc<Source>,
    exports: Exports,
    interval: Duration,
    mut stop: watch::Receiver<bool>,
) {
    let mut client = MetricsServiceClient::new(collector.channel.clone());
    let mut due = tokio::time::interval(interval);
    // A collector that is slow gets fewer, and never two at a time.
    due.set_missed_tick_behavior(MissedTickBehavior::Skip);
    loop {
        let last = tokio::select! {
            _ = due.tick() => false,
            _ = stop.until(|stop| *stop) => true,
        };
        let reading = source.read().await;
        let written = tokio::task::spawn_blocking(move || {
            let mut batches = Batches::new(reading.started());
            reading.write(&mut batches);
            batches.finish()
        });
        let Ok(batches) = written.await else {
            // A panic has said so. The next ones may be written; after the last one there is none.
            if last {
                return;
            }
            continue;
        };
        let count = batches.len() as u64;
        for (sent, metrics) in (0..).zip(batches) {
            let scope =
                otlp::ScopeMetrics { scope: Some(super::scope()), metrics, ..otlp::ScopeMetrics::default() };
            let all = otlp::ResourceMetrics {
                resource: Some(collector.resource()),
                scope_metrics: vec![scope],
                ..otlp::ResourceMetrics::default()
            };
            let message = ExportMetricsServiceRequest { resource_metrics: vec![all] };
            match collector.answer(client.export(collector.request(message))).await {
                Ok(answer) => {
                    // Requests are counted, and one of which a part was thrown away is not taken.
                    let partial = answer.into_inner().partial_success;
                    let rejected = partial.is_some_and(|partial| partial.rejected_data_points > 0);
                    if exports.taken(Signal::Metrics, u64::from(!rejected)) {
                        tracing::info!("otlp: the collector takes metrics again");
                    }
                    exports.lost(Signal::Metrics, Lost::Rejected, u64::from(rejected));
                }
                // The next ones say the same of a later moment.
                Err(status) => {
                    if exports.failed(Signal::Metrics, count - sent) {
                        tracing::warn!(reason = %words(&status), "otlp: the collector does not take metrics");
                    }
                    break;
                }
            }
        }
        if last {
            return;
        }
    }
}

/// Series on their way into requests.
struct Batches {
    start: u64,
    now: u64,
    done: Vec<Vec<otlp::Metric>>,
    open: Vec<otlp::Metric>,
    /// What the last of `open` is of.
    metric: Option<&'static Definition>,
    points: usize,
}

impl Batches {
    fn new(started: SystemTime) -> Self {
        let (start, now) = (nanos(started), nanos(SystemTime::now()));
        Self { start, now, done: Vec::new(), open: Vec::new(), metric: None, points: 0 }
    }

    fn finish(mut self) -> Vec<Vec<otlp::Metric>> {
        if !self.open.is_empty() {
            self.done.push(self.open);
        }
        self.done
    }

    /// The data that a further point of this metric goes to.
    fn data(&mut self, metric: &'static Definition) -> Option<&mut Data> {
        if self.points == POINTS {
            self.done.push(std::mem::take(&mut self.open));
            (self.metric, self.points) = (None, 0);
        }
        if self.metric.is_none_or(|open| !std::ptr::eq(open, metric)) {
            let temporality = AggregationTemporality::Cumulative.into();
            let data = match metric.kind {
                Kind::Gauge => Data::Gauge(otlp::Gauge::default()),
                Kind::Counter => Data::Sum(otlp::Sum {
                    aggregation_temporality: temporality,
                    is_monotonic: true,
                    ..otlp::Sum::default()
                }),
                Kind::Histogram => Data::Histogram(otlp::Histogram {
                    aggregation_temporality: temporality,
                    ..otlp::Histogram::default()
                }),
            };
            self.open.push(otlp::Metric {
                name: metric.name.to_owned(),
                description: metric.help.to_owned(),
                unit: metric.unit().to_owned(),
                data: Some(data),
                ..otlp::Metric::default()
            });
            self.metric = Some(metric);
        }
        self.points += 1;
        self.open.last_mut().and_then(|metric| metric.data.as_mut())
    }

    fn attributes(
        metric: &Definition,
        labels: &[&str],
    ) -> Vec<opentelemetry_proto::tonic::common::v1::KeyValue> {
        metric.labels.iter().zip(labels).map(|(name, value)| text(name, (*value).to_owned())).collect()
    }
}

impl Exit for Batches {
    fn number(&mut self, metric: &'static Definition, labels: &[&str], value: Number) {
        let point = NumberDataPoint {
            attributes: Self::attributes(metric, labels),
            start_time_unix_nano: if metric.kind == Kind::Counter { self.start } else { 0 },
            time_unix_nano: self.now,
            value: Some(match value {
                Number::Whole(number) => Value::AsInt(i64::try_from(number).unwrap_or(i64::MAX)),
                Number::Real(number) => Value::AsDouble(number),
            }),
            ..NumberDataPoint::default()
        };
        match self.data(metric) {
            Some(Data::Gauge(gauge)) => gauge.data_points.push(point),
            Some(Data::Sum(sum)) => sum.data_points.push(point),
            _ => {}
        }
    }

    fn histogram(&mut self, metric: &'static Definition, labels: &[&str], value: &Histogram) {
        let counted: u64 = value.steps.iter().map(|(_, count)| count).sum();
        let beyond = value.count.saturating_sub(counted);
        let point = HistogramDataPoint {
            attributes: Self::attributes(metric, labels),
            start_time_unix_nano: self.start,
            time_unix_nano: self.now,
            count: value.count,
            sum: Some(value.sum.as_secs_f64()),
            explicit_bounds: value.steps.iter().map(|(end, _)| end.as_secs_f64()).collect(),
            bucket_counts: value.steps.iter().map(|(_, count)| *count).chain([beyond]).collect(),
            ..HistogramDataPoint::default()
        };
        if let Some(Data::Histogram(histogram)) = self.data(metric) {
            histogram.data_points.push(point);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::telemetry::metrics::table;

    #[test]
    fn many_series_are_several_requests_each_of_whole_points() {
        let mut batches = Batches::new(SystemTime::UNIX_EPOCH);
        for n in 0..POINTS + 10 {
            batches.number(&table::PEER_UP, &["acme", &n.to_string()], true.into());
        }
        batches.number(&table::PEER_UPS, &["acme", "b"], 7u64.into());
        let batches = batches.finish();
        let points = |metric: &otlp::Metric| match &metric.data {
            Some(Data::Gauge(gauge)) => gauge.data_points.len(),
            Some(Data::Sum(sum)) => sum.data_points.len(),
            _ => 0,
        };
        let shape: Vec<Vec<(&str, usize)>> =
            batches.iter().map(|b| b.iter().map(|m| (m.name.as_str(), points(m))).collect()).collect();
        let (up, ups) = (table::PEER_UP.name, table::PEER_UPS.name);
        assert_eq!(shape, [vec![(up, POINTS)], vec![(up, 10), (ups, 1)]]);
    }
}
