//! The socket of a node, and how QUIC is set up on it.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, UdpSocket};
use std::sync::Arc;
use std::time::Duration;

use hmac::{Hmac, KeyInit as _, Mac as _};
use quinn::crypto::{AeadKey, CryptoError, HandshakeTokenKey, HmacKey};
use quinn::{
    ClientConfig, Endpoint, EndpointConfig, IdleTimeout, MtuDiscoveryConfig, ServerConfig, TokioRuntime,
    TransportConfig, ValidationTokenConfig, VarInt,
};
use quinn_proto::RandomConnectionIdGenerator;
use rustls::RootCertStore;
use rustls::client::Resumption;
use rustls::server::{NoServerSessionStorage, WebPkiClientVerifier};
use sha2::Sha256;

use super::MeshError;
use super::credentials::Credentials;
use super::session::{Client, Server, initial_suite};

/// What is spoken, with the version of it: nodes of another do not connect (RFC 7301).
const PROTOCOL: &[u8] = b"culvert-nodes/1";
/// A connection that nothing comes by for as long is given up. Well beyond a pause of the other side that all may survive, for those who
/// are silent are replaced before.
const IDLE: Duration = Duration::from_secs(30);
/// What a round trip is taken for before one is measured: nodes are near each other, and the first message may be lost.
const FIRST_RTT: Duration = Duration::from_millis(30);
/// Largest UDP payload that is tried, for loopback and interfaces with more than 1,500 octets: quinn gives the kernel up to ten at a time,
/// which together have to be one UDP packet, or all of them are lost.
const MAX_PAYLOAD: u16 = 6_500;
/// Streams that the other side may have open: two lanes, and a stream for each connection of gRPC.
const MAX_STREAMS: u32 = 256;
/// Octets under way by a stream: several frames of the largest size.
const STREAM_WINDOW: u32 = 16 << 20;
/// Octets under way by a connection, either way.
const WINDOW: u32 = 64 << 20;
/// Octets of datagrams that wait to be sent: some milliseconds of a fast network, as a packet that waits for longer is of no use.
const DATAGRAMS_OUT: usize = 1 << 20;
/// Octets of those that wait to be read, beyond which the oldest are dropped: what comes while the thread that reads has no processor.
const DATAGRAMS_IN: usize = 8 << 20;
/// Connections that may be at their beginning at a time, by strangers too.
const MAX_BEGINNING: usize = 128;
/// The kernel's buffers: a burst of packets between two turns of the thread that reads. It gives what its administrator allows.
const SOCKET_BUFFER: usize = 8 << 20;

/// An endpoint on a socket, and what connections from it are made with.
pub(super) fn endpoint(
    socket: UdpSocket,
    credentials: &Credentials,
) -> Result<(Endpoint, ClientConfig), MeshError> {
    let (client, server) = configurations(credentials)?;
    let mut config = EndpointConfig::new(Arc::new(ResetKey(Hmac::new((&*credentials.reset).into()))));
    // The usual ones are known again by the process that made them, and a reset is for one that did not.
    config.cid_generator(|| Box::new(RandomConnectionIdGenerator::default()));
    config.max_udp_payload_size(MAX_PAYLOAD).map_err(|error| MeshError::Setting(error.to_string()))?;
    let place = |error| MeshError::Socket { place: "the socket between nodes".to_owned(), error };
    let endpoint = Endpoint::new(config, Some(server), socket, Arc::new(TokioRuntime)).map_err(place)?;
    Ok((endpoint, client))
}

/// Binds the socket.
pub(super) fn bind(listen: SocketAddr) -> std::io::Result<UdpSocket> {
    let socket = socket2::Socket::new(socket2::Domain::for_address(listen), socket2::Type::DGRAM, None)?;
    socket.set_recv_buffer_size(SOCKET_BUFFER)?;
    socket.set_send_buffer_size(SOCKET_BUFFER)?;
    if listen.is_ipv6() {
        // "::" is for both families, as it is for IKE.
        socket.set_only_v6(false)?;
    }
    socket.bind(&listen.into())?;
    socket.set_nonblocking(true)?;
    Ok(socket.into())
}

/// The address from which the system sends to the host of this URL, of a family that the socket serves. Nothing is sent.
pub(super) async fn own_address(url: &str, listen: SocketAddr) -> Option<IpAddr> {
    let uri: http::Uri = url.parse().ok()?;
    let host = uri.host()?.trim_start_matches('[').trim_end_matches(']');
    let places = tokio::net::lookup_host((host, uri.port_u16().unwrap_or(443))).await.ok()?;
    for place in places.filter(|place| listen.is_ipv6() || place.is_ipv4()) {
        let any = if place.is_ipv4() {
            IpAddr::V4(Ipv4Addr::UNSPECIFIED)
        } else {
            IpAddr::V6(Ipv6Addr::UNSPECIFIED)
        };
        let Ok(socket) = tokio::net::UdpSocket::bind((any, 0)).await else { continue };
        if socket.connect(place).await.is_ok()
            && let Ok(own) = socket.local_addr()
        {
            return Some(own.ip());
        }
    }
    None
}

/// Both roles, each of which shows its certificate and demands the other's.
pub(super) fn configurations(credentials: &Credentials) -> Result<(ClientConfig, ServerConfig), MeshError> {
    configurations_with(credentials, PROTOCOL)
}

/// The same, for those who speak this.
pub(super) fn configurations_with(
    credentials: &Credentials,
    protocol: &[u8],
) -> Result<(ClientConfig, ServerConfig), MeshError> {
    let wrong = |error: &dyn std::fmt::Display| MeshError::Setting(error.to_string());
    let provider = Arc::new(rustls_openssl::default_provider());
    let Some(initial) = initial_suite(&provider) else {
        return Err(MeshError::Setting("OpenSSL has no AES-128-GCM, which QUIC begins with".to_owned()));
    };
    let mut roots = RootCertStore::empty();
    for authority in &credentials.authorities {
        roots.add(authority.clone()).map_err(|error| wrong(&error))?;
    }
    let roots = Arc::new(roots);
    let versions = [&rustls::version::TLS13];

    let builder =
        rustls::ClientConfig::builder_with_provider(provider.clone()).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| wrong(&error))?.with_root_certificates(roots.clone());
    let made = builder.with_client_auth_cert(credentials.chain.clone(), credentials.private_key());
    let mut client = made.map_err(|error| wrong(&error))?;
    client.alpn_protocols = vec![protocol.to_vec()];
    client.resumption = Resumption::disabled();

    let verifier = WebPkiClientVerifier::builder_with_provider(roots, provider.clone()).build();
    let builder = rustls::ServerConfig::builder_with_provider(provider).with_protocol_versions(&versions);
    let builder = builder.map_err(|error| wrong(&error))?;
    let builder = builder.with_client_cert_verifier(verifier.map_err(|error| wrong(&error))?);
    let made = builder.with_single_cert(credentials.chain.clone(), credentials.private_key());
    let mut server = made.map_err(|error| wrong(&error))?;
    server.alpn_protocols = vec![protocol.to_vec()];
    server.session_storage = Arc::new(NoServerSessionStorage {});
    server.send_tls13_tickets = 0;

    let transport = Arc::new(transport());
    let mut of_client = ClientConfig::new(Arc::new(Client { tls: Arc::new(client), initial }));
    of_client.transport_config(transport.clone());
    let server = Arc::new(Server { tls: Arc::new(server), initial });
    let mut of_server = ServerConfig::new(server, Arc::new(NoTokens));
    let mut tokens = ValidationTokenConfig::default();
    tokens.sent(0);
    of_server.transport_config(transport).validation_token_config(tokens).max_incoming(MAX_BEGINNING);
    // Nodes do not move; one with another address is another process.
    of_server.migration(false);
    Ok((of_client, of_server))
}

fn transport() -> TransportConfig {
    let mut transport = TransportConfig::default();
    let mut discovery = MtuDiscoveryConfig::default();
    discovery.upper_bound(MAX_PAYLOAD);
    let idle = u32::try_from(IDLE.as_millis()).unwrap_or(u32::MAX);
    transport
        .max_idle_timeout(Some(IdleTimeout::from(VarInt::from_u32(idle))))
        .initial_rtt(FIRST_RTT)
        .mtu_discovery_config(Some(discovery))
        .max_concurrent_bidi_streams(VarInt::from_u32(MAX_STREAMS))
        .max_concurrent_uni_streams(VarInt::from_u32(0))
        .stream_receive_window(VarInt::from_u32(STREAM_WINDOW))
        .receive_window(VarInt::from_u32(WINDOW))
        .send_window(WINDOW.into())
        .datagram_receive_buffer_size(Some(DATAGRAMS_IN))
        .datagram_send_buffer_size(DATAGRAMS_OUT);
    transport
}

/// What tells those who go on after we have been started again that their connection is gone (RFC 9000 section 10.3). So it is the same
/// for all processes of a node.
struct ResetKey(Hmac<Sha256>);

impl HmacKey for ResetKey {
    fn sign(&self, data: &[u8], signature_out: &mut [u8]) {
        let made = self.0.clone().chain_update(data).finalize().into_bytes();
        for (out, octet) in signature_out.iter_mut().zip(made) {
            *out = octet;
        }
    }

    fn signature_len(&self) -> usize {
        32
    }

    fn verify(&self, data: &[u8], signature: &[u8]) -> Result<(), CryptoError> {
        self.0.clone().chain_update(data).verify_slice(signature).map_err(|_| CryptoError)
    }
}

/// Tokens of addresses (RFC 9000 section 8.1) are not given out, so none is right.
struct NoTokens;

impl HandshakeTokenKey for NoTokens {
    fn aead_from_hkdf(&self, _random_bytes: &[u8]) -> Box<dyn AeadKey> {
        Box::new(Self)
    }
}

impl AeadKey for NoTokens {
    fn seal(&self, _data: &mut Vec<u8>, _additional_data: &[u8]) -> Result<(), CryptoError> {
        Err(CryptoError)
    }

    fn open<'a>(&self, _data: &'a mut [u8], _additional_data: &[u8]) -> Result<&'a mut [u8], CryptoError> {
        Err(CryptoError)
    }
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use super::*;

    /// Keys of tunnels go by it, and who records them today shall not read them later.
    #[test]
    fn the_first_key_exchange_that_is_offered_is_hybrid() {
        let provider = rustls_openssl::default_provider();
        assert_eq!(provider.kx_groups.first().unwrap().name(), rustls::NamedGroup::X25519MLKEM768);
    }

    #[test]
    fn as_many_of_the_largest_as_quinn_sends_at_a_time_fit_a_udp_packet() {
        assert!(10 * u32::from(MAX_PAYLOAD) <= 65_535 - 8 - 20);
    }
}
