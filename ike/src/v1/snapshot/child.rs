//! Child SAs as the connection knows them. Their keys and counters are the router's.

use prost::{Message, Oneof};
use snapshot::{Due, SnapshotError, required};

use crate::snapshot::values::small;
use crate::snapshot::{Reading, Writing};
use crate::v1::child::{Child, ChildState, Use};

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ChildForm {
    #[prost(uint32, tag = "1")]
    policy: u32,
    #[prost(fixed32, tag = "2")]
    spi_in: u32,
    #[prost(fixed32, tag = "3")]
    spi_out: u32,
    /// When it is deleted, if another one took its place.
    #[prost(message, optional, tag = "4")]
    replaced: Option<Due>,
    #[prost(bool, tag = "5")]
    active: bool,
    #[prost(oneof = "UseForm", tags = "6, 7, 8")]
    usable: Option<UseForm>,
    #[prost(bool, tag = "9")]
    initiated: bool,
    #[prost(uint32, optional, tag = "10")]
    group: Option<u32>,
    #[prost(message, optional, tag = "11")]
    unproved: Option<Due>,
    #[prost(message, optional, tag = "12")]
    began: Option<Due>,
    #[prost(message, optional, tag = "13")]
    agreed: Option<Due>,
    #[prost(bool, tag = "14")]
    proven: bool,
}

#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
enum UseForm {
    #[prost(bool, tag = "6")]
    Free(bool),
    #[prost(message, tag = "7")]
    At(Due),
    #[prost(message, tag = "8")]
    Connected(Due),
}

impl ChildForm {
    pub(crate) fn new<'a>(child: &'a Child, w: &mut Writing<'a>) -> Self {
        let Child {
            config,
            spi_in,
            spi_out,
            state,
            active,
            usable,
            initiated,
            group,
            unproved,
            span: (began, agreed),
            proven,
        } = child;
        let replaced = match state {
            ChildState::Installed => None,
            ChildState::Replaced(until) => w.due(*until),
        };
        let usable = match usable {
            Use::Free => Some(UseForm::Free(true)),
            Use::At(at) => w.due(*at).map(UseForm::At),
            Use::Connected(at) => w.due(*at).map(UseForm::Connected),
        };
        Self {
            policy: w.policy(config),
            spi_in: *spi_in,
            spi_out: *spi_out,
            replaced,
            active: *active,
            usable,
            initiated: *initiated,
            group: group.map(u32::from),
            unproved: unproved.and_then(|at| w.due(at)),
            began: w.due(*began),
            agreed: w.due(*agreed),
            proven: *proven,
        }
    }

    pub(crate) fn read(&self, r: &Reading) -> Result<Child, SnapshotError> {
        let usable = match required(self.usable, "when a Child SA is sent by")? {
            UseForm::Free(_) => Use::Free,
            UseForm::At(at) => Use::At(r.when(at)),
            UseForm::Connected(at) => Use::Connected(r.when(at)),
        };
        let span =
            (r.at(self.began, "when a quick mode began")?, r.at(self.agreed, "when a quick mode ended")?);
        Ok(Child {
            config: r.policy(self.policy)?,
            spi_in: self.spi_in,
            spi_out: self.spi_out,
            state: r.maybe_at(self.replaced).map_or(ChildState::Installed, ChildState::Replaced),
            active: self.active,
            usable,
            initiated: self.initiated,
            group: self.group.map(|group| small(group, "a group")).transpose()?,
            unproved: r.maybe_at(self.unproved),
            span,
            proven: self.proven,
        })
    }
}
