//! What is under way for single resources, as another node takes it over.

use prost::Message;
use snapshot::SnapshotError;

use super::{Occasion, Resources};
use crate::snapshot::values::name;
use crate::snapshot::{Reading, Writing};

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ResourcesForm {
    /// Policies by their numbers.
    #[prost(uint32, repeated, tag = "1")]
    policies: Vec<u32>,
    #[prost(string, repeated, tag = "2")]
    full: Vec<String>,
    #[prost(message, repeated, tag = "3")]
    due: Vec<DueForm>,
}

/// A policy that is to be looked after.
#[derive(Clone, PartialEq, Eq, Message)]
struct DueForm {
    #[prost(string, tag = "1")]
    policy: String,
    #[prost(uint32, tag = "2")]
    occasion: u32,
}

impl Resources {
    /// Writes a [`ResourcesForm`].
    pub(in crate::v2) fn write<'a>(&'a self, w: &mut Writing<'a>) {
        let Self { policies, full, due } = self;
        w.policy_numbers(1, policies);
        full.iter().for_each(|policy| w.bytes_always(2, policy.as_bytes()));
        for (policy, occasion) in due {
            w.message(3, |w| {
                w.bytes(1, policy.as_bytes());
                w.uint(2, *occasion as u64);
            });
        }
    }

    /// Of a connection that has none, if nothing is said of them.
    pub(in crate::v2) fn restore(form: Option<&ResourcesForm>, r: &Reading) -> Result<Self, SnapshotError> {
        let Some(ResourcesForm { policies, full, due }) = form else { return Ok(Self::default()) };
        Ok(Self {
            policies: policies.iter().map(|number| r.policy(*number)).collect::<Result<_, _>>()?,
            full: full.iter().map(|policy| name(policy)).collect(),
            due: due
                .iter()
                .map(|due| Ok((name(&due.policy), occasion(due.occasion)?)))
                .collect::<Result<_, _>>()?,
        })
    }
}

fn occasion(number: u32) -> Result<Occasion, SnapshotError> {
    let found = [Occasion::Asked, Occasion::Answered, Occasion::Configured];
    let found = found.into_iter().find(|occasion| *occasion as u32 == number);
    found.ok_or_else(|| SnapshotError::Value {
        field: "why a policy is looked after",
        reason: format!("{number}; expected 0 to 2"),
    })
}
