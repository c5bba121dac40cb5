//! Quick mode (RFC 2409 section 5.5).

use ike::Command;
use ike::config::Phase1;

use crate::kit::{A, B, Spec};
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
