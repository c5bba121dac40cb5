//! Spans of requests, and the context that clients send with them (W3C Trace Context): whoever has sent a `traceparent` gets one
//! back, of the span that the node has made of the request, and what the request has set off is a part of its trace.

use std::convert::Infallible;
use std::future::Future;
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::task::{Context, Poll};

use actors::{Span, SpanContext, SpanKind, SpanSink, Within};
use hyper::header::{HeaderMap, HeaderValue};
use hyper::{Request, Response};
use opentelemetry_semantic_conventions::attribute::{RPC_METHOD, RPC_RESPONSE_STATUS_CODE, RPC_SYSTEM_NAME};
use tonic::Code;
use tower::{Layer, Service};

/// Octets of a method: the longest of ours has half as many. Anybody may ask for one that there is not.
const MAX_METHOD: usize = 128;
/// Stands for methods that there are not (OpenTelemetry, "rpc.method").
const OTHER: &str = "_OTHER";

/// The header of the context.
pub const TRACEPARENT: &str = "traceparent";

/// Makes a span of every request. Without a place for spans it only passes the context on.
#[derive(Clone, Debug, Default)]
pub struct Traced {
    spans: Option<Arc<dyn SpanSink>>,
}

impl Traced {
    /// With spans going there.
    pub fn new(spans: Option<Arc<dyn SpanSink>>) -> Self {
        Self { spans }
    }
}

impl<S> Layer<S> for Traced {
    type Service = TracedService<S>;

    fn layer(&self, inner: S) -> TracedService<S> {
        TracedService { inner, spans: self.spans.clone() }
    }
}

/// See [`Traced`].
#[derive(Clone, Debug)]
pub struct TracedService<S> {
    inner: S,
    spans: Option<Arc<dyn SpanSink>>,
}

impl<S, B, R> Service<Request<B>> for TracedService<S>
where
    S: Service<Request<B>, Response = Response<R>, Error = Infallible>,
    S::Future: Send + 'static,
{
    type Response = Response<R>;
    type Error = Infallible;
    type Future = Pin<Box<dyn Future<Output = Result<Self::Response, Infallible>> + Send>>;

    fn poll_ready(&mut self, cx: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        self.inner.poll_ready(cx)
    }

    fn call(&mut self, mut request: Request<B>) -> Self::Future {
        let parent = parent_of(request.headers());
        let Some((spans, parent)) = wanted(self.spans.as_ref(), parent) else {
            return Box::pin(self.inner.call(request));
        };
        let mut context = parent.map_or_else(SpanContext::root, SpanContext::child);
        if let (None, Some(spans)) = (parent, &spans) {
            context.sampled = spans.samples(context.trace);
        }
        let path = request.uri().path().trim_start_matches('/');
        // Where a character ends at this octet; there is no method of ours in which none does.
        let method = path.get(..MAX_METHOD.min(path.len())).unwrap_or_default().to_owned();
        let mut span =
            Span::begin(context, parent.map(|parent| parent.span), method.clone(), SpanKind::Server);
        span.set(RPC_SYSTEM_NAME, "grpc");
        span.set(RPC_METHOD, method);
        // Whoever is behind this takes it from there, and the audit log with the author of a change.
        let value = HeaderValue::from_str(&context.to_string()).ok();
        if let Some(value) = value.clone() {
            request.headers_mut().insert(TRACEPARENT, value);
        }
        let known = Known::default();
        request.extensions_mut().insert(known.clone());
        let open = spans.map(|spans| Open { span: Some(span), known, spans });
        let answer = Within::new(context, self.inner.call(request));
        Box::pin(async move {
            // Within the future, so that it goes with it.
            let mut open = open;
            let mut response = answer.await?;
            if let Some(value) = value.filter(|_| parent.is_some()) {
                response.headers_mut().insert(TRACEPARENT, value);
            }
            // An answer with a message has its status behind that, and it is OK: errors here have none.
            let code = response.headers().get("grpc-status");
            let code = code.map_or(Code::Ok, |code| Code::from_bytes(code.as_bytes()));
            if let Some(open) = &mut open {
                open.close(code);
            }
            Ok(response)
        })
    }
}

type Wanted = (Option<Arc<dyn SpanSink>>, Option<SpanContext>);

/// Whether anybody wants to know of the request: who exports spans, or who has sent a context.
fn wanted(spans: Option<&Arc<dyn SpanSink>>, parent: Option<SpanContext>) -> Option<Wanted> {
    (spans.is_some() || parent.is_some()).then(|| (spans.cloned(), parent))
}

/// One that is not well formed is as good as none (W3C Trace Context section 3.2.2).
fn parent_of(headers: &HeaderMap) -> Option<SpanContext> {
    let mut all = headers.get_all(TRACEPARENT).iter();
    let one = all.next()?;
    if all.next().is_some() {
        return None;
    }
    one.to_str().ok()?.parse().ok()
}

/// Whether it is known who has made a request: told by whoever finds out.
#[derive(Clone, Debug, Default)]
pub struct Known(Arc<AtomicBool>);

impl Known {
    /// It is.
    pub fn note(&self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// The span of a request that is not answered yet.
struct Open {
    span: Option<Span>,
    known: Known,
    spans: Arc<dyn SpanSink>,
}

impl Open {
    /// Of those who are not known, anybody can make as many as he likes, with names of his own; they are counted, and audited.
    fn close(&mut self, code: Code) {
        let known = self.known.0.load(Ordering::Relaxed);
        if let Some(span) = self.span.take().filter(|_| known) {
            finish(span, code, &*self.spans);
        }
    }
}

impl Drop for Open {
    /// Nobody waits for the answer any more. What it has set off may go on, as a part of this span.
    fn drop(&mut self) {
        self.close(Code::Cancelled);
    }
}

fn finish(mut span: Span, code: Code, spans: &dyn SpanSink) {
    if code == Code::ResourceExhausted {
        // Of these there are as many as a caller likes, whatever he says of sampling.
        return;
    }
    if code == Code::Unimplemented {
        // Names of methods that there are not are as many as a caller likes.
        span.name = OTHER.into();
        span.set(RPC_METHOD, OTHER);
    }
    span.set(RPC_RESPONSE_STATUS_CODE, code_name(code));
    // Of a server's answers no others are failures (OpenTelemetry, "gRPC: span status"): the rest is what the client has done wrong, or what
    // is not possible as things are, and of that there is as much as a client likes.
    let failed = matches!(
        code,
        Code::Unknown
            | Code::DeadlineExceeded
            | Code::Unimplemented
            | Code::Internal
            | Code::Unavailable
            | Code::DataLoss
    );
    if failed {
        span.set("error.type", code_name(code));
        span.error = Some(code.description().to_owned());
    }
    if failed || span.context.sampled {
        span.context.sampled = true;
        span.end = std::time::SystemTime::now();
        spans.take(vec![span]);
    }
}

/// As gRPC names it.
pub(crate) const fn code_name(code: Code) -> &'static str {
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Mutex;

    use super::*;

    #[derive(Debug, Default)]
    struct Kept(Mutex<Vec<Span>>);

    impl SpanSink for Kept {
        fn samples(&self, _: u128) -> bool {
            true
        }

        fn take(&self, spans: Vec<Span>) {
            self.0.lock().unwrap().extend(spans);
        }
    }

    /// What it has set off names it as its parent, so it must not be missing.
    #[tokio::test]
    async fn a_request_whose_caller_goes_away_has_its_span_if_it_is_known_who_that_was() {
        let kept = Arc::new(Kept::default());
        for known in [false, true] {
            let endless = tower::service_fn(move |request: Request<()>| async move {
                if known {
                    request.extensions().get::<Known>().unwrap().note();
                }
                std::future::pending::<Result<Response<()>, Infallible>>().await
            });
            let mut service = Traced::new(Some(kept.clone())).layer(endless);
            let call = service.call(Request::new(()));
            tokio::time::timeout(std::time::Duration::from_millis(10), call).await.unwrap_err();
        }
        let mut spans = std::mem::take(&mut *kept.0.lock().unwrap());
        assert_eq!(spans.len(), 1);
        let Span { error, attributes, .. } = spans.remove(0);
        let said = format!("{:?}", attributes.settle());
        assert!(said.contains("CANCELLED") && error.is_none(), "{said}");
    }

    /// Whatever it is that they ask for, and whatever they say of sampling.
    #[tokio::test]
    async fn strangers_make_no_spans() {
        let kept = Arc::new(Kept::default());
        for code in [Code::Ok, Code::Unimplemented, Code::Internal, Code::Unauthenticated] {
            let refusing = tower::service_fn(move |_: Request<()>| async move {
                Ok::<_, Infallible>(tonic::Status::new(code, "").into_http::<()>())
            });
            let mut request = Request::new(());
            let sampled = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
            request.headers_mut().insert(TRACEPARENT, sampled);
            Traced::new(Some(kept.clone())).layer(refusing).call(request).await.unwrap();
        }
        assert!(kept.0.lock().unwrap().is_empty());
    }

    /// Failures are kept whatever is sampled, and of refusals a client makes as many as it likes.
    #[tokio::test]
    async fn refusals_that_are_no_failures_are_not_sent_beside_what_is_sampled() {
        let kept = Arc::new(Kept::default());
        let unsampled = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-00");
        for code in (0..=16).map(Code::from_i32) {
            let refusing = tower::service_fn(move |request: Request<()>| async move {
                request.extensions().get::<Known>().unwrap().note();
                Ok::<_, Infallible>(tonic::Status::new(code, "").into_http::<()>())
            });
            let mut request = Request::new(());
            request.headers_mut().insert(TRACEPARENT, unsampled.clone());
            Traced::new(Some(kept.clone())).layer(refusing).call(request).await.unwrap();
        }
        let spans = std::mem::take(&mut *kept.0.lock().unwrap());
        assert!(spans.iter().all(|span| span.error.is_some()));
        let codes = spans.into_iter().map(|span| format!("{:?}", span.attributes.settle()));
        let codes: Vec<_> = codes.collect();
        let failures =
            ["UNKNOWN", "DEADLINE_EXCEEDED", "UNIMPLEMENTED", "INTERNAL", "UNAVAILABLE", "DATA_LOSS"];
        assert_eq!(codes.len(), failures.len(), "{codes:?}");
        assert!(codes.iter().zip(failures).all(|(said, failure)| said.contains(failure)), "{codes:?}");
    }

    #[tokio::test]
    async fn a_method_that_there_is_not_has_the_name_of_all_such() {
        let kept = Arc::new(Kept::default());
        let none = tower::service_fn(|request: Request<()>| async move {
            request.extensions().get::<Known>().unwrap().note();
            Ok::<_, Infallible>(tonic::Status::unimplemented("").into_http::<()>())
        });
        let request = Request::builder().uri("/culvert.v1.PeerService/Whatever").body(()).unwrap();
        Traced::new(Some(kept.clone())).layer(none).call(request).await.unwrap();
        let spans = std::mem::take(&mut *kept.0.lock().unwrap());
        assert_eq!(spans[0].name, OTHER);
    }

    #[test]
    fn of_two_contexts_neither_counts() {
        let one = HeaderValue::from_static("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01");
        let mut headers = HeaderMap::new();
        assert!(parent_of(&headers).is_none());
        headers.append(TRACEPARENT, one.clone());
        assert_eq!(parent_of(&headers).unwrap().span, 0xb7ad_6b71_6920_3331);
        headers.append(TRACEPARENT, one);
        assert!(parent_of(&headers).is_none());
        headers.insert(TRACEPARENT, HeaderValue::from_static("nonsense"));
        assert!(parent_of(&headers).is_none());
    }
}
