//! One node: a `culvertd` of its own, that can be killed, told to go, and started again.

use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader};
use std::net::Ipv4Addr;
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStderr, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use latest::{Follow as _, Latest as _};
use rustix::process::{Pid, Signal, kill_process};
use tokio::sync::watch;

use crate::console::beside::tell;
use crate::console::target::{Server, Target};
use crate::console::{Client, Failure};

/// Lines of a node's log that are shown if it does not start.
const LAST_LINES: usize = 8;
/// A node may wait for the lease of a process before it to run out, and for an election after that.
const PATIENCE: Duration = Duration::from_secs(60);
/// From the signal to go on, packets still land on it for so long, as a load balancer takes its time to notice, and are passed on.
const NOTICED_AFTER: Duration = Duration::from_millis(500);
/// How long an answer of its API is waited for. Some are asked for in the moment in which the node goes.
const ANSWER: Duration = Duration::from_secs(3);

/// How a node is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum State {
    Starting,
    Up,
    /// Told to go; packets still land on it.
    Draining,
    /// Told to go, and nothing lands on it any more.
    Leaving,
    Down,
}

impl State {
    /// Whether the balancer sends to it.
    pub(super) const fn takes_packets(self) -> bool {
        matches!(self, Self::Up | Self::Draining)
    }

    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::Starting => "STARTING",
            Self::Up => "UP",
            Self::Draining | Self::Leaving => "DRAINING",
            Self::Down => "DOWN",
        }
    }
}

/// What a node is started with.
pub(super) struct Settings<'a> {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    pub(super) ports: (u16, u16),
    pub(super) mesh_port: u16,
    pub(super) etcd: &'a str,
    pub(super) shards: u8,
    pub(super) directory: &'a Path,
    pub(super) key: &'a Path,
}

/// A node, whether it runs or not; its process ends with it.
pub(super) struct Node {
    pub(super) name: String,
    pub(super) address: Ipv4Addr,
    binary: PathBuf,
    config: PathBuf,
    socket: PathBuf,
    log: bool,
    child: Option<Arc<Mutex<Child>>>,
    client: Option<Client>,
    state: watch::Sender<State>,
    last_lines: Arc<Mutex<VecDeque<String>>>,
}

impl Node {
    /// Writes its configuration; nothing runs yet.
    pub(super) fn new(settings: &Settings<'_>, log: bool) -> Result<Self, Failure> {
        let Settings { name, address, .. } = settings;
        let (address, directory) = (*address, settings.directory.join(name));
        let failed =
            |path: &Path, error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
        std::fs::create_dir_all(&directory).map_err(|error| failed(&directory, error))?;
        let (config, socket) = (directory.join("culvertd.toml"), directory.join("culvertd.sock"));
        std::fs::write(&config, settings.text(&directory)?).map_err(|error| failed(&config, error))?;
        Ok(Self {
            name: name.clone(),
            address,
            binary: binary()?,
            config,
            socket,
            log,
            child: None,
            client: None,
            state: watch::channel(State::Down).0,
            last_lines: Arc::default(),
        })
    }

    /// How it is, from now on.
    pub(super) fn states(&self) -> watch::Receiver<State> {
        self.state.subscribe()
    }

    pub(super) fn state(&self) -> State {
        self.state.latest()
    }

    /// Starts its process. It is up when its state says so.
    pub(super) fn start(&mut self) -> Result<(), Failure> {
        let mut command = Command::new(&self.binary);
        command.arg("--config").arg(&self.config).env_remove("CULVERT_LOG");
        command.stdin(Stdio::null()).stdout(Stdio::null()).stderr(Stdio::piped());
        // A key on the terminal is for the quickstart, which ends it.
        std::os::unix::process::CommandExt::process_group(&mut command, 0);
        let spawned = command.spawn();
        let mut child =
            spawned.map_err(|error| Failure::failed(format!("{}: {error}", self.binary.display())))?;
        let log = child.stderr.take();
        let child = Arc::new(Mutex::new(child));
        self.client = None;
        self.state.send_replace(State::Starting);
        self.child = Some(Arc::clone(&child));
        let (state, last_lines) = (self.state.clone(), Arc::clone(&self.last_lines));
        let name = self.log.then(|| self.name.clone());
        // Its log ends with the process, which so is known at once.
        std::thread::spawn(move || {
            log.into_iter().for_each(|log| follow(log, &state, &last_lines, name.as_deref()));
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).wait();
            state.send_replace(State::Down);
        });
        Ok(())
    }

    /// Waits until it is up.
    pub(super) async fn wait_up(&self) -> Result<(), Failure> {
        let mut state = self.states();
        let settled = state.until(|state| *state != State::Starting);
        let up = tokio::time::timeout(PATIENCE, settled).await;
        if matches!(up, Ok(Ok(State::Up))) {
            return Ok(());
        }
        let last = self.last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        let mut failure = Failure::failed(format!("{} does not start", self.name));
        failure.details.extend(last.iter().cloned());
        Err(failure.hint("--log shows what the nodes say"))
    }

    /// A client of its API, if it runs.
    pub(super) async fn client(&mut self) -> Option<Client> {
        if matches!(self.state(), State::Starting | State::Down) {
            return None;
        }
        if self.client.is_none() {
            let target = Target::of(Server::Unix(self.socket.clone()));
            self.client = Client::to(&target, ANSWER).await.ok();
        }
        self.client.clone()
    }

    /// `kill -9`
    pub(super) fn kill(&self) {
        if let Some(child) = &self.child {
            // An error means that it has ended.
            let _ = child.lock().unwrap_or_else(PoisonError::into_inner).kill();
        }
    }

    /// SIGTERM: it gives its tunnels to others, and ends.
    pub(super) fn drain(&self) {
        let Some(child) = &self.child else { return };
        self.state.send_replace(State::Draining);
        let mut child = child.lock().unwrap_or_else(PoisonError::into_inner);
        if matches!(child.try_wait(), Ok(None)) {
            // It has not been waited for, so the number is still its own.
            let _ = kill_process(Pid::from_child(&child), Signal::TERM);
        }
        drop(child);
        let state = self.state.clone();
        tokio::spawn(async move {
            tokio::time::sleep(NOTICED_AFTER).await;
            state.send_if_modified(|state| {
                let noticed = *state == State::Draining;
                if noticed {
                    *state = State::Leaving;
                }
                noticed
            });
        });
    }
}

impl Drop for Node {
    fn drop(&mut self) {
        self.kill();
    }
}

impl Settings<'_> {
    fn text(&self, directory: &Path) -> Result<String, Failure> {
        // Debug form of a path or text is a string of TOML as long as it is printable.
        let (key, etcd, name) = (self.key, self.etcd, &self.name);
        let (address, (ike_port, natt_port)) = (self.address, self.ports);
        let text = format!(
            "state_dir = {directory:?}\n[vault]\nkey_file = {key:?}\n\
             [cluster]\netcd = [{etcd:?}]\nnode = {name:?}\nlisten = \"{address}:{}\"\n\
             [ike]\nlisten = [\"{address}\"]\nport = {ike_port}\nnatt_port = {natt_port}\n\
             [router]\nshards = {}\nraw_esp = false\n[shutdown]\ndrain = \"2s\"\n[log]\nformat = \"json\"\n",
            self.mesh_port, self.shards,
        );
        toml::from_str::<toml::Table>(&text).map_err(|error| {
            Failure::failed(format!("{}: {error}", directory.display()))
                .hint("the directory for temporary files has an odd name; TMPDIR names another")
        })?;
        Ok(text)
    }
}

/// Reads the log until the process ends.
fn follow(
    log: ChildStderr,
    state: &watch::Sender<State>,
    last_lines: &Mutex<VecDeque<String>>,
    name: Option<&str>,
) {
    for line in BufReader::new(log).lines().map_while(Result::ok) {
        if line.contains("\"culvertd is ready\"") {
            state.send_replace(State::Up);
        }
        if let Some(name) = name {
            tell(format_args!("{name}: {line}"));
        }
        let mut last = last_lines.lock().unwrap_or_else(PoisonError::into_inner);
        last.push_back(line);
        if last.len() > LAST_LINES {
            last.pop_front();
        }
    }
}

/// The daemon of the same build: it is beside this program.
fn binary() -> Result<PathBuf, Failure> {
    let own = std::env::current_exe().map_err(|error| Failure::failed(error.to_string()))?;
    let daemon = own.with_file_name("culvertd");
    if daemon.is_file() {
        return Ok(daemon);
    }
    Err(Failure::failed(format!("{} is not there, of which every node is one", daemon.display()))
        .hint("`cargo build --bins` or `make build` builds both programs"))
}
