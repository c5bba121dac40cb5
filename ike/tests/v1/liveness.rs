//! Dead peer detection (RFC 3706) over a long time, with peers that look closely.

use std::time::Duration;

use ike::config::Phase1;
use ike::{Connection, Resume};
use snapshot::{decode, encode};

use crate::kit::{A, B, Pair, Spec, Who};
use crate::{message, peer, specs, up};

const R_U_THERE: u16 = 36_136;

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
