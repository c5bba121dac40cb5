//! How each side of IKE_AUTH proves who it is (RFC 7296 section 2.15): with the pre-shared key, or with a certificate and a signature that
//! names its own form (RFC 7427) or, by ECDSA, has the form that went before (RFC 4754).

use std::borrow::Cow;

use zeroize::Zeroizing;

use crate::credentials::{Auth, CertificateFault, Certificates, KeyHash, Signed};
use crate::crypto::prf::Prf;
use crate::crypto::signature::{HASHES, Scheme};
use crate::crypto::{auth, ecdsa};
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
                let named = schemes.iter().find(|scheme| hashes.contains(&scheme.hash()));
                let (method, data) = if let Some(&scheme) = named {
                    let signature = ours.sign(scheme, &self.octets()?)?;
                    (AuthMethod::DIGITAL_SIGNATURE, written(scheme, &signature))
                } else if let Some((scheme, method)) = before(schemes) {
                    let signature = ours.sign(scheme, &self.octets()?)?;
                    (method, ecdsa::written(method, &signature)?)
                } else {
                    let ours = schemes.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
                    return Err(Failure::NoSignature { ours, announced: !hashes.is_empty() });
                };
                Ok(Payload::Auth { method, data: Zeroizing::new(data) })
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
            (Auth::Certificates(ours), Some(method)) if by.takes(method) => {
                let octets = self.octets()?;
                let value = value.unwrap_or_default();
                self.signed(&**ours, payloads, &octets, (method, value))
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
        (method, value): (AuthMethod, &[u8]),
    ) -> Result<(), CertificateFault> {
        let (scheme, signature) = match ecdsa::scheme_of(method) {
            None => {
                let (scheme, signature) = read(value).ok_or(CertificateFault::Scheme)?;
                (scheme, Cow::Borrowed(signature))
            }
            Some(scheme) => (scheme, Cow::Owned(ecdsa::read(method, value).ok_or(CertificateFault::Forged)?)),
        };
        let signature = &*signature;
        let chain = chain(payloads);
        match (chain.as_slice(), payloads.count(PayloadType::CERT)) {
            ([], 0) => Err(CertificateFault::Missing),
            ([], _) => Err(CertificateFault::Unreadable),
            (chain, _) => by.verify(&Signed { chain, id: &self.id.id, scheme, octets, signature }),
        }
    }
}

/// How we sign for a peer that does not know signatures that name their form, or none of ours, where there is a way.
fn before(schemes: &[Scheme]) -> Option<(Scheme, AuthMethod)> {
    let first = *schemes.first()?;
    Some((first, ecdsa::method_of(first)?))
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
#[allow(clippy::unwrap_used, clippy::indexing_slicing)]
mod tests {
    use std::sync::Arc;

    use openssl::bn::{BigNum, BigNumContext};
    use openssl::ec::{EcGroup, EcKey, EcPoint};
    use openssl::hash::MessageDigest;
    use openssl::nid::Nid;
    use openssl::pkey::{PKey, Private};
    use openssl::sign::{Signer, Verifier};

    use super::*;
    use crate::Identity;
    use crate::crypto::CryptoError;
    use crate::crypto::prf::HmacHash;
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

    fn key() -> PKey<Private> {
        let group = EcGroup::from_curve_name(Nid::X9_62_PRIME256V1).unwrap();
        let number = BigNum::from_u32(424_242).unwrap();
        let mut point = EcPoint::new(&group).unwrap();
        point.mul_generator2(&group, &number, &mut BigNumContext::new().unwrap()).unwrap();
        PKey::from_ec_key(EcKey::from_private_components(&group, &number, &point).unwrap()).unwrap()
    }

    /// A key of P-256, which is believed wherever it has signed.
    #[derive(Debug)]
    struct Key(PKey<Private>, Vec<Vec<u8>>);

    impl Certificates for Key {
        fn chain(&self) -> &[Vec<u8>] {
            &self.1
        }

        fn authorities(&self) -> &[KeyHash] {
            &[]
        }

        fn schemes(&self) -> &[Scheme] {
            &[Scheme::Ecdsa(Hash::Sha256), Scheme::Ecdsa(Hash::Sha512)]
        }

        fn sign(&self, _: Scheme, octets: &[u8]) -> Result<Vec<u8>, CryptoError> {
            Ok(Signer::new(MessageDigest::sha256(), &self.0)?.sign_oneshot_to_vec(octets)?)
        }

        fn verify(&self, signed: &Signed<'_>) -> Result<(), CertificateFault> {
            let by = Verifier::new(MessageDigest::sha256(), &self.0);
            let is_by = by.and_then(|mut by| by.verify_oneshot(signed.signature, signed.octets));
            let fits = signed.scheme == Scheme::Ecdsa(Hash::Sha256) && is_by.unwrap_or(false);
            fits.then_some(()).ok_or(CertificateFault::Forged)
        }
    }

    /// Who does not say which hashes it knows is from before RFC 7427, and so is who knows none of ours.
    #[test]
    fn for_who_knows_no_signatures_that_name_their_form_there_are_those_of_ecdsa() {
        let by = Auth::Certificates(Arc::new(Key(key(), vec![vec![1]])));
        let id = Identification::from("left.example".parse::<Identity>().unwrap());
        let prf = Prf::Hmac(HmacHash::Sha256);
        let covered = Covered { prf, first: b"first", nonce: b"nonce", sk_p: &[7; 32], id: &id };
        let other = Covered { nonce: b"another", ..covered };
        for (hashes, wanted) in [
            (&[][..], AuthMethod::ECDSA_SHA256_P256),
            (&[1], AuthMethod::ECDSA_SHA256_P256),
            (&[1, 2], AuthMethod::DIGITAL_SIGNATURE),
        ] {
            let auth = covered.prove(&by, hashes).unwrap();
            let Payload::Auth { method, data } = &auth else { unreachable!() };
            assert_eq!((*method, data.len() == 64), (wanted, wanted == AuthMethod::ECDSA_SHA256_P256));
            let message = [certificates(&by).remove(0), auth];
            assert!(covered.check(&by, Payloads(&message)).is_ok());
            assert!(matches!(other.check(&by, Payloads(&message)), Err(Failure::Certificate { .. })));
        }
        // One that is cut off, of another curve, or by a key of RSA.
        let [certificate, auth] = [certificates(&by).remove(0), covered.prove(&by, &[]).unwrap()];
        let Payload::Auth { data, .. } = auth else { unreachable!() };
        for (method, len) in [(AuthMethod::ECDSA_SHA256_P256, 63), (AuthMethod::ECDSA_SHA384_P384, 64)] {
            let auth = Payload::Auth { method, data: Zeroizing::new(data[..len].to_vec()) };
            let fault = covered.check(&by, Payloads(&[certificate.clone(), auth]));
            assert!(
                matches!(fault, Err(Failure::Certificate { fault: CertificateFault::Forged, .. })),
                "{fault:?}"
            );
        }
        let auth = Payload::Auth { method: AuthMethod::RSA_SIGNATURE, data };
        let fault = covered.check(&by, Payloads(&[certificate, auth]));
        assert!(matches!(fault, Err(Failure::AuthMethod { .. })), "{fault:?}");
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
