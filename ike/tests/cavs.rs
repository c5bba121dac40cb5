//! NIST's validation vectors of the IKEv2 key derivation (CAVS 17.3). The file is third-party data that lies beside the
//! project; where it is absent the test says so and passes.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.

use std::collections::HashMap;

use ike::crypto::keys::{self, IkeKeys, Inputs};
use ike::crypto::prf::{HmacHash, Prf};
use ike::crypto::sk::SkSuite;
use ike::proposal::{EspChoice, IkeChoice};
use ike::wire::numbers::TransformType;
use ike::wire::sa::Transform;

/// One COUNT of the file: its fields by name.
struct Case {
    hash: String,
    fields: HashMap<String, String>,
}

impl Case {
    fn octets(&self, name: &str) -> Vec<u8> {
        let text = &self.fields[name];
        (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
    }

    fn spi(&self, name: &str) -> u64 {
        u64::from_str_radix(&self.fields[name], 16).unwrap()
    }
}

fn load() -> Option<Vec<Case>> {
    let path = concat!(env!("CARGO_MANIFEST_DIR"), "/../../shared/vectors/nss-cavs-ike/ikev2.fax");
    let Ok(text) = std::fs::read_to_string(path) else {
        eprintln!("skipped: no third-party vectors beside the project (nss-cavs-ike/ikev2.fax)");
        return None;
    };
    let mut hash = String::new();
    let mut cases: Vec<Case> = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(name) = line.strip_prefix("[SHA-") {
            hash = name.trim_end_matches(']').to_owned();
        } else if line.starts_with("COUNT") {
            cases.push(Case { hash: hash.clone(), fields: HashMap::new() });
        } else if let (Some((name, value)), false) = (line.split_once(" = "), line.starts_with(['[', '#'])) {
            cases.last_mut().unwrap().fields.insert(name.to_owned(), value.to_owned());
        }
    }
    Some(cases)
}

fn prf(hash: &str) -> Option<HmacHash> {
    match hash {
        "1" => Some(HmacHash::Sha1),
        "256" => Some(HmacHash::Sha256),
        "384" => Some(HmacHash::Sha384),
        "512" => Some(HmacHash::Sha512),
        _ => None,
    }
}

/// A suite with this hash for all its purposes, and the Child SA with the same algorithms. Which ones is not in the
/// file: it has the octets before they are cut into keys.
fn suites(hash: HmacHash) -> (SkSuite, EspChoice) {
    let (id, integ) = match hash {
        HmacHash::Md5 => (1, 1),
        HmacHash::Sha1 => (2, 2),
        HmacHash::Sha256 => (5, 12),
        HmacHash::Sha384 => (6, 13),
        HmacHash::Sha512 => (7, 14),
    };
    let encr = Transform::with_key_bits(TransformType::ENCR, 12, 256);
    let integ = Some(Transform::new(TransformType::INTEG, integ));
    let prf = Transform::new(TransformType::PRF, id);
    let suite = SkSuite::new(&IkeChoice { encr, integ, prf, group: 19 }).unwrap();
    (suite, EspChoice { encr, integ, esn: true, group: None })
}

fn joined(keys: &IkeKeys) -> Vec<u8> {
    [&keys.d, &keys.ai, &keys.ar, &keys.ei, &keys.er, &keys.pi, &keys.pr].map(|key| key.to_vec()).concat()
}

/// The file's octets and ours agree as far as the shorter of the two goes, which is at least `least`.
fn agree(theirs: &[u8], ours: &[u8], least: usize, what: &str) {
    let common = theirs.len().min(ours.len());
    assert!(common >= least, "{what}: only {common} octets to compare");
    assert_eq!(theirs[..common], ours[..common], "{what}");
}

#[test]
fn keys_are_derived_as_nist_expects() {
    let Some(cases) = load() else { return };
    let (mut checked, mut skipped) = (0, 0);
    for case in &cases {
        let Some(hash) = prf(&case.hash) else {
            skipped += 1;
            continue;
        };
        check(case, hash);
        checked += 1;
    }
    // 100 cases in each of nine groups.
    assert_eq!((checked, skipped), (900, 0));
    eprintln!("{checked} cases agree");
}

fn check(case: &Case, hash: HmacHash) {
    let prf = Prf::Hmac(hash);
    let (ni, nr) = (case.octets("Ni"), case.octets("Nr"));
    let (shared, new) = (case.octets("g^ir"), case.octets("g^ir (new)"));
    let (dkm, seed) = (case.octets("DKM"), case.octets("SKEYSEED"));
    let inputs = Inputs { ni: &ni, nr: &nr, spi_i: case.spi("SPIi"), spi_r: case.spi("SPIr") };
    let (suite, esp) = suites(hash);

    // RFC 7296 section 2.14, by its formulas and by the function that the handshake calls.
    let spis = [inputs.spi_i.to_be_bytes(), inputs.spi_r.to_be_bytes()].concat();
    assert_eq!(*prf.prf(&[ni.clone(), nr.clone()].concat(), &[&shared]).unwrap(), seed, "SKEYSEED");
    assert_eq!(*prf.prf_plus(&seed, &[&ni, &nr, &spis], dkm.len()).unwrap(), dkm, "DKM");
    let keys = keys::initial(prf, suite, inputs, &shared).unwrap();
    agree(&dkm, &joined(&keys), 132, "DKM as keys");

    // Section 2.17: without and with a Diffie-Hellman exchange of its own.
    for (name, own) in [("DKM(Child SA)", None), ("DKM(Child SA D-H)", Some(new.as_slice()))] {
        let theirs = case.octets(name);
        let seed: Vec<&[u8]> = own.into_iter().chain([ni.as_slice(), nr.as_slice()]).collect();
        assert_eq!(*prf.prf_plus(&keys.d, &seed, theirs.len()).unwrap(), theirs, "{name}");
        let child = keys::child(prf, &keys.d, &esp, own, &ni, &nr).unwrap();
        let ours =
            [&child.initiator, &child.responder].map(|k| [k.encryption.as_slice(), &k.integrity].concat());
        agree(&theirs, &ours.concat(), 104, name);
    }

    // Section 2.18: the seed of a rekeyed IKE_SA, and the keys that follow from it.
    let seed = case.octets("SKEYSEED(Rekey)");
    assert_eq!(*prf.prf(&keys.d, &[&new, &ni, &nr]).unwrap(), seed, "SKEYSEED(Rekey)");
    let rekeyed = joined(&keys::rekeyed((prf, &keys.d), prf, suite, inputs, &new).unwrap());
    let expected = prf.prf_plus(&seed, &[&ni, &nr, &spis], rekeyed.len()).unwrap();
    assert_eq!(rekeyed, *expected, "keys of the rekeyed IKE_SA");
}
