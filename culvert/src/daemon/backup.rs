//! `culvertd backup`: a copy of the store, taken while the daemon runs or when it does not.

use std::fs::File;
use std::io::{ErrorKind, Read as _};
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};
use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context as _, bail};
use culvert_proto::v1;
use tenants::store::{self, STORE_FILE, StoreError};
use zeroize::Zeroizing;

use crate::config::Config;
use crate::console::target::{Server, Target, read_token};
use crate::console::{Client, Failure};
use crate::daemon::check::contents;

/// How long a daemon may take to hand over its store.
const TIMEOUT: Duration = Duration::from_secs(600);

/// What a store begins with, as the library of it says.
const MAGIC: &[u8] = b"redb";

type Rows = Vec<(String, Vec<u8>)>;

/// How a daemon that has the store open is asked for it; by default where the configuration says that it listens.
#[derive(Debug, Default, clap::Args)]
pub struct Asked {
    /// Where the daemon serves its API, if not where the configuration says
    #[arg(long, value_name = "URL")]
    server: Option<String>,
    /// File with the token to show there [default: `CULVERT_TOKEN`, but not by the Unix socket, which knows its users]
    #[arg(long, value_name = "FILE")]
    token_file: Option<PathBuf>,
    /// File with the CAs of its certificate [default: those of the system]
    #[arg(long, value_name = "FILE")]
    ca: Option<PathBuf>,
}

/// Writes a copy of the store to `file` and checks it. A daemon that has the store open is asked for it. What was done, for people.
pub async fn run(config: &Config, file: &Path, asked: &Asked) -> anyhow::Result<String> {
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
            let server = match &asked.server {
                Some(server) => Server::parse(server).map_err(|failure| told(&failure))?,
                None => address(config)?,
            };
            let environment = |name: &str| std::env::var(name).ok().filter(|value| !value.is_empty());
            ask(&target(server.clone(), asked, environment)?).await.with_context(|| {
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
async fn ask(target: &Target) -> anyhow::Result<Rows> {
    let client = Client::to(target, TIMEOUT).await.map_err(|failure| told(&failure))?;
    let answer = client.nodes().backup_store(v1::BackupStoreRequest {}).await;
    let mut parts = answer.map_err(|status| anyhow::anyhow!("{}", status.message()))?.into_inner();
    let mut rows = Rows::new();
    while let Some(part) = parts.message().await? {
        rows.extend(part.rows.into_iter().map(|row| (row.key, row.value)));
    }
    Ok(rows)
}

/// The daemon, with the token that it is to be shown: the one that is given, or that of the environment, which is for no socket and, where
/// `CULVERT_SERVER` says whose it is, for nobody else.
fn target(
    server: Server,
    asked: &Asked,
    environment: impl Fn(&str) -> Option<String>,
) -> anyhow::Result<Target> {
    let is_for = |server: &Server| {
        let owner = environment("CULVERT_SERVER").map(|owner| Server::parse(&owner));
        !matches!(server, Server::Unix(_))
            && owner.is_none_or(|owner| owner.is_ok_and(|owner| owner == *server))
    };
    let token = match &asked.token_file {
        Some(file) => Some(read_token(file).map_err(|failure| told(&failure))?),
        None => environment("CULVERT_TOKEN").filter(|_| is_for(&server)).map(Zeroizing::new),
    };
    let mut target = Target::of(server);
    target.ca.clone_from(&asked.ca);
    target.with_token(token).map_err(|failure| told(&failure))
}

fn told(failure: &Failure) -> anyhow::Error {
    anyhow::anyhow!("{}", failure.message)
}

/// Where the daemon of this configuration is reached from its own host: by the Unix socket, if it has one.
fn address(config: &Config) -> anyhow::Result<Server> {
    match (config.grpc.socket(&config.state_dir.0), config.grpc.listen) {
        (Some(path), _) => Ok(Server::Unix(path)),
        (None, Some(mut address)) if config.grpc.tls.is_none() => {
            // Who listens everywhere is here as well.
            match address.ip() {
                IpAddr::V4(ip) if ip.is_unspecified() => address.set_ip(Ipv4Addr::LOCALHOST.into()),
                IpAddr::V6(ip) if ip.is_unspecified() => address.set_ip(Ipv6Addr::LOCALHOST.into()),
                _ => {}
            }
            Ok(Server::Plain(format!("http://{address}")))
        }
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
            run(&config, &file, &Asked::default()).await.unwrap();
        }
        assert_eq!(store::check(&file, None).unwrap().tenants, 2);
        let error = run(&config, &state.join(STORE_FILE), &Asked::default()).await.unwrap_err().to_string();
        assert!(error.contains("is the store itself"), "{error}");
        let link = directory.path().join("link");
        std::os::unix::fs::symlink(&file, &link).unwrap();
        for other in [state.join("secrets.key"), state.clone(), link] {
            let before = std::fs::read(&other).ok();
            let error = run(&config, &other, &Asked::default()).await.unwrap_err().to_string();
            assert!(error.contains("is no copy of a store"), "{error}");
            assert_eq!(std::fs::read(&other).ok(), before);
        }
    }

    #[test]
    fn the_token_of_the_environment_is_for_its_own_node() {
        let shown = |server: &str, token: &str, owner: &str| {
            let environment = |name: &str| {
                let value = if name == "CULVERT_TOKEN" { token } else { owner };
                Some(value.to_owned()).filter(|value| !value.is_empty())
            };
            target(Server::parse(server).unwrap(), &Asked::default(), environment)
                .map(|target| target.token().map(str::to_owned))
        };
        let (socket, tls, plain) = ("unix:/run/a.sock", "https://a:1", "http://192.0.2.1:1");
        assert_eq!(shown(socket, "t", "").unwrap(), None);
        assert_eq!(shown(tls, "t", "").unwrap().as_deref(), Some("t"));
        assert_eq!(shown(tls, "", "").unwrap(), None);
        assert_eq!(shown(tls, "t", tls).unwrap().as_deref(), Some("t"));
        assert_eq!(shown(tls, "t", "https://b:1").unwrap(), None);
        assert!(shown(plain, "t", "").unwrap_err().to_string().contains("in the clear"));
        assert_eq!(shown(plain, "t", tls).unwrap(), None);
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("token");
        std::fs::write(&file, "own\n").unwrap();
        let asked = Asked { token_file: Some(file), ca: Some("ca.pem".into()), ..Asked::default() };
        let target = target(Server::parse(socket).unwrap(), &asked, |_| Some("t".to_owned())).unwrap();
        assert_eq!((target.token(), target.ca.as_deref()), (Some("own"), Some(Path::new("ca.pem"))));
    }
}
