//! `brig again`: proposes what was proposed before, as it is recorded.
//!
//! Whoever runs it proposes, under their own name: the record is read with what they may read (an operator everything, an
//! agent its own), and the proposal goes the way of `brig run`, over the agents' socket. It is judged like any other, so
//! repeating what was approved once approves nothing.

use brig_core::admission::MAX_REASON_BYTES;
use brig_core::envelope::{Code, Step};
use brig_core::id::ProposalId;
use brig_core::problem::{self, Problem};
use brig_core::profile::Hash;
use brig_core::proposal::{Draft, DraftStep};
use schemars::JsonSchema;
use serde::Serialize;
use serde_json::{Map, Value};

use super::completions::proposals;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::run::{How, propose};
use super::values;
use crate::api::wire::{ProfileRow, ProposalDetail, ProposalRow};

/// Arguments of `brig again`.
#[derive(Debug, clap::Args)]
#[command(after_long_help = concat!(
    "Examples:\n",
    "  brig again k3f9\n",
    "  brig again k3f9 --reason 'the disk is mounted now'\n",
))]
pub struct Args {
    /// Why, for the person who decides; `again ID:` and the reason of then when left out
    #[arg(short, long)]
    reason: Option<String>,
    /// Print the identifier and do not wait; see `brig wait`
    #[arg(short, long)]
    detach: bool,
    /// Idempotency key: the same key with the same request is the same proposal
    #[arg(short, long)]
    key: Option<String>,
    /// Print the bytes as they are, even to a terminal
    #[arg(long)]
    raw: bool,
    /// The proposal
    #[arg(value_parser = values::id, add = proposals())]
    id: String,
}

/// Proposes again, and follows as `brig run` does.
///
/// # Errors
/// What the supervisor answers.
pub async fn again(context: &Context, args: Args) -> Result<Exit, Stop> {
    let path = format!("/v1/proposals/{}", args.id);
    let old: ProposalDetail = patiently(context.reader()?.get(&path)).await?;
    let profiles: Vec<ProfileRow> = patiently(context.agent()?.get("/v1/profiles")).await?;
    let before = Again::of(&old);
    let mut draft = draft(old, &profiles)?;
    if let Some(reason) = args.reason {
        draft.reason = reason;
    }
    draft.key = args.key;
    propose(context, &draft, How { detach: args.detach, raw: args.raw }, Some(before)).await
}

/// The request that led to this proposal, as far as it is recorded. It is taken apart by name, so that nothing of it can be
/// forgotten here. A limit that the profile has meanwhile lowered is lowered too: more would be refused.
fn draft(old: ProposalDetail, profiles: &[ProfileRow]) -> Result<Draft, Problem> {
    let ProposalDetail {
        row,
        full_reason,
        steps,
        keep_going,
        stdin,
        files,
        timeout_ms,
        output_limit,
        cage,
        image_id: _,
        output_pruned: _,
    } = old;
    let now = profiles.iter().find(|profile| profile.name == row.profile);
    let step = |step: Step| {
        let Step { argv, code, env, cwd } = step;
        let (language, code) = code.map(|Code { language, source }| (language, source)).unzip();
        let variable = |(name, value): (brig_core::blob::Blob, _)| match String::from_utf8(name.0) {
            Ok(name) => Ok((name, value)),
            Err(_) => {
                Err(Problem::new(problem::Code::Internal, format!("{} has a variable whose name is no text", row.id)))
            }
        };
        Ok(DraftStep {
            argv,
            code,
            language,
            env: env.into_iter().map(variable).collect::<Result<_, Problem>>()?,
            // The profile's own directory is left to the profile.
            cwd: Some(cwd).filter(|cwd| cwd.0 != cage.working_dir.as_bytes()),
        })
    };
    Ok(Draft {
        steps: steps.into_iter().map(step).collect::<Result<_, Problem>>()?,
        keep_going,
        stdin,
        files,
        timeout_ms: Some(now.map_or(timeout_ms, |now| now.timeout_ms.min(timeout_ms))),
        output_limit: Some(now.map_or(output_limit, |now| now.output_limit.min(output_limit))),
        reason: reason(&row.id, &full_reason),
        key: None,
        profile: Some(row.profile),
    })
}

/// The reason of then, and that it is of then. One that says so already is said once.
fn reason(id: &ProposalId, before: &str) -> String {
    let own = before
        .strip_prefix("again ")
        .and_then(|rest| rest.split_once(": "))
        .filter(|(id, _)| id.len() == ProposalId::LENGTH && id.bytes().all(|byte| byte.is_ascii_alphanumeric()));
    let before = own.map_or(before, |(_, rest)| rest);
    if before.is_empty() {
        return format!("again {id}");
    }
    let mut reason = format!("again {id}: {before}");
    if reason.len() > MAX_REASON_BYTES {
        let end = (0..=MAX_REASON_BYTES - '…'.len_utf8()).rev().find(|&at| reason.is_char_boundary(at));
        reason.truncate(end.unwrap_or(0));
        reason.push('…');
    }
    reason
}

/// What is proposed again, as it was.
#[derive(Debug)]
pub struct Again {
    id: ProposalId,
    digest: Hash,
    parts: Map<String, Value>,
}

/// How far what was proposed again is the same.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Repeats {
    /// What it repeats.
    again_of: ProposalId,
    /// Whether it has the same digest: exactly the same would run, in the same.
    same: bool,
    /// What differs, by its name in the answer of `brig show --json`.
    changed: Vec<String>,
}

impl Again {
    fn of(old: &ProposalDetail) -> Self {
        Self { id: old.row.id.clone(), digest: old.row.digest, parts: parts(old) }
    }

    /// Compares it with what has become of it.
    #[must_use]
    pub fn repeats(self, new: &ProposalDetail) -> Repeats {
        let same = self.digest == new.row.digest;
        let now = parts(new);
        let names: std::collections::BTreeSet<&String> = self.parts.keys().chain(now.keys()).collect();
        let differs = |name: &&&String| self.parts.get(**name) != now.get(**name);
        let changed = names.iter().filter(differs).map(|&name| name.clone()).collect();
        Repeats { again_of: self.id, same, changed }
    }
}

impl Repeats {
    /// What somebody has to know who expects the same.
    #[must_use]
    pub fn words(&self, row: &ProposalRow) -> Option<String> {
        let what = match (self.same, self.changed.as_slice()) {
            (true, _) => return None,
            (false, []) => "how sandboxes are made, or who approves,".to_owned(),
            (false, names) => names.join(", "),
        };
        let digest = &row.digest.hex()[..8];
        Some(format!("{} is not quite {} again: {what} changed since (digest {digest})", row.id, self.again_of))
    }
}

/// All that a digest covers and that is told of, by name.
fn parts(detail: &ProposalDetail) -> Map<String, Value> {
    let object = |value: Result<Value, _>| match value {
        Ok(Value::Object(object)) => object,
        Ok(_) | Err(_) => Map::new(),
    };
    let mut parts = object(serde_json::to_value(detail));
    for name in object(serde_json::to_value(&detail.row)).keys().map(String::as_str).chain(["full_reason"]) {
        parts.remove(name);
    }
    if let Some(Value::Object(cage)) = parts.remove("cage") {
        parts.extend(cage);
    }
    parts
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reason_says_once_that_it_is_of_then() {
        let id = ProposalId("abcdefgh".into());
        assert_eq!(reason(&id, "look"), "again abcdefgh: look");
        assert_eq!(reason(&id, "again 12345678: look: here"), "again abcdefgh: look: here");
        assert_eq!(reason(&id, "again and again: look"), "again abcdefgh: again and again: look");
        assert_eq!(reason(&id, ""), "again abcdefgh");
        let long = reason(&id, &"é".repeat(MAX_REASON_BYTES / 2));
        assert!(long.len() <= MAX_REASON_BYTES && long.len() > MAX_REASON_BYTES - 4 && long.ends_with('…'));
    }
}
