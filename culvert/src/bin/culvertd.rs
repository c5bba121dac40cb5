//! The daemon: reads its configuration, opens the catalog, serves the API until it is told to stop.

use std::io::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;
use std::time::Duration;

use actors::{KeyLog, Node, NodeConfig};
use anyhow::Context as _;
use clap::{Parser, Subcommand};
use culvert::access::{Access, Doors};
use culvert::config::Config;
use culvert::daemon::reload::Reload;
use culvert::daemon::{backup, catalog, check, nodes, recall};
use culvert::logging::{Lines, Lost};
use culvert::phase::Phases;
use culvert::telemetry::{InTheWay, Telemetry};
use culvert::tunnels::Tunnels;
use culvert::wide::Wide;
use culvert::{logging, server};
use latest::{Follow as _, Latest as _};
use router::HugePages;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::sync::watch;

/// Gives memory back to the system when tunnels go, which that of glibc does not: it keeps what lies between others.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

/// The IPsec VPN concentrator.
///
/// Keeps tenants, peers and secrets, negotiates their tunnels and carries their packets. It is driven over gRPC:
/// see `culvert --help`.
#[derive(Debug, Parser)]
#[command(version)]
struct Arguments {
    /// Configuration file [default: /etc/culvert/culvertd.toml if it exists]
    #[arg(long, short, global = true, env = "CULVERTD_CONFIG", value_name = "FILE")]
    config: Option<PathBuf>,
    /// Check the configuration, show what it comes to, and exit
    #[arg(long)]
    check: bool,
    #[command(subcommand)]
    task: Option<Task>,
}

/// What to do instead of serving.
#[derive(Debug, Subcommand)]
enum Task {
    /// Check that the store is whole: every page, every row, and every secret. Changes nothing
    CheckStore {
        /// Another store than that of the state directory, such as a backup
        file: Option<PathBuf>,
    },
    /// Copy the store to a file, whether or not the daemon runs.
    ///
    /// To restore it: stop the daemon, put the file in the place of catalog.redb in the state directory, with the
    /// secrets.key that was there when the copy was made, and start the daemon.
    Backup {
        /// The file; an earlier copy there is replaced once the new one is whole
        file: PathBuf,
        #[command(flatten)]
        asked: backup::Asked,
    },
    /// Copy the catalog of the state directory into etcd (cluster.etcd), which has none yet: once, while the daemon is stopped.
    ///
    /// The catalog in the state directory stays as it is and is not read any more while cluster.etcd is set.
    ImportState,
}

fn main() -> ExitCode {
    let arguments = Arguments::parse();
    match run(&arguments) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            // The log may not be there yet, nor standard error.
            let _ = writeln!(std::io::stderr(), "culvertd: {}", whole(&error));
            ExitCode::FAILURE
        }
    }
}

/// The error with its causes, each said once: some name their cause themselves.
fn whole(error: &anyhow::Error) -> String {
    error.chain().skip(1).map(ToString::to_string).fold(error.to_string(), |text, cause| {
        if text.contains(&cause) { text } else { format!("{text}: {cause}") }
    })
}

fn run(arguments: &Arguments) -> anyhow::Result<()> {
    // Before memory is asked for.
    let huge_pages = HugePages::withheld();
    let file = arguments.config.as_deref();
    let config = Config::load(file)?;
    let runtime = || tokio::runtime::Runtime::new().context("starting the async runtime");
    match &arguments.task {
        None if arguments.check => say(&check::settings(&config, Config::file(file).as_deref())?),
        None => {
            let log = logging::start(&config.log);
            for warning in check::warnings(&config) {
                tracing::warn!("{warning}");
            }
            let reload = Reload::new(arguments.config.clone(), config.clone(), log.level);
            let runtime = runtime()?;
            let ended = runtime.block_on(serve(config, reload, &log.lines, log.lost, huge_pages));
            // What does not come to its end, as a catalog that is being opened, ends with the process.
            runtime.shutdown_timeout(LEFT);
            ended
        }
        Some(Task::CheckStore { file }) => say(&check::store(&config, file.as_deref())?),
        Some(Task::Backup { file, asked }) => say(&runtime()?.block_on(backup::run(&config, file, asked))?),
        Some(Task::ImportState) => {
            let import = async { tokio::task::spawn_blocking(move || catalog::import(&config)).await };
            say(&runtime()?.block_on(import)??)
        }
    }
}

/// Prints to standard output.
fn say(text: &str) -> anyhow::Result<()> {
    use std::io::Write as _;
    Ok(writeln!(std::io::stdout().lock(), "{text}")?)
}

/// Comes with a write beyond the limit of the size of a file, and would end the process. Handled, the write fails instead,
/// as on a full disk. The number is that of all architectures but MIPS.
const SIGXFSZ: i32 = 25;

/// How long slots may take to change hands at the end: a hundred times what those of 10,000 tunnels take. While etcd is away none does.
const MOVES_AT_MOST: Duration = Duration::from_secs(15);

/// How long an etcd that is away is waited for at the start: somewhat less than the chart's startup probe gives (two minutes), so that the
/// rest of the start has its time as well. What ends before is started again later and later.
const ETCD_AT_MOST: Duration = Duration::from_secs(100);

/// For what is left when all that has an order has ended: a write of the store that is under way, at most.
const LEFT: Duration = Duration::from_secs(5);

/// Who is told to end.
struct Told {
    terminate: Signal,
    interrupt: Signal,
}

impl Told {
    /// Waits for it.
    async fn signal(&mut self) -> &'static str {
        tokio::select! {
            _ = self.terminate.recv() => "SIGTERM",
            _ = self.interrupt.recv() => "SIGINT",
        }
    }

    /// A step of the start. `None` if the end comes first: there is nothing yet to go down in order.
    async fn unless<T>(&mut self, step: impl Future<Output = T>) -> Option<T> {
        tokio::select! {
            done = step => Some(done),
            _ = self.signal() => None,
        }
    }
}

async fn serve(
    config: Config,
    mut reload: Reload,
    lines: &Lines,
    lost_lines: Lost,
    huge_pages: std::io::Result<HugePages>,
) -> anyhow::Result<()> {
    // Before anything is announced: a signal from here on ends the daemon in order.
    let mut told = Told {
        terminate: signal(SignalKind::terminate()).context("SIGTERM")?,
        interrupt: signal(SignalKind::interrupt()).context("SIGINT")?,
    };
    let _too_large = signal(SignalKind::from_raw(SIGXFSZ)).context("SIGXFSZ")?;
    let mut hangup = signal(SignalKind::hangup()).context("SIGHUP")?;
    tokio::spawn(async move {
        while hangup.recv().await.is_some() {
            reload.now();
        }
    });
    // First of all, so that whoever started the daemon sees it start.
    let mut telemetry = Telemetry::start(&config.metrics, &config.otlp).await?;
    if let Some(address) = telemetry.address {
        tracing::info!(metrics = %address, "metrics and probes");
    }
    let logs = telemetry.logs();
    if let Some(logs) = &logs {
        lines.give_to(Arc::clone(logs) as _);
    }
    let etcd = catalog::etcd(&config)?;
    if let Some(etcd) = &etcd {
        let Some(answers) = told.unless(etcd.answers(ETCD_AT_MOST)).await else { return Ok(()) };
        answers.context("cluster.etcd")?;
    }
    let (settings, of_nodes, audit_sink) = (config.clone(), etcd.clone(), logs.map(|logs| logs as _));
    let open = tokio::task::spawn_blocking(move || catalog::open(&settings, etcd, audit_sink));
    let Some(catalog) = told.unless(open).await else { return Ok(()) };
    let catalog = catalog??;
    let access = Access::new(Arc::clone(&catalog), &config.grpc)?;
    let doors = Doors::bind(&config.grpc, &config.state_dir.0).await?;
    let recall = recall::read(&config.state_dir.0);
    let own_config = node_config(&config)?;
    let Some(joined) = told.unless(nodes::join(&config, of_nodes)).await else { return Ok(()) };
    let joined = joined?;
    // In a cluster slots are given out.
    let slot = joined.as_ref().map_or(config.router.slot, nodes::Joined::slot);
    let homes = joined.as_ref().map(nodes::Joined::homes).unwrap_or_default();
    let others = joined.as_ref().map(nodes::Joined::others).unwrap_or_default();
    let spans = telemetry.spans();
    let node_config = NodeConfig { recall, spans, slot, homes, others, ..own_config };
    let elsewhere = joined.as_ref().map(nodes::Joined::elsewhere);
    if let Err(error) = &huge_pages {
        tracing::debug!(%error, "whether there are huge pages is the system's to say");
    }
    let huge_pages = huge_pages.ok();
    let router = router::RouterConfig { slot, elsewhere, huge_pages, ..router_config(&config) };
    let node = match Node::start(node_config, router, Arc::clone(&catalog)) {
        Ok(node) => node,
        Err(error) => {
            if let Some(joined) = joined {
                joined.leave().await;
            }
            return Err(error.into());
        }
    };
    let cluster = match joined {
        None => None,
        Some(joined) => match joined.run(node.control(), told.signal()).await {
            Ok(Some(running)) => Some(running),
            // The peers are told, as at any other end.
            stopped => {
                node.shutdown().await;
                return stopped.map(drop);
            }
        },
    };
    let among = cluster.as_ref().map(nodes::Running::nodes);
    let listen = config.ike.listen.iter().map(ToString::to_string).collect();
    let (ike_port, natt_port) = node.ports();
    let tunnels = Tunnels::new(&node, listen, config.router.shards).among(among.clone());
    let tunnels = Wide::among(Arc::new(tunnels), among.map(|nodes| Arc::new(nodes) as _));
    #[cfg(feature = "fault-injection")]
    let (node, tenants) = (Arc::new(node), Arc::clone(&catalog));
    #[cfg(feature = "fault-injection")]
    let faults = inject_faults(Arc::clone(&node), tenants)?;
    // Not before: a start that fails may well be followed by one that does not.
    recall::forget(&config.state_dir.0);
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        grpc = doors.address().map(tracing::field::display),
        socket = doors.socket().map(|path| tracing::field::display(path.display())),
        ike_port,
        natt_port,
        state_dir = %config.state_dir.0.display(),
        tenants = catalog.tenants().len(),
        peers = catalog.peers().len(),
        "culvertd is ready"
    );
    let others = telemetry.others();
    others.counters(move || lost_lines.counts());
    if let Some(tls) = doors.tls() {
        let certificate = Arc::clone(&tls);
        others.certificate("grpc", move || certificate.expires());
        others.files("tls", move || tls.is_usable());
    }
    access.tell(&others);
    if let Some(cluster) = &cluster {
        cluster.tell(&others);
    }
    let in_the_way = match &cluster {
        // etcd is away for all nodes at a time: if that were in the way none would be left, and tunnels need no writes.
        Some(cluster) => InTheWay::OfAll(cluster.astray()),
        None => InTheWay::OfChanges(catalog.store_fault()),
    };
    telemetry.node_runs(&node, &catalog, config.router.shards, in_the_way.clone()).await;
    let (probes, traced) = (telemetry.probes(), telemetry.traced());
    let mut health = node.health();
    let failure = health.clone();
    let (phases, drain) = (Phases::new(), config.shutdown.drain);
    let phase = phases.watch();
    let mut lost = cluster.as_ref().map(nodes::Running::lost);
    let others = cluster.as_ref().map(nodes::Running::nodes);
    // Set by whoever ends the daemon: not by a signal, where something has failed.
    let (ends, how) = watch::channel(None);
    let ended = tokio::spawn(async move {
        let mut reason = async || {
            tokio::select! {
                signal = told.signal() => signal,
                // An error is the node gone, which only follows from a signal.
                _ = health.until(|health| health.failed.is_some()) => "failure",
                () = no_place(lost.as_mut()) => "no place in the cluster",
            }
        };
        let signal = reason().await;
        ends.send_replace(Some(signal));
        tracing::info!(signal, "going down");
        probes.leave();
        let others = others.filter(|_| signal.starts_with("SIG"));
        let drained = others.is_some();
        let mut cut = false;
        if let Some(others) = others {
            // Before the time in which whoever is in front learns that this node goes: what still lands here is passed on.
            tokio::select! {
                () = others.drain() => {}
                why = reason() => {
                    tracing::info!(why, "what has not changed hands goes with this node");
                    ends.send_replace(Some(why));
                    cut = true;
                }
                () = tokio::time::sleep(MOVES_AT_MOST) => {
                    tracing::warn!("not all slots have changed hands; what is left goes with this node");
                }
            }
        }
        // What has failed has nobody to wait for.
        let drain = if signal.starts_with("SIG") && !cut { drain } else { Duration::ZERO };
        // Whoever is in front may send here a moment longer.
        let drain = if drained && !cut { drain.max(nodes::PASSES_ON) } else { drain };
        phases.end(drain, reason()).await;
    });
    let served =
        server::serve_grpc(doors, access, catalog, tunnels, traced, in_the_way.why().clone(), phase).await;
    ended.abort();
    let how = how.latest();
    if let Some(cluster) = &cluster {
        match how {
            Some(signal) if signal.starts_with("SIG") => {}
            // Tunnels that have a standby are no worse for it than if the process had been killed.
            Some(_) => cluster.abandon().await,
            // The API alone has failed, and slots change hands without it.
            None => {
                if tokio::time::timeout(MOVES_AT_MOST, cluster.nodes().drain()).await.is_err() {
                    tracing::warn!("not all slots have changed hands; what is left goes with this node");
                }
            }
        }
    }
    #[cfg(feature = "fault-injection")]
    let node = {
        faults.abort();
        // Aborted or ended: it holds the node no longer.
        let _ = faults.await;
        Arc::into_inner(node).context("the node is in use")?
    };
    if let Some(cluster) = &cluster {
        // While the tunnels are there: what has come since the drain goes to others.
        cluster.stop_taking().await;
    }
    // Also when the API failed: the peers are told, but those whose tunnels others go on with.
    let up = node.shutdown().await;
    if let Err(error) = recall::save(&config.state_dir.0, &up) {
        tracing::warn!(%error, "the next start will not know which tunnels to call back");
    }
    telemetry.stop().await;
    let lost = cluster.as_ref().and_then(|cluster| cluster.lost().latest());
    if let Some(cluster) = cluster {
        cluster.leave().await;
    }
    tracing::info!("down");
    if let Some(why) = lost {
        // Started again, it gets a place like any other.
        anyhow::bail!("cluster: {why}");
    }
    if let Some(what) = &failure.latest().failed {
        // Whatever started the daemon starts it again, and the tunnels come back.
        anyhow::bail!("{what}; see the log");
    }
    Ok(served?)
}

/// Waits until this node has no place in its cluster any more; for ever if it is in none.
async fn no_place(lost: Option<&mut watch::Receiver<Option<String>>>) {
    if let Some(lost) = lost
        && lost.until(Option::is_some).await.is_ok()
    {
        return;
    }
    std::future::pending().await
}

fn node_config(config: &Config) -> anyhow::Result<NodeConfig> {
    let key_log = match &config.debug.key_log_dir {
        None => None,
        Some(directory) => {
            tracing::warn!(
                directory = %directory.display(),
                "debug.key_log_dir: the keys of all tunnels are written there; whoever reads them reads the traffic"
            );
            let log = KeyLog::open(directory)
                .with_context(|| format!("debug.key_log_dir: {}", directory.display()))?;
            Some(Arc::new(log))
        }
    };
    Ok(NodeConfig {
        key_log,
        slot: config.router.slot,
        arbiters: std::thread::available_parallelism().map_or(1, usize::from),
        ..NodeConfig::default()
    })
}

fn router_config(config: &Config) -> router::RouterConfig {
    router::RouterConfig {
        listen: config.ike.listen.clone(),
        ike_port: config.ike.port,
        natt_port: config.ike.natt_port,
        shards: config.router.shards,
        slot: config.router.slot,
        raw_esp: config.router.raw_esp,
        tun_offload: config.router.tun_offload,
        ..router::RouterConfig::default()
    }
}

/// In a test build, SIGUSR1 makes the actor of the peer named by `CULVERT_FAULT_PEER` panic, SIGUSR2 that of its
/// connection, and with `CULVERT_FAULT_PART` SIGUSR1 makes that part panic.
#[cfg(feature = "fault-injection")]
fn inject_faults(
    node: Arc<Node>,
    catalog: Arc<tenants::Catalog>,
) -> anyhow::Result<tokio::task::JoinHandle<()>> {
    use actors::Part;
    let peer = std::env::var("CULVERT_FAULT_PEER").ok().map(|peer| peer.parse::<tenants::PeerName>());
    let peer = peer.transpose().context("CULVERT_FAULT_PEER")?;
    let part = std::env::var("CULVERT_FAULT_PART").ok();
    let mut own = signal(SignalKind::user_defined1()).context("SIGUSR1")?;
    let mut connection = signal(SignalKind::user_defined2()).context("SIGUSR2")?;
    Ok(tokio::spawn(async move {
        loop {
            let in_connection = tokio::select! {
                _ = own.recv() => false,
                _ = connection.recv() => true,
            };
            let part = part.as_deref().and_then(|part| match part {
                "node" => Some(Part::Node),
                "tenant" => catalog.tenants().first().map(|tenant| Part::Tenant(tenant.number)),
                "dispatcher" => Some(Part::Dispatcher),
                "reception" => Some(Part::Reception),
                "shard" => Some(Part::Router(router::RouterThread::Shard(0))),
                "control" => Some(Part::Router(router::RouterThread::Control)),
                "devices" => Some(Part::Router(router::RouterThread::Devices)),
                _ => None,
            });
            let there = match (&part, &peer) {
                (Some(part), _) => node.inject_panic(part),
                (None, Some(peer)) => node.control().inject_panic(peer, in_connection),
                (None, None) => false,
            };
            tracing::warn!(?part, ?peer, in_connection, there, "panic injected");
        }
    }))
}
