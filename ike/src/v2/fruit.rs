//! Whether a connection has ever had a Child SA, and why not.

use std::sync::Arc;
use std::time::Instant;

use super::Connection;
use crate::event::{CloseReason, Event};
use crate::failure::Failure;
use crate::fruit::Fruit;

impl Connection {
    /// Reports that a Child SA could not be made. Until there is one, the reason is kept: the peer may end the IKE_SA for it.
    pub(crate) fn tell_refused(&mut self, policy: &Arc<str>, failure: Failure) {
        if let Fruit::None(why) = &mut self.fruit {
            *why = Some(Box::new(failure.clone()));
        }
        self.events.push_back(Event::ChildFailed { name: policy.clone(), failure });
    }

    /// The peer has deleted the IKE_SA. One that never had a Child SA was no success, whoever ended it.
    pub(crate) fn ended_by_peer(&mut self, now: Instant) {
        let reason = match &mut self.fruit {
            Fruit::None(why) => CloseReason::Failed(Failure::EndedChildless {
                after: now.saturating_duration_since(self.began).as_secs(),
                why: why.take(),
            }),
            Fruit::Some => {
                self.wanted_transport(None).map_or(CloseReason::DeletedByPeer, CloseReason::Failed)
            }
        };
        self.down(now, reason);
    }
}
