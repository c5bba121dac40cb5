//! How values are written in OTLP.

use std::time::{SystemTime, UNIX_EPOCH};

use actors::{Attribute, Value};
use opentelemetry_proto::tonic::common::v1::{AnyValue, ArrayValue, KeyValue, any_value};

/// Octets of a text: the proposals of a peer that offers everything there is. What is longer is cut.
const MAX_TEXT: usize = 2_048;

/// An attribute of a name that is not known before.
pub(super) fn text(name: &str, value: String) -> KeyValue {
    let value = Some(AnyValue { value: Some(any_value::Value::StringValue(cut(value))) });
    KeyValue { key: name.to_owned(), value, ..KeyValue::default() }
}

/// An attribute of a span.
pub(super) fn attribute((name, value): Attribute) -> KeyValue {
    use any_value::Value as Any;
    let text = |text: String| Any::StringValue(cut(text));
    let value = match value {
        Value::Text(value) => text(value.into_owned()),
        Value::Texts(values) => Any::ArrayValue(ArrayValue {
            values: values.into_iter().map(|value| AnyValue { value: Some(text(value)) }).collect(),
        }),
        Value::Number(number) => Any::IntValue(number),
        Value::Flag(flag) => Any::BoolValue(flag),
    };
    KeyValue { key: name.to_owned(), value: Some(AnyValue { value: Some(value) }), ..KeyValue::default() }
}

/// As much of it as is told.
pub(super) fn cut(mut text: String) -> String {
    if text.len() > MAX_TEXT {
        let end = (0..=MAX_TEXT).rev().find(|end| text.is_char_boundary(*end)).unwrap_or(0);
        text.truncate(end);
    }
    text
}

/// Nanoseconds since 1970: until the year 2554.
pub(super) fn nanos(time: SystemTime) -> u64 {
    u64::try_from(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_nanos()).unwrap_or(u64::MAX)
}
