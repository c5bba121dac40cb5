//! What a device calls its things tells them apart; what they are called here is for people.

use super::Format;
use super::tests::{children, read};

#[test]
fn proxy_ids_of_panos_are_told_apart_by_the_names_that_they_have() {
    let text = |first: &str, second: &str| {
        format!(
            "\
set network ike gateway GW authentication pre-shared-key key abc
set network ike gateway GW peer-address ip 198.51.100.1
set network ike gateway GW local-address ip 192.0.2.12/24
set network ike gateway GW protocol version ikev2
set network tunnel ipsec T auto-key ike-gateway GW
set network tunnel ipsec T auto-key proxy-id {first} local 10.1.0.0/16 remote 10.8.0.0/16
set network tunnel ipsec T auto-key proxy-id {second} local 10.2.0.0/16 remote 10.9.0.0/16
"
        )
    };
    // Not even what an exporter has taken apart is put together, unless it was all pairs.
    for (first, second, names) in [
        ("1", "2", ["net", "net-2"]),
        ("Lan_1", "lan-1", ["lan-1", "lan-1-2"]),
        ("1-hq", "2-hq", ["hq", "hq-2"]),
        ("hq--1", "hq--2", ["hq--1", "hq--2"]),
    ] {
        let (found, ..) = read(Format::Panos, &[&text(first, second)], None);
        let expected = [
            format!("{}: 10.8.0.0/16 = 10.1.0.0/16", names[0]),
            format!("{}: 10.9.0.0/16 = 10.2.0.0/16", names[1]),
        ];
        assert_eq!(children(&found.tunnels[0]), expected);
    }
}

#[test]
fn connections_of_ipsec_conf_are_told_apart_by_the_names_that_they_have() {
    let text = |first: &str, second: &str| {
        let conn = |name: &str, subnet: &str, more: &str| {
            format!(
                "\
conn {name}
    authby=secret
    left=192.0.2.12
    right=198.51.100.1
    leftsubnet=10.12.0.0/24
    rightsubnet={subnet}
    auto=start
{more}"
            )
        };
        conn(first, "10.8.0.0/16", "    ikelifetime=1h\n")
            + &conn(second, "10.9.0.0/16", "    ikelifetime=2h\n")
    };
    for (first, second, names) in [
        ("1", "2", ["net", "net-2"]),
        ("site_a", "site-a", ["site-a", "site-a-2"]),
        ("10-1-hq", "10-2-hq", ["hq", "hq-2"]),
    ] {
        let (found, _, notes) = read(Format::Ipsec, &[&text(first, second)], None);
        let expected = [
            format!("{}: 10.8.0.0/16 = 10.12.0.0/24", names[0]),
            format!("{}: 10.9.0.0/16 = 10.12.0.0/24", names[1]),
        ];
        assert_eq!(children(&found.tunnels[0]), expected);
        // What is said of the peer twice is told.
        assert!(
            notes.iter().any(|note| note.starts_with("a.conf:9: ") && note.contains("ikelifetime")),
            "{notes:#?}"
        );
    }
}

#[test]
fn a_number_does_not_make_a_name_too_long() {
    let long = "a".repeat(63);
    assert_eq!(super::free(&long, |name| name == long), format!("{}-2", "a".repeat(61)));
    let nearly = format!("{}-{}", "a".repeat(60), "b".repeat(2));
    assert_eq!(super::free(&nearly, |name| name == nearly), format!("{}-2", "a".repeat(60)));
}
