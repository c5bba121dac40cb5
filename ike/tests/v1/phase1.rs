//! Phase 1 (RFC 2409 section 5).

use ike::Connection;

use crate::kit::{Pair, Spec};
use crate::{MODES, specs, up};

#[test]
fn every_suite_comes_up_in_both_modes() {
    for mode in MODES {
        for ike in [
            "aes128-sha256-modp2048",
            "aes192-sha384-ecp384",
            "aes256-sha512-ecp521",
            "aes256-sha1-modp1536",
            "3des-md5-modp1024",
            "3des-sha1-modp1024",
            "aes256-sha256-x25519",
            "aes128-aes256-sha1-sha256-modp1024-modp2048",
        ] {
            let [left, right] = specs(mode).map(|spec| Spec { ike: vec![ike], ..spec });
            let pair = up(&left, &right);
            pair.assert_children(1);
            for side in [&pair.a, &pair.b] {
                assert!(side.conn.as_deref().is_some_and(Connection::is_up), "{ike} {:?}", side.log);
                assert_eq!(side.conn.as_deref().map(Connection::ike_sas), Some(1));
            }
        }
    }
}

#[test]
fn a_wrong_key_is_told_on_both_sides() {
    for mode in MODES {
        let [left, right] = specs(mode);
        let mut pair = Pair::up(&Spec { psk: b"other", ..left }, &right);
        pair.run(60);
        pair.assert_children(0);
        let told = |log: &[String]| log.iter().any(|l| l.contains("pre-shared key"));
        assert!(told(&pair.a.log) || told(&pair.b.refused), "{:?} {:?}", pair.a.log, pair.b.refused);
        assert!(pair.a.conn.as_deref().is_some_and(Connection::is_finished), "{:?}", pair.a.log);
    }
}
