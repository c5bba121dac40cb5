//! What both sides say of how long an SA lasts (RFC 2407 sections 4.5 and 4.6.3.1). The shorter of two counts on both sides, so
//! nobody is left with one that the other has thrown away.

use std::time::Duration;

use super::offer::{OfferedLife, phase2_life};
use super::wire::{Attribute, Notify, NotifyType, Payload, Payloads, parse_attributes, write_attributes};
use crate::config::Life;
use crate::event::Limit;
use crate::wire::numbers::ProtocolId;
use crate::wire::writer::Writer;

/// What a lifetime on the wire bounds. Zero bounds nothing.
pub(crate) fn limit_of(life: OfferedLife) -> Limit {
    let life = life.bounding();
    Limit {
        time: life.seconds.map(Duration::from_secs),
        octets: life.kilobytes.map(|k| k.saturating_mul(1_024)),
    }
}

/// What a RESPONDER-LIFETIME among these says.
pub(crate) fn of_responder(payloads: Payloads<'_>) -> Limit {
    limit_of(OfferedLife::of_phase2(&told(payloads, |_| true)))
}

/// What a RESPONDER-LIFETIME in the last message of phase 1 says of the IKE_SA.
pub(crate) fn of_phase1_responder(payloads: Payloads<'_>) -> OfferedLife {
    OfferedLife::of_phase1(&told(payloads, |protocol| protocol == ProtocolId::IKE))
}

/// The attributes of the first RESPONDER-LIFETIME about such a protocol; none where there is none, or it cannot be read.
fn told(payloads: Payloads<'_>, about: impl Fn(ProtocolId) -> bool) -> Vec<Attribute> {
    let is_told = |notify: &&Notify| notify.kind == NotifyType::RESPONDER_LIFETIME && about(notify.protocol);
    let told = payloads.notifies().find(is_told);
    told.and_then(|notify| parse_attributes(&notify.data).ok()).unwrap_or_default()
}

/// RESPONDER-LIFETIME for a pair that we keep for less than what the peer offers.
pub(crate) fn shorter(offered: OfferedLife, ours: Life, spi_in: u32) -> Option<Payload> {
    let time = offered.seconds.is_some_and(|seconds| seconds > ours.time.as_secs());
    let octets = ours.kilobytes.is_some_and(|ours| offered.kilobytes.is_none_or(|theirs| theirs > ours));
    (time || octets).then(|| {
        let mut data = Writer::new();
        write_attributes(&mut data, &phase2_life(ours));
        let kind = NotifyType::RESPONDER_LIFETIME;
        let spi = spi_in.to_be_bytes().to_vec();
        Payload::Notify(Notify { protocol: ProtocolId::ESP, spi, kind, data: data.finish() })
    })
}
