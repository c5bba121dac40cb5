//! One member of etcd, for as long as the quickstart runs.

use std::net::{Ipv4Addr, TcpListener};
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use crate::console::Failure;
use crate::console::failure::exit;
use crate::quickstart::cluster::ports;

/// How long it may take to listen, on a machine that has much else to do.
const PATIENCE: Duration = Duration::from_secs(20);
/// How often it is looked whether it listens.
const LOOK: Duration = Duration::from_millis(20);
/// How often it is started with other ports, where another program was faster to take one of them.
const STARTS: usize = 5;

/// A running member; it ends with this.
pub(super) struct Etcd {
    child: Child,
    pub(super) endpoint: String,
}

impl Etcd {
    /// Starts it, with what it keeps below `directory`.
    pub(super) async fn start(directory: &Path) -> Result<Self, Failure> {
        for start in 1..STARTS {
            // Each with data of its own: they say where its peers are.
            match Self::start_once(directory, &directory.join(format!("etcd-{start}"))).await {
                Err(failure) if failure.message.contains("address already in use") => {}
                started_or_not => return started_or_not,
            }
        }
        Self::start_once(directory, &directory.join("etcd")).await
    }

    async fn start_once(directory: &Path, data: &Path) -> Result<Self, Failure> {
        let ports = ports::free(|port| TcpListener::bind((Ipv4Addr::LOCALHOST, port)));
        let [client, peer] = ports.map_err(|error| Failure::failed(format!("etcd: {error}")))?;
        let (endpoint, peer) = (format!("http://127.0.0.1:{client}"), format!("http://127.0.0.1:{peer}"));
        let log = directory.join("etcd.log");
        let file = std::fs::File::create(&log)
            .map_err(|error| Failure::failed(format!("{}: {error}", log.display())))?;
        let mut command = Command::new("etcd");
        command
            .args(["--name", "quickstart", "--logger", "zap", "--log-outputs", "stderr", "--data-dir"])
            .arg(data)
            .args(["--listen-client-urls", &endpoint, "--advertise-client-urls", &endpoint])
            .args(["--listen-peer-urls", &peer, "--initial-advertise-peer-urls", &peer])
            .args(["--initial-cluster", &format!("quickstart={peer}"), "--initial-cluster-state", "new"])
            // The catalog is gone with the run anyway.
            .arg("--unsafe-no-fsync")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(file);
        // A key on the terminal is for the quickstart, which ends it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let child = command.spawn().map_err(|error| match error.kind() {
            std::io::ErrorKind::NotFound => missing(),
            _ => Failure::failed(format!("etcd: {error}")),
        })?;
        let mut this = Self { child, endpoint };
        let begin = Instant::now();
        while tokio::net::TcpStream::connect(("127.0.0.1", client)).await.is_err() {
            if let Ok(Some(status)) = this.child.try_wait() {
                let last = std::fs::read_to_string(&log).unwrap_or_default();
                let last = last.lines().last().unwrap_or_default().to_owned();
                return Err(Failure::failed(format!("etcd ended: {status}: {last}")));
            }
            if begin.elapsed() > PATIENCE {
                return Err(Failure::failed(format!("etcd does not listen after {PATIENCE:?}")));
            }
            tokio::time::sleep(LOOK).await;
        }
        Ok(this)
    }
}

impl Drop for Etcd {
    fn drop(&mut self) {
        // An error means that it has ended.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn missing() -> Failure {
    Failure::new(exit::UNAVAILABLE, "etcd is not installed, by which several nodes share what is configured")
        .hint("Debian and Ubuntu: apt-get install etcd-server; elsewhere see https://etcd.io/docs/latest/install/")
        .hint("without --nodes the quickstart needs none")
}
