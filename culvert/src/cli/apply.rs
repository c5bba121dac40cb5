//! `culvert apply`: makes the node have what the manifests say, and tells what that changed.

use std::collections::HashSet;
use std::path::PathBuf;

use clap::Args;
use culvert_proto::v1;
use indicatif::{ProgressBar, ProgressStyle};
use serde::Serialize;
use serde_json::Value;
use tenants::{PeerSpec, SecretName, TenantName};
use tonic::{Code, Status};
use tonic_types::StatusExt as _;

use crate::cli::diff::differences;
use crate::cli::manifest::{self, Manifest, Object};
use crate::console::Global;
use crate::console::connect::Client;
use crate::console::failure::{Failure, exit};
use crate::console::message::to_json;
use crate::console::output::{Output, print_text, print_value};

/// From this many objects on it is worth to show how far it is.
const SHOW_PROGRESS: usize = 20;

/// `culvert apply`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Manifest, directory of manifests, or `-` for standard input; may be repeated
    #[arg(long = "file", short, required = true, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Tell what would change and change nothing
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
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase")]
enum Action {
    Created,
    Updated,
    Unchanged,
    Failed,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let manifests = manifest::read_all(&arguments.files)?;
    let client = Client::connect(global).await?;
    let bar = progress(manifests.len());
    let mut apply = Apply { client, dry_run: arguments.dry_run, pending: HashSet::new() };
    let mut outcomes = Vec::with_capacity(manifests.len());
    let mut first_failure = None;
    for manifest in manifests {
        bar.set_message(manifest.name.clone());
        let name = manifest.name.clone();
        let outcome = match apply.one(manifest).await {
            Ok(outcome) => outcome,
            Err(failure) => {
                bar.suspend(|| failure.print());
                let code = failure.code;
                first_failure.get_or_insert(code);
                if code == exit::UNAVAILABLE {
                    break;
                }
                Outcome { name, action: Action::Failed, changes: Vec::new() }
            }
        };
        if global.output == Output::Table && outcome.action != Action::Failed {
            let text = outcome.text(arguments.dry_run);
            bar.suspend(|| print_text(&text))?;
        }
        outcomes.push(outcome);
        bar.inc(1);
    }
    bar.finish_and_clear();
    match global.output {
        Output::Table => print_text(&summary(&outcomes, arguments.dry_run))?,
        other => print_value(other, &outcomes)?,
    }
    // What went wrong was told where it happened.
    first_failure.map_or(Ok(()), |code| Err(Failure::new(code, "")))
}

/// What goes from one object to the next.
struct Apply {
    client: Client,
    dry_run: bool,
    /// In a dry run: what would have been created by now, so that what refers to it is not refused.
    pending: HashSet<String>,
}

impl Apply {
    async fn one(&mut self, manifest: Manifest) -> Result<Outcome, Failure> {
        let Manifest { name, object } = manifest;
        let mut outcome = match object {
            Object::Tenant(tenant) => self.tenant(&name, tenant).await,
            Object::Secret(secret) => self.secret(&name, secret).await,
            Object::Peer(peer) => self.peer(&name, *peer).await,
        }?;
        if self.dry_run && outcome.action == Action::Created {
            self.pending.insert(name.clone());
        }
        outcome.name = name;
        Ok(outcome)
    }

    async fn tenant(&self, name: &str, tenant: v1::Tenant) -> Result<Outcome, Failure> {
        let mut service = self.client.tenants();
        let old = found(service.get_tenant(v1::GetTenantRequest { name: name.to_owned() }).await, name)?;
        let request = v1::UpdateTenantRequest {
            tenant: Some(tenant),
            update_mask: everything(),
            validate_only: self.dry_run,
            allow_missing: true,
        };
        let new = service.update_tenant(request).await;
        let new = new.map_err(|status| Failure::of_status(&status, name))?.into_inner();
        let etags = (old.as_ref().map(|old| old.etag.clone()), new.etag.clone());
        outcome(etags, values("Tenant", old.as_ref(), &new)?)
    }

    async fn secret(&self, name: &str, secret: v1::Secret) -> Result<Outcome, Failure> {
        let mut service = self.client.secrets();
        let old = found(service.get_secret(v1::GetSecretRequest { name: name.to_owned() }).await, name)?;
        let lacks_value = secret.value.is_empty();
        let request = v1::UpdateSecretRequest {
            secret: Some(secret),
            update_mask: everything(),
            validate_only: self.dry_run,
            allow_missing: true,
        };
        let new = match service.update_secret(request).await {
            Ok(new) => new.into_inner(),
            Err(status) if self.waits_for_tenant(&status, name) && !lacks_value => {
                return Ok(Outcome::created());
            }
            Err(status) => {
                let failure = Failure::of_status(&status, name);
                return Err(if lacks_value && old.is_none() {
                    failure.hint("give it a value, valueFromFile or valueFromEnv")
                } else {
                    failure
                });
            }
        };
        let etags = (old.as_ref().map(|old| old.etag.clone()), new.etag.clone());
        let mut outcome = outcome(etags, values("Secret", old.as_ref(), &new)?)?;
        if outcome.action == Action::Updated && outcome.changes.is_empty() {
            outcome.changes.push("value".to_owned());
        }
        Ok(outcome)
    }

    async fn peer(&self, name: &str, peer: v1::Peer) -> Result<Outcome, Failure> {
        let mut service = self.client.peers();
        let old = found(service.get_peer(v1::GetPeerRequest { name: name.to_owned() }).await, name)?;
        let request = v1::UpdatePeerRequest {
            peer: Some(peer.clone()),
            update_mask: everything(),
            validate_only: self.dry_run,
            allow_missing: true,
        };
        let new = match service.update_peer(request).await {
            Ok(new) => new.into_inner(),
            Err(status) if self.waits_for_tenant(&status, name) => return self.peer_alone(name, &peer),
            Err(status) if self.waits_for_secret(&status, &peer) => return Ok(Outcome::created()),
            Err(status) => return Err(Failure::of_status(&status, name)),
        };
        let etags = (old.as_ref().map(|old| old.etag.clone()), new.etag.clone());
        outcome(etags, values("Peer", old.as_ref(), &new)?)
    }

    /// In a dry run: the tenant does not exist yet, but would by now.
    fn waits_for_tenant(&self, status: &Status, name: &str) -> bool {
        let tenant = name.split('/').take(2).collect::<Vec<_>>().join("/");
        status.code() == Code::NotFound && self.pending.contains(&tenant)
    }

    /// In a dry run: nothing is wrong but that the secret does not exist yet, and it would by now.
    fn waits_for_secret(&self, status: &Status, peer: &v1::Peer) -> bool {
        let Some(v1::auth::Method::Psk(secret)) = peer.auth.as_ref().and_then(|auth| auth.method.as_ref())
        else {
            return false;
        };
        let violations =
            status.get_details_bad_request().map(|details| details.field_violations).unwrap_or_default();
        let is_it = violations.iter().all(|violation| violation.field == "peer.auth.psk");
        !violations.is_empty()
            && is_it
            && secret.parse::<SecretName>().is_ok()
            && self.pending.contains(secret)
    }

    /// In a dry run: checks a peer of a tenant that does not exist yet by itself.
    fn peer_alone(&self, name: &str, peer: &v1::Peer) -> Result<Outcome, Failure> {
        let parsed: Result<TenantName, _> = name.split('/').take(2).collect::<Vec<_>>().join("/").parse();
        let tenant = parsed.map_err(|error| Failure::invalid(format!("{name}: {error}")))?;
        match PeerSpec::parse(&tenant, peer) {
            Ok(_) => Ok(Outcome::created()),
            Err(faults) => {
                let status = crate::services::status::of_violations(&faults);
                Err(Failure::of_status(&status, name))
            }
        }
    }
}

impl Outcome {
    fn created() -> Self {
        Self { name: String::new(), action: Action::Created, changes: Vec::new() }
    }

    fn text(&self, dry_run: bool) -> String {
        let action = self.action.word();
        let dry = if dry_run && self.action != Action::Unchanged { " (dry run)" } else { "" };
        let changes = self.changes.iter().map(|change| format!("\n    {change}"));
        format!("{} {action}{dry}{}", self.name, changes.collect::<String>())
    }
}

impl Action {
    fn word(self) -> &'static str {
        match self {
            Self::Created => "created",
            Self::Updated => "updated",
            Self::Unchanged => "unchanged",
            Self::Failed => "failed",
        }
    }
}

/// Compares what was there with what is there now.
fn outcome(etags: (Option<String>, String), values: (Value, Value)) -> Result<Outcome, Failure> {
    let (action, changes) = match etags {
        (None, _) => (Action::Created, Vec::new()),
        (Some(old), new) if old == new => (Action::Unchanged, Vec::new()),
        _ => (Action::Updated, differences(&values.0, &values.1)),
    };
    Ok(Outcome { name: String::new(), action, changes })
}

fn values<M: prost::Message>(kind: &str, old: Option<&M>, new: &M) -> Result<(Value, Value), Failure> {
    let old = old.map(|old| to_json(kind, old)).transpose()?;
    Ok((old.unwrap_or_default(), to_json(kind, new)?))
}

/// The object, or `None` if there is none.
fn found<T>(result: Result<tonic::Response<T>, Status>, name: &str) -> Result<Option<T>, Failure> {
    match result {
        Ok(response) => Ok(Some(response.into_inner())),
        Err(status) if status.code() == Code::NotFound => Ok(None),
        Err(status) => Err(Failure::of_status(&status, name)),
    }
}

fn everything() -> Option<prost_types::FieldMask> {
    Some(prost_types::FieldMask { paths: vec!["*".to_owned()] })
}

fn summary(outcomes: &[Outcome], dry_run: bool) -> String {
    let count = |action: Action| outcomes.iter().filter(|outcome| outcome.action == action).count();
    let parts =
        [Action::Created, Action::Updated, Action::Unchanged, Action::Failed].map(|a| (count(a), a.word()));
    let shown = parts.iter().filter(|(count, word)| *count > 0 || *word != "failed");
    let shown: Vec<_> = shown.map(|(count, word)| format!("{count} {word}")).collect();
    format!("{}{}", shown.join(", "), if dry_run { " (dry run: nothing was changed)" } else { "" })
}

/// Shown on a terminal only, and only where there is something to wait for.
fn progress(count: usize) -> ProgressBar {
    if count < SHOW_PROGRESS {
        return ProgressBar::hidden();
    }
    let style = ProgressStyle::with_template("{bar:30} {pos}/{len} {eta} {wide_msg}");
    ProgressBar::new(count as u64).with_style(style.unwrap_or_else(|_| ProgressStyle::default_bar()))
}
