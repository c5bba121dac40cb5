//! What is configured for a peer, as the core needs it.

use std::borrow::Borrow;
use std::fmt;
use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use crate::coverage::policy_of;
pub use crate::credentials::{Auth, Psk};
use crate::identity::Identity;
use crate::proposal::{EspProposal, IkeProposal};
use crate::wire::ts::TrafficSelector;

/// One peer: identities, credentials and what may be negotiated.
#[derive(Debug)]
pub struct PeerConfig {
    /// The name used in events and logs, for example `tenants/acme/peers/branch-12`.
    pub name: Arc<str>,
    /// Who we are to this peer.
    pub local_id: Identity,
    /// Who the peer must be.
    pub remote_id: Identity,
    /// How both sides prove who they are.
    pub auth: Auth,
    /// IKE proposals in order of preference.
    pub ike_proposals: Arc<[IkeProposal]>,
    /// Child SAs to have with this peer; the first is created in IKE_AUTH.
    pub children: Vec<Arc<ChildConfig>>,
    /// After this much silence the peer is asked whether it is alive; zero never asks.
    pub dpd_interval: Duration,
    /// Act as if a NAT had been found, so that ESP goes in UDP.
    pub force_encapsulation: bool,
    /// Which connection stays when there is a second one.
    pub uniqueness: Uniqueness,
    /// Retransmission schedule.
    pub retransmit: Retransmit,
    /// Which version of IKE is spoken with it.
    pub version: Version,
}

/// Which version of IKE is spoken with a peer: one, so that nobody on the way can choose the weaker.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Version {
    /// RFC 7296.
    #[default]
    V2,
    /// RFC 2409.
    V1(V1),
}

impl Version {
    /// What there is to say of IKEv1 alone; what is usual if it is not spoken.
    pub(crate) fn v1(self) -> V1 {
        match self {
            Self::V1(v1) => v1,
            Self::V2 => V1::default(),
        }
    }

    /// How a negotiation with such a peer opens.
    pub const fn opening(self) -> Opening {
        match self {
            Self::V2 => Opening::Init,
            Self::V1(V1 { mode: Phase1::Main, .. }) => Opening::Main,
            Self::V1(V1 { mode: Phase1::Aggressive, .. }) => Opening::Aggressive,
        }
    }
}

impl PeerConfig {
    /// How a negotiation with this peer opens.
    pub const fn opening(&self) -> Opening {
        self.version.opening()
    }
}

/// How a negotiation opens: by its first message it is seen which it is, before anything is known of who has sent it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Opening {
    /// IKE_SA_INIT of IKEv2.
    Init,
    /// Main Mode of IKEv1.
    Main,
    /// Aggressive Mode of IKEv1.
    Aggressive,
}

impl Opening {
    /// Whether its sender can be asked to prove its address before anything is kept for it (RFC 7296 section 2.6). In IKEv1
    /// the answer to the first message has to come back in the third, which is when something is computed in main mode; in
    /// aggressive mode nothing takes that place.
    pub const fn has_cookies(self) -> bool {
        matches!(self, Self::Init)
    }

    /// Every one, for tables.
    pub const ALL: [Self; 3] = [Self::Init, Self::Main, Self::Aggressive];
}

impl fmt::Display for Opening {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Init => "IKEv2",
            Self::Main => "IKEv1 in Main Mode",
            Self::Aggressive => "IKEv1 in Aggressive Mode",
        })
    }
}

/// What there is to say about a peer in IKEv1 alone.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct V1 {
    /// How phase 1 goes.
    pub mode: Phase1,
    /// What is offered as the lifetime of phase 1 (RFC 2409 appendix A, life type and duration).
    pub life: Life,
}

/// How phase 1 of IKEv1 goes (RFC 2409 sections 5.4 and 5.5).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Phase1 {
    /// Three exchanges: identities are encrypted, and the peer is found by its address.
    #[default]
    Main,
    /// Three messages: identities are in clear, and whoever asks can guess at the pre-shared key at leisure.
    Aggressive,
}

/// How long an SA of IKEv1 lasts, as the peer is told. IKEv2 tells nothing of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Life {
    /// Since it was made. Told in seconds.
    pub time: Duration,
    /// What it carries, in units of 1,024 octets, if that is bounded.
    pub kilobytes: Option<u64>,
}

impl Default for Life {
    /// What RFC 2407 section 4.5 has where nothing is said: eight hours.
    fn default() -> Self {
        Self { time: Duration::from_secs(28_800), kilobytes: None }
    }
}

/// Which connection stays when a peer that has one starts another.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Uniqueness {
    /// The newer one.
    #[default]
    Replace,
    /// The older one, as long as its peer answers: of two gateways that share an identity, the first keeps the tunnel. One
    /// from the address of the older is the same gateway and takes its place.
    Keep,
}

impl Uniqueness {
    /// Whether a connection that comes from `from` may stand while there is one with `up`.
    ///
    /// INITIAL_CONTACT does not open the way: RFC 7296 section 2.4 lets its receiver delete what there is, and everybody
    /// sends it who starts for the first time.
    pub fn admits(self, up: SocketAddr, from: SocketAddr) -> bool {
        // Without a NAT one gateway sends from either port, from another only with one (RFC 7296 section 2.23).
        let its_own = |addr: SocketAddr| matches!(addr.port(), 500 | 4500);
        let same = up == from || (up.ip() == from.ip() && its_own(up) && its_own(from));
        self == Self::Replace || same
    }
}

/// One Child SA policy.
#[derive(Debug, PartialEq, Eq)]
pub struct ChildConfig {
    /// The name used in events and logs.
    pub name: Arc<str>,
    /// Our side.
    pub local: Vec<TrafficSelector>,
    /// The peer's side.
    pub remote: Vec<TrafficSelector>,
    /// ESP proposals in order of preference.
    pub proposals: Arc<[EspProposal]>,
    /// Whole packets, or what the two ends say to each other.
    pub mode: Mode,
    /// How long an SA of it lasts, for peers that are told.
    pub life: Life,
    /// Pairs of it at the same time, each for a resource of its own (RFC 9611); with 1 there is the one that everybody uses.
    /// IKEv1 knows no others.
    pub resources: u8,
}

impl ChildConfig {
    /// Whether the two ask a peer for the same. How long it lasts and what is beside it is no matter:
    /// that is for the next one.
    pub fn asks_for_the_same(&self, other: &Self) -> bool {
        let Self { name, local, remote, proposals, mode, life: _, resources: _ } = self;
        *name == other.name
            && *local == other.local
            && *remote == other.remote
            && *proposals == other.proposals
            && *mode == other.mode
    }

    /// Whether a pair that was made by this was asked for as its policy was configured before: whether one of these has its name and asks for
    /// something else. Of a part the whole policy says so.
    pub(crate) fn is_overtaken(&self, mut by: impl Iterator<Item = impl Borrow<Self>>) -> bool {
        let now = by.find(|policy| policy.borrow().name == self.name);
        policy_of(&self.name).1 == 0 && now.is_some_and(|now| !self.asks_for_the_same(now.borrow()))
    }
}

/// What a Child SA protects (RFC 7296 section 1.3.1).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Mode {
    /// Whole packets, between whatever is behind the two ends.
    #[default]
    Tunnel,
    /// What the two ends themselves say to each other: the selectors are the addresses of the IKE_SA.
    Transport,
}

impl fmt::Display for Mode {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Tunnel => "tunnel",
            Self::Transport => "transport",
        })
    }
}

/// When a request without an answer is sent again (RFC 7296 section 2.4).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Retransmit {
    /// Wait before the first retransmission.
    pub first: Duration,
    /// Each further wait is this many tenths of the one before.
    pub factor_tenths: u32,
    /// Retransmissions before the peer is given up.
    pub tries: u32,
}

impl Retransmit {
    /// 1 s, then 1.8 times longer each, five times: given up after 43 s. Long enough for a rebooting router in
    /// between, short enough that a dead peer is noticed in a minute.
    pub const DEFAULT: Self = Self { first: Duration::from_secs(1), factor_tenths: 18, tries: 5 };

    /// One transmission: to somebody else's address nothing more is to go than came from it. It is answered within this, or
    /// not at all.
    pub const ONCE: Self = Self { first: Duration::from_secs(1), factor_tenths: 10, tries: 0 };

    /// The wait after the `attempt`-th transmission, from 0.
    pub fn wait(&self, attempt: u32) -> Duration {
        (0..attempt).fold(self.first, |wait, _| wait * self.factor_tenths / 10)
    }

    /// The schedule of a liveness check: this one, or one of even waits where a peer is to be asked so often that its silence
    /// should be noticed sooner (RFC 7296 section 2.4 leaves the schedule open). It is given up after three intervals, so a
    /// peer is noticed to be gone at most four after it was heard last.
    #[must_use]
    pub fn of_liveness(self, interval: Duration) -> Self {
        let first = (interval * 3 / (self.tries + 1)).max(SHORTEST_WAIT);
        let even = Self { first, factor_tenths: 10, ..self };
        if even.budget() < self.budget() { even } else { self }
    }

    /// How long a request is tried altogether.
    pub fn budget(&self) -> Duration {
        (0..=self.tries).map(|n| self.wait(n)).sum()
    }
}

/// No request is sent again sooner: longer than a round trip by satellite.
const SHORTEST_WAIT: Duration = Duration::from_millis(500);

impl Default for Retransmit {
    fn default() -> Self {
        Self::DEFAULT
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_schedule_backs_off() {
        let r = Retransmit::DEFAULT;
        assert_eq!(r.wait(0), Duration::from_secs(1));
        assert_eq!(r.wait(1), Duration::from_millis(1800));
        assert_eq!(r.budget().as_secs(), 41);
    }

    #[test]
    fn a_peer_that_is_asked_often_is_given_up_soon() {
        let of = |seconds| Retransmit::DEFAULT.of_liveness(Duration::from_secs(seconds));
        for (interval, budget) in [(1, 3), (2, 6), (5, 15), (10, 30), (13, 39)] {
            assert_eq!(of(interval).budget(), Duration::from_secs(budget), "{interval}");
            assert_eq!(of(interval).tries, Retransmit::DEFAULT.tries);
        }
        for interval in [14, 30, 3600] {
            assert_eq!(of(interval), Retransmit::DEFAULT, "{interval}");
        }
        // However often it is asked, an answer has the time to arrive.
        assert_eq!(Retransmit::DEFAULT.of_liveness(Duration::from_millis(1)).first, SHORTEST_WAIT);
    }

    #[test]
    fn one_that_is_kept_gives_way_to_its_own_gateway_alone() {
        for (up, from, same) in [
            ("192.0.2.1:500", "192.0.2.1:500", true),
            ("192.0.2.1:4500", "192.0.2.1:500", true),
            ("192.0.2.1:1024", "192.0.2.1:1024", true),
            ("192.0.2.1:1024", "192.0.2.1:1025", false),
            ("192.0.2.1:500", "192.0.2.1:1025", false),
            ("192.0.2.1:500", "192.0.2.2:500", false),
        ] {
            let (up, from) = (up.parse().unwrap(), from.parse().unwrap());
            assert_eq!(Uniqueness::Keep.admits(up, from), same, "{up} {from}");
            assert!(Uniqueness::Replace.admits(up, from));
        }
    }

    #[test]
    fn each_version_and_mode_opens_in_its_way() {
        let v1 = |mode| Version::V1(V1 { mode, life: Life::default() });
        let versions = [Version::V2, v1(Phase1::Main), v1(Phase1::Aggressive)];
        assert_eq!(versions.map(Version::opening), Opening::ALL);
    }
}
