//! Datagrams that others captured: Openswan, strongSwan, Windows, Cisco, tcpdump's and Zeek's collections of damaged
//! packets, RFC 7634. The files are third-party data that lies beside the project; where it is absent the tests say so
//! and pass.
#![allow(missing_docs, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]
#![allow(clippy::print_stderr)] // How a test says that it was skipped.
#![allow(clippy::disallowed_methods)] // A test may read files.

mod pcap;

use std::path::{Path, PathBuf};

use ike::crypto::CryptoError;
use ike::crypto::sk::{SkKey, SkSuite};
use ike::proposal::IkeChoice;
use ike::wire::message::Message;
use ike::wire::numbers::{PayloadType, TransformType};
use ike::wire::payload::{Payload, parse_chain};
use ike::wire::sa::Transform;
use ike::wire::{WireError, header};
use serde_json::Value;
use zeroize::Zeroizing;

/// A datagram and where it is from: file and number in it.
struct Datagram {
    source: String,
    octets: Vec<u8>,
}

fn root() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    if !root.is_dir() {
        eprintln!("skipped: no third-party vectors beside the project");
        return None;
    }
    Some(root)
}

fn datagrams(root: &Path) -> Vec<Datagram> {
    let mut files = Vec::new();
    walk(root, &mut files);
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let octets = std::fs::read(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        // ike-scan's and ipsec-parser's files are a datagram each, one with the non-ESP marker before it.
        let found = match path.extension().and_then(|e| e.to_str()) {
            Some("bin" | "dat") => vec![octets.strip_prefix(&[0; 4]).unwrap_or(&octets).to_vec()],
            _ => pcap::ike_datagrams(&octets),
        };
        let name = |i| format!("{name}#{i}");
        all.extend(found.into_iter().enumerate().map(|(i, octets)| Datagram { source: name(i), octets }));
    }
    all
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

fn hex(value: &Value) -> Vec<u8> {
    let text = value.as_str().unwrap();
    (0..text.len()).step_by(2).map(|i| u8::from_str_radix(&text[i..i + 2], 16).unwrap()).collect()
}

fn json(path: PathBuf) -> Value {
    serde_json::from_str(&std::fs::read_to_string(path).unwrap()).unwrap()
}

/// Encodes what was parsed, the encrypted payload as it came.
fn rebuild(message: &Message, datagram: &[u8]) -> Vec<u8> {
    let mut payloads = message.chain.payloads.clone();
    let Some((inner, range)) = message.chain.encrypted.clone() else {
        return Message::encode(message.header, &payloads);
    };
    payloads.push(Payload::Opaque(PayloadType::SK, datagram[range.clone()].to_vec()));
    let mut out = Message::encode(message.header, &payloads);
    // The last payload of a chain has no next one; SK's field names the first inside (RFC 7296 section 3.14).
    out[range.start - 4] = inner.0;
    out
}

/// The datagram with its reserved bits cleared, as they "MUST be sent as zero and MUST be ignored on receipt" (RFC 7296
/// section 3.1): those of the header's flags and of the payload headers, and the critical bit of payloads that all
/// implementations know (section 2.5).
fn without_reserved_bits(datagram: &[u8]) -> Vec<u8> {
    let mut out = datagram.to_vec();
    out[19] &= 0x28;
    let (mut next, mut at) = (out[16], header::HEADER_LEN);
    while next != 0 {
        let (kind, length) = (next, usize::from(u16::from_be_bytes([out[at + 2], out[at + 3]])));
        next = out[at];
        out[at + 1] = 0;
        if PayloadType(kind) == PayloadType::SK {
            break;
        }
        at += length;
    }
    out
}

/// What must not be taken for a message, and why not.
const REFUSED: [(&str, WireError); 7] = [
    // A notify whose length leaves two octets of filling behind it.
    ("openswan/libpluto/lp08-parentR1/parentR1notify.pcap#0", WireError::TrailingData),
    ("openswan/libpluto/lp09-I1notify/parentR1notify.pcap#0", WireError::TrailingData),
    // An identification that ends before the message does, and one shorter than its own header.
    ("tcpdump/ikev2-id-normal.pcap#0", WireError::TrailingData),
    ("tcpdump/ikev2-id-short.pcap#0", WireError::Truncated),
    // Lengths that lead out of the message, and versions that do not exist.
    ("tcpdump/ikev2pI2-segfault.pcapng#0", WireError::Truncated),
    ("tcpdump/isakmp-delete-segfault.pcap#0", WireError::MajorVersion(11)),
    ("ike-scan/pkt-malformed.dat#0", WireError::MajorVersion(3)),
];

#[test]
fn every_datagram_is_rebuilt_as_it_was_or_refused() {
    let Some(root) = root() else { return };
    let (mut rebuilt, mut normalised, mut ikev1) = (0, 0, 0);
    let mut refused = Vec::new();
    for Datagram { source, octets } in datagrams(&root) {
        match Message::parse(&octets) {
            Ok(message) => {
                let again = rebuild(&message, &octets);
                assert_eq!(again, without_reserved_bits(&octets), "{source}");
                assert_eq!(Message::parse(&again).as_ref(), Ok(&message), "{source}");
                if again == octets { rebuilt += 1 } else { normalised += 1 }
            }
            Err(WireError::MajorVersion(1)) => ikev1 += 1,
            Err(error) => refused.push((source, error)),
        }
    }
    eprintln!(
        "{rebuilt} rebuilt, {normalised} but for reserved bits, {ikev1} IKEv1, {} refused",
        refused.len()
    );
    for (source, error) in REFUSED {
        assert!(refused.iter().any(|(s, e)| s == source && *e == error), "{source}");
    }
    assert_eq!(refused.len(), REFUSED.len(), "{refused:?}");
    assert!(rebuilt > 150 && normalised > 10 && ikev1 > 100, "the collection is not whole");
}

#[test]
fn damaged_datagrams_never_panic_and_short_ones_are_refused() {
    let Some(root) = root() else { return };
    for Datagram { source, octets } in datagrams(&root) {
        let whole = Message::parse(&octets).is_ok();
        for length in 0..octets.len() {
            let parsed = Message::parse(&octets[..length]);
            assert!(!whole || parsed.is_err(), "{source} cut to {length} octets");
        }
        for position in 0..octets.len() {
            for bit in 0..8 {
                let mut damaged = octets.clone();
                damaged[position] ^= 1 << bit;
                if let Ok(message) = Message::parse(&damaged) {
                    // What an unknown attribute said is not kept, so it may come out shorter.
                    let again = rebuild(&message, &damaged);
                    assert!(again.len() <= damaged.len(), "{source}: octet {position}");
                }
            }
        }
    }
}

fn suite(encr: Transform, integ: Option<u16>) -> SkSuite {
    let integ = integ.map(|id| Transform::new(TransformType::INTEG, id));
    SkSuite::new(&IkeChoice { encr, integ, prf: Transform::new(TransformType::PRF, 5), group: 19 }).unwrap()
}

/// Opens a message, and makes sure that any bit that is wrong is noticed.
fn open(key: &SkKey, octets: &[u8], source: &str) -> (PayloadType, Vec<u8>) {
    let (inner, range) = Message::parse(octets).unwrap().chain.encrypted.unwrap();
    for position in 0..octets.len() {
        let mut forged = octets.to_vec();
        forged[position] ^= 1 << (position % 8);
        assert_eq!(key.open(&forged, range.start), Err(CryptoError::Integrity), "{source}: octet {position}");
    }
    let plain = key.open(octets, range.start).unwrap_or_else(|error| panic!("{source}: {error}"));
    (inner, plain.to_vec())
}

fn name(kind: PayloadType) -> &'static str {
    match kind {
        PayloadType::NOTIFY => "N",
        PayloadType::DELETE => "D",
        PayloadType::NONCE => "Nonce",
        kind => kind.name().unwrap(),
    }
}

/// The keys are fixed in Openswan's tests, so this is about the protection alone.
#[test]
fn openswan_messages_open_and_any_flipped_bit_closes_them() {
    let Some(root) = root() else { return };
    let aes128 = Transform::with_key_bits(TransformType::ENCR, 12, 128);
    let (mut opened, mut skipped) = (0, 0);
    for file in json(root.join("openswan/manifest.json")).as_array().unwrap() {
        let source = file["file"].as_str().unwrap();
        let datagrams = pcap::ike_datagrams(&std::fs::read(root.join("openswan").join(source)).unwrap());
        for packet in file["packets"].as_array().unwrap().iter().filter(|p| p.get("sk_e").is_some()) {
            let (encryption, integrity) = (hex(&packet["sk_e"]), hex(&packet["sk_a"]));
            // SHA-1, MD5 and 3DES are not among our algorithms. One message is said to be AES-128 with a key of 24 octets.
            let ours = packet["integ"] == "sha256" && packet["encr"] == "aes128" && encryption.len() == 16;
            if !ours {
                skipped += 1;
                continue;
            }
            let key =
                SkKey::new(suite(aes128, Some(12)), Zeroizing::new(encryption), Zeroizing::new(integrity));
            let frame = usize::try_from(packet["frame"].as_u64().unwrap()).unwrap();
            let (first, plain) = open(&key, &datagrams[frame - 1], source);
            // The manifest's text has padding and pad length still on it.
            let padding = usize::try_from(packet["padlen"].as_u64().unwrap()).unwrap() + 1;
            let mut expected = hex(&packet["plaintext"]);
            expected.truncate(expected.len() - padding);
            assert_eq!(plain, expected, "{source}");
            match parse_chain(first, &plain, 0) {
                Ok(chain) => {
                    let names = chain.payloads.iter().map(|p| Value::from(name(p.kind())));
                    assert_eq!(names.collect::<Value>(), packet["inner"], "{source}");
                }
                // Some of the nonces are of two octets, which RFC 7296 section 2.10 forbids.
                Err(error) => assert_eq!(error, WireError::NonceLength(2), "{source}"),
            }
            opened += 1;
        }
    }
    eprintln!("{opened} messages opened, {skipped} of other algorithms left out");
    assert!(opened > 35, "the collection is not whole");
}

#[test]
fn the_message_of_rfc_7634_opens() {
    let Some(root) = root() else { return };
    let example = &json(root.join("rfc-examples/rfc7634.json"))["ikev2"];
    let key = Zeroizing::new(hex(&example["keymat"]));
    let key = SkKey::new(suite(Transform::new(TransformType::ENCR, 28), None), key, Zeroizing::default());
    let (first, plain) = open(&key, &hex(&example["ike_message"]), "RFC 7634 appendix B");
    assert_eq!((first, plain), (PayloadType::NOTIFY, hex(&example["notify"])));
}
