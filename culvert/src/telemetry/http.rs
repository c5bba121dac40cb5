//! The HTTP listener of `metrics.listen`: probes, and what Prometheus reads. It answers GET and HEAD of a handful of paths and
//! takes no body. Nobody shows who he is here, so a new connection always gets in: for it the one goes that has said nothing for
//! longest, its source's own where that has its share. Whoever is slow, or opens many, holds up himself.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Mutex;
use tokio::time::{sleep, timeout};

use super::metrics::{self, Source, Text};
use super::probes::Probes;
use super::prompt::Prompt;
use crate::room::{Place, Room};

/// Connections at a time. A pair of Prometheus servers, the probes of a kubelet and some
/// people are a dozen.
const MAX_CONNECTIONS: usize = 64;
/// Those of one source: both Prometheus servers and the kubelet may come by one address, and four sources that are not meant well
/// have all of them only for as long as nobody else comes.
const MAX_OF_SOURCE: usize = 16;
/// How long a connection may be there before the head of its first request: probes and scrapes send theirs at once.
const FIRST_HEAD: Duration = Duration::from_secs(5);
/// How long a client may take for the head of a further request, idle connections included: longer than the usual interval of scrapes,
/// so that Prometheus keeps its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a whole connection may last. A client that does not read its answer ends before ([`Prompt`]).
const CONNECTION_TIMEOUT: Duration = Duration::from_secs(3600);
/// Octets of a head: requests here are one line and some headers.
const MAX_HEAD: usize = 16 << 10;
/// After an accept that failed, for want of file descriptors above all: no spinning.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

const TEXT: &str = "text/plain; charset=utf-8";

/// Listens on `address`. The error names the setting.
///
/// # Errors
/// What the system says.
pub async fn bind(address: SocketAddr) -> Result<TcpListener, io::Error> {
    let listener = TcpListener::bind(address).await;
    listener.map_err(|error| io::Error::new(error.kind(), format!("metrics.listen {address}: {error}")))
}

/// What is served.
#[derive(Clone, Default)]
pub struct Served {
    probes: Probes,
    /// Once the node runs.
    source: Arc<Mutex<Option<Arc<Source>>>>,
    /// Whoever has read the node holds it, so that one text is written at a time.
    writing: Arc<Mutex<()>>,
}

impl Served {
    /// These probes; metrics once there are any.
    pub fn new(probes: Probes) -> Self {
        Self { probes, ..Self::default() }
    }

    /// From here on there are metrics.
    pub async fn started(&self, source: Arc<Source>) {
        *self.source.lock().await = Some(source);
    }

    /// The text for Prometheus.
    async fn metrics(&self) -> Response<Full<Bytes>> {
        // Nobody is kept from it by who waits for the node.
        let Some(source) = self.source.lock().await.clone() else {
            return text(StatusCode::SERVICE_UNAVAILABLE, "the node is starting");
        };
        let reading = source.read().await;
        let _writing = self.writing.lock().await;
        // A hundred thousand peers are some ten milliseconds and more, in which others want this thread.
        let written = tokio::task::spawn_blocking(move || {
            let mut text = Text::with_capacity(reading.octets());
            reading.write(&mut text);
            text.finish()
        });
        match written.await {
            Ok(written) => {
                let mut response = Response::new(Full::new(Bytes::from(written)));
                response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(metrics::CONTENT_TYPE));
                response
            }
            Err(_) => {
                text(StatusCode::INTERNAL_SERVER_ERROR, "the metrics could not be written; see the log")
            }
        }
    }
}

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, served: Served) {
    let room = Room::of(MAX_CONNECTIONS, MAX_OF_SOURCE).turning_over();
    loop {
        match listener.accept().await {
            Ok((stream, from)) => {
                // Somebody always gives way, as nobody has a place for good.
                let Some(entered) = room.enter(Some(from.ip().to_canonical())) else { continue };
                if entered.displaced {
                    tracing::debug!(%from, "metrics.listen: an older connection gave way to this one");
                }
                // A client that goes away, or is too slow, is its own affair.
                tokio::spawn(timeout(CONNECTION_TIMEOUT, connection(stream, served.clone(), entered.place)));
            }
            Err(error) => {
                tracing::warn!(%error, "metrics.listen: no connection could be accepted");
                sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection<S>(stream: S, served: Served, mut place: Place)
where
    S: AsyncRead + AsyncWrite + Unpin,
{
    let standing = place.standing();
    let spoken = AtomicBool::new(false);
    let answer = |request: Request<Incoming>| {
        spoken.store(true, Ordering::Relaxed);
        standing.served();
        let served = &served;
        async move { Ok::<_, Infallible>(answer(&request, served).await) }
    };
    let serving = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(Prompt::new(stream)), service_fn(answer));
    let silent = async {
        sleep(FIRST_HEAD).await;
        if spoken.load(Ordering::Relaxed) {
            std::future::pending::<()>().await;
        }
    };
    tokio::select! {
        _ = serving => {}
        () = place.left() => {}
        () = silent => {}
    }
}

async fn answer(request: &Request<Incoming>, served: &Served) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "expected GET");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    let probes = &served.probes;
    match request.uri().path() {
        "/metrics" => served.metrics().await,
        "/livez" => probe(probes.live()),
        "/readyz" => probe(probes.ready()),
        "/servez" => probe(probes.serves()),
        "/startupz" => probe(probes.startup()),
        _ => text(StatusCode::NOT_FOUND, "there are /metrics, /livez, /readyz, /servez and /startupz"),
    }
}

fn probe(outcome: Result<(), String>) -> Response<Full<Bytes>> {
    match outcome {
        Ok(()) => text(StatusCode::OK, "ok"),
        Err(why) => text(StatusCode::SERVICE_UNAVAILABLE, &why),
    }
}

fn text(status: StatusCode, body: &str) -> Response<Full<Bytes>> {
    let mut response = Response::new(Full::new(Bytes::from(format!("{body}\n"))));
    *response.status_mut() = status;
    response.headers_mut().insert(CONTENT_TYPE, HeaderValue::from_static(TEXT));
    response.headers_mut().insert(CACHE_CONTROL, HeaderValue::from_static("no-store"));
    response
}

#[cfg(test)]
mod tests {
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, duplex};

    use super::super::prompt::ANSWER_TIMEOUT;
    use super::*;

    fn served(stream: tokio::io::DuplexStream) -> tokio::task::JoinHandle<()> {
        let place = Room::of(1, 1).enter(None).unwrap().place;
        tokio::spawn(connection(stream, Served::new(Probes::default()), place))
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_says_nothing_is_closed_soon_and_whoever_has_asked_is_not() {
        let ((near_asked, mut asked), (near_silent, mut silent)) = (duplex(1 << 10), duplex(64));
        let (_serving, _silence) = (served(near_asked), served(near_silent));
        asked.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        let begin = tokio::time::Instant::now();
        assert_eq!(silent.read(&mut [0]).await.unwrap(), 0, "closed by the listener");
        assert_eq!(begin.elapsed(), FIRST_HEAD);
        asked.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\nconnection: close\r\n\r\n").await.unwrap();
        let mut answers = String::new();
        asked.read_to_string(&mut answers).await.unwrap();
        assert_eq!(answers.matches("200 OK").count(), 2, "{answers}");
    }

    #[tokio::test(start_paused = true)]
    async fn an_answer_that_is_not_taken_is_given_up() {
        // Less than any answer has.
        let (near, mut far) = duplex(64);
        let serving = served(near);
        far.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
        timeout(2 * ANSWER_TIMEOUT, serving).await.unwrap().unwrap();
    }

    #[tokio::test(start_paused = true)]
    async fn whoever_takes_each_answer_is_served_for_long() {
        let (near, mut far) = duplex(64);
        let serving = served(near);
        for _ in 0..5 {
            far.write_all(b"GET /livez HTTP/1.1\r\nhost: a\r\n\r\n").await.unwrap();
            let mut answer = Vec::new();
            // The body is one line, and those of the head end otherwise.
            while !answer.ends_with(b"\n") || answer.ends_with(b"\r\n") {
                answer.push(far.read_u8().await.unwrap());
            }
            sleep(ANSWER_TIMEOUT * 2 / 3).await;
        }
        assert!(!serving.is_finished());
    }
}
