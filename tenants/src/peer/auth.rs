//! How both sides of a tunnel prove who they are.

use culvert_proto::v1;
use ike::Identity;
use ike::wire::numbers::IdType;

use crate::name::{SecretName, TenantName};
use crate::peer::version::IkeVersion;
use crate::violation::Violations;

/// How both sides authenticate.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Auth {
    /// With a shared key: the secret of this name, of the same tenant.
    Psk(SecretName),
    /// With certificates: secrets of the same tenant.
    Certificates {
        /// With our private key, and our certificate.
        own: SecretName,
        /// With the authorities that the peer's certificate has to be of.
        authorities: SecretName,
    },
}

impl Auth {
    /// The values of a message, or all that is wrong with it. `ids` are ours and the peer's.
    pub(super) fn parse(
        tenant: &TenantName,
        auth: Option<&v1::Auth>,
        version: &IkeVersion,
        remote: Option<&Identity>,
        faults: &mut Violations,
    ) -> Option<Self> {
        let secret = |field: &str, text: &str, faults: &mut Violations| {
            let secret: SecretName = faults.note(field, text.parse())?;
            if secret.tenant() != tenant {
                faults.add(field, format!("{secret} is not a secret of {tenant}"));
                return None;
            }
            Some(secret)
        };
        match auth.and_then(|auth| auth.method.as_ref()) {
            Some(v1::auth::Method::Psk(psk)) => secret("auth.psk", psk, faults).map(Self::Psk),
            Some(v1::auth::Method::Certificates(with)) => {
                let own = secret("auth.certificates.own", &with.own, faults);
                let authorities = secret("auth.certificates.authorities", &with.authorities, faults);
                if matches!(version, IkeVersion::V1(_)) {
                    let fault = "certificates are for IKEv2; expected psk with version IKEV1";
                    faults.add("auth.certificates", fault);
                }
                if remote.is_some_and(|remote| remote.kind == IdType::ID_KEY_ID) {
                    let fault =
                        "a key ID stands in no certificate; expected a host name, an address or user@host";
                    faults.add("remote_identity", fault);
                }
                let (own, authorities) = own.zip(authorities)?;
                Some(Self::Certificates { own, authorities })
            }
            None => {
                let fault = format!(
                    "no method; expected psk: {tenant}/secrets/{{secret}}, or certificates with own and authorities"
                );
                faults.add("auth", fault);
                None
            }
        }
    }

    /// As a message.
    pub(super) fn to_proto(&self) -> v1::Auth {
        let method = match self {
            Self::Psk(secret) => v1::auth::Method::Psk(secret.to_string()),
            Self::Certificates { own, authorities } => v1::auth::Method::Certificates(v1::Certificates {
                own: own.to_string(),
                authorities: authorities.to_string(),
            }),
        };
        v1::Auth { method: Some(method) }
    }

    /// The secrets that it takes, each with its field of a peer.
    pub fn secrets(&self) -> impl Iterator<Item = (&'static str, &SecretName)> {
        let [first, second] = match self {
            Self::Psk(secret) => [Some(("auth.psk", secret)), None],
            Self::Certificates { own, authorities } => {
                [Some(("auth.certificates.own", own)), Some(("auth.certificates.authorities", authorities))]
            }
        };
        first.into_iter().chain(second)
    }
}
