//! `culvertd --check` and `culvertd check-store`.

use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use anyhow::bail;
use tenants::store::{self, Report, STORE_FILE, StoreError, Vault};

use crate::access::Access;
use crate::config::{self, Config};
use crate::daemon::bootstrap;
use crate::telemetry::otlp::check_files;

/// The bits of a directory's mode by which its group or all others enter it.
const ENTERED: u32 = 0o011;

/// What a configuration comes to, for people, once the files that it names were looked into.
///
/// # Errors
/// If one of them cannot be used, with everything that is wrong with them.
pub fn settings(config: &Config, file: Option<&Path>) -> anyhow::Result<String> {
    let faults = files(config);
    if !faults.is_empty() {
        bail!("{}", faults.join("\nculvertd: "));
    }
    let file = file.map_or("no file, the defaults".to_owned(), |file| file.display().to_string());
    let settings = config.settings();
    let width = settings.iter().map(|(field, _)| field.len()).max().unwrap_or_default();
    let lines: Vec<_> =
        settings.iter().map(|(field, value)| format!("\n  {field:width$}  {value}")).collect();
    let warnings: Vec<_> = warnings(config).iter().map(|warning| format!("\nwarning: {warning}")).collect();
    Ok(format!("ok: {file}{}{}", lines.concat(), warnings.concat()))
}

/// What is wrong with the files that the configuration names. Nothing is changed, and nothing made.
fn files(config: &Config) -> Vec<String> {
    let mut faults = Access::check_files(&config.grpc);
    let key = config.vault.key_path(&config.state_dir.0);
    let (field, vault) = match &config.vault.key_file {
        Some(file) => ("vault.key_file", Vault::open_provided(file).map(Some)),
        None => ("state_dir", Vault::open(&key)),
    };
    let is_open = vault.is_ok();
    faults.extend(vault.err().map(|error| format!("{field}: {error}")));
    if config.cluster.is_shared() && is_open {
        faults.extend(config.cluster.credentials(&key).err().map(|error| error.to_string()));
    }
    if let Some(file) = &config.bootstrap.file {
        faults.extend(bootstrap::read(file).err().map(|error| error.to_string()));
    }
    faults.extend(check_files(&config.otlp).iter().map(ToString::to_string));
    if let Some(directory) = config.debug.key_log_dir.as_ref().filter(|directory| !directory.is_dir()) {
        faults.push(format!("debug.key_log_dir: {}: is no directory", directory.display()));
    }
    faults
}

/// What works and is not as somebody will have meant it, each with its field.
pub fn warnings(config: &Config) -> Vec<String> {
    exposed(config).into_iter().chain(out_of_reach(config)).collect()
}

/// That users of the host may come by a socket that they cannot get to, if nobody but its owner can enter a directory on the way.
fn out_of_reach(config: &Config) -> Option<String> {
    let state_dir = &config.state_dir.0;
    let socket = config.grpc.socket(state_dir)?;
    let some_but = |owner: u32| config.grpc.users.iter().any(|rule| ![0, owner].contains(&rule.uid));
    let is_shut = |directory: &&Path| match std::fs::metadata(directory) {
        Ok(there) => there.permissions().mode() & ENTERED == 0 && some_but(there.uid()),
        // It is made for its owner alone.
        Err(_) => directory == state_dir && some_but(rustix::process::geteuid().as_raw()),
    };
    let shut = socket.ancestors().skip(1).find(is_shut)?;
    Some(format!(
        "grpc.users: nobody but root and its owner can enter {}, on the way to the socket {}; name another by grpc.socket, \
         in a directory that these users can enter",
        shut.display(),
        socket.display()
    ))
}

/// What to say of files with secrets that others can read or change, each with its field.
fn exposed(config: &Config) -> Vec<String> {
    let key = config.grpc.tls.iter().map(|tls| ("grpc.tls.key", &tls.key));
    let tokens = config.grpc.tokens.iter().map(|rule| ("grpc.tokens", &rule.file));
    let headers = config.otlp.headers_file.iter().map(|file| ("otlp.headers_file", file));
    let collector = config.otlp.key.iter().map(|file| ("otlp.key", file));
    let etcd = config.cluster.key.iter().map(|file| ("cluster.key", file));
    let nodes = config.cluster.mesh_key.iter().map(|file| ("cluster.mesh_key", file));
    let all = key.chain(tokens).chain(headers).chain(collector).chain(etcd).chain(nodes);
    all.filter_map(|(field, file)| Some(format!("{field}: {}", config::exposed(file)?))).collect()
}

/// Checks the store of the state directory, or another one, such as a backup. What is in it, for people.
///
/// # Errors
/// If it is not whole, with everything that is wrong with it.
pub fn store(config: &Config, file: Option<&Path>) -> anyhow::Result<String> {
    let directory = &config.state_dir.0;
    if file.is_none() && config.cluster.is_shared() {
        bail!(
            "the catalog is in etcd (cluster.etcd); `culvertd backup FILE` makes a copy of it, and `culvertd check-store FILE` checks that"
        );
    }
    let path = file.map_or_else(|| directory.join(STORE_FILE), Path::to_owned);
    let key = config.vault.key_path(directory);
    let vault = match &config.vault.key_file {
        Some(file) => Some(Vault::open_provided(file)?),
        None => Vault::open(&key)?,
    };
    let report = store::check(&path, vault.as_ref()).map_err(|error| match error {
        StoreError::InUse(path) => anyhow::anyhow!(
            "{} is in use, by a culvertd that checked it when it started; `culvertd backup FILE` makes a copy of it, and \
             `culvertd check-store FILE` checks that",
            path.display()
        ),
        other => other.into(),
    })?;
    if !report.faults.is_empty() {
        let faults = report.faults.join("\n  ");
        bail!(
            "{} is not whole; restore it from a copy that `culvertd backup` made:\n  {faults}",
            path.display()
        );
    }
    let unopened = match vault {
        None if report.secrets > 0 => format!("\nthe secrets were not opened: there is no {}", key.display()),
        _ => String::new(),
    };
    Ok(format!("ok: {}: {}{unopened}", path.display(), contents(&report)))
}

/// What is in a store, in words.
pub(crate) fn contents(report: &Report) -> String {
    let Report { tenants, peers, secrets, tokens, revision, .. } = report;
    format!("{tenants} tenants, {peers} peers, {secrets} secrets, {tokens} tokens, revision {revision}")
}

#[cfg(test)]
mod tests {
    use std::fs::Permissions;

    use tenants::Role;

    use super::*;
    use crate::config::{StateDir, UserRule};

    #[test]
    fn users_that_cannot_get_to_the_socket_are_told() {
        let directory = tempfile::tempdir().unwrap();
        let open = directory.path().join("run");
        std::fs::create_dir(&open).unwrap();
        for path in [directory.path(), &open] {
            std::fs::set_permissions(path, Permissions::from_mode(0o755)).unwrap();
        }
        let state = directory.path().join("state");
        let mut config = Config { state_dir: StateDir(state.clone()), ..Config::default() };
        assert_eq!(warnings(&config), Vec::<String>::new());
        config.grpc.users = vec![UserRule { uid: 1_000, role: Role::Viewer, tenant: None }];
        // Before the first start, and after it.
        assert!(warnings(&config).concat().contains(state.to_str().unwrap()), "{:?}", warnings(&config));
        tenants::Catalog::open(&state).unwrap();
        let said = warnings(&config).concat();
        assert!(said.starts_with("grpc.users: ") && said.contains("grpc.socket"), "{said}");
        config.grpc.socket = Some(open.join("culvertd.sock"));
        assert_eq!(warnings(&config), Vec::<String>::new());
        std::fs::set_permissions(&open, Permissions::from_mode(0o710)).unwrap();
        assert_eq!(warnings(&config), Vec::<String>::new());
        // There is none.
        config.grpc.socket = Some(std::path::PathBuf::new());
        assert_eq!(warnings(&config), Vec::<String>::new());
    }
}
