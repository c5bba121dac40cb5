//! `culvertd --check` and `culvertd check-store`.

use std::path::Path;

use anyhow::bail;
use tenants::store::{self, Report, STORE_FILE, StoreError, Vault};

use crate::config::Config;

/// What a configuration comes to, for people.
pub fn settings(config: &Config, file: Option<&Path>) -> String {
    let file = file.map_or("no file, the defaults".to_owned(), |file| file.display().to_string());
    let settings = config.settings();
    let width = settings.iter().map(|(field, _)| field.len()).max().unwrap_or_default();
    let lines: Vec<_> =
        settings.iter().map(|(field, value)| format!("\n  {field:width$}  {value}")).collect();
    format!("ok: {file}{}", lines.concat())
}

/// Checks the store of the state directory, or another one, such as a backup. What is in it, for people.
///
/// # Errors
/// If it is not whole, with everything that is wrong with it.
pub fn store(config: &Config, file: Option<&Path>) -> anyhow::Result<String> {
    let directory = &config.state_dir.0;
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
