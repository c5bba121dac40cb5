//! What the two sides of a test are configured with.

use std::sync::Arc;
use std::time::Duration;

use ike::config::{
    Auth, ChildConfig, Life, Mode, PeerConfig, Phase1, Psk, Retransmit, Uniqueness, V1, Version,
};
use ike::wire::TrafficSelector;

pub fn ts(start: &str, end: &str) -> TrafficSelector {
    TrafficSelector::range(start.parse().unwrap(), end.parse().unwrap())
}

#[derive(Clone, Debug)]
pub struct Spec {
    pub psk: &'static [u8],
    /// In place of the key.
    pub auth: Option<Auth>,
    pub ike: Vec<&'static str>,
    pub esp: Vec<&'static str>,
    pub local_id: &'static str,
    pub remote_id: &'static str,
    pub local: Vec<TrafficSelector>,
    pub remote: Vec<TrafficSelector>,
    /// Selectors of further policies, `net1` and so on.
    pub more: Vec<(TrafficSelector, TrafficSelector)>,
    pub dpd: Duration,
    pub mode: Mode,
    pub force_encapsulation: bool,
    pub uniqueness: Uniqueness,
    pub version: Version,
    /// How long a pair of IKEv1 is offered to last.
    pub life: Life,
    /// Pairs of each policy at the same time.
    pub resources: u8,
}

impl Spec {
    pub fn left() -> Self {
        Self {
            psk: b"secret",
            auth: None,
            ike: vec!["aes128gcm16-prfsha256-x25519"],
            esp: vec!["aes128gcm16"],
            local_id: "left.example",
            remote_id: "right.example",
            local: vec![ts("10.1.0.0", "10.1.255.255")],
            remote: vec![ts("10.2.0.0", "10.2.255.255")],
            more: vec![],
            dpd: Duration::ZERO,
            mode: Mode::Tunnel,
            force_encapsulation: false,
            uniqueness: Uniqueness::Replace,
            version: Version::V2,
            life: Life::default(),
            resources: 1,
        }
    }

    /// The same by IKEv1.
    pub fn v1(self, mode: Phase1) -> Self {
        let version = Version::V1(V1 { mode, ..V1::default() });
        let (ike, esp) = (vec!["aes256-sha256-modp2048"], vec!["aes128gcm16"]);
        Self { version, ike, esp, ..self }
    }

    pub fn right() -> Self {
        let l = Self::left();
        Self { local_id: l.remote_id, remote_id: l.local_id, local: l.remote, remote: l.local, ..l }
    }

    /// Both sides with this many policies.
    pub fn with_policies(count: u8) -> [Self; 2] {
        let host = |side: u8, n: u8| ts(&format!("10.{side}.{n}.0"), &format!("10.{side}.{n}.255"));
        let more = |ours: u8, theirs: u8| (1..count).map(|n| (host(ours, n), host(theirs, n))).collect();
        [Self { more: more(11, 12), ..Self::left() }, Self { more: more(12, 11), ..Self::right() }]
    }

    fn children(&self) -> Vec<Arc<ChildConfig>> {
        let first = ("net".to_owned(), self.local.clone(), self.remote.clone());
        let more = self.more.iter().zip(1..);
        let more = more.map(|((local, remote), n)| (format!("net{n}"), vec![*local], vec![*remote]));
        std::iter::once(first)
            .chain(more)
            .map(|(name, local, remote)| {
                let proposals = self.esp.iter().map(|p| p.parse().unwrap()).collect();
                Arc::new(ChildConfig {
                    name: name.into(),
                    local,
                    remote,
                    proposals,
                    mode: self.mode,
                    life: self.life,
                    resources: self.resources,
                })
            })
            .collect()
    }

    pub fn config(&self) -> Arc<PeerConfig> {
        Arc::new(PeerConfig {
            name: format!("to {}", self.remote_id).into(),
            local_id: self.local_id.parse().unwrap(),
            remote_id: self.remote_id.parse().unwrap(),
            auth: self.auth.clone().unwrap_or_else(|| Auth::Psk(Psk::new(self.psk.to_vec().into()))),
            ike_proposals: self.ike.iter().map(|p| p.parse().unwrap()).collect(),
            children: self.children(),
            dpd_interval: self.dpd,
            force_encapsulation: self.force_encapsulation,
            uniqueness: self.uniqueness,
            retransmit: Retransmit::DEFAULT,
            version: self.version,
        })
    }
}
