//! Peers of IKEv1, and those that have nothing better than legacy algorithms.

use ike::config::{Opening, Phase1};

use super::tests::{child, one_fault, tenant, valid};
use super::*;

/// With IKEv1, whatever else.
fn ikev1(peer: &mut v1::Peer) -> &mut v1::IkeConfig {
    let ike = peer.ike.get_or_insert_default();
    ike.version = v1::IkeVersion::Ikev1.into();
    ike
}

fn aggressive(peer: &mut v1::Peer) {
    let mode = v1::IkeV1Mode::Aggressive.into();
    ikev1(peer).v1 = Some(v1::IkeV1Config { mode, ..Default::default() });
}

fn with(change: impl FnOnce(&mut v1::Peer)) -> v1::Peer {
    let mut peer = valid();
    change(&mut peer);
    peer
}

fn parsed(change: impl FnOnce(&mut v1::Peer)) -> PeerSpec {
    let spec = PeerSpec::parse(&tenant(), &with(change)).unwrap();
    assert_eq!(PeerSpec::parse(&tenant(), &spec.to_proto()).unwrap(), spec, "what is read can be written");
    spec
}

fn texts(texts: &[&str]) -> Vec<String> {
    texts.iter().map(ToString::to_string).collect()
}

#[test]
fn the_version_has_its_defaults() {
    let spec = parsed(|_| {});
    assert_eq!((spec.ike.version, spec.ike.opening()), (IkeVersion::V2, Opening::Init));
    let written = spec.to_proto().ike.unwrap();
    assert_eq!((written.version(), written.v1), (v1::IkeVersion::Ikev2, None));

    let spec = parsed(|peer| ikev1(peer).proposals.clear());
    assert_eq!(spec.ike.version, IkeVersion::V1(IkeV1 { mode: Phase1::Main, life_kilobytes: None }));
    assert_eq!(spec.ike.proposals, ike::IkeProposal::defaults_in_v1().into());
    assert_eq!(spec.children[0].esp_proposals, ike::EspProposal::defaults_in_v1().into());
    let written = spec.to_proto().ike.unwrap();
    assert_eq!((written.version(), written.v1.unwrap().mode()), (v1::IkeVersion::Ikev1, v1::IkeV1Mode::Main));

    let spec = parsed(|peer| {
        aggressive(peer);
        ikev1(peer).v1.as_mut().unwrap().life_kilobytes = 4_000_000;
    });
    assert_eq!(spec.ike.opening(), Opening::Aggressive);
    assert_eq!(spec.to_proto().ike.unwrap().v1.unwrap().life_kilobytes, 4_000_000);
}

#[test]
fn what_one_version_alone_has_is_refused_with_the_other() {
    one_fault("ike.v1", "IKEV1 alone", |peer| {
        peer.ike = Some(v1::IkeConfig { v1: Some(v1::IkeV1Config::default()), ..Default::default() });
    });
    one_fault("ike.version", "expected IKEV2 or IKEV1", |peer| {
        peer.ike = Some(v1::IkeConfig { version: 3, ..Default::default() });
    });
    one_fault("ike.v1.mode", "expected MAIN or AGGRESSIVE", |peer| {
        ikev1(peer).v1 = Some(v1::IkeV1Config { mode: 9, ..Default::default() });
    });
    one_fault("ike.v1.life_kilobytes", "at most 4294967295", |peer| {
        ikev1(peer).v1 = Some(v1::IkeV1Config { life_kilobytes: 1 << 32, ..Default::default() });
    });
    one_fault("ike.reauth_time", "lifetime.rekey_time", |peer| {
        ikev1(peer).reauth_time = Some(prost_types::Duration { seconds: 3600, nanos: 0 });
    });
    one_fault("ike.proposals[1]", "no aes128gcm16", |peer| {
        ikev1(peer).proposals = texts(&["aes128-sha256-modp2048", "aes128gcm16-prfsha256-modp2048"]);
    });
    one_fault("ike.proposals[0]", "prfsha384", |peer| {
        ikev1(peer).proposals = texts(&["aes128-sha256-prfsha384-modp2048"]);
    });
    one_fault("children[0].resource_sas", "always one SA", |peer| {
        ikev1(peer).proposals.clear();
        peer.children[0].resource_sas = 2;
    });
    one_fault("ike.proposals", "room for 64", |peer| {
        let all = "aes128-aes192-aes256-sha256-sha384-sha512-modp2048-modp3072-modp4096-modp6144-ecp256-ecp384-ecp521-modp8192";
        ikev1(peer).proposals = texts(&[all]);
    });
    one_fault("children[0].esp_proposals[0]", "no chacha20poly1305", |peer| {
        ikev1(peer);
        peer.children[0].esp_proposals = texts(&["chacha20poly1305"]);
    });
    one_fault("children[0].esp_proposals[0]", "ike.version IKEV1", |peer| {
        peer.children[0].esp_proposals = texts(&["aes128-sha256_96"]);
    });
    one_fault("children[0].esp_proposals", "same number", |peer| {
        ikev1(peer);
        peer.children[0].esp_proposals = texts(&["aes128-sha256_96", "aes256-sha256"]);
    });
    parsed(|peer| {
        ikev1(peer);
        peer.children[0].esp_proposals = texts(&["aes128-sha256_96-sha512-modp2048", "aes128gcm16-esn"]);
    });
}

#[test]
fn a_child_of_ikev1_may_name_no_subnets() {
    let everything = |peer: &mut v1::Peer| {
        ikev1(peer);
        peer.children = vec![child("route", &[], &[])];
    };
    let spec = parsed(everything);
    assert_eq!(spec.to_proto().children[0].local_subnets, ["0.0.0.0/0"]);
    assert_eq!(spec.to_proto().children[0].remote_subnets, ["0.0.0.0/0"]);
    one_fault("children[0].local_subnets", "at least one", |peer| {
        ikev1(peer);
        peer.children = vec![child("half", &[], &["10.1.0.0/24"])];
    });
    one_fault("children[1].remote_subnets[0]", "\"route\"", |peer| {
        everything(peer);
        peer.children.push(child("again", &[], &[]));
    });
    let without = PeerSpec::parse(&tenant(), &with(|peer| peer.children = vec![child("none", &[], &[])]));
    assert_eq!(without.unwrap_err().iter().count(), 2, "IKEv2 is told what it protects");
}

#[test]
fn legacy_algorithms_have_to_be_asked_for() {
    let old = |peer: &mut v1::Peer| {
        peer.ike.get_or_insert_default().proposals =
            texts(&["aes256-sha256-modp2048", "3des-sha1-modp1024", "3des-md5-modp1536"]);
        peer.children[0].esp_proposals = texts(&["3des-md5"]);
    };
    for version in [v1::IkeVersion::Ikev1, v1::IkeVersion::Ikev2] {
        let mut peer = with(old);
        peer.ike.as_mut().unwrap().version = version.into();
        let faults = PeerSpec::parse(&tenant(), &peer).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(fields, ["ike.proposals[1]", "ike.proposals[2]", "children[0].esp_proposals[0]"]);
        for fault in &faults {
            let text = &fault.description;
            assert!(
                text.starts_with("3des is legacy: ") && text.contains("set legacy: true on the peer"),
                "{text}"
            );
        }
        peer.legacy = true;
        let spec = PeerSpec::parse(&tenant(), &peer).unwrap();
        assert!(spec.legacy && PeerSpec::parse(&tenant(), &spec.to_proto()).unwrap() == spec);
        let warnings = spec.warnings();
        let [warning] = warnings.as_slice() else { panic!("{warnings:?}") };
        let places = "3des, sha1, modp1024, prfsha1, md5, modp1536, prfmd5 in ike.proposals; 3des, md5 in \
                      children[lan].esp_proposals";
        assert!(warning.contains(places), "{warning}");
    }
    // To be allowed to is not to do it.
    assert!(parsed(|peer| peer.legacy = true).warnings().is_empty());
}

#[test]
fn what_is_weak_about_ikev1_is_told() {
    let warnings = |change: &dyn Fn(&mut v1::Peer)| parsed(|peer| change(peer)).warnings();
    assert!(warnings(&|_| {}).is_empty());
    assert!(warnings(&|peer| ikev1(peer).proposals.clear()).is_empty(), "from one address there is one key");
    for (addresses, from) in [(&[][..], "anywhere"), (&["192.0.2.1", "198.51.100.0/24"], "198.51.100.0/24")] {
        let found = warnings(&|peer| {
            ikev1(peer);
            peer.remote_addresses = texts(addresses);
        });
        let [warning] = found.as_slice() else { panic!("{found:?}") };
        assert!(warning.starts_with(&format!("IKEv1 in Main Mode from {from}: ")), "{warning}");
        assert!(warning.contains("64 are tried"), "{warning}");
    }
    let found = warnings(&aggressive);
    let [warning] = found.as_slice() else { panic!("{found:?}") };
    assert!(warning.contains("whoever asks as branch-12.acme.example"), "{warning}");
    assert!(warning.contains("tenants/acme/secrets/psk can be guessed offline"), "{warning}");
}
