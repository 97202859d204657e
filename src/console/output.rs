//! What a run wrote, as far as it is kept here: a ring that is bounded in bytes, whatever the program does.
//!
//! Bytes stay raw and become text when they are drawn, so a flood costs no more than finding its line ends.

use std::collections::VecDeque;

use brig_core::id::ProposalId;
use brig_core::problem::Problem;
use memchr::memchr;

use super::text::output_line;
use brig_core::proposal::OutputStream;

/// Bytes of memory that the ring may take.
pub const RING_BYTES: usize = 1 << 20;
/// A line that is longer goes on in the next one, so that one endless line can leave the ring at its front too.
const LINE_BYTES: usize = 16 << 10;
/// What a line takes besides its bytes; counted, so that a flood of empty lines is bounded as well.
const LINE_COST: usize = 64;
/// Columns from one tab stop to the next.
const TAB: usize = 8;

/// The output that is on the screen.
#[derive(Debug)]
pub struct Output {
    /// Whose.
    pub of: ProposalId,
    /// What is kept of it.
    pub ring: Ring,
    /// The first line on the screen, counted from the run's first; `None` follows the end.
    pub top: Option<u64>,
    /// Columns that are scrolled out to the left.
    pub left: usize,
    /// Nothing more will come.
    pub complete: bool,
    /// Why it cannot be read at the moment.
    pub problem: Option<Problem>,
}

impl Output {
    /// Nothing yet.
    #[must_use]
    pub fn new(of: ProposalId) -> Self {
        Self { of, ring: Ring::default(), top: None, left: 0, complete: false, problem: None }
    }

    /// The first line on a screen of `height` lines.
    #[must_use]
    pub fn first_line(&self, height: usize) -> u64 {
        let last = self.ring.end().saturating_sub(height as u64).max(self.ring.start());
        self.top.map_or(last, |top| top.clamp(self.ring.start(), last))
    }

    /// Moves by lines; at the end it follows again.
    pub fn scroll(&mut self, by: i64, height: usize) {
        let to = self.first_line(height).saturating_add_signed(by).max(self.ring.start());
        self.top = (to.saturating_add(height as u64) < self.ring.end()).then_some(to);
    }
}

/// One line, or a part of one.
#[derive(Debug)]
pub struct RingLine {
    /// Which stream it is of.
    pub stream: OutputStream,
    /// It is no output: it says which step begins here.
    pub is_heading: bool,
    bytes: Vec<u8>,
    ended: bool,
}

/// The last lines that a run wrote.
#[derive(Debug, Default)]
pub struct Ring {
    lines: VecDeque<RingLine>,
    cost: usize,
    dropped_lines: u64,
    dropped_bytes: u64,
    /// The last step that has written something.
    step: u32,
}

impl Ring {
    /// Takes what a program wrote while a step ran. The first that a later step writes comes under a heading.
    pub fn push(&mut self, step: u32, stream: OutputStream, mut bytes: &[u8]) {
        if step > self.step {
            self.step = step;
            let text = format!("step {}", u64::from(step) + 1).into_bytes();
            self.cost += LINE_COST + text.capacity();
            self.lines.push_back(RingLine { stream, is_heading: true, bytes: text, ended: true });
        }
        // What would be thrown away again is not even split into lines.
        while !bytes.is_empty() {
            let end = memchr(b'\n', bytes).map_or(bytes.len(), |at| at + 1);
            let open = self.lines.back().is_some_and(|line| !line.ended && line.stream == stream);
            if !open {
                self.lines.push_back(RingLine { stream, is_heading: false, bytes: Vec::new(), ended: false });
                self.cost += LINE_COST;
            }
            let Some(line) = self.lines.back_mut() else { return };
            let take = end.min(LINE_BYTES - line.bytes.len());
            let before = line.bytes.capacity();
            line.bytes.extend_from_slice(&bytes[..take]);
            if line.bytes.last() == Some(&b'\n') {
                line.bytes.pop();
                line.ended = true;
            } else if line.bytes.len() >= LINE_BYTES {
                line.ended = true;
            }
            self.cost = self.cost + line.bytes.capacity() - before;
            bytes = &bytes[take..];
            self.bound();
        }
    }

    /// The number of the first line that is still there, counted from the run's first.
    #[must_use]
    pub fn start(&self) -> u64 {
        self.dropped_lines
    }

    /// The number after the last line's.
    #[must_use]
    pub fn end(&self) -> u64 {
        self.dropped_lines + self.lines.len() as u64
    }

    /// Bytes that were left out at the front.
    #[must_use]
    pub fn dropped_bytes(&self) -> u64 {
        self.dropped_bytes
    }

    /// Bytes of memory in use.
    #[must_use]
    pub fn cost(&self) -> usize {
        self.cost
    }

    /// The lines from number `first` on.
    pub fn lines_from(&self, first: u64) -> impl Iterator<Item = &RingLine> {
        let skip = usize::try_from(first.saturating_sub(self.dropped_lines)).unwrap_or(usize::MAX);
        self.lines.range(skip.min(self.lines.len())..)
    }

    fn bound(&mut self) {
        while self.cost > RING_BYTES && self.lines.len() > 1 {
            let Some(line) = self.lines.pop_front() else { return };
            self.cost -= LINE_COST + line.bytes.capacity();
            self.dropped_lines += 1;
            if !line.is_heading {
                self.dropped_bytes += line.bytes.len() as u64 + u64::from(line.ended);
            }
        }
    }
}

impl RingLine {
    /// The line as text, with tabs as the blanks that they stand for: columns `left` to `left + width` of it are certain
    /// to be there, if it has them.
    #[must_use]
    pub fn text(&self, left: usize, width: usize) -> String {
        // A character takes at most 4 bytes and at least one column.
        let enough = left.saturating_add(width).saturating_add(1).saturating_mul(4).min(self.bytes.len());
        let text = output_line(&self.bytes[..enough], self.ended && enough == self.bytes.len());
        let mut out = String::with_capacity(text.len());
        let mut columns = 0;
        for part in text.split_inclusive('\t') {
            let word = part.trim_end_matches('\t');
            columns += super::text::width(word);
            out.push_str(word);
            if word.len() < part.len() {
                let blanks = TAB - columns % TAB;
                out.extend(std::iter::repeat_n(' ', blanks));
                columns += blanks;
            }
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use OutputStream::{Stderr, Stdout};

    fn shown(ring: &Ring) -> Vec<String> {
        ring.lines_from(0).map(|line| line.text(0, 80)).collect()
    }

    #[test]
    fn lines_grow_where_they_stopped_and_streams_stay_apart() {
        let mut ring = Ring::default();
        ring.push(0, Stdout, b"one\ntw");
        ring.push(0, Stdout, b"o\n");
        ring.push(0, Stderr, b"oh\r\n");
        ring.push(0, Stdout, b"a\tb\x1b[31m");
        assert_eq!(shown(&ring), ["one", "two", "oh", "a       b⟨U+001B⟩[31m"]);
        assert_eq!(ring.lines_from(2).next().unwrap().stream, Stderr);
    }

    #[test]
    fn a_later_step_begins_under_a_heading_that_no_program_can_write() {
        let mut ring = Ring::default();
        ring.push(0, Stdout, b"one");
        ring.push(2, Stderr, b"three\n");
        ring.push(0, Stdout, b"late\n");
        ring.push(2, Stdout, b"step 4\n");
        assert_eq!(shown(&ring), ["one", "step 3", "three", "late", "step 4"]);
        let headings: Vec<bool> = ring.lines_from(0).map(|line| line.is_heading).collect();
        assert_eq!(headings, [false, true, false, false, false]);
    }

    #[test]
    fn blanks_are_layout_and_carriage_returns_inside_a_line_are_marked() {
        let mut ring = Ring::default();
        ring.push(0, Stdout, format!("a{}b\rc\n", " ".repeat(40)).as_bytes());
        assert_eq!(shown(&ring), [format!("a{}b⟨U+000D⟩c", " ".repeat(40))]);
    }

    /// Long lines, empty lines, and everything at once: the memory stays what it is, and what is gone is counted.
    #[test]
    fn a_flood_is_bounded() {
        for chunk in [vec![b'x'; 100_000], vec![b'\n'; 10_000], b"hello world\n".repeat(1000)] {
            let mut ring = Ring::default();
            let mut written = 0;
            for _ in 0..200 {
                ring.push(0, Stdout, &chunk);
                written += chunk.len() as u64;
                assert!(ring.cost() <= RING_BYTES + 2 * LINE_BYTES + LINE_COST, "{}", ring.cost());
            }
            let kept: u64 = ring.lines.iter().map(|line| line.bytes.len() as u64).sum();
            assert!(ring.dropped_bytes() > 0 && ring.dropped_bytes() + kept <= written + ring.end());
        }
    }

    #[test]
    fn a_screen_that_was_scrolled_stays_where_it_is_until_its_lines_are_gone() {
        let mut output = Output::new(ProposalId("a".into()));
        for _ in 0..100 {
            output.ring.push(0, Stdout, b"line\n");
        }
        assert_eq!(output.first_line(10), 90);
        output.scroll(-20, 10);
        assert_eq!(output.first_line(10), 70);
        output.ring.push(0, Stdout, b"more\n");
        assert_eq!(output.first_line(10), 70, "what arrives moves nothing");
        output.scroll(21, 10);
        assert_eq!(output.top, None, "at the end it follows again");
        output.scroll(-1000, 10);
        assert_eq!(output.first_line(10), 0);
    }
}
