//! QUIC's side of TLS 1.3 (RFC 9001): rustls as quinn wants it. What quinn itself has for that comes with ring.
//!
//! There is no resumption, no early data and no retry: nodes connect seldom, and stay connected.

use std::any::Any;
use std::io::Cursor;
use std::sync::Arc;

use bytes::BytesMut;
use quinn_proto::crypto::{
    ClientConfig, CryptoError, ExportKeyingMaterialError, HeaderKey, KeyPair, Keys, PacketKey, ServerConfig,
    Session, UnsupportedVersion,
};
use quinn_proto::transport_parameters::TransportParameters;
use quinn_proto::{ConnectError, ConnectionId, Side, TransportError, TransportErrorCode};
use rustls::CipherSuite;
use rustls::crypto::CryptoProvider;
use rustls::pki_types::{CertificateDer, ServerName};
use rustls::quic::{
    ClientConnection, Connection, HeaderProtectionKey, KeyChange, PacketKey as RustlsPacketKey, Secrets,
    ServerConnection, Suite, Version,
};

/// QUIC version 1 (RFC 9000), the only one that is spoken.
const V1: u32 = 1;

/// Who has been authenticated: the certificate of the other side, before those that signed it.
pub(super) type PeerCertificates = Vec<CertificateDer<'static>>;

/// The suite of the first packets (RFC 9001 section 5.2).
pub(super) fn initial_suite(provider: &CryptoProvider) -> Option<Suite> {
    let initial =
        |suite: &&rustls::SupportedCipherSuite| suite.suite() == CipherSuite::TLS13_AES_128_GCM_SHA256;
    provider.cipher_suites.iter().find(initial)?.tls13()?.quic_suite()
}

/// Who connects.
pub(super) struct Client {
    pub(super) tls: Arc<rustls::ClientConfig>,
    pub(super) initial: Suite,
}

impl ClientConfig for Client {
    fn start_session(
        self: Arc<Self>,
        version: u32,
        server_name: &str,
        params: &TransportParameters,
    ) -> Result<Box<dyn Session>, ConnectError> {
        let refused = |_| ConnectError::InvalidServerName(server_name.to_owned());
        let name = ServerName::try_from(server_name).map_err(|_| refused(()))?.to_owned();
        supported(version)?;
        let tls = ClientConnection::new(self.tls.clone(), Version::V1, name, written(params));
        let tls = tls.map_err(|_| refused(()))?;
        Ok(Box::new(Tls::new(Ok(Connection::Client(tls)), Side::Client, self.initial)))
    }
}

/// Who is connected to.
pub(super) struct Server {
    pub(super) tls: Arc<rustls::ServerConfig>,
    pub(super) initial: Suite,
}

impl ServerConfig for Server {
    fn initial_keys(&self, version: u32, dst_cid: &ConnectionId) -> Result<Keys, UnsupportedVersion> {
        supported(version)?;
        Ok(initial_keys(self.initial, dst_cid, Side::Server))
    }

    /// Asked for when a retry is sent, which never is: what strangers cost is bounded by how many may begin.
    fn retry_tag(&self, _version: u32, _orig_dst_cid: &ConnectionId, _packet: &[u8]) -> [u8; 16] {
        [0; 16]
    }

    fn start_session(self: Arc<Self>, _version: u32, params: &TransportParameters) -> Box<dyn Session> {
        let tls = ServerConnection::new(self.tls.clone(), Version::V1, written(params));
        let tls = tls.map(Connection::Server).map_err(|error| error.to_string());
        Box::new(Tls::new(tls, Side::Server, self.initial))
    }
}

/// A handshake and what comes of it.
struct Tls {
    /// Or why there is none, which is told with the first message.
    tls: Result<Connection, String>,
    side: Side,
    initial: Suite,
    told: bool,
    next: Option<Secrets>,
}

impl Tls {
    fn new(tls: Result<Connection, String>, side: Side, initial: Suite) -> Self {
        Self { tls, side, initial, told: false, next: None }
    }
}

impl Session for Tls {
    fn initial_keys(&self, dst_cid: &ConnectionId, side: Side) -> Keys {
        initial_keys(self.initial, dst_cid, side)
    }

    /// There is nothing to say but that it has been negotiated.
    fn handshake_data(&self) -> Option<Box<dyn Any>> {
        self.told.then(|| Box::new(()) as Box<dyn Any>)
    }

    /// [`PeerCertificates`].
    fn peer_identity(&self) -> Option<Box<dyn Any>> {
        let chain: PeerCertificates =
            self.tls.as_ref().ok()?.peer_certificates()?.iter().map(|one| one.clone().into_owned()).collect();
        Some(Box::new(chain))
    }

    fn early_crypto(&self) -> Option<(Box<dyn HeaderKey>, Box<dyn PacketKey>)> {
        None
    }

    fn early_data_accepted(&self) -> Option<bool> {
        (self.side == Side::Client).then_some(false)
    }

    fn is_handshaking(&self) -> bool {
        self.tls.as_ref().is_ok_and(|tls| tls.is_handshaking())
    }

    fn read_handshake(&mut self, buf: &[u8]) -> Result<bool, TransportError> {
        let failed = |reason: &str| TransportError {
            code: TransportErrorCode::INTERNAL_ERROR,
            frame: None,
            reason: reason.to_owned(),
        };
        let tls = self.tls.as_mut().map_err(|reason| failed(reason))?;
        tls.read_hs(buf).map_err(|error| {
            let alert = tls.alert().map(u8::from);
            let code = alert.map_or(TransportErrorCode::PROTOCOL_VIOLATION, TransportErrorCode::crypto);
            TransportError { code, frame: None, reason: super::refusal::in_words(&error) }
        })?;
        let known = tls.alpn_protocol().is_some() || !tls.is_handshaking();
        Ok(known && !std::mem::replace(&mut self.told, true))
    }

    fn transport_parameters(&self) -> Result<Option<TransportParameters>, TransportError> {
        let Some(params) = self.tls.as_ref().ok().and_then(|tls| tls.quic_transport_parameters()) else {
            return Ok(None);
        };
        Ok(Some(TransportParameters::read(self.side, &mut Cursor::new(params))?))
    }

    fn write_handshake(&mut self, buf: &mut Vec<u8>) -> Option<Keys> {
        let keys = match self.tls.as_mut().ok()?.write_hs(buf)? {
            KeyChange::Handshake { keys } => keys,
            KeyChange::OneRtt { keys, next } => {
                self.next = Some(next);
                keys
            }
        };
        Some(of_rustls(keys))
    }

    fn next_1rtt_keys(&mut self) -> Option<KeyPair<Box<dyn PacketKey>>> {
        let keys = self.next.as_mut()?.next_packet_keys();
        Some(KeyPair { local: Box::new(Packets(keys.local)), remote: Box::new(Packets(keys.remote)) })
    }

    /// Nobody here sends a retry.
    fn is_valid_retry(&self, _orig_dst_cid: &ConnectionId, _header: &[u8], _payload: &[u8]) -> bool {
        false
    }

    fn export_keying_material(
        &self,
        output: &mut [u8],
        label: &[u8],
        context: &[u8],
    ) -> Result<(), ExportKeyingMaterialError> {
        let tls = self.tls.as_ref().map_err(|_| ExportKeyingMaterialError)?;
        let made = tls.export_keying_material(output, label, Some(context));
        made.map(drop).map_err(|_| ExportKeyingMaterialError)
    }
}

/// What protects the payload of packets.
struct Packets(Box<dyn RustlsPacketKey>);

impl PacketKey for Packets {
    fn encrypt(&self, packet: u64, buf: &mut [u8], header_len: usize) {
        let Some((header, rest)) = buf.split_at_mut_checked(header_len) else { return };
        let room = rest.len().saturating_sub(self.0.tag_len());
        let (payload, tag) = rest.split_at_mut(room);
        match self.0.encrypt_in_place(packet, header, payload) {
            Ok(made) => tag.copy_from_slice(made.as_ref()),
            // There is no way to say so. The other side drops it, and nothing has left in the clear.
            Err(_) => rest.fill(0),
        }
    }

    fn decrypt(&self, packet: u64, header: &[u8], payload: &mut BytesMut) -> Result<(), CryptoError> {
        let plain = self.0.decrypt_in_place(packet, header, payload.as_mut()).map_err(|_| CryptoError)?.len();
        payload.truncate(plain);
        Ok(())
    }

    fn tag_len(&self) -> usize {
        self.0.tag_len()
    }

    fn confidentiality_limit(&self) -> u64 {
        self.0.confidentiality_limit()
    }

    fn integrity_limit(&self) -> u64 {
        self.0.integrity_limit()
    }
}

/// What hides the numbers of packets (RFC 9001 section 5.4).
struct Headers(Box<dyn HeaderProtectionKey>);

/// A packet as header protection sees it: the sample begins four octets behind where the number does, however long that is.
struct Parts<'a> {
    first: &'a mut u8,
    number: &'a mut [u8],
    sample: &'a [u8],
}

impl Headers {
    fn parts<'a>(&self, pn_offset: usize, packet: &'a mut [u8]) -> Option<Parts<'a>> {
        let (header, rest) = packet.split_at_mut_checked(pn_offset.checked_add(4)?)?;
        let (first, header) = header.split_first_mut()?;
        let number = header.get_mut(pn_offset.checked_sub(1)?..)?;
        Some(Parts { first, number, sample: rest.get(..self.0.sample_len())? })
    }
}

impl HeaderKey for Headers {
    fn decrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        if let Some(Parts { first, number, sample }) = self.parts(pn_offset, packet) {
            // What is not undone does not authenticate.
            let _ = self.0.decrypt_in_place(sample, first, number);
        }
    }

    fn encrypt(&self, pn_offset: usize, packet: &mut [u8]) {
        if let Some(Parts { first, number, sample }) = self.parts(pn_offset, packet) {
            let _ = self.0.encrypt_in_place(sample, first, number);
        }
    }

    fn sample_size(&self) -> usize {
        self.0.sample_len()
    }
}

fn initial_keys(suite: Suite, dst_cid: &ConnectionId, side: Side) -> Keys {
    let side = match side {
        Side::Client => rustls::Side::Client,
        Side::Server => rustls::Side::Server,
    };
    of_rustls(suite.keys(dst_cid, side, Version::V1))
}

fn of_rustls(keys: rustls::quic::Keys) -> Keys {
    let (local, remote) = (keys.local, keys.remote);
    Keys {
        header: KeyPair { local: Box::new(Headers(local.header)), remote: Box::new(Headers(remote.header)) },
        packet: KeyPair { local: Box::new(Packets(local.packet)), remote: Box::new(Packets(remote.packet)) },
    }
}

fn supported(version: u32) -> Result<(), UnsupportedVersion> {
    if version == V1 { Ok(()) } else { Err(UnsupportedVersion) }
}

fn written(params: &TransportParameters) -> Vec<u8> {
    let mut octets = Vec::new();
    params.write(&mut octets);
    octets
}
