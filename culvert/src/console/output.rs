//! How results are printed: tables for people, JSON and YAML for programs.

use std::io::{BufWriter, Write};

use clap::ValueEnum;
use prost::Message;
use serde::Serialize;

use crate::console::failure::Failure;
use crate::console::message::Document;

/// A form of output.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, ValueEnum)]
pub(crate) enum Output {
    /// Aligned columns
    #[default]
    Table,
    /// JSON: an array for a list, an object for one
    Json,
    /// YAML: one document per object, as `apply` takes them
    Yaml,
}

/// A message with its kind in front, as in a manifest.
#[derive(Serialize)]
pub(crate) struct Kinded {
    kind: &'static str,
    #[serde(flatten)]
    document: Document,
}

/// Prints objects, of any kinds, as JSON or YAML that `apply` takes.
pub(crate) fn print_list(output: Output, documents: &[Kinded]) -> Result<(), Failure> {
    match output {
        Output::Yaml => write_out(|out| documents.iter().try_for_each(|document| write_yaml(out, document))),
        _ => print_json(&documents),
    }
}

/// Objects of the message type `kind`, for [`print_list`].
pub(crate) fn kinded_all<M: Message>(
    output: Output,
    kind: &'static str,
    messages: &[M],
) -> Result<Vec<Kinded>, Failure> {
    messages.iter().map(|message| kinded(output, kind, message)).collect()
}

/// Prints one object of the message type `kind` as JSON or YAML.
pub(crate) fn print_one<M: Message>(output: Output, kind: &'static str, message: &M) -> Result<(), Failure> {
    print_document(output, &kinded(output, kind, message)?)
}

/// Prints one object as JSON or YAML.
pub(crate) fn print_document(output: Output, document: &Kinded) -> Result<(), Failure> {
    match output {
        Output::Yaml => print_yaml(document),
        _ => print_json(document),
    }
}

/// Prints one object on a line of its own: for streams.
pub(crate) fn print_line<M: Message>(output: Output, kind: &'static str, message: &M) -> Result<(), Failure> {
    let document = kinded(output, kind, message)?;
    match output {
        Output::Yaml => print_yaml(&document),
        _ => print_text(&serde_json::to_string(&document).map_err(broken)?),
    }
}

/// Prints any value as JSON or YAML.
pub(crate) fn print_value(output: Output, value: &impl Serialize) -> Result<(), Failure> {
    match output {
        Output::Yaml => print_text(serde_yaml_ng::to_string(value).map_err(broken)?.trim_end()),
        _ => print_json(value),
    }
}

/// Prints a text and a line break. Where there is nothing to say there is no line.
pub(crate) fn print_text(text: &str) -> Result<(), Failure> {
    write_out(|out| write_text(out, text))
}

fn write_text(out: &mut dyn Write, text: &str) -> Result<(), Failure> {
    if text.is_empty() {
        return Ok(());
    }
    Ok(writeln!(out, "{text}")?)
}

/// Standard output by so many octets: it has a buffer of a line by itself, and a list has a million lines.
const BUFFER: usize = 64 << 10;

/// Writes to standard output, all of it or until the first error.
fn write_out(write: impl FnOnce(&mut dyn Write) -> Result<(), Failure>) -> Result<(), Failure> {
    let mut out = BufWriter::with_capacity(BUFFER, std::io::stdout().lock());
    write(&mut out)?;
    Ok(out.flush()?)
}

fn kinded<M: Message>(output: Output, kind: &'static str, message: &M) -> Result<Kinded, Failure> {
    Ok(Kinded { kind, document: Document::new(kind, message, output != Output::Yaml)? })
}

fn print_yaml(value: &impl Serialize) -> Result<(), Failure> {
    write_out(|out| write_yaml(out, value))
}

fn write_yaml(out: &mut dyn Write, value: &impl Serialize) -> Result<(), Failure> {
    Ok(writeln!(out, "---\n{}", serde_yaml_ng::to_string(value).map_err(broken)?.trim_end())?)
}

/// As it is made, for a long list is larger as a text than all else that is held of it.
fn print_json(value: &impl Serialize) -> Result<(), Failure> {
    write_out(|mut out| {
        serde_json::to_writer_pretty(&mut out, value).map_err(|error| match error.io_error_kind() {
            Some(_) => Failure::from(std::io::Error::from(error)),
            None => broken(error),
        })?;
        Ok(writeln!(out)?)
    })
}

fn broken(error: impl std::fmt::Display) -> Failure {
    Failure::failed(format!("printing the answer: {error}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn where_there_is_nothing_to_say_there_is_no_line() {
        let printed = |text: &str| {
            let mut out = Vec::new();
            write_text(&mut out, text).unwrap();
            String::from_utf8(out).unwrap()
        };
        assert_eq!((printed("a\nb"), printed("")), ("a\nb\n".to_owned(), String::new()));
    }
}
