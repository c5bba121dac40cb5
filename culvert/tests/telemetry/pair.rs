//! Two nodes that are each other's peer, on loopback.

use std::sync::Arc;

use actors::{Control, NodeConfig, SpanSink};
use culvert::config::MetricsConfig;
use culvert::telemetry::Exports;
use culvert_proto::v1;
use culvert_proto::v1::object::Kind;
use tenants::PeerName;

use crate::node::Running;

/// The one that begins, and the one that answers. Both have the tenant `acme`; to the one `right` is the peer, to the other
/// `left`.
pub(crate) struct Pair {
    pub(crate) left: Running,
    pub(crate) right: Running,
}

/// What is wrong with the peer that answers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Faults {
    /// It has another key.
    pub(crate) key: bool,
    /// It has no proposal of ours.
    pub(crate) proposal: bool,
    /// Both speak IKEv1.
    pub(crate) old: bool,
}

pub(crate) const KEY: &str = "kept-to-ourselves-0815";

impl Pair {
    /// Spans of each go to its own.
    pub(crate) async fn start(spans: [Option<Arc<dyn SpanSink>>; 2], faults: Faults) -> Self {
        let [left_spans, right_spans] = spans;
        let metrics = MetricsConfig::default();
        let config = NodeConfig { spans: right_spans, ..NodeConfig::default() };
        let right = Running::start(config, &metrics, Exports::default()).await;
        let (remote_ike_port, remote_natt_port) = right.node.ports();
        let config =
            NodeConfig { spans: left_spans, remote_ike_port, remote_natt_port, ..NodeConfig::default() };
        let left = Running::start(config, &metrics, Exports::default()).await;
        let suite = if faults.old { "aes256-sha256-modp2048" } else { "aes128gcm16-prfsha256-x25519" };
        provision(&left, ("left", "right"), KEY, suite, faults.old);
        let (key, suite) = (
            if faults.key { "another-key-altogether" } else { KEY },
            if faults.proposal { "aes256gcm16-prfsha384-ecp384" } else { suite },
        );
        provision(&right, ("right", "left"), key, suite, faults.old);
        left.stand(1).await;
        right.stand(1).await;
        Self { left, right }
    }

    /// Two nodes that know each other's ports, without faults.
    pub(crate) async fn of(left: Running, right: Running) -> Self {
        let suite = "aes128gcm16-prfsha256-x25519";
        provision(&left, ("left", "right"), KEY, suite, false);
        provision(&right, ("right", "left"), KEY, suite, false);
        left.stand(1).await;
        right.stand(1).await;
        Self { left, right }
    }

    pub(crate) fn control(&self) -> Control {
        self.left.node.control()
    }

    pub(crate) async fn stop(self) {
        self.left.node.shutdown().await;
        self.right.node.shutdown().await;
    }
}

/// The peer of the one that begins.
pub(crate) fn right() -> PeerName {
    "tenants/acme/peers/right".parse().unwrap()
}

fn provision(at: &Running, (own, other): (&str, &str), key: &str, suite: &str, old: bool) {
    let name = "tenants/acme";
    let secret = format!("{name}/secrets/psk");
    let subnet = |who: &str| if who == "left" { "10.1.0.0/24" } else { "10.2.0.0/24" };
    let ike = v1::IkeConfig {
        proposals: vec![suite.to_owned()],
        version: if old { v1::IkeVersion::Ikev1 } else { v1::IkeVersion::Ikev2 }.into(),
        ..Default::default()
    };
    let peer = v1::Peer {
        name: format!("{name}/peers/{other}"),
        local_identity: format!("{own}.example"),
        remote_identity: format!("{other}.example"),
        remote_addresses: vec!["127.0.0.1".to_owned()],
        start_action: v1::StartAction::None.into(),
        auth: Some(v1::Auth { method: Some(v1::auth::Method::Psk(secret.clone())) }),
        ike: Some(ike),
        children: vec![v1::Child {
            name: "lan".to_owned(),
            local_subnets: vec![subnet(own).to_owned()],
            remote_subnets: vec![subnet(other).to_owned()],
            esp_proposals: vec!["aes128gcm16".to_owned()],
            ..Default::default()
        }],
        ..Default::default()
    };
    let objects = [
        Kind::Tenant(v1::Tenant { name: name.to_owned(), ..Default::default() }),
        Kind::Secret(v1::Secret { name: secret, value: key.as_bytes().to_vec(), ..Default::default() }),
        Kind::Peer(peer),
    ];
    let objects = objects.into_iter().map(|kind| v1::Object { kind: Some(kind) }).collect();
    at.catalog.apply(v1::ApplyRequest { objects, ..Default::default() }).unwrap();
}
