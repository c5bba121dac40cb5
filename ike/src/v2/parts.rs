//! The parts of policies whose selectors the peer narrows (RFC 7296 section 2.9): what is left is asked for by further Child
//! SAs, and what is not covered in the end is told. A part is a policy of its own in everything but its name.

use std::sync::Arc;
use std::time::Instant;

use super::Connection;
use super::child::{Child, ChildState};
use crate::config::ChildConfig;
use crate::coverage::{Traffic, part, parts_per_policy, policy_of, too_many_parts, uncovered_within};
use crate::event::Event;
use crate::failure::Failure;
use crate::resources::resource_of;
use crate::wire::ts::Effort;

/// Pieces that a peer may refuse before no more are asked for: as many as it may take.
const MAX_REFUSED: usize = 32;

impl Child {
    /// What it carries.
    pub(super) fn traffic(&self) -> Traffic {
        self.narrowed.as_deref().cloned().unwrap_or_else(|| Traffic::of(&self.config))
    }
}

impl Connection {
    /// The configured policies.
    pub(super) fn policies(&self) -> &[Arc<ChildConfig>] {
        self.config.as_ref().map(|config| config.children.as_slice()).unwrap_or_default()
    }

    /// The policy of this name, or the part, or that of a resource.
    pub(crate) fn policy(&self, name: &str) -> Option<&Arc<ChildConfig>> {
        let others = self.parts.iter().chain(&self.resources.policies);
        self.policies().iter().chain(others).find(|config| *config.name == *name)
    }

    /// The policies that a request of the peer may be for: the one of the pair that it replaces, or any.
    pub(crate) fn candidates(&self, replaced: Option<&str>) -> Vec<Arc<ChildConfig>> {
        match replaced {
            Some(name) => self.policy(name).into_iter().cloned().collect(),
            None => self.policies().to_vec(),
        }
    }

    /// The pairs of a policy and its parts that are in place.
    pub(super) fn family<'a>(&'a self, policy: &'a str) -> impl Iterator<Item = &'a Child> {
        let installed = self.children.iter().filter(|child| child.state == ChildState::Installed);
        installed.filter(move |child| policy_of(&child.config.name).0 == policy)
    }

    /// What of a policy no pair carries.
    fn gap(&self, policy: &ChildConfig, effort: &mut Effort) -> Vec<Traffic> {
        let covered: Vec<Traffic> = self.family(&policy.name).map(Child::traffic).collect();
        uncovered_within(&Traffic::of(policy), &covered, effort)
    }

    /// A number for one more part of a policy.
    fn free_part(&self, policy: &str) -> Option<usize> {
        let taken = |number: &usize| {
            let parts = self.parts.iter().chain(self.children.iter().map(|child| &child.config));
            parts.map(|config| policy_of(&config.name)).any(|known| known == (policy, *number))
        };
        (1..=parts_per_policy(self.policies().len())).find(|number| !taken(number))
    }

    /// A number of a part that had its pairs, and has none any more, nor waits for one.
    fn abandoned_part(&self, policy: &str) -> Option<usize> {
        let is_free = |name: &Arc<str>| {
            !self.is_awaited(name) && !self.children.iter().any(|child| child.config.name == *name)
        };
        let free = self.parts.iter().filter(|part| is_free(&part.name)).map(|part| policy_of(&part.name));
        free.filter(|(of, _)| *of == policy).map(|(_, number)| number).next()
    }

    /// The policy or part that a new pair of the peer's belongs to: it takes the place of one whose traffic it carries as
    /// well, and stands beside those that carry something else. A policy sends by one pair, a part by another. An error where there are as
    /// many as there may be: one more would take the name of a pair that carries something else, and with it what is sent by that.
    pub(crate) fn place(
        &self,
        config: &Arc<ChildConfig>,
        traffic: &Traffic,
    ) -> Result<Arc<ChildConfig>, Failure> {
        let mut family = self.family(&config.name).peekable();
        if family.peek().is_none() {
            return Ok(config.clone());
        }
        let mut effort = Effort::default();
        if let Some(same) = family.find(|child| traffic.contains_within(&child.traffic(), &mut effort)) {
            return Ok(same.config.clone());
        }
        // It may have been there before: peers that make a pair when a packet wants one delete it when it is idle.
        let of_it = |part: &&Arc<ChildConfig>| policy_of(&part.name).0 == &*config.name;
        if let Some(known) = self.parts.iter().filter(of_it).find(|part| Traffic::of(part) == *traffic) {
            return Ok(known.clone());
        }
        let number = self.free_part(&config.name).or_else(|| self.abandoned_part(&config.name));
        if let Some(number) = number {
            return Ok(Arc::new(part(config, number, traffic.clone())));
        }
        let is_taken = self.family(&config.name).any(|child| child.config.name == config.name);
        if is_taken { Err(too_many_parts(traffic, self.policies().len())) } else { Ok(config.clone()) }
    }

    /// A pair is about to be in place: a part is remembered as it was agreed on, as long as the connection lasts, so that it
    /// can be asked for again.
    pub(crate) fn note_part(&mut self, config: &Arc<ChildConfig>, traffic: &Traffic) {
        if policy_of(&config.name).1 > 0 {
            let Traffic { local, remote } = traffic.clone();
            let (name, proposals) = (config.name.clone(), config.proposals.clone());
            let (mode, life, resources) = (config.mode, config.life, config.resources);
            self.parts.retain(|part| part.name != name);
            let part = ChildConfig { name, local, remote, proposals, mode, life, resources };
            self.parts.push(Arc::new(part));
        }
    }

    /// We asked for a policy or a part, and the peer has answered. `before` is what nobody carried until then: as long as an
    /// answer makes it less, the next piece is asked for.
    pub(crate) fn ask_for_rest(&mut self, name: &str, before: &[Traffic], now: Instant) {
        if resource_of(name).1 == 0 && self.gap_of(name) != before {
            self.ask_for_piece(policy_of(name).0, now);
        }
    }

    /// The peer does not take a part: it may well have no use for it. What it refused is told as uncovered, and not asked for
    /// again on this connection; what else is left is.
    pub(crate) fn part_refused(&mut self, name: &str, now: Instant) {
        let Some(at) = self.parts.iter().position(|part| *part.name == *name) else { return };
        let part = self.parts.remove(at);
        if self.parts_refused.len() < MAX_REFUSED {
            self.parts_refused.push(part);
            self.ask_for_piece(policy_of(name).0, now);
        }
    }

    /// Asks for a piece of a policy that nobody carries and that has not been asked for.
    fn ask_for_piece(&mut self, policy: &str, now: Instant) {
        let Some(policy) = self.policy(policy).cloned() else { return };
        // Where no pair is left the policy itself is asked for, not a part.
        if self.family(&policy.name).next().is_none() {
            return;
        }
        let mut effort = Effort::default();
        let rest = self.gap(&policy, &mut effort);
        let mut asked = |piece: &Traffic| {
            let parts = self.parts.iter().chain(&self.parts_refused);
            let mut parts = parts.filter(|part| policy_of(&part.name).0 == &*policy.name);
            parts.any(|part| Traffic::of(part).contains_within(piece, &mut effort))
        };
        let Some(piece) = rest.iter().find(|piece| !asked(piece)) else { return };
        if let Some(number) = self.free_part(&policy.name) {
            let part = part(&policy, number, piece.clone());
            let name = part.name.clone();
            self.parts.push(Arc::new(part));
            self.queue_create(&name, now);
        }
    }

    /// What nobody carries of the policy of this name.
    pub(crate) fn gap_of(&self, name: &str) -> Vec<Traffic> {
        let policy = self.policy(policy_of(name).0);
        policy.map(|policy| self.gap(policy, &mut Effort::default())).unwrap_or_default()
    }

    /// Tells the host what of its policies is not covered, where that has changed. A policy without any pair is down, which
    /// other events tell.
    pub(crate) fn tell_gaps(&mut self) {
        if !std::mem::take(&mut self.gaps_changed) {
            return;
        }
        let mut effort = Effort::default();
        for policy in self.policies().to_vec() {
            let whole = self
                .family(&policy.name)
                .any(|child| child.narrowed.is_none() && child.config.name == policy.name);
            let down = self.family(&policy.name).next().is_none();
            let gap = if whole || down { Vec::new() } else { self.gap(&policy, &mut effort) };
            let told = self.gaps.iter().position(|(name, _)| *name == policy.name);
            let known = told.and_then(|at| self.gaps.get(at)).map(|(_, gap)| gap.as_slice());
            if known.unwrap_or_default() == gap.as_slice() {
                continue;
            }
            self.gaps.retain(|(name, _)| *name != policy.name);
            if !gap.is_empty() {
                self.gaps.push((policy.name.clone(), gap.clone()));
            }
            self.events.push_back(Event::Coverage { policy: policy.name.clone(), uncovered: gap });
        }
    }
}
