//! A buffer of cells as a picture, for documents. Pure: the same buffer makes the same file.

use std::fmt::Write as _;

use ratatui::buffer::{Buffer, Cell};
use ratatui::style::{Color, Modifier};
use unicode_width::UnicodeWidthStr as _;

/// Pixels of a cell. The width is what monospace fonts of this size take; `textLength` makes others take it as well.
const CELL: (f32, f32) = (8.4, 18.0);
const FONT_SIZE: u8 = 14;
const FONTS: &str = "'DejaVu Sans Mono', Menlo, Consolas, 'Liberation Mono', monospace";
/// Around the text.
const MARGIN: f32 = 8.0;

/// Colours of a cell, as drawn.
#[derive(Clone, PartialEq)]
struct Look {
    fg: String,
    bg: String,
    modifiers: Modifier,
}

/// Draws it. `fg` and `bg` stand for what a terminal would choose itself.
pub fn render(buffer: &Buffer, fg: &str, bg: &str) -> String {
    let area = buffer.area;
    let (width, height) =
        (f32::from(area.width) * CELL.0 + 2.0 * MARGIN, f32::from(area.height) * CELL.1 + 2.0 * MARGIN);
    let base = look(&buffer[(area.x, area.y)], fg, bg);
    let mut out = format!(
        "<svg xmlns=\"http://www.w3.org/2000/svg\" viewBox=\"0 0 {width:.1} {height:.1}\" width=\"{width:.1}\" \
         height=\"{height:.1}\" font-family=\"{FONTS}\" font-size=\"{FONT_SIZE}\">\n\
         <rect width=\"100%\" height=\"100%\" rx=\"6\" fill=\"{}\"/>\n",
        base.bg
    );
    for y in area.top()..area.bottom() {
        for (x, columns, look, text) in runs(buffer, y, fg, bg) {
            draw_run(&mut out, (x - area.x, y - area.y), columns, &look, &text, &base.bg);
        }
    }
    out.push_str("</svg>\n");
    out
}

/// Cells of one look that are drawn together: column, columns, look, text. Only ASCII is drawn together, as other
/// characters may come from a font of another width.
fn runs(buffer: &Buffer, y: u16, fg: &str, bg: &str) -> Vec<(u16, u16, Look, String)> {
    let mut runs: Vec<(u16, u16, Look, String)> = Vec::new();
    let mut x = buffer.area.left();
    while x < buffer.area.right() {
        let cell = &buffer[(x, y)];
        let columns = u16::try_from(cell.symbol().width()).unwrap_or(1).max(1);
        let look = look(cell, fg, bg);
        let together = |text: &str| text.is_ascii() && cell.symbol().is_ascii();
        match runs.last_mut() {
            Some((_, length, last, text)) if *last == look && together(text) => {
                *length += columns;
                text.push_str(cell.symbol());
            }
            _ => runs.push((x, columns, look, cell.symbol().to_owned())),
        }
        x += columns;
    }
    runs
}

fn draw_run(out: &mut String, (x, y): (u16, u16), columns: u16, look: &Look, text: &str, around: &str) {
    let (left, top) = (MARGIN + f32::from(x) * CELL.0, MARGIN + f32::from(y) * CELL.1);
    let length = f32::from(columns) * CELL.0;
    if look.bg != around {
        let (bg, height) = (&look.bg, CELL.1);
        let _ =
            writeln!(out, r#"<rect x="{left:.1}" y="{top:.1}" width="{length:.1}" height="{height:.1}" fill="{bg}"/>"#);
    }
    if let Some(shape) = shape(text, left, top) {
        let _ = writeln!(out, r#"<path d="{shape}" stroke="{}" fill="none"{}/>"#, look.fg, opacity(look));
        return;
    }
    let underlined = look.modifiers.contains(Modifier::UNDERLINED);
    if text.trim().is_empty() && !underlined {
        return;
    }
    let mut style = String::new();
    for (modifier, attribute) in [
        (Modifier::BOLD, r#" font-weight="bold""#),
        (Modifier::ITALIC, r#" font-style="italic""#),
        (Modifier::UNDERLINED, r#" text-decoration="underline""#),
    ] {
        if look.modifiers.contains(modifier) {
            style.push_str(attribute);
        }
    }
    style.push_str(opacity(look));
    let fg = &look.fg;
    let baseline = top + CELL.1 * 0.74;
    let _ = writeln!(
        out,
        r#"<text x="{left:.1}" y="{baseline:.1}" textLength="{length:.1}" lengthAdjust="spacingAndGlyphs" xml:space="preserve" fill="{fg}"{style}>{}</text>"#,
        escape(text)
    );
}

fn opacity(look: &Look) -> &'static str {
    if look.modifiers.contains(Modifier::DIM) { r#" opacity="0.6""# } else { "" }
}

/// Frames as lines, as the glyphs of fonts leave gaps between cells.
fn shape(text: &str, left: f32, top: f32) -> Option<String> {
    let (middle, right) = (left + CELL.0 / 2.0, left + CELL.0);
    let (center, bottom) = (top + CELL.1 / 2.0, top + CELL.1);
    // Corners are rounded by half a cell's width.
    let (above, below) = (center - CELL.0 / 2.0, center + CELL.0 / 2.0);
    Some(match text {
        "─" => format!("M{left:.1} {center:.1}H{right:.1}"),
        "│" => format!("M{middle:.1} {top:.1}V{bottom:.1}"),
        "┆" => format!("M{middle:.1} {top:.1}v5m0 3v4m0 3v3"),
        "╭" => format!("M{right:.1} {center:.1}Q{middle:.1} {center:.1} {middle:.1} {below:.1}V{bottom:.1}"),
        "╮" => format!("M{left:.1} {center:.1}Q{middle:.1} {center:.1} {middle:.1} {below:.1}V{bottom:.1}"),
        "╰" => format!("M{middle:.1} {top:.1}V{above:.1}Q{middle:.1} {center:.1} {right:.1} {center:.1}"),
        "╯" => format!("M{middle:.1} {top:.1}V{above:.1}Q{middle:.1} {center:.1} {left:.1} {center:.1}"),
        _ => return None,
    })
}

fn escape(text: &str) -> String {
    text.replace('&', "&amp;").replace('<', "&lt;").replace('>', "&gt;").replace('"', "&quot;")
}

fn look(cell: &Cell, fg: &str, bg: &str) -> Look {
    let (mut front, mut back) = (color(cell.fg, fg), color(cell.bg, bg));
    if cell.modifier.contains(Modifier::REVERSED) {
        std::mem::swap(&mut front, &mut back);
    }
    Look { fg: front, bg: back, modifiers: cell.modifier - Modifier::REVERSED }
}

fn color(color: Color, default: &str) -> String {
    let name = match color {
        Color::Rgb(red, green, blue) => return format!("#{red:02x}{green:02x}{blue:02x}"),
        Color::Black => "#000000",
        Color::Red => "#cd3131",
        Color::Green => "#0dbc79",
        Color::Yellow => "#e5e510",
        Color::Blue => "#2472c8",
        Color::Magenta => "#bc3fbc",
        Color::Cyan => "#11a8cd",
        Color::Gray => "#c0c0c0",
        Color::DarkGray => "#666666",
        Color::LightRed => "#f14c4c",
        Color::LightGreen => "#23d18b",
        Color::LightYellow => "#f5f543",
        Color::LightBlue => "#3b8eea",
        Color::LightMagenta => "#d670d6",
        Color::LightCyan => "#29b8db",
        Color::White => "#ffffff",
        Color::Reset | Color::Indexed(_) => default,
    };
    name.to_owned()
}

#[cfg(test)]
mod tests {
    use super::*;
    use ratatui::layout::Rect;
    use ratatui::style::Style;

    #[test]
    fn text_is_escaped_and_wide_characters_take_two_cells() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 12, 1));
        buffer.set_string(0, 0, "<&\">", Style::new());
        buffer.set_string(4, 0, "日b", Style::new().fg(Color::Red).add_modifier(Modifier::BOLD));
        let svg = render(&buffer, "#111111", "#eeeeee");
        assert!(svg.contains("&lt;&amp;&quot;&gt;</text>"), "{svg}");
        assert!(svg.contains(r##"x="41.6" y="21.3" textLength="16.8""##), "{svg}");
        assert!(svg.contains(r##"fill="#cd3131" font-weight="bold">日</text>"##), "{svg}");
        assert!(svg.contains(r#"x="58.4""#), "{svg}");
    }

    #[test]
    fn reversed_cells_are_reversed() {
        let mut buffer = Buffer::empty(Rect::new(0, 0, 3, 1));
        buffer.set_string(1, 0, "x", Style::new().add_modifier(Modifier::REVERSED));
        let svg = render(&buffer, "#111111", "#eeeeee");
        assert!(svg.contains(r##"height="18.0" fill="#111111""##) && svg.contains(r##"fill="#eeeeee">x"##), "{svg}");
    }
}
