//! Records as JSON, one a line: what happened and its values side by side, with the trace that tells the rest.

use std::fmt;

use actors::SpanContext;
use serde::{Serialize, Serializer};
use tracing::field::{Field, Visit};
use tracing::{Event, Subscriber};
use tracing_subscriber::fmt::format::Writer;
use tracing_subscriber::fmt::time::{FormatTime, SystemTime};
use tracing_subscriber::fmt::{FmtContext, FormatEvent, FormatFields};
use tracing_subscriber::registry::LookupSpan;

/// What OpenTelemetry calls them.
const TRACE: &str = "trace_id";
const SPAN: &str = "span_id";
/// Octets of most lines.
const LINE: usize = 512;

/// See the module.
pub(super) struct Json;

/// Writes fields after each other, each as it comes: a line of a handshake has a dozen.
struct Fields<'a> {
    line: &'a mut Vec<u8>,
}

impl Fields<'_> {
    fn put(&mut self, name: &str, value: &impl Serialize) {
        if !self.line.ends_with(b"{") {
            self.line.push(b',');
        }
        // Writing to a vector cannot fail, and all that is put here is JSON.
        let _ = serde_json::to_writer(&mut *self.line, name);
        self.line.push(b':');
        let _ = serde_json::to_writer(&mut *self.line, value);
    }
}

/// What `Debug` or `Display` says, as a string.
struct Said<'a>(&'a dyn fmt::Debug);

impl Serialize for Said<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_str(&format_args!("{:?}", self.0))
    }
}

impl Visit for Fields<'_> {
    fn record_f64(&mut self, field: &Field, value: f64) {
        self.put(field.name(), &value);
    }

    fn record_i64(&mut self, field: &Field, value: i64) {
        self.put(field.name(), &value);
    }

    fn record_u64(&mut self, field: &Field, value: u64) {
        self.put(field.name(), &value);
    }

    fn record_bool(&mut self, field: &Field, value: bool) {
        self.put(field.name(), &value);
    }

    fn record_str(&mut self, field: &Field, value: &str) {
        self.put(field.name(), &value);
    }

    fn record_debug(&mut self, field: &Field, value: &dyn fmt::Debug) {
        self.put(field.name(), &Said(value));
    }
}

impl<S, N> FormatEvent<S, N> for Json
where
    S: Subscriber + for<'a> LookupSpan<'a>,
    N: for<'a> FormatFields<'a> + 'static,
{
    fn format_event(
        &self,
        _: &FmtContext<'_, S, N>,
        mut writer: Writer<'_>,
        event: &Event<'_>,
    ) -> fmt::Result {
        let mut time = String::new();
        SystemTime.format_time(&mut Writer::new(&mut time))?;
        let (mut line, metadata) = (Vec::with_capacity(LINE), event.metadata());
        line.push(b'{');
        let mut fields = Fields { line: &mut line };
        fields.put("timestamp", &time);
        fields.put("level", &metadata.level().as_str());
        event.record(&mut fields);
        if let Some(context) = SpanContext::current() {
            fields.put(TRACE, &context.trace_id());
            fields.put(SPAN, &context.span_id());
        }
        fields.put("target", &metadata.target());
        line.extend_from_slice(b"}\n");
        // serde_json writes UTF-8 alone.
        writer.write_str(std::str::from_utf8(&line).map_err(|_| fmt::Error)?)
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::{Arc, Mutex};

    use serde_json::Value;
    use tracing_subscriber::fmt::format::JsonFields;
    use tracing_subscriber::layer::SubscriberExt as _;

    use super::*;

    #[derive(Clone, Default)]
    struct Written(Arc<Mutex<Vec<u8>>>);

    impl io::Write for Written {
        fn write(&mut self, octets: &[u8]) -> io::Result<usize> {
            self.0.lock().unwrap().write(octets)
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn a_record_names_its_trace() {
        let written = Written::default();
        let to = written.clone();
        let context = SpanContext::root();
        let layer = tracing_subscriber::fmt::layer()
            .with_writer(move || to.clone())
            .fmt_fields(JsonFields::new())
            .event_format(Json);
        tracing::subscriber::with_default(tracing_subscriber::registry().with(layer), || {
            tracing::info!(peer = %"a\"b", n = 7, "without");
            let _entered = SpanContext::enter(Some(context));
            tracing::warn!("within");
        });
        let octets = written.0.lock().unwrap().clone();
        let lines: Vec<Value> = octets
            .split(|b| *b == b'\n')
            .filter(|l| !l.is_empty())
            .map(|l| serde_json::from_slice(l).unwrap())
            .collect();
        assert_eq!((&lines[0]["peer"], &lines[0]["n"]), (&Value::from("a\"b"), &Value::from(7)));
        assert_eq!(
            (&lines[0]["message"], &lines[0]["level"]),
            (&Value::from("without"), &Value::from("INFO"))
        );
        assert!(lines[0].get("trace_id").is_none() && lines[0]["timestamp"].is_string());
        assert_eq!(lines[1]["trace_id"], context.trace_id());
        assert_eq!(lines[1]["span_id"], context.span_id());
    }
}
