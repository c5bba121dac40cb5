//! `culvert delete`: by name, or what manifests name, in one transaction.

use std::path::PathBuf;

use clap::Args;
use culvert_proto::v1;
use serde::Serialize;

use crate::cli::reference::{Kind, Reference};
use crate::console::beside::tell;
use crate::console::output::{Output, print_text, print_value};
use crate::console::{Client, Failure, Global};
use crate::manifest::read_names;

/// `culvert delete`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// What to delete: `acme/b1`, `peer acme/b1 acme/b2`, `tenant/acme`, `tenants/acme/secrets/psk`, `tokens/ops`
    #[arg(value_name = "NAME", required_unless_present = "files")]
    names: Vec<String>,
    /// Of this tenant
    #[arg(long, short)]
    tenant: Option<String>,
    /// Delete what is named in this manifest, directory of manifests, or `-`; may be repeated
    #[arg(long = "file", short, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Delete tenants with all their peers and secrets
    #[arg(long)]
    force: bool,
    /// What is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
    /// Tell all that would be deleted and change nothing
    #[arg(long)]
    dry_run: bool,
}

/// What became of a name.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
struct Outcome {
    name: String,
    action: Action,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Deleted,
    /// It was not there, and that was to be no failure.
    Ignored,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let names = names(&arguments)?;
    let client = Client::connect(global).await?;
    let request = v1::DeleteRequest {
        names: names.clone(),
        validate_only: arguments.dry_run,
        allow_missing: arguments.ignore_not_found,
        force: arguments.force,
    };
    let answer = client.batches().delete(request).await;
    let answer = answer.map_err(|status| Failure::of_batch(&status, "delete", &names))?.into_inner();
    let gone: std::collections::HashSet<&String> = answer.deleted.iter().collect();
    let ignored = names.iter().filter(|name| !gone.contains(name));
    let outcomes: Vec<Outcome> = answer
        .deleted
        .iter()
        .map(|name| Outcome { name: name.clone(), action: Action::Deleted })
        .chain(ignored.map(|name| Outcome { name: name.clone(), action: Action::Ignored }))
        .collect();
    if global.output != Output::Table {
        return print_value(global.output, &outcomes);
    }
    let dry = if arguments.dry_run { " (dry run)" } else { "" };
    for Outcome { name, action } in &outcomes {
        match action {
            Action::Deleted => print_text(&format!("{name} deleted{dry}"))?,
            Action::Ignored => print_text(&format!("{name} not found, ignored"))?,
        }
    }
    Ok(())
}

/// Full names of what is to go.
fn names(arguments: &Arguments) -> Result<Vec<String>, Failure> {
    let mut names = Vec::new();
    for reference in Reference::parse_all(&arguments.names, arguments.tenant.as_deref())? {
        match (reference.kind, reference.name) {
            (Kind::Tenant | Kind::Peer | Kind::Secret | Kind::Token, Some(name)) => names.push(name),
            _ => {
                return Err(Failure::invalid("delete needs names; it does not delete all of a kind").hint(
                    "for example `culvert delete acme/branch-12`, or `--force tenant/acme` with all it has",
                ));
            }
        }
    }
    if !arguments.files.is_empty() {
        let (objects, policies) = read_names(&arguments.files)?;
        if objects.is_empty() && names.is_empty() {
            return Err(Failure::invalid("a policy is not deleted: apply one without rules"));
        }
        names.extend(objects);
        policies.iter().for_each(|tenant| note_policy(tenant));
    }
    Ok(names)
}

/// It is a part of what is there, and what is deleted may be what its rules are for.
fn note_policy(tenant: &str) {
    tell(format_args!(
        "note: the policy of {tenant} stays as it is; apply one with the rules that are still wanted"
    ));
}
