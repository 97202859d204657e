//! What arguments mean, where that is more than a text.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use brig_core::blob::Blob;

use crate::config::settings::{NAME_FORM, is_name};
use crate::config::units;

/// An identifier or the beginning of one: goes into a path of the API as it is.
///
/// # Errors
/// What an identifier looks like.
pub fn id(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if (1..=40).contains(&lower.len()) && lower.bytes().all(|b| b.is_ascii_alphanumeric() || b == b'-') {
        return Ok(lower);
    }
    Err("an identifier is made of letters and digits, as `brig queue` and `brig ps` list them".to_owned())
}

/// The name of a profile: goes into a path of the API as it is.
///
/// # Errors
/// What a name looks like.
pub fn profile(text: &str) -> Result<String, String> {
    if is_name(text) {
        Ok(text.to_owned())
    } else {
        Err(format!("{NAME_FORM}; `brig pools` lists those that there are"))
    }
}

/// At least the first 8 digits of a digest.
///
/// # Errors
/// What a digest looks like.
pub fn digest(text: &str) -> Result<String, String> {
    let lower = text.to_ascii_lowercase();
    if (8..=64).contains(&lower.len()) && lower.bytes().all(|b| b.is_ascii_hexdigit()) {
        return Ok(lower);
    }
    Err("write at least the first 8 hexadecimal digits of the digest that `brig show` prints".to_owned())
}

/// Milliseconds; a bare number is seconds, as for timeout(1).
///
/// # Errors
/// What a duration looks like.
pub fn duration(text: &str) -> Result<u64, String> {
    let bare = !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit() || b == b'.');
    let ms = if bare { units::duration(&format!("{text}s")) } else { units::duration(text) };
    match ms {
        Some(0) => Err("it must be more than nothing".to_owned()),
        Some(ms) => Ok(ms),
        None => Err(units::DURATION_FORM.to_owned()),
    }
}

/// Bytes.
///
/// # Errors
/// What a size looks like.
pub fn size(text: &str) -> Result<u64, String> {
    match units::size(text) {
        Some(0) => Err("it must be more than nothing".to_owned()),
        Some(bytes) => Ok(bytes),
        None => Err(units::SIZE_FORM.to_owned()),
    }
}

/// A variable, `NAME=VALUE`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Variable {
    /// Its name.
    pub name: String,
    /// Its value.
    pub value: Blob,
}

/// Reads a variable. Its value may be any bytes.
///
/// # Errors
/// What it should look like.
pub fn variable(text: &OsStr) -> Result<Variable, String> {
    let bytes = text.as_bytes();
    let shown = brig_core::visible::line(bytes);
    let Some(at) = memchr::memchr(b'=', bytes) else {
        return Err(format!("`{shown}` has no value: write NAME=VALUE, as brig hands on no variables by itself"));
    };
    match std::str::from_utf8(&bytes[..at]) {
        Ok(name) if !name.is_empty() => Ok(Variable { name: name.to_owned(), value: Blob(bytes[at + 1..].to_vec()) }),
        _ => Err(format!("`{shown}` has no name that a variable can have: write NAME=VALUE")),
    }
}

/// The bytes of an argument.
#[must_use]
pub fn blob(text: OsString) -> Blob {
    Blob(std::os::unix::ffi::OsStringExt::into_vec(text))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn arguments_are_read_or_refused_with_their_form() {
        assert_eq!(id("K3F9-17").unwrap(), "k3f9-17");
        assert!(id("../x").is_err() && id("").is_err() && id("a/b").is_err() && id("a?b").is_err());
        assert_eq!(digest("ABCDEF01").unwrap(), "abcdef01");
        assert!(digest("abcdef0").unwrap_err().contains("at least the first 8"));
        assert_eq!((duration("5"), duration("1.5"), duration("250ms")), (Ok(5_000), Ok(1_500), Ok(250)));
        assert!(duration("soon").unwrap_err().contains("as in \"10s\"") && duration("0").is_err());
        assert_eq!(size("1k"), Ok(1024));
        assert!(size("1x").unwrap_err().contains("powers of 1024"));
        let found = variable(OsStr::from_bytes(b"A=\xff=")).unwrap();
        assert_eq!(found, Variable { name: "A".into(), value: Blob(b"\xff=".to_vec()) });
        assert!(variable(OsStr::new("HOME")).unwrap_err().contains("write NAME=VALUE"));
        assert!(variable(OsStr::new("=x")).is_err());
    }
}
