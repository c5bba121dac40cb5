//! A peer whose children have numbers in the router. A number stays with its child when the children of a running peer change,
//! so that the tunnels of those that stay are the same as before.

use std::ops::Deref;
use std::sync::Arc;

use router::TunnelId;
use tenants::limits::MAX_CHILDREN;
use tenants::{ChildSpec, Peer};

use crate::convert::CHILDREN_PER_PEER;

/// A peer as it runs. Derefs to the peer as it is configured.
#[derive(Debug)]
pub(crate) struct Numbered {
    peer: Arc<Peer>,
    /// Of each child, below [`MAX_CHILDREN`].
    numbers: Box<[u8]>,
}

impl Deref for Numbered {
    type Target = Peer;

    fn deref(&self) -> &Peer {
        &self.peer
    }
}

impl Numbered {
    /// A peer that starts.
    pub(crate) fn new(peer: Arc<Peer>) -> Arc<Self> {
        let numbers = (0..=u8::MAX).take(peer.spec.children.len()).collect();
        Arc::new(Self { peer, numbers })
    }

    /// The peer with another configuration. Numbers of children that are gone are given out again only when there are no
    /// others, for their pairs may be there for a while.
    pub(crate) fn with(&self, peer: Arc<Peer>) -> Arc<Self> {
        let before = |name: &str| {
            let at = self.peer.spec.children.iter().position(|child| child.name == name)?;
            self.numbers.get(at).copied()
        };
        let kept: Vec<Option<u8>> = peer.spec.children.iter().map(|child| before(&child.name)).collect();
        let all = || (0..=u8::MAX).take(MAX_CHILDREN).filter(|n| !kept.contains(&Some(*n)));
        let never = all().filter(|n| !self.numbers.contains(n));
        let again = all().filter(|n| self.numbers.contains(n));
        let mut free = never.chain(again);
        // There are never more children than numbers.
        let numbers = kept.iter().filter_map(|number| number.or_else(|| free.next())).collect();
        Arc::new(Self { peer, numbers })
    }

    /// As it is configured.
    pub(crate) const fn configured(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// The router's number of a policy, or of a part of one. A part is a tunnel of its own, whose selectors lead to it what the
    /// policy's pair does not carry; its numbers are behind those of the policies. A pair for a shard is of the same tunnel as the
    /// one beside it.
    pub(crate) fn tunnel_id(&self, child: &str) -> Option<TunnelId> {
        let (policy, part) = ike::coverage::policy_of(ike::resources::resource_of(child).0);
        let children = self.spec.children.len();
        let at = self.spec.children.iter().position(|c| c.name == policy)?;
        let number = match part.checked_sub(1) {
            None => usize::from(*self.numbers.get(at)?),
            Some(part) if part < ike::coverage::parts_per_policy(children) => {
                MAX_CHILDREN + part * children + at
            }
            Some(_) => return None,
        };
        Some(TunnelId(self.uid * CHILDREN_PER_PEER + u64::try_from(number).ok()?))
    }

    /// The child that a tunnel stands for.
    pub(crate) fn child_of_tunnel(&self, tunnel: TunnelId) -> Option<&ChildSpec> {
        let number = usize::try_from(tunnel.0 % CHILDREN_PER_PEER).ok()?;
        let at = match number.checked_sub(MAX_CHILDREN) {
            None => self.numbers.iter().position(|n| usize::from(*n) == number)?,
            Some(part) => part.checked_rem(self.spec.children.len())?,
        };
        self.spec.children.get(at)
    }

    /// The numbers of the tunnels of all its policies.
    pub(crate) fn tunnels(&self) -> impl Iterator<Item = TunnelId> {
        self.spec.children.iter().filter_map(|child| self.tunnel_id(&child.name))
    }
}
