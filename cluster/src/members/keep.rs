//! How a node stays, and sees who else is there.

use std::convert::Infallible;
use std::pin::{Pin, pin};
use std::sync::Arc;
use std::time::Duration;

use culvert_proto::etcd::KeyValue;
use latest::{Follow as _, Latest as _};
use tokio::sync::watch;
use tokio::time::Instant;

use super::{Node, Placement, TTL, held, join};
use crate::etcd::mirror::{self, Known, Mirrored};
use crate::etcd::{Etcd, EtcdError, put_leased, unchanged_since};

/// Between signs of life: several fit into a lease.
const BEAT: Duration = Duration::from_secs(1);
/// Between looks whether etcd takes writes: each is a write of some 200 octets, which all nodes read.
const TRY: Duration = if cfg!(test) { Duration::from_secs(2) } else { Duration::from_secs(10) };
/// What the keys of nodes begin with.
const KEYS: &str = "nodes/";

/// A write that is under way.
type Trying<'a> = Option<Pin<Box<dyn Future<Output = Result<bool, EtcdError>> + Send + 'a>>>;

/// Keeps the lease alive, and takes a new one if it is lost. Says whether etcd is away: also one that takes no writes, which keeps leases all the same.
pub(super) async fn keep_alive(
    etcd: Etcd,
    node: Node,
    lease: watch::Sender<i64>,
    known: Known,
    lost: watch::Sender<Option<String>>,
    away: watch::Sender<bool>,
) {
    let (mut tried, mut writes) = (Instant::now(), Ok(()));
    // Somebody has deleted what this node has written, though the lease is there.
    let mut deleted = false;
    // A write beside the signs of life, and not between them: it may take longer than a lease, which is kept alive all the same.
    let mut trying: Trying<'_> = None;
    loop {
        let mut beat = pin!(tokio::time::sleep(BEAT));
        loop {
            tokio::select! {
                biased;
                done = of(&mut trying) => {
                    (trying, tried) = (None, Instant::now());
                    deleted = matches!(done, Ok(false));
                    writes = done.map(drop).map_err(|error| error.to_string());
                }
                () = &mut beat => break,
            }
        }
        let current = lease.latest();
        let is_alive = if deleted { Ok(false) } else { etcd.keep_alive(current).await };
        let done = match is_alive {
            Ok(true) => {
                if trying.is_none() && (away.latest() || tried.elapsed() >= TRY) {
                    trying = Some(Box::pin(write_anew(&etcd, &node.name, &known)));
                }
                writes.clone()
            }
            Ok(false) => match renew(&etcd, &node).await {
                Ok(Some(new)) => {
                    deleted = false;
                    tracing::warn!(
                        node = node.name,
                        slot = node.slot,
                        "the place of this node was lost, and is there again"
                    );
                    lease.send_replace(new);
                    Ok(())
                }
                Ok(None) => {
                    let reason = format!(
                        "the name {} is another's, since this node was silent for more than {} s",
                        node.name,
                        TTL.as_secs()
                    );
                    lost.send_replace(Some(reason));
                    return;
                }
                Err(error) => Err(error.to_string()),
            },
            // Nobody can take what is ours while etcd is away.
            Err(error) => Err(error.to_string()),
        };
        let changed = away.send_if_modified(|away| std::mem::replace(away, done.is_err()) != done.is_err());
        match done {
            Err(error) if changed => {
                tracing::warn!(error, "etcd is away, or takes no writes: slots stay where they are");
            }
            Err(error) => tracing::debug!(error, "etcd is still away, or takes no writes"),
            Ok(()) if changed => tracing::info!("etcd takes writes again"),
            Ok(()) => {}
        }
    }
}

/// Keeps a lease alive while its node enters. Whoever enters finds out where that does not do.
pub(super) async fn stay_alive(etcd: &Etcd, lease: i64) -> Infallible {
    loop {
        tokio::time::sleep(BEAT).await;
        if let Err(error) = etcd.keep_alive(lease).await {
            tracing::debug!(%error, "no sign of life while this node enters");
        }
    }
}

/// What comes of it, if there is something; else nothing ever.
async fn of(under_way: &mut Trying<'_>) -> Result<bool, EtcdError> {
    match under_way {
        Some(under_way) => under_way.await,
        None => std::future::pending().await,
    }
}

/// Writes this node as it is in etcd: by that it is seen whether etcd takes writes, and whether the watch tells of them. False if it is not there.
async fn write_anew(etcd: &Etcd, name: &str, known: &Known) -> Result<bool, EtcdError> {
    let found = etcd.get(&format!("{KEYS}{name}")).await?;
    let Some(kv) = found.kvs.into_iter().next() else { return Ok(false) };
    let compare = vec![unchanged_since(kv.key.clone(), kv.mod_revision)];
    let made = etcd.transact(compare, vec![put_leased(kv.key, kv.value, kv.lease)], Vec::new()).await?;
    if let Some(header) = made.header.filter(|_| made.succeeded) {
        known.raise(header.revision);
    }
    Ok(true)
}

/// Says that this node has no place any more where etcd has lost what it knew. What is known here of who is there and whose slots are holds
/// no more, and others begin with what it says now: with the slots that this node has, too.
pub(super) async fn end_with_etcd(etcd: Etcd, lost: watch::Sender<Option<String>>) {
    if let Ok(Some(back)) = etcd.went_back().until(Option::is_some).await {
        let reason = EtcdError::from(back).to_string();
        tracing::error!(reason, "nothing that this node knows of the others holds any more");
        lost.send_replace(Some(reason));
    }
}

async fn renew(etcd: &Etcd, node: &Node) -> Result<Option<i64>, EtcdError> {
    let lease = etcd.grant(TTL).await?;
    Ok(join::enter_again(etcd, node, lease).await?.then_some(lease))
}

/// Who is there now, and at which revision of etcd that was.
pub(super) async fn look(etcd: &Etcd, own: &str) -> Result<(Placement, i64), EtcdError> {
    mirror::load(etcd, KEYS, nobody(own)).await
}

fn nobody(own: &str) -> Placement {
    Placement { own: own.to_owned(), ..Placement::default() }
}

impl Mirrored for Placement {
    fn take_in(&mut self, key: &str, now: Option<&KeyValue>) -> Result<(), EtcdError> {
        let Some(key) = key.strip_prefix(KEYS) else { return Ok(()) };
        match (key.split_once('/'), now) {
            (Some((name, "held")), Some(kv)) => {
                self.held.insert(name.to_owned(), Arc::new(held::read(name, &kv.value)?));
            }
            (Some((name, "held")), None) => drop(self.held.remove(name)),
            // Of a later version.
            (Some(_), _) => {}
            (None, now) => {
                self.nodes.retain(|node| node.name != key);
                if let Some(kv) = now {
                    self.nodes.push(Node::read(key, &kv.value)?);
                    self.nodes.sort_by(|one, other| one.name.cmp(&other.name));
                }
            }
        }
        Ok(())
    }
}

/// Tells of nodes that come and go.
pub(super) async fn watch(
    etcd: Etcd,
    looked: (Placement, i64),
    known: Known,
    placement: watch::Sender<Arc<Placement>>,
) {
    let empty = nobody(&looked.0.own);
    mirror::mirror(&etcd, KEYS, empty, looked, known, |now, _| tell(&placement, now.clone())).await;
}

fn tell(placement: &watch::Sender<Arc<Placement>>, now: Placement) {
    placement.send_if_modified(|known| {
        if **known == now {
            return false;
        }
        let names =
            |nodes: &[Node]| nodes.iter().map(|node| node.name.clone()).collect::<Vec<_>>().join(", ");
        if names(&known.nodes) != names(&now.nodes) {
            tracing::info!(nodes = names(&now.nodes), "nodes of the cluster");
        }
        *known = Arc::new(now);
        true
    });
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::members::uids::Uids;

    #[test]
    fn what_a_later_version_writes_of_a_node_takes_nothing_from_it() {
        let mut placement = nobody("a");
        let held = KeyValue { value: Uids::from_iter([1, 2]).write(usize::MAX), ..KeyValue::default() };
        placement.take_in("nodes/b/held", Some(&held)).unwrap();
        placement.take_in("nodes/b/mood", Some(&KeyValue::default())).unwrap();
        placement.take_in("nodes/b/mood", None).unwrap();
        assert_eq!(placement.held.get("b").map(|held| held.len()), Some(2));
        placement.take_in("nodes/b/held", None).unwrap();
        assert!(placement.held.is_empty());
    }
}
