//! A connection by whichever door, and who holds it.

use std::fmt;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::pin::Pin;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::task::{Context, Poll};
use std::time::Duration;

use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::Sleep;
use tokio_openssl::SslStream;
use tonic::transport::server::Connected;

use crate::access::tls::ClientCertificate;
use crate::room::{Place, Standing};

/// Logins that fail on one connection before it is closed: whoever has no credential has to come again, which is limited too.
const MAX_FAILURES: u32 = 50;

/// How long a connection may be there before a request on it is let in: a client has its first one ready.
const PATIENCE: Duration = Duration::from_secs(30);

/// A connection.
#[derive(Debug)]
pub struct Connection {
    stream: Stream,
    holder: Holder,
    /// Ends the connection if nobody has said by then who they are.
    patience: Option<Pin<Box<Sleep>>>,
    place: Place,
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
    standing: Standing,
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
    /// A request on it was let in.
    admitted: AtomicBool,
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
    fn new(origin: Origin, certificate: Option<Arc<ClientCertificate>>, place: &Place) -> Self {
        Self { origin, certificate, conduct: Arc::default(), standing: place.standing() }
    }

    /// A credential was taken on the connection, which keeps its place from now on.
    pub(crate) fn known(&self) {
        self.standing.known();
    }

    /// A request on the connection was let in.
    pub(crate) fn admitted(&self) {
        self.conduct.admitted.store(true, Ordering::Relaxed);
        self.standing.served();
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
    fn new(stream: Stream, holder: Holder, place: Place) -> Self {
        Self { stream, holder, patience: Some(Box::pin(tokio::time::sleep(PATIENCE))), place }
    }

    pub(crate) fn tcp(stream: TcpStream, from: SocketAddr, place: Place) -> Self {
        let holder = Holder::new(Origin::Tcp(from), None, &place);
        Self::new(Stream::Tcp(stream), holder, place)
    }

    pub(crate) fn tls(stream: SslStream<TcpStream>, from: SocketAddr, place: Place) -> Self {
        let certificate = stream.ssl().peer_certificate().and_then(|cert| ClientCertificate::read(&cert));
        let holder = Holder::new(Origin::Tcp(from), certificate.map(Arc::new), &place);
        Self::new(Stream::Tls(stream), holder, place)
    }

    pub(crate) fn unix(stream: UnixStream, place: Place) -> Self {
        let uid = stream.peer_cred().ok().map(|credentials| credentials.uid());
        let holder = Holder::new(Origin::Unix(uid), None, &place);
        Self::new(Stream::Unix(stream), holder, place)
    }

    /// Whether its place was given to another.
    fn gave_way(&mut self, cx: &mut Context<'_>) -> bool {
        self.place.poll_left(cx).is_ready()
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
        if self.gave_way(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
        if let Some(patience) = &mut self.patience
            && patience.as_mut().poll(cx).is_ready()
        {
            self.patience = None;
            if !self.holder.conduct.admitted.load(Ordering::Relaxed) {
                self.holder.conduct.closed.store(true, Ordering::Relaxed);
            }
        }
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
        // Whoever does not read what is written would keep us from ever reading.
        if self.gave_way(cx) {
            return Poll::Ready(Err(io::ErrorKind::ConnectionAborted.into()));
        }
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::room::Room;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

    #[tokio::test]
    async fn a_stranger_that_says_nothing_is_closed_for_the_next_and_whoever_is_known_is_not() {
        let room = Room::of(2, 2);
        let enter = || room.enter(None).unwrap().place;
        let (near, mut far) = UnixStream::pair().unwrap();
        let mut known = Connection::unix(near, enter());
        known.connect_info().known();
        let (near, _silent) = UnixStream::pair().unwrap();
        let mut stranger = Connection::unix(near, enter());
        let waiting = tokio::spawn(async move { (stranger.read_u8().await, stranger.write_u8(1).await) });
        tokio::task::yield_now().await;
        let _next = enter();
        let (read, written) = waiting.await.unwrap();
        assert_eq!(read.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        assert_eq!(written.unwrap_err().kind(), io::ErrorKind::ConnectionAborted);
        far.write_u8(7).await.unwrap();
        assert_eq!(known.read_u8().await.unwrap(), 7);
    }
}
