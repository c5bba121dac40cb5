//! Certificates and authorities of secrets, read once for all peers that have them.

use std::collections::HashMap;
use std::net::IpAddr;
use std::sync::{Arc, Mutex, PoisonError, Weak};

use certificates::{Credentials, Ours, PemFault, Trust};
use ike::config::Opening;
use ike::credentials::KeyHash;

use crate::catalog::Catalog;
use crate::catalog::state::State;
use crate::name::SecretName;
use crate::peer::{Auth, PeerSpec};
use crate::secret::Secret;
use crate::store::Vault;
use crate::violation::Violations;

/// Authorities that an IKE_SA_INIT is answered with: 20 octets each, of what has to be sent in one packet.
const MAX_NAMED: usize = 8;

/// What was read of secrets, as long as somebody has it.
#[derive(Default)]
pub(super) struct Shelf {
    own: Shelved<Ours>,
    authorities: Shelved<Trust>,
}

/// One thing for each secret.
struct Shelved<T>(Mutex<Rows<T>>);

struct Rows<T> {
    /// With the sealed value that it was read of, which is another one each time that a value is written.
    by_name: HashMap<SecretName, (Vec<u8>, Weak<T>)>,
    /// When those that nobody has are thrown away next, so that each is looked at a few times at most.
    full: usize,
}

/// The least that are kept before any are thrown away.
const LEAST: usize = 64;

impl<T> Default for Shelved<T> {
    fn default() -> Self {
        Self(Mutex::new(Rows { by_name: HashMap::new(), full: LEAST }))
    }
}

impl<T> Shelved<T> {
    fn get(
        &self,
        vault: &Vault,
        secret: &Secret,
        read: impl FnOnce(&[u8]) -> Result<T, PemFault>,
    ) -> Result<Arc<T>, String> {
        let mut rows = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = rows.by_name.get(&secret.name).filter(|(sealed, _)| *sealed == secret.sealed);
        if let Some(known) = known.and_then(|(_, value)| value.upgrade()) {
            return Ok(known);
        }
        let text = vault.open_sealed(&secret.name.to_string(), &secret.sealed);
        let text = text.ok_or_else(|| "it cannot be read".to_owned())?;
        let value = Arc::new(read(&text).map_err(|fault| fault.to_string())?);
        if rows.by_name.len() >= rows.full {
            rows.by_name.retain(|_, (_, value)| value.strong_count() > 0);
            rows.full = LEAST.max(2 * rows.by_name.len());
        }
        rows.by_name.insert(secret.name.clone(), (secret.sealed.clone(), Arc::downgrade(&value)));
        Ok(value)
    }
}

impl Shelf {
    fn own(&self, vault: &Vault, secret: &Secret) -> Result<Arc<Ours>, String> {
        self.own.get(vault, secret, Ours::from_pem)
    }

    fn authorities(&self, vault: &Vault, secret: &Secret) -> Result<Arc<Trust>, String> {
        self.authorities.get(vault, secret, Trust::from_pem)
    }

    /// What a peer's certificates are, noting what is wrong with them.
    pub(super) fn check(
        &self,
        vault: &Vault,
        state: &State,
        spec: &PeerSpec,
        faults: &mut Violations,
    ) -> Option<Credentials> {
        let Auth::Certificates { own, authorities } = &spec.auth else { return None };
        let mut note = |field: &str, name: &SecretName, fault: String| {
            faults.add(format!("peer.auth.certificates.{field}"), format!("{name}: {fault}"));
        };
        let mut found = (None, None);
        // One that is not there is told already.
        if let Some(secret) = state.secrets.get(own) {
            match self.own(vault, secret) {
                Ok(ours) if !ours.is_for(&spec.local_identity) => {
                    let fault = format!(
                        "its certificate is for [{}], not for the local identity {}",
                        ours.names_like(&spec.local_identity),
                        spec.local_identity
                    );
                    note("own", own, fault);
                }
                Ok(ours) => found.0 = Some(ours),
                Err(fault) => note("own", own, fault),
            }
        }
        if let Some(secret) = state.secrets.get(authorities) {
            match self.authorities(vault, secret) {
                Ok(trust) => found.1 = Some(trust),
                Err(fault) => note("authorities", authorities, fault),
            }
        }
        let (ours, trust) = found.0.zip(found.1)?;
        Some(Credentials::new(ours, trust))
    }
}

impl Catalog {
    /// What a peer proves itself with that has certificates: `own` and `authorities` of its [`Auth`]. Nothing where one of them is missing or
    /// cannot be read.
    pub fn credentials(&self, own: &SecretName, authorities: &SecretName) -> Option<Credentials> {
        let (own, authorities) = (self.get_secret(own)?, self.get_secret(authorities)?);
        let ours = self.shelf.own(&self.vault, &own).ok()?;
        let trust = self.shelf.authorities(&self.vault, &authorities).ok()?;
        Some(Credentials::new(ours, trust))
    }

    /// The authorities of those who may come from `address` with a certificate, a few of them; none where nobody may.
    pub fn authorities_from(&self, address: IpAddr) -> Vec<KeyHash> {
        let mut secrets: Vec<Arc<Secret>> = Vec::new();
        {
            let state = self.read();
            let origins = state.index.origins.of(Opening::Init);
            for authorities in origins.authorities(address.to_canonical(), &state.index.names) {
                let is_new = secrets.iter().all(|secret| secret.name != *authorities);
                secrets.extend(state.secrets.get(authorities).filter(|_| is_new).cloned());
                if secrets.len() == MAX_NAMED {
                    break;
                }
            }
        }
        let mut named: Vec<KeyHash> = Vec::new();
        let trust = secrets.iter().filter_map(|secret| self.shelf.authorities(&self.vault, secret).ok());
        for hash in trust.flat_map(|trust| trust.hashes().to_vec()) {
            if !named.contains(&hash) {
                named.push(hash);
            }
        }
        named.truncate(MAX_NAMED);
        named
    }
}
