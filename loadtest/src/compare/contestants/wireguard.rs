//! WireGuard in userspace, whoever's: they are told the same way.

use std::net::SocketAddr;
use std::path::PathBuf;

use super::{Contestant, Pair, in_path, version_of};
use crate::compare::lab::{About as _, Ends, Lab, LabError, run};

/// The network inside that it is in.
const NETWORK: u8 = 50;
/// Its devices, one on each side. The control socket has the device's name, and both sides see the same files.
const DEVICES: [&str; 2] = ["cvcmpwgl", "cvcmpwgr"];
const PORT: u16 = 51820;

/// Where its programs are spoken to.
pub(super) fn sockets() -> impl Iterator<Item = PathBuf> {
    DEVICES.iter().map(|device| PathBuf::from(format!("/var/run/wireguard/{device}.sock")))
}

pub(super) struct WireGuard {
    program: PathBuf,
    words: &'static [&'static str],
}

impl WireGuard {
    pub(super) fn new(program: PathBuf, words: &'static [&'static str]) -> Result<Self, String> {
        match in_path("wg") {
            Some(_) => Ok(Self { program, words }),
            None => Err("no wg to configure it; try: apt-get install wireguard-tools".to_owned()),
        }
    }
}

impl Contestant for WireGuard {
    fn version(&self) -> String {
        version_of(&self.program, &["--version"])
    }

    fn start(&self, lab: &Lab) -> Result<Pair, LabError> {
        let name = self.program.file_name().unwrap_or_default().to_string_lossy().into_owned();
        let folder = lab.folder(&name)?;
        let (program, mtu) = (self.program.display().to_string(), lab.mtu.to_string());
        let mut public = Vec::new();
        for device in DEVICES {
            let key = run("wg", &["genkey"])?;
            let file = folder.join(format!("{device}.key"));
            std::fs::write(&file, &key).about(file.display().to_string())?;
            let derive = format!("wg pubkey < {}", file.display());
            public.push(run("sh", &["-c", &derive])?.trim().to_owned());
        }
        let addresses = lab.ends.network(NETWORK);
        let mut programs = Vec::new();
        for (side, device) in DEVICES.into_iter().enumerate() {
            let other = 1 - side;
            let words = [self.words, &[device]].concat();
            let mut running = lab.start(side, &folder, &program, &words)?;
            let own = std::slice::from_mut(&mut running);
            lab.wait(&name, own, || lab.run(side, "wg", &["show", device]).is_ok())?;
            let key = folder.join(format!("{device}.key")).display().to_string();
            let (Some(peer), Some(outer), Some(near), Some(far)) =
                (public.get(other), lab.ends.outer.get(other), addresses.get(side), addresses.get(other))
            else {
                continue;
            };
            let (port, endpoint) = (PORT.to_string(), SocketAddr::new(*outer, PORT).to_string());
            let allowed = Ends::host(*far);
            let set = ["set", device, "listen-port", &port, "private-key", &key, "peer", peer];
            let set = [&set[..], &["endpoint", &endpoint, "allowed-ips", &allowed]].concat();
            lab.run(side, "wg", &set)?;
            lab.add_address(side, &Ends::within(*near), device)?;
            lab.run(side, "ip", &["link", "set", device, "mtu", &mtu, "up"])?;
            programs.push(running);
        }
        Ok(Pair { programs, inner: addresses })
    }
}
