//! Colours by role. A theme is a TOML file: the user's own folder is looked at first, then what is compiled in.
//!
//! Files are read strictly: a role or a colour that does not exist is an error that names the file, the line, the field
//! and what may be written there, as a theme that is silently half applied is noticed only when a warning is invisible.

use std::path::Path;

use brig_core::problem::{Code, Problem};
use brig_core::visible;
use ratatui::style::{Color, Modifier, Style};
use toml::Spanned;
use toml::de::{DeTable, DeValue};

use super::ColorChoice;

/// The themes that are compiled in.
const SHIPPED: &[(&str, &str)] =
    &[("dark", include_str!("../../themes/dark.toml")), ("light", include_str!("../../themes/light.toml"))];

const COLORS: &[(&str, Color)] = &[
    ("default", Color::Reset),
    ("black", Color::Black),
    ("red", Color::Red),
    ("green", Color::Green),
    ("yellow", Color::Yellow),
    ("blue", Color::Blue),
    ("magenta", Color::Magenta),
    ("cyan", Color::Cyan),
    ("gray", Color::Gray),
    ("darkgray", Color::DarkGray),
    ("lightred", Color::LightRed),
    ("lightgreen", Color::LightGreen),
    ("lightyellow", Color::LightYellow),
    ("lightblue", Color::LightBlue),
    ("lightmagenta", Color::LightMagenta),
    ("lightcyan", Color::LightCyan),
    ("white", Color::White),
];

const MODIFIERS: &[(&str, Modifier)] = &[
    ("bold", Modifier::BOLD),
    ("dim", Modifier::DIM),
    ("italic", Modifier::ITALIC),
    ("underlined", Modifier::UNDERLINED),
    ("reversed", Modifier::REVERSED),
];

macro_rules! roles {
    ($($(#[doc = $doc:literal])+ $name:ident = $plain:expr,)+) => {
        /// What things look like, by what they are.
        #[derive(Clone, Debug, PartialEq, Eq)]
        pub struct Theme { $($(#[doc = $doc])+ pub $name: Style,)+ }

        impl Theme {
            const ROLES: &'static [&'static str] = &[$(stringify!($name)),+];

            /// No colour at all: every difference is a modifier.
            #[must_use]
            pub fn monochrome() -> Self {
                Self { $($name: Style::new().add_modifier($plain),)+ }
            }

            fn role(&mut self, name: &str) -> Option<&mut Style> {
                match name { $(stringify!($name) => Some(&mut self.$name),)+ _ => None }
            }

            fn map(self, change: impl Fn(Style) -> Style) -> Self {
                Self { $($name: change(self.$name),)+ }
            }
        }
    };
}

roles! {
    /// Ordinary text, and the screen's background.
    text = Modifier::empty(),
    /// What matters less: what is over, what is warm and unused, hints.
    dim = Modifier::DIM,
    /// The names of columns.
    heading = Modifier::DIM,
    /// What the eye shall find first.
    accent = Modifier::BOLD,
    /// Frames.
    border = Modifier::DIM,
    /// The frame of the pane that has the keys.
    border_focused = Modifier::BOLD,
    /// A pane's title.
    title = Modifier::empty(),
    /// The title of the pane that has the keys.
    title_focused = Modifier::REVERSED,
    /// The row under the cursor, in the pane that has the keys.
    selection = Modifier::REVERSED,
    /// The row under the cursor, in another pane.
    selection_unfocused = Modifier::UNDERLINED,
    /// A question that waits for an answer.
    waiting = Modifier::BOLD,
    /// What went well.
    ok = Modifier::empty(),
    /// What deserves a look.
    warn = Modifier::BOLD,
    /// What failed, and what is dangerous.
    danger = Modifier::BOLD,
    /// What goes on.
    info = Modifier::empty(),
    /// Words of an agent: claims, not facts.
    agent = Modifier::ITALIC,
    /// A mark in place of something that would not be seen.
    mark = Modifier::UNDERLINED,
    /// Standard error.
    stderr = Modifier::empty(),
    /// The name of a key.
    key = Modifier::BOLD,
}

impl Theme {
    /// The theme called `name`: `themes_dir/NAME.toml` if there is one, else the one that is compiled in.
    ///
    /// # Errors
    /// `config` when there is no such theme or its file is wrong, `local_io` when it cannot be read.
    pub fn load(name: &str, themes_dir: &Path) -> Result<Self, Problem> {
        Self::find(name, themes_dir, 0)
    }

    /// The names of the themes that are compiled in.
    pub fn names() -> impl Iterator<Item = &'static str> {
        SHIPPED.iter().map(|(name, _)| *name)
    }

    /// The same theme for a terminal that shows only so many colours.
    #[must_use]
    pub fn for_terminal(self, color: ColorChoice) -> Self {
        match color {
            ColorChoice::None => Self::monochrome(),
            ColorChoice::True => self,
            ColorChoice::Indexed => {
                self.map(|style| Style { fg: style.fg.map(indexed), bg: style.bg.map(indexed), ..style })
            }
        }
    }

    fn find(name: &str, themes_dir: &Path, depth: u8) -> Result<Self, Problem> {
        let file_name = !name.is_empty() && name.bytes().all(|c| c.is_ascii_alphanumeric() || b"-_".contains(&c));
        let path = themes_dir.join(format!("{name}.toml"));
        if file_name && depth < 4 {
            match std::fs::read_to_string(&path) {
                Ok(text) => return Self::parse(&text, &path.display().to_string(), themes_dir, depth),
                Err(error) if error.kind() == std::io::ErrorKind::NotFound => {}
                Err(error) => {
                    return Err(Problem::new(Code::LocalIo, format!("cannot read {}: {error}", path.display())));
                }
            }
        }
        let Some((shipped, text)) = SHIPPED.iter().find(|(shipped, _)| *shipped == name) else {
            let names: Vec<_> = Self::names().collect();
            return Err(Problem::new(Code::Config, format!("there is no theme `{}`", visible::line(name.as_bytes())))
                .help(format!("write one of {}, or put it at {}", names.join(", "), path.display())));
        };
        Self::parse(text, &format!("themes/{shipped}.toml"), themes_dir, depth)
    }

    /// Reads a theme. `file` is named in errors.
    fn parse(text: &str, file: &str, themes_dir: &Path, depth: u8) -> Result<Self, Problem> {
        let reader = Reader { text, file };
        let table = DeTable::parse(text)
            .map_err(|error| reader.wrong(error.span().map_or(0, |span| span.start), error.message(), ""))?;
        let table = table.into_inner();
        let mut theme = match table.get("base") {
            // The base of a base is looked up among the files again; the depth ends a circle at what is compiled in.
            Some(base) => Self::find(reader.text(base, "base")?, themes_dir, depth + 1)?,
            None if file == "themes/dark.toml" => Self::monochrome(),
            None => Self::find("dark", Path::new(""), 4)?,
        };
        for (key, value) in &table {
            let name: &str = key.get_ref();
            if name == "base" {
                continue;
            }
            let allowed = || format!("roles are {}, and base", Self::ROLES.join(", "));
            let Some(role) = theme.role(name) else {
                return Err(reader.wrong(key.span().start, &format!("there is no role `{}`", shown(name)), &allowed()));
            };
            *role = reader.style(name, value)?;
        }
        Ok(theme)
    }
}

/// Reads values and knows where they stand.
struct Reader<'a> {
    text: &'a str,
    file: &'a str,
}

impl Reader<'_> {
    fn wrong(&self, at: usize, message: &str, help: &str) -> Problem {
        let before = self.text.get(..at).unwrap_or(self.text);
        let line = before.bytes().filter(|&byte| byte == b'\n').count() + 1;
        Problem::new(Code::Config, format!("{}:{line}: {message}", self.file)).help(help)
    }

    fn text<'v>(&self, value: &'v Spanned<DeValue<'_>>, field: &str) -> Result<&'v str, Problem> {
        value
            .get_ref()
            .as_str()
            .ok_or_else(|| self.wrong(value.span().start, &format!("`{field}` is no string"), "write it in quotes"))
    }

    fn style(&self, role: &str, value: &Spanned<DeValue<'_>>) -> Result<Style, Problem> {
        let example = "as in { fg = \"#7fa7f0\", bg = \"black\", modifiers = [\"bold\"] }";
        let Some(table) = value.get_ref().as_table() else {
            return Err(self.wrong(value.span().start, &format!("`{role}` is no table"), example));
        };
        let mut style = Style::new();
        for (key, value) in table {
            let name: &str = key.get_ref();
            let field = format!("{role}.{}", shown(name));
            match name {
                "fg" => style = style.fg(self.color(&field, value)?),
                "bg" => style = style.bg(self.color(&field, value)?),
                "modifiers" => style = style.add_modifier(self.modifiers(&field, value)?),
                _ => {
                    let message = format!("there is no field `{field}`");
                    return Err(self.wrong(key.span().start, &message, "fields are fg, bg, modifiers"));
                }
            }
        }
        Ok(style)
    }

    fn color(&self, field: &str, value: &Spanned<DeValue<'_>>) -> Result<Color, Problem> {
        let text = self.text(value, field)?;
        hex(text).or_else(|| COLORS.iter().find(|(name, _)| *name == text).map(|(_, color)| *color)).ok_or_else(|| {
            let names: Vec<_> = COLORS.iter().map(|(name, _)| *name).collect();
            let message = format!("`{field}` is \"{}\", which is no colour", shown(text));
            self.wrong(value.span().start, &message, &format!("colours are #rrggbb, {}", names.join(", ")))
        })
    }

    fn modifiers(&self, field: &str, value: &Spanned<DeValue<'_>>) -> Result<Modifier, Problem> {
        let names: Vec<_> = MODIFIERS.iter().map(|(name, _)| *name).collect();
        let allowed = format!("modifiers are a list of {}", names.join(", "));
        let Some(list) = value.get_ref().as_array() else {
            return Err(self.wrong(value.span().start, &format!("`{field}` is no list"), &allowed));
        };
        list.iter().try_fold(Modifier::empty(), |all, value| {
            let text = self.text(value, field)?;
            let found = MODIFIERS.iter().find(|(name, _)| *name == text);
            found.map(|(_, modifier)| all | *modifier).ok_or_else(|| {
                let message = format!("`{field}` has \"{}\", which is no modifier", shown(text));
                self.wrong(value.span().start, &message, &allowed)
            })
        })
    }
}

fn shown(text: &str) -> String {
    visible::line(text.as_bytes())
}

fn hex(text: &str) -> Option<Color> {
    let digits = text.strip_prefix('#').filter(|digits| digits.len() == 6)?;
    // `from_str_radix` would take a sign.
    let number = digits.bytes().all(|c| c.is_ascii_hexdigit()).then(|| u32::from_str_radix(digits, 16).ok())??;
    let [_, red, green, blue] = number.to_be_bytes();
    Some(Color::Rgb(red, green, blue))
}

/// The nearest of the 216 colours of the cube and the 24 grays that terminals with 256 colours have.
fn indexed(color: Color) -> Color {
    let Color::Rgb(red, green, blue) = color else { return color };
    let distance = |(r, g, b): (u8, u8, u8)| {
        [(r, red), (g, green), (b, blue)].iter().map(|&(x, y)| u32::from(x.abs_diff(y)).pow(2)).sum::<u32>()
    };
    // The levels of the cube as xterm draws them: 0, 95, 135, 175, 215, 255.
    let level = |step: u8| if step == 0 { 0 } else { 55 + 40 * step };
    let cube = (0..216_u8).map(|at| (16 + at, (level(at / 36), level(at / 6 % 6), level(at % 6))));
    let grays = (0..24_u8).map(|at| (232 + at, (8 + 10 * at, 8 + 10 * at, 8 + 10 * at)));
    cube.chain(grays).min_by_key(|&(_, rgb)| distance(rgb)).map_or(color, |(index, _)| Color::Indexed(index))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn parse(text: &str) -> Result<Theme, String> {
        Theme::parse(text, "mine.toml", Path::new("/nonexistent"), 0).map_err(|problem| problem.to_string())
    }

    /// Every file in `themes/` is compiled in, loads, and leaves nothing without a look of its own.
    #[test]
    fn every_shipped_theme_loads() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("themes");
        let mut files: Vec<_> = std::fs::read_dir(folder)
            .unwrap()
            .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
            .collect();
        files.sort();
        assert_eq!(files, Theme::names().collect::<Vec<_>>());
        for name in Theme::names() {
            let theme = Theme::load(name, Path::new("/nonexistent")).unwrap();
            assert!(theme.text.fg.is_some() && theme.text.bg.is_some(), "{name}");
            for role in Theme::ROLES {
                assert_ne!(*theme.clone().role(role).unwrap(), Style::new(), "{name} says nothing of {role}");
            }
        }
    }

    #[test]
    fn a_theme_says_only_what_is_different() {
        let theme = parse("danger = { fg = \"red\", modifiers = [\"bold\", \"reversed\"] }").unwrap();
        assert_eq!(theme.danger, Style::new().fg(Color::Red).add_modifier(Modifier::BOLD | Modifier::REVERSED));
        assert_eq!(theme.ok, Theme::load("dark", Path::new("/nonexistent")).unwrap().ok);
        let light = parse("base = \"light\"").unwrap();
        assert_eq!(light, Theme::load("light", Path::new("/nonexistent")).unwrap());
    }

    #[test]
    fn errors_name_file_line_field_and_what_is_allowed() {
        for (text, wanted) in [
            ("\n\nok = { fg = \"gren\" }", &["mine.toml:3: ", "`ok.fg`", "gren", "#rrggbb", "lightgreen"] as &[_]),
            ("ok = { fg = \"#12345g\" }", &["mine.toml:1: ", "`ok.fg`", "#rrggbb"]),
            ("ok = { fg = \"#+12345\" }", &["mine.toml:1: ", "`ok.fg`"]),
            ("ok = { fg = 7 }", &["`ok.fg` is no string"]),
            ("text = {}\nokay = {}", &["mine.toml:2: ", "`okay`", "border_focused", "base"]),
            ("ok = \"green\"", &["mine.toml:1: `ok` is no table", "modifiers = "]),
            ("ok = { color = \"red\" }", &["`ok.color`", "fg, bg, modifiers"]),
            ("ok = { modifiers = \"bold\" }", &["`ok.modifiers` is no list", "underlined"]),
            ("ok = { modifiers = [\"blink\"] }", &["`ok.modifiers`", "blink", "reversed"]),
            ("base = \"drak\"", &["no theme `drak`", "dark, light", "/nonexistent/drak.toml"]),
            ("ok = { fg = \n", &["mine.toml:"]),
        ] {
            let error = parse(text).unwrap_err();
            for part in wanted {
                assert!(error.contains(part), "{text}: {error} lacks {part}");
            }
        }
    }

    #[test]
    fn the_users_own_file_comes_first_and_a_circle_ends() {
        let folder = tempfile::tempdir().unwrap();
        std::fs::write(folder.path().join("dark.toml"), "base = \"dark\"\nok = { fg = \"cyan\" }").unwrap();
        std::fs::write(folder.path().join("a.toml"), "base = \"b\"").unwrap();
        std::fs::write(folder.path().join("b.toml"), "base = \"a\"").unwrap();
        let theme = Theme::load("dark", folder.path()).unwrap();
        assert_eq!(theme.ok.fg, Some(Color::Cyan));
        assert!(Theme::load("a", folder.path()).is_err());
        assert!(Theme::load("../dark", folder.path()).is_err());
    }

    #[test]
    fn colours_are_brought_down_to_what_a_terminal_has() {
        let theme = parse("ok = { fg = \"#ff0000\", bg = \"red\" }").unwrap();
        let few = theme.clone().for_terminal(ColorChoice::Indexed);
        assert_eq!((few.ok.fg, few.ok.bg), (Some(Color::Indexed(196)), Some(Color::Red)));
        let none = theme.for_terminal(ColorChoice::None);
        assert_eq!(none, Theme::monochrome());
        assert!(Theme::ROLES.iter().all(|role| none.clone().role(role).unwrap().fg.is_none()));
    }
}
