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
    pub(crate) fn write<'a>(w: &mut Writing<'a>, child: &'a Child) {
        let Child { config, spi_in, spi_out, state, group, active, narrowed } = child;
        let policy = w.policy(config);
        w.uint(1, policy.into());
        w.fixed32(2, *spi_in);
        w.fixed32(3, *spi_out);
        match state {
            ChildState::Installed => w.flag(4, true),
            ChildState::Replaced => w.flag(5, true),
            ChildState::Deleting(reason) => w.uint_always(6, end_number(*reason).into()),
        }
        group.iter().for_each(|group| w.uint_always(7, (*group).into()));
        w.flag(8, *active);
        narrowed.iter().for_each(|narrowed| w.form(9, &TrafficForm::new(narrowed)));
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
