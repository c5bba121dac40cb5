//! Dead peer detection (RFC 3706) over a long time: peers that look closely, and what somebody has kept of it.

use std::time::Duration;

use ike::config::Phase1;
use ike::{Command, Connection, Resume};
use snapshot::{decode, encode};

use crate::kit::{A, B, Pair, Spec, Who};
use crate::peer::{self, How, INFORM};
use crate::{message, specs, up};

const R_U_THERE: u16 = 36_136;
const IKE: u8 = 1;

fn pair() -> Pair {
    let [left, right] = specs(Phase1::Main);
    up(&Spec { dpd: Duration::from_secs(10), ..left }, &right)
}

/// The number of a question, if a message is one.
fn question(pair: &mut Pair, bytes: &[u8]) -> Option<u32> {
    let (parts, _) = (bytes[18] == message::INFORMATIONAL).then(|| peer::open(pair, bytes, None))?;
    let asked =
        parts.iter().find(|(kind, body)| *kind == message::NOTIFY && body[6..8] == R_U_THERE.to_be_bytes());
    asked.map(|(_, body)| u32::from_be_bytes(body[24..28].try_into().unwrap()))
}

/// Numbers of the questions of A while everything arrives but each so-manieth of them.
fn questions(pair: &mut Pair, seconds: u64, lost: usize) -> Vec<u32> {
    let mut numbers = Vec::new();
    for _ in 0..seconds {
        pair.pass(Duration::from_secs(1));
        while let Some(from) = [A, B].into_iter().find(|who: &Who| !pair.side(*who).outbox.is_empty()) {
            let message = pair.take(from);
            let number = if from == A { question(pair, &message.bytes) } else { None };
            numbers.extend(number);
            if number.is_none() || !numbers.len().is_multiple_of(lost) {
                pair.put(from, &message);
            }
        }
    }
    numbers
}

/// RFC 3706 section 6.2. OpenBSD and Openswan drop a lower number than the last, Libreswan after three of them.
#[test]
fn each_question_is_numbered_one_higher_than_the_last_wherever_it_is_asked() {
    let pair = &mut pair();
    let mut numbers = questions(pair, 200, 3);
    let now = pair.now;
    let kept = encode(&pair.a.conn.as_ref().unwrap().snapshot(now).unwrap());
    for resume in [Resume::Exactly, Resume::Beyond] {
        let kept = decode(&kept).unwrap();
        let moved = Connection::restore(&kept, now, resume, pair.a.config.clone()).unwrap();
        pair.a.conn = Some(moved.into());
    }
    numbers.extend(questions(pair, 200, 3));
    assert!(numbers.len() > 35, "{numbers:?}");
    assert!(numbers[0] < 1 << 31, "{numbers:?}");
    assert!(numbers.windows(2).all(|two| two[1] == two[0] + 1), "{numbers:?}");
    pair.assert_children(1);
}

/// More questions than an IKE_SA remembers, each answered; the first of them.
fn many_questions(pair: &mut Pair) -> Vec<Vec<u8>> {
    // What is looked at is not how it moves.
    pair.b.conn.as_mut().unwrap().alone();
    let cookies = peer::cookies(pair);
    let mut first = Vec::new();
    for number in 1..9_000u32 {
        let asked = peer::notify(R_U_THERE, IKE, &cookies, &number.to_be_bytes());
        let sealed = peer::seal(pair, How { id: 1_000_000 + number, ..INFORM }, &[asked]).0;
        peer::inject(pair, A, &sealed);
        assert_eq!(pair.b.outbox.drain(..).count(), 1, "question {number} is answered");
        if number <= 200 {
            first.push(sealed);
        }
    }
    first
}

/// Half a day of questions each ten seconds, from both sides: the IKE_SA goes on, and what it is told is done.
#[test]
fn an_ike_sa_that_has_seen_very_many_questions_is_not_deaf() {
    let [left, right] = specs(Phase1::Main);
    let pair = &mut up(&left, &right);
    many_questions(pair);
    let spis = pair.b.conn.as_ref().unwrap().spis();
    let old = pair.spi(B);
    pair.command(A, Command::RekeyChild(pair.a.installed.keys().copied().next().unwrap()));
    pair.settle();
    pair.run(20);
    assert!(!pair.b.installed.contains_key(&old), "{:?}", pair.b.log);
    pair.assert_children(1);
    assert_eq!(pair.b.conn.as_ref().unwrap().spis(), spis, "it is not worn either");
    let spi = pair.spi(A);
    pair.command(A, Command::DeleteChild(spi));
    pair.settle();
    pair.assert_children(0);
}

/// What somebody has kept shows neither that the peer is alive nor where it is, also once its Message ID is forgotten.
#[test]
fn questions_that_somebody_has_kept_prove_nothing() {
    let [left, right] = specs(Phase1::Main);
    let pair = &mut up(&left, &Spec { dpd: Duration::from_secs(10), ..right });
    let kept = many_questions(pair);
    for old in kept {
        pair.pass(Duration::from_secs(1));
        pair.a.outbox.clear();
        pair.b.outbox.clear();
        if pair.b.conn.as_ref().unwrap().is_finished() {
            return;
        }
        peer::inject(pair, A, &old);
    }
    panic!("a peer that is gone is given up: {:?}", pair.b.log);
}

/// Nor do those of our own that somebody sends back.
#[test]
fn our_own_questions_sent_back_prove_nothing() {
    let [left, right] = specs(Phase1::Main);
    let pair = &mut up(&left, &Spec { dpd: Duration::from_secs(10), ..right });
    pair.b.conn.as_mut().unwrap().alone();
    let mut ours = Vec::new();
    for _ in 0..60 {
        pair.pass(Duration::from_secs(1));
        ours.extend(pair.b.outbox.iter().map(|message| message.bytes.clone()));
        pair.settle();
    }
    assert!(ours.len() >= 5, "{}", ours.len());
    many_questions(pair);
    for back in ours.iter().cycle().take(200) {
        pair.pass(Duration::from_secs(1));
        pair.a.outbox.clear();
        pair.b.outbox.clear();
        if pair.b.conn.as_ref().unwrap().is_finished() {
            return;
        }
        peer::inject(pair, A, back);
    }
    panic!("a peer that is gone is given up: {:?}", pair.b.log);
}
