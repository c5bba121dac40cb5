//! What is configured of a Child SA.

use std::sync::Arc;

use culvert_proto::v1;
use ike::EspProposal;
use ike::config::Mode;

use crate::cidr::Cidr;
use crate::limits;
use crate::name::check_id;
use crate::peer::algorithms::Allowed;
use crate::peer::claims::Claims;
use crate::peer::esp_options::EspOptions;
use crate::peer::ike_spec::parse_proposals;
use crate::peer::lifetime::ChildLifetime;
use crate::peer::pool;
use crate::violation::Violations;

/// What is configured of a Child SA.
#[derive(Clone, Debug, PartialEq)]
pub struct ChildSpec {
    /// Unique in the peer.
    pub name: String,
    /// What is protected. In transport mode both lists of subnets are one host.
    pub mode: Mode,
    /// Subnets behind us; at least one.
    pub local_subnets: Vec<Cidr>,
    /// Subnets behind the peer; at least one.
    pub remote_subnets: Vec<Cidr>,
    /// In the order of preference; at least one.
    pub esp_proposals: Arc<[EspProposal]>,
    /// How long an SA is used.
    pub lifetime: ChildLifetime,
    /// Size of the replay window in packets.
    pub replay_window: u32,
    /// How packets are wrapped.
    pub esp: EspOptions,
    /// SAs at the same time, each for a shard of its own (RFC 9611); 1 for the one that all use.
    pub resource_sas: u8,
}

impl ChildSpec {
    /// Pairs of a subnet of ours and one of the peer's: IKEv1 has a pair of SAs for each (RFC 2409 section 5.5).
    pub fn pairs_of_subnets(&self) -> usize {
        let with = |ours: &Cidr| {
            self.remote_subnets.iter().filter(|theirs| theirs.is_ipv4() == ours.is_ipv4()).count()
        };
        self.local_subnets.iter().map(with).sum()
    }

    fn parse(child: &v1::Child, allowed: Allowed, faults: &mut Violations) -> Self {
        if let Err(fault) = check_id(&child.name) {
            faults.add("name", fault.to_string());
        }
        let mode = parse_mode(child.mode, faults);
        let none = child.local_subnets.is_empty() && child.remote_subnets.is_empty();
        let (local_subnets, remote_subnets) = if none && allowed.version.is_v1() && mode == Mode::Tunnel {
            // As gateways have it that go by routes.
            (vec![Cidr::EVERYTHING_V4], vec![Cidr::EVERYTHING_V4])
        } else {
            let local = parse_subnets("local_subnets", &child.local_subnets, faults);
            (local, parse_subnets("remote_subnets", &child.remote_subnets, faults))
        };
        check_families(&local_subnets, &remote_subnets, faults);
        let (defaults, fault) = (|| allowed.default_esp(), |p: &_| allowed.fault_of_esp(p));
        let esp_proposals =
            parse_proposals("esp_proposals", &child.esp_proposals, &pool::ESP, defaults, fault, faults);
        allowed.check_child(&esp_proposals, faults);
        let mut inner = Violations::new();
        let lifetime = ChildLifetime::parse(child.lifetime.as_ref(), &mut inner);
        faults.add_all("lifetime", inner);
        let replay_window = match child.replay_window {
            0 => limits::DEFAULT_REPLAY_WINDOW,
            window => window,
        };
        let (min, max) = (limits::MIN_REPLAY_WINDOW, limits::MAX_REPLAY_WINDOW);
        if !(min..=max).contains(&replay_window) {
            faults.add("replay_window", format!("{replay_window} is not {min} to {max}"));
        }
        let mut inner = Violations::new();
        let esp = EspOptions::parse(child.esp.as_ref(), &mut inner);
        faults.add_all("esp", inner);
        let resource_sas = parse_resource_sas(child.resource_sas, allowed.version.is_v1(), faults);
        if mode == Mode::Transport {
            check_transport(&local_subnets, &remote_subnets, &esp, faults);
        }
        Self {
            name: child.name.clone(),
            mode,
            local_subnets,
            remote_subnets,
            esp_proposals,
            lifetime,
            replay_window,
            esp,
            resource_sas,
        }
    }

    pub(crate) fn to_proto(&self) -> v1::Child {
        v1::Child {
            name: self.name.clone(),
            local_subnets: self.local_subnets.iter().map(ToString::to_string).collect(),
            remote_subnets: self.remote_subnets.iter().map(ToString::to_string).collect(),
            esp_proposals: self.esp_proposals.iter().map(ToString::to_string).collect(),
            lifetime: Some(self.lifetime.to_proto()),
            replay_window: self.replay_window,
            esp: self.esp.to_proto(),
            mode: mode_to_proto(self.mode).into(),
            resource_sas: if self.resource_sas > 1 { self.resource_sas.into() } else { 0 },
        }
    }
}

/// All children of a peer; names and selectors are checked against each other.
pub(crate) fn parse_all(children: &[v1::Child], allowed: Allowed, faults: &mut Violations) -> Vec<ChildSpec> {
    if children.is_empty() {
        faults.add("children", "is empty; a tunnel needs at least one child to carry anything");
    }
    if children.len() > limits::MAX_CHILDREN {
        faults.add("children", format!("{} of them; at most {}", children.len(), limits::MAX_CHILDREN));
        return Vec::new();
    }
    let mut all: Vec<Violations> = Vec::with_capacity(children.len());
    let mut parsed: Vec<ChildSpec> = Vec::with_capacity(children.len());
    for child in children {
        let mut inner = Violations::new();
        let child = ChildSpec::parse(child, allowed, &mut inner);
        if parsed.iter().any(|other| other.name == child.name) {
            inner.add("name", format!("{:?} is the name of another child too", child.name));
        }
        all.push(inner);
        parsed.push(child);
    }
    let claims = Claims::of(&parsed);
    for (i, (child, mut inner)) in parsed.iter().zip(all).enumerate() {
        for (k, other) in claims.also_before(i) {
            let subnet = child.remote_subnets.get(k).map(ToString::to_string).unwrap_or_default();
            let fault = format!("{subnet} is behind the child {:?} too", other.name);
            inner.add(format!("remote_subnets[{k}]"), fault);
        }
        faults.add_all(&format!("children[{i}]"), inner);
    }
    parsed
}

fn parse_subnets(field: &str, texts: &[String], faults: &mut Violations) -> Vec<Cidr> {
    if texts.is_empty() {
        faults.add(field, "is empty; expected at least one subnet such as 10.0.0.0/24");
    }
    if texts.len() > limits::MAX_SUBNETS {
        faults.add(field, format!("{} of them; at most {}", texts.len(), limits::MAX_SUBNETS));
        return Vec::new();
    }
    let mut subnets = Vec::with_capacity(texts.len());
    for (i, text) in texts.iter().enumerate() {
        let Some(subnet) = faults.note(format!("{field}[{i}]"), text.parse::<Cidr>()) else {
            continue;
        };
        match subnets.iter().position(|other| *other == subnet) {
            Some(first) => {
                faults.add(format!("{field}[{i}]"), format!("{subnet} is {field}[{first}] already"))
            }
            None => subnets.push(subnet),
        }
    }
    subnets
}

fn parse_mode(mode: i32, faults: &mut Violations) -> Mode {
    match v1::ChildMode::try_from(mode) {
        Ok(v1::ChildMode::Unspecified | v1::ChildMode::Tunnel) => Mode::Tunnel,
        Ok(v1::ChildMode::Transport) => Mode::Transport,
        Err(_) => {
            faults.add("mode", format!("unknown value {mode}; expected TUNNEL or TRANSPORT"));
            Mode::Tunnel
        }
    }
}

/// How many SAs there are at the same time.
fn parse_resource_sas(wanted: u32, v1: bool, faults: &mut Violations) -> u8 {
    let max = limits::MAX_RESOURCE_SAS;
    match u8::try_from(wanted) {
        Ok(0 | 1) => 1,
        Ok(_) if v1 => {
            faults.add(
                "resource_sas",
                format!("is {wanted}, but with ike.version IKEV1 there is always one SA"),
            );
            1
        }
        Ok(wanted) if wanted <= max => wanted,
        _ => {
            faults.add(
                "resource_sas",
                format!("{wanted} is not 0 to {max}; {max} is as many as the node has shards"),
            );
            1
        }
    }
}

/// A mode as it is told.
pub fn mode_to_proto(mode: Mode) -> v1::ChildMode {
    match mode {
        Mode::Tunnel => v1::ChildMode::Tunnel,
        Mode::Transport => v1::ChildMode::Transport,
    }
}

/// Transport mode is between two hosts, and the header outside is that of the packet.
fn check_transport(local: &[Cidr], remote: &[Cidr], esp: &EspOptions, faults: &mut Violations) {
    for (field, subnets) in [("local_subnets", local), ("remote_subnets", remote)] {
        let one = matches!(subnets, [subnet] if subnet.first() == subnet.last());
        // None, or one that does not parse, is a fault already.
        if !one && !subnets.is_empty() {
            faults.add(
                field,
                "is more than one address; mode TRANSPORT needs the one that IKE uses, as 192.0.2.1/32",
            );
        }
    }
    for (field, set) in [("esp.dscp_inward", esp.dscp_inward), ("esp.disable_ecn", !esp.ecn)] {
        if set {
            faults.add(field, "makes no sense with mode TRANSPORT, in which there is one IP header only");
        }
    }
}

/// A packet has two addresses of one family.
fn check_families(local: &[Cidr], remote: &[Cidr], faults: &mut Violations) {
    let has = |subnets: &[Cidr], v4: bool| subnets.iter().any(|subnet| subnet.is_ipv4() == v4);
    if local.is_empty() || remote.is_empty() {
        return;
    }
    for (v4, family) in [(true, "IPv4"), (false, "IPv6")] {
        if has(local, v4) && !has(remote, v4) {
            faults.add("remote_subnets", format!("no {family} subnet, but local_subnets has one"));
        } else if has(remote, v4) && !has(local, v4) {
            faults.add("local_subnets", format!("no {family} subnet, but remote_subnets has one"));
        }
    }
}
