//! Policies of several pairs of subnets. Quick mode names one subnet on each side, so there is a pair of SAs for each, called as
//! the parts of a policy are whose selectors an IKEv2 peer has narrowed.

use std::sync::Arc;
use std::time::{Duration, Instant};

use super::Connection;
use crate::config::{ChildConfig, Mode};
use crate::coverage::{Traffic, part, parts_per_policy, policy_of, too_many_parts, uncovered};
use crate::event::Event;
use crate::failure::Failure;

/// How long what a policy lacks may be on its way before it is told: the pairs of a policy are made one after the other.
const MAY_COME: Duration = Duration::from_secs(5);

/// The pairs of a policy. The first has its name.
fn pairs(policy: &Arc<ChildConfig>, policies: usize) -> Vec<Arc<ChildConfig>> {
    if policy.mode == Mode::Transport || (policy.local.len(), policy.remote.len()) == (1, 1) {
        return vec![policy.clone()];
    }
    let of_family = policy.local.iter().flat_map(|ours| {
        let same = policy.remote.iter().filter(|theirs| theirs.start.is_ipv4() == ours.start.is_ipv4());
        same.map(|theirs| Traffic { local: vec![*ours], remote: vec![*theirs] })
    });
    let limit = parts_per_policy(policies) + 1;
    let one = |(number, traffic): (usize, Traffic)| match number {
        0 => Arc::new(ChildConfig { name: policy.name.clone(), ..part(policy, 0, traffic) }),
        number => Arc::new(part(policy, number, traffic)),
    };
    of_family.take(limit).enumerate().map(one).collect()
}

impl Connection {
    /// Everything that there should be a pair of SAs for.
    pub(crate) fn policies(&self) -> Vec<Arc<ChildConfig>> {
        let Some(config) = &self.config else { return Vec::new() };
        let count = config.children.len();
        config.children.iter().flat_map(|policy| pairs(policy, count)).collect()
    }

    /// Those of one policy, or the one of this name.
    pub(crate) fn pairs_of(&self, name: &str) -> Vec<Arc<ChildConfig>> {
        let whole = policy_of(name).1 == 0;
        let fits = |c: &Arc<ChildConfig>| if whole { policy_of(&c.name).0 == name } else { &*c.name == name };
        self.policies().into_iter().filter(fits).collect()
    }

    /// The one of this name.
    pub(crate) fn policy(&self, name: &str) -> Option<Arc<ChildConfig>> {
        self.policies().into_iter().find(|c| &*c.name == name)
    }

    /// What a pair for this traffic is called: that of the policy which has exactly it, or a part of the policy of its own. An error where
    /// there are as many as there may be: one more would take the name of a pair that carries something else, and with it what is
    /// sent by that.
    pub(crate) fn place(
        &self,
        policy: &Arc<ChildConfig>,
        traffic: &Traffic,
    ) -> Result<Arc<ChildConfig>, Failure> {
        if Traffic::of(policy) == *traffic {
            return Ok(policy.clone());
        }
        let same = |c: &&super::child::Child| {
            policy_of(&c.config.name).0 == policy_of(&policy.name).0 && Traffic::of(&c.config) == *traffic
        };
        if let Some(child) = self.children.iter().find(same) {
            return Ok(child.config.clone());
        }
        let count = self.config.as_ref().map_or(1, |config| config.children.len());
        let whole = self.config.as_ref().and_then(|config| {
            config.children.iter().find(|c| *c.name == *policy_of(&policy.name).0).cloned()
        });
        let taken: Vec<usize> = self
            .policies()
            .iter()
            .map(|c| &c.name)
            .chain(self.children.iter().map(|c| &c.config.name))
            .filter(|name| policy_of(name).0 == policy_of(&policy.name).0)
            .map(|name| policy_of(name).1)
            .collect();
        let free = (1..=parts_per_policy(count)).find(|number| !taken.contains(number));
        match (free, whole) {
            (Some(number), Some(whole)) => Ok(Arc::new(part(&whole, number, traffic.clone()))),
            _ => {
                let is_taken = self.children.iter().any(|child| child.config.name == policy.name);
                if is_taken { Err(too_many_parts(traffic, count)) } else { Ok(policy.clone()) }
            }
        }
    }

    /// When it is told what a policy lacks.
    pub(crate) fn gaps_due(&self) -> Option<Instant> {
        self.gaps_since.map(|since| since + MAY_COME)
    }

    /// Tells what of which policy no pair carries, once that has lasted, and at once when nothing is lacking any more.
    pub(crate) fn tell_gaps(&mut self, now: Instant) {
        if std::mem::take(&mut self.gaps_changed) && self.gaps_since.is_none() {
            self.gaps_since = Some(now);
        }
        if self.gaps_since.is_none() {
            return;
        }
        let policies = self.config.as_ref().map(|config| config.children.clone()).unwrap_or_default();
        let due = self.gaps_due().is_some_and(|due| due <= now);
        for policy in policies {
            let of_it: Vec<Traffic> = self
                .children
                .iter()
                .filter(|c| policy_of(&c.config.name).0 == &*policy.name)
                .map(|c| Traffic::of(&c.config))
                .collect();
            let gap = if of_it.is_empty() { Vec::new() } else { uncovered(&Traffic::of(&policy), &of_it) };
            let told = self.gaps.iter().position(|(name, _)| *name == policy.name);
            let before =
                told.and_then(|at| self.gaps.get(at)).map(|(_, gap)| gap.clone()).unwrap_or_default();
            if gap == before || (!gap.is_empty() && !due) {
                continue;
            }
            told.into_iter().for_each(|at| drop(self.gaps.remove(at)));
            if !gap.is_empty() {
                self.gaps.push((policy.name.clone(), gap.clone()));
            }
            self.events.push_back(Event::Coverage { policy: policy.name.clone(), uncovered: gap });
        }
        if due {
            self.gaps_since = None;
        }
    }
}
