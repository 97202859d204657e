//! The known word that a mistyped one was probably meant to be.

/// The candidate that is nearest to `word`, if one is near enough to be worth naming.
///
/// The distance counts inserted, removed, replaced and swapped letters; up to a third of the word's length may differ.
#[must_use]
pub fn nearest<'a>(word: &str, candidates: &[&'a str]) -> Option<&'a str> {
    let word = word.to_ascii_lowercase().replace('-', "_");
    let limit = (word.chars().count() / 3).max(1);
    let best = candidates.iter().map(|candidate| (distance(&word, candidate), *candidate)).min()?;
    (best.0 <= limit).then_some(best.1)
}

/// `nearest` as the end of a sentence: ` (did you mean …?)`, or nothing.
#[must_use]
pub fn hint(word: &str, candidates: &[&str]) -> String {
    nearest(word, candidates).map_or_else(String::new, |found| format!(", did you mean `{found}`?"))
}

fn distance(a: &str, b: &str) -> usize {
    let (a, b): (Vec<char>, Vec<char>) = (a.chars().collect(), b.chars().collect());
    let mut before: Vec<usize> = Vec::new();
    let mut last: Vec<usize> = (0..=b.len()).collect();
    for i in 1..=a.len() {
        let mut row = vec![i];
        for j in 1..=b.len() {
            let same = usize::from(a[i - 1] != b[j - 1]);
            let mut cost = (last[j] + 1).min(row[j - 1] + 1).min(last[j - 1] + same);
            if i > 1 && j > 1 && a[i - 1] == b[j - 2] && a[i - 2] == b[j - 1] {
                cost = cost.min(before[j - 2] + 1);
            }
            row.push(cost);
        }
        before = std::mem::replace(&mut last, row);
    }
    last.last().copied().unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slip_is_recognised_and_another_word_is_not() {
        let known = ["mem_limit", "pids_limit", "cpus", "user"];
        for (word, meant) in [
            ("mem_limt", "mem_limit"),
            ("pid_limit", "pids_limit"),
            ("cpu", "cpus"),
            ("usre", "user"),
            ("mem-limit", "mem_limit"),
        ] {
            assert_eq!(nearest(word, &known), Some(meant), "{word}");
        }
        assert_eq!(nearest("colour", &known), None);
        assert_eq!(nearest("x", &[]), None);
    }
}
