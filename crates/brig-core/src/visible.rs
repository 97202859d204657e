//! Makes untrusted text visible: every surface shows what this module returns, and nothing else.
//!
//! What a reviewer would not see, or would see as something else, becomes a mark between the brackets ⟨ and ⟩:
//! `⟨U+202E⟩` for a character, `⟨xFF⟩` for a byte that is not UTF-8, `⟨300×U+0020⟩` for a long run of blanks. The brackets
//! themselves are marked where they occur in the text, so a mark cannot be produced by typing it, and [`bytes_of`] leads
//! back to the same bytes. Nothing is ever left out.

use std::fmt::Write as _;

use unicode_width::UnicodeWidthChar as _;

/// Blanks in a row from which on they are shown as their count.
const LONG_RUN: usize = 24;

/// The longest run that [`bytes_of`] makes of one mark: more than anything that is shown has.
const LONGEST_RUN: usize = 64 << 20;

/// The text on one line: line ends are marked too.
#[must_use]
pub fn line(bytes: &[u8]) -> String {
    let mut out = String::with_capacity(bytes.len());
    for chunk in bytes.utf8_chunks() {
        words(chunk.valid(), &mut out);
        for byte in chunk.invalid() {
            let _ = write!(out, "⟨x{byte:02X}⟩");
        }
    }
    fold_blanks(&mut out);
    out
}

/// The text as lines, split at `\n`, which is the only character that may move the text down. A last line without `\n`
/// counts as one; no bytes at all are no line.
pub fn lines(bytes: &[u8]) -> impl Iterator<Item = String> + '_ {
    bytes.split_inclusive(|&byte| byte == b'\n').map(|part| line(part.strip_suffix(b"\n").unwrap_or(part)))
}

/// One step, as [`command`] shows it.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    /// Language and source of code, and nothing for a program.
    pub code: Option<(&'a str, &'a [u8])>,
    /// Program and arguments; of code the arguments alone.
    pub argv: &'a [crate::blob::Blob],
}

impl<'a> From<&'a [crate::blob::Blob]> for Shown<'a> {
    fn from(argv: &'a [crate::blob::Blob]) -> Self {
        Self { code: None, argv }
    }
}

impl<'a> From<&'a crate::envelope::Step> for Shown<'a> {
    fn from(step: &'a crate::envelope::Step) -> Self {
        let code = step.code.as_ref().map(|code| (code.language.as_str(), code.source.0.as_slice()));
        Self { code, argv: &step.argv }
    }
}

/// A command as one line: arguments quoted as a POSIX shell would need them, steps apart by ` ⏵ `, all of it visible. Code
/// stands behind its language, its arguments and a `›`, with `⏎` for its line ends: both are shown as marks where they
/// occur in a text, so that no command looks like code and no code like other code.
#[must_use]
pub fn command<'a, S: Into<Shown<'a>>>(steps: impl IntoIterator<Item = S>) -> String {
    let mut out = String::new();
    for (at, step) in steps.into_iter().enumerate() {
        let Shown { code, argv } = step.into();
        if at > 0 {
            out.push_str(" ⏵ ");
        }
        out.push_str(code.map_or("", |(language, _)| language));
        for (at, argument) in argv.iter().enumerate() {
            if at > 0 || code.is_some() {
                out.push(' ');
            }
            out.push_str(&line(&quoted(&argument.0)));
        }
        if let Some((_, source)) = code {
            out.push_str("› ");
            for part in source.split_inclusive(|&byte| byte == b'\n') {
                let text = part.strip_suffix(b"\n");
                out.push_str(&line(text.unwrap_or(part)));
                out.push_str(if text.is_some() { "⏎" } else { "" });
            }
        }
    }
    out
}

/// The beginning of a step: of its code, and of its arguments.
type Cut<'a> = (Option<(&'a str, &'a [u8])>, Vec<crate::blob::Blob>);

/// The first characters of what [`command`] gives, and whether that is all of it. Costs no more than what it returns,
/// however long the command is.
#[must_use]
pub fn command_within<'a, S: Into<Shown<'a>>>(steps: impl IntoIterator<Item = S>, characters: usize) -> (String, bool) {
    // A character comes of at most four bytes, and no byte without one.
    let (mut left, mut cut) = (4 * characters, false);
    let mut short: Vec<Cut<'_>> = Vec::new();
    for step in steps {
        let Shown { code, argv } = step.into();
        let mut kept = Vec::new();
        for argument in argv {
            if left == 0 {
                cut = true;
                break;
            }
            let length = argument.0.len().min(left);
            cut |= length < argument.0.len();
            kept.push(crate::blob::Blob(argument.0[..length].to_vec()));
            // An empty argument shows as two quotes.
            left = left.saturating_sub(length + 1);
        }
        let code = code.map(|(language, source)| {
            let length = if cut { 0 } else { source.len().min(left) };
            cut |= length < source.len();
            // A step takes room of its own even if there is nothing in it.
            left = left.saturating_sub(length + language.len() + 1);
            (language, &source[..length])
        });
        short.push((code, kept));
        if cut {
            break;
        }
    }
    let line = command(short.iter().map(|(code, argv)| Shown { code: *code, argv }));
    match line.char_indices().nth(characters) {
        Some((end, _)) => (line[..end].to_owned(), false),
        None => (line, !cut),
    }
}

/// The bytes as one shell word: as they are where nothing in them means anything to a shell, else in single quotes.
#[must_use]
pub fn quoted(bytes: &[u8]) -> Vec<u8> {
    let plain = |byte: &u8| byte.is_ascii_alphanumeric() || b"-_./:=@%+,".contains(byte) || !byte.is_ascii();
    if !bytes.is_empty() && bytes.iter().all(plain) {
        return bytes.to_vec();
    }
    let mut out = vec![b'\''];
    for &byte in bytes {
        if byte == b'\'' {
            out.extend_from_slice(b"'\\''");
        } else {
            out.push(byte);
        }
    }
    out.push(b'\'');
    out
}

/// The bytes that [`line`] made `text` of; `None` for a text that it never makes.
#[must_use]
pub fn bytes_of(text: &str) -> Option<Vec<u8>> {
    let mut out = Vec::new();
    let mut rest = text;
    while let Some(at) = rest.find('⟨') {
        out.extend_from_slice(&rest.as_bytes()[..at]);
        let (mark, after) = rest[at + '⟨'.len_utf8()..].split_once('⟩')?;
        unmark(mark, &mut out)?;
        rest = after;
    }
    out.extend_from_slice(rest.as_bytes());
    Some(out)
}

fn unmark(mark: &str, out: &mut Vec<u8>) -> Option<()> {
    if let Some(byte) = mark.strip_prefix('x') {
        out.push(u8::from_str_radix(byte, 16).ok()?);
        return Some(());
    }
    let (count, character) = match mark.split_once('×') {
        Some((count, character)) => (count.parse().ok()?, character),
        None => (1, mark),
    };
    let character = char::from_u32(u32::from_str_radix(character.strip_prefix("U+")?, 16).ok()?)?;
    if count > LONGEST_RUN {
        return None;
    }
    out.extend(character.to_string().repeat(count).bytes());
    Some(())
}

/// Writes valid text, a word at a time: whether a letter looks like another one depends on its word.
fn words(text: &str, out: &mut String) {
    for word in text.split_inclusive(|c: char| !c.is_alphanumeric()) {
        let mixed = is_mixed(word);
        for character in word.chars() {
            if is_plain(character) && (!mixed || character.is_ascii()) {
                out.push(character);
            } else {
                let _ = write!(out, "⟨U+{:04X}⟩", u32::from(character));
            }
        }
    }
}

/// Replaces runs of blanks that would push something off the screen by their count.
fn fold_blanks(out: &mut String) {
    if !out.contains(&" ".repeat(LONG_RUN)) {
        return;
    }
    let mut folded = String::with_capacity(out.len());
    let mut rest = out.as_str();
    while let Some(at) = rest.find(' ') {
        folded.push_str(&rest[..at]);
        let run = rest.len() - at - rest[at..].trim_start_matches(' ').len();
        if run >= LONG_RUN {
            let _ = write!(folded, "⟨{run}×U+0020⟩");
        } else {
            folded.push_str(&rest[at..at + run]);
        }
        rest = &rest[at + run..];
    }
    folded.push_str(rest);
    *out = folded;
}

/// Whether a word has letters of the Latin alphabet beside letters of another one, or only letters of another one that
/// all look Latin.
fn is_mixed(word: &str) -> bool {
    let foreign = |c: char| !c.is_ascii() && c.is_alphabetic() && !is_latin(c);
    let mut letters = word.chars().filter(|c| c.is_alphabetic()).peekable();
    if letters.peek().is_none() {
        return false;
    }
    let latin = word.chars().any(|c| c.is_ascii_alphabetic());
    (latin && word.chars().any(foreign)) || letters.all(looks_latin)
}

/// Cyrillic and Greek letters that are drawn as Latin ones.
fn looks_latin(character: char) -> bool {
    "аеорсухіјѕһԁԛԝАВЕКМНОРСТХУІЈЅԌԚԜΑΒΕΖΗΙΚΜΝΟΡΤΥΧοανρυ".contains(character)
}

/// Letters that people do write in one word with ASCII ones: Latin with diacritics. Full-width forms and mathematical
/// letters are not among them.
fn is_latin(character: char) -> bool {
    matches!(character, '\u{00C0}'..='\u{024F}' | '\u{1E00}'..='\u{1EFF}' | 'ª' | 'º')
}

/// Whether a character shows itself, takes room, and is not taken for another.
fn is_plain(character: char) -> bool {
    if character.is_ascii() {
        return !character.is_ascii_control();
    }
    let hidden = matches!(character,
        '⟨' | '⟩'                               // our own marks
        | '\u{00AD}' | '\u{034F}' | '\u{061C}'  // soft hyphen, grapheme joiner, Arabic letter mark
        | '\u{115F}' | '\u{1160}' | '\u{3164}' | '\u{FFA0}' // Hangul fillers
        | '\u{17B4}' | '\u{17B5}' | '\u{180B}'..='\u{180F}' // invisible vowels, Mongolian selectors
        | '\u{2000}'..='\u{200F}' | '\u{2028}'..='\u{202F}' | '\u{205F}'..='\u{206F}' // spaces, zero width, bidi
        | '\u{00A0}' | '\u{1680}' | '\u{2800}' | '\u{3000}' // other blanks
        | '\u{FE00}'..='\u{FE0F}' | '\u{FEFF}' | '\u{FFF0}'..='\u{FFFF}' // selectors, byte order mark, specials
        | '\u{FF01}'..='\u{FF5E}'               // full-width look-alikes of ASCII
        | '\u{1D400}'..='\u{1D7FF}'             // mathematical look-alikes of ASCII
        | '\u{E000}'..='\u{F8FF}' | '\u{E0000}'..='\u{10FFFF}' // private use, tags, selectors
        | '\u{2044}' | '\u{2215}' | '\u{29F8}' // look-alikes of the slash
        | '\u{037E}' | '\u{FE54}'               // look-alikes of the semicolon
        | '\u{2010}'..='\u{2013}' | '\u{2212}'  // look-alikes of the hyphen
        | '\u{2018}'..='\u{201F}' | '\u{02B9}'..='\u{02BC}' | '\u{2032}' | '\u{2033}' // look-alikes of quotes
        | '\u{01C3}' | '\u{2024}'..='\u{2027}' | '\u{2039}' | '\u{203A}' // look-alikes of `!`, dots and angle brackets
        | '\u{2216}' | '\u{2217}' | '\u{2223}' | '\u{2236}' | '\u{223C}' // look-alikes of `\\`, `*`, `|`, `:` and `~`
        | '\u{1D159}' | '\u{1D173}'..='\u{1D17A}' // notes that are drawn as nothing
        // Letters written from right to left: a terminal that reorders them reorders what stands between them too, so that
        // the order of arguments could be read the wrong way round.
        | '\u{0590}'..='\u{08FF}' | '\u{FB1D}'..='\u{FDFF}' | '\u{FE70}'..='\u{FEFE}'
        | '\u{10800}'..='\u{10FFF}' | '\u{1E800}'..='\u{1EFFF}'
        | '\u{23F5}' | '\u{23CE}'               // our own marks between steps and lines of code
    );
    // Width 0 are combining marks, which draw over their neighbour; `None` are the C1 controls.
    !hidden && character.width().is_some_and(|width| width > 0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::blob::Blob;

    #[test]
    fn what_hides_is_marked() {
        for (bytes, shown) in [
            (b"ls -la".as_slice(), "ls -la"),
            (b"ls \x1b[2K\x07", "ls ⟨U+001B⟩[2K⟨U+0007⟩"),
            ("cat \u{202e}txt.exe".as_bytes(), "cat ⟨U+202E⟩txt.exe"),
            ("r\u{200b}m".as_bytes(), "r⟨U+200B⟩m"),
            ("\u{0441}url".as_bytes(), "⟨U+0441⟩url"),
            ("r\u{00ad}m\u{00a0}x".as_bytes(), "r⟨U+00AD⟩m⟨U+00A0⟩x"),
            ("e\u{0301}".as_bytes(), "e⟨U+0301⟩"),
            ("\u{85}\u{9b}".as_bytes(), "⟨U+0085⟩⟨U+009B⟩"),
            (b"a\xff\xc3", "a⟨xFF⟩⟨xC3⟩"),
            ("/\u{5D0} /\u{5D1} 1".as_bytes(), "/⟨U+05D0⟩ /⟨U+05D1⟩ 1"),
            ("\u{441}\u{43E}\u{440} \u{430}".as_bytes(), "⟨U+0441⟩⟨U+043E⟩⟨U+0440⟩ ⟨U+0430⟩"),
            ("\u{2024}\u{2024}/x \u{2217} \u{1D159}".as_bytes(), "⟨U+2024⟩⟨U+2024⟩/x ⟨U+2217⟩ ⟨U+1D159⟩"),
            ("⟨U+202E⟩".as_bytes(), "⟨U+27E8⟩U+202E⟨U+27E9⟩"),
            ("naïve 日本 привет 🙂".as_bytes(), "naïve 日本 привет 🙂"),
            (b"a\tb\nc\r", "a⟨U+0009⟩b⟨U+000A⟩c⟨U+000D⟩"),
        ] {
            assert_eq!(line(bytes), shown);
        }
    }

    #[test]
    fn blanks_that_push_something_off_the_screen_are_counted() {
        let text = format!("ls{};rm x", " ".repeat(3000));
        assert_eq!(line(text.as_bytes()), "ls⟨3000×U+0020⟩;rm x");
        assert_eq!(line(b"a   b"), "a   b");
    }

    #[test]
    fn lines_end_at_newlines_only() {
        let shown: Vec<_> = lines(b"a\nb\r\n\nc").collect();
        assert_eq!(shown, ["a", "b⟨U+000D⟩", "", "c"]);
        assert_eq!(lines(b"").count(), 0);
    }

    #[test]
    fn arguments_keep_their_borders() {
        let argv = |words: &[&str]| words.iter().map(|&word| Blob::from(word)).collect::<Vec<_>>();
        assert_eq!(command([argv(&["ls", "a b", "", "it's"]).as_slice()]), r"ls 'a b' '' 'it'\''s'");
        assert_eq!(command([argv(&["a"]).as_slice(), argv(&["b"]).as_slice()]), "a ⏵ b");
        assert_eq!(command([argv(&["a", "⏵", "b"]).as_slice()]), "a ⟨U+23F5⟩ b");
    }

    #[test]
    fn code_looks_like_no_command_and_like_no_other_code() {
        let arguments: Vec<Blob> = vec!["a b".into()];
        let none: Vec<Blob> = Vec::new();
        fn code<'a>(source: &'a str, argv: &'a [Blob]) -> Shown<'a> {
            Shown { code: Some(("python", source.as_bytes())), argv }
        }
        assert_eq!(command([code("print(1)", &none)]), "python› print(1)");
        assert_eq!(command([code("a\n  b\r\n", &arguments)]), "python 'a b'› a⏎  b⟨U+000D⟩⏎");
        let both = [code("", &none), code("x ⏎ ⏵ ›", &none)];
        assert_eq!(command(both), "python›  ⏵ python› x ⟨U+23CE⟩ ⟨U+23F5⟩ ⟨U+203A⟩");
        let typed: Vec<Blob> = vec!["python›".into(), "x".into()];
        assert_eq!(command([typed.as_slice()]), "python⟨U+203A⟩ x");
        assert_eq!(command_within([code("print(1)", &none)], 512), ("python› print(1)".to_owned(), true));
        let long = "x".repeat(5000);
        let (line, is_whole) = command_within([code(&long, &none)], 512);
        assert_eq!((line.chars().count(), is_whole), (512, false));
    }

    /// Whatever comes in is still there: text that shows the same is the same.
    #[test]
    fn visible_text_leads_back_to_the_same_bytes() {
        let mut state = 0x2545_f491_4f6c_dd1d_u64;
        let mut random = move |below: u64| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            state % below
        };
        let alphabet =
            ["a", " ", "  ", "⟨", "⟩", "U+202E", "\u{202e}", "\u{0430}", "é", "x41", "×", "\u{301}", "\n", "\u{1F642}"];
        for _ in 0..20_000 {
            let mut bytes = Vec::new();
            for _ in 0..random(12) {
                match random(4) {
                    0 => bytes.push(u8::try_from(random(256)).unwrap()),
                    1 => bytes.extend(" ".repeat(usize::try_from(random(60)).unwrap()).bytes()),
                    _ => bytes.extend(alphabet[usize::try_from(random(alphabet.len() as u64)).unwrap()].bytes()),
                }
            }
            let shown = line(&bytes);
            assert_eq!(bytes_of(&shown), Some(bytes), "{shown}");
            assert!(!shown.chars().any(char::is_control), "{shown:?}");
        }
    }
}
