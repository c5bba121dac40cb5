//! Which algorithms a peer may have: by the version of IKE, and by whether it is said to have nothing better.

use ike::proposal::ikev1::MAX_COMBINATIONS;
use ike::{EspProposal, IkeProposal};

use crate::peer::version::IkeVersion;
use crate::violation::Violations;

/// HMAC-SHA-256 cut to 96 bits, and to 128, which have the same number in IKEv1.
const CUT_SHORT: &str = "sha256_96";
const CUT: &str = "sha256";

/// What decides.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Allowed {
    pub(crate) version: IkeVersion,
    /// Legacy algorithms are.
    pub(crate) legacy: bool,
}

impl Allowed {
    /// What is proposed for an IKE SA when nothing is configured.
    pub(crate) fn default_ike(self) -> Vec<IkeProposal> {
        if self.version.is_v1() { IkeProposal::defaults_in_v1() } else { IkeProposal::defaults() }
    }

    /// What is proposed for a Child SA when nothing is configured.
    pub(crate) fn default_esp(self) -> Vec<EspProposal> {
        if self.version.is_v1() { EspProposal::defaults_in_v1() } else { EspProposal::defaults() }
    }

    /// What is wrong with a proposal for an IKE SA.
    pub(crate) fn fault_of_ike(self, proposal: &IkeProposal) -> Option<String> {
        let form = if self.version.is_v1() { proposal.fault_in_v1() } else { None };
        form.or_else(|| self.fault_of_legacy(&proposal.legacy()))
    }

    /// What is wrong with a proposal for a Child SA.
    pub(crate) fn fault_of_esp(self, proposal: &EspProposal) -> Option<String> {
        let form = if self.version.is_v1() {
            proposal.fault_in_v1()
        } else {
            proposal
                .has(CUT_SHORT)
                .then(|| format!("{CUT_SHORT} is for ike.version IKEV1 alone; expected {CUT}"))
        };
        form.or_else(|| self.fault_of_legacy(&proposal.legacy()))
    }

    /// All proposals of IKE SAs together, which are one offer in IKEv1.
    pub(crate) fn check_offer(self, proposals: &[IkeProposal], faults: &mut Violations) {
        let combinations: usize = proposals.iter().map(IkeProposal::combinations_in_v1).sum();
        if self.version.is_v1() && combinations > MAX_COMBINATIONS {
            let fault = format!(
                "{combinations} combinations of encryption, hash and group; an offer of IKEv1 has room for {MAX_COMBINATIONS}"
            );
            faults.add("proposals", fault);
        }
    }

    /// All proposals of a child together: whether HMAC-SHA-256 is cut to 96 or to 128 bits is not said on the wire.
    pub(crate) fn check_child(self, proposals: &[EspProposal], faults: &mut Violations) {
        let has = |word| proposals.iter().any(|proposal| proposal.has(word));
        if self.version.is_v1() && has(CUT_SHORT) && has(CUT) {
            let fault = format!(
                "{CUT_SHORT} and {CUT} have the same number in IKEv1; expected one of them in a child"
            );
            faults.add("esp_proposals", fault);
        }
    }

    fn fault_of_legacy(self, words: &[&str]) -> Option<String> {
        let word = words.first().filter(|_| !self.legacy)?;
        let why = why_legacy(word);
        Some(format!("{word} is legacy: {why}; set legacy: true on the peer if it has nothing better"))
    }
}

/// What speaks against an algorithm.
fn why_legacy(word: &str) -> &'static str {
    match word {
        "3des" => "its blocks of 64 bits begin to repeat after some 32 GiB under one key",
        "md5" | "prfmd5" => "MD5 is broken, and no more than habit speaks for its HMAC (RFC 6151)",
        "sha1" | "prfsha1" => "SHA-1 is broken, and its HMAC is on the way out (RFC 8247)",
        "modp1024" => "who has done the work for its prime once, as a state can, reads every exchange",
        "modp1536" => "1536 bits are too few for what is to stay secret for years (RFC 8247)",
        _ => "RFC 8221 and RFC 8247 advise against it",
    }
}
