//! `culvert quickstart`: a concentrator, two tenants with the same subnets and four branches, in one process, without
//! privilege. Everything is real but the distance: gRPC, IKE and ESP over UDP on loopback.
//!
//! `site.rs` starts the concentrator, `provision.rs` fills it over gRPC, `fleet.rs` runs the branches, `screen.rs`
//! shows what happens, `summary.rs` adds it up, `enough.rs` ends it early. With `--nodes` the concentrator is several, each a process: `cluster/`.

mod cluster;
mod directory;
mod enough;
mod fleet;
mod plan;
mod provision;
mod screen;
mod site;
mod summary;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::{Duration, Instant};

use clap::Args;

use crate::config::OtlpConfig;
use crate::console::{Client, Failure, Global};
use enough::Enough;
use fleet::Fleet;
use plan::Plan;
use screen::Screen;
use site::Site;
use summary::Summary;

/// How often the picture is refreshed.
const REFRESH: Duration = Duration::from_millis(500);
/// How long the tunnels may take to come up: a few retransmissions, should the machine be very busy.
const SETUP: Duration = Duration::from_secs(20);
/// How long packets under way may take to arrive after the last was sent.
const SETTLE: Duration = Duration::from_secs(3);

/// `culvert quickstart`
#[derive(Clone, Debug, Args)]
pub(crate) struct Arguments {
    /// How long traffic runs
    #[arg(long = "for", default_value = "20s", value_parser = humantime::parse_duration, value_name = "TIME")]
    duration: Duration,
    /// Packets per second and branch
    #[arg(long, default_value_t = 250, value_parser = clap::value_parser!(u32).range(1..=20_000))]
    rate: u32,
    /// UDP port of IKE; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    ike_port: u16,
    /// UDP port of IKE and ESP behind NAT; 0 takes a free one
    #[arg(long, default_value_t = 0)]
    natt_port: u16,
    /// Where the API listens; port 0 takes a free one
    #[arg(long, default_value = "127.0.0.1:0", value_name = "ADDRESS")]
    api: SocketAddr,
    /// Where Prometheus reads metrics, and probes are; port 0 takes a free one
    #[arg(long, value_name = "ADDRESS")]
    metrics: Option<SocketAddr>,
    /// A collector that takes OTLP over gRPC, such as http://127.0.0.1:4317
    #[arg(long, value_name = "URL")]
    otlp: Option<String>,
    /// Keep the store here instead of in a temporary directory
    #[arg(long, value_name = "DIRECTORY")]
    state_dir: Option<PathBuf>,
    /// Several nodes, each a culvertd on loopback: one is killed, another drained and started again. Needs etcd
    #[arg(
        long,
        default_value_t = 1,
        value_name = "COUNT",
        value_parser = nodes,
        conflicts_with_all = ["ike_port", "natt_port", "api", "metrics", "otlp", "state_dir"],
    )]
    nodes: u8,
    /// Threads that carry packets, of each node
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u8).range(1..=64))]
    shards: u8,
    /// Show the concentrator's log
    #[arg(long)]
    log: bool,
}

/// With two nodes, one of which is killed, there would be nobody to drain to. The others are for seeing more of the same.
fn nodes(text: &str) -> Result<u8, String> {
    match text.parse() {
        Ok(count @ (1 | 3..=9)) => Ok(count),
        _ => Err("expected 1, or 3 to 9".to_owned()),
    }
}

/// The shortest run in which every tunnel can rekey: lifetimes below two seconds are not accepted.
const MIN_DURATION: Duration = Duration::from_secs(5);

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let (least, reason) = match arguments.nodes {
        1 => (MIN_DURATION, "every tunnel is rekeyed at least once under traffic, which takes that long"),
        _ => (cluster::MIN_DURATION, "nodes that go and come under traffic take that long"),
    };
    if arguments.duration < least {
        let duration = arguments.duration;
        return Err(Failure::invalid(format!("--for {duration:?}: expected {least:?} or more")).hint(reason));
    }
    if arguments.nodes > 1 {
        let plan = Plan { lives: Some(cluster::LIVES), ..Plan::new(arguments.duration, arguments.rate) };
        let mut screen = Screen::new(global.output);
        let summary = cluster::run(&mut screen, &arguments, &plan).await?;
        screen.finish(&summary)?;
        return summary.verdict();
    }
    if arguments.log {
        crate::logging::start(&crate::config::LogConfig::default());
    }
    let otlp = OtlpConfig { endpoint: arguments.otlp.clone(), ..OtlpConfig::default() };
    otlp.check().map_err(|error| Failure::invalid(error.to_string().replace("otlp.endpoint", "--otlp")))?;
    let plan = Plan::new(arguments.duration, arguments.rate);
    let mut screen = Screen::new(global.output);
    screen.say("starting a concentrator on loopback, with a store of its own");
    // Not before all of the site is there is it looked whether one has come: its store can be removed then.
    let mut enough = Enough::new();
    let site = Site::start(&arguments).await?;
    if let Some(address) = site.telemetry.address {
        screen.say(&format!("metrics are at http://{address}/metrics"));
    }
    let outcome = exercise(&plan, &site, &mut screen, arguments.duration, &mut enough).await;
    // Also after a failure: SAs are deleted, the store is removed.
    site.stop().await;
    let summary = outcome?;
    screen.finish(&summary)?;
    summary.verdict()
}

/// Until the tunnels are up.
async fn set_up(plan: &Plan, site: &Site, screen: &mut Screen) -> Result<(Client, Fleet), Failure> {
    screen.say(&format!("provisioning two tenants with the same subnets over gRPC at {}", site.api));
    let client = site.client().await?;
    provision::run(&client, plan).await?;
    screen.say("four branches negotiate, then traffic flows between the branches of each tenant");
    let mut fleet = Fleet::start(plan, site.front, &[])?;
    if !fleet.wait_up(SETUP).await {
        let why = fleet.errors().join("; ");
        return Err(Failure::failed(format!("the tunnels did not come up within {SETUP:?}: {why}")));
    }
    Ok((client, fleet))
}

async fn exercise(
    plan: &Plan,
    site: &Site,
    screen: &mut Screen,
    duration: Duration,
    enough: &mut Enough,
) -> Result<Summary, Failure> {
    let (client, mut fleet) = enough.unless(set_up(plan, site, screen)).await?;
    fleet.send(true).await;
    let begin = Instant::now();
    let mut refresh = tokio::time::interval(REFRESH);
    while begin.elapsed() < duration {
        tokio::select! {
            _ = refresh.tick() => {
                fleet.rekey_when_due(begin.elapsed(), duration).await;
                let statuses = provision::statuses(&client, plan).await?;
                screen.draw(plan, &statuses, &fleet, (begin.elapsed(), duration), None);
            }
            () = enough.comes() => break,
        }
    }
    fleet.send(false).await;
    fleet.wait_settled(SETTLE).await;
    let statuses = provision::statuses(&client, plan).await?;
    let counters = provision::counters(&client).await?;
    let summary = Summary::new(plan, &statuses, &fleet, &counters, begin.elapsed());
    fleet.close().await;
    Ok(summary)
}
