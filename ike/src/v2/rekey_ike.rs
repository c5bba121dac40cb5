//! CREATE_CHILD_SA that rekeys the IKE_SA, asked and answered, and the collision of both (RFC 7296 sections 1.3.2,
//! 2.8.1, 2.8.2, 2.18, 2.25.2). The Child SAs belong to the connection, so they pass to the new IKE_SA by themselves.

use std::time::Instant;

use super::ike_sa::{IkeSa, Origin, SaState, dh_refusal, respond_dh};
use super::initiator::NONCE_LEN;
use super::request::{Collision, IkeOffer, PutOff, Request, Tries, wanted_group};
use super::tasks::Task;
use super::{Connection, MAX_IKE_SAS, REPLACED_IKE};
use crate::crypto::dh::KeyPair;
use crate::event::Event;
use crate::failure::Failure;
use crate::host::{Host, random_array};
use crate::proposal::negotiate::IkeChoice;
use crate::proposal::{again, negotiate};
use crate::wire::header::Header;
use crate::wire::message::Payloads;
use crate::wire::numbers::{ExchangeType, NotifyType, ProtocolId};
use crate::wire::payload::{Notify, Payload};
use crate::wire::sa::{Proposal, Transform};

/// Answers of INVALID_KE_PAYLOAD in a row before the groups are given up as irreconcilable.
const MAX_GROUP_CHANGES: u32 = 4;

impl Connection {
    /// Asks to rekey the IKE_SA in use.
    pub(crate) fn request_ike_rekey(&mut self, now: Instant, host: &mut dyn Host, tries: Tries) {
        if !self.room_for_ike_sa() {
            // Time takes those away that wait for their delete.
            return self.queue_later(Task::RekeyIke, now, host, tries, PutOff::Refused);
        }
        let spi = self.current;
        let Some(current) = self.choice() else { return };
        let (offered, group) = self.offer_to_rekey(&current, tries);
        let dh = match KeyPair::generate(group, host) {
            Ok(dh) => dh,
            Err(error) => return self.ike_rekey_failed(now, host, tries, error.into()),
        };
        let new = host.allocate_ike_spi();
        self.events.push_back(Event::IkeSpiAdded(new));
        let nonce = random_array::<NONCE_LEN>(host).to_vec();
        let transforms = offered.iter().map(Vec::as_slice);
        let out = [
            Payload::Sa(negotiate::offer(ProtocolId::IKE, &new.to_be_bytes(), transforms, true)),
            Payload::Nonce(nonce.clone()),
            Payload::Ke { group: dh.group(), data: dh.public().to_vec() },
        ];
        let offer = IkeOffer { spi: new, nonce, dh, tries, collision: None };
        let request = Request::RekeyIke(Box::new(offer));
        self.send_request(now, host, spi, ExchangeType::CREATE_CHILD_SA, &out, request);
    }

    /// What is offered in place of these algorithms, and the group of our public value.
    fn offer_to_rekey(&self, current: &IkeChoice, tries: Tries) -> (Vec<Vec<Transform>>, u16) {
        // The peer has refused it before, and not for now alone.
        let refused = tries.put_off > tries.busy;
        again::offer_ike(self.proposals(), current, tries.group, refused)
    }

    /// Whether one more IKE_SA may be made by us. Those that are only remembered for retransmissions make room for it, the
    /// oldest first.
    fn room_for_ike_sa(&mut self) -> bool {
        while self.sas.len() >= MAX_IKE_SAS {
            let dead = self.sas.iter().find(|sa| matches!(sa.state, SaState::Dead(_))).map(|sa| sa.spi_local);
            let Some(dead) = dead else { return false };
            self.drop_sa(dead);
        }
        true
    }

    /// The peer asks to rekey the IKE_SA.
    pub(crate) fn ike_rekey_requested(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        header: Header,
        payloads: Payloads<'_>,
    ) {
        let out = match self.serve_ike_rekey(now, host, spi, payloads) {
            Ok(out) => out,
            Err(notify) => vec![Payload::Notify(notify)],
        };
        self.respond_with(now, host, spi, header.exchange, header.message_id, &out);
    }

    fn serve_ike_rekey(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        payloads: Payloads<'_>,
    ) -> Result<Vec<Payload>, Notify> {
        let temporary = || Notify::new(NotifyType::TEMPORARY_FAILURE);
        let old = self.sas.iter().find(|sa| sa.spi_local == spi).ok_or_else(temporary)?;
        // Child SAs on their way, or a rekeying of the peer's that crosses ours already.
        let busy = old.exchanges.pending().any(|request| match request {
            Request::Child(_) | Request::DeleteChild(_) => true,
            Request::RekeyIke(offer) => offer.collision.is_some(),
            Request::Auth | Request::DeleteIke | Request::Liveness => false,
        });
        if old.state != SaState::Active || spi != self.current || busy {
            return Err(temporary());
        }
        // A peer that rekeys and never deletes has to wait until time has taken the old ones away.
        if self.sas.len() >= MAX_IKE_SAS {
            return Err(temporary());
        }
        let offered = payloads.sa().unwrap_or_default();
        let usable: Vec<Proposal> = offered.iter().filter(|p| p.ike_spi().is_some()).cloned().collect();
        let (group, public) = payloads.ke().unwrap_or_default();
        let chosen = again::choose_ike(self.proposals(), &usable, &old.choice, group);
        let Some((chosen, choice)) = chosen else {
            return Err(Notify::new(NotifyType::NO_PROPOSAL_CHOSEN));
        };
        if group != choice.group {
            let data = choice.group.to_be_bytes().to_vec();
            return Err(Notify::with_data(NotifyType::INVALID_KE_PAYLOAD, data));
        }
        let failed = |error| Notify::new(dh_refusal(error));
        let (ours, shared) = respond_dh(group, public, host).map_err(failed)?;
        let nr = random_array::<NONCE_LEN>(host).to_vec();
        let ni = payloads.nonce().unwrap_or_default();
        let new_spi = host.allocate_ike_spi();
        let spis = (new_spi, chosen.ike_spi().unwrap_or_default());
        let new = IkeSa::new(choice, false, spis, (ni, &nr), &shared, Origin::Rekey(old))
            .map_err(|_| temporary())?;
        self.events.push_back(Event::IkeSpiAdded(new_spi));
        self.sas.push(Box::new(new));
        let collision = Collision::new(ni, &nr, new_spi);
        let mut requests = self.sa_mut(spi).into_iter().flat_map(|sa| sa.exchanges.pending_mut());
        let crossed =
            requests.find_map(|r| if let Request::RekeyIke(offer) = r { Some(offer) } else { None });
        if let Some(offer) = crossed {
            // Both rekey at once: the nonces decide when our answer comes.
            offer.collision = Some(collision);
        } else {
            drop(requests);
            self.hand_over(now, spi, new_spi, false);
        }
        Ok(vec![
            Payload::Sa(vec![Proposal {
                number: chosen.number,
                protocol: ProtocolId::IKE,
                spi: new_spi.to_be_bytes().to_vec(),
                transforms: negotiate::answer(&chosen, choice.transforms()),
            }]),
            Payload::Nonce(nr),
            Payload::Ke { group, data: ours.public().to_vec() },
        ])
    }

    /// New requests go by `new`. The old IKE_SA waits for its delete.
    fn hand_over(&mut self, now: Instant, old: u64, new: u64, initiated: bool) {
        if let Some(sa) = self.sa_mut(old)
            && sa.state == SaState::Active
        {
            sa.state = SaState::Replaced(now + REPLACED_IKE);
        }
        self.current = new;
        self.rekey_refused = None;
        self.counters.ike_rekeys += 1;
        let remote_spi = self.current_sa().map_or(0, |sa| sa.spi_remote);
        self.events.push_back(Event::IkeRekeyed { local_spi: new, remote_spi, initiated });
        if self.elsewhere.is_some() {
            // What was to tell where the peer is may end with the old one, without an answer.
            self.queue(Task::Liveness, now);
        }
        self.mended(now);
        if self.mend.is_none() {
            // Whatever another was planned for is done.
            self.forget(&Task::RekeyIke);
        }
    }

    /// The answer to our request to rekey the IKE_SA.
    pub(crate) fn ike_rekey_answered(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        offer: IkeOffer,
        payloads: Payloads<'_>,
    ) {
        if let Some(error) = payloads.error() {
            self.events.push_back(Event::IkeSpiRemoved(offer.spi));
            return self.ike_rekey_refused(now, host, spi, offer, error);
        }
        let new = match self.rekeyed_sa(spi, &offer, payloads) {
            Ok(new) => new,
            Err(failure) => {
                self.events.push_back(Event::IkeSpiRemoved(offer.spi));
                return self.failed(now, failure);
            }
        };
        let nr = payloads.nonce().unwrap_or_default();
        let redundant = offer.collision.as_ref().filter(|c| c.ours_is_redundant(&offer.nonce, nr));
        if let Some(c) = redundant {
            let passive = c.passive;
            if !self.is_active(passive) {
                // The one that survives is deleted already, so the peer has ended the connection: its delete overtook
                // this answer.
                self.events.push_back(Event::IkeSpiRemoved(offer.spi));
                return self.ended_by_peer(now);
            }
            // The peer's survives; we delete the one we made, the peer deletes the old one.
            self.sas.push(Box::new(new));
            self.hand_over(now, spi, passive, false);
            return self.delete_ike_sa(now, host, offer.spi);
        }
        self.sas.push(Box::new(new));
        if let Some(passive) = offer.collision.as_ref().and_then(|c| self.sa_mut(c.passive))
            && passive.state == SaState::Active
        {
            // The peer deletes it; should it not, it goes by the timer.
            passive.state = SaState::Replaced(now + REPLACED_IKE);
        }
        self.hand_over(now, spi, offer.spi, true);
        self.delete_ike_sa(now, host, spi);
    }

    /// Whether there is an IKE_SA with this SPI of ours that nobody has deleted or replaced.
    pub(crate) fn is_active(&mut self, spi: u64) -> bool {
        self.sa_mut(spi).is_some_and(|sa| sa.state == SaState::Active)
    }

    pub(crate) fn rekeyed_sa(
        &self,
        spi: u64,
        offer: &IkeOffer,
        payloads: Payloads<'_>,
    ) -> Result<IkeSa, Failure> {
        let answer = payloads.sa().unwrap_or_default();
        let old = self.sas.iter().find(|sa| sa.spi_local == spi).ok_or(Failure::Replaced)?;
        let (group, public) = payloads.ke().unwrap_or_default();
        let (offered, _) = self.offer_to_rekey(&old.choice, offer.tries);
        let (choice, theirs) = negotiate::accept_ike(self.proposals(), answer)
            .filter(|c| c.group == group && group == offer.dh.group())
            .filter(|c| offered.iter().any(|one| c.transforms().iter().all(|t| one.contains(t))))
            .zip(answer.first().and_then(Proposal::ike_spi))
            .ok_or_else(|| Failure::BadChoice {
                chosen: negotiate::describe(answer),
                offered: negotiate::describe_configured(self.proposals()),
            })?;
        let shared = offer.dh.agree(public)?;
        let nonces = (offer.nonce.as_slice(), payloads.nonce().unwrap_or_default());
        Ok(IkeSa::new(choice, true, (offer.spi, theirs), nonces, &shared, Origin::Rekey(old))?)
    }

    fn ike_rekey_refused(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        spi: u64,
        offer: IkeOffer,
        error: &Notify,
    ) {
        if let Some(collision) = offer.collision {
            // The peer's exchange went through, so its IKE_SA is the one (RFC 7296 section 2.25.2), unless the peer has
            // deleted it since and with it the connection.
            return if self.is_active(collision.passive) {
                self.hand_over(now, spi, collision.passive, false);
            } else {
                self.ended_by_peer(now);
            };
        }
        let wanted = wanted_group(error).unwrap_or(0);
        match error.kind {
            NotifyType::INVALID_KE_PAYLOAD
                if offer.tries.groups < MAX_GROUP_CHANGES
                    && negotiate::groups(self.proposals()).contains(&wanted) =>
            {
                self.request_ike_rekey(now, host, offer.tries.with_group(wanted));
            }
            NotifyType::INVALID_KE_PAYLOAD => {
                let offered = negotiate::describe_configured(self.proposals());
                self.ike_rekey_failed(now, host, offer.tries, Failure::NoGroup { wanted, offered });
            }
            NotifyType::TEMPORARY_FAILURE => {
                self.queue_later(Task::RekeyIke, now, host, offer.tries, PutOff::Busy);
            }
            kind => {
                let failure = self.refusal(ExchangeType::CREATE_CHILD_SA, kind);
                self.ike_rekey_failed(now, host, offer.tries, failure);
            }
        }
    }

    /// The IKE_SA stays as it is, for now or until its lifetime ends.
    fn ike_rekey_failed(&mut self, now: Instant, host: &mut dyn Host, tries: Tries, failure: Failure) {
        self.rekey_refused = Some(Box::new(failure.clone()));
        self.events.push_back(Event::IkeRekeyFailed { failure });
        self.queue_later(Task::RekeyIke, now, host, tries, PutOff::Refused);
    }

    /// Sends the delete of an IKE_SA that is not needed any more.
    pub(crate) fn delete_ike_sa(&mut self, now: Instant, host: &mut dyn Host, spi: u64) {
        let Some(sa) = self.sa_mut(spi) else { return };
        // A rekeying is alone on its IKE_SA, so that nothing is under way on it when that is answered.
        sa.state = SaState::Deleting;
        let delete = [Payload::Delete { protocol: ProtocolId::IKE, spis: Vec::new() }];
        self.send_request(now, host, spi, ExchangeType::INFORMATIONAL, &delete, Request::DeleteIke);
    }

    /// The peer deleted one of the connection's IKE_SAs. Its delete is answered already.
    pub(crate) fn ike_sa_deleted(&mut self, now: Instant, spi: u64) {
        let abandoned = self.sa_mut(spi).map(|sa| {
            sa.state = SaState::Dead(now + crate::verbs::LINGER_IKE);
            sa.exchanges.abandon()
        });
        let requests = abandoned.unwrap_or_default();
        if spi == self.current {
            let passive = requests.iter().find_map(|request| match request {
                Request::RekeyIke(offer) => offer.collision.as_ref().map(|c| c.passive),
                _ => None,
            });
            self.release_requests(requests);
            match passive.filter(|&p| self.is_active(p)) {
                // Our own rekeying was not answered, the peer's won.
                Some(passive) => self.hand_over(now, spi, passive, false),
                None => self.ended_by_peer(now),
            }
        } else {
            self.release_requests(requests);
        }
    }

    /// The peer has answered a request with INVALID_SYNTAX, and has deleted the IKE_SA that it came by without another word (section
    /// 2.21.3). So there is nobody to be told, nor to be answered: who asks whether we are there would take us for one that has kept it.
    pub(crate) fn ike_sa_given_up(
        &mut self,
        now: Instant,
        spi: u64,
        exchange: ExchangeType,
        request: Request,
    ) {
        let crossing = match &request {
            Request::RekeyIke(offer) => offer.collision.as_ref().map(|c| c.passive),
            _ => None,
        };
        self.release_requests([request]);
        if spi != self.current {
            return self.ike_sa_deleted(now, spi);
        }
        match crossing.filter(|&passive| self.is_active(passive)) {
            // The one that the peer has made meanwhile is another.
            Some(passive) => {
                self.ike_delete_answered(now, spi);
                self.hand_over(now, spi, passive, false);
            }
            None => {
                let failure = self.refusal(exchange, NotifyType::INVALID_SYNTAX);
                self.failed(now, failure);
                self.finish();
            }
        }
    }
}
