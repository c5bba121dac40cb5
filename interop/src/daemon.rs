//! `culvertd` in a namespace, driven with the `culvert` command line.

use std::path::PathBuf;

use serde_json::Value;

use crate::command::{Running, Said, binary, run};
use crate::lab::Lab;
use crate::wait::until;

/// A running culvertd.
#[derive(Debug)]
pub struct Daemon {
    namespace: String,
    directory: PathBuf,
    process: Running,
}

/// The command line for a daemon.
#[derive(Clone, Debug)]
pub struct Client {
    namespace: String,
    server: String,
}

impl Client {
    /// Runs it.
    pub fn cli(&self, arguments: &[&str]) -> Said {
        let command = ["netns", "exec", &self.namespace, &binary("culvert"), "--server", &self.server];
        run("ip", &[&command[..], arguments].concat())
    }
}

/// A peer of its configuration.
#[derive(Clone, Debug)]
pub struct Peer {
    /// `tenants/acme/peers/left` has `acme/left`.
    pub name: String,
    /// Identities: ours and the peer's.
    pub identities: (String, String),
    /// Where the peer may come from; anywhere if empty.
    pub address: String,
    /// The pre-shared key.
    pub psk: String,
    /// In its place our certificate with its key, and the peer's authority, as PEM.
    pub certificates: Option<(String, String)>,
    /// IKE and ESP proposals.
    pub proposals: (String, String),
    /// Subnets: ours and the peer's.
    pub subnets: (String, String),
    /// We start.
    pub start: bool,
    /// We start once a packet is for the tunnel.
    pub on_demand: bool,
    /// Further fields of `ike`, e.g. `dpdInterval: 1s`.
    pub ike: Vec<String>,
    /// Further fields of each child, e.g. `lifetime: {rekeyPackets: 500}`.
    pub child: Vec<String>,
    /// Further children: name and subnets, ours and the peer's.
    pub more_children: Vec<(String, String, String)>,
    /// Legacy algorithms are allowed.
    pub legacy: bool,
}

impl Peer {
    /// What fits [`crate::charon::Connection::usual`].
    pub fn usual() -> Self {
        Self {
            name: "acme/left".into(),
            identities: ("right.example".into(), "left.example".into()),
            address: "10.99.0.1".into(),
            psk: "interop-secret".into(),
            certificates: None,
            proposals: ("aes128gcm16-prfsha256-x25519".into(), "aes128gcm16".into()),
            subnets: ("10.2.0.1/32".into(), "10.1.0.1/32".into()),
            start: false,
            on_demand: false,
            ike: Vec::new(),
            child: Vec::new(),
            more_children: Vec::new(),
            legacy: false,
        }
    }

    /// The same by IKEv1, in the mode `MAIN` or `AGGRESSIVE`: what fits [`crate::charon::Connection::ikev1`].
    pub fn ikev1(mode: &str) -> Self {
        let ike = vec!["version: IKEV1".into(), format!("v1: {{mode: {mode}}}")];
        let proposals = ("aes256-sha256-modp2048".into(), "aes128gcm16".into());
        Self { ike, proposals, ..Self::usual() }
    }

    fn children(&self) -> String {
        let first = ("c".to_owned(), self.subnets.0.clone(), self.subnets.1.clone());
        let child = |(name, ours, theirs): &(String, String, String)| {
            let more: String = self.child.iter().map(|field| format!("    {field}\n")).collect();
            format!(
                "  - name: {name}\n    localSubnets: [{ours}]\n    remoteSubnets: [{theirs}]\n    \
                 espProposals: [{esp}]\n{more}",
                esp = self.proposals.1
            )
        };
        std::iter::once(&first).chain(&self.more_children).map(child).collect()
    }

    fn manifest(&self) -> String {
        let (tenant, peer) = self.name.split_once('/').unwrap_or(("acme", "left"));
        let secret = |name: &str, value: &str| {
            let value: String = value.lines().map(|line| format!("  {line}\n")).collect();
            format!("kind: Secret\nname: tenants/{tenant}/secrets/{name}\nvalue: |\n{value}---\n")
        };
        let (more, auth) = match &self.certificates {
            Some((own, authorities)) => (
                [secret("own", own), secret("ca", authorities)].concat(),
                "certificates: {own: own, authorities: ca}".to_owned(),
            ),
            None => (String::new(), format!("psk: tenants/{tenant}/secrets/{peer}")),
        };
        let ike: String = self.ike.iter().map(|field| format!("  {field}\n")).collect();
        format!(
            "{more}kind: Secret\nname: tenants/{tenant}/secrets/{peer}\nvalue: {psk}\n---\n\
             kind: Peer\nname: tenants/{tenant}/peers/{peer}\nlocalIdentity: {me}\nremoteIdentity: {them}\n\
             remoteAddresses: [{addresses}]\nstartAction: {start}\nlegacy: {legacy}\nauth:\n  {auth}\n\
             ike:\n  proposals: [{proposals}]\n{ike}children:\n{children}",
            addresses = self.address,
            psk = self.psk,
            me = self.identities.0,
            them = self.identities.1,
            start = match (self.start, self.on_demand) {
                (true, _) => "START",
                (_, true) => "ON_DEMAND",
                _ => "NONE",
            },
            proposals = self.proposals.0,
            legacy = self.legacy,
            children = self.children(),
        )
    }
}

/// A tenant with a TUN device.
pub fn tenant(name: &str, device: &str, address: &str, netns: Option<&str>) -> String {
    let netns = netns.map(|n| format!("    netns: {n}\n")).unwrap_or_default();
    format!(
        "kind: Tenant\nname: tenants/{name}\nuplink:\n  tun:\n    device: {device}\n{netns}    addresses: [{address}]\n"
    )
}

impl Daemon {
    /// Starts culvertd in a namespace.
    pub fn start(lab: &Lab, namespace: &str) -> Self {
        Self::start_with(lab, namespace, "")
    }

    /// With further lines of its configuration.
    pub fn start_with(lab: &Lab, namespace: &str, lines: &str) -> Self {
        let directory = lab.file(&format!("culvertd-{namespace}"));
        std::fs::create_dir_all(&directory).unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        let config = format!(
            "state_dir = \"{}\"\n[log]\nlevel = \"info,actors=debug\"\n{lines}",
            directory.join("state").display()
        );
        std::fs::write(directory.join("culvertd.toml"), config)
            .unwrap_or_else(|e| panic!("configuration: {e}"));
        let process = launch(namespace, &directory);
        let this = Self { namespace: namespace.to_owned(), directory, process };
        this.answers();
        this
    }

    fn answers(&self) {
        until("culvertd answers", || self.cli(&["get", "node"]), |said| said.ok);
    }

    /// Runs the command line against it.
    pub fn cli(&self, arguments: &[&str]) -> Said {
        self.client().cli(arguments)
    }

    /// The command line for it, for another thread.
    pub fn client(&self) -> Client {
        let socket = self.directory.join("state/culvertd.sock");
        Client { namespace: self.namespace.clone(), server: format!("unix:{}", socket.display()) }
    }

    /// Runs the command line and reads its JSON. What it says beside that, of nodes that are away for one, is no part of it.
    pub fn json(&self, arguments: &[&str]) -> Value {
        let said = self.cli(&[arguments, &["-o", "json"]].concat());
        serde_json::from_str(&said.out).unwrap_or(Value::Null)
    }

    /// Applies manifests.
    pub fn apply(&self, manifests: &[String]) {
        let file = self.directory.join("manifest.yaml");
        std::fs::write(&file, manifests.join("---\n")).unwrap_or_else(|e| panic!("manifest: {e}"));
        let said = self.cli(&["apply", "-f", &file.display().to_string()]);
        assert!(said.ok, "culvert apply: {}", said.text);
    }

    /// Applies a peer.
    pub fn peer(&self, peer: &Peer) {
        self.apply(&[peer.manifest()]);
    }

    /// What `culvert export` writes for a device that reaches us at `address`, with the key that the peer has.
    pub fn export(&self, peer: &Peer, device: &str, address: &str) -> Said {
        let file = self.directory.join("key");
        std::fs::write(&file, &peer.psk).unwrap_or_else(|e| panic!("key: {e}"));
        let key = file.display().to_string();
        let said =
            self.cli(&["export", &peer.name, "--for", device, "--address", address, "--psk-file", &key]);
        assert!(said.ok, "culvert export: {}", said.text);
        said
    }

    /// A peer's status.
    pub fn status(&self, peer: &str) -> Value {
        let (tenant, id) = peer.split_once('/').unwrap_or(("acme", "left"));
        let name = format!("tenants/{tenant}/peers/{id}");
        let peers = self.json(&["get", "peers", "--tenant", tenant]);
        let all = if peers.is_array() { peers } else { self.json(&["get", "peers"]) };
        let found = all.as_array().and_then(|a| a.iter().find(|p| p["name"] == name.as_str()).cloned());
        found.map(|p| p["status"].clone()).unwrap_or_default()
    }

    /// Child SAs in place for a peer.
    pub fn children(&self, peer: &str) -> usize {
        self.status(peer)["children"].as_array().map_or(0, Vec::len)
    }

    /// A counter of the node.
    pub fn counter(&self, name: &str) -> u64 {
        let value = &self.json(&["get", "node"])["counters"][name];
        value.as_u64().or_else(|| value.as_str().and_then(|s| s.parse().ok())).unwrap_or(0)
    }

    /// What it counted of itself, by name, for messages about a test that failed.
    pub fn counted(&self) -> String {
        let counters = self.json(&["get", "node"])["counters"].clone();
        let named = counters.as_object().into_iter().flatten().map(|(name, value)| format!("{name}={value}"));
        named.collect::<Vec<_>>().join(" ")
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// `kill -9`, then starts it again with the same state.
    pub fn restart(&mut self) {
        self.kill();
        self.again();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        self.process.kill();
    }

    /// Starts it again with the same state, once it has ended.
    pub fn again(&mut self) {
        self.process = launch(&self.namespace, &self.directory);
        self.answers();
    }

    /// Sends it a signal by name.
    pub fn signal(&self, name: &str) {
        self.process.signal(name);
    }

    /// Waits for its end; true if it said that it went well.
    pub fn wait(&mut self) -> bool {
        self.process.wait()
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        self.process.alive()
    }

    /// Ends it in order; true if it said so.
    pub fn stop(&mut self) -> bool {
        self.signal("TERM");
        self.wait()
    }
}

fn launch(namespace: &str, directory: &std::path::Path) -> Running {
    let (culvertd, config) = (binary("culvertd"), directory.join("culvertd.toml").display().to_string());
    let arguments = ["netns", "exec", namespace, &culvertd, "--config", &config];
    Running::start("ip", &arguments, &directory.join("log"))
}
