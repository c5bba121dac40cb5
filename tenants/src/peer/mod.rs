//! A peer: who it is, where it may come from, how it authenticates, and what it may carry.

mod algorithms;
mod auth;
mod child;
pub(crate) mod claims;
mod esp_options;
mod ike_spec;
mod lifetime;
mod pool;
mod version;
mod warnings;

use std::net::SocketAddr;

use culvert_proto::v1;
use ike::Identity;
use ike::config::Mode;

use algorithms::Allowed;
pub use auth::Auth;
pub use child::{ChildSpec, mode_to_proto};
pub use esp_options::{DontFragment, EspOptions, Mss, Padding};
pub use ike_spec::{DpdAction, IkeSpec};
pub use lifetime::{ChildLifetime, Span};
pub use version::{IkeV1, IkeVersion};

use crate::host_name::HostName;
use crate::limits;
use crate::meta::Meta;
use crate::name::{PeerName, TenantName};
use crate::remote::RemoteAddress;
use crate::tenant::display_name;
use crate::violation::Violations;

/// A peer as it is stored.
#[derive(Clone, Debug, PartialEq)]
pub struct Peer {
    /// Its resource name.
    pub name: PeerName,
    /// Number of its tenant ([`crate::Tenant::number`]).
    pub tenant: u32,
    /// What the data path and the metrics know it by. Never reused in a catalog; from 1 on.
    pub uid: u64,
    /// What is configured.
    pub spec: PeerSpec,
    /// Version and times.
    pub meta: Meta,
}

/// What is configured of a peer.
#[derive(Clone, Debug, PartialEq)]
pub struct PeerSpec {
    /// A name for people.
    pub display_name: String,
    /// Who we are.
    pub local_identity: Identity,
    /// Who the peer is.
    pub remote_identity: Identity,
    /// Where the peer may come from; anywhere if empty.
    pub remote_addresses: Vec<RemoteAddress>,
    /// How both authenticate.
    pub auth: Auth,
    /// Who begins.
    pub start_action: StartAction,
    /// The IKE SA.
    pub ike: IkeSpec,
    /// The Child SAs; at least one, names unique.
    pub children: Vec<ChildSpec>,
    /// Use UDP encapsulation even without a NAT.
    pub force_encapsulation: bool,
    /// Legacy algorithms are allowed.
    pub legacy: bool,
}

/// Who begins a negotiation.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StartAction {
    /// The peer.
    None,
    /// We, whenever the tunnel is down.
    Start,
    /// We, once a packet is for the tunnel.
    OnDemand,
}

/// Where we initiate to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Destination {
    /// To this address.
    Address(SocketAddr),
    /// To what the name resolves to, at this port.
    Name(HostName, u16),
}

impl PeerSpec {
    /// Whether both say the same in the same letters. As values they are the same where the letters of an identity differ, by which a peer
    /// is found; it is shown, and signs, what is written.
    pub fn is_written_as(&self, other: &Self) -> bool {
        self == other
            && self.local_identity.is_written_as(&other.local_identity)
            && self.remote_identity.is_written_as(&other.remote_identity)
    }

    /// The values of a message for a peer of `tenant`, or all that is wrong with it. Output-only fields are ignored.
    pub fn parse(tenant: &TenantName, peer: &v1::Peer) -> Result<Self, Violations> {
        let mut faults = Violations::new();
        let display_name = display_name(&peer.display_name, &mut faults);
        let local_identity = faults.note("local_identity", parse_identity(&peer.local_identity));
        let remote_identity = faults.note("remote_identity", parse_identity(&peer.remote_identity));
        let remote_addresses = parse_addresses(&peer.remote_addresses, &mut faults);
        let start_action = parse_start_action(peer.start_action, &remote_addresses, &mut faults);
        let mut inner = Violations::new();
        let ike = IkeSpec::parse(peer.ike.as_ref(), peer.legacy, &mut inner);
        faults.add_all("ike", inner);
        let (auth, remote) = (peer.auth.as_ref(), remote_identity.as_ref());
        let auth = Auth::parse(tenant, auth, &ike.version, remote, &mut faults);
        if let Some(what) = ike.begins().filter(|_| !has_host(&remote_addresses)) {
            faults.add(
                "remote_addresses",
                format!("{what} needs a single address or a host name to initiate to"),
            );
        }
        let allowed = Allowed { version: ike.version, legacy: peer.legacy };
        let children = child::parse_all(&peer.children, allowed, &mut faults);
        check_transport(&children, &remote_addresses, peer.force_encapsulation, &mut faults);
        let (Some(local_identity), Some(remote_identity), Some(auth)) =
            (local_identity, remote_identity, auth)
        else {
            return Err(faults);
        };
        faults.finish(Some(Self {
            display_name,
            local_identity,
            remote_identity,
            remote_addresses,
            auth,
            start_action,
            ike,
            children,
            force_encapsulation: peer.force_encapsulation,
            legacy: peer.legacy,
        }))
    }

    /// As a message, with every default written out.
    pub fn to_proto(&self) -> v1::Peer {
        let start_action = match self.start_action {
            StartAction::None => v1::StartAction::None,
            StartAction::Start => v1::StartAction::Start,
            StartAction::OnDemand => v1::StartAction::OnDemand,
        };
        v1::Peer {
            display_name: self.display_name.clone(),
            local_identity: self.local_identity.text(),
            remote_identity: self.remote_identity.text(),
            remote_addresses: self.remote_addresses.iter().map(ToString::to_string).collect(),
            auth: Some(self.auth.to_proto()),
            start_action: start_action.into(),
            ike: Some(self.ike.to_proto()),
            children: self.children.iter().map(ChildSpec::to_proto).collect(),
            force_encapsulation: self.force_encapsulation,
            legacy: self.legacy,
            ..Default::default()
        }
    }

    /// Where we initiate to: the first single address or name, with its port or `ike_port`.
    pub fn initiate_to(&self, ike_port: u16) -> Option<Destination> {
        self.remote_addresses.iter().find_map(|remote| match remote {
            RemoteAddress::Host(address, port) => {
                Some(Destination::Address(SocketAddr::new(*address, port.unwrap_or(ike_port))))
            }
            RemoteAddress::Name(name, port) => {
                Some(Destination::Name(name.clone(), port.unwrap_or(ike_port)))
            }
            RemoteAddress::Subnet(_) => None,
        })
    }

    /// The names among the addresses that the peer may come from.
    pub fn host_names(&self) -> impl Iterator<Item = &HostName> {
        self.remote_addresses.iter().filter_map(|remote| match remote {
            RemoteAddress::Name(name, _) => Some(name),
            RemoteAddress::Host(..) | RemoteAddress::Subnet(_) => None,
        })
    }

    /// The child named `name`.
    pub fn child(&self, name: &str) -> Option<&ChildSpec> {
        self.children.iter().find(|child| child.name == name)
    }
}

impl Peer {
    /// As a message, output-only fields included but for the status, which the actors know.
    pub fn to_proto(&self) -> v1::Peer {
        v1::Peer {
            name: self.name.to_string(),
            uid: self.uid,
            etag: self.meta.etag(),
            create_time: Some(self.meta.created.into()),
            update_time: Some(self.meta.updated.into()),
            warnings: self.spec.warnings(),
            ..self.spec.to_proto()
        }
    }
}

fn parse_identity(text: &str) -> Result<Identity, String> {
    let identity: Identity = text.parse().map_err(|error: ike::IdentityError| error.to_string())?;
    // What is stored is text: an identity must survive being written.
    if identity.text().parse().as_ref() != Ok(&identity) {
        return Err("contains a character that cannot be shown".to_owned());
    }
    Ok(identity)
}

fn parse_addresses(texts: &[String], faults: &mut Violations) -> Vec<RemoteAddress> {
    if texts.len() > limits::MAX_REMOTE_ADDRESSES {
        faults.add(
            "remote_addresses",
            format!("{} of them; at most {}", texts.len(), limits::MAX_REMOTE_ADDRESSES),
        );
        return Vec::new();
    }
    let parse = |(i, text): (usize, &String)| faults.note(format!("remote_addresses[{i}]"), text.parse());
    texts.iter().enumerate().filter_map(parse).collect()
}

fn has_host(addresses: &[RemoteAddress]) -> bool {
    addresses.iter().any(RemoteAddress::is_destination)
}

/// Transport mode goes between the ends of the IKE SA, and not in UDP.
fn check_transport(
    children: &[ChildSpec],
    addresses: &[RemoteAddress],
    force_encapsulation: bool,
    faults: &mut Violations,
) {
    let transport = || children.iter().enumerate().filter(|(_, child)| child.mode == Mode::Transport);
    for (i, child) in transport() {
        // What a name resolves to is seen when the Child SA is negotiated.
        if let [host] = child.remote_subnets.as_slice()
            && !addresses.is_empty()
            && !addresses.iter().any(|a| a.subnet().is_none_or(|subnet| subnet.contains(host.first())))
        {
            let fault = format!(
                "mode TRANSPORT is with the peer itself, but remote_addresses has no {}",
                host.first()
            );
            faults.add(format!("children[{i}].remote_subnets[0]"), fault);
        }
    }
    if force_encapsulation && let Some((_, child)) = transport().next() {
        let fault = format!("the child {:?} has mode TRANSPORT, which does not go in UDP", child.name);
        faults.add("force_encapsulation", fault);
    }
}

fn parse_start_action(action: i32, addresses: &[RemoteAddress], faults: &mut Violations) -> StartAction {
    let action = match v1::StartAction::try_from(action) {
        Ok(v1::StartAction::Unspecified | v1::StartAction::None) => StartAction::None,
        Ok(v1::StartAction::Start) => StartAction::Start,
        Ok(v1::StartAction::OnDemand) => StartAction::OnDemand,
        Err(_) => {
            faults.add("start_action", format!("unknown value {action}; expected NONE, START or ON_DEMAND"));
            StartAction::None
        }
    };
    if action != StartAction::None && !has_host(addresses) {
        let name = if action == StartAction::Start { "START" } else { "ON_DEMAND" };
        faults.add(
            "remote_addresses",
            format!("start_action {name} needs a single address or a host name to initiate to"),
        );
    }
    action
}

#[cfg(test)]
mod tests;
#[cfg(test)]
mod tests_ikev1;
