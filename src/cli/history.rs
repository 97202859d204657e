//! `brig history`: what was proposed so far and what became of it, out of the journal, by way of the supervisor.

use brig_core::problem::{Code, Problem};
use brig_core::proposal::{EndKind, Status, VerdictKind};
use brig_core::time::Wall;
use brig_core::visible;
use clap::builder::{PossibleValuesParser, TypedValueParser};

use super::color;
use super::completions::{profiles, proposals};
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{json, remark, say};
use super::queue::{command, outcome};
use super::table::Table;
use super::values;
use crate::api::wire::{HISTORY_LIMIT, History, HistoryRequest, ProposalRow};
use crate::console::text::{decider, moment};

/// The most that is listed at once: what is listed is kept until the widths of its columns are known.
const LONGEST: i64 = 10_000;

/// Arguments of `brig history`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  brig history --since 2h                            what came in the last two hours\n",
    "  brig history --agent ci --end killed               runs of this agent that were killed\n",
    "  brig history 'rm -rf' --verdict rejected           refused, with this in the command or the reason\n",
    "  brig history --since 2026-11-01 --until 2026-12-01 --json -n 10000\n",
    "  brig history --before k3f9w2ab                     the next page, behind the last line of the one before\n",
))]
pub struct Args {
    /// Proposed by this agent
    #[arg(short, long, value_name = "NAME")]
    agent: Option<String>,
    /// For this profile
    #[arg(short, long, value_name = "NAME", add = profiles())]
    profile: Option<String>,
    /// Where it stands now
    #[arg(short, long, value_name = "WORD", value_parser = words(&STATUS, Status::text))]
    status: Option<Status>,
    /// What was decided
    #[arg(short, long, value_name = "WORD", value_parser = words(&VERDICT, VerdictKind::text))]
    verdict: Option<VerdictKind>,
    /// How its run ended
    #[arg(short, long, value_name = "WORD", value_parser = words(&END, EndKind::text))]
    end: Option<EndKind>,
    /// Decided, or killed, by this operator
    #[arg(short, long, value_name = "NAME")]
    operator: Option<String>,
    /// Came at this moment or later: 2h or 3d (ago), 2026-11-21, "2026-11-21 22:10", or as RFC 3339 has it
    #[arg(long, value_name = "MOMENT", value_parser = values::moment)]
    since: Option<Wall>,
    /// Came before this moment
    #[arg(long, value_name = "MOMENT", value_parser = values::moment)]
    until: Option<Wall>,
    /// Came before this proposal: the next page
    #[arg(long, value_name = "ID", value_parser = values::id, add = proposals())]
    before: Option<String>,
    /// At most so many
    #[arg(short = 'n', long, value_name = "N", default_value_t = 50, value_parser = clap::value_parser!(i64).range(1..=LONGEST))]
    limit: i64,
    /// Words that are in the command or in the reason, each of them, in upper or lower case
    #[arg(value_name = "TEXT")]
    text: Vec<String>,
}

const STATUS: [Status; 7] = [
    Status::Waiting,
    Status::Approved,
    Status::Running,
    Status::Finished,
    Status::Rejected,
    Status::Expired,
    Status::Withdrawn,
];
const VERDICT: [VerdictKind; 4] =
    [VerdictKind::Approved, VerdictKind::Rejected, VerdictKind::Expired, VerdictKind::Withdrawn];
const END: [EndKind; 6] =
    [EndKind::Exited, EndKind::Deadline, EndKind::Killed, EndKind::Output, EndKind::Memory, EndKind::Lost];

/// One of these, by its word.
fn words<T: Copy + Send + Sync + 'static>(
    all: &'static [T],
    text: fn(T) -> &'static str,
) -> impl TypedValueParser<Value = T> {
    PossibleValuesParser::new(all.iter().map(|&it| text(it)))
        .try_map(move |word| all.iter().copied().find(|&it| text(it) == word).ok_or("it is none of the words"))
}

/// Lists what is found, the newest first.
///
/// # Errors
/// What the supervisor answers.
pub async fn history(context: &Context, args: &Args) -> Result<Exit, Stop> {
    if let (Some(since), Some(until)) = (args.since, args.until)
        && since >= until
    {
        let problem = Problem::new(Code::InvalidField, "--until is not after --since, so nothing can be between them");
        return Err(Stop::Usage(problem.help("--since is the earlier moment, --until the later one")));
    }
    let (rows, more) = find(context, args).await?;
    if context.json {
        json(&rows)?;
        return Ok(Exit::Done);
    }
    if rows.is_empty() {
        remark("no proposals");
        return Ok(Exit::Done);
    }
    let mut table = Table::new(&["ID", "CAME", "OUTCOME", "BY", "PROFILE", "AGENT", "COMMAND"]);
    for row in &rows {
        let by = row.verdict.as_ref().map_or_else(|| "-".to_owned(), |verdict| decider(&verdict.by));
        let agent = visible::line(row.agent.name.as_bytes());
        let cells = vec![
            row.id.to_string(),
            moment(row.received_at),
            outcome(row),
            by,
            row.profile.clone(),
            agent,
            command(row),
        ];
        table.coloured_row(cells, 2, color::of_proposal(row));
    }
    say(&table.render(context.screen))?;
    if let (true, Some(last)) = (more, rows.last()) {
        remark(&format!("there are more; `--before {}` gives the next of them", last.id));
    }
    Ok(Exit::Done)
}

/// As many as are wanted, page by page, and whether there are more.
async fn find(context: &Context, args: &Args) -> Result<(Vec<ProposalRow>, bool), Stop> {
    let client = context.operator()?;
    let mut request = HistoryRequest {
        text: (!args.text.is_empty()).then(|| args.text.join(" ")),
        agent: args.agent.clone(),
        profile: args.profile.clone(),
        status: args.status,
        verdict: args.verdict,
        end: args.end,
        operator: args.operator.clone(),
        since: args.since,
        until: args.until,
        before: args.before.clone(),
        limit: None,
    };
    let wanted = usize::try_from(args.limit).unwrap_or(usize::MAX);
    let mut rows: Vec<ProposalRow> = Vec::new();
    loop {
        request.limit = Some((wanted - rows.len()).min(HISTORY_LIMIT));
        let query = serde_urlencoded::to_string(&request)
            .map_err(|error| Problem::new(Code::Internal, format!("the query cannot be written: {error}")))?;
        let History { proposals, more } = patiently(client.get(&format!("/v1/history?{query}"))).await?;
        let Some(last) = proposals.last() else { return Ok((rows, false)) };
        request.before = Some(last.id.0.clone());
        rows.extend(proposals);
        if !more || rows.len() >= wanted {
            return Ok((rows, more));
        }
    }
}
