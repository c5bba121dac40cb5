//! What to change, and on which side, where that depends on the values. Each line names its side: `here` is this node, `there`
//! is the peer.

use std::collections::BTreeSet;
use std::net::SocketAddr;

use crate::identity::Identity;
use crate::proposal::table::by_word;
use crate::wire::numbers::AuthMethod;

fn lines<const N: usize>(lines: [&str; N]) -> Vec<String> {
    lines.map(str::to_owned).to_vec()
}

/// What a peer that speaks another version of IKE means.
pub(super) fn version_summary(version: u8) -> String {
    format!("a message of IKEv{version} came from there; this node speaks IKEv1 and IKEv2")
}

pub(super) fn version(version: u8) -> Vec<String> {
    if version == 1 {
        lines([
            "there: use IKEv2 instead of IKEv1 (in strongSwan: version = 2)",
            "here: or ike.version: IKEV1 for that peer",
        ])
    } else {
        vec![format!(
            "IKEv{version} does not exist yet: this is no IKE implementation, or somebody tries the port"
        )]
    }
}

/// NO_PROPOSAL_CHOSEN to IKE_SA_INIT.
pub(super) fn init_refused(offered: &str) -> Vec<String> {
    vec![
        format!("there: accept one of {offered}"),
        "here: add a proposal that the peer has to ike.proposals; it does not say which, its log does".to_owned(),
        "there: some answer so if they have no connection for our address, or one of IKEv1 only (in strongSwan: version = 2, \
         and remote_addrs)"
            .to_owned(),
    ]
}

/// What the peer offers is in part what is refused here unless it is asked for.
pub(super) fn legacy(offered: &str) -> Option<String> {
    let words: BTreeSet<&str> = offered
        .split([',', '-'])
        .map(str::trim)
        .filter(|word| by_word(word).is_some_and(|row| row.legacy))
        .collect();
    (!words.is_empty()).then(|| {
        let words = words.into_iter().collect::<Vec<_>>().join(", ");
        format!("of the peer's, {words} are legacy: better offer others there; here they need legacy: true of the peer")
    })
}

/// Groups of a rekeying that have nothing in common.
pub(super) fn pfs(theirs: &str, ours: &str) -> Vec<String> {
    let groups =
        |groups: &str| groups.split(", ").filter(|g| *g != "nopfs").map(str::to_owned).collect::<Vec<_>>();
    let (a, b) = (groups(theirs), groups(ours));
    let join = |groups: &[String]| groups.join(", ");
    let here = match a.first() {
        Some(group) => format!(
            "here: add one of the peer's groups to espProposals of the child, e.g. aes128gcm16-{group}"
        ),
        None => "here: add nopfs to espProposals of the child, or leave its groups out".to_owned(),
    };
    let there = if b.is_empty() {
        format!(
            "there: leave the group out of the child's proposals, now {} (in strongSwan: esp_proposals)",
            join(&a)
        )
    } else {
        format!("there: add one of {} to the child's proposals (in strongSwan: esp_proposals)", join(&b))
    };
    vec![here, there]
}

/// NO_PROPOSAL_CHOSEN to a rekeying, of which the peer had taken the rest.
pub(super) fn rekey_refused(groups: &str) -> Vec<String> {
    let (here, there) = if groups == "nopfs" {
        (
            "here: add the group that the peer wants to espProposals of the child, e.g. aes128gcm16-x25519",
            "there: leave the group out of the child's proposals (in strongSwan: esp_proposals)".to_owned(),
        )
    } else {
        (
            "here: add nopfs to espProposals of the child, or the group that the peer wants",
            format!("there: add one of {groups} to the child's proposals (in strongSwan: esp_proposals)"),
        )
    };
    vec![
        "perfect forward secrecy differs: the peer took the same algorithms before, when no key exchange came with them"
            .to_owned(),
        here.to_owned(),
        there,
    ]
}

/// AUTHENTICATION_FAILED to our IKE_AUTH, which says no more than that.
pub(super) fn authentication_refused(ours: &Identity, theirs: &Identity, certificate: bool) -> Vec<String> {
    let mut advice = Vec::new();
    if certificate {
        advice.push(format!(
            "there: it asked for a certificate (CERTREQ): let it take a pre-shared key of {ours:?} (in strongSwan: remote.auth = \
             psk)"
        ));
        advice.push("here: or auth.certificates for that peer, with a certificate that it trusts".to_owned());
    }
    advice.extend([
        format!(
            "there: is our identity {ours:?} that of its peer (in strongSwan: remote.id)? If not, set it there, or localIdentity \
             here"
        ),
        format!(
            "here: is remoteIdentity {theirs:?} what it calls itself (in strongSwan: local.id)? If not, set the one to the other"
        ),
        format!(
            "either side: set the same pre-shared key for {ours:?} and {theirs:?}; a line end counts as an octet"
        ),
    ]);
    if !certificate {
        advice.push(
            "there: it may want a certificate or EAP of us (in strongSwan: remote.auth = psk)".to_owned(),
        );
    }
    advice.push("the peer does not say which of them it is; its log does".to_owned());
    advice
}

/// A peer that authenticates by something else than a pre-shared key.
pub(super) fn method(id: &Identity, method: Option<AuthMethod>) -> Vec<String> {
    let (there, here) = match method {
        None => (
            "there: use a pre-shared key instead of EAP (in strongSwan: local.auth = psk)",
            "here: nothing; this node has no EAP",
        ),
        Some(_) => (
            "there: use a pre-shared key instead of a certificate (in strongSwan: local.auth = psk)",
            "here: or auth.certificates for that peer, with the authority of its certificate",
        ),
    };
    vec![format!("{there}, and the key that is configured here for {id:?}"), here.to_owned()]
}

/// Selectors without overlap.
pub(super) fn selectors(local: &str, remote: &str, configured: &str) -> Vec<String> {
    vec![
        format!("here: make localSubnets overlap with {local}, and remoteSubnets with {remote}"),
        format!(
            "there: offer subnets that overlap with {configured}, seen from here (in strongSwan: remote_ts is our side, local_ts \
             its own)"
        ),
    ]
}

/// TS_UNACCEPTABLE, which says nothing of what would be accepted.
pub(super) fn selectors_refused(local: &str, remote: &str) -> Vec<String> {
    vec![
        format!(
            "there: make its subnets overlap with ours (in strongSwan: remote_ts = {local}, local_ts = {remote})"
        ),
        format!("here: change localSubnets, now {local}, or remoteSubnets, now {remote}"),
        "the peer does not say what it has; its log does".to_owned(),
    ]
}

/// A Child SA for less than was asked for.
pub(super) fn narrowed(uncovered: &str) -> Vec<String> {
    vec![
        format!(
            "there: let the child take {uncovered} too, seen from here (in strongSwan: remote_ts is our side, local_ts its own)"
        ),
        format!(
            "here: take {uncovered} out of localSubnets and remoteSubnets, if it is not to go through the tunnel"
        ),
    ]
}

/// IKE_AUTH answered without the Child SA, and without a reason.
pub(super) fn no_child(policy: &str) -> Vec<String> {
    vec![
        format!("there: is there a child for the subnets of {policy}? The peer's log says why it made none"),
        "here: compare localSubnets, remoteSubnets and espProposals of the child with the peer's".to_owned(),
    ]
}

/// A peer that ended the IKE SA and has not said why.
pub(super) fn ended_childless() -> Vec<String> {
    lines([
        "there: its log says why it ended it: it may refuse our identity or key late, or have no use for the connection",
        "there: a limit of connections, or another connection of the same identity, ends one so too (in strongSwan: unique)",
        "here: compare the child's subnets, mode and espProposals with the peer's",
    ])
}

/// Two of the same identity that push each other out.
pub(super) fn taken_over(old: SocketAddr, new: SocketAddr) -> Vec<String> {
    vec![
        format!("there: if {old} and {new} are two gateways, give each its own identity"),
        "here: a peer for each of them; or ike.uniqueness: KEEP, if the one that is connected shall stay"
            .to_owned(),
        "if it is one gateway that has moved, nothing is wrong".to_owned(),
    ]
}

/// Nothing gets there.
pub(super) fn unreachable(remote: SocketAddr) -> Vec<String> {
    vec![
        format!(
            "here: is {} the peer's address, and has this node a route to it (ip route get {0})?",
            remote.ip()
        ),
        "there: is the host up, and does a firewall on the way reject UDP 500 and 4500?".to_owned(),
    ]
}

/// A name that does not resolve.
pub(super) fn unresolved(name: &str) -> Vec<String> {
    vec![
        format!("here: is {name} the right name in remoteAddresses, and does this node resolve it (getent ahosts {name})?"),
        "here: does this node reach its DNS server, and does the way there lead through a tunnel that is down?".to_owned(),
        format!("there: a gateway with a dynamic address has to tell whoever serves {name} each time that it changes"),
        "here: an address in remoteAddresses in place of the name needs no resolver".to_owned(),
    ]
}
