//! Secrets at rest: AES-256-GCM under a key in a file of its own.
//!
//! The key file is what must not be backed up together with the store. A sealed value is
//! `version (1) | nonce (12) | tag (16) | ciphertext`; the resource name is authenticated with it, so that a row
//! cannot be passed off as another.

use std::fs::{File, OpenOptions};
use std::io::{ErrorKind, Read as _, Write as _};
use std::os::unix::fs::{MetadataExt as _, OpenOptionsExt as _};
use std::path::Path;

use openssl::rand::rand_bytes;
use openssl::symm::{Cipher, decrypt_aead, encrypt_aead};
use zeroize::Zeroizing;

use crate::store::redb::sync_directory;
use crate::store::{KEY_CHECK, StoreError};

const VERSION: u8 = 1;
const KEY: usize = 32;
const NONCE: usize = 12;
const TAG: usize = 16;

/// Seals and opens secrets. The key is wiped from memory when it is dropped.
pub struct Vault {
    key: Zeroizing<[u8; KEY]>,
}

impl Vault {
    /// With a key that lives as long as the process.
    pub fn ephemeral() -> Result<Self, StoreError> {
        let mut key = Zeroizing::new([0; KEY]);
        rand_bytes(&mut *key).map_err(|error| StoreError::Backend(format!("random numbers: {error}")))?;
        Ok(Self { key })
    }

    /// With the key in the file at `path`, which must be readable by its owner alone, or by the group that a volume of Kubernetes is given
    /// to. `None` if there is no such file.
    pub fn open(path: &Path) -> Result<Option<Self>, StoreError> {
        let denied = if is_of_volume(path) { 0o007 } else { 0o077 };
        Self::read(path, denied, "lets others read the key; chmod 600 it")
    }

    /// With the key in a file that somebody else keeps, such as one of a mounted Kubernetes Secret: its owner is not the
    /// daemon, which reads it as one of its group.
    pub fn open_provided(path: &Path) -> Result<Self, StoreError> {
        let vault =
            Self::read(path, 0o027, "lets more than its owner and its group read the key; chmod 440 it")?;
        vault.ok_or_else(|| StoreError::file(path, format!("is missing; expected a key of {KEY} octets")))
    }

    /// With the key in a file whose mode has none of the bits `denied`.
    fn read(path: &Path, denied: u32, why: &str) -> Result<Option<Self>, StoreError> {
        let fail = |error: std::io::Error| StoreError::file(path, error);
        let mut file = match File::open(path) {
            Ok(file) => file,
            Err(error) if error.kind() == ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(fail(error)),
        };
        let metadata = file.metadata().map_err(fail)?;
        if metadata.mode() & denied != 0 {
            let mode = metadata.mode() & 0o777;
            return Err(StoreError::file(path, format!("mode {mode:o} {why}")));
        }
        if metadata.len() != KEY as u64 {
            return Err(StoreError::file(
                path,
                format!("{} octets, expected a key of {KEY}", metadata.len()),
            ));
        }
        let mut key = Zeroizing::new([0; KEY]);
        file.read_exact(&mut *key).map_err(fail)?;
        Ok(Some(Self { key }))
    }

    /// Writes the key to a new file at `path`, durably.
    pub fn save(&self, path: &Path) -> Result<(), StoreError> {
        // Written beside and renamed: a crash leaves a whole key or none.
        let draft = path.with_extension("new");
        let write = || {
            let _ = std::fs::remove_file(&draft);
            let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
            file.write_all(&*self.key)?;
            file.sync_all()?;
            std::fs::rename(&draft, path)
        };
        write().map_err(|error| StoreError::file(path, error))?;
        sync_directory(path)
    }

    /// Makes a key and writes it to a new file at `path`, durably.
    pub fn create(path: &Path) -> Result<Self, StoreError> {
        let vault = Self::ephemeral()?;
        vault.save(path)?;
        Ok(vault)
    }

    /// A known text, sealed: tells this key from others.
    pub(crate) fn key_check(&self) -> Result<Vec<u8>, StoreError> {
        self.seal(KEY_CHECK, KEY_CHECK.as_bytes())
    }

    /// Whether [`Self::key_check`] of this key made it.
    pub(crate) fn sealed_by(&self, check: &[u8]) -> bool {
        self.open_sealed(KEY_CHECK, check).is_some()
    }

    /// Seals the value of the secret `name`.
    pub fn seal(&self, name: &str, value: &[u8]) -> Result<Vec<u8>, StoreError> {
        let seal = || {
            let (mut nonce, mut tag) = ([0; NONCE], [0; TAG]);
            rand_bytes(&mut nonce)?;
            let cipher = Cipher::aes_256_gcm();
            let sealed = encrypt_aead(cipher, &*self.key, Some(&nonce), name.as_bytes(), value, &mut tag)?;
            Ok([&[VERSION][..], &nonce, &tag, &sealed].concat())
        };
        seal().map_err(|error: openssl::error::ErrorStack| {
            StoreError::Backend(format!("sealing {name}: {error}"))
        })
    }

    /// Opens what [`Self::seal`] made for the same name. `None` if it is anything else.
    pub fn open_sealed(&self, name: &str, sealed: &[u8]) -> Option<Zeroizing<Vec<u8>>> {
        let (version, rest) = sealed.split_first()?;
        let (nonce, rest) = rest.split_at_checked(NONCE)?;
        let (tag, text) = rest.split_at_checked(TAG)?;
        if *version != VERSION {
            return None;
        }
        let cipher = Cipher::aes_256_gcm();
        let value = decrypt_aead(cipher, &*self.key, Some(nonce), name.as_bytes(), text, tag).ok()?;
        Some(Zeroizing::new(value))
    }
}

/// Whether a file lies in a volume that was given to the group of its pod (`fsGroup`), which makes all in it readable for that group, and new
/// files its own.
fn is_of_volume(path: &Path) -> bool {
    const SET_GID: u32 = 0o2000;
    let directory = path.parent().and_then(|directory| directory.metadata().ok());
    let both = directory.zip(path.metadata().ok());
    both.is_some_and(|(directory, file)| directory.mode() & SET_GID != 0 && directory.gid() == file.gid())
}

impl std::fmt::Debug for Vault {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Vault")
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::PermissionsExt as _;

    #[test]
    fn a_sealed_value_opens_under_its_own_name_only() {
        let vault = Vault::ephemeral().unwrap();
        let sealed = vault.seal("tenants/a/secrets/s", b"hunter2").unwrap();
        assert!(!sealed.windows(7).any(|w| w == b"hunter2"));
        assert_eq!(vault.open_sealed("tenants/a/secrets/s", &sealed).unwrap().as_slice(), b"hunter2");
        assert!(vault.open_sealed("tenants/b/secrets/s", &sealed).is_none());
        assert!(Vault::ephemeral().unwrap().open_sealed("tenants/a/secrets/s", &sealed).is_none());
        for at in 0..sealed.len() {
            let mut flipped = sealed.clone();
            flipped[at] ^= 1;
            assert!(vault.open_sealed("tenants/a/secrets/s", &flipped).is_none(), "octet {at}");
            assert!(vault.open_sealed("tenants/a/secrets/s", &sealed[..at]).is_none(), "cut to {at}");
        }
    }

    #[test]
    fn the_key_file_is_private_and_whole() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("secrets.key");
        assert!(Vault::open(&path).unwrap().is_none());
        let sealed = Vault::create(&path).unwrap().seal("n", b"v").unwrap();
        let again = Vault::open(&path).unwrap().unwrap();
        assert_eq!(again.open_sealed("n", &sealed).unwrap().as_slice(), b"v");

        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o640)).unwrap();
        assert!(Vault::open(&path).unwrap_err().to_string().contains("chmod 600"));
        // A volume that was given to the group of its pod.
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o2770)).unwrap();
        for (mode, good) in [(0o660, true), (0o664, false), (0o662, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Vault::open(&path).is_ok(), good, "{mode:o}");
        }
        std::fs::set_permissions(directory.path(), std::fs::Permissions::from_mode(0o700)).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        // Of somebody else the group may read it, and never write.
        assert!(
            Vault::open_provided(&path.with_extension("no")).unwrap_err().to_string().contains("is missing")
        );
        for (mode, good) in [(0o400, true), (0o440, true), (0o600, true), (0o460, false), (0o444, false)] {
            std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
            assert_eq!(Vault::open_provided(&path).is_ok(), good, "{mode:o}");
        }
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o600)).unwrap();
        std::fs::write(&path, b"short").unwrap();
        assert!(Vault::open(&path).unwrap_err().to_string().contains("expected a key of 32"));
    }
}
