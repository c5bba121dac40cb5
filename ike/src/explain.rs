//! From a failure to its cause: which values differ, and what to change on which side. Fed by structured failures, not by
//! the text of a log.

mod advice;
mod certificates;
mod v1;

use std::collections::BTreeSet;

use crate::config::Mode;
use crate::credentials::Way;
use crate::failure::Failure;
use crate::proposal::iana;
use crate::wire::WireError;
use crate::wire::numbers::{ExchangeType, NotifyType};

/// Every word of [`Cause::kind`], for whoever counts by it.
pub const KINDS: [&str; 20] = [
    "psk",
    "authentication",
    "method",
    "certificate",
    "identity",
    "uniqueness",
    "address",
    "version",
    "proposal",
    "pfs",
    "group",
    "selectors",
    "mode",
    "silent",
    "unreachable",
    "nat",
    "busy",
    "peer",
    "resources",
    "local",
];

/// What a failure comes down to.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Cause {
    /// One word for programs, of [`KINDS`].
    pub kind: &'static str,
    /// What is wrong, in a sentence.
    pub summary: String,
    /// What to change, and where.
    pub advice: Vec<String>,
}

/// Explains a failure.
pub fn explain(failure: &Failure) -> Cause {
    let cause = |kind, advice: &[&str]| Cause {
        kind,
        summary: failure.to_string(),
        advice: advice.iter().map(|a| (*a).to_owned()).collect(),
    };
    let told = |kind, advice: Vec<String>| Cause { kind, summary: failure.to_string(), advice };
    match failure {
        Failure::NoProposal { offered, configured }
        | Failure::NotItsProposals { offered, configured, .. } => {
            let mut cause = cause("proposal", &[]);
            cause.advice.extend(difference(offered, configured));
            cause.advice.extend(advice::legacy(offered));
            cause
                .advice
                .push("here: add one of the peer's proposals to ike.proposals or espProposals".to_owned());
            cause.advice.push("there: offer one of the configured proposals".to_owned());
            cause
        }
        Failure::ProposalRefused { offered } => {
            let mut cause = cause("proposal", &[]);
            cause.advice.push(format!("there: accept one of {offered}"));
            cause.advice.push(
                "here: add a proposal that the peer has; its log names those it is configured with"
                    .to_owned(),
            );
            cause.advice.push("of a child: the peer may want it in transport mode only".to_owned());
            cause
        }
        Failure::InitRefused { offered } => told("proposal", advice::init_refused(offered)),
        Failure::Phase1Refused { exchange, offered } => {
            told("proposal", v1::phase1_refused(*exchange, offered))
        }
        Failure::QuickRefused { offered } => told("proposal", v1::quick_refused(offered)),
        Failure::ProxyRefused { local, remote } => told("selectors", v1::proxy_refused(local, remote)),
        Failure::NotifyV1 { exchange, notify } => {
            told(v1::notify_kind(*exchange, notify), v1::notify(*exchange, notify))
        }
        Failure::Undecryptable { .. } | Failure::ProofUnanswered { .. } | Failure::ProofUnreadable { .. } => {
            told("psk", v1::psk())
        }
        Failure::UnfinishedV1 { .. } => told("nat", v1::unfinished()),
        Failure::ProofRefused { .. } => told("authentication", v1::proof_refused()),
        Failure::MethodV1 { method } => told("method", v1::method(method)),
        Failure::Opening { theirs, ours, .. } => {
            told(v1::opening_kind(*theirs, ours), v1::opening(*theirs, ours))
        }
        Failure::Timeout {
            exchange: exchange @ (ExchangeType::MAIN_MODE | ExchangeType::AGGRESSIVE_MODE),
            remote,
            ..
        } => told("silent", v1::silent(*exchange, *remote)),
        Failure::Pfs { theirs, ours } => told("pfs", advice::pfs(theirs, ours)),
        Failure::RekeyRefused { groups, .. } => told("pfs", advice::rekey_refused(groups)),
        Failure::BadChoice { chosen, offered } => {
            let mut cause = cause("proposal", &["the peer does not keep to RFC 7296 section 2.7"]);
            cause.advice.extend(difference(chosen, offered));
            cause
        }
        Failure::NoGroup { wanted, offered } => {
            let mut cause = cause("group", &[]);
            cause.advice.push(format!(
                "here: add key exchange group {} to the proposal (configured: {offered})",
                iana::group(*wanted)
            ));
            cause.advice.push(format!("there: allow one of the configured groups ({offered})"));
            cause
        }
        Failure::UnknownPeer { remote_id, local_id, from } => {
            let mut cause = cause("identity", &[]);
            let local =
                local_id.as_ref().map(|id| format!(" and localIdentity to {id:?}")).unwrap_or_default();
            cause.advice.push(format!(
                "here: set remoteIdentity to {remote_id:?}{local}, and let remoteAddresses admit {}",
                from.ip()
            ));
            cause
                .advice
                .push("there: correct the identities (in strongSwan: local.id and remote.id)".to_owned());
            cause
        }
        Failure::Ambiguous { remote_id, way, .. } => {
            let mut cause = cause("identity", &[]);
            cause.advice.push(
                "there: name our identity too, as it is configured here (in strongSwan: remote.id), which tells them apart"
                    .to_owned(),
            );
            let what = match way {
                Way::Psk => "keys",
                Way::Certificate => "authorities",
            };
            cause.advice.push(format!(
                "here: give the peers that are called {remote_id:?} different {what}, or remoteAddresses that have nothing in common"
            ));
            cause
        }
        Failure::UnknownAddress { from } => {
            let mut cause = cause("address", &[]);
            cause.advice.push(format!("here: if that is this peer, add {} to remoteAddresses", from.ip()));
            cause.advice.push("a peer behind NAT comes from the NAT's address".to_owned());
            cause
        }
        Failure::Malformed { error: WireError::MajorVersion(version), .. } => Cause {
            kind: "version",
            summary: advice::version_summary(*version),
            advice: advice::version(*version),
        },
        Failure::Notify { notify: NotifyType::INVALID_MAJOR_VERSION, .. } => {
            told("version", advice::version(1))
        }
        Failure::Duplicate { id, ends, .. } => {
            let up = ends.0;
            let mut cause = cause("uniqueness", &[]);
            cause.advice.push(format!(
                "there: if another gateway at {up} calls itself {id:?}, give each its own identity"
            ));
            cause.advice.push(
                "here: a peer for each of them, or ike.uniqueness: REPLACE, if the newer one shall win"
                    .to_owned(),
            );
            cause.advice.push(
                "if it is the same gateway and has moved: the old connection goes once it does not answer"
                    .to_owned(),
            );
            cause
        }
        Failure::WrongIdentity { got, expected } => {
            let mut cause = cause("identity", &[]);
            cause.advice.push(format!("here: set remoteIdentity to {got:?}"));
            cause.advice.push(format!("there: set its own identity to {expected:?}"));
            cause
        }
        Failure::Authentication { id } => {
            let mut cause =
                cause("psk", &["the identities fit, the keys do not: compare them octet by octet"]);
            cause.advice.push(format!(
                "either side: set the same pre-shared key for {id:?}; a line end counts as an octet"
            ));
            cause
        }
        Failure::AuthenticationRefused { local_id, remote_id, ours: Way::Certificate, certificate: _ } => {
            told("authentication", certificates::refused_there(local_id, remote_id))
        }
        Failure::AuthenticationRefused { local_id, remote_id, ours: Way::Psk, certificate } => {
            let kind = if *certificate { "method" } else { "authentication" };
            told(kind, advice::authentication_refused(local_id, remote_id, *certificate))
        }
        Failure::AuthMethod { id, method, configured: Way::Psk } => {
            told("method", advice::method(id, *method))
        }
        Failure::AuthMethod { id, method, configured: Way::Certificate } => {
            told("method", certificates::method(id, *method))
        }
        Failure::Certificate { id, fault } => told("certificate", certificates::refused_here(id, fault)),
        Failure::NoSignature { ours, announced } => {
            told("certificate", certificates::no_signature(ours, *announced))
        }
        Failure::Selectors { offered_local, offered_remote, configured } => {
            told("selectors", advice::selectors(offered_local, offered_remote, configured))
        }
        Failure::SelectorsRefused { local, remote } => {
            told("selectors", advice::selectors_refused(local, remote))
        }
        Failure::Narrowed { uncovered, .. } => told("selectors", advice::narrowed(uncovered)),
        Failure::Mode { configured: Mode::Transport, .. } => cause(
            "mode",
            &[
                "here: set mode: TUNNEL for the child, and the subnets behind both sides",
                "there: ask for transport mode, and take it when it is asked for (in strongSwan: mode = transport)",
                "a peer also declines transport mode where it finds a NAT or its ESP cannot carry it",
            ],
        ),
        Failure::Mode { .. } => cause(
            "mode",
            &[
                "here: set mode: TRANSPORT for the child",
                "there: use tunnel mode (in strongSwan: mode = tunnel)",
            ],
        ),
        Failure::TransportNat => cause(
            "mode",
            &[
                "here: set mode: TUNNEL for the child, which works behind a NAT",
                "here: is forceEncapsulation of the peer off, and router.raw_esp on with the privilege for it?",
                "there: does it force UDP encapsulation (in strongSwan: encap = yes)?",
            ],
        ),
        Failure::TransportHosts { .. } => cause(
            "mode",
            &[
                "here: set localSubnets and remoteSubnets of the child to the addresses of the two ends",
                "or set mode: TUNNEL to protect what is behind them",
            ],
        ),
        Failure::TransportRefused { .. } => cause(
            "mode",
            &[
                "there: set transport mode for the child, and the same proposals (in strongSwan: mode = transport)",
                "there: does it find a NAT? Then it may not want transport mode",
                "here: set mode: TUNNEL for the child if the peer has no transport mode",
            ],
        ),
        Failure::Timeout { exchange: ExchangeType::IKE_SA_INIT, remote, .. } => {
            let mut cause = cause("silent", &[]);
            cause.advice.push(format!("is {} the right address, and does the peer run?", remote.ip()));
            cause.advice.push("is UDP 500 let through in both directions?".to_owned());
            cause
                .advice
                .push("some peers answer nothing to an address or a proposal they do not know".to_owned());
            cause.advice.push(
                "there: a peer that speaks IKEv1 only may not answer IKEv2 either (in strongSwan: version = 2)"
                    .to_owned(),
            );
            cause
        }
        Failure::Timeout { exchange: ExchangeType::IKE_AUTH, .. } => cause(
            "nat",
            &[
                "IKE_SA_INIT was answered over UDP 500, but IKE_AUTH goes over UDP 4500: is that let through?",
                "or a firewall drops IP fragments: IKE_AUTH is the first large message",
                "or a link on the way takes no large packets and does not say so (a path MTU black hole): let ICMP \"fragmentation \
                 needed\" through, or have the peer fragment IKE messages (in strongSwan: fragmentation = yes)",
            ],
        ),
        Failure::Timeout { .. } => cause(
            "silent",
            &[
                "the tunnel was up and the peer stopped answering: it is down, restarted, or cut off",
                "a NAT may have forgotten the mapping; keepalives go every 20 s from the side behind it",
            ],
        ),
        Failure::Unreachable { remote, .. } => told("unreachable", advice::unreachable(*remote)),
        Failure::Unresolved { name, .. } => told("address", advice::unresolved(name)),
        Failure::Unfinished { .. } => cause(
            "nat",
            &[
                "the peer got no further than IKE_SA_INIT: it did not get our answer, or its IKE_AUTH over UDP 4500 is dropped",
                "or it refused our choice; its log says so",
            ],
        ),
        Failure::Notify { notify: NotifyType::NO_ADDITIONAL_SAS, .. } => cause(
            "resources",
            &["there: the peer allows no further Child SA; some take one only for each IKE SA"],
        ),
        Failure::Notify { notify: NotifyType::SINGLE_PAIR_REQUIRED, .. } => cause(
            "selectors",
            &["here: one subnet on each side for each child; the peer takes single pairs only"],
        ),
        Failure::Notify {
            notify: NotifyType::FAILED_CP_REQUIRED | NotifyType::INTERNAL_ADDRESS_FAILURE,
            ..
        } => cause(
            "peer",
            &["there: the peer wants to assign an address; configure it as a site-to-site connection"],
        ),
        Failure::Notify { notify: NotifyType::INVALID_SYNTAX, .. } | Failure::Malformed { .. } => {
            cause("peer", &["one of the two implementations is at fault: capture the exchange and report it"])
        }
        Failure::Notify { .. } => cause("peer", &["the peer's log says why it refused"]),
        Failure::StillBusy => {
            cause("busy", &["the peer may hang in a rekeying of its own; restart the tunnel there"])
        }
        Failure::Crypto(_) => {
            cause("peer", &["an invalid public value or a damaged message: capture and report it"])
        }
        Failure::NoSpi => {
            cause("resources", &["here: the table of SPIs is full; spread the peers over more nodes"])
        }
        Failure::NotInstalled(_) => {
            cause("local", &["here: this node's own routes and devices are in the way; it is tried again"])
        }
        Failure::NotRekeyed(why) => Cause { summary: failure.to_string(), ..explain(why) },
        Failure::NoChild { policy } => told("peer", advice::no_child(policy)),
        Failure::EndedChildless { why: Some(why), .. } => {
            Cause { summary: failure.to_string(), ..explain(why) }
        }
        Failure::EndedChildless { why: None, .. } => told("peer", advice::ended_childless()),
        Failure::TakenOver { ends, .. } => told("uniqueness", advice::taken_over(ends.0, ends.1)),
        Failure::ChildGone(_) => cause("local", &["nothing is wrong: ask again once there is another"]),
        Failure::TooManyChildren(_) => cause(
            "resources",
            &["there: the peer makes Child SAs and never deletes them; restart the tunnel"],
        ),
        Failure::TooManyParts { .. } => cause(
            "resources",
            &[
                "here: configure a child for each of the subnets that the peer asks for by itself",
                "there: ask for several subnets by one Child SA",
            ],
        ),
        Failure::Expired => {
            cause("peer", &["the peer did not let the IKE SA be rekeyed in time; see the attempts before"])
        }
        Failure::Replaced => cause("local", &["nothing is wrong: the peer started afresh"]),
        Failure::Retold(_) => {
            cause("peer", &["another node has seen this, from which this one took over; its log has more"])
        }
    }
}

/// The algorithms only one side has, of two lists of proposals.
fn difference(theirs: &str, ours: &str) -> Vec<String> {
    let words = |list: &str| -> BTreeSet<String> {
        list.split([',', '-']).map(str::trim).filter(|w| !w.is_empty()).map(str::to_owned).collect()
    };
    let (a, b) = (words(theirs), words(ours));
    let only =
        |x: &BTreeSet<String>, y: &BTreeSet<String>| x.difference(y).cloned().collect::<Vec<_>>().join(", ");
    let mut lines = Vec::new();
    for (side, list) in [("only the peer has", only(&a, &b)), ("only configured here", only(&b, &a))] {
        if !list.is_empty() {
            lines.push(format!("{side}: {list}"));
        }
    }
    lines
}

#[cfg(test)]
mod tests;
