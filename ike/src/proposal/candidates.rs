//! What IKE_SA_INIT is answered from: the proposals of all who may have sent it, for who has is known only in IKE_AUTH.
//!
//! Each candidate allows what it is configured with, and the choice should be good for whichever it turns out to be. So the
//! sets are kept apart: what more of them accept goes before what fewer do, and among those the initiator's order decides,
//! not ours and not that of the candidates. A choice that is wrong all the same is mended after IKE_AUTH.

use super::negotiate::{IkeChoice, Order, choose_one};
use super::text::IkeProposal;
use crate::wire::numbers::{ProtocolId, TransformType};
use crate::wire::sa::{Proposal, Transform};

/// Different proposals of all candidates together. There are some 20 that make sense; further ones are left out, so that the
/// cost of an answer does not grow with the number of tenants.
const MAX_PROPOSALS: usize = 64;
/// Sets that are kept apart; what is beyond them counts as one.
const MAX_SETS: usize = 32;
/// Choices that are weighed against each other.
const MAX_CHOICES: usize = 64;
/// Proposals of an offer that are searched for something in the middle, which takes longer.
const MAX_SEARCHED: usize = 4;

/// How much it counts what a candidate accepts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Likely {
    /// It may come from anywhere, or from a subnet.
    Possible,
    /// It is configured with this very address.
    Near,
    /// It came from there before.
    Known,
}

/// Candidates whose proposals are the same. The bits are places in the list of all proposals.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Set {
    likely: Likely,
    members: u64,
}

/// The proposals of those who may have sent a first message.
#[derive(Clone, Debug, Default)]
pub struct Candidates {
    proposals: Vec<IkeProposal>,
    sets: Vec<Set>,
}

impl Candidates {
    /// Those of one peer, which is the only one that it can be.
    pub fn only(proposals: &[IkeProposal]) -> Self {
        let mut this = Self::default();
        this.add(Likely::Near, proposals);
        this
    }

    /// Adds a candidate, or several with the same proposals. The more likely ones should come first.
    pub fn add(&mut self, likely: Likely, proposals: &[IkeProposal]) {
        let mut members = 0;
        for proposal in proposals {
            let at = self.proposals.iter().position(|p| p == proposal).or_else(|| {
                (self.proposals.len() < MAX_PROPOSALS).then(|| {
                    self.proposals.push(proposal.clone());
                    self.proposals.len() - 1
                })
            });
            members |= at.map_or(0, |at| 1 << at);
        }
        if members == 0 {
            return;
        }
        if let Some(set) = self.sets.iter_mut().find(|set| set.members == members) {
            set.likely = set.likely.max(likely);
        } else if self.sets.len() < MAX_SETS {
            self.sets.push(Set { likely, members });
        } else if let Some(last) = self.sets.last_mut() {
            last.members |= members;
        }
    }

    /// Adds those of another list.
    pub fn add_all(&mut self, others: &Self) {
        for set in &others.sets {
            let proposals: Vec<_> = others.of(set.members).cloned().collect();
            self.add(set.likely, &proposals);
        }
    }

    /// Whether nobody can have sent it.
    pub fn is_empty(&self) -> bool {
        self.sets.is_empty()
    }

    /// Every proposal that some candidate allows.
    pub fn proposals(&self) -> &[IkeProposal] {
        &self.proposals
    }

    fn of(&self, members: u64) -> impl Iterator<Item = &IkeProposal> {
        let all = self.proposals.iter().enumerate();
        all.filter(move |(at, _)| members & (1 << at) != 0).map(|(_, proposal)| proposal)
    }

    /// How many candidates accept a choice, the most likely ones first.
    fn score(&self, choice: &IkeChoice) -> [usize; 3] {
        let accepting = self.proposals.iter().enumerate().filter(|(_, p)| accepts(p, choice));
        let accepting: u64 = accepting.map(|(at, _)| 1 << at).sum();
        let count =
            |likely| self.sets.iter().filter(|s| s.likely == likely && s.members & accepting != 0).count();
        [count(Likely::Known), count(Likely::Near), count(Likely::Possible)]
    }

    /// The answer to an offer: the number and SPI of the accepted proposal and what was chosen from it.
    pub fn choose(&self, offered: &[Proposal]) -> Option<(Proposal, IkeChoice)> {
        let count = |likely| self.sets.iter().filter(|s| s.likely == likely).count();
        let everybody = [count(Likely::Known), count(Likely::Near), count(Likely::Possible)];
        let mut best: Option<([usize; 3], &Proposal, IkeChoice)> = None;
        let (mut weighed, mut searched) = (Vec::new(), 0);
        for theirs in offered.iter().filter(|p| p.protocol == ProtocolId::IKE) {
            let mut choices: Vec<IkeChoice> = Vec::new();
            for mine in &self.proposals {
                if let Some(choice) = choose_one(mine.transforms(), &theirs.transforms, Order::Theirs)
                    && !weighed.contains(&choice)
                    && weighed.len() < MAX_CHOICES
                {
                    weighed.push(choice);
                    choices.push(choice);
                }
            }
            if choices.is_empty() {
                continue;
            }
            if self.sets.len() > 1 && searched < MAX_SEARCHED {
                searched += 1;
                choices.extend(self.middle(theirs));
            }
            choices.sort_by_key(|choice| rank(choice, &theirs.transforms));
            for choice in choices {
                let score = self.score(&choice);
                if best.as_ref().is_none_or(|(other, ..)| score > *other) {
                    best = Some((score, theirs, choice));
                }
            }
            if best.as_ref().is_some_and(|(score, ..)| *score == everybody) {
                break;
            }
        }
        best.map(|(_, theirs, choice)| (theirs.clone(), choice))
    }

    /// What is left of a proposal when one candidate after the other takes out what it does not accept, but for those who
    /// would take out everything.
    fn middle(&self, theirs: &Proposal) -> Option<IkeChoice> {
        let mut left: Vec<Transform> = theirs.transforms.clone();
        let mut choice = None;
        let mut sets: Vec<&Set> = self.sets.iter().collect();
        sets.sort_by_key(|set| std::cmp::Reverse(set.likely));
        for set in sets {
            let found = self
                .of(set.members)
                .find_map(|mine| Some((mine, choose_one(mine.transforms(), &left, Order::Theirs)?)));
            if let Some((mine, found)) = found {
                left.retain(|t| mine.transforms().contains(t));
                choice = Some(found);
            }
        }
        choice
    }
}

/// Whether a proposal allows exactly this.
fn accepts(proposal: &IkeProposal, choice: &IkeChoice) -> bool {
    let mine = proposal.transforms();
    let integrity = match &choice.integ {
        Some(integ) => mine.contains(integ),
        None => !mine.iter().any(|t| t.kind == TransformType::INTEG),
    };
    integrity
        && mine.contains(&choice.encr)
        && mine.contains(&choice.prf)
        && mine.contains(&Transform::new(TransformType::KE, choice.group))
}

/// Where a choice stands in the order of the one who offers: encryption first, as it is written.
fn rank(choice: &IkeChoice, theirs: &[Transform]) -> [usize; 4] {
    let place = |t: &Transform| theirs.iter().position(|other| other == t).unwrap_or(usize::MAX);
    let group = Transform::new(TransformType::KE, choice.group);
    [place(&choice.encr), choice.integ.as_ref().map_or(0, place), place(&choice.prf), place(&group)]
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::super::negotiate::offer;
    use super::*;

    fn proposals(texts: &[&str]) -> Vec<IkeProposal> {
        texts.iter().map(|t| t.parse().unwrap()).collect()
    }

    fn offered(texts: &[&str]) -> Vec<Proposal> {
        offer(ProtocolId::IKE, &[], proposals(texts).iter().map(IkeProposal::transforms), true)
    }

    fn candidates(sets: &[&[&str]]) -> Candidates {
        let mut all = Candidates::default();
        for set in sets {
            all.add(Likely::Possible, &proposals(set));
        }
        all
    }

    fn chosen(sets: &[&[&str]], offer: &[&str]) -> Option<String> {
        candidates(sets).choose(&offered(offer)).map(|(_, choice)| choice.to_string())
    }

    const DEFAULTS: [&str; 2] = [
        "aes128gcm16-aes256gcm16-chacha20poly1305-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-modp2048",
        "aes128-aes256-sha256-sha384-sha512-prfsha256-prfsha384-prfsha512-x25519-ecp256-ecp384-modp2048",
    ];

    #[test]
    fn what_all_candidates_accept_goes_first() {
        let strict: &[&str] = &["aes256gcm16-prfsha384-ecp384"];
        let offer = ["aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-ecp384"];
        assert_eq!(chosen(&[&DEFAULTS, strict], &offer).unwrap(), "aes256gcm16-prfsha384-ecp384");
        // Also where one proposal has it all, and whoever comes first in the list.
        let offer = ["aes128gcm16-aes256gcm16-prfsha256-prfsha384-x25519-ecp384"];
        for sets in [[&DEFAULTS, strict], [strict, &DEFAULTS]] {
            assert_eq!(chosen(&sets, &offer).unwrap(), "aes256gcm16-prfsha384-ecp384");
        }
    }

    #[test]
    fn something_in_the_middle_is_found() {
        let sets: [&[&str]; 2] =
            [&["aes128gcm16-aes256gcm16-prfsha256-x25519"], &["aes256gcm16-prfsha256-ecp384-x25519"]];
        let offer = ["aes128gcm16-aes256gcm16-prfsha256-ecp384-x25519"];
        assert_eq!(chosen(&sets, &offer).unwrap(), "aes256gcm16-prfsha256-x25519");
    }

    #[test]
    fn the_initiators_order_decides_among_equals() {
        let mine: &[&str] =
            &["aes256gcm16-aes128gcm16-prfsha384-prfsha256-ecp384-x25519", "aes128-sha256-x25519"];
        for offer in [
            ["aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-ecp384"],
            ["aes256gcm16-prfsha384-ecp384", "aes128gcm16-prfsha256-x25519"],
            ["aes128-sha256-prfsha256-x25519", "aes128gcm16-prfsha256-x25519"],
        ] {
            assert_eq!(chosen(&[mine], &offer).unwrap(), offer[0]);
        }
        let mixed = "aes128gcm16-aes256gcm16-prfsha256-prfsha384-x25519-ecp384";
        assert_eq!(chosen(&[mine], &[mixed]).unwrap(), "aes128gcm16-prfsha256-x25519");
    }

    #[test]
    fn who_is_configured_with_the_address_counts_more_than_who_may_come_from_anywhere() {
        let mut all = candidates(&[&["aes128gcm16-prfsha256-x25519"], &["aes128gcm16-prfsha256-ecp256"]]);
        all.add(Likely::Near, &proposals(&["aes256gcm16-prfsha384-ecp384"]));
        let offer = offered(&["aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-ecp384"]);
        assert_eq!(all.choose(&offer).unwrap().1.to_string(), "aes256gcm16-prfsha384-ecp384");
        all.add(Likely::Known, &proposals(&["aes128gcm16-prfsha256-x25519"]));
        assert_eq!(all.choose(&offer).unwrap().1.to_string(), "aes128gcm16-prfsha256-x25519");
    }

    #[test]
    fn more_sets_than_are_kept_apart_are_accepted_all_the_same() {
        let words = ["aes128gcm16", "aes192gcm16", "aes256gcm16", "chacha20poly1305"];
        let prfs = ["prfsha256", "prfsha384", "prfsha512"];
        let groups = ["x25519", "ecp256", "ecp384", "ecp521", "modp2048"];
        let mut all = Candidates::default();
        let mut texts = Vec::new();
        for w in words {
            for p in prfs {
                for g in groups {
                    texts.push(format!("{w}-{p}-{g}"));
                }
            }
        }
        for text in &texts {
            all.add(Likely::Possible, &proposals(&[text]));
        }
        assert_eq!((all.sets.len(), all.proposals.len()), (MAX_SETS, texts.len()));
        for text in &texts {
            assert_eq!(all.choose(&offered(&[text])).unwrap().1.to_string(), *text);
        }
        for n in 0..100 {
            all.add(Likely::Possible, &proposals(&[["aes128-sha256-ecp521", "aes256-sha512-ecp256"][n % 2]]));
        }
        assert!(all.proposals.len() <= MAX_PROPOSALS);
    }

    proptest! {
        /// Whoever the initiator is, what it is answered is something it offers and somebody accepts; and if one candidate is
        /// the only one, all that it has in common with the offer is found.
        #[test]
        fn the_choice_is_offered_and_accepted(
            sets in prop::collection::vec(prop::collection::vec(0usize..12, 1..4), 1..6),
            offer in prop::collection::vec(0usize..12, 1..5),
        ) {
            let pool = [
                "aes128gcm16-prfsha256-x25519", "aes256gcm16-prfsha384-ecp384", "aes256gcm16-aes128gcm16-prfsha256-ecp256",
                "aes128-sha256-x25519", "aes256-sha512-ecp521", "aes128-aes256-sha256-sha384-ecp256-ecp384",
                "chacha20poly1305-prfsha512-x25519", "aes192gcm16-prfaesxcbc-modp2048", DEFAULTS[0], DEFAULTS[1],
                "aes128gcm16-prfsha384-x25519-ecp384", "aes256-sha256-modp2048",
            ];
            let pick = |at: &[usize]| at.iter().map(|i| pool[*i]).collect::<Vec<_>>();
            let texts: Vec<Vec<&str>> = sets.iter().map(|set| pick(set)).collect();
            let all = candidates(&texts.iter().map(Vec::as_slice).collect::<Vec<_>>());
            let offer = offered(&pick(&offer));
            let any = super::super::negotiate::choose_ike(all.proposals(), &offer);
            let chosen = all.choose(&offer);
            prop_assert_eq!(any.is_some(), chosen.is_some());
            if let Some((theirs, choice)) = chosen {
                prop_assert!(offer.contains(&theirs));
                prop_assert!(choice.transforms().iter().all(|t| theirs.transforms.contains(t)));
                prop_assert!(all.proposals().iter().any(|p| accepts(p, &choice)));
                let score = all.score(&choice);
                // No other proposal has a choice that more accept.
                for mine in all.proposals() {
                    for theirs in &offer {
                        if let Some(other) = choose_one(mine.transforms(), &theirs.transforms, Order::Theirs) {
                            prop_assert!(all.score(&other) <= score);
                        }
                    }
                }
            }
        }
    }
}
