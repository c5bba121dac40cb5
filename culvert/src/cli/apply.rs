//! `culvert apply`: makes the node have what the manifests say, in one transaction, and tells what that changed.

use std::path::PathBuf;

use clap::Args;
use culvert_proto::v1;
use prost::Message as _;
use serde::Serialize;
use tonic::{Code, Status};

use crate::console::beside::tell;
use crate::console::connect::MAX_APPLIED;
use crate::console::output::{Output, print_text, print_value};
use crate::console::{Client, Failure, Global};
use crate::manifest::{changes, read_all};

/// What the node takes at once.
const MAX_REQUEST: usize = 64 << 20;

/// Objects of which the node is asked for the values before and after: of more the answer would be larger than is read at a screen, or by
/// the node kept for anybody.
const MANY: usize = 10_000;

/// `culvert apply`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Manifest, directory of manifests, or `-` for standard input; may be repeated
    #[arg(long = "file", short, required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Tell what would change, and what that does to running tunnels, and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of an object.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Outcome {
    name: String,
    action: Action,
    /// The fields that changed.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    changes: Vec<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    impact: Option<Impact>,
    /// What is weaker than it could be.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    warnings: Vec<String>,
}

/// What a change does to tunnels that are up.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Impact {
    effect: &'static str,
    summary: String,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Created,
    Updated,
    Unchanged,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let manifests = read_all(&arguments.files)?;
    let mut client = None;
    let (mut places, mut objects, mut existing) = (Vec::new(), Vec::new(), Vec::new());
    for manifest in manifests {
        let there = match manifest.part_of() {
            Some(name) => {
                // Or a tenant that is deleted between the reading and the writing would come back.
                existing.push(name.to_owned());
                there(name, &mut client, global).await?
            }
            None => None,
        };
        let (place, object) = manifest.whole(there)?;
        places.push(place);
        objects.push(object);
    }
    let without_values = objects.len() > MANY;
    let request = v1::ApplyRequest { objects, validate_only: arguments.dry_run, without_values, existing };
    let size = request.encoded_len();
    if size > MAX_REQUEST {
        let message =
            format!("{} objects of {size} octets; a node takes {MAX_REQUEST} at once", places.len());
        return Err(Failure::invalid(message).hint("apply the files one after the other"));
    }
    let answer = connected(&mut client, global).await?.batches().apply(request).await;
    let answer = answer.map_err(|status| match unread(&status) {
        true => done_unread(arguments.dry_run),
        false => Failure::of_batch(&status, "the manifest", &places),
    });
    let answer = answer?.into_inner();
    let outcomes = answer.objects.iter().map(outcome).collect::<Result<Vec<_>, _>>()?;
    if without_values {
        note_no_values();
    }
    if global.output != Output::Table {
        return print_value(global.output, &outcomes);
    }
    for outcome in &outcomes {
        print_text(&outcome.text(arguments.dry_run))?;
    }
    print_text(&summary(&outcomes, arguments.dry_run))
}

/// The tenant as it is, if it is there: of what a manifest says a part of, the rest.
async fn there(
    name: &str,
    client: &mut Option<Client>,
    global: &Global,
) -> Result<Option<v1::Tenant>, Failure> {
    let request = v1::GetTenantRequest { name: name.to_owned() };
    match connected(client, global).await?.tenants().get_tenant(request).await {
        Ok(tenant) => Ok(Some(tenant.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(Failure::of_status(&status, name)),
    }
}

/// The connection that there is, or one from now on.
async fn connected<'a>(client: &'a mut Option<Client>, global: &Global) -> Result<&'a Client, Failure> {
    match client {
        Some(client) => Ok(client),
        None => Ok(client.insert(Client::connect(global).await?)),
    }
}

/// Whatever form is read: what has no changes would be taken for the same.
fn note_no_values() {
    tell(format_args!("note: which fields differ is told of up to {MANY} objects at once"));
}

/// The answer came and is larger than is taken here. The node says the same of a request, with another bound.
fn unread(status: &Status) -> bool {
    status.code() == Code::OutOfRange && status.message().contains(&format!("limit is: {MAX_APPLIED} bytes"))
}

/// What was asked for was done, whether or not anybody could read what came of it.
fn done_unread(dry_run: bool) -> Failure {
    let hint = "apply the files one after the other";
    if dry_run {
        return Failure::failed("the answer is too large to be read; nothing was changed").hint(hint);
    }
    Failure::failed("the answer is too large to be read; the change WAS made")
        .hint("`culvert get audit` shows it; next time apply the files one after the other")
}

fn outcome(applied: &v1::AppliedObject) -> Result<Outcome, Failure> {
    let action = match applied.action() {
        v1::AppliedAction::Created => Action::Created,
        v1::AppliedAction::Updated => Action::Updated,
        v1::AppliedAction::Unchanged | v1::AppliedAction::Unspecified => Action::Unchanged,
    };
    let changes = changes(applied.before.as_ref(), applied.after.as_ref(), applied.value_changed)?;
    // What changed nothing does nothing.
    let impact = applied
        .impact
        .as_ref()
        .filter(|_| action == Action::Updated)
        .map(|impact| Impact { effect: impact.effect().as_str_name(), summary: impact.summary.clone() });
    let (name, warnings) = (applied.name.clone(), applied.warnings.clone());
    Ok(Outcome { name, action, changes, impact, warnings })
}

impl Outcome {
    fn text(&self, dry_run: bool) -> String {
        let action = self.action.word();
        let dry = if dry_run && self.action != Action::Unchanged { " (dry run)" } else { "" };
        let mut text = format!("{} {action}{dry}", self.name);
        for line in self.changes.iter().chain(self.impact.as_ref().map(|impact| &impact.summary)) {
            text.push_str("\n    ");
            text.push_str(line);
        }
        // Told by a dry run in any case, else of what is new.
        if dry_run || self.action != Action::Unchanged {
            for warning in &self.warnings {
                text.push_str("\n    warning: ");
                text.push_str(warning);
            }
        }
        text
    }
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
        }
    }
}

fn summary(outcomes: &[Outcome], dry_run: bool) -> String {
    let count = |action: Action| outcomes.iter().filter(|outcome| outcome.action == action).count();
    let parts = [Action::Created, Action::Updated, Action::Unchanged];
    let parts: Vec<_> = parts.iter().map(|action| format!("{} {}", count(*action), action.word())).collect();
    format!("{}{}", parts.join(", "), if dry_run { " (dry run: nothing was changed)" } else { "" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_answer_that_is_too_large_is_not_taken_for_a_refusal() {
        // As tonic has it.
        let of = |limit: usize| {
            let text = format!(
                "Error, decoded message length too large: found 300000000 bytes, the limit is: {limit} bytes"
            );
            Status::out_of_range(text)
        };
        assert!(unread(&of(MAX_APPLIED)));
        assert!(!unread(&of(MAX_REQUEST)), "the node has refused the request");
        assert!(!unread(&Status::out_of_range("event 7 is gone")));
        let told = done_unread(false);
        assert!(told.message.contains("WAS made") && told.code == crate::console::failure::exit::FAILED);
        assert!(done_unread(true).message.contains("nothing was changed"));
    }
}
