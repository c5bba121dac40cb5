//! The doors of the API: TCP, with TLS or without, and the Unix socket.

use std::net::SocketAddr;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};
use std::time::{Duration, Instant};

use openssl::ssl::Ssl;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpListener, TcpStream, UnixListener};
use tokio::sync::mpsc;
use tokio::task::JoinSet;
use tokio_openssl::SslStream;
use tokio_stream::Stream;

use crate::access::connection::Connection;
use crate::access::tls;
use crate::access::{Access, Tls, TlsError};
use crate::config::GrpcConfig;
use crate::room::Room;

/// Connections that wait to be served. They are taken within a turn of the server, so a few are plenty.
const WAITING: usize = 64;
/// Handshakes of TLS at a time: each holds some 50 KiB and costs a millisecond of a core, and a client that dawdles holds it for
/// [`HANDSHAKE`].
const HANDSHAKES: usize = 512;
/// Those of one source, so that nobody takes all of them.
const HANDSHAKES_OF_SOURCE: usize = 32;
/// How long a client whose certificate was refused has for reading why: a way there and back, with a loss. It keeps its place among the
/// handshakes meanwhile.
const LINGER: Duration = Duration::from_secs(1);
/// What it may have sent by then: the beginning of HTTP/2 and a request or two.
const MAX_UNREAD: u64 = 64 * 1024;
/// How long a handshake may take.
const HANDSHAKE: Duration = Duration::from_secs(10);
/// How often files are looked at for changes: a new certificate is put there days before the old one ends.
const REFRESH: Duration = Duration::from_secs(5);
/// What follows when a connection cannot be accepted, for want of file descriptors mostly.
const PAUSE: Duration = Duration::from_millis(100);

/// Why the API cannot be reached.
#[derive(Debug, thiserror::Error)]
pub enum DoorError {
    /// The address cannot be listened on.
    #[error("grpc.listen {address}: {source}{}", hint(source))]
    Bind {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: std::io::Error,
    },
    /// The Unix socket cannot be made.
    #[error("grpc.socket {}: {reason}", path.display())]
    Socket {
        /// Its path.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// TLS cannot be spoken.
    #[error(transparent)]
    Tls(#[from] TlsError),
    /// The value of a token cannot be had.
    #[error("grpc.tokens: {name}: {}: {reason}", path.display())]
    Token {
        /// What it is called.
        name: String,
        /// Where its value should be.
        path: PathBuf,
        /// Why.
        reason: String,
    },
    /// The file of a token is gone, or has nothing in it.
    #[error("grpc.tokens: {name}: {}: {reason}", path.display())]
    NoToken {
        /// What it is called.
        name: String,
        /// Where its value should be.
        path: PathBuf,
        /// Which of the two.
        reason: String,
    },
}

/// What the API is reached by, bound and not served yet.
pub struct Doors {
    tcp: Option<TcpListener>,
    tls: Option<Arc<Tls>>,
    unix: Option<(UnixListener, SocketFile)>,
}

/// A path that goes with the door.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // The next daemon removes it otherwise.
        let _ = std::fs::remove_file(&self.0);
    }
}

impl Doors {
    /// Binds what is configured.
    pub async fn bind(config: &GrpcConfig, state_dir: &Path) -> Result<Self, DoorError> {
        let tls = config.tls.as_ref().map(Tls::open).transpose()?.map(Arc::new);
        let tcp = match config.listen {
            None => None,
            Some(address) => {
                let bound = TcpListener::bind(address).await;
                Some(bound.map_err(|source| DoorError::Bind { address, source })?)
            }
        };
        let unix = match config.socket(state_dir) {
            None => None,
            Some(path) => Some(socket(path, !config.users.is_empty())?),
        };
        Ok(Self { tcp, tls, unix })
    }

    /// A port that is bound already, without TLS.
    pub fn tcp(listener: TcpListener) -> Self {
        Self { tcp: Some(listener), tls: None, unix: None }
    }

    /// Where TCP is listened on.
    pub fn address(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// Where the Unix socket is.
    pub fn socket(&self) -> Option<&Path> {
        self.unix.as_ref().map(|(_, file)| file.0.as_path())
    }

    /// TLS, as far as it is spoken.
    pub fn tls(&self) -> Option<Arc<Tls>> {
        self.tls.clone()
    }

    /// Lets connections in.
    pub fn open(self, access: &Arc<Access>) -> Incoming {
        let (sender, receiver) = mpsc::channel(WAITING);
        let mut tasks = JoinSet::new();
        match (self.tcp, &self.tls) {
            (Some(listener), Some(tls)) => {
                tasks.spawn(accept_tls(listener, Arc::clone(tls), Arc::clone(access), sender.clone()));
            }
            (Some(listener), None) => {
                tasks.spawn(accept_tcp(listener, Arc::clone(access), sender.clone()));
            }
            (None, _) => {}
        }
        if let Some((listener, file)) = self.unix {
            tasks.spawn(accept_unix(listener, file, Arc::clone(access), sender));
        }
        tasks.spawn(refresh(self.tls, Arc::clone(access)));
        Incoming { receiver, _tasks: tasks }
    }
}

/// Connections as they come in, by all doors. Dropped, it closes them.
pub struct Incoming {
    receiver: mpsc::Receiver<Connection>,
    _tasks: JoinSet<()>,
}

impl Stream for Incoming {
    type Item = Result<Connection, std::io::Error>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.receiver.poll_recv(cx).map(|connection| connection.map(Ok))
    }
}

/// Makes the Unix socket. One that a daemon left behind when it died makes room, one that is listened on does not.
fn socket(path: PathBuf, for_others: bool) -> Result<(UnixListener, SocketFile), DoorError> {
    let fail = |reason: String| DoorError::Socket { path: path.clone(), reason };
    if std::os::unix::net::UnixStream::connect(&path).is_ok() {
        return Err(fail("somebody listens there; is another culvertd running?".to_owned()));
    }
    match std::fs::symlink_metadata(&path) {
        Ok(metadata) if std::os::unix::fs::FileTypeExt::is_socket(&metadata.file_type()) => {
            std::fs::remove_file(&path).map_err(|error| fail(error.to_string()))?;
        }
        Ok(_) => return Err(fail("is there already, and is no socket".to_owned())),
        Err(_) => {}
    }
    let listener = UnixListener::bind(&path).map_err(|error| fail(error.to_string()))?;
    let file = SocketFile(path.clone());
    // Whoever connects is asked for its user all the same.
    let mode = if for_others { 0o666 } else { 0o600 };
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode))
        .map_err(|error| fail(error.to_string()))?;
    Ok((listener, file))
}

async fn accept_tcp(listener: TcpListener, access: Arc<Access>, served: mpsc::Sender<Connection>) {
    loop {
        let Some((stream, from)) = accepted(listener.accept().await).await else { continue };
        let Some(place) = access.place(Some(from.ip().to_canonical())) else { continue };
        let _ = stream.set_nodelay(true);
        if served.send(Connection::tcp(stream, from, place)).await.is_err() {
            return;
        }
    }
}

async fn accept_unix(
    listener: UnixListener,
    _file: SocketFile,
    access: Arc<Access>,
    served: mpsc::Sender<Connection>,
) {
    loop {
        let Some((stream, _)) = accepted(listener.accept().await).await else { continue };
        let Some(place) = access.place(None) else { continue };
        if served.send(Connection::unix(stream, place)).await.is_err() {
            return;
        }
    }
}

async fn accept_tls(
    listener: TcpListener,
    tls: Arc<Tls>,
    access: Arc<Access>,
    served: mpsc::Sender<Connection>,
) {
    let room = Room::of(HANDSHAKES, HANDSHAKES_OF_SOURCE);
    loop {
        let Some((stream, from)) = accepted(listener.accept().await).await else { continue };
        let source = from.ip().to_canonical();
        // Before it takes a place of anybody's. Closed at once, so that whoever floods has nothing to hold.
        if !access.limits.handshake(source, Instant::now()) {
            access.counters.connection_limited();
            continue;
        }
        let Some(mut permit) = access.entered(room.enter(Some(source))) else { continue };
        let Some(mut place) = access.place(Some(source)) else { continue };
        let (acceptor, access, served) = (tls.acceptor(), Arc::clone(&access), served.clone());
        tokio::spawn(async move {
            let handshake = tokio::time::timeout(HANDSHAKE, handshake(&acceptor, stream));
            let done = tokio::select! {
                done = handshake => done,
                // Closed, for another that has only begun as well.
                () = permit.left() => return,
                () = place.left() => return,
            };
            match done {
                Ok(Ok(stream)) => {
                    drop(permit);
                    // Nobody to serve it: the node goes down.
                    let _ = served.send(Connection::tls(stream, from, place)).await;
                }
                Ok(Err(Broken { error, certificate })) => {
                    access.counters.handshake_failed();
                    tracing::debug!(%from, error, "TLS handshake of the API");
                    // Its place is free while this is written.
                    drop((permit, place));
                    if let Some(reason) = certificate {
                        access.certificate_refused(from, reason).await;
                    }
                }
                Err(_) => access.counters.handshake_failed(),
            }
        });
    }
}

/// A handshake that came to nothing.
struct Broken {
    /// As OpenSSL has it.
    error: String,
    /// Why the client's certificate was refused, if it was that.
    certificate: Option<String>,
}

impl From<openssl::error::ErrorStack> for Broken {
    fn from(error: openssl::error::ErrorStack) -> Self {
        Self { error: error.to_string(), certificate: None }
    }
}

async fn handshake(
    acceptor: &openssl::ssl::SslAcceptor,
    stream: TcpStream,
) -> Result<SslStream<TcpStream>, Broken> {
    let _ = stream.set_nodelay(true);
    let ssl = Ssl::new(acceptor.context())?;
    let mut stream = SslStream::new(ssl, stream)?;
    match Pin::new(&mut stream).accept().await {
        Ok(()) => Ok(stream),
        Err(error) => {
            let certificate = tls::why_refused(stream.ssl().verify_result());
            if certificate.is_some() {
                let_read(stream.get_mut()).await;
            }
            Err(Broken { error: error.to_string(), certificate })
        }
    }
}

/// Ends a connection so that what was said last gets there: one that is closed while something of the client's is unread is reset, and a
/// reset overtakes the alert that says why.
async fn let_read(stream: &mut TcpStream) {
    let drain = async {
        stream.shutdown().await?;
        tokio::io::copy(&mut stream.take(MAX_UNREAD), &mut tokio::io::sink()).await
    };
    // Whoever stays away or has gone is not waited for.
    let _ = tokio::time::timeout(LINGER, drain).await;
}

/// What was accepted; nothing after a pause if that failed.
async fn accepted<T>(result: std::io::Result<T>) -> Option<T> {
    match result {
        Ok(accepted) => Some(accepted),
        Err(error) => {
            tracing::warn!(%error, "a connection to the API could not be accepted");
            tokio::time::sleep(PAUSE).await;
            None
        }
    }
}

/// Reads files again that have changed, for as long as the doors are open, and tends the catalog's store.
async fn refresh(tls: Option<Arc<Tls>>, access: Arc<Access>) {
    let mut due = tokio::time::interval(REFRESH);
    // What the store said last: a disk may be full for days.
    let mut told = None;
    loop {
        due.tick().await;
        let (tls, access) = (tls.clone(), Arc::clone(&access));
        let read = tokio::task::spawn_blocking(move || {
            access.refresh();
            access.note_suppressed();
            if tls.is_some_and(|tls| !tls.refresh()) {
                access.counters.reload_failed();
            }
            access.catalog.tend().err().map(|error| error.to_string())
        });
        // A panic is told by the runtime; the next turn tries again.
        let Ok(fault) = read.await else { continue };
        if let Some(error) = fault.as_ref().filter(|_| fault != told) {
            tracing::warn!(
                error,
                "the store does not take what is to be kept, such as when tokens were shown last"
            );
        }
        told = fault;
    }
}

fn hint(error: &std::io::Error) -> &'static str {
    match error.kind() {
        std::io::ErrorKind::AddrInUse => {
            "; is another culvertd running? Choose another port with grpc.listen"
        }
        std::io::ErrorKind::AddrNotAvailable => "; no interface of this host has that address",
        std::io::ErrorKind::PermissionDenied => "; ports below 1024 need a privilege",
        _ => "",
    }
}
