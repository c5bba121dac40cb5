//! An initiator: one peer of a concentrator, over a real UDP socket.
//!
//! `member.rs` is one without a socket, `group.rs` those that share one (`port.rs`), `pace.rs` when probes are due, `sas.rs` the
//! ESP side.

mod group;
mod member;
mod pace;
mod port;
mod sas;

use std::collections::HashMap;
use std::net::{IpAddr, Ipv4Addr};
use std::sync::Arc;

use ike::Failure;
use ike::config::PeerConfig;
use tokio::sync::{mpsc, watch};
use tokio_stream::StreamExt;
use tokio_stream::wrappers::ReceiverStream;

use crate::engine::meter::Meter;
use crate::ledger::Ledger;
use crate::probe::Flow;
pub(crate) use group::{Group, Order, Server};
pub(crate) use member::{Ordered, Start};
pub(crate) use pace::timed_from;

/// What an initiator is.
#[derive(Clone, Debug)]
pub struct InitiatorConfig {
    /// Identities, key and policies, seen from this side.
    pub peer: Arc<PeerConfig>,
    /// The concentrator.
    pub server: IpAddr,
    /// Its IKE port.
    pub ike_port: u16,
    /// Its port for NAT traversal.
    pub natt_port: u16,
    /// Address to send from; the system's choice if `None`.
    pub source: Option<IpAddr>,
    /// Address of ours inside the tunnel.
    pub inner: Ipv4Addr,
    /// The flow that is sent, and the inner address it goes to.
    pub flow: Flow,
    /// Where the probes go.
    pub destination: Ipv4Addr,
    /// Probes per second.
    pub rate: u32,
    /// Octets of a probe's packet.
    pub packet_len: usize,
}

/// Why an initiator ended.
#[derive(Debug, thiserror::Error)]
pub enum InitiatorError {
    /// Its socket.
    #[error("socket of an initiator: {0}")]
    Socket(#[from] std::io::Error),
    /// Its negotiation.
    #[error("negotiation of an initiator: {0}")]
    Negotiation(#[from] Failure),
}

/// What an initiator is told.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Command {
    /// Start or stop sending probes.
    Send(bool),
    /// Rekey the IKE_SA.
    RekeyIke,
    /// Rekey the Child SA in use.
    RekeyChild,
    /// Say which probes have arrived.
    Tally,
    /// Ask the peer for a sign of life: it may have forgotten the IKE_SA without a word.
    Ask,
    /// Delete everything and end.
    Close,
}

/// What an initiator has seen so far.
#[derive(Clone, Debug, Default)]
pub struct Report {
    /// The tunnel carries traffic.
    pub up: bool,
    /// Times the tunnel came up.
    pub established: u64,
    /// Child SAs rekeyed, by either side.
    pub child_rekeys: u64,
    /// IKE_SAs rekeyed, by either side.
    pub ike_rekeys: u64,
    /// Probes sent.
    pub sent: u64,
    /// Probes due while no SA was there to send them.
    pub unsent: u64,
    /// Probes that arrived, by sender.
    pub received: HashMap<Flow, (u64, u64)>,
    /// Which of them, by number, as it was at the last [`Command::Tally`].
    pub arrived: Option<HashMap<Flow, Ledger>>,
    /// Those of them that arrived behind a later one of their flow.
    pub reordered: u64,
    /// Probes that belong to somebody else.
    pub strangers: u64,
    /// ESP packets that could not be opened.
    pub unopened: u64,
    /// Why it is not up.
    pub last_error: String,
}

/// A running initiator with a socket of its own; [`Initiator::run`] is its task.
pub struct Initiator {
    group: Group,
}

impl Initiator {
    /// Opens the socket and starts the negotiation.
    ///
    /// # Errors
    /// [`InitiatorError`].
    pub fn start(config: InitiatorConfig) -> Result<(Self, watch::Receiver<Report>), InitiatorError> {
        let server =
            Server { address: config.server, ike_port: config.ike_port, natt_port: config.natt_port };
        let meter = Arc::new(Meter::default());
        let mut group = Group::open(server, config.source, meter.clone())?;
        let (report, watched) = watch::channel(Report::default());
        let start = Start {
            ordered: Ordered::of(meter),
            flows: Arc::new([(config.flow, config.destination)]),
            sizes: Arc::new([config.packet_len]),
            // Many initiators must not send in step.
            phase: rand::random::<f64>(),
            due: None,
            patience: None,
            permit: None,
            report,
            config,
        };
        group.add(0, start)?;
        Ok((Self { group }, watched))
    }

    /// Runs until told to close or until the connection ends.
    ///
    /// # Errors
    /// When the socket fails.
    pub async fn run(self, commands: mpsc::Receiver<Command>) -> Result<(), InitiatorError> {
        let orders = ReceiverStream::new(commands).map(|command| Order::Tell(0, command));
        Ok(self.group.run(orders, true).await?)
    }
}
