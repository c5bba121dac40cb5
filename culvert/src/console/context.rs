//! Contexts: which node is talked to and with what, kept in `~/.config/culvert/config.yaml`, as kubectl has them.

use std::collections::BTreeMap;
use std::fs;
use std::io::Write as _;
use std::os::unix::fs::{DirBuilderExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};

use serde::{Deserialize, Serialize};

use crate::console::failure::Failure;

/// Names the file, before the default.
const VARIABLE: &str = "CULVERT_CONFIG";

/// The file.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub(crate) struct Contexts {
    /// The one that is used if no other is named.
    #[serde(rename = "currentContext", skip_serializing_if = "Option::is_none")]
    pub(crate) current: Option<String>,
    pub(crate) contexts: BTreeMap<String, Context>,
}

/// A node, and with what it is talked to.
#[derive(Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default, rename_all = "camelCase")]
pub(crate) struct Context {
    pub(crate) server: String,
    /// CAs of the node's certificate, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) ca: Option<PathBuf>,
    /// Name that the node's certificate has, if not that of `server`.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) server_name: Option<String>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token: Option<String>,
    /// A file with the token instead.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) token_file: Option<PathBuf>,
    /// The own certificate, in PEM.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) cert: Option<PathBuf>,
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) key: Option<PathBuf>,
}

impl std::fmt::Debug for Context {
    /// Without the token.
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Context").field("server", &self.server).finish_non_exhaustive()
    }
}

impl Contexts {
    /// Where the file is.
    pub(crate) fn path() -> Result<PathBuf, Failure> {
        let set = |name: &str| std::env::var_os(name).filter(|value| !value.is_empty()).map(PathBuf::from);
        set(VARIABLE)
            .or_else(|| set("XDG_CONFIG_HOME").map(|home| home.join("culvert/config.yaml")))
            .or_else(|| set("HOME").map(|home| home.join(".config/culvert/config.yaml")))
            .ok_or_else(|| {
                Failure::failed(format!("there is neither HOME nor {VARIABLE} to find contexts by"))
            })
    }

    /// What the file says; nothing if there is none.
    pub(crate) fn load() -> Result<Self, Failure> {
        match Self::path() {
            Ok(path) => Self::load_from(&path),
            Err(_) => Ok(Self::default()),
        }
    }

    pub(crate) fn load_from(path: &Path) -> Result<Self, Failure> {
        let text = match fs::read_to_string(path) {
            Ok(text) => text,
            Err(error) if error.kind() == std::io::ErrorKind::NotFound => return Ok(Self::default()),
            Err(error) => return Err(Failure::failed(format!("{}: {error}", path.display()))),
        };
        let contexts: Self = serde_yaml_ng::from_str(&text)
            .map_err(|error| Failure::invalid(format!("{}: {error}", path.display())))?;
        let others = fs::metadata(path).is_ok_and(|metadata| metadata.permissions().mode() & 0o077 != 0);
        if others && contexts.contexts.values().any(|context| context.token.is_some()) {
            return Err(Failure::invalid(format!(
                "{} has tokens in it, and others may read it",
                path.display()
            ))
            .hint(format!("chmod 600 {}", path.display())));
        }
        Ok(contexts)
    }

    /// Replaces the file.
    pub(crate) fn save(&self) -> Result<(), Failure> {
        self.save_to(&Self::path()?)
    }

    pub(crate) fn save_to(&self, path: &Path) -> Result<(), Failure> {
        let fail = |error: std::io::Error| Failure::failed(format!("{}: {error}", path.display()));
        let text = serde_yaml_ng::to_string(self).map_err(|error| Failure::failed(error.to_string()))?;
        if let Some(folder) = path.parent().filter(|folder| !folder.as_os_str().is_empty()) {
            fs::DirBuilder::new().recursive(true).mode(0o700).create(folder).map_err(fail)?;
        }
        // Beside it first: whoever is interrupted keeps what there was.
        let new = path.with_extension("yaml.new");
        let _ = fs::remove_file(&new);
        let file = fs::OpenOptions::new().write(true).create_new(true).mode(0o600).open(&new);
        file.and_then(|mut file| file.write_all(text.as_bytes())).map_err(fail)?;
        fs::rename(&new, path).map_err(fail)
    }

    /// The context of this name, or the current one.
    pub(crate) fn pick(&self, name: Option<&str>) -> Result<Option<&Context>, Failure> {
        let Some(name) = name.or(self.current.as_deref()) else { return Ok(None) };
        match self.contexts.get(name) {
            Some(context) => Ok(Some(context)),
            None => {
                let known: Vec<&str> = self.contexts.keys().map(String::as_str).collect();
                let known = if known.is_empty() { "none".to_owned() } else { known.join(", ") };
                Err(Failure::invalid(format!("there is no context {name:?}")).hint(format!(
                    "there are: {known}; `culvert login` makes one, `culvert context use` chooses one"
                )))
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn contexts_are_kept_for_their_owner_alone() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("culvert/config.yaml");
        assert_eq!(Contexts::load_from(&path).unwrap(), Contexts::default());
        let context = Context {
            server: "https://vpn.example.net:50051".into(),
            token: Some("cvt_hidden".into()),
            server_name: Some("culvert".into()),
            ..Context::default()
        };
        assert!(!format!("{context:?}").contains("hidden"));
        let contexts = [("prod".to_owned(), context.clone())].into();
        let contexts = Contexts { current: Some("prod".into()), contexts };
        contexts.save_to(&path).unwrap();
        contexts.save_to(&path).unwrap();
        assert_eq!(fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Contexts::load_from(&path).unwrap();
        assert_eq!(
            (read.pick(None).unwrap(), read.pick(Some("prod")).unwrap()),
            (Some(&context), Some(&context))
        );
        let failure = read.pick(Some("test")).unwrap_err();
        assert!(failure.hints[0].contains("there are: prod"), "{failure:?}");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o644)).unwrap();
        assert!(Contexts::load_from(&path).unwrap_err().message.contains("others may read it"));
        fs::write(&path, "contexts: {a: {sever: x}}\n").unwrap();
        assert!(Contexts::load_from(&path).unwrap_err().message.contains("sever"));
    }
}
