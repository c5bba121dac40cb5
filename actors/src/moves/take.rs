//! A slot comes: its tunnels go on here.

use std::collections::HashMap;
use std::net::{IpAddr, SocketAddr, UdpSocket};
use std::time::{Duration, Instant};

use esp::{Resume, Spi};
use snapshot::{Form, Handover, Row, decode};
use tokio::sync::mpsc::{UnboundedSender, unbounded_channel};

use super::rows::{ConnectionRow, PairFacts, PairRow, class};
use super::{Rival, Whereabouts, reserve_after};
use crate::control::Control;
use crate::dispatch;
use crate::held::Pair;
use crate::mailbox::{offer, put};
use crate::path::local_address;
use crate::vocabulary::ToPeer;

/// A connection of another node, to go on with.
pub(crate) struct Moved {
    pub(crate) slot: u8,
    pub(crate) row: ConnectionRow,
    /// When it was so.
    pub(crate) at: Instant,
    pub(crate) handover: Handover,
    /// Those of its pairs that are in the router.
    pub(crate) pairs: Vec<MovedPair>,
    /// Our address, if that of the other node is none of this one's.
    pub(crate) here: Option<IpAddr>,
    /// Dropped once it can be asked what there is of it.
    pub(crate) begun: UnboundedSender<()>,
}

/// A pair that is in the router.
pub(crate) struct MovedPair {
    pub(crate) pair: Pair,
    pub(crate) spi_out: u32,
    pub(crate) facts: PairFacts,
}

/// What has come of a slot.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Taken {
    /// Connections that go on.
    pub connections: usize,
    /// Pairs that carry packets.
    pub pairs: usize,
    /// Rows that are of no use: of a peer that is not configured any more, of another version, or damaged.
    pub lost: usize,
}

impl Control {
    /// An IKE message that another node has received and that is for a connection of this one.
    pub fn ike_passed_in(&self, mut datagram: router::IkeDatagram) {
        if let Some(here) = here(&self.env().router, datagram.local.ip(), datagram.remote) {
            // It is answered from where it is.
            datagram.local.set_ip(here);
        }
        dispatch::passed_in(self.env(), datagram);
    }

    /// ESP that another node has received and that is for a slot of this one.
    pub fn esp_passed_in(&self, packet: Vec<u8>, passed: router::Passed) {
        self.env().router.passed_in(packet, passed);
    }

    /// A packet of a tenant that another node has received, for a tunnel that is up here.
    pub fn inner_passed_in(&self, tenant: u32, packet: Vec<u8>) {
        self.env().router.inner_in(router::TenantId(tenant), packet);
    }

    /// A peer has a connection with another node. One that is here is closed, unless it is the one that stays.
    pub fn rival(&self, rival: Rival, at: Whereabouts) {
        if let Some(peer) = self.env().registry.uids.get(&rival.uid) {
            // With so much to do that there is no room for it, something else has come of it by then.
            offer(&peer.to, ToPeer::Rival(rival, at), &self.env().counters);
        }
    }

    /// A slot is about to be this node's: what comes for it waits.
    pub fn expect_slot(&self, slot: u8) {
        self.env().awaited.open(slot, Instant::now());
        self.hold_packets(slot);
    }

    /// Packets for a slot wait from now on.
    pub(super) fn hold_packets(&self, slot: u8) {
        if let Err(error) = self.env().router.expect_slot(slot) {
            tracing::warn!(%error, slot, "packets of a slot that comes do not wait");
        }
    }

    /// New tunnels are in this slot from now on.
    pub fn open_slot(&self, slot: u8) {
        if let Err(error) = self.env().router.open_slot(slot) {
            tracing::error!(%error, slot, "a slot cannot be opened");
        }
    }

    /// Goes on with the tunnels of a slot.
    pub async fn take_slot(&self, slot: u8, rows: Vec<Row>, handover: Handover) -> Taken {
        let env = self.env();
        let mut taken = Taken::default();
        self.expect_slot(slot);
        let mut connections: HashMap<u64, Moved> = HashMap::new();
        let mut progress: HashMap<u32, (u64, Option<router::WindowSnapshot>)> = HashMap::new();
        let mut pairs = Vec::new();
        let (begun, mut all_begun) = unbounded_channel();
        for row in rows {
            let (class, id, at) = (row.class, row.id, row.at);
            let Some(octets) = row.octets else { continue };
            let of_pair = u32::try_from(id).unwrap_or_default();
            match class {
                class::CONNECTION => match read::<ConnectionRow>(&octets, &mut taken) {
                    Some(row) => {
                        let moved = Moved {
                            slot,
                            row,
                            at,
                            handover,
                            pairs: Vec::new(),
                            here: None,
                            begun: begun.clone(),
                        };
                        connections.insert(id, moved);
                    }
                    None => continue,
                },
                class::PAIR => pairs.extend(read::<PairRow>(&octets, &mut taken).map(|row| (row, at))),
                class::NUMBERS => {
                    let last = (*octets).try_into().map_or(u64::MAX, u64::from_be_bytes);
                    progress.entry(of_pair).or_default().0 = last;
                }
                class::WINDOW => {
                    let window = router::WindowSnapshot { spi: of_pair, octets: octets.to_vec() };
                    progress.entry(of_pair).or_default().1 = Some(window);
                }
                _ => taken.lost += 1,
            }
        }
        // First what carries packets: nobody waits for anything else so impatiently.
        for (row, at) in pairs {
            let Some(connection) = connections.get_mut(&row.connection) else { continue };
            match self.restore_pair(&row, at, &progress, connection) {
                Ok(()) => taken.pairs += 1,
                Err(reason) => {
                    taken.lost += 1;
                    tracing::warn!(
                        slot,
                        child = row.name,
                        reason,
                        "a pair of another node cannot go on here"
                    );
                }
            }
        }
        self.open_slot(slot);
        for (at, moved) in connections.into_values().enumerate() {
            match env.registry.uids.get(&moved.row.uid) {
                Some(peer) => {
                    taken.connections += 1;
                    put(&peer.to, ToPeer::GoOn(Box::new(moved))).await;
                }
                // Its pairs go with it.
                None => taken.lost += 1,
            }
            if at % AT_A_TIME == AT_A_TIME - 1 {
                tokio::task::yield_now().await;
            }
        }
        drop(begun);
        // The slot's standby is told of those who can be asked: one that is not there yet would be missing there.
        if tokio::time::timeout(BEGUN, all_begun.recv()).await.is_err() {
            env.counters.begun_late.up();
            tracing::warn!(slot, "not all connections of another node go on within {BEGUN:?}");
        }
        dispatch::waited(env, slot);
        taken
    }

    fn restore_pair(
        &self,
        row: &PairRow,
        at: Instant,
        progress: &HashMap<u32, (u64, Option<router::WindowSnapshot>)>,
        connection: &mut Moved,
    ) -> Result<(), String> {
        let router = &self.env().router;
        let mut pair = row.pair().map_err(|error| error.to_string())?.clone();
        let facts = row.facts(at).map_err(|error| error.to_string())?;
        // Each node numbers tunnels by what it has seen of the configuration.
        let running = self.env().registry.uids.get(&connection.row.uid);
        let tunnel = running.and_then(|running| running.peer.tunnel_id(&row.name));
        if let Some(tunnel) = tunnel {
            pair.set_tunnel(tunnel);
        }
        let spi = pair.spi();
        let (last, window) = progress.get(&spi.0).cloned().unwrap_or_default();
        let (resume, used) = match connection.handover {
            Handover::Exact => (Resume::Exactly, pair.sequence_out()),
            Handover::Sudden => {
                if let Some(window) = window {
                    // Without it the window is as it was when the pair was told of.
                    pair.set_window(&window).map_err(|error| error.to_string())?;
                }
                (Resume::Beyond(last), last.max(pair.reserved()))
            }
        };
        let (local, remote) = pair.ends().map_err(|error| error.to_string())?;
        connection.here = here(router, local.ip(), remote);
        let here = connection.here.map(|here| SocketAddr::new(here, 0));
        router.restore_pair(&pair, resume, reserve_after(used), here).map_err(|error| error.to_string())?;
        let place = Pair::moved(router, spi);
        // Of a child that is not configured here any more it only waits for its end, and its number may be another's.
        if pair.is_active() && tunnel.is_some() {
            router.activate_first(Spi(spi.0));
        }
        connection.pairs.push(MovedPair { pair: place, spi_out: pair.outbound_spi().0, facts });
        Ok(())
    }
}

/// All connections of a slot go on within this, ten thousand as well; it only bounds a wait that others wait for.
const BEGUN: Duration = Duration::from_secs(2);
/// Peers that are told at a time: others have something to do as well.
const AT_A_TIME: usize = 256;

fn read<F: Form>(octets: &[u8], taken: &mut Taken) -> Option<F> {
    decode(octets)
        .inspect_err(|error| {
            taken.lost += 1;
            tracing::warn!(%error, "what another node has told of a tunnel is of no use here");
        })
        .ok()
}

/// The address from which this node reaches `remote`, if `local` is none of its own. Nodes may share a host, so an address of the host is
/// its own only if it listens there.
fn here(router: &router::RouterHandle, local: IpAddr, remote: SocketAddr) -> Option<IpAddr> {
    if local.is_unspecified() || (router.listens_on(local) && UdpSocket::bind((local, 0)).is_ok()) {
        return None;
    }
    local_address(remote).filter(|own| router.listens_on(*own)).or_else(|| router.listens_as(remote.ip()))
}
