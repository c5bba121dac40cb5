//! Proposals by kind of algorithm, and the words that devices have for them.

use ike::proposal::table::{self, Algorithm};
use ike::wire::numbers::TransformType;
use ike::wire::sa::Transform;
use ike::{EspProposal, IkeProposal};

/// A word of Culvert for an algorithm, in the spelling that it is printed with.
pub(crate) type Word = &'static str;

/// A proposal: of each kind, in the order of preference, what may be chosen.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Suite {
    pub(crate) encryption: Vec<Word>,
    /// None with an AEAD.
    pub(crate) integrity: Vec<Word>,
    /// For an IKE SA only.
    pub(crate) prf: Vec<Word>,
    pub(crate) groups: Vec<Word>,
    /// `esn`, `noesn`: for ESP only.
    pub(crate) esn: Vec<Word>,
}

/// What leaves a key exchange out.
pub(crate) const NO_PFS: Word = "nopfs";

impl Suite {
    /// Of the text of an IKE proposal.
    pub(crate) fn of_ike(text: &str) -> Result<Self, String> {
        let proposal: IkeProposal = text.parse().map_err(|error| format!("{error}"))?;
        Ok(Self::of(proposal.transforms()))
    }

    /// Of the text of an ESP proposal.
    pub(crate) fn of_esp(text: &str) -> Result<Self, String> {
        let proposal: EspProposal = text.parse().map_err(|error| format!("{error}"))?;
        Ok(Self::of(proposal.transforms()))
    }

    fn of(transforms: &[Transform]) -> Self {
        let mut suite = Self::default();
        for row in transforms.iter().filter_map(table::by_transform) {
            suite.add(row);
        }
        suite
    }

    fn add(&mut self, row: &Algorithm) {
        let list = match row.transform.kind {
            TransformType::ENCR => &mut self.encryption,
            TransformType::INTEG => &mut self.integrity,
            TransformType::PRF => &mut self.prf,
            TransformType::KE => &mut self.groups,
            TransformType::ESN => &mut self.esn,
            _ => return,
        };
        if !list.contains(&row.word) {
            list.push(row.word);
        }
    }

    /// Adds an algorithm by any of its words; whether there is such a word.
    pub(crate) fn add_word(&mut self, word: &str) -> bool {
        let row = table::by_word(word).and_then(|row| table::by_transform(&row.transform));
        if let Some(row) = row {
            self.add(row);
        }
        row.is_some()
    }

    /// As an IKE proposal is written.
    pub(crate) fn ike_text(&self) -> String {
        let lists = [&self.encryption, &self.integrity, &self.prf, &self.groups].into_iter().flatten();
        lists.copied().collect::<Vec<_>>().join("-")
    }

    /// The same as people write it: without a PRF that goes without saying, which old peers do not know beside an integrity
    /// algorithm.
    pub(crate) fn ike_text_short(&self) -> String {
        if self.prf_goes_without_saying() {
            Self { prf: Vec::new(), ..self.clone() }.ike_text()
        } else {
            self.ike_text()
        }
    }

    /// As an ESP proposal is written. Both kinds of sequence numbers are what goes without saying.
    pub(crate) fn esp_text(&self) -> String {
        let esn = if self.esn.len() == 1 { self.esn.as_slice() } else { &[] };
        let lists = [&self.encryption, &self.integrity, &self.groups].into_iter().flatten();
        lists.chain(esn).copied().collect::<Vec<_>>().join("-")
    }

    /// Whether its encryption authenticates as well.
    pub(crate) fn is_aead(&self) -> bool {
        self.encryption.iter().any(|word| is_aead(word))
    }

    /// Apart, where ciphers that authenticate are among others: no proposal of Culvert has both.
    pub(crate) fn apart(self) -> Vec<Self> {
        let (aead, other): (Vec<Word>, Vec<Word>) = self.encryption.iter().partition(|word| is_aead(word));
        let mut suites = Vec::new();
        // In the order of the first of each.
        let aead_first = self.encryption.first().is_some_and(|word| is_aead(word));
        let of = |encryption: Vec<Word>, integrity: Vec<Word>| Self { encryption, integrity, ..self.clone() };
        if !aead.is_empty() {
            suites.push(of(aead, Vec::new()));
        }
        if !other.is_empty() {
            suites.insert(if aead_first { suites.len() } else { 0 }, of(other, self.integrity.clone()));
        }
        suites
    }

    /// Whether any of its algorithms is legacy.
    pub(crate) fn is_legacy(&self) -> bool {
        let all = [&self.encryption, &self.integrity, &self.prf, &self.groups].into_iter().flatten();
        all.filter_map(|word| table::by_word(word)).any(|row| row.legacy)
    }

    /// With the PRFs that go with its integrity algorithms.
    pub(crate) fn with_prf_of_integrity(self) -> Self {
        Self { prf: self.integrity.iter().filter_map(|word| Self::prf_of(word)).collect(), ..self }
    }

    /// The PRF that goes with an integrity algorithm, where a device has no word for it.
    pub(crate) fn prf_of(integrity: Word) -> Option<Word> {
        Some(match integrity {
            "md5" => "prfmd5",
            "sha1" => "prfsha1",
            "sha256" => "prfsha256",
            "sha384" => "prfsha384",
            "sha512" => "prfsha512",
            "aesxcbc" => "prfaesxcbc",
            "aescmac" => "prfaescmac",
            _ => return None,
        })
    }

    /// Whether its PRFs are those that go with its integrity algorithms.
    pub(crate) fn prf_goes_without_saying(&self) -> bool {
        let derived: Vec<Word> = self.integrity.iter().filter_map(|word| Self::prf_of(word)).collect();
        !self.integrity.is_empty() && derived == self.prf
    }

    /// Each single choice, for devices that take no lists: encryption, integrity, PRF and group, no more than `limit`.
    pub(crate) fn choices(&self, limit: usize) -> Vec<Self> {
        let alone = |list: &[Word]| -> Vec<Vec<Word>> {
            if list.is_empty() { vec![Vec::new()] } else { list.iter().map(|word| vec![*word]).collect() }
        };
        let mut all = Vec::new();
        for encryption in alone(&self.encryption) {
            for integrity in alone(&self.integrity) {
                for groups in alone(&self.groups) {
                    let derived = integrity.first().filter(|_| !self.prf.is_empty());
                    let derived = derived.and_then(|word| Self::prf_of(word));
                    let prf = derived.map_or_else(|| self.prf.clone(), |prf| vec![prf]);
                    let (encryption, integrity) = (encryption.clone(), integrity.clone());
                    all.push(Self { encryption, integrity, prf, groups, esn: self.esn.clone() });
                }
            }
        }
        all.truncate(limit);
        all
    }
}

fn is_aead(word: &str) -> bool {
    table::by_word(word).is_some_and(|row| row.aead)
}

/// The words of a device: Culvert's and the device's own. The first row of a word is the one that is written.
pub(crate) type Words = &'static [(Word, &'static str)];

/// The device's words for a list, and Culvert's of which it has none.
pub(crate) fn spoken(words: Words, list: &[Word]) -> (Vec<&'static str>, Vec<Word>) {
    let mut known = Vec::new();
    let mut unknown = Vec::new();
    for word in list {
        match words.iter().find(|(ours, _)| ours == word) {
            Some((_, theirs)) => known.push(*theirs),
            None => unknown.push(*word),
        }
    }
    (known, unknown)
}

/// Culvert's word for one of the device's.
pub(crate) fn understood(words: Words, theirs: &str) -> Option<Word> {
    words.iter().find(|(_, word)| *word == theirs).map(|(ours, _)| *ours)
}

/// Of proposals what a device has: lists without what it does not know, proposals without those of which nothing is left. What
/// is left out is told.
pub(crate) fn reduced(suites: &[Suite], knows: impl Fn(Word) -> bool, notes: &mut Vec<String>) -> Vec<Suite> {
    let mut left_out: Vec<Word> = Vec::new();
    let mut kept = Vec::new();
    for suite in suites {
        let mut keep = |list: &[Word]| -> Vec<Word> {
            let (known, unknown): (Vec<Word>, Vec<Word>) = list.iter().partition(|word| knows(word));
            left_out.extend(unknown);
            known
        };
        let reduced = Suite {
            encryption: keep(&suite.encryption),
            integrity: keep(&suite.integrity),
            prf: keep(&suite.prf),
            groups: keep(&suite.groups),
            esn: suite.esn.clone(),
        };
        let gone = |before: &[Word], after: &[Word]| after.is_empty() && !before.is_empty();
        let usable = !gone(&suite.encryption, &reduced.encryption)
            && !gone(&suite.integrity, &reduced.integrity)
            && !gone(&suite.prf, &reduced.prf)
            && !gone(&suite.groups, &reduced.groups);
        if usable {
            kept.push(reduced);
        }
    }
    left_out.sort_unstable();
    left_out.dedup();
    if !left_out.is_empty() {
        notes.push(format!("the device does not have {}, which Culvert offers", left_out.join(", ")));
    }
    kept
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn proposals_are_taken_apart_and_put_together() {
        for text in
            ["aes128gcm16-prfsha256-x25519", "aes256-aes128-sha256-sha1-prfsha256-prfsha1-modp2048-modp1024"]
        {
            assert_eq!(Suite::of_ike(text).unwrap().ike_text(), text);
        }
        let derived = Suite::of_ike("aes256-sha256-modp2048").unwrap();
        assert!(derived.prf_goes_without_saying());
        assert_eq!(derived.ike_text(), "aes256-sha256-prfsha256-modp2048");
        for text in
            ["aes128gcm16", "aes256-sha256-modp2048-nopfs", "aes128gcm16-x25519-esn", "3des-md5-noesn"]
        {
            assert_eq!(Suite::of_esp(text).unwrap().esp_text(), text);
        }
        assert!(Suite::of_esp("3des-md5").unwrap().is_legacy() && !derived.is_legacy());
    }

    #[test]
    fn mixed_lists_are_two_proposals_and_choices_are_single() {
        let mut mixed = Suite::default();
        for word in ["aes256", "aes256gcm16", "aes128", "sha256", "prfsha256", "modp2048", "ecp256"] {
            assert!(mixed.add_word(word));
        }
        assert!(!mixed.add_word("rot13"));
        let texts: Vec<String> = mixed.apart().iter().map(Suite::ike_text).collect();
        assert_eq!(
            texts,
            ["aes256-aes128-sha256-prfsha256-modp2048-ecp256", "aes256gcm16-prfsha256-modp2048-ecp256"]
        );
        let single = Suite::of_ike("aes256-aes128-sha256-sha1-modp2048").unwrap();
        let texts: Vec<String> = single.choices(3).iter().map(Suite::ike_text).collect();
        assert_eq!(
            texts,
            [
                "aes256-sha256-prfsha256-modp2048",
                "aes256-sha1-prfsha1-modp2048",
                "aes128-sha256-prfsha256-modp2048"
            ]
        );
    }

    #[test]
    fn what_a_device_does_not_have_is_told() {
        let mut notes = Vec::new();
        let suites = [
            Suite::of_ike("aes128gcm16-chacha20poly1305-prfsha256-x25519-ecp256").unwrap(),
            Suite::of_ike("chacha20poly1305-prfsha256-ecp256").unwrap(),
        ];
        let left = reduced(&suites, |word| !["chacha20poly1305", "x25519"].contains(&word), &mut notes);
        assert_eq!(left.iter().map(Suite::ike_text).collect::<Vec<_>>(), ["aes128gcm16-prfsha256-ecp256"]);
        assert_eq!(notes, ["the device does not have chacha20poly1305, x25519, which Culvert offers"]);
    }
}
