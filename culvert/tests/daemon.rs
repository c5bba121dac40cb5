//! The daemon as a process: it comes up, keeps what it was told, and goes down in order.

#![allow(clippy::unwrap_used, clippy::expect_used, clippy::indexing_slicing, clippy::panic)]

use std::io::{BufRead as _, BufReader};
use std::path::Path;
use std::process::{Child, Command, ExitStatus, Stdio};

use serde_json::Value;

/// A running daemon.
struct Daemon {
    child: Child,
    log: std::io::Lines<BufReader<std::process::ChildStderr>>,
    server: String,
}

impl Daemon {
    fn start(directory: &Path) -> Self {
        let config = directory.join("culvertd.toml");
        let state = directory.join("state");
        let text = format!(
            "state_dir = {state:?}\n[grpc]\nlisten = \"127.0.0.1:0\"\n[ike]\nlisten = [\"127.0.0.1\"]\nport = 10500\n\
             natt_port = 14500\n[log]\nformat = \"json\"\n"
        );
        std::fs::write(&config, text).unwrap();
        let mut child = Command::new(env!("CARGO_BIN_EXE_culvertd"))
            .arg("--config")
            .arg(&config)
            .env_remove("CULVERT_LOG")
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        let mut log = BufReader::new(child.stderr.take().unwrap()).lines();
        let server = loop {
            let line = log.next().expect("the daemon ended").unwrap();
            let record: Value = serde_json::from_str(&line).unwrap_or_else(|_| panic!("not JSON: {line}"));
            if let Some(address) = record["grpc"].as_str() {
                break format!("http://{address}");
            }
        };
        Self { child, log, server }
    }

    fn culvert(&self, arguments: &[&str]) -> String {
        let mut command = Command::new(env!("CARGO_BIN_EXE_culvert"));
        let output = command.args(["--server", &self.server]).args(arguments).output().unwrap();
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8(output.stdout).unwrap()
    }

    fn signal(mut self, name: &str) -> (ExitStatus, Vec<String>) {
        let pid = self.child.id().to_string();
        assert!(Command::new("kill").args(["-s", name, &pid]).status().unwrap().success());
        let rest: Vec<String> = self.log.by_ref().map(Result::unwrap).collect();
        (self.child.wait().unwrap(), rest)
    }
}

#[test]
fn a_port_in_use_is_said_once() {
    let taken = std::net::UdpSocket::bind("127.0.0.1:0").unwrap();
    let port = taken.local_addr().unwrap().port();
    let directory = tempfile::tempdir().unwrap();
    let config = directory.path().join("culvertd.toml");
    let text = format!(
        "state_dir = {:?}\n[grpc]\nlisten = \"127.0.0.1:0\"\n[ike]\nlisten = [\"127.0.0.1\"]\nport = {port}\n\
         natt_port = 14520\n",
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
    let (code, text) = check("[router]\nshards = 0\n");
    assert_eq!((code, text.as_str()), (1, "culvertd: router.shards: 0 is not 1 to 64\n"));
}
