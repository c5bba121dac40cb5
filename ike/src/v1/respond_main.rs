//! Main mode from the responder's side (RFC 2409 section 5.4), with NAT traversal (RFC 3947).
//!
//! Only the key of the sender opens its last message, and only its address says whose that may be.

use std::sync::Arc;
use std::time::Instant;

use super::exchange::Repeat;
use super::first::First;
use super::handshake::{Chosen, Handshake, Keyed, NONCE_LEN, Step, Unproved, header, is};
use super::keys::{self, Skeyid, Suite};
use super::responder::{Message, Proved, Rejected, admit, says_initial_contact};
use super::wire::{self, Chain, Exchange, Id, NotifyType, Payload, Payloads, parse_chain, rules, vendor};
use super::{Connection, nat};
use crate::config::{Opening, PeerConfig, Phase1};
use crate::crypto::auth::equal;
use crate::crypto::dh::{self, KeyPair};
use crate::crypto::{CryptoError, prf::Secret};
use crate::event::Datagram;
use crate::failure::Failure;
use crate::host::{Host, NoPeer, random_array};
use crate::identity::Identity;
use crate::verbs::MAX_CANDIDATES;

impl Connection {
    /// Main mode, first message. No exponentiation yet.
    pub(crate) fn answer_main(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        first: First<'_>,
        datagram: Datagram<'_>,
    ) {
        let spi = host.allocate_ike_spi();
        let out: Vec<Payload> = [Payload::Sa(first.answer)].into_iter().chain(first.peer.echo()).collect();
        let message = wire::encode(header(first.header.spi_i, spi, Exchange::MAIN), &out);
        let step = Step::MainAnswered(Box::new(first.chosen));
        self.half_open(now, (first.header.spi_i, spi), Phase1::Main, step, first.peer, (message, datagram));
    }

    /// Main mode, third message: the initiator's key. It has got our first answer, so its address is its own.
    pub(crate) fn third(
        &mut self,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        chosen: Chosen,
        message: Message<'_>,
    ) -> Result<Option<Proved>, Rejected> {
        let back = |chosen| Rejected::Drop(Step::MainAnswered(Box::new(chosen)));
        let Some(chain) = message.plain(3) else { return Err(back(chosen)) };
        let payloads = Payloads(&chain.payloads);
        let (Some(public), Some(nonce)) = (payloads.ke(), payloads.nonce()) else { return Err(back(chosen)) };
        let group = chosen.choice.group;
        let told =
            |error: CryptoError| Rejected::Fail(error.into(), Some(NotifyType::INVALID_KEY_INFORMATION));
        dh::check_public(group, public).map_err(told)?;
        self.spend(group);
        let ours = KeyPair::generate(group, host)?;
        let shared = ours.agree(public).map_err(told)?;
        let suite = Suite::new(&chosen.choice)?;
        handshake.peer.note(payloads);
        self.natt = handshake.peer.natt;
        let ends = (message.datagram.local, message.datagram.remote);
        let nr = random_array::<NONCE_LEN>(host).to_vec();
        let mut out = vec![Payload::Ke(ours.public().to_vec()), Payload::Nonce(nr.clone())];
        match nat::detect(suite, handshake.spis(), payloads, ends) {
            Some(found) => {
                self.nat = found;
                if let Some(natt) = handshake.peer.natt {
                    out.extend(nat::payloads(suite, handshake.spis(), ends, natt, self.forced, host));
                }
            }
            // It does no NAT traversal with us, whatever it has announced.
            None => (handshake.peer.natt, self.natt) = (None, None),
        }
        let of = Unproved {
            chosen,
            suite,
            shared,
            nonces: (nonce.to_vec(), nr),
            publics: (public.to_vec(), ours.public().to_vec()),
            spis: handshake.spis(),
        };
        handshake.step = Step::MainKeyAnswered(Box::new(of));
        let out = handshake.plain(&out);
        self.answer(&out, handshake.peer.fragments);
        handshake.octets.1 = handshake.octets.1.saturating_add(out.len());
        handshake.repeat = Repeat::answering(out, message.digest);
        Ok(None)
    }

    /// Main mode, fifth message: who the initiator is. Only its key opens it, and only its address says whose that may be; so
    /// the keys of all who may come from there are tried.
    pub(crate) fn fifth(
        &mut self,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        of: Unproved,
        message: Message<'_>,
    ) -> Result<Option<Proved>, Rejected> {
        let from = message.datagram.remote;
        let back = |of| Rejected::Drop(Step::MainKeyAnswered(Box::new(of)));
        if !message.header.encrypted || !message.body.len().is_multiple_of(of.suite.block()) {
            return Err(back(of));
        }
        let candidates = match host.peers_from(from, Opening::Main) {
            Ok(candidates) => candidates,
            Err(NoPeer::NotYet) => return Err(back(of)),
            Err(NoPeer::Unknown) => return Err(Rejected::Fail(Failure::UnknownAddress { from }, None)),
        };
        // Every key is tried, also after one that fits, so that the time tells nothing.
        let mut read: Vec<(Arc<PeerConfig>, Skeyid, Read)> = Vec::new();
        for config in candidates.iter().take(MAX_CANDIDATES) {
            let Some(psk) = config.auth.psk() else { continue };
            let skeyid = of.skeyid(psk)?;
            if let Some(opened) = message.read(&of, &skeyid)? {
                read.push((config.clone(), skeyid, opened));
            }
        }
        if read.is_empty() {
            let count = candidates.len().min(MAX_CANDIDATES);
            let failure = Failure::Undecryptable { from, count };
            return Err(Rejected::Fail(failure, Some(NotifyType::INVALID_HASH_INFORMATION)));
        }
        let named = read.iter().position(|(config, _, opened)| is(&opened.id, &config.remote_id));
        let (config, skeyid, opened) = match named {
            Some(at) => read.swap_remove(at),
            None => {
                let got = read.first().map(|(_, _, opened)| opened.id.told());
                let remote_id = got.unwrap_or_else(|| Identity::address(from.ip()));
                let failure = Failure::UnknownPeer { remote_id, local_id: None, from };
                return Err(Rejected::Fail(failure, Some(NotifyType::INVALID_ID_INFORMATION)));
            }
        };
        admit(host, &config, from)?;
        self.note_float(message.datagram);
        let before = handshake.peer;
        handshake.peer.note_late(Payloads(&opened.payloads));
        let iv = opened.iv;
        let mut keyed = Keyed { of, skeyid, iv };
        let id = Id::of_identity(&config.local_id);
        let hash = keyed.of.proof(&keyed.skeyid, false, &id)?;
        self.initial_contact = says_initial_contact(Payloads(&opened.payloads)) && self.met;
        self.config = Some(config);
        let mut out = vec![Payload::Id(id), Payload::Hash(hash.to_vec())];
        out.extend(self.initial_contact(host, handshake.spis()));
        // Neither asks who has not been told of it by the other (RFC 3706 section 5.1).
        let late = handshake.peer.dpd && !before.dpd;
        out.extend(late.then(|| Payload::Vendor(vendor::DPD.to_vec())));
        let out = handshake.seal(&mut keyed, &out)?;
        self.answer(&out, handshake.peer.fragments);
        Ok(Some((keyed, Some(Repeat::answering(out, message.digest)))))
    }
}

/// What the fifth message of main mode says, opened by one of the keys.
struct Read {
    id: Id,
    payloads: Vec<Payload>,
    iv: Vec<u8>,
}

impl Message<'_> {
    /// A message in clear that has what the one of this number in main mode has to have.
    fn plain(&self, number: u8) -> Option<Chain> {
        let chain =
            parse_chain(self.header.next, self.body, false).ok().filter(|_| !self.header.encrypted)?;
        rules::check(Exchange::MAIN, number, &chain.payloads).ok()?;
        Some(chain)
    }

    /// The fifth message of main mode by one key, if it was made with that.
    fn read(&self, of: &Unproved, skeyid: &Skeyid) -> Result<Option<Read>, CryptoError> {
        let iv = of.suite.first_iv(&of.publics.0, &of.publics.1);
        let (plain, iv): (Secret, Vec<u8>) = keys::decrypt(of.suite, &skeyid.key, &iv, self.body)?;
        let chain = parse_chain(self.header.next, &plain, true).ok();
        let chain = chain.filter(|chain| rules::check(Exchange::MAIN, 5, &chain.payloads).is_ok());
        let Some(chain) = chain else { return Ok(None) };
        let payloads = Payloads(&chain.payloads);
        let (Some(id), Some(hash)) = (payloads.ids().next(), payloads.hash()) else { return Ok(None) };
        let proved = equal(&of.proof(skeyid, true, id)?, hash);
        let id = id.clone();
        Ok(proved.then_some(Read { id, payloads: chain.payloads, iv }))
    }
}
