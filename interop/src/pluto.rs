//! Libreswan's pluto for IKE alone: a preloaded library answers in place of a kernel with IPsec, so no traffic flows.
//!
//! Its packages conflict with those of strongSwan. So it is not installed but lies, with the libraries that it needs
//! beside, in a directory of the build, where `.ci/packages` unpacks it.

use std::path::{Path, PathBuf};

use crate::command::{Running, Said, binary, must, run};
use crate::lab::{Lab, lacks};
use crate::wait::until;

/// Answers what pluto asks of the kernel.
const KERNEL: &str = include_str!("../libreswan/kernel.c");

/// What the host has of its own. No kernel is there whose routes a script would have to change, and Libreswan 5 has IKEv1
/// off.
const HOST: &str = "config setup\n    ikev1-policy=accept\nconn %default\n    leftupdown=%disabled\n";

/// A running pluto.
#[derive(Debug)]
pub struct Pluto {
    directory: PathBuf,
    root: PathBuf,
    process: Running,
}

impl Pluto {
    /// Whether it can run here; says what is missing. In CI nothing may be.
    pub fn is_here() -> bool {
        let pluto = root().join("usr/libexec/ipsec/pluto");
        let needed = [pluto, "/usr/bin/cc".into()];
        !lacks(needed.iter().filter(|path| !path.exists()).map(|path| path.display().to_string()).collect())
    }

    /// Starts it in a namespace with what `culvert export` writes for it: `ipsec.conf`, then `ipsec.secrets`.
    pub fn start(lab: &Lab, namespace: &str, exported: &str) -> Self {
        let (root, directory) = (root(), lab.file(&format!("pluto-{namespace}")));
        for sub in ["run/pluto", "nss"] {
            let made = std::fs::create_dir_all(directory.join(sub));
            made.unwrap_or_else(|e| panic!("{}: {e}", directory.display()));
        }
        let (conf, secrets) = parts(exported);
        let included = directory.join("exported.conf");
        write(&directory.join("ipsec.conf"), &format!("{HOST}include {}\n", included.display()));
        write(&included, conf);
        write(&directory.join("ipsec.secrets"), secrets);
        write(&directory.join("kernel.c"), KERNEL);
        let (kernel, source) = (directory.join("kernel.so"), directory.join("kernel.c"));
        let files = [kernel.display().to_string(), source.display().to_string()];
        must("cc", &["-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o", &files[0], &files[1]]);
        let certutil = root.join("usr/bin/certutil").display().to_string();
        let database = format!("sql:{}/nss", directory.display());
        must("env", &[&libraries(&root), &certutil, "-N", "-d", &database, "--empty-password"]);
        let process = launch(namespace, &directory, &root);
        let this = Self { directory, root, process };
        until("pluto answers", || this.whack(&["--status"]), |said| said.ok);
        this
    }

    /// Runs whack against it.
    pub fn whack(&self, arguments: &[&str]) -> Said {
        let whack = self.root.join("usr/libexec/ipsec/whack").display().to_string();
        let socket = self.directory.join("run/pluto/pluto.ctl").display().to_string();
        let libraries = libraries(&self.root);
        run("env", &[&[libraries.as_str(), &whack, "--ctlsocket", &socket], arguments].concat())
    }

    /// Its Child SAs, one a line.
    pub fn children(&self) -> Vec<String> {
        let said = self.whack(&["--trafficstatus"]);
        said.text.lines().filter(|line| line.contains("type=ESP")).map(ToOwned::to_owned).collect()
    }

    /// Its log so far.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.join("log")).unwrap_or_default()
    }

    /// Whether it still runs.
    pub fn alive(&mut self) -> bool {
        self.process.alive()
    }
}

/// Where `.ci/packages` has unpacked it: beside the directory of this build's binaries.
fn root() -> PathBuf {
    let culvert = PathBuf::from(binary("culvert"));
    let target = culvert.parent().and_then(Path::parent).map(Path::to_owned);
    target.unwrap_or_default().join("libreswan")
}

/// Its own libraries are found before those of the system, as a word of an environment.
fn libraries(root: &Path) -> String {
    let triple = format!("{}-linux-gnu", std::env::consts::ARCH);
    let root = root.display();
    format!("LD_LIBRARY_PATH={root}/usr/lib/{triple}:{root}/lib/{triple}")
}

/// Each of the files begins with a comment that has its name.
fn parts(exported: &str) -> (&str, &str) {
    let of_secrets = |line: &&str| line.starts_with('#') && line.ends_with(".secrets");
    let comment = exported.lines().find(of_secrets);
    let parts = comment.and_then(|comment| exported.split_once(comment));
    parts.unwrap_or_else(|| panic!("no secrets: {exported}"))
}

fn launch(namespace: &str, directory: &Path, root: &Path) -> Running {
    let (dir, root_dir) = (directory.display(), root.display());
    // It starts programs of its own by the paths they have when installed, and its sockets are in /run.
    let script = format!(
        "mount --make-rprivate / && mount --bind {dir}/run /run && \
         mount --bind {root_dir}/usr/libexec /usr/libexec && \
         {libraries} LD_PRELOAD={dir}/kernel.so exec /usr/libexec/ipsec/pluto --nofork --stderrlog \
         --config {dir}/ipsec.conf --secretsfile {dir}/ipsec.secrets --nssdir {dir}/nss --rundir /run/pluto",
        libraries = libraries(root),
    );
    Running::start("ip", &["netns", "exec", namespace, "bash", "-c", &script], &directory.join("log"))
}

fn write(path: &Path, text: &str) {
    std::fs::write(path, text).unwrap_or_else(|e| panic!("{}: {e}", path.display()));
}
