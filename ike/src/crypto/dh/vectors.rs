//! Secrets of the MODP groups, computed by others (strongSwan). The file is third-party data that lies beside the project; where it
//! is absent the test says so and passes.
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

use serde_json::Value;

use super::{KeyPair, check_public};

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

#[test]
fn secrets_are_those_of_others() {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/strongswan/modp_vectors.json");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: no third-party vectors beside the project (strongswan/modp_vectors.json)");
        return;
    };
    let vectors: Vec<Value> = serde_json::from_str(&text).unwrap();
    let mut done = Vec::new();
    for vector in &vectors {
        let group = u16::try_from(vector["group"].as_u64().unwrap()).unwrap();
        let (public_i, public_r) = (hex(&vector["pub_i"]), hex(&vector["pub_r"]));
        // Their exponents are longer than ours.
        let pair =
            |private: &Value, public: &[u8]| KeyPair::from_parts(group, &hex(private), public.to_vec());
        let Ok(initiator) = pair(&vector["priv_i"], &public_i) else {
            assert_eq!(group, 1, "the group of 768 bits is not there");
            continue;
        };
        let responder = pair(&vector["priv_r"], &public_r).unwrap();
        // A public value is what is agreed on with the generator.
        let mut generator = vec![0; public_i.len()];
        *generator.last_mut().unwrap() = 2;
        for (ours, theirs) in [(&initiator, &responder), (&responder, &initiator)] {
            assert_eq!(*ours.agree(&generator).unwrap(), ours.public(), "group {group}");
            assert_eq!(*ours.agree(theirs.public()).unwrap(), hex(&vector["shared"]), "group {group}");
        }
        check_public(group, &public_r).unwrap();
        assert!(check_public(group, &public_r[1..]).is_err(), "group {group}: too short");
        done.push(group);
    }
    assert_eq!(done, [2, 5, 14, 15, 16, 17, 18]);
}
