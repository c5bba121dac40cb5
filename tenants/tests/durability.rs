//! What was acknowledged is there after `kill -9`, and what the disk holds is what memory held.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

mod common;

use std::io::{BufRead as _, BufReader, Write as _};
use std::os::unix::fs::PermissionsExt as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;

use common::{create_peer, create_secret, create_tenant, peer};
use culvert_proto::v1;
use ike::config::Opening;
use proptest::prelude::*;
use tenants::store::{MemoryStore, Vault};
use tenants::{Catalog, Error, PeerName, SecretName, TenantName};

/// Set in the child process: the state directory to write into.
const CHILD: &str = "CULVERT_TEST_DURABILITY_DIR";
/// Times a writer is killed. Each time it is killed after another number of acknowledgements.
const KILLS: usize = 5;

/// Not a test by itself: the process that is killed. Creates peers for ever and says so after each.
#[test]
fn child_that_writes() {
    let Ok(directory) = std::env::var(CHILD) else {
        return;
    };
    let catalog = Catalog::open(Path::new(&directory)).unwrap();
    let mut out = std::io::stdout();
    for i in catalog.peers().len().. {
        let subnet = format!("10.{}.{}.0/24", i / 256, i % 256);
        let peer = catalog.create_peer(&create_peer(peer("acme", &format!("b{i:05}"), &subnet))).unwrap();
        writeln!(out, "ack {} {} {}", peer.name, peer.uid, peer.meta.etag()).unwrap();
        out.flush().unwrap();
    }
}

#[test]
fn acknowledged_writes_survive_kill_9() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    {
        let catalog = Catalog::open(&state).unwrap();
        let quotas = Some(v1::Quotas { max_peers: 100_000, ..Default::default() });
        let tenant = Some(v1::Tenant { quotas, ..Default::default() });
        catalog.create_tenant(&v1::CreateTenantRequest { tenant, ..create_tenant("acme") }).unwrap();
        catalog.create_secret(create_secret("acme", "psk", b"correct horse")).unwrap();
    }
    let mut acknowledged: Vec<(PeerName, u64, String)> = Vec::new();
    for round in 0..KILLS {
        let mut child = Command::new(std::env::current_exe().unwrap())
            .args(["--exact", "child_that_writes", "--nocapture"])
            .env(CHILD, &state)
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let mut lines = BufReader::new(child.stdout.take().unwrap()).lines();
        let mut seen = 0;
        while let Some(Ok(line)) = lines.next() {
            // The test harness of the child prints too, even in front of an acknowledgement.
            let Some((_, ack)) = line.split_once("ack ") else {
                continue;
            };
            let parts: Vec<&str> = ack.split(' ').collect();
            acknowledged.push((parts[0].parse().unwrap(), parts[1].parse().unwrap(), parts[2].to_owned()));
            seen += 1;
            // What it said before it died but we had not read yet is read in the turns after this.
            if seen == 3 + round * 7 {
                child.kill().unwrap();
            }
        }
        child.wait().unwrap();
        assert!(seen >= 3 + round * 7, "the writer ended by itself after {seen}");

        let catalog = Catalog::open(&state).unwrap();
        for (name, uid, etag) in &acknowledged {
            let peer =
                catalog.get_peer(name).unwrap_or_else(|| panic!("{name} was acknowledged and is lost"));
            assert_eq!((peer.uid, &peer.meta.etag()), (*uid, etag));
        }
        // Each has its line in the audit log, and once.
        let mut audited = std::collections::HashMap::new();
        let mut token = String::new();
        loop {
            let page = catalog.page_audit("", 1000, &token).unwrap();
            for object in page.items.iter().flat_map(|entry| &entry.objects) {
                *audited.entry(object.name.clone()).or_insert(0) += 1;
            }
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        for (name, ..) in &acknowledged {
            assert_eq!(audited.get(&name.to_string()), Some(&1), "{name}");
        }
        // One more may have been written per kill without its acknowledgement getting out.
        assert!(catalog.peers().len() <= acknowledged.len() + round + 1);
        let psk: SecretName = "tenants/acme/secrets/psk".parse().unwrap();
        assert_eq!(catalog.resolve_secret(&psk).unwrap().as_slice(), b"correct horse");
    }
}

#[test]
fn a_state_directory_has_one_owner_and_keeps_its_key() {
    let directory = tempfile::tempdir().unwrap();
    let catalog = Catalog::open(directory.path()).unwrap();
    let error = Catalog::open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("in use by another process"), "{error}");
    catalog.create_tenant(&create_tenant("acme")).unwrap();
    catalog.create_secret(create_secret("acme", "psk", b"hunter2hunter2")).unwrap();
    drop(catalog);

    for file in ["catalog.redb", "secrets.key"] {
        let mode = std::fs::metadata(directory.path().join(file)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{file}");
    }
    let octets = std::fs::read(directory.path().join("catalog.redb")).unwrap();
    assert!(!octets.windows(7).any(|window| window == b"hunter2"));
    let key = directory.path().join("secrets.key");
    std::fs::rename(&key, directory.path().join("elsewhere")).unwrap();
    let error = Catalog::open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("secrets.key: missing"), "{error}");
    Vault::create(&key).unwrap();
    let error = Catalog::open(directory.path()).err().unwrap().to_string();
    assert!(error.contains("does not open with the key"), "{error}");
}

#[test]
fn a_key_that_somebody_else_keeps_is_read_and_never_written() {
    let directory = tempfile::tempdir().unwrap();
    let (state, mounted) = (directory.path().join("state"), directory.path().join("mounted"));
    let open = || {
        let options = tenants::Options { key_file: Some(mounted.clone()), ..Default::default() };
        Catalog::open_with(&state, &options)
    };
    let error = open().err().unwrap().to_string();
    assert!(error.contains("mounted: is missing"), "{error}");
    std::fs::write(&mounted, [7; 32]).unwrap();
    let mode = |mode| std::fs::set_permissions(&mounted, std::fs::Permissions::from_mode(mode)).unwrap();
    mode(0o644);
    let error = open().err().unwrap().to_string();
    assert!(error.contains("chmod 440"), "{error}");
    mode(0o440);
    let catalog = open().unwrap();
    catalog.create_tenant(&create_tenant("acme")).unwrap();
    catalog.create_secret(create_secret("acme", "psk", b"hunter2hunter2")).unwrap();
    drop(catalog);
    assert!(!state.join("secrets.key").exists());
    let catalog = open().unwrap();
    let name = "tenants/acme/secrets/psk".parse().unwrap();
    assert_eq!(catalog.resolve_secret(&name).unwrap().as_slice(), b"hunter2hunter2");
    drop(catalog);
    mode(0o600);
    std::fs::write(&mounted, [8; 32]).unwrap();
    let error = open().err().unwrap().to_string();
    assert!(error.contains("mounted: not the key of") && error.contains("catalog.redb"), "{error}");
}

/// One operation of a random history over few names, so that they meet.
#[derive(Clone, Debug)]
enum Step {
    Put { tenant: u8, peer: u8, subnet: u8, identity: u8, address: u8, opening: u8 },
    Delete { tenant: u8, peer: u8 },
    DropTenant { tenant: u8 },
}

fn any_step() -> impl Strategy<Value = Step> {
    prop_oneof![
        6 => (0u8..2, 0u8..4, 0u8..4, 0u8..3, 0u8..4, 0u8..3).prop_map(
            |(tenant, peer, subnet, identity, address, opening)| {
                Step::Put { tenant, peer, subnet, identity, address, opening }
            }
        ),
        2 => (0u8..2, 0u8..4).prop_map(|(tenant, peer)| Step::Delete { tenant, peer }),
        1 => (0u8..2).prop_map(|tenant| Step::DropTenant { tenant }),
    ]
}

fn run(catalog: &Catalog, step: &Step) -> Result<(), Error> {
    match step {
        Step::Put { tenant, peer: id, subnet, identity, address, opening } => {
            let tenant = format!("t{tenant}");
            let name: TenantName = format!("tenants/{tenant}").parse().unwrap();
            if catalog.get_tenant(&name).is_none() {
                catalog.create_tenant(&create_tenant(&tenant)).unwrap();
                catalog.create_secret(create_secret(&tenant, "psk", b"x")).unwrap();
            }
            let addresses = ["", "192.0.2.1", "192.0.2.0/24", "198.51.100.1"];
            let address = addresses[usize::from(*address)].to_owned();
            let mut ike = v1::IkeConfig::default();
            if let Some(mode) = [v1::IkeV1Mode::Main, v1::IkeV1Mode::Aggressive].get(usize::from(*opening)) {
                ike.version = v1::IkeVersion::Ikev1.into();
                ike.v1 = Some(v1::IkeV1Config { mode: (*mode).into(), ..Default::default() });
            }
            let peer = v1::Peer {
                ike: Some(ike),
                remote_identity: format!("i{identity}"),
                remote_addresses: vec![address].into_iter().filter(|a| !a.is_empty()).collect(),
                ..peer(&tenant, &format!("p{id}"), &format!("10.{subnet}.0.0/24"))
            };
            let update_mask = common::mask(&["*"]);
            let update = v1::UpdatePeerRequest {
                peer: Some(peer),
                allow_missing: true,
                update_mask,
                ..Default::default()
            };
            catalog.update_peer(&update).map(|_| ())
        }
        Step::Delete { tenant, peer } => catalog
            .delete_peer(&v1::DeletePeerRequest {
                name: format!("tenants/t{tenant}/peers/p{peer}"),
                ..Default::default()
            })
            .map(drop),
        Step::DropTenant { tenant } => catalog
            .delete_tenant(&v1::DeleteTenantRequest {
                name: format!("tenants/t{tenant}"),
                force: true,
                ..Default::default()
            })
            .map(drop),
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(128))]

    /// Whatever was done, refused or not: a catalog read again from the store is the same, every peer is found by
    /// its identities, address and opening alone, and no remote subnet is behind two peers of a tenant.
    #[test]
    fn a_history_leaves_the_store_and_the_indices_whole(steps in proptest::collection::vec(any_step(), 1..40)) {
        let directory = tempfile::tempdir().unwrap();
        let key = directory.path().join("key");
        let store = Arc::new(MemoryStore::default());
        let catalog = Catalog::with(Box::new(Arc::clone(&store)), Vault::create(&key).unwrap()).unwrap();
        for step in &steps {
            match run(&catalog, step) {
                Ok(()) | Err(Error::Invalid(_) | Error::NotFound(_)) => {}
                Err(other) => prop_assert!(false, "{other:?}"),
            }
        }
        let again = Catalog::with(Box::new(store), Vault::open(&key).unwrap().unwrap()).unwrap();
        prop_assert_eq!(again.peers(), catalog.peers());
        prop_assert_eq!(again.tenants(), catalog.tenants());
        prop_assert_eq!(again.snapshot().revision, catalog.snapshot().revision);

        let mut subnets = std::collections::HashSet::new();
        for peer in catalog.peers() {
            for subnet in &peer.spec.children[0].remote_subnets {
                prop_assert!(subnets.insert((peer.tenant, *subnet)));
            }
            let address = match peer.spec.remote_addresses.first() {
                Some(remote) => remote.subnet().unwrap().last(),
                None => "203.0.113.9".parse().unwrap(),
            };
            for catalog in [&catalog, &again] {
                let (local, remote) = (&peer.spec.local_identity, &peer.spec.remote_identity);
                for opening in Opening::ALL {
                    let found = catalog.find_peers(opening, Some(local), remote, address).unwrap_or_default();
                    let found: Vec<_> = found.iter().map(|found| found.name.clone()).collect();
                    let callers = catalog.callers(address, opening);
                    let from = catalog.peers_from(address, opening);
                    prop_assert_eq!(callers.candidates.is_empty(), from.is_empty());
                    prop_assert_eq!(catalog.openings(address).contains(&opening), !from.is_empty());
                    if opening != peer.spec.ike.opening() {
                        prop_assert!(!found.contains(&peer.name) && !from.contains(&peer));
                        continue;
                    }
                    prop_assert_eq!(found, [peer.name.clone()]);
                    prop_assert!(from.contains(&peer));
                    let proposals = callers.candidates.proposals();
                    prop_assert!(peer.spec.ike.proposals.iter().all(|proposal| proposals.contains(proposal)));
                }
            }
        }
        if catalog.peers().is_empty() {
            let nowhere = "203.0.113.9".parse().unwrap();
            prop_assert!(Opening::ALL.iter().all(|o| catalog.callers(nowhere, *o).candidates.is_empty()));
            prop_assert!(catalog.openings(nowhere).is_empty());
        }
    }
}
