//! What IOS and ASA say in other ways than one expects.

use super::Format;
use super::tests::read;
use crate::exchange::model::{Found, Key, Starts, Version};
use crate::exchange::suite::Suite;

const IOS: &str = "\
crypto ikev2 proposal DEF
 encryption aes-cbc-256
 integrity sha256
 group 14
crypto ikev2 policy DEF
 proposal DEF
crypto ipsec transform-set S esp-aes 256 esp-sha256-hmac
interface GigabitEthernet0
 ip address 192.0.2.12 255.255.255.0
";

/// A profile of IKEv2 with these lines, and a tunnel by it.
fn profile(name: &str, lines: &str) -> String {
    let mut text = format!("crypto ikev2 profile {name}\n");
    text.extend(lines.lines().map(|line| format!(" {line}\n")));
    text + &format!(
        "\
 authentication remote pre-share
 authentication local pre-share
crypto ipsec profile {name}
 set transform-set S
 set ikev2-profile {name}
"
    )
}

fn interface(name: &str, profile: &str, lines: &str) -> String {
    let mut text = format!("interface {name}\n tunnel source GigabitEthernet0\n");
    text.extend(lines.lines().map(|line| format!(" {line}\n")));
    text + &format!(" tunnel protection ipsec profile {profile}\n")
}

const TO_A: &str = "tunnel destination 198.51.100.1\ntunnel mode ipsec ipv4";

fn ios(parts: &[&str]) -> (Found, Vec<String>) {
    let (found, _, notes) = read(Format::Ios, &[&parts.concat()], None);
    (found, notes)
}

fn told(notes: &[String], part: &str) -> bool {
    notes.iter().any(|note| note.contains(part))
}

const RING: &str = "\
crypto ikev2 keyring K
 peer ANY
  address 0.0.0.0 0.0.0.0
  pre-shared-key ANYKEY
 peer A
  identity fqdn a.example
  pre-shared-key AAA
 peer B
  identity fqdn b.example
  pre-shared-key BBB
 peer C
  identity fqdn c.example
  pre-shared-key 6 XXXX
 peer D
  address 198.51.100.4
  pre-shared-key DDD
";

#[test]
fn a_key_of_a_keyring_is_that_of_the_identity_before_that_of_anybody() {
    let mut text = IOS.to_owned() + RING;
    for (at, name) in ["a", "b", "c", "d", "e"].iter().enumerate() {
        text += &profile(name, &format!("match identity remote fqdn {name}.example\nkeyring local K"));
        let destination = format!("tunnel destination 198.51.100.{}\ntunnel mode ipsec ipv4", at + 1);
        text += &interface(&format!("Tunnel{at}"), name, &destination);
    }
    let (found, notes) = ios(&[&text]);
    let known = |key: &str| Key::Known(key.as_bytes().to_vec());
    let keys: Vec<&Key> = found.tunnels.iter().map(|tunnel| &tunnel.key).collect();
    let expected = [known("AAA"), known("BBB"), Key::Unknown, known("DDD"), known("ANYKEY")];
    assert_eq!(keys, expected.iter().collect::<Vec<_>>(), "{notes:#?}");
    assert!(told(&notes, "the key is encrypted"), "{notes:#?}");
}

#[test]
fn an_identity_is_one_or_none() {
    for line in [
        "match identity remote fqdn domain example.com",
        "match identity remote email domain example.com",
        "match identity remote address 198.51.100.0 255.255.255.0",
        "match identity remote address 0.0.0.0",
        "match identity remote any",
        "match identity host domain example.com",
        "match identity user domain example.com",
        "match identity address 198.51.100.0 255.255.255.0",
        "match identity group VPN",
    ] {
        let more = profile("P", &format!("{line}\nkeyring local K"));
        let (found, notes) = ios(&[IOS, RING, &more, &interface("Tunnel1", "P", TO_A)]);
        let who: Vec<String> = found.tunnels.iter().map(|t| t.culvert.identity.to_string()).collect();
        assert!(who.iter().all(|who| who == "198.51.100.1"), "{line}: {who:?}");
        assert!(notes.iter().any(|note| note.starts_with("a.conf:27: ")), "{line}: {notes:#?}");
    }
    // Of two the first is taken, and the other told.
    let two =
        "match identity remote fqdn a.example\nmatch identity remote address 198.51.100.1 255.255.255.255";
    let more = profile("P", &format!("{two}\nkeyring local K"));
    let (found, notes) = ios(&[IOS, RING, &more, &interface("Tunnel1", "P", TO_A)]);
    assert_eq!(found.tunnels[0].culvert.identity.to_string(), "a.example");
    assert!(notes.iter().any(|note| note.starts_with("a.conf:28: ")), "{notes:#?}");
}

#[test]
fn gre_is_no_tunnel_of_ipsec() {
    let profile = profile("P", "match identity remote fqdn a.example\nkeyring local K");
    for lines in [
        "tunnel destination 198.51.100.1",
        "tunnel mode gre ip\ntunnel destination 198.51.100.1",
        "tunnel mode gre multipoint",
        "tunnel destination 198.51.100.1\ntunnel mode gre ip",
        "tunnel mode ipsec ipv4",
    ] {
        let (found, notes) = ios(&[IOS, RING, &profile, &interface("Tunnel1", "P", lines)]);
        assert!(found.tunnels.is_empty(), "{lines}: {found:?}");
        assert!(notes.iter().any(|note| note.contains("not taken over")), "{lines}: {notes:#?}");
    }
}

#[test]
fn a_tunnel_that_is_shut_down_stays_so() {
    let profile = profile("P", "match identity remote fqdn a.example\nkeyring local K");
    for (lines, tunnels) in [("no shutdown", 1), ("shutdown", 0)] {
        let (found, notes) =
            ios(&[IOS, RING, &profile, &interface("Tunnel1", "P", &format!("{lines}\n{TO_A}"))]);
        assert_eq!(
            (found.tunnels.len(), told(&notes, "is shut down")),
            (tunnels, tunnels == 0),
            "{notes:#?}"
        );
        let asa = ASA_INTERFACE.replace(" shutdown", &format!(" {lines}"));
        let (found, _, notes) = read(Format::Asa, &[&asa], None);
        assert_eq!(
            (found.tunnels.len(), told(&notes, "is shut down")),
            (tunnels, tunnels == 0),
            "{notes:#?}"
        );
    }
}

const ASA_INTERFACE: &str = "\
crypto ipsec ikev2 ipsec-proposal AES
 protocol esp encryption aes-256
 protocol esp integrity sha-256
crypto ipsec profile P
 set ikev2 ipsec-proposal AES
crypto ikev2 policy 1
 encryption aes-256
 integrity sha256
 group 14
 prf sha256
interface GigabitEthernet0/0
 nameif outside
 ip address 192.0.2.12 255.255.255.0
interface Tunnel1
 shutdown
 nameif vti
 tunnel source interface outside
 tunnel destination 198.51.100.1
 tunnel mode ipsec ipv4
 tunnel protection ipsec profile P
tunnel-group 198.51.100.1 type ipsec-l2l
tunnel-group 198.51.100.1 ipsec-attributes
 ikev2 remote-authentication pre-shared-key one
";

/// An ASA with one map entry, with these lines more.
fn asa(list: &str, more: &str) -> (Found, Vec<String>) {
    let text = format!(
        "\
access-list L extended permit ip 10.12.0.0 255.255.255.0 10.0.0.0 255.255.0.0
{list}
crypto ipsec ikev1 transform-set ESP-3DES-SHA esp-3des esp-sha-hmac
crypto ipsec ikev2 ipsec-proposal AES256
 protocol esp encryption aes-256
 protocol esp integrity sha-256
crypto map M 1 match address L
crypto map M 1 set peer 198.51.100.1
crypto map M interface outside
{more}
crypto ikev2 policy 1
 encryption aes-256
 integrity sha256
 group 14
 prf sha256
crypto ikev1 policy 1
 authentication pre-share
 encryption 3des
 hash sha
 group 2
interface GigabitEthernet0/0
 nameif outside
 ip address 192.0.2.12 255.255.255.0
tunnel-group 198.51.100.1 type ipsec-l2l
tunnel-group 198.51.100.1 ipsec-attributes
 ikev1 pre-shared-key one
 ikev2 remote-authentication pre-shared-key two
 ikev2 local-authentication pre-shared-key two
"
    );
    let (found, _, notes) = read(Format::Asa, &[&text], None);
    (found, notes)
}

const BOTH: &str = "\
crypto map M 1 set ikev1 transform-set ESP-3DES-SHA
crypto map M 1 set ikev2 ipsec-proposal AES256";

#[test]
fn an_entry_for_both_versions_is_of_the_second() {
    let (found, notes) = asa("", BOTH);
    let tunnel = &found.tunnels[0];
    let esp: Vec<String> = tunnel.children[0].esp.iter().map(Suite::esp_text).collect();
    assert_eq!(
        (tunnel.version, &tunnel.key, esp),
        (Version::V2, &Key::Known(b"two".to_vec()), vec!["aes256-sha256".to_owned()])
    );
    assert_eq!(notes.len(), 1, "{notes:#?}");
    assert!(notes[0].starts_with("a.conf:7: ") && notes[0].contains("one version of IKE"), "{notes:#?}");
    let (found, notes) = asa("", BOTH.lines().next().unwrap());
    assert_eq!((found.tunnels[0].version, notes.len()), (Version::V1, 0), "{notes:#?}");
}

#[test]
fn what_stands_behind_log_counts() {
    let of = |list: &str| asa(list, BOTH);
    for (rest, children) in [
        ("", 2),
        (" log", 2),
        (" log debugging interval 60", 2),
        (" log disable", 2),
        (" log inactive", 1),
        (" inactive", 1),
        (" log warnings interval 60 inactive", 1),
        (" log time-range NIGHT", 1),
    ] {
        let line =
            format!("access-list L extended permit ip 10.13.0.0 255.255.255.0 10.0.0.0 255.255.0.0{rest}");
        let (found, notes) = of(&line);
        assert_eq!(found.tunnels[0].children.len(), children, "{rest}: {notes:#?}");
        assert_eq!(
            notes.iter().any(|note| note.starts_with("a.conf:2: ")),
            children == 1,
            "{rest}: {notes:#?}"
        );
    }
}

#[test]
fn who_only_answers_is_called() {
    let more = |line: &str| format!("{BOTH}\n{line}");
    let (found, _) = asa("", BOTH);
    assert_eq!(found.tunnels[0].starts, Starts::Device);
    let (found, _) = asa("", &more("crypto map M 1 set connection-type answer-only"));
    assert_eq!(found.tunnels[0].starts, Starts::Culvert);
    let (found, _) = asa("", &more("crypto map M 1 set connection-type originate-only"));
    assert_eq!(found.tunnels[0].starts, Starts::Device);
    let responder = ASA_INTERFACE
        .replace(" set ikev2 ipsec-proposal AES\n", " set ikev2 ipsec-proposal AES\n responder-only\n")
        .replace(" shutdown\n", "");
    let (found, ..) = read(Format::Asa, &[&responder], None);
    assert_eq!(found.tunnels[0].starts, Starts::Culvert);
    let profile = profile("P", "match identity remote fqdn a.example\nkeyring local K") + " responder-only\n";
    let (found, _) = ios(&[IOS, RING, &profile, &interface("Tunnel1", "P", TO_A)]);
    assert_eq!(found.tunnels[0].starts, Starts::Culvert);
    let panos = |line: &str| {
        let text = format!(
            "\
set network ike gateway GW authentication pre-shared-key key abc
set network ike gateway GW peer-address ip 198.51.100.1
set network ike gateway GW local-address ip 192.0.2.12/24
set network ike gateway GW protocol version ikev2
{line}
set network tunnel ipsec T auto-key ike-gateway GW
set network tunnel ipsec T auto-key proxy-id a local 10.1.0.0/16 remote 10.8.0.0/16
"
        );
        read(Format::Panos, &[&text], None).0.tunnels[0].starts
    };
    assert_eq!(panos("set network ike gateway GW protocol-common passive-mode no"), Starts::Device);
    assert_eq!(panos("set network ike gateway GW protocol-common passive-mode yes"), Starts::Culvert);
}

#[test]
fn lifetimes_of_the_whole_device_are_those_of_each_child_without_one() {
    let global = "crypto ipsec security-association lifetime seconds 28800\ncrypto ipsec security-association lifetime kilobytes 1000\n";
    let lives = |found: &Found| {
        let child = &found.tunnels[0].children[0];
        (child.life.life, child.life_bytes)
    };
    let (found, _) = asa("", &format!("{BOTH}\n{global}"));
    assert_eq!(lives(&found), (Some(28_800), Some(1_024_000)));
    let own = "crypto map M 1 set security-association lifetime seconds 600";
    let (found, _) = asa("", &format!("{BOTH}\n{own}\n{global}"));
    assert_eq!(lives(&found), (Some(600), Some(1_024_000)));
    let profile = profile("P", "match identity remote fqdn a.example\nkeyring local K");
    let (found, _) = ios(&[IOS, RING, &profile, &interface("Tunnel1", "P", TO_A), global]);
    assert_eq!(lives(&found), (Some(28_800), Some(1_024_000)));
    let unlimited = "crypto ipsec security-association lifetime kilobytes unlimited\n";
    let (found, _) = asa("", &format!("{BOTH}\n{unlimited}"));
    assert_eq!(lives(&found), (None, None));
}

#[test]
fn policies_of_several_lifetimes_are_told() {
    let (_, notes) = asa(
        "",
        "\
crypto map M 1 set ikev2 ipsec-proposal AES256
crypto ikev2 policy 2
 encryption aes-256
 integrity sha256
 group 14
 prf sha256
 lifetime seconds 100
crypto ikev2 policy 3
 encryption aes
 integrity sha256
 group 14
 prf sha256
 lifetime seconds 200",
    );
    assert!(
        notes.iter().any(|note| note.starts_with("a.conf:17: ") && note.contains("lifetime")),
        "{notes:#?}"
    );
}

#[test]
fn what_the_device_takes_for_granted_is_told() {
    let profile = profile("P", "match identity remote fqdn a.example\nkeyring local K");
    let without = |part: &str| {
        let text = [IOS, RING, &profile, &interface("Tunnel1", "P", TO_A)].concat();
        ios(&[&text.replace(part, "")])
    };
    let (found, notes) = without(" set transform-set S\n");
    assert!(
        found.tunnels[0].children[0].esp.is_empty() && told(&notes, "defaults of its release"),
        "{notes:#?}"
    );
    let policy: String = IOS.lines().skip(4).take(2).map(|line| format!("{line}\n")).collect();
    let (found, notes) = without(&policy);
    assert!(found.tunnels[0].ike.is_empty() && told(&notes, "defaults of its release"), "{notes:#?}");
    assert!(!told(&without("nothing").1, "defaults of its release"));
}
