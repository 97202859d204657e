//! Reads a TOML file key by key, and says exactly where and why it does not fit.
//!
//! Serde would stop at the first wrong type with a message about Rust's types. Here each value knows its key and its
//! place in the file, so a message can say what to write instead.

use std::ops::{Range, RangeInclusive};

use brig_core::problem::{Code, Problem};
use brig_core::visible;
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::units;
use brig_core::nearest;

/// A file's name and text.
#[derive(Clone, Copy, Debug)]
pub struct Source<'a> {
    /// As people know it.
    pub name: &'a str,
    /// All of it.
    pub text: &'a str,
}

impl<'a> Source<'a> {
    /// Parses the text.
    ///
    /// # Errors
    /// `config`, with the place where the text stops being TOML.
    pub fn parse(self) -> Result<Document<'a>, Problem> {
        match DeTable::parse(self.text) {
            Ok(table) => Ok(Document { source: self, table: table.into_inner() }),
            Err(error) => {
                let message = error.message().lines().collect::<Vec<_>>().join(", ");
                Err(self
                    .problem(error.span().unwrap_or(0..0), &message)
                    .help("the file must be TOML, see https://toml.io"))
            }
        }
    }

    /// A problem at a place in this file: `NAME:LINE:COLUMN: MESSAGE`. What the message quotes is made visible.
    #[must_use]
    pub fn problem(self, span: Range<usize>, message: &str) -> Problem {
        let (line, column) = self.position(span.start);
        Problem::new(Code::Config, format!("{}:{line}:{column}: {}", self.name, visible::line(message.as_bytes())))
    }

    /// Line and column from 1, the column in characters.
    #[must_use]
    pub fn position(self, offset: usize) -> (usize, usize) {
        let mut end = offset.min(self.text.len());
        while !self.text.is_char_boundary(end) {
            end -= 1;
        }
        let before = &self.text[..end];
        let start = before.rfind('\n').map_or(0, |at| at + 1);
        (before.matches('\n').count() + 1, before[start..].chars().count() + 1)
    }
}

/// A parsed file.
#[derive(Debug)]
pub struct Document<'a> {
    source: Source<'a>,
    table: DeTable<'a>,
}

impl Document<'_> {
    /// The file's own keys.
    #[must_use]
    pub fn root(&self) -> Section<'_> {
        Section { source: self.source, path: String::new(), table: &self.table }
    }
}

/// A key that is known and still not taken, and what to say about it.
pub type Refusal = (&'static str, &'static str);

/// A table of the file.
#[derive(Clone, Debug)]
pub struct Section<'a> {
    source: Source<'a>,
    path: String,
    table: &'a DeTable<'a>,
}

impl<'a> Section<'a> {
    /// Checks that every key is one of `known`. One of `refused` gets its own explanation, any other the nearest known
    /// one as a suggestion.
    ///
    /// # Errors
    /// `config`, at the first key that is not known.
    pub fn only(&self, known: &[&str], refused: &[Refusal]) -> Result<(), Problem> {
        for key in self.keys() {
            let name = key.get_ref().as_ref();
            if known.contains(&name) {
                continue;
            }
            if let Some((_, why)) = refused.iter().find(|(refused, _)| *refused == name) {
                return Err(self.source.problem(key.span(), &format!("`{}` is not taken", self.full(name))).help(*why));
            }
            let hint = nearest::hint(name, known);
            let problem = self.source.problem(key.span(), &format!("`{}` is no key{hint}", self.full(name)));
            return Err(problem.help(format!("known here: {}", known.join(", "))));
        }
        Ok(())
    }

    /// The value of a key, where it is there.
    #[must_use]
    pub fn item(&self, key: &str) -> Option<Item<'a>> {
        let value = self.table.get(key)?;
        Some(Item { source: self.source, path: self.full(key), span: value.span(), value: value.get_ref() })
    }

    /// The table under a key, where it is there.
    ///
    /// # Errors
    /// `config`, when it is no table.
    pub fn section(&self, key: &str) -> Result<Option<Section<'a>>, Problem> {
        self.item(key).map(|item| item.table()).transpose()
    }

    /// All keys with their values, in the order of the file.
    #[must_use]
    pub fn items(&self) -> Vec<(&'a str, Item<'a>)> {
        self.keys().into_iter().filter_map(|key| Some((key.get_ref().as_ref(), self.item(key.get_ref())?))).collect()
    }

    /// A problem with a key that is not there.
    #[must_use]
    pub fn missing(&self, key: &str, help: &str) -> Problem {
        self.source.problem(0..0, &format!("`{}` is missing", self.full(key))).help(help)
    }

    fn keys(&self) -> Vec<&'a Spanned<toml::de::DeString<'a>>> {
        let mut keys: Vec<_> = self.table.keys().collect();
        keys.sort_by_key(|key| key.span().start);
        keys
    }

    fn full(&self, key: &str) -> String {
        if self.path.is_empty() { key.to_owned() } else { format!("{}.{key}", self.path) }
    }
}

/// A value of the file.
#[derive(Clone, Debug)]
pub struct Item<'a> {
    source: Source<'a>,
    path: String,
    span: Range<usize>,
    value: &'a DeValue<'a>,
}

impl<'a> Item<'a> {
    /// A problem with this value: `FILE:LINE:COLUMN: KEY: WHAT`, with what to write instead.
    #[must_use]
    pub fn problem(&self, what: &str, instead: impl Into<String>) -> Problem {
        self.source.problem(self.span.clone(), &format!("`{}`: {what}", self.path)).help(instead)
    }

    /// Where it is, as in `brig.toml:3:19`.
    #[must_use]
    pub fn place(&self) -> String {
        let (line, column) = self.source.position(self.span.start);
        format!("{}:{line}:{column}", self.source.name)
    }

    /// What is written there, as text of any scalar type: a string's content, or a number or a boolean as spelled.
    #[must_use]
    pub fn scalar(&self) -> Option<&'a str> {
        match self.value {
            DeValue::String(text) => Some(text),
            DeValue::Integer(_) | DeValue::Float(_) => self.source.text.get(self.span.clone()),
            _ => None,
        }
    }

    /// A text.
    ///
    /// # Errors
    /// `config`, when it is something else.
    pub fn text(&self) -> Result<&'a str, Problem> {
        self.value.as_str().ok_or_else(|| self.wrong("a text in quotes"))
    }

    /// One of a few words.
    ///
    /// # Errors
    /// `config`, naming all of them.
    pub fn word<T: Copy>(&self, choices: &[(&str, T)]) -> Result<T, Problem> {
        let all: Vec<_> = choices.iter().map(|(word, _)| format!("\"{word}\"")).collect();
        let Some(text) = self.value.as_str() else {
            return Err(self.wrong(&all.join(" or ")));
        };
        choices.iter().find(|(word, _)| *word == text).map(|(_, value)| *value).ok_or_else(|| {
            let words: Vec<_> = choices.iter().map(|(word, _)| *word).collect();
            self.problem(
                &format!("\"{text}\" is none of its values{}", nearest::hint(text, &words)),
                format!("allowed: {}", all.join(", ")),
            )
        })
    }

    /// True or false.
    ///
    /// # Errors
    /// `config`, when it is something else.
    pub fn flag(&self) -> Result<bool, Problem> {
        self.value.as_bool().ok_or_else(|| self.wrong("true or false, without quotes"))
    }

    /// A whole number in a range.
    ///
    /// # Errors
    /// `config`, naming the range.
    pub fn number(&self, range: RangeInclusive<u64>) -> Result<u64, Problem> {
        let allowed = format!("a whole number from {} to {}", range.start(), range.end());
        let Some(integer) = self.value.as_integer() else {
            return Err(self.wrong(&allowed));
        };
        let value = i128::from_str_radix(integer.as_str(), integer.radix()).unwrap_or(i128::MAX);
        match u64::try_from(value) {
            Ok(value) if range.contains(&value) => Ok(value),
            _ => Err(self.problem(&format!("{integer} is out of range"), format!("write {allowed}"))),
        }
    }

    /// Bytes, as a text with a unit or as a whole number.
    ///
    /// # Errors
    /// `config`, naming the units or the range.
    pub fn size(&self, range: RangeInclusive<u64>) -> Result<u64, Problem> {
        let (low, high) = (units::size_text(*range.start()), units::size_text(*range.end()));
        let text = match self.value {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(integer) if integer.radix() == 10 => integer.as_str(),
            _ => return Err(self.wrong("a size, as in \"128m\"")),
        };
        match units::size(text) {
            None => Err(self.problem(&format!("\"{text}\" is no size"), units::SIZE_FORM)),
            Some(bytes) if range.contains(&bytes) => Ok(bytes),
            Some(_) => {
                Err(self.problem(&format!("{text} is out of range"), format!("write a size from {low} to {high}")))
            }
        }
    }

    /// Milliseconds, as a text with units.
    ///
    /// # Errors
    /// `config`, naming the units or the range.
    pub fn duration(&self, range: RangeInclusive<u64>) -> Result<u64, Problem> {
        let (low, high) = (units::duration_text(*range.start()), units::duration_text(*range.end()));
        let text = match self.value {
            DeValue::String(text) => text.as_ref(),
            DeValue::Integer(_) | DeValue::Float(_) => {
                let written = self.scalar().unwrap_or_default();
                return Err(self.problem(
                    &format!("{written} has no unit"),
                    format!("write \"{written}s\" if seconds are meant; {}", units::DURATION_FORM),
                ));
            }
            _ => return Err(self.wrong("a duration, as in \"10s\"")),
        };
        match units::duration(text) {
            None => Err(self.problem(&format!("\"{text}\" is no duration"), units::DURATION_FORM)),
            Some(ms) if range.contains(&ms) => Ok(ms),
            Some(_) => {
                Err(self.problem(&format!("{text} is out of range"), format!("write a duration from {low} to {high}")))
            }
        }
    }

    /// A table.
    ///
    /// # Errors
    /// `config`, when it is something else.
    pub fn table(&self) -> Result<Section<'a>, Problem> {
        match self.value {
            DeValue::Table(table) => Ok(Section { source: self.source, path: self.path.clone(), table }),
            _ => Err(self.wrong(&format!("a table, as in [{}]", self.path))),
        }
    }

    /// The items of a list, or nothing when this is no list.
    #[must_use]
    pub fn list(&self) -> Option<Vec<Item<'a>>> {
        let list = self.value.as_array()?;
        let item = |(at, value): (usize, &'a Spanned<DeValue<'a>>)| Item {
            source: self.source,
            path: format!("{}[{at}]", self.path),
            span: value.span(),
            value: value.get_ref(),
        };
        Some(list.iter().enumerate().map(item).collect())
    }

    /// Whether this is a table.
    #[must_use]
    pub fn is_table(&self) -> bool {
        self.value.is_table()
    }

    /// The problem of a value that has another type than it should.
    #[must_use]
    pub fn wrong(&self, wanted: &str) -> Problem {
        let found = match self.value {
            DeValue::String(_) => "a text",
            DeValue::Integer(_) => "a whole number",
            DeValue::Float(_) => "a number with decimals",
            DeValue::Boolean(_) => "true or false",
            DeValue::Datetime(_) => "a date",
            DeValue::Array(_) => "a list",
            DeValue::Table(_) => "a table",
        };
        self.problem(&format!("this is {found}"), format!("write {wanted}"))
    }
}
