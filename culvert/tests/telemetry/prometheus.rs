//! A real Prometheus, and its tools.

use std::net::SocketAddr;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::http::said;

/// True if a program of Debian's package `prometheus` is there. In CI nothing is skipped.
pub(crate) fn is_there(program: &str) -> bool {
    let there = Command::new(program).arg("--version").output().is_ok();
    assert!(there || std::env::var("CI").is_err(), "{program} is not here, and CI skips nothing");
    if !there {
        println!("skipped: {program} is not here; the package prometheus has it");
    }
    there
}

/// What a tool said, which must have succeeded.
pub(crate) fn promtool(arguments: &[&str], input: Option<&str>) -> String {
    let mut command = Command::new("promtool");
    command.args(arguments).stdout(Stdio::piped()).stderr(Stdio::piped()).stdin(Stdio::piped());
    let mut child = command.spawn().unwrap();
    let mut to = child.stdin.take().unwrap();
    std::io::Write::write_all(&mut to, input.unwrap_or_default().as_bytes()).unwrap();
    drop(to);
    let output = child.wait_with_output().unwrap();
    let said = [output.stdout.as_slice(), output.stderr.as_slice()].concat();
    let said = String::from_utf8_lossy(&said).into_owned();
    assert!(output.status.success(), "promtool {arguments:?}: {said}");
    said
}

/// A port that is free at this moment, of those that the system gives to nobody by itself: it is taken only a while later.
pub(crate) fn free_port() -> u16 {
    cluster::servers::free(1)[0]
}

/// Ends with the test.
pub(crate) struct Process(pub(crate) Child);

impl Drop for Process {
    fn drop(&mut self) {
        // It may have ended by itself.
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// One that reads every second.
pub(crate) struct Prometheus {
    address: SocketAddr,
    _process: Process,
}

impl Prometheus {
    /// With its files in `directory`, reading from `target`.
    pub(crate) fn start(directory: &Path, target: SocketAddr, rules: &Path) -> Self {
        let config = directory.join("prometheus.yml");
        let text = format!(
            "global: {{scrape_interval: 1s, evaluation_interval: 1s}}\nrule_files: [{rules:?}]\n\
             scrape_configs: [{{job_name: culvert, static_configs: [{{targets: [\"{target}\"]}}]}}]\n"
        );
        std::fs::write(&config, text).unwrap();
        let address = SocketAddr::from(([127, 0, 0, 1], free_port()));
        let child = Command::new("prometheus")
            .arg(format!("--config.file={}", config.display()))
            .arg(format!("--storage.tsdb.path={}", directory.join("data").display()))
            .arg(format!("--web.listen-address={address}"))
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(std::fs::File::create(directory.join("prometheus.log")).unwrap())
            .spawn()
            .unwrap();
        Self { address, _process: Process(child) }
    }

    fn get(&self, path: &str) -> Option<Value> {
        // 1.0, so that the answer is not cut into chunks.
        std::net::TcpStream::connect(self.address).ok()?;
        let (status, body) = said(self.address, &format!("GET {path} HTTP/1.0\r\nhost: test\r\n\r\n"));
        let value: Value = serde_json::from_str(&body).ok()?;
        assert!(status != 400, "{path}: {body}");
        (status == 200).then_some(value)
    }

    /// The series that match now. A question that is none fails the test.
    pub(crate) fn query(&self, query: &str) -> Vec<Value> {
        let octet = |octet: u8| {
            if octet.is_ascii_alphanumeric() {
                char::from(octet).to_string()
            } else {
                format!("%{octet:02x}")
            }
        };
        let encoded: String = query.bytes().map(octet).collect();
        let answer = self.get(&format!("/api/v1/query?query={encoded}"));
        answer.and_then(|answer| answer["data"]["result"].as_array().cloned()).unwrap_or_default()
    }

    /// The alerts that it has loaded, with what they come to.
    pub(crate) fn rules(&self) -> Vec<Value> {
        let answer = self.get("/api/v1/rules");
        answer.and_then(|answer| answer["data"]["groups"][0]["rules"].as_array().cloned()).unwrap_or_default()
    }
}
