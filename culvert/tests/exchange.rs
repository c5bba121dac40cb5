//! `culvert export` and `culvert import`, against a node of its own: what is printed for a device, and what becomes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Node, culvert};
use culvert_proto::v1;

const DEVICES: [(&str, &str); 5] =
    [("strongswan", "swanctl"), ("libreswan", "ipsec"), ("ios", "ios"), ("asa", "asa"), ("panos", "panos")];

/// A node with a peer that every device can be.
async fn node(mode: Option<v1::IkeV1Mode>) -> Node {
    let node = Node::with_tenant("acme").await;
    let version = if mode.is_some() { v1::IkeVersion::Ikev1 } else { v1::IkeVersion::Ikev2 };
    let request = v1::CreatePeerRequest {
        parent: "tenants/acme".into(),
        peer_id: "branch-12".into(),
        peer: Some(v1::Peer {
            local_identity: "198.51.100.1".into(),
            remote_identity: "192.0.2.12".into(),
            remote_addresses: vec!["192.0.2.12".into()],
            auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/acme/secrets/psk".into())) }),
            legacy: true,
            ike: Some(v1::IkeConfig {
                proposals: vec!["aes256-sha1-modp2048".into()],
                version: version.into(),
                v1: mode.map(|mode| v1::IkeV1Config { mode: mode.into(), ..Default::default() }),
                ..Default::default()
            }),
            children: vec![v1::Child {
                name: "lan".into(),
                local_subnets: vec!["10.0.0.0/16".into()],
                remote_subnets: vec!["10.12.0.0/24".into()],
                esp_proposals: vec!["aes256-sha1-modp2048".into()],
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    node.peers().create_peer(request).await.unwrap();
    node
}

async fn exported_imported_and_applied(mode: Option<v1::IkeV1Mode>) {
    let node = node(mode).await;
    let other = Node::with_tenant("globex").await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    let here = culvert(&node.address, &["get", "peer", "acme/branch-12", "-o", "json"]).await;
    let here: serde_json::Value = serde_json::from_str(&here.out).unwrap();
    // As an editor of Windows ends a line.
    std::fs::write(path("key"), "correct-horse\r\n").unwrap();
    for (device, format) in DEVICES {
        let said = culvert(&node.address, &["export", "acme/branch-12", "--for", device]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(
            said.out.contains("<PRE-SHARED-KEY>") && said.err.contains("note: put the pre-shared key"),
            "{}",
            said.err
        );
        assert!(said.out.contains("198.51.100.1"), "localIdentity says where the node is: {}", said.out);

        let arguments = ["export", "acme/branch-12", "--for", device, "--psk-file", &path("key")];
        let said = culvert(&node.address, &arguments).await;
        assert!(said.out.contains("correct-horse"), "{}", said.out);
        std::fs::write(path(device), &said.out).unwrap();

        let arguments =
            ["import", "--from", format, "-t", "globex", "--address", "192.0.2.12", &path(device)];
        let said = culvert("http://127.0.0.1:1", &arguments).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{device}");
        std::fs::write(path("manifest.yaml"), &said.out).unwrap();
        let said = culvert(&other.address, &["apply", "-f", &path("manifest.yaml")]).await;
        assert_eq!(said.code, 0, "{device}: {}", said.err);
        let said = culvert(&other.address, &["get", "peer", "globex/branch-12", "-o", "json"]).await;
        let there: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        // But for times of rekeying, which most devices do not say.
        for pointer in [
            "/localIdentity",
            "/remoteIdentity",
            "/remoteAddresses",
            "/legacy",
            "/ike/version",
            "/ike/v1",
            "/ike/proposals",
            "/ike/dpdInterval",
            "/ike/lifetime/lifeTime",
            "/children/0/name",
            "/children/0/mode",
            "/children/0/localSubnets",
            "/children/0/remoteSubnets",
            "/children/0/espProposals",
            "/children/0/lifetime/lifeTime",
        ] {
            assert_eq!(here.pointer(pointer), there.pointer(pointer), "{device} {pointer}");
        }
        let said = culvert(&other.address, &["delete", "peer", "globex/branch-12"]).await;
        assert_eq!(said.code, 0, "{}", said.err);
    }
    node.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn a_tunnel_of_ikev2_comes_back_from_every_device() {
    exported_imported_and_applied(None).await;
}

#[tokio::test]
async fn a_tunnel_of_ikev1_comes_back_from_every_device() {
    exported_imported_and_applied(Some(v1::IkeV1Mode::Main)).await;
    exported_imported_and_applied(Some(v1::IkeV1Mode::Aggressive)).await;
}

#[tokio::test]
async fn what_cannot_be_is_told_with_an_exit_code() {
    let node = node(None).await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("swanctl.conf");
    let file = file.to_str().unwrap();
    let import = ["import", "--from", "swanctl", "-t", "acme", file];
    let conf = "\
connections {
  b7 {
    local { auth = psk
      id = b7.example }
    remote { auth = psk
      id = vpn.example }
    vips = 0.0.0.0
    children { lan { local_ts = 10.7.0.0/24
      remote_ts = 10.0.0.0/16 } }
  }
}
";
    std::fs::write(file, conf).unwrap();
    let said = culvert(&node.address, &import).await;
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.starts_with(&format!("{file}:7: vips is not taken over\n")), "{}", said.err);
    assert!(said.err.contains("hint: set CULVERT_PSK_B7"), "{}", said.err);
    assert!(
        said.out.contains("valueFromEnv: CULVERT_PSK_B7") && said.out.contains("10.7.0.0/24"),
        "{}",
        said.out
    );

    std::fs::write(file, "authorities { }\n").unwrap();
    let said = culvert(&node.address, &import).await;
    assert_eq!((said.code, said.out.as_str()), (4, ""));
    assert!(said.err.starts_with(&format!("{file}:1: ")), "{}", said.err);

    let said = culvert(&node.address, &["import", "--from", "swanctl", "-t", "Acme!", file]).await;
    assert_eq!(said.code, 4, "{}", said.err);
    let said = culvert(&node.address, &["export", "acme/nobody", "--for", "ios"]).await;
    assert_eq!(said.code, 3, "{}", said.err);
    let said =
        culvert(&node.address, &["export", "acme/branch-12", "--for", "asa", "--address", "vpn.example"])
            .await;
    assert_eq!(said.code, 4);
    assert!(said.err.contains("ASA takes an address of Culvert"), "{}", said.err);
    let said =
        culvert(&node.address, &["export", "acme/branch-12", "--for", "ios", "--address", "a\nreload"]).await;
    assert_eq!(said.code, 4);
    assert!(said.err.contains("neither an address nor a host name"), "{}", said.err);
    // Both are among what a shell completes.
    let said = culvert(&node.address, &["completions", "bash"]).await;
    assert!(
        said.out.contains("culvert__subcmd__export") || said.out.contains("culvert__export"),
        "no completion"
    );
    node.stop().await;
}

/// An ordered list: some of it denied, and a key of which this is all that is known of the tenant.
const ORDERED: &str = "\
crypto isakmp policy 1
 encr aes 256
 authentication pre-share
 group 14
crypto isakmp key s3cret address 198.51.100.1
crypto ipsec transform-set S esp-aes 256 esp-sha-hmac
crypto map M 10 ipsec-isakmp
 set peer 198.51.100.1
 set transform-set S
 match address HQ
interface GigabitEthernet0/0
 ip address 192.0.2.12 255.255.255.0
 crypto map M
ip access-list extended HQ
 deny ip 10.12.0.0 0.0.0.255 host 10.0.0.9
 permit ip 10.12.0.0 0.0.0.255 10.0.0.0 0.0.255.255
";

/// A list of a device makes rules for a tenant, and says nothing else of it.
#[tokio::test]
async fn what_an_import_does_not_know_of_a_tenant_stays_as_it_is() {
    let node = Node::with_tenant("acme").await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("branch.cfg"), ORDERED).unwrap();
    let import = |more: &[&str]| {
        let file = path("branch.cfg");
        let arguments = [&["import", "--from", "ios", "-t", "acme", &file], more].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            culvert("http://127.0.0.1:1", &arguments).await
        }
    };
    let apply = |file: &str, more: &[&str]| {
        let file = path(file);
        let arguments = [&["apply", "-f", &file], more].concat();
        let arguments: Vec<String> = arguments.into_iter().map(str::to_owned).collect();
        let address = node.address.clone();
        async move {
            let arguments: Vec<&str> = arguments.iter().map(String::as_str).collect();
            culvert(&address, &arguments).await
        }
    };
    let tenant = || async {
        let said = culvert(&node.address, &["get", "tenant", "acme", "-o", "json"]).await;
        let tenant: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        let part = |field: &str| tenant.get(field).cloned().unwrap_or_default();
        let rules = tenant.pointer("/policy/rules").and_then(|r| r.as_array()).map_or(0, Vec::len);
        (part("displayName"), part("uplink"), part("quotas"), rules)
    };

    // A hub has no way out for what is denied, and that is told before.
    let said = import(&[]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(said.out.starts_with("---\nkind: Policy\nname: tenants/acme\n"), "{}", said.out);
    assert!(said.err.contains("need a TUN uplink of tenants/acme"), "{}", said.err);
    std::fs::write(path("bypass.yaml"), &said.out).unwrap();
    let said = apply("bypass.yaml", &[]).await;
    assert_eq!(said.code, 4, "{}", said.err);
    assert!(said.err.contains("(Policy tenants/acme)") && said.err.contains("BYPASS needs"), "{}", said.err);
    let said = import(&["--denied", "discard"]).await;
    assert!(!said.err.contains("TUN"), "{}", said.err);
    std::fs::write(path("discard.yaml"), &said.out).unwrap();
    let whole = "\
kind: Tenant
name: tenants/acme
displayName: Acme
uplink: {tun: {device: acme0, addresses: [10.0.0.1/16]}}
quotas: {maxPeers: 7}
";
    let hub = whole.replace("uplink: {tun: {device: acme0, addresses: [10.0.0.1/16]}}\n", "");
    for (file, manifest) in [("discard.yaml", hub.as_str()), ("bypass.yaml", whole)] {
        std::fs::write(path("tenant.yaml"), manifest).unwrap();
        let said = apply("tenant.yaml", &[]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        let before = tenant().await;
        assert_eq!((&before.0, before.3), (&serde_json::json!("Acme"), 0));

        let said = apply(file, &["--dry-run", "-o", "json"]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        let outcomes: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(outcomes.pointer("/0/name").unwrap(), "tenants/acme");
        let changes = outcomes.pointer("/0/changes").unwrap().as_array().unwrap();
        assert!(changes.iter().all(|change| change.as_str().unwrap().starts_with("policy")), "{changes:?}");
        assert_eq!(tenant().await, before);

        let said = apply(file, &[]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        let (name, uplink, quotas, rules) = tenant().await;
        assert_eq!((name, uplink, quotas, rules), (before.0, before.1, before.2, 2));
        let said = apply(file, &[]).await;
        assert!(said.out.contains("tenants/acme unchanged"), "{}", said.out);
    }

    // What names a part of an object deletes nothing.
    let file = path("bypass.yaml");
    let said = culvert(&node.address, &["delete", "-f", &file]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    assert!(
        said.out.contains("peers/hq deleted") && !said.out.contains("tenants/acme deleted"),
        "{}",
        said.out
    );
    assert!(said.err.contains("the policy of tenants/acme stays"), "{}", said.err);

    // Nor does it make one.
    std::fs::write(path("other.yaml"), "kind: Policy\nname: tenants/globex\nrules: []\n").unwrap();
    let said = apply("other.yaml", &[]).await;
    assert_eq!(said.code, 3, "{}", said.err);
    assert!(said.err.contains("there is no tenants/globex"), "{}", said.err);
    node.stop().await;
}
