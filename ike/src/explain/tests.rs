//! Each failure is explained by its cause, the values of both sides, and what to change on which.

use super::*;
use crate::Identity;
use crate::wire::numbers::AuthMethod;

#[test]
fn a_proposal_failure_names_what_differs() {
    let cause = explain(&Failure::NoProposal {
        offered: "aes256-sha512-prfsha512-modp2048".into(),
        configured: "aes128gcm16-prfsha256-x25519, aes256-sha256-prfsha256-modp2048".into(),
    });
    assert_eq!(cause.kind, "proposal");
    assert_eq!(cause.advice[0], "only the peer has: prfsha512, sha512");
    assert_eq!(cause.advice[1], "only configured here: aes128gcm16, prfsha256, sha256, x25519");
}

#[test]
fn a_proposal_failure_says_what_is_legacy() {
    let failure = |offered: &str| {
        let (offered, configured) = (offered.into(), "aes256-sha256-prfsha256-modp2048".into());
        explain(&Failure::NoProposal { offered, configured }).advice.join("; ")
    };
    let advice = failure("3des-sha1-prfsha1-modp1024");
    assert!(advice.contains("3des, modp1024, prfsha1, sha1 are legacy"), "{advice}");
    assert!(advice.contains("legacy: true"), "{advice}");
    assert!(!failure("aes128-sha256-prfsha256-modp2048").contains("legacy"));
}

#[test]
fn a_mode_that_differs_says_which_side_has_which() {
    let cause = explain(&Failure::Mode { peer: Mode::Tunnel, configured: Mode::Transport });
    assert_eq!(cause.kind, "mode");
    assert!(cause.summary.contains("in tunnel mode, configured is transport mode"), "{}", cause.summary);
    assert!(cause.advice[0].contains("mode: TUNNEL") && cause.advice[1].contains("mode = transport"));
    let cause = explain(&Failure::Mode { peer: Mode::Transport, configured: Mode::Tunnel });
    assert!(cause.advice[0].contains("mode: TRANSPORT") && cause.advice[1].contains("mode = tunnel"));
    assert_eq!(explain(&Failure::TransportNat).kind, "mode");
}

#[test]
fn who_it_is_about_is_named_and_what_to_do_on_which_side() {
    let identity = |text: &str| text.parse::<crate::Identity>().unwrap();
    let from = "192.0.2.7:500".parse().unwrap();
    let (got, expected) = (identity("left.example"), identity("right.example"));
    for (failure, kind, advice) in [
        (
            Failure::UnknownAddress { from },
            "address",
            &["here: if that is this peer, add 192.0.2.7", "NAT"][..],
        ),
        (
            Failure::WrongIdentity { got: got.clone(), expected },
            "identity",
            &["here: set remoteIdentity to left.example", "there: set its own identity to right.example"],
        ),
        (
            Failure::Duplicate { id: got.clone(), name: "p".into(), ends: Box::new((from, from)) },
            "uniqueness",
            &["192.0.2.7:500 calls itself left.example", "REPLACE", "has moved"],
        ),
        (Failure::Authentication { id: got.clone() }, "psk", &["octet by octet", "key for left.example"]),
    ] {
        let cause = explain(&failure);
        assert_eq!((cause.kind, cause.advice.len()), (kind, advice.len()), "{failure}");
        assert!(KINDS.contains(&kind), "{kind}");
        for (said, words) in cause.advice.iter().zip(advice) {
            assert!(said.contains(words), "{words:?} is not in {said:?}");
        }
    }
}

#[test]
fn an_old_version_is_told_from_what_is_no_ike() {
    let version = |version| Failure::Malformed {
        exchange: ExchangeType::IKE_SA_INIT,
        error: WireError::MajorVersion(version),
    };
    assert_eq!(explain(&version(1)).kind, "version");
    assert!(explain(&version(1)).advice[0].contains("IKEv2 instead of IKEv1"));
    assert!(explain(&version(9)).advice[0].contains("no IKE implementation"));
}

#[test]
fn silence_is_told_from_a_blocked_port() {
    let timeout =
        |exchange| Failure::Timeout { exchange, remote: "192.0.2.1:500".parse().unwrap(), tries: 6 };
    assert_eq!(explain(&timeout(ExchangeType::IKE_SA_INIT)).kind, "silent");
    assert_eq!(explain(&timeout(ExchangeType::IKE_AUTH)).kind, "nat");
    assert_eq!(explain(&timeout(ExchangeType::INFORMATIONAL)).kind, "silent");
}

fn id(text: &str) -> Identity {
    text.parse().unwrap()
}

/// The cause, the values of both sides as far as the protocol tells them, and what to change on either.
#[test]
fn each_cause_names_both_values_and_both_sides() {
    let (left, right) = ("192.0.2.7:4500".parse().unwrap(), "192.0.2.8:4500".parse().unwrap());
    let refused = |certificate| Failure::AuthenticationRefused {
        local_id: id("right.example"),
        remote_id: id("left.example"),
        ours: Way::Psk,
        certificate,
    };
    let text = str::to_owned;
    let cases: &[(Failure, &str, &[&str])] = &[
        (
            Failure::Mode { peer: Mode::Transport, configured: Mode::Tunnel },
            "mode",
            &["in transport mode", "configured is tunnel", "mode: TRANSPORT", "mode = tunnel"],
        ),
        (
            Failure::Mode { peer: Mode::Tunnel, configured: Mode::Transport },
            "mode",
            &["in tunnel mode", "configured is transport", "mode: TUNNEL", "mode = transport"],
        ),
        (
            Failure::AuthMethod {
                id: id("left.example"),
                method: Some(AuthMethod::DIGITAL_SIGNATURE),
                configured: Way::Psk,
            },
            "method",
            &["left.example", "certificate", "DIGITAL_SIGNATURE", "pre-shared key", "local.auth = psk"],
        ),
        (
            Failure::AuthMethod {
                id: id("left.example"),
                method: Some(AuthMethod(77)),
                configured: Way::Psk,
            },
            "method",
            &["left.example", "AUTH method 77", "configured is a pre-shared key"],
        ),
        (
            Failure::AuthMethod { id: id("left.example"), method: None, configured: Way::Psk },
            "method",
            &["left.example", "EAP", "configured is a pre-shared key", "local.auth = psk"],
        ),
        (
            refused(true),
            "method",
            &["asked for a certificate", "we are right.example with a pre-shared key", "remote.auth = psk"],
        ),
        (
            refused(false),
            "authentication",
            &[
                "AUTHENTICATION_FAILED",
                "we are right.example",
                "asked for left.example",
                "there: is our identity right.example",
                "here: is remoteIdentity left.example",
                "the same pre-shared key",
            ],
        ),
        (
            Failure::WrongIdentity { got: id("left.example"), expected: id("other.example") },
            "identity",
            &["is left.example, configured is other.example", "set remoteIdentity to left.example"],
        ),
        (
            Failure::Selectors {
                offered_local: text("10.2.0.0/24"),
                offered_remote: text("10.77.0.0/24"),
                configured: text("10.3.0.0/24 === 10.1.0.0/24"),
            },
            "selectors",
            &[
                "make localSubnets overlap with 10.2.0.0/24",
                "remoteSubnets with 10.77.0.0/24",
                "overlap with 10.3.0.0/24",
            ],
        ),
        (
            Failure::SelectorsRefused { local: text("10.2.0.0/24"), remote: text("10.1.0.0/24") },
            "selectors",
            &[
                "TS_UNACCEPTABLE",
                "remote_ts = 10.2.0.0/24, local_ts = 10.1.0.0/24",
                "localSubnets, now 10.2.0.0/24",
            ],
        ),
        (
            Failure::Narrowed {
                policy: "net".into(),
                uncovered: text("10.2.0.0/24 === 10.1.128.0/17"),
                configured: text("10.2.0.0/24 === 10.1.0.0/16"),
            },
            "selectors",
            &[
                "no Child SA for 10.2.0.0/24 === 10.1.128.0/17",
                "configured is 10.2.0.0/24 === 10.1.0.0/16",
                "local_ts",
            ],
        ),
        (
            Failure::Pfs { theirs: text("modp2048"), ours: text("nopfs") },
            "pfs",
            &[
                "wants [modp2048]",
                "configured is [nopfs]",
                "e.g. aes128gcm16-modp2048",
                "leave the group out",
            ],
        ),
        (
            Failure::Pfs { theirs: text("nopfs"), ours: text("x25519, ecp256") },
            "pfs",
            &[
                "wants [nopfs]",
                "configured is [x25519, ecp256]",
                "add nopfs",
                "there: add one of x25519, ecp256",
            ],
        ),
        (
            Failure::RekeyRefused { offered: text("aes128gcm16-x25519"), groups: text("x25519") },
            "pfs",
            &[
                "forward secrecy [x25519]",
                "took the same algorithms before",
                "add nopfs",
                "there: add one of x25519",
            ],
        ),
        (
            Failure::RekeyRefused { offered: text("aes128gcm16"), groups: text("nopfs") },
            "pfs",
            &["forward secrecy [nopfs]", "e.g. aes128gcm16-x25519", "there: leave the group out"],
        ),
        (
            Failure::InitRefused { offered: text("aes128gcm16-prfsha256-x25519") },
            "proposal",
            &[
                "NO_PROPOSAL_CHOSEN",
                "accept one of aes128gcm16-prfsha256-x25519",
                "ike.proposals",
                "version = 2",
            ],
        ),
        (
            Failure::NoGroup { wanted: 14, offered: text("31") },
            "group",
            &["modp2048 (14) is wanted", "offered are [31]", "here: add key exchange group modp2048"],
        ),
        (
            Failure::Malformed { exchange: ExchangeType::IKE_SA_INIT, error: WireError::MajorVersion(1) },
            "version",
            &["IKEv1", "IKEv1 and IKEv2", "version = 2"],
        ),
        (
            Failure::Notify {
                exchange: ExchangeType::IKE_SA_INIT,
                notify: NotifyType::INVALID_MAJOR_VERSION,
            },
            "version",
            &["INVALID_MAJOR_VERSION", "IKEv2 instead of IKEv1", "version = 2"],
        ),
        (
            Failure::TakenOver { ends: Box::new((left, right)), times: 4 },
            "uniqueness",
            &["192.0.2.7:4500", "192.0.2.8:4500", "so far 4 ", "its own identity", "KEEP"],
        ),
        (
            Failure::EndedChildless { after: 0, why: None },
            "peer",
            &["before there was a Child SA", "there: its log", "here: compare"],
        ),
        (
            Failure::EndedChildless {
                after: 0,
                why: Some(Box::new(Failure::SelectorsRefused { local: text("L"), remote: text("R") })),
            },
            "selectors",
            &["before there was a Child SA", "TS_UNACCEPTABLE", "localSubnets, now L"],
        ),
        (
            Failure::NoChild { policy: "net".into() },
            "peer",
            &["net: ", "neither a Child SA nor", "there: is there"],
        ),
        (
            Failure::Unresolved { name: text("b.example"), reason: text("Name or service not known") },
            "address",
            &["b.example does not resolve", "Name or service not known", "getent ahosts b.example", "tunnel"],
        ),
        (
            Failure::Unreachable { reason: text("No route to host"), remote: left },
            "unreachable",
            &["192.0.2.7:4500 cannot be reached: No route to host", "ip route get 192.0.2.7", "UDP 500"],
        ),
    ];
    for (failure, kind, words) in cases {
        let cause = explain(failure);
        let text = format!("{}\n{}", cause.summary, cause.advice.join("\n"));
        assert_eq!(cause.kind, *kind, "{text}");
        assert!(KINDS.contains(kind), "{kind}");
        for word in *words {
            assert!(text.contains(word), "{word:?} is not in {text}");
        }
        for side in ["here: ", "there: "] {
            assert!(cause.advice.iter().any(|line| line.starts_with(side)), "{side} in {text}");
        }
    }
}

/// IKEv1-only peers that do not answer at all look like any other silence.
#[test]
fn silence_may_be_ikev1() {
    let timeout = Failure::Timeout {
        exchange: ExchangeType::IKE_SA_INIT,
        remote: "192.0.2.1:500".parse().unwrap(),
        tries: 6,
    };
    assert!(explain(&timeout).advice.iter().any(|line| line.contains("IKEv1")));
}

#[test]
fn algorithms_that_are_not_implemented_have_names() {
    use crate::proposal::{IkeProposal, negotiate};
    use crate::wire::numbers::{ProtocolId, TransformType};
    use crate::wire::sa::{Proposal, Transform};
    let transforms = vec![
        Transform::with_key_bits(TransformType::ENCR, 16, 128),
        Transform::new(TransformType::PRF, 3),
        Transform::new(TransformType::KE, 22),
        Transform::new(TransformType(6), 36),
    ];
    let offer = [Proposal { number: 1, protocol: ProtocolId::IKE, spi: vec![], transforms }];
    let ours: IkeProposal = "aes128gcm16-prfsha256-x25519".parse().unwrap();
    let cause = explain(&Failure::NoProposal {
        offered: negotiate::describe(&offer),
        configured: negotiate::describe_configured(&[ours]),
    });
    assert_eq!(
        cause.advice[0],
        "only the peer has: ENCR_AES_CCM_16_128, PRF_HMAC_TIGER, ke1_mlkem768, modp1024s160"
    );
}
