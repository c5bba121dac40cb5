//! What to change where somebody proves itself by certificates. Each line names its side, as in [`super::advice`].

use crate::credentials::CertificateFault;
use crate::identity::Identity;
use crate::wire::numbers::AuthMethod;

/// AUTHENTICATION_FAILED to our IKE_AUTH, which says no more than that.
pub(super) fn refused_there(ours: &Identity, theirs: &Identity) -> Vec<String> {
    vec![
        "there: does it trust an authority of our certificate (in strongSwan: remote.cacerts), and is the certificate valid by its clock?"
            .to_owned(),
        format!(
            "here: is our identity {ours:?} in the certificate, as subjectAltName, and what the peer expects (in strongSwan: remote.id)?"
        ),
        format!("there: is {theirs:?} what it calls itself (in strongSwan: local.id)?"),
        "there: it may want a pre-shared key or EAP of us (in strongSwan: remote.auth = pubkey)".to_owned(),
        "the peer does not say which of them it is; its log does".to_owned(),
    ]
}

/// A peer that proves itself by something else.
pub(super) fn method(id: &Identity, method: Option<AuthMethod>) -> Vec<String> {
    let mut advice = vec![format!(
        "there: prove itself by a certificate for {id:?} (in strongSwan: local.auth = pubkey, and certs)"
    )];
    match method {
        Some(AuthMethod::SHARED_KEY) => advice.push("here: or auth.psk for that peer".to_owned()),
        Some(AuthMethod::RSA_SIGNATURE) => advice.push(
            "there: its certificate will do, but let it sign by RFC 7427 (in strongSwan: signature_authentication = yes), which \
             names the hash"
                .to_owned(),
        ),
        _ => {}
    }
    advice
}

/// A certificate, or what was signed with it, that is not taken here.
pub(super) fn refused_here(id: &Identity, fault: &CertificateFault) -> Vec<String> {
    let line = match fault {
        CertificateFault::Missing => {
            "there: send the certificate (in strongSwan: local.certs, and send_cert = always)".to_owned()
        }
        CertificateFault::Unreadable => "there: send X.509 certificates in DER, and no others".to_owned(),
        CertificateFault::Untrusted(_) => {
            return vec![
                "here: put its authority into the secret of auth.certificates.authorities, if it is to be trusted".to_owned(),
                "there: send the certificates between its own and that authority as well, and one that is valid now".to_owned(),
                "here: is the clock of this node right?".to_owned(),
            ];
        }
        CertificateFault::Revoked(_) => "there: get another certificate of the authority".to_owned(),
        CertificateFault::AnotherName(names) => {
            return vec![
                format!("there: get a certificate with {id:?} as subjectAltName"),
                format!("either side: or let it call itself by what the certificate has, [{names}]"),
            ];
        }
        CertificateFault::AnotherKey(_) | CertificateFault::Forged => {
            "there: its private key does not belong to the certificate that it sends first".to_owned()
        }
        CertificateFault::Scheme => {
            "there: sign with SHA2, and with a salt as long as the hash if it is RSASSA-PSS".to_owned()
        }
    };
    vec![line]
}

/// We have nothing that the peer can verify.
pub(super) fn no_signature(ours: &str, announced: bool) -> Vec<String> {
    if announced {
        vec![
            format!("there: allow one of the hashes of {ours}"),
            "here: or a key of another kind, with its certificate".to_owned(),
        ]
    } else {
        vec![
            "there: allow signatures of RFC 7427 (in strongSwan: signature_authentication = yes)".to_owned(),
            "here: or a key of ECDSA, with its certificate, whose signatures are older than that".to_owned(),
            "either side: or a pre-shared key".to_owned(),
        ]
    }
}
