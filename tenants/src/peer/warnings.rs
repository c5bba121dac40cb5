//! What is allowed of a peer, but weaker than it could be.

use ike::config::{Opening, Phase1};
use ike::verbs::MAX_CANDIDATES;

use crate::peer::PeerSpec;
use crate::peer::version::{IkeV1, IkeVersion};
use crate::remote::RemoteAddress;

impl PeerSpec {
    /// What is weaker than it could be, a sentence each.
    pub fn warnings(&self) -> Vec<String> {
        let phase_1 = match self.ike.version {
            IkeVersion::V2 => None,
            IkeVersion::V1(IkeV1 { mode: Phase1::Aggressive, .. }) => Some(self.of_aggressive_mode()),
            IkeVersion::V1(IkeV1 { mode: Phase1::Main, .. }) => self.of_main_mode(),
        };
        phase_1.into_iter().chain(self.of_legacy()).collect()
    }

    fn of_aggressive_mode(&self) -> String {
        let secrets =
            self.auth.secrets().map(|(_, secret)| secret.to_string()).collect::<Vec<_>>().join(", ");
        format!(
            "{}: the identities go in the clear, and whoever asks as {} gets an answer with which the key {secrets} can be \
             guessed offline; use IKEv2 or Main Mode if the peer can, else a secret of 20 random characters or more",
            Opening::Aggressive,
            self.remote_identity
        )
    }

    fn of_main_mode(&self) -> Option<String> {
        let wide = self.remote_addresses.iter().find(|remote| matches!(remote, RemoteAddress::Subnet(_)));
        let from = match wide {
            Some(subnet) => subnet.to_string(),
            None if self.remote_addresses.is_empty() => "anywhere".to_owned(),
            None => return None,
        };
        Some(format!(
            "{} from {from}: the identity is encrypted under a key that is made of the pre-shared one, so the address alone \
             tells which keys can be meant, of which {MAX_CANDIDATES} are tried; use IKEv2, or single addresses in \
             remote_addresses",
            Opening::Main
        ))
    }

    fn of_legacy(&self) -> Option<String> {
        let mut places = Vec::new();
        let mut note = |place: String, words: Vec<&'static str>| {
            let mut each: Vec<&str> = Vec::new();
            words.into_iter().for_each(|word| {
                if !each.contains(&word) {
                    each.push(word)
                }
            });
            if !each.is_empty() {
                places.push(format!("{} in {place}", each.join(", ")));
            }
        };
        note("ike.proposals".to_owned(), self.ike.proposals.iter().flat_map(|p| p.legacy()).collect());
        for child in &self.children {
            let words = child.esp_proposals.iter().flat_map(|p| p.legacy()).collect();
            note(format!("children[{}].esp_proposals", child.name), words);
        }
        let places = places.join("; ");
        (!places.is_empty()).then(|| {
            format!("legacy algorithms are allowed: {places}; take them out as soon as the peer has something better")
        })
    }
}
