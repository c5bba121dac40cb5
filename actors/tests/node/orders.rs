//! Whatever is configured in whatever order, while actors crash and peers answer late or never: in the end every peer that is
//! configured is reachable, shown and controllable, and nothing is left of those that are not.

use std::collections::BTreeMap;
use std::sync::Arc;

use actors::{ControlError, Node, Part};
use culvert_proto::v1;
use latest::{Follow as _, Latest as _};
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use tenants::{Catalog, PeerName};

use crate::common::{Branch, branch, catalog, create_peer, node, until};

/// Sequences in a run of all tests; `CULVERT_SEQUENCES` asks for more.
const SEQUENCES: u64 = 60;
/// Changes of a sequence.
const STEPS: usize = 10;
const PEERS: u8 = 3;
/// Nodes side by side: what takes the time is waiting for actors to be started again.
const LANES: u64 = 10;

struct Sequence {
    random: ChaCha8Rng,
    catalog: Arc<Catalog>,
    branches: BTreeMap<u8, Branch>,
    steps: Vec<String>,
}

fn name(n: u8) -> PeerName {
    format!("tenants/acme/peers/b{n}").parse().unwrap()
}

/// A change of the uplink that needs no privilege and makes no device: to one in a namespace that is not there, and back.
fn uplink(broken: bool) -> v1::Uplink {
    let kind = if broken {
        v1::uplink::Kind::Tun(v1::uplink::Tun {
            device: "acme0".into(),
            netns: "culvert-is-not-there".into(),
            ..Default::default()
        })
    } else {
        v1::uplink::Kind::Hub(v1::uplink::Hub {})
    };
    v1::Uplink { kind: Some(kind) }
}

impl Sequence {
    fn set_uplink(&self, broken: bool) {
        let tenant =
            v1::Tenant { name: "tenants/acme".into(), uplink: Some(uplink(broken)), ..Default::default() };
        let request = v1::UpdateTenantRequest { tenant: Some(tenant), ..Default::default() };
        self.catalog.update_tenant(&request).unwrap();
    }

    fn change_peer(&mut self, n: u8) {
        let seconds = self.random.random_range(10..60);
        let mut peer = create_peer(n).peer.unwrap();
        peer.name = name(n).to_string();
        if self.random.random() {
            // What was negotiated would be another: the connection starts afresh.
            peer.children[0].local_subnets = vec![format!("10.0.0.0/{}", self.random.random_range(8..12))];
        } else {
            let dpd = prost_types::Duration { seconds, nanos: 0 };
            peer.ike = Some(v1::IkeConfig { dpd_interval: Some(dpd), ..Default::default() });
        }
        let request = v1::UpdatePeerRequest { peer: Some(peer), ..Default::default() };
        self.catalog.update_peer(&request).unwrap();
    }

    fn change_secret(&mut self) {
        let value = self.random.random::<[u8; 16]>().to_vec();
        let secret = v1::Secret { name: "tenants/acme/secrets/psk".into(), value, ..Default::default() };
        let request = v1::UpdateSecretRequest { secret: Some(secret), ..Default::default() };
        self.catalog.update_secret(request).unwrap();
    }

    async fn step(&mut self, node: &Node) {
        let n = self.random.random_range(0..PEERS);
        let there = self.catalog.get_peer(&name(n)).is_some();
        let what = self.random.random_range(0..12);
        let text = match what {
            0 | 1 if there => {
                let request = v1::DeletePeerRequest { name: name(n).to_string(), ..Default::default() };
                self.catalog.delete_peer(&request).unwrap();
                "delete"
            }
            0..=2 if !there => {
                self.catalog.create_peer(&create_peer(n)).unwrap();
                "create"
            }
            3 | 4 if there => {
                self.change_peer(n);
                "change"
            }
            5 => {
                let broken = self.random.random();
                self.set_uplink(broken);
                "uplink"
            }
            6 => {
                self.change_secret();
                "secret"
            }
            7 => {
                let connection = self.random.random();
                node.control().inject_panic(&name(n), connection);
                if connection { "crash of the connection" } else { "crash of the peer" }
            }
            8 => {
                // Only now and then, for it starts the whole tenant afresh.
                let tenant = self.catalog.tenants().first().unwrap().number;
                node.inject_panic(&Part::Tenant(tenant));
                "crash of the tenant"
            }
            9 if let Some(branch) = self.branches.remove(&n) => {
                // Its delete will not be answered.
                branch.vanish().await;
                "branch gone"
            }
            10 => {
                // Let what is under way go on for a while.
                tokio::task::yield_now().await;
                "pause"
            }
            _ if there => {
                self.branches.insert(n, branch(node, n));
                "branch"
            }
            _ => "nothing",
        };
        self.steps.push(format!("{text} {n}"));
    }

    /// What must hold once nothing changes any more.
    async fn verify(&mut self, node: &Node) {
        self.set_uplink(false);
        let value = b"a shared secret".to_vec();
        let secret = v1::Secret { name: "tenants/acme/secrets/psk".into(), value, ..Default::default() };
        let request = v1::UpdateSecretRequest { secret: Some(secret), ..Default::default() };
        self.catalog.update_secret(request).unwrap();
        for branch in std::mem::take(&mut self.branches).into_values() {
            branch.vanish().await;
        }

        let control = node.control();
        for n in 0..PEERS {
            let steps = &self.steps;
            match self.catalog.get_peer(&name(n)) {
                Some(peer) => {
                    let shown = || control.peer(&name(n)).is_some_and(|view| view.uid == peer.uid);
                    until(&format!("peer {n} is shown after {steps:?}"), shown).await;
                    // It has no address to start to, and says so: it is asked.
                    let outcome = control.initiate(&name(n), None).await;
                    assert!(
                        outcome == Ok(()) || matches!(outcome, Err(ControlError::Failed(_))),
                        "peer {n} after {steps:?}: {outcome:?}"
                    );
                }
                None => {
                    let gone = || control.peer(&name(n)).is_none();
                    until(&format!("peer {n} is gone after {steps:?}"), gone).await;
                }
            }
        }
        for n in 0..PEERS {
            if self.catalog.get_peer(&name(n)).is_some() {
                self.comes_up(node, n).await;
            }
        }
    }

    /// A branch that comes is served. One that meets an actor which is just being started again tries once more, as any would.
    async fn comes_up(&mut self, node: &Node, n: u8) {
        let spi = || node.control().peer(&name(n)).and_then(|view| Some(view.ike.as_ref()?.responder_spi));
        for _ in 0..20 {
            let before = spi();
            let mut branch = branch(node, n);
            let ended = branch.report.until(|r| r.up || !r.last_error.is_empty()).await.is_err();
            if ended || !branch.report.latest().up {
                continue;
            }
            // The peer's actor has it as well, and not only the branch.
            let is_had = || spi().is_some() && spi() != before;
            let steps = &self.steps;
            let lost = || branch.report.has_changed().is_err() || !branch.report.latest().up;
            until(&format!("peer {n} is had or lost after {steps:?}"), || is_had() || lost()).await;
            if is_had() {
                self.branches.insert(n, branch);
                return;
            }
        }
        panic!("peer {n} is not reachable after {:?}", self.steps);
    }
}

/// Sequences one after the other on one node.
async fn on_one_node(seeds: Vec<u64>) {
    let catalog = catalog();
    let node = node(Arc::clone(&catalog));
    let mut branches = BTreeMap::new();
    for seed in seeds {
        let random = ChaCha8Rng::seed_from_u64(seed);
        let steps = vec![format!("seed {seed}")];
        let mut sequence = Sequence { random, catalog: Arc::clone(&catalog), branches, steps };
        for _ in 0..STEPS {
            sequence.step(&node).await;
        }
        sequence.verify(&node).await;
        branches = sequence.branches;
    }
    assert!(node.health().latest().is_good());
    node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn after_any_order_of_changes_every_peer_is_there() {
    let wanted = std::env::var("CULVERT_SEQUENCES").ok().and_then(|n| n.parse().ok()).unwrap_or(SEQUENCES);
    let lanes =
        (0..LANES).map(|lane| tokio::spawn(on_one_node((lane..wanted).step_by(LANES as usize).collect())));
    for lane in lanes.collect::<Vec<_>>() {
        lane.await.unwrap();
    }
}
