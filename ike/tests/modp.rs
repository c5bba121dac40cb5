//! Key pairs and secrets of the MODP groups, computed by others (strongSwan). The file is third-party data that lies beside
//! the project; where it is absent the test says so and passes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

use std::net::SocketAddr;
use std::sync::Arc;

use ike::config::PeerConfig;
use ike::crypto::dh::{KeyPair, check_public};
use ike::{Host, Identity, NoPeer};
use serde_json::Value;

/// Draws the private value of a vector, with zeros in front.
struct Given(Vec<u8>);

impl Host for Given {
    fn random(&mut self, out: &mut [u8]) {
        let at = out.len().checked_sub(self.0.len()).expect("an exponent as long as those of others");
        out.fill(0);
        out[at..].copy_from_slice(&self.0);
    }

    fn allocate_ike_spi(&mut self) -> u64 {
        1
    }

    fn allocate_esp_spi(&mut self, _: SocketAddr) -> Option<u32> {
        None
    }

    fn find_peers(
        &mut self,
        _: &Identity,
        _: Option<&Identity>,
        _: SocketAddr,
        _: ike::config::Opening,
    ) -> Result<Vec<Arc<PeerConfig>>, NoPeer> {
        Err(NoPeer::Unknown)
    }
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn key_pairs_and_secrets_are_those_of_others() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/strongswan/modp_vectors.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: no third-party vectors beside the project (strongswan/modp_vectors.json)");
        return;
    };
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut done = Vec::new();
    for vector in &vectors {
        let group = u16::try_from(vector["group"].as_u64().unwrap()).unwrap();
        let pair = |private: &Value| KeyPair::generate(group, &mut Given(hex(private)));
        let Ok(initiator) = pair(&vector["priv_i"]) else {
            assert_eq!(group, 1, "the group of 768 bits is not there");
            continue;
        };
        let responder = pair(&vector["priv_r"]).unwrap();
        assert_eq!(initiator.public(), hex(&vector["pub_i"]), "group {group}");
        assert_eq!(responder.public(), hex(&vector["pub_r"]), "group {group}");
        check_public(group, responder.public()).unwrap();
        for (ours, theirs) in [(&initiator, &responder), (&responder, &initiator)] {
            assert_eq!(*ours.agree(theirs.public()).unwrap(), hex(&vector["shared"]), "group {group}");
        }
        assert!(check_public(group, &responder.public()[1..]).is_err(), "group {group}: too short");
        done.push(group);
    }
    assert_eq!(done, [2, 5, 14, 15, 16, 17, 18]);
}
