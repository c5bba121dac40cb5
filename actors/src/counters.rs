//! What the control plane counts, by name.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

macro_rules! counters {
    ($($(#[$doc:meta])* $field:ident => $name:literal),* $(,)?) => {
        /// One number per thing that can happen; all of them are in the node's status.
        #[derive(Debug, Default)]
        pub(crate) struct Counters {
            $($(#[$doc])* pub(crate) $field: Count,)*
        }

        impl Counters {
            pub(crate) fn all(&self) -> Vec<(&'static str, u64)> {
                vec![$(($name, self.$field.get())),*]
            }
        }
    };
}

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Count(AtomicU64);

impl Count {
    pub(crate) fn up(&self) {
        self.add(1);
    }

    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

/// How many there are of something now.
#[derive(Clone, Debug, Default)]
pub(crate) struct Gauge(Arc<AtomicU64>);

/// One of them, for as long as it lives.
#[derive(Debug)]
pub(crate) struct Inside(Gauge);

impl Gauge {
    pub(crate) fn enter(&self) -> Inside {
        self.0.fetch_add(1, Ordering::Relaxed);
        Inside(self.clone())
    }

    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

impl Drop for Inside {
    fn drop(&mut self) {
        self.0.0.fetch_sub(1, Ordering::Relaxed);
    }
}

/// What has become of the IKE messages that the router has received: each is counted by exactly one of these.
pub const IKE_OUTCOMES: [&str; 22] = [
    "ike_malformed",
    "ike_unknown_spi",
    "ike_passed_on",
    "ike_wrong_version",
    "ike_dropped",
    "ike_taken",
    "ike_answered_again",
    "ike_overload",
    "ike_awaited_full",
    "ike_awaited_share",
    "ike_awaited_late",
    "ike_init_accepted",
    "ike_init_no_peer",
    "ike_init_refused",
    "ike_init_cookie",
    "ike_init_waiting",
    "ike_init_over_budget",
    "ike_init_repeated",
    "ike_init_duplicate",
    "ike_init_too_long",
    "ike_half_open_limit",
    "ike_half_open_share",
];

counters! {
    /// A message had to wait for room in a mailbox, or was dropped if it was a datagram.
    mailbox_full => "actor_mailbox_full",
    /// An actor panicked.
    panics => "actor_panics",
    /// Not an IKE message.
    ike_malformed => "ike_malformed",
    /// For no IKE_SA of ours.
    ike_unknown_spi => "ike_unknown_spi",
    /// For an IKE_SA that another node of the cluster has, and passed on to it.
    ike_passed_on => "ike_passed_on",
    /// Received by another node of the cluster, which has passed them on.
    ike_passed_in => "ike_passed_in",
    /// Of another major version.
    ike_wrong_version => "ike_wrong_version",
    /// Dropped by a connection, half-open or not: forged, damaged, or out of window.
    ike_dropped => "ike_dropped",
    /// Taken by the connection that they are for.
    ike_taken => "ike_taken",
    /// Dropped because the mailbox that they are for is full.
    ike_overload => "ike_overload",
    /// For a slot that is on its way here, and dropped because so much waits for it, or for all that come.
    awaited_full => "ike_awaited_full",
    /// For a slot that is on its way here, and dropped because so much from the same source waits for it.
    awaited_share => "ike_awaited_share",
    /// Dropped because the slot that they waited for had not come in time.
    awaited_late => "ike_awaited_late",
    /// First messages that began a negotiation.
    init_accepted => "ike_init_accepted",
    /// First messages from where no peer is configured.
    init_no_peer => "ike_init_no_peer",
    /// First messages answered with an error.
    init_refused => "ike_init_refused",
    /// First messages answered with a cookie.
    cookies => "ike_init_cookie",
    /// First messages dropped because so many wait already.
    init_waiting => "ike_init_waiting",
    /// First messages dropped because their source, or all that return cookies, have used up what they may cost.
    init_over_budget => "ike_init_over_budget",
    /// First messages that were answered already a moment ago.
    init_repeated => "ike_init_repeated",
    /// First messages of negotiations that have succeeded: copies.
    init_settled => "ike_init_duplicate",
    /// First messages longer than is taken.
    init_too_long => "ike_init_too_long",
    /// Negotiations whose first message was answered otherwise than it would have been, had it been known who asks.
    init_misjudged => "ike_init_misjudged",
    /// Connections closed because the actor of their peer left before it took them.
    not_adopted => "ike_not_adopted",
    /// First messages dropped because too many negotiations are open.
    half_open_limit => "ike_half_open_limit",
    /// First messages dropped because too many negotiations of their source are open.
    half_open_share => "ike_half_open_share",
    /// Negotiations without a cookie that made room for one with.
    half_open_evicted => "ike_half_open_evicted",
    /// Negotiations given up because they would have held too many octets.
    half_open_octets => "ike_half_open_octets",
    /// Packets of SAs that are not here, from an address that no peer is configured with.
    recover_no_peer => "esp_unknown_no_peer",
    /// A peer had more connections at once than are kept: its oldest vanished.
    connection_limit => "ike_connection_limit",
    /// Negotiations that failed.
    failures => "ike_negotiation_failed",
    /// Second connections of peers whose first one is kept.
    duplicates => "ike_duplicate_refused",
    /// Requests sent again.
    retransmissions => "ike_retransmissions",
    /// Another member of a peer that is a cluster went on, and set the Message IDs anew (RFC 6311).
    message_id_syncs => "ike_message_id_sync",
    /// Requests answered again from store.
    answered_again => "ike_answered_again",
    /// Slots of another node of which not all connections had begun here when their next standby was told.
    begun_late => "slot_begun_late",
    /// Child SAs that the router did not take.
    install_failed => "child_sa_install_failed",
    /// Negotiations that no trace tells of, because so many are being told already.
    untold => "traces_not_begun",
    /// Events of the router for SAs that are gone.
    stale_router_events => "router_events_stale",
}
