//! Tokens whose values are in files, and files that are read again when they change.

use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError, RwLock};
use std::time::SystemTime;

use tenants::{Role, TenantName, TokenHash};
use zeroize::Zeroizing;

use crate::access::DoorError;
use crate::config::TokenRule;

/// Characters of a value at least: what has fewer can be tried out.
const MIN_VALUE: usize = 32;

/// By what it is seen that a file has changed; a link that leads to another file, as Kubernetes makes them, changes it too.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Option<(SystemTime, u64)>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let metadata = std::fs::metadata(path).ok();
        Self(metadata.and_then(|metadata| Some((metadata.modified().ok()?, metadata.len()))))
    }
}

/// Files, and how they were when they were read.
#[derive(Debug)]
pub(crate) struct Watched {
    paths: Vec<PathBuf>,
    seen: Mutex<Vec<Stamp>>,
}

impl Watched {
    /// As they are now.
    pub(crate) fn new(paths: impl IntoIterator<Item = PathBuf>) -> Self {
        let paths: Vec<PathBuf> = paths.into_iter().collect();
        let seen = Mutex::new(paths.iter().map(|path| Stamp::of(path)).collect());
        Self { paths, seen }
    }

    /// Whether one of them is not as it was when this was asked last.
    pub(crate) fn has_changed(&self) -> bool {
        let now: Vec<Stamp> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *seen != now;
        *seen = now;
        changed
    }
}

/// Whom a file's token is for.
#[derive(Clone, Debug)]
pub(crate) struct Holder {
    pub(crate) name: String,
    pub(crate) role: Role,
    pub(crate) tenant: Option<TenantName>,
}

/// Tokens whose values are in files.
#[derive(Debug, Default)]
pub(crate) struct TokenFiles {
    rules: Vec<TokenRule>,
    watched: Option<Watched>,
    known: RwLock<HashMap<TokenHash, Holder>>,
    /// A file as it is now cannot be used.
    broken: AtomicBool,
}

impl TokenFiles {
    pub(crate) fn read(rules: &[TokenRule]) -> Result<Self, DoorError> {
        let watched = Watched::new(rules.iter().map(|rule| rule.file.clone()));
        let known = RwLock::new(values(rules)?);
        Ok(Self { rules: rules.to_vec(), watched: Some(watched), known, broken: AtomicBool::new(false) })
    }

    /// Whom a value is for.
    pub(crate) fn holder(&self, hash: TokenHash) -> Option<Holder> {
        self.known.read().unwrap_or_else(PoisonError::into_inner).get(&hash).cloned()
    }

    /// Whether the value is still that of the token of this name.
    pub(crate) fn knows(&self, name: &str, hash: TokenHash) -> bool {
        self.holder(hash).is_some_and(|holder| holder.name == name)
    }

    /// Whether the files as they were found last could be used.
    pub(crate) fn are_usable(&self) -> bool {
        !self.broken.load(Ordering::Relaxed)
    }

    /// Reads what has changed. Files that cannot be used change nothing. False in that case.
    pub(crate) fn refresh(&self) -> bool {
        if !self.watched.as_ref().is_some_and(Watched::has_changed) {
            return true;
        }
        let values = values(&self.rules);
        self.broken.store(values.is_err(), Ordering::Relaxed);
        match values {
            Ok(values) => {
                *self.known.write().unwrap_or_else(PoisonError::into_inner) = values;
                tracing::info!("the files of tokens were read again");
                true
            }
            Err(error) => {
                tracing::error!(%error, "the tokens of before stay");
                false
            }
        }
    }
}

fn values(rules: &[TokenRule]) -> Result<HashMap<TokenHash, Holder>, DoorError> {
    let mut known = HashMap::new();
    for rule in rules {
        let fault =
            |reason: String| DoorError::Token { name: rule.name.clone(), path: rule.file.clone(), reason };
        let text =
            Zeroizing::new(std::fs::read_to_string(&rule.file).map_err(|error| fault(error.to_string()))?);
        let value = text.trim();
        if value.len() < MIN_VALUE || !value.chars().all(|c| c.is_ascii_graphic()) {
            let expected = format!(
                "expected at least {MIN_VALUE} visible characters, such as of `openssl rand -hex 32`"
            );
            return Err(fault(expected));
        }
        let holder = Holder { name: rule.name.clone(), role: rule.role, tenant: rule.tenant.clone() };
        if let Some(other) = known.insert(TokenHash::of(value.as_bytes()), holder) {
            return Err(fault(format!("has the value of the token {}", other.name)));
        }
    }
    Ok(known)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_read_again_and_one_that_is_none_changes_nothing() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ops");
        let rule = TokenRule { name: "ops".into(), file: file.clone(), role: Role::Admin, tenant: None };
        let hash = |value: &str| TokenHash::of(value.as_bytes());
        let (first, second) = ("a".repeat(32), "b".repeat(40));
        let missing = TokenFiles::read(std::slice::from_ref(&rule)).unwrap_err().to_string();
        assert!(missing.starts_with("grpc.tokens: ops"), "{missing}");
        std::fs::write(&file, format!("{first}\n")).unwrap();
        let files = TokenFiles::read(&[rule]).unwrap();
        assert!(files.knows("ops", hash(&first)) && files.holder(hash("")).is_none());
        std::fs::write(&file, "short").unwrap();
        assert!(files.are_usable() && !files.refresh());
        assert!(files.knows("ops", hash(&first)));
        assert!(files.refresh() && !files.are_usable(), "nothing has changed, and it is as broken as before");
        std::fs::write(&file, &second).unwrap();
        assert!(files.refresh() && files.are_usable());
        assert!(files.knows("ops", hash(&second)) && !files.knows("ops", hash(&first)));
    }
}
