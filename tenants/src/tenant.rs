//! A tenant: its uplink and its bounds.

use std::net::IpAddr;
use std::num::{NonZeroU32, NonZeroU64};

use culvert_proto::v1;

use crate::cidr;
use crate::limits;
use crate::meta::Meta;
use crate::name::TenantName;
use crate::policy::Policy;
use crate::violation::Violations;

/// A tenant as it is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Tenant {
    /// Its resource name.
    pub name: TenantName,
    /// What the data path and the metrics know it by. Never reused in a catalog; from 1 on.
    pub number: u32,
    /// What is configured.
    pub spec: TenantSpec,
    /// Version and times.
    pub meta: Meta,
}

/// What is configured of a tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TenantSpec {
    /// A name for people.
    pub display_name: String,
    /// How packets leave the tunnels.
    pub uplink: Uplink,
    /// Its bounds.
    pub quotas: Quotas,
    /// What is protected.
    pub policy: Policy,
}

/// Where packets go that are for no tunnel of the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Uplink {
    /// Nowhere: packets are switched between the tunnels only.
    Hub,
    /// To a TUN device.
    Tun(TunUplink),
}

impl Uplink {
    /// Whether it is a device in a network namespace apart from the node's sockets.
    pub(crate) fn has_namespace(&self) -> bool {
        matches!(self, Self::Tun(tun) if tun.netns.is_some())
    }
}

/// A TUN device.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TunUplink {
    /// Name of the interface.
    pub device: String,
    /// Network namespace it is put into; that of the process if `None`.
    pub netns: Option<String>,
    /// Addresses of the interface with their prefix lengths.
    pub addresses: Vec<(IpAddr, u8)>,
    /// MTU of the interface.
    pub mtu: u32,
    /// Interface by which packets leave in the clear that no route tells from others.
    pub clear_device: Option<String>,
}

/// Bounds of a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Quotas {
    /// Peers.
    pub max_peers: u32,
    /// Secrets.
    pub max_secrets: u32,
    /// Inner packets per second, each way.
    pub packets_per_second: Option<NonZeroU32>,
    /// Octets of inner packets per second, each way.
    pub bytes_per_second: Option<NonZeroU64>,
}

impl TenantSpec {
    /// The values of a message, or all that is wrong with it. Output-only fields are ignored.
    pub fn parse(name: &TenantName, tenant: &v1::Tenant) -> Result<Self, Violations> {
        let mut faults = Violations::new();
        let display_name = display_name(&tenant.display_name, &mut faults);
        let uplink = parse_uplink(tenant.uplink.as_ref(), &mut faults);
        let quotas = parse_quotas(tenant.quotas.as_ref(), &mut faults);
        let mut inner = Violations::new();
        let policy = Policy::parse(name, tenant.policy.as_ref(), &uplink, &mut inner);
        faults.add_all("policy", inner);
        faults.finish(Some(Self { display_name, uplink, quotas, policy }))
    }

    /// As a message, with every default written out.
    pub fn to_proto(&self) -> v1::Tenant {
        use v1::uplink::{Hub, Kind, Tun};
        let kind = match &self.uplink {
            Uplink::Hub => Kind::Hub(Hub {}),
            Uplink::Tun(tun) => Kind::Tun(Tun {
                device: tun.device.clone(),
                netns: tun.netns.clone().unwrap_or_default(),
                addresses: tun
                    .addresses
                    .iter()
                    .map(|(address, prefix)| format!("{address}/{prefix}"))
                    .collect(),
                mtu: tun.mtu,
                clear_device: tun.clear_device.clone().unwrap_or_default(),
            }),
        };
        v1::Tenant {
            display_name: self.display_name.clone(),
            uplink: Some(v1::Uplink { kind: Some(kind) }),
            quotas: Some(v1::Quotas {
                max_peers: self.quotas.max_peers,
                max_secrets: self.quotas.max_secrets,
                packets_per_second: self.quotas.packets_per_second.map_or(0, NonZeroU32::get),
                bytes_per_second: self.quotas.bytes_per_second.map_or(0, NonZeroU64::get),
            }),
            policy: self.policy.to_proto(),
            ..Default::default()
        }
    }
}

impl Tenant {
    /// As a message, output-only fields included.
    pub fn to_proto(&self) -> v1::Tenant {
        v1::Tenant {
            name: self.name.to_string(),
            number: self.number,
            etag: self.meta.etag(),
            create_time: Some(self.meta.created.into()),
            update_time: Some(self.meta.updated.into()),
            ..self.spec.to_proto()
        }
    }
}

/// A name for people: short, without control characters.
pub(crate) fn display_name(text: &str, faults: &mut Violations) -> String {
    let length = text.chars().count();
    if length > limits::MAX_DISPLAY_NAME {
        faults.add("display_name", format!("{length} characters; at most {}", limits::MAX_DISPLAY_NAME));
    } else if text.chars().any(char::is_control) {
        faults.add("display_name", "contains a control character");
    }
    text.to_owned()
}

fn parse_uplink(uplink: Option<&v1::Uplink>, faults: &mut Violations) -> Uplink {
    match uplink.and_then(|uplink| uplink.kind.as_ref()) {
        None | Some(v1::uplink::Kind::Hub(_)) => Uplink::Hub,
        Some(v1::uplink::Kind::Tun(tun)) => {
            let mut inner = Violations::new();
            let tun = parse_tun(tun, &mut inner);
            faults.add_all("uplink.tun", inner);
            Uplink::Tun(tun)
        }
    }
}

fn parse_tun(tun: &v1::uplink::Tun, faults: &mut Violations) -> TunUplink {
    if let Err(fault) = check_device(&tun.device) {
        faults.add("device", fault);
    }
    let clear_device = Some(tun.clear_device.clone()).filter(|device| !device.is_empty());
    if let Some(Err(fault)) = clear_device.as_deref().map(check_device) {
        faults.add("clear_device", fault);
    } else if clear_device.as_ref() == Some(&tun.device) {
        faults.add("clear_device", "is the TUN device itself; packets would come back");
    }
    if tun.netns.len() > 255 || tun.netns.starts_with('.') || tun.netns.contains(['/', '\0']) {
        faults.add("netns", "not the name of a network namespace, expected one that `ip netns list` shows");
    }
    if tun.addresses.len() > limits::MAX_TUN_ADDRESSES {
        faults.add(
            "addresses",
            format!("{} of them; at most {}", tun.addresses.len(), limits::MAX_TUN_ADDRESSES),
        );
    }
    let parse = |(i, text): (usize, &String)| faults.note(format!("addresses[{i}]"), interface_address(text));
    let addresses = tun.addresses.iter().enumerate().filter_map(parse).collect();
    let mtu = if tun.mtu == 0 { limits::DEFAULT_MTU } else { tun.mtu };
    if !(limits::MIN_MTU..=limits::MAX_MTU).contains(&mtu) {
        faults.add("mtu", format!("{mtu} is not {} to {}", limits::MIN_MTU, limits::MAX_MTU));
    }
    let netns = Some(tun.netns.clone()).filter(|netns| !netns.is_empty());
    TunUplink { device: tun.device.clone(), netns, addresses, mtu, clear_device }
}

/// What Linux accepts as the name of an interface (`dev_valid_name`).
fn check_device(name: &str) -> Result<(), String> {
    const MAX_DEVICE: usize = 15; // IFNAMSIZ less the final zero
    if name.is_empty() {
        return Err("is empty; expected the name of an interface such as tun-acme".to_owned());
    }
    if name.len() > MAX_DEVICE {
        return Err(format!("{} characters; at most {MAX_DEVICE}", name.len()));
    }
    if name == "." || name == ".." || !name.chars().all(|c| c.is_ascii_graphic() && !"/:%".contains(c)) {
        return Err(format!("{name:?} cannot be the name of an interface"));
    }
    Ok(())
}

/// An address with the prefix length of its subnet; unlike a subnet's its host bits count.
fn interface_address(text: &str) -> Result<(IpAddr, u8), String> {
    let parsed = text.split_once('/').and_then(|(address, prefix)| {
        let address: IpAddr = address.parse().ok()?;
        let prefix: u8 = prefix.parse().ok()?;
        (prefix <= cidr::width(address)).then_some((address, prefix))
    });
    parsed.ok_or_else(|| {
        let shown: String = text.chars().take(64).collect();
        format!("{shown:?} is not an address with its prefix length, expected the form 10.0.0.1/24")
    })
}

fn parse_quotas(quotas: Option<&v1::Quotas>, faults: &mut Violations) -> Quotas {
    let given = quotas.copied().unwrap_or_default();
    let mut quota = |field: &str, value: u32, default: u32, max: u32| {
        if value > max {
            faults.add(format!("quotas.{field}"), format!("{value} is above the {max} a tenant may have"));
        }
        if value == 0 { default } else { value }
    };
    let max_peers = quota("max_peers", given.max_peers, limits::DEFAULT_MAX_PEERS, limits::MAX_PEERS);
    let max_secrets =
        quota("max_secrets", given.max_secrets, limits::DEFAULT_MAX_SECRETS, limits::MAX_SECRETS);
    let (packets, bytes) = (given.packets_per_second, given.bytes_per_second);
    if packets > limits::MAX_PACKETS_PER_SECOND {
        let most = limits::MAX_PACKETS_PER_SECOND;
        let fault = format!("{packets} is above the {most} that may be; 0 is no limit");
        faults.add("quotas.packets_per_second", fault);
    }
    let (least, most) = (limits::MIN_BYTES_PER_SECOND, limits::MAX_BYTES_PER_SECOND);
    if bytes != 0 && !(least..=most).contains(&bytes) {
        faults.add("quotas.bytes_per_second", format!("{bytes} is not 0 for no limit, or {least} to {most}"));
    }
    Quotas {
        max_peers,
        max_secrets,
        packets_per_second: NonZeroU32::new(packets),
        bytes_per_second: NonZeroU64::new(bytes),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn name() -> TenantName {
        TenantName::from_id("acme").unwrap()
    }

    fn tun(device: &str, addresses: &[&str], mtu: u32) -> v1::Tenant {
        let addresses = addresses.iter().map(ToString::to_string).collect();
        let tun = v1::uplink::Tun { device: device.to_owned(), addresses, mtu, ..Default::default() };
        v1::Tenant {
            uplink: Some(v1::Uplink { kind: Some(v1::uplink::Kind::Tun(tun)) }),
            ..Default::default()
        }
    }

    #[test]
    fn defaults_are_written_out() {
        let spec = TenantSpec::parse(&name(), &v1::Tenant::default()).unwrap();
        assert_eq!(spec.uplink, Uplink::Hub);
        assert_eq!(spec.to_proto().policy, None);
        assert_eq!(spec.to_proto().quotas.unwrap().max_peers, limits::DEFAULT_MAX_PEERS);
        assert_eq!(TenantSpec::parse(&name(), &spec.to_proto()).unwrap(), spec);
        let spec = TenantSpec::parse(&name(), &tun("tun-acme", &["10.0.0.1/24", "fd00::1/64"], 0)).unwrap();
        assert_eq!(TenantSpec::parse(&name(), &spec.to_proto()).unwrap(), spec);
    }

    #[test]
    fn every_fault_is_reported_with_its_field() {
        let mut tenant = tun("a/b", &["10.0.0.1", "10.0.0.1/33"], 100);
        tenant.quotas = Some(v1::Quotas {
            max_peers: u32::MAX,
            packets_per_second: u32::MAX,
            bytes_per_second: 999,
            ..Default::default()
        });
        tenant.display_name = "x".repeat(129);
        let faults = TenantSpec::parse(&name(), &tenant).unwrap_err();
        let fields: Vec<_> = faults.iter().map(|fault| fault.field.as_str()).collect();
        assert_eq!(
            fields,
            [
                "display_name",
                "uplink.tun.device",
                "uplink.tun.addresses[0]",
                "uplink.tun.addresses[1]",
                "uplink.tun.mtu",
                "quotas.max_peers",
                "quotas.packets_per_second",
                "quotas.bytes_per_second"
            ]
        );
    }
}
