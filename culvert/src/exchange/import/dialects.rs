//! Proposals of `ipsec.conf`, in the words of Libreswan and in those of strongSwan.

use super::usable;
use crate::exchange::export::libreswan::WORDS;
use crate::exchange::model::{Notes, Place};
use crate::exchange::suite::{Suite, Word};

/// Proposals of either dialect: `aes_gcm256-sha2_256-dh19`, `aes256+aes128-sha1;modp2048`, `aes256-sha256-modp2048!`.
///
/// Those of ESP come with the groups that go without saying.
pub(super) fn proposals(
    value: Option<&(String, Place)>,
    without_group: Option<&[Word]>,
    notes: &mut Notes,
) -> Vec<Suite> {
    let Some((value, place)) = value else { return Vec::new() };
    let mut suites = Vec::new();
    for text in value.trim_end_matches('!').split(',').map(str::trim).filter(|text| !text.is_empty()) {
        let mut suite = Suite::default();
        for word in text.split(['-', ';', '+']).filter(|word| !word.is_empty() && *word != "null") {
            if !add_word(&mut suite, word) {
                notes.add(place, format!("{word} is no algorithm of Culvert"));
            }
        }
        if let Some(groups) = without_group.filter(|_| suite.groups.is_empty()) {
            suite.groups.extend(groups);
        }
        if suite.is_aead() {
            // The hash beside it is the PRF.
            suite.prf.extend(suite.integrity.iter().filter_map(|word| Suite::prf_of(word)));
            suite.integrity.clear();
        } else if suite.prf.is_empty() {
            suite = suite.with_prf_of_integrity();
        }
        suites.extend(match without_group {
            None => usable(suite, Suite::ike_text, Suite::of_ike, place, notes),
            Some(_) => {
                // A PRF is of an IKE SA only.
                let suite = Suite { prf: Vec::new(), ..suite };
                usable(suite, Suite::esp_text, Suite::of_esp, place, notes)
            }
        });
    }
    suites
}

/// A word of either dialect, `_c` and key lengths in all their spellings.
fn add_word(suite: &mut Suite, word: &str) -> bool {
    let word = word
        .to_ascii_lowercase()
        .replace("aes_gcm_c", "aes_gcm")
        .replace("gcm_128", "gcm128")
        .replace("gcm_256", "gcm256");
    let ours = |word: &str| -> Option<Word> {
        WORDS.iter().find(|(_, theirs)| *theirs == word).map(|(ours, _)| *ours)
    };
    let plain = match word.as_str() {
        "aes" | "aes_cbc" => "aes128",
        "aes_gcm" => "aes_gcm256",
        "sha" => "sha1",
        "sha2" => "sha2_256",
        "dh2" => "modp1024",
        "dh22" => "",
        other => other,
    };
    ours(plain).is_some_and(|ours| suite.add_word(ours)) || suite.add_word(plain)
}
