//! strongSwan's charon with its userspace ESP.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Contestant, Pair, in_path, version_of};
use crate::compare::lab::{About as _, Ends, Lab, LabError, Running, run};
use crate::compare::{Arguments, Cipher};

/// Its TUN device, on either side.
const DEVICE: &str = "ipsec0";
/// The MTU that it has. What is larger charon reads in part only, and nothing of it arrives.
pub(super) const LARGEST_MTU: u16 = 1400;
/// Where distributions have it.
const PLACES: [&str; 3] =
    ["/usr/lib/ipsec/charon", "/usr/libexec/ipsec/charon", "/usr/lib/strongswan/charon"];

/// What it writes into its log, the standard error. Without a word of configuration it writes some twenty lines of each handshake, there and
/// to the system's log, where Culvert, at `warn`, writes none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Telling {
    /// What it does with its one tunnel, so that a failure has its reason.
    Everything,
    /// Its start, and nothing of a handshake: of those that fail the initiator knows why.
    Start,
}

impl Telling {
    const fn levels(self) -> &'static str {
        match self {
            Self::Everything => "default = 1",
            Self::Start => "default = -1\n      dmn = 1\n      lib = 1",
        }
    }
}

pub(crate) struct StrongSwan {
    charon: PathBuf,
    swanctl: PathBuf,
    cipher: Cipher,
    confined: bool,
}

/// Whether AppArmor confines programs. The packages bring profiles that let charon and swanctl neither read nor make anything in a folder of ours.
fn is_confined() -> bool {
    std::fs::read_to_string("/sys/module/apparmor/parameters/enabled").is_ok_and(|text| text.trim() == "Y")
}

impl StrongSwan {
    pub(crate) fn find(arguments: &Arguments) -> Result<Self, String> {
        let installed = || PLACES.iter().map(PathBuf::from).find(|file| file.is_file());
        let charon = arguments.charon.clone().or_else(installed).filter(|file| file.is_file());
        match (charon, in_path("swanctl")) {
            (Some(charon), Some(swanctl)) => {
                Ok(Self { charon, swanctl, cipher: arguments.cipher, confined: is_confined() })
            }
            _ => Err("no charon or no swanctl; try: apt-get install strongswan-charon strongswan-swanctl \
                      libcharon-extra-plugins libstrongswan-standard-plugins"
                .to_owned()),
        }
    }

    /// One of its programs as it is run: a profile is of a path, so a copy has none.
    fn program(&self, file: &Path, folder: &Path) -> Result<PathBuf, LabError> {
        let name = file.file_name().filter(|_| self.confined);
        let Some(copy) = name.map(|name| folder.join(name)) else { return Ok(file.to_owned()) };
        std::fs::copy(file, &copy).about(copy.display().to_string())?;
        Ok(copy)
    }

    /// Starts a charon that tells so much, and gives it its connections.
    pub(crate) fn daemon(
        &self,
        lab: &Lab,
        side: usize,
        folder: &Path,
        connections: &str,
        telling: Telling,
    ) -> Result<Running, LabError> {
        let folder = folder.join(format!("charon{side}"));
        let (conf, private) = (folder.join("swanctl"), folder.join("run"));
        for folder in [&conf, &private] {
            std::fs::create_dir_all(folder).about(folder.display().to_string())?;
        }
        let write = |name: &str, text: &str| {
            let file = folder.join(name);
            std::fs::write(&file, text).about(file.display().to_string())
        };
        write("strongswan.conf", &settings(&private, telling))?;
        write("swanctl/swanctl.conf", connections)?;
        // Its pid file has one place whatever is configured: each has a /run of its own.
        let script = format!(
            "mount --make-rprivate / && mount --bind '{run}' /run && \
             STRONGSWAN_CONF='{folder}/strongswan.conf' exec {charon}",
            run = private.display(),
            folder = folder.display(),
            charon = self.program(&self.charon, &folder)?.display(),
        );
        let swanctl = self.program(&self.swanctl, &folder)?.display().to_string();
        let mut running = lab.start(side, &folder, "sh", &["-c", &script])?;
        let uri = uri(&folder);
        let own = std::slice::from_mut(&mut running);
        lab.wait("charon", own, || run(&swanctl, &["--stats", "--uri", &uri]).is_ok())?;
        run(
            &swanctl,
            &["--load-all", "--uri", &uri, "--file", &conf.join("swanctl.conf").display().to_string()],
        )?;
        Ok(running)
    }
}

/// Where the charon of this folder is spoken to.
fn uri(folder: &Path) -> String {
    format!("unix://{}", folder.join("run/charon.vici").display())
}

impl Contestant for StrongSwan {
    fn version(&self) -> String {
        version_of(&self.charon, &["--version"])
    }

    fn start(&self, lab: &Lab) -> Result<Pair, LabError> {
        let folder = lab.folder("strongswan")?;
        let start =
            |side| self.daemon(lab, side, &folder, &pair(&lab.ends, side, self.cipher), Telling::Everything);
        let mut programs = vec![start(0)?, start(1)?];
        let swanctl = self.program(&self.swanctl, &folder)?.display().to_string();
        run(
            &swanctl,
            &["--initiate", "--child", "c", "--timeout", "15", "--uri", &uri(&folder.join("charon0"))],
        )?;
        lab.wait_for_ping("strongSwan", &mut programs)?;
        // Its own is the largest, which no option of it changes.
        for side in 0..programs.len() {
            lab.run(side, "ip", &["link", "set", DEVICE, "mtu", &lab.mtu.to_string()])?;
        }
        Ok(Pair { programs, inner: lab.ends.inner })
    }
}

fn settings(private: &Path, telling: Telling) -> String {
    format!(
        "charon {{\n  load_modular = yes\n  cookie_threshold = 0\n  block_threshold = 0\n  init_limit_half_open = 0\n\
         \n  ikesa_table_size = 4096\n  ikesa_table_segments = 16\n  plugins {{\n    include /etc/strongswan.d/charon/*.conf\n\
         \n    kernel-libipsec {{\n      load = yes\n    }}\n    bypass-lan {{\n      load = no\n    }}\n\
         \n    vici {{\n      socket = unix://{}/charon.vici\n    }}\n  }}\n\
         \n  syslog {{\n    daemon {{\n      default = -1\n    }}\n    auth {{\n      default = -1\n    }}\n  }}\n\
         \n  filelog {{\n    stderr {{\n      {}\n    }}\n  }}\n}}\n",
        private.display(),
        telling.levels(),
    )
}

/// The connection of a pair.
fn pair(ends: &Ends, side: usize, cipher: Cipher) -> String {
    let other = 1 - side;
    let outer = |side: usize| ends.outer.get(side).map(ToString::to_string).unwrap_or_default();
    let inner = |side: usize| ends.inner.get(side).map(|address| Ends::host(*address)).unwrap_or_default();
    let mut text = String::new();
    let _ = write!(
        text,
        "connections {{\n  t {{\n    version = 2\n    local_addrs = {}\n    remote_addrs = {}\n\
         \n    proposals = aes128gcm16-prfsha256-x25519\n    encap = yes\n\
         \n    local {{\n      auth = psk\n      id = s{side}.example\n    }}\n\
         \n    remote {{\n      auth = psk\n      id = s{other}.example\n    }}\n\
         \n    children {{\n      c {{\n        local_ts = {}\n        remote_ts = {}\n        esp_proposals = {}\n      }}\n    }}\n  }}\n}}\n\
         secrets {{\n  ike-1 {{\n    id-1 = s0.example\n    id-2 = s1.example\n    secret = \"compared\"\n  }}\n}}\n",
        outer(side),
        outer(other),
        inner(side),
        inner(other),
        cipher.name(),
    );
    text
}

/// The connection of a responder that anybody with the key may open tunnels at.
pub(crate) fn responder(outer: IpAddr, version: u8, ike: &str, key: &str) -> String {
    format!(
        "connections {{\n  t {{\n    version = {version}\n    local_addrs = {outer}\n    remote_addrs = %any\n\
         \n    proposals = {ike}\n    encap = yes\n    unique = never\n\
         \n    local {{\n      auth = psk\n      id = hub.example\n    }}\n\
         \n    remote {{\n      auth = psk\n      id = %any\n    }}\n\
         \n    children {{\n      c {{\n        local_ts = 10.0.0.0/8\n        remote_ts = 0.0.0.0/0\n        esp_proposals = aes128gcm16\n      }}\n    }}\n  }}\n}}\n\
         secrets {{\n  ike-1 {{\n    secret = \"{key}\"\n  }}\n}}\n"
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::compare::lab::WITHIN_SELECTORS;

    #[test]
    fn what_is_confined_where_it_lies_is_run_as_a_copy() {
        let folder = std::env::temp_dir().join(format!("culvert-copies-{:016x}", rand::random::<u64>()));
        std::fs::create_dir(&folder).unwrap();
        let of = |confined| {
            let cipher = Cipher::Aes128gcm16;
            let charon =
                StrongSwan { charon: "/bin/true".into(), swanctl: "/bin/true".into(), cipher, confined };
            charon.program(&charon.charon, &folder).unwrap()
        };
        assert_eq!(of(false), Path::new("/bin/true"));
        let copy = of(true);
        assert_eq!(copy, folder.join("true"));
        run(&copy.display().to_string(), &[]).unwrap();
        std::fs::remove_dir_all(&folder).unwrap();
    }

    #[test]
    fn a_responder_has_an_address_in_what_it_agrees_to() {
        let text = responder(IpAddr::from([127, 0, 0, 1]), 2, "aes128-sha256-x25519", "k");
        let selector = text.lines().find_map(|line| line.trim().strip_prefix("local_ts = ")).unwrap();
        let (network, len) = selector.split_once('/').unwrap();
        let bits = |address: &str| address.parse::<std::net::Ipv4Addr>().unwrap().to_bits();
        let own = bits(WITHIN_SELECTORS.split_once('/').unwrap().0);
        assert_eq!((own ^ bits(network)) >> (32 - len.parse::<u32>().unwrap()), 0, "{selector}");
    }

    #[test]
    fn the_sides_mirror_each_other_and_braces_match() {
        let ends = Ends::new(false);
        let (left, right) = (pair(&ends, 0, Cipher::Aes128gcm16), pair(&ends, 1, Cipher::Aes128gcm16));
        assert!(left.contains("local_ts = 10.1.0.1/32") && right.contains("remote_ts = 10.1.0.1/32"));
        let responder = responder(IpAddr::from([10, 0, 0, 1]), 1, "aes128-sha256-modp2048", "k");
        let both = [Telling::Everything, Telling::Start].map(|telling| settings(Path::new("/x"), telling));
        let [everything, start] = both.clone();
        for text in [left, right, responder, everything, start] {
            assert_eq!(text.matches('{').count(), text.matches('}').count(), "{text}");
        }
        assert!(
            both.iter().all(|text| text.contains("syslog {\n    daemon {\n      default = -1")),
            "{both:?}"
        );
        assert!(both[0].contains("default = 1\n") && !both[1].contains("default = 1\n"), "{both:?}");
    }
}
