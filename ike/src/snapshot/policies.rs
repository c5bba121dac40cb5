//! Policies as Child SAs and requests were made by. Each is written once, however many refer to it.

use std::sync::Arc;

use prost::Message;
use snapshot::{Range, SnapshotError};

use super::values::{
    duration, mode, mode_number, nanoseconds, selectors, selectors_form, transform, transform_form,
};
use crate::config::{ChildConfig, Life};
use crate::proposal::EspProposal;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct PolicyForm {
    #[prost(string, tag = "1")]
    name: String,
    #[prost(message, repeated, tag = "2")]
    local: Vec<Range>,
    #[prost(message, repeated, tag = "3")]
    remote: Vec<Range>,
    #[prost(message, repeated, tag = "4")]
    proposals: Vec<ProposalForm>,
    #[prost(uint32, tag = "5")]
    mode: u32,
    #[prost(uint64, tag = "6")]
    life: u64,
    #[prost(uint64, optional, tag = "7")]
    kilobytes: Option<u64>,
    #[prost(uint32, tag = "8")]
    resources: u32,
}

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ProposalForm {
    #[prost(uint64, repeated, tag = "1")]
    transforms: Vec<u64>,
}

impl PolicyForm {
    fn new(config: &ChildConfig) -> Self {
        let ChildConfig { name, local, remote, proposals, mode, life, resources } = config;
        let Life { time, kilobytes } = life;
        let proposal = |proposal: &EspProposal| ProposalForm {
            transforms: proposal.transforms().iter().copied().map(transform_form).collect(),
        };
        Self {
            name: name.to_string(),
            local: selectors_form(local),
            remote: selectors_form(remote),
            proposals: proposals.iter().map(proposal).collect(),
            mode: mode_number(*mode),
            life: nanoseconds(*time),
            kilobytes: *kilobytes,
            resources: (*resources).into(),
        }
    }

    /// The policy, or the same if it is among these.
    pub(super) fn read(&self, known: &[Arc<ChildConfig>]) -> Result<Arc<ChildConfig>, SnapshotError> {
        let proposal = |form: &ProposalForm| {
            let transforms = form.transforms.iter().copied().map(transform);
            transforms.collect::<Result<_, _>>().map(EspProposal::of_transforms)
        };
        let config = ChildConfig {
            name: self.name.as_str().into(),
            local: selectors(&self.local)?,
            remote: selectors(&self.remote)?,
            proposals: self.proposals.iter().map(proposal).collect::<Result<_, _>>()?,
            mode: mode(self.mode)?,
            life: Life { time: duration(self.life), kilobytes: self.kilobytes },
            // No more than its own type takes was written.
            resources: u8::try_from(self.resources).unwrap_or(u8::MAX),
        };
        Ok(known.iter().find(|known| ***known == config).cloned().unwrap_or_else(|| Arc::new(config)))
    }
}

/// Those that were referred to so far.
#[derive(Default)]
pub(super) struct Table<'a>(Vec<&'a Arc<ChildConfig>>);

impl<'a> Table<'a> {
    pub(super) fn number(&mut self, config: &'a Arc<ChildConfig>) -> u32 {
        let same = |known: &&Arc<ChildConfig>| Arc::ptr_eq(known, config) || ***known == **config;
        let at = self.0.iter().position(same).unwrap_or_else(|| {
            self.0.push(config);
            self.0.len() - 1
        });
        // There are no more than a connection has Child SAs, parts and requests.
        u32::try_from(at).unwrap_or(u32::MAX)
    }

    pub(super) fn forms(self) -> Vec<PolicyForm> {
        self.0.into_iter().map(|config| PolicyForm::new(config)).collect()
    }
}
