//! More than one request under way at a time (SET_WINDOW_SIZE, RFC 7296 section 2.3): what is stated to the peer, and which
//! requests of ours may be under way together. The rules for exchanges that cross (section 2.8) are about one Child SA or
//! about the IKE_SA; so requests for different policies go side by side, those for one policy one after the other, and what
//! concerns the IKE_SA goes alone.

use std::sync::Arc;

use super::Connection;
use super::ike_sa::SaState;
use super::request::Request;
use super::tasks::Task;
use crate::resources::resource_of;
use crate::wire::message::Payloads;
use crate::wire::numbers::NotifyType;
use crate::wire::payload::{Notify, Payload};

/// The largest window, to us and to the peer. The answers to so many requests are kept for the peer that may miss them, a
/// few hundred octets each; eight make up for the round trips of a peer with many Child SAs.
const MAX_WINDOW: u32 = 8;

impl Connection {
    /// The window that we state: a peer with one Child SA has nothing to do at the same time, and no answers need be kept
    /// for it.
    fn own_window(&self) -> u32 {
        let children = self.config.as_ref().map_or(0, |config| config.children.len());
        u32::try_from(children).map_or(MAX_WINDOW, |children| children.clamp(1, MAX_WINDOW))
    }

    /// The statement of our window, if one is to go into the next message on this IKE_SA. From then on it holds.
    pub(super) fn window_statement(&mut self, spi: u64) -> Option<Payload> {
        let window = self.own_window();
        let sa = self.sa_mut(spi).filter(|sa| sa.states_window && window > 1)?;
        sa.states_window = false;
        sa.exchanges.state_window(window);
        let notify = Notify::with_data(NotifyType::SET_WINDOW_SIZE, window.to_be_bytes().to_vec());
        Some(Payload::Notify(notify))
    }

    /// Takes in the peer's statement, if there is one in an authentic message.
    pub(super) fn note_window(&mut self, spi: u64, payloads: Payloads<'_>) {
        let stated = payloads.notify(NotifyType::SET_WINDOW_SIZE);
        let size = stated.and_then(|notify| notify.data.as_slice().try_into().ok()).map(u32::from_be_bytes);
        if let (Some(size), Some(sa)) = (size, self.sa_mut(spi)) {
            sa.exchanges.window_stated(size.min(MAX_WINDOW));
            sa.peer_states_window = true;
        }
    }

    /// Whether requests can be started at all.
    pub(super) fn may_start(&self) -> bool {
        self.is_up()
            && self.current_sa().is_some_and(|sa| sa.exchanges.has_room() && sa.state == SaState::Active)
    }

    /// Whether this task may be started beside what is under way.
    pub(super) fn startable(&self, task: &Task) -> bool {
        let Some(sa) = self.current_sa().filter(|_| self.may_start()) else { return false };
        match task {
            Task::RekeyIke | Task::Liveness => sa.exchanges.idle(),
            Task::CreateChild(_)
            | Task::AskResource(_)
            | Task::RekeyChild(_)
            | Task::DeleteChild(..)
            | Task::DeleteOwed(..)
            | Task::DeleteStray(_) => sa.exchanges.pending().all(|request| match request {
                Request::Liveness => true,
                // How many there are shows when it is answered.
                Request::Child(offer) if asks_beside(task, &offer.config.name) => false,
                Request::Child(_) | Request::DeleteChild(_) => {
                    self.subject_of(task).apart(&self.subject_of_request(request))
                }
                Request::Auth | Request::RekeyIke(_) | Request::DeleteIke => false,
            }),
        }
    }

    fn subject_of(&self, task: &Task) -> Subject {
        match task {
            Task::CreateChild(name) | Task::AskResource(name) => {
                Subject { policy: Some(name.clone()), spi: None }
            }
            Task::RekeyChild(spi)
            | Task::DeleteChild(spi, _)
            | Task::DeleteOwed(spi, _)
            | Task::DeleteStray(spi) => self.subject(*spi),
            Task::RekeyIke | Task::Liveness => Subject { policy: None, spi: None },
        }
    }

    pub(super) fn subject_of_request(&self, request: &Request) -> Subject {
        match request {
            Request::Child(offer) => {
                Subject { policy: Some(offer.config.name.clone()), spi: Some(offer.spi_in) }
            }
            Request::DeleteChild(spi) => self.subject(*spi),
            Request::Auth | Request::RekeyIke(_) | Request::DeleteIke | Request::Liveness => {
                Subject { policy: None, spi: None }
            }
        }
    }

    fn subject(&self, spi: u32) -> Subject {
        Subject { policy: self.child(spi).map(|child| child.config.name.clone()), spi: Some(spi) }
    }
}

/// Whether a task asks for one more pair beside those that a request is about.
fn asks_beside(task: &Task, requested: &str) -> bool {
    matches!(task, Task::AskResource(policy) if resource_of(requested).0 == &**policy)
}

/// What a request is about: a policy and a pair of it, as far as they are known.
#[derive(Debug)]
pub(super) struct Subject {
    policy: Option<Arc<str>>,
    spi: Option<u32>,
}

impl Subject {
    /// Whether two requests have nothing to do with each other.
    pub(super) fn apart(&self, other: &Self) -> bool {
        let same_policy = self.policy.is_some() && self.policy == other.policy;
        let same_pair = self.spi.is_some() && self.spi == other.spi;
        !same_policy && !same_pair
    }
}
