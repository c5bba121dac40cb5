//! Dead peer detection (RFC 3706): a silent peer is asked, and given up if it does not answer. One that has not announced it
//! is asked by making a new IKE_SA, but only where there is none.

mod snapshot;

use std::time::{Duration, Instant};

use super::handshake::{Handshake, Packets};
use super::tasks::Task;
use super::wire::{Notify, NotifyType, Payload};
use super::{Connection, Phase};
use crate::config::Retransmit;
use crate::event::Event;
use crate::failure::Failure;
use crate::host::Host;
use crate::wire::numbers::{ExchangeType, ProtocolId};

pub(crate) use snapshot::ProbeForm;

/// A question that waits for its answer. Each time it is asked its number is one higher, as it is from question to question.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Probe {
    first: u32,
    next: u32,
    sent: u32,
    pub(crate) due: Instant,
    policy: Retransmit,
}

/// For as long the host is waited for where all pairs go if it has heard nothing: several times what a busy one takes.
const LAST_WORD: Duration = Duration::from_secs(3);

impl Connection {
    pub(crate) fn interval(&self) -> Option<Duration> {
        self.config.as_ref().map(|c| c.dpd_interval).filter(|d| !d.is_zero())
    }

    /// Whether the peer can be asked: it has announced that, or there is nothing to ask it by.
    fn can_be_asked(&self) -> bool {
        self.current_sa().is_none_or(|sa| sa.peer.dpd)
    }

    /// When the peer has been silent for long enough to be asked, or the host to say what it has heard.
    pub(crate) fn liveness_due(&self) -> Option<Instant> {
        let interval = self.interval().filter(|_| self.is_up() && self.can_be_asked())?;
        let busy = self.probe.is_some() || self.handshake.is_some() || self.waits(&Task::Liveness);
        (!busy).then(|| self.silence.due(interval))
    }

    /// Asks the host, or then the peer.
    pub(crate) fn check_liveness(&mut self, now: Instant) {
        if self.silence.ask_host(now, !self.children.is_empty()) {
            self.events.push_back(Event::SignOfLifeDue);
        } else {
            self.queue(Task::Liveness, now);
        }
    }

    /// Without an IKE_SA, packets are all that a peer may be known by that does not answer phase 1 of ours: some begin alone, and end
    /// phase 1 before its time. The host is asked for them before the pairs go; true if it has not been before.
    pub(crate) fn asks_for_packets(&mut self, now: Instant) -> bool {
        let alone = self.phase == Phase::Up && self.current_sa().is_none() && !self.children.is_empty();
        let unasked = |handshake: &&mut Box<Handshake>| alone && handshake.packets == Packets::Unasked;
        let Some(handshake) = self.handshake.as_mut().filter(unasked) else { return false };
        handshake.packets = Packets::Asked;
        handshake.repeat.due = Some(now + LAST_WORD);
        self.events.push_back(Event::SignOfLifeDue);
        true
    }

    /// The host says when ESP arrived last.
    pub(crate) fn heard(&mut self, now: Instant, at: Option<Instant>) {
        if let (Some(at), Some(handshake)) = (at, &mut self.handshake)
            && at > handshake.began
        {
            handshake.packets = Packets::Heard;
        }
        let Some(interval) = self.interval().filter(|_| self.is_up()) else { return };
        if self.silence.goes_on(now, at, interval) && self.liveness_due().is_some() {
            self.check_liveness(now);
        }
    }

    /// Asks the peer for a sign of life.
    pub(crate) fn ask_alive(&mut self, now: Instant, host: &mut dyn Host) {
        if self.probe.is_some() || !self.can_be_asked() {
            return;
        }
        let policy = self.policy_of_repeats();
        let policy = self.interval().map_or(policy, |interval| policy.of_liveness(interval));
        self.probe = Some(Probe { first: 0, next: 0, sent: 0, due: now, policy });
        self.probe_again(now, host);
    }

    /// The question once more, or the end of it.
    pub(crate) fn probe_again(&mut self, now: Instant, host: &mut dyn Host) {
        let Some(probe) = self.probe.as_mut().filter(|probe| probe.due <= now) else { return };
        if probe.sent > probe.policy.tries {
            let tries = probe.sent;
            let current = self.current_sa().map(|sa| sa.spi_local);
            if let Some(spi) = current.filter(|spi| self.may_be_forgotten(now, *spi)) {
                self.probe = None;
                self.drop_sa(now, spi);
                // A new phase 1 decides.
                self.queue(Task::Liveness, now);
                return;
            }
            let (exchange, remote) = (ExchangeType::INFORMATIONAL_V1, self.addresses().1);
            return self.failed(Failure::Timeout { exchange, remote, tries });
        }
        let Some(sa) = self.sas.iter_mut().rev().find(|sa| sa.replaced.is_none()) else { return };
        let number = sa.next_question((probe.sent > 0).then_some(probe.next), host);
        if probe.sent == 0 {
            probe.first = number;
        }
        probe.next = number.wrapping_add(1);
        probe.due = now + probe.policy.wait(probe.sent);
        self.counters.retransmissions += u64::from(probe.sent > 0);
        probe.sent += 1;
        self.say(host, None, NotifyType::R_U_THERE, number);
    }

    fn say(&mut self, host: &mut dyn Host, on: Option<u64>, kind: NotifyType, number: u32) {
        let sa = match on {
            Some(spi) => self.sa(spi),
            None => self.current_sa(),
        };
        let Some(sa) = sa else { return };
        let (spi, (spi_i, spi_r)) = (sa.spi_local, sa.spis());
        let cookies = [spi_i.to_be_bytes(), spi_r.to_be_bytes()].concat();
        let data = number.to_be_bytes().to_vec();
        let notify = Notify { protocol: ProtocolId::IKE, spi: cookies, kind, data };
        self.inform(host, spi, vec![Payload::Notify(notify)]);
    }

    /// The peer asks us. A number that is not four octets is answered to nobody.
    pub(crate) fn acknowledge(&mut self, host: &mut dyn Host, spi: u64, notify: &Notify) {
        if let Ok(number) = <[u8; 4]>::try_from(notify.data.as_slice()) {
            self.say(host, Some(spi), NotifyType::R_U_THERE_ACK, u32::from_be_bytes(number));
        }
    }

    /// Whether a question or an answer of the peer's is none of before.
    pub(crate) fn is_said_now(&mut self, spi: u64, notify: &Notify) -> bool {
        let number = <[u8; 4]>::try_from(notify.data.as_slice()).map(u32::from_be_bytes);
        let answers = number.is_ok_and(|number| self.awaits(number));
        let Some(sa) = self.sa_mut(spi) else { return false };
        match (notify.kind, number) {
            (NotifyType::R_U_THERE, Ok(number)) => sa.is_asked_now(number),
            _ => answers || !sa.seen.forgot(),
        }
    }

    /// Whether this is the number of a question that waits for its answer.
    fn awaits(&self, number: u32) -> bool {
        self.probe.is_some_and(|probe| (probe.first..probe.next).contains(&number))
    }

    /// The peer answers: if that is what it was asked, it is there.
    pub(crate) fn acknowledged(&mut self, notify: &Notify) {
        let number = <[u8; 4]>::try_from(notify.data.as_slice()).map(u32::from_be_bytes);
        if number.is_ok_and(|number| self.awaits(number)) {
            self.probe = None;
        }
    }
}
