//! Files as lines of words, and lines as blocks.

use std::sync::Arc;

use crate::exchange::model::Place;

/// A file.
pub(super) struct Source<'a> {
    pub(super) name: Arc<str>,
    pub(super) text: &'a str,
}

/// A line that says something.
#[derive(Clone, Debug)]
pub(super) struct Line {
    pub(super) place: Place,
    /// How far it is indented.
    pub(super) depth: usize,
    /// What is in quotes is one word, without them.
    pub(super) words: Vec<String>,
}

impl Line {
    /// The words, to be matched against.
    pub(super) fn words(&self) -> Vec<&str> {
        self.words.iter().map(String::as_str).collect()
    }
}

/// A line at the margin with those indented below it.
#[derive(Debug)]
pub(super) struct Block {
    pub(super) head: Line,
    pub(super) body: Vec<Line>,
}

/// The lines of all files, without those that are empty or comments.
pub(super) fn lines(sources: &[Source<'_>], comment: char) -> Vec<Line> {
    let mut all = Vec::new();
    for source in sources {
        for (at, text) in source.text.lines().enumerate() {
            let depth = text.len() - text.trim_start().len();
            let words = split(text);
            if words.is_empty() || text.trim_start().starts_with(comment) {
                continue;
            }
            let place = Place { file: Arc::clone(&source.name), line: at + 1 };
            all.push(Line { place, depth, words });
        }
    }
    all
}

/// Lines by what they are indented below.
pub(super) fn blocks(lines: Vec<Line>) -> Vec<Block> {
    let mut blocks: Vec<Block> = Vec::new();
    for line in lines {
        match blocks.last_mut() {
            Some(block) if line.depth > 0 => block.body.push(line),
            _ => blocks.push(Block { head: line, body: Vec::new() }),
        }
    }
    blocks
}

/// Words between spaces; what is in quotes is one.
pub(super) fn split(text: &str) -> Vec<String> {
    let mut words = Vec::new();
    let (mut word, mut inside, mut quoted) = (String::new(), false, false);
    for c in text.chars() {
        match c {
            '"' => {
                inside = !inside;
                quoted = true;
            }
            c if c.is_whitespace() && !inside => {
                if quoted || !word.is_empty() {
                    words.push(std::mem::take(&mut word));
                }
                quoted = false;
            }
            c => word.push(c),
        }
    }
    if quoted || !word.is_empty() {
        words.push(word);
    }
    words
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_in_quotes_is_one_word() {
        assert_eq!(split("set a \"b c\" d"), ["set", "a", "b c", "d"]);
        assert_eq!(split("  key \"\" "), ["key", ""]);
        assert!(split(" \t ").is_empty());
    }

    #[test]
    fn what_is_indented_belongs_to_the_line_before() {
        let source = Source { name: "f".into(), text: "! c\na 1\n b\n  c\n\nd\n" };
        let blocks = blocks(lines(&[source], '!'));
        assert_eq!(blocks.len(), 2);
        assert_eq!(
            (blocks[0].head.place.line, blocks[0].body.len(), blocks[1].head.words[0].as_str()),
            (2, 2, "d")
        );
    }
}
