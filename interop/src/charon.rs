//! strongSwan's charon with userspace ESP, driven through its vici socket.

use std::fmt::Write as _;
use std::path::PathBuf;

use crate::command::{Running, Said, must, run};
use crate::lab::Lab;
use crate::wait::until;

/// A connection of charon's configuration.
#[derive(Clone, Debug)]
pub struct Connection {
    /// Its name; the child has the same with a `c` in front.
    pub name: String,
    /// Addresses: ours and the peer's.
    pub addresses: (String, String),
    /// Identities: ours and the peer's.
    pub identities: (String, String),
    /// The pre-shared key.
    pub psk: String,
    /// IKE and ESP proposals.
    pub proposals: (String, String),
    /// Selectors: ours and the peer's.
    pub selectors: (String, String),
    /// Seconds between signs of life, 0 for none.
    pub dpd: u32,
    /// Further lines of the connection, e.g. `reauth_time = 2s`.
    pub options: String,
    /// Further lines of its children, e.g. `dpd_action = restart`.
    pub child_options: String,
    /// Further children: name and selectors, ours and the peer's.
    pub more_children: Vec<(String, String, String)>,
    /// Of IKE: 2, or 1.
    pub version: u8,
}

impl Connection {
    /// The same by IKEv1, with what both of these tests' sides have there.
    pub fn ikev1() -> Self {
        let proposals = ("aes256-sha256-modp2048".into(), "aes128gcm16".into());
        Self { version: 1, proposals, ..Self::usual() }
    }

    /// AES-128-GCM and x25519, the usual names and addresses of these tests.
    pub fn usual() -> Self {
        Self {
            name: "t".into(),
            addresses: ("10.99.0.1".into(), "10.99.0.2".into()),
            identities: ("left.example".into(), "right.example".into()),
            psk: "interop-secret".into(),
            proposals: ("aes128gcm16-prfsha256-x25519".into(), "aes128gcm16".into()),
            selectors: ("10.1.0.1/32".into(), "10.2.0.1/32".into()),
            dpd: 0,
            options: String::new(),
            child_options: "dpd_action = clear".into(),
            more_children: Vec::new(),
            version: 2,
        }
    }

    /// The name of its child.
    pub fn child(&self) -> String {
        format!("c{}", self.name)
    }

    fn children(&self) -> String {
        let first = (self.child(), self.selectors.0.clone(), self.selectors.1.clone());
        let child = |(name, ours, theirs): &(String, String, String)| {
            format!(
                "{name} {{\n local_ts = {ours}\n remote_ts = {theirs}\n esp_proposals = {esp}\n mode = tunnel\n {more}\n }}\n",
                esp = self.proposals.1,
                more = self.child_options,
            )
        };
        std::iter::once(&first).chain(&self.more_children).map(child).collect()
    }
}

/// A running charon.
#[derive(Debug)]
pub struct Charon {
    namespace: String,
    directory: PathBuf,
    process: Running,
}

impl Charon {
    /// Starts charon in a namespace.
    pub fn start(lab: &Lab, namespace: &str) -> Self {
        Self::start_with(lab, namespace, "")
    }

    /// Starts charon with further lines of its own configuration, e.g. `make_before_break = yes`.
    pub fn start_with(lab: &Lab, namespace: &str, options: &str) -> Self {
        let directory = lab.file(&format!("charon-{namespace}"));
        for sub in ["run", "swanctl"] {
            let made = std::fs::create_dir_all(directory.join(sub));
            made.unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        }
        write(&directory.join("strongswan.conf"), &strongswan_conf(&directory, options));
        let process = launch(namespace, &directory);
        let this = Self { namespace: namespace.to_owned(), directory, process };
        this.answers();
        this
    }

    fn answers(&self) {
        // The socket is there before it answers.
        until("charon answers", || self.swanctl(&["--stats"]), |said| said.ok);
    }

    /// Runs swanctl against it.
    pub fn swanctl(&self, arguments: &[&str]) -> Said {
        let uri = format!("unix://{}/charon.vici", self.directory.display());
        let home = format!("SWANCTL_DIR={}/swanctl", self.directory.display());
        run("env", &[&[home.as_str(), "swanctl"], arguments, &["--uri", &uri]].concat())
    }

    /// Makes a certificate authority, and a certificate and key of this name that [`Self::load_text`] finds as `cert.pem`.
    pub fn certify(&self, name: &str) {
        let swanctl = self.directory.join("swanctl");
        let (ca, ca_key) = ("x509ca/ca.pem", "ca-key.pem");
        let (cert, key) = ("x509/cert.pem", "private/key.pem");
        let dn = format!("CN={name}");
        let (gen_key, out) = (["--gen", "--type", "ecdsa", "--size", "256"], ["--outform", "pem"]);
        let pki = |arguments: &[&[&str]], file: &str| {
            let path = swanctl.join(file);
            let made = path.parent().map(std::fs::create_dir_all);
            assert!(matches!(made, Some(Ok(()))), "{}: {made:?}", path.display());
            // What it makes goes to its output, which is text in this form.
            write(&path, &must("pki", &[&arguments.concat()[..], &out].concat()));
        };
        let path = |file: &str| swanctl.join(file).display().to_string();
        pki(&[&gen_key], ca_key);
        pki(&[&gen_key], key);
        pki(&[&["--self", "--ca", "--type", "ecdsa", "--in", &path(ca_key), "--dn", "CN=authority"]], ca);
        pki(
            &[
                &["--issue", "--type", "priv", "--in", &path(key), "--cacert", &path(ca)],
                &["--cakey", &path(ca_key), "--dn", &dn, "--san", name],
            ],
            cert,
        );
    }

    /// Has a certificate with its key, which [`Self::load_text`] finds as `own.pem`, and the authority of peers.
    pub fn holds(&self, own: &str, authority: &str) {
        let key = own.find("-----BEGIN PRIVATE KEY").unwrap_or(own.len());
        let (certificate, key) = own.split_at(key);
        for (file, text) in
            [("x509/own.pem", certificate), ("private/own.pem", key), ("x509ca/peers.pem", authority)]
        {
            let path = self.directory.join("swanctl").join(file);
            let made = path.parent().map(std::fs::create_dir_all);
            assert!(matches!(made, Some(Ok(()))), "{}: {made:?}", path.display());
            write(&path, text);
        }
    }

    /// Knows of another authority.
    pub fn also_trusts(&self, authority: &str) {
        write(&self.directory.join("swanctl/x509ca/between.pem"), authority);
    }

    /// Loads connections in place of those it has.
    pub fn load(&self, connections: &[Connection]) {
        self.load_text(&swanctl_conf(connections));
    }

    /// Loads a configuration as it stands.
    pub fn load_text(&self, text: &str) {
        let file = self.directory.join("swanctl/swanctl.conf");
        write(&file, text);
        let path = file.display().to_string();
        let said = self.swanctl(&["--load-all", "--clear", "--file", &path]);
        assert!(said.ok, "swanctl --load-all: {}", said.text);
    }

    /// Starts a child; returns what was said.
    pub fn initiate(&self, child: &str) -> Said {
        self.swanctl(&["--initiate", "--child", child, "--timeout", "20"])
    }

    /// The SAs as swanctl lists them.
    pub fn sas(&self) -> String {
        self.swanctl(&["--list-sas"]).text
    }

    /// Child SAs in place.
    pub fn installed(&self) -> usize {
        self.sas().matches("INSTALLED").count()
    }

    /// Octets that the Child SAs in place have taken in and given out.
    pub fn octets(&self) -> (u64, u64) {
        let sas = self.sas();
        let sum = |direction: &str| {
            let of = |line: &str| -> Option<u64> {
                let rest = line.trim().strip_prefix(direction)?;
                rest.split(',').find_map(|part| part.trim().strip_suffix(" bytes")?.trim().parse().ok())
            };
            sas.lines().filter_map(of).sum()
        };
        (sum("in "), sum("out "))
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// `kill -9`, then starts it again with nothing loaded.
    pub fn restart(&mut self) {
        self.kill();
        self.process = launch(&self.namespace, &self.directory);
        self.answers();
    }

    /// `kill -9`.
    pub fn kill(&mut self) {
        let pid = std::fs::read_to_string(self.directory.join("run/charon.pid")).unwrap_or_default();
        if !pid.trim().is_empty() {
            must("kill", &["-9", pid.trim()]);
        }
        self.process.kill();
        for left in ["run/charon.pid", "charon.vici"] {
            // Left behind by the kill.
            let _ = std::fs::remove_file(self.directory.join(left));
        }
    }
}

fn launch(namespace: &str, directory: &std::path::Path) -> Running {
    let dir = directory.display();
    // A private /run keeps pid files apart; `ip netns exec` has given a mount namespace of its own already.
    let script = format!(
        "mount --make-rprivate / && mount --bind {dir}/run /run && \
         STRONGSWAN_CONF={dir}/strongswan.conf SWANCTL_DIR={dir}/swanctl exec /usr/lib/ipsec/charon"
    );
    Running::start("ip", &["netns", "exec", namespace, "bash", "-c", &script], &directory.join("out"))
}

fn write(path: &std::path::Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}

fn strongswan_conf(directory: &std::path::Path, options: &str) -> String {
    let dir = directory.display();
    format!(
        "charon {{\n load_modular = yes\n retransmit_tries = 3\n retransmit_timeout = 1.0\n retransmit_base = 1.5\n {options}\n \
         filelog {{\n log {{\n path = {dir}/log\n default = 1\n flush_line = yes\n }}\n }}\n \
         plugins {{\n include /etc/strongswan.d/charon/*.conf\n \
         kernel-libipsec {{\n load = yes\n }}\n bypass-lan {{\n load = no\n }}\n \
         vici {{\n socket = unix://{dir}/charon.vici\n }}\n }}\n}}\n"
    )
}

/// The configuration of these connections.
pub fn swanctl_conf(connections: &[Connection]) -> String {
    let (mut conns, mut secrets) = (String::new(), String::new());
    for c in connections {
        // Writing into a string does not fail.
        let _ = write!(
            conns,
            "{name} {{\n version = {version}\n local_addrs = {local}\n remote_addrs = {remote}\n proposals = {ike}\n \
             encap = yes\n dpd_delay = {dpd}s\n {options}\n \
             local {{\n auth = psk\n id = {me}\n }}\n remote {{\n auth = psk\n id = {peer}\n }}\n \
             children {{\n {children} }}\n}}\n",
            name = c.name,
            version = c.version,
            local = c.addresses.0,
            remote = c.addresses.1,
            ike = c.proposals.0,
            dpd = c.dpd,
            me = c.identities.0,
            peer = c.identities.1,
            options = c.options,
            children = c.children(),
        );
        let _ = write!(
            secrets,
            "ike-{name} {{\n id-1 = {me}\n id-2 = {peer}\n secret = \"{psk}\"\n }}\n",
            name = c.name,
            me = c.identities.0,
            peer = c.identities.1,
            psk = c.psk,
        );
    }
    format!("connections {{\n{conns}}}\nsecrets {{\n{secrets}}}\n")
}
