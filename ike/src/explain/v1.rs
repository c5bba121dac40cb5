//! What to change where IKEv1 is spoken.

use std::net::SocketAddr;

use crate::config::Opening;
use crate::wire::numbers::ExchangeType;

fn lines<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(str::to_owned).to_vec()
}

pub(super) fn phase1_refused(exchange: ExchangeType, offered: &str) -> Vec<String> {
    let mut advice = vec![
        format!("there: accept one of {offered}, with a pre-shared key"),
        "the hash and the group have to be the same on both sides too: IKEv1 agrees on whole combinations"
            .to_owned(),
        "some peers refuse a lifetime that is longer than theirs: here ike.lifetime.lifeTime".to_owned(),
        "there: a peer that speaks IKEv2 only says the same (in strongSwan: version = 1); here that is ike.version: IKEV2".to_owned(),
        "there: so does one that wants the other mode (in strongSwan: aggressive = no for MAIN, yes for AGGRESSIVE)".to_owned(),
        "here: add a proposal that the peer has; its log names those it is configured with".to_owned(),
    ];
    if exchange == ExchangeType::AGGRESSIVE_MODE {
        advice.push("aggressive mode offers one group only, the first that is configured".to_owned());
    }
    advice
}

pub(super) fn quick_refused(offered: &str) -> Vec<String> {
    vec![
        format!("there: accept one of {offered} for quick mode"),
        "perfect forward secrecy has to be the same on both sides: a group in espProposals asks for it, nopfs beside it leaves it to the peer".to_owned(),
        "some peers refuse a lifetime that is longer than theirs: here lifetime of the child".to_owned(),
        "of a child: the peer may want it in transport mode only".to_owned(),
    ]
}

pub(super) fn proxy_refused(local: &str, remote: &str) -> Vec<String> {
    vec![
        format!(
            "there: the proxy IDs (or the crypto access list) have to be {remote} on its side and {local} on ours, exactly"
        ),
        "here: set localSubnets and remoteSubnets of the child to what is configured there".to_owned(),
        "a route-based peer usually wants 0.0.0.0/0 on both sides: leave both out here".to_owned(),
    ]
}

pub(super) fn notify_kind(exchange: ExchangeType, notify: &str) -> &'static str {
    match notify {
        "INVALID_ID_INFORMATION" => "identity",
        // By phase 2 both sides have shown that they have the key.
        "INVALID_HASH_INFORMATION" | "PAYLOAD_MALFORMED" if exchange != ExchangeType::QUICK_MODE => "psk",
        "AUTHENTICATION_FAILED" => "authentication",
        "INVALID_MAJOR_VERSION" => "version",
        "INVALID_EXCHANGE_TYPE" | "UNSUPPORTED_EXCHANGE_TYPE" => "mode",
        _ => "peer",
    }
}

pub(super) fn notify(exchange: ExchangeType, notify: &str) -> Vec<String> {
    match notify_kind(exchange, notify) {
        "identity" => lines([
            "there: is our localIdentity, of the same type, what is configured for the remote side?",
            "here: localIdentity: an address, a host name, a mail address and a key ID are different types",
        ]),
        "psk" => psk(),
        "authentication" => proof_refused(),
        "version" => lines(["there: allow IKEv1 for this peer", "here: set ike.version: IKEV2"]),
        "mode" => lines([
            "there: allow the mode that is configured here (in strongSwan: aggressive = yes or no)",
            "here: set ike.v1.mode to MAIN or AGGRESSIVE as the peer has it",
        ]),
        _ => lines(["the peer's log says why it refused"]),
    }
}

pub(super) fn psk() -> Vec<String> {
    lines([
        "either side: compare the pre-shared keys octet by octet; a line end counts as an octet",
        "main mode finds the key by the address alone: behind a NAT that is the address of the NAT",
        "there: does the peer take the key by an identity that is not ours?",
    ])
}

pub(super) fn proof_refused() -> Vec<String> {
    lines([
        "there: is our localIdentity, of the same type, what is configured for the remote side?",
        "there: strongSwan says the same where the mode differs: ike.v1.mode MAIN here is aggressive = no there, AGGRESSIVE is aggressive = yes",
        "here: set localIdentity and ike.v1.mode as the peer has them",
    ])
}

pub(super) fn unfinished() -> Vec<String> {
    lines([
        "it did not get our answer, or what it sends over UDP 4500 is dropped on the way",
        "there: or it refused our choice, our identity or our key; its log says so",
        "here: somebody who only looks what is there (ike-scan) leaves the same trace",
    ])
}

pub(super) fn method(method: &str) -> Vec<String> {
    vec![
        format!("there: use a pre-shared key instead of {method}"),
        "here: certificates and XAUTH are not supported with IKEv1".to_owned(),
    ]
}

const fn is_v1(opening: Opening) -> bool {
    matches!(opening, Opening::Main | Opening::Aggressive)
}

pub(super) fn opening_kind(theirs: Opening, ours: &[Opening]) -> &'static str {
    let version = ours.iter().all(|ours| is_v1(*ours) != is_v1(theirs));
    if version { "version" } else { "mode" }
}

pub(super) fn opening(theirs: Opening, ours: &[Opening]) -> Vec<String> {
    let strongswan = |opening| match opening {
        Opening::Init => "version = 2",
        Opening::Main => "version = 1 and aggressive = no",
        Opening::Aggressive => "version = 1 and aggressive = yes",
    };
    let here = match theirs {
        Opening::Init => "ike.version: IKEV2",
        Opening::Main => "ike.version: IKEV1, with ike.v1.mode: MAIN",
        Opening::Aggressive => {
            "ike.version: IKEV1, with ike.v1.mode: AGGRESSIVE, which shows the identity and lets whoever asks guess at the key"
        }
    };
    let there = ours.iter().map(|ours| format!("{ours} (in strongSwan: {})", strongswan(*ours)));
    vec![
        format!("there: use {}", there.collect::<Vec<_>>().join(" or ")),
        format!("here: set {here}, if that is what the peer is to speak"),
    ]
}

pub(super) fn silent(exchange: ExchangeType, remote: SocketAddr) -> Vec<String> {
    let other = if exchange == ExchangeType::AGGRESSIVE_MODE { "main" } else { "aggressive" };
    vec![
        format!("is {} the right address, and does the peer run?", remote.ip()),
        "is UDP 500 let through in both directions?".to_owned(),
        "there: a peer that speaks IKEv2 only does not answer IKEv1 (here: ike.version: IKEV2)".to_owned(),
        format!(
            "there: many peers answer nothing in a mode that they are not configured for: does it want {other} mode?"
        ),
        "many peers answer nothing to an address or a proposal they do not know".to_owned(),
    ]
}
