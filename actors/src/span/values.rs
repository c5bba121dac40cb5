//! What is said of a span. Most spans are not kept, and every negotiation has some: so what takes a text to say is said when it
//! is wanted, and what it is made of is taken along in one piece.

use std::borrow::Cow;
use std::fmt;

/// A value of an attribute.
#[derive(Clone, PartialEq, Eq)]
pub enum Value {
    /// A text.
    Text(Cow<'static, str>),
    /// Several.
    Texts(Vec<String>),
    /// A number.
    Number(i64),
    /// A flag.
    Flag(bool),
}

impl Value {
    /// The text of something.
    pub fn shown(what: &impl fmt::Display) -> Self {
        what.to_string().into()
    }

    /// The texts of several.
    pub fn all_shown<T: fmt::Display>(what: &[T]) -> Self {
        what.iter().map(ToString::to_string).collect::<Vec<_>>().into()
    }

    /// So many hexadecimal digits.
    pub fn hex(number: u64, digits: usize) -> Self {
        format!("{number:0digits$x}").into()
    }
}

impl fmt::Debug for Value {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Text(text) => text.fmt(f),
            Self::Texts(texts) => f.debug_list().entries(texts).finish(),
            Self::Number(number) => number.fmt(f),
            Self::Flag(flag) => flag.fmt(f),
        }
    }
}

impl From<String> for Value {
    fn from(text: String) -> Self {
        Self::Text(text.into())
    }
}

impl From<&'static str> for Value {
    fn from(text: &'static str) -> Self {
        Self::Text(text.into())
    }
}

impl From<Cow<'static, str>> for Value {
    fn from(text: Cow<'static, str>) -> Self {
        Self::Text(text)
    }
}

impl From<Vec<String>> for Value {
    fn from(texts: Vec<String>) -> Self {
        Self::Texts(texts)
    }
}

impl From<bool> for Value {
    fn from(flag: bool) -> Self {
        Self::Flag(flag)
    }
}

impl From<u32> for Value {
    fn from(number: u32) -> Self {
        Self::Number(number.into())
    }
}

impl From<u16> for Value {
    fn from(number: u16) -> Self {
        Self::Number(number.into())
    }
}

/// A name and its value.
pub type Attribute = (&'static str, Value);

type Say = Box<dyn FnOnce(&mut Attributes) + Send>;

/// What there is to say of something, by name.
#[derive(Default)]
pub struct Attributes {
    said: Vec<Attribute>,
    later: Vec<Say>,
}

impl Attributes {
    /// Those that are said if they are wanted.
    pub fn of(say: impl FnOnce(&mut Self) + Send + 'static) -> Self {
        let mut attributes = Self::default();
        attributes.later(say);
        attributes
    }

    /// Says something. What was said under the same name before is replaced.
    pub fn set(&mut self, name: &'static str, value: impl Into<Value>) {
        let value = value.into();
        match self.said.iter_mut().find(|(there, _)| *there == name) {
            Some((_, there)) => *there = value,
            None => self.said.push((name, value)),
        }
    }

    /// What is said if it is wanted, after all that was said before.
    pub fn later(&mut self, say: impl FnOnce(&mut Self) + Send + 'static) {
        self.later.push(Box::new(say));
    }

    /// All of it is said now.
    pub fn settle(mut self) -> Vec<Attribute> {
        // One that is said later may leave something for later as well.
        while !self.later.is_empty() {
            for say in std::mem::take(&mut self.later) {
                say(&mut self);
            }
        }
        self.said
    }
}

impl fmt::Debug for Attributes {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Attributes").field("said", &self.said).field("later", &self.later.len()).finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_said_last_holds_and_nothing_is_made_before_it_is_wanted() {
        let mut attributes = Attributes::default();
        attributes.set("a", 1u32);
        attributes.set("a", 2u32);
        let (made, is_made) = std::sync::mpsc::channel();
        attributes.later(move |all| {
            let _ = made.send(());
            all.set("a", 3u32);
            all.set("b", Value::hex(0xab, 4));
        });
        assert!(is_made.try_recv().is_err());
        let settled = attributes.settle();
        assert_eq!(settled, [("a", Value::Number(3)), ("b", Value::from("00ab"))]);
        assert!(is_made.try_recv().is_ok());
    }
}
