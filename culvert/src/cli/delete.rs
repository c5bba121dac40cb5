//! `culvert delete`: by name, or what manifests name, in the reverse order of creation.

use std::path::PathBuf;

use clap::Args;
use culvert_proto::v1;

use crate::cli::manifest;
use crate::cli::reference::{Kind, kind_of_name};
use crate::console::Global;
use crate::console::connect::Client;
use crate::console::failure::Failure;
use crate::console::output::print_text;

/// `culvert delete`
#[derive(Debug, Args)]
pub(crate) struct Arguments {
    /// Full names: `tenants/acme/peers/b1`
    #[arg(value_name = "NAME", required_unless_present = "files")]
    names: Vec<String>,
    /// Delete what is named in this manifest, directory of manifests, or `-`; may be repeated
    #[arg(long = "file", short, value_name = "FILE")]
    files: Vec<PathBuf>,
    /// Delete tenants with all their peers and secrets
    #[arg(long)]
    force: bool,
    /// What is not there is no failure
    #[arg(long)]
    ignore_not_found: bool,
    /// Tell what could be deleted and change nothing
    #[arg(long)]
    dry_run: bool,
}

pub(crate) async fn run(global: &Global, arguments: Arguments) -> Result<(), Failure> {
    let mut names = arguments.names.clone();
    if !arguments.files.is_empty() {
        names.extend(manifest::read_all(&arguments.files)?.into_iter().map(|manifest| manifest.name).rev());
    }
    let kinds = names.iter().map(|name| {
        kind_of_name(name).ok_or_else(|| {
            Failure::invalid(format!("{name:?} is not a full name"))
                .hint("expected such as tenants/acme/peers/b1")
        })
    });
    let kinds = kinds.collect::<Result<Vec<_>, _>>()?;
    let client = Client::connect(global).await?;
    let mut first_failure = None;
    for (name, kind) in names.iter().zip(kinds) {
        match delete(&client, &arguments, kind, name).await {
            Ok(()) => {
                let dry = if arguments.dry_run { " (dry run)" } else { "" };
                print_text(&format!("{name} deleted{dry}"))?;
            }
            Err(status) => {
                let failure = Failure::of_status(&status, name);
                failure.print();
                first_failure.get_or_insert(failure.code);
            }
        }
    }
    first_failure.map_or(Ok(()), |code| Err(Failure::new(code, "")))
}

async fn delete(client: &Client, arguments: &Arguments, kind: Kind, name: &str) -> Result<(), tonic::Status> {
    let (validate_only, allow_missing) = (arguments.dry_run, arguments.ignore_not_found);
    let (name, etag) = (name.to_owned(), String::new());
    match kind {
        Kind::Tenant => {
            let force = arguments.force;
            let request = v1::DeleteTenantRequest { name, etag, validate_only, allow_missing, force };
            client.tenants().delete_tenant(request).await.map(drop)
        }
        Kind::Secret => {
            let request = v1::DeleteSecretRequest { name, etag, validate_only, allow_missing };
            client.secrets().delete_secret(request).await.map(drop)
        }
        _ => {
            let request = v1::DeletePeerRequest { name, etag, validate_only, allow_missing };
            client.peers().delete_peer(request).await.map(drop)
        }
    }
}
