//! The patterns of a `.dockerignore`, as Docker's own client reads them: those of Go's `filepath.Match`, with `**` for any
//! number of directories and `!` for what is taken back; the last that fits decides.

/// The patterns of a file.
#[derive(Debug, Default)]
pub struct Ignore {
    rules: Vec<Rule>,
}

#[derive(Debug)]
struct Rule {
    parts: Vec<String>,
    takes_back: bool,
}

impl Ignore {
    /// Reads the lines of a file.
    pub fn parse(text: &str) -> Self {
        let rule = |line: &str| {
            let line = line.trim();
            if line.is_empty() || line.starts_with('#') {
                return None;
            }
            let (takes_back, pattern) = match line.strip_prefix('!') {
                Some(pattern) => (true, pattern.trim()),
                None => (false, line),
            };
            let parts: Vec<_> =
                pattern.split('/').filter(|part| !matches!(*part, "" | ".")).map(str::to_owned).collect();
            (!parts.is_empty()).then_some(Rule { parts, takes_back })
        };
        Self { rules: text.lines().filter_map(rule).collect() }
    }

    /// Whether this path is left out.
    pub fn leaves_out(&self, path: &str) -> bool {
        let parts: Vec<&str> = path.split('/').collect();
        let fits = |rule: &&Rule| (1..=parts.len()).any(|length| fits(&rule.parts, &parts[..length]));
        self.rules.iter().rev().find(fits).is_some_and(|rule| !rule.takes_back)
    }

    /// Whether something in this directory, which is left out, may be taken back.
    pub fn may_take_back(&self, directory: &str) -> bool {
        let depth = directory.split('/').count();
        self.rules.iter().any(|rule| {
            let leads_there = rule
                .parts
                .iter()
                .zip(directory.split('/'))
                .take(depth)
                .all(|(part, name)| part == "**" || part.contains(['*', '?', '[']) || part == name);
            rule.takes_back && (leads_there || rule.parts.iter().any(|part| part == "**"))
        })
    }
}

/// Whether a pattern fits a whole path.
fn fits(pattern: &[String], path: &[&str]) -> bool {
    let Some((first, rest)) = pattern.split_first() else { return path.is_empty() };
    if first == "**" {
        return (0..=path.len()).any(|skipped| fits(rest, &path[skipped..]));
    }
    path.split_first().is_some_and(|(name, deeper)| {
        let (pattern, name): (Vec<char>, Vec<char>) = (first.chars().collect(), name.chars().collect());
        fits_name(&pattern, &name) && fits(rest, deeper)
    })
}

/// Whether a pattern fits one name: `*`, `?`, `[a-z]`, `[^a]` and `\` before what is meant as it is.
fn fits_name(pattern: &[char], name: &[char]) -> bool {
    match (pattern, name) {
        ([], []) => true,
        (['*', rest @ ..], _) => (0..=name.len()).any(|taken| fits_name(rest, &name[taken..])),
        (['?', rest @ ..], [_, more @ ..]) => fits_name(rest, more),
        (['[', set @ ..], [letter, more @ ..]) => {
            let Some(end) = set.iter().skip(1).position(|&c| c == ']').map(|at| at + 1) else { return false };
            let (wanted, set_itself) = match &set[..end] {
                ['^', rest @ ..] => (false, rest),
                all => (true, all),
            };
            in_set(set_itself, *letter) == wanted && fits_name(&set[end + 1..], more)
        }
        (['\\', escaped, rest @ ..], [letter, more @ ..]) | ([escaped, rest @ ..], [letter, more @ ..]) => {
            escaped == letter && fits_name(rest, more)
        }
        _ => false,
    }
}

fn in_set(set: &[char], letter: char) -> bool {
    match set {
        [from, '-', to, rest @ ..] => (*from..=*to).contains(&letter) || in_set(rest, letter),
        [one, rest @ ..] => *one == letter || in_set(rest, letter),
        [] => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn patterns_fit_as_they_do_for_docker() {
        let cases = [
            ("node_modules", "node_modules/a/b", true),
            ("/build/", "build/x", true),
            ("*.log", "a.log", true),
            ("*.log", "a/b.log", false),
            ("**/*.log", "a/b/c.log", true),
            ("**/*.log", "c.log", true),
            ("a/**/z", "a/b/c/z", true),
            ("a?c", "abc", true),
            ("[a-c]x", "bx", true),
            ("[^a-c]x", "bx", false),
            ("\\*", "*", true),
            ("\\*", "a", false),
            ("# a\n\n", "# a", false),
            ("*\n!a", "a/b", false),
            ("*\n!a\na/b", "a/b", true),
        ];
        for (text, path, left_out) in cases {
            assert_eq!(Ignore::parse(text).leaves_out(path), left_out, "{text:?} on {path}");
        }
    }

    #[test]
    fn a_directory_is_looked_into_only_where_something_can_be_taken_back() {
        let ignore = Ignore::parse("*\n!src/lib\n");
        assert!(ignore.may_take_back("src") && !ignore.may_take_back("target"));
        assert!(Ignore::parse("*\n!**/*.rs").may_take_back("a/b"));
        assert!(!Ignore::parse("*").may_take_back("a"));
    }
}
