//! Pairs for single resources beside the pair of a policy (RFC 9611). Whoever has made the fallback asks for them one after the
//! other until it has as many as it wants or the peer takes no more; the other side does so a while later, if it wants more
//! than it was asked for. So the two seldom ask at the same time, and where they do there are a few pairs more.

mod snapshot;

use std::sync::Arc;
use std::time::{Duration, Instant};

pub(super) use snapshot::ResourcesForm;

use super::Connection;
use super::child::{Child, ChildState};
use super::request::{ChildOffer, PutOff, Request, Tries};
use super::tasks::Task;
use crate::config::{ChildConfig, PeerConfig};
use crate::coverage::{Traffic, policy_of, uncovered};
use crate::event::ChildEnd;
use crate::failure::Failure;
use crate::host::Host;
use crate::resources::{MAX_RESOURCES, resource, resource_of};
use crate::verbs::MAX_CHILDREN;
use crate::wire::message::Payloads;
use crate::wire::numbers::NotifyType;
use crate::wire::payload::{Notify, Payload};
use crate::wire::ts::TrafficSelector;

/// How long who has answered for the fallback waits before it asks by itself: until then a peer at the other end of the world
/// has asked for all it wants. As long, too, until pairs of a configuration before have gone.
const PATIENCE: Duration = Duration::from_secs(10);
/// No more pairs than this are there before one for a resource is made: every pair that is there may have to be rekeyed.
const ROOM: usize = MAX_CHILDREN / 2;

/// What says that a pair is for a resource. The number is for whoever looks for an error (RFC 9611 section 4).
pub(super) fn notify(config: &ChildConfig) -> Option<Payload> {
    let number = resource_of(&config.name).1;
    let data = || u32::try_from(number).unwrap_or_default().to_be_bytes().to_vec();
    (number > 0).then(|| Payload::Notify(Notify::with_data(NotifyType::SA_RESOURCE_INFO, data())))
}

/// Whether a request is for a resource.
pub(super) fn asked(payloads: Payloads<'_>) -> bool {
    payloads.notify(NotifyType::SA_RESOURCE_INFO).is_some()
}

/// How a request for a pair is to be taken.
pub(super) enum Asked {
    /// As any other: there is no fallback yet that it would stand beside.
    Usual,
    /// For this resource.
    For(Arc<ChildConfig>),
    /// There are enough.
    Enough,
    /// Not now: the fallback is on its way, or goes. If it were taken as any other, the two sides would call different pairs the fallback, and
    /// one of them could be left with none.
    Later,
}

impl Connection {
    /// A pair was made: perhaps others are wanted beside it.
    pub(super) fn note_resources(&mut self, config: &Arc<ChildConfig>, initiated: bool) {
        let part = policy_of(&config.name).1 > 0;
        if !part && self.wanted_resources(resource_of(&config.name).0) > 0 {
            let made = if initiated { Occasion::Asked } else { Occasion::Answered };
            self.resources.due.push((resource_of(&config.name).0.into(), made));
        }
    }

    /// Plans what is to be done about the pairs beside those that were made or are configured otherwise now.
    pub(super) fn plan_resources(&mut self, now: Instant) {
        for (policy, occasion) in std::mem::take(&mut self.resources.due) {
            let pairs = || self.resource_pairs(&policy);
            // Where the fallback carries something else than before, nothing else may stand beside it.
            let mut gone: Vec<u32> =
                pairs().filter(|child| !self.is_current(child)).map(|child| child.spi_in).collect();
            let now_or_later =
                if occasion == Occasion::Answered || !gone.is_empty() { PATIENCE } else { Duration::ZERO };
            if occasion == Occasion::Configured {
                let current = pairs().filter(|child| self.is_current(child));
                gone.extend(current.skip(self.wanted_resources(&policy)).map(|child| child.spi_in));
            }
            for spi_in in gone {
                self.queue(Task::DeleteChild(spi_in, ChildEnd::Deleted), now);
            }
            self.queue(Task::AskResource(policy), now + now_or_later);
        }
    }

    /// How many pairs for resources a policy is to have.
    fn wanted_resources(&self, policy: &str) -> usize {
        let resources = self.policy(policy).map_or(1, |config| config.resources);
        usize::from(resources.min(MAX_RESOURCES)).saturating_sub(1)
    }

    /// The pair that everybody may use.
    fn fallback(&self, policy: &str) -> Option<&Child> {
        let installed = |c: &&Child| *c.config.name == *policy && c.state == ChildState::Installed;
        self.children.iter().filter(installed).max_by_key(|child| child.active)
    }

    /// The pairs of a policy's resources that are in place.
    fn resource_pairs<'a>(&'a self, policy: &'a str) -> impl Iterator<Item = &'a Child> {
        self.children.iter().filter(move |child| {
            let (of, number) = resource_of(&child.config.name);
            number > 0 && of == policy && child.state == ChildState::Installed
        })
    }

    /// Whether a pair for a resource is as it would be asked for now. Without a fallback nobody can say.
    fn is_current(&self, child: &Child) -> bool {
        let (policy, number) = resource_of(&child.config.name);
        self.fallback(policy).is_none_or(|fallback| {
            child.config.asks_for_the_same(&resource(&fallback.config, number, fallback.traffic()))
        })
    }

    /// How many more pairs for resources a policy may have.
    fn missing_resources(&self, policy: &str) -> usize {
        let there = self.resource_pairs(policy).filter(|child| self.is_current(child)).count();
        let room = ROOM.saturating_sub(self.children.len());
        self.wanted_resources(policy).saturating_sub(there).min(room)
    }

    /// What is being asked for.
    fn children_asked(&self) -> impl Iterator<Item = &Arc<ChildConfig>> {
        let requests = self.sas.iter().flat_map(|sa| sa.exchanges.pending());
        requests.filter_map(|request| match request {
            Request::Child(offer) => Some(&offer.config),
            _ => None,
        })
    }

    /// A number for one more resource of a policy.
    fn free_resource(&self, policy: &str) -> usize {
        let there = self.children.iter().map(|child| &child.config);
        let taken: Vec<usize> = there
            .chain(self.children_asked())
            .map(|config| resource_of(&config.name))
            .filter(|(of, _)| *of == policy)
            .map(|(_, number)| number)
            .collect();
        (1..).find(|number| !taken.contains(number)).unwrap_or_default()
    }

    /// The policy of a resource's pair is remembered, so that the pair can be rekeyed.
    fn remember_resource(&mut self, config: &Arc<ChildConfig>) {
        let used = |name: &Arc<str>| {
            self.is_awaited(name) || self.children.iter().any(|child| child.config.name == *name)
        };
        let others = self.resources.policies.iter().filter(|known| known.name != config.name);
        let mut policies: Vec<_> = others.filter(|known| used(&known.name)).cloned().collect();
        policies.push(config.clone());
        self.resources.policies = policies;
    }

    /// Asks for a pair for one more resource, if it is wanted.
    pub(super) fn ask_resource(&mut self, now: Instant, host: &mut dyn Host, policy: &str, tries: Tries) {
        let full = self.resources.full.iter().any(|full| **full == *policy);
        let Some((config, traffic)) = self.fallback(policy).map(|c| (c.config.clone(), c.traffic())) else {
            return;
        };
        if full || self.missing_resources(policy) == 0 {
            return;
        }
        let config = resource(&config, self.free_resource(policy), traffic);
        self.remember_resource(&config);
        self.request_child(now, host, config, None, tries);
    }

    /// How a request is to be taken that fits this policy with these selectors.
    pub(super) fn place_resource(&self, config: &Arc<ChildConfig>, traffic: &Traffic) -> Asked {
        let same = |child: &&Child| {
            let there = child.traffic();
            there.contains(traffic) && traffic.contains(&there)
        };
        match self.fallback(&config.name).filter(same) {
            // A part has no pairs beside its own.
            None if self.family(&config.name).any(|child| same(&child)) => Asked::Enough,
            None if self.is_on_its_way(&config.name) => Asked::Later,
            None => Asked::Usual,
            Some(_) if self.missing_resources(&config.name) == 0 => Asked::Enough,
            Some(fallback) => {
                let number = self.free_resource(&config.name);
                Asked::For(resource(&fallback.config, number, fallback.traffic()))
            }
        }
    }

    /// Whether a policy's pair is being asked for, or is to be.
    pub(super) fn is_awaited(&self, policy: &Arc<str>) -> bool {
        self.children_asked().any(|config| config.name == *policy)
            || self.is_planned(&Task::CreateChild(policy.clone()))
    }

    /// Whether a policy's pair is being asked for, or deleted.
    fn is_on_its_way(&self, policy: &Arc<str>) -> bool {
        self.is_awaited(policy)
            || self
                .children
                .iter()
                .any(|child| child.config.name == *policy && child.state != ChildState::Installed)
    }

    /// A pair for a resource is about to be in place.
    pub(super) fn note_resource(&mut self, config: &Arc<ChildConfig>) {
        if resource_of(&config.name).1 > 0 {
            self.remember_resource(config);
        }
    }

    /// A request for one more resource came to nothing. It is no failure of the policy, which has its pair: it is asked for
    /// again later where the peer says that it is busy, and otherwise no more on this connection (RFC 9611 section 5). True
    /// if it was such a request.
    pub(super) fn resource_refused(
        &mut self,
        now: Instant,
        host: &mut dyn Host,
        offer: &ChildOffer,
        busy: bool,
    ) -> bool {
        let (policy, number) = resource_of(&offer.config.name);
        let new = number > 0 && offer.replaces.is_none();
        if new && busy {
            // Of no use to insist: a peer that stays busy keeps its pair, and us.
            self.queue_later(Task::AskResource(policy.into()), now, host, offer.tries, PutOff::Refused);
        } else if new {
            self.no_more_resources(policy);
        }
        new
    }

    /// Checks that an answer takes for a resource all that was asked for: the pair stands beside one that carries it.
    pub(super) fn check_resource(
        &self,
        config: &ChildConfig,
        local: &[TrafficSelector],
        remote: &[TrafficSelector],
    ) -> Result<(), Failure> {
        let answer = Traffic { local: local.to_vec(), remote: remote.to_vec() };
        let rest = match resource_of(&config.name).1 {
            0 => Vec::new(),
            _ => uncovered(&Traffic::of(config), &[answer]),
        };
        if rest.is_empty() {
            return Ok(());
        }
        let texts: Vec<String> = rest.iter().map(ToString::to_string).collect();
        Err(Failure::Narrowed {
            policy: config.name.clone(),
            uncovered: texts.join("; "),
            configured: Traffic::of(config).to_string(),
        })
    }

    /// A peer that answers and does not say that its half is for a resource may know nothing of any. One further pair does no
    /// harm; it is asked for no more.
    pub(super) fn note_silence_on_resource(&mut self, offer: &ChildOffer, payloads: Payloads<'_>) {
        if let (policy, 1..) = resource_of(&offer.config.name)
            && !asked(payloads)
        {
            self.no_more_resources(policy);
        }
    }

    /// The peer, or this side, has no room for more.
    pub(super) fn no_more_resources(&mut self, policy: &str) {
        if !self.resources.full.iter().any(|full| **full == *policy) {
            self.resources.full.push(policy.into());
        }
    }

    /// The configuration is another: who was refused may ask again, and there may be too many.
    pub(super) fn reconfigure_resources(&mut self, old: Option<&PeerConfig>) {
        self.resources.full = Vec::new();
        let before = |name: &str| {
            let old = old.into_iter().flat_map(|old| &old.children).find(|old| *old.name == *name);
            old.map_or(1, |old| old.resources)
        };
        let changed = self.policies().iter().filter(|config| before(&config.name) != config.resources);
        let due: Vec<_> = changed.map(|config| (config.name.clone(), Occasion::Configured)).collect();
        self.resources.due.extend(due);
    }

    /// When there is something to plan: at once.
    pub(super) fn resources_due(&self) -> Option<Instant> {
        (!self.resources.due.is_empty()).then_some(self.began)
    }

    /// A new inbound SPI for a pair of this policy: that of a resource is beside those of the others, or takes the place of one.
    pub(super) fn allocate_spi(
        &self,
        host: &mut dyn Host,
        config: &ChildConfig,
        replaces: Option<u32>,
    ) -> Option<u32> {
        let remote = self.addresses().1;
        let (policy, number) = resource_of(&config.name);
        if number == 0 {
            return host.allocate_esp_spi(remote);
        }
        let there = |child: &&Child| resource_of(&child.config.name).0 == policy;
        let beside: Vec<u32> = match replaces {
            Some(_) => Vec::new(),
            None => self.children.iter().filter(there).map(|child| child.spi_in).collect(),
        };
        host.allocate_resource_spi(remote, &beside, replaces)
    }
}

/// What a connection knows of resources. Empty, and without memory, where nobody wants any.
#[derive(Debug, Default)]
#[cfg_attr(culvert_fuzz, derive(Clone))]
pub(super) struct Resources {
    /// The policies of their pairs.
    pub(super) policies: Vec<Arc<ChildConfig>>,
    /// Policies that the peer makes no more pairs of.
    full: Vec<Arc<str>>,
    /// Policies that are to be looked after, and why.
    due: Vec<(Arc<str>, Occasion)>,
}

/// Why it is looked at what a policy has beside its pair.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Occasion {
    /// The peer has made a pair that we have asked for.
    Asked,
    /// We have made one that the peer has asked for.
    Answered,
    /// Another number is wanted.
    Configured,
}
