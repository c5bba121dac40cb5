//! Policies as Child SAs and requests were made by. Each is written once, however many refer to it.

use std::sync::Arc;

use prost::Message;
use snapshot::{Range, SnapshotError, Writer};

use super::values::{
    duration, mode, mode_number, nanoseconds, selectors, transform, transform_form, write_selectors,
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
    fn write(w: &mut Writer, config: &ChildConfig) {
        let ChildConfig { name, local, remote, proposals, mode, life, resources } = config;
        let Life { time, kilobytes } = life;
        w.bytes(1, name.as_bytes());
        write_selectors(w, 2, local);
        write_selectors(w, 3, remote);
        for proposal in proposals.iter() {
            let form = w.begin(4);
            w.uints(1, proposal.transforms().iter().copied().map(transform_form));
            w.end(form);
        }
        w.uint(5, mode_number(*mode).into());
        w.uint(6, nanoseconds(*time));
        kilobytes.iter().for_each(|kilobytes| w.uint_always(7, *kilobytes));
        w.uint(8, (*resources).into());
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

    pub(super) fn write(&self, w: &mut Writer, tag: u32) {
        for config in &self.0 {
            let form = w.begin(tag);
            PolicyForm::write(w, config);
            w.end(form);
        }
    }
}
