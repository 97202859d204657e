//! Sizes, durations and shares of a CPU, spelled as the Compose specification spells them.
//!
//! <https://github.com/compose-spec/compose-spec/blob/main/11-extension.md#specifying-byte-values> and the section on
//! durations after it. What goes beyond it: sizes and durations may have decimals (`1.5g`, `0.5s`).

/// How a size is written, for messages.
pub const SIZE_FORM: &str = "a size is a number with a unit, as in \"64m\" or \"1g\" (b, k, m, g; powers of 1024)";
/// How a duration is written, for messages.
pub const DURATION_FORM: &str =
    "a duration is a number with a unit, as in \"10s\", \"15m\" or \"1h30m\" (ms, s, m, h, d)";

/// Units of sizes, in bytes.
const SIZES: [(&str, u64); 8] = [
    ("", 1),
    ("b", 1),
    ("k", 1 << 10),
    ("kb", 1 << 10),
    ("m", 1 << 20),
    ("mb", 1 << 20),
    ("g", 1 << 30),
    ("gb", 1 << 30),
];

/// Units of durations, in milliseconds, the largest first.
const DURATIONS: [(&str, u64); 5] = [("d", 86_400_000), ("h", 3_600_000), ("m", 60_000), ("s", 1_000), ("ms", 1)];

/// Bytes of a size: `128m`, `1.5g`, `4096`. Units are not case-sensitive.
#[must_use]
pub fn size(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    let lower = unit.to_ascii_lowercase();
    let (_, bytes) = SIZES.iter().find(|(name, _)| *name == lower)?;
    scaled(number, *bytes)
}

/// Milliseconds of a duration: `10s`, `1h30m`, `250ms`. Units go from large to small, each at most once. A bare number
/// is none, as it would mean seconds to one reader and milliseconds to another.
#[must_use]
pub fn duration(text: &str) -> Option<u64> {
    let mut rest = text;
    let mut total = 0_u64;
    let mut smallest = u64::MAX;
    while !rest.is_empty() {
        let (number, tail) = split(rest)?;
        let end = tail.find(|c: char| !c.is_ascii_alphabetic()).unwrap_or(tail.len());
        let (_, ms) = DURATIONS.iter().find(|(name, _)| *name == &tail[..end])?;
        if *ms >= smallest {
            return None;
        }
        smallest = *ms;
        total = total.checked_add(scaled(number, *ms)?)?;
        rest = &tail[end..];
    }
    (smallest != u64::MAX).then_some(total)
}

/// Thousandths of a CPU: `0.5` is 500.
#[must_use]
pub fn milli_cpus(text: &str) -> Option<u64> {
    let (number, unit) = split(text)?;
    unit.is_empty().then(|| scaled(number, 1000))?
}

/// A size as people write it, exact: `128m`, or bytes where no unit divides it.
#[must_use]
pub fn size_text(bytes: u64) -> String {
    for (unit, size) in [("g", 1_u64 << 30), ("m", 1 << 20), ("k", 1 << 10)] {
        if bytes >= size && bytes.is_multiple_of(size) {
            return format!("{}{unit}", bytes / size);
        }
    }
    format!("{bytes}b")
}

/// A share of CPUs as people write it, exact: `0.125`, `2`.
#[must_use]
pub fn cpus_text(milli: u64) -> String {
    let text = format!("{}.{:03}", milli / 1000, milli % 1000);
    text.trim_end_matches('0').trim_end_matches('.').to_owned()
}

/// A duration as people write it, exact: `1h30m`, `10s`, `250ms`.
#[must_use]
pub fn duration_text(ms: u64) -> String {
    let mut rest = ms;
    let mut text = String::new();
    for (unit, size) in DURATIONS {
        if rest >= size {
            text.push_str(&format!("{}{unit}", rest / size));
            rest %= size;
        }
    }
    if text.is_empty() { "0s".to_owned() } else { text }
}

/// The number at the front, and what follows it.
fn split(text: &str) -> Option<(&str, &str)> {
    let end = text.find(|c: char| !c.is_ascii_digit() && c != '.').unwrap_or(text.len());
    (end > 0).then(|| text.split_at(end))
}

/// A decimal number times `unit`, without the detour over floating point: what is smaller than 1 is cut off.
fn scaled(number: &str, unit: u64) -> Option<u64> {
    let (whole, fraction) = number.split_once('.').unwrap_or((number, ""));
    if whole.is_empty() || (number.contains('.') && fraction.is_empty()) || fraction.len() > 9 {
        return None;
    }
    let whole: u64 = whole.parse().ok()?;
    let parts: u64 = if fraction.is_empty() { 0 } else { fraction.parse().ok()? };
    let of = 10_u128.pow(u32::try_from(fraction.len()).ok()?);
    let rest = u64::try_from(u128::from(parts) * u128::from(unit) / of).ok()?;
    whole.checked_mul(unit)?.checked_add(rest)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sizes_are_read_as_compose_reads_them() {
        for (text, bytes) in [
            ("128m", 128 << 20),
            ("1g", 1 << 30),
            ("1.5G", 3 << 29),
            ("64kb", 65_536),
            ("0", 0),
            ("4096", 4096),
            ("12b", 12),
        ] {
            assert_eq!(size(text), Some(bytes), "{text}");
        }
        for wrong in ["", "m", "12x", "-1", "1 m", "1.m", ".5m", "1.2.3m", "99999999999g", "1e3", "٣m"] {
            assert_eq!(size(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn durations_need_their_units_from_large_to_small() {
        for (text, ms) in [
            ("10s", 10_000),
            ("15m", 900_000),
            ("1h30m", 5_400_000),
            ("250ms", 250),
            ("0.5s", 500),
            ("1m1ms", 60_001),
            ("2d", 172_800_000),
        ] {
            assert_eq!(duration(text), Some(ms), "{text}");
        }
        for wrong in ["", "10", "s", "10 s", "1m1h", "1s1s", "10S", "1us", "-1s", "1h30"] {
            assert_eq!(duration(wrong), None, "{wrong}");
        }
    }

    #[test]
    fn what_is_shown_reads_back_as_the_same() {
        for bytes in [1, 1023, 1024, 128 << 20, 3 << 29, u64::MAX] {
            assert_eq!(size(&size_text(bytes)), Some(bytes));
        }
        for (milli, text) in [(1, "0.001"), (125, "0.125"), (500, "0.5"), (10_000, "10"), (1_010, "1.01")] {
            assert_eq!((cpus_text(milli).as_str(), milli_cpus(text)), (text, Some(milli)));
        }
        for ms in [0, 1, 999, 5_400_000, 86_400_001] {
            assert_eq!(duration(&duration_text(ms)), Some(ms));
        }
        assert_eq!((size_text(128 << 20).as_str(), duration_text(5_400_000).as_str()), ("128m", "1h30m"));
    }

    #[test]
    fn cpus_are_thousandths() {
        assert_eq!(milli_cpus("0.5"), Some(500));
        assert_eq!(milli_cpus("2"), Some(2000));
        assert_eq!(milli_cpus("0.0019"), Some(1));
        assert_eq!(milli_cpus("1 core"), None);
    }
}
