//! Plans as another node takes them over.

use prost::{Message, Oneof};
use snapshot::{Due, SnapshotError, required};

use super::{Queued, Task};
use crate::snapshot::values::{end, end_number, name};
use crate::snapshot::{Reading, Writing};
use crate::v2::snapshot::request::TriesForm;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct QueuedForm {
    #[prost(oneof = "TaskForm", tags = "1, 2, 3, 4, 5, 6, 7, 10")]
    task: Option<TaskForm>,
    #[prost(message, optional, tag = "8")]
    due: Option<Due>,
    #[prost(message, optional, tag = "9")]
    tries: Option<TriesForm>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum TaskForm {
    #[prost(string, tag = "1")]
    CreateChild(String),
    #[prost(fixed32, tag = "2")]
    RekeyChild(u32),
    #[prost(message, tag = "3")]
    DeleteChild(DeleteForm),
    #[prost(message, tag = "4")]
    DeleteOwed(DeleteForm),
    #[prost(fixed32, tag = "5")]
    DeleteStray(u32),
    #[prost(bool, tag = "6")]
    RekeyIke(bool),
    #[prost(bool, tag = "7")]
    Liveness(bool),
    #[prost(string, tag = "10")]
    AskResource(String),
}

#[derive(Clone, Copy, PartialEq, Eq, Message)]
struct DeleteForm {
    #[prost(fixed32, tag = "1")]
    spi: u32,
    #[prost(uint32, tag = "2")]
    reason: u32,
}

impl Queued {
    /// Writes a [`QueuedForm`].
    pub(crate) fn write(&self, w: &mut Writing<'_>) {
        let Self { task, due, tries } = self;
        let delete = |spi: u32, reason| DeleteForm { spi, reason: end_number(reason) };
        match task {
            Task::CreateChild(name) => w.bytes_always(1, name.as_bytes()),
            Task::AskResource(name) => w.bytes_always(10, name.as_bytes()),
            Task::RekeyChild(spi) => w.fixed32_always(2, *spi),
            Task::DeleteChild(spi, reason) => w.form(3, &delete(*spi, *reason)),
            Task::DeleteOwed(spi, reason) => w.form(4, &delete(*spi, *reason)),
            Task::DeleteStray(spi) => w.fixed32_always(5, *spi),
            Task::RekeyIke => w.flag(6, true),
            Task::Liveness => w.flag(7, true),
        }
        w.at(8, *due);
        w.form(9, &TriesForm::new(*tries));
    }

    pub(crate) fn restore(form: &QueuedForm, r: &Reading) -> Result<Self, SnapshotError> {
        let task = match required(form.task.as_ref(), "what is planned")? {
            TaskForm::CreateChild(policy) => Task::CreateChild(name(policy)),
            TaskForm::AskResource(policy) => Task::AskResource(name(policy)),
            TaskForm::RekeyChild(spi) => Task::RekeyChild(*spi),
            TaskForm::DeleteChild(form) => Task::DeleteChild(form.spi, end(form.reason)?),
            TaskForm::DeleteOwed(form) => Task::DeleteOwed(form.spi, end(form.reason)?),
            TaskForm::DeleteStray(spi) => Task::DeleteStray(*spi),
            TaskForm::RekeyIke(_) => Task::RekeyIke,
            TaskForm::Liveness(_) => Task::Liveness,
        };
        let due = r.at(form.due, "when something is planned")?;
        Ok(Self { task, due, tries: required(form.tries, "what a plan has tried")?.read()? })
    }
}
