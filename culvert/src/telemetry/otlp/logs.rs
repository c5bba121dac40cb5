//! Records of logs: entries of the audit log, and lines about what has happened to tunnels. How they are written, and where they
//! wait.

use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::SystemTime;

use actors::{SpanContext, Value};
use culvert_proto::v1;
use opentelemetry_proto::tonic::collector::logs::v1::ExportLogsServiceRequest;
use opentelemetry_proto::tonic::collector::logs::v1::logs_service_client::LogsServiceClient;
use opentelemetry_proto::tonic::common::v1::{AnyValue, KeyValue, any_value};
use opentelemetry_proto::tonic::logs::v1 as otlp;
use opentelemetry_proto::tonic::resource::v1::Resource;
use opentelemetry_semantic_conventions::attribute::{
    CLIENT_ADDRESS, CLIENT_PORT, ENDUSER_ID, RPC_METHOD, RPC_RESPONSE_STATUS_CODE,
};
use otlp::{LogRecord, SeverityNumber};
use tenants::audit::{self, AuditSink};
use tonic::transport::Channel;
use tonic::{Request, Status};
use tracing::field::{Field, Visit};
use tracing::{Event, Level};

use super::collector::Collector;
use super::queue::{Queue, Waiting, queue};
use super::sender::Service;
use super::values::{attribute, cut, nanos, text};
use crate::logging::LineSink;
use crate::telemetry::exports::{Exports, Signal};

/// Records that wait at most: the lines of a restart of some thousand peers, in 3 MB; 32 MB if each is as large as one may be.
const MAX_RECORDS: usize = 4_096;
/// Records of one request: 2 MiB if each is as large as one may be, and collectors take 4.
const BATCH: usize = 256;
/// Octets of an entry of the audit log. A larger one, such as that of many objects at once, goes without what was configured before
/// and after; the file has it.
const MAX_ENTRY: usize = 8 << 10;
/// Objects that are named of an entry beyond, and as an attribute of any.
const MAX_NAMES: usize = 16;

/// What each record is one of.
const AUDIT: &str = "culvert.audit";
const TUNNEL: &str = "culvert.tunnel";

/// Takes records.
#[derive(Debug)]
pub struct LogQueue {
    queue: Queue<LogRecord>,
}

impl LogQueue {
    pub(super) fn new(exports: Exports) -> (Arc<Self>, Waiting<LogRecord>) {
        let (queue, waiting) = queue(Signal::Logs, MAX_RECORDS, exports);
        (Arc::new(Self { queue }), waiting)
    }
}

impl AuditSink for LogQueue {
    fn written(&self, entry: &v1::AuditEntry) {
        self.queue.put(vec![of_entry(entry)]);
    }
}

impl LineSink for LogQueue {
    fn line(&self, event: &Event<'_>) {
        self.queue.put(vec![of_line(event)]);
    }
}

/// The service of a collector that takes records.
pub(super) struct Logs(LogsServiceClient<Channel>);

impl Logs {
    pub(super) fn at(collector: &Collector) -> Self {
        Self(LogsServiceClient::new(collector.channel.clone()))
    }
}

impl Service for Logs {
    const SIGNAL: Signal = Signal::Logs;
    const BATCH: usize = BATCH;
    type Item = LogRecord;
    type Message = ExportLogsServiceRequest;

    fn message(resource: Resource, items: Vec<LogRecord>) -> Self::Message {
        let scope =
            otlp::ScopeLogs { scope: Some(super::scope()), log_records: items, ..otlp::ScopeLogs::default() };
        let all = otlp::ResourceLogs {
            resource: Some(resource),
            scope_logs: vec![scope],
            ..otlp::ResourceLogs::default()
        };
        ExportLogsServiceRequest { resource_logs: vec![all] }
    }

    async fn export(&mut self, request: Request<Self::Message>) -> Result<i64, Status> {
        let answer = self.0.export(request).await?.into_inner();
        Ok(answer.partial_success.map_or(0, |partial| partial.rejected_log_records))
    }
}

fn body(text: String) -> Option<AnyValue> {
    Some(AnyValue { value: Some(any_value::Value::StringValue(text)) })
}

/// The line of the file, and what one looks for as attributes. There is nothing secret in an entry.
fn of_entry(entry: &v1::AuditEntry) -> LogRecord {
    let line = |entry| audit::to_line(entry).unwrap_or_default();
    let whole = line(entry);
    let told = if whole.len() <= MAX_ENTRY { whole } else { line(&brief(entry)) };
    let (severity, severity_text) = match entry.result.as_str() {
        "OK" => (SeverityNumber::Info, "INFO"),
        _ => (SeverityNumber::Warn, "WARN"),
    };
    let mut all = Vec::with_capacity(8);
    let mut set = |name: &'static str, value: Value| all.push(attribute((name, value)));
    set("culvert.audit.sequence", Value::Number(i64::try_from(entry.sequence).unwrap_or(i64::MAX)));
    set(ENDUSER_ID, entry.principal.clone().into());
    set(RPC_METHOD, entry.method.clone().into());
    set(RPC_RESPONSE_STATUS_CODE, entry.result.clone().into());
    match entry.from.parse::<SocketAddr>() {
        Ok(from) => {
            set(CLIENT_ADDRESS, Value::shown(&from.ip()));
            set(CLIENT_PORT, from.port().into());
        }
        Err(_) => set(CLIENT_ADDRESS, entry.from.clone().into()),
    }
    let names = entry.objects.iter().take(MAX_NAMES).map(|object| object.name.clone());
    set("culvert.audit.objects", names.collect::<Vec<_>>().into());
    if let Some(tenant) = tenant_of(entry) {
        set("culvert.tenant", tenant.to_owned().into());
    }
    let now = nanos(SystemTime::now());
    let time = entry.time.and_then(|time| SystemTime::try_from(time).ok());
    LogRecord {
        time_unix_nano: time.map_or(now, nanos),
        observed_time_unix_nano: now,
        severity_number: severity.into(),
        severity_text: severity_text.to_owned(),
        body: body(told),
        attributes: all,
        trace_id: octets(&entry.trace_id),
        span_id: octets(&entry.span_id),
        event_name: AUDIT.to_owned(),
        ..LogRecord::default()
    }
}

/// Without what was configured, and with some objects only.
fn brief(entry: &v1::AuditEntry) -> v1::AuditEntry {
    let bare = |object: &v1::AuditedObject| v1::AuditedObject { before: None, after: None, ..object.clone() };
    let left_out = entry.objects.len().saturating_sub(MAX_NAMES);
    v1::AuditEntry {
        objects: entry.objects.iter().take(MAX_NAMES).map(bare).collect(),
        more_objects: entry.more_objects.saturating_add(u32::try_from(left_out).unwrap_or(u32::MAX)),
        // The rest is bounded by the audit log; cloning the objects first would be the larger part of it.
        sequence: entry.sequence,
        time: entry.time,
        principal: entry.principal.clone(),
        from: entry.from.clone(),
        method: entry.method.clone(),
        result: entry.result.clone(),
        message: entry.message.clone(),
        suppressed: entry.suppressed,
        trace_id: entry.trace_id.clone(),
        span_id: entry.span_id.clone(),
        values_left_out: entry.values_left_out || entry.objects.iter().any(has_values),
        node: entry.node.clone(),
    }
}

fn has_values(object: &v1::AuditedObject) -> bool {
    object.before.is_some() || object.after.is_some()
}

/// The tenant that all objects are of, if they are of one.
fn tenant_of(entry: &v1::AuditEntry) -> Option<&str> {
    let mut tenants =
        entry.objects.iter().map(|object| object.name.strip_prefix("tenants/")?.split('/').next());
    let first = tenants.next()??;
    tenants.all(|tenant| tenant == Some(first)).then_some(first)
}

/// Of hexadecimal digits; empty if they are none.
fn octets(hex: &str) -> Vec<u8> {
    let pairs = (0..hex.len()).step_by(2).map(|at| hex.get(at..at + 2));
    pairs.map(|pair| u8::from_str_radix(pair?, 16).ok()).collect::<Option<_>>().unwrap_or_default()
}

fn of_line(event: &Event<'_>) -> LogRecord {
    let level = *event.metadata().level();
    let severity = match level {
        Level::ERROR => SeverityNumber::Error,
        Level::WARN => SeverityNumber::Warn,
        Level::INFO => SeverityNumber::Info,
        Level::DEBUG => SeverityNumber::Debug,
        Level::TRACE => SeverityNumber::Trace,
    };
    let mut fields = Fields::default();
    event.record(&mut fields);
    let context = SpanContext::current();
    let now = nanos(SystemTime::now());
    LogRecord {
        time_unix_nano: now,
        observed_time_unix_nano: now,
        severity_number: severity.into(),
        severity_text: level.as_str().to_owned(),
        body: body(cut(fields.message)),
        attributes: fields.others,
        flags: context.map_or(0, |context| context.sampled.into()),
        trace_id: context.map(|context| context.trace.to_be_bytes().to_vec()).unwrap_or_default(),
        span_id: context.map(|context| context.span.to_be_bytes().to_vec()).unwrap_or_default(),
        event_name: TUNNEL.to_owned(),
        ..LogRecord::default()
    }
}

/// What a line says: its message, and its values under the names that spans have them under.
#[derive(Default)]
struct Fields {
    message: String,
    others: Vec<KeyValue>,
}

impl Fields {
    fn put(&mut self, field: &Field, value: any_value::Value) {
        let value = Some(AnyValue { value: Some(value) });
        let key = format!("culvert.{}", field.name());
        self.others.push(KeyValue { key, value, ..KeyValue::default() });
    }

    fn text(&mut self, field: &Field, value: String) {
        if field.name() == "message" {
            self.message = value;
        } else {
            self.others.push(text(&format!("culvert.{}", field.name()), value));
        }
    }
}

impl Visit for Fields {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field, any_value::Value::DoubleValue(value));
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field, any_value::Value::IntValue(value));
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field, any_value::Value::IntValue(i64::try_from(value).unwrap_or(i64::MAX)));
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field, any_value::Value::BoolValue(value));
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.text(field, value.to_owned());
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.text(field, format!("{value:?}"));
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(objects: usize) -> v1::AuditEntry {
        let peer = v1::Peer { display_name: "p".repeat(100), ..v1::Peer::default() };
        let value = v1::AuditedValue { kind: Some(v1::audited_value::Kind::Peer(peer)) };
        let object = |n| v1::AuditedObject {
            name: format!("tenants/acme/peers/p-{n}"),
            change: "CREATED".to_owned(),
            after: Some(value.clone()),
            ..v1::AuditedObject::default()
        };
        v1::AuditEntry {
            sequence: 7,
            principal: "token tokens/ops".to_owned(),
            from: "192.0.2.1:5000".to_owned(),
            result: "OK".to_owned(),
            objects: (0..objects).map(object).collect(),
            more_objects: 3,
            trace_id: "4bf92f3577b34da6a3ce929d0e0e4736".to_owned(),
            span_id: "00f067aa0ba902b7".to_owned(),
            ..v1::AuditEntry::default()
        }
    }

    fn told(record: &LogRecord) -> serde_json::Value {
        let Some(AnyValue { value: Some(any_value::Value::StringValue(text)) }) = &record.body else {
            unreachable!("{record:?}")
        };
        serde_json::from_str(text).unwrap()
    }

    #[test]
    fn an_entry_is_whole_where_it_fits_and_names_its_trace() {
        let record = of_entry(&entry(2));
        let told = told(&record);
        assert_eq!(told["objects"][1]["after"]["peer"]["displayName"], "p".repeat(100));
        assert_eq!((record.trace_id[0], record.trace_id.len(), record.span_id.len()), (0x4b, 16, 8));
        let shown = format!("{:?}", record.attributes);
        for wanted in ["192.0.2.1\"", "IntValue(5000)", "token tokens/ops", "culvert.tenant", "peers/p-1"] {
            assert!(shown.contains(wanted), "{wanted}: {shown}");
        }
    }

    #[test]
    fn a_large_entry_says_what_it_was_about_and_stays_below_its_bound() {
        let record = of_entry(&entry(1_000));
        let told = told(&record);
        assert_eq!(told["objects"].as_array().unwrap().len(), MAX_NAMES);
        assert!(told["objects"][0].get("after").is_none());
        assert_eq!(told["moreObjects"], 3 + 1_000 - MAX_NAMES);
        let mut of_two = entry(1);
        of_two.objects.push(v1::AuditedObject { name: "tenants/b".to_owned(), ..Default::default() });
        assert_eq!(
            (tenant_of(&of_two), tenant_of(&entry(2)), tenant_of(&entry(0))),
            (None, Some("acme"), None)
        );
    }

    #[test]
    fn what_is_no_trace_is_none() {
        assert!(octets("").is_empty() && octets("zz").is_empty() && octets("é1").is_empty());
        assert_eq!(octets("00ff"), [0, 255]);
    }
}
