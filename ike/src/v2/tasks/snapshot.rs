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
    pub(crate) fn form(&self, w: &Writing<'_>) -> QueuedForm {
        let Self { task, due, tries } = self;
        let delete = |spi: u32, reason| DeleteForm { spi, reason: end_number(reason) };
        let task = match task {
            Task::CreateChild(name) => TaskForm::CreateChild(name.to_string()),
            Task::AskResource(name) => TaskForm::AskResource(name.to_string()),
            Task::RekeyChild(spi) => TaskForm::RekeyChild(*spi),
            Task::DeleteChild(spi, reason) => TaskForm::DeleteChild(delete(*spi, *reason)),
            Task::DeleteOwed(spi, reason) => TaskForm::DeleteOwed(delete(*spi, *reason)),
            Task::DeleteStray(spi) => TaskForm::DeleteStray(*spi),
            Task::RekeyIke => TaskForm::RekeyIke(true),
            Task::Liveness => TaskForm::Liveness(true),
        };
        QueuedForm { task: Some(task), due: w.due(*due), tries: Some(TriesForm::new(*tries)) }
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
