//! Aggressive mode from the initiator's side (RFC 2409 section 5.4): its first message has all but the proof, so there is one group.

use super::exchange::Repeat;
use super::handshake::{AggressiveSent, Chosen, Handshake, Keyed, Step, Unproved};
use super::initiator::{Answer, Rejected};
use super::keys::Suite;
use super::wire::{self, Exchange, Id, Payload, rules};
use super::{Connection, accept, nat, offer};
use crate::crypto::{CryptoError, dh};
use crate::host::Host;
use crate::wire::numbers::TransformType;
use crate::wire::sa::Transform;

impl Connection {
    /// Aggressive mode, second message. The third ends it.
    pub(super) fn aggressive_answered(
        &mut self,
        host: &mut dyn Host,
        handshake: &mut Handshake,
        sent: AggressiveSent,
        message: Answer<'_>,
    ) -> Result<Keyed, Rejected> {
        let payloads = message.payloads;
        let fits = rules::check(Exchange::AGGRESSIVE, 2, payloads.0).is_ok() && message.spi != 0;
        let parts = (payloads.sa(), payloads.ke(), payloads.nonce(), payloads.ids().next(), payloads.hash());
        let (Some(answer), Some(public), Some(nonce), Some(id), Some(hash), true) =
            (parts.0, parts.1, parts.2, parts.3, parts.4, fits)
        else {
            return Err(Rejected::Drop(Step::AggressiveSent(Box::new(sent))));
        };
        let (choice, life) = accept::phase1(self.proposals(), answer)?;
        if choice.group != sent.dh.group() {
            return Err(Rejected::Fail(accept::not_offered(self.proposals(), answer)));
        }
        let suite = Suite::new(&choice)?;
        dh::check_public(choice.group, public)?;
        let shared = sent.dh.agree(public)?;
        handshake.spi_remote = message.spi;
        handshake.peer.note(payloads);
        self.path.local.set_ip(message.datagram.local.ip());
        let config = self.config.clone().ok_or(CryptoError::Library)?;
        let of = Unproved {
            chosen: Chosen { offer: sent.sa.body, choice, life },
            suite,
            shared,
            nonces: (sent.nonce, nonce.to_vec()),
            publics: (sent.dh.public().to_vec(), public.to_vec()),
            spis: handshake.spis(),
        };
        let mut keyed = of.keyed(config.auth.psk().ok_or(CryptoError::Unsupported)?)?;
        self.check_responder(&keyed, id, hash)?;
        let ends = (message.datagram.local, message.datagram.remote);
        self.note_nat(handshake, suite, payloads, ends);
        let hash = keyed.of.proof(&keyed.skeyid, true, &Id::of_identity(&config.local_id))?;
        let mut out = vec![Payload::Hash(hash.to_vec())];
        if let Some(natt) = handshake.peer.natt {
            // Of the ports that this message takes.
            let ends = self.addresses();
            out.extend(nat::payloads(suite, handshake.spis(), ends, natt, self.forced, host));
        }
        out.extend(self.initial_contact(host, handshake.spis()));
        let out = handshake.seal(&mut keyed, &out)?;
        handshake.repeat = Repeat::answering(out.clone(), message.digest);
        self.ask(&out, handshake.peer.fragments);
        Ok(keyed)
    }
}

/// An offer without the transforms of other groups.
pub(super) fn only_group(sa: &wire::Sa, group: u16) -> wire::Sa {
    let offers = offer::read_phase1(sa);
    let of_group = |number: u8| {
        let offer = offers.iter().find(|offer| offer.number == number);
        let kind = TransformType::KE;
        offer.is_some_and(|offer| offer.proposal.transforms.contains(&Transform::new(kind, group)))
    };
    let mut proposals = sa.proposals.clone();
    for proposal in &mut proposals {
        proposal.transforms.retain(|transform| of_group(transform.number));
    }
    wire::Sa::new(proposals)
}
