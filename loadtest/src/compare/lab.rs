//! Two network namespaces with a cable between them, and the programs that run in them. All of it goes when its value does.

use std::fs::{self, File};
use std::io::{self, Write as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, ExitStatus, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::Duration;

use rustix::fs::FlockOperation;
use rustix::process::{Pid, Signal, kill_process};

use super::contestants;
use super::output::{self, Unfinished};
pub(crate) use super::running::Running;
use super::running::{self, PATIENCE};

/// The two sides. Nobody else's namespaces are called so.
pub(crate) const SIDES: [&str; 2] = ["cvcmp-l", "cvcmp-r"];
/// Octets of a packet that the cable between them carries, as the kernel makes it.
pub(super) const CABLE_MTU: u16 = 1500;
/// On the loopback device of both sides, whatever family the cable has: a responder with its ESP in userspace wants an address of its own in the
/// traffic selectors that it agrees to, and the tunnels that are counted have addresses of this network, not this one.
pub(super) const WITHIN_SELECTORS: &str = "10.255.255.1/32";
/// Who has it has the namespaces; it goes with its process, and the file stays.
const LOCK: &str = "/run/cvcmp.lock";
/// Words of `setpriv`: what it starts is killed when we die, in whatever way.
const BOUND: &[&str] = &["--pdeathsig", "KILL"];
/// How long a program may take that measures nothing, or by a few packets only.
const LIMIT: Duration = Duration::from_secs(60);

/// What cannot be set up or measured.
#[derive(Debug, thiserror::Error)]
pub enum LabError {
    /// Not without root.
    #[error("compare makes network namespaces and TUN devices, which takes root; try: sudo loadtest compare")]
    NotRoot,
    /// Not two at a time.
    #[error(
        "another comparison goes on on this machine, and both would have the same network namespaces; wait for its end ({LOCK})"
    )]
    Taken,
    /// A program is missing or has failed.
    #[error("{0}: {1}")]
    Program(String, String),
    /// Files, sockets.
    #[error("{0}: {1}")]
    Io(String, #[source] io::Error),
    /// Something has not come up.
    #[error("{0} is not there after {PATIENCE:?}; the end of its log (--keep keeps all): {1}")]
    Late(String, String),
    /// It has ended instead of coming up.
    #[error("{0} has ended ({1}) before it was there; the end of its log (--keep keeps all): {2}")]
    Ended(String, ExitStatus, String),
    /// Interrupted.
    #[error("interrupted; nothing is left behind")]
    Interrupted,
    /// Nobody to compare.
    #[error("{0}")]
    Argument(String),
}

/// Gives an error the name of what it is about.
pub(crate) trait About<T> {
    fn about(self, what: impl Into<String>) -> Result<T, LabError>;
}

impl<T> About<T> for io::Result<T> {
    fn about(self, what: impl Into<String>) -> Result<T, LabError> {
        self.map_err(|error| LabError::Io(what.into(), error))
    }
}

/// The addresses of both sides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Ends {
    /// On the cable.
    pub(crate) outer: [IpAddr; 2],
    /// Behind a tunnel.
    pub(crate) inner: [IpAddr; 2],
}

impl Ends {
    pub(crate) fn new(v6: bool) -> Self {
        let of = |network, host| address(v6, network, host);
        Self { outer: [of(99, 1), of(99, 2)], inner: [of(1, 1), of(2, 1)] }
    }

    /// Two addresses of a network of its own, for a contestant whose devices are in one: of the family that all others have.
    pub(crate) fn network(&self, number: u8) -> [IpAddr; 2] {
        let v6 = self.outer.iter().all(IpAddr::is_ipv6);
        [address(v6, number, 1), address(v6, number, 2)]
    }

    /// An address with the length of its network's prefix.
    pub(crate) fn within(address: IpAddr) -> String {
        format!("{address}/{}", if address.is_ipv4() { 24 } else { 64 })
    }

    /// One address as a prefix.
    pub(crate) fn host(address: IpAddr) -> String {
        format!("{address}/{}", if address.is_ipv4() { 32 } else { 128 })
    }
}

fn address(v6: bool, network: u8, host: u8) -> IpAddr {
    if v6 {
        Ipv6Addr::new(0xfd99, network.into(), 0, 0, 0, 0, 0, host.into()).into()
    } else {
        Ipv4Addr::new(10, network, 0, host).into()
    }
}

/// The laboratory.
#[derive(Debug)]
pub(crate) struct Lab {
    pub(crate) ends: Ends,
    pub(crate) mtu: u16,
    dir: PathBuf,
    keep: bool,
    /// Folders that were made.
    folders: AtomicU32,
    stop: Arc<AtomicBool>,
    /// Whether programs can be told to die with us, however we do.
    bound: bool,
    /// Held until all is gone.
    _lock: File,
}

impl Lab {
    /// Makes it; what an earlier run has left is removed.
    pub(crate) fn new(v6: bool, mtu: u16, keep: bool, stop: Arc<AtomicBool>) -> Result<Self, LabError> {
        if !rustix::process::geteuid().is_root() {
            return Err(LabError::NotRoot);
        }
        let lock = lock(Path::new(LOCK))?;
        let dir = std::env::temp_dir().join(format!("culvert-compare-{:016x}", rand::random::<u64>()));
        make_own(&dir)?;
        take_down();
        let bound = run("setpriv", &[BOUND, &["true"]].concat()).is_ok();
        let lab = Self {
            ends: Ends::new(v6),
            mtu,
            dir,
            keep,
            folders: AtomicU32::new(0),
            stop,
            bound,
            _lock: lock,
        };
        for side in SIDES {
            run("ip", &["netns", "add", side])?;
        }
        let [left, right] = SIDES;
        let cable =
            ["link", "add", "cable", "netns", left, "type", "veth", "peer", "name", "cable", "netns", right];
        run("ip", &cable)?;
        for (side, (outer, inner)) in lab.ends.outer.into_iter().zip(lab.ends.inner).enumerate() {
            lab.run(side, "ip", &["link", "set", "lo", "up"])?;
            lab.add_address(side, &Ends::within(outer), "cable")?;
            lab.run(side, "ip", &["link", "set", "cable", "up"])?;
            lab.add_address(side, &Ends::host(inner), "lo")?;
            lab.add_address(side, WITHIN_SELECTORS, "lo")?;
        }
        Ok(lab)
    }

    /// Gives a device an address, which it has at once.
    pub(crate) fn add_address(&self, side: usize, address: &str, device: &str) -> Result<(), LabError> {
        // Nobody else can have it, so it need not be looked for (RFC 4862 section 5.4).
        let at_once: &[&str] = if address.contains(':') { &["nodad"] } else { &[] };
        let words = [&["addr", "add", address, "dev", device], at_once].concat();
        self.run(side, "ip", &words).map(drop)
    }

    /// A program on a side. Each of these programs becomes the next, so that what is started is what runs in the end.
    fn on(&self, side: usize, program: &str, words: &[&str]) -> Command {
        let side = SIDES.get(side).copied().unwrap_or_default();
        let within = ["ip", "netns", "exec", side, program];
        let all = [if self.bound { BOUND } else { &[] }, &within, words].concat();
        match (self.bound, all.split_first()) {
            (false, Some((first, rest))) => command(first, rest),
            _ => command("setpriv", &all),
        }
    }

    /// An error once somebody has interrupted.
    pub(crate) fn check(&self) -> Result<(), LabError> {
        if self.stop.load(Ordering::Relaxed) { Err(LabError::Interrupted) } else { Ok(()) }
    }

    /// A folder for what is called so: another one each time, or the logs of a round were over those of the round before.
    pub(crate) fn folder(&self, name: &str) -> Result<PathBuf, LabError> {
        let number = self.folders.fetch_add(1, Ordering::Relaxed);
        let folder = self.dir.join(format!("{number:03}-{name}"));
        fs::create_dir_all(&folder).about(folder.display().to_string())?;
        Ok(folder)
    }

    /// Removes what somebody has left there, unless all is to be kept: a hundred thousand tunnels are some octets.
    pub(crate) fn clear(&self, folder: &Path) -> Result<(), LabError> {
        if self.keep { Ok(()) } else { fs::remove_dir_all(folder).about(folder.display().to_string()) }
    }

    /// Starts a program on a side, with a log in the folder.
    pub(crate) fn start(
        &self,
        side: usize,
        folder: &Path,
        program: &str,
        words: &[&str],
    ) -> Result<Running, LabError> {
        let log = folder.join(format!("{}.log", SIDES.get(side).copied().unwrap_or_default()));
        let file = File::create(&log).about(log.display().to_string())?;
        let errors = file.try_clone().about(log.display().to_string())?;
        let mut command = self.on(side, program, words);
        command.stdin(Stdio::null()).stdout(file).stderr(errors);
        Ok(Running::of(command.spawn().about(program)?, log))
    }

    /// Runs a program on a side to its end; what it has written.
    pub(crate) fn run(&self, side: usize, program: &str, words: &[&str]) -> Result<String, LabError> {
        self.run_to(side, program, words, &[0], LIMIT)
    }

    /// The same of a program that may take so long, and whose end with any of these codes is good.
    pub(crate) fn run_to(
        &self,
        side: usize,
        program: &str,
        words: &[&str],
        codes: &[i32],
        limit: Duration,
    ) -> Result<String, LabError> {
        self.check()?;
        finish(program, self.on(side, program, words), codes, limit, || self.check())
    }

    /// Waits until something is there that these programs make.
    pub(crate) fn wait(
        &self,
        what: &str,
        programs: &mut [Running],
        there: impl FnMut() -> bool,
    ) -> Result<(), LabError> {
        running::wait(what, programs, there, || self.check())
    }

    /// Waits until a ping comes through.
    pub(crate) fn wait_for_ping(&self, what: &str, programs: &mut [Running]) -> Result<(), LabError> {
        let [near, far] = self.ends.inner.map(|address| address.to_string());
        let words = ["-n", "-c", "1", "-W", "1", "-I", &near, &far];
        self.wait(&format!("the tunnel of {what}"), programs, || self.run(0, "ping", &words).is_ok())
    }
}

impl Drop for Lab {
    fn drop(&mut self) {
        take_down();
        if self.keep {
            let _ = writeln!(std::io::stderr(), "logs and configurations are in {}", self.dir.display());
        } else {
            let _ = fs::remove_dir_all(&self.dir);
        }
    }
}

/// A folder that nobody else has, may look into or has made before us: programs of root read and write there.
fn make_own(dir: &Path) -> Result<(), LabError> {
    let what = || format!("making the folder {}, which nobody else may have made", dir.display());
    fs::DirBuilder::new().mode(0o700).create(dir).about(what())
}

/// Nobody else's comparison goes on meanwhile: it would have the same namespaces.
fn lock(path: &Path) -> Result<File, LabError> {
    let file = File::options().create(true).append(true).open(path).about(path.display().to_string())?;
    match rustix::fs::flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(LabError::Taken),
        Err(error) => Err(error.into()).about(path.display().to_string()),
    }
}

/// Removes the namespaces with whatever runs in them: without their names they would go on, and programs in them too.
fn take_down() {
    for side in SIDES {
        let pids = run("ip", &["netns", "pids", side]).unwrap_or_default();
        for pid in pids.split_whitespace().filter_map(|pid| Pid::from_raw(pid.parse().ok()?)) {
            // It has gone already if this fails.
            let _ = kill_process(pid, Signal::KILL);
        }
        let _ = run("ip", &["netns", "del", side]);
    }
    for socket in contestants::sockets() {
        // Who was killed has left it, and mostly nobody was.
        let _ = fs::remove_file(socket);
    }
}

fn command(program: &str, words: &[&str]) -> Command {
    let mut command = Command::new(program);
    command.args(words);
    command
}

/// Runs a program to its end; what it has written.
pub(crate) fn run(program: &str, words: &[&str]) -> Result<String, LabError> {
    finish(program, command(program, words), &[0], LIMIT, || Ok(()))
}

fn finish(
    program: &str,
    command: Command,
    codes: &[i32],
    limit: Duration,
    check: impl Fn() -> Result<(), LabError>,
) -> Result<String, LabError> {
    let output = output::of(command, limit, check).map_err(|error| match error {
        Unfinished::Stopped(error) => error,
        Unfinished::Late => {
            let said = format!("not done after {limit:?}, so it was ended");
            LabError::Program(program.to_owned(), said)
        }
        Unfinished::Io(error) => {
            let missing = error.kind() == io::ErrorKind::NotFound;
            let hint = if missing { "; is its package installed?" } else { "" };
            LabError::Program(program.to_owned(), format!("{error}{hint}"))
        }
    })?;
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code().is_some_and(|code| codes.contains(&code)) {
        return Ok(text);
    }
    let errors = String::from_utf8_lossy(&output.stderr);
    let said = if errors.trim().is_empty() { &text } else { &*errors };
    Err(LabError::Program(program.to_owned(), format!("{}: {}", output.status, end_of(said))))
}

/// The last lines of a text in one.
pub(super) fn end_of(text: &str) -> String {
    let last: Vec<&str> = text.lines().filter(|line| !line.trim().is_empty()).collect();
    last.get(last.len().saturating_sub(3)..).unwrap_or_default().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn two_comparisons_at_once_are_refused() {
        let path = std::env::temp_dir().join(format!("culvert-lock-{}", std::process::id()));
        let first = lock(&path).unwrap();
        let error = lock(&path).unwrap_err().to_string();
        assert!(error.contains("another comparison"), "{error}");
        drop(first);
        lock(&path).unwrap();
        fs::remove_file(&path).unwrap();
    }

    #[test]
    fn a_folder_is_of_nobody_else() {
        use std::os::unix::fs::PermissionsExt as _;
        let dir = std::env::temp_dir().join(format!("culvert-own-{:016x}", rand::random::<u64>()));
        make_own(&dir).unwrap();
        assert_eq!(fs::metadata(&dir).unwrap().permissions().mode() & 0o777, 0o700);
        assert!(make_own(&dir).unwrap_err().to_string().contains("culvert-own-"), "it is there already");
        fs::remove_dir(&dir).unwrap();
        std::os::unix::fs::symlink("/nowhere", &dir).unwrap();
        assert!(make_own(&dir).is_err(), "a link that somebody has laid there");
        fs::remove_file(&dir).unwrap();
        assert!(make_own(&dir.join("within")).is_err(), "what it is in is not made");
    }

    #[test]
    fn everybody_has_addresses_of_one_family() {
        for v6 in [false, true] {
            let ends = Ends::new(v6);
            let own = ends.network(50);
            for address in [ends.outer, ends.inner, own].concat() {
                assert_eq!(address.is_ipv6(), v6, "{address}");
            }
            let [near, far] = own.map(Ends::within);
            let expected =
                if v6 { ["fd99:32::1/64", "fd99:32::2/64"] } else { ["10.50.0.1/24", "10.50.0.2/24"] };
            assert_eq!([near, far], expected);
        }
    }
}
