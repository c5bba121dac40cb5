//! What `ike` has negotiated, as `esp` takes it: algorithms, keys, mode and selectors of a Child SA.
//!
//! The two know nothing of each other, and whoever hosts both (the actors, the load generator, the simulator) has to get
//! from one to the other. It is no more than that: it decides nothing.

use esp::{Mode, SaKeys, Selector, SelectorPair, Suite};
use ike::ChildSa;
use ike::crypto::keys::EspKeys;
use ike::proposal::EspChoice;
use ike::wire::TrafficSelector;

/// The algorithms; `None` for those that ESP does not have here.
pub fn suite(choice: &EspChoice) -> Option<Suite> {
    let (encr, integ) = (choice.encr, choice.integ.map(|transform| transform.id));
    Suite::from_transforms(encr.id, encr.key_bits, integ, choice.esn)
}

/// The keys of one direction, taken over without a copy.
pub fn keys(mut keys: EspKeys) -> SaKeys {
    SaKeys::new(std::mem::take(&mut *keys.encryption), std::mem::take(&mut *keys.integrity))
}

/// The selectors of both sides.
pub fn selectors(sa: &ChildSa) -> SelectorPair {
    SelectorPair { local: all(&sa.local_ts), remote: all(&sa.remote_ts) }
}

/// What the pair protects.
pub fn mode(sa: &ChildSa) -> Mode {
    match sa.mode {
        ike::config::Mode::Tunnel => Mode::Tunnel,
        ike::config::Mode::Transport => Mode::Transport,
    }
}

fn all(from: &[TrafficSelector]) -> Vec<Selector> {
    let convert = |ts: &TrafficSelector| Selector {
        protocol: ts.protocol,
        start: ts.start,
        end: ts.end,
        start_port: ts.start_port,
        end_port: ts.end_port,
    };
    from.iter().map(convert).collect()
}
