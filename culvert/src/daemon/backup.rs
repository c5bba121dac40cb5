//! `culvertd backup`: a copy of the store, taken while the daemon runs or when it does not.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::path::Path;
use std::time::Duration;

use anyhow::{Context as _, bail};
use culvert_proto::v1;
use tenants::store::{self, STORE_FILE, StoreError};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::console::Client;
use crate::console::target::{Server, Target};
use crate::daemon::check::contents;

/// How long a daemon may take to hand over its store.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What a store begins with, as the library of it says.
const MAGIC: &[u8] = b"redb";

type Rows = Vec<(String, Vec<u8>)>;

/// Writes a copy of the store to `file` and checks it. A daemon that has the store open is asked for it, at `server` or
/// where the configuration says that it listens. What was done, for people.
pub async fn run(config: &Config, file: &Path, server: Option<&str>) -> anyhow::Result<String> {
    let directory = &config.state_dir.0;
    let path = directory.join(STORE_FILE);
    if same(&path, file) {
        bail!("{} is the store itself; name another file", file.display());
    }
    if !may_be_replaced(file) {
        bail!(
            "{} is there and is no copy of a store, or one that a daemon has open; name another file",
            file.display()
        );
    }
    let rows = match own_rows(config, &path)? {
        Some(rows) => rows,
        None => {
            let named =
                |server| Server::parse(server).map_err(|failure| anyhow::anyhow!("{}", failure.message));
            let server = server.map_or_else(|| address(config), named)?;
            ask(&server).await.with_context(|| {
                let what = if config.cluster.is_shared() {
                    "the catalog is in etcd".to_owned()
                } else {
                    format!("{} is in use by a daemon", path.display())
                };
                format!("{what}, and none can be asked at {server}; name another with --server")
            })?
        }
    };
    let report = store::write_backup(file, rows)?;
    let key = config.vault.key_path(directory);
    Ok(format!(
        "ok: {}: {}\nthe secrets in it are sealed with {}, which is not in it: keep a copy of that apart",
        file.display(),
        contents(&report),
        key.display()
    ))
}

/// The rows of the state directory. `None` where a daemon has to be asked for them.
fn own_rows(config: &Config, path: &Path) -> anyhow::Result<Option<Rows>> {
    if config.cluster.is_shared() {
        // What is in the state directory is from before, if anything is.
        return Ok(None);
    }
    match store::read(path) {
        Ok(rows) => Ok(Some(rows)),
        Err(StoreError::InUse(_)) => Ok(None),
        Err(error) => Err(error.into()),
    }
}

/// The store as a running daemon has it.
async fn ask(server: &Server) -> anyhow::Result<Rows> {
    let mut target = Target::of(server.clone());
    target.token = std::env::var("CULVERT_TOKEN").ok().map(Zeroizing::new);
    let client =
        Client::to(&target, TIMEOUT).await.map_err(|failure| anyhow::anyhow!("{}", failure.message))?;
    let answer = client.nodes().backup_store(v1::BackupStoreRequest {}).await;
    let mut parts = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
    let mut rows = Rows::new();
    while let Some(part) = parts.message().await? {
        rows.extend(part.rows.into_iter().map(|row| (row.key, row.value)));
    }
    Ok(rows)
}

/// Where the daemon of this configuration is reached from its own host: by the Unix socket, if it has one.
fn address(config: &Config) -> anyhow::Result<Server> {
    match (config.grpc.socket(&config.state_dir.0), config.grpc.listen) {
        (Some(path), _) => Ok(Server::Unix(path)),
        (None, Some(address)) if config.grpc.tls.is_none() => Ok(Server::Plain(format!("http://{address}"))),
        (None, _) => bail!("name it with --server: there is no Unix socket"),
    }
}

/// Whether a copy may take this place: nothing is there, or nothing is in it, or it is a copy itself. A name that was mistyped may well be
/// that of a key.
fn may_be_replaced(file: &Path) -> bool {
    let mut first = Vec::new();
    match std::fs::symlink_metadata(file) {
        Err(error) => error.kind() == ErrorKind::NotFound,
        Ok(there) if !there.is_file() => false,
        Ok(_) => {
            let Ok(file) = File::open(file) else { return false };
            // A daemon that runs holds the lock of its store.
            let is_free = file.try_lock().is_ok();
            let read = file.take(MAGIC.len() as u64).read_to_end(&mut first);
            is_free && read.is_ok() && (first.is_empty() || first == MAGIC)
        }
    }
}

/// Whether both are one file, or would be.
fn same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    a == b || whole(a).is_some_and(|a| Some(a) == whole(b))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::StateDir;

    fn tenants(catalog: &tenants::Catalog, id: &str) {
        let tenant_id = id.to_owned();
        catalog.create_tenant(&v1::CreateTenantRequest { tenant_id, ..Default::default() }).unwrap();
    }

    #[tokio::test]
    async fn a_copy_takes_the_place_of_an_earlier_one_and_of_nothing_else() {
        let directory = tempfile::tempdir().unwrap();
        let state = directory.path().join("state");
        let config = Config { state_dir: StateDir(state.clone()), ..Config::default() };
        let file = directory.path().join("nightly.redb");
        for night in ["a", "b"] {
            tenants(&tenants::Catalog::open(&state).unwrap(), night);
            run(&config, &file, None).await.unwrap();
        }
        assert_eq!(store::check(&file, None).unwrap().tenants, 2);
        let error = run(&config, &state.join(STORE_FILE), None).await.unwrap_err().to_string();
        assert!(error.contains("is the store itself"), "{error}");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for other in [state.join("secrets.key"), state.clone(), link] {
            let before = std::fs::read(&other).ok();
            let error = run(&config, &other, None).await.unwrap_err().to_string();
            assert!(error.contains("is no copy of a store"), "{error}");
            assert_eq!(std::fs::read(&other).ok(), before);
        }
    }
}
