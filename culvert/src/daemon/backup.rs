//! `culvertd backup`: a copy of the store, taken while the daemon runs or when it does not.

use std::path::Path;

use anyhow::{Context as _, bail};
use culvert_proto::v1;
use culvert_proto::v1::node_service_client::NodeServiceClient;
use tenants::store::{self, STORE_FILE, StoreError};

use crate::config::Config;
use crate::daemon::check::contents;

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
    let rows = match store::read(&path) {
        Ok(rows) => rows,
        Err(StoreError::InUse(_)) => {
            let server = server.map_or_else(|| address(config), str::to_owned);
            ask(&server).await.with_context(|| {
                format!(
                    "{} is in use by a daemon that cannot be asked at {server}; name another with --server",
                    path.display()
                )
            })?
        }
        Err(error) => return Err(error.into()),
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

/// The store as a running daemon has it.
async fn ask(server: &str) -> anyhow::Result<Rows> {
    let mut client = NodeServiceClient::connect(server.to_owned()).await?;
    let mut parts = client.backup_store(v1::BackupStoreRequest {}).await?.into_inner();
    let mut rows = Rows::new();
    while let Some(part) = parts.message().await? {
        rows.extend(part.rows.into_iter().map(|row| (row.key, row.value)));
    }
    Ok(rows)
}

/// Where the daemon of this configuration is reached from its own host.
fn address(config: &Config) -> String {
    let mut address = config.grpc.listen;
    if address.ip().is_unspecified() {
        let loopback =
            if address.is_ipv4() { [127, 0, 0, 1].into() } else { std::net::Ipv6Addr::LOCALHOST.into() };
        address.set_ip(loopback);
    }
    format!("http://{address}")
}

/// Whether both are one file, or would be.
fn same(a: &Path, b: &Path) -> bool {
    let whole = |path: &Path| std::fs::canonicalize(path).ok();
    a == b || whole(a).is_some_and(|a| Some(a) == whole(b))
}
