//! One IKE_SA: its SPIs, keys and exchanges. A connection has one in use, and for a while those it replaces.

mod snapshot;

use std::time::Instant;

use super::exchange::Exchanges;
use super::fragment::{self, Reassembly};
use super::sync::CounterSync;
use crate::crypto::CryptoError;
use crate::crypto::dh::{self, KeyPair};
use crate::crypto::keys::{self, IkeKeys, Inputs};
use crate::crypto::prf::Prf;
use crate::crypto::sk::{SkKey, SkSuite};
use crate::failure::Failure;
use crate::host::Host;
use crate::proposal::IkeChoice;
use crate::verbs::LoggedKeys;
use crate::wire::header::{HEADER_LEN, Header};
use crate::wire::message::Message;
use crate::wire::numbers::{ExchangeType, NotifyType, PayloadType};
use crate::wire::payload::{self, Payload};
use crate::wire::writer::Writer;
use crate::wire::{WireError, rules};

pub(crate) use snapshot::IkeSaForm;

/// Where an IKE_SA is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum SaState {
    /// In use, or about to be.
    Active,
    /// The peer rekeyed it and will delete it; dropped at the latest then.
    Replaced(Instant),
    /// Our delete is under way.
    Deleting,
    /// Gone for both; only retransmissions are answered until then.
    Dead(Instant),
}

/// An IKE_SA with keys.
#[derive(Debug)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(crate) struct IkeSa {
    pub(crate) spi_local: u64,
    pub(crate) spi_remote: u64,
    /// We are its original initiator.
    pub(crate) initiator: bool,
    pub(crate) choice: IkeChoice,
    pub(crate) prf: Prf,
    pub(crate) keys: IkeKeys,
    key_in: SkKey,
    key_out: SkKey,
    pub(crate) exchanges: Exchanges,
    pub(crate) state: SaState,
    /// Both sides take fragments (RFC 7383 section 2.3).
    pub(crate) fragments: bool,
    /// Our window is to be stated in the next message.
    pub(crate) states_window: bool,
    /// The peer has stated one, here or on the IKE_SA before.
    pub(crate) peer_states_window: bool,
    /// With a peer that is a cluster (RFC 6311).
    pub(crate) sync: CounterSync,
    /// Requests and responses, which may be under way at the same time. Boxed, for most peers never send fragments.
    reassembly: Option<Box<[Reassembly; 2]>>,
}

/// How the keys of an IKE_SA come about.
pub(crate) enum Origin<'a> {
    /// By IKE_SA_INIT.
    Init,
    /// By rekeying this one.
    Rekey(&'a IkeSa),
}

impl IkeSa {
    /// Derives the keys of a new IKE_SA.
    pub(crate) fn new(
        choice: IkeChoice,
        initiator: bool,
        spis: (u64, u64),
        nonces: (&[u8], &[u8]),
        shared: &[u8],
        origin: Origin<'_>,
    ) -> Result<Self, CryptoError> {
        let (spi_local, spi_remote) = spis;
        let (spi_i, spi_r) = if initiator { spis } else { (spi_remote, spi_local) };
        let inputs = Inputs { ni: nonces.0, nr: nonces.1, spi_i, spi_r };
        let prf = Prf::from_transform(choice.prf.id)?;
        let suite = SkSuite::new(&choice)?;
        // What was agreed in IKE_SA_INIT holds for those that follow by rekeying.
        let fragments = matches!(origin, Origin::Rekey(old) if old.fragments);
        // Windows start at one again (section 1.3.2). They are stated anew to a peer that knows what that is; one that does not
        // may be surprised by a notify in an exchange that needs none.
        let peer_states_window = matches!(origin, Origin::Rekey(old) if old.peer_states_window);
        let states_window = matches!(origin, Origin::Init) || peer_states_window;
        let sync = match origin {
            Origin::Init => CounterSync::default(),
            Origin::Rekey(old) => old.sync.inherited(),
        };
        let (mut keys, exchanges) = match origin {
            Origin::Init => (keys::initial(prf, suite, inputs, shared)?, Exchanges::after_init(initiator)),
            Origin::Rekey(old) => {
                (keys::rekeyed((old.prf, &old.keys.d), prf, suite, inputs, shared)?, Exchanges::default())
            }
        };
        let i = SkKey::new(suite, std::mem::take(&mut keys.ei), std::mem::take(&mut keys.ai));
        let r = SkKey::new(suite, std::mem::take(&mut keys.er), std::mem::take(&mut keys.ar));
        let (key_in, key_out) = if initiator { (r, i) } else { (i, r) };
        let state = SaState::Active;
        Ok(Self {
            spi_local,
            spi_remote,
            initiator,
            choice,
            prf,
            keys,
            key_in,
            key_out,
            exchanges,
            state,
            fragments,
            states_window,
            peer_states_window,
            sync,
            reassembly: None,
        })
    }

    /// SPIs of its initiator and of its responder.
    const fn spis(&self) -> (u64, u64) {
        if self.initiator { (self.spi_local, self.spi_remote) } else { (self.spi_remote, self.spi_local) }
    }

    /// The keys that a capture is decrypted with.
    pub(crate) fn logged_keys(&self) -> LoggedKeys {
        let (i, r) =
            if self.initiator { (&self.key_out, &self.key_in) } else { (&self.key_in, &self.key_out) };
        let (spi_i, spi_r) = self.spis();
        let ((ei, ai), (er, ar)) = (i.secrets(), r.secrets());
        LoggedKeys::V2 { spi_i, spi_r, choice: self.choice, encryption: [ei, er], integrity: [ai, ar] }
    }

    /// SK_p of our side and of the peer's.
    pub(crate) fn sk_p(&self) -> (&[u8], &[u8]) {
        if self.initiator { (&self.keys.pi, &self.keys.pr) } else { (&self.keys.pr, &self.keys.pi) }
    }

    /// Whether a header names this IKE_SA, seen from its receiver.
    pub(crate) const fn owns(&self, header: &Header) -> bool {
        header.from_initiator != self.initiator
            && header.receiver_spi() == self.spi_local
            && (if self.initiator { header.spi_r } else { header.spi_i }) == self.spi_remote
    }

    /// Seals payloads into a message, or into several datagrams when it is large and the peer takes fragments.
    pub(crate) fn seal(
        &mut self,
        exchange: ExchangeType,
        response: bool,
        id: u32,
        payloads: &[Payload],
        host: &mut dyn Host,
    ) -> Result<Vec<Vec<u8>>, CryptoError> {
        let mut inner = Writer::new();
        let first = payload::write_chain(&mut inner, payloads);
        let inner = zeroize::Zeroizing::new(inner.finish());
        self.seal_octets((exchange, response, id), first, &inner, host)
    }

    /// Seals a request of ours once more, as the one with another Message ID.
    pub(crate) fn reseal(
        &mut self,
        datagrams: &[Vec<u8>],
        id: u32,
        host: &mut dyn Host,
    ) -> Result<Vec<Vec<u8>>, CryptoError> {
        let mut inner = zeroize::Zeroizing::new(Vec::new());
        let mut kind = None;
        for datagram in datagrams {
            let message = Message::parse(datagram).map_err(|_| CryptoError::Malformed)?;
            let (first, body) = message.chain.encrypted.ok_or(CryptoError::Malformed)?;
            // Of several fragments the first says what is inside (RFC 7383 section 2.5).
            kind.get_or_insert((message.header.exchange, first));
            inner.extend_from_slice(&self.key_out.open(datagram, body.start)?);
        }
        let (exchange, first) = kind.ok_or(CryptoError::Malformed)?;
        self.seal_octets((exchange, false, id), first, &inner, host)
    }

    fn seal_octets(
        &mut self,
        (exchange, response, id): (ExchangeType, bool, u32),
        first: PayloadType,
        inner: &[u8],
        host: &mut dyn Host,
    ) -> Result<Vec<Vec<u8>>, CryptoError> {
        let (spi_i, spi_r) = self.spis();
        let header = Header {
            spi_i,
            spi_r,
            next: PayloadType::SK,
            exchange,
            from_initiator: self.initiator,
            response,
            message_id: id,
            length: 0,
        };
        let suite = self.key_out.suite();
        if !self.fragments || HEADER_LEN + 4 + suite.sealed_len(inner.len()) <= fragment::MAX_DATAGRAM {
            let head = head(header, first, suite.sealed_len(inner.len()), None)?;
            return Ok(vec![self.key_out.seal(&head, inner, host)?]);
        }
        let chunks: Vec<&[u8]> = inner.chunks(fragment::chunk_len(suite)).collect();
        let total = u16::try_from(chunks.len()).map_err(|_| CryptoError::Malformed)?;
        let mut datagrams = Vec::with_capacity(chunks.len());
        for (number, chunk) in (1..=total).zip(chunks) {
            // Only the first fragment says what is inside (RFC 7383 section 2.5).
            let first = if number == 1 { first } else { PayloadType::NONE };
            let header = Header { next: PayloadType::SKF, ..header };
            let head = head(header, first, suite.sealed_len(chunk.len()), Some((number, total)))?;
            datagrams.push(self.key_out.seal(&head, chunk, host)?);
        }
        Ok(datagrams)
    }

    /// Octets of fragments that wait for the rest of their message.
    pub(crate) fn waiting_octets(&self) -> usize {
        self.reassembly.iter().flat_map(|both| both.iter()).map(Reassembly::octets).sum()
    }

    /// Whether the peer made this datagram, and which fragment it is, if it is one.
    pub(crate) fn authentic(&self, datagram: &[u8]) -> Option<Option<u16>> {
        let message = Message::parse(datagram).ok()?;
        let (_, body) = message.chain.encrypted?;
        self.key_in.open(datagram, body.start).ok()?;
        Some(message.chain.fragment.map(|(number, _)| number))
    }

    /// The payloads of a message that came in one piece, if the peer made it. Nothing is noted of it.
    pub(crate) fn peek(&self, datagram: &[u8]) -> Option<Vec<Payload>> {
        let message = Message::parse(datagram).ok()?;
        let (first, body) = message.chain.encrypted.filter(|_| message.chain.fragment.is_none())?;
        let plain = self.key_in.open(datagram, body.start).ok()?;
        let chain = payload::parse_chain(first, &plain, 0).ok()?;
        chain.encrypted.is_none().then_some(chain.payloads)
    }

    /// Opens a message to this IKE_SA, or a fragment of one. The outer error is a forgery or damage, to be dropped;
    /// `None` means that more fragments have to come; the inner error is a mistake of the authenticated peer. More than
    /// `limit` octets of fragments are not kept.
    pub(crate) fn open(&mut self, datagram: &[u8], limit: usize) -> Result<Option<Opened>, Failure> {
        let malformed = |error| Failure::Malformed { exchange: ExchangeType(0), error };
        let message = Message::parse(datagram).map_err(malformed)?;
        let Some((first, body)) = message.chain.encrypted else {
            return Err(malformed(WireError::Rule(PayloadType::SK, "is missing")));
        };
        // Fragments are for those who agreed on them (RFC 7383 section 2.3).
        if message.chain.fragment.is_some() && !self.fragments {
            return Err(malformed(WireError::BadField("fragment")));
        }
        let plain = self.key_in.open(datagram, body.start)?;
        let (first, plain) = match message.chain.fragment {
            None => (first, plain),
            Some((number, total)) => {
                let [requests, responses] = &mut **self.reassembly.get_or_insert_default();
                let response = message.header.response;
                let reassembly = if response { responses } else { requests };
                let (id, window) = (message.header.message_id, self.exchanges.inbound_window(response));
                match reassembly.add((id, window), limit, (number, total), first, plain).map_err(malformed)? {
                    Some(whole) => whole,
                    None => return Ok(None),
                }
            }
        };
        Ok(Some(payload::parse_chain(first, &plain, 0).and_then(|chain| {
            if chain.encrypted.is_some() {
                return Err(WireError::Rule(PayloadType::SK, "is nested"));
            }
            rules::check(&message.header, &chain.payloads)?;
            Ok((message.header, chain.payloads))
        })))
    }
}

/// What an authentic message holds, or what its sender got wrong.
pub(crate) type Opened = Result<(Header, Vec<Payload>), WireError>;

/// A message up to where its encrypted octets begin.
fn head(
    mut header: Header,
    first: PayloadType,
    sealed: usize,
    fragment: Option<(u16, u16)>,
) -> Result<Vec<u8>, CryptoError> {
    let payload = 4 + sealed + if fragment.is_some() { 4 } else { 0 };
    header.length = u32::try_from(HEADER_LEN + payload).map_err(|_| CryptoError::Malformed)?;
    let mut head = Writer::new();
    header.write(&mut head);
    head.u8(first.0);
    head.u8(0);
    head.u16(u16::try_from(payload).map_err(|_| CryptoError::Malformed)?);
    if let Some((number, total)) = fragment {
        head.u16(number);
        head.u16(total);
    }
    Ok(head.finish())
}

/// The answer's half of a Diffie-Hellman exchange: our fresh key pair and the shared secret. Nothing is computed with, and
/// nothing drawn for, a value that cannot be one: in IKE_SA_INIT anybody may send it.
pub(crate) fn respond_dh(
    group: u16,
    peer: &[u8],
    host: &mut dyn Host,
) -> Result<(KeyPair, crate::crypto::prf::Secret), CryptoError> {
    dh::check_public(group, peer)?;
    let ours = KeyPair::generate(group, host)?;
    let shared = ours.agree(peer)?;
    Ok((ours, shared))
}

/// What the peer is told on an IKE_SA whose [`respond_dh`] failed. INVALID_SYNTAX ends the IKE_SA on both sides (RFC 7296 section 2.21.3), so
/// it is only for a value that cannot be one of its group (RFC 6989 section 2); what fails here may not fail the next time.
pub(crate) const fn dh_refusal(error: CryptoError) -> NotifyType {
    match error {
        CryptoError::BadPublicValue => NotifyType::INVALID_SYNTAX,
        CryptoError::Unsupported | CryptoError::Integrity | CryptoError::Malformed | CryptoError::Library => {
            NotifyType::TEMPORARY_FAILURE
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_fault_of_our_own_does_not_end_the_ike_sa() {
        assert_eq!(dh_refusal(CryptoError::BadPublicValue), NotifyType::INVALID_SYNTAX);
        for ours in [CryptoError::Library, CryptoError::Unsupported] {
            assert_eq!(dh_refusal(ours), NotifyType::TEMPORARY_FAILURE);
        }
    }
}
