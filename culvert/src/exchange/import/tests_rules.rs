//! What the ordered lists of a device become: rules that decide of each packet as the device does.

use super::Format;
use super::tests::read;
use crate::exchange::manifest::{Denied, documents};
use crate::exchange::model::Found;

/// A peer on IOS with a crypto map entry, its list and its key.
fn entry(seq: u32, address: &str, list: &[&str]) -> String {
    let mut text = format!(
        "\
crypto isakmp key k{seq} address {address}
ip access-list extended LIST{seq}
"
    );
    text.extend(list.iter().map(|line| format!(" {line}\n")));
    text.push_str(&format!(
        "\
crypto map M {seq} ipsec-isakmp
 set peer {address}
 set transform-set S
 match address LIST{seq}
"
    ));
    text
}

const START: &str = "\
crypto isakmp policy 1
 encr aes
 authentication pre-share
 group 14
crypto ipsec transform-set S esp-aes esp-sha-hmac
interface GigabitEthernet0/0
 ip address 192.0.2.12 255.255.255.0
 crypto map M
";

const INTERFACE: &str = "\
crypto isakmp key k9 address 198.51.100.9
crypto ipsec profile P
 set transform-set S
interface Tunnel1
 tunnel source GigabitEthernet0/0
 tunnel destination 198.51.100.9
 tunnel mode ipsec ipv4
 tunnel protection ipsec profile P
";

/// Each rule as `PEER CHILD: Culvert = device protocol ports`, or what else it does.
fn rules(yaml: &str) -> Vec<String> {
    let policy = yaml.split("---\n").find(|document| document.contains("rule-1")).unwrap_or_default();
    let value: serde_json::Value = serde_yaml_ng::from_str(policy).unwrap_or_default();
    let rules = value.get("rules").or_else(|| value.get("policy")?.get("rules"));
    let list = |value: Option<&serde_json::Value>| {
        let all = value.and_then(|value| value.as_array()).cloned().unwrap_or_default();
        all.iter().filter_map(|one| one.as_str()).collect::<Vec<_>>().join(" ")
    };
    let text = |rule: &serde_json::Value| {
        let word = |field: &str| rule.get(field).and_then(|v| v.as_str()).unwrap_or_default().to_owned();
        let to = match word("action").as_str() {
            "PROTECT" => format!("{} {}", word("peer").rsplit('/').next().unwrap(), word("child")),
            other => other.to_owned(),
        };
        let (ours, theirs) = (list(rule.get("localSubnets")), list(rule.get("remoteSubnets")));
        let rest = [word("protocol"), list(rule.get("localPorts")), list(rule.get("remotePorts"))];
        let rest: Vec<String> = rest.into_iter().filter(|part| !part.is_empty()).collect();
        format!("{to}: {ours} = {theirs} {}", rest.join(" ")).trim_end().to_owned()
    };
    rules.and_then(|rules| rules.as_array()).into_iter().flatten().map(text).collect()
}

fn read_ios(parts: &[&str]) -> (Found, Vec<String>, Vec<String>) {
    let (found, yaml, notes) = read(Format::Ios, &[&parts.concat()], None);
    (found, rules(&yaml), notes)
}

/// A deny ends the list and not the map: the next entry is looked at.
#[test]
fn what_an_entry_denies_a_later_one_may_protect() {
    let first = entry(
        10,
        "198.51.100.1",
        &["permit ip 10.1.0.0 0.0.255.255 10.8.0.0 0.0.255.255", "deny ip any any"],
    );
    let second = entry(20, "198.51.100.2", &["permit ip 10.1.0.0 0.0.255.255 10.9.0.0 0.0.255.255"]);
    let (_, rules, _) = read_ios(&[START, &first, &second]);
    assert_eq!(
        rules,
        [
            "list10 net: 10.8.0.0/16 = 10.1.0.0/16",
            "list20 net: 10.9.0.0/16 = 10.1.0.0/16",
            "BYPASS:  = 0.0.0.0/0",
        ]
    );
    // Of a deny in front of its own permit what a later entry has of it is left to that one.
    let first = entry(
        10,
        "198.51.100.1",
        &[
            "deny tcp any 10.8.0.0 0.0.255.255 range 80 90",
            "permit ip 10.1.0.0 0.0.255.255 10.8.0.0 0.0.255.255",
        ],
    );
    let second =
        entry(20, "198.51.100.2", &["permit tcp 10.1.0.0 0.0.255.255 10.0.0.0 0.255.255.255 range 85 95"]);
    let (_, rules, _) = read_ios(&[START, &first, &second]);
    assert_eq!(
        rules,
        [
            "list20 net: 10.8.0.0/16 = 10.1.0.0/16 tcp 85-90",
            "BYPASS: 10.8.0.0/16 = 0.0.0.0/0 tcp 80-90",
            "list10 net: 10.8.0.0/16 = 10.1.0.0/16",
            "list20 net: 10.0.0.0/8 = 10.1.0.0/16 tcp 85-95",
        ]
    );
}

/// Two entries with the same other end are two entries all the same.
#[test]
fn entries_with_one_other_end_are_told_apart() {
    let first = entry(
        10,
        "198.51.100.1",
        &["permit ip 10.1.0.0 0.0.255.255 10.8.0.0 0.0.255.255", "deny ip any any"],
    );
    let second = entry(20, "198.51.100.1", &["permit ip 10.1.0.0 0.0.255.255 10.9.0.0 0.0.255.255"]);
    let (_, rules, _) = read_ios(&[START, &first, &second]);
    let at = |text: &str| rules.iter().position(|rule| rule.contains(text)).unwrap();
    assert!(at("10.9.0.0/16") < at("BYPASS"), "{rules:#?}");
}

/// The rules of a tenant say of all its traffic where it goes: what no rule has is dropped.
#[test]
fn every_child_has_a_rule_where_there_are_rules() {
    let map = entry(10, "198.51.100.1", &["permit tcp 10.1.0.0 0.0.255.255 10.8.0.0 0.0.255.255 eq 443"]);
    let (found, rules, notes) = read_ios(&[START, &map, INTERFACE]);
    assert_eq!(found.tunnels.len(), 2, "{notes:#?}");
    assert_eq!(rules, ["list10 net: 10.8.0.0/16 = 10.1.0.0/16 tcp 443", "p tunnel1: 0.0.0.0/0 = 0.0.0.0/0"]);
}

/// Whether what a list denies goes by a tunnel interface the routes of the device say, which are not read.
#[test]
fn what_a_list_denies_and_an_interface_may_take_is_told() {
    let map = entry(
        10,
        "198.51.100.1",
        &["deny tcp any 10.8.0.0 0.0.255.255 eq 80", "permit ip 10.1.0.0 0.0.255.255 10.8.0.0 0.0.255.255"],
    );
    let (_, rules, notes) = read_ios(&[START, &map, INTERFACE]);
    assert_eq!(rules[0], "p tunnel1: 10.8.0.0/16 = 0.0.0.0/0 tcp 80");
    assert!(
        notes.iter().any(|note| note.starts_with("a.conf:11: ") && note.contains("Tunnel1")),
        "{notes:#?}"
    );
}

/// Entries that all deny something of all the others would make a rule of each way through them.
#[test]
fn more_rules_than_a_tenant_has_are_none() {
    let read = |entries: u32| {
        let maps = (1..=entries).map(|at| {
            let list =
                [format!("deny tcp any any eq {at}"), format!("permit ip any 10.{at}.0.0 0.0.255.255")];
            entry(at, &format!("198.51.100.{at}"), &[&list[0], &list[1]])
        });
        let (found, rules, notes) = read_ios(&[START, &maps.collect::<String>()]);
        let told = notes.iter().any(|note| note.contains("more rules than a tenant has"));
        (found.tunnels.len(), rules.len(), told)
    };
    let (tunnels, few, told) = read(5);
    assert!(tunnels == 5 && few > 10 && !told, "{few}");
    assert_eq!(read(40), (40, 0, true));
}

/// What later entries would have of a packet is not known then.
#[test]
fn nothing_goes_in_the_clear_where_something_is_not_taken_over() {
    let denies =
        ["deny ip any 10.9.0.0 0.0.255.255", "permit ip 10.1.0.0 0.0.255.255 10.0.0.0 0.255.255.255"];
    let taken = entry(20, "198.51.100.1", &denies);
    let by_name =
        entry(30, "vpn.example.net dynamic", &["permit ip 10.1.0.0 0.0.255.255 10.9.0.0 0.0.255.255"]);
    let unread = entry(30, "198.51.100.2", &["permit tcp any 10.9.0.0 0.0.255.255 established"]);
    let actions = |texts: &[&str]| {
        let (found, _, _) = read_ios(texts);
        let text = documents(&found, "acme", Denied::Bypass).unwrap();
        (text.contains("action: BYPASS"), text.contains("action: DISCARD"))
    };
    assert_eq!(actions(&[START, &taken]), (true, false));
    for other in [by_name, unread] {
        assert_eq!(actions(&[START, &taken, &other]), (false, true), "{other}");
    }
}
