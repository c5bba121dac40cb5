//! Between a tunnel and the manifests that `culvert apply` takes: Culvert's own way to write one down.

use std::fmt;

use base64::Engine as _;
use base64::prelude::BASE64_STANDARD;
use ike::Identity;
use serde::{Deserialize, Serialize};
use tenants::Cidr;

use super::model::{Child, End, Found, Key, Life, Rule, Starts, Tunnel, Version};
use super::suite::Suite;

/// What a peer's manifest says of its tunnel. Local choices of Culvert, of which a device is told nothing, are not among it.
#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Peer {
    pub(crate) name: String,
    pub(crate) local_identity: String,
    pub(crate) remote_identity: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub(crate) remote_addresses: Vec<String>,
    pub(crate) auth: Auth,
    #[serde(skip_serializing_if = "String::is_empty")]
    pub(crate) start_action: String,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) legacy: bool,
    #[serde(skip_serializing_if = "is_default")]
    pub(crate) ike: Ike,
    pub(crate) children: Vec<PeerChild>,
    #[serde(skip_serializing_if = "is_false")]
    pub(crate) force_encapsulation: bool,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
pub(crate) struct Auth {
    psk: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Ike {
    #[serde(skip_serializing_if = "String::is_empty")]
    version: String,
    #[serde(skip_serializing_if = "is_default")]
    v1: IkeV1,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    proposals: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    lifetime: Lifetime,
    #[serde(skip_serializing_if = "Option::is_none")]
    dpd_interval: Option<Seconds>,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(default)]
struct IkeV1 {
    mode: String,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
struct Lifetime {
    #[serde(skip_serializing_if = "Option::is_none")]
    rekey_time: Option<Seconds>,
    #[serde(skip_serializing_if = "Option::is_none")]
    life_time: Option<Seconds>,
    #[serde(skip_serializing_if = "is_default")]
    life_bytes: u64,
}

#[derive(Clone, Debug, Default, PartialEq, Deserialize, Serialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct PeerChild {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    mode: String,
    local_subnets: Vec<String>,
    remote_subnets: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    esp_proposals: Vec<String>,
    #[serde(skip_serializing_if = "is_default")]
    lifetime: Lifetime,
}

/// A duration in the JSON form of protobuf: `30s`.
#[derive(Clone, Copy, Debug, PartialEq, Deserialize, Serialize)]
#[serde(try_from = "String", into = "String")]
struct Seconds(u64);

impl TryFrom<String> for Seconds {
    type Error = String;

    /// Fractions are nothing that a device takes.
    fn try_from(text: String) -> Result<Self, String> {
        let whole = text.strip_suffix('s').and_then(|number| number.split('.').next());
        whole.and_then(|whole| whole.parse().ok()).map(Self).ok_or_else(|| format!("{text:?} is no duration"))
    }
}

impl From<Seconds> for String {
    fn from(seconds: Seconds) -> Self {
        format!("{}s", seconds.0)
    }
}

/// Whether a value is that which goes without saying, in the form that serde asks for.
fn is_default<T: Default + PartialEq>(value: &T) -> bool {
    *value == T::default()
}

#[allow(clippy::trivially_copy_pass_by_ref, reason = "the form that serde asks for")]
const fn is_false(value: &bool) -> bool {
    !*value
}

impl Peer {
    /// The tunnel that it is about, with a key that somebody has said.
    ///
    /// # Errors
    /// What in it is not understood: it comes from a newer node.
    pub(crate) fn to_tunnel(&self, key: Key) -> Result<Tunnel, String> {
        let identity = |text: &str| text.parse::<Identity>().map_err(|error| error.to_string());
        let version = match (self.ike.version.as_str(), self.ike.v1.mode.as_str()) {
            ("" | "IKE_VERSION_UNSPECIFIED" | "IKEV2", _) => Version::V2,
            ("IKEV1", "AGGRESSIVE") => Version::V1Aggressive,
            ("IKEV1", "" | "MAIN" | "IKE_V1_MODE_UNSPECIFIED") => Version::V1,
            (version, mode) => return Err(format!("ike: {version} {mode} is not known to this command")),
        };
        let starts = match self.start_action.as_str() {
            "" | "START_ACTION_UNSPECIFIED" | "NONE" => Starts::Device,
            "START" => Starts::Culvert,
            "ON_DEMAND" => Starts::Packets,
            other => return Err(format!("startAction: {other} is not known to this command")),
        };
        Ok(Tunnel {
            name: self.name.rsplit('/').next().unwrap_or_default().to_owned(),
            version,
            culvert: End { addresses: Vec::new(), identity: identity(&self.local_identity)? },
            device: End {
                addresses: self.remote_addresses.clone(),
                identity: identity(&self.remote_identity)?,
            },
            key,
            ike: self.ike.proposals.iter().map(|text| Suite::of_ike(text)).collect::<Result<_, _>>()?,
            ike_life: self.ike.lifetime.to_life(),
            dpd: self.ike.dpd_interval.map(|seconds| seconds.0),
            starts,
            force_udp: self.force_encapsulation,
            children: self.children.iter().map(PeerChild::to_child).collect::<Result<_, _>>()?,
        })
    }

    /// A tunnel as the peer of a tenant.
    pub(crate) fn of(tunnel: &Tunnel, tenant: &str) -> Self {
        let name = &tunnel.name;
        let esp = tunnel.children.iter().flat_map(|child| &child.esp);
        let (version, mode) = match tunnel.version {
            Version::V2 => ("IKEV2", ""),
            Version::V1 => ("IKEV1", "MAIN"),
            Version::V1Aggressive => ("IKEV1", "AGGRESSIVE"),
        };
        let start = match tunnel.starts {
            Starts::Device => "NONE",
            Starts::Culvert => "START",
            Starts::Packets => "ON_DEMAND",
        };
        Self {
            name: format!("tenants/{tenant}/peers/{name}"),
            local_identity: tunnel.culvert.identity.text(),
            remote_identity: tunnel.device.identity.text(),
            remote_addresses: tunnel.device.addresses.clone(),
            auth: Auth { psk: format!("tenants/{tenant}/secrets/{name}") },
            start_action: start.to_owned(),
            legacy: tunnel.ike.iter().chain(esp).any(Suite::is_legacy),
            ike: Ike {
                version: version.to_owned(),
                v1: IkeV1 { mode: mode.to_owned() },
                proposals: tunnel.ike.iter().map(Suite::ike_text_short).collect(),
                lifetime: Lifetime::of(tunnel.ike_life, None),
                dpd_interval: tunnel.dpd.map(Seconds),
            },
            children: tunnel.children.iter().map(PeerChild::of).collect(),
            force_encapsulation: tunnel.force_udp,
        }
    }
}

impl PeerChild {
    fn to_child(&self) -> Result<Child, String> {
        let subnets = |texts: &[String]| -> Result<Vec<Cidr>, String> {
            texts
                .iter()
                .map(|text| text.parse().map_err(|error: tenants::CidrError| error.to_string()))
                .collect()
        };
        Ok(Child {
            name: self.name.clone(),
            transport: self.mode == "TRANSPORT",
            culvert: subnets(&self.local_subnets)?,
            device: subnets(&self.remote_subnets)?,
            esp: self.esp_proposals.iter().map(|text| Suite::of_esp(text)).collect::<Result<_, _>>()?,
            life: self.lifetime.to_life(),
            life_bytes: Some(self.lifetime.life_bytes).filter(|bytes| *bytes > 0),
        })
    }

    fn of(child: &Child) -> Self {
        let texts = |subnets: &[Cidr]| subnets.iter().map(ToString::to_string).collect();
        Self {
            name: child.name.clone(),
            mode: if child.transport { "TRANSPORT" } else { "TUNNEL" }.to_owned(),
            local_subnets: texts(&child.culvert),
            remote_subnets: texts(&child.device),
            esp_proposals: child.esp.iter().map(Suite::esp_text).collect(),
            lifetime: Lifetime::of(child.life, child.life_bytes),
        }
    }
}

impl Lifetime {
    fn to_life(&self) -> Life {
        Life { rekey: self.rekey_time.map(|s| s.0), life: self.life_time.map(|s| s.0) }
    }

    fn of(life: Life, bytes: Option<u64>) -> Self {
        Self {
            rekey_time: life.rekey.map(Seconds),
            life_time: life.life.map(Seconds),
            life_bytes: bytes.unwrap_or_default(),
        }
    }
}

/// What becomes of packets that a device does not protect though the subnets of a tunnel hold them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, clap::ValueEnum)]
pub(crate) enum Denied {
    /// They go in the clear, as the device has it, which needs a TUN uplink; nowhere if something that it protects is not taken over
    #[default]
    Bypass,
    /// They go nowhere
    Discard,
}

#[derive(Serialize)]
struct Kinded<T> {
    kind: &'static str,
    #[serde(flatten)]
    fields: T,
}

/// The rules of a tenant and nothing else of it: of the rest of it no device knows.
#[derive(Serialize)]
struct Policy {
    /// Of the tenant.
    name: String,
    rules: Vec<PolicyRule>,
}

#[derive(Serialize)]
#[serde(rename_all = "camelCase")]
struct PolicyRule {
    name: String,
    action: &'static str,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    local_subnets: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remote_subnets: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    protocol: String,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    local_ports: Vec<String>,
    #[serde(skip_serializing_if = "Vec::is_empty")]
    remote_ports: Vec<String>,
    #[serde(skip_serializing_if = "String::is_empty")]
    peer: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    child: String,
}

#[derive(Default, Serialize)]
#[serde(rename_all = "camelCase")]
struct Secret {
    name: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value: String,
    /// The same of octets that are no text.
    #[serde(skip_serializing_if = "String::is_empty")]
    value_base64: String,
    #[serde(skip_serializing_if = "String::is_empty")]
    value_from_env: String,
}

/// The variable from which `apply` takes a key that is in no file.
pub(crate) fn key_variable(peer: &str) -> String {
    format!("CULVERT_PSK_{}", peer.to_ascii_uppercase().replace('-', "_"))
}

/// Manifests of what was found in a device's file, for a tenant.
///
/// # Errors
/// Why they cannot be written.
pub(crate) fn documents(found: &Found, tenant: &str, denied: Denied) -> Result<String, String> {
    let mut text = String::new();
    if !found.rules.is_empty() {
        let rules =
            found.rules.iter().enumerate().map(|(at, rule)| policy_rule(at, rule, found, tenant, denied));
        let rules = rules.collect::<Option<_>>().ok_or("Policy: a rule is for a child that is not there")?;
        push(&mut text, "Policy", Policy { name: format!("tenants/{tenant}"), rules })?;
    }
    for tunnel in &found.tunnels {
        let mut secret =
            Secret { name: format!("tenants/{tenant}/secrets/{}", tunnel.name), ..Secret::default() };
        match &tunnel.key {
            Key::Known(key) => match std::str::from_utf8(key) {
                Ok(text) => text.clone_into(&mut secret.value),
                Err(_) => secret.value_base64 = BASE64_STANDARD.encode(key),
            },
            Key::Unknown | Key::Certificates => secret.value_from_env = key_variable(&tunnel.name),
        }
        push(&mut text, "Secret", secret)?;
        push(&mut text, "Peer", Peer::of(tunnel, tenant))?;
    }
    Ok(text)
}

fn push<T: Serialize>(text: &mut String, kind: &'static str, fields: T) -> Result<(), String> {
    let broken = |error: &dyn fmt::Display| format!("{kind}: {error}");
    let yaml = serde_yaml_ng::to_string(&Kinded { kind, fields }).map_err(|error| broken(&error))?;
    text.push_str("---\n");
    text.push_str(&yaml);
    Ok(())
}

/// Whether only the other side matters to packets that are not protected. Said so, a TUN device alone is enough for them; each thing more
/// needs `clearDevice`.
pub(crate) fn is_by_destination(rule: &Rule) -> bool {
    let is_all = |subnets: &[Cidr]| subnets.iter().all(|subnet| subnet.prefix() == 0);
    rule.protect.is_none()
        && is_all(&rule.culvert)
        && rule.protocol.is_empty()
        && rule.culvert_ports.is_empty()
        && rule.device_ports.is_empty()
}

fn policy_rule(at: usize, rule: &Rule, found: &Found, tenant: &str, denied: Denied) -> Option<PolicyRule> {
    let (action, peer, child) = match (rule.protect, denied) {
        (Some(carrier), _) => {
            let (peer, child) = found.names_of(carrier)?;
            ("PROTECT", format!("tenants/{tenant}/peers/{peer}"), child.to_owned())
        }
        (None, Denied::Bypass) if !found.lacking => ("BYPASS", String::new(), String::new()),
        (None, _) => ("DISCARD", String::new(), String::new()),
    };
    let texts = |subnets: &[Cidr]| subnets.iter().map(ToString::to_string).collect();
    Some(PolicyRule {
        name: format!("rule-{}", at + 1),
        action,
        local_subnets: if is_by_destination(rule) { Vec::new() } else { texts(&rule.culvert) },
        remote_subnets: texts(&rule.device),
        protocol: rule.protocol.clone(),
        local_ports: rule.culvert_ports.clone(),
        remote_ports: rule.device_ports.clone(),
        peer,
        child,
    })
}
