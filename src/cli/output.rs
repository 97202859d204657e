//! What is printed: lines and JSON on the standard output, remarks on the standard error.

use std::io::{self, IsTerminal as _, Write as _};
use std::time::{SystemTime, UNIX_EPOCH};

use serde::Serialize;

use super::color;
use super::exit::Stop;
use crate::console::text::output_line;

/// What the standard output is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Screen {
    /// Columns, when it is a terminal.
    pub width: Option<usize>,
    /// Whether colours are wanted.
    pub colour: bool,
}

impl Screen {
    /// Looks at the standard output.
    #[must_use]
    pub fn of_stdout() -> Self {
        let stdout = io::stdout();
        let columns = || rustix::termios::tcgetwinsize(&stdout).map_or(0, |size| usize::from(size.ws_col));
        let width = stdout.is_terminal().then(columns).map(|columns| if columns == 0 { 80 } else { columns });
        Self { width, colour: color::on_stdout() }
    }

    /// Whether somebody looks at it.
    #[must_use]
    pub const fn is_terminal(self) -> bool {
        self.width.is_some()
    }
}

/// Prints lines that are fit to be shown.
///
/// # Errors
/// [`Stop::Pipe`] when nobody reads.
pub fn say(text: &str) -> Result<(), Stop> {
    let mut stdout = io::stdout().lock();
    stdout.write_all(text.as_bytes())?;
    if !text.is_empty() && !text.ends_with('\n') {
        stdout.write_all(b"\n")?;
    }
    Ok(stdout.flush()?)
}

/// Prints a value as one line of JSON.
///
/// # Errors
/// As [`say`].
pub fn json(value: &impl Serialize) -> Result<(), Stop> {
    say(&serde_json::to_string(value).map_err(io::Error::from)?)
}

/// A remark on the standard error. If nobody reads it, nothing is lost.
pub fn remark(text: &str) {
    let _ = writeln!(io::stderr(), "brig: {text}");
}

/// A remark for somebody who watches: not printed where the standard error is no terminal.
pub fn whisper(text: &str) {
    if io::stderr().is_terminal() {
        remark(text);
    }
}

/// Milliseconds since 1970, for ages.
#[must_use]
pub fn now_ms() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_millis()).unwrap_or(i64::MAX)
}

/// A time span as a table shows it, in its largest unit: `12s`, `3m`, `2h`, `5d`.
#[must_use]
pub fn span(ms: i64) -> String {
    let seconds = ms.max(0) / 1000;
    match seconds {
        0..=99 => format!("{seconds}s"),
        100..=5_999 => format!("{}m", seconds / 60),
        6_000..=172_799 => format!("{}h", seconds / 3_600),
        _ => format!("{}d", seconds / 86_400),
    }
}

/// Makes a program's output fit for a terminal, as it streams: line ends and tabs act, all else that could is shown.
///
/// What is kept back at the end of a piece is only the beginning of a character or of a line end that is not complete yet.
#[derive(Debug, Default)]
pub struct Tamer {
    kept: Vec<u8>,
}

impl Tamer {
    /// The next piece, as it may be written.
    #[must_use]
    pub fn tame(&mut self, bytes: &[u8]) -> String {
        self.kept.extend_from_slice(bytes);
        let ready = self.kept.len() - unfinished(&self.kept);
        let rest = self.kept.split_off(ready);
        let piece = std::mem::replace(&mut self.kept, rest);
        tamed(&piece)
    }

    /// What was kept back.
    #[must_use]
    pub fn finish(&mut self) -> String {
        tamed(&std::mem::take(&mut self.kept))
    }
}

fn tamed(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    let mut lines = bytes.split(|&byte| byte == b'\n').enumerate().peekable();
    while let Some((at, line)) = lines.next() {
        if at > 0 {
            out.push('\n');
        }
        out.push_str(&output_line(line, lines.peek().is_some()));
    }
    out
}

/// Bytes at the end that may become a character or a line end with what follows.
fn unfinished(bytes: &[u8]) -> usize {
    if bytes.ends_with(b"\r") {
        return 1;
    }
    for back in 1..=bytes.len().min(3) {
        let first = bytes[bytes.len() - back];
        let length = match first {
            0xc2..=0xdf => 2,
            0xe0..=0xef => 3,
            0xf0..=0xf4 => 4,
            0x80..=0xbf => continue,
            _ => return 0,
        };
        return if back < length { back } else { 0 };
    }
    0
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn output_for_a_terminal_can_only_move_on() {
        let mut tamer = Tamer::default();
        assert_eq!(tamer.tame(b"a\tb\n\x1b[31mred\r\na\rb\r"), "a\tb\n⟨U+001B⟩[31mred\na⟨U+000D⟩b");
        assert_eq!(tamer.tame(b"\nc\r"), "\nc");
        assert_eq!(tamer.finish(), "⟨U+000D⟩");
        let wide = format!("x{}y", " ".repeat(40));
        assert_eq!(tamer.tame(wide.as_bytes()), wide);
    }

    #[test]
    fn characters_that_come_in_pieces_are_put_together() {
        let mut tamer = Tamer::default();
        let shown: String = "é日🙂".bytes().map(|byte| tamer.tame(&[byte])).collect();
        assert_eq!(shown, "é日🙂");
        assert_eq!(tamer.tame(&[b'a', 0xe6, 0x97]), "a");
        assert_eq!(tamer.finish(), "⟨xE6⟩⟨x97⟩");
        assert_eq!(tamer.tame(&[0xff, 0x80]), "⟨xFF⟩⟨x80⟩");
    }

    #[test]
    fn spans_are_short() {
        for (ms, text) in [(-5, "0s"), (12_345, "12s"), (180_000, "3m"), (7_200_000, "2h"), (432_000_000, "5d")] {
            assert_eq!(span(ms), text);
        }
    }
}
