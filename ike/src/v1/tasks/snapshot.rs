//! Plans as another node takes them over.

use prost::{Message, Oneof};
use snapshot::{Due, SnapshotError, required};

use super::{Queued, Task};
use crate::snapshot::values::name;
use crate::snapshot::{Reading, Writing};
use crate::v1::exchange::TriesForm;

#[derive(Clone, PartialEq, Eq, Message)]
pub(crate) struct QueuedForm {
    #[prost(oneof = "TaskForm", tags = "1, 2, 3, 4")]
    task: Option<TaskForm>,
    #[prost(message, optional, tag = "5")]
    due: Option<Due>,
    #[prost(message, optional, tag = "6")]
    tries: Option<TriesForm>,
}

#[derive(Clone, PartialEq, Eq, Oneof)]
enum TaskForm {
    #[prost(string, tag = "1")]
    CreateChild(String),
    #[prost(fixed32, tag = "2")]
    RekeyChild(u32),
    #[prost(bool, tag = "3")]
    RekeyIke(bool),
    #[prost(bool, tag = "4")]
    Liveness(bool),
}

impl Queued {
    pub(crate) fn form(&self, w: &Writing<'_>) -> QueuedForm {
        let Self { task, due, tries } = self;
        let task = match task {
            Task::CreateChild(name) => TaskForm::CreateChild(name.to_string()),
            Task::RekeyChild(spi) => TaskForm::RekeyChild(*spi),
            Task::RekeyIke => TaskForm::RekeyIke(true),
            Task::Liveness => TaskForm::Liveness(true),
        };
        QueuedForm { task: Some(task), due: w.due(*due), tries: Some(TriesForm::new(*tries)) }
    }

    pub(crate) fn restore(form: &QueuedForm, r: &Reading) -> Result<Self, SnapshotError> {
        let task = match required(form.task.as_ref(), "what is planned")? {
            TaskForm::CreateChild(policy) => Task::CreateChild(name(policy)),
            TaskForm::RekeyChild(spi) => Task::RekeyChild(*spi),
            TaskForm::RekeyIke(_) => Task::RekeyIke,
            TaskForm::Liveness(_) => Task::Liveness,
        };
        let due = r.at(form.due, "when something is planned")?;
        Ok(Self { task, due, tries: required(form.tries, "what a plan has tried")?.read() })
    }
}
