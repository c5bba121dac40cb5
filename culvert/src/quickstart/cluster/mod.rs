//! `culvert quickstart --nodes 3`: several nodes behind one address, of which one is killed and another drained and started again, under
//! traffic.
//!
//! `etcd.rs` and `node.rs` are the processes, `ports.rs` what they are given, `balancer.rs` what stands in front of them and `sightings.rs` what is seen there, `play.rs`
//! what happens and when, `view.rs` what the nodes say, `outcome.rs` what has come of it.

mod balancer;
mod etcd;
mod node;
mod outcome;
mod play;
mod ports;
mod sightings;
mod view;

use std::io::Write as _;
use std::net::{IpAddr, Ipv4Addr, UdpSocket};
use std::os::unix::fs::OpenOptionsExt as _;
use std::path::Path;
use std::time::{Duration, Instant};

use crate::console::Failure;
use crate::quickstart::Arguments;
use crate::quickstart::directory::Directory;
use crate::quickstart::enough::Enough;
use crate::quickstart::fleet::{Fleet, Front};
use crate::quickstart::plan::Plan;
use crate::quickstart::screen::Screen;
use crate::quickstart::summary::Summary;
use crate::quickstart::{REFRESH, SETTLE, SETUP, provision};
use balancer::{Backend, Balancer};
use etcd::Etcd;
use node::{Node, Settings};
use outcome::Mark;
pub(crate) use outcome::Outcome;
use play::Play;

/// Addresses of the branches. The balancer goes by them, so each node has some, and the one that is killed has two.
const SOURCES: [Ipv4Addr; 4] = [
    Ipv4Addr::new(127, 0, 0, 21),
    Ipv4Addr::new(127, 0, 0, 22),
    Ipv4Addr::new(127, 0, 0, 23),
    Ipv4Addr::new(127, 0, 0, 24),
];
/// How often it is looked for what is due, and for what is waited for.
const TICK: Duration = Duration::from_millis(50);
/// How long the nodes may take to know each other and what is configured.
const PATIENCE: Duration = Duration::from_secs(30);

/// The shortest run in which all has its time: a node that is started again waits until those before it have gone, and a kill is to be
/// told from a drain.
pub(crate) const MIN_DURATION: Duration = Duration::from_secs(12);

/// How long is sent at a time at the start, and then waited for what is under way.
const WARM_UP: Duration = Duration::from_millis(300);

/// How many times longer SAs live than until they are rekeyed. A node that has lost its standby says nothing over IKE for a second or so:
/// of lifetimes of hours that is nothing, but a tenth of the seconds that they have here would be over by then.
pub(crate) const LIVES: u32 = 3;

/// The nodes and what they need. What stands first ends first.
struct Cluster {
    nodes: Vec<Node>,
    balancer: Balancer,
    _etcd: Etcd,
    _directory: Directory,
}

/// Runs it, until it is over or somebody has had enough; all processes end with it.
pub(crate) async fn run(screen: &mut Screen, arguments: &Arguments, plan: &Plan) -> Result<Summary, Failure> {
    Enough::new().unless(exercise(screen, arguments, plan)).await
}

async fn exercise(screen: &mut Screen, arguments: &Arguments, plan: &Plan) -> Result<Summary, Failure> {
    screen.say(&format!("starting etcd, and {} nodes of culvertd behind a balancer", arguments.nodes));
    let mut cluster = Cluster::start(arguments).await?;
    screen.say("provisioning two tenants with the same subnets over gRPC at node-1");
    cluster.provision(plan).await?;
    screen.say("four branches negotiate, then traffic flows between the branches of each tenant");
    let Balancer { address, ike_port, natt_port, .. } = cluster.balancer;
    let mut fleet = Fleet::start(plan, Front { address, ike_port, natt_port }, &SOURCES.map(IpAddr::V4))?;
    if !fleet.wait_up(SETUP).await {
        let why = fleet.errors().join("; ");
        return Err(Failure::failed(format!("the tunnels did not come up within {SETUP:?}: {why}")));
    }
    warm_up(&fleet).await?;
    let started = Mark::now(&fleet);
    fleet.send(true).await;
    let (begin, duration) = (Instant::now(), arguments.duration);
    let mut play = Play::new(duration, started);
    let (mut tick, mut refresh) = (tokio::time::interval(TICK), tokio::time::interval(REFRESH));
    while begin.elapsed() < duration || play.waits(begin.elapsed()) {
        tokio::select! {
            _ = tick.tick() => {
                fleet.rekey_when_due(begin.elapsed(), duration).await;
                if let Some(said) = play.go_on(begin.elapsed(), &mut cluster, &fleet)? {
                    screen.say(&said);
                }
            }
            _ = refresh.tick() => {
                let seen = view::look(&mut cluster.nodes, plan).await;
                screen.draw(plan, &seen.statuses, &fleet, (begin.elapsed(), duration), Some(&seen.nodes));
            }
        }
    }
    fleet.send(false).await;
    fleet.wait_settled(SETTLE).await;
    fleet.tally(SETTLE).await;
    let mut seen = view::look(&mut cluster.nodes, plan).await;
    seen.count_rekeys(plan, &fleet);
    let counters = view::counters(&mut cluster.nodes).await;
    let outcome = play.outcome(plan, &cluster, &fleet);
    let summary = Summary::new(plan, &seen.statuses, &fleet, &counters, begin.elapsed());
    fleet.close().await;
    Ok(summary.of_cluster(outcome))
}

/// Sends a little at a time until all of it arrives. A tunnel is known at other nodes some moments after it is up, and what is sent to it
/// over one of them before that is lost.
async fn warm_up(fleet: &Fleet) -> Result<(), Failure> {
    let (begin, mut lost) = (Instant::now(), 0);
    while begin.elapsed() < PATIENCE {
        fleet.send(true).await;
        tokio::time::sleep(WARM_UP).await;
        fleet.send(false).await;
        tokio::time::sleep(WARM_UP).await;
        let (sent, received) = fleet.totals();
        if std::mem::replace(&mut lost, sent.saturating_sub(received)) == sent.saturating_sub(received) {
            return Ok(());
        }
    }
    Err(Failure::failed(format!("the nodes do not know of each other's tunnels after {PATIENCE:?}")))
}

impl Cluster {
    async fn start(arguments: &Arguments) -> Result<Self, Failure> {
        let directory = Directory::temporary();
        let path = directory.path();
        let failed = |error: std::io::Error| {
            Failure::failed(format!("{}: {error}", path.display()))
                .hint("the directory for temporary files is not writable; TMPDIR names another")
        };
        std::fs::create_dir_all(path).map_err(failed)?;
        let key = path.join("vault.key");
        write_key(&key).map_err(failed)?;
        let etcd = Etcd::start(path).await?;
        let addresses: Vec<Ipv4Addr> =
            (1..=arguments.nodes).map(|number| Ipv4Addr::new(127, 0, 0, 10 + number)).collect();
        let [ike, natt, mesh_port] = free_ports(&addresses)?;
        let mut nodes = Vec::new();
        for (number, address) in (1..).zip(&addresses) {
            let settings = Settings {
                name: format!("node-{number}"),
                address: *address,
                ports: (ike, natt),
                mesh_port,
                etcd: &etcd.endpoint,
                shards: arguments.shards,
                directory: path,
                key: &key,
            };
            nodes.push(Node::new(&settings, arguments.log)?);
        }
        let backends =
            nodes.iter().map(|node| Backend { address: node.address, state: node.states() }).collect();
        let balancer = Balancer::start(backends, (ike, natt)).await;
        let balancer = balancer.map_err(|error| Failure::failed(format!("balancer: {error}")))?;
        let mut this = Self { nodes, balancer, _etcd: etcd, _directory: directory };
        for node in &mut this.nodes {
            node.start()?;
        }
        for node in &this.nodes {
            node.wait_up().await?;
        }
        Ok(this)
    }

    /// Fills it at the first node, and waits until every node knows of all the others and of every branch.
    async fn provision(&mut self, plan: &Plan) -> Result<(), Failure> {
        let Some(first) = self.nodes.first_mut() else { return Ok(()) };
        let client = first.client().await;
        let client = client.ok_or_else(|| Failure::failed("node-1 does not answer"))?;
        provision::run(&client, plan).await?;
        let begin = Instant::now();
        while !view::all_know_all(&mut self.nodes, plan).await {
            if begin.elapsed() > PATIENCE {
                return Err(Failure::failed(format!("the nodes do not know each other after {PATIENCE:?}")));
            }
            tokio::time::sleep(TICK).await;
        }
        Ok(())
    }
}

/// A key of the secrets for all nodes, which they read only if it is nobody else's.
fn write_key(path: &Path) -> std::io::Result<()> {
    let mut file = std::fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(path)?;
    file.write_all(&rand::random::<[u8; 32]>())
}

/// Three UDP ports that are free at each of these addresses.
fn free_ports(addresses: &[Ipv4Addr]) -> Result<[u16; 3], Failure> {
    let hold = |port| {
        let sockets = addresses.iter().map(|address| UdpSocket::bind((*address, port)));
        sockets.collect::<std::io::Result<Vec<_>>>()
    };
    ports::free(hold).map_err(|error| {
        Failure::failed(format!("no UDP ports are free at 127.0.0.11 and those after it: {error}"))
            .hint("on systems other than Linux these addresses have to be added to the loopback device")
    })
}
