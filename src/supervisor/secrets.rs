//! Secrets: read when they are needed, given to one run, and taken out of all that it writes.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::Read as _;
use std::os::unix::ffi::OsStrExt as _;

use aho_corasick::{AhoCorasick, Anchored, Input, MatchKind};
use brig_core::problem::{Code, Problem};
use brig_core::profile::SecretSource;
use brig_core::visible;

/// Bytes of a value at least: what is shorter would be found everywhere, and could be guessed from where it is missing.
const SHORTEST: usize = 8;
/// Bytes of a value at most.
const LONGEST: usize = 64 << 10;

/// The values of one profile's secrets. They are in no message, and there is no way to print them.
#[derive(Default)]
pub struct Secrets {
    values: Vec<(String, Vec<u8>)>,
}

impl Secrets {
    /// Reads every secret of a profile.
    ///
    /// # Errors
    /// `secret_missing`, naming the variable and its source, and never what is in it.
    pub fn read(sources: &BTreeMap<String, SecretSource>) -> Result<Self, Problem> {
        let read = |(name, source): (&String, &SecretSource)| Ok((name.clone(), value(name, source)?));
        Ok(Self { values: sources.iter().map(read).collect::<Result<_, Problem>>()? })
    }

    /// Name and value of each.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &[u8])> {
        self.values.iter().map(|(name, value)| (name.as_str(), value.as_slice()))
    }

    /// What takes these out of one stream of output; nothing where there are none.
    pub fn redactor(&self) -> Option<Redactor> {
        Redactor::new(&self.values)
    }
}

fn value(name: &str, source: &SecretSource) -> Result<Vec<u8>, Problem> {
    let from = visible::line(source.text().as_bytes());
    let missing = |why: &str, help: &str| {
        Problem::new(Code::SecretMissing, format!("the secret {name} cannot be had from {from}: {why}")).help(help)
    };
    let mut value = match source {
        SecretSource::Environment(variable) => match std::env::var_os(variable) {
            Some(value) => value.as_bytes().to_vec(),
            None => {
                return Err(missing(
                    "it is not set where the supervisor was started",
                    "set it and start the supervisor again (`brig stop`), or take the secret from a file",
                ));
            }
        },
        SecretSource::File(path) => {
            let readable = "make it a file of the value alone that the supervisor's user can read";
            read(path).map_err(|why| missing(&why, readable))?
        }
    };
    // Editors end a file with a line end, which is no part of a token.
    if matches!(source, SecretSource::File(_)) && value.ends_with(b"\n") {
        value.pop();
        if value.ends_with(b"\r") {
            value.pop();
        }
    }
    let size = format!("write a value of {SHORTEST} to {LONGEST} bytes, without NUL bytes");
    match value.len() {
        0 => Err(missing("it is empty", &size)),
        length if length < SHORTEST => Err(missing("it is too short to be kept out of what a run writes", &size)),
        length if length > LONGEST => Err(missing("it is too long", &size)),
        _ if value.contains(&0) => Err(missing("it has a NUL byte, which no variable can hold", &size)),
        _ => Ok(value),
    }
}

fn read(path: &str) -> Result<Vec<u8>, String> {
    // Without waiting for whoever writes into a named pipe.
    let flags = rustix::fs::OFlags::RDONLY | rustix::fs::OFlags::NONBLOCK | rustix::fs::OFlags::CLOEXEC;
    let opened = rustix::fs::open(path, flags, rustix::fs::Mode::empty()).map_err(|error| error.to_string())?;
    let file = File::from(opened);
    if !file.metadata().map_err(|error| error.to_string())?.is_file() {
        return Err("it is no file".to_owned());
    }
    let mut value = Vec::new();
    file.take(LONGEST as u64 + 3).read_to_end(&mut value).map_err(|error| error.to_string())?;
    Ok(value)
}

/// Takes secrets out of one stream, however it is cut into pieces: in the place of a value stands `[secret NAME]`.
///
/// What might be the beginning of a value is held back until it is known to be none, so nothing of a value is ever told.
/// A program that writes a value in another form (encoded, reversed, a character a line) is not stopped by this.
pub struct Redactor {
    values: AhoCorasick,
    /// By pattern.
    patterns: Vec<Vec<u8>>,
    replacements: Vec<Vec<u8>>,
    held: Vec<u8>,
    /// Steps that began within what is held, by where they did.
    steps: Vec<(usize, u32)>,
}

/// What can be told, and where in it steps began. A value that began in one step and ended in another is the first one's.
#[derive(Default)]
pub struct Told {
    pub bytes: Vec<u8>,
    pub steps: Vec<(usize, u32)>,
}

impl Redactor {
    fn new(values: &[(String, Vec<u8>)]) -> Option<Self> {
        let mut patterns = Vec::new();
        let mut replacements = Vec::new();
        for (name, value) in values {
            // Of keys that are several lines long, each line tells a part.
            let lines = value.split(|byte| *byte == b'\n').filter(|line| line.len() < value.len());
            for part in std::iter::once(value.as_slice()).chain(lines).filter(|part| part.len() >= SHORTEST) {
                patterns.push(part.to_vec());
                replacements.push(format!("[secret {name}]").into_bytes());
            }
        }
        if patterns.is_empty() {
            return None;
        }
        let values = AhoCorasick::builder().match_kind(MatchKind::LeftmostLongest).build(&patterns).ok()?;
        Some(Self { values, patterns, replacements, held: Vec::new(), steps: Vec::new() })
    }

    /// Takes in what came, and gives what can be told of it.
    pub fn push(&mut self, bytes: &[u8]) -> Told {
        self.held.extend_from_slice(bytes);
        self.redact(false)
    }

    /// What comes from here on is another step's. A value is found across that as well.
    pub fn begin(&mut self, step: u32) {
        self.steps.push((self.held.len(), step));
    }

    /// What was held back, when nothing more comes.
    pub fn finish(&mut self) -> Told {
        self.redact(true)
    }

    /// Takes what can be told out of what is held.
    fn redact(&mut self, is_all: bool) -> Told {
        let mut told = Told { bytes: Vec::with_capacity(self.held.len()), steps: Vec::new() };
        let mut at = 0;
        loop {
            let open = if is_all { self.held.len() } else { self.open_from(at) };
            let found = self.values.find(Input::new(&self.held).range(at..).anchored(Anchored::No));
            let found = found.filter(|found| found.start() < open);
            let plain = found.as_ref().map_or(open, |found| found.start());
            // A step that begins where a value does begins before it; one that begins within it, after it.
            while let Some(&(_, step)) = self.steps.first().filter(|(from, _)| *from <= plain) {
                let (from, _) = self.steps.remove(0);
                told.bytes.extend_from_slice(&self.held[at..at.max(from)]);
                at = at.max(from);
                told.steps.push((told.bytes.len(), step));
            }
            told.bytes.extend_from_slice(&self.held[at..plain]);
            at = plain;
            let Some(found) = found else { break };
            told.bytes.extend_from_slice(&self.replacements[found.pattern().as_usize()]);
            at = found.end();
        }
        self.held.drain(..at);
        for (from, _) in &mut self.steps {
            *from -= at;
        }
        told
    }

    /// Where from `at` on the first thing begins that may still become a value, or a longer one than it is.
    fn open_from(&self, at: usize) -> usize {
        let longest = self.patterns.iter().map(Vec::len).max().unwrap_or(0);
        let first = at.max((self.held.len() + 1).saturating_sub(longest));
        let may_become = |from: usize| {
            let tail = &self.held[from..];
            self.patterns.iter().any(|pattern| pattern.len() > tail.len() && pattern.starts_with(tail))
        };
        (first..self.held.len()).find(|&from| may_become(from)).unwrap_or(self.held.len())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn redactor(values: &[&str]) -> Redactor {
        let values: Vec<_> =
            values.iter().zip(["A", "B", "C"]).map(|(value, name)| (name.into(), (*value).into())).collect();
        Redactor::new(&values).unwrap()
    }

    /// All of `text`, in pieces of `size`.
    fn redacted(values: &[&str], text: &str, size: usize) -> String {
        let mut redactor = redactor(values);
        let mut told = Vec::new();
        for piece in text.as_bytes().chunks(size) {
            told.extend(redactor.push(piece).bytes);
        }
        told.extend(redactor.finish().bytes);
        String::from_utf8(told).unwrap()
    }

    #[test]
    fn a_value_is_replaced_by_its_name_however_it_is_cut() {
        let cases: [(&[&str], &str, &str); 7] = [
            (&["s3cr3t-value"], "token=s3cr3t-value!", "token=[secret A]!"),
            (&["s3cr3t-value"], "s3cr3t-vals3cr3t-values3cr3t-", "s3cr3t-val[secret A]s3cr3t-"),
            (&["aaaaaaaa"], "aaaaaaaaaaaaaaaaaaab", "[secret A][secret A]aaab"),
            (&["abcdefgh", "abcdefghij"], "xabcdefghijx abcdefghix", "x[secret B]x [secret A]ix"),
            (&["abcdefgh", "efghijkl"], "abcdefghijkl", "[secret A]ijkl"),
            (&["line-one\nline-two\n"], "line-two\nline-one\nline-two\n", "[secret A]\n[secret A]"),
            (&["s3cr3t-value"], "", ""),
        ];
        for (values, text, expected) in cases {
            for size in 1..=text.len().max(1) {
                assert_eq!(redacted(values, text, size), expected, "{text} in pieces of {size}");
            }
        }
    }

    #[test]
    fn what_cannot_be_a_secret_is_not_held_back() {
        let mut redactor = redactor(&["s3cr3t-value"]);
        assert_eq!(redactor.push(b"prompt> ").bytes, b"prompt> ");
        assert_eq!(redactor.push(b"as s3c").bytes, b"as ");
        assert_eq!(redactor.push(b"ond").bytes, b"s3cond");
    }

    #[test]
    fn a_value_is_found_across_steps_and_the_rest_stays_with_its_step() {
        let mut redactor = redactor(&["s3cr3t-value"]);
        let mut told = Told::default();
        let mut add = |piece: Told| {
            told.steps.extend(piece.steps.iter().map(|(at, step)| (at + told.bytes.len(), *step)));
            told.bytes.extend(piece.bytes);
        };
        for (step, piece) in ["one s3c", "r3t", "-valuethree s3c", "four", "", "s3cr3t-value", "s3"].iter().enumerate()
        {
            if step > 0 {
                redactor.begin(u32::try_from(step).unwrap());
            }
            add(redactor.push(piece.as_bytes()));
        }
        add(redactor.finish());
        assert_eq!(String::from_utf8(told.bytes).unwrap(), "one [secret A]three s3cfour[secret A]s3");
        assert_eq!(told.steps, [(14, 1), (14, 2), (23, 3), (27, 4), (27, 5), (37, 6)]);
    }

    #[test]
    fn whatever_comes_no_value_is_in_what_is_told() {
        let values = ["abababab", "babababa1", "ab\nabababab"];
        let mut state = 1_u32;
        for round in 0..300 {
            let mut next = |below: u32| {
                state ^= state << 13;
                state ^= state >> 17;
                state ^= state << 5;
                state % below
            };
            let text: String = (0..40).map(|_| ['a', 'b', 'a', 'b', '1', '\n'][next(6) as usize]).collect();
            let size = 1 + next(7) as usize;
            let told = redacted(&values, &text, size);
            assert_eq!(told, redacted(&values, &text, 40), "round {round}");
            assert!(values.iter().all(|value| !told.contains(value)), "round {round}: {text:?} became {told:?}");
        }
    }

    fn token(source: SecretSource) -> BTreeMap<String, SecretSource> {
        BTreeMap::from([("TOKEN".to_owned(), source)])
    }

    #[test]
    fn a_file_is_read_without_its_last_line_end() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = SecretSource::File(path.to_str().unwrap().to_owned());
        for (content, value) in
            [("long-enough\n", "long-enough"), ("long-enough\r\n", "long-enough"), (" a b c d\n\n", " a b c d\n")]
        {
            std::fs::write(&path, content).unwrap();
            let secrets = Secrets::read(&token(source.clone())).unwrap();
            assert_eq!(secrets.variables().collect::<Vec<_>>(), [("TOKEN", value.as_bytes())]);
        }
    }

    #[test]
    fn a_secret_that_cannot_be_had_is_told_by_name_and_never_by_value() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("token");
        let source = SecretSource::File(path.to_str().unwrap().to_owned());
        let refused = |source: &SecretSource| Secrets::read(&token(source.clone())).err().unwrap();
        assert!(refused(&source).message.contains("TOKEN"), "{}", refused(&source));
        for (content, why) in
            [(&b"s3cr3t\n"[..], "too short"), (b"", "empty"), (b"s3cr3t\0value", "NUL"), (&[b's'; 70_000], "too long")]
        {
            std::fs::write(&path, content).unwrap();
            let problem = refused(&source);
            assert!(problem.message.contains(why), "{problem}");
            assert!(!problem.to_string().contains("s3cr3t"), "{problem}");
        }
        let folder = SecretSource::File(folder.path().to_str().unwrap().to_owned());
        assert!(refused(&folder).message.contains("no file"));
        let unset = SecretSource::Environment("BRIG_TEST_NEVER_SET".into());
        assert!(refused(&unset).message.contains("not set"), "{}", refused(&unset));
    }
}
