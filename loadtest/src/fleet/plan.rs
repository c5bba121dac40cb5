//! What every tunnel is, made of the arguments once: bad ones are told before anything starts.

use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;
use std::time::Duration;

use ike::config::{ChildConfig, Life, Mode, PeerConfig, Retransmit, Uniqueness};
use ike::wire::TrafficSelector;
use ike::{EspProposal, Identity, IkeProposal};
use ipnet::Ipv4Net;

use super::LoadError;
use super::place::Place;
use super::proof::Proof;
use super::target::{Foreign, Target, Version};
use crate::InitiatorConfig;
use crate::initiator::Server;
use crate::probe::Flow;

/// The key of every tunnel on a node that is provisioned. It protects nothing but probes.
pub(crate) const PSK: &str = "loadtest-pre-shared-key";
/// That node's identity.
pub(crate) const HUB: &str = "hub.load.example";
/// The ESP proposal of every tunnel, where none is asked for.
const ESP: &str = "aes128gcm16";
/// Octets of a probe, where no size is asked for: an ordinary small packet.
pub(crate) const PACKET: usize = 128;

/// All tunnels.
#[derive(Clone, Debug)]
pub(crate) struct Plan {
    pub(crate) count: u32,
    pub(crate) server: Server,
    pub(crate) version: Version,
    pub(crate) ike: IkeProposal,
    pub(crate) esp: EspProposal,
    pub(crate) per_tenant: u32,
    pub(crate) timeout: Duration,
    pub(crate) proof: Proof,
    remote: Identity,
    /// If it is somebody else who has configured the responder.
    foreign: Option<Foreign>,
}

impl Plan {
    /// # Errors
    /// [`LoadError::Argument`] for what is no proposal, key or identity.
    pub(crate) fn new(target: &Target, foreign: Option<&Foreign>, count: u32) -> Result<Self, LoadError> {
        let foreign = foreign.filter(|foreign| foreign.no_provision).cloned();
        let bad = |what: &str, why: &dyn std::fmt::Display| LoadError::Argument(format!("{what}: {why}"));
        let proof = Proof::new(target, foreign.as_ref())?;
        // Either would show in nothing but tunnels that do not come up.
        if target.ike_port == target.natt_port {
            return Err(bad(
                "--natt-port",
                &"the same as --ike-port: IKE without UDP encapsulation has a port of its own",
            ));
        }
        if let Some(source) = foreign.as_ref().and_then(|foreign| foreign.source)
            && source.is_ipv4() != target.address.is_ipv4()
        {
            return Err(bad(
                "--source",
                &format!("{source} is of another family than {} (--address)", target.address),
            ));
        }
        let remote = foreign.as_ref().map_or(HUB, |foreign| &foreign.remote_identity);
        let ike = match &target.ike {
            Some(ike) => ike.clone(),
            None => target.version.proposal().parse().map_err(|e| bad("--ike", &e))?,
        };
        let esp = match &target.esp {
            Some(esp) => esp.clone(),
            None => ESP.parse().map_err(|e| bad("--esp", &e))?,
        };
        let this = Self {
            count,
            server: Server {
                address: target.address,
                ike_port: target.ike_port,
                natt_port: target.natt_port,
            },
            version: target.version,
            ike,
            esp,
            per_tenant: if foreign.is_some() { u32::MAX } else { target.per_tenant },
            timeout: target.timeout,
            proof,
            remote: remote.parse().map_err(|e| bad("--remote-identity", &e))?,
            foreign,
        };
        // The last is as good as any.
        this.config(this.place(count.saturating_sub(1)), 0)?;
        Ok(this)
    }

    pub(crate) const fn is_provisioned(&self) -> bool {
        self.foreign.is_none()
    }

    pub(crate) const fn place(&self, index: u32) -> Place {
        Place { index, per_tenant: self.per_tenant }
    }

    pub(crate) fn places(&self) -> impl Iterator<Item = Place> + use<> {
        let per_tenant = self.per_tenant;
        (0..self.count).map(move |index| Place { index, per_tenant })
    }

    /// Where an initiator sends from; the system's choice if `None`.
    pub(crate) fn source(&self, place: Place) -> Option<IpAddr> {
        let asked = self.foreign.as_ref().and_then(|foreign| foreign.source);
        asked.or_else(|| place.source(self.server.address))
    }

    /// Whether all initiators send from one address, whichever the system chooses.
    pub(crate) fn has_one_source(&self) -> bool {
        self.source(self.place(0)) == self.source(self.place(1))
    }

    /// Address of a tunnel inside.
    pub(crate) fn inner(&self, place: Place) -> Result<Ipv4Addr, LoadError> {
        match &self.foreign {
            None => Ok(place.inner()),
            Some(foreign) => {
                Ok(subnet(foreign.local_subnet.subnet(place.index), "--local-subnet")?.network())
            }
        }
    }

    /// What its flow number `flow` is, and where it goes: among the first so many tunnels. `None` where there is nobody that it
    /// could go to.
    pub(crate) fn route(
        &self,
        place: Place,
        flow: u32,
        among: u32,
    ) -> Result<Option<(Flow, Ipv4Addr)>, LoadError> {
        let Some(partner) = place.partner(flow, among) else { return Ok(None) };
        let flow = Flow { tenant: place.tenant(), from: place.index, to: partner.index };
        let destination = self.inner(partner)?;
        if let Some(foreign) = &self.foreign {
            let behind = subnet(foreign.remote_subnet.subnet(place.index), "--remote-subnet")?;
            if !behind.contains(&destination) {
                return Err(LoadError::Argument(format!(
                    "--remote-subnet {behind}: flows go from tunnel to tunnel, and {destination} of another is not in it"
                )));
            }
        }
        Ok(Some((flow, destination)))
    }

    /// An initiator that sends so many probes a second.
    pub(crate) fn config(&self, place: Place, rate: u32) -> Result<InitiatorConfig, LoadError> {
        let inner = self.inner(place)?;
        Ok(InitiatorConfig {
            peer: Arc::new(self.peer(place)?),
            server: self.server.address,
            ike_port: self.server.ike_port,
            natt_port: self.server.natt_port,
            source: self.source(place),
            inner,
            // Where its flows go is said when it is started.
            flow: Flow { tenant: place.tenant(), from: place.index, to: place.index },
            destination: inner,
            rate,
            packet_len: PACKET,
        })
    }

    /// The initiator's own configuration: the responder's, mirrored.
    fn peer(&self, place: Place) -> Result<PeerConfig, LoadError> {
        let (name, local, remote) = match &self.foreign {
            None => {
                (place.identity(), place.inner().into(), Ipv4Net::new_assert(Ipv4Addr::new(10, 7, 0, 0), 16))
            }
            Some(foreign) => (
                foreign.identity_template.of(place.index),
                subnet(foreign.local_subnet.subnet(place.index), "--local-subnet")?,
                subnet(foreign.remote_subnet.subnet(place.index), "--remote-subnet")?,
            ),
        };
        let local_id =
            name.parse().map_err(|error| LoadError::Argument(format!("--identity-template: {error}")))?;
        let auth = self.proof.of(&local_id)?;
        Ok(PeerConfig {
            name: place.peer_id().into(),
            local_id,
            remote_id: self.remote.clone(),
            auth,
            ike_proposals: [self.ike.clone()].into(),
            children: vec![Arc::new(ChildConfig {
                name: "lan".into(),
                local: vec![selector(local)],
                remote: vec![selector(remote)],
                proposals: [self.esp.clone()].into(),
                mode: Mode::Tunnel,
                life: Life::default(),
                resources: 1,
            })],
            dpd_interval: Duration::from_secs(30),
            force_encapsulation: true,
            uniqueness: Uniqueness::Replace,
            retransmit: Retransmit::DEFAULT,
            version: match self.version {
                Version::Ikev2 => ike::config::Version::V2,
                Version::Ikev1 => ike::config::Version::V1(ike::config::V1::default()),
            },
        })
    }
}

fn subnet(parsed: Result<Ipv4Net, String>, argument: &str) -> Result<Ipv4Net, LoadError> {
    parsed.map_err(|error| LoadError::Argument(format!("{argument}: {error}")))
}

fn selector(net: Ipv4Net) -> TrafficSelector {
    TrafficSelector::range(net.network().into(), net.broadcast().into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::engine::words;

    #[test]
    fn what_no_tunnel_could_come_up_with_is_told_at_once() {
        let refused = |target: &str, foreign: &str| {
            let target: Target = words::arguments(target);
            let foreign: Foreign = words::arguments(foreign);
            Plan::new(&target, Some(&foreign), 2).err().map(|error| error.to_string()).unwrap_or_default()
        };
        assert_eq!(refused("", ""), "");
        assert!(refused("--ike-port 4500", "").contains("--natt-port"));
        let file = std::env::temp_dir().join(format!("culvert-psk-{}", std::process::id()));
        let foreign = format!("--no-provision --psk-file {}", file.display());
        std::fs::write(&file, "\n").unwrap();
        assert!(refused("", &foreign).contains("no key"));
        std::fs::write(&file, "key\n").unwrap();
        assert_eq!(refused("", &foreign), "");
        let from = |source: &str| format!("{foreign} --source {source}");
        assert_eq!(refused("--address ::1", &from("::1")), "");
        assert!(refused("--address ::1", &from("127.0.0.1")).contains("--source"));
        assert!(refused("", &from("::1")).contains("--source"));
        let with = |words: &str| refused(words, &format!("--no-provision --ca-file {}", file.display()));
        assert!(with("").contains("--ca-file): it has no private key"), "{}", with(""));
        let authority = certificates::issue::Authority::new("authority").unwrap();
        std::fs::write(&file, authority.to_pem_with_key().unwrap()).unwrap();
        assert_eq!(with(""), "");
        assert!(with("--version ikev1").contains("ikev2"));
        assert!(with("--certificates").contains("--ca-file"));
        assert_eq!(refused("--certificates", ""), "");
        std::fs::remove_file(&file).unwrap();
    }
}
