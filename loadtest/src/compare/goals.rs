//! What is to be reached, and which figures make it.

use super::contestants::Name;
use super::responders::Kind;
use super::stats::{Goal, Row, Spread};
use super::turn::{Results, Turn};

/// All rows.
pub(crate) fn rows(results: &Results) -> Vec<Row> {
    let mut rows = Vec::new();
    let mut row = |name, title: &str, goal, reached| {
        rows.push(Row { name, title: title.to_owned(), goal, reached });
    };
    let tcp = |streams, theirs| {
        let of = |who| results.of(who, |turn| turn.mbps(streams));
        Spread::of_ratios(&of(Name::Culvert), &of(theirs))
    };
    let share = Goal::AtLeast(0.45);
    row("tcp1_vs_wireguard_go", "TCP x1 / wireguard-go", Goal::AtLeast(2.0), tcp(1, Name::WireguardGo));
    row("tcp4_vs_wireguard_go", "TCP x4 / wireguard-go", Goal::AtLeast(2.0), tcp(4, Name::WireguardGo));
    row("tcp1_vs_boringtun", "TCP x1 / boringtun", Goal::AtLeast(6.0), tcp(1, Name::Boringtun));
    row("tcp4_vs_boringtun", "TCP x4 / boringtun", Goal::AtLeast(6.0), tcp(4, Name::Boringtun));
    row("tcp1_vs_strongswan", "TCP x1 / strongSwan", Goal::AtLeast(20.0), tcp(1, Name::Strongswan));
    row("tcp4_vs_strongswan", "TCP x4 / strongSwan", Goal::AtLeast(20.0), tcp(4, Name::Strongswan));
    row("tcp1_share_of_ceiling", "TCP x1 / forwarder", share, tcp(1, Name::Forwarder));
    row("tcp4_share_of_ceiling", "TCP x4 / forwarder", share, tcp(4, Name::Forwarder));
    let of = |pick: fn(&Turn) -> Option<f64>, theirs| {
        Spread::of_ratios(&results.of(Name::Culvert, pick), &results.of(theirs, pick))
    };
    let udp = |theirs| of(|turn| turn.udp, theirs);
    row("udp_vs_wireguard_go", "UDP without loss / wireguard-go", Goal::None, udp(Name::WireguardGo));
    row("udp_vs_boringtun", "UDP without loss / boringtun", Goal::AtLeast(4.0), udp(Name::Boringtun));
    row("udp_vs_strongswan", "UDP without loss / strongSwan", Goal::AtLeast(6.0), udp(Name::Strongswan));
    let ping = |theirs| of(|turn| turn.ping, theirs);
    row("ping_vs_boringtun", "ping / boringtun", Goal::AtMost(1.0), ping(Name::Boringtun));
    row("ping_vs_wireguard_go", "ping / wireguard-go", Goal::None, ping(Name::WireguardGo));
    let (own, other) = (Name::Culvert, Name::Strongswan);
    let micros = |who, kind| results.costs(who, kind, |cost| cost.micros);
    let handshake = Spread::of_ratios(&micros(own, Kind::Ikev2), &results.x25519);
    row("handshake_vs_two_x25519", "CPU of a handshake / two X25519", Goal::AtMost(2.0), handshake);
    let handshake = Spread::of_ratios(&micros(own, Kind::Ikev2), &micros(other, Kind::Ikev2));
    row("handshake_vs_strongswan", "CPU of a handshake / strongSwan", Goal::None, handshake);
    let old = Spread::of_ratios(&micros(own, Kind::Ikev1), &micros(other, Kind::Ikev1));
    row(
        "ikev1_handshake_vs_strongswan",
        "CPU of an IKEv1 handshake / strongSwan",
        Goal::AtMost(1.0 / 3.0),
        old,
    );
    let octets = |who| results.costs(who, Kind::Ikev2, |cost| cost.octets);
    let memory = Spread::of(&octets(own));
    row("memory_per_tunnel_octets", "octets of memory per tunnel", Goal::AtMost(12_288.0), memory);
    let memory = Spread::of_ratios(&octets(own), &octets(other));
    row("memory_vs_strongswan", "memory per tunnel / strongSwan", Goal::None, memory);
    rows
}
