//! Who has how much: slots that nothing is left of are nobody's again, a node without a slot gets one, and what has gathered at one node is
//! spread over those that are there.
//!
//! Each start of a node takes a slot, and what it had before stays where it has gone. Without the first of these the 63 would be used up by as many
//! starts; with it by as many as there are slots with a tunnel that is older. Then a node begins without one, and asks whoever has most.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use latest::Latest as _;
use tokio::time::Instant;

use super::moving::Why;
use super::record::Process;
use super::{Ask, Handover, Inner, Octets, leaving, moving, replica, steward};
use crate::task::of_node;

/// Between looks.
const TICK: Duration = Duration::from_secs(1);
/// How long nothing has to be in a slot: what has just come has not begun yet, and what has just ended may be asked for once more.
pub(crate) const QUIET: Duration =
    if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(30) };
/// Between looks whether another node has much less to do.
pub(crate) const EVEN: Duration =
    if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(10) };
/// Between tries of a node that was drained to give away what it has nevertheless: nobody was there, or it came by a take-over since. Each
/// writes to etcd for each slot.
const GIVE: Duration = if cfg!(test) { Duration::from_millis(300) } else { Duration::from_secs(5) };
/// At most, while what is offered stays.
const LONGEST_GIVE: Duration = Duration::from_secs(300);
/// A node that is there for less is not given anything: it may be about to go again.
pub(crate) const SETTLED: Duration =
    if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(30) };
/// Connections that one node has to have more than another before any of them is moved: a move costs little, and saves nothing below that.
const WORTH: usize = if cfg!(test) { 8 } else { 64 };

/// For as long as it is polled.
pub(super) async fn run(inner: Arc<Inner>) {
    let (mut there, mut evened) = (BTreeMap::new(), Instant::now());
    let (mut given, mut pause) = (Instant::now(), GIVE);
    loop {
        tokio::time::sleep(TICK.min(EVEN)).await;
        moving::forget_late(&inner).await;
        if inner.course.leaves() {
            if given.elapsed() >= pause {
                let all = leaving::give_what_stayed(&inner).await;
                pause = if all { GIVE } else { (pause * 2).min(LONGEST_GIVE) };
                given = Instant::now();
            }
            continue;
        }
        begin_somewhere(&inner).await;
        for number in empty(&inner) {
            give_up(&inner, number).await;
        }
        note(&inner, &mut there);
        if evened.elapsed() >= EVEN {
            even_out(&inner, &there).await;
            evened = Instant::now();
        }
    }
}

/// How many connections this node has, as it is told.
pub(super) fn load(inner: &Inner) -> Vec<u8> {
    (inner.host.connections().values().sum::<usize>() as u64).to_be_bytes().to_vec()
}

/// A node wants one of the slots of this one.
pub(super) fn spare(inner: &Arc<Inner>, to: &str) -> Result<Vec<u8>, String> {
    if inner.turn.try_lock().is_err() {
        return Err("a slot of this node changes hands just now".to_owned());
    }
    let Some(number) = spared(inner) else {
        return Err("this node has no slot but the one that it begins in".to_owned());
    };
    let (inner, to) = (Arc::clone(inner), to.to_owned());
    let runtime = inner.runtime.clone();
    // Not on the thread that asks, by which the others hear this node.
    runtime.spawn(of_node(async move {
        if let Err(reason) = moving::give(&inner, number, &to, Why::Suits).await {
            tracing::warn!(slot = number, to, reason, "a slot does not go to a node that has none");
        }
    }));
    Ok(Vec::new())
}

/// The slot that is missed least: not that which this node begins in, and one that somebody has put here only if there is no other.
pub(super) fn spared(inner: &Inner) -> Option<u8> {
    let (counts, primary) = (inner.host.connections(), inner.primary.load(Ordering::Relaxed));
    let mine = inner.mine();
    let others = mine.iter().filter(|(number, _)| **number != primary);
    let first = others.min_by_key(|(number, own)| (own.ordered, counts.get(number).copied().unwrap_or(0)));
    first.map(|(number, _)| *number)
}

/// Makes a slot that nothing is in nobody's: false if that is not known to be so.
pub(super) async fn give_up(inner: &Arc<Inner>, number: u8) -> bool {
    let _turn = inner.turn.lock().await;
    // Something may have begun in it while this waited for its turn.
    let Some(slot) = inner.slot(number).filter(|slot| slot.owner == inner.own && is_empty(inner, number))
    else {
        return false;
    };
    let Some(own) = inner.mine().remove(&number) else { return false };
    if inner.host.connections().contains_key(&number) {
        // Or in this very moment: it stays.
        inner.claim(number, own);
        return false;
    }
    inner.host.lose(number, None).await;
    let given_up = slot.give_up(&inner.etcd).await;
    if matches!(given_up, Ok(true)) {
        tracing::info!(slot = number, "nothing is left of a slot: it is nobody's");
        return true;
    }
    if let Err(error) = given_up {
        tracing::debug!(%error, slot = number, "a slot that nothing is left of stays for now");
    }
    // Whether it is nobody's the watch tells, and it is taken anew or left alone then.
    let coming = inner.coming.begin(number);
    if inner.claim(number, own) {
        inner.go_on(coming, Vec::new(), Handover::Exact).await;
    }
    false
}

/// Whether nothing is in a slot of this node, and nothing is about to be.
pub(super) fn is_empty(inner: &Inner, number: u8) -> bool {
    let came = inner.mine().get(&number).and_then(|own| own.came);
    !inner.coming.has(number)
        && !inner.host.connections().contains_key(&number)
        && came.is_none_or(|came| came.elapsed() >= QUIET)
}

/// Slots of this node that nothing has been in for a while, but the one that it begins in.
fn empty(inner: &Inner) -> Vec<u8> {
    let primary = inner.primary.load(Ordering::Relaxed);
    if inner.mine().keys().all(|number| *number == primary) {
        return Vec::new();
    }
    let (counts, now) = (inner.host.connections(), Instant::now());
    let mut mine = inner.mine();
    let quiet = mine.iter_mut().filter_map(|(number, own)| {
        if *number == primary || counts.contains_key(number) {
            own.empty = None;
            return None;
        }
        (now.duration_since(*own.empty.get_or_insert(now)) >= QUIET).then_some(*number)
    });
    quiet.collect()
}

/// What is new has to belong to a slot of this node.
async fn begin_somewhere(inner: &Arc<Inner>) {
    let begins = || inner.mine().contains_key(&inner.primary.load(Ordering::Relaxed));
    if begins() {
        return;
    }
    {
        let _turn = inner.turn.lock().await;
        let table = inner.table.latest();
        if begins() || steward::begin_anew(inner, &table).await {
            return;
        }
        let first = inner.mine().keys().copied().find(|number| !inner.coming.has(*number));
        if let Some(number) = first {
            tracing::info!(slot = number, "begins in a slot that has come here, as no other is free");
            inner.primary.store(number, Ordering::Relaxed);
            inner.host.begin_in(number);
            return;
        }
    }
    let Some(richest) = richest(inner) else { return };
    tracing::info!(from = richest, "no slot is free, and one of another node's is asked for");
    if let Err(reason) = inner.wire.ask(&richest, Ask::Want, Octets::default(), replica::PATIENCE).await {
        tracing::debug!(from = richest, reason, "it does not give one");
    }
}

/// The node that is heard and has most slots.
fn richest(inner: &Inner) -> Option<String> {
    let mut counts = BTreeMap::<String, usize>::new();
    for slot in inner.table.latest().values().filter(|slot| inner.hears(&slot.owner.node)) {
        *counts.entry(slot.owner.node.clone()).or_default() += 1;
    }
    counts.into_iter().filter(|(_, count)| *count > 1).max_by_key(|(_, count)| *count).map(|(node, _)| node)
}

/// Since when the processes of the other nodes are there.
fn note(inner: &Inner, there: &mut BTreeMap<Process, Instant>) {
    let now: Vec<Process> = inner.placement.latest().nodes.iter().map(|node| node.process()).collect();
    there.retain(|process, _| now.contains(process));
    for process in now {
        there.entry(process).or_insert_with(Instant::now);
    }
}

/// Slots of this node that something is in, and that may be moved: not that which it begins in, and none that somebody has put here.
pub(super) fn movable(inner: &Inner, counts: BTreeMap<u8, usize>) -> Vec<(u8, usize)> {
    let (primary, mine) = (inner.primary.load(Ordering::Relaxed), inner.mine());
    let stays = |number: u8| number == primary || mine.get(&number).is_none_or(|own| own.ordered);
    counts.into_iter().filter(|(number, _)| !stays(*number)).collect()
}

/// Moves a slot to the node that has least to do, if that is worth it.
async fn even_out(inner: &Arc<Inner>, there: &BTreeMap<Process, Instant>) {
    let counts = inner.host.connections();
    let own: usize = counts.values().sum();
    let movable = movable(inner, counts);
    if own < WORTH || movable.is_empty() || inner.etcd_is_away.latest() {
        return;
    }
    let settled = |process: &Process| there.get(process).is_some_and(|since| since.elapsed() >= SETTLED);
    let others: Vec<String> = {
        let placement = inner.placement.latest();
        let others = placement.nodes.iter().filter(|node| node.name != inner.own.node && !node.drained);
        let fit = others
            .filter(|node| inner.hears(&node.name) && inner.fits(&node.name) && settled(&node.process()));
        fit.map(|node| node.name.clone()).collect()
    };
    let mut least = None::<(usize, String)>;
    for node in others {
        let Ok(answer) = inner.wire.ask(&node, Ask::Load, Octets::default(), replica::PATIENCE).await else {
            continue;
        };
        let Ok(load) = <[u8; 8]>::try_from(answer.as_slice()) else { continue };
        let load = usize::try_from(u64::from_be_bytes(load)).unwrap_or(usize::MAX);
        if least.as_ref().is_none_or(|(least, _)| load < *least) {
            least = Some((load, node));
        }
    }
    let Some((least, to)) = least else { return };
    let Some((number, connections)) = choose(&movable, own.saturating_sub(least)) else { return };
    tracing::info!(slot = number, to, connections, own, least, "another node has much less to do");
    if let Err(reason) = moving::give(inner, number, &to, Why::Suits).await {
        tracing::warn!(slot = number, to, reason, "a slot stays where there is more to do");
    }
}

/// The slot by which a gap becomes smallest: not by turning it round into one that is more than half as large, or slots would go to and fro.
pub(crate) fn choose(movable: &[(u8, usize)], gap: usize) -> Option<(u8, usize)> {
    if gap < WORTH {
        return None;
    }
    let turned = |connections: usize| (2 * connections).saturating_sub(gap);
    let fit = movable.iter().copied().filter(|(_, count)| *count > 0 && turned(*count) <= gap / 2);
    fit.min_by_key(|(_, count)| gap.abs_diff(2 * count))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_gap_becomes_smaller_by_each_move_and_nothing_goes_to_and_fro() {
        assert_eq!(choose(&[(1, 100)], WORTH - 1), None);
        assert_eq!(choose(&[(1, 1_000), (2, 400), (3, 90)], 1_000), Some((2, 400)));
        assert_eq!(choose(&[(1, 1_000)], 1_000), None, "the other would have as many");
        assert_eq!(choose(&[(1, 760)], 1_000), None);
        assert_eq!(choose(&[(1, 750)], 1_000), Some((1, 750)));
        assert_eq!(
            choose(&[(1, 20), (2, 30)], 1_000),
            Some((2, 30)),
            "many small ones go one after the other"
        );
        // Whatever two nodes have, they come to an end.
        for seed in 0..500_u64 {
            let mut nodes = [Vec::new(), Vec::new()];
            for number in 0..12_u8 {
                let random = seed.wrapping_mul(0x9e37_79b9_7f4a_7c15).rotate_left(u32::from(number) * 5)
                    ^ u64::from(number);
                let count = usize::try_from(random % 1_000).unwrap_or(0);
                if let Some(node) = nodes.get_mut(usize::from(random & 0x400 == 0)) {
                    node.push((number, count));
                }
            }
            let sum = |node: &Vec<(u8, usize)>| node.iter().map(|(_, count)| count).sum::<usize>();
            let mut moves = 0;
            loop {
                let [one, other] = &mut nodes;
                let (more, less) = if sum(one) >= sum(other) { (one, other) } else { (other, one) };
                let Some(slot) = choose(more, sum(more) - sum(less)) else { break };
                more.retain(|own| *own != slot);
                less.push(slot);
                moves += 1;
                assert!(moves <= 24, "seed {seed}");
            }
        }
    }
}
