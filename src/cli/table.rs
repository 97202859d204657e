//! Tables for people: aligned by what the text takes on a screen, and never wider than it.

use unicode_width::UnicodeWidthStr as _;

use super::color::Colour;
use super::output::Screen;
use crate::console::text::cut;

/// Blanks between columns.
const GAP: &str = "  ";

/// Rows under a heading. Cells hold text that is fit to be shown.
#[derive(Debug)]
pub struct Table {
    heading: Vec<&'static str>,
    rows: Vec<Row>,
}

#[derive(Debug)]
struct Row {
    cells: Vec<String>,
    /// One cell may have a colour.
    colour: Option<(usize, Colour)>,
}

impl Table {
    /// An empty table. The last column takes what room is left.
    #[must_use]
    pub fn new(heading: &[&'static str]) -> Self {
        Self { heading: heading.to_vec(), rows: Vec::new() }
    }

    /// Adds a row with a cell for each column.
    pub fn row(&mut self, cells: Vec<String>) {
        self.rows.push(Row { cells, colour: None });
    }

    /// Adds a row, of which the cell in this column has a colour.
    pub fn coloured_row(&mut self, cells: Vec<String>, column: usize, colour: Colour) {
        self.rows.push(Row { cells, colour: Some((column, colour)) });
    }

    /// The lines: on a terminal cut to its width, with `…` where something was cut. Colours change no width.
    #[must_use]
    pub fn render(&self, screen: Screen) -> String {
        let columns = self.heading.len();
        let width = |column: usize| {
            let cells = self.rows.iter().filter_map(|row| row.cells.get(column)).map(|cell| cell.width());
            cells.chain([self.heading[column].width()]).max().unwrap_or(0)
        };
        let widths: Vec<usize> = (0..columns).map(width).collect();
        let heading = Row { cells: self.heading.iter().map(|&name| name.to_owned()).collect(), colour: None };
        let mut out = String::new();
        for (at, row) in std::iter::once(&heading).chain(&self.rows).enumerate() {
            let mut line = String::new();
            let mut coloured = None;
            for (column, cell) in row.cells.iter().enumerate() {
                if let Some((_, colour)) = row.colour.filter(|(coloured, _)| *coloured == column) {
                    coloured = Some((line.len(), line.len() + cell.len(), colour));
                }
                line.push_str(cell);
                if column + 1 < columns {
                    line.push_str(&" ".repeat(widths[column].saturating_sub(cell.width())));
                    line.push_str(GAP);
                }
            }
            let line = line.trim_end();
            let line = screen.width.map_or_else(|| line.to_owned(), |width| cut(line, width).0);
            let line = match (at, coloured) {
                _ if !screen.colour => line,
                // The heading is dim: colour, but no meaning.
                (0, _) => Colour::Dim.paint(&line),
                // Where the line was cut within the cell, the colour ends with the line.
                (_, Some((from, to, colour))) => match (line.get(..from), line.get(from..to.min(line.len()))) {
                    (Some(before), Some(cell)) if !cell.is_empty() => {
                        format!("{before}{}{}", colour.paint(cell), &line[from + cell.len()..])
                    }
                    _ => line,
                },
                (_, None) => line,
            };
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

    /// The text without its colours.
    fn plain(text: &str) -> String {
        let parts: Vec<&str> = text.split('\x1b').collect();
        parts
            .iter()
            .enumerate()
            .map(|(at, part)| if at == 0 { part } else { part.split_once('m').unwrap().1 })
            .collect()
    }

    #[test]
    fn a_coloured_table_is_the_same_table() {
        for width in [None, Some(4), Some(7), Some(9), Some(80)] {
            let mut table = table();
            table.coloured_row(vec!["b".into(), "日本語".into(), "x".into()], 1, Colour::Red);
            let coloured = table.render(Screen { width, colour: true });
            assert_eq!(plain(&coloured), table.render(Screen { width, colour: false }), "{width:?}");
        }
        let mut table = Table::new(&["ID", "STATUS", "X"]);
        table.coloured_row(vec!["a".into(), "lost".into(), "y".into()], 1, Colour::Red);
        let lines = table.render(Screen { width: None, colour: true });
        assert_eq!(lines, "\x1b[2mID  STATUS  X\x1b[0m\na   \x1b[31mlost\x1b[0m    y\n");
    }
}
