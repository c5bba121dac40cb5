//! The worked examples of the RFCs, from the collection beside the repository.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::print_stderr,
    missing_docs,
    unused_crate_dependencies
)]

use std::path::Path;

use mac::{AesMac, AesPrf};
use proptest::prelude::*;
use serde_json::Value;

fn octets(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|at| u8::from_str_radix(&text[at..at + 2], 16).unwrap()).collect()
}

/// The cases of a file; nothing, with a message, where the collection is not.
fn cases(file: &str) -> Vec<Value> {
    let path = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors/rfc-examples").join(file);
    let Ok(text) = std::fs::read_to_string(&path) else {
        eprintln!("skipped: ../shared/vectors/rfc-examples/{file} is not there");
        return Vec::new();
    };
    serde_json::from_str(&text).unwrap()
}

fn check(file: &str, of: impl Fn(&[u8]) -> AesMac) {
    for case in cases(file) {
        let mut mac = of(&octets(&case["key"]));
        mac.update(&octets(&case["message"]));
        let code = mac.finish();
        let expected = ["mac", "output", "mac96"].iter().find(|name| case[**name].is_string()).unwrap();
        let expected = octets(&case[*expected]);
        assert_eq!(code[..expected.len()], expected[..], "{file}: {case}");
    }
}

#[test]
fn xcbc_of_rfc_3566() {
    check("rfc3566.json", |key| AesMac::xcbc(key.try_into().unwrap()));
}

#[test]
fn cmac_of_rfc_4494() {
    check("rfc4494.json", |key| AesMac::cmac(key.try_into().unwrap()));
}

#[test]
fn xcbc_prf_of_rfc_4434() {
    check("rfc4434.json", |key| AesPrf::Xcbc.keyed(key));
}

#[test]
fn cmac_prf_of_rfc_4615() {
    check("rfc4615.json", |key| AesPrf::Cmac.keyed(key));
}

proptest! {
    /// However a message is cut, its code is the same.
    #[test]
    fn pieces_are_one_message(message in proptest::collection::vec(any::<u8>(), 0..200), cut in 0usize..200) {
        let (a, b) = message.split_at(cut.min(message.len()));
        for keyed in [AesMac::xcbc(&[7; 16]), AesMac::cmac(&[7; 16])] {
            let (mut whole, mut pieces) = (keyed.clone(), keyed);
            whole.update(&message);
            pieces.update(a);
            pieces.update(b);
            prop_assert_eq!(whole.finish(), pieces.finish());
        }
    }
}
