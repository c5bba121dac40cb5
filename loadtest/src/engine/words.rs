//! Arguments of a load, of words, for tests.

use clap::{Args, Parser};

#[derive(Parser)]
struct Words<A: Args> {
    #[command(flatten)]
    arguments: A,
}

/// What these words are to whoever takes them on the command line.
pub(crate) fn arguments<A: Args>(words: &str) -> A {
    Words::parse_from(["load"].into_iter().chain(words.split_whitespace())).arguments
}
