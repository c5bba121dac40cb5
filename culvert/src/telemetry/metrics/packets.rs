//! What the router counts, and the rest of what the control plane does: every counter of the node's status has its place here or
//! in `ike.rs`.

use actors::IKE_OUTCOMES;

use super::exit::Exit;
use super::ike::RETRANSMISSIONS;
use super::source::Reading;
use super::table;

/// Where a counter is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    Ike,
    Esp(&'static str),
    Way(&'static str),
    Dropped,
    Event,
}

/// Packets opened that are counted with the drops though nothing of worth was in them.
const NO_DROP: &str = "esp_dummy";

fn place(name: &str, of_router: bool) -> Place {
    match name {
        "ike_received" | "ike_sent" if of_router => Place::Ike,
        "esp_received" => Place::Esp("received"),
        "esp_sent" => Place::Esp("sent"),
        "switched" => Place::Way("switched"),
        "tun_written" => Place::Way("tun_written"),
        "tun_read" => Place::Way("tun_read"),
        "policy_bypass" => Place::Way("bypassed"),
        NO_DROP => Place::Event,
        name if name.starts_with("drop_") => Place::Dropped,
        // What the transforms refuse.
        name if of_router && name.starts_with("esp_") => Place::Dropped,
        name if !of_router && (IKE_OUTCOMES.contains(&name) || name == RETRANSMISSIONS) => Place::Ike,
        _ => Place::Event,
    }
}

pub(super) fn write(reading: &Reading, exit: &mut dyn Exit) {
    let figures = &reading.figures;
    let router = figures.router.iter().map(|(name, count)| (*name, place(name, true), *count));
    let control = figures.control.iter().map(|(name, count)| (*name, place(name, false), *count));
    let all: Vec<_> = router.chain(control).collect();
    for (_, place, count) in &all {
        if let Place::Esp(direction) = place {
            exit.number(&table::ESP_PACKETS, &[direction], (*count).into());
        }
    }
    for (_, place, count) in &all {
        if let Place::Way(way) = place {
            exit.number(&table::INNER_PACKETS, &[way], (*count).into());
        }
    }
    for (name, place, count) in &all {
        if *place == Place::Dropped {
            exit.number(&table::DROPPED, &[reason(name)], (*count).into());
        }
    }
    for (name, place, count) in &all {
        if *place == Place::Event {
            exit.number(&table::EVENTS, &[name], (*count).into());
        }
    }
    for (name, count) in &reading.counts {
        exit.number(&table::EVENTS, &[name], (*count).into());
    }
}

/// A drop without the words that say that it is one.
pub(super) fn reason(name: &str) -> &str {
    name.strip_prefix("drop_").unwrap_or(name)
}
