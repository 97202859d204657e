//! What arguments mean, where that is more than a text.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt as _;

use brig_core::blob::Blob;
use brig_core::time::Wall;
use chrono::{DateTime, Local, NaiveDate, NaiveDateTime, TimeZone};

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

/// A moment: so long ago (`2h`), a day or a time here (`2026-11-21`, `2026-11-21 22:10`), or RFC 3339 (`2026-11-21T22:10:00Z`).
///
/// # Errors
/// What a moment looks like.
pub fn moment(text: &str) -> Result<Wall, String> {
    moment_at(&Local, super::output::now_ms(), text)
}

fn moment_at<Z: TimeZone>(here: &Z, now_ms: i64, text: &str) -> Result<Wall, String> {
    if let Some(ms) = units::duration(text) {
        return Ok(Wall(now_ms.saturating_sub_unsigned(ms)));
    }
    if let Ok(moment) = DateTime::parse_from_rfc3339(text) {
        return Ok(Wall(moment.timestamp_millis()));
    }
    let day = NaiveDate::parse_from_str(text, "%Y-%m-%d").ok().and_then(|day| day.and_hms_opt(0, 0, 0));
    let forms = ["%Y-%m-%d %H:%M", "%Y-%m-%dT%H:%M", "%Y-%m-%d %H:%M:%S", "%Y-%m-%dT%H:%M:%S"];
    let time = || forms.iter().find_map(|form| NaiveDateTime::parse_from_str(text, form).ok());
    let Some(time) = day.or_else(time) else {
        return Err(
            "a moment is a time ago, as in 2h or 3d, a day or a time here, as in 2026-11-21 or \"2026-11-21 22:10\", \
                    or as in 2026-11-21T22:10:00+01:00"
                .to_owned(),
        );
    };
    // An hour that the clocks have twice is the first of the two; what they leave out never was.
    let moment = here.from_local_datetime(&time).earliest();
    moment.map(|moment| Wall(moment.timestamp_millis())).ok_or_else(|| format!("the clocks here never showed {text}"))
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

/// As [`duration`], from a tenth of a second to an hour: how often something is looked at.
///
/// # Errors
/// What it looks like.
pub fn interval(text: &str) -> Result<u64, String> {
    match duration(text)? {
        ms @ 100..=3_600_000 => Ok(ms),
        _ => Err("it is from 100ms to 1h".to_owned()),
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
    fn moments_are_read_as_people_write_them() {
        let east = chrono::FixedOffset::east_opt(3600).unwrap();
        let now = 1_795_295_403_000;
        for (text, ms) in [
            ("2h", now - 7_200_000),
            ("1d12h", now - 129_600_000),
            ("2026-11-21", 1_795_215_600_000),
            ("2026-11-21 22:10", 1_795_295_400_000),
            ("2026-11-21T22:10:03", now),
            ("2026-11-21T21:10:03Z", now),
            ("2026-11-21T23:10:03+02:00", now),
        ] {
            assert_eq!(moment_at(&east, now, text), Ok(Wall(ms)), "{text}");
        }
        for text in ["", "5", "yesterday", "2026-13-01", "21.11.2026", "22:10"] {
            assert!(moment_at(&east, now, text).unwrap_err().starts_with("a moment is"), "{text}");
        }
    }

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
