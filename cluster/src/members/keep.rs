//! How a node stays, and sees who else is there.

use std::sync::Arc;
use std::time::Duration;

use culvert_proto::etcd::{RangeRequest, event::EventType};
use tokio::sync::watch;

use super::{Node, Placement, TTL, held, join};
use crate::etcd::{Etcd, EtcdError, end_of};

/// Between signs of life: several fit into a lease.
const BEAT: Duration = Duration::from_secs(1);
/// Before what etcd did not do is asked for again.
const PAUSE: Duration = Duration::from_millis(200);

/// Keeps the lease alive, and takes a new one if it is lost.
pub(super) async fn keep_alive(
    etcd: Etcd,
    node: Node,
    lease: watch::Sender<i64>,
    lost: watch::Sender<Option<String>>,
) {
    loop {
        tokio::time::sleep(BEAT).await;
        let current = *lease.borrow();
        match etcd.keep_alive(current).await {
            Ok(true) => {}
            Ok(false) => match renew(&etcd, &node).await {
                Ok(Some(new)) => {
                    tracing::warn!(
                        node = node.name,
                        slot = node.slot,
                        "the lease was lost and is there again"
                    );
                    lease.send_replace(new);
                }
                Ok(None) => {
                    let reason = format!(
                        "slot {} or the name {} is another's, since this node was silent for more than {} s",
                        node.slot,
                        node.name,
                        TTL.as_secs()
                    );
                    lost.send_replace(Some(reason));
                    return;
                }
                Err(error) => tracing::debug!(%error, "the lease is not there again yet"),
            },
            // Nobody can take what is ours while etcd is away.
            Err(error) => tracing::debug!(%error, "the lease is not kept alive"),
        }
    }
}

async fn renew(etcd: &Etcd, node: &Node) -> Result<Option<i64>, EtcdError> {
    let lease = etcd.grant(TTL).await?;
    Ok(join::enter_again(etcd, node, lease).await?.then_some(lease))
}

/// Who is there now, and at which revision of etcd that was.
pub(super) async fn look(etcd: &Etcd, own: &str) -> Result<(Placement, i64), EtcdError> {
    let key = etcd.key("nodes/");
    let found =
        etcd.range(RangeRequest { range_end: end_of(key.clone()), key, ..RangeRequest::default() }).await?;
    let at = found.header.map_or(0, |header| header.revision);
    let mut placement = Placement { own: own.to_owned(), ..Placement::default() };
    for kv in &found.kvs {
        take_in(&mut placement, etcd, &kv.key, Some(&kv.value))?;
    }
    Ok((placement, at))
}

/// Takes a key over as it is now; `None` for one that is gone.
fn take_in(
    placement: &mut Placement,
    etcd: &Etcd,
    key: &[u8],
    value: Option<&[u8]>,
) -> Result<(), EtcdError> {
    let Some(key) = etcd.strip(key).and_then(|key| key.strip_prefix("nodes/")) else { return Ok(()) };
    match (key.split_once('/'), value) {
        (Some((name, "held")), Some(value)) => {
            placement.held.insert(name.to_owned(), Arc::new(held::read(name, value)?));
        }
        (Some((name, _)), _) => drop(placement.held.remove(name)),
        (None, value) => {
            placement.nodes.retain(|node| node.name != key);
            if let Some(value) = value {
                placement.nodes.push(Node::read(key, value)?);
                placement.nodes.sort_by(|one, other| one.name.cmp(&other.name));
            }
        }
    }
    Ok(())
}

/// Tells of nodes that come and go.
pub(super) async fn watch(etcd: Etcd, own: String, at: i64, placement: watch::Sender<Arc<Placement>>) {
    let mut from = Some(at);
    loop {
        let error = watch_until_it_ends(&etcd, &own, &mut from, &placement).await;
        if matches!(error, EtcdError::Compacted(_) | EtcdError::Corrupt { .. }) {
            from = None;
        }
        tracing::debug!(%error, "who comes and goes is not seen");
        tokio::time::sleep(PAUSE).await;
    }
}

async fn watch_until_it_ends(
    etcd: &Etcd,
    own: &str,
    from: &mut Option<i64>,
    placement: &watch::Sender<Arc<Placement>>,
) -> EtcdError {
    let begin = match *from {
        Some(from) => from,
        None => match look(etcd, own).await {
            Ok((now, at)) => {
                tell(placement, now);
                *from.insert(at)
            }
            Err(error) => return error,
        },
    };
    let mut events = match etcd.watch("nodes/", begin + 1).await {
        Ok(events) => events,
        Err(error) => return error,
    };
    loop {
        let news = match events.next().await {
            Ok(news) => news,
            Err(error) => return error,
        };
        let mut now = (**placement.borrow()).clone();
        for event in &news.events {
            let Some(kv) = &event.kv else { continue };
            let value = (event.r#type() == EventType::Put).then_some(kv.value.as_slice());
            if let Err(error) = take_in(&mut now, etcd, &kv.key, value) {
                return error;
            }
        }
        tell(placement, now);
        *from = (*from).max(Some(news.revision));
    }
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
