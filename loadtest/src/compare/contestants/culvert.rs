//! Culvert.

use std::fmt::Write as _;
use std::net::IpAddr;
use std::path::{Path, PathBuf};

use super::{Contestant, Pair, version_of};
use crate::compare::lab::{About as _, Ends, Lab, LabError, Running, run};
use crate::compare::{Arguments, Cipher};

pub(crate) struct Culvert {
    daemon: PathBuf,
    client: PathBuf,
    cipher: Cipher,
    resource_sas: u8,
}

impl Culvert {
    pub(crate) fn find(arguments: &Arguments) -> Result<Self, String> {
        let own = std::env::current_exe().ok().and_then(|own| Some(own.parent()?.join("culvertd")));
        let daemon = arguments.culvertd.clone().or(own).filter(|file| file.is_file());
        let hint = "no culvertd beside this program; build it with: make release, or --culvertd FILE";
        let daemon = daemon.ok_or(hint)?;
        let client = daemon.with_file_name("culvert");
        if !client.is_file() {
            return Err(format!("no culvert beside {}", daemon.display()));
        }
        Ok(Self { daemon, client, cipher: arguments.cipher, resource_sas: arguments.resource_sas })
    }

    /// Starts a daemon, whose API is the socket that is returned.
    pub(crate) fn daemon(
        &self,
        lab: &Lab,
        side: usize,
        outer: IpAddr,
        folder: &Path,
    ) -> Result<(Running, String), LabError> {
        let folder = folder.join(format!("node{side}"));
        std::fs::create_dir_all(&folder).about(folder.display().to_string())?;
        let socket = folder.join("api.sock");
        let file = folder.join("culvertd.toml");
        std::fs::write(&file, config(&folder, &socket, outer)).about(file.display().to_string())?;
        let words = ["--config", &file.display().to_string()];
        let mut running = lab.start(side, &folder, &self.daemon.display().to_string(), &words)?;
        let api = format!("unix:{}", socket.display());
        let client = self.client.display().to_string();
        let own = std::slice::from_mut(&mut running);
        lab.wait("culvertd", own, || run(&client, &["--server", &api, "get", "node"]).is_ok())?;
        Ok((running, api))
    }

    fn apply(&self, api: &str, file: &Path) -> Result<(), LabError> {
        let (client, file) = (self.client.display().to_string(), file.display().to_string());
        run(&client, &["--server", api, "apply", "-f", &file]).map(drop)
    }
}

impl Contestant for Culvert {
    fn version(&self) -> String {
        version_of(&self.daemon, &["--version"])
    }

    fn start(&self, lab: &Lab) -> Result<Pair, LabError> {
        let folder = lab.folder("culvert")?;
        let mut programs = Vec::new();
        // Who answers first, and who starts the tunnel last.
        for (side, outer) in lab.ends.outer.into_iter().enumerate().rev() {
            let (running, api) = self.daemon(lab, side, outer, &folder)?;
            let file = folder.join(format!("tenant{side}.yaml"));
            let text = manifest(&lab.ends, side, lab.mtu, self.cipher, self.resource_sas);
            std::fs::write(&file, text).about(file.display().to_string())?;
            self.apply(&api, &file)?;
            programs.insert(0, running);
        }
        lab.wait_for_ping("culvert", &mut programs)?;
        Ok(Pair { programs, inner: lab.ends.inner })
    }
}

fn config(folder: &Path, socket: &Path, outer: IpAddr) -> String {
    format!(
        "state_dir = \"{}\"\n[ike]\nlisten = [\"{outer}\"]\n[grpc]\nsocket = \"{}\"\nrate_limit = 1000000\n\
         [router]\nraw_esp = false\n[log]\nlevel = \"warn\"\n",
        folder.join("state").display(),
        socket.display(),
    )
}

fn manifest(ends: &Ends, side: usize, mtu: u16, cipher: Cipher, sas: u8) -> String {
    let (other, names) = (1 - side, ["left", "right"]);
    let name = |side: usize| names.get(side).copied().unwrap_or_default();
    let inner = |side: usize| ends.inner.get(side).map(|address| Ends::host(*address)).unwrap_or_default();
    let outer = ends.outer.get(other).map(ToString::to_string).unwrap_or_default();
    let mut text = String::new();
    let _ = write!(
        text,
        "kind: Tenant\nname: compare\nuplink: {{tun: {{device: cvcmp{side}, addresses: ['{near}'], mtu: {mtu}}}}}\n---\n\
         kind: Secret\nname: compare/psk\nvalue: compared-on-one-machine\n---\n\
         kind: Peer\nname: compare/{there}\nremoteAddresses: ['{outer}']\nlocalIdentity: {here}.example\n\
         remoteIdentity: {there}.example\nauth: {{psk: psk}}\nstartAction: {start}\n\
         ike: {{proposals: [aes128gcm16-prfsha256-x25519]}}\n\
         children: [{{name: net, localSubnets: ['{near}'], remoteSubnets: ['{far}'], espProposals: [{cipher}], \
         resourceSas: {sas}}}]\n",
        near = inner(side),
        far = inner(other),
        here = name(side),
        there = name(other),
        start = if side == 0 { "START" } else { "NONE" },
        cipher = cipher.name(),
    );
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_sides_mirror_each_other() {
        let ends = Ends::new(true);
        let left = manifest(&ends, 0, 1400, Cipher::Aes256gcm16, 2);
        let right = manifest(&ends, 1, 1400, Cipher::Aes256gcm16, 2);
        for text in [&left, &right] {
            assert!(
                text.contains("espProposals: [aes256gcm16], resourceSas: 2") && text.contains("mtu: 1400"),
                "{text}"
            );
        }
        assert!(left.contains("localSubnets: ['fd99:1::1/128'], remoteSubnets: ['fd99:2::1/128']"), "{left}");
        assert!(
            right.contains("localSubnets: ['fd99:2::1/128'], remoteSubnets: ['fd99:1::1/128']"),
            "{right}"
        );
        assert!(left.contains("START") && right.contains("NONE"));
    }
}
