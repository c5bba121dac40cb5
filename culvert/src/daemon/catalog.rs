//! The catalog of the daemon: of its own state directory, or the one that the nodes of a cluster share; and the way from the first
//! to the second.

use std::path::Path;
use std::sync::Arc;

use anyhow::{Context as _, bail};
use cluster::{Etcd, EtcdStore};
use tenants::Catalog;
use tenants::audit::AuditSink;
use tenants::store::{self, KEY_FILE, STORE_FILE, Store as _, StoreError, Vault};

use crate::config::Config;
use crate::daemon::bootstrap;

/// Opens the catalog, that of `etcd` if there is one, with what it shall have from the first start on; `audit_sink` learns of what is written to its audit log. What other nodes write to it is followed for as long as the
/// process runs. To be called within a runtime, where one may wait.
///
/// # Errors
/// What cannot be used, by the setting that names it.
pub fn open(
    config: &Config,
    etcd: Option<Etcd>,
    audit_sink: Option<Arc<dyn AuditSink>>,
) -> anyhow::Result<Arc<Catalog>> {
    let state_dir = &config.state_dir.0;
    let options = tenants::Options { audit_sink, ..options(config) };
    let shared = etcd.map(EtcdStore::new);
    if shared.is_none() {
        refuse_to_go_back(state_dir)?;
    }
    let opened = match &shared {
        None => Catalog::open_with(state_dir, &options),
        Some(store) => {
            let store = Box::new(store.clone());
            Catalog::open_shared(state_dir, store, &config.cluster.name(), &options)
        }
    };
    let catalog = Arc::new(opened.map_err(|error| match (&error, &config.vault.key_file) {
        (StoreError::File { path, .. }, Some(key)) if path == key => {
            anyhow::Error::from(error).context("vault.key_file")
        }
        _ if shared.is_none() => anyhow::Error::from(error).context("state_dir"),
        _ => anyhow::Error::from(error).context("cluster.etcd"),
    })?);
    let is_shared = shared.is_some();
    if let Some(store) = shared {
        tokio::spawn(cluster::follow(store, Arc::clone(&catalog)));
    }
    // Before the first write to it: whoever is refused has left nothing there that an import would then meet.
    if is_shared {
        refuse_to_forget(&catalog, state_dir)?;
        note_cluster(state_dir, &config.cluster.prefix).context("state_dir")?;
    }
    if let Some(file) = &config.bootstrap.file {
        bootstrap::run(&catalog, file)?;
    }
    Ok(catalog)
}

/// A node that was alone, and whose catalog nobody has brought along, would start without its tenants, and nobody would be told. One that finds
/// tenants in etcd is told by its log alone: it may have run with them for long.
fn refuse_to_forget(catalog: &Catalog, state_dir: &Path) -> anyhow::Result<()> {
    let path = state_dir.join(STORE_FILE);
    let own = match store::revision_with_tenants(&path) {
        Ok(Some(own)) => own,
        Ok(None) => return Ok(()),
        Err(error) => {
            tracing::warn!(%error, "what is in the state directory cannot be read, and is not used in a cluster");
            return Ok(());
        }
    };
    let shared = catalog.snapshot().revision;
    // One that was brought along is at a later revision, be it that all of it was deleted since.
    if shared > own {
        return Ok(());
    }
    let path = path.display();
    if !catalog.tenants().is_empty() {
        tracing::warn!(%path, "the tenants in there are not used, and were not brought along: the cluster has others");
        return Ok(());
    }
    bail!(
        "cluster.etcd: the catalog there is at revision {shared} and does not have the tenants of {path}, which is at {own}: bring them along with \
         `culvertd import-state`, while nothing else is in etcd; or move {path} away, if they are not wanted"
    );
}

/// Says that the catalog of this node is in etcd from now on, and what lies in the state directory is as old as that.
fn note_cluster(state_dir: &Path, prefix: &str) -> anyhow::Result<()> {
    let mark = state_dir.join(CLUSTER_MARK);
    if std::fs::read_to_string(&mark).is_ok_and(|there| there == prefix) {
        return Ok(());
    }
    std::fs::write(&mark, prefix).with_context(|| mark.display().to_string())
}

/// A node of a cluster that is started without `cluster.etcd`, as by an upgrade with a value left out, would begin with what its catalog was before
/// the cluster, or with none: with tenants that were deleted since, and tokens that were revoked.
fn refuse_to_go_back(state_dir: &Path) -> anyhow::Result<()> {
    let mark = state_dir.join(CLUSTER_MARK);
    match std::fs::read_to_string(&mark) {
        Ok(prefix) => bail!(
            "cluster.etcd: is empty, but this node was one of the cluster below {prefix}, and what is in {} is from before: set it again; or remove {}, if \
             the node is to be alone and begin with that",
            state_dir.display(),
            mark.display()
        ),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(error).with_context(|| format!("state_dir: {}", mark.display())),
    }
}

/// The file that says which cluster a node was one of, by its prefix in etcd.
const CLUSTER_MARK: &str = "cluster";

fn options(config: &Config) -> tenants::Options {
    let (audit, key_file) = (config.audit.limits(), config.vault.key_file.clone());
    tenants::Options { audit, key_file, ..tenants::Options::default() }
}

/// The etcd of the cluster that the daemon is configured to be in. There is to be one for all: what one part of a node has heard of it, such as how far
/// it is, holds for the others.
///
/// # Errors
/// A setting that is wrong.
pub fn etcd(config: &Config) -> anyhow::Result<Option<Etcd>> {
    let settings = config.cluster.is_shared().then(|| config.cluster.etcd());
    settings.map(|settings| Etcd::new(&settings).context("cluster")).transpose()
}

/// Copies the catalog of the state directory into etcd, in which there may be no more than what nodes write there that start without one:
/// what a node does once that was alone. What was done, for people. To be called within a runtime, where one may wait.
///
/// # Errors
/// If there is one in etcd already, or the key of the secrets is not the cluster's.
pub fn import(config: &Config) -> anyhow::Result<String> {
    let state_dir = &config.state_dir.0;
    let path = state_dir.join(STORE_FILE);
    let Some(store) = etcd(config)?.map(EtcdStore::new) else {
        bail!("cluster.etcd: is empty; name the members of etcd that the catalog shall go to");
    };
    if !path.exists() {
        bail!("{}: there is none, and so nothing to import", path.display());
    }
    let options = options(config);
    // Opened as for use, so that the rows of its audit log get to where they stay: the files.
    let catalog = Catalog::open_with(state_dir, &options).with_context(|| {
        let own = state_dir.join(KEY_FILE);
        format!(
            "the cluster's key has to be the one that this store was made with, such as {}",
            own.display()
        )
    })?;
    let peers = catalog.peers().len();
    let mut rows = catalog.backup()?;
    rows.retain(|(key, _)| !store::is_audit(key));
    // Before what is there is read: of what is written meanwhile the import is told.
    let after = store.last_revision().context("cluster.etcd")?;
    let there = store.load().context("cluster.etcd")?;
    let vault = Vault::open_provided(&config.vault.key_path(state_dir))?;
    let Some(revision) = store::succeed(&mut rows, &there, &vault).context("cluster.etcd")? else {
        bail!(
            "cluster.etcd: there is a catalog below {} already; import into an empty one, or name another cluster.prefix",
            config.cluster.prefix
        );
    };
    store.import(rows, after, revision).context("cluster.etcd")?;
    let (tenants, prefix) = (catalog.tenants().len(), &config.cluster.prefix);
    Ok(format!(
        "ok: {tenants} tenants and {peers} peers, revision {revision}, are in etcd now, below {prefix}"
    ))
}
