//! Conditions of a peer: what must hold for its tunnel to carry all that it is for, each with the reason and since when.

use std::time::SystemTime;

use culvert_proto::v1;

/// One condition.
#[derive(Clone, Debug, Default)]
pub struct Condition {
    /// `None` while nobody can say.
    pub holds: Option<bool>,
    /// In a word, for programs.
    pub reason: &'static str,
    /// For people; empty when the reason says it all.
    pub message: Box<str>,
    /// Since when it holds or not.
    pub since: Option<SystemTime>,
}

impl Condition {
    /// How it is now. The time is that of the last change of whether it holds, or why.
    pub(crate) fn set(&mut self, holds: Option<bool>, reason: &'static str, message: &str) {
        if (self.holds, self.reason) != (holds, reason) || self.since.is_none() {
            self.since = Some(SystemTime::now());
        }
        (self.holds, self.reason) = (holds, reason);
        if &*self.message != message {
            self.message = message.into();
        }
    }

    /// As the API tells it.
    pub(crate) fn to_proto(&self, kind: v1::ConditionType) -> v1::Condition {
        let status = match self.holds {
            None => v1::ConditionStatus::Unknown,
            Some(true) => v1::ConditionStatus::True,
            Some(false) => v1::ConditionStatus::False,
        };
        v1::Condition {
            r#type: kind.into(),
            status: status.into(),
            reason: self.reason.to_owned(),
            message: self.message.to_string(),
            last_transition_time: self.since.map(Into::into),
        }
    }
}

/// Those of a peer. That of its tenant's uplink is the router's to tell.
#[derive(Clone, Debug, Default)]
pub struct Conditions {
    /// Its secret is there.
    pub secret: Condition,
    /// It answers.
    pub reachable: Condition,
    /// Every child has a Child SA, for all of its traffic.
    pub covered: Condition,
}
