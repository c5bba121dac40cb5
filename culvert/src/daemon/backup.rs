//! `culvertd backup`: a copy of the store, taken while the daemon runs or when it does not.

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

type Rows = Vec<(String, Vec<u8>)>;

/// Writes a copy of the store to `file` and checks it. A daemon that has the store open is asked for it, at `server` or
/// where the configuration says that it listens. What was done, for people.
pub async fn run(config: &Config, file: &Path, server: Option<&str>) -> anyhow::Result<String> {
    let directory = &config.state_dir.0;
    let path = directory.join(STORE_FILE);
    if same(&path, file) {
        bail!("{} is the store itself; name another file", file.display());
    }
    if file.exists() {
        bail!("{} is there already; name another file, or remove it", file.display());
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
    store::write_backup(file, rows)?;
    let report = store::check(file, None)?;
    if let Some(fault) = report.faults.first() {
        bail!("{}: the copy is not whole: {fault}", file.display());
    }
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

/// Whether both are one file, or would be.
fn same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    a == b || whole(a).is_some_and(|a| Some(a) == whole(b))
}
