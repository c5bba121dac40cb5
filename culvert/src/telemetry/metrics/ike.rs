//! Negotiations and IKE messages.

use std::collections::BTreeMap;

use actors::{IKE_OUTCOMES, Stage};
use ike::explain::KINDS;

use super::exit::Exit;
use super::source::Reading;
use super::table;

pub(super) fn write(reading: &Reading, exit: &mut dyn Exit) {
    let negotiations = &reading.figures.negotiations;
    // All of them are there from the start, so that the first one shows as a change.
    let causes = || [""].into_iter().chain(KINDS);
    let of = |stage: &'static Stage| causes().map(move |cause| ((*stage, cause), 0));
    let mut counts: BTreeMap<(Stage, &str), u64> = Stage::ALL.iter().flat_map(of).collect();
    counts.extend(negotiations.counts.iter().map(|(stage, cause, count)| ((*stage, *cause), *count)));
    for ((stage, cause), count) in counts {
        let outcome = if cause.is_empty() { "succeeded" } else { "failed" };
        exit.number(&table::NEGOTIATIONS, &[stage.name(), outcome, cause], count.into());
    }
    for (role, latency) in &negotiations.handshakes {
        exit.histogram(&table::HANDSHAKE, &[role], latency);
    }
    for (sa, latency) in &negotiations.rekeys {
        exit.histogram(&table::REKEY, &[sa], latency);
    }
    for (exchange, latency) in &negotiations.exchanges {
        exit.histogram(&table::EXCHANGE, &[exchange], latency);
    }
    let of_router = |name: &str| {
        reading.figures.router.iter().find(|(counter, _)| *counter == name).map_or(0, |(_, count)| *count)
    };
    exit.number(&table::IKE_MESSAGES, &["received"], of_router("ike_received").into());
    exit.number(&table::IKE_MESSAGES, &["sent"], of_router("ike_sent").into());
    let control = &reading.figures.control;
    for (name, count) in control.iter().filter(|(name, _)| IKE_OUTCOMES.contains(name)) {
        let outcome = name.strip_prefix("ike_").unwrap_or(name);
        exit.number(&table::IKE_OUTCOMES, &[outcome], (*count).into());
    }
    let again = control.iter().find(|(name, _)| *name == RETRANSMISSIONS).map_or(0, |(_, count)| *count);
    exit.number(&table::RETRANSMISSIONS, &[], again.into());
}

/// A counter of the control plane that has a metric of its own.
pub(super) const RETRANSMISSIONS: &str = "ike_retransmissions";
