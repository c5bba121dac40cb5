//! What a document asks for: an object, or a part of one.

use std::collections::{HashMap, HashSet};

use culvert_proto::v1;
use culvert_proto::v1::object::Kind;

use crate::console::failure::{Failure, exit};

/// What a document describes.
#[derive(Clone, Debug, PartialEq)]
pub(crate) struct Manifest {
    /// Resource name.
    pub(crate) name: String,
    /// Where it stands: `file, document 2 (Peer tenants/acme/peers/b1)`.
    pub(crate) place: String,
    pub(crate) wanted: Wanted,
}

/// An object, or a part of one: what is sent to a node is whole, so a part needs the rest of what is there.
#[derive(Clone, Debug, PartialEq)]
#[allow(clippy::large_enum_variant, reason = "nearly all are of the large one")]
pub(crate) enum Wanted {
    Object(v1::Object),
    /// Of the tenant that the manifest names.
    Policy(v1::Policy),
}

impl Manifest {
    /// The tenant whose rest it leaves as it is.
    pub(crate) fn part_of(&self) -> Option<&str> {
        matches!(self.wanted, Wanted::Policy(_)).then_some(self.name.as_str())
    }

    /// Where it stands, and the whole object, which of a part is that of `there`. Its etag says that nobody may change the rest meanwhile; that
    /// nobody may delete it is for the request to say.
    ///
    /// # Errors
    /// If there is nothing that it could be a part of.
    pub(crate) fn whole(self, there: Option<v1::Tenant>) -> Result<(String, v1::Object), Failure> {
        match (self.wanted, there) {
            (Wanted::Object(object), _) => Ok((self.place, object)),
            (Wanted::Policy(policy), Some(tenant)) => {
                let tenant = v1::Tenant { policy: Some(policy), ..tenant };
                Ok((self.place, v1::Object { kind: Some(Kind::Tenant(tenant)) }))
            }
            (Wanted::Policy(_), None) => Err(Failure::new(
                exit::NOT_FOUND,
                format!("{}: there is no {}, and a policy alone makes none", self.place, self.name),
            )
            .hint("`kind: Tenant` says what else there is of it, its uplink for instance")),
        }
    }
}

/// With each policy in its tenant, if that is there too.
pub(super) fn joined(manifests: Vec<Manifest>, faults: &mut Vec<String>) -> Vec<Manifest> {
    let mut policies: HashMap<String, (String, v1::Policy)> = HashMap::new();
    let whole: HashSet<String> = manifests
        .iter()
        .filter(|m| matches!(&m.wanted, Wanted::Object(v1::Object { kind: Some(Kind::Tenant(_)) })))
        .map(|m| m.name.clone())
        .collect();
    let mut kept = Vec::with_capacity(manifests.len());
    for manifest in manifests {
        match manifest.wanted {
            Wanted::Policy(policy) if whole.contains(&manifest.name) => {
                policies.insert(manifest.name, (manifest.place, policy));
            }
            wanted => kept.push(Manifest { wanted, ..manifest }),
        }
    }
    for manifest in &mut kept {
        let Wanted::Object(v1::Object { kind: Some(Kind::Tenant(tenant)) }) = &mut manifest.wanted else {
            continue;
        };
        let Some((place, policy)) = policies.remove(&manifest.name) else { continue };
        match tenant.policy {
            Some(_) => faults.push(format!("{place}: {} has a policy too", manifest.place)),
            None => tenant.policy = Some(policy),
        }
    }
    kept
}
