//! Several steps on one command line: `--step 'make test'`, again and again, or `--steps FILE`.
//!
//! A step's text becomes words by the quoting that all shells share, and by nothing else: no variable, pattern, pipe or
//! second command in it means anything. What a shell would have read as one of those is refused where it is not quoted, so
//! that nobody approves `make '&&' reboot` for two commands, or believes that a `*` was replaced.

use std::ffi::{OsStr, OsString};
use std::fs::File;
use std::io::{self, IsTerminal as _, Read};
use std::os::unix::ffi::OsStrExt as _;

use brig_core::admission::MAX_PAYLOAD_BYTES;
use brig_core::blob::Blob;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::DraftStep;
use brig_core::visible;
use serde::Deserialize;

use super::exit::Stop;
use super::output::whisper;

/// The most bytes of a file of steps: what a proposal may hold, with room for its writing.
const MAX_FILE: u64 = 4 * MAX_PAYLOAD_BYTES as u64;

/// What a file of steps says, in the words of the API.
#[derive(Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct StepsFile {
    /// The steps, in order.
    pub steps: Vec<DraftStep>,
    /// Whether a step that fails lets the next one run.
    #[serde(default)]
    pub keep_going: bool,
}

/// The steps that several `--step` name.
///
/// # Errors
/// Which of them is not understood, and why.
pub fn of_texts(texts: &[OsString]) -> Result<Vec<DraftStep>, Stop> {
    let step = |(number, text): (usize, &OsString)| {
        let words = words(text).map_err(|(what, help)| {
            let shown = visible::line(text.as_bytes());
            Stop::Usage(Problem::new(Code::Malformed, format!("--step {number} `{shown}`: {what}")).help(help))
        })?;
        Ok(DraftStep { argv: words.into_iter().map(Blob).collect(), ..DraftStep::default() })
    };
    (1..).zip(texts).map(step).collect()
}

/// The steps of a file, or of the standard input where it is called `-`: JSON if it begins with `{`, else TOML.
///
/// # Errors
/// When it cannot be read, or is not understood.
pub fn of_file(path: &OsStr) -> Result<StepsFile, Stop> {
    let is_stdin = path == "-";
    let shown = if is_stdin { "the standard input".to_owned() } else { visible::line(path.as_bytes()) };
    let unreadable = |error| Problem::new(Code::LocalIo, format!("cannot read {shown}: {error}"));
    let mut bytes = Vec::new();
    if is_stdin {
        if io::stdin().is_terminal() {
            whisper("reading the steps from the standard input, end them with Ctrl-D");
        }
        io::stdin().lock().take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    } else {
        let file = File::open(path).map_err(unreadable)?;
        file.take(MAX_FILE + 1).read_to_end(&mut bytes).map_err(unreadable)?;
    }
    if bytes.len() as u64 > MAX_FILE {
        let problem = Problem::new(Code::TooLarge, format!("{shown} has more than {MAX_FILE} bytes"));
        return Err(problem.help("steps are part of what is approved; send less").into());
    }
    let malformed = |what: String| {
        let what = visible::line(what.trim_end().replace('\n', " ").as_bytes());
        Stop::Usage(Problem::new(Code::Malformed, format!("--steps {shown}: {what}")).help(
            "write {\"steps\": [{\"argv\": [\"make\", \"test\"]}]}, or in TOML `[[steps]]` and `argv = [\"make\", \"test\"]`, \
             with the keys of the API's steps",
        ))
    };
    let text = String::from_utf8(bytes).map_err(|_| malformed("it is not UTF-8".to_owned()))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).map_err(|error| malformed(error.to_string()));
    }
    toml::from_str(&text).map_err(|error| {
        let before = error.span().and_then(|span| text.get(..span.start)).unwrap_or_default();
        malformed(format!("{} at line {}", error.message(), before.matches('\n').count() + 1))
    })
}

/// What is wrong with a text, and what would be right.
type Wrong = (String, &'static str);

const FOR_A_SHELL: &str =
    "put it in single quotes to mean the character itself, or let a shell run it, as in sh -c 'ls | wc -l'";

/// Splits a text into words: blanks part them, '…' keeps all, "…" keeps all but a backslash before `"` `\` `$` and a
/// backquote, and a backslash outside of quotes keeps the next character.
///
/// # Errors
/// What is not finished, or would be for a shell.
pub fn words(text: &OsStr) -> Result<Vec<Vec<u8>>, Wrong> {
    let mut words = Vec::new();
    let mut word: Option<Vec<u8>> = None;
    let mut bytes = text.as_bytes().iter().copied().peekable();
    while let Some(byte) = bytes.next() {
        match byte {
            b' ' | b'\t' => words.extend(word.take()),
            b'\'' => {
                let word = word.get_or_insert_default();
                loop {
                    match bytes.next() {
                        Some(b'\'') => break,
                        Some(byte) => word.push(byte),
                        None => return Err(unfinished("a ' is never closed")),
                    }
                }
            }
            b'"' => quoted(&mut bytes, word.get_or_insert_default())?,
            b'\\' => match bytes.next() {
                Some(next) => word.get_or_insert_default().push(next),
                None => return Err(unfinished("a backslash has nothing after it")),
            },
            b'|' | b'&' | b';' | b'<' | b'>' | b'(' | b')' | b'$' | b'`' | b'*' | b'?' | b'[' | b'\n' => {
                return Err(for_a_shell(byte));
            }
            b'~' | b'#' if word.is_none() => return Err(for_a_shell(byte)),
            byte => word.get_or_insert_default().push(byte),
        }
    }
    words.extend(word);
    if words.first().is_none_or(Vec::is_empty) {
        return Err(("it names no program".to_owned(), "write a program and its arguments, as in --step 'make test'"));
    }
    Ok(words)
}

/// What is between two `"`, the first of which was read.
fn quoted(bytes: &mut impl Iterator<Item = u8>, word: &mut Vec<u8>) -> Result<(), Wrong> {
    loop {
        match bytes.next() {
            Some(b'"') => return Ok(()),
            Some(byte @ (b'$' | b'`')) => return Err(for_a_shell(byte)),
            Some(b'\\') => match bytes.next() {
                Some(next @ (b'"' | b'\\' | b'$' | b'`')) => word.push(next),
                Some(next) => word.extend_from_slice(&[b'\\', next]),
                None => break,
            },
            Some(byte) => word.push(byte),
            None => break,
        }
    }
    Err(unfinished("a \" is never closed"))
}

fn unfinished(what: &str) -> Wrong {
    (what.to_owned(), "put a word with blanks in single quotes, and a ' itself in double ones")
}

fn for_a_shell(byte: u8) -> Wrong {
    let shown = if byte == b'\n' { "a line end".to_owned() } else { format!("`{}`", char::from(byte)) };
    (format!("{shown} would be for a shell, and no shell reads a step"), FOR_A_SHELL)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn split(text: &str) -> Vec<String> {
        let words = words(OsStr::new(text)).unwrap();
        words.into_iter().map(|word| String::from_utf8(word).unwrap()).collect()
    }

    fn refused(text: &str) -> String {
        words(OsStr::new(text)).unwrap_err().0
    }

    #[test]
    fn words_are_split_as_shells_quote_them() {
        assert_eq!(split("  make\ttest  "), ["make", "test"]);
        assert_eq!(split(r#"sh -c 'echo "$HOME" | wc' x"#), ["sh", "-c", r#"echo "$HOME" | wc"#, "x"]);
        assert_eq!(split(r#"a"b c"'d e'f"#), ["ab cd ef"], "quotes may begin inside of a word");
        assert_eq!(split(r#"echo "a\"b\\c\$d\`e\n""#), ["echo", r#"a"b\c$d`e\n"#]);
        assert_eq!(split(r"echo \* a\ b \'"), ["echo", "*", "a b", "'"]);
        assert_eq!(split("echo '' \"\""), ["echo", "", ""], "an empty word is a word");
        assert_eq!(
            split("find . -exec cat {} + a=b a~b a#b x!"),
            ["find", ".", "-exec", "cat", "{}", "+", "a=b", "a~b", "a#b", "x!"]
        );
        assert_eq!(words(OsStr::from_bytes(b"a '\xff'")).unwrap()[1], b"\xff");
    }

    #[test]
    fn what_would_be_for_a_shell_is_refused_and_not_taken_literally() {
        for (text, what) in [
            ("make && make test", "`&`"),
            ("ls | wc", "`|`"),
            ("a; b", "`;`"),
            ("ls > x", "`>`"),
            ("echo $HOME", "`$`"),
            ("echo \"$HOME\"", "`$`"),
            ("echo `id`", "```"),
            ("rm *.o", "`*`"),
            ("ls ~", "`~`"),
            ("ls # all", "`#`"),
            ("a\nb", "a line end"),
        ] {
            let problem = refused(text);
            assert!(problem.starts_with(what) && problem.contains("no shell reads"), "{text}: {problem}");
        }
        assert!(refused("echo 'a").contains("' is never closed"));
        assert!(refused("echo \"a").contains("\" is never closed") && refused("a \\").contains("backslash"));
        for nothing in ["", "  ", "'' a"] {
            assert_eq!(refused(nothing), "it names no program");
        }
    }

    #[test]
    fn a_file_of_steps_is_json_or_toml_with_the_keys_of_the_api() {
        let home = tempfile::tempdir().unwrap();
        let read = |text: &str| {
            let path = home.path().join("steps");
            std::fs::write(&path, text).unwrap();
            of_file(path.as_os_str())
        };
        let json =
            read(r#" {"keep_going": true, "steps": [{"argv": ["a", "b c"], "cwd": "/tmp", "env": {"A": "1"}}]}"#);
        let toml = read("keep_going = true\n[[steps]]\nargv = ['a', 'b c']\ncwd = '/tmp'\nenv = { A = '1' }\n");
        let (json, toml) = (json.unwrap(), toml.unwrap());
        assert!(json.keep_going && toml.keep_going);
        assert_eq!(json.steps, toml.steps);
        assert_eq!(json.steps[0].argv, [Blob::from("a"), Blob::from("b c")]);
        for wrong in ["{\"step\": []}", "[[steps]]\nargs = ['a']\n", "steps", "{"] {
            let Stop::Usage(problem) = read(wrong).unwrap_err() else { panic!("{wrong}") };
            assert!(problem.message.starts_with("--steps ") && problem.help.contains("[[steps]]"), "{problem}");
            assert!(!problem.message.contains('\n'), "{problem}");
        }
    }
}
