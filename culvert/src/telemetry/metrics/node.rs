//! What there is to say of the node as a whole.

use tenants::limits::MAX_TENANTS;

use super::exit::Exit;
use super::source::{OfTenant, Reading, STATES, count_states, unix};
use super::table;
use crate::telemetry::memory::resident_bytes;

/// SPIs of a shard: 20 bits of each.
const SPIS_PER_SHARD: u64 = 1 << 20;

/// What is known of a node that does not say anything itself.
pub(super) fn write_alone(reading: &Reading, exit: &mut dyn Exit) {
    exit.number(&table::BUILD, &[env!("CARGO_PKG_VERSION")], true.into());
    exit.number(&table::START_TIME, &[], unix(reading.started()).into());
    exit.number(&table::LIVE, &[], reading.probes.live().is_ok().into());
    exit.number(&table::READY, &[], reading.probes.ready().is_ok().into());
    exit.number(&table::STORE_WRITABLE, &[], reading.store_writable.into());
}

pub(super) fn write(reading: &Reading, exit: &mut dyn Exit, tenants: &[OfTenant<'_>]) {
    write_alone(reading, exit);
    let figures = &reading.figures;
    exit.number(&table::REVISION, &[], reading.snapshot.revision.into());
    if let Some(resident) = resident_bytes() {
        exit.number(&table::RESIDENT, &[], resident.into());
    }
    let views = || figures.peers.iter().map(|(_, view)| view);
    let child_sas: usize = views().map(|view| view.children.len()).sum();
    let (half_open, half_open_limit) = figures.half_open;
    let resources = [
        ("tenants", tenants.len() as u64, MAX_TENANTS as u64),
        ("child_sas", child_sas as u64, reading.shards as u64 * SPIS_PER_SHARD),
        ("half_open", half_open, half_open_limit),
    ];
    for (resource, used, _) in resources {
        exit.number(&table::USAGE, &[resource], used.into());
    }
    for (resource, _, limit) in resources {
        exit.number(&table::LIMIT, &[resource], limit.into());
    }
    let queues = || figures.queues.iter().chain(&reading.exports.queues);
    for queue in queues() {
        exit.number(&table::QUEUE_DEPTH, &[queue.name], queue.depth.into());
    }
    for queue in queues() {
        exit.number(&table::QUEUE_LIMIT, &[queue.name], queue.limit.into());
    }
    let counts = count_states(tenants.iter().flat_map(|tenant| &tenant.peers));
    for (state, count) in STATES.into_iter().zip(counts) {
        exit.number(&table::PEERS, &[state], count.into());
    }
    exit.number(&table::IKE_SAS, &[], views().map(|view| view.ike_sas).sum::<usize>().into());
    exit.number(&table::CHILD_SAS, &[], child_sas.into());
    exit.number(&table::HALF_OPEN, &[], half_open.into());
    for (name, not_after) in &reading.certificates {
        exit.number(&table::CERTIFICATE, &[name], unix(*not_after).into());
    }
    for (name, usable) in &reading.files {
        exit.number(&table::API_FILES, &[name], (*usable).into());
    }
}

/// What is said of what is said.
pub(super) fn write_exports(reading: &Reading, exit: &mut dyn Exit, tenants: usize) {
    let peers = reading.snapshot.peers.len() > reading.bounds.peers;
    exit.number(&table::AGGREGATED, &["peer"], peers.into());
    exit.number(&table::AGGREGATED, &["tenant"], (tenants > reading.bounds.tenants).into());
    exit.number(&table::COLLECT, &[], reading.took.as_secs_f64().into());
    for (signal, count) in &reading.exports.exported {
        exit.number(&table::EXPORTED, &[signal], (*count).into());
    }
    for (signal, reason, count) in &reading.exports.dropped {
        exit.number(&table::EXPORT_DROPPED, &[signal, reason], (*count).into());
    }
    for (signal, up) in &reading.exports.up {
        exit.number(&table::EXPORT_UP, &[signal], (*up).into());
    }
}
