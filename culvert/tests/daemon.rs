//! The daemon as a process: it comes up, keeps what it was told, and goes down in order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

#[path = "common/daemon.rs"]
mod daemon;

use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};

use serde_json::Value;

/// A running daemon.
struct Daemon {
    child: Child,
    log: daemon::Log,
    server: String,
}

impl Daemon {
    fn start(directory: &Path) -> Self {
        let config = configure(directory, 0, "info");
        Self::run(daemon::culvertd(), &config)
    }

    fn run(command: Command, config: &Path) -> Self {
        let (child, log, ready) = daemon::launch(command, config);
        let server = format!("http://{}", ready["grpc"].as_str().unwrap());
        Self { child, log, server }
    }

    fn culvert(&self, arguments: &[&str]) -> String {
        let said = self.said(arguments);
        assert_eq!(said.code, 0, "{}", said.err);
        said.out
    }

    fn said(&self, arguments: &[&str]) -> Said {
        said(&self.server, arguments)
    }

    fn kill(&self, name: &str) {
        kill(self.child.id(), name);
    }

    /// Records up to that which says that the configuration was read again.
    fn reload(&mut self) -> Vec<Value> {
        self.kill("HUP");
        let mut records = Vec::new();
        loop {
            let line = self.log.next().expect("the daemon ended").unwrap();
            let record: Value = serde_json::from_str(&line).unwrap();
            let message = record["message"].as_str().unwrap_or_default().to_owned();
            records.push(record);
            if message.contains("read again") || message.contains("cannot be used") {
                return records;
            }
        }
    }

    fn signal(mut self, name: &str) -> (ExitStatus, Vec<String>) {
        self.kill(name);
        let rest: Vec<String> = self.log.by_ref().map(Result::unwrap).collect();
        (self.child.wait().unwrap(), rest)
    }
}

/// What the command line says of the node at `server`.
fn said(server: &str, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
    let output = command.args(["--server", server]).args(arguments).output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

fn kill(pid: u32, name: &str) {
    assert!(Command::new("kill").args(["-s", name, &pid.to_string()]).status().unwrap().success());
}

impl Drop for Daemon {
    /// A test that failed leaves nobody who holds its ports.
    fn drop(&mut self) {
        // It has ended by itself where the test went well.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Tests run side by side, also those of two checkouts: where `port` is 0 the system chooses one, as it does for NAT
/// traversal.
fn configure(directory: &Path, port: u16, level: &str) -> PathBuf {
    let config = directory.join("culvertd.toml");
    let state = directory.join("state");
    let text = format!(
        "state_dir = {state:?}\n[grpc]\nlisten = \"127.0.0.1:0\"\n[ike]\nlisten = [\"127.0.0.1\"]\nport = {port}\n\
         natt_port = 0\n[log]\nformat = \"json\"\nlevel = \"{level}\"\n"
    );
    std::fs::write(&config, text).unwrap();
    config
}

fn example() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.yaml")
}

/// What `culvertd` said and how it ended.
struct Said {
    code: i32,
    out: String,
    err: String,
}

fn culvertd(directory: &Path, arguments: &[&str]) -> Said {
    let mut command = Command::new(env!("CARGO_BIN_EXE_culvertd"));
    command.arg("--config").arg(directory.join("culvertd.toml")).args(arguments);
    let output = command.env_remove("CULVERT_LOG").env("RUST_BACKTRACE", "1").output().unwrap();
    Said {
        code: output.status.code().unwrap(),
        out: String::from_utf8(output.stdout).unwrap(),
        err: String::from_utf8(output.stderr).unwrap(),
    }
}

#[test]
fn a_log_that_nobody_reads_stops_nobody() {
    let directory = tempfile::tempdir().unwrap();
    let config = configure(directory.path(), 0, "trace");
    let mut daemon = Daemon::run(daemon::culvertd(), &config);
    // Each of them says some dozens of kilobytes.
    for _ in 0..150 {
        daemon.culvert(&["get", "tenants"]);
    }
    // What is missing is told with the first line for which there is room again, and that is when somebody reads.
    let (told, server, pid) = (AtomicBool::new(false), daemon.server.clone(), daemon.child.id());
    let missing = std::thread::scope(|scope| {
        scope.spawn(|| {
            for _ in (0..50).take_while(|_| !told.load(Ordering::Relaxed)) {
                assert_eq!(said(&server, &["get", "tenants"]).code, 0);
            }
            kill(pid, "TERM");
        });
        let found = daemon
            .log
            .by_ref()
            .map(Result::unwrap)
            .find(|line| line.contains("lines of the log are missing"));
        told.store(true, Ordering::Relaxed);
        found
    });
    let missing: Value = serde_json::from_str(&missing.expect("all was written")).unwrap();
    assert!(missing["lines"].as_u64() > Some(100), "{missing}");
    assert!(daemon.child.wait().unwrap().success());
}

#[test]
fn a_hangup_reads_the_configuration_again_and_never_kills() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(directory.path());
    let field = |records: &[Value], field: &str| {
        records
            .iter()
            .find(|record| record["field"] == field)
            .cloned()
            .unwrap_or_else(|| panic!("{records:?}"))
    };
    // Nothing differs.
    let records = daemon.reload();
    assert_eq!(records.last().unwrap()["changed"], "nothing", "{records:?}");
    configure(directory.path(), 10_511, "info,culvert=debug");
    let records = daemon.reload();
    let level = field(&records, "log.level");
    assert_eq!((level["old"].as_str(), level["new"].as_str()), (Some("info"), Some("info,culvert=debug")));
    let port = field(&records, "ike.port");
    assert!(port["message"].as_str().unwrap().contains("needs a restart"), "{port}");
    assert_eq!((port["old"].as_str(), port["new"].as_str()), (Some("0"), Some("10511")));
    // It has taken effect.
    daemon.culvert(&["apply", "-f", example().to_str().unwrap()]);
    std::fs::write(directory.path().join("culvertd.toml"), "[router]\nshards = 0\n").unwrap();
    let records = daemon.reload();
    assert!(
        records.iter().any(|record| record["level"] == "DEBUG" && record["operation"] == "Apply"),
        "{records:?}"
    );
    assert!(records.last().unwrap()["error"].as_str().unwrap().contains("router.shards"), "{records:?}");
    // It is gone.
    std::fs::remove_file(directory.path().join("culvertd.toml")).unwrap();
    assert!(daemon.reload().last().unwrap()["error"].as_str().unwrap().contains("culvertd.toml"));
    assert!(daemon.culvert(&["get", "peers"]).contains("tenants/acme/peers/branch-12"));
    let (status, _) = daemon.signal("TERM");
    assert!(status.success());
}

#[test]
fn a_watcher_is_told_of_numbers_that_never_were() {
    let directory = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::start(directory.path());
    for (after, expected) in
        [("7", "no longer kept"), ("9000000000000000", "there was no event 9000000000000000")]
    {
        let mut watch = Command::new(env!("CARGO_BIN_EXE_culvert"))
            .args(["--server", &daemon.server, "watch", "--after", after])
            .stderr(Stdio::piped())
            .stdout(Stdio::null())
            .spawn()
            .unwrap();
        let note = BufReader::new(watch.stderr.take().unwrap()).lines().next().unwrap().unwrap();
        assert!(note.starts_with("note: ") && note.contains(expected), "{note}");
        assert!(note.ends_with("going on from now"), "{note}");
        watch.kill().unwrap();
        watch.wait().unwrap();
    }
    daemon.child.kill().unwrap();
    daemon.child.wait().unwrap();
}

#[test]
fn a_store_is_checked_copied_and_restored() {
    let directory = tempfile::tempdir().unwrap();
    let (state, copy) = (directory.path().join("state"), directory.path().join("copy.redb"));
    let (store, copied) = (state.join("catalog.redb"), copy.to_str().unwrap());
    let daemon = Daemon::start(directory.path());
    daemon.culvert(&["apply", "-f", example().to_str().unwrap()]);

    // While it runs: the store is its own, and it gives a copy of it.
    let said = culvertd(directory.path(), &["check-store"]);
    assert!(said.code == 1 && said.err.contains("culvertd backup FILE"), "{}", said.err);
    let said = culvertd(directory.path(), &["backup", copied, "--server", "unix:/nowhere"]);
    assert!(said.code == 1 && said.err.contains("name another with --server"), "{}", said.err);
    let said = culvertd(directory.path(), &["backup", copied]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    // A later one takes its place.
    let said = culvertd(directory.path(), &["backup", copied, "--server", &daemon.server]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    assert!(said.out.contains("1 tenants, 1 peers, 1 secrets"), "{}", said.out);
    assert!(said.out.contains("secrets.key, which is not in it"), "{}", said.out);
    let said = culvertd(directory.path(), &["check-store", copied]);
    assert!(said.code == 0 && said.out.starts_with("ok: "), "{}", said.err);
    daemon.culvert(&["delete", "-f", example().to_str().unwrap()]);
    daemon.signal("TERM");

    // And while it does not.
    let said = culvertd(directory.path(), &["check-store"]);
    assert!(said.out.contains("0 tenants, 0 peers, 0 secrets"), "{}{}", said.out, said.err);
    let second = directory.path().join("second.redb");
    let said = culvertd(directory.path(), &["backup", second.to_str().unwrap()]);
    assert!(said.code == 0 && said.out.contains("0 tenants"), "{}", said.err);
    let said = culvertd(directory.path(), &["backup", store.to_str().unwrap()]);
    assert!(said.code == 1 && said.err.contains("is the store itself"), "{}", said.err);
    let key = state.join("secrets.key");
    let said = culvertd(directory.path(), &["backup", key.to_str().unwrap()]);
    assert!(said.code == 1 && said.err.contains("is no copy of a store"), "{}", said.err);

    std::fs::copy(&copy, &store).unwrap();
    let daemon = Daemon::start(directory.path());
    let said = daemon.culvert(&["apply", "-f", example().to_str().unwrap()]);
    assert!(said.contains("0 created, 0 updated, 3 unchanged"), "{said}");
    daemon.signal("TERM");
}

/// A file that may not grow stands for a full disk: it needs no privilege, and can be lifted.
#[test]
fn a_full_disk_fails_a_write_and_none_after_it() {
    let directory = tempfile::tempdir().unwrap();
    Daemon::start(directory.path()).signal("TERM");
    let length = std::fs::metadata(directory.path().join("state/catalog.redb")).unwrap().len();
    let mut command = Command::new("prlimit");
    command.arg(format!("--fsize={length}:unlimited")).arg(env!("CARGO_BIN_EXE_culvertd"));
    let mut daemon = Daemon::run(command, &configure(directory.path(), 0, "info"));
    // Nobody reads what it would say of thousands of peers.
    configure(directory.path(), 0, "info,tenants=warn,actors=warn");
    daemon.reload();
    daemon.culvert(&["apply", "-f", example().to_str().unwrap()]);

    // Far more than the file has room for, in one transaction.
    let many = directory.path().join("many.yaml");
    let peers = (0..5000).map(|i| {
        format!(
            "---\nkind: Peer\nname: acme/b{i}\nlocalIdentity: gw.example\nremoteIdentity: b{i}.example\nauth: \
             {{psk: branch-12}}\nchildren: [{{name: lan, localSubnets: [10.0.0.0/16], remoteSubnets: [172.{}.{}.0/24]}}]\n",
            i / 256,
            i % 256
        )
    });
    let text =
        format!("kind: Tenant\nname: acme\nquotas: {{maxPeers: 10000}}\n{}", peers.collect::<String>());
    std::fs::write(&many, text).unwrap();
    let many = many.to_str().unwrap();
    let before = daemon.culvert(&["get", "tenants", "peers", "secrets", "-o", "json"]);
    for _ in 0..2 {
        let said = daemon.said(&["apply", "-f", many]);
        assert_eq!((said.code, said.out.as_str()), (1, ""), "{}", said.err);
        assert!(
            said.err.contains("catalog.redb: ") && said.err.contains("nothing was changed"),
            "{}",
            said.err
        );
        assert!(said.err.contains("hint: make room on the disk"), "{}", said.err);
    }
    assert_eq!(daemon.culvert(&["get", "tenants", "peers", "secrets", "-o", "json"]), before);
    // What fits is taken, then there is room again.
    daemon.culvert(&["delete", "acme/branch-12"]);
    let pid = daemon.child.id().to_string();
    let lifted =
        Command::new("prlimit").args(["--pid", &pid, "--fsize=unlimited:unlimited"]).status().unwrap();
    assert!(lifted.success());
    assert!(daemon.culvert(&["apply", "-f", many]).ends_with("5000 created, 1 updated, 0 unchanged\n"));
    daemon.signal("KILL");
    let said = culvertd(directory.path(), &["check-store"]);
    assert!(said.out.contains("1 tenants, 5000 peers, 1 secrets"), "{}{}", said.out, said.err);
}

#[test]
fn a_store_that_is_damaged_or_lost_is_told_in_one_line() {
    let directory = tempfile::tempdir().unwrap();
    let state = directory.path().join("state");
    let store = state.join("catalog.redb");
    let daemon = Daemon::start(directory.path());
    daemon.culvert(&["apply", "-f", example().to_str().unwrap()]);
    daemon.signal("KILL");
    let sound = std::fs::read(&store).unwrap();

    let refused = |what: &str, expected: &str| {
        for arguments in [&[][..], &["check-store"]] {
            let said = culvertd(directory.path(), arguments);
            assert_eq!(said.code, 1, "{what} {arguments:?}: {}{}", said.out, said.err);
            let lines: Vec<&str> = said.err.lines().filter(|line| !line.starts_with('{')).collect();
            assert_eq!(lines.len(), 1, "{what} {arguments:?}: {}", said.err);
            assert!(lines[0].contains("catalog.redb") && lines[0].contains(expected), "{what}: {}", lines[0]);
        }
    };
    // Whatever lies there: all of it is 0x5a but for the header.
    let mut damaged = sound.clone();
    damaged[4096..].fill(0x5a);
    std::fs::write(&store, &damaged).unwrap();
    refused("damaged", "culvertd backup");
    std::fs::write(&store, vec![0x5a; sound.len()]).unwrap();
    refused("no store", "culvertd backup");
    std::fs::write(&store, b"").unwrap();
    refused("empty", "empty");
    let said = culvertd(directory.path(), &[]);
    assert!(said.err.contains("secrets.key away to start an empty node"), "{}", said.err);
    // The key of another node.
    std::fs::write(&store, &sound).unwrap();
    let key = state.join("secrets.key");
    std::fs::write(&key, [7; 32]).unwrap();
    for (arguments, expected) in
        [(&[][..], "secrets.key: not the key of catalog.redb"), (&["check-store"], "is not the key")]
    {
        let said = culvertd(directory.path(), arguments);
        assert!(said.code == 1 && said.err.contains(expected), "{}", said.err);
    }
    // Sound again, with nothing lost by all of that.
    std::fs::remove_file(&key).unwrap();
    let said = culvertd(directory.path(), &["check-store"]);
    assert!(said.code == 0 && said.out.contains("1 peers"), "{}{}", said.out, said.err);
    assert!(said.out.contains("the secrets were not opened"), "{}", said.out);
}

#[test]
fn a_port_in_use_is_said_once() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("culvertd.toml");
    let text = format!(
        "state_dir = {:?}\n[grpc]\nlisten = \"127.0.0.1:0\"\n[ike]\nlisten = [\"127.0.0.1\"]\nport = {port}\n\
         natt_port = 0\n",
        directory.path().join("state")
    );
    std::fs::write(&config, text).unwrap();
    let output = Command::new(env!("CARGO_BIN_EXE_culvertd")).arg("--config").arg(&config).output().unwrap();
    let said = String::from_utf8(output.stderr).unwrap();
    let line = said.lines().find(|line| line.starts_with("culvertd:")).unwrap_or_else(|| panic!("{said}"));
    assert!(!output.status.success() && line.contains(&port.to_string()), "{line}");
    assert_eq!(line.matches("in use").count(), 1, "{line}");
}

#[test]
fn it_keeps_the_catalog_over_restarts_and_stops_in_order() {
    let directory = tempfile::tempdir().unwrap();
    let example = Path::new(env!("CARGO_MANIFEST_DIR")).join("examples/acme.yaml");
    for (signal, action) in
        [("TERM", "created"), ("INT", "unchanged"), ("KILL", "unchanged"), ("TERM", "unchanged")]
    {
        let daemon = Daemon::start(directory.path());
        let said = daemon.culvert(&["apply", "-f", example.to_str().unwrap()]);
        assert!(said.contains(&format!("tenants/acme/peers/branch-12 {action}\n")), "{said}");
        let (status, log) = daemon.signal(signal);
        if signal != "KILL" {
            assert!(status.success(), "{status} {log:?}");
            assert!(log.last().unwrap().contains("\"message\":\"down\""), "{log:?}");
        }
        assert!(!log.iter().any(|line| line.contains("change-me")), "{log:?}");
    }
}

#[test]
fn a_configuration_that_cannot_be_used_is_refused_with_its_field() {
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("culvertd.toml");
    let check = |text: &str| {
        std::fs::write(&config, text).unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_culvertd"));
        let output = command.args(["--check", "--config"]).arg(&config).output().unwrap();
        (output.status.code().unwrap(), String::from_utf8(output.stderr).unwrap())
    };
    assert_eq!(check("[router]\nshards = 2\n"), (0, String::new()));
    // It says so, and what it would use.
    let said = culvertd(directory.path(), &["--check"]);
    assert!(said.out.starts_with(&format!("ok: {}\n", config.display())), "{}", said.out);
    assert!(said.out.lines().any(|line| line.split_whitespace().eq(["router.shards", "2"])), "{}", said.out);
    let (code, text) = check("[router]\nshards = 0\n");
    assert_eq!((code, text.as_str()), (1, "culvertd: router.shards: 0 is not 1 to 64\n"));
}

#[test]
fn what_a_configuration_names_is_looked_into_before_the_start() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    let mode = |name: &str, mode: u32| {
        std::fs::set_permissions(path(name), std::fs::Permissions::from_mode(mode)).unwrap();
    };
    let (token, key) = (path("token"), path("vault.key"));
    let more = format!(
        "[[grpc.tokens]]\nname = \"ops\"\nfile = {token:?}\nrole = \"admin\"\n[vault]\nkey_file = {key:?}\n\
         [bootstrap]\nfile = {:?}\n[otlp]\nheaders_file = {:?}\n[debug]\nkey_log_dir = {:?}\n",
        path("manifest.yaml"),
        path("headers"),
        path("keys")
    );
    configure_more(directory.path(), &more);
    let said = culvertd(directory.path(), &["--check"]);
    assert_eq!(said.code, 1, "{}", said.out);
    for field in
        ["grpc.tokens: ops", "vault.key_file: ", "manifest.yaml", "otlp.headers_file", "debug.key_log_dir"]
    {
        assert!(said.err.contains(field), "{field}: {}", said.err);
    }
    assert!(!path("state").exists(), "nothing is made");
    std::fs::write(&token, "a".repeat(40)).unwrap();
    std::fs::write(&key, [7; 32]).unwrap();
    std::fs::write(path("headers"), "x: y\n").unwrap();
    std::fs::create_dir(path("keys")).unwrap();
    std::fs::copy(example(), path("manifest.yaml")).unwrap();
    mode("vault.key", 0o644);
    mode("token", 0o666);
    mode("headers", 0o600);
    for arguments in [&["--check"][..], &[]] {
        let said = culvertd(directory.path(), arguments);
        assert!(said.code == 1 && said.err.contains("vault.key_file: "), "{}", said.err);
        assert!(said.err.contains("chmod 440") && !said.err.contains("state_dir: "), "{}", said.err);
    }
    mode("vault.key", 0o440);
    let said = culvertd(directory.path(), &["--check"]);
    assert_eq!((said.code, said.err.as_str()), (0, ""));
    let warning = format!("warning: grpc.tokens: {}: mode 666", token.display());
    assert!(said.out.contains(&warning), "{}", said.out);
    assert_eq!(said.out.matches("warning").count(), 1, "{}", said.out);
}

/// Appends to the configuration in `directory`.
fn configure_more(directory: &Path, more: &str) {
    let path = configure(directory, 0, "info");
    let text = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, text + more).unwrap();
}

#[test]
fn a_second_signal_cuts_the_drain_short() {
    let directory = tempfile::tempdir().unwrap();
    configure_more(directory.path(), "[shutdown]\ndrain = \"1h\"\n");
    let config = directory.path().join("culvertd.toml");
    let mut daemon = Daemon::run(Command::new(env!("CARGO_BIN_EXE_culvertd")), &config);
    daemon.kill("TERM");
    while !daemon.log.next().expect("the daemon ended").unwrap().contains("not ready any more") {}
    // It serves on.
    daemon.culvert(&["get", "tenants"]);
    let (status, log) = daemon.signal("TERM");
    assert!(status.success() && log.iter().any(|line| line.contains("cut short")), "{status} {log:?}");
    assert!(log.last().unwrap().contains("\"message\":\"down\""), "{log:?}");
}

/// As in Kubernetes: the key and the values of secrets are mounted, and what the manifest says is there from the start.
#[test]
fn a_node_has_what_its_manifest_says_from_the_first_start_on() {
    use std::os::unix::fs::PermissionsExt as _;
    let directory = tempfile::tempdir().unwrap();
    let path = |name: &str| directory.path().join(name);
    std::fs::write(path("vault.key"), [7; 32]).unwrap();
    std::fs::set_permissions(path("vault.key"), std::fs::Permissions::from_mode(0o440)).unwrap();
    std::fs::write(path("branch-12"), "mounted-and-never-shown\n").unwrap();
    let manifest = std::fs::read_to_string(example()).unwrap();
    let manifest = manifest.replace("value: example-only-change-me", "valueFromFile: branch-12");
    std::fs::write(path("bootstrap.yaml"), &manifest).unwrap();
    configure_more(
        directory.path(),
        &format!(
            "[vault]\nkey_file = {:?}\n[bootstrap]\nfile = {:?}\n",
            path("vault.key"),
            path("bootstrap.yaml")
        ),
    );
    let start = || {
        let config = directory.path().join("culvertd.toml");
        Daemon::run(Command::new(env!("CARGO_BIN_EXE_culvertd")), &config)
    };
    let daemon = start();
    let said = daemon.culvert(&["get", "peers"]);
    assert!(said.contains("branch-12"), "{said}");
    daemon.signal("TERM");
    assert!(!path("state/secrets.key").exists());
    let said = culvertd(directory.path(), &["check-store"]);
    assert!(said.code == 0 && said.out.contains("1 peers, 1 secrets"), "{}{}", said.out, said.err);

    // A manifest of another day changes nothing, and adds what is new. What it is about is shown, and no secret.
    let newer = manifest.replace("Branch 12, Springfield", "Branch 12, Shelbyville");
    std::fs::write(path("bootstrap.yaml"), newer + "---\nkind: Tenant\nname: globex\n").unwrap();
    std::fs::write(path("branch-12"), "another-and-never-shown\n").unwrap();
    let daemon = start();
    let shown = daemon.culvert(&["get", "peers", "-o", "yaml"]);
    assert!(shown.contains("Springfield") && !shown.contains("Shelbyville"), "{shown}");
    assert!(daemon.culvert(&["get", "tenants"]).contains("globex"));
    let of_one = daemon.culvert(&["get", "tenants", "--tenant", "globex"]);
    assert!(of_one.contains("globex") && !of_one.contains("acme"), "{of_one}");
    daemon.signal("TERM");

    std::fs::write(path("bootstrap.yaml"), "kind: Peer\nname: acme/b2\nremoteIdentity: ''\n").unwrap();
    let said = culvertd(directory.path(), &[]);
    assert_eq!(said.code, 1);
    assert!(said.err.contains("bootstrap.yaml, document 1 (Peer acme/b2): remoteIdentity: "), "{}", said.err);
}

/// A part that cannot be started again ends the process, which says what it was: whoever started it starts it anew.
#[test]
fn a_thread_that_dies_ends_the_daemon() {
    for (part, name) in [("shard", "shard-0"), ("control", "router-control"), ("node", "node's actor")] {
        let directory = tempfile::tempdir().unwrap();
        let mut command = Command::new(env!("CARGO_BIN_EXE_culvertd"));
        command.env("CULVERT_FAULT_PART", part);
        let daemon = Daemon::run(command, &configure(directory.path(), 0, "info"));
        let (status, said) = daemon.signal("USR1");
        assert_eq!(status.code(), Some(1), "{part}: {said:?}");
        let (last, log) = said.split_last().unwrap();
        assert!(last.starts_with("culvertd: ") && last.contains(name), "{last}");
        let log: Vec<serde_json::Value> =
            log.iter().map(|line| serde_json::from_str(line).expect(line)).collect();
        assert!(log.iter().any(|line| line["message"] == "panic" && line["place"].is_string()), "{log:?}");
    }
}

/// The next start may come to something.
#[test]
fn a_start_that_fails_keeps_the_list_of_tunnels_to_call_back() {
    let directory = tempfile::tempdir().unwrap();
    let daemon = Daemon::start(directory.path());
    daemon.signal("TERM");
    let list = directory.path().join("state/tunnels-up");
    std::fs::write(&list, "tenants/acme/peers/b1\n").unwrap();
    let config = configure(directory.path(), 0, "info");
    let text = std::fs::read_to_string(&config).unwrap();
    // An address for documentation, which no interface has (RFC 5737).
    std::fs::write(
        &config,
        text.replace("[ike]\nlisten = [\"127.0.0.1\"]", "[ike]\nlisten = [\"192.0.2.1\"]"),
    )
    .unwrap();
    let said = culvertd(directory.path(), &[]);
    assert!(said.code == 1 && said.err.contains("192.0.2.1"), "{}", said.err);
    assert_eq!(std::fs::read_to_string(&list).unwrap(), "tenants/acme/peers/b1\n");
    let daemon = Daemon::start(directory.path());
    assert!(!list.exists());
    daemon.signal("TERM");
}

/// What the environment has decided the file does not change, and that is all that is said of it.
#[test]
fn a_level_that_the_environment_has_decided_stays() {
    let directory = tempfile::tempdir().unwrap();
    let mut command = daemon::culvertd();
    command.env("CULVERT_LOG", "info");
    let mut daemon = Daemon::run(command, &configure(directory.path(), 0, "info"));
    configure(directory.path(), 0, "debug");
    for _ in 0..2 {
        let records = daemon.reload();
        let said: Vec<&str> = records.iter().map(|record| record["message"].as_str().unwrap()).collect();
        let of_level: Vec<&&str> = said.iter().filter(|said| said.contains("CULVERT_LOG")).collect();
        assert_eq!(of_level.len(), 1, "{said:#?}");
        assert!(said.iter().all(|said| !said.contains("changes at once")), "{said:#?}");
        assert_eq!(records.last().unwrap()["changed"], "nothing");
    }
}
