//! Who is who: two tenants that use the same subnets, two branches each.

use std::net::Ipv4Addr;
use std::time::Duration;

use loadtest::Flow;

/// Octets of a probe's inner packet: a usual size, below every MTU.
const PACKET_LEN: usize = 512;
/// The shortest lifetime that the API accepts.
const MIN_REKEY: Duration = Duration::from_secs(2);

/// The whole cast.
pub(crate) struct Plan {
    pub(crate) tenants: Vec<TenantPlan>,
    pub(crate) branches: Vec<Branch>,
    /// Rekey time of Child SAs and of IKE_SAs, set at the concentrator.
    pub(crate) child_rekey: Duration,
    pub(crate) ike_rekey: Duration,
    /// How long they live in all, by the time after which they are rekeyed. What the concentrator does by itself if `None`.
    pub(crate) lives: Option<u32>,
    pub(crate) rate: u32,
    pub(crate) packet_len: usize,
}

/// One tenant.
pub(crate) struct TenantPlan {
    pub(crate) name: String,
    pub(crate) display: &'static str,
    pub(crate) secret: String,
    pub(crate) psk: String,
}

/// One branch: a peer of the concentrator.
pub(crate) struct Branch {
    pub(crate) tenant: usize,
    pub(crate) name: String,
    pub(crate) hub_identity: String,
    pub(crate) identity: String,
    pub(crate) subnet: &'static str,
    pub(crate) other_subnet: &'static str,
    pub(crate) inner: Ipv4Addr,
    pub(crate) destination: Ipv4Addr,
    pub(crate) flow: Flow,
    /// The flow that comes back.
    pub(crate) reverse: Flow,
    pub(crate) ike: &'static str,
    pub(crate) esp: &'static str,
}

const SUBNETS: [&str; 2] = ["10.1.0.0/24", "10.2.0.0/24"];
const HOSTS: [Ipv4Addr; 2] = [Ipv4Addr::new(10, 1, 0, 1), Ipv4Addr::new(10, 2, 0, 1)];
const SUITES: [(&str, &str); 2] =
    [("aes128gcm16-prfsha256-x25519", "aes128gcm16"), ("aes256-sha256-ecp256", "chacha20poly1305-x25519")];

impl Plan {
    pub(crate) fn new(duration: Duration, rate: u32) -> Self {
        let mut tenants = Vec::new();
        let mut branches = Vec::new();
        for (tenant, (id, display)) in (0u32..).zip([("acme", "Acme Corporation"), ("globex", "Globex")]) {
            let name = format!("tenants/{id}");
            for (branch, (ike, esp)) in (0u32..).zip(SUITES) {
                let (me, other) =
                    (usize::try_from(branch).unwrap_or(0), usize::try_from(1 - branch).unwrap_or(0));
                let number = |branch: u32| tenant * 2 + branch;
                let (Some(&subnet), Some(&other_subnet)) = (SUBNETS.get(me), SUBNETS.get(other)) else {
                    continue;
                };
                let (Some(&inner), Some(&destination)) = (HOSTS.get(me), HOSTS.get(other)) else { continue };
                branches.push(Branch {
                    tenant: tenants.len(),
                    name: format!("{name}/peers/branch-{}", branch + 1),
                    hub_identity: format!("hub.{id}.example"),
                    identity: format!("branch-{}.{id}.example", branch + 1),
                    subnet,
                    other_subnet,
                    inner,
                    destination,
                    flow: Flow { tenant, from: number(branch), to: number(1 - branch) },
                    reverse: Flow { tenant, from: number(1 - branch), to: number(branch) },
                    ike,
                    esp,
                });
            }
            let secret = format!("{name}/secrets/branches");
            tenants.push(TenantPlan { name, display, secret, psk: random_psk() });
        }
        Self {
            tenants,
            branches,
            child_rekey: (duration / 5).max(MIN_REKEY),
            ike_rekey: (duration / 3).max(MIN_REKEY),
            lives: None,
            rate,
            packet_len: PACKET_LEN,
        }
    }
}

/// A key nobody else knows: 128 random bits.
fn random_psk() -> String {
    format!("{:032x}", rand::random::<u128>())
}
