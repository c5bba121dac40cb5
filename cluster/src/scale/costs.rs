//! What was measured on three nodes ("What it costs" in `docs/src/cluster.md` says how), and the times of the rules.

use crate::{members, slots};

/// Octets that nodes tell each other of a handshake, until its tunnel is up: this and the next three are what `mesh_asked_octets` counted under
/// `loadtest handshakes`, `rekey-storm --rekey-rate` and `traffic`.
pub(super) const HANDSHAKE: f64 = 1_700.0;
/// Of a Child SA that is rekeyed.
pub(super) const REKEY_CHILD: f64 = 3_100.0;
/// Of an IKE SA that is rekeyed.
pub(super) const REKEY_IKE: f64 = 3_900.0;
/// Of a tunnel whose packets are under way, each time that is told.
pub(super) const PROGRESS: f64 = 54.0;
/// How often that is, per second.
pub(super) const PROGRESSES: f64 = 10.0;
/// Rekeyings as they are by default, in seconds.
pub(super) const CHILD_LIFE: f64 = 3_600.0;
pub(super) const IKE_LIFE: f64 = 4.0 * 3_600.0;
/// Connections that a new standby is told of in a second. Assumed, and not measured.
pub(super) const FILLED: f64 = 10_000.0;
/// Seconds from the loss of a node until its standby goes on, and until another one is found for what it was the standby of.
pub(super) const TAKE_OVER: f64 = 0.7;
/// Processor time of a handshake in a cluster, in seconds, over all nodes: as it was before what standbys are told was gathered.
pub(super) const HANDSHAKE_CPU: f64 = 455e-6;

/// Octets of a peer in the list of those whom a node has a connection with.
pub(super) const PEER: f64 = 2.0;
/// Seconds between two writes of that list at least, and what a node writes of it in a second at most.
pub(super) const TOGETHER: f64 = members::HELD_TOGETHER.as_secs_f64();
pub(super) const OCTETS_PER_SECOND: f64 = members::HELD_OCTETS_PER_SECOND as f64;

/// Seconds: nothing has to be in a slot for so long, between looks whether somebody has less to do, and before a node is given anything.
pub(super) const QUIET: f64 = slots::QUIET.as_secs_f64();
pub(super) const EVEN: f64 = slots::EVEN.as_secs_f64();
pub(super) const SETTLED: f64 = slots::SETTLED.as_secs_f64();

pub(super) const DAY: f64 = 86_400.0;
