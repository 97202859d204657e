//! Tables for people: aligned by what the text takes on a screen, and never wider than it.

use unicode_width::UnicodeWidthStr as _;

use super::output::Screen;
use crate::console::text::cut;

/// Blanks between columns.
const GAP: &str = "  ";

/// Rows under a heading. Cells hold text that is fit to be shown.
#[derive(Debug)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Vec<String>>,
}

impl Table {
    /// An empty table. The last column takes what room is left.
    #[must_use]
    pub fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(cells);
    }

    /// The lines: on a terminal cut to its width, with `…` where something was cut.
    #[must_use]
    pub fn render(&self, screen: Screen) -> String {
        let columns = self.heading.len();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.get(column)).map(|cell| cell.width());
            cells.chain([self.heading[column].width()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let heading: Vec<String> = self.heading.iter().map(|&name| name.to_owned()).collect();
        let mut out = String::new();
        for (at, row) in std::iter::once(&heading).chain(&self.rows).enumerate() {
            let mut line = String::new();
            for (column, cell) in row.iter().enumerate() {
                line.push_str(cell);
                if column + 1 < columns {
                    line.push_str(&" ".repeat(widths[column] - cell.width()));
                    line.push_str(GAP);
                }
            }
            let line = line.trim_end();
            let line = screen.width.map_or_else(|| line.to_owned(), |width| cut(line, width).0);
            // The heading is dim: colour, but no meaning.
            let line = if at == 0 && screen.colour { format!("\x1b[2m{line}\x1b[0m") } else { line };
            out.push_str(&line);
            out.push('\n');
        }
        out
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn table() -> Table {
        let mut table = Table::new(&["ID", "NAME", "COMMAND"]);
        table.row(vec!["a".into(), "日本".into(), "ls".into()]);
        table.row(vec!["long".into(), String::new(), "cat ⟨U+202E⟩ a b c".into()]);
        table
    }

    #[test]
    fn columns_line_up_by_what_they_take_on_a_screen() {
        let text = table().render(Screen { width: None, colour: false });
        assert_eq!(text, "ID    NAME  COMMAND\na     日本  ls\nlong        cat ⟨U+202E⟩ a b c\n");
    }

    #[test]
    fn a_terminal_cuts_and_says_so_and_a_pipe_does_not() {
        let text = table().render(Screen { width: Some(20), colour: false });
        assert_eq!(text, "ID    NAME  COMMAND\na     日本  ls\nlong        cat ⟨U+…\n");
        assert!(text.lines().all(|line| line.width() <= 20));
        assert!(table().render(Screen { width: Some(20), colour: true }).starts_with("\x1b[2mID"));
    }
}
