//! Lines for people: each behind the name of its stream, all of it visible.

use std::io::{self, Write};

use brig_core::proposal::OutputStream;

use super::Writer;
use crate::api::wire::ProposalRow;
use crate::console::text::output_line;

/// Bytes of a line that are kept until its end comes. A longer one is written in parts.
const LONGEST: usize = 64 << 10;

/// Lines as they are completed: a line belongs to one stream, however much the streams are mixed.
#[derive(Default)]
pub struct Text {
    stdout: Vec<u8>,
    stderr: Vec<u8>,
}

impl Writer for Text {
    fn begin(&mut self, _: &mut dyn Write, _: &ProposalRow) -> io::Result<()> {
        Ok(())
    }

    fn piece(&mut self, out: &mut dyn Write, _: i64, stream: OutputStream, bytes: &[u8]) -> io::Result<()> {
        let (name, kept) = match stream {
            OutputStream::Stdout => ("out", &mut self.stdout),
            OutputStream::Stderr => ("err", &mut self.stderr),
        };
        for part in bytes.split_inclusive(|&byte| byte == b'\n') {
            kept.extend_from_slice(part);
            if let Some(line) = kept.strip_suffix(b"\n") {
                writeln!(out, "{name} | {}", output_line(line, true))?;
                kept.clear();
            }
            while kept.len() > LONGEST {
                let at = boundary(kept);
                writeln!(out, "{name} > {}", output_line(&kept[..at], false))?;
                kept.drain(..at);
            }
        }
        Ok(())
    }

    fn end(&mut self, out: &mut dyn Write) -> io::Result<()> {
        for (name, kept) in [("out", &self.stdout), ("err", &self.stderr)] {
            if !kept.is_empty() {
                writeln!(out, "{name} | {}\n{name}   (no line end at its end)", output_line(kept, false))?;
            }
        }
        Ok(())
    }
}

/// Where a long line can be cut without cutting a character.
fn boundary(bytes: &[u8]) -> usize {
    let is_inside = |at: &usize| bytes.get(*at).is_some_and(|byte| byte & 0xc0 == 0x80);
    (LONGEST - 3..=LONGEST).rev().find(|at| !is_inside(at)).unwrap_or(LONGEST)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn written(pieces: &[(OutputStream, &[u8])]) -> String {
        let (mut text, mut out) = (Text::default(), Vec::new());
        for (stream, bytes) in pieces {
            text.piece(&mut out, 0, *stream, bytes).unwrap();
        }
        text.end(&mut out).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn each_line_has_its_stream_and_nothing_acts() {
        use OutputStream::{Stderr, Stdout};
        let text = written(&[
            (Stdout, b"a\tb\r\nhal"),
            (Stderr, b"\x1b[2Joops\n"),
            (Stdout, b"f \xc3"),
            (Stdout, b"\xa9 \xff\n\n"),
            (Stderr, b"out | forged"),
        ]);
        let lines = "out | a\tb\nerr | ⟨U+001B⟩[2Joops\nout | half é ⟨xFF⟩\nout | \nerr | out | forged\nerr   (no line end at its end)\n";
        assert_eq!(text, lines);
    }

    #[test]
    fn a_line_without_an_end_is_written_in_parts() {
        let long = "é".repeat(LONGEST);
        let text = written(&[(OutputStream::Stdout, long.as_bytes()), (OutputStream::Stdout, b"\n")]);
        let lines: Vec<&str> = text.lines().collect();
        assert!(lines.len() == 2 && lines[0].starts_with("out > é") && lines[1].starts_with("out | é"));
        let letters: usize = lines.iter().map(|line| line.matches('é').count()).sum();
        assert_eq!(letters, LONGEST);
    }
}
