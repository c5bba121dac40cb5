//! What IKE_SA_INIT decided before it was known who asks, and decided wrongly, is mended once it is known.
//!
//! The algorithms were chosen among what all may use that could have sent the first message. If the one it was may not use
//! them, but has offered some that it may, the IKE_SA is taken and rekeyed at once, by its own proposals now, and then the
//! Child SA of IKE_AUTH, so that no key comes from what was not allowed for longer than a few round trips. Refusing it
//! instead would end it for good: IKE_AUTH cannot change what was agreed on, the initiator knows of nothing that it could do
//! differently, and many do not try again. It is no way around the configuration: the offer is signed in AUTH, so nobody
//! between the two has made it weaker, and if the rekeying does not come about in time the connection ends.
//!
//! Whether ESP goes in UDP without a NAT was decided as well, by what the answer said of our address. There is no saying it
//! differently later but in another IKE_SA_INIT, and sending UDP to one who has set up ESP by itself is lost on many systems.
//! So one whose peer wants it and was not told is asked to authenticate again soon (RFC 4478), which the host then knows
//! how to answer.

use std::time::{Duration, Instant};

use super::child::ChildState;
use super::request::Tries;
use super::tasks::Task;
use super::{Connection, Phase};
use crate::config::PeerConfig;
use crate::event::{CloseReason, Event};
use crate::failure::Failure;
use crate::host::Host;
use crate::proposal::negotiate;
use crate::wire::message::Payloads;
use crate::wire::numbers::NotifyType;
use crate::wire::payload::{Notify, Payload};
use crate::wire::sa::Proposal;

/// How long the choice may stay wrong: enough for a few answers of TEMPORARY_FAILURE.
const MEND_WITHIN: Duration = Duration::from_secs(60);
/// Seconds after which one is asked to authenticate again that has to learn of UDP.
const REAUTHENTICATE: u32 = 60;

impl Connection {
    /// Whether IKE_SA_INIT was answered as it would not have been, had it been known who asks. A host that remembers whose
    /// address that is will answer the next one better.
    pub(crate) fn is_misjudged(&self) -> bool {
        self.mend.is_some() || self.config.as_deref().is_some_and(|config| self.lacks_encapsulation(config))
    }

    fn lacks_encapsulation(&self, config: &PeerConfig) -> bool {
        config.force_encapsulation && !self.encapsulates()
    }

    /// What the answer to IKE_AUTH says of it.
    pub(super) fn ask_for_reauthentication(&self, config: &PeerConfig) -> Option<Payload> {
        let seconds = REAUTHENTICATE.to_be_bytes().to_vec();
        let notify = || Payload::Notify(Notify::with_data(NotifyType::AUTH_LIFETIME, seconds));
        self.lacks_encapsulation(config).then(notify)
    }

    /// For how long the peer lets the connection be, if it says so: to where we have authenticated ourselves first, and later if it is
    /// changed (RFC 4478 section 3).
    pub(super) fn note_auth_lifetime(&mut self, now: Instant, payloads: Payloads<'_>) {
        let said = payloads.notify(NotifyType::AUTH_LIFETIME).and_then(|n| n.data.as_slice().try_into().ok());
        if let Some(seconds) = said.map(u32::from_be_bytes).filter(|_| self.initiator) {
            let within = Duration::from_secs(seconds.into());
            self.limited = now.checked_add(within);
            self.events.push_back(Event::LimitedByPeer(within));
        }
    }

    /// When the peer ends the connection unless it is authenticated anew.
    pub(crate) const fn limited_by_peer(&self) -> Option<Instant> {
        self.limited
    }

    /// Rekeys the IKE_SA with a group that the peer's own proposals and its offer have in common.
    pub(super) fn mend(&mut self, now: Instant, group: u16) {
        self.mend = Some(now + MEND_WITHIN);
        self.queue_again(Task::RekeyIke, now, Tries::default().with_group(group));
    }

    /// The IKE_SA has been rekeyed: if that has mended it, the Child SAs follow.
    pub(super) fn mended(&mut self, now: Instant) {
        if self.mend.is_none() || !self.is_allowed() {
            return;
        }
        self.mend = None;
        let installed = self.children.iter().filter(|child| child.state == ChildState::Installed);
        for spi_in in installed.map(|child| child.spi_in).collect::<Vec<_>>() {
            self.queue(Task::RekeyChild(spi_in), now);
        }
    }

    /// Whether the algorithms of the IKE_SA in use are among the peer's proposals.
    fn is_allowed(&self) -> bool {
        self.choice().is_some_and(|choice| {
            negotiate::choose_ike(self.proposals(), &Proposal::of_ike(choice.transforms())).is_some()
        })
    }

    /// When it has to be mended.
    pub(super) fn mend_due(&self) -> Option<Instant> {
        self.mend.filter(|_| matches!(self.phase, Phase::Up))
    }

    /// It was not.
    pub(super) fn give_up_mending(&mut self, now: Instant, host: &mut dyn Host) {
        self.mend = None;
        let failure = Failure::NoProposal {
            offered: self.choice().map(|choice| choice.to_string()).unwrap_or_default(),
            configured: negotiate::describe_configured(self.proposals()),
        };
        self.close(now, host, CloseReason::Failed(failure));
    }
}
