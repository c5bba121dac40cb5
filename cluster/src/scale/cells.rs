//! Several cells, each with an etcd of its own, in front of which an address leads to any of them.

use crate::members::Placement;

/// Peers that are looked at.
const PEERS: u64 = 200_000;

/// What becomes of peers with so many cells.
pub(super) struct Spread {
    /// The cell with most of them, as a multiple of the mean.
    pub(super) uneven: f64,
    /// The share that another cell would have as well, were there one more.
    pub(super) move_to_one_more: f64,
    /// The share of first messages that come to another cell than theirs.
    pub(super) redirected: f64,
}

/// Rendezvous hashing of peers over cells, as it is over nodes.
pub(super) fn spread(cells: usize) -> Spread {
    let names: Vec<String> = (0..=cells).map(|cell| format!("cell-{cell}")).collect();
    let mut counts = vec![0_u64; cells];
    let mut moves = 0;
    for uid in 0..PEERS {
        let weights: Vec<u64> = names.iter().map(|name| Placement::weight(name, uid)).collect();
        let Some((more, now)) = weights.split_last() else { continue };
        let Some((cell, most)) = now.iter().enumerate().max_by_key(|(_, weight)| **weight) else { continue };
        if let Some(count) = counts.get_mut(cell) {
            *count += 1;
        }
        moves += u64::from(more > most);
    }
    let most = counts.iter().max().copied().unwrap_or(0);
    Spread {
        uneven: most as f64 * cells as f64 / PEERS as f64,
        move_to_one_more: moves as f64 / PEERS as f64,
        redirected: 1.0 - 1.0 / cells as f64,
    }
}
