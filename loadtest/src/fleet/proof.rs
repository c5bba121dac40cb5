//! How tunnels prove who they are: by one pre-shared key, or each by a certificate of its own.

use std::path::Path;
use std::sync::Arc;

use certificates::issue::{Authority, KeyKind};
use certificates::{Credentials, Ours, Trust};
use culvert_proto::v1;
use ike::Identity;
use ike::config::{Auth, Psk};

use super::LoadError;
use super::plan::{HUB, PSK};
use super::target::{Foreign, Target, Version};

/// What all tunnels prove themselves with.
#[derive(Clone, Debug)]
pub(crate) enum Proof {
    /// The same key for all.
    Psk(Arc<[u8]>),
    /// A certificate each, which is made as its tunnel is.
    Certificates(Arc<Certified>),
}

/// Who certifies the tunnels, and whom they trust.
#[derive(Debug)]
pub(crate) struct Certified {
    authority: Authority,
    trust: Arc<Trust>,
}

impl Proof {
    /// # Errors
    /// [`LoadError::Argument`] for a file that cannot be read, or has something else in it.
    pub(crate) fn new(target: &Target, foreign: Option<&Foreign>) -> Result<Self, LoadError> {
        let files = foreign.map(|foreign| (foreign, foreign.psk_file.as_deref(), foreign.ca_file.as_deref()));
        if target.certificates && files.is_some() {
            let why = "--certificates is for a node that is provisioned; with --no-provision it is --ca-file";
            return Err(LoadError::Argument(why.to_owned()));
        }
        let by_certificates = target.certificates || files.is_some_and(|(_, _, ca)| ca.is_some());
        if by_certificates && target.version == Version::Ikev1 {
            return Err(LoadError::Argument("certificates are for --version ikev2".to_owned()));
        }
        match files {
            None if by_certificates => {
                let authority = Authority::new("loadtest").map_err(library)?;
                let trust = Trust::from_pem(&authority.to_pem().map_err(library)?).map_err(library)?;
                Ok(Self::Certificates(Arc::new(Certified { authority, trust: Arc::new(trust) })))
            }
            None => Ok(Self::Psk(PSK.as_bytes().into())),
            Some((_, Some(path), _)) => {
                let octets = read(path, "--psk-file")?;
                match Psk::in_file(&octets) {
                    [] => Err(bad(path, "--psk-file", &"there is no key in it")),
                    key => Ok(Self::Psk(key.into())),
                }
            }
            Some((_, None, None)) => {
                Err(LoadError::Argument("--no-provision needs --psk-file or --ca-file".to_owned()))
            }
            Some((foreign, None, Some(path))) => {
                let octets = read(path, "--ca-file")?;
                let authority = Authority::from_pem(&octets).map_err(|e| bad(path, "--ca-file", &e))?;
                let (path, flag) = match &foreign.trust_file {
                    Some(path) => (path.as_path(), "--trust-file"),
                    None => (path, "--ca-file"),
                };
                let trust = Trust::from_pem(&read(path, flag)?).map_err(|e| bad(path, flag, &e))?;
                Ok(Self::Certificates(Arc::new(Certified { authority, trust: Arc::new(trust) })))
            }
        }
    }

    /// That of a tunnel whose initiator is called so.
    pub(crate) fn of(&self, id: &Identity) -> Result<Auth, LoadError> {
        match self {
            Self::Psk(key) => Ok(Auth::Psk(Psk::new(key.to_vec().into()))),
            Self::Certificates(certified) => {
                let issued = certified.authority.issue(id, KeyKind::P256).map_err(library)?;
                let ours = Ours::from_pem(&issued.to_pem().map_err(library)?).map_err(library)?;
                let credentials = Credentials::new(Arc::new(ours), Arc::clone(&certified.trust));
                Ok(Auth::Certificates(Arc::new(credentials)))
            }
        }
    }

    /// The secrets that the node has to have, each by the last part of its name.
    pub(crate) fn secrets(&self) -> Result<Vec<(&'static str, Vec<u8>)>, LoadError> {
        Ok(match self {
            Self::Psk(key) => vec![("psk", key.to_vec())],
            Self::Certificates(certified) => {
                let hub: Identity = HUB.parse().map_err(library)?;
                let own = certified.authority.issue(&hub, KeyKind::P256).map_err(library)?;
                let authorities = certified.authority.to_pem().map_err(library)?;
                vec![("own", own.to_pem().map_err(library)?), ("authorities", authorities)]
            }
        })
    }

    /// How a peer of the node is configured by them.
    pub(crate) fn method(&self, tenant: &str) -> v1::auth::Method {
        let secret = |id: &str| format!("tenants/{tenant}/secrets/{id}");
        match self {
            Self::Psk(_) => v1::auth::Method::Psk(secret("psk")),
            Self::Certificates(_) => v1::auth::Method::Certificates(v1::Certificates {
                own: secret("own"),
                authorities: secret("authorities"),
            }),
        }
    }
}

fn read(path: &Path, flag: &str) -> Result<Vec<u8>, LoadError> {
    std::fs::read(path).map_err(|error| bad(path, flag, &error))
}

fn bad(path: &Path, flag: &str, why: &dyn std::fmt::Display) -> LoadError {
    LoadError::Argument(format!("{} ({flag}): {why}", path.display()))
}

fn library(error: impl std::fmt::Display) -> LoadError {
    LoadError::Argument(format!("certificates: {error}"))
}
