//! What is counted: the table of subjects, and how one is run.

mod bare;
mod esp_sas;
mod ike_sas;
mod packets;
mod routing;

use std::hint::black_box;

use anyhow::Context;

pub(crate) use bare::{BareAead, Cipher, esp_packet};
pub(crate) use packets::{inner_packet, keys_of};

/// How the count of a subject is to be read.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub(crate) enum Kind {
    /// Our own code, or nearly so.
    Own,
    /// Ciphers, hashes and Diffie-Hellman are most of it: it stands in a table of its own.
    Crypto,
    /// Not ours at all: what others are compared with. Never fails.
    Bare,
}

/// Something that is counted.
pub(crate) struct Subject {
    /// Its name, in the file of expected counts as well.
    pub(crate) name: &'static str,
    /// How to read it.
    pub(crate) kind: Kind,
    /// The subject whose count is taken off: the same packet through the bare AEAD.
    pub(crate) over: Option<&'static str>,
    /// How often it is run.
    pub(crate) rounds: usize,
    /// Makes what is run each time, for one round more than `rounds`.
    pub(crate) prepare: fn(usize) -> Work,
}

/// A round of a subject.
pub(crate) type Work = Box<dyn FnMut()>;

/// All of them, in the order of the table.
pub(crate) fn all() -> Vec<Subject> {
    let mut all = bare::subjects();
    all.extend(esp_sas::subjects());
    all.extend(routing::subjects());
    all.extend(ike_sas::subjects());
    all
}

/// Runs a subject: a round that does not count, because it finds caches and tables empty, then those that do.
pub(crate) fn run(name: &str) -> anyhow::Result<()> {
    let all = all();
    let subject = all.iter().find(|subject| subject.name == name);
    let subject = subject.with_context(|| format!("there is no subject {name}"))?;
    let mut work = (subject.prepare)(subject.rounds + 1);
    work();
    counted_by_callgrind(&mut work, subject.rounds);
    Ok(())
}

/// The function that callgrind is told to count in, by its name.
#[inline(never)]
fn counted_by_callgrind(work: &mut Work, rounds: usize) {
    for _ in 0..black_box(rounds) {
        work();
    }
}

#[cfg(test)]
mod tests {
    use std::collections::HashSet;

    use super::*;

    /// Each subject does what it says, or panics.
    #[test]
    fn every_subject_runs() {
        let mut names = HashSet::new();
        for subject in all() {
            assert!(names.insert(subject.name), "{} is there twice", subject.name);
            let mut work = (subject.prepare)(2);
            work();
            work();
        }
        assert!(all().iter().filter_map(|subject| subject.over).all(|bare| names.contains(bare)));
    }
}
