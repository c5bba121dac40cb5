//! The connection to the node.

use std::path::PathBuf;
use std::pin::Pin;
use std::time::Duration;

use actors::SpanContext;
use culvert_proto::v1::audit_service_client::AuditServiceClient;
use culvert_proto::v1::batch_service_client::BatchServiceClient;
use culvert_proto::v1::node_service_client::NodeServiceClient;
use culvert_proto::v1::peer_service_client::PeerServiceClient;
use culvert_proto::v1::sa_service_client::SaServiceClient;
use culvert_proto::v1::secret_service_client::SecretServiceClient;
use culvert_proto::v1::tenant_service_client::TenantServiceClient;
use culvert_proto::v1::token_service_client::TokenServiceClient;
use http::Uri;
use hyper_util::rt::TokioIo;
use tls::{ConnectError, Connector, FilesError, Which, tcp};
use tokio::net::{TcpStream, UnixStream};
use tokio_openssl::SslStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::config::exposed;
use crate::console::Global;
use crate::console::beside::tell;
use crate::console::failure::{Failure, exit, root_cause, tls_hint, tls_words};
use crate::console::stream::{Stream, begin, broken};
use crate::console::target::{Server, Target};
use crate::telemetry::rpc::TRACEPARENT;

/// A node that does not accept a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A connection on which something is waited for is asked for a sign of life this often, ...
const KEEPALIVE: Duration = Duration::from_secs(10);
/// ... and given up when there is none for this long: a machine that is lost, or a path that was cut, tells nobody, and a stream has no
/// other end.
const KEEPALIVE_TIMEOUT: Duration = Duration::from_secs(10);
/// Greatest answer accepted: a full page of peers with many children.
const MAX_ANSWER: usize = 64 << 20;

/// Of Apply: what was there before and what is there now of all that a node takes at once, and as much for what that does.
pub(crate) const MAX_APPLIED: usize = 256 << 20;

/// A connection, with a client for each service.
#[derive(Clone)]
pub(crate) struct Client {
    channel: Channel,
    credentials: Credentials,
}

/// Goes with every request.
#[derive(Clone, Default)]
pub(crate) struct Credentials {
    authorization: Option<MetadataValue<Ascii>>,
    /// Of the trace that the command is, as W3C has it.
    traceparent: Option<MetadataValue<Ascii>>,
}

impl Interceptor for Credentials {
    fn call(&mut self, mut request: Request<()>) -> Result<Request<()>, Status> {
        if let Some(value) = &self.authorization {
            request.metadata_mut().insert("authorization", value.clone());
        }
        if let Some(value) = &self.traceparent {
            request.metadata_mut().insert(TRACEPARENT, value.clone());
        }
        Ok(request)
    }
}

type Authorized = InterceptedService<Channel, Credentials>;

impl Client {
    /// To the node that the options, the environment or the context name.
    pub(crate) async fn connect(global: &Global) -> Result<Self, Failure> {
        let mut client = Self::to(&Target::resolve(global)?, global.timeout).await?;
        if global.trace {
            // Whoever asks for a trace wants to see it.
            let trace = SpanContext { sampled: true, ..SpanContext::root() };
            client.credentials.traceparent = MetadataValue::try_from(trace.to_string()).ok();
            tell(format_args!("trace {}", trace.trace_id()));
        }
        Ok(client)
    }

    pub(crate) async fn to(target: &Target, timeout: Duration) -> Result<Self, Failure> {
        let unavailable = |reason: String| {
            Failure::new(exit::UNAVAILABLE, format!("cannot reach {}: {reason}", target.server))
        };
        let absent =
            "is culvertd running there? Start it with `culvertd`, or name another node with --server";
        let endpoint = |uri| endpoint(uri, timeout);
        let connected = match &target.server {
            Server::Plain(url) => endpoint(url)?.connect_with_connector(tower::service_fn(plain)).await,
            Server::Unix(path) => {
                let path = path.clone();
                // The name is for the header `:authority` alone.
                endpoint("http://localhost")?
                    .connect_with_connector(tower::service_fn(move |_: Uri| unix(path.clone())))
                    .await
            }
            Server::Tls(url) => {
                let connector = tls_to(target)?;
                // To tonic it is plain, for the stream that it gets is.
                endpoint(&url.replacen("https://", "http://", 1))?
                    .connect_with_connector(tower::service_fn(move |uri: Uri| secure(connector.clone(), uri)))
                    .await
            }
        };
        let channel = connected.map_err(|error| {
            let reason = broken().unwrap_or_else(|| root_cause(&error));
            let hint = tls_hint(&reason).unwrap_or(absent).to_owned();
            unavailable(reason).hint(hint)
        })?;
        let authorization = match target.token() {
            None => None,
            Some(token) => {
                let value = MetadataValue::try_from(format!("Bearer {token}"));
                let mut value =
                    value.map_err(|_| Failure::invalid("the token has characters that none has"))?;
                value.set_sensitive(true);
                Some(value)
            }
        };
        Ok(Self { channel, credentials: Credentials { authorization, traceparent: None } })
    }

    pub(crate) fn tenants(&self) -> TenantServiceClient<Authorized> {
        TenantServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn secrets(&self) -> SecretServiceClient<Authorized> {
        SecretServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn peers(&self) -> PeerServiceClient<Authorized> {
        PeerServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn sas(&self) -> SaServiceClient<Authorized> {
        SaServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn batches(&self) -> BatchServiceClient<Authorized> {
        BatchServiceClient::new(self.authorized()).max_decoding_message_size(MAX_APPLIED)
    }

    pub(crate) fn nodes(&self) -> NodeServiceClient<Authorized> {
        NodeServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn tokens(&self) -> TokenServiceClient<Authorized> {
        TokenServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn audits(&self) -> AuditServiceClient<Authorized> {
        AuditServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    fn authorized(&self) -> Authorized {
        InterceptedService::new(self.channel.clone(), self.credentials.clone())
    }
}

/// How a node is reached.
fn endpoint(uri: &str, timeout: Duration) -> Result<Endpoint, Failure> {
    let endpoint = Endpoint::from_shared(uri.to_owned())
        .map_err(|error| Failure::invalid(format!("--server {uri}: {error}")))?;
    let endpoint = endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(timeout);
    Ok(endpoint.http2_keep_alive_interval(KEEPALIVE).keep_alive_timeout(KEEPALIVE_TIMEOUT))
}

async fn plain(uri: Uri) -> Result<TokioIo<Stream<TcpStream>>, std::io::Error> {
    begin();
    tcp(&uri, 80).await.map(|stream| TokioIo::new(Stream::plain(stream)))
}

async fn unix(path: PathBuf) -> Result<TokioIo<UnixStream>, std::io::Error> {
    begin();
    UnixStream::connect(path).await.map(TokioIo::new)
}

type Connecting =
    Pin<Box<dyn Future<Output = Result<TokioIo<Stream<SslStream<TcpStream>>>, std::io::Error>> + Send>>;

/// TLS with the files of the options.
fn tls_to(target: &Target) -> Result<Connector, Failure> {
    let (cert, key) = target.identity.clone().unzip();
    if let Some(warning) = key.as_deref().and_then(exposed) {
        warn(&format!("--key {warning}"));
    }
    let connector = Connector::new(tls::Files { ca: target.ca.clone(), cert, key }).map_err(option)?;
    Ok(match &target.server_name {
        Some(name) => connector.expecting(name),
        None => connector,
    })
}

/// By the option that names the file.
fn option(error: FilesError) -> Failure {
    let option = match error.which() {
        Some(Which::Ca) => "--ca ",
        Some(Which::Cert) => "--cert ",
        Some(Which::Key) => "--key ",
        None => return Failure::failed(format!("TLS: {error}")),
    };
    Failure::invalid(format!("{option}{error}"))
}

fn secure(connector: Connector, uri: Uri) -> Connecting {
    Box::pin(async move {
        begin();
        let stream = connector.connect(&uri).await.map_err(|error| match error {
            ConnectError::Certificate(reason) => {
                std::io::Error::other(format!("TLS: the certificate of the node: {reason}"))
            }
            ConnectError::Handshake(reason) => {
                let words = tls_words(&reason).map_or_else(|| format!("TLS: {reason}"), str::to_owned);
                std::io::Error::other(words)
            }
            other => other.into(),
        })?;
        Ok(TokioIo::new(Stream::tls(stream)))
    })
}

fn warn(what: &str) {
    tell(format_args!("warning: {what}"));
}

#[cfg(test)]
mod tests {
    use culvert_proto::v1;
    use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _, DuplexStream, duplex};
    use tokio::time::Instant;
    use tonic::Code;

    use super::*;

    /// A node that begins to answer a stream, and is lost then: its machine has no power, and nobody closes the connection.
    async fn lost(mut way: DuplexStream) {
        const SETTINGS: [u8; 9] = [0, 0, 0, 4, 0, 0, 0, 0, 0];
        // Of stream 1, with `:status: 200`.
        const HEADERS: [u8; 10] = [0, 0, 1, 1, 4, 0, 0, 0, 1, 0x88];
        way.write_all(&SETTINGS).await.unwrap();
        way.read_exact(&mut [0; b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n".len()]).await.unwrap();
        let mut head = [0; 9];
        while way.read_exact(&mut head).await.is_ok() {
            let [.., length, kind, _, _, _, _, _] = head;
            let mut rest = vec![0; usize::from(length)];
            way.read_exact(&mut rest).await.unwrap();
            if kind == 1 {
                way.write_all(&HEADERS).await.unwrap();
            }
        }
    }

    #[tokio::test(start_paused = true)]
    async fn a_stream_ends_though_the_machine_of_the_node_is_lost() {
        let (near, far) = duplex(1 << 16);
        let mut near = Some(near);
        let connect = move |_: Uri| std::future::ready(near.take().map(TokioIo::new).ok_or(std::fmt::Error));
        let endpoint = endpoint("http://node", Duration::from_secs(3_600)).unwrap();
        let channel = endpoint.connect_with_connector(tower::service_fn(connect)).await.unwrap();
        let mut client = SaServiceClient::new(channel);
        tokio::spawn(lost(far));
        let begun = Instant::now();
        let mut events = client.watch_events(v1::WatchEventsRequest::default()).await.unwrap().into_inner();
        let status = events.message().await.unwrap_err();
        assert_eq!(status.code(), Code::Unknown, "as of every connection that breaks: {status}");
        let took = begun.elapsed();
        assert!(took >= KEEPALIVE && took <= KEEPALIVE + 2 * KEEPALIVE_TIMEOUT, "{took:?}");
    }
}
