//! What of a policy its Child SAs cover. A peer may narrow the selectors that it is asked for (RFC 7296 section 2.9); the
//! rest is asked for by further Child SAs, the parts of the policy, and what nobody covers in the end is told.

use std::net::IpAddr;
use std::sync::Arc;

use crate::config::ChildConfig;
use crate::failure::Failure;
use crate::wire::ts::{Effort, MAX_SELECTORS, TrafficSelector, describe, narrow_within};

/// Pieces that an answer here has at most. With more of them two that are next to each other are not taken apart, and the
/// whole of them is said to be uncovered.
const MAX_PIECES: usize = 32;
/// Parts of all policies of a peer together, besides the policies themselves.
pub const MAX_PARTS_OF_PEER: usize = 32;
/// What stands between the name of a policy and the number of its part. No name of a policy has it.
const PART: char = '/';

/// Traffic from any of some selectors to any of others.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Traffic {
    /// Our side.
    pub local: Vec<TrafficSelector>,
    /// The peer's side.
    pub remote: Vec<TrafficSelector>,
}

impl Traffic {
    /// All that a policy asks for.
    pub fn of(config: &ChildConfig) -> Self {
        Self { local: config.local.clone(), remote: config.remote.clone() }
    }

    /// Whether everything of `other` is in it.
    pub fn contains(&self, other: &Self) -> bool {
        self.contains_within(other, &mut Effort::default())
    }

    /// The same; false as well where that is not found out.
    pub(crate) fn contains_within(&self, other: &Self, effort: &mut Effort) -> bool {
        uncovered_within(other, std::slice::from_ref(self), effort).is_empty()
    }
}

impl std::fmt::Display for Traffic {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "{} === {}", describe(&self.local), describe(&self.remote))
    }
}

/// How many parts a policy may have at a peer with so many policies: 1 to the result.
pub fn parts_per_policy(policies: usize) -> usize {
    MAX_PARTS_OF_PEER / policies.max(1)
}

/// Why a peer with so many policies gets no Child SA for this.
pub(crate) fn too_many_parts(wanted: &Traffic, policies: usize) -> Failure {
    Failure::TooManyParts { wanted: wanted.to_string(), limit: parts_per_policy(policies) + 1 }
}

/// The policy that a Child SA of this name is for, and which part of it; 0 is the policy itself.
pub fn policy_of(name: &str) -> (&str, usize) {
    let part = name.rsplit_once(PART).and_then(|(policy, part)| Some((policy, part.parse().ok()?)));
    part.unwrap_or((name, 0))
}

/// A part of a policy.
pub(crate) fn part(policy: &ChildConfig, number: usize, traffic: Traffic) -> ChildConfig {
    ChildConfig {
        name: format!("{}{PART}{number}", policy.name).into(),
        local: traffic.local,
        remote: traffic.remote,
        proposals: policy.proposals.clone(),
        mode: policy.mode,
        life: policy.life,
        resources: policy.resources,
    }
}

/// A policy and what of it nobody covers.
pub(crate) type Gap = (Arc<str>, Vec<Traffic>);

/// What of `policy` is in none of `covered`. Never less than that; more where selectors cannot say it, which know no
/// "every protocol but this", where it would take more pieces than anybody needs, and where it would take too long to find out.
pub fn uncovered(policy: &Traffic, covered: &[Traffic]) -> Vec<Traffic> {
    uncovered_within(policy, covered, &mut Effort::default())
}

/// The same, as one of several questions that have an effort together.
pub(crate) fn uncovered_within(policy: &Traffic, covered: &[Traffic], effort: &mut Effort) -> Vec<Traffic> {
    let mut rest = vec![policy.clone()];
    for pair in covered {
        match beside(&rest, pair, effort) {
            Some(next) => rest = next,
            None => break,
        }
    }
    rest
}

/// What of the pieces is not in a pair; nothing is known of it where that takes too long.
fn beside(pieces: &[Traffic], pair: &Traffic, effort: &mut Effort) -> Option<Vec<Traffic>> {
    let mut next = Vec::new();
    for (piece, left) in pieces.iter().zip((0..pieces.len()).rev()) {
        let within = narrow_within(&piece.local, &pair.local, effort)?;
        let apart = within.is_empty() || narrow_within(&piece.remote, &pair.remote, effort)?.is_empty();
        if apart || next.len() + 2 + left > MAX_PIECES {
            next.push(piece.clone());
            continue;
        }
        // Beside it on our side, to anywhere; and from where it is, to what is beside it on the peer's.
        let local = without(&piece.local, &pair.local, effort)?;
        let beside = Traffic { local, remote: piece.remote.clone() };
        let beyond = Traffic { local: within, remote: without(&piece.remote, &pair.remote, effort)? };
        next.extend([beside, beyond].into_iter().filter(|t| !t.local.is_empty() && !t.remote.is_empty()));
    }
    Some(next)
}

/// Selectors without others.
fn without(
    selectors: &[TrafficSelector],
    others: &[TrafficSelector],
    effort: &mut Effort,
) -> Option<Vec<TrafficSelector>> {
    let mut rest = selectors.to_vec();
    for other in others {
        effort.spend(rest.len())?;
        let pieces: Vec<_> = rest.iter().flat_map(|selector| subtract(selector, other)).collect();
        if pieces.len() <= MAX_SELECTORS {
            rest = pieces;
        }
    }
    Some(rest)
}

/// One selector without another: addresses before and after, and within them ports before and after.
fn subtract(selector: &TrafficSelector, other: &TrafficSelector) -> Vec<TrafficSelector> {
    let Some(common) = selector.intersect(other) else { return vec![*selector] };
    if common == *selector {
        return Vec::new();
    }
    let ordered = |ts: &TrafficSelector| ts.start_port <= ts.end_port;
    if common.protocol != selector.protocol || !ordered(&common) || !ordered(selector) {
        return vec![*selector];
    }
    let same = TrafficSelector { start: common.start, end: common.end, ..*selector };
    let addresses = [
        before(common.start).map(|end| TrafficSelector { end, ..*selector }),
        after(common.end).map(|start| TrafficSelector { start, ..*selector }),
    ];
    let ports = [
        common.start_port.checked_sub(1).map(|end_port| TrafficSelector { end_port, ..same }),
        common.end_port.checked_add(1).map(|start_port| TrafficSelector { start_port, ..same }),
    ];
    let there = |ts: &TrafficSelector| ts.start <= ts.end && ts.start_port <= ts.end_port;
    addresses.into_iter().chain(ports).flatten().filter(there).collect()
}

fn before(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_sub(1).map(|ip| IpAddr::V4(ip.into())),
        IpAddr::V6(ip) => u128::from(ip).checked_sub(1).map(|ip| IpAddr::V6(ip.into())),
    }
}

fn after(ip: IpAddr) -> Option<IpAddr> {
    match ip {
        IpAddr::V4(ip) => u32::from(ip).checked_add(1).map(|ip| IpAddr::V4(ip.into())),
        IpAddr::V6(ip) => u128::from(ip).checked_add(1).map(|ip| IpAddr::V6(ip.into())),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Few addresses and ports, so that selectors meet.
    fn selector(protocols: &'static [u8]) -> impl Strategy<Value = TrafficSelector> {
        let ip = |v6: bool, n: u8| -> IpAddr {
            if v6 { [0, 0, 0, 0, 0, 0, 0, u16::from(n)].into() } else { [0, 0, 0, n].into() }
        };
        let ports = prop_oneof![Just((0, u16::MAX)), (0u16..4, 0u16..4), (65_532u16.., 65_532u16..)];
        (any::<bool>(), 0u8..8, 0u8..8, ports, prop::sample::select(protocols)).prop_map(
            move |(v6, a, b, (p, q), protocol)| TrafficSelector {
                protocol,
                start_port: p.min(q),
                end_port: p.max(q),
                start: ip(v6, a.min(b)),
                end: ip(v6, a.max(b)),
            },
        )
    }

    fn traffic(protocols: &'static [u8]) -> impl Strategy<Value = Traffic> {
        let side = || prop::collection::vec(selector(protocols), 1..4);
        (side(), side()).prop_map(|(local, remote)| Traffic { local, remote })
    }

    /// One packet as a pair of selectors that contain nothing else.
    fn packet(protocols: &'static [u8]) -> impl Strategy<Value = [TrafficSelector; 2]> {
        let point = move || {
            selector(protocols).prop_map(|ts| TrafficSelector {
                end: ts.start,
                end_port: ts.start_port,
                ..ts
            })
        };
        [point(), point()]
    }

    fn has(traffic: &Traffic, [local, remote]: &[TrafficSelector; 2]) -> bool {
        traffic.local.iter().any(|ts| ts.contains(local))
            && traffic.remote.iter().any(|ts| ts.contains(remote))
    }

    const ONE: &[u8] = &[6];
    const SOME: &[u8] = &[0, 6, 17];

    proptest! {
        /// Where protocols do not differ, a packet is uncovered if and only if it is of the policy and nobody covers it.
        #[test]
        fn the_rest_is_what_nobody_covers(
            policy in traffic(ONE),
            covered in prop::collection::vec(traffic(ONE), 0..4),
            packets in prop::collection::vec(packet(ONE), 40),
        ) {
            let rest = uncovered(&policy, &covered);
            prop_assume!(rest.len() + 2 <= MAX_PIECES);
            for packet in &packets {
                let wanted = has(&policy, packet) && !covered.iter().any(|pair| has(pair, packet));
                prop_assert_eq!(rest.iter().any(|piece| has(piece, packet)), wanted, "{:?}", rest);
            }
        }

        /// Nothing that is uncovered is forgotten, and nothing is made up, whatever the protocols.
        #[test]
        fn what_is_uncovered_is_never_forgotten(
            policy in traffic(SOME),
            covered in prop::collection::vec(traffic(SOME), 0..40),
            packets in prop::collection::vec(packet(&[6, 17, 1]), 40),
        ) {
            let rest = uncovered(&policy, &covered);
            prop_assert!(rest.len() <= MAX_PIECES);
            for packet in &packets {
                let told = rest.iter().any(|piece| has(piece, packet));
                if has(&policy, packet) {
                    prop_assert!(told || covered.iter().any(|pair| has(pair, packet)));
                } else {
                    prop_assert!(!told);
                }
            }
        }

        #[test]
        fn a_policy_covers_itself(policy in traffic(SOME)) {
            prop_assert!(policy.contains(&policy));
            prop_assert_eq!(uncovered(&policy, &[]), std::slice::from_ref(&policy));
        }
    }

    /// As many selectors as fit into a message, all of which overlap and none of which is in another: each stands for one pair of as many
    /// as a peer may have.
    #[test]
    fn what_overlaps_in_every_way_keeps_nobody_waiting() {
        let stairs = |from: u32| -> Vec<TrafficSelector> {
            let step = |n: u32| {
                TrafficSelector::range(IpAddr::V4((from + n).into()), IpAddr::V4((from + n + 300).into()))
            };
            (0..255).map(step).collect()
        };
        let ports = |from: u16| -> Vec<TrafficSelector> {
            let all = TrafficSelector::range([0, 0, 0, 0].into(), [255; 4].into());
            let step = |n: u16| TrafficSelector {
                protocol: 6,
                start_port: from + n,
                end_port: from + n + 300,
                ..all
            };
            (0..255).map(step).collect()
        };
        let everything = TrafficSelector::range([0, 0, 0, 0].into(), [255; 4].into());
        let policy = Traffic { local: vec![everything], remote: vec![everything] };
        let pair = |n: u8| Traffic {
            local: stairs(0x0a00_0000 + u32::from(n)),
            remote: if n.is_multiple_of(2) {
                stairs(0x0b00_0000 + u32::from(n))
            } else {
                ports(u16::from(n))
            },
        };
        let pairs: Vec<Traffic> = (0..33).map(pair).collect();
        let mut effort = Effort::default();
        let rest = uncovered_within(&policy, &pairs, &mut effort);
        assert!(!rest.is_empty() && rest.len() <= MAX_PIECES);
        // What is not found out is uncovered, and in nothing.
        let spent = effort.spend(usize::MAX);
        assert_eq!(spent, None);
        assert_eq!(uncovered_within(&policy, &pairs, &mut effort), std::slice::from_ref(&policy));
        assert!(!policy.contains_within(&policy, &mut effort));
        assert!(narrow_within(&stairs(0), &stairs(1), &mut effort).is_none());
        // In narrowing what was found by then will do.
        let found = crate::wire::ts::narrow(&stairs(0), &stairs(1));
        assert!(!found.is_empty() && found.len() <= MAX_SELECTORS);
    }

    /// The most that anybody has without malice is all found out.
    #[test]
    fn as_many_subnets_as_fit_into_a_message_are_all_looked_at() {
        let nets = |first: u8| -> Vec<TrafficSelector> {
            (0..255)
                .map(|n| TrafficSelector::range([first, n, 0, 0].into(), [first, n, 127, 255].into()))
                .collect()
        };
        let all = Traffic { local: nets(10), remote: nets(11) };
        assert!(all.contains(&all));
        let half = |nets: Vec<TrafficSelector>| nets.into_iter().step_by(2).collect::<Vec<_>>();
        assert!(all.contains(&Traffic { local: half(nets(10)), remote: nets(11) }));
        assert!(!Traffic { local: half(nets(10)), remote: nets(11) }.contains(&all));
    }

    #[test]
    fn a_peer_that_takes_one_pair_of_subnets_leaves_the_others() {
        let net = |n: u8| TrafficSelector::range([10, n, 0, 0].into(), [10, n, 255, 255].into());
        let policy = Traffic { local: vec![net(1), net(3)], remote: vec![net(2), net(4)] };
        let first = Traffic { local: vec![net(1)], remote: vec![net(2)] };
        let rest = uncovered(&policy, std::slice::from_ref(&first));
        let texts: Vec<String> = rest.iter().map(ToString::to_string).collect();
        assert_eq!(texts, ["10.3.0.0/16 === 10.2.0.0/16, 10.4.0.0/16", "10.1.0.0/16 === 10.4.0.0/16"]);
        assert!(policy.contains(&first) && !first.contains(&policy));
    }

    #[test]
    fn parts_have_names_of_their_own() {
        assert_eq!(policy_of("net"), ("net", 0));
        assert_eq!(policy_of("net/3"), ("net", 3));
        assert_eq!(policy_of("a/b"), ("a/b", 0));
        for policies in 1..=64 {
            assert!(parts_per_policy(policies) * policies <= MAX_PARTS_OF_PEER);
        }
        assert_eq!((parts_per_policy(0), parts_per_policy(1), parts_per_policy(32)), (32, 32, 1));
    }
}
