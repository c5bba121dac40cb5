//! Many tunnels on one node: brought up, listed, rekeyed under light traffic, torn down.
//!
//! `provision.rs` is what it asks of the node over gRPC, `fleet.rs` the initiators, `report.rs` the figures.

mod fleet;
mod provision;
mod report;

use std::net::{IpAddr, Ipv4Addr};
use std::time::{Duration, Instant};

use clap::Args;
use indicatif::{ProgressBar, ProgressStyle};

use fleet::Fleet;
use provision::Api;
use report::Report;

/// Tunnels of one tenant, below the peers that a tenant may have by default.
const TUNNELS_PER_TENANT: u32 = 500;
/// How long anything may take that all tunnels have to do.
const PATIENCE: Duration = Duration::from_secs(120);

/// `loadtest tunnels`
#[derive(Clone, Debug, Args)]
pub struct Arguments {
    /// Where the node's API is: http://127.0.0.1:50051 or unix:/run/culvert/culvertd.sock
    #[arg(long, env = "CULVERT_SERVER", default_value = "http://127.0.0.1:50051", value_name = "URL")]
    server: String,
    /// Where the node receives IKE
    #[arg(long, default_value_t = IpAddr::V4(Ipv4Addr::LOCALHOST), value_name = "ADDRESS")]
    address: IpAddr,
    /// Its UDP port of IKE
    #[arg(long, default_value_t = 500)]
    ike_port: u16,
    /// Its UDP port of IKE and ESP behind NAT
    #[arg(long, default_value_t = 4500)]
    natt_port: u16,
    /// Tunnels
    #[arg(long, default_value_t = 2000, value_parser = clap::value_parser!(u32).range(2..=50_000))]
    count: u32,
    /// What the tunnels speak; IKEv1 in Main Mode, on loopback alone, for there each peer is known by an address of its own
    #[arg(long, value_enum, default_value_t = Version::Ikev2)]
    version: Version,
    /// Packets per second and tunnel
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=1000))]
    rate: u32,
    /// Negotiations and rekeyings under way at a time
    #[arg(long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(1..=4096))]
    concurrency: u32,
    /// How long traffic goes on after the last rekeying
    #[arg(long = "for", default_value = "5s", value_parser = humantime::parse_duration, value_name = "TIME")]
    duration: Duration,
    /// How long to wait at the end for the node to give memory back, which it does within some twenty seconds
    #[arg(long, default_value = "30s", value_parser = humantime::parse_duration, value_name = "TIME")]
    settle: Duration,
    /// Print the figures as JSON
    #[arg(long)]
    json: bool,
}

/// What the tunnels speak.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Version {
    /// RFC 7296
    Ikev2,
    /// RFC 2409
    Ikev1,
}

impl Version {
    /// The IKE proposal of every tunnel.
    const fn proposal(self) -> &'static str {
        match self {
            Self::Ikev2 => "aes128gcm16-prfsha256-x25519",
            // There is no AEAD for phase 1.
            Self::Ikev1 => "aes128-sha256-x25519",
        }
    }
}

/// How figures are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Output {
    /// For people
    Text,
    /// For programs
    Json,
}

/// Why a load could not be run.
#[derive(Debug, thiserror::Error)]
pub enum LoadError {
    /// The node is not there.
    #[error("cannot reach {0}: {1}")]
    Unreachable(String, String),
    /// The node refused something.
    #[error("{0}: {1}")]
    Api(&'static str, String),
    /// An initiator could not be started.
    #[error(transparent)]
    Initiator(#[from] crate::InitiatorError),
    /// Tunnels did not get where they should.
    #[error("{what}: {done} of {all} after {PATIENCE:?}; {why}")]
    Stuck {
        /// What they should have done.
        what: &'static str,
        /// How many did.
        done: usize,
        /// How many there are.
        all: usize,
        /// What the first of the others said.
        why: String,
    },
}

/// Runs the load; true if nothing was lost.
///
/// # Errors
/// [`LoadError`]; what was provisioned is then left for who looks.
pub async fn run(arguments: &Arguments) -> Result<bool, LoadError> {
    let api = Api::connect(&arguments.server).await?;
    let mut report = Report { tunnels: arguments.count, ..Report::default() };
    let bar = progress(arguments.count, "provisioning");
    report.provisioned = timed(api.provision(arguments, &bar)).await?;
    let provisioned = api.status().await?;
    report.memory_before = provisioned.resident_bytes;

    let bar = progress(arguments.count, "negotiating");
    let begin = Instant::now();
    let fleet = Fleet::start(arguments, &bar).await?;
    report.established = begin.elapsed();
    report.memory_up = api.status().await?.resident_bytes;
    let begin = Instant::now();
    report.listed_sas = api.list().await?;
    report.listed = begin.elapsed();

    fleet.send(true).await;
    let bar = progress(arguments.count, "rekeying");
    let begin = Instant::now();
    api.rekey_all(arguments, &bar).await?;
    report.rekeyed = begin.elapsed();
    tokio::time::sleep(arguments.duration).await;
    fleet.send(false).await;
    fleet.settle().await;
    report.count(&fleet.reports());
    report.memory_rekeyed = api.status().await?.resident_bytes;

    let begin = Instant::now();
    fleet.close().await;
    api.wait_down().await?;
    report.torn_down = begin.elapsed();
    report.memory_down = api.status().await?.resident_bytes;
    api.clean_up(arguments).await?;
    report.memory_after = api.status().await?.resident_bytes;
    report.memory_rest = at_rest(arguments.settle, &api, report.memory_before).await?;
    report.print(arguments.json);
    Ok(report.is_clean())
}

/// The node's memory when it has returned to what it was `before`, or when the wait is over: freed pages go back to the
/// system bit by bit.
async fn at_rest(wait: Duration, api: &Api, before: u64) -> Result<u64, LoadError> {
    let seconds = wait.as_secs();
    let bar = progress(u32::try_from(seconds).unwrap_or(u32::MAX), "settling");
    for _ in 0..seconds {
        if api.status().await?.resident_bytes <= before {
            break;
        }
        tokio::time::sleep(Duration::from_secs(1)).await;
        bar.inc(1);
    }
    Ok(api.status().await?.resident_bytes)
}

async fn timed<T>(work: impl Future<Output = Result<T, LoadError>>) -> Result<Duration, LoadError> {
    let begin = Instant::now();
    work.await?;
    Ok(begin.elapsed())
}

fn progress(count: u32, what: &'static str) -> ProgressBar {
    let style = ProgressStyle::with_template("{msg:13} {bar:40} {pos}/{len} {elapsed}");
    let bar = ProgressBar::new(count.into()).with_message(what);
    bar.with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}

/// A tunnel's place: its tenant, and the last two octets of its addresses.
#[derive(Clone, Copy, Debug)]
struct Place {
    index: u32,
}

impl Place {
    fn all(count: u32) -> impl Iterator<Item = Self> {
        (0..count).map(|index| Self { index })
    }

    const fn tenant(self) -> u32 {
        self.index / TUNNELS_PER_TENANT
    }

    fn peer_id(self) -> String {
        format!("p{}", self.index)
    }

    fn tenant_id(self) -> String {
        format!("load-{}", self.tenant())
    }

    fn identity(self) -> String {
        format!("{}.{}.load.example", self.peer_id(), self.tenant_id())
    }

    /// On loopback everyone has an address of its own, as peers do.
    fn source(self, server: IpAddr) -> Option<IpAddr> {
        let IpAddr::V4(server) = server else { return None };
        let [_, _, high, low] = (self.index + 1).to_be_bytes();
        server.is_loopback().then(|| Ipv4Addr::new(127, 77, high, low).into())
    }

    /// Its address inside: the same in every tenant.
    fn inner(self) -> Ipv4Addr {
        let [_, _, high, low] = (self.index % TUNNELS_PER_TENANT).to_be_bytes();
        Ipv4Addr::new(10, 7, high, low)
    }

    /// Whom it sends to: its neighbour, in pairs, or the first of its tenant if it is left over.
    fn partner(self, count: u32) -> Self {
        let index = self.index ^ 1;
        let there = index < count && index / TUNNELS_PER_TENANT == self.tenant();
        Self { index: if there { index } else { self.tenant() * TUNNELS_PER_TENANT } }
    }
}
