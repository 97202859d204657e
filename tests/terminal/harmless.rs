//! No byte that somebody else chose reaches the terminal as it is.

use crate::support::brig::{Brig, text};
use crate::support::screen::{ENTER, ESCAPE, Screen};

/// What an agent or a program would send to take a terminal over, and how it begins where it is harmless.
const EVIL: &[&str] =
    &["\x1b]0;evil\x07", "\x1b[2J\x1b[3;7Hevil", "\x1b]52;c;ZXZpbA==\x07", "\u{202e}live\u{200b}", "\x1bPevil\x1b\\"];

#[tokio::test]
async fn what_agents_and_programs_send_is_shown_and_never_obeyed() {
    let brig = Brig::ready().await;
    let mut screen = Screen::open(&brig);
    let evil = EVIL.concat();
    let script = format!(
        "printf '%s\\n' \"$0\"; printf '%s\\n' \"$0\" >&2; printf '\\033[2J\\233evil\\n'; echo 'the end {evil}'"
    );
    let row = brig.propose(&["--reason", &evil, "-e", &format!("A={evil}"), "--", "sh", "-c", &script, &evil]).await;
    screen.asks("U+001B").await;
    screen.press(ENTER).await;
    screen.shows(&format!("─ Proposal {}", text(&row, "id"))).await;
    screen.shows("]0;evil").await;
    for _ in 0..30 {
        screen.press(" ").await;
    }
    screen.hides("to be seen to its end").await;
    screen.reject().await;
    // Pasted, as a terminal sends it, with its own brackets.
    screen.press("\x1b[200~pasted \u{202e}\x1b]0;evil\x07 text\x1b[201~").await;
    screen.shows("pasted ").await;
    screen.press(ESCAPE).await;
    screen.hides("Reason, which").await;
    screen.approve(&brig).await;
    assert_eq!(brig.brig(&["wait", text(&row, "id")]).await.code, 0);
    screen.shows("the end").await;
    let (first, second) = (brig.propose(&["true", &evil]).await, brig.propose(&["false", &evil]).await);
    screen.asks("false").await;
    let reason = format!("no {evil}");
    for row in [&first, &second] {
        let said = brig.brig(&["reject", text(row, "id"), "--reason", &reason]).await;
        assert_eq!(said.code, 0, "{said:?}");
    }
    screen.shows("0 waiting").await;
    screen.press("q").await;

    let raw = screen.raw();
    assert!(find(&raw, b"evil"), "it is shown");
    for part in
        [b"\x1b]".as_slice(), b"\x1bP", b"\x07", b"\x1b[2J\x1b[3;7H", "\u{202e}".as_bytes(), "\u{200b}".as_bytes()]
    {
        assert!(!find(&raw, part), "{:?} came through: {}", String::from_utf8_lossy(part), around(&raw, part));
    }
    assert!(!raw.windows(5).any(|window| window == b"\x9bevil"));
    assert_eq!(screen.ended().await.code(), Some(0));
}

#[tokio::test]
async fn the_command_line_shows_it_harmless_at_a_terminal_too() {
    let brig = Brig::ready().await;
    let evil = EVIL.concat();
    let row = brig.propose(&["--reason", &evil, "--", "printf", "%s", &evil]).await;
    let id = text(&row, "id");
    brig.approve(&row).await;
    assert_eq!(brig.brig(&["wait", id]).await.code, 0);
    for args in [["show", id].as_slice(), &["logs", id], &["queue", "--all"]] {
        let screen = Screen::start(&brig, args, (120, 50));
        screen.shows("evil").await;
        let raw = screen.raw();
        for part in [b"\x1b]".as_slice(), b"\x1bP", b"\x07", b"\x1b[2J", "\u{202e}".as_bytes()] {
            assert!(!find(&raw, part), "{args:?}: {:?} came through", String::from_utf8_lossy(part));
        }
        assert!(screen.ended().await.success());
    }
}

#[tokio::test]
async fn no_color_means_no_colour() {
    let mut brig = Brig::ready().await;
    let coloured = Screen::open(&brig);
    coloured.shows("1/1").await;
    assert!(colours(&coloured.raw()) > 0);
    brig.set("NO_COLOR", "1");
    let mut plain = Screen::open(&brig);
    plain.shows("1/1").await;
    let row = brig.propose(&["echo", "hello"]).await;
    plain.asks("echo hello").await;
    plain.press(ENTER).await;
    plain.shows(&format!("─ Proposal {}", text(&row, "id"))).await;
    assert_eq!(colours(&plain.raw()), 0);
}

/// How many escape sequences set a colour other than the terminal's own.
fn colours(raw: &[u8]) -> usize {
    let text = String::from_utf8_lossy(raw);
    let sequences = text.split("\x1b[").skip(1).filter_map(|rest| rest.split_once('m')).map(|(numbers, _)| numbers);
    let is_colour = |number: &str| matches!(number.parse(), Ok(30..=38 | 40..=48 | 90..=97 | 100..=107_u32));
    sequences.filter(|numbers| numbers.split([';', ':']).any(is_colour)).count()
}

fn find(raw: &[u8], part: &[u8]) -> bool {
    raw.windows(part.len()).any(|window| window == part)
}

fn around(raw: &[u8], part: &[u8]) -> String {
    let at = raw.windows(part.len()).position(|window| window == part).unwrap_or(0);
    format!("{:?}", String::from_utf8_lossy(&raw[at.saturating_sub(60)..(at + 60).min(raw.len())]))
}
