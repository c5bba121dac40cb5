//! What stands in a configuration more than once, by reference, or is switched off there.

use super::Format;
use super::tests::{ike, read};

#[test]
fn a_connection_of_ipsec_conf_is_made_of_all_that_it_refers_to() {
    let conf = "\
conn ends
    left=192.0.2.12
    leftid=@branch.example
    right=198.51.100.1
    ike=aes128-sha1-modp1024
conn crypto
    ike=aes256-sha2_256-modp2048
    authby=secret
conn hq
    also=ends
    also=crypto
    also=nowhere
    leftsubnet=10.12.0.0/24
    rightsubnet=10.8.0.0/16
    rightsubnet=10.9.0.0/16
    auto=start
";
    let (found, _, notes) = read(Format::Ipsec, &[conf], None);
    let [tunnel] = found.tunnels.as_slice() else { panic!("{found:?}") };
    assert_eq!((tunnel.name.as_str(), tunnel.device.identity.to_string().as_str()), ("hq", "branch.example"));
    assert_eq!(ike(tunnel), ["aes256-sha256-prfsha256-modp2048"]);
    assert_eq!(tunnel.children[0].culvert[0].to_string(), "10.9.0.0/16");
    assert_eq!(notes.len(), 2, "{notes:#?}");
    assert!(notes.iter().any(|note| note.contains("also=nowhere leads nowhere")), "{notes:#?}");
    assert!(
        notes.iter().any(|note| note.starts_with("a.conf:14: rightsubnet is there once more")),
        "{notes:#?}"
    );
}

/// What two sections refer to gives way to both of them.
#[test]
fn what_several_refer_to_gives_way_to_each() {
    let conf = "\
conn %default
    also=nothing
conn base
    authby=secret
    left=192.0.2.12
    leftid=@branch.example
    right=198.51.100.1
    leftsubnet=10.12.0.0/24
    rightsubnet=10.8.0.0/16
    ike=aes128-sha1-modp1024
conn strong
    also=base
    ike=aes256-sha2_256-modp2048
conn site
    also=base
    also=round
    also=%default
conn round
    also=site
conn hq
    also=strong
    also=site
";
    let (found, _, notes) = read(Format::Ipsec, &[conf], None);
    let [tunnel] = found.tunnels.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (tunnel.name.as_str(), ike(tunnel)),
        ("hq", vec!["aes256-sha256-prfsha256-modp2048".to_owned()])
    );
    for line in [2, 17, 19] {
        assert!(notes.iter().any(|note| note.starts_with(&format!("a.conf:{line}: also="))), "{notes:#?}");
    }
}

/// It begins by itself; another that refers to it is made of it as well.
#[test]
fn a_connection_that_another_refers_to_is_one() {
    let conf = |auto: &str| {
        format!(
            "\
conn hq
    authby=secret
    left=192.0.2.12
    right=198.51.100.1
    leftsubnet=10.12.0.0/24
    rightsubnet=10.8.0.0/16
{auto}
conn hq-voice
    also=hq
    rightsubnet=10.9.0.0/16
    auto=start
"
        )
    };
    for (auto, names) in [
        ("    auto=start", vec!["hq", "hq-voice"]),
        ("    auto=ignore", vec!["hq-voice"]),
        ("", vec!["hq-voice"]),
    ] {
        let (found, ..) = read(Format::Ipsec, &[&conf(auto)], None);
        let children = found.tunnels.iter().flat_map(|tunnel| &tunnel.children);
        assert_eq!(children.map(|child| child.name.as_str()).collect::<Vec<_>>(), names, "{auto}");
    }
}

#[test]
fn what_is_disabled_at_a_firewall_stays_so() {
    let text = |extra: &str| {
        let mut text = String::from(
            "\
set network ike gateway GW authentication pre-shared-key key abc
set network ike gateway GW peer-address ip 198.51.100.1
set network ike gateway GW local-address ip 192.0.2.12/24
set network tunnel ipsec T auto-key ike-gateway GW
set network tunnel ipsec T auto-key proxy-id Lan local 10.1.0.0/16 remote 10.0.0.0/8
",
        );
        text.push_str(extra);
        text
    };
    for of in ["ike gateway GW", "tunnel ipsec T"] {
        let found = |word: &str| {
            let text = text(&format!("set network {of} disabled {word}\n"));
            let (found, _, notes) = read(Format::Panos, &[&text], None);
            (found.tunnels.len(), notes.iter().filter(|note| note.contains("is disabled")).count())
        };
        assert_eq!((found("no"), found("yes")), ((1, 0), (0, 1)), "{of}");
    }
}

#[test]
fn times_of_swanctl_conf_do_not_overflow() {
    let conf = "\
connections {
  b7 {
    remote_addrs = 198.51.100.1
    rekey_time = 18446744073709551615s
    over_time = 1
    local { auth = psk
      id = b7.example.net }
    remote { auth = psk
      id = vpn.example.net }
    children { lan { remote_ts = 10.0.0.0/16
      local_ts = 10.7.0.0/24 } }
  }
}
";
    let (found, _, _) = read(Format::Swanctl, &[conf], None);
    assert_eq!((found.tunnels.len(), found.tunnels[0].ike_life.life), (1, None));
}
