//! How each side of IKE_AUTH proves who it is (RFC 7296 section 2.15): with the pre-shared key, or with a certificate and a signature that
//! names its own form (RFC 7427).

use zeroize::Zeroizing;

use crate::credentials::{Auth, CertificateFault, Certificates, KeyHash, Signed};
use crate::crypto::auth;
use crate::crypto::prf::Prf;
use crate::crypto::signature::{HASHES, Scheme};
use crate::failure::Failure;
use crate::wire::message::Payloads;
use crate::wire::numbers::{AuthMethod, NotifyType, PayloadType};
use crate::wire::payload::{Identification, Notify, Payload};

/// The encoding of CERT and CERTREQ that there is here: X.509 Certificate - Signature (RFC 7296 section 3.6).
const X509: u8 = 4;
/// Certificates that are looked at. From a gateway to a root there are three or four.
const MAX_CHAIN: usize = 8;

/// What AUTH of one side covers.
pub(crate) struct Covered<'a> {
    pub(crate) prf: Prf,
    /// Its side's message of IKE_SA_INIT.
    pub(crate) first: &'a [u8],
    /// The other side's nonce.
    pub(crate) nonce: &'a [u8],
    /// Its side's SK_p.
    pub(crate) sk_p: &'a [u8],
    /// Who it says it is.
    pub(crate) id: &'a Identification,
}

impl Covered<'_> {
    fn by_psk(&self, key: &[u8]) -> Result<Zeroizing<Vec<u8>>, Failure> {
        let Self { prf, first, nonce, sk_p, id } = self;
        Ok(auth::psk(*prf, key, first, nonce, sk_p, &id.body())?)
    }

    /// What is signed.
    fn octets(&self) -> Result<Vec<u8>, Failure> {
        let maced_id = self.prf.prf(self.sk_p, &[&self.id.body()])?;
        Ok([self.first, self.nonce, &maced_id].concat())
    }

    /// Our AUTH.
    ///
    /// # Errors
    /// When the peer, which knows these `hashes`, cannot verify anything that we can sign.
    pub(crate) fn prove(&self, by: &Auth, hashes: &[u16]) -> Result<Payload, Failure> {
        match by {
            Auth::Psk(psk) => {
                let data = self.by_psk(psk.octets())?;
                Ok(Payload::Auth { method: AuthMethod::SHARED_KEY, data })
            }
            Auth::Certificates(ours) => {
                let schemes = ours.schemes();
                let scheme = schemes.iter().find(|scheme| hashes.contains(&scheme.hash()));
                let scheme = *scheme.ok_or_else(|| {
                    let ours = schemes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    Failure::NoSignature { ours, announced: !hashes.is_empty() }
                })?;
                let data = written(scheme, &ours.sign(scheme, &self.octets()?)?);
                Ok(Payload::Auth { method: AuthMethod::DIGITAL_SIGNATURE, data: Zeroizing::new(data) })
            }
        }
    }

    /// Whether the AUTH of a message is by whoever is configured so.
    pub(crate) fn check(&self, by: &Auth, payloads: Payloads<'_>) -> Result<(), Failure> {
        let id = &self.id.id;
        let (method, value) = payloads.auth().unzip();
        match (by, method) {
            (Auth::Psk(psk), Some(AuthMethod::SHARED_KEY)) => {
                let expected = self.by_psk(psk.octets())?;
                let same = auth::equal(&expected, value.unwrap_or_default());
                same.then_some(()).ok_or_else(|| Failure::Authentication { id: id.cut() })
            }
            (Auth::Certificates(ours), Some(AuthMethod::DIGITAL_SIGNATURE)) => {
                let octets = self.octets()?;
                let value = value.unwrap_or_default();
                self.signed(&**ours, payloads, &octets, value)
                    .map_err(|fault| Failure::Certificate { id: id.cut(), fault })
            }
            (_, method) => Err(Failure::AuthMethod { id: id.cut(), method, configured: by.way() }),
        }
    }

    fn signed(
        &self,
        by: &dyn Certificates,
        payloads: Payloads<'_>,
        octets: &[u8],
        value: &[u8],
    ) -> Result<(), CertificateFault> {
        let (scheme, signature) = read(value).ok_or(CertificateFault::Scheme)?;
        let chain = chain(payloads);
        match (chain.as_slice(), payloads.count(PayloadType::CERT)) {
            ([], 0) => Err(CertificateFault::Missing),
            ([], _) => Err(CertificateFault::Unreadable),
            (chain, _) => by.verify(&Signed { chain, id: &self.id.id, scheme, octets, signature }),
        }
    }
}

/// The value of AUTH with method 14 (RFC 7427 section 3).
fn written(scheme: Scheme, signature: &[u8]) -> Vec<u8> {
    let identifier = scheme.identifier();
    let length = u8::try_from(identifier.len()).unwrap_or(u8::MAX);
    [&[length], identifier.as_slice(), signature].concat()
}

fn read(value: &[u8]) -> Option<(Scheme, &[u8])> {
    let (length, rest) = value.split_first()?;
    let (identifier, signature) = rest.split_at_checked(usize::from(*length))?;
    Some((Scheme::read(identifier)?, signature))
}

/// The certificates of a message, its sender's own first (RFC 7296 section 3.6).
fn chain<'a>(payloads: Payloads<'a>) -> Vec<&'a [u8]> {
    let certificate = |payload: &'a Payload| match payload {
        Payload::Opaque(PayloadType::CERT, octets) => octets.strip_prefix(&[X509]),
        _ => None,
    };
    payloads.0.iter().filter_map(certificate).take(MAX_CHAIN).collect()
}

/// Our certificates, where it is by them.
pub(crate) fn certificates(by: &Auth) -> Vec<Payload> {
    let payload = |der: &Vec<u8>| Payload::Opaque(PayloadType::CERT, [&[X509], der.as_slice()].concat());
    by.certificates().into_iter().flat_map(|ours| ours.chain()).map(payload).collect()
}

/// Asks for a certificate of one of these (RFC 7296 section 3.7); for none where there are none.
pub(crate) fn ask(authorities: &[KeyHash]) -> Option<Payload> {
    let octets = [&[X509], authorities.concat().as_slice()].concat();
    (!authorities.is_empty()).then_some(Payload::Opaque(PayloadType::CERTREQ, octets))
}

/// Whom a peer that is asked by us has to have its certificate of.
pub(crate) fn authorities(by: &Auth) -> &[KeyHash] {
    by.certificates().map(|ours| ours.authorities()).unwrap_or_default()
}

/// Says which signatures we can verify (RFC 7427 section 4).
pub(crate) fn announce() -> Payload {
    let data = HASHES.iter().flat_map(|hash| hash.to_be_bytes()).collect();
    Payload::Notify(Notify::with_data(NotifyType::SIGNATURE_HASH_ALGORITHMS, data))
}

/// What the other side has said of that.
pub(crate) fn announced(payloads: Payloads<'_>) -> Vec<u16> {
    let said = payloads.notify(NotifyType::SIGNATURE_HASH_ALGORITHMS);
    let data = said.map(|notify| notify.data.as_slice()).unwrap_or_default();
    data.as_chunks().0.iter().map(|octets| u16::from_be_bytes(*octets)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::crypto::signature::Hash;

    #[test]
    fn a_signature_says_how_it_was_made() {
        let scheme = Scheme::RsaPss(Hash::Sha384);
        let value = written(scheme, b"signature");
        assert_eq!(read(&value), Some((scheme, &b"signature"[..])));
        assert_eq!(read(&[]), None);
        assert_eq!(read(&[255, 0x30]), None);
        assert_eq!(read(&[0]), None);
    }

    #[test]
    fn hashes_are_read_as_they_are_said() {
        let said = [announce()];
        assert_eq!(announced(Payloads(&said)), HASHES);
        assert!(announced(Payloads(&[])).is_empty());
        let odd = Notify::with_data(NotifyType::SIGNATURE_HASH_ALGORITHMS, vec![0, 2, 0]);
        assert_eq!(announced(Payloads(&[Payload::Notify(odd)])), [2]);
    }

    #[test]
    fn certificates_are_found_among_payloads_of_another_encoding() {
        let payloads: Vec<Payload> = [&[12, 1][..], &[X509, 7, 8], &[], &[X509, 9]]
            .map(|octets| Payload::Opaque(PayloadType::CERT, octets.to_vec()))
            .into();
        assert_eq!(chain(Payloads(&payloads)), [&[7, 8][..], &[9]]);
        assert_eq!(ask(&[]), None);
        let asked = ask(&[[1; 20], [2; 20]]);
        assert_eq!(
            asked.map(|payload| matches!(payload, Payload::Opaque(_, octets) if octets.len() == 41)),
            Some(true)
        );
    }
}
