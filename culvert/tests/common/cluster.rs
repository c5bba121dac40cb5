//! Daemons that share members of etcd, as processes.

#![allow(dead_code, clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "daemon.rs"]
mod daemon;

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output};

use cluster::servers::Servers;
pub(crate) use daemon::culvertd;
use daemon::{Log, launch};
pub(crate) use daemon::{said, spawn, until};
use serde_json::Value;

/// What a daemon says of an etcd that is away when it starts.
pub(crate) const WAITS: &str = "etcd does not answer; waits for it";

/// A daemon of the cluster.
pub(crate) struct Daemon {
    child: Child,
    pub(crate) config: PathBuf,
    pub(crate) ready: Value,
    pub(crate) socket: PathBuf,
}

impl Drop for Daemon {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Daemon {
    pub(crate) fn start(servers: &Servers, name: &str) -> Self {
        Self::of(&write_config(servers, name, "key"))
    }

    pub(crate) fn of(config: &Path) -> Self {
        Self::by(culvertd(), config)
    }

    pub(crate) fn by(command: Command, config: &Path) -> Self {
        let (child, log, ready) = launch(command, config);
        Self::with(child, log, ready, config)
    }

    /// As [`Self::of`], where etcd is not there yet: `revive` brings it once the daemon waits.
    pub(crate) fn before_etcd(config: &Path, revive: impl FnOnce()) -> Self {
        let (child, mut log) = spawn(culvertd(), config);
        said(&mut log, WAITS);
        revive();
        let ready = said(&mut log, "culvertd is ready");
        Self::with(child, log, ready, config)
    }

    fn with(child: Child, log: Log, ready: Value, config: &Path) -> Self {
        // One whose log nobody reads stands still when the pipe is full.
        std::thread::spawn(move || log.for_each(drop));
        let socket = PathBuf::from(ready["socket"].as_str().unwrap());
        Self { child, config: config.to_owned(), ready, socket }
    }

    /// Makes the part fail that its environment names, and waits until it has ended.
    pub(crate) fn fail(&mut self) -> std::process::ExitStatus {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-USR1", &pid]).status().unwrap().success());
        self.child.wait().unwrap()
    }

    /// `kill -9`, and up again.
    pub(crate) fn kill_and_start(self) -> Self {
        let config = self.config.clone();
        drop(self);
        Self::of(&config)
    }

    pub(crate) fn culvert(&self, arguments: &[&str]) -> Output {
        let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
        command.arg("--server").arg(format!("unix:{}", self.socket.display())).args(arguments);
        command.env_remove("CULVERT_CONTEXT").output().unwrap()
    }

    pub(crate) fn apply(&self, manifest: &str) -> Output {
        // Beside the node's own files.
        let file = self.config.with_extension("manifest.yaml");
        std::fs::write(&file, manifest).unwrap();
        self.culvert(&["apply", "-f", file.to_str().unwrap()])
    }

    pub(crate) fn create_tenant(&self, name: &str) {
        let output = self.apply(&format!("kind: Tenant\nname: {name}\n"));
        assert!(output.status.success(), "{name}: {}", String::from_utf8_lossy(&output.stderr));
    }

    /// The same, where members of etcd may be about to agree on who leads them: until they have, writes are refused.
    pub(crate) fn create_tenant_soon(&self, name: &str) {
        let manifest = format!("kind: Tenant\nname: {name}\n");
        until("etcd takes writes", || self.apply(&manifest).status.success());
    }

    /// Deletes a tenant in the same state of etcd. What was refused may have been done all the same.
    pub(crate) fn delete_tenant_soon(&self, name: &str) {
        until("etcd takes writes", || {
            let deleted = self.culvert(&["delete", &format!("tenant/{name}")]).status.success();
            deleted || !self.knows_tenant(name)
        });
    }

    /// Whether it has heard of a tenant. One that takes etcd for gone shows what it has heard until then.
    pub(crate) fn knows_tenant(&self, name: &str) -> bool {
        self.done(&["get", "tenants"]).contains(name)
    }

    pub(crate) fn done(&self, arguments: &[&str]) -> String {
        let output = self.culvert(arguments);
        assert!(output.status.success(), "{arguments:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }
}

pub(crate) fn secret_file(path: &Path, content: &[u8]) {
    use std::os::unix::fs::OpenOptionsExt as _;
    if let Ok(mut file) = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path) {
        std::io::Write::write_all(&mut file, content).unwrap();
    }
}

/// The file of a node; `key` is the file with the key of the secrets.
pub(crate) fn write_config(servers: &Servers, name: &str, key: &str) -> PathBuf {
    let key = servers.file(key);
    secret_file(&key, &[key.to_string_lossy().len() as u8; 32]);
    let (state, endpoints) = (servers.file(name), servers.endpoints());
    let text = format!(
        "state_dir = {state:?}\n[vault]\nkey_file = {key:?}\n[cluster]\netcd = {endpoints:?}\nnode = {name:?}\n\
         listen = \"127.0.0.1:0\"\n\
         [ike]\nlisten = [\"127.0.0.1\"]\nport = 0\nnatt_port = 0\n[router]\nraw_esp = false\n\
         [log]\nformat = \"json\"\n"
    );
    let path = servers.file(&format!("{name}.toml"));
    std::fs::write(&path, text).unwrap();
    path
}

impl Daemon {
    pub(crate) fn json(&self, arguments: &[&str]) -> Value {
        serde_json::from_str(&self.done(&[arguments, &["--output", "json"]].concat())).unwrap()
    }
}
