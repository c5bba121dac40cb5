//! The branches: four initiators, each a task with a UDP socket of its own.

use std::net::IpAddr;
use std::sync::Arc;
use std::time::{Duration, Instant};

use ike::config::{Auth, ChildConfig, Mode, PeerConfig, Psk, Retransmit, Uniqueness};
use ike::wire::TrafficSelector;
use latest::{Follow as _, Latest as _};
use loadtest::{Command, Initiator, InitiatorConfig, InitiatorError, Report};
use tenants::Cidr;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use crate::console::Failure;
use crate::quickstart::plan::{Branch, Plan};

/// Commands under way to a branch. A handful is sent in a whole run.
const COMMANDS: usize = 8;
/// How long a branch may take to say goodbye.
const GOODBYE: Duration = Duration::from_secs(5);

/// Where the branches find the concentrator.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Front {
    pub(crate) address: IpAddr,
    pub(crate) ike_port: u16,
    pub(crate) natt_port: u16,
}

/// The running branches, in the order of the plan.
pub(crate) struct Fleet {
    members: Vec<Member>,
}

struct Member {
    commands: mpsc::Sender<Command>,
    report: watch::Receiver<Report>,
    task: JoinHandle<Result<(), InitiatorError>>,
    rekeyed: bool,
}

impl Fleet {
    /// Each from an address of its own, as far as there are any in `sources`, else from one of the system's choice.
    pub(crate) fn start(plan: &Plan, front: Front, sources: &[IpAddr]) -> Result<Self, Failure> {
        let mut members = Vec::new();
        for (at, branch) in plan.branches.iter().enumerate() {
            let config = InitiatorConfig {
                peer: Arc::new(config(plan, branch)?),
                server: front.address,
                ike_port: front.ike_port,
                natt_port: front.natt_port,
                source: sources.get(at).copied(),
                inner: branch.inner,
                flow: branch.flow,
                destination: branch.destination,
                rate: plan.rate,
                packet_len: plan.packet_len,
            };
            let (initiator, report) = Initiator::start(config).map_err(|e| Failure::failed(e.to_string()))?;
            let (commands, receiver) = mpsc::channel(COMMANDS);
            let task = tokio::spawn(initiator.run(receiver));
            members.push(Member { commands, report, task, rekeyed: false });
        }
        Ok(Self { members })
    }

    /// Waits until every tunnel carries traffic; false if they do not in time.
    pub(crate) async fn wait_up(&mut self, limit: Duration) -> bool {
        let all = async {
            for member in &mut self.members {
                if member.report.until(|r| r.up).await.is_err() {
                    return false;
                }
            }
            true
        };
        tokio::time::timeout(limit, all).await.unwrap_or(false)
    }

    /// Why tunnels are down.
    pub(crate) fn errors(&self) -> Vec<String> {
        self.members.iter().map(|m| m.report.latest().last_error.clone()).filter(|e| !e.is_empty()).collect()
    }

    pub(crate) async fn send(&self, on: bool) {
        self.tell_all(&Command::Send(on)).await;
    }

    /// The branches rekey as well, each once and each at another time, so that both sides are seen to start it.
    pub(crate) async fn rekey_when_due(&mut self, elapsed: Duration, duration: Duration) {
        for (i, member) in (0u32..).zip(&mut self.members) {
            if !member.rekeyed && elapsed > duration * (2 + i) / 10 {
                member.rekeyed = true;
                for command in [Command::RekeyChild, Command::RekeyIke] {
                    // A branch that has ended shows in its report.
                    let _ = member.commands.send(command).await;
                }
            }
        }
    }

    /// Waits until everything sent has arrived, but no longer than `limit`.
    pub(crate) async fn wait_settled(&mut self, limit: Duration) {
        let deadline = Instant::now() + limit;
        // A report of after the stop, so that `sent` is final.
        tokio::time::sleep(Duration::from_millis(50)).await;
        while Instant::now() < deadline {
            let (sent, received) = self.totals();
            if received >= sent {
                return;
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    }

    /// Has all say which probes have arrived, as their reports then do.
    pub(crate) async fn tally(&mut self, limit: Duration) {
        self.tell_all(&Command::Tally).await;
        for member in &mut self.members {
            // One that says nothing has ended, and is known to have lost what it has not told of.
            let _ = tokio::time::timeout(limit, member.report.until(|r| r.arrived.is_some())).await;
        }
    }

    /// Probes sent and received by all.
    pub(crate) fn totals(&self) -> (u64, u64) {
        let reports = self.reports();
        let received = reports.iter().flat_map(|r| r.received.values()).map(|(n, _)| n).sum();
        (reports.iter().map(|r| r.sent).sum(), received)
    }

    pub(crate) fn reports(&self) -> Vec<Report> {
        self.members.iter().map(|m| m.report.latest()).collect()
    }

    /// Deletes the SAs.
    pub(crate) async fn close(self) {
        self.tell_all(&Command::Close).await;
        for member in self.members {
            // One that does not end in time is dropped with its socket.
            let _ = tokio::time::timeout(GOODBYE, member.task).await;
        }
    }

    async fn tell_all(&self, command: &Command) {
        for member in &self.members {
            // A branch that has ended shows in its report.
            let _ = member.commands.send(command.clone()).await;
        }
    }
}

/// The branch's own configuration: that of the concentrator, mirrored.
fn config(plan: &Plan, branch: &Branch) -> Result<PeerConfig, Failure> {
    let bad = |what: &str| Failure::failed(format!("{}: {what}", branch.name));
    let psk = plan.tenants.get(branch.tenant).map(|t| t.psk.clone()).unwrap_or_default();
    let selector = |net: &str| -> Result<TrafficSelector, Failure> {
        let net: Cidr = net.parse().map_err(|_| bad("subnet"))?;
        Ok(TrafficSelector::range(net.first(), net.last()))
    };
    Ok(PeerConfig {
        name: branch.name.as_str().into(),
        local_id: branch.identity.parse().map_err(|_| bad("identity"))?,
        remote_id: branch.hub_identity.parse().map_err(|_| bad("identity"))?,
        auth: Auth::Psk(Psk::new(psk.into_bytes().into())),
        ike_proposals: [branch.ike.parse().map_err(|_| bad("proposal"))?].into(),
        children: vec![Arc::new(ChildConfig {
            name: "lan".into(),
            local: vec![selector(branch.subnet)?],
            remote: vec![selector(branch.other_subnet)?],
            proposals: [branch.esp.parse().map_err(|_| bad("proposal"))?].into(),
            mode: Mode::Tunnel,
            life: ike::config::Life::default(),
            resources: 1,
        })],
        dpd_interval: Duration::from_secs(30),
        force_encapsulation: true,
        uniqueness: Uniqueness::Replace,
        retransmit: Retransmit::DEFAULT,
        version: ike::config::Version::default(),
    })
}
