//! The cable alone, and TUN devices with UDP between them and no work at all.

use super::{Contestant, Pair};
use crate::compare::forward::{DEVICE, NETWORK};
use crate::compare::lab::{About as _, Ends, Lab, LabError, Running};

/// The cable.
pub(super) struct Raw;

impl Contestant for Raw {
    fn version(&self) -> String {
        std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default().trim().to_owned()
    }

    fn start(&self, lab: &Lab) -> Result<Pair, LabError> {
        Ok(Pair { programs: Vec::new(), inner: lab.ends.outer })
    }
}

/// `loadtest forward` on both sides.
pub(super) struct Forwarder {
    pub(super) offload: bool,
}

impl Contestant for Forwarder {
    fn version(&self) -> String {
        env!("CARGO_PKG_VERSION").to_owned()
    }

    fn start(&self, lab: &Lab) -> Result<Pair, LabError> {
        let own = std::env::current_exe().about("this program")?.display().to_string();
        let [left, right] = lab.ends.outer.map(|address| address.to_string());
        let folder = lab.folder(if self.offload { "forwarder" } else { "forwarder-plain" })?;
        let mtu = lab.mtu.to_string();
        let inner = lab.ends.network(NETWORK);
        let start = |side: usize, near: &str, far: &str| -> Result<Running, LabError> {
            let mut words = vec!["forward", "--local", near, "--peer", far];
            if !self.offload {
                words.push("--plain");
            }
            let mut running = lab.start(side, &folder, &own, &words)?;
            let own = std::slice::from_mut(&mut running);
            lab.wait("the forwarder's device", own, || {
                lab.run(side, "ip", &["link", "show", DEVICE]).is_ok()
            })?;
            let address = inner.get(side).map(|address| Ends::within(*address)).unwrap_or_default();
            lab.add_address(side, &address, DEVICE)?;
            lab.run(side, "ip", &["link", "set", DEVICE, "mtu", &mtu, "up"])?;
            Ok(running)
        };
        Ok(Pair { programs: vec![start(0, &left, &right)?, start(1, &right, &left)?], inner })
    }
}
