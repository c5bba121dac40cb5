//! Configurations as people have them: what is taken over, and what is said of the rest.

use std::net::IpAddr;

use super::{Format, import, key_of, plain_key, seconds};
use crate::exchange::manifest::{Denied, documents};
use crate::exchange::model::{Found, Key, Notes, Place, Starts, Tunnel, Version};
use crate::exchange::suite::Suite;

/// What is found, the manifests, and the notes.
pub(super) fn read(format: Format, files: &[&str], own: Option<&str>) -> (Found, String, Vec<String>) {
    let name = |at: usize| ["a.conf", "b.conf"][at].to_owned();
    let files: Vec<(String, String)> =
        files.iter().enumerate().map(|(at, text)| (name(at), (*text).to_owned())).collect();
    let own = own.map(|own| own.parse::<IpAddr>().unwrap());
    let mut notes = Notes::default();
    let found = import(format, &files, own, &mut notes);
    let yaml = documents(&found, "acme", Denied::default()).unwrap();
    (found, yaml, notes.lines())
}

/// Each child with its subnets, Culvert's first.
pub(super) fn children(tunnel: &Tunnel) -> Vec<String> {
    let text =
        |subnets: &[tenants::Cidr]| subnets.iter().map(ToString::to_string).collect::<Vec<_>>().join(" ");
    tunnel
        .children
        .iter()
        .map(|c| format!("{}: {} = {}", c.name, text(&c.culvert), text(&c.device)))
        .collect()
}

pub(super) fn ike(tunnel: &Tunnel) -> Vec<String> {
    tunnel.ike.iter().map(Suite::ike_text).collect()
}

fn esp(tunnel: &Tunnel, child: usize) -> Vec<String> {
    tunnel.children[child].esp.iter().map(Suite::esp_text).collect()
}

const IOS: &str = "\
hostname branch-7
!
crypto isakmp policy 1
 encr 3des
 authentication pre-share
 group 2
crypto isakmp policy 5
 encr aes 256
 hash sha256
 authentication pre-share
 group 14
crypto isakmp key s3cret address 198.51.100.1
crypto isakmp key 6 AAAA address 198.51.100.2
crypto isakmp keepalive 10 3 periodic
crypto isakmp fancy
!
crypto ipsec transform-set OLD esp-3des esp-sha-hmac
crypto ipsec transform-set NEW esp-aes 256 esp-sha256-hmac
 mode tunnel
crypto ipsec transform-set SEAL esp-seal esp-sha-hmac
!
crypto map VPN 10 ipsec-isakmp
 description to the concentrator
 set peer 198.51.100.1
 set peer 198.51.100.9
 set transform-set NEW OLD
 set pfs group14
 match address TO-HQ
crypto map VPN 20 ipsec-isakmp
 set peer 198.51.100.2
 set transform-set SEAL
 match address 120
crypto map VPN 30 ipsec-isakmp dynamic CLIENTS
!
interface GigabitEthernet0/0
 ip address 192.0.2.12 255.255.255.0
 crypto map VPN
!
ip access-list extended TO-HQ
 deny   tcp 10.12.0.0 0.0.0.255 10.0.0.0 0.0.255.255 eq www
 permit ip 10.12.0.0 0.0.0.255 10.0.0.0 0.0.255.255
 permit udp any host 10.9.0.1 range 5060 5061
access-list 120 permit ip 10.12.0.0 0.0.0.255 10.64.0.0 0.0.255.255
access-list 10 permit 10.0.0.0
ntp server 192.0.2.5
";

#[test]
fn an_ordered_list_of_ios_becomes_ordered_rules() {
    let (found, yaml, notes) = read(Format::Ios, &[IOS], None);
    let [hq, second] = found.tunnels.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (hq.name.as_str(), hq.version, &hq.key),
        ("to-hq", Version::V1, &Key::Known(b"s3cret".to_vec()))
    );
    assert_eq!((hq.device.addresses.as_slice(), hq.dpd), (&["192.0.2.12".to_owned()][..], Some(10)));
    assert_eq!(ike(hq), ["3des-sha1-prfsha1-modp1024", "aes256-sha256-prfsha256-modp2048"]);
    assert_eq!(esp(hq, 0), ["aes256-sha256-modp2048", "3des-sha1-modp2048"]);
    assert_eq!(children(hq), ["net-1: 10.0.0.0/16 = 10.12.0.0/24", "net-2: 10.9.0.1/32 = 0.0.0.0/0"]);
    assert_eq!((second.name.as_str(), &second.key), ("vpn", &Key::Unknown));
    let expected = "\
kind: Policy
name: tenants/acme
rules:
- name: rule-1
  action: BYPASS
  localSubnets:
  - 10.0.0.0/16
  remoteSubnets:
  - 10.12.0.0/24
  protocol: tcp
  localPorts:
  - '80'
- name: rule-2
  action: PROTECT
  localSubnets:
  - 10.0.0.0/16
  remoteSubnets:
  - 10.12.0.0/24
  peer: tenants/acme/peers/to-hq
  child: net-1
- name: rule-3
  action: PROTECT
  localSubnets:
  - 10.9.0.1/32
  remoteSubnets:
  - 0.0.0.0/0
  protocol: udp
  localPorts:
  - 5060-5061
  peer: tenants/acme/peers/to-hq
  child: net-2
- name: rule-4
  action: PROTECT
";
    assert!(yaml.starts_with(&format!("---\n{expected}")), "{yaml}");
    assert!(
        yaml.contains("legacy: true") && yaml.contains("version: IKEV1") && yaml.contains("mode: MAIN"),
        "{yaml}"
    );
    let expected = [
        "a.conf:13: the key is encrypted",
        "a.conf:15: the command is not taken over",
        "a.conf:20: esp-seal is no algorithm of Culvert",
        "a.conf:25: a peer of Culvert has one other end",
        "a.conf:29: there is no key for 198.51.100.2",
        "a.conf:29: left out, as there is no cipher",
        "a.conf:33: a dynamic map is for peers without an address",
        "a.conf:42: a child of Culvert has subnets",
    ];
    assert_eq!(notes.len(), expected.len(), "{notes:#?}");
    for (note, start) in notes.iter().zip(expected) {
        assert!(note.starts_with(start), "{start}: {note}");
    }
}

const ASA: &str = "\
hostname fw
domain-name branch.example
object network LAN
 subnet 10.12.0.0 255.255.255.0
object-group network HQ
 network-object 10.0.0.0 255.255.0.0
 network-object host 10.9.0.1
 group-object NOWHERE
access-list VPN extended permit ip object LAN object-group HQ
access-list OTHER extended permit tcp any any established
access-list VPN extended permit object-group SERVICES any any
crypto ipsec ikev2 ipsec-proposal MIXED
 protocol esp encryption aes-gcm-256 aes-256
 protocol esp integrity sha-256 null
crypto ipsec ikev2 ipsec-proposal WEAK
 protocol esp encryption des
crypto map OUT 1 match address VPN
crypto map OUT 1 set peer 198.51.100.1
crypto map OUT 1 set ikev2 ipsec-proposal MIXED
crypto map OUT 1 set pfs group24
crypto map OUT 1 set trustpoint CA
crypto map OUT interface outside
crypto isakmp identity hostname
crypto ikev2 policy 1
 encryption aes-256
 integrity sha256
 group 14
 prf sha384
 lifetime seconds 86400
crypto ikev2 enable outside
interface GigabitEthernet0/0
 nameif outside
 ip address 192.0.2.12 255.255.255.0
tunnel-group 198.51.100.1 type ipsec-l2l
tunnel-group 198.51.100.1 ipsec-attributes
 ikev1 pre-shared-key *****
 ikev2 remote-authentication pre-shared-key one
 ikev2 local-authentication pre-shared-key two
tunnel-group clients type remote-access
";

#[test]
fn asa_with_objects_names_and_two_keys() {
    let (found, yaml, notes) = read(Format::Asa, &[ASA], None);
    let [tunnel] = found.tunnels.as_slice() else { panic!("{found:?}") };
    assert_eq!(
        (tunnel.version, tunnel.device.identity.to_string().as_str()),
        (Version::V2, "fw.branch.example")
    );
    assert_eq!(children(tunnel), ["net: 10.0.0.0/16 10.9.0.1/32 = 10.12.0.0/24"]);
    assert_eq!(ike(tunnel), ["aes256-sha256-prfsha384-modp2048"]);
    assert_eq!(esp(tunnel, 0), ["aes256gcm16", "aes256-sha256"]);
    assert_eq!(tunnel.key, Key::Known(b"one".to_vec()));
    assert!(!yaml.contains("legacy") && yaml.contains("lifeTime: 86400s"), "{yaml}");
    let starts: Vec<&str> = notes.iter().map(|note| note.split(": ").next().unwrap()).collect();
    let lines = [8, 11, 16, 20, 21, 36, 38, 39].map(|line| format!("a.conf:{line}"));
    assert_eq!(starts, lines, "{notes:#?}");
}

#[test]
fn ipsec_conf_of_libreswan_with_its_secrets() {
    let conf = "\
config setup
    logfile=/var/log/pluto.log
conn %default
    authby=secret
    ikelifetime=8h
conn hq
    also=ends
    leftsubnet=10.12.0.0/24
    rightsubnets={10.0.0.0/16, 10.8.0.0/16}
    auto=start
conn hq-voice
    also=ends
    leftsubnet=10.12.9.0/24
    rightsubnet=10.9.0.0/16
    esp=aes_gcm256
    pfs=no
    auto=start
conn ends
    left=%defaultroute
    leftid=@branch.example
    right=198.51.100.1
    ike=aes256-sha2_256;modp2048,aes_gcm256-sha2_512-dh19
    dpddelay=30
    modecfgpull=yes
conn certs
    left=192.0.2.12
    right=198.51.100.7
    authby=rsasig
";
    let secrets = "@branch.example 198.51.100.1 : PSK \"a key\" # of 2026\n: RSA somewhere\n";
    let (found, yaml, notes) = read(Format::Ipsec, &[conf, secrets], None);
    let [tunnel] = found.tunnels.as_slice() else { panic!("{found:?}") };
    assert_eq!((tunnel.name.as_str(), tunnel.version, tunnel.starts), ("hq", Version::V2, Starts::Device));
    assert_eq!(tunnel.culvert.identity.to_string(), "198.51.100.1");
    assert_eq!(tunnel.key, Key::Known(b"a key".to_vec()));
    assert_eq!(ike(tunnel), ["aes256-sha256-prfsha256-modp2048", "aes256gcm16-prfsha512-ecp256"]);
    assert_eq!(
        children(tunnel),
        ["hq: 10.0.0.0/16 10.8.0.0/16 = 10.12.0.0/24", "hq-voice: 10.9.0.0/16 = 10.12.9.0/24"]
    );
    assert_eq!((esp(tunnel, 0), esp(tunnel, 1)), (vec![], vec!["aes256gcm16".to_owned()]));
    assert!(yaml.contains("lifeTime: 28800s") && !yaml.contains("remoteAddresses"), "{yaml}");
    assert_eq!(notes.len(), 3, "{notes:#?}");
    assert!(notes[0].starts_with("a.conf:24: modecfgpull"), "{notes:#?}");
    assert!(
        notes[1].starts_with("a.conf:28: authby=rsasig") && notes[2].starts_with("b.conf:2: "),
        "{notes:#?}"
    );
}

#[test]
fn ipsec_conf_in_the_words_of_strongswan() {
    let conf = "\
conn net
\tkeyexchange=ikev1
\taggressive=yes
\tike=aes256-sha1-modp1024!
\tesp=aes256-sha1!
\tleft=192.0.2.12
\tauthby=psk
\tright=198.51.100.1
\trightid=vpn.example
\tleftsubnet=10.1.0.0/16
\trightsubnet=10.2.0.0/16,10.3.0.0/16[tcp/80]
\tauto=route
";
    let (found, _, notes) = read(Format::Ipsec, &[conf], None);
    let tunnel = &found.tunnels[0];
    assert_eq!((tunnel.version, tunnel.starts), (Version::V1Aggressive, Starts::Packets));
    assert_eq!(
        (ike(tunnel), esp(tunnel, 0)),
        (vec!["aes256-sha1-prfsha1-modp1024".to_owned()], vec!["aes256-sha1".to_owned()])
    );
    assert_eq!(children(tunnel), ["net: 10.2.0.0/16 10.3.0.0/16 = 10.1.0.0/16"]);
    assert_eq!(notes.len(), 1, "{notes:#?}");
    assert!(notes[0].starts_with("a.conf:11: 10.3.0.0/16[tcp/80]: "));
}

const SWANCTL: &str = "\
# the other end
connections {
  Branch_7 { version = 0
    remote_addrs = vpn.example.net, %any   # by name
    local_addrs = 192.0.2.0/24
    proposals = aes256gcm-prfsha384-ecp384, default, aes256-sha256-rot13
    pools = clients
    local-1 { auth = psk
      id = keyid:branch 7 }
    remote { auth = psk
      id = vpn.example.net }
    children {
      lan { local_ts = 10.1.0.0/16, 10.2.0.1
        start_action = trap
      }
      self {
        mode = transport
        remote_ts = 198.51.100.1
      }
      clear { mode = pass }
    }
  }
  certs {
    local { auth = pubkey }
    remote { auth = psk }
    children { net { remote_ts = 10.0.0.0/8 } }
  }
}
secrets {
  ike-other { id = other.example
    secret = nothing }
  ike-7 { id-a = vpn.example.net
    secret = 0sYSBrZXk= }
  eap-x { secret = y }
}
include conf.d/*.conf
}
";

#[test]
fn swanctl_conf_in_all_its_forms() {
    let (found, yaml, notes) = read(Format::Swanctl, &[SWANCTL], None);
    // The first child lacks the side of Culvert, which a name does not say; the second that of the device.
    assert!(found.tunnels.is_empty() && yaml.is_empty(), "{found:?}");
    let starts: Vec<&str> = notes.iter().map(|note| note.split(": ").next().unwrap()).collect();
    let lines = [3, 3, 6, 7, 13, 16, 20, 24, 34, 36, 37].map(|line| format!("a.conf:{line}"));
    assert_eq!(starts, lines, "{notes:#?}");

    let text = SWANCTL.replace("local_ts = 10.1.0.0/16", "remote_ts = 10.0.0.0/8\n local_ts = 10.1.0.0/16");
    let (found, _, _) = read(Format::Swanctl, &[&text], None);
    let [tunnel] = found.tunnels.as_slice() else { panic!("{found:?}") };
    assert_eq!((tunnel.name.as_str(), tunnel.starts), ("branch-7", Starts::Packets));
    assert_eq!(tunnel.device.addresses, ["192.0.2.0/24"]);
    assert_eq!(
        (tunnel.device.identity.to_string().as_str(), &tunnel.key),
        ("keyid:branch 7", &Key::Known(b"a key".to_vec()))
    );
    assert_eq!(ike(tunnel), ["aes256gcm16-prfsha384-ecp384"]);
    assert_eq!(children(tunnel), ["lan: 10.0.0.0/8 = 10.1.0.0/16 10.2.0.1/32"]);
}

#[test]
fn sections_without_end_are_told() {
    let (found, _, notes) = read(Format::Swanctl, &[&"a {\n".repeat(100_000)], None);
    assert!(found.tunnels.is_empty());
    assert_eq!(notes.len(), 18, "{notes:#?}");
    assert!(notes[17].starts_with("a.conf:17: sections are nested deeper"), "{notes:#?}");
}

#[test]
fn a_gateway_that_is_replaced_has_its_sides_exchanged() {
    let conf = "\
connections {
  b7 {
    remote_addrs = 192.0.2.12
    local {
      auth = psk
      id = vpn.example.net
    }
    remote {
      auth = psk
      id = b7.example.net
    }
    children {
      lan {
        local_ts = 10.0.0.0/16
        remote_ts = 10.7.0.0/24
        start_action = start
      }
    }
  }
}
";
    let (found, _, notes) = read(Format::Swanctl, &[conf], None);
    assert!(notes.is_empty(), "{notes:?}");
    let found = found.exchanged();
    let [tunnel] = found.tunnels.as_slice() else { panic!() };
    assert_eq!(
        (tunnel.device.identity.to_string().as_str(), tunnel.starts),
        ("b7.example.net", Starts::Culvert)
    );
    assert_eq!(tunnel.device.addresses, ["192.0.2.12"]);
    assert_eq!(children(tunnel), ["lan: 10.0.0.0/16 = 10.7.0.0/24"]);
}

#[test]
fn panos_says_more_than_a_peer_has() {
    let text = "\
set deviceconfig system hostname fw
set network ike crypto-profiles ike-crypto-profiles P encryption [ aes-256-cbc des ]
set network ike crypto-profiles ike-crypto-profiles P hash sha256
set network ike crypto-profiles ike-crypto-profiles P dh-group [ group14 group1 ]
set network ike crypto-profiles ike-crypto-profiles P lifetime hours 8
set network ike gateway GW protocol version ikev2-preferred
set network ike gateway GW protocol ikev2 ike-crypto-profile P
set network ike gateway GW authentication pre-shared-key key \"-AQ==abc\"
set network ike gateway GW peer-address ip 198.51.100.1
set network ike gateway GW local-address ip 192.0.2.12/24
set network ike gateway GW protocol ikev2 require-cookie yes
set network ike crypto-profiles ipsec-crypto-profiles Q esp encryption aes-128-gcm
set network ike crypto-profiles ipsec-crypto-profiles Q esp authentication none
set network ike crypto-profiles ipsec-crypto-profiles Q dh-group no-pfs
set network ike crypto-profiles ipsec-crypto-profiles Q lifesize gb 2
set network tunnel ipsec T auto-key ike-gateway GW
set network tunnel ipsec T auto-key ipsec-crypto-profile Q
set network tunnel ipsec T auto-key proxy-id Lan local 10.1.0.0/16 remote 10.0.0.0/8 protocol tcp local-port 80
set network tunnel ipsec T tunnel-monitor enable yes
set network tunnel ipsec U auto-key ike-gateway MISSING
";
    let (found, yaml, notes) = read(Format::Panos, &[text], None);
    let [tunnel] = found.tunnels.as_slice() else { panic!("{found:?}") };
    assert_eq!((tunnel.name.as_str(), tunnel.device.identity.to_string().as_str()), ("gw", "192.0.2.12"));
    assert_eq!(children(tunnel), ["lan: 10.0.0.0/8 = 10.1.0.0/16"]);
    assert_eq!(
        (ike(tunnel), esp(tunnel, 0)),
        (vec!["aes256-sha256-prfsha256-modp2048".to_owned()], vec!["aes128gcm16".to_owned()])
    );
    assert!(yaml.contains("lifeBytes: 2147483648"), "{yaml}");
    let starts: Vec<&str> = notes.iter().map(|note| note.split(": ").next().unwrap()).collect();
    let lines = [2, 4, 8, 11, 16, 16, 18, 20].map(|line| format!("a.conf:{line}"));
    assert_eq!(starts, lines, "{notes:#?}");
    let (found, _, notes) = read(Format::Panos, &["<config version=\"10\">\n"], None);
    assert!(found.tunnels.is_empty() && notes[0].contains("XML is not read"), "{notes:?}");
}

#[test]
fn times_have_units_and_keys_digits() {
    for (text, expected) in
        [("3600", Some(3600)), ("60m", Some(3600)), ("1h", Some(3600)), ("1d", Some(86_400))]
    {
        assert_eq!(seconds(text), expected);
    }
    assert_eq!((seconds("h"), seconds("1y"), seconds("")), (None, None, None));
    let (mut notes, place) = (Notes::default(), Place { file: "f".into(), line: 1 });
    assert_eq!(key_of("0x6162", &place, &mut notes), Key::Known(b"ab".to_vec()));
    assert_eq!(key_of("\"0x6162\"", &place, &mut notes), Key::Known(b"0x6162".to_vec()));
    assert!(notes.is_empty());
    assert_eq!(plain_key("0x6162", &place, &mut notes), Key::Known(b"0x6162".to_vec()));
    assert_eq!(key_of("0sYWI=", &place, &mut notes), Key::Known(b"ab".to_vec()));
    assert!(notes.is_empty());
    assert_eq!(plain_key("*****", &place, &mut notes), Key::Unknown);
    assert_eq!(key_of("0x616", &place, &mut notes), Key::Unknown);
    assert_eq!(notes.lines().len(), 2);
}
