//! Spans of traces as values: what whoever exports them is given. Their names and the form of their identifiers are those of W3C
//! Trace Context and of OpenTelemetry; nothing here knows a protocol to send them by. `values.rs` is what is said of them.

mod values;

use std::borrow::Cow;
use std::cell::Cell;
use std::fmt;
use std::future::Future;
use std::pin::Pin;
use std::str::FromStr;
use std::task::{Context, Poll};
use std::time::SystemTime;

pub use values::{Attribute, Attributes, Value};

/// Names a span, and says whether its trace is recorded by whoever began it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SpanContext {
    /// Of the trace; never zero.
    pub trace: u128,
    /// Of the span; never zero.
    pub span: u64,
    /// Whoever began the trace records it.
    pub sampled: bool,
}

impl SpanContext {
    /// The first span of a trace of its own.
    pub fn root() -> Self {
        Self { trace: rand::random::<u128>().max(1), span: rand::random::<u64>().max(1), sampled: false }
    }

    /// A further span of the same trace.
    pub fn child(self) -> Self {
        Self { span: rand::random::<u64>().max(1), ..self }
    }

    /// The trace as it is written.
    pub fn trace_id(&self) -> String {
        format!("{:032x}", self.trace)
    }

    /// The span as it is written.
    pub fn span_id(&self) -> String {
        format!("{:016x}", self.span)
    }
}

/// A text that is no `traceparent`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("not a traceparent; expected 00-(32 hexadecimal digits)-(16)-(2), neither number zero")]
pub struct NoTraceparent;

/// The bit of the flags that says that the trace is recorded.
const SAMPLED: u8 = 1;

impl FromStr for SpanContext {
    type Err = NoTraceparent;

    /// A `traceparent` (W3C Trace Context section 3.2). Of a later version what this one knows is read (section 4.2).
    fn from_str(text: &str) -> Result<Self, NoTraceparent> {
        let mut parts = text.split('-');
        let mut digits = |count: usize| {
            let part = parts.next().filter(|part| part.len() == count).ok_or(NoTraceparent)?;
            let hex = part.bytes().all(|b| b.is_ascii_digit() || (b'a'..=b'f').contains(&b));
            if hex { Ok(part) } else { Err(NoTraceparent) }
        };
        let (version, trace, span, flags) = (digits(2)?, digits(32)?, digits(16)?, digits(2)?);
        if version == "ff" || (version == "00" && parts.next().is_some()) {
            return Err(NoTraceparent);
        }
        let trace = u128::from_str_radix(trace, 16).map_err(|_| NoTraceparent)?;
        let span = u64::from_str_radix(span, 16).map_err(|_| NoTraceparent)?;
        let flags = u8::from_str_radix(flags, 16).map_err(|_| NoTraceparent)?;
        if trace == 0 || span == 0 {
            return Err(NoTraceparent);
        }
        Ok(Self { trace, span, sampled: flags & SAMPLED != 0 })
    }
}

impl fmt::Display for SpanContext {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "00-{:032x}-{:016x}-{:02x}", self.trace, self.span, u8::from(self.sampled))
    }
}

thread_local! {
    /// What this thread does now belongs to it.
    static CURRENT: Cell<Option<SpanContext>> = const { Cell::new(None) };
}

/// Puts back what was before.
#[derive(Debug)]
pub struct Entered(Option<SpanContext>);

impl Drop for Entered {
    fn drop(&mut self) {
        CURRENT.set(self.0);
    }
}

impl SpanContext {
    /// What this thread does from here on belongs to this span, if it is one, until the value is dropped: records of the log
    /// name it. Costs a store to memory, for most of what is done writes no record.
    pub fn enter(context: Option<Self>) -> Entered {
        Entered(CURRENT.replace(context))
    }

    /// The span that this thread works for.
    pub fn current() -> Option<Self> {
        CURRENT.get()
    }
}

/// A future that works for a span.
#[derive(Debug)]
pub struct Within<F> {
    context: SpanContext,
    inner: Pin<Box<F>>,
}

impl<F> Within<F> {
    /// All of it belongs to this span.
    pub fn new(context: SpanContext, inner: F) -> Self {
        Self { context, inner: Box::pin(inner) }
    }
}

impl<F: Future> Future for Within<F> {
    type Output = F::Output;

    fn poll(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<F::Output> {
        let _entered = SpanContext::enter(Some(self.context));
        self.inner.as_mut().poll(cx)
    }
}

/// Something that happened in a span.
#[derive(Debug)]
pub struct SpanEvent {
    /// When.
    pub time: SystemTime,
    /// What, of few.
    pub name: &'static str,
    /// What there is to say of it.
    pub attributes: Attributes,
}

/// Who begins what a span is about.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SpanKind {
    /// Nobody outside.
    Internal,
    /// We ask somebody.
    Client,
    /// Somebody asks us.
    Server,
}

/// A span that has ended, or is being recorded.
#[derive(Debug)]
pub struct Span {
    /// Which it is.
    pub context: SpanContext,
    /// The span it is a part of.
    pub parent: Option<u64>,
    /// Spans elsewhere that have led to it.
    pub links: Vec<SpanContext>,
    /// Its name, of few.
    pub name: Cow<'static, str>,
    /// Who began it.
    pub kind: SpanKind,
    /// When it began.
    pub start: SystemTime,
    /// When it ended.
    pub end: SystemTime,
    /// What there is to say of it.
    pub attributes: Attributes,
    /// What happened.
    pub events: Vec<SpanEvent>,
    /// Events that found no room.
    pub events_dropped: u32,
    /// Why it came to nothing, if it did.
    pub error: Option<String>,
}

/// Events of a span: a request is sent again a dozen times at most, and some things happen beside.
const MAX_EVENTS: usize = 32;

impl Span {
    /// One that begins now.
    pub fn begin(
        context: SpanContext,
        parent: Option<u64>,
        name: impl Into<Cow<'static, str>>,
        kind: SpanKind,
    ) -> Self {
        let now = SystemTime::now();
        Self {
            context,
            parent,
            links: Vec::new(),
            name: name.into(),
            kind,
            start: now,
            end: now,
            attributes: Attributes::default(),
            events: Vec::new(),
            events_dropped: 0,
            error: None,
        }
    }

    /// Says something of it. What was said under the same name before is replaced.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        self.attributes.set(name, value);
    }

    /// Says something of it if it is kept.
    pub fn later(&mut self, say: impl FnOnce(&mut Attributes) + Send + 'static) {
        self.attributes.later(say);
    }

    /// Something happened.
    pub fn event(&mut self, name: &'static str, attributes: Attributes) {
        if self.events.len() == MAX_EVENTS {
            self.events_dropped += 1;
            return;
        }
        self.events.push(SpanEvent { time: SystemTime::now(), name, attributes });
    }
}

/// Where spans go. No call of it may block.
pub trait SpanSink: Send + Sync + fmt::Debug {
    /// Whether a trace that nobody else has begun is recorded whatever comes of it. The same for every call.
    fn samples(&self, trace: u128) -> bool;
    /// Spans that have ended, of one trace.
    fn take(&self, spans: Vec<Span>);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_traceparent_is_read_as_it_is_written() {
        let text = "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01";
        let context: SpanContext = text.parse().unwrap();
        assert!(context.sampled && context.span == 0xb7ad_6b71_6920_3331);
        assert_eq!(context.to_string(), text);
        assert_eq!(context.trace_id(), "0af7651916cd43dd8448eb211c80319c");
        let child = context.child();
        assert!(child.trace == context.trace && child.span != context.span && child.sampled);
        assert!(
            "cc-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00-more".parse::<SpanContext>().is_ok()
        );
        for bad in [
            "",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331",
            "00-00000000000000000000000000000000-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-0000000000000000-01",
            "00-0AF7651916CD43DD8448EB211C80319C-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01-more",
            "ff-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
            "00-0af7651916cd43dd8448eb211c80319-b7ad6b7169203331-01",
            "00-+af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01",
        ] {
            assert!(bad.parse::<SpanContext>().is_err(), "{bad}");
        }
    }

    #[test]
    fn a_span_holds_so_many_events() {
        let mut span = Span::begin(SpanContext::root(), None, "x", SpanKind::Internal);
        for _ in 0..100 {
            span.event("retransmission", Attributes::default());
        }
        assert_eq!((span.events.len(), span.events_dropped), (MAX_EVENTS, 68));
    }

    #[test]
    fn what_is_done_for_a_span_ends_with_it() {
        let (outer, inner) = (SpanContext::root(), SpanContext::root());
        assert!(SpanContext::current().is_none());
        let entered = SpanContext::enter(Some(outer));
        {
            let _entered = SpanContext::enter(Some(inner));
            assert_eq!(SpanContext::current(), Some(inner));
        }
        assert_eq!(SpanContext::current(), Some(outer));
        drop(entered);
        assert!(SpanContext::current().is_none());
    }
}
