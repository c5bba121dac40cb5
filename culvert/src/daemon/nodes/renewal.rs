//! The certificate for the other nodes, read again when its files change: whoever makes certificates makes them for weeks, and nodes run for
//! longer.

use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Mutex, PoisonError};
use std::time::{Duration, SystemTime};

use cluster::mesh::{Credentials, Mesh};

use crate::access::{Look, Watched};
use crate::config::ClusterConfig;

/// Between looks: what makes new certificates does it days before the old ones end.
const LOOK: Duration = Duration::from_secs(10);

/// What is known of the files. There is one only where the certificate comes of files.
pub(super) struct Renewal {
    config: ClusterConfig,
    key_file: PathBuf,
    watched: Watched,
    usable: AtomicBool,
    expires: Mutex<Option<SystemTime>>,
}

impl Renewal {
    /// Of what `credentials` were read from.
    pub(super) fn of(config: &ClusterConfig, key_file: PathBuf, credentials: &Credentials) -> Option<Self> {
        let files = [&config.mesh_ca, &config.mesh_cert, &config.mesh_key].map(Option::as_ref);
        let files: Vec<PathBuf> = files.into_iter().flatten().cloned().collect();
        let of_files = !files.is_empty();
        of_files.then(|| Self {
            config: config.clone(),
            key_file,
            watched: Watched::new(files),
            usable: AtomicBool::new(true),
            expires: Mutex::new(credentials.expires()),
        })
    }

    /// Whether the files as they were found last can be used.
    pub(super) fn is_usable(&self) -> bool {
        self.usable.load(Ordering::Relaxed)
    }

    /// When the certificate that is shown ends.
    pub(super) fn expires(&self) -> Option<SystemTime> {
        *self.expires.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// As long as it is polled: connections that are made from then on show the new one. Those that are there stay.
    pub(super) async fn run(&self, renew: impl Fn(&Credentials) -> Result<(), String>) {
        loop {
            tokio::time::sleep(LOOK).await;
            self.look(&renew);
        }
    }

    fn look(&self, renew: impl Fn(&Credentials) -> Result<(), String>) {
        let look = self.watched.look(self.usable.load(Ordering::Relaxed));
        if look == Look::Same {
            return;
        }
        let read = self.config.credentials(&self.key_file).map_err(|error| error.to_string());
        let renewed = read.and_then(|read| renew(&read).map(|()| read.expires()));
        self.usable.store(renewed.is_ok(), Ordering::Relaxed);
        match renewed {
            Ok(expires) => {
                *self.expires.lock().unwrap_or_else(PoisonError::into_inner) = expires;
                tracing::info!("the certificate for the other nodes was read again");
            }
            Err(_) if look == Look::Again => {}
            Err(reason) => {
                tracing::error!(
                    reason,
                    "the certificate for the other nodes cannot be read again; the one before stays"
                );
            }
        }
    }
}

/// How a mesh takes it.
pub(super) fn renew(mesh: &Mesh) -> impl Fn(&Credentials) -> Result<(), String> + '_ {
    |credentials| mesh.renew(credentials).map_err(|error| error.to_string())
}

#[cfg(test)]
#[allow(clippy::unwrap_used)]
mod tests {
    use std::cell::Cell;

    use openssl::asn1::Asn1Time;
    use openssl::hash::MessageDigest;
    use openssl::pkey::PKey;
    use openssl::x509::extension::SubjectAlternativeName;
    use openssl::x509::{X509, X509Name};

    use super::*;

    /// A certificate of itself for so many days, and its key.
    fn issue(days: u32) -> (Vec<u8>, Vec<u8>) {
        let key = PKey::generate_ed25519().unwrap();
        let mut name = X509Name::builder().unwrap();
        name.append_entry_by_text("CN", "a").unwrap();
        let (name, mut builder) = (name.build(), X509::builder().unwrap());
        builder.set_version(2).unwrap();
        builder.set_subject_name(&name).unwrap();
        builder.set_issuer_name(&name).unwrap();
        builder.set_pubkey(&key).unwrap();
        builder.set_not_before(&Asn1Time::days_from_now(0).unwrap()).unwrap();
        builder.set_not_after(&Asn1Time::days_from_now(days).unwrap()).unwrap();
        let names = SubjectAlternativeName::new()
            .dns(&cluster::mesh::certified_name("a"))
            .build(&builder.x509v3_context(None, None))
            .unwrap();
        builder.append_extension(names).unwrap();
        builder.sign(&key, MessageDigest::null()).unwrap();
        (builder.build().to_pem().unwrap(), key.private_key_to_pem_pkcs8().unwrap())
    }

    #[test]
    fn a_new_certificate_is_taken_and_one_that_is_of_no_use_is_not() {
        let directory = tempfile::tempdir().unwrap();
        let place = |name: &str| directory.path().join(name);
        let put = |days| {
            let (certificate, key) = issue(days);
            std::fs::write(place("crt"), &certificate).unwrap();
            std::fs::write(place("ca"), &certificate).unwrap();
            std::fs::write(place("key"), key).unwrap();
        };
        put(10);
        let config = ClusterConfig {
            node: Some("a".to_owned()),
            mesh_ca: Some(place("ca")),
            mesh_cert: Some(place("crt")),
            mesh_key: Some(place("key")),
            ..ClusterConfig::default()
        };
        let key_file = place("vault.key");
        let credentials = config.credentials(&key_file).unwrap();
        let renewal = Renewal::of(&config, key_file.clone(), &credentials).unwrap();
        let (taken, first) = (Cell::new(0), renewal.expires().unwrap());
        let day = Duration::from_secs(86_400);
        assert!(first > SystemTime::now() + 9 * day && first < SystemTime::now() + 11 * day);
        let look = || {
            renewal.look(|_| {
                taken.set(taken.get() + 1);
                Ok(())
            });
        };
        look();
        assert_eq!(taken.get(), 0, "nothing has changed");

        std::fs::write(place("crt"), "no certificate any more, or half of one").unwrap();
        look();
        assert_eq!((taken.get(), renewal.is_usable(), renewal.expires()), (0, false, Some(first)));

        put(100);
        look();
        assert_eq!((taken.get(), renewal.is_usable()), (1, true));
        assert!(renewal.expires().unwrap() > first + 80 * day);

        let derived = ClusterConfig::default();
        assert!(Renewal::of(&derived, key_file, &credentials).is_none(), "that one is made by each process");
    }
}
