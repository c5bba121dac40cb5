//! The initiators of all tunnels.

use std::net::Ipv4Addr;
use std::sync::Arc;
use std::time::Duration;

use ike::config::{ChildConfig, Mode, PeerConfig, Psk, Retransmit, Uniqueness};
use ike::wire::TrafficSelector;
use indicatif::ProgressBar;
use tokio::sync::{mpsc, watch};
use tokio::task::JoinHandle;

use super::provision::{ESP, HUB, PSK};
use super::{Arguments, LoadError, PATIENCE, Place, Version};
use crate::{Command, Flow, Initiator, InitiatorConfig, InitiatorError, Report};

/// Commands under way to an initiator.
const COMMANDS: usize = 4;
/// Octets of a probe: an ordinary small packet.
const PACKET: usize = 128;

/// The running initiators.
pub(super) struct Fleet {
    members: Vec<Member>,
}

struct Member {
    commands: mpsc::Sender<Command>,
    report: watch::Receiver<Report>,
    task: JoinHandle<Result<(), InitiatorError>>,
}

impl Fleet {
    /// Starts them, so many at a time, and waits until all are up.
    pub(super) async fn start(arguments: &Arguments, bar: &ProgressBar) -> Result<Self, LoadError> {
        let at_a_time = usize::try_from(arguments.concurrency).unwrap_or(1);
        let mut fleet = Self { members: Vec::new() };
        let mut up = 0;
        for place in Place::all(arguments.count) {
            let (initiator, report) = Initiator::start(config(arguments, place))?;
            let (commands, receiver) = mpsc::channel(COMMANDS);
            let task = tokio::spawn(initiator.run(receiver));
            fleet.members.push(Member { commands, report, task });
            while fleet.members.len() - up >= at_a_time {
                fleet.wait_up(up, bar).await?;
                up += 1;
            }
        }
        for at in up..fleet.members.len() {
            fleet.wait_up(at, bar).await?;
        }
        bar.finish();
        Ok(fleet)
    }

    async fn wait_up(&mut self, at: usize, bar: &ProgressBar) -> Result<(), LoadError> {
        let all = self.members.len();
        let Some(member) = self.members.get_mut(at) else { return Ok(()) };
        let waited = tokio::time::timeout(PATIENCE, member.report.wait_for(|report| report.up));
        let up = waited.await.is_ok_and(|report| report.is_ok());
        if !up {
            let why = member.report.borrow().last_error.clone();
            return Err(LoadError::Stuck { what: "up", done: at, all, why });
        }
        bar.inc(1);
        Ok(())
    }

    pub(super) async fn send(&self, on: bool) {
        for member in &self.members {
            // One that has ended shows in its report.
            let _ = member.commands.send(Command::Send(on)).await;
        }
    }

    /// Waits until what was sent has arrived, or clearly will not.
    pub(super) async fn settle(&self) {
        for _ in 0..20 {
            tokio::time::sleep(Duration::from_millis(500)).await;
            let reports = self.reports();
            let sent: u64 = reports.iter().map(|report| report.sent).sum();
            let received: u64 = reports.iter().flat_map(|r| r.received.values()).map(|(n, _)| n).sum();
            if received >= sent {
                return;
            }
        }
    }

    pub(super) fn reports(&self) -> Vec<Report> {
        self.members.iter().map(|member| member.report.borrow().clone()).collect()
    }

    /// Deletes the SAs.
    pub(super) async fn close(self) {
        for member in &self.members {
            // One that has ended is closed.
            let _ = member.commands.send(Command::Close).await;
        }
        for member in self.members {
            // One that does not end in time is dropped with its socket.
            let _ = tokio::time::timeout(PATIENCE, member.task).await;
        }
    }
}

fn config(arguments: &Arguments, place: Place) -> InitiatorConfig {
    let partner = place.partner(arguments.count);
    InitiatorConfig {
        peer: Arc::new(peer(arguments.version, place)),
        server: arguments.address,
        ike_port: arguments.ike_port,
        natt_port: arguments.natt_port,
        source: place.source(arguments.address),
        inner: place.inner(),
        flow: Flow { tenant: place.tenant(), from: place.index, to: partner.index },
        destination: partner.inner(),
        rate: arguments.rate,
        packet_len: PACKET,
    }
}

/// The initiator's own configuration: the node's, mirrored.
fn peer(version: Version, place: Place) -> PeerConfig {
    let all =
        TrafficSelector::range(Ipv4Addr::new(10, 7, 0, 0).into(), Ipv4Addr::new(10, 7, 255, 255).into());
    let own = TrafficSelector::range(place.inner().into(), place.inner().into());
    PeerConfig {
        name: place.peer_id().into(),
        local_id: identity(&place.identity()),
        remote_id: identity(HUB),
        psk: Psk::new(PSK.as_bytes().to_vec().into()),
        ike_proposals: version.proposal().parse().into_iter().collect(),
        children: vec![Arc::new(ChildConfig {
            name: "lan".into(),
            local: vec![own],
            remote: vec![all],
            proposals: ESP.parse().into_iter().collect(),
            mode: Mode::Tunnel,
            life: ike::config::Life::default(),
        })],
        dpd_interval: Duration::from_secs(30),
        force_encapsulation: true,
        uniqueness: Uniqueness::Replace,
        retransmit: Retransmit::DEFAULT,
        version: match version {
            Version::Ikev2 => ike::config::Version::V2,
            Version::Ikev1 => ike::config::Version::V1(ike::config::V1::default()),
        },
    }
}

fn identity(name: &str) -> ike::Identity {
    ike::Identity::fqdn(name)
}
