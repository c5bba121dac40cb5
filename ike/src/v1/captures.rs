//! IKEv1 datagrams that others captured: Openswan, Windows, Cisco, ike-scan, tcpdump's and Zeek's collections of damaged
//! packets. The files are third-party data that lies beside the project; where it is absent the tests say so and pass.
#![allow(clippy::print_stderr)] // How a test says that it was skipped.
#![allow(clippy::disallowed_methods)] // A test may read files.

#[path = "../../tests/pcap/mod.rs"]
mod pcap;

use std::path::{Path, PathBuf};

use super::keys::{self, Suite};
use super::offer::{self, Method, OfferedLife};
use super::wire::rules::{check, hash_is_first};
use super::wire::{Exchange, HEADER_LEN, Header, Payload, PayloadType, Payloads, encode, parse_chain};
use crate::config::Mode;
use crate::proposal::IkeChoice;
use crate::proposal::negotiate::describe;
use crate::wire::WireError;
use crate::wire::numbers::TransformType;
use crate::wire::sa::Transform;
use crate::wire::writer::Writer;

fn root() -> Option<PathBuf> {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../shared/vectors");
    if !root.is_dir() {
        eprintln!("skipped: no third-party vectors beside the project");
        return None;
    }
    Some(root)
}

fn walk(folder: &Path, files: &mut Vec<PathBuf>) {
    for entry in std::fs::read_dir(folder).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() { walk(&path, files) } else { files.push(path) }
    }
}

/// All datagrams of IKEv1, each with its file and number in it.
fn datagrams(root: &Path) -> Vec<(String, Vec<u8>)> {
    let mut files = Vec::new();
    walk(root, &mut files);
    files.sort();
    let mut all = Vec::new();
    for path in files {
        let octets = std::fs::read(&path).unwrap();
        let name = path.strip_prefix(root).unwrap().to_str().unwrap().to_owned();
        let found = match path.extension().and_then(|e| e.to_str()) {
            Some("bin" | "dat") => vec![octets],
            _ => pcap::ike_datagrams(&octets),
        };
        let ours =
            found.into_iter().enumerate().filter(|(_, octets)| octets.get(17).is_some_and(|v| v >> 4 == 1));
        all.extend(ours.map(|(i, octets)| (format!("{name}#{i}"), octets)));
    }
    all
}

/// Header and payloads; of an encrypted message the header alone.
fn parse(octets: &[u8]) -> Result<(Header, Option<Vec<Payload>>), WireError> {
    let header = Header::parse(octets)?;
    if header.encrypted {
        return Ok((header, None));
    }
    parse_chain(header.next, &octets[HEADER_LEN..], false).map(|chain| (header, Some(chain.payloads)))
}

/// Encodes what was parsed, what is encrypted as it came.
fn rebuild(header: Header, payloads: Option<&[Payload]>, octets: &[u8]) -> Vec<u8> {
    match payloads {
        Some(payloads) => encode(header, payloads),
        None => {
            let mut w = Writer::new();
            header.write(&mut w);
            w.bytes(&octets[HEADER_LEN..]);
            w.finish()
        }
    }
}

/// What is not one octet by octet when it is written again: a notify with the DOI of ISAKMP, and NAT-D by the number of
/// drafts that nobody here speaks.
const NORMALISED: [&str; 3] = [
    "ike-scan/pkt-notify-response.dat#0",
    "tcpdump/ISAKMP_sa_setup.pcap#2",
    "tcpdump/ISAKMP_sa_setup.pcap#3",
];

/// What must not be taken for a message, and why not.
const REFUSED: [(&str, WireError); 5] = [
    // Reserved bits on purpose.
    ("ike-scan/pkt-custom-proposal.dat#0", WireError::Payload("SA", "has a reserved field that is not zero")),
    // Lengths that are not those of the datagram, one of them with a chain that ends before it.
    ("tcpdump/isakmp-no-none-np.pcapng#0", WireError::LengthMismatch { field: 84, actual: 2186 }),
    ("tcpdump/isakmp-pointer-loop.pcap#0", WireError::LengthMismatch { field: 0, actual: 30 }),
    // A payload that leads out of the message.
    (
        "zeek-spicy-ipsec/ipsec-ikev1-payload-bad-length.pcap#0",
        WireError::Payload("VENDOR", "has a bad length"),
    ),
    ("zeek-spicy-ipsec/ipsec-ikev1-zero-length.pcap#0", WireError::LengthMismatch { field: 0, actual: 168 }),
];

#[test]
fn every_datagram_is_rebuilt_as_it_was_or_refused() {
    let Some(root) = root() else { return };
    let (mut rebuilt, mut normalised, mut refused) = (0, Vec::new(), Vec::new());
    for (source, octets) in datagrams(&root) {
        match parse(&octets) {
            Ok((header, payloads)) => {
                let again = rebuild(header, payloads.as_deref(), &octets);
                assert_eq!(parse(&again), Ok((header, payloads)), "{source}");
                if again == octets { rebuilt += 1 } else { normalised.push(source) }
            }
            Err(error) => refused.push((source, error)),
        }
    }
    eprintln!("{rebuilt} rebuilt, {} normalised, {} refused", normalised.len(), refused.len());
    assert_eq!(normalised, NORMALISED);
    let refused: Vec<(&str, WireError)> = refused.iter().map(|(s, e)| (s.as_str(), *e)).collect();
    assert_eq!(refused, REFUSED);
    assert!(rebuilt > 100, "the collection is not whole");
}

#[test]
fn damaged_datagrams_never_panic_and_short_ones_are_refused() {
    let Some(root) = root() else { return };
    for (source, octets) in datagrams(&root) {
        for length in 0..octets.len() {
            assert!(parse(&octets[..length]).is_err(), "{source} cut to {length} octets");
            // What is cut off within a payload, too, when the header tells the length of the rest.
            if let Some(body) = octets[..length].get(HEADER_LEN..) {
                let next = PayloadType(octets[16]);
                assert!(body.is_empty() || parse_chain(next, body, false).is_err(), "{source} to {length}");
            }
        }
        for position in 0..octets.len() {
            for bit in 0..8 {
                let mut damaged = octets.clone();
                damaged[position] ^= 1 << bit;
                let Ok((header, Some(payloads))) = parse(&damaged) else { continue };
                for message in 0..7 {
                    let _ = check(header.exchange, message, &payloads);
                }
                if let Some(sa) = Payloads(&payloads).sa() {
                    let offers = offer::read_phase1(sa);
                    // Whatever is offered can be answered, and only that.
                    for offer in &offers {
                        let answer = offer::answer_phase1(sa, offer.number).unwrap();
                        assert_eq!(offer::read_phase1(&answer), std::slice::from_ref(offer), "{source}");
                    }
                    offer::read_quick(sa, false);
                }
                let again = rebuild(header, Some(&payloads), &damaged);
                assert_eq!(again.len(), damaged.len(), "{source}: octet {position}");
            }
        }
    }
}

#[test]
fn messages_in_clear_keep_the_rules_of_their_exchange() {
    let Some(root) = root() else { return };
    let (mut kept, mut broken) = (0, Vec::new());
    for (source, octets) in datagrams(&root) {
        let Ok((header, Some(payloads))) = parse(&octets) else { continue };
        let of = Payloads(&payloads);
        let message = match header.exchange {
            Exchange::MAIN if of.sa().is_some() => 1,
            Exchange::MAIN if of.ke().is_some() => 3,
            Exchange::MAIN => 5,
            Exchange::AGGRESSIVE if header.spi_r == 0 => 1,
            Exchange::AGGRESSIVE => 2,
            _ => 0,
        };
        match check(header.exchange, message, &payloads) {
            Ok(()) => kept += 1,
            Err(error) => broken.push((source, error)),
        }
    }
    // Signatures instead of a hash, and an identification alone.
    let expected = [
        ("ike-scan/pkt-aggr-cert-response.dat#0".to_owned(), WireError::Payload("HASH", "is missing")),
        (
            "tcpdump/isakmp-identification-segfault.pcap#0".to_owned(),
            WireError::Payload("HASH", "is missing"),
        ),
    ];
    assert_eq!(broken, expected);
    assert!(kept > 60, "the collection is not whole");
}

#[test]
fn offers_are_told_in_words() {
    let Some(root) = root() else { return };
    let all = datagrams(&root);
    let sha1 = "sha1-prfsha1";
    for (source, method, seconds, words) in [
        (
            "zeek-spicy-ipsec/ipsec-ikev1-isakmp-main-mode.pcap#0",
            "pre-shared key",
            Some(86_400),
            format!("aes128-{sha1}-modp1024"),
        ),
        // A duration in four octets.
        (
            "ike-scan/pkt-aggr-mode-response.dat#0",
            "pre-shared key",
            Some(28_800),
            format!("3des-{sha1}-modp1024"),
        ),
        ("ike-scan/pkt-single-trans.dat#0", "RSA signatures", None, format!("3des-{sha1}-modp1024")),
        // AES without the length of its key, which RFC 3602 section 5.3 does not allow.
        (
            "openswan/xfrmmock/xf79-childQR1/parentM1.pcap#0",
            "RSA signatures",
            Some(3_600),
            format!("ENCR_AES_CBC-{sha1}-modp1536"),
        ),
        (
            "openswan/libpluto/lp44-h2hR1-deny-ikev1/parentM1.pcap#0",
            "RSA signatures",
            Some(3_600),
            ["modp2048", "modp1536", "modp3072"]
                .map(|g| format!("aes128-sha256-prfsha256-{g}, aes128-{sha1}-{g}"))
                .join(", "),
        ),
    ] {
        let (_, octets) = all.iter().find(|(name, _)| name == source).unwrap();
        let payloads = parse(octets).unwrap().1.unwrap();
        let offers = offer::read_phase1(Payloads(&payloads).sa().unwrap());
        let life = OfferedLife { seconds, kilobytes: None };
        assert!(offers.iter().all(|o| Method::told(o.method) == method && o.life == life), "{source}");
        let proposals: Vec<_> = offers.into_iter().map(|o| o.proposal).collect();
        assert_eq!(describe(&proposals), words, "{source}");
    }
}

/// Main Mode and Quick Mode between two Windows machines, with the key of the ISAKMP SA.
#[test]
fn messages_of_windows_open_with_their_key() {
    let Some(root) = root() else { return };
    let file = std::fs::read(root.join("zeek-spicy-ipsec/ikev1-certs.pcap")).unwrap();
    let datagrams = pcap::ike_datagrams(&file);
    let key: Vec<u8> = "735be0cb62f82675c4f7bf8fbab9b56834ba76d6ab4fa240"
        .as_bytes()
        .chunks(2)
        .map(|pair| u8::from_str_radix(std::str::from_utf8(pair).unwrap(), 16).unwrap())
        .collect();
    let ke = |at: usize| Payloads(&parse(&datagrams[at]).unwrap().1.unwrap()).ke().unwrap().to_vec();
    let (encr, prf) = (Transform::new(TransformType::ENCR, 3), Transform::new(TransformType::PRF, 1));
    let suite = Suite::new(&IkeChoice { encr, integ: None, prf, group: 2 }).unwrap();
    let open = |at: usize, iv: &[u8]| {
        let (header, _) = parse(&datagrams[at]).unwrap();
        let (plain, next) = keys::decrypt(suite, &key, iv, &datagrams[at][HEADER_LEN..]).unwrap();
        let chain = parse_chain(header.next, &plain, true).unwrap();
        // Any other key or IV gives something that is no chain of payloads. A wrong IV is noticed by the first block.
        let mut other = key.clone();
        other[0] ^= 2;
        for (key, iv) in [(&other, iv.to_vec()), (&key, vec![0; 8])] {
            let (plain, _) = keys::decrypt(suite, key, &iv, &datagrams[at][HEADER_LEN..]).unwrap();
            assert!(parse_chain(header.next, &plain, true).is_err());
        }
        // Encrypted again it is the same, but for padding of another length.
        let mut iv = iv.to_vec();
        let sealed = keys::encrypt(suite, &key, &mut iv, &plain).unwrap();
        assert_eq!((sealed.as_slice(), &iv), (&datagrams[at][HEADER_LEN..], &next));
        (header, chain, next)
    };
    let kinds = |payloads: &[Payload]| payloads.iter().map(Payload::kind).collect::<Vec<_>>();
    let mut iv = suite.first_iv(&ke(2), &ke(3));
    for at in [4, 5] {
        let (_, chain, next) = open(at, &iv);
        let mut expected = vec![PayloadType::ID, PayloadType::CERT, PayloadType::SIGNATURE];
        if at == 4 {
            expected.insert(2, PayloadType::CERT_REQUEST);
        }
        assert_eq!(kinds(&chain.payloads), expected, "{at}");
        iv = next;
    }
    // The second is a retransmission of the first.
    assert_eq!(datagrams[6], datagrams[7]);
    let mut iv = suite.phase2_iv(&iv, Header::parse(&datagrams[6]).unwrap().message_id);
    for (message, at) in [(1, 6), (2, 8), (3, 9)] {
        let (header, chain, next) = open(at, &iv);
        assert_eq!(check(header.exchange, message, &chain.payloads), Ok(()));
        assert_eq!(hash_is_first(&chain.payloads), Ok(()));
        let of = Payloads(&chain.payloads);
        if message < 3 {
            let selectors: Vec<String> = of.ids().map(|id| id.selector().unwrap().to_string()).collect();
            assert_eq!(selectors, ["192.168.12.118/32", "1.1.1.1/32"], "{at}");
            let offers = offer::read_quick(of.sa().unwrap(), false);
            let [offer] = offers.as_slice() else { panic!("{offers:?}") };
            let life = OfferedLife { seconds: Some(3_600), kilobytes: None };
            assert_eq!((offer.mode, offer.life, offer.group), (Some(Mode::Tunnel), life, Some(2)));
            let words = "3des-md5-modp1024-noesn";
            assert_eq!(describe(std::slice::from_ref(&offer.proposal)), words, "{at}");
        }
        iv = next;
    }
}
