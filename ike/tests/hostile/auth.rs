//! AUTH that is wrong, missing or borrowed (RFC 7296 section 2.15), against either role.

use ike::crypto::auth;
use ike::wire::numbers::{AuthMethod, ExchangeType, NotifyType};
use ike::wire::payload::{Identification, Payload};
use ike::{Connection, Identity};

use crate::kit::{A, B, Spec};
use crate::peer::{Hostile, chain, child_request, errors, esp_answer, id_i, id_r, selectors};

const AUTH: ExchangeType = ExchangeType::IKE_AUTH;

fn value(data: &[u8]) -> Payload {
    Payload::Auth { method: AuthMethod::SHARED_KEY, data: data.to_vec().into() }
}

/// Both first messages, and the nonces in them.
pub struct Init {
    pub messages: [Vec<u8>; 2],
    pub nonces: [Vec<u8>; 2],
}

/// Stops before IKE_AUTH. What A has sent then waits in its outbox.
pub fn half_open() -> (Hostile, Init) {
    let mut h = Hostile::new(&Spec::left(), &Spec::right());
    h.pair.initiate();
    let request = h.take_request(A);
    h.pair.put(A, &request);
    let answer = h.take_request(B);
    h.pair.put(B, &answer);
    h.look();
    // What A sends next never arrives: the test takes its place.
    h.tap.last().next_id[1] = 1;
    let nonce = |bytes: &[u8]| {
        let message = ike::wire::Message::parse(bytes).unwrap();
        ike::wire::Payloads(&message.chain.payloads).nonce().unwrap().to_vec()
    };
    let nonces = [nonce(&request.bytes), nonce(&answer.bytes)];
    (h, Init { messages: [request.bytes, answer.bytes], nonces })
}

/// AUTH as its sender would compute it, with the parts given.
fn auth_of(
    h: &mut Hostile,
    secret: &[u8],
    message: &[u8],
    nonce: &[u8],
    initiator: bool,
    id: &str,
) -> Payload {
    let id: Identity = id.parse().unwrap();
    auth_over(h, secret, (message, nonce), initiator, &Identification::from(id).body())
}

/// The same over any octets as the body of the sender's ID payload.
pub fn auth_over(
    h: &mut Hostile,
    secret: &[u8],
    (message, nonce): (&[u8], &[u8]),
    initiator: bool,
    body: &[u8],
) -> Payload {
    let sa = h.tap.last();
    let key = if initiator { &sa.keys.pi } else { &sa.keys.pr };
    value(&auth::psk(sa.prf, secret, message, nonce, key, body).unwrap())
}

/// Everything that is almost an AUTH of the initiator (`false`: of the responder).
fn wrong(h: &mut Hostile, init: &Init, initiator: bool) -> Vec<(&'static str, Vec<Payload>)> {
    let (mine, theirs) = if initiator { (0, 1) } else { (1, 0) };
    let id = if initiator { "left.example" } else { "right.example" };
    let (message, nonce) = (&init.messages[mine], &init.nonces[theirs]);
    let good = auth_of(h, b"secret", message, nonce, initiator, id);
    let Payload::Auth { data: right, .. } = &good else { unreachable!() };
    let mut flipped = right.to_vec();
    *flipped.last_mut().unwrap() ^= 1;
    let mut longer = right.to_vec();
    longer.push(0);
    vec![
        ("another secret", vec![auth_of(h, b"other", message, nonce, initiator, id)]),
        ("no secret", vec![auth_of(h, b"", message, nonce, initiator, id)]),
        ("its own nonce", vec![auth_of(h, b"secret", message, &init.nonces[mine], initiator, id)]),
        ("the other's message", vec![auth_of(h, b"secret", &init.messages[theirs], nonce, initiator, id)]),
        ("the other's key", vec![auth_of(h, b"secret", message, nonce, !initiator, id)]),
        ("the other's identity", vec![auth_of(h, b"secret", message, nonce, initiator, "right.exampl")]),
        ("one bit", vec![value(&flipped)]),
        ("a part", vec![value(&right[..right.len() - 1])]),
        ("the beginning", vec![value(&right[..1])]),
        ("more", vec![value(&longer)]),
        ("nothing", vec![value(&[])]),
        ("zeros", vec![value(&[0; 32])]),
        (
            "a method not configured",
            vec![Payload::Auth { method: AuthMethod(14), data: right.to_vec().into() }],
        ),
        ("a method of none", vec![Payload::Auth { method: AuthMethod(0), data: right.to_vec().into() }]),
        ("AUTH missing", vec![]),
        ("AUTH twice", vec![value(&flipped), good]),
    ]
}

#[test]
fn a_responder_refuses_every_wrong_auth() {
    let count = {
        let (mut h, init) = half_open();
        wrong(&mut h, &init, true).len()
    };
    for which in 0..count {
        let (mut h, init) = half_open();
        let (what, auth) = wrong(&mut h, &init, true).swap_remove(which);
        let mut payloads = vec![id_i("left.example")];
        payloads.extend(auth);
        payloads.extend(child_request(A, 0x9999).into_iter().filter(|p| !matches!(p, Payload::Nonce(_))));
        let answer = h.ask(A, AUTH, &payloads).expect("an answer");
        let expected =
            if what == "AUTH twice" { NotifyType::INVALID_SYNTAX } else { NotifyType::AUTHENTICATION_FAILED };
        assert_eq!(errors(&answer), [expected], "{what}");
        assert_eq!(answer.len(), 1, "{what}: nothing else is said");
        assert_eq!(h.pair.b.log.len(), 1, "{what}: {:?}", h.pair.b.log);
        assert!(h.pair.b.log[0].starts_with("down"), "{what}: {:?}", h.pair.b.log);
        assert!(h.pair.b.installed.is_empty());
        // A second try on the same IKE_SA, right this time, comes too late.
        let good = auth_of(&mut h, b"secret", &init.messages[0], &init.nonces[1], true, "left.example");
        h.ask(A, AUTH, &[id_i("left.example"), good]);
        assert!(!h.pair.b.conn.as_ref().unwrap().is_up());
        h.pair.pass(std::time::Duration::from_secs(60));
        assert!(h.pair.b.conn.as_deref().is_some_and(Connection::is_finished), "{what}");
    }
}

#[test]
fn an_initiator_refuses_every_wrong_auth_and_says_so() {
    let count = {
        let (mut h, init) = half_open();
        wrong(&mut h, &init, false).len()
    };
    for which in 0..count {
        let (mut h, init) = half_open();
        let (what, auth) = wrong(&mut h, &init, false).swap_remove(which);
        let mut payloads = vec![id_r("right.example")];
        payloads.extend(auth);
        h.answer(A, &payloads);
        assert!(!h.pair.a.conn.as_ref().unwrap().is_up(), "{what}");
        assert!(h.pair.a.log.len() == 1 && h.pair.a.log[0].starts_with("down"), "{what}: {:?}", h.pair.a.log);
        assert!(h.pair.a.installed.is_empty());
        let malformed = ["AUTH missing", "AUTH twice", "a method not configured", "a method of none"];
        if !malformed.contains(&what) {
            // The peer believes the IKE_SA to be up (section 2.21.2).
            let told = h.asked(A).expect("it is told");
            assert_eq!(errors(&told), [NotifyType::AUTHENTICATION_FAILED], "{what}");
        }
        h.pair.pass(std::time::Duration::from_secs(60));
        assert!(h.pair.a.conn.as_deref().is_some_and(Connection::is_finished), "{what}");
    }
}

#[test]
fn an_initiator_refuses_another_identity_even_with_the_right_secret() {
    let (mut h, init) = half_open();
    let auth = auth_of(&mut h, b"secret", &init.messages[1], &init.nonces[0], false, "other.example");
    h.answer(A, &[id_r("other.example"), auth]);
    assert!(h.pair.a.log[0].contains("other.example"), "{:?}", h.pair.a.log);
    assert!(!h.pair.a.conn.as_ref().unwrap().is_up());
}

#[test]
fn the_initiators_own_auth_does_not_authenticate_the_responder() {
    let (mut h, _) = half_open();
    let sent = h.asked(A).expect("IKE_AUTH");
    let auth = sent.into_iter().find(|p| matches!(p, Payload::Auth { .. })).unwrap();
    h.answer(A, &[id_r("right.example"), auth]);
    assert!(!h.pair.a.conn.as_ref().unwrap().is_up());
}

#[test]
fn a_peer_for_whom_no_secret_is_there_is_refused() {
    for id in ["stranger.example", "right.example", "keyid:left.example", "left.example.org"] {
        let (mut h, init) = half_open();
        let auth = auth_of(&mut h, b"", &init.messages[0], &init.nonces[1], true, id);
        let answer = h.ask(A, AUTH, &[id_i(id), auth]).unwrap();
        assert_eq!(errors(&answer), [NotifyType::AUTHENTICATION_FAILED], "{id}");
        assert_eq!(answer.len(), 1);
        assert!(h.pair.b.log[0].contains("no peer is configured"), "{:?}", h.pair.b.log);
    }
}

#[test]
fn an_error_beside_a_wrong_auth_does_not_make_it_right() {
    let (mut h, _) = half_open();
    let payloads =
        [id_r("right.example"), value(&[0; 32]), crate::peer::notify(NotifyType::NO_PROPOSAL_CHOSEN)];
    h.answer(A, &payloads);
    assert!(!h.pair.a.conn.as_ref().unwrap().is_up());
    assert!(!h.pair.a.log.iter().any(|l| l == "established"), "{:?}", h.pair.a.log);
}

/// It has given up the IKE_SA (RFC 7296 section 2.21.2), whatever else it says.
#[test]
fn an_answer_that_gives_up_the_ike_sa_ends_it() {
    for (kind, ends) in [
        (NotifyType::INVALID_SYNTAX, true),
        (NotifyType::UNSUPPORTED_CRITICAL_PAYLOAD, true),
        (NotifyType::AUTHENTICATION_FAILED, true),
        // These are about the Child SA alone (section 1.2).
        (NotifyType::TS_UNACCEPTABLE, false),
        (NotifyType::NO_PROPOSAL_CHOSEN, false),
        (NotifyType::NO_ADDITIONAL_SAS, false),
    ] {
        let (mut h, init) = half_open();
        let auth = auth_of(&mut h, b"secret", &init.messages[1], &init.nonces[0], false, "right.example");
        h.answer(A, &[id_r("right.example"), auth, crate::peer::notify(kind)]);
        assert_eq!(h.pair.a.conn.as_ref().unwrap().is_up(), !ends, "{kind}: {:?}", h.pair.a.log);
        assert_eq!(h.pair.a.log.iter().any(|l| l == "established"), !ends, "{kind}");
        let told = h.pair.a.log.iter().any(|l| {
            l.contains(&kind.to_string()) && l.starts_with(if ends { "down: " } else { "child failed: " })
        });
        assert!(told, "{kind}: {:?}", h.pair.a.log);
        h.pair.a.outbox.clear();
        h.pair.pass(std::time::Duration::from_secs(120));
        assert!(h.pair.a.outbox.is_empty(), "{kind}: nothing goes into the void");
        assert_eq!(h.pair.a.conn.as_ref().unwrap().is_finished(), ends);
    }
}

/// RFC 6023: by decision, and announced. A request for half a Child SA is malformed.
#[test]
fn ike_auth_without_a_child_sa_is_taken_and_half_a_child_sa_is_not() {
    let (mut h, init) = half_open();
    let message = ike::wire::Message::parse(&init.messages[1]).unwrap();
    let announced =
        ike::wire::Payloads(&message.chain.payloads).notify(NotifyType::CHILDLESS_IKEV2_SUPPORTED);
    assert!(announced.is_some());
    let auth = auth_of(&mut h, b"secret", &init.messages[0], &init.nonces[1], true, "left.example");
    let answer = h.ask(A, AUTH, &[id_i("left.example"), auth]).unwrap();
    assert!(errors(&answer).is_empty(), "{answer:?}");
    assert!(h.pair.b.conn.as_ref().unwrap().is_up() && h.pair.b.installed.is_empty());
    // The Child SA comes when it is asked for.
    h.tap.last().next_id[1] = 2;
    let answer = h.ask(A, ExchangeType::CREATE_CHILD_SA, &child_request(A, 7)).unwrap();
    assert!(errors(&answer).is_empty(), "{answer:?}");
    assert_eq!(h.pair.b.installed.len(), 1);

    let [i, r] = selectors(A);
    let sa = || crate::peer::esp_offer("aes128gcm16", 7);
    for half in [vec![sa()], vec![sa(), i.clone()], vec![sa(), r.clone()], vec![i.clone(), r], vec![i]] {
        let (mut h, init) = half_open();
        let auth = auth_of(&mut h, b"secret", &init.messages[0], &init.nonces[1], true, "left.example");
        let mut request = vec![id_i("left.example"), auth];
        request.extend(half);
        assert_eq!(errors(&h.ask(A, AUTH, &request).unwrap()), [NotifyType::INVALID_SYNTAX]);
        assert!(!h.pair.b.conn.as_ref().unwrap().is_up());
    }
}

#[test]
fn ike_auth_without_an_identity_is_refused() {
    let (mut h, init) = half_open();
    let auth = auth_of(&mut h, b"secret", &init.messages[0], &init.nonces[1], true, "left.example");
    let (first, plain) = chain(&[auth]);
    let answer = h.ask_octets(A, AUTH, first, &plain).unwrap();
    assert_eq!(errors(&answer), [NotifyType::INVALID_SYNTAX]);
    assert!(!h.pair.b.conn.as_ref().unwrap().is_up());
}

/// The IKE_SA stands all the same, and the peer, which has the pair installed, is told to take it away.
#[test]
fn a_child_sa_in_ike_auth_that_was_not_offered_is_refused_and_deleted() {
    let [i, r] = selectors(A);
    let wide = || vec![crate::kit::ts("0.0.0.0", "255.255.255.255")];
    for (what, child) in [
        ("another cipher", vec![esp_answer("aes256gcm16-esn", 7), i.clone(), r.clone()]),
        ("a group", vec![esp_answer("aes128gcm16-x25519-esn", 7), i.clone(), r.clone()]),
        ("no SPI", vec![esp_answer("aes128gcm16-esn", 0), i.clone(), r.clone()]),
        ("wider on our side", vec![esp_answer("aes128gcm16-esn", 7), Payload::TsI(wide()), r.clone()]),
        ("wider on its side", vec![esp_answer("aes128gcm16-esn", 7), i, Payload::TsR(wide())]),
        ("no selectors", vec![esp_answer("aes128gcm16-esn", 7)]),
    ] {
        let (mut h, init) = half_open();
        let auth = auth_of(&mut h, b"secret", &init.messages[1], &init.nonces[0], false, "right.example");
        let payloads = [vec![id_r("right.example"), auth], child].concat();
        h.answer(A, &payloads);
        assert!(h.pair.a.conn.as_ref().unwrap().is_up(), "{what}");
        assert!(h.pair.a.installed.is_empty(), "{what}");
        assert!(h.pair.a.log[1].starts_with("child failed"), "{what}: {:?}", h.pair.a.log);
        let told = h.asked(A).unwrap_or_else(|| panic!("{what}: a delete"));
        assert!(matches!(&told[0], Payload::Delete { spis, .. } if spis.len() == 1), "{what}: {told:?}");
    }
    // Refused by the peer, there is nothing to delete.
    let (mut h, init) = half_open();
    let auth = auth_of(&mut h, b"secret", &init.messages[1], &init.nonces[0], false, "right.example");
    let id = id_r("right.example");
    h.answer(A, &[id, auth, crate::peer::notify(NotifyType::TS_UNACCEPTABLE)]);
    assert!(h.pair.a.conn.as_ref().unwrap().is_up());
    assert!(h.asked(A).is_none());
}

/// How the peer proves who it is, where that is not by a pre-shared key: told with its identity, whoever it is.
#[test]
fn another_method_of_authentication_is_named() {
    let data = || vec![7; 32].into();
    for (auth, words) in [
        (vec![Payload::Auth { method: AuthMethod::DIGITAL_SIGNATURE, data: data() }], "DIGITAL_SIGNATURE"),
        (vec![Payload::Auth { method: AuthMethod::RSA_SIGNATURE, data: data() }], "RSA_SIGNATURE"),
        (vec![], "EAP"),
    ] {
        for who in ["left.example", "stranger.example"] {
            let (mut h, _) = half_open();
            let id = id_i(who);
            let answer = h.ask(A, AUTH, &[vec![id], auth.clone()].concat()).unwrap();
            assert_eq!(errors(&answer), [NotifyType::AUTHENTICATION_FAILED]);
            let log = &h.pair.b.log[0];
            // A stranger with a certificate is first of all a stranger: there may be others who have one.
            let words = match (who, words) {
                ("stranger.example", "DIGITAL_SIGNATURE") => ["no peer is configured", "192.0.2.1"],
                _ => [words, "pre-shared key"],
            };
            assert!(log.contains(who) && words.iter().all(|word| log.contains(word)), "{log}");
        }
        if auth.is_empty() {
            continue;
        }
        let (mut h, _) = half_open();
        h.answer(A, &[vec![id_r("right.example")], auth].concat());
        let log = &h.pair.a.log[0];
        assert!(log.contains("right.example") && log.contains(words), "{log}");
        // It takes the IKE_SA to be up (section 2.21.2).
        assert_eq!(errors(&h.asked(A).expect("it is told")), [NotifyType::AUTHENTICATION_FAILED]);
    }
}

/// AUTHENTICATION_FAILED says nothing but that; what is known beside it is told.
#[test]
fn a_peer_that_refuses_us_is_told_with_whom_we_asked_for() {
    let (mut h, _) = half_open();
    h.answer(A, &[crate::peer::notify(NotifyType::AUTHENTICATION_FAILED)]);
    let log = &h.pair.a.log[0];
    assert!(log.contains("we are left.example") && log.contains("asked for right.example"), "{log}");
    assert!(!log.contains("certificate"), "{log}");
}

#[test]
fn a_peer_that_asked_for_a_certificate_and_refuses_us_is_told_so() {
    let mut h = Hostile::new(&Spec::left(), &Spec::right());
    h.pair.initiate();
    let request = h.take_request(A);
    h.pair.put(A, &request);
    let mut answer = h.take_request(B);
    // CERTREQ for X.509 certificates of any authority, as the first payload: the rest stays as it is.
    let first = std::mem::replace(&mut answer.bytes[16], 38);
    let certreq = [first, 0, 0, 5, 4];
    answer.bytes.splice(28..28, certreq);
    let length = u32::try_from(answer.bytes.len()).unwrap();
    answer.bytes[24..28].copy_from_slice(&length.to_be_bytes());
    h.pair.put(B, &answer);
    h.look();
    h.tap.last().next_id[1] = 1;
    h.answer(A, &[crate::peer::notify(NotifyType::AUTHENTICATION_FAILED)]);
    assert!(h.pair.a.log[0].contains("asked for a certificate"), "{:?}", h.pair.a.log);
}

/// The peer authenticates, makes no Child SA, and deletes the IKE_SA: told with what it has said before.
#[test]
fn an_ike_sa_that_is_deleted_without_a_child_sa_is_a_failure_with_its_reason() {
    for refused in [true, false] {
        let (mut h, init) = half_open();
        let auth = auth_of(&mut h, b"secret", &init.messages[1], &init.nonces[0], false, "right.example");
        let mut answer = vec![id_r("right.example"), auth];
        answer.extend(refused.then(|| crate::peer::notify(NotifyType::TS_UNACCEPTABLE)));
        h.answer(A, &answer);
        assert!(h.pair.a.conn.as_ref().unwrap().is_up());
        let reason = if refused { "TS_UNACCEPTABLE" } else { "neither a Child SA nor an error" };
        assert!(h.pair.a.log[1].starts_with("child failed") && h.pair.a.log[1].contains(reason));
        h.tap.last().next_id[1] = 0;
        let delete = Payload::Delete { protocol: ike::wire::numbers::ProtocolId::IKE, spis: vec![] };
        h.ask(B, ExchangeType::INFORMATIONAL, &[delete]).expect("an answer");
        let last = h.pair.a.log.last().unwrap();
        assert!(last.contains("before there was a Child SA") && last.contains(reason), "{last}");
    }
}
