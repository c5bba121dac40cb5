//! How a node gets its name and its slot.

use std::time::{Duration, SystemTime};

use culvert_proto::etcd::{KeyValue, RangeRequest};
use tokio::time::Instant;

use super::{Identity, JoinError, Node, SLOTS, TTL};
use crate::etcd::{Etcd, EtcdError, end_of, put_leased, unchanged_since};

/// Between looks whether an earlier process of this node is gone.
const LOOK: Duration = Duration::from_millis(200);
/// How long one is waited for: its lease, and what etcd adds to it when it elects a leader.
const EARLIER: Duration = Duration::from_secs(2 * TTL.as_secs());
/// How often a slot is looked for that somebody else takes meanwhile: as many as there may be nodes.
const TRIES: usize = 64;

/// Takes a name and a slot: the node as it is now, and its lease.
pub(super) async fn enter(etcd: &Etcd, identity: Identity) -> Result<(Node, i64), JoinError> {
    let Identity { name, addresses, mesh, version } = identity;
    wait_for_earlier(etcd, &name).await?;
    let instance = rand::random::<[u8; 16]>().to_vec();
    let lease = etcd.grant(TTL).await?;
    for _ in 0..TRIES {
        let slots = slots(etcd).await?;
        let Some(slot) = free(&slots, &name) else { return Err(JoinError::Full) };
        let since = SystemTime::now();
        let node = Node {
            name: name.clone(),
            slot,
            addresses: addresses.clone(),
            version: version.clone(),
            since,
            mesh,
            instance: instance.clone(),
        };
        if take(etcd, &node, &slots, lease).await? {
            return Ok((node, lease));
        }
        if there(etcd, &name).await?.is_some_and(|other| other.instance != instance) {
            return Err(JoinError::Taken(name));
        }
    }
    Err(JoinError::Full)
}

/// Takes name and slot once more, after the lease is lost: false if one of them is another's.
pub(super) async fn enter_again(etcd: &Etcd, node: &Node, lease: i64) -> Result<bool, EtcdError> {
    let slots = slots(etcd).await?;
    let slot = slots.iter().find(|slot| slot.number == node.slot);
    if slot.is_some_and(|slot| slot.holder != node.name) {
        return Ok(false);
    }
    if there(etcd, &node.name).await?.is_some_and(|other| other.instance != node.instance) {
        return Ok(false);
    }
    take(etcd, node, &slots, lease).await
}

/// One who was killed leaves its name to its lease.
async fn wait_for_earlier(etcd: &Etcd, name: &str) -> Result<(), JoinError> {
    let until = Instant::now() + EARLIER;
    let mut told = false;
    while let Some(earlier) = there(etcd, name).await? {
        if Instant::now() >= until {
            return Err(JoinError::Taken(name.to_owned()));
        }
        if !std::mem::replace(&mut told, true) {
            tracing::info!(
                node = name,
                slot = earlier.slot,
                "waits for the lease of an earlier process of this node"
            );
        }
        tokio::time::sleep(LOOK).await;
    }
    Ok(())
}

async fn there(etcd: &Etcd, name: &str) -> Result<Option<Node>, EtcdError> {
    let found = etcd.get(&format!("nodes/{name}")).await?;
    found.kvs.first().map(|kv| Node::read(name, &kv.value)).transpose()
}

/// A slot that is taken.
struct Slot {
    number: u8,
    holder: String,
    written: i64,
}

async fn slots(etcd: &Etcd) -> Result<Vec<Slot>, EtcdError> {
    let key = etcd.key("slots/");
    let found =
        etcd.range(RangeRequest { range_end: end_of(key.clone()), key, ..RangeRequest::default() }).await?;
    let slot = |kv: &KeyValue| {
        let number = etcd.strip(&kv.key)?.strip_prefix("slots/")?.parse().ok()?;
        let holder = String::from_utf8(kv.value.clone()).ok()?;
        Some(Slot { number, holder, written: kv.mod_revision })
    };
    Ok(found.kvs.iter().filter_map(slot).collect())
}

/// The one that was this node's already, or the lowest that is nobody's.
fn free(slots: &[Slot], name: &str) -> Option<u8> {
    let own = slots.iter().find(|slot| slot.holder == name).map(|slot| slot.number);
    own.or_else(|| SLOTS.into_iter().find(|number| slots.iter().all(|slot| slot.number != *number)))
}

async fn take(etcd: &Etcd, node: &Node, slots: &[Slot], lease: i64) -> Result<bool, EtcdError> {
    let (name, slot) = (etcd.key(&format!("nodes/{}", node.name)), etcd.key(&format!("slots/{}", node.slot)));
    let name_written = etcd.get(&format!("nodes/{}", node.name)).await?;
    let name_written = match name_written.kvs.first() {
        Some(kv) if Node::read(&node.name, &kv.value)?.instance != node.instance => return Ok(false),
        Some(kv) => kv.mod_revision,
        None => 0,
    };
    let slot_written = slots.iter().find(|held| held.number == node.slot).map_or(0, |held| held.written);
    let compare =
        vec![unchanged_since(name.clone(), name_written), unchanged_since(slot.clone(), slot_written)];
    let success =
        vec![put_leased(name, node.write(), lease), put_leased(slot, node.name.clone().into_bytes(), lease)];
    Ok(etcd.transact(compare, success, Vec::new()).await?.succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_slot_that_is_free_or_the_own() {
        let slot = |number, holder: &str| Slot { number, holder: holder.to_owned(), written: 1 };
        assert_eq!(free(&[], "a"), Some(1));
        assert_eq!(free(&[slot(1, "a"), slot(3, "b")], "c"), Some(2));
        assert_eq!(free(&[slot(1, "a"), slot(3, "b")], "b"), Some(3));
        let all: Vec<_> = SLOTS.map(|number| slot(number, "x")).collect();
        assert_eq!(free(&all, "y"), None);
    }
}
