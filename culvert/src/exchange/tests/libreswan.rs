//! What Libreswan refuses of a proposal, or does not do as it says.

use super::*;

/// What Libreswan 4.10 takes, and nothing that makes it refuse the whole connection.
#[test]
fn proposals_are_those_that_libreswan_loads() {
    let text = |version: Version, ike: &str, esp: &[&str]| {
        let mut tunnel = tunnel(version);
        tunnel.ike = vec![Suite::of_ike(ike).unwrap()];
        tunnel.children.truncate(1);
        tunnel.children[0].esp = esp.iter().map(|text| Suite::of_esp(text).unwrap()).collect();
        export(Device::Libreswan, &tunnel).map(|sheet| sheet.text + &sheet.notes.join("\n"))
    };
    let esp = ["aes256gcm16-x25519-ecp256", "aes256-sha256-modp2048", "aes128-sha256-sha1-x25519-nopfs"];
    let said = text(Version::V2, "aes128-aescmac-sha256-x25519-modp1024", &esp).unwrap();
    for part in [
        "ike=aes128-sha2_256;dh31\n",
        "esp=aes_gcm256;dh31,aes128-sha2_256+sha1;dh31\n",
        "pfs=yes",
        "proposals without x25519 are left out",
        "aescmac",
        "modp1024",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    assert!(!said.contains("dpdtimeout") && !said.contains("auto=ignore"), "{said}");
    let esp = ["aes256gcm16-aes128gcm16-ecp256-modp2048", "aes256-sha1-sha256-modp2048-modp3072"];
    let said = text(Version::V1, "aes128-sha1-sha256-ecp256-modp2048", &esp).unwrap();
    for part in [
        "ike=aes128-sha1;dh19,aes128-sha1;dh14,aes128-sha2_256;dh19,aes128-sha2_256;dh14\n",
        "esp=aes_gcm256;dh14,aes_gcm128;dh14,aes256-sha1;dh14,aes256-sha2_256;dh14\n",
        "dpdtimeout=120s",
    ] {
        assert!(said.contains(part), "{part}: {said}");
    }
    let none = text(Version::V1, "aes128-sha1-modp2048", &["aes256-sha1-ecp256"]).unwrap_err();
    assert!(none.contains("none of the algorithms of child lan"), "{none}");
    let none = text(Version::V2, "aes128-sha1-modp1024", &["aes256-sha1"]).unwrap_err();
    assert!(none.contains("none of the algorithms of ike.proposals"), "{none}");
    for version in [Version::V1, Version::V2] {
        let said = text(version, "aes128-sha1-modp2048", &["aes256-sha1-ecp256-nopfs"]).unwrap();
        assert!(said.contains("esp=aes256-sha1\n") && said.contains("pfs=no"), "{said}");
    }
    let renewed = "renews it with the group of the IKE SA, as first ecp384, which espProposals has not";
    let said = text(Version::V2, "aes128-sha1-ecp384-x25519", &["aes256-sha1-modp2048-x25519"]).unwrap();
    assert!(said.contains("esp=aes256-sha1;dh31\n") && said.contains(renewed), "{said}");
    let said = text(Version::V2, "aes128-sha1-x25519-ecp384", &["aes256-sha1-modp2048-x25519"]).unwrap();
    assert!(said.contains("esp=aes256-sha1;dh31\n") && !said.contains("renews"), "{said}");
}
