//! Files of strongSwan as a tree of sections.

use std::sync::Arc;

use super::lines::Source;
use crate::exchange::model::{Notes, Place};

/// Sections within sections: strongSwan has four, and each costs some stack.
const MAX_DEPTH: usize = 16;

/// A section, or a file.
#[derive(Debug)]
pub(super) struct Section {
    pub(super) name: String,
    pub(super) place: Place,
    pub(super) values: Vec<(String, String, Place)>,
    pub(super) sections: Vec<Section>,
}

impl Section {
    fn new(name: &str, place: Place) -> Self {
        Self { name: name.to_owned(), place, values: Vec::new(), sections: Vec::new() }
    }
}

/// A file as a tree. Values end with their line; what is in quotes may hold anything.
pub(super) fn parse(source: &Source<'_>, notes: &mut Notes) -> Section {
    let at = |line| Place { file: Arc::clone(&source.name), line };
    let mut open = vec![Section::new("", at(1))];
    for (line, text) in source.text.lines().enumerate().map(|(line, text)| (line + 1, text)) {
        let mut rest = text.trim();
        while !rest.is_empty() && !rest.starts_with('#') {
            if let Some(behind) = rest.strip_prefix('}') {
                rest = behind.trim_start();
                match open.pop() {
                    Some(section) if !open.is_empty() => adopt(&mut open, section, notes),
                    section => {
                        notes.add(&at(line), "a } that closes nothing");
                        open.extend(section);
                    }
                }
                continue;
            }
            let stop = rest.find(['=', '{']);
            match stop.and_then(|stop| Some((rest.get(..stop)?, rest.get(stop..)?))) {
                Some((_, behind)) if behind.starts_with('{') && open.len() > MAX_DEPTH => {
                    notes.add(
                        &at(line),
                        "sections are nested deeper than strongSwan has any: the rest is not read",
                    );
                    return close(open, notes);
                }
                Some((name, behind)) if behind.starts_with('{') => {
                    open.push(Section::new(name.trim(), at(line)));
                    rest = behind.get(1..).unwrap_or_default().trim_start();
                }
                Some((key, behind)) => {
                    let (value, behind) = value(behind.trim_start_matches('=').trim_start());
                    if let Some(section) = open.last_mut() {
                        section.values.push((key.trim().to_owned(), value, at(line)));
                    }
                    rest = behind.trim_start();
                }
                None => {
                    notes.add(&at(line), "neither a section nor a value; an include is not followed");
                    rest = "";
                }
            }
        }
    }
    close(open, notes)
}

/// The file, with sections that have no end told and put where they belong.
fn close(mut open: Vec<Section>, notes: &mut Notes) -> Section {
    while open.len() > 1 {
        let Some(section) = open.pop() else { break };
        notes.add(&section.place, "the section has no end");
        adopt(&mut open, section, notes);
    }
    let nowhere = || Section::new("", Place { file: "".into(), line: 0 });
    open.pop().unwrap_or_else(nowhere)
}

/// Puts a section where it belongs, unless it has more in it than stands there.
fn adopt(open: &mut [Section], section: Section, notes: &mut Notes) {
    if let Some((_, others)) = section.name.split_once(':') {
        let fault = format!(
            "it is made of {} as well: it is not taken over unless that is written out",
            others.trim()
        );
        notes.add(&section.place, fault);
    } else if let Some(parent) = open.last_mut() {
        parent.sections.push(section);
    }
}

/// A value, and what is behind it.
fn value(text: &str) -> (String, &str) {
    if let Some((inner, behind)) = text.strip_prefix('"').and_then(quoted) {
        return (format!("\"{inner}\""), behind);
    }
    let end = text.find(['#', '}']).unwrap_or(text.len());
    let (value, behind) = text.split_at_checked(end).unwrap_or((text, ""));
    (value.trim().to_owned(), behind)
}

/// What stands before the quote that ends it, with what a backslash makes of the character behind it; and what is behind.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut inner, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((inner, text.get(at + 1..)?)),
            '\\' => inner.push(match chars.next()?.1 {
                'n' => '\n',
                'r' => '\r',
                't' => '\t',
                'b' => '\u{8}',
                'f' => '\u{c}',
                other => other,
            }),
            c => inner.push(c),
        }
    }
    None
}
