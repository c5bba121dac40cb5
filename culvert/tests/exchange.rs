//! `culvert export` and `culvert import`, against a node of its own: what is printed for a device, and what becomes of it.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use common::{Node, culvert};
use culvert_proto::v1;

const DEVICES: [(&str, &str); 5] =
    [("strongswan", "swanctl"), ("libreswan", "ipsec"), ("ios", "ios"), ("asa", "asa"), ("panos", "panos")];

/// A node with a peer that every device can be.
async fn node() -> Node {
    let node = Node::with_tenant("acme").await;
    let request = v1::CreatePeerRequest {
        parent: "tenants/acme".into(),
        peer_id: "branch-12".into(),
        peer: Some(v1::Peer {
            local_identity: "198.51.100.1".into(),
            remote_identity: "192.0.2.12".into(),
            remote_addresses: vec!["192.0.2.12".into()],
            auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk("tenants/acme/secrets/psk".into())) }),
            ike: Some(v1::IkeConfig {
                proposals: vec!["aes256-sha256-modp2048".into()],
                ..Default::default()
            }),
            children: vec![v1::Child {
                name: "lan".into(),
                local_subnets: vec!["10.0.0.0/16".into()],
                remote_subnets: vec!["10.12.0.0/24".into()],
                esp_proposals: vec!["aes256gcm16-modp2048".into()],
                ..Default::default()
            }],
            ..Default::default()
        }),
        ..Default::default()
    };
    node.peers().create_peer(request).await.unwrap();
    node
}

#[tokio::test]
async fn what_is_exported_can_be_imported_and_applied_elsewhere() {
    let node = node().await;
    let other = Node::with_tenant("globex").await;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name).to_str().unwrap().to_owned();
    std::fs::write(path("key"), "correct-horse\n").unwrap();
    for (device, format) in DEVICES {
        let said = culvert(&node.address, &["export", "acme/branch-12", "--for", device]).await;
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(
            said.out.contains("<PRE-SHARED-KEY>") && said.err.contains("note: put the pre-shared key"),
            "{}",
            said.err
        );
        assert!(said.out.contains("198.51.100.1"), "localIdentity says where the node is: {}", said.out);

        let arguments = [
            "export",
            "acme/branch-12",
            "--for",
            device,
            "--psk-file",
            &path("key"),
            "--address",
            "203.0.113.9",
        ];
        let said = culvert(&node.address, &arguments).await;
        assert!(said.out.contains("correct-horse") && said.out.contains("203.0.113.9"), "{}", said.out);
        std::fs::write(path(device), &said.out).unwrap();

        let arguments =
            ["import", "--from", format, "-t", "globex", "--address", "192.0.2.12", &path(device)];
        let said = culvert("http://127.0.0.1:1", &arguments).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""), "{device}");
        std::fs::write(path("manifest.yaml"), &said.out).unwrap();
        let said = culvert(&other.address, &["apply", "-f", &path("manifest.yaml")]).await;
        assert_eq!(said.code, 0, "{device}: {}", said.err);
        let said = culvert(&other.address, &["get", "peer", "globex/branch-12", "-o", "json"]).await;
        let peer: serde_json::Value = serde_json::from_str(&said.out).unwrap();
        assert_eq!(peer["ike"]["proposals"][0], "aes256-sha256-prfsha256-modp2048", "{device}");
        assert_eq!(peer["children"][0]["remoteSubnets"][0], "10.12.0.0/24", "{device}");
        assert_eq!(peer["remoteIdentity"], "192.0.2.12", "{device}");
        let said = culvert(&other.address, &["delete", "peer", "globex/branch-12"]).await;
        assert_eq!(said.code, 0, "{}", said.err);
    }
    node.stop().await;
    other.stop().await;
}

#[tokio::test]
async fn what_cannot_be_is_told_with_an_exit_code() {
    let node = node().await;
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("swanctl.conf");
    let file = file.to_str().unwrap();
    let import = ["import", "--from", "swanctl", "-t", "acme", file];
    let conf = "\
connections {
  b7 {
    local { id = b7.example }
    remote { id = vpn.example }
    vips = 0.0.0.0
    children { lan { local_ts = 10.7.0.0/24
      remote_ts = 10.0.0.0/16 } }
  }
}
";
    std::fs::write(file, conf).unwrap();
    let said = culvert(&node.address, &import).await;
    assert_eq!(said.code, 7, "{}", said.err);
    assert!(said.err.starts_with(&format!("{file}:5: vips is not taken over\n")), "{}", said.err);
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
    // Both are among what a shell completes.
    let said = culvert(&node.address, &["completions", "bash"]).await;
    assert!(
        said.out.contains("culvert__subcmd__export") || said.out.contains("culvert__export"),
        "no completion"
    );
    node.stop().await;
}
