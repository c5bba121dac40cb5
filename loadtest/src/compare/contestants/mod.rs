//! Who is compared: how each is started on both sides.

mod culvert;
mod forwarders;
mod strongswan;
mod wireguard;

use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::Arguments;
use super::lab::{Lab, LabError, Running};

pub(crate) use culvert::Culvert;
pub(crate) use strongswan::{StrongSwan, Telling, responder as strongswan_responder};

/// A contestant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, clap::ValueEnum)]
pub(crate) enum Name {
    /// The cable alone, with offload: what the machine can do
    Raw,
    /// TUN and UDP with offload, and no tunnel's work: the ceiling of everyone's path
    Forwarder,
    /// The same packet by packet: the ceiling of who has no offload
    ForwarderPlain,
    /// Culvert at both ends
    Culvert,
    /// wireguard-go at both ends
    WireguardGo,
    /// boringtun at both ends, one thread
    Boringtun,
    /// strongSwan with its userspace ESP (libipsec) at both ends
    Strongswan,
}

impl Name {
    pub(crate) const ALL: [Self; 7] = [
        Self::Raw,
        Self::Forwarder,
        Self::ForwarderPlain,
        Self::Culvert,
        Self::WireguardGo,
        Self::Boringtun,
        Self::Strongswan,
    ];

    /// As it is called in tables and JSON.
    pub(crate) const fn text(self) -> &'static str {
        match self {
            Self::Raw => "raw",
            Self::Forwarder => "forwarder",
            Self::ForwarderPlain => "forwarder-plain",
            Self::Culvert => "culvert",
            Self::WireguardGo => "wireguard-go",
            Self::Boringtun => "boringtun",
            Self::Strongswan => "strongswan",
        }
    }
}

/// Somebody who is installed.
pub(crate) trait Contestant {
    /// What it says of its version.
    fn version(&self) -> String;
    /// Starts it on both sides; it runs once packets come through.
    fn start(&self, lab: &Lab) -> Result<Pair, LabError>;
}

/// A contestant that runs.
#[derive(Debug)]
pub(crate) struct Pair {
    /// On the first side and on the second.
    pub(crate) programs: Vec<Running>,
    /// Where traffic goes from and to.
    pub(crate) inner: [IpAddr; 2],
}

/// Who takes part, and who does not: with what would be to do about it.
pub(crate) fn find(arguments: &Arguments, name: Name) -> Result<Box<dyn Contestant>, String> {
    let file = |given: &Option<PathBuf>, name: &str, hint: &str| {
        let found = given.clone().or_else(|| in_path(name)).filter(|file| file.is_file());
        found.ok_or_else(|| hint.to_owned())
    };
    Ok(match name {
        Name::Raw => Box::new(forwarders::Raw),
        Name::Forwarder => Box::new(forwarders::Forwarder { offload: true }),
        Name::ForwarderPlain => Box::new(forwarders::Forwarder { offload: false }),
        Name::Culvert => Box::new(Culvert::find(arguments)?),
        Name::WireguardGo => {
            let hint = "no wireguard-go; the package wireguard-go of Debian 13 has segmentation offload: --wireguard-go FILE";
            Box::new(wireguard::WireGuard::new(
                file(&arguments.wireguard_go, "wireguard-go", hint)?,
                &["-f"],
            )?)
        }
        Name::Boringtun => {
            let hint = "no boringtun-cli; try: cargo install boringtun-cli, and --boringtun FILE";
            let words = &["-f", "--disable-drop-privileges", "-t", "1"];
            Box::new(wireguard::WireGuard::new(file(&arguments.boringtun, "boringtun-cli", hint)?, words)?)
        }
        Name::Strongswan if arguments.mtu > strongswan::LARGEST_MTU && arguments.needs_tunnels() => {
            return Err(format!(
                "its TUN device carries packets of {} octets at most; try: --mtu {0}",
                strongswan::LARGEST_MTU
            ));
        }
        Name::Strongswan => Box::new(StrongSwan::find(arguments)?),
    })
}

fn in_path(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|folder| folder.join(name)).find(|file| file.is_file())
}

/// # Errors
/// If a program is not there that everybody is measured with.
pub(crate) fn is_installed(program: &str, package: &str) -> Result<(), LabError> {
    let hint =
        || LabError::Program(program.to_owned(), format!("not installed; try: apt-get install {package}"));
    in_path(program).map(drop).ok_or_else(hint)
}

/// Files that somebody leaves who is killed, and that are in the way of the next.
pub(crate) fn sockets() -> impl Iterator<Item = PathBuf> {
    wireguard::sockets()
}

/// The first line of what a program says of its version.
fn version_of(program: &Path, words: &[&str]) -> String {
    let said = super::lab::run(&program.display().to_string(), words);
    said.ok().and_then(|text| text.lines().next().map(str::to_owned)).unwrap_or_else(|| "unknown".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words;

    #[test]
    fn who_cannot_have_the_mtu_is_left_out_with_a_word() {
        let found = |words: &str| find(&words::arguments(words), Name::Strongswan);
        assert!(found("--mtu 1438").is_err_and(|hint| hint.contains("--mtu 1400")));
        for words in ["--mtu 1400", "--mtu 1438 --what handshakes"] {
            // It may not be installed.
            assert!(found(words).err().is_none_or(|hint| !hint.contains("--mtu")), "{words}");
        }
    }

    #[test]
    fn who_lacks_a_program_is_told_its_package() {
        is_installed("sh", "dash").unwrap();
        let error = is_installed("culvert-no-such-program", "iputils-ping").unwrap_err().to_string();
        assert!(error.contains("apt-get install iputils-ping"), "{error}");
    }
}
