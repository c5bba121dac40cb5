//! Tokens whose values are in files, and files that are read again when they change.

use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::os::unix::fs::MetadataExt as _;
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

/// By what it is seen that a file has changed; a link that leads to another file, as Kubernetes makes them, changes it too, and so does who
/// may read it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Stamp(Option<(SystemTime, u64, u64, (i64, i64))>);

impl Stamp {
    fn of(path: &Path) -> Self {
        let stamp = |metadata: std::fs::Metadata| {
            let changed = (metadata.ctime(), metadata.ctime_nsec());
            Some((metadata.modified().ok()?, metadata.len(), metadata.ino(), changed))
        };
        Self(std::fs::metadata(path).ok().and_then(stamp))
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

    /// Whether they are to be read again, if the last time went well or not: as one of them is not as it was when this was asked last, or as
    /// they could not be used and may be by now, for what was in the way may be gone without a trace on them.
    pub(crate) fn look(&self, went_well: bool) -> Look {
        match (self.has_changed(), went_well) {
            (true, _) => Look::Changed,
            (false, true) => Look::Same,
            (false, false) => Look::Again,
        }
    }

    fn has_changed(&self) -> bool {
        let now: Vec<Stamp> = self.paths.iter().map(|path| Stamp::of(path)).collect();
        let mut seen = self.seen.lock().unwrap_or_else(PoisonError::into_inner);
        let changed = *seen != now;
        *seen = now;
        changed
    }
}

/// What to do about files.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Look {
    /// Nothing.
    Same,
    /// Read them; what is wrong with them is news.
    Changed,
    /// Read them; what is wrong with them has been told.
    Again,
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
        let mut known = HashMap::new();
        for rule in rules {
            take(&mut known, rule, value(rule)?)?;
        }
        let known = RwLock::new(known);
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

    /// Reads what has changed. The token of a file that is gone, or has nothing in it, is revoked: whoever removes it means that. Of a
    /// file that cannot be used otherwise the value of before stays. False if there is one of either, and that is news; the other files are
    /// taken all the same.
    pub(crate) fn refresh(&self) -> bool {
        let look = self.watched.as_ref().map_or(Look::Same, |watched| watched.look(self.are_usable()));
        if look == Look::Same {
            return true;
        }
        let news = look == Look::Changed;
        let mut old: HashMap<String, TokenHash> = HashMap::new();
        for (hash, holder) in &*self.known.read().unwrap_or_else(PoisonError::into_inner) {
            old.insert(holder.name.clone(), *hash);
        }
        let (mut known, mut usable) = (HashMap::new(), true);
        for rule in &self.rules {
            let (name, file) = (&rule.name, rule.file.display());
            let mut read = value(rule);
            if let Ok(hash) = &read {
                read = take(&mut known, rule, *hash).map(|()| *hash);
            }
            match read {
                Ok(_) => {}
                Err(DoorError::NoToken { .. }) => {
                    usable = false;
                    if news {
                        tracing::error!(%name, %file, "the token is revoked: its file is gone, or empty");
                    }
                }
                Err(error) => {
                    usable = false;
                    if news {
                        tracing::error!(%error, "the token's value of before stays");
                    }
                    if let Some(hash) = old.get(name) {
                        // Another file may have taken the value over.
                        known.entry(*hash).or_insert_with(|| Holder::of(rule));
                    }
                }
            }
        }
        self.broken.store(!usable, Ordering::Relaxed);
        *self.known.write().unwrap_or_else(PoisonError::into_inner) = known;
        if news || usable {
            tracing::info!("the files of tokens were read again");
        }
        usable || !news
    }
}

impl Holder {
    fn of(rule: &TokenRule) -> Self {
        Self { name: rule.name.clone(), role: rule.role, tenant: rule.tenant.clone() }
    }
}

/// The value in a rule's file.
fn value(rule: &TokenRule) -> Result<TokenHash, DoorError> {
    let text = match std::fs::read_to_string(&rule.file) {
        Ok(text) => Zeroizing::new(text),
        Err(error) if error.kind() == std::io::ErrorKind::NotFound => {
            return Err(none(rule, error.to_string()));
        }
        Err(error) => return Err(fault(rule, error.to_string())),
    };
    let value = text.trim();
    if value.is_empty() {
        return Err(none(rule, "is empty".to_owned()));
    }
    if value.len() < MIN_VALUE || !value.chars().all(|c| c.is_ascii_graphic()) {
        let expected =
            format!("expected at least {MIN_VALUE} visible characters, such as of `openssl rand -hex 32`");
        return Err(fault(rule, expected));
    }
    Ok(TokenHash::of(value.as_bytes()))
}

/// Notes whose value it is; no two tokens have the same.
fn take(known: &mut HashMap<TokenHash, Holder>, rule: &TokenRule, hash: TokenHash) -> Result<(), DoorError> {
    match known.entry(hash) {
        Entry::Occupied(other) => {
            Err(fault(rule, format!("has the value of the token {}", other.get().name)))
        }
        Entry::Vacant(place) => {
            place.insert(Holder::of(rule));
            Ok(())
        }
    }
}

fn fault(rule: &TokenRule, reason: String) -> DoorError {
    DoorError::Token { name: rule.name.clone(), path: rule.file.clone(), reason }
}

fn none(rule: &TokenRule, reason: String) -> DoorError {
    DoorError::NoToken { name: rule.name.clone(), path: rule.file.clone(), reason }
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

    /// What was in the way of reading it leaves no trace on the file when it goes.
    #[test]
    fn files_that_could_not_be_used_are_read_again_until_they_can() {
        let directory = tempfile::tempdir().unwrap();
        let file = directory.path().join("ops");
        std::fs::write(&file, "x").unwrap();
        let watched = Watched::new([file.clone()]);
        assert_eq!((watched.look(true), watched.look(false)), (Look::Same, Look::Again));
        std::fs::set_permissions(&file, std::os::unix::fs::PermissionsExt::from_mode(0o640)).unwrap();
        assert_eq!(watched.look(true), Look::Changed, "others may read it now");
        std::fs::write(&file, "y").unwrap();
        assert_eq!((watched.look(false), watched.look(false)), (Look::Changed, Look::Again));
    }

    #[test]
    fn a_file_that_is_gone_or_empty_revokes_its_token_and_no_other() {
        let directory = tempfile::tempdir().unwrap();
        let rule = |name: &str| TokenRule {
            name: name.into(),
            file: directory.path().join(name),
            role: Role::Admin,
            tenant: None,
        };
        let rules = ["one", "two", "three"].map(rule);
        let hash = |value: &str| TokenHash::of(value.as_bytes());
        let values = ["a", "b", "c"].map(|letter| letter.repeat(32));
        for (rule, value) in rules.iter().zip(&values) {
            std::fs::write(&rule.file, value).unwrap();
        }
        let files = TokenFiles::read(&rules).unwrap();
        std::fs::remove_file(&rules[0].file).unwrap();
        std::fs::write(&rules[1].file, "\n").unwrap();
        assert!(!files.refresh() && !files.are_usable());
        assert!(files.holder(hash(&values[0])).is_none() && files.holder(hash(&values[1])).is_none());
        assert!(files.knows("three", hash(&values[2])));
        // One that cannot be used keeps no other from being exchanged, and nobody takes another's value over.
        let other = "d".repeat(33);
        std::fs::write(&rules[0].file, "short").unwrap();
        std::fs::write(&rules[1].file, &values[2]).unwrap();
        std::fs::write(&rules[2].file, &other).unwrap();
        assert!(!files.refresh());
        assert!(files.knows("three", hash(&other)) && files.knows("two", hash(&values[2])));
        std::fs::write(&rules[0].file, &values[0]).unwrap();
        assert!(files.refresh() && files.are_usable() && files.knows("one", hash(&values[0])));
    }
}
