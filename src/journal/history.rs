//! Finding proposals: what of them the index has, and how it is asked.

use std::path::Path;

use brig_core::envelope::Envelope;
use brig_core::id::ProposalId;
use brig_core::problem::{Code, Problem};
use brig_core::proposal::{EndKind, Status, VerdictKind};
use brig_core::time::Wall;
use brig_core::visible;
use rusqlite::{Connection, OptionalExtension as _, ToSql};

use super::problems::Trouble;

/// Characters of a command, of each piece of code, and of a reason, in which text is found: the index stays small, whatever is proposed.
const COMMAND_CHARACTERS: usize = 1024;
const REASON_CHARACTERS: usize = 512;

/// Which proposals somebody looks for. What is not set lets all of them through.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Filter {
    /// Each of these is in the command or in the reason, in upper or lower case: in the first 1,024 characters of the
    /// command as it is shown, or the first 512 of the reason.
    pub words: Vec<String>,
    /// Proposed by this agent.
    pub agent: Option<String>,
    /// For this profile.
    pub profile: Option<String>,
    /// Where it stands.
    pub status: Option<Status>,
    /// What was decided.
    pub verdict: Option<VerdictKind>,
    /// How its run ended.
    pub end: Option<EndKind>,
    /// Decided, or killed, by this operator.
    pub operator: Option<String>,
    /// Came at this moment or later.
    pub since: Option<Wall>,
    /// Came before this moment.
    pub until: Option<Wall>,
    /// Came before this proposal.
    pub before: Option<ProposalId>,
}

/// The command, as the index has it.
pub(super) fn command(envelope: &Envelope) -> String {
    let words = envelope.steps.iter().map(|step| step.argv.as_slice());
    let mut text = visible::command_within(words, COMMAND_CHARACTERS).0;
    for code in envelope.steps.iter().filter_map(|step| step.code.as_ref()) {
        let source = &code.source.0[..code.source.0.len().min(4 * COMMAND_CHARACTERS)];
        text.extend(format!(" {} {}", code.language, visible::line(source)).chars().take(COMMAND_CHARACTERS));
        if text.len() > 4 * COMMAND_CHARACTERS {
            break;
        }
    }
    text.to_lowercase()
}

/// The reason, as the index has it.
pub(super) fn reason(reason: &str) -> String {
    let end = reason.char_indices().nth(REASON_CHARACTERS).map_or(reason.len(), |(at, _)| at);
    reason[..end].to_lowercase()
}

/// See [`super::Reader::history`].
pub(super) fn find(
    connection: &Connection,
    path: &Path,
    filter: &Filter,
    limit: usize,
) -> Result<Vec<ProposalId>, Problem> {
    let reading = |error: rusqlite::Error| Trouble::from(error).reading(path);
    let before = match &filter.before {
        None => None,
        Some(id) => Some(place(connection, id).map_err(reading)?.ok_or_else(|| {
            let shown = visible::line(id.0.as_bytes());
            Problem::new(Code::NotFound, format!("there is no proposal `{shown}` to begin behind"))
                .help("the last one of the page before is the one to name")
        })?),
    };
    let mut question = Question::default();
    for word in &filter.words {
        let word = word.to_lowercase();
        question.and("(instr(command, ?) > 0 OR instr(reason, ?) > 0)", [Box::new(word.clone()), Box::new(word)]);
    }
    question.equal("agent", filter.agent.as_deref());
    question.equal("profile", filter.profile.as_deref());
    question.equal("status", filter.status.map(Status::text));
    question.equal("verdict", filter.verdict.map(VerdictKind::text));
    question.equal("ended", filter.end.map(EndKind::text));
    if let Some(operator) = &filter.operator {
        question.and("(operator = ? OR killer = ?)", [Box::new(operator.clone()), Box::new(operator.clone())]);
    }
    if let Some(since) = filter.since {
        question.and("at >= ?", [Box::new(since.0)]);
    }
    if let Some(until) = filter.until {
        question.and("at < ?", [Box::new(until.0)]);
    }
    if let Some((at, first)) = before {
        question.and("(at, first) < (?, ?)", [Box::new(at), Box::new(first)]);
    }
    question.ask(connection, limit).map_err(reading)
}

/// Where a proposal lies in the order of the history.
fn place(connection: &Connection, id: &ProposalId) -> rusqlite::Result<Option<(i64, i64)>> {
    let mut statement = connection.prepare_cached("SELECT at, first FROM proposals WHERE id = ?1")?;
    statement.query_row([&id.0], |row| Ok((row.get(0)?, row.get(1)?))).optional()
}

/// What is asked, as it is put together. Every index begins or ends with the moment of arrival, so each answer comes in its
/// order without being sorted, and ends when it is long enough.
#[derive(Default)]
struct Question {
    conditions: Vec<String>,
    values: Vec<Box<dyn ToSql>>,
}

impl Question {
    fn and<const N: usize>(&mut self, condition: &str, values: [Box<dyn ToSql>; N]) {
        self.conditions.push(condition.to_owned());
        self.values.extend(values);
    }

    fn equal(&mut self, column: &'static str, value: Option<&str>) {
        if let Some(value) = value {
            self.and(&format!("{column} = ?"), [Box::new(value.to_owned())]);
        }
    }

    fn ask(mut self, connection: &Connection, limit: usize) -> rusqlite::Result<Vec<ProposalId>> {
        self.values.push(Box::new(i64::try_from(limit).unwrap_or(i64::MAX)));
        let conditions = if self.conditions.is_empty() { "1".to_owned() } else { self.conditions.join(" AND ") };
        let sql = format!("SELECT id FROM proposals WHERE {conditions} ORDER BY at DESC, first DESC LIMIT ?");
        let mut statement = connection.prepare_cached(&sql)?;
        let ids = statement.query_map(rusqlite::params_from_iter(&self.values), |row| row.get(0).map(ProposalId))?;
        ids.collect()
    }
}
