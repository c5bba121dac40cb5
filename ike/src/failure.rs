//! Why a negotiation failed, with the values that differ.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::config::{Mode, Opening};
use crate::credentials::{CertificateFault, Way};
use crate::crypto::CryptoError;
use crate::event::ChildEnd;
use crate::identity::Identity;
use crate::proposal::iana;
use crate::wire::error::WireError;
use crate::wire::numbers::{AuthMethod, ExchangeType, NotifyType};

/// Why an attempt failed. Texts name what was offered and what is configured; none holds a secret.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Failure {
    /// No proposal of the peer's offer is configured here.
    #[error("no common proposal: the peer offers [{offered}], configured is [{configured}]")]
    NoProposal {
        /// The peer's offer.
        offered: String,
        /// Ours.
        configured: String,
    },
    /// The peer has proved who it is, and offers nothing that it may use: what it was answered with before was another's.
    #[error("no common proposal: {name} offers [{offered}], configured for it is [{configured}]")]
    NotItsProposals {
        /// The configured peer.
        name: Arc<str>,
        /// The peer's offer.
        offered: String,
        /// Ours for it.
        configured: String,
    },
    /// The peer refused every proposal of ours.
    #[error("the peer refused our proposals [{offered}] with NO_PROPOSAL_CHOSEN")]
    ProposalRefused {
        /// What we offered.
        offered: String,
    },
    /// The peer has nothing for us in IKE_SA_INIT.
    #[error("the peer refused IKE_SA_INIT with NO_PROPOSAL_CHOSEN, offered was [{offered}]")]
    InitRefused {
        /// What we offered.
        offered: String,
    },
    /// The peer has nothing for us in phase 1 of IKEv1.
    #[error("the peer refused {exchange} with NO_PROPOSAL_CHOSEN, offered was [{offered}]")]
    Phase1Refused {
        /// Main or aggressive mode.
        exchange: ExchangeType,
        /// What we offered.
        offered: String,
    },
    /// The peer has nothing for us in quick mode.
    #[error("the peer refused quick mode with NO_PROPOSAL_CHOSEN, offered was [{offered}]")]
    QuickRefused {
        /// What we offered.
        offered: String,
    },
    /// The peer has no such pair of subnets.
    #[error("the peer refused quick mode for {local} === {remote} with INVALID_ID_INFORMATION")]
    ProxyRefused {
        /// Our side.
        local: String,
        /// Its side.
        remote: String,
    },
    /// Any other error the peer reported in IKEv1.
    #[error("the peer answered {exchange} with {notify}")]
    NotifyV1 {
        /// In which exchange.
        exchange: ExchangeType,
        /// What it said.
        notify: String,
    },
    /// No key of those who may come from there opens the fifth message of main mode.
    #[error(
        "the fifth message of main mode from {from} was not made with the pre-shared key of {}: the pre-shared keys differ",
        if *count == 1 { "the peer that is configured for that address".to_owned() } else { format!("any of the {count} peers that are configured for that address") }
    )]
    Undecryptable {
        /// Where it came from.
        from: SocketAddr,
        /// How many keys were tried.
        count: usize,
    },
    /// The peer falls silent at the first message that it can only read with the right key.
    #[error(
        "no answer to the fifth message of main mode from {remote} after {tries} transmissions, the first that takes the pre-shared key to read"
    )]
    ProofUnanswered {
        /// To whom.
        remote: SocketAddr,
        /// How often it was sent.
        tries: u32,
    },
    /// The peer objects to the same message by one that nobody can read who has our key.
    #[error(
        "{remote} answers the fifth message of main mode, the first that takes the pre-shared key to read, with one that cannot \
         be read: the pre-shared keys differ"
    )]
    ProofUnreadable {
        /// The peer.
        remote: SocketAddr,
    },
    /// The peer has read who we are, so its key is ours, and does not want us.
    #[error(
        "the peer answered {exchange} with {notify} once it knew who we are; its pre-shared key is the same"
    )]
    ProofRefused {
        /// Main or aggressive mode.
        exchange: ExchangeType,
        /// What it said.
        notify: String,
    },
    /// The peer proves who it is in a way that is not done here.
    #[error("the peer offers {method} alone, configured is a pre-shared key")]
    MethodV1 {
        /// How.
        method: String,
    },
    /// The peer opens as nobody does who is configured for its address.
    #[error("{from} speaks {theirs}, but who is configured for that address speaks {}", list(ours))]
    Opening {
        /// Where it came from.
        from: SocketAddr,
        /// How it opens.
        theirs: Opening,
        /// How those open who may come from there.
        ours: Vec<Opening>,
    },
    /// The peer does not rekey a Child SA that it has made.
    #[error(
        "the peer refused to rekey the Child SA with NO_PROPOSAL_CHOSEN; offered was [{offered}], for perfect forward secrecy [{groups}]"
    )]
    RekeyRefused {
        /// What we offered.
        offered: String,
        /// The groups among it, or `nopfs`.
        groups: String,
    },
    /// The two sides rekey a Child SA with key exchanges that do not fit.
    #[error(
        "perfect forward secrecy differs: the peer wants [{theirs}] for the Child SA, configured is [{ours}]"
    )]
    Pfs {
        /// The groups that the peer offers, or `nopfs`.
        theirs: String,
        /// Ours.
        ours: String,
    },
    /// The peer's choice is not one of our offers.
    #[error("the peer chose [{chosen}], which is not in our offer [{offered}]")]
    BadChoice {
        /// Its choice.
        chosen: String,
        /// Our offer.
        offered: String,
    },
    /// The group of the KE payload cannot be agreed.
    #[error("key exchange group {} is wanted by the peer, offered are [{offered}]", iana::group(*wanted))]
    NoGroup {
        /// The peer's.
        wanted: u16,
        /// Ours.
        offered: String,
    },
    /// Nobody may come from there.
    #[error("no peer is configured for the address {from}")]
    UnknownAddress {
        /// Where it came from.
        from: SocketAddr,
    },
    /// Nobody with this identity is configured.
    #[error(
        "no peer is configured for remote identity {remote_id:?}{} and address {from}",
        local_id.as_ref().map(|id| format!(", local identity {id:?}")).unwrap_or_default()
    )]
    UnknownPeer {
        /// IDi.
        remote_id: Identity,
        /// IDr, if the peer sent one.
        local_id: Option<Identity>,
        /// Where it came from.
        from: SocketAddr,
    },
    /// Several peers have this identity and this key.
    #[error(
        "{count} peers are configured for remote identity {remote_id:?} and address {from} with the same {}, and \
         the peer names none of our identities",
        match way { Way::Psk => "pre-shared key", Way::Certificate => "authorities" }
    )]
    Ambiguous {
        /// IDi.
        remote_id: Identity,
        /// Where it came from.
        from: SocketAddr,
        /// How many.
        count: usize,
        /// How the peer has proved who it is.
        way: Way,
    },
    /// The peer has a connection already, which is kept.
    #[error("{id:?} is connected from {}, which is kept, and refused from {}", .ends.0, .ends.1)]
    Duplicate {
        /// The peer's identity.
        id: Identity,
        /// The configured peer.
        name: Arc<str>,
        /// Where the connection that stays comes from, and the refused one. Boxed, for all other failures are smaller.
        ends: Box<(SocketAddr, SocketAddr)>,
    },
    /// The peer is somebody else.
    #[error("the peer's identity is {got:?}, configured is {expected:?}")]
    WrongIdentity {
        /// What it says.
        got: Identity,
        /// What it should say.
        expected: Identity,
    },
    /// The AUTH value does not verify.
    #[error("authentication of {id:?} failed: the pre-shared keys differ")]
    Authentication {
        /// The peer's identity.
        id: Identity,
    },
    /// The peer did not accept our AUTH value, or who we are.
    #[error(
        "the peer refused us with AUTHENTICATION_FAILED: we are {local_id:?} with {ours}, asked for {remote_id:?}{}",
        if *certificate && *ours == Way::Psk { ", and the peer had asked for a certificate" } else { "" }
    )]
    AuthenticationRefused {
        /// Our identity.
        local_id: Identity,
        /// Whom we asked for.
        remote_id: Identity,
        /// How we have proved it.
        ours: Way,
        /// The peer has sent CERTREQ.
        certificate: bool,
    },
    /// What the peer proves itself with is not taken.
    #[error("the certificate of {id:?} was refused: {fault}")]
    Certificate {
        /// Who it says it is.
        id: Identity,
        /// Why.
        fault: CertificateFault,
    },
    /// The peer could not verify what we sign.
    #[error(
        "the peer {}, our key signs by {ours}",
        if *announced { "knows none of our hashes (SIGNATURE_HASH_ALGORITHMS)" } else { "does not know signatures that name their hash (RFC 7427)" }
    )]
    NoSignature {
        /// How our key can sign.
        ours: String,
        /// It has said which it knows.
        announced: bool,
    },
    /// The peer proves who it is by other means than are configured for it.
    #[error("the peer {id:?} authenticates by {}, configured is {configured}", method_name(*method))]
    AuthMethod {
        /// The peer's identity.
        id: Identity,
        /// How, or nothing for EAP: it sent no AUTH (RFC 7296 section 2.16).
        method: Option<AuthMethod>,
        /// How it should.
        configured: Way,
    },
    /// Traffic selectors without overlap.
    #[error(
        "no common traffic selectors: the peer offers {offered_local} === {offered_remote} (ours === its own), configured is {configured}"
    )]
    Selectors {
        /// What it offers for our side.
        offered_local: String,
        /// What it offers for its own side.
        offered_remote: String,
        /// Our policies, as `local === remote`.
        configured: String,
    },
    /// The peer refused our traffic selectors.
    #[error("the peer refused our traffic selectors {local} === {remote} with TS_UNACCEPTABLE")]
    SelectorsRefused {
        /// Our side.
        local: String,
        /// Its side.
        remote: String,
    },
    /// The peer carries less than is configured.
    #[error("{policy}: the peer takes no Child SA for {uncovered}, configured is {configured}")]
    Narrowed {
        /// The child.
        policy: Arc<str>,
        /// What nobody carries, as `local === remote`.
        uncovered: String,
        /// The child's selectors, in the same form.
        configured: String,
    },
    /// The two sides take the Child SA for different things.
    #[error("the peer has the Child SA in {peer} mode, configured is {configured} mode")]
    Mode {
        /// The peer's.
        peer: Mode,
        /// Ours.
        configured: Mode,
    },
    /// ESP has to go in UDP, which this side does not do in transport mode.
    #[error("no transport mode where ESP goes in UDP: a NAT was found, or UDP encapsulation is forced")]
    TransportNat,
    /// Transport mode protects what the two ends say themselves.
    #[error(
        "transport mode is between the ends of the IKE_SA, {addresses}, but the selectors are {selectors}"
    )]
    TransportHosts {
        /// What was to be protected, as `local === remote`.
        selectors: String,
        /// The ends, in the same form.
        addresses: String,
    },
    /// The peer refused a Child SA in transport mode.
    #[error("the peer refused a Child SA in transport mode with NO_PROPOSAL_CHOSEN, offered was [{offered}]")]
    TransportRefused {
        /// What we offered.
        offered: String,
    },
    /// Any other error the peer reported.
    #[error("the peer answered {exchange} with {notify}")]
    Notify {
        /// In which exchange.
        exchange: ExchangeType,
        /// What it said.
        notify: NotifyType,
    },
    /// No answer to any transmission of a request.
    #[error("no answer to {exchange} from {remote} after {tries} transmissions")]
    Timeout {
        /// Which request.
        exchange: ExchangeType,
        /// To whom.
        remote: SocketAddr,
        /// How often it was sent.
        tries: u32,
    },
    /// What is sent does not get to the peer: the kernel says so, or a router on the way by ICMP.
    #[error("{remote} cannot be reached: {reason}")]
    Unreachable {
        /// What was said.
        reason: String,
        /// To whom it was sent.
        remote: SocketAddr,
    },
    /// The name that the peer is configured with leads nowhere.
    #[error("{name} does not resolve to an address: {reason}")]
    Unresolved {
        /// The host name.
        name: String,
        /// What the resolver says.
        reason: String,
    },
    /// The peer stopped in the middle of the handshake.
    #[error("the peer at {remote} did not finish the handshake")]
    Unfinished {
        /// Who.
        remote: SocketAddr,
    },
    /// The same in phase 1 of IKEv1.
    #[error("the peer at {remote} did not finish phase 1")]
    UnfinishedV1 {
        /// Who.
        remote: SocketAddr,
    },
    /// A message the peer should not have sent.
    #[error("malformed {exchange}: {error}")]
    Malformed {
        /// In which exchange.
        exchange: ExchangeType,
        /// What is wrong.
        error: WireError,
    },
    /// A cryptographic step failed.
    #[error("{0}")]
    Crypto(#[from] CryptoError),
    /// The table of SPIs is full.
    #[error("no SPI is free")]
    NoSpi,
    /// A Child SA was agreed on, and what is to carry it did not take it, with its reason.
    #[error("the Child SA is not carried here: {0}")]
    NotInstalled(String),
    /// The peer asked to wait too many times in a row.
    #[error("the peer kept answering TEMPORARY_FAILURE")]
    StillBusy,
    /// The hard lifetime of the IKE_SA ended before it could be rekeyed.
    #[error("the hard lifetime of the IKE_SA ended")]
    Expired,
    /// The same, and the peer had said why.
    #[error("the hard lifetime of the IKE_SA ended, which could not be rekeyed: {0}")]
    NotRekeyed(Box<Failure>),
    /// The Child SA that was to be rekeyed is there no more.
    #[error("the Child SA ended before it was rekeyed: {0}")]
    ChildGone(ChildEnd),
    /// The connection has as many Child SAs as it may have.
    #[error("the connection has {0} Child SAs, which is the limit")]
    TooManyChildren(usize),
    /// The peer asks for one more part of a policy whose others it has Child SAs for already.
    #[error(
        "the peer asks for {wanted}, and has {limit} Child SAs for other parts of the same policy, which is the limit"
    )]
    TooManyParts {
        /// What it asks for, as far as it is configured.
        wanted: String,
        /// How many there are at most.
        limit: usize,
    },
    /// The peer has authenticated us and left out the Child SA.
    #[error("{policy}: the peer answered IKE_AUTH with neither a Child SA nor an error")]
    NoChild {
        /// The child we asked for.
        policy: Arc<str>,
    },
    /// The peer ended the connection before anything could be sent by it.
    #[error(
        "the peer deleted the IKE SA, {after} s after the negotiation began and before there was a Child SA{}",
        why.as_deref().map(|why| format!(": {why}")).unwrap_or_default()
    )]
    EndedChildless {
        /// Seconds since the negotiation began.
        after: u64,
        /// Why there was no Child SA, where that was said.
        why: Option<Box<Failure>>,
    },
    /// Somebody with the same identity took the peer's connection over from another address.
    #[error(
        "the connection from {} was replaced by one of the same identity from {} (so far {times} such changes)", .ends.0, .ends.1
    )]
    TakenOver {
        /// Where the replaced connection came from, and where the newer one.
        ends: Box<(SocketAddr, SocketAddr)>,
        /// How often the peer's address has changed that way.
        times: u64,
    },
    /// An answer that never comes is not needed any more: the peer started afresh.
    #[error("replaced by a newer connection of the same peer")]
    Replaced,
    /// Told before another node took the connection over: its text is all that is left.
    #[error("{0}")]
    Retold(Box<str>),
}

impl Failure {
    /// The configured peer that it is, where that was proved.
    pub fn proved(&self) -> Option<&str> {
        match self {
            Self::NotItsProposals { name, .. } | Self::Duplicate { name, .. } => Some(name),
            _ => None,
        }
    }

    /// Who the peer says it is, where it has said so.
    pub const fn names(&self) -> Option<&Identity> {
        match self {
            Self::UnknownPeer { remote_id: id, .. }
            | Self::Ambiguous { remote_id: id, .. }
            | Self::Duplicate { id, .. }
            | Self::Authentication { id }
            | Self::Certificate { id, .. }
            | Self::AuthMethod { id, .. } => Some(id),
            _ => None,
        }
    }
}

fn list(openings: &[Opening]) -> String {
    openings.iter().map(ToString::to_string).collect::<Vec<_>>().join(" or ")
}

fn method_name(method: Option<AuthMethod>) -> String {
    match method {
        None => "EAP (IKE_AUTH came without AUTH)".to_owned(),
        Some(AuthMethod::SHARED_KEY) => "a pre-shared key".to_owned(),
        Some(AuthMethod::NULL) => "nothing (AUTH method NULL)".to_owned(),
        Some(AuthMethod::SECURE_PASSWORD) => "a password (AUTH method SECURE_PASSWORD)".to_owned(),
        Some(
            method @ (AuthMethod::RSA_SIGNATURE
            | AuthMethod::DSS_SIGNATURE
            | AuthMethod::ECDSA_SHA256_P256
            | AuthMethod::ECDSA_SHA384_P384
            | AuthMethod::ECDSA_SHA512_P521
            | AuthMethod::DIGITAL_SIGNATURE),
        ) => format!("a certificate or raw public key (AUTH method {method})"),
        Some(AuthMethod(number)) => format!("AUTH method {number}"),
    }
}
