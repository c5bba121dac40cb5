//! Child SAs for single resources (RFC 9611): beside the pair of a policy there are further ones with the same selectors, each
//! for one processor of either side, so that nobody has to share a sequence number. The policy's own pair is the one
//! that the RFC calls the fallback: it is there first, and everybody may use it. Each of the others is a policy of its own
//! in everything but its name, so that whatever holds for the pairs of one policy holds for its.

use std::sync::Arc;

use crate::config::ChildConfig;
use crate::coverage::{Traffic, policy_of};

/// Pairs of one policy, the fallback included: one for each shard that an SPI can name.
pub const MAX_RESOURCES: u8 = 64;
/// What stands between the name of a policy and the number of a resource. No name of a policy has it.
const RESOURCE: char = '#';

/// The policy that a Child SA of this name is for, or the part of one, and for which of its resources; 0 is the fallback.
pub fn resource_of(name: &str) -> (&str, usize) {
    let resource = name.rsplit_once(RESOURCE);
    resource.and_then(|(policy, number)| Some((policy, number.parse().ok()?))).unwrap_or((name, 0))
}

/// The configured policy that a Child SA of this name is for, be it as a whole, a part of it, or for a resource.
pub fn configured(name: &str) -> &str {
    policy_of(resource_of(name).0).0
}

/// What is asked for by a pair for a resource: the same as by the fallback, whose traffic this is.
pub(crate) fn resource(policy: &ChildConfig, number: usize, traffic: Traffic) -> Arc<ChildConfig> {
    Arc::new(ChildConfig {
        name: format!("{}{RESOURCE}{number}", policy.name).into(),
        local: traffic.local,
        remote: traffic.remote,
        proposals: policy.proposals.clone(),
        mode: policy.mode,
        life: policy.life,
        resources: policy.resources,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn resources_have_names_of_their_own() {
        assert_eq!(resource_of("net"), ("net", 0));
        assert_eq!(resource_of("net#3"), ("net", 3));
        assert_eq!(resource_of("net#x"), ("net#x", 0));
        assert_eq!(["net", "net/2", "net#3"].map(configured), ["net"; 3]);
    }
}
