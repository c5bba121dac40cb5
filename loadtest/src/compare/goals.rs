//! What is to be reached, and which figures make it.

use super::contestants::Name;
use super::responders::Kind;
use super::stats::{Bound, Goal, Lack, Row, Spread};
use super::turn::{Results, Turn};

/// What a figure of ours is compared with.
enum Theirs {
    /// The same figure of somebody.
    Of(Name, Vec<f64>),
    /// The machine itself.
    Machine(Vec<f64>),
    /// Nothing: it is told as it is.
    Nobody,
}

/// A row of ours, by round, and theirs.
fn row(
    results: &Results,
    (name, title): (&'static str, &str),
    goal: Goal,
    ours: &[f64],
    theirs: &Theirs,
) -> Row {
    let (who, values) = match theirs {
        Theirs::Of(who, values) => (Some(who), Some(values)),
        Theirs::Machine(values) => (None, Some(values)),
        Theirs::Nobody => (None, None),
    };
    let left_out = std::iter::once(&Name::Culvert).chain(who).any(|who| results.missing.contains_key(who));
    let reached = values.map_or_else(|| Spread::of(ours), |theirs| Spread::of_ratios(ours, theirs));
    let reached = reached.map_err(|lack| if left_out { Lack::LeftOut } else { lack });
    let zeros = values.into_iter().flatten().filter(|theirs| **theirs == 0.0).count();
    Row { name, title: title.to_owned(), goal, reached, zeros, bound: Bound::Exact }
}

/// All rows.
pub(crate) fn rows(results: &Results) -> Vec<Row> {
    let tcp = |names, goal, streams, who| {
        let of = |who| results.of(who, |turn| turn.mbps(streams));
        row(results, names, goal, &of(Name::Culvert), &Theirs::Of(who, of(who)))
    };
    let turn = |names, goal, pick: fn(&Turn) -> Option<f64>, who| {
        let of = |who| results.of(who, pick);
        row(results, names, goal, &of(Name::Culvert), &Theirs::Of(who, of(who)))
    };
    let udp = |names, goal, who| {
        let bound = Bound::of((results.udp_at_least(Name::Culvert), results.udp_at_least(who)));
        Row { bound, ..turn(names, goal, Turn::udp_mbps, who) }
    };
    let ping = |names, goal, who| turn(names, goal, |turn| turn.ping, who);
    let micros = |who, kind| results.costs(who, kind, |cost| cost.micros);
    let octets = |who| results.costs(who, Kind::Ikev2, |cost| cost.octets);
    let (own, other) = (Name::Culvert, Name::Strongswan);
    let cost = |names, goal, kind| {
        row(results, names, goal, &micros(own, kind), &Theirs::Of(other, micros(other, kind)))
    };
    let share = Goal::AtLeast(0.45);
    vec![
        tcp(("tcp1_vs_wireguard_go", "TCP x1 / wireguard-go"), Goal::AtLeast(2.0), 1, Name::WireguardGo),
        tcp(("tcp4_vs_wireguard_go", "TCP x4 / wireguard-go"), Goal::AtLeast(2.0), 4, Name::WireguardGo),
        tcp(("tcp1_vs_boringtun", "TCP x1 / boringtun"), Goal::AtLeast(6.0), 1, Name::Boringtun),
        tcp(("tcp4_vs_boringtun", "TCP x4 / boringtun"), Goal::AtLeast(6.0), 4, Name::Boringtun),
        tcp(("tcp1_vs_strongswan", "TCP x1 / strongSwan"), Goal::AtLeast(20.0), 1, Name::Strongswan),
        tcp(("tcp4_vs_strongswan", "TCP x4 / strongSwan"), Goal::AtLeast(20.0), 4, Name::Strongswan),
        tcp(("tcp1_share_of_ceiling", "TCP x1 / forwarder"), share, 1, Name::Forwarder),
        tcp(("tcp4_share_of_ceiling", "TCP x4 / forwarder"), share, 4, Name::Forwarder),
        udp(("udp_vs_wireguard_go", "UDP without loss / wireguard-go"), Goal::None, Name::WireguardGo),
        udp(("udp_vs_boringtun", "UDP without loss / boringtun"), Goal::AtLeast(4.0), Name::Boringtun),
        udp(("udp_vs_strongswan", "UDP without loss / strongSwan"), Goal::AtLeast(6.0), Name::Strongswan),
        ping(("ping_vs_boringtun", "ping / boringtun"), Goal::AtMost(1.0), Name::Boringtun),
        ping(("ping_vs_wireguard_go", "ping / wireguard-go"), Goal::None, Name::WireguardGo),
        row(
            results,
            ("handshake_vs_two_x25519", "CPU of a handshake / two X25519"),
            Goal::AtMost(2.0),
            &micros(own, Kind::Ikev2),
            &Theirs::Machine(results.x25519.clone()),
        ),
        cost(("handshake_vs_strongswan", "CPU of a handshake / strongSwan"), Goal::None, Kind::Ikev2),
        cost(
            ("ikev1_handshake_vs_strongswan", "CPU of an IKEv1 handshake / strongSwan"),
            Goal::AtMost(1.0 / 3.0),
            Kind::Ikev1,
        ),
        row(
            results,
            ("memory_per_tunnel_octets", "octets of memory per tunnel"),
            Goal::AtMost(12_288.0),
            &octets(own),
            &Theirs::Nobody,
        ),
        row(
            results,
            ("memory_vs_strongswan", "memory per tunnel / strongSwan"),
            Goal::None,
            &octets(own),
            &Theirs::Of(other, octets(other)),
        ),
    ]
}
