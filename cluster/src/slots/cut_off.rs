//! Whether etcd is there for a node that hears no other.
//!
//! That etcd is away is known after its whole patience ([`crate::etcd`]), for an election is no reason to think so. A node that is cut off from all
//! others has no such time: what is sent to it by a balancer is lost, for its slots are others' by then. So it asks by itself, and takes the first
//! silence for what it is.

use std::sync::atomic::Ordering;
use std::time::Duration;

use tokio::time::{sleep, timeout};

use super::{Inner, KEYS};
use crate::etcd::EtcdError;

/// Etcd answers within milliseconds. All members of three are asked within this.
const ANSWER: Duration = Duration::from_secs(1);
/// From one question to the next.
const PAUSE: Duration = Duration::from_millis(200);

/// Asks etcd for as long as this node is cut off from all others.
pub(super) async fn listen_to_etcd(inner: &Inner) {
    loop {
        let is_mute = inner.is_cut_off() && !answers(inner).await;
        if inner.etcd_is_mute.swap(is_mute, Ordering::Relaxed) != is_mute {
            inner.look_around();
        }
        if inner.is_cut_off() {
            sleep(PAUSE).await;
        } else {
            inner.alone.notified().await;
        }
    }
}

/// Whether any member says anything, be it that it may not be asked.
async fn answers(inner: &Inner) -> bool {
    let answer = timeout(ANSWER, inner.etcd.get(KEYS)).await;
    answer.is_ok_and(|answer| !matches!(answer, Err(EtcdError::Away { .. })))
}
