//! What a history is made of.

use std::time::Duration;

use ike::config::Opening;

use crate::net::{Conditions, NatKind};
use crate::node::peer::Lifetimes;

/// How a world is built and what befalls it.
#[derive(Clone, Debug)]
pub struct Scenario {
    /// Branches of the concentrator; each is a tunnel.
    pub branches: usize,
    /// Child SA policies of each tunnel.
    pub policies: usize,
    /// Pairs of each policy at the same time (RFC 9611), for a hub; a gateway takes two at most.
    pub resources: u8,
    /// How long the history is.
    pub length: Duration,
    /// The network between disturbances.
    pub conditions: Conditions,
    /// Lifetimes of SAs.
    pub lifetimes: Lifetimes,
    /// NAT in front of every other group of branches.
    pub nat: Option<NatKind>,
    /// Between two random commands (rekey, delete, close) on some tunnel, on average; zero for none.
    pub commands: Duration,
    /// Whether commands may take SAs down rather than rekey only.
    pub deletes: bool,
    /// Between two disturbances of the network or restarts, on average; zero for none.
    pub disturbances: Duration,
    /// Between two handovers of a node to another, on average; zero for none.
    pub handovers: Duration,
    /// Nodes that take over go on as if the last one had sent nothing since it told: to see that this is noticed.
    pub careless: bool,
    /// Between two probes of a tunnel and direction, on average.
    pub probes: Duration,
    /// Both sides start negotiations where they can.
    pub both_start: bool,
    /// Idle time after which a peer is asked for a sign of life.
    pub dpd: Duration,
    /// Every other tunnel without a NAT has one of its policies in transport mode, and no ESP in UDP.
    pub transport: bool,
    /// What the tunnels speak, in turn.
    pub spoken: &'static [Opening],
}

/// Each version and mode by itself, and all of them side by side on one node, in every place: what a tunnel has to do with its
/// number, as whether there is a NAT, meets every way to speak.
const SPOKEN: [&[Opening]; 7] = {
    use Opening::{Aggressive, Init, Main};
    [
        &[Init],
        &[Init, Main, Aggressive],
        &[Main],
        &[Main, Aggressive, Init],
        &[Aggressive],
        &[Aggressive, Init, Main],
        &[Main, Aggressive],
    ]
};

impl Scenario {
    /// Everything at once: what thousands of hours are run with.
    pub const fn storm(length: Duration) -> Self {
        Self {
            branches: 6,
            policies: 2,
            resources: 1,
            length,
            conditions: Conditions::GOOD,
            lifetimes: Lifetimes {
                ike: (Duration::from_secs(1_800), Duration::from_secs(2_100)),
                child: (Duration::from_secs(600), Duration::from_secs(720)),
            },
            nat: None,
            commands: Duration::from_secs(120),
            deletes: true,
            disturbances: Duration::from_secs(1_200),
            handovers: Duration::from_secs(30),
            careless: false,
            probes: Duration::from_secs(15),
            both_start: false,
            dpd: Duration::from_secs(30),
            transport: false,
            spoken: &[Opening::Init],
        }
    }

    /// Every seed has its own mixture of NAT, starting sides, versions, modes and numbers of policies (and so of requests under
    /// way) and of their pairs.
    #[must_use]
    pub fn varied(self, seed: u64) -> Self {
        Self {
            nat: NatKind::all().nth(usize::try_from(seed % 12).unwrap_or(0)),
            both_start: seed.is_multiple_of(3),
            transport: seed.is_multiple_of(2),
            spoken: usize::try_from(seed % 7)
                .ok()
                .and_then(|at| SPOKEN.get(at).copied())
                .unwrap_or(&[Opening::Init]),
            resources: 1 + u8::try_from(seed / 3 % 3).unwrap_or(0),
            policies: [2, 1, 2, 5].into_iter().nth(usize::try_from(seed / 5 % 4).unwrap_or(0)).unwrap_or(2),
            ..self
        }
    }

    /// A network that only delays and reorders, and rekeyings from both sides, often at once: nothing may be lost.
    pub const fn rekeys(length: Duration) -> Self {
        Self {
            commands: Duration::from_secs(4),
            deletes: false,
            disturbances: Duration::ZERO,
            handovers: Duration::from_secs(10),
            probes: Duration::from_millis(500),
            ..Self::storm(length)
        }
    }
}
