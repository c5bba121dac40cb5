//! Why things failed, and how often each.

use std::collections::BTreeMap;
use std::sync::{Mutex, PoisonError};

/// Causes that are kept by name: a load has a handful.
const CAUSES: usize = 64;

/// Counts of causes.
#[derive(Debug, Default)]
pub(crate) struct Causes(Mutex<BTreeMap<String, u64>>);

impl Causes {
    pub(crate) fn note(&self, cause: &str) {
        let cause = alike(cause);
        let mut causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let known = causes.contains_key(&cause) || causes.len() < CAUSES;
        *causes.entry(if known { cause } else { "others".to_owned() }).or_default() += 1;
    }

    /// The most frequent first.
    pub(crate) fn list(&self) -> Vec<(String, u64)> {
        let causes = self.0.lock().unwrap_or_else(PoisonError::into_inner);
        let mut causes: Vec<_> = causes.iter().map(|(cause, count)| (cause.clone(), *count)).collect();
        causes.sort_by_key(|(_, count)| std::cmp::Reverse(*count));
        causes
    }
}

/// A cause without what differs from tunnel to tunnel: addresses and names with a number.
fn alike(cause: &str) -> String {
    let own = |word: &&str| word.contains('.') && word.contains(|c: char| c.is_ascii_digit());
    cause.split(' ').map(|word| if own(&word) { "*" } else { word }).collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn causes_are_counted_and_bounded() {
        let causes = Causes::default();
        for n in 0..200 {
            causes.note(&format!("cause {n}"));
            causes.note("timeout");
        }
        let list = causes.list();
        assert_eq!(list.len(), CAUSES + 1);
        assert_eq!(list.iter().map(|(_, count)| count).sum::<u64>(), 400);
        assert_eq!(list[0], ("timeout".to_owned(), 200));
    }

    #[test]
    fn causes_that_differ_in_addresses_alone_are_one() {
        let causes = Causes::default();
        for n in 0..9 {
            causes.note(&format!("refused 10.0.0.{n}/32 of p{n}.example in 30 s"));
        }
        assert_eq!(causes.list(), [("refused * of * in 30 s".to_owned(), 9)]);
    }
}
