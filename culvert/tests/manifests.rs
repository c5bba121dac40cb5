//! Many objects at once: all of them or none, said before it is done, and what is printed can be applied.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::path::PathBuf;

use common::{Node, Said, culvert};
use serde_json::Value;

/// Files to apply to a node with the tenant `acme` and its secret `psk`.
struct Bench {
    node: Node,
    directory: tempfile::TempDir,
}

impl Bench {
    async fn new() -> Self {
        Self { node: Node::with_tenant("acme").await, directory: tempfile::tempdir().unwrap() }
    }

    fn file(&self, text: &str) -> PathBuf {
        let file = self.directory.path().join("m.yaml");
        std::fs::write(&file, text).unwrap();
        file
    }

    async fn run(&self, arguments: &[&str]) -> Said {
        culvert(&self.node.address, arguments).await
    }

    async fn apply(&self, text: &str, more: &[&str]) -> Said {
        let file = self.file(text);
        self.run(&[&["apply", "-f", file.to_str().unwrap()], more].concat()).await
    }

    /// What there is, without what a mere reading could change.
    async fn all(&self) -> Value {
        let said = self.run(&["get", "tenants", "peers", "secrets", "-o", "json"]).await;
        assert_eq!((said.code, said.err.as_str()), (0, ""));
        serde_json::from_str(&said.out).unwrap()
    }
}

fn peer(id: &str, subnet: &str) -> String {
    format!(
        "kind: Peer\nname: acme/{id}\nlocalIdentity: gw.example\nremoteIdentity: {id}.example\nauth: {{psk: psk}}\n\
         children:\n- {{name: lan, localSubnets: [10.0.0.0/16], remoteSubnets: [{subnet}]}}\n---\n"
    )
}

#[tokio::test]
async fn a_file_is_applied_whole_or_not_at_all() {
    let bench = Bench::new().await;
    let before = bench.all().await;
    // Each by itself could be had.
    let twins = peer("b1", "10.1.0.0/24") + &peer("b2", "10.2.0.0/24") + &peer("b3", "10.1.0.0/24");
    for more in [&["--dry-run"][..], &[]] {
        let said = bench.apply(&twins, more).await;
        assert_eq!((said.code, said.out.as_str()), (4, ""), "{}", said.err);
        let fault = "m.yaml, document 3 (Peer acme/b3): children[0].remoteSubnets[0]: 10.1.0.0/24 is behind";
        assert!(said.err.contains(fault), "{}", said.err);
        assert!(said.err.contains("nothing was changed"), "{}", said.err);
    }
    let lacking = format!("kind: Peer\nname: nowhere/b1\n---\n{}", peer("b1", "10.1.0.0/24"));
    assert_ne!(bench.apply(&lacking, &[]).await.code, 0);
    assert_eq!(bench.all().await, before);
    // What a refused object would have brought is not missed in others.
    let text = "kind: Peer\nname: new/b1\nlocalIdentity: a\nremoteIdentity: b\nauth: {psk: psk}\nchildren: \
                [{name: lan, localSubnets: [10.0.0.0/16], remoteSubnets: [10.1.0.0/24]}]\n---\nkind: Tenant\nname: new\n\
                quotas: {maxPeers: 9999999}\n";
    let said = bench.apply(text, &[]).await;
    assert!(said.err.contains("document 2 (Tenant new): quotas.maxPeers"), "{}", said.err);
    assert!(!said.err.contains("document 1"), "{}", said.err);
    bench.node.stop().await;
}

#[tokio::test]
async fn objects_are_checked_as_a_whole() {
    let bench = Bench::new().await;
    let said = bench.apply(&(peer("b1", "10.1.0.0/24") + &peer("b2", "10.2.0.0/24")), &[]).await;
    assert_eq!(said.code, 0, "{}", said.err);
    // Neither could take the other's subnet while that has it.
    let exchanged = peer("b1", "10.2.0.0/24") + &peer("b2", "10.1.0.0/24");
    for more in [&["--dry-run"][..], &[]] {
        let said = bench.apply(&exchanged, more).await;
        assert_eq!(said.code, 0, "{}", said.err);
        assert!(said.out.contains("0 created, 2 updated, 0 unchanged"), "{}", said.out);
    }
    // And a peer may stand before its secret and its tenant.
    let text = "kind: Peer\nname: new/b1\nlocalIdentity: a\nremoteIdentity: b\nauth: {psk: new/psk}\nchildren: \
                [{name: lan, localSubnets: [10.0.0.0/16], remoteSubnets: [10.1.0.0/24]}]\n---\nkind: Secret\n\
                name: new/psk\nvalue: x\n---\nkind: Tenant\nname: new\n";
    let said = bench.apply(text, &[]).await;
    assert!(said.out.ends_with("3 created, 0 updated, 0 unchanged\n"), "{}{}", said.out, said.err);
    bench.node.stop().await;
}

#[tokio::test]
async fn what_is_printed_can_be_applied() {
    let bench = Bench::new().await;
    let rules =
        "kind: Tenant\nname: acme\npolicy:\n  rules:\n  - {name: all, action: PROTECT, peer: b1}\n---\n";
    assert_eq!(bench.apply(&(rules.to_owned() + &peer("b1", "10.1.0.0/24")), &[]).await.code, 0);
    let whats = [
        &["tenants", "peers", "secrets"][..],
        &["tenants,peers,secrets"],
        &["peers"],
        &["acme/b1"],
        // One tenant by itself is shown with the rules that packets meet.
        &["tenant/acme"],
    ];
    for what in whats {
        for output in ["json", "yaml"] {
            let printed = bench.run(&[&["get", "-o", output], what].concat()).await.out;
            let said = bench.apply(&printed, &[]).await;
            assert_eq!((said.code, said.err.as_str()), (0, ""), "{what:?}");
            assert!(said.out.contains("0 created, 0 updated, "), "{}", said.out);
            assert!(!said.out.contains("    "), "noise: {}", said.out);
        }
    }
    // Printed before a change: what it would undo is refused, and so is nothing else.
    let printed = bench.run(&["get", "peers", "-o", "json"]).await.out;
    assert_eq!(bench.apply(&peer("b1", "10.9.0.0/24"), &[]).await.code, 0);
    let said = bench.apply(&printed, &[]).await;
    assert_eq!(said.code, 5, "{}", said.err);
    assert!(
        said.err.contains("item 1 (Peer tenants/acme/peers/b1): ") && said.err.contains("etag"),
        "{}",
        said.err
    );
    assert_eq!(bench.apply(&peer("b1", "10.1.0.0/24"), &[]).await.code, 0);
    let said = bench.apply(&printed, &[]).await;
    assert!(said.out.contains("0 updated, 1 unchanged"), "{}{}", said.out, said.err);
    // Deleted meanwhile, it is made again.
    assert_eq!(bench.run(&["delete", "acme/b1"]).await.code, 0);
    let said = bench.apply(&printed, &[]).await;
    assert!(said.out.contains("1 created"), "{}{}", said.out, said.err);
    bench.node.stop().await;
}

#[tokio::test]
async fn a_dry_run_says_what_a_change_interrupts_and_so_does_the_change() {
    let bench = Bench::new().await;
    let base = peer("b1", "10.1.0.0/24");
    assert_eq!(bench.apply(&base, &[]).await.code, 0);
    let tun = "kind: Tenant\nname: acme\nuplink: {tun: {device: acme0, addresses: [10.0.0.1/16]}}\n";
    let voice = "- {name: voice, localSubnets: [10.0.0.0/16], remoteSubnets: [10.7.0.0/24]}\n";
    let base = base.replace("---\n", "");
    let steps = [
        (tun.to_owned(), "interrupts all tunnels of the tenant: they start afresh, because of uplink"),
        (
            tun.replace("addresses", "mtu: 1380, addresses"),
            "interrupts all tunnels of the tenant: they start afresh, because of uplink",
        ),
        (format!("{base}{voice}"), "the IKE SA stays; added: voice; not interrupted: lan"),
        (
            base.replace("10.1.0.0/24", "10.2.0.0/24"),
            "the IKE SA stays; replaced: lan (a peer that has it in parts starts afresh); deleted: voice",
        ),
        (
            base.replace("10.1.0.0/24", "10.2.0.0/24") + "ike: {dpdInterval: 5s}\n",
            "running tunnels take over ike.dpd_interval; nothing is interrupted",
        ),
        (
            base.replace("10.1.0.0/24", "10.2.0.0/24")
                + "ike: {dpdInterval: 5s, proposals: [aes256gcm16-prfsha384-ecp384]}\n",
            "interrupts the tunnel: its IKE SA starts afresh, because of ike.proposals",
        ),
        (
            "kind: Secret\nname: acme/psk\nvalue: another\n".to_owned(),
            "running tunnels take over value; nothing is interrupted",
        ),
    ];
    for (text, expected) in steps {
        let dry = bench.apply(&text, &["--dry-run"]).await;
        let done = bench.apply(&text, &[]).await;
        assert_eq!((dry.code, done.code), (0, 0), "{}{}", dry.err, done.err);
        assert!(done.out.contains(&format!("\n    {expected}\n")), "{}", done.out);
        let without_mark = dry.out.replace(" (dry run)", "").replace(" (dry run: nothing was changed)", "");
        assert_eq!(without_mark, done.out);
    }
    let text = base.clone();
    let said = bench.apply(&text, &["--dry-run", "-o", "json"]).await;
    let outcomes: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(outcomes[0]["impact"]["effect"], "IKE_RESTART", "{outcomes}");
    bench.node.stop().await;
}

#[tokio::test]
async fn what_is_weaker_than_it_could_be_is_told() {
    let bench = Bench::new().await;
    let base = peer("b1", "10.1.0.0/24").replace("---\n", "");
    let old = |legacy: bool| {
        format!("{base}legacy: {legacy}\nike: {{version: IKEV1, proposals: [3des-sha1-modp1024]}}\n")
    };
    let said = bench.apply(&old(false), &["--dry-run"]).await;
    assert_eq!(said.code, 4, "{}", said.out);
    assert!(said.err.contains("ike.proposals[0]: 3des is legacy: "), "{}", said.err);
    assert!(said.err.contains("set legacy: true on the peer if it has nothing better"), "{}", said.err);

    let told = |out: &str| {
        let main = "\n    warning: IKEv1 in Main Mode from anywhere: ";
        let legacy =
            "\n    warning: legacy algorithms are allowed: 3des, sha1, modp1024, prfsha1 in ike.proposals";
        (out.contains(main), out.contains(legacy))
    };
    let dry = bench.apply(&old(true), &["--dry-run"]).await;
    assert_eq!((dry.code, told(&dry.out)), (0, (true, true)), "{}{}", dry.out, dry.err);
    let done = bench.apply(&old(true), &[]).await;
    assert_eq!((done.code, told(&done.out)), (0, (true, true)), "{}{}", done.out, done.err);
    // What is so already is told by a dry run alone.
    assert_eq!(told(&bench.apply(&old(true), &["--dry-run"]).await.out), (true, true));
    let again = bench.apply(&old(true), &[]).await;
    assert_eq!((again.code, told(&again.out)), (0, (false, false)), "{}{}", again.out, again.err);

    let said = bench.run(&["describe", "acme/b1"]).await;
    let (_, warnings) = said.out.split_once("\n\nWarnings:\n").unwrap();
    let lines: Vec<&str> = warnings.lines().take(3).collect();
    assert!(lines[0].starts_with("  IKEv1 in Main Mode") && lines[1].starts_with("  legacy"), "{lines:?}");
    assert_eq!(lines[2], "");
    let said = bench.run(&["get", "acme/b1", "-o", "json"]).await;
    let read: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!((&read["ike"]["version"], &read["ike"]["v1"]["mode"]), (&"IKEV1".into(), &"MAIN".into()));
    assert_eq!(read["warnings"].as_array().unwrap().len(), 2);
    let said = bench.apply(&said.out, &[]).await;
    assert!(said.out.contains("1 unchanged"), "{}{}", said.out, said.err);

    let outcomes = bench.apply(&base, &["--dry-run", "-o", "json"]).await;
    let outcomes: Value = serde_json::from_str(&outcomes.out).unwrap();
    assert_eq!(
        (&outcomes[0]["warnings"], &outcomes[0]["impact"]["effect"]),
        (&Value::Null, &"IKE_RESTART".into())
    );
    bench.node.stop().await;
}

#[tokio::test]
async fn a_dry_run_of_a_deletion_lists_what_goes() {
    let bench = Bench::new().await;
    let text = peer("b1", "10.1.0.0/24") + &peer("b2", "10.2.0.0/24");
    assert_eq!(bench.apply(&text, &[]).await.code, 0);
    let before = bench.all().await;
    let all = "tenants/acme/peers/b1 deleted\ntenants/acme/peers/b2 deleted\ntenants/acme/secrets/psk deleted\n\
               tenants/acme deleted\n";
    let dry = all.replace("deleted", "deleted (dry run)");
    let said = bench.run(&["delete", "tenant/acme", "--force", "--dry-run"]).await;
    assert_eq!((said.out, said.err), (dry.clone(), String::new()));
    // Without force it would be refused, and so is the dry run.
    for more in [&["--dry-run"][..], &[]] {
        let said = bench.run(&[&["delete", "tenant/acme"], more].concat()).await;
        assert_eq!((said.code, said.out.as_str()), (5, ""));
        assert!(said.err.contains("has 2 peers and 1 secrets"), "{}", said.err);
    }
    // A secret in use stays, and with it the rest.
    let said = bench.run(&["delete", "secret/acme/psk", "acme/b1"]).await;
    assert_eq!(said.code, 5);
    assert!(
        said.err.contains("tenants/acme/secrets/psk: ") && said.err.contains("in use by"),
        "{}",
        said.err
    );
    assert_eq!(bench.all().await, before);
    // By file, whatever the order in it.
    let file =
        bench.file(&format!("kind: Tenant\nname: acme\n---\nkind: Secret\nname: acme/psk\n---\n{text}"));
    let file = file.to_str().unwrap();
    let said = bench.run(&["delete", "-f", file, "--dry-run"]).await;
    assert_eq!((said.out, said.err), (dry, String::new()));
    assert_eq!(bench.all().await, before);
    let said = bench.run(&["delete", "-f", file]).await;
    assert_eq!((said.out.as_str(), said.err.as_str()), (all, ""));
    let said = bench.run(&["delete", "-f", file, "--ignore-not-found", "-o", "json"]).await;
    let outcomes: Value = serde_json::from_str(&said.out).unwrap();
    assert_eq!(outcomes.as_array().unwrap().len(), 4);
    assert!(outcomes.as_array().unwrap().iter().all(|one| one["action"] == "ignored"), "{outcomes}");
    bench.node.stop().await;
}

#[tokio::test]
async fn several_kinds_and_short_names_are_taken_everywhere() {
    let bench = Bench::new().await;
    let text = peer("b1", "10.1.0.0/24") + &peer("b2", "10.2.0.0/24");
    assert_eq!(bench.apply(&text, &[]).await.code, 0);
    let said = bench.run(&["get", "tenants", "peers", "secrets"]).await;
    let tables: Vec<&str> = said.out.split("\n\n").collect();
    assert_eq!(tables.len(), 3, "{}", said.out);
    assert!(tables[1].contains("tenants/acme/peers/b2") && tables[2].contains("secrets/psk"), "{}", said.out);
    let said = bench.run(&["get", "peers", "acme/b1", "acme/b2"]).await;
    assert_eq!(said.out.lines().count(), 3, "{}", said.out);
    for name in ["acme/b1", "peer/acme/b1", "tenants/acme/peers/b1"] {
        for command in ["get", "describe"] {
            let said = bench.run(&[command, name]).await;
            assert!(
                said.code == 0 && said.out.contains("tenants/acme/peers/b1"),
                "{command} {name}: {}",
                said.err
            );
        }
        // It is found; that it carries nothing is another matter.
        for command in ["initiate", "explain", "rekey", "terminate"] {
            let said = bench.run(&[command, name]).await;
            assert!(said.code == 6 && said.err.contains("no tunnels"), "{command} {name}: {}", said.err);
        }
    }
    assert!(bench.run(&["describe", "tenant/acme"]).await.out.contains("Rules"), "tenant/acme");
    assert_eq!(bench.run(&["describe", "peers"]).await.code, 4);
    assert_eq!(bench.run(&["delete", "peers"]).await.code, 4);
    let said = bench.run(&["delete", "peers", "acme/b1", "acme/b2"]).await;
    assert_eq!(said.out, "tenants/acme/peers/b1 deleted\ntenants/acme/peers/b2 deleted\n");
    bench.node.stop().await;
}
