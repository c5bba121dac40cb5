//! The HTTP listener of `metrics.listen`: probes, and what Prometheus reads. It answers GET and HEAD of a handful of paths and
//! takes no body; whoever is slow, or opens many connections, holds up himself.

use std::convert::Infallible;
use std::io;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use http_body_util::Full;
use hyper::body::{Bytes, Incoming};
use hyper::header::{ALLOW, CACHE_CONTROL, CONTENT_TYPE, HeaderValue};
use hyper::server::conn::http1;
use hyper::service::service_fn;
use hyper::{Method, Request, Response, StatusCode};
use hyper_util::rt::{TokioIo, TokioTimer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;

use super::probes::Probes;

/// Connections at a time; further ones wait to be accepted. A pair of Prometheus servers, the probes of a kubelet and some
/// people are a dozen.
const MAX_CONNECTIONS: usize = 64;
/// How long a client may take for the head of a request, idle connections included: longer than the usual interval of scrapes,
/// so that Prometheus keeps its connection.
const HEAD_TIMEOUT: Duration = Duration::from_secs(90);
/// How long a whole connection may last: a client that never reads its answer ends with it.
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

/// Serves until it is dropped.
pub async fn serve(listener: TcpListener, probes: Probes) {
    let room = Arc::new(Semaphore::new(MAX_CONNECTIONS));
    loop {
        // Never closed, so there is no error.
        let Ok(place) = Arc::clone(&room).acquire_owned().await else { return };
        match listener.accept().await {
            Ok((stream, _)) => {
                let probes = probes.clone();
                tokio::spawn(async move {
                    // A client that goes away, or is too slow, is its own affair.
                    let _ = tokio::time::timeout(CONNECTION_TIMEOUT, connection(stream, &probes)).await;
                    drop(place);
                });
            }
            Err(error) => {
                tracing::warn!(%error, "metrics.listen: no connection could be accepted");
                tokio::time::sleep(ACCEPT_PAUSE).await;
            }
        }
    }
}

async fn connection(stream: TcpStream, probes: &Probes) -> Result<(), hyper::Error> {
    let answer = |request: Request<Incoming>| async move { Ok::<_, Infallible>(answer(&request, probes)) };
    http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD)
        .serve_connection(TokioIo::new(stream), service_fn(answer))
        .await
}

fn answer(request: &Request<Incoming>, probes: &Probes) -> Response<Full<Bytes>> {
    if request.method() != Method::GET && request.method() != Method::HEAD {
        let mut response = text(StatusCode::METHOD_NOT_ALLOWED, "expected GET");
        response.headers_mut().insert(ALLOW, HeaderValue::from_static("GET, HEAD"));
        return response;
    }
    match request.uri().path() {
        "/livez" => probe(probes.live()),
        "/readyz" => probe(probes.ready()),
        "/startupz" => probe(probes.startup()),
        _ => text(StatusCode::NOT_FOUND, "there are /livez, /readyz and /startupz"),
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
