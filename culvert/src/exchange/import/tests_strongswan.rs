//! What `swanctl.conf` and `ipsec.conf` mean by what they say, and by what they do not.

use super::Format;
use super::octets::text_of;
use super::tests::{ike, read};
use crate::exchange::model::{Key, Version};
use crate::exchange::suite::Suite;

fn ipsec(more: &str) -> String {
    format!(
        "\
conn hq
    left=192.0.2.12
    right=198.51.100.1
    leftsubnet=10.12.0.0/24
    rightsubnet=10.8.0.0/16
    auto=start
{more}"
    )
}

#[test]
fn pfs_goes_without_saying_where_it_does_at_the_device() {
    let esp = |more: &str| {
        let (found, _, notes) = read(Format::Ipsec, &[&ipsec(&format!("    authby=secret\n{more}"))], None);
        assert_eq!(notes, Vec::<String>::new());
        found.tunnels[0].children[0].esp.iter().map(Suite::esp_text).collect::<Vec<_>>()
    };
    for more in ["    pfs=yes\n", "", "    ikev2=no\n", "    ikev2=yes\n"] {
        let esp = esp(&format!("    esp=aes256-sha1\n{more}"));
        assert!(esp[0].contains("modp") || esp[0].contains("ecp"), "{more}: {esp:?}");
        assert!(esp[0].ends_with("-nopfs"), "{more}: {esp:?}");
    }
    for more in ["    pfs=no\n", "    keyexchange=ikev2\n"] {
        assert_eq!(esp(&format!("    esp=aes256-sha1\n{more}")), ["aes256-sha1"], "{more}");
    }
    assert_eq!(
        esp("    esp=aes256-sha1\n    pfs=yes\n    ike=aes256-sha1-modp1536\n"),
        ["aes256-sha1-modp1536-nopfs"]
    );
}

#[test]
fn who_does_not_say_how_he_authenticates_has_a_certificate() {
    let tunnels = |more: &str| {
        let (found, _, notes) = read(Format::Ipsec, &[&ipsec(more)], None);
        (found.tunnels.len(), notes.iter().any(|note| note.contains("pre-shared keys")))
    };
    assert_eq!(tunnels(""), (0, true));
    assert_eq!(tunnels("    authby=secret\n"), (1, false));
    assert_eq!(tunnels("    leftauth=psk\n"), (0, true));
    assert_eq!(tunnels("    leftauth=psk\n    rightauth=psk\n"), (1, false));
    assert_eq!(tunnels("    authby=secret\n    leftauth=psk\n"), (1, false));
    let swanctl = |local: &str, remote: &str| {
        let side = |id: &str| format!("auth = psk\n      id = {id}");
        let text =
            swanctl("", "secret = a").replace(&side("a.example"), local).replace(&side("b.example"), remote);
        let (found, _, notes) = read(Format::Swanctl, &[&text], None);
        (found.tunnels.len(), notes.iter().any(|note| note.contains("only psk is")))
    };
    assert_eq!(swanctl("auth = psk\n id = a.example", "auth = psk\n id = b.example"), (1, false));
    assert_eq!(swanctl("id = a.example", "auth = psk"), (0, true));
    assert_eq!(swanctl("auth = psk", "id = b.example"), (0, true));
}

fn swanctl(more: &str, secret: &str) -> String {
    format!(
        "\
connections {{
  b7 {{
    remote_addrs = 198.51.100.1
    local_addrs = 192.0.2.12
    {more}
    local {{ auth = psk
      id = a.example }}
    remote {{ auth = psk
      id = b.example }}
    children {{ lan {{ remote_ts = 10.0.0.0/16
      local_ts = 10.7.0.0/24 }} }}
  }}
}}
secrets {{
  ike-1 {{
    {secret}
  }}
}}
"
    )
}

#[test]
fn yes_is_said_in_many_ways() {
    for (word, is) in [
        ("yes", true),
        ("true", true),
        ("1", true),
        ("Enabled", true),
        ("no", false),
        ("0", false),
        ("false", false),
    ] {
        let more = format!("version = 1\n aggressive = {word}\n encap = {word}");
        let (found, _, notes) = read(Format::Swanctl, &[&swanctl(&more, "secret = a")], None);
        let tunnel = &found.tunnels[0];
        let version = if is { Version::V1Aggressive } else { Version::V1 };
        assert_eq!((tunnel.version, tunnel.force_udp), (version, is), "{word}");
        assert!(notes.is_empty(), "{notes:#?}");
        let more = format!(
            "    authby=secret\n    keyexchange=ikev1\n    aggressive={word}\n    forceencaps={word}\n"
        );
        let (found, _, notes) = read(Format::Ipsec, &[&ipsec(&more)], None);
        assert_eq!((found.tunnels[0].version, found.tunnels[0].force_udp), (version, is), "{word}");
        assert!(notes.is_empty(), "{notes:#?}");
    }
    let (_, _, notes) = read(Format::Swanctl, &[&swanctl("encap = perhaps", "secret = a")], None);
    assert!(notes.iter().any(|note| note.contains("perhaps")), "{notes:#?}");
}

#[test]
fn what_is_in_quotes_is_read_as_strongswan_does() {
    for (secret, key) in [
        (r#"secret = "a\\b""#, r"a\b"),
        (r#"secret = "a\"b" # the key"#, r#"a"b"#),
        (r#"secret = "a\tb""#, "a\tb"),
        (r#"secret = "a#}b\"""#, "a#}b\""),
    ] {
        let (found, _, notes) = read(Format::Swanctl, &[&swanctl("", secret)], None);
        assert_eq!(found.tunnels[0].key, Key::Known(key.as_bytes().to_vec()), "{secret}");
        assert!(notes.is_empty(), "{notes:#?}");
    }
}

#[test]
fn a_section_that_refers_to_another_is_told() {
    let text = swanctl("proposals = aes256-sha256-modp2048", "secret = a");
    let (found, ..) = read(Format::Swanctl, &[&text], None);
    assert_eq!(ike(&found.tunnels[0]).len(), 1);
    let text = text.replace("  b7 {", "  b7 : connections.base {");
    let (found, _, notes) = read(Format::Swanctl, &[&text], None);
    assert!(found.tunnels.is_empty());
    assert!(
        notes.iter().any(|note| note.starts_with("a.conf:2: ") && note.contains("connections.base")),
        "{notes:#?}"
    );
}

/// Each of these devices says the address that a name resolves to, and not the name.
#[test]
fn a_host_name_is_no_identity() {
    let names = |text: String| text.replace("198.51.100.1", "vpn.example.net");
    let conf = names(ipsec("    authby=secret\n"));
    let (found, _, notes) = read(Format::Ipsec, &[&conf], None);
    assert!(found.tunnels.is_empty() && notes.iter().any(|n| n.contains("rightid is missing")), "{notes:#?}");
    let (found, ..) = read(Format::Ipsec, &[&(conf + "    rightid=@vpn.example.net\n")], None);
    assert_eq!(found.tunnels[0].culvert.addresses, ["vpn.example.net"]);
    let text = names(swanctl("", "secret = a").replace("\n      id = b.example", ""));
    let (found, _, notes) = read(Format::Swanctl, &[&text], None);
    assert!(
        found.tunnels.is_empty() && notes.iter().any(|n| n.contains("no id of both sides")),
        "{notes:#?}"
    );
    let ios = "\
crypto isakmp policy 1
 encr aes
 authentication pre-share
 group 14
crypto isakmp key k hostname vpn.example.net
crypto ipsec transform-set S esp-aes esp-sha-hmac
crypto map M 10 ipsec-isakmp
 set peer vpn.example.net dynamic
 set transform-set S
 match address 100
access-list 100 permit ip 10.1.0.0 0.0.255.255 10.8.0.0 0.0.255.255
interface GigabitEthernet0/0
 ip address 192.0.2.12 255.255.255.0
 crypto map M
";
    let (found, _, notes) = read(Format::Ios, &[ios], None);
    assert!(found.tunnels.is_empty() && notes.iter().any(|n| n.starts_with("a.conf:7: ")), "{notes:#?}");
    let panos = "\
set network ike gateway GW authentication pre-shared-key key abc
set network ike gateway GW peer-address fqdn vpn.example.net
set network ike gateway GW local-address ip 192.0.2.12/24
set network tunnel ipsec T auto-key ike-gateway GW
";
    let (found, _, notes) = read(Format::Panos, &[panos], None);
    assert!(found.tunnels.is_empty() && !notes.is_empty(), "{notes:#?}");
}

#[test]
fn lives_that_are_no_times_are_told() {
    let of = |value: &str| {
        let (found, _, notes) =
            read(Format::Ipsec, &[&ipsec(&format!("    authby=secret\n    salifetime={value}\n"))], None);
        (found.tunnels[0].children[0].life.life, notes)
    };
    assert_eq!(of("1h"), (Some(3600), vec![]));
    assert_eq!(of("1w"), (Some(604_800), vec![]));
    let (life, notes) = of("1 fortnight");
    assert!(life.is_none() && notes[0].starts_with("a.conf:8: salifetime"), "{notes:#?}");
}

/// What is no UTF-8, as a comment or a key in the characters of 1990: the key is what the device has, and the identity is none.
#[test]
fn octets_that_are_no_text_do_not_become_others() {
    let of = |secret: &[u8]| {
        let file = [b"# gr\xfcezi\n".as_slice(), swanctl("", "SECRET").as_bytes()].concat();
        let at = file.windows(6).position(|part| part == b"SECRET").unwrap();
        let file = [&file[..at], secret, &file[at + 6..]].concat();
        read(Format::Swanctl, &[&text_of(&file).unwrap()], None)
    };
    let (found, yaml, notes) = of(b"secret = \"schl\xfcssel\"");
    assert_eq!(found.tunnels[0].key, Key::Known(b"schl\xfcssel".to_vec()));
    assert!(yaml.contains("valueBase64: c2NobPxzc2Vs") && notes.is_empty(), "{yaml} {notes:#?}");
    // Nor is the key of nobody that is understood one for all.
    let (found, _, notes) = of(b"id = gr\xfcezi.example\n secret = plain");
    assert_eq!(found.tunnels[0].key, Key::Unknown);
    assert_eq!(notes, ["a.conf:17: the identity gr\u{fffd}ezi.example is no UTF-8, and is not taken over"]);

    let conf = "conn a\n left=192.0.2.1\n right=192.0.2.2\n leftsubnet=10.1.0.0/16\n rightsubnet=10.2.0.0/16\n authby=secret\n auto=start\n";
    let of = |secrets: &[u8]| read(Format::Ipsec, &[conf, &text_of(secrets).unwrap()], None);
    assert_eq!(of(b": PSK \"schl\xfcssel\"").0.tunnels[0].key, Key::Known(b"schl\xfcssel".to_vec()));
    let (found, _, notes) = of(b"@gr\xfcezi : PSK \"plain\"");
    assert_eq!(found.tunnels[0].key, Key::Unknown);
    assert_eq!(notes.len(), 1, "{notes:#?}");
    assert!(notes[0].starts_with("b.conf:1: the identity @gr\u{fffd}ezi is no UTF-8"), "{notes:#?}");
}

/// A binary key stands in the manifest in base64.
#[test]
fn a_key_of_any_octets_is_in_the_manifest() {
    let (found, yaml, notes) = read(Format::Swanctl, &[&swanctl("", "secret = 0x00ff80")], None);
    assert_eq!(found.tunnels[0].key, Key::Known(vec![0, 0xff, 0x80]));
    assert!(yaml.contains("valueBase64: AP+A") && notes.is_empty(), "{yaml}");
}
