//! The peers that may come from one place: mostly one.

use std::collections::BTreeMap;
use std::sync::Arc;

use ike::IkeProposal;
use ike::proposal::{Candidates, Likely};

use crate::name::{PeerName, SecretName};
use crate::peer::{Auth, Peer, PeerSpec};

/// Peers that may come from the same addresses.
#[derive(Clone, Default)]
pub(super) enum Group {
    /// Nobody.
    #[default]
    Nobody,
    /// One: all that is asked of it is made when it is asked.
    One(Arc<Peer>),
    /// Several.
    Crowd(Box<Crowd>),
}

impl Group {
    pub(super) fn add(&mut self, peer: &Arc<Peer>, likely: Likely) {
        match self {
            Self::Nobody => *self = Self::One(Arc::clone(peer)),
            // An address may be there twice, with different ports.
            Self::One(own) if own.name == peer.name => {}
            Self::One(own) => {
                let mut crowd = Crowd::default();
                crowd.add(own, likely);
                crowd.add(peer, likely);
                *self = Self::Crowd(Box::new(crowd));
            }
            Self::Crowd(crowd) => crowd.add(peer, likely),
        }
    }

    /// Removes a peer; whether nobody is left.
    pub(super) fn empties(&mut self, peer: &Arc<Peer>, likely: Likely) -> bool {
        match self {
            Self::One(own) if own.name == peer.name => *self = Self::Nobody,
            Self::Nobody | Self::One(_) => {}
            Self::Crowd(crowd) => {
                crowd.remove(peer, likely);
                if let Some(last) = crowd.last() {
                    *self = Self::One(last);
                }
            }
        }
        self.is_empty()
    }

    pub(super) const fn is_empty(&self) -> bool {
        matches!(self, Self::Nobody)
    }

    /// All of them, in the order of names.
    pub(super) fn peers(&self) -> impl Iterator<Item = &Arc<Peer>> {
        let (one, crowd) = match self {
            Self::Nobody => (None, None),
            Self::One(peer) => (Some(peer), None),
            Self::Crowd(crowd) => (None, Some(crowd)),
        };
        one.into_iter().chain(crowd.into_iter().flat_map(|crowd| crowd.peers.values()))
    }

    /// Whether all of them want ESP in UDP whether or not there is a NAT.
    pub(super) fn is_forced(&self) -> bool {
        match self {
            Self::Nobody => true,
            Self::One(peer) => peer.spec.force_encapsulation,
            Self::Crowd(crowd) => crowd.forced == crowd.peers.len(),
        }
    }

    /// The secrets with the authorities of those who have certificates, each once.
    pub(super) fn authorities(&self) -> impl Iterator<Item = &SecretName> {
        let (one, crowd) = match self {
            Self::Nobody => (None, None),
            Self::One(peer) => (authorities(peer), None),
            Self::Crowd(crowd) => (None, Some(crowd)),
        };
        one.into_iter().chain(crowd.into_iter().flat_map(|crowd| crowd.authorities.keys()))
    }

    /// Their proposals.
    pub(super) fn candidates(&self, likely: Likely) -> Arc<Candidates> {
        match self {
            Self::Nobody => Arc::default(),
            Self::One(peer) => Arc::new(of_one(likely, peer)),
            Self::Crowd(crowd) => Arc::clone(&crowd.candidates),
        }
    }
}

/// The secret with the authorities of a peer that has a certificate.
fn authorities(peer: &Peer) -> Option<&SecretName> {
    match &peer.spec.auth {
        Auth::Certificates { authorities, .. } => Some(authorities),
        _ => None,
    }
}

fn of_one(likely: Likely, peer: &Peer) -> Candidates {
    let mut candidates = Candidates::default();
    candidates.add(likely, &peer.spec.ike.proposals);
    candidates
}

/// At least two. Those with the same proposals count as one.
#[derive(Clone, Default)]
pub(super) struct Crowd {
    /// By text, for the order; with the number of peers.
    sets: BTreeMap<Vec<String>, (Arc<[IkeProposal]>, usize)>,
    peers: BTreeMap<PeerName, Arc<Peer>>,
    /// How many of them want ESP in UDP whether or not there is a NAT.
    forced: usize,
    /// Those that have certificates, by the secret with their authorities: many have the same, and who is named to a stranger does not
    /// depend on how many peers there are.
    authorities: BTreeMap<SecretName, usize>,
    /// Made of the sets, whenever one comes or goes.
    candidates: Arc<Candidates>,
}

impl Crowd {
    fn add(&mut self, peer: &Arc<Peer>, likely: Likely) {
        if self.peers.insert(peer.name.clone(), Arc::clone(peer)).is_some() {
            return;
        }
        let spec = &peer.spec;
        self.forced += usize::from(spec.force_encapsulation);
        if let Some(authorities) = authorities(peer) {
            *self.authorities.entry(authorities.clone()).or_default() += 1;
        }
        let entry = self.sets.entry(key(spec)).or_insert_with(|| (Arc::clone(&spec.ike.proposals), 0));
        entry.1 += 1;
        if entry.1 == 1 {
            self.build(likely);
        }
    }

    fn remove(&mut self, peer: &Arc<Peer>, likely: Likely) {
        if self.peers.remove(&peer.name).is_none() {
            return;
        }
        let spec = &peer.spec;
        self.forced = self.forced.saturating_sub(usize::from(spec.force_encapsulation));
        if let Some(authorities) = authorities(peer)
            && let Some(count) = self.authorities.get_mut(authorities)
        {
            *count -= 1;
            if *count == 0 {
                self.authorities.remove(authorities);
            }
        }
        let key = key(spec);
        if let Some((_, count)) = self.sets.get_mut(&key) {
            *count -= 1;
            if *count == 0 {
                self.sets.remove(&key);
                self.build(likely);
            }
        }
    }

    /// The only one that is left.
    fn last(&self) -> Option<Arc<Peer>> {
        self.peers.values().next().filter(|_| self.peers.len() == 1).cloned()
    }

    fn build(&mut self, likely: Likely) {
        let mut candidates = Candidates::default();
        for (proposals, _) in self.sets.values() {
            candidates.add(likely, proposals);
        }
        self.candidates = Arc::new(candidates);
    }
}

fn key(spec: &PeerSpec) -> Vec<String> {
    spec.ike.proposals.iter().map(ToString::to_string).collect()
}
