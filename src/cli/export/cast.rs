//! Recordings in version 2 of asciinema's format: <https://docs.asciinema.org/manual/asciicast/v2/>.
//!
//! A player hands a recording's text to a terminal, so nothing is in it that acts there, as in what `brig run` prints.

use std::io::{self, Write};

use brig_core::proposal::OutputStream;
use serde_json::json;

use super::Writer;
use crate::api::wire::ProposalRow;
use crate::cli::output::Tamer;

/// The terminal of the recording. The program had none.
const COLUMNS: u16 = 80;
const ROWS: u16 = 24;

/// A recording of a run, from its beginning.
#[derive(Default)]
pub struct Cast {
    began_at: i64,
    last: i64,
    stdout: Tamer,
    stderr: Tamer,
}

impl Writer for Cast {
    fn begin(&mut self, out: &mut dyn Write, row: &ProposalRow) -> io::Result<()> {
        self.began_at = row.run.as_ref().map_or(row.received_at, |run| run.started_at).0;
        self.last = self.began_at;
        let (seconds, title) = (self.began_at / 1000, format!("{}: {}", row.id, row.command));
        let head = json!({ "version": 2, "width": COLUMNS, "height": ROWS, "timestamp": seconds, "title": title });
        writeln!(out, "{head}")
    }

    fn piece(&mut self, out: &mut dyn Write, at: i64, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        // Time goes forward only, in a recording.
        self.last = at.max(self.last);
        let tamer = match stream {
            OutputStream::Stdout => &mut self.stdout,
            OutputStream::Stderr => &mut self.stderr,
        };
        let text = tamer.tame(bytes);
        self.event(out, &text)
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for text in [self.stdout.finish(), self.stderr.finish()] {
            self.event(out, &text)?;
        }
        Ok(())
    }
}

impl Cast {
    fn event(&self, out: &mut dyn Write, text: &str) -> io::Result<()> {
        if text.is_empty() {
            return Ok(());
        }
        let after = (self.last - self.began_at) as f64 / 1000.0;
        // What goes down a line goes to its beginning, as a terminal's driver does it.
        writeln!(out, "{}", json!([after, "o", text.replace('\n', "\r\n")]))
    }
}

#[cfg(test)]
mod tests {
    use brig_core::id::SandboxId;
    use brig_core::time::Wall;

    use super::*;
    use crate::api::wire::RunRow;
    use crate::cli::fixtures;

    #[test]
    fn a_recording_has_the_runs_pace_and_nothing_acts() {
        let mut row = fixtures::proposal("abc");
        let sandbox = SandboxId("k3f9-1".into());
        row.run =
            Some(RunRow { sandbox, cold: false, started_at: Wall(5_000), deadline_at: Wall(9_000), step: 0, steps: 1 });
        let (mut cast, mut out) = (Cast::default(), Vec::new());
        cast.begin(&mut out, &row).unwrap();
        for (at, stream, bytes) in [
            (5_250, OutputStream::Stdout, &b"a\x1b]0;x\x07\n\xc3"[..]),
            (5_200, OutputStream::Stderr, b"e"),
            (6_500, OutputStream::Stdout, b"\xa9"),
            (7_000, OutputStream::Stdout, b"\r"),
        ] {
            cast.piece(&mut out, at, stream, bytes).unwrap();
        }
        cast.end(&mut out).unwrap();
        let lines: Vec<serde_json::Value> = out
            .split(|&byte| byte == b'\n')
            .filter(|line| !line.is_empty())
            .map(|line| serde_json::from_slice(line).unwrap())
            .collect();
        let head = json!({ "version": 2, "width": 80, "height": 24, "timestamp": 5, "title": "abc: ls -la" });
        assert_eq!(lines[0], head);
        assert_eq!(
            lines[1..],
            [
                json!([0.25, "o", "a⟨U+001B⟩]0;x⟨U+0007⟩\r\n"]),
                json!([0.25, "o", "e"]),
                json!([1.5, "o", "é"]),
                json!([2.0, "o", "⟨U+000D⟩"]),
            ]
        );
    }
}
