//! Quick mode (RFC 2409 section 5.5).

use std::time::Duration;

use ike::Command;
use ike::config::Phase1;

use crate::kit::{A, B, Pair, Spec};
use crate::{specs, up};

#[test]
fn every_suite_of_esp_is_agreed_on_with_and_without_a_key_exchange_of_its_own() {
    for esp in [
        "aes128gcm16",
        "aes256gcm16-modp2048",
        "aes128-sha256",
        "aes256-sha384-ecp256",
        "aes192-sha512-esn",
        "3des-md5",
        "3des-sha1-modp1024",
        "aes256-sha1-x25519",
        "aes128-sha256_96",
        "aes128-aesxcbc",
    ] {
        let [left, right] = specs(Phase1::Main).map(|spec| Spec { esp: vec![esp], ..spec });
        let mut pair = up(&left, &right);
        pair.assert_children(1);
        for who in [A, B] {
            let spi = pair.spi(who);
            pair.command(who, Command::RekeyChild(spi));
            pair.settle();
            pair.run(5);
            assert_eq!(pair.side(who).ended.pop(), Some((spi, Ok(()))));
            pair.run(20);
            pair.assert_children(1);
        }
    }
}

/// What has just been agreed on does not keep the rest waiting, whoever asks for it. Nor
/// does it when all are renewed soon after, and again, until there is no room for what is over.
#[test]
fn very_many_pairs_come_up_and_are_renewed_at_once() {
    const PAIRS: u8 = 110;
    let [left, right] = Spec::with_policies(PAIRS).map(|spec| spec.v1(Phase1::Main));
    let mut pair = Pair::new(&left, &right);
    pair.initiate();
    pair.settle_many(1_000);
    pair.run(4);
    pair.assert_children(PAIRS.into());
    // So many take long to move before each message.
    for who in [A, B] {
        pair.side(who).conn.as_mut().unwrap().alone();
    }
    for who in [A, B, A, B, A] {
        let old: Vec<u32> = pair.side(who).installed.keys().copied().collect();
        for spi in &old {
            pair.command(who, Command::RekeyChild(*spi));
        }
        pair.settle_many(1_000);
        for _ in 0..13 {
            pair.pass(Duration::from_secs(1));
            pair.settle_many(1_000);
        }
        assert!(old.iter().all(|spi| !pair.side(who).installed.contains_key(spi)), "all are renewed");
        pair.assert_children(PAIRS.into());
    }
}
