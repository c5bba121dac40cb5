//! Child SAs as the connection knows them. Their keys and counters are the router's.

use prost::{Message, Oneof};
use snapshot::{SnapshotError, required};

use crate::snapshot::values::{TrafficForm, end, end_number, small};
use crate::snapshot::{Reading, Writing};
use crate::v2::child::{Child, ChildState};

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct ChildForm {
    #[prost(uint32, tag = "1")]
    policy: u32,
    #[prost(fixed32, tag = "2")]
    spi_in: u32,
    #[prost(fixed32, tag = "3")]
    spi_out: u32,
    #[prost(oneof = "StateForm", tags = "4, 5, 6")]
    state: Option<StateForm>,
    #[prost(uint32, optional, tag = "7")]
    group: Option<u32>,
    #[prost(bool, tag = "8")]
    active: bool,
    #[prost(message, optional, tag = "9")]
    narrowed: Option<TrafficForm>,
}

#[derive(Clone, Copy, PartialEq, Eq, Oneof)]
enum StateForm {
    #[prost(bool, tag = "4")]
    Installed(bool),
    #[prost(bool, tag = "5")]
    Replaced(bool),
    #[prost(uint32, tag = "6")]
    Deleting(u32),
}

impl ChildForm {
    pub(crate) fn new<'a>(child: &'a Child, w: &mut Writing<'a>) -> Self {
        let Child { config, spi_in, spi_out, state, group, active, narrowed } = child;
        let state = match state {
            ChildState::Installed => StateForm::Installed(true),
            ChildState::Replaced => StateForm::Replaced(true),
            ChildState::Deleting(reason) => StateForm::Deleting(end_number(*reason)),
        };
        Self {
            policy: w.policy(config),
            spi_in: *spi_in,
            spi_out: *spi_out,
            state: Some(state),
            group: group.map(u32::from),
            active: *active,
            narrowed: narrowed.as_deref().map(TrafficForm::new),
        }
    }

    pub(crate) fn read(&self, r: &Reading) -> Result<Child, SnapshotError> {
        let narrowed = self.narrowed.as_ref().map(TrafficForm::read).transpose()?;
        let state = match required(self.state, "the state of a Child SA")? {
            StateForm::Installed(_) => ChildState::Installed,
            StateForm::Replaced(_) => ChildState::Replaced,
            StateForm::Deleting(reason) => ChildState::Deleting(end(reason)?),
        };
        Ok(Child {
            config: r.policy(self.policy)?,
            spi_in: self.spi_in,
            spi_out: self.spi_out,
            state,
            group: self.group.map(|group| small(group, "a group")).transpose()?,
            active: self.active,
            narrowed: narrowed.map(Box::new),
        })
    }
}
