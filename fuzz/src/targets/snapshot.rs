//! Snapshots, beneath the checksum that tells what was altered from what was meant: whatever can be decoded is an error or is
//! restored, and what was restored goes on to a third node as it is.

use std::sync::Arc;
use std::time::Instant;

use esp::{InboundSa, InboundSnapshot, Lease, OutboundSa, OutboundSnapshot, Resume};
use ike::supervise::{Senders, SendersSnapshot, Supervisor, SupervisorSnapshot};
use ike::{Connection, Snapshot};
use snapshot::{Form, decode, encode};

use crate::world::World;

/// Runs the target.
pub fn run(data: &[u8]) {
    let Some((kind, octets)) = data.split_first() else { return };
    // As it stands, too.
    let _ = decode::<Snapshot>(octets);
    let now = Instant::now();
    match kind % 5 {
        0 => {
            let config = World::new().ends[0].host.peer.clone();
            check(octets, |form: &Snapshot| {
                let conn = Connection::restore(form, now, ike::Resume::Exactly, config.clone()).ok()?;
                let _ = (conn.poll_timeout(), conn.child_sas().count(), conn.local_spis(), conn.spis());
                conn.snapshot(now).ok()
            });
        }
        1 => {
            check(octets, |form: &InboundSnapshot| Some(InboundSa::restore(form, Arc::new).ok()?.snapshot()))
        }
        2 => check(octets, |form: &OutboundSnapshot| {
            Some(OutboundSa::restore(form, Resume::Exactly, Lease::up_to(9)).ok()?.snapshot())
        }),
        3 => check(octets, |form: &SupervisorSnapshot| {
            Some(Supervisor::restored(form, now).ok()?.snapshot(now))
        }),
        _ => check(octets, |form: &SendersSnapshot| Some(Senders::restored(form).snapshot())),
    }
}

/// What comes of it the second time is what came of it the first.
fn check<F: Form>(octets: &[u8], over: impl Fn(&F) -> Option<F>) {
    let Ok(form) = F::decode(octets) else { return };
    let Some(first) = over(&form) else { return };
    let first = encode(&first);
    let read = decode(&first).expect("what was encoded");
    let second = encode(&over(&read).expect("what was a snapshot of one that was restored"));
    assert!(first == second, "{} changes on its way", F::OF);
}
