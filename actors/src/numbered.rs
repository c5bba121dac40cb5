//! A peer whose children have numbers in the router. A number stays with its child when the children of a running peer change,
//! so that the tunnels of those that stay are the same as before.

use std::ops::Deref;
use std::sync::Arc;

use ike::coverage::{MAX_PARTS_OF_PEER, parts_per_policy, policy_of};
use router::TunnelId;
use tenants::limits::MAX_CHILDREN;
use tenants::{ChildSpec, Peer};

use crate::convert::CHILDREN_PER_PEER;
use crate::moves::Agreed;

/// A peer as it runs. Derefs to the peer as it is configured.
#[derive(Debug)]
pub(crate) struct Numbered {
    peer: Arc<Peer>,
    /// Of each child, below [`MAX_CHILDREN`].
    numbers: Box<[u8]>,
    /// What a connection is agreed on by from now on.
    agreed: Agreed,
    /// Of the parts that each child may have, below [`MAX_PARTS_OF_PEER`].
    parts: Box<[Box<[u8]>]>,
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
        let parts = shared_out(vec![Vec::new(); peer.spec.children.len()]);
        Arc::new(Self { agreed: Agreed::by(&peer), peer, numbers, parts })
    }

    /// The peer with another configuration. Numbers of children that are gone are given out again only when there are no
    /// others, for their pairs may be there for a while. With more children than before each may have fewer parts, and keeps the first.
    pub(crate) fn with(&self, peer: Arc<Peer>) -> Arc<Self> {
        let place = |child: &ChildSpec| self.peer.spec.children.iter().position(|old| old.name == child.name);
        let places: Vec<Option<usize>> = peer.spec.children.iter().map(place).collect();
        let kept: Vec<Option<u8>> = places.iter().map(|at| self.numbers.get((*at)?).copied()).collect();
        let parts = places.iter().map(|at| at.and_then(|at| self.parts.get(at)).map(|parts| parts.to_vec()));
        let parts = shared_out(parts.map(Option::unwrap_or_default).collect());
        let all = || (0..=u8::MAX).take(MAX_CHILDREN).filter(|n| !kept.contains(&Some(*n)));
        let never = all().filter(|n| !self.numbers.contains(n));
        let again = all().filter(|n| self.numbers.contains(n));
        let mut free = never.chain(again);
        // There are never more children than numbers.
        let numbers = kept.iter().filter_map(|number| number.or_else(|| free.next())).collect();
        Arc::new(Self { agreed: Agreed::by(&peer), peer, numbers, parts })
    }

    /// As it is configured.
    pub(crate) const fn configured(&self) -> &Arc<Peer> {
        &self.peer
    }

    /// What a connection is agreed on by from now on.
    pub(crate) const fn agreed(&self) -> Agreed {
        self.agreed
    }

    /// The router's number of a policy, or of a part of one. A part is a tunnel of its own, whose selectors lead to it what the
    /// policy's pair does not carry; its numbers are behind those of the policies. A pair for a shard is of the same tunnel as the
    /// one beside it.
    pub(crate) fn tunnel_id(&self, child: &str) -> Option<TunnelId> {
        let (policy, part) = policy_of(ike::resources::resource_of(child).0);
        let at = self.spec.children.iter().position(|c| c.name == policy)?;
        let number = match part.checked_sub(1) {
            None => usize::from(*self.numbers.get(at)?),
            Some(part) => MAX_CHILDREN + usize::from(*self.parts.get(at)?.get(part)?),
        };
        Some(TunnelId(self.uid * CHILDREN_PER_PEER + u64::try_from(number).ok()?))
    }

    /// The child that a tunnel stands for.
    pub(crate) fn child_of_tunnel(&self, tunnel: TunnelId) -> Option<&ChildSpec> {
        let number = usize::try_from(tunnel.0 % CHILDREN_PER_PEER).ok()?;
        let at = match number.checked_sub(MAX_CHILDREN) {
            None => self.numbers.iter().position(|n| usize::from(*n) == number)?,
            Some(part) => self.parts.iter().position(|of| of.iter().any(|n| usize::from(*n) == part))?,
        };
        self.spec.children.get(at)
    }

    /// Whether a pair of this name has no place among these children as it had before: it is a part that its policy may not have any more.
    pub(crate) fn is_beyond(&self, child: &str) -> bool {
        let (policy, part) = policy_of(ike::resources::resource_of(child).0);
        let is_there = self.spec.children.iter().any(|child| child.name == policy);
        is_there && part > parts_per_policy(self.spec.children.len())
    }

    /// The numbers of the tunnels of all its policies.
    pub(crate) fn tunnels(&self) -> impl Iterator<Item = TunnelId> {
        self.spec.children.iter().filter_map(|child| self.tunnel_id(&child.name))
    }
}

/// As many parts for each child as it may have. Those that one has had before are its own, as far as that goes.
fn shared_out(before: Vec<Vec<u8>>) -> Box<[Box<[u8]>]> {
    let limit = parts_per_policy(before.len());
    let kept: Vec<u8> = before.iter().flat_map(|of| of.iter().take(limit)).copied().collect();
    let mut free = (0..=u8::MAX).take(MAX_PARTS_OF_PEER).filter(|number| !kept.contains(number));
    let all = before.into_iter().map(|mut of| {
        of.truncate(limit);
        let missing = limit - of.len();
        of.extend(free.by_ref().take(missing));
        of.into_boxed_slice()
    });
    all.collect()
}

#[cfg(test)]
mod tests {
    use culvert_proto::v1;

    use super::*;

    fn peer(children: &[&str]) -> Arc<Peer> {
        let catalog = tenants::Catalog::in_memory().unwrap();
        let tenant = v1::CreateTenantRequest { tenant_id: "acme".into(), ..Default::default() };
        catalog.create_tenant(&tenant).unwrap();
        let secret = v1::CreateSecretRequest {
            parent: "tenants/acme".into(),
            secret_id: "psk".into(),
            secret: Some(v1::Secret { value: vec![7; 32], ..Default::default() }),
            ..Default::default()
        };
        catalog.create_secret(secret).unwrap();
        let child = |(at, name): (usize, &&str)| v1::Child {
            name: (*name).to_owned(),
            local_subnets: vec!["10.0.0.0/24".to_owned()],
            remote_subnets: vec![format!("10.1.{at}.0/24")],
            ..Default::default()
        };
        let peer = v1::Peer {
            local_identity: "gw.example".to_owned(),
            remote_identity: "b1.example".to_owned(),
            auth: Some(v1::Auth {
                method: Some(v1::auth::Method::Psk("tenants/acme/secrets/psk".to_owned())),
            }),
            children: children.iter().enumerate().map(child).collect(),
            ..Default::default()
        };
        let request = v1::CreatePeerRequest {
            parent: "tenants/acme".into(),
            peer_id: "b1".into(),
            peer: Some(peer),
            ..Default::default()
        };
        catalog.create_peer(&request).unwrap()
    }

    fn ids(numbered: &Numbered, names: &[&str]) -> Vec<Option<TunnelId>> {
        names.iter().map(|name| numbered.tunnel_id(name)).collect()
    }

    #[test]
    fn those_that_stay_keep_their_tunnels_and_those_of_their_parts() {
        let names = ["lan", "lan/1", "lan/8", "voice", "voice/1"];
        let mut numbered = Numbered::new(peer(&["lan", "voice"]));
        let before = ids(&numbered, &names);
        assert!(before.iter().all(Option::is_some));
        for children in [&["new", "voice", "lan"][..], &["lan", "a", "b", "voice"], &["voice", "lan"]] {
            numbered = numbered.with(peer(children));
            assert_eq!(ids(&numbered, &names), before, "{children:?}");
            assert!(!numbered.is_beyond("lan/8"), "{children:?}");
        }
        // Of five children each may have six parts.
        numbered = numbered.with(peer(&["lan", "a", "b", "voice", "c"]));
        assert_eq!(ids(&numbered, &["lan/6", "lan/7"])[1], None);
        assert!(numbered.is_beyond("lan/7") && !numbered.is_beyond("lan/6"));
        assert!(!numbered.is_beyond("lan"));
    }

    #[test]
    fn each_tunnel_is_one_child_s() {
        let mut numbered = Numbered::new(peer(&["a"]));
        for children in [&["a", "b", "c"][..], &["c"], &["d", "c"], &["a", "b", "c", "d", "e", "f", "g"]] {
            numbered = numbered.with(peer(children));
            let mut seen = std::collections::BTreeSet::new();
            for child in children {
                for part in 0..=parts_per_policy(children.len()) {
                    let name = if part == 0 { (*child).to_owned() } else { format!("{child}/{part}") };
                    let tunnel = numbered.tunnel_id(&name).unwrap();
                    assert!(seen.insert(tunnel.0), "{children:?}: {name}");
                    assert_eq!(numbered.child_of_tunnel(tunnel).unwrap().name, **child);
                }
            }
        }
    }
}
