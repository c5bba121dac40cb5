//! Aggressive mode from the responder's side (RFC 2409 section 5.4), with NAT traversal (RFC 3947).

use std::sync::Arc;
use std::time::Instant;

use super::first::First;
use super::handshake::{Expected, Handshake, NONCE_LEN, Step, Unproved, header};
use super::keys;
use super::responder::{Message, Proved, Rejected, admit, says_initial_contact};
use super::wire::{self, Exchange, Id, NotifyType, Payload, PayloadType, Payloads, parse_chain, rules};
use super::{Connection, nat};
use crate::config::{Opening, PeerConfig, Phase1};
use crate::credentials::Way;
use crate::crypto::auth::equal;
use crate::crypto::dh::{self, KeyPair};
use crate::event::Datagram;
use crate::failure::Failure;
use crate::host::{Host, NoPeer, random_array};
use crate::wire::WireError;
use crate::wire::numbers::ExchangeType;

impl Connection {
    /// Aggressive mode, first message. Whoever is called by an identity that nobody has is answered as everybody else is, in
    /// the same time: our answer must not tell who is configured.
    pub(crate) fn answer_aggressive(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        first: First<'_>,
        datagram: Datagram<'_>,
    ) -> Result<(), Failure> {
        let malformed = |error| Failure::Malformed { exchange: ExchangeType(Exchange::AGGRESSIVE.0), error };
        let missing = |kind: PayloadType| malformed(WireError::Payload(kind.told(), "is missing"));
        let payloads = Payloads(&first.chain.payloads);
        let public = payloads.ke().ok_or_else(|| missing(PayloadType::KE))?;
        let nonce = payloads.nonce().ok_or_else(|| missing(PayloadType::NONCE))?;
        let id = payloads.ids().next().ok_or_else(|| missing(PayloadType::ID))?;
        let group = first.chosen.choice.group;
        dh::check_public(group, public)?;
        let (config, decoy) = find_by_identity(host, id, datagram)?;
        self.spend(group);
        let ours = KeyPair::generate(group, host)?;
        let shared = ours.agree(public)?;
        let spi = host.allocate_ike_spi();
        let nr = random_array::<NONCE_LEN>(host).to_vec();
        let of = Unproved {
            chosen: first.chosen,
            suite: first.suite,
            shared,
            nonces: (nonce.to_vec(), nr.clone()),
            publics: (public.to_vec(), ours.public().to_vec()),
            spis: (first.header.spi_i, spi),
        };
        // Drawn in either case.
        let guess = random_array::<32>(host);
        let psk: &[u8] = config.as_ref().and_then(|config| config.auth.psk()).unwrap_or(&guess);
        let keyed = of.keyed(psk)?;
        let local = Id::of_identity(&config.as_ref().unwrap_or(&decoy).local_id);
        let hash = keyed.of.proof(&keyed.skeyid, false, &local)?;
        let mut out = vec![
            Payload::Sa(first.answer),
            Payload::Ke(ours.public().to_vec()),
            Payload::Nonce(nr),
            Payload::Id(local),
            Payload::Hash(hash.to_vec()),
        ];
        let spis = (first.header.spi_i, spi);
        if let Some(natt) = first.peer.natt {
            let ends = (datagram.local, datagram.remote);
            out.extend(nat::payloads(first.suite, spis, ends, natt, self.forced, host));
        }
        out.extend(first.peer.echo());
        let message = wire::encode(header(spis.0, spi, Exchange::AGGRESSIVE), &out);
        let step = Step::AggressiveAnswered(Box::new(Expected { keyed, config, id: id.clone() }));
        self.half_open(now, spis, Phase1::Aggressive, step, first.peer, (message, datagram));
        Ok(())
    }

    /// Aggressive mode, third message: the initiator proves who it is.
    pub(crate) fn last(
        &mut self,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        expected: Expected,
        message: Message<'_>,
    ) -> Result<Option<Proved>, Rejected> {
        let from = message.datagram.remote;
        let Expected { mut keyed, config, id } = expected;
        let back = |keyed, config, id| {
            Rejected::Drop(Step::AggressiveAnswered(Box::new(Expected { keyed, config, id })))
        };
        let opened = if message.header.encrypted {
            let opened = keys::decrypt(keyed.of.suite, &keyed.skeyid.key, &keyed.iv, message.body);
            opened.ok().and_then(|(plain, iv)| {
                Some((parse_chain(message.header.next, &plain, true).ok()?, Some(iv)))
            })
        } else {
            parse_chain(message.header.next, message.body, false).ok().map(|chain| (chain, None))
        };
        let wrong = |config: Option<&Arc<PeerConfig>>, id: &Id| {
            let failure = match config {
                Some(config) => Failure::Authentication { id: config.remote_id.clone() },
                None => Failure::UnknownPeer { remote_id: id.told(), local_id: None, from },
            };
            Rejected::Fail(failure, Some(NotifyType::INVALID_HASH_INFORMATION))
        };
        // What cannot be read was encrypted with another key, if it is of the length of one.
        let Some((chain, iv)) = opened else {
            let whole = message.header.encrypted && message.body.len().is_multiple_of(keyed.of.suite.block());
            return Err(if whole { wrong(config.as_ref(), &id) } else { back(keyed, config, id) });
        };
        if rules::check(Exchange::AGGRESSIVE, 3, &chain.payloads).is_err() {
            return Err(if message.header.encrypted {
                wrong(config.as_ref(), &id)
            } else {
                back(keyed, config, id)
            });
        }
        let payloads = Payloads(&chain.payloads);
        let proof = keyed.of.proof(&keyed.skeyid, true, &id)?;
        let proved = payloads.hash().is_some_and(|hash| equal(hash, &proof));
        let Some(config) = config.clone().filter(|_| proved) else {
            return Err(wrong(config.as_ref(), &id));
        };
        admit(host, &config, from)?;
        handshake.peer.note(payloads);
        self.natt = handshake.peer.natt;
        let ends = (message.datagram.local, message.datagram.remote);
        if let Some(found) = nat::detect(keyed.of.suite, handshake.spis(), payloads, ends) {
            self.nat = found;
        }
        self.note_float(message.datagram);
        self.initial_contact = says_initial_contact(payloads) && self.met;
        self.config = Some(config);
        if let Some(iv) = iv {
            keyed.iv = iv;
        }
        Ok(Some((keyed, None)))
    }
}

/// Whose identity it is, if anybody's; and whose name an answer bears that must not tell that it is nobody's.
fn find_by_identity(
    host: &mut dyn Host,
    id: &Id,
    datagram: Datagram<'_>,
) -> Result<(Option<Arc<PeerConfig>>, Arc<PeerConfig>), Failure> {
    let from = datagram.remote;
    let unknown = || Failure::UnknownPeer { remote_id: id.told(), local_id: None, from };
    // Both look-ups in any case, for the time that they take.
    let all = host.peers_from(from, Opening::Aggressive);
    let identity = id.identity();
    let found = identity.map(|id| host.find_peers(&id, None, from, Opening::Aggressive));
    let all = match all {
        Ok(all) => all,
        Err(_) => return Err(unknown()),
    };
    // The same for the same identity, so that who asks twice learns nothing by it.
    use sha2::Digest as _;
    let digest = sha2::Sha256::digest(id.body());
    let pick = digest.first_chunk().copied().map_or(0, u64::from_be_bytes);
    let at = usize::try_from(pick % all.len().max(1) as u64).unwrap_or(0);
    let decoy = all.get(at).cloned().ok_or_else(unknown)?;
    match found {
        Some(Ok(found)) => match found.as_slice() {
            [one] => Ok((Some(one.clone()), decoy)),
            [] => Ok((None, decoy)),
            // The proof of the responder comes first here, and can be made with one key only.
            _ => Err(Failure::Ambiguous { remote_id: id.told(), from, count: found.len(), way: Way::Psk }),
        },
        Some(Err(NoPeer::NotYet)) => Err(Failure::Replaced),
        Some(Err(NoPeer::Unknown)) | None => Ok((None, decoy)),
    }
}
