//! A connection by whichever door, and who holds it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio_openssl::SslStream;
use tonic::transport::server::Connected;

use crate::access::tls::ClientCertificate;

/// Logins that fail on one connection before it is closed: whoever has no credential has to come again, which is limited too.
const MAX_FAILURES: u32 = 50;

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    holder: Holder,
}

#[derive(Debug)]
enum Stream {
    Tcp(TcpStream),
    Tls(SslStream<TcpStream>),
    Unix(UnixStream),
}

/// Who holds a connection.
#[derive(Clone, Debug)]
pub struct Holder {
    pub(crate) origin: Origin,
    /// What it has shown in the handshake.
    pub(crate) certificate: Option<Arc<ClientCertificate>>,
    conduct: Arc<Conduct>,
}

/// Where a connection comes from.
#[derive(Clone, Debug)]
pub(crate) enum Origin {
    Tcp(SocketAddr),
    /// A user of this host; `None` if the kernel does not say which.
    Unix(Option<u32>),
}

/// How a connection has behaved.
#[derive(Debug, Default)]
struct Conduct {
    failures: AtomicU32,
    closed: AtomicBool,
}

impl Origin {
    /// The address it comes from.
    pub(crate) fn ip(&self) -> Option<IpAddr> {
        match self {
            Self::Tcp(address) => Some(address.ip().to_canonical()),
            Self::Unix(_) => None,
        }
    }
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Tcp(address) => address.fmt(f),
            Self::Unix(_) => f.write_str("local"),
        }
    }
}

impl Holder {
    fn new(origin: Origin, certificate: Option<Arc<ClientCertificate>>) -> Self {
        Self { origin, certificate, conduct: Arc::default() }
    }

    /// A login on the connection has failed. True if that was the last one: it is closed.
    pub(crate) fn failed_login(&self) -> bool {
        let closed = self.conduct.failures.fetch_add(1, Ordering::Relaxed) + 1 == MAX_FAILURES;
        if closed {
            self.conduct.closed.store(true, Ordering::Relaxed);
        }
        closed
    }
}

impl Connection {
    pub(crate) fn tcp(stream: TcpStream, from: SocketAddr) -> Self {
        Self { stream: Stream::Tcp(stream), holder: Holder::new(Origin::Tcp(from), None) }
    }

    pub(crate) fn tls(stream: SslStream<TcpStream>, from: SocketAddr) -> Self {
        let certificate = stream.ssl().peer_certificate().and_then(|cert| ClientCertificate::read(&cert));
        let holder = Holder::new(Origin::Tcp(from), certificate.map(Arc::new));
        Self { stream: Stream::Tls(stream), holder }
    }

    pub(crate) fn unix(stream: UnixStream) -> Self {
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        Self { stream: Stream::Unix(stream), holder: Holder::new(Origin::Unix(uid), None) }
    }
}

impl Connected for Connection {
    type ConnectInfo = Holder;

    fn connect_info(&self) -> Holder {
        self.holder.clone()
    }
}

impl AsyncRead for Connection {
    fn poll_read(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buf: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        if self.holder.conduct.closed.load(Ordering::Relaxed) {
            // As if the other side had closed it.
            return Poll::Ready(Ok(()));
        }
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_read(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_read(cx, buf),
        }
    }
}

impl AsyncWrite for Connection {
    fn poll_write(mut self: Pin<&mut Self>, cx: &mut Context<'_>, buf: &[u8]) -> Poll<io::Result<usize>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Tls(stream) => Pin::new(stream).poll_write(cx, buf),
            Stream::Unix(stream) => Pin::new(stream).poll_write(cx, buf),
        }
    }

    fn poll_flush(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_flush(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_flush(cx),
        }
    }

    fn poll_shutdown(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        match &mut self.stream {
            Stream::Tcp(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Tls(stream) => Pin::new(stream).poll_shutdown(cx),
            Stream::Unix(stream) => Pin::new(stream).poll_shutdown(cx),
        }
    }
}
