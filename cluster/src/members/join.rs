//! How a node gets its name and its slot. Where none is free it begins without one, and gets one of those of another node (`slots::share`).

use std::time::{Duration, SystemTime};

use tokio::time::Instant;

use super::{Identity, JoinError, Node, Placement, SETTLE, SLOTS, TTL, keep};
use crate::etcd::{Etcd, EtcdError, mirror, put, put_leased, unchanged_since};
use crate::slots::{self, Process, Slot, Table};

/// Between looks whether an earlier process of this node is gone.
const LOOK: Duration = Duration::from_millis(200);
/// How long one is waited for: its lease, and what etcd adds to it when it elects a leader.
const EARLIER: Duration = Duration::from_secs(2 * TTL.as_secs());
/// How often a slot is looked for that somebody else takes meanwhile: as many as there may be nodes.
const TRIES: usize = 64;

/// A node that has entered.
pub(super) struct Entered {
    /// As it is now.
    pub(super) node: Node,
    pub(super) lease: i64,
    /// Who is there, and of which revision of etcd that is.
    pub(super) looked: (Placement, i64),
}

/// Takes a name and a slot.
pub(super) async fn enter(etcd: &Etcd, identity: Identity) -> Result<Entered, JoinError> {
    wait_for_earlier(etcd, &identity.name).await?;
    let lease = etcd.grant(TTL).await?;
    let entered = async {
        let node = take_place(etcd, identity, lease).await?;
        let mut looked = keep::look(etcd, &node.name).await?;
        if looked.0.nodes.len() > 1 {
            // Whoever has a connection with one of our peers says so now.
            tokio::time::sleep(SETTLE).await;
            looked = keep::look(etcd, &node.name).await?;
        }
        Ok(Entered { node, lease, looked })
    };
    // An etcd that takes seconds for each answer, as after a loss of power, would lose it before that is done.
    tokio::select! {
        biased;
        entered = entered => entered,
        never = keep::stay_alive(etcd, lease) => match never {},
    }
}

async fn take_place(etcd: &Etcd, identity: Identity, lease: i64) -> Result<Node, JoinError> {
    let Identity { name, addresses, mesh, version } = identity;
    let instance = rand::random::<[u8; 16]>().to_vec();
    for _ in 0..TRIES {
        let (slots, now) = mirror::load(etcd, slots::KEYS, Table::new()).await?;
        let own = Process { node: name.clone(), instance: instance.clone() };
        let slot = free(&slots, &own, now);
        if slot.is_none() && keep::look(etcd, &name).await?.0.nodes.len() >= SLOTS.count() {
            return Err(JoinError::Full);
        }
        let since = SystemTime::now();
        let node = Node {
            name: name.clone(),
            slot: slot.as_ref().map_or(0, |slot| slot.number),
            addresses: addresses.clone(),
            version: version.clone(),
            since,
            mesh,
            instance: instance.clone(),
            drained: false,
        };
        if take(etcd, &node, slot.as_ref(), lease).await? {
            return Ok(node);
        }
        if there(etcd, &name).await?.is_some_and(|other| other.instance != instance) {
            return Err(JoinError::Taken(name));
        }
    }
    Err(JoinError::Full)
}

/// Takes the name once more, after the lease is lost: false if it is another's. Slots are no part of a lease.
pub(super) async fn enter_again(etcd: &Etcd, node: &Node, lease: i64) -> Result<bool, EtcdError> {
    for _ in 0..TRIES {
        if take(etcd, node, None, lease).await? {
            return Ok(true);
        }
        // What was written though nobody heard of it is no other's.
        if there(etcd, &node.name).await?.is_some_and(|there| there.instance != node.instance) {
            return Ok(false);
        }
    }
    let place = format!("nodes/{}", node.name);
    Err(EtcdError::Away { place, reason: "it changes each time that it is written".to_owned() })
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

/// The lowest slot that is nobody's, or that an earlier process of this node has left with nobody to go on with it.
fn free(slots: &Table, own: &Process, now: i64) -> Option<Slot> {
    SLOTS.into_iter().find_map(|number| match slots.get(&number) {
        None => Some(Slot::new(number, own.clone(), now)),
        Some(slot) if slot.owner.node == own.node && !slot.ready => Some(slot.of(own.clone())),
        Some(_) => None,
    })
}

/// Takes the name, and the slot with it if one is given: false if one of them is another's.
async fn take(etcd: &Etcd, node: &Node, slot: Option<&Slot>, lease: i64) -> Result<bool, EtcdError> {
    let name = etcd.key(&format!("nodes/{}", node.name));
    let written = etcd.get(&format!("nodes/{}", node.name)).await?;
    let written = match written.kvs.first() {
        Some(kv) if Node::read(&node.name, &kv.value)?.instance != node.instance => return Ok(false),
        Some(kv) => kv.mod_revision,
        None => 0,
    };
    let mut compare = vec![unchanged_since(name.clone(), written)];
    let mut success = vec![put_leased(name, node.write(), lease)];
    if let Some(slot) = slot {
        let key = etcd.key(&Slot::key(slot.number));
        compare.push(unchanged_since(key.clone(), slot.revision));
        success.push(put(key, slot.write()));
    }
    Ok(etcd.transact(compare, success, Vec::new()).await?.succeeded)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lowest_slot_that_is_free_or_of_an_earlier_life() {
        let process = |node: &str, instance: u8| Process { node: node.to_owned(), instance: vec![instance] };
        let table = |slots: &[(u8, &str, bool)]| -> Table {
            let slot = |number: u8, node: &str, ready| Slot {
                standby: Some(process("z", 1)),
                ready,
                revision: 7,
                ..Slot::new(number, process(node, 1), 5)
            };
            slots.iter().map(|(number, node, ready)| (*number, slot(*number, node, *ready))).collect()
        };
        let found =
            |slots: &Table, node: &str| free(slots, &process(node, 2), 9).map(|s| (s.number, s.revision));
        assert_eq!(found(&Table::new(), "a"), Some((1, 0)));
        let some = table(&[(1, "a", true), (3, "b", false)]);
        assert_eq!((found(&some, "c"), found(&some, "a")), (Some((2, 0)), Some((2, 0))));
        assert_eq!(found(&table(&[(1, "a", true), (2, "b", false)]), "b"), Some((2, 7)));
        let all: Vec<_> = SLOTS.map(|number| (number, "x", true)).collect();
        assert_eq!(found(&table(&all), "y"), None);
    }

    #[cfg(feature = "simulated")]
    #[tokio::test(start_paused = true)]
    async fn what_was_written_though_nobody_heard_of_it_is_no_others() {
        use std::collections::VecDeque;
        use std::sync::{Arc, Mutex};

        use crate::etcd::memory::{Memory, Path};

        /// Requests and answers of which some are lost.
        #[derive(Debug, Default)]
        struct Way(Mutex<VecDeque<bool>>);

        impl Path for Way {
            fn time(&self) -> Option<Duration> {
                let arrives = self.0.lock().unwrap().pop_front().unwrap_or(true);
                arrives.then_some(Duration::from_millis(1))
            }
        }

        let (memory, way) = (Memory::begin(), Arc::new(Way::default()));
        let etcd = memory.client(way.clone());
        let node = |instance: u8| Node {
            name: "a".to_owned(),
            slot: 0,
            addresses: Vec::new(),
            version: "1".to_owned(),
            since: SystemTime::UNIX_EPOCH,
            mesh: None,
            instance: vec![instance],
            drained: false,
        };
        let lease = etcd.grant(TTL).await.unwrap();
        // Who is there is asked and answered; the name is written, and the answer is lost.
        way.0.lock().unwrap().extend([true, true, true, false]);
        assert!(enter_again(&etcd, &node(1), lease).await.unwrap());
        assert!(way.0.lock().unwrap().is_empty());
        assert!(!enter_again(&etcd, &node(2), lease).await.unwrap(), "that is another's");
    }
}
