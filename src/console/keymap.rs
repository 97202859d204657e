//! The one table of keys. The handler looks keys up here, and the help and the footer are made from it, so there is no key
//! that is not told of.

use crossterm::event::{KeyCode, KeyEvent, KeyEventKind, KeyModifiers};

use super::state::Pane;

/// Where a key means something.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Context {
    /// The panes.
    Dashboard,
    /// The whole of one proposal.
    Review,
    /// The editor for the reason of a rejection. Keys that are not bound write.
    Reject,
    /// The list of keys.
    Help,
    /// The question what shall become of what is open.
    Quit,
}

/// What a key does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    Up,
    Down,
    PageUp,
    PageDown,
    First,
    Last,
    Left,
    Right,
    NextPane,
    PreviousPane,
    Focus(Pane),
    NextQuestion,
    Open,
    Approve,
    Reject,
    Kill,
    Help,
    Close,
    Quit,
    Send,
    NewLine,
    Keep,
    StopAll,
    Leave,
}

/// A key with its modifiers. Shift is part of the character.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Key {
    code: KeyCode,
    modifiers: KeyModifiers,
}

/// One line of the table.
#[derive(Debug)]
pub struct Binding {
    /// Where it holds.
    pub context: Context,
    /// Any of these.
    pub keys: &'static [Key],
    /// What it does.
    pub action: Action,
    /// One or two words for the footer; nothing where the footer does not show it.
    pub hint: &'static str,
    /// What the help says.
    pub help: &'static str,
}

const fn key(code: KeyCode) -> Key {
    Key { code, modifiers: KeyModifiers::NONE }
}

const fn c(character: char) -> Key {
    key(KeyCode::Char(character))
}

const fn ctrl(character: char) -> Key {
    Key { code: KeyCode::Char(character), modifiers: KeyModifiers::CONTROL }
}

const UP: &[Key] = &[key(KeyCode::Up), c('k')];
const DOWN: &[Key] = &[key(KeyCode::Down), c('j')];
const PAGE_UP: &[Key] = &[key(KeyCode::PageUp), ctrl('b')];
const PAGE_DOWN: &[Key] = &[key(KeyCode::PageDown), ctrl('f')];
const FIRST: &[Key] = &[c('g'), key(KeyCode::Home)];
const LAST: &[Key] = &[c('G'), key(KeyCode::End)];
const LEFT: &[Key] = &[key(KeyCode::Left), c('h')];
const RIGHT: &[Key] = &[key(KeyCode::Right), c('l')];
const ENTER: &[Key] = &[key(KeyCode::Enter)];
const ESCAPE: &[Key] = &[key(KeyCode::Esc)];
const ESCAPE_Q: &[Key] = &[key(KeyCode::Esc), c('q')];
const CTRL_C: &[Key] = &[ctrl('c')];
const NEW_LINE: &[Key] = &[Key { code: KeyCode::Enter, modifiers: KeyModifiers::ALT }, ctrl('j')];

const fn bind(
    context: Context,
    keys: &'static [Key],
    action: Action,
    hint: &'static str,
    help: &'static str,
) -> Binding {
    Binding { context, keys, action, hint, help }
}

use Action as A;
use Context::{Dashboard, Help, Quit, Reject, Review};

/// Every key there is. The footer shows its hints in this order.
pub const TABLE: &[Binding] = &[
    bind(Dashboard, &[c('a')], A::Approve, "approve", "approve; opens it first if its line does not show all"),
    bind(Dashboard, &[c('r')], A::Reject, "reject", "reject the question, with a reason for the agent"),
    bind(Dashboard, &[c('x')], A::Kill, "kill", "kill the selected run or sandbox, at once"),
    bind(Dashboard, ENTER, A::Open, "open", "see the whole proposal"),
    bind(Dashboard, &[c('?')], A::Help, "help", "all keys"),
    bind(Dashboard, &[c('q')], A::Quit, "quit", "quit; asks only if something would be left open"),
    bind(Dashboard, &[c('n')], A::NextQuestion, "next", "go to the next question that waits"),
    bind(Dashboard, &[key(KeyCode::Tab)], A::NextPane, "pane", "next pane"),
    bind(Dashboard, &[key(KeyCode::BackTab)], A::PreviousPane, "", "previous pane"),
    bind(Dashboard, &[c('1')], A::Focus(Pane::Queue), "", "the queue"),
    bind(Dashboard, &[c('2')], A::Focus(Pane::Sandboxes), "", "the sandboxes"),
    bind(Dashboard, &[c('3')], A::Focus(Pane::Pools), "", "the pools"),
    bind(Dashboard, &[c('4')], A::Focus(Pane::Output), "", "the output of what is selected"),
    bind(Dashboard, UP, A::Up, "", "up"),
    bind(Dashboard, DOWN, A::Down, "", "down"),
    bind(Dashboard, PAGE_UP, A::PageUp, "", "a page up"),
    bind(Dashboard, PAGE_DOWN, A::PageDown, "", "a page down"),
    bind(Dashboard, FIRST, A::First, "", "to the first line"),
    bind(Dashboard, LAST, A::Last, "", "to the last line; output follows again"),
    bind(Dashboard, LEFT, A::Left, "", "output: to the left"),
    bind(Dashboard, RIGHT, A::Right, "", "output: to the right"),
    bind(Dashboard, CTRL_C, A::Quit, "", "quit, as q"),
    bind(Review, &[c('a')], A::Approve, "approve", "approve, once its end has been on the screen"),
    bind(Review, &[c('r')], A::Reject, "reject", "reject it, with a reason for the agent"),
    bind(Review, &[c('x')], A::Kill, "kill", "kill its run, at once"),
    bind(Review, &[key(KeyCode::PageDown), c(' '), ctrl('f')], A::PageDown, "page down", "a page down"),
    bind(Review, PAGE_UP, A::PageUp, "", "a page up"),
    bind(Review, UP, A::Up, "", "up"),
    bind(Review, DOWN, A::Down, "", "down"),
    bind(Review, FIRST, A::First, "", "to the beginning"),
    bind(Review, LAST, A::Last, "end", "to the end"),
    bind(Review, ESCAPE_Q, A::Close, "back", "back to the dashboard"),
    bind(Review, &[c('?')], A::Help, "help", "all keys"),
    bind(Review, CTRL_C, A::Quit, "", "quit"),
    bind(Reject, ENTER, A::Send, "reject", "reject with this reason"),
    bind(Reject, NEW_LINE, A::NewLine, "new line", "begin a new line"),
    bind(Reject, ESCAPE, A::Close, "back", "leave it undecided"),
    bind(Reject, CTRL_C, A::Quit, "", "quit"),
    bind(Help, ESCAPE_Q, A::Close, "back", "close the help"),
    bind(Help, &[c('?')], A::Close, "", "close the help"),
    bind(Help, UP, A::Up, "up", "up"),
    bind(Help, DOWN, A::Down, "down", "down"),
    bind(Help, PAGE_UP, A::PageUp, "", "a page up"),
    bind(Help, PAGE_DOWN, A::PageDown, "", "a page down"),
    bind(Help, CTRL_C, A::Quit, "", "quit"),
    bind(Quit, &[c('k')], A::Keep, "keep running", "leave; the supervisor goes on while something is open"),
    bind(Quit, &[c('s')], A::StopAll, "stop everything", "kill what runs, end the supervisor, leave"),
    bind(Quit, ESCAPE, A::Close, "stay", "stay here"),
    bind(Quit, CTRL_C, A::Leave, "", "leave, as k"),
];

/// What a key does in a context.
#[must_use]
pub fn lookup(context: Context, event: KeyEvent) -> Option<Action> {
    if event.kind == KeyEventKind::Release {
        return None;
    }
    let wanted = Key { code: event.code, modifiers: event.modifiers - KeyModifiers::SHIFT };
    TABLE.iter().find(|line| line.context == context && line.keys.contains(&wanted)).map(|line| line.action)
}

/// The lines of a context.
pub fn bindings(context: Context) -> impl Iterator<Item = &'static Binding> {
    TABLE.iter().filter(move |line| line.context == context)
}

impl Context {
    /// The contexts with their names, in the order of the help.
    pub const ALL: &'static [(Self, &'static str)] = &[
        (Self::Dashboard, "Dashboard"),
        (Self::Review, "Review of a proposal"),
        (Self::Reject, "Reason of a rejection"),
        (Self::Help, "Help"),
        (Self::Quit, "Quitting"),
    ];
}

impl Binding {
    /// Its first key, for the footer.
    #[must_use]
    pub fn first_key(&self) -> String {
        self.keys.first().map(Key::name).unwrap_or_default()
    }

    /// All its keys, for the help.
    #[must_use]
    pub fn all_keys(&self) -> String {
        self.keys.iter().map(Key::name).collect::<Vec<_>>().join(" ")
    }
}

impl Key {
    /// As it is written on keyboards.
    #[must_use]
    pub fn name(&self) -> String {
        let name = match self.code {
            KeyCode::Char(' ') => "Space".into(),
            KeyCode::Char(character) => character.to_string(),
            KeyCode::Up => "↑".into(),
            KeyCode::Down => "↓".into(),
            KeyCode::Left => "←".into(),
            KeyCode::Right => "→".into(),
            KeyCode::PageUp => "PgUp".into(),
            KeyCode::PageDown => "PgDn".into(),
            KeyCode::BackTab => "Shift-Tab".into(),
            other => format!("{other:?}"),
        };
        match self.modifiers {
            KeyModifiers::CONTROL => format!("Ctrl-{}", name.to_uppercase()),
            KeyModifiers::ALT => format!("Alt-{name}"),
            _ => name,
        }
    }

    /// The event that a terminal sends for it.
    #[must_use]
    pub fn event(self) -> KeyEvent {
        KeyEvent::new(self.code, self.modifiers)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_key_means_two_things_in_one_context() {
        for line in TABLE {
            for key in line.keys {
                assert_eq!(lookup(line.context, key.event()), Some(line.action), "{key:?} in {:?}", line.context);
            }
            assert!(!line.help.is_empty());
        }
    }

    #[test]
    fn capitals_come_with_shift_and_releases_are_no_presses() {
        let mut event = KeyEvent::new(KeyCode::Char('G'), KeyModifiers::SHIFT);
        assert_eq!(lookup(Dashboard, event), Some(A::Last));
        event.kind = KeyEventKind::Release;
        assert_eq!(lookup(Dashboard, event), None);
        let ctrl_a = KeyEvent::new(KeyCode::Char('a'), KeyModifiers::CONTROL);
        assert_eq!(lookup(Dashboard, ctrl_a), None, "another key than a");
    }

    #[test]
    fn one_can_quit_from_everywhere() {
        for (context, _) in Context::ALL {
            let action = lookup(*context, ctrl('c').event());
            assert!(matches!(action, Some(A::Quit | A::Leave)), "{context:?}");
        }
    }
}
