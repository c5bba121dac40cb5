//! Out to each device and back: the same tunnel, but for what the device has no words for, which stands in `expected`.

mod libreswan;

use std::net::IpAddr;

use proptest::prelude::*;

use super::export::{Device, export};
use super::import::{Format, import};
use super::manifest::{Denied, Peer, documents};
use super::model::{Child, End, Found, Key, Life, Notes, Starts, Tunnel, Version};
use super::suite::{NO_PFS, Suite, Word};

const OWN: &str = "192.0.2.12";
const CULVERT: &str = "198.51.100.1";

const ALL: [(Device, Format); 5] = [
    (Device::Strongswan, Format::Swanctl),
    (Device::Libreswan, Format::Ipsec),
    (Device::Ios, Format::Ios),
    (Device::Asa, Format::Asa),
    (Device::Panos, Format::Panos),
];

/// Out and back.
fn round_trip(device: Device, tunnel: &Tunnel) -> (Found, Vec<String>) {
    let sheet = export(device, tunnel).unwrap();
    let (_, format) = ALL.into_iter().find(|(other, _)| *other == device).unwrap();
    // Where the device is, crypto maps and gateways of interfaces do not say.
    let own = tunnel.device.addresses.first().and_then(|address| address.parse::<IpAddr>().ok());
    let mut notes = Notes::default();
    let found = import(format, &[("device.conf".to_owned(), sheet.text)], own, &mut notes);
    (found, notes.lines())
}

/// What comes back of a tunnel.
fn expected(device: Device, tunnel: &Tunnel) -> Tunnel {
    let mut tunnel = tunnel.clone();
    if device == Device::Strongswan {
        // It has a word for everything.
        return tunnel;
    }
    // One time, at which the SA ends.
    let end = |life: Life| Life { rekey: None, life: life.end() };
    tunnel.ike_life = end(tunnel.ike_life);
    for child in &mut tunnel.children {
        child.life = end(child.life);
        if device == Device::Libreswan {
            child.life_bytes = None;
        }
        // One group for all proposals.
        let groups: Vec<Word> = child.esp.iter().flat_map(|suite| suite.groups.iter().copied()).collect();
        let mut first = groups.iter().find(|group| **group != NO_PFS).copied();
        if device == Device::Libreswan && !tunnel.version.is_v1() {
            // That of the IKE SA, if it may be.
            let mut of_ike = tunnel.ike.iter().flat_map(|suite| &suite.groups).copied();
            let optional = groups.contains(&NO_PFS);
            first = of_ike.find(|group| groups.contains(group)).or(first.filter(|_| !optional));
        }
        child.esp.iter_mut().for_each(|suite| suite.groups = first.into_iter().collect());
    }
    if device != Device::Libreswan {
        // They begin when there is a packet, and put ESP into UDP where there is a NAT.
        (tunnel.starts, tunnel.force_udp) = (Starts::Device, false);
    }
    tunnel
}

fn end(address: &str, identity: &str) -> End {
    End { addresses: vec![address.to_owned()], identity: identity.parse().unwrap() }
}

fn child(name: &str, device: &[&str], culvert: &[&str], esp: &str) -> Child {
    let subnets = |texts: &[&str]| texts.iter().map(|text| text.parse().unwrap()).collect();
    Child {
        name: name.to_owned(),
        transport: false,
        culvert: subnets(culvert),
        device: subnets(device),
        esp: vec![Suite::of_esp(esp).unwrap()]
            .into_iter()
            .map(|suite| Suite { esn: Vec::new(), ..suite })
            .collect(),
        life: Life { rekey: Some(3240), life: Some(3600) },
        life_bytes: None,
    }
}

fn tunnel(version: Version) -> Tunnel {
    Tunnel {
        name: "branch-12".to_owned(),
        version,
        culvert: end(CULVERT, CULVERT),
        device: end(OWN, OWN),
        key: Key::Known(b"correct-horse".to_vec()),
        ike: vec![Suite::of_ike("aes256-aes128-sha1-modp2048-modp1536").unwrap()],
        ike_life: Life { rekey: Some(12_960), life: Some(14_400) },
        dpd: Some(30),
        starts: Starts::Device,
        force_udp: false,
        children: vec![
            child("lan", &["10.12.0.0/24", "10.13.0.0/24"], &["10.0.0.0/16"], "aes256-sha1-modp2048"),
            child("voice", &["10.12.9.0/24"], &["10.9.0.0/16", "10.8.0.0/16"], "aes256-sha1-modp2048"),
        ],
    }
}

/// As it is compared: both kinds of sequence numbers go without saying.
fn comparable(mut tunnel: Tunnel) -> Tunnel {
    for suite in tunnel.children.iter_mut().flat_map(|child| &mut child.esp) {
        if suite.esn.len() != 1 {
            suite.esn.clear();
        }
    }
    tunnel
}

fn assert_round_trip(device: Device, tunnel: &Tunnel) {
    let (found, notes) = round_trip(device, tunnel);
    let text = export(device, tunnel).unwrap().text;
    assert_eq!(notes, Vec::<String>::new(), "{text}");
    let [back] = found.tunnels.as_slice() else { panic!("{found:?}\n{text}") };
    let back = comparable(back.clone());
    assert_eq!(back, comparable(expected(device, tunnel)), "{device:?}\n{text}");
    assert!(found.rules.is_empty());
    // And so does the manifest, in which addresses of Culvert and keys do not stand.
    let peer = Peer::of(&back, "acme");
    let unnamed = Tunnel { culvert: End { addresses: Vec::new(), ..back.culvert.clone() }, ..back.clone() };
    assert_eq!(comparable(peer.to_tunnel(back.key).unwrap()), unnamed);
}

#[test]
fn every_device_gives_back_what_it_was_told() {
    for (device, _) in ALL {
        for version in [Version::V2, Version::V1, Version::V1Aggressive] {
            assert_round_trip(device, &tunnel(version));
        }
    }
}

#[test]
fn names_stand_for_identities_where_the_device_lets_them() {
    let ids = ["branch-12.acme.example", "alice@acme.example", "keyid:group-7", "192.0.2.77"];
    for device in [Device::Strongswan, Device::Libreswan, Device::Ios, Device::Panos] {
        for (ours, theirs) in ids.iter().zip(ids.iter().rev()) {
            let mut tunnel = tunnel(Version::V2);
            (tunnel.culvert.identity, tunnel.device.identity) =
                (ours.parse().unwrap(), theirs.parse().unwrap());
            assert_round_trip(device, &tunnel);
        }
    }
    // A distinguished name is for those who have certificates.
    for name in ["C=CH, O=Acme, CN=gw.acme.example", "O=Acme\\, Inc., CN=gw", "street=a, CN=\u{fc}"] {
        let mut tunnel = tunnel(Version::V2);
        tunnel.device.identity = name.parse().unwrap();
        for (device, _) in ALL {
            if device == Device::Strongswan {
                assert_round_trip(device, &tunnel);
            } else {
                let refused = export(device, &tunnel).map(|sheet| sheet.text).unwrap_err();
                assert!(refused.contains("CN="), "{device:?}: {refused}");
            }
        }
    }
    // ASA knows Culvert by its address alone.
    let mut tunnel = tunnel(Version::V2);
    tunnel.device.identity = "keyid:group-7".parse().unwrap();
    assert_round_trip(Device::Asa, &tunnel);
    tunnel.culvert.identity = "vpn.acme.example".parse().unwrap();
    let sheet = export(Device::Asa, &tunnel).unwrap();
    assert!(
        sheet.notes.iter().any(|note| note.contains("localIdentity, vpn.acme.example")),
        "{:?}",
        sheet.notes
    );
    // In IKEv1 the name of a Cisco device is that of the host.
    let mut tunnel = self::tunnel(Version::V1);
    tunnel.device.identity = "branch-12.acme.example".parse().unwrap();
    let sheet = export(Device::Ios, &tunnel).unwrap();
    assert!(sheet.notes.iter().any(|note| note.contains("hostname")), "{:?}", sheet.notes);
    let text = format!("hostname branch-12\nip domain name acme.example\n{}", sheet.text);
    let found = import(Format::Ios, &[("f".to_owned(), text)], None, &mut Notes::default());
    assert_eq!(found.tunnels[0].device.identity, tunnel.device.identity);
}

#[test]
fn sha_256_cut_short_goes_to_those_who_know_it() {
    let mut tunnel = tunnel(Version::V1);
    tunnel.children = vec![child("lan", &["10.12.0.0/24"], &["10.0.0.0/16"], "aes256-sha256_96-modp2048")];
    assert_round_trip(Device::Strongswan, &tunnel);
    assert_round_trip(Device::Libreswan, &tunnel);
    assert!(export(Device::Ios, &tunnel).unwrap_err().contains("none of the algorithms of child lan"));
}

#[test]
fn a_tunnel_for_everything_is_an_interface() {
    let mut tunnel = tunnel(Version::V2);
    tunnel.children = vec![child("all", &["0.0.0.0/0"], &["0.0.0.0/0"], "aes256-sha1-modp2048")];
    for (device, _) in ALL {
        assert_round_trip(device, &tunnel);
        let text = export(device, &tunnel).unwrap().text;
        let interface = text.contains("tunnel protection ipsec profile branch-12--all");
        assert_eq!(interface, [Device::Ios, Device::Asa].contains(&device), "{text}");
    }
}

#[test]
fn transport_mode_goes_where_the_device_has_it() {
    for version in [Version::V2, Version::V1] {
        let mut tunnel = tunnel(version);
        let host = child("host", &["192.0.2.12/32"], &["198.51.100.1/32"], "aes256-sha1-modp2048");
        tunnel.children = vec![Child { transport: true, ..host }];
        for device in [Device::Strongswan, Device::Libreswan, Device::Ios, Device::Asa] {
            assert_round_trip(device, &tunnel);
        }
        assert!(export(Device::Panos, &tunnel).unwrap_err().contains("no transport mode"));
    }
}

#[test]
fn a_tunnel_with_certificates_is_for_strongswan_and_has_no_key() {
    let tunnel = Tunnel { key: Key::Certificates, ..tunnel(Version::V2) };
    for (device, _) in ALL {
        match (device, export(device, &tunnel)) {
            (Device::Strongswan, Ok(sheet)) => {
                assert_eq!(sheet.text.matches("auth = pubkey").count(), 2, "{}", sheet.text);
                assert!(!sheet.text.contains("secret"), "{}", sheet.text);
                assert!(sheet.notes.iter().any(|note| note.contains("x509ca")), "{:?}", sheet.notes);
            }
            (_, said) => assert!(said.unwrap_err().contains("exported for strongswan alone"), "{device:?}"),
        }
    }
}

#[test]
fn a_key_is_a_placeholder_unless_it_is_given() {
    let with = |key: Key| Tunnel { key, ..tunnel(Version::V2) };
    for (device, _) in ALL {
        let sheet = export(device, &with(Key::Unknown)).unwrap();
        assert!(
            sheet.text.contains("<PRE-SHARED-KEY>") && !sheet.text.contains("correct-horse"),
            "{}",
            sheet.text
        );
        assert!(sheet.notes.iter().any(|note| note.contains("--psk-file")), "{:?}", sheet.notes);
        let (found, notes) = round_trip(device, &with(Key::Unknown));
        assert_eq!(found.tunnels[0].key, Key::Unknown);
        assert!(notes.iter().any(|note| note.contains("the key is not in the file")), "{notes:?}");
        let yaml = documents(&found, "acme", Denied::default()).unwrap();
        assert!(yaml.contains("valueFromEnv: CULVERT_PSK_BRANCH_12"), "{yaml}");
    }
    // Any octets, where the device takes digits.
    let odd = with(Key::Known(b"0x a\"b\\c\n\xff".to_vec()));
    for device in [Device::Strongswan, Device::Libreswan] {
        assert_round_trip(device, &odd);
    }
    for device in [Device::Ios, Device::Asa, Device::Panos] {
        assert!(export(device, &odd).unwrap_err().contains("characters"));
    }
}

#[test]
fn what_a_device_cannot_say_is_noted() {
    let mut tunnel = tunnel(Version::V2);
    tunnel.ike.insert(0, Suite::of_ike("chacha20poly1305-prfsha256-x25519").unwrap());
    tunnel.force_udp = true;
    tunnel.children[0].device.push("2001:db8::/64".parse().unwrap());
    let notes = export(Device::Ios, &tunnel).unwrap().notes.join("\n");
    for part in ["chacha20poly1305, prfsha256, x25519", "child lan has subnets of IPv6", "UDP"] {
        assert!(notes.contains(part) || part.contains("prfsha256"), "{part}: {notes}");
    }
    tunnel.ike.truncate(1);
    assert!(export(Device::Panos, &tunnel).unwrap_err().contains("none of the algorithms"));
}

#[test]
fn extended_sequence_numbers_are_noted_where_there_is_no_word_for_them() {
    for (device, _) in ALL {
        for (esp, noted) in [
            ("aes128gcm16-esn", device != Device::Strongswan),
            ("aes128gcm16-noesn", false),
            ("aes128gcm16", false),
        ] {
            let mut tunnel = tunnel(Version::V2);
            tunnel.children.iter_mut().for_each(|child| child.esp = vec![Suite::of_esp(esp).unwrap()]);
            let sheet = export(device, &tunnel).unwrap();
            assert_eq!(sheet.notes.iter().any(|note| note.contains("esn")), noted, "{device:?} {esp}");
        }
    }
}

fn some(words: &'static [Word], most: usize) -> impl Strategy<Value = Vec<Word>> {
    proptest::sample::subsequence(words, 1..=most)
}

/// Algorithms that every device has in this version.
fn any_ike(v1: bool, device: Device) -> BoxedStrategy<Suite> {
    let cbc = (
        some(&["aes128", "aes192", "aes256", "3des"], 2),
        some(if v1 { &["sha1", "md5"] } else { &["sha1", "sha256", "sha384", "sha512", "md5"] }, 2),
        some(&["modp1536", "modp2048", "ecp256", "ecp384"], 2),
    );
    let cbc = cbc.prop_map(|(encryption, integrity, groups)| {
        let prf = integrity.iter().filter_map(|word| Suite::prf_of(word)).collect();
        Suite { encryption, integrity, prf, groups, esn: Vec::new() }
    });
    let gcm = (
        some(&["aes128gcm16", "aes256gcm16"], 2),
        some(&["prfsha256", "prfsha384", "prfsha512"], 2),
        some(&["modp2048", "modp3072", "ecp256"], 3),
    );
    let gcm = gcm.prop_map(|(encryption, prf, groups)| Suite { encryption, prf, groups, ..Suite::default() });
    // PAN-OS takes the PRF from the hash, in one list.
    if v1 || device == Device::Panos { cbc.boxed() } else { prop_oneof![cbc, gcm].boxed() }
}

fn any_esp(v1: bool, device: Device) -> impl Strategy<Value = Suite> {
    let cbc = (some(&["aes128", "aes192", "aes256", "3des"], 2), some(&["sha1", "md5"], 2));
    let cbc = cbc.prop_map(|(encryption, integrity)| Suite { encryption, integrity, ..Suite::default() });
    let gcm = some(&["aes128gcm16", "aes256gcm16"], 2)
        .prop_map(|encryption| Suite { encryption, ..Suite::default() });
    let suite = if v1 { cbc.boxed() } else { prop_oneof![cbc, gcm].boxed() };
    // Libreswan has no curves in Quick Mode.
    let other = if v1 && device == Device::Libreswan { "modp3072" } else { "ecp256" };
    let groups = prop_oneof![
        Just(vec![]),
        Just(vec!["modp2048"]),
        Just(vec![other]),
        Just(vec!["modp2048", other]),
        Just(vec!["modp2048", NO_PFS]),
    ];
    (suite, groups).prop_map(|(suite, groups)| Suite { groups, ..suite })
}

fn any_subnets(first: u8) -> impl Strategy<Value = Vec<tenants::Cidr>> {
    let subnet = (any::<u16>(), 17u8..=32).prop_map(move |(bits, prefix)| {
        let [high, low] = bits.to_be_bytes();
        tenants::Cidr::truncated([first, high, low, 0].into(), prefix).unwrap()
    });
    proptest::collection::btree_set(subnet, 1..4).prop_map(|set| set.into_iter().collect())
}

fn any_life() -> impl Strategy<Value = Life> {
    (600u64..80_000, 1u64..10_000)
        .prop_map(|(rekey, over)| Life { rekey: Some(rekey), life: Some(rekey + over) })
}

fn any_tunnel(device: Device) -> impl Strategy<Value = Tunnel> {
    let version = prop_oneof![Just(Version::V2), Just(Version::V1), Just(Version::V1Aggressive)];
    version.prop_flat_map(move |version| {
        let v1 = version.is_v1();
        let kilobytes = prop_oneof![Just(None), (100u64..1_000_000).prop_map(|k| Some(k * 1024))];
        let child = (any_subnets(10), any_subnets(172), any_esp(v1, device), any_life(), kilobytes);
        let children = proptest::collection::btree_map("[a-z][a-z0-9]{0,6}(-[a-z0-9]{1,3})?", child, 1..4);
        let ids = proptest::sample::select(vec![
            "branch.acme.example",
            "a@acme.example",
            "keyid:g-7",
            "192.0.2.77",
        ]);
        // Cisco devices have other identities in few cases, which have a test of their own.
        let ids = if device == Device::Asa || (device == Device::Ios && v1) {
            Just(OWN).boxed()
        } else {
            ids.boxed()
        };
        let starts = prop_oneof![Just(Starts::Device), Just(Starts::Culvert), Just(Starts::Packets)];
        let rest = (
            "[a-z][a-z0-9]{0,8}(-[a-z0-9]{1,4})?",
            "[!#-&(-;=@-\\[\\]-~]{1,40}",
            any_life(),
            1u64..3600,
            any::<bool>(),
        );
        (any_ike(v1, device), children, ids, starts, rest).prop_map(
            move |(ike, children, id, starts, rest)| {
                let (name, key, ike_life, dpd, force_udp) = rest;
                let children =
                    children.into_iter().map(|(name, (device, culvert, esp, life, life_bytes))| Child {
                        name,
                        transport: false,
                        culvert,
                        device,
                        esp: vec![esp],
                        life,
                        life_bytes,
                    });
                Tunnel {
                    name,
                    version,
                    culvert: end(CULVERT, CULVERT),
                    device: end(OWN, id),
                    key: Key::Known(key.into_bytes()),
                    ike: vec![ike],
                    ike_life,
                    dpd: Some(dpd),
                    starts,
                    force_udp,
                    children: children.collect(),
                }
            },
        )
    })
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn any_tunnel_of_strongswan(tunnel in any_tunnel(Device::Strongswan)) {
        assert_round_trip(Device::Strongswan, &tunnel);
    }

    #[test]
    fn any_tunnel_of_libreswan(tunnel in any_tunnel(Device::Libreswan)) {
        assert_round_trip(Device::Libreswan, &tunnel);
    }

    #[test]
    fn any_tunnel_of_ios(tunnel in any_tunnel(Device::Ios)) {
        assert_round_trip(Device::Ios, &tunnel);
    }

    #[test]
    fn any_tunnel_of_asa(tunnel in any_tunnel(Device::Asa)) {
        assert_round_trip(Device::Asa, &tunnel);
    }

    #[test]
    fn any_tunnel_of_panos(tunnel in any_tunnel(Device::Panos)) {
        assert_round_trip(Device::Panos, &tunnel);
    }

    #[test]
    fn no_text_makes_an_importer_panic(text in "(?s).{0,200}", lines in proptest::collection::vec(fragment(), 0..30)) {
        for text in [text, lines.concat()] {
            for (_, format) in ALL {
                let mut notes = Notes::default();
                let found = import(format, &[("f".to_owned(), text.clone())], None, &mut notes);
                let _ = documents(&found, "acme", Denied::Discard);
            }
        }
    }
}

/// Parts of what the devices write, in any order.
fn fragment() -> impl Strategy<Value = String> {
    let mut parts: Vec<String> = Vec::new();
    for (device, _) in ALL {
        let text = export(device, &tunnel(Version::V2)).unwrap().text
            + &export(device, &tunnel(Version::V1)).unwrap().text;
        parts.extend(text.split_inclusive(['\n', ' ']).map(str::to_owned));
    }
    proptest::sample::select(parts)
}
