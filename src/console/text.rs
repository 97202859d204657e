//! Numbers and words for narrow columns, for the console and the commands. Nothing here is wider than its documentation says.

use std::collections::BTreeMap;

use brig_core::profile::Ulimit;
use brig_core::proposal::Decider;
use brig_core::time::Wall;
use brig_core::visible;
use chrono::{DateTime, Local, TimeZone};
use unicode_width::UnicodeWidthChar as _;

/// Untrusted text on one line, made visible. The one door through which the wire's text comes to the screen.
#[must_use]
pub fn shown(text: &str) -> String {
    visible::line(text.as_bytes())
}

/// Untrusted text for a column of `columns`: reads no more of it than can be seen there, however long it is.
#[must_use]
pub fn shown_in(text: &str, columns: u16) -> String {
    let end = text.char_indices().nth(usize::from(columns) + 1).map_or(text.len(), |(at, _)| at);
    shown(&text[..end])
}

/// A line of what a program wrote, without its `\n`, fit for a terminal. Blanks and tabs stay: a long run of them is layout
/// here, and no way to hide something. A line that has `ended` loses the `\r` of its `\r\n`. All else that could act is
/// marked.
#[must_use]
pub fn output_line(line: &[u8], ended: bool) -> String {
    let line = if ended { line.strip_suffix(b"\r").unwrap_or(line) } else { line };
    let mut out = String::with_capacity(line.len());
    for part in line.split_inclusive(|&byte| byte == b' ' || byte == b'\t') {
        let (word, blank) = match part.split_last() {
            Some((&blank @ (b' ' | b'\t'), word)) => (word, Some(char::from(blank))),
            _ => (part, None),
        };
        out.push_str(&visible::line(word));
        out.extend(blank);
    }
    out
}

/// As much of `text` as fits into `width` columns, with `…` as the last of them when something is left out, and
/// whether something was. Reads no more of the text than it needs.
#[must_use]
pub fn cut(text: &str, width: usize) -> (String, bool) {
    let mut used = 0;
    // Where to cut if the text turns out to be too long: one column is kept for the ellipsis.
    let mut fits = 0;
    for (at, character) in text.char_indices() {
        let columns = character.width().unwrap_or(0);
        if used + columns > width {
            let mut out = text[..fits].to_owned();
            if width > 0 {
                out.push('…');
            }
            return (out, true);
        }
        used += columns;
        if used < width {
            fits = at + character.len_utf8();
        }
    }
    (text.to_owned(), false)
}

/// Whether `text` is wholly visible in `width` columns.
#[must_use]
pub fn fits(text: &str, width: usize) -> bool {
    let mut used = 0;
    text.chars().all(|character| {
        used += character.width().unwrap_or(0);
        used <= width
    })
}

/// Columns that a text takes.
#[must_use]
pub fn width(text: &str) -> usize {
    text.chars().map(|character| character.width().unwrap_or(0)).sum()
}

/// Splits visible text into rows of at most `width` columns, without changing a character. No text is one empty row.
#[must_use]
pub fn wrap(text: &str, width: usize) -> Vec<&str> {
    let mut rows = Vec::new();
    let (mut start, mut used) = (0, 0);
    for (at, character) in text.char_indices() {
        let columns = character.width().unwrap_or(0);
        if used + columns > width && at > start {
            rows.push(&text[start..at]);
            (start, used) = (at, 0);
        }
        used += columns;
    }
    rows.push(&text[start..]);
    rows
}

/// Splits prose into rows at blanks where it can.
#[must_use]
pub fn wrap_words(text: &str, width: usize) -> Vec<String> {
    let mut rows: Vec<String> = Vec::new();
    let mut row = String::new();
    for word in text.split(' ') {
        let together = self::width(&row) + 1 + self::width(word);
        if !row.is_empty() && together > width {
            rows.push(std::mem::take(&mut row));
        } else if !row.is_empty() {
            row.push(' ');
        }
        row.push_str(word);
        if self::width(&row) > width {
            let mut parts: Vec<_> = wrap(&row, width).into_iter().map(str::to_owned).collect();
            row = parts.pop().unwrap_or_default();
            rows.append(&mut parts);
        }
    }
    rows.push(row);
    rows
}

/// Who decided.
#[must_use]
pub fn decider(by: &Decider) -> String {
    match by {
        Decider::Operator { name, .. } => shown(name),
        Decider::Rule { name } => format!("rule {}", shown(name)),
        Decider::Agent => "the agent".into(),
        Decider::Clock => "the clock".into(),
    }
}

/// A moment on the clocks of this place: `2026-11-21 22:10:03`.
#[must_use]
pub fn moment(at: Wall) -> String {
    moment_in(&Local, at)
}

/// A moment that is read after `first`: only its time, `22:25:03`, where it is on the same day.
#[must_use]
pub fn moment_after(first: Wall, at: Wall) -> String {
    after_in(&Local, first, at)
}

/// A wall clock's moment there; `None` for one that no calendar has.
fn there<Z: TimeZone>(zone: &Z, at: Wall) -> Option<DateTime<Z>> {
    zone.timestamp_millis_opt(at.0).single()
}

fn moment_in<Z: TimeZone<Offset: std::fmt::Display>>(zone: &Z, at: Wall) -> String {
    there(zone, at).map_or_else(|| format!("{} ms", at.0), |at| at.format("%Y-%m-%d %H:%M:%S").to_string())
}

fn after_in<Z: TimeZone<Offset: std::fmt::Display>>(zone: &Z, first: Wall, at: Wall) -> String {
    match (there(zone, first), there(zone, at)) {
        (Some(first), Some(at)) if first.date_naive() == at.date_naive() => at.format("%H:%M:%S").to_string(),
        _ => moment_in(zone, at),
    }
}

/// How long ago, in at most 4 columns: `8s`, `12m`, `3h`, `40d`.
#[must_use]
pub fn age(ms: i64) -> String {
    match ms.max(0) / 1000 {
        s @ 0..60 => format!("{s}s"),
        s @ 60..3600 => format!("{}m", s / 60),
        s @ 3600..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", (s / 86_400).min(999)),
    }
}

/// How much time is left, in at most 5 columns: `0:07`, `14:52`, `2h05m`, `3d`. Rounded up, so that 0:00 is over.
#[must_use]
pub fn left(ms: i64) -> String {
    match (ms.max(0) + 999) / 1000 {
        s @ 0..6000 => format!("{}:{:02}", s / 60, s % 60),
        s @ 6000..36_000 => format!("{}h{:02}m", s / 3600, s / 60 % 60),
        s @ 36_000..172_800 => format!("{}h", s / 3600),
        s => format!("{}d", (s / 86_400).min(9999)),
    }
}

/// A duration for sentences: `340 ms`, `2.4 s`, `15 min`, `3 h`.
#[must_use]
pub fn duration(ms: u64) -> String {
    match ms {
        0..1000 => format!("{ms} ms"),
        1000..10_000 if !ms.is_multiple_of(1000) => format!("{}.{} s", ms / 1000, ms % 1000 / 100),
        1000..120_000 => format!("{} s", ms / 1000),
        120_000..7_200_000 => format!("{} min", ms / 60_000),
        _ => format!("{} h", ms / 3_600_000),
    }
}

/// Bytes in at most 5 columns: `512B`, `1.2K`, `64M`, `1023M`.
#[must_use]
pub fn bytes(bytes: u64) -> String {
    let mut value = bytes;
    let mut rest = 0;
    for unit in ["B", "K", "M", "G", "T"] {
        if value < 1024 || unit == "T" {
            let tenth = rest * 10 / 1024;
            return if value < 10 && unit != "B" && tenth > 0 {
                format!("{value}.{tenth}{unit}")
            } else {
                format!("{value}{unit}")
            };
        }
        rest = value % 1024;
        value /= 1024;
    }
    String::new()
}

/// Bytes for sentences: `512 bytes`, `64 MiB`.
#[must_use]
pub fn bytes_long(count: u64) -> String {
    match count {
        1 => "1 byte".into(),
        0..1024 => format!("{count} bytes"),
        _ => {
            let short = bytes(count);
            let (number, unit) = short.split_at(short.len() - 1);
            format!("{number} {unit}iB")
        }
    }
}

/// The limits of a process: `core 0, nofile 1024 (at most 4096)`, where the second number is how far it may be raised.
#[must_use]
pub fn ulimits(limits: &BTreeMap<String, Ulimit>) -> String {
    let one = |(name, limit): (&String, &Ulimit)| match limit {
        Ulimit { soft, hard } if soft == hard => format!("{} {soft}", shown(name)),
        Ulimit { soft, hard } => format!("{} {soft} (at most {hard})", shown(name)),
    };
    match limits.is_empty() {
        true => "the daemon's own".to_owned(),
        false => limits.iter().map(one).collect::<Vec<_>>().join(", "),
    }
}

/// A number with its noun: `1 run`, `2 runs`.
#[must_use]
pub fn count(number: usize, noun: &str) -> String {
    format!("{number} {noun}{}", if number == 1 { "" } else { "s" })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_cut_says_so_and_wide_characters_count_twice() {
        for (text, width, wanted) in [
            ("hello", 5, ("hello", false)),
            ("hello!", 5, ("hell…", true)),
            ("日本語", 6, ("日本語", false)),
            ("日本語", 5, ("日本…", true)),
            ("日本語", 4, ("日…", true)),
            ("a", 0, ("", true)),
            ("", 0, ("", false)),
        ] {
            assert_eq!(cut(text, width), (wanted.0.to_owned(), wanted.1), "{text} in {width}");
            assert_eq!(fits(text, width), !wanted.1);
        }
        assert_eq!(cut(&"x".repeat(100_000), 3).0, "xx…");
    }

    #[test]
    fn wrapping_loses_nothing() {
        assert_eq!(wrap("日本語abc", 4), ["日本", "語ab", "c"]);
        assert_eq!(wrap("", 4), [""]);
        assert_eq!(wrap_words("the quick brown fox", 9), ["the quick", "brown fox"]);
        assert_eq!(wrap_words("a abcdefghijk b", 5), ["a", "abcde", "fghij", "k b"]);
    }

    #[test]
    fn moments_are_local_and_say_their_day_once() {
        let east = chrono::FixedOffset::east_opt(3600).unwrap();
        let at = |seconds: i64| Wall(1_795_295_403_000 + seconds * 1000);
        assert_eq!(moment_in(&east, at(0)), "2026-11-21 22:10:03");
        assert_eq!(after_in(&east, at(0), at(900)), "22:25:03");
        assert_eq!(after_in(&east, at(0), at(7200)), "2026-11-22 00:10:03");
        assert_eq!(moment_in(&east, Wall(i64::MAX)), format!("{} ms", i64::MAX));
    }

    #[test]
    fn numbers_keep_to_their_columns() {
        assert_eq!([age(-5), age(59_999), age(60_000), age(7_200_000)], ["0s", "59s", "1m", "2h"]);
        assert_eq!([left(-1), left(6_500), left(891_000), left(7_500_000)], ["0:00", "0:07", "14:51", "2h05m"]);
        assert_eq!([bytes(0), bytes(1023), bytes(1229), bytes(64 << 20)], ["0B", "1023B", "1.2K", "64M"]);
        assert_eq!([bytes_long(1), bytes_long(12), bytes_long(16 << 20)], ["1 byte", "12 bytes", "16 MiB"]);
        assert_eq!(
            [duration(340), duration(2_450), duration(10_000), duration(900_000)],
            ["340 ms", "2.4 s", "10 s", "15 min"]
        );
        for shift in 0..63 {
            let ms = 1_i64 << shift;
            assert!(age(ms).len() <= 4 && left(ms).len() <= 5 && bytes(ms.unsigned_abs()).len() <= 8, "{ms}");
        }
    }
}
