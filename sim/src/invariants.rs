//! What must hold after every event of a history. The witness is told what happens and remembers what broke.

mod ivs;

use std::collections::{BTreeMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use ike::config::{Mode, Version};
use ike::{ChildEnd, ChildSa, CloseReason, Connection, Failure};

use ivs::Ivs;

/// IKE_SAs of one connection: one in use, two of a collision, one that lingers, and one being replaced right after.
const MAX_IKE_SAS: usize = 5;
/// The same in IKEv1, where each stays for ten seconds after another has taken its place, and one that the peer should delete
/// for longer.
const MAX_IKE_SAS_V1: usize = 8;
/// Child SAs of one policy at a time: three of a collision, and as many of the rekeying right after.
const MAX_CHILDREN_OF_POLICY: usize = 6;
/// The same in IKEv1, where there is no telling who asks for a pair in another's place and who for one beside it: each crossing
/// leaves two for some thirteen seconds, and a few commands come in that time.
const MAX_CHILDREN_OF_POLICY_V1: usize = 12;
/// Violations kept; one is enough to fail, a few help to understand.
const KEPT: usize = 20;

/// Watches one node's side of things; there is one per history, and SPIs tell the nodes apart.
#[derive(Debug, Default)]
pub struct Witness {
    /// What broke.
    pub violations: Vec<String>,
    /// SAs made, by what for.
    pub counts: BTreeMap<&'static str, u64>,
    keys: HashSet<(u32, u64)>,
    live: HashSet<u32>,
    dead: HashSet<u32>,
    /// Pairs, by inbound SPI, whose end the peer may never hear of.
    forsaken: HashSet<u32>,
    ivs: Ivs,
    /// Something is wrong with the network right now.
    pub disturbed: bool,
    /// The time, for messages.
    pub at: std::time::Duration,
    /// Tell everything that happens, on standard error.
    pub trace: bool,
}

impl Witness {
    /// Something that must not happen has happened.
    pub fn violation(&mut self, what: String) {
        if self.violations.len() < KEPT {
            self.violations.push(format!("{:?}: {what}", self.at));
        }
    }

    /// Tells what happens, if asked to.
    #[allow(clippy::print_stderr)]
    pub(crate) fn tell(&self, tunnel: usize, local: u32, what: &dyn std::fmt::Display) {
        if self.trace {
            // The top octet of an SPI is the node that chose it.
            eprintln!("{:>12.6} tunnel {tunnel} at {local:08x}: {what}", self.at.as_secs_f64());
        }
    }

    fn count(&mut self, what: &'static str) {
        *self.counts.entry(what).or_default() += 1;
    }

    /// A pair is installed.
    pub(crate) fn installed(&mut self, tunnel: usize, sa: &ChildSa) {
        self.count(if sa.replaces.is_some() { "child rekeys" } else { "child SAs" });
        if sa.mode == Mode::Transport {
            self.count("in transport mode");
        }
        if self.dead.contains(&sa.spi_in) {
            self.violation(format!("tunnel {tunnel}: closed SA {:08x} came back", sa.spi_in));
        }
        if !self.live.insert(sa.spi_in) {
            self.violation(format!("tunnel {tunnel}: SA {:08x} installed twice", sa.spi_in));
        }
        // Sequence numbers start at 1 with each install, so a key installed twice on one side would repeat IVs.
        for (direction, keys) in [(1, &sa.keys_in), (2, &sa.keys_out)] {
            let key = fingerprint(&keys.encryption);
            if !self.keys.insert((direction, key)) {
                self.violation(format!("tunnel {tunnel}: a key is used by two SAs in one direction"));
            }
        }
        if sa.keys_in.encryption == sa.keys_out.encryption {
            self.violation(format!("tunnel {tunnel}: both directions share a key"));
        }
    }

    /// A pair only receives from now on.
    pub(crate) fn retired(&mut self, tunnel: usize, spi: u32, reason: ChildEnd) {
        if !self.live.contains(&spi) {
            self.violation(format!("tunnel {tunnel}: SA {spi:08x} removed ({reason:?}) but not there"));
        }
        self.count(match reason {
            ChildEnd::Redundant => "collisions lost",
            ChildEnd::Expired => "hard expiries",
            ChildEnd::LostByPeer => "lost by peer",
            _ => "child SAs removed",
        });
    }

    /// A pair is gone.
    pub(crate) fn removed(&mut self, spi: u32) {
        self.live.remove(&spi);
        self.dead.insert(spi);
    }

    /// A pair of IKEv1 was removed, which the peer knows by `theirs`. Nobody acknowledges the delete in IKEv1 (RFC 2408 section
    /// 3.15), so if it is said while something is wrong with the network the peer may have its half until that is renewed.
    pub(crate) fn unacknowledged(&mut self, theirs: u32) {
        if self.disturbed {
            self.forsaken.insert(theirs);
        }
    }

    /// Whether the other end of a pair may be gone without the word of it having arrived.
    pub(crate) fn is_forsaken(&self, spi: u32) -> bool {
        self.forsaken.contains(&spi)
    }

    /// A connection ended.
    pub(crate) fn down(&mut self, tunnel: usize, reason: &CloseReason) {
        let _ = tunnel;
        self.count(match reason {
            CloseReason::Local => "closed by us",
            CloseReason::DeletedByPeer => "closed by peer",
            CloseReason::Failed(Failure::Timeout { .. }) => "timed out",
            CloseReason::Failed(Failure::Replaced) => "replaced",
            CloseReason::Failed(Failure::Authentication { .. }) => "authentication failed",
            CloseReason::Failed(_) => "failed",
        });
    }

    /// A connection joined another of its peer.
    pub(crate) fn joined(&mut self) {
        self.count("joined");
    }

    /// A node has taken the place of another.
    pub(crate) fn handed_over(&mut self) {
        self.count("handed over");
    }

    /// A half-open negotiation failed.
    pub(crate) fn refused(&mut self, failure: &Failure) {
        self.count(if matches!(failure, Failure::Unfinished { .. }) {
            "half-open timed out"
        } else {
            "refused"
        });
    }

    /// A connection after it was called.
    pub(crate) fn check_connection(&mut self, tunnel: usize, conn: &Connection) {
        let version = conn.config().map(|config| config.version).unwrap_or_default();
        let most = if version == Version::V2 { MAX_IKE_SAS } else { MAX_IKE_SAS_V1 };
        if conn.ike_sas() > most {
            self.violation(format!("tunnel {tunnel}: {} IKE_SAs on one connection", conn.ike_sas()));
        }
        let mut policies: BTreeMap<&str, (usize, usize)> = BTreeMap::new();
        for (name, _, _, active) in conn.child_sas() {
            let entry = policies.entry(name).or_default();
            entry.0 += 1;
            entry.1 += usize::from(active);
        }
        let most = if version == Version::V2 { MAX_CHILDREN_OF_POLICY } else { MAX_CHILDREN_OF_POLICY_V1 };
        for (name, (count, active)) in policies {
            if count > most {
                self.violation(format!("tunnel {tunnel}: {count} pairs of policy {name}"));
            }
            if active > 1 {
                self.violation(format!("tunnel {tunnel}: {active} sending pairs of policy {name}"));
            }
        }
    }
}

/// What tells one key from another.
pub(crate) fn fingerprint(key: &[u8]) -> u64 {
    let mut hasher = DefaultHasher::new();
    key.hash(&mut hasher);
    hasher.finish()
}
