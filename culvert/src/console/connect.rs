//! The connection to the node.

use std::path::{Path, PathBuf};
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
use openssl::ssl::{SslConnector, SslFiletype, SslMethod};
use tokio::net::{TcpStream, UnixStream};
use tokio_openssl::SslStream;
use tonic::metadata::{Ascii, MetadataValue};
use tonic::service::Interceptor;
use tonic::service::interceptor::InterceptedService;
use tonic::transport::{Channel, Endpoint};
use tonic::{Request, Status};

use crate::config::exposed;
use crate::console::Global;
use crate::console::failure::{Failure, exit, root_cause, tls_hint, tls_words};
use crate::console::stream::{Stream, begin, broken};
use crate::console::target::{Server, Target};
use crate::telemetry::rpc::TRACEPARENT;

/// A node that does not accept a connection within this is not there.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// Greatest answer accepted: a full page of peers with many children.
const MAX_ANSWER: usize = 64 << 20;
/// HTTP/2, as ALPN has it (RFC 7301).
const H2: &[u8] = b"\x02h2";

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
            #[allow(clippy::print_stderr, reason = "standard output is for the answer")]
            {
                eprintln!("trace {}", trace.trace_id());
            }
        }
        Ok(client)
    }

    pub(crate) async fn to(target: &Target, timeout: Duration) -> Result<Self, Failure> {
        let unavailable = |reason: String| {
            Failure::new(exit::UNAVAILABLE, format!("cannot reach {}: {reason}", target.server))
        };
        let absent =
            "is culvertd running there? Start it with `culvertd`, or name another node with --server";
        let endpoint = |uri: &str| {
            let endpoint = Endpoint::from_shared(uri.to_owned())
                .map_err(|error| Failure::invalid(format!("--server {uri}: {error}")))?;
            Ok::<_, Failure>(endpoint.connect_timeout(CONNECT_TIMEOUT).timeout(timeout))
        };
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
                let connector = Tls::new(target)?;
                // To tonic it is plain, for the stream that it gets is.
                endpoint(&url.replacen("https://", "http://", 1))?
                    .connect_with_connector(tower::service_fn(move |uri: Uri| connector.clone().connect(uri)))
                    .await
            }
        };
        let channel = connected.map_err(|error| {
            let reason = broken().unwrap_or_else(|| root_cause(&error));
            let hint = tls_hint(&reason).unwrap_or(absent).to_owned();
            unavailable(reason).hint(hint)
        })?;
        let authorization = match &target.token {
            None => None,
            Some(token) => {
                let value = MetadataValue::try_from(format!("Bearer {}", token.as_str()));
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
        BatchServiceClient::new(self.authorized()).max_decoding_message_size(MAX_ANSWER)
    }

    pub(crate) fn nodes(&self) -> NodeServiceClient<Authorized> {
        NodeServiceClient::new(self.authorized())
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

async fn plain(uri: Uri) -> Result<TokioIo<Stream<TcpStream>>, std::io::Error> {
    tcp(&uri, 80).await.map(|stream| TokioIo::new(Stream::plain(stream)))
}

async fn tcp(uri: &Uri, port: u16) -> Result<TcpStream, std::io::Error> {
    begin();
    let host = uri.host().unwrap_or_default().trim_start_matches('[').trim_end_matches(']');
    let stream = TcpStream::connect((host, uri.port_u16().unwrap_or(port))).await?;
    stream.set_nodelay(true)?;
    Ok(stream)
}

async fn unix(path: PathBuf) -> Result<TokioIo<UnixStream>, std::io::Error> {
    begin();
    UnixStream::connect(path).await.map(TokioIo::new)
}

/// Makes streams of TLS.
#[derive(Clone)]
struct Tls {
    connector: SslConnector,
    /// Name that the certificate of the node must have.
    name: String,
}

type Connecting =
    Pin<Box<dyn Future<Output = Result<TokioIo<Stream<SslStream<TcpStream>>>, std::io::Error>> + Send>>;

impl Tls {
    fn new(target: &Target) -> Result<Self, Failure> {
        let fail = |error: openssl::error::ErrorStack| Failure::failed(format!("TLS: {error}"));
        let mut builder = SslConnector::builder(SslMethod::tls()).map_err(fail)?;
        builder.set_alpn_protos(H2).map_err(fail)?;
        if let Some(ca) = &target.ca {
            readable("--ca", ca)?;
            builder
                .set_ca_file(ca)
                .map_err(|_| Failure::invalid(format!("--ca {}: is no certificate in PEM", ca.display())))?;
        }
        if let Some((cert, key)) = &target.identity {
            readable("--cert", cert)?;
            readable("--key", key)?;
            if let Some(warning) = exposed(key) {
                warn(&format!("--key {warning}"));
            }
            builder.set_certificate_chain_file(cert).map_err(|_| {
                Failure::invalid(format!("--cert {}: is no certificate in PEM", cert.display()))
            })?;
            builder.set_private_key_file(key, SslFiletype::PEM).map_err(|_| {
                Failure::invalid(format!("--key {}: is no key in PEM, or not that of --cert", key.display()))
            })?;
        }
        let uri: Option<Uri> = target.server.to_string().parse().ok();
        let host = uri.as_ref().and_then(Uri::host).unwrap_or_default();
        let host = host.trim_start_matches('[').trim_end_matches(']').to_owned();
        Ok(Self { connector: builder.build(), name: target.server_name.clone().unwrap_or(host) })
    }

    fn connect(self, uri: Uri) -> Connecting {
        Box::pin(async move {
            let stream = tcp(&uri, 443).await?;
            let ssl = self.connector.configure().and_then(|config| config.into_ssl(&self.name));
            let mut stream =
                SslStream::new(ssl.map_err(std::io::Error::other)?, stream).map_err(std::io::Error::other)?;
            let shaken = Pin::new(&mut stream).connect().await;
            shaken.map_err(|error| {
                let verified = stream.ssl().verify_result();
                let reason = match verified.as_raw() {
                    0 => {
                        let reason = error.to_string();
                        tls_words(&reason).map_or_else(|| format!("TLS: {reason}"), str::to_owned)
                    }
                    _ => format!("TLS: the certificate of the node: {}", verified.error_string()),
                };
                std::io::Error::other(reason)
            })?;
            Ok(TokioIo::new(Stream::tls(stream)))
        })
    }
}

#[allow(clippy::print_stderr, reason = "standard output is for the answer")]
fn warn(what: &str) {
    eprintln!("warning: {what}");
}

fn readable(option: &str, path: &Path) -> Result<(), Failure> {
    match std::fs::File::open(path) {
        Ok(_) => Ok(()),
        Err(error) => Err(Failure::invalid(format!("{option} {}: {error}", path.display()))),
    }
}
