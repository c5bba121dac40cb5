//! Sums that never fall, for who reads them takes a fall for a restart of the node and counts the whole sum once more.
//!
//! A pair of SAs that goes is in no sum for a moment, a pair that another node has carried before has its count, and a peer that is deleted
//! takes its own along. Here is remembered what was told.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use tenants::{PeerName, TenantName};

use crate::status::{PeerView, Traffic};

/// Drops by the tenant's number and the name of the drop.
pub(crate) type Drops = BTreeMap<(u32, &'static str), u64>;

/// What went wrong with some peers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Troubles {
    /// Negotiations that failed, rekeyings included.
    pub failures: u64,
    /// Times that a tunnel was lost though nobody here wanted it.
    pub losses: u64,
}

/// What was told before. Whoever reads has it from before the first figure is read, or an older reading would take a newer one for a fall.
#[derive(Debug, Default)]
pub(crate) struct Sums {
    peers: BTreeMap<u64, Traffic>,
    tenants: BTreeMap<u32, Traffic>,
    drops: Drops,
    /// Of each peer, with its number: another of that name begins at nothing.
    seen: BTreeMap<PeerName, (u64, Troubles)>,
    troubles: BTreeMap<TenantName, Troubles>,
}

impl Sums {
    /// Puts in place of what was read now what is to be told. `whole` says whether everybody was read: what is missing is gone then.
    pub(crate) fn settle(
        &mut self,
        peers: &mut BTreeMap<u64, Traffic>,
        tenants: &mut BTreeMap<u32, Traffic>,
        drops: &mut Drops,
        whole: bool,
    ) {
        rise(&mut self.peers, peers, Traffic::or_more, whole);
        rise(&mut self.tenants, tenants, Traffic::or_more, whole);
        rise(&mut self.drops, drops, u64::max, whole);
    }

    /// The sums of these tenants, those of peers that are gone included; `there` says whether there still is a peer that has no actor.
    pub(crate) fn troubles(
        &mut self,
        of: &BTreeSet<TenantName>,
        peers: &[(PeerName, Arc<PeerView>)],
        there: impl Fn(&PeerName) -> bool,
    ) -> BTreeMap<TenantName, Troubles> {
        let Self { seen, troubles, .. } = self;
        troubles.retain(|tenant, _| of.contains(tenant));
        let shown: BTreeSet<&PeerName> = peers.iter().map(|(name, _)| name).collect();
        seen.retain(|name, _| shown.contains(name) || there(name));
        for (name, view) in peers {
            let now = Troubles { failures: view.failures, losses: view.losses };
            let before = seen.insert(name.clone(), (view.uid, now)).filter(|(uid, _)| *uid == view.uid);
            let before = before.map(|(_, before)| before).unwrap_or_default();
            let sum = troubles.entry(name.tenant().clone()).or_default();
            sum.failures += since(before.failures, now.failures);
            sum.losses += since(before.losses, now.losses);
        }
        troubles.clone()
    }
}

/// How much has come to it. An actor that was started again begins at nothing.
const fn since(before: u64, now: u64) -> u64 {
    if now < before { now } else { now - before }
}

/// What is read now, or what was told before where that was more. What is not read any more is forgotten if everybody was read.
fn rise<K: Ord + Clone, V: Copy>(
    told: &mut BTreeMap<K, V>,
    read: &mut BTreeMap<K, V>,
    more: impl Fn(V, V) -> V,
    whole: bool,
) {
    if !whole {
        for (key, before) in told.iter() {
            read.entry(key.clone()).or_insert(*before);
        }
    }
    for (key, now) in read.iter_mut() {
        if let Some(before) = told.get(key) {
            *now = more(*now, *before);
        }
    }
    told.clone_from(read);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_no_sum_for_a_moment_has_none_fall() {
        let mut sums = Sums::default();
        let traffic = |octets| Traffic { bytes_in: octets, ..Traffic::default() };
        let told = |sums: &mut Sums, octets, dropped| {
            let mut peers = BTreeMap::from([(7, traffic(octets))]);
            let mut tenants = BTreeMap::from([(1, traffic(octets))]);
            let mut drops = Drops::from([((1, "esp_icv_mismatch"), dropped)]);
            sums.settle(&mut peers, &mut tenants, &mut drops, true);
            (peers[&7].bytes_in, tenants[&1].bytes_in, drops[&(1, "esp_icv_mismatch")])
        };
        assert_eq!(told(&mut sums, 50, 3), (50, 50, 3));
        assert_eq!(told(&mut sums, 20, 1), (50, 50, 3));
        assert_eq!(told(&mut sums, 51, 4), (51, 51, 4));
        let (mut peers, mut tenants, mut drops) = (BTreeMap::new(), BTreeMap::new(), Drops::new());
        sums.settle(&mut peers, &mut tenants, &mut drops, false);
        let kept = (peers[&7].bytes_in, tenants[&1].bytes_in, drops[&(1, "esp_icv_mismatch")]);
        assert_eq!(kept, (51, 51, 4), "a shard does not answer");
        sums.settle(&mut BTreeMap::new(), &mut BTreeMap::new(), &mut Drops::new(), true);
        assert_eq!(told(&mut sums, 1, 1), (1, 1, 1), "what was deleted is forgotten");
    }

    #[test]
    fn the_troubles_of_a_peer_stay_with_its_tenant() {
        let mut sums = Sums::default();
        let tenant: TenantName = "tenants/acme".parse().unwrap();
        let all = BTreeSet::from([tenant.clone()]);
        let peer = |name: &str, uid, failures| {
            let view = PeerView { uid, failures, losses: 1, ..PeerView::default() };
            (format!("tenants/acme/peers/{name}").parse::<PeerName>().unwrap(), Arc::new(view))
        };
        let mut told = |peers: &[_], there| sums.troubles(&all, peers, |_| there)[&tenant].failures;
        assert_eq!(told(&[peer("a", 1, 5), peer("b", 2, 2)], true), 7);
        assert_eq!(told(&[peer("a", 1, 6)], true), 8, "the other is started again");
        assert_eq!(told(&[peer("a", 1, 6), peer("b", 2, 2)], true), 8);
        assert_eq!(told(&[peer("a", 1, 6), peer("b", 2, 1)], true), 9, "it was, and began at nothing");
        assert_eq!(told(&[peer("a", 1, 6)], false), 9, "the other is deleted");
        assert_eq!(told(&[peer("a", 1, 6), peer("b", 3, 4)], false), 13, "another of its name");
        assert!(sums.troubles(&BTreeSet::new(), &[], |_| false).is_empty(), "its tenant is gone");
    }
}
