//! `brig show`: a proposal with all that it would do.

use brig_core::blob::Blob;
use brig_core::envelope::Step;
use brig_core::profile::Cage;
use brig_core::proposal::Decider;
use brig_core::visible;

use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{json, say};
use super::values;
use crate::api::wire::{ProposalDetail, end_text};
use crate::config::units::{duration_text, size_text};

/// Arguments of `brig show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The proposal
    #[arg(value_parser = values::id)]
    id: String,
}

/// Shows a proposal.
///
/// # Errors
/// What the supervisor answers.
pub async fn show(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let detail: ProposalDetail = patiently(context.reader()?.get(&format!("/v1/proposals/{}", args.id))).await?;
    if context.json {
        json(&detail)?;
    } else {
        say(&text(&detail))?;
    }
    Ok(Exit::Done)
}

/// Everything that would run and where, nothing cut and all of it visible.
#[must_use]
pub fn text(detail: &ProposalDetail) -> String {
    let mut page = Page::default();
    let row = &detail.row;
    page.field("proposal", &row.id.0);
    page.field("digest", &row.digest.hex());
    page.field("status", &super::queue::outcome(row));
    let who = if row.agent.is_operator_user { ", the operator's own user" } else { "" };
    let pid = row.agent.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
    page.field("agent", &format!("{} (user {}{pid}{who})", line(&row.agent.name), row.agent.uid));
    page.blob("reason", &Blob::from(detail.full_reason.as_str()), false);
    page.field("policy", &format!("{} by {}: {}", effect(row), line(&row.ruling.rule), line(&row.ruling.why)));
    if let Some(why) = &row.returned {
        page.field("returned", &line(why));
    }
    for (at, step) in detail.steps.iter().enumerate() {
        let name = if detail.steps.len() == 1 { "command".to_owned() } else { format!("step {}", at + 1) };
        page.step(&name, step);
    }
    if detail.steps.len() > 1 {
        page.field(
            "on failure",
            if detail.keep_going { "the next step runs all the same" } else { "the rest is left out" },
        );
    }
    if !detail.stdin.0.is_empty() {
        page.blob("stdin", &detail.stdin, true);
    }
    for file in &detail.files {
        page.field("file", &format!("{} (mode {:03o})", visible::line(&file.path.0), file.mode));
        page.blob("", &file.content, true);
    }
    page.field("limits", &format!("{}, {} output", duration_text(detail.timeout_ms), size_text(detail.output_limit)));
    page.cage(&row.profile, &detail.cage, &detail.image_id);
    if let Some(verdict) = &row.verdict {
        let reason = if verdict.reason.is_empty() { String::new() } else { format!(": {}", line(&verdict.reason)) };
        page.field("verdict", &format!("{} by {}{reason}", verdict.kind.text(), decider(&verdict.by)));
    }
    if let Some(run) = &row.run {
        let how = if run.cold { "cold, as none was warm" } else { "warm" };
        page.field("sandbox", &format!("{} ({how})", run.sandbox));
    }
    if let Some(end) = &row.end {
        page.field("end", &line(&end_text(end)));
        page.field(
            "used",
            &format!(
                "{:.3} s, {:.3} s of CPU, {} of memory at most",
                end.usage.wall_us as f64 / 1e6,
                end.usage.cpu_us as f64 / 1e6,
                size_text(end.usage.peak_memory)
            ),
        );
    }
    page.text
}

fn effect(row: &crate::api::wire::ProposalRow) -> &'static str {
    match row.ruling.effect {
        brig_core::proposal::Judgement::Allow => "allowed",
        brig_core::proposal::Judgement::Ask => "asked",
    }
}

/// Who decided, for people.
#[must_use]
pub fn decider(by: &Decider) -> String {
    match by {
        Decider::Operator { name, .. } => line(name),
        Decider::Rule { name } => format!("rule {}", line(name)),
        Decider::Agent => "the agent".to_owned(),
        Decider::Clock => "the clock".to_owned(),
    }
}

fn line(text: &str) -> String {
    visible::line(text.as_bytes())
}

/// Fields under each other, what belongs to one indented.
#[derive(Default)]
struct Page {
    text: String,
}

impl Page {
    fn field(&mut self, name: &str, value: &str) {
        self.text.push_str(&format!("{name:<11} {value}\n"));
    }

    /// Bytes as lines, each behind a bar, so that nothing in them looks like a field. Where it matters, a missing line
    /// end is said: with and without are two different things to approve.
    fn blob(&mut self, name: &str, blob: &Blob, exact: bool) {
        let lines: Vec<String> = visible::lines(&blob.0).collect();
        if lines.is_empty() {
            return self.field(name, "(empty)");
        }
        for (at, line) in lines.iter().enumerate() {
            self.field(if at == 0 { name } else { "" }, &format!("| {line}"));
        }
        if exact && !blob.0.ends_with(b"\n") {
            self.field("", "(no line end at its end)");
        }
    }

    fn step(&mut self, name: &str, step: &Step) {
        self.field(name, &visible::command([step.argv.as_slice()]));
        let lines = |argument: &Blob| argument.0.contains(&b'\n');
        if step.argv.iter().any(lines) {
            // A script in one argument reads better as the lines that it is.
            for (at, argument) in step.argv.iter().enumerate().filter(|(_, argument)| lines(argument)) {
                self.blob(&format!("  word {}", at + 1), argument, true);
            }
        }
        for (name, value) in &step.env {
            self.field("  variable", &format!("{}={}", visible::line(&name.0), visible::line(&value.0)));
        }
        self.field("  in", &visible::line(&step.cwd.0));
    }

    fn cage(&mut self, profile: &str, cage: &Cage, image_id: &str) {
        self.field("profile", profile);
        self.field("  image", &format!("{} ({})", line(&cage.image), line(image_id)));
        let cpus = match cage.milli_cpus {
            0 => "any".to_owned(),
            milli => {
                format!("{}.{:03}", milli / 1000, milli % 1000).trim_end_matches('0').trim_end_matches('.').to_owned()
            }
        };
        self.field(
            "  cage",
            &format!(
                "user {}, memory {}, CPUs {cpus}, processes {}, network {}, runtime {}",
                line(&cage.user),
                size_text(cage.memory),
                cage.pids,
                cage.network.text(),
                line(cage.runtime.as_deref().unwrap_or("the daemon's own"))
            ),
        );
        let exec = if cage.scratch_exec { "" } else { ", nothing in it is executed" };
        self.field("  scratch", &format!("{} at {}{exec}", size_text(cage.scratch_size), line(&cage.working_dir)));
        for (name, value) in &cage.environment {
            self.field("  variable", &format!("{}={}", line(name), line(value)));
        }
    }
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use brig_core::envelope::File;
    use brig_core::profile::Network;

    use super::*;
    use crate::cli::table::rows;

    pub fn detail(id: &str) -> ProposalDetail {
        ProposalDetail {
            row: rows::proposal(id),
            full_reason: "look\naround".into(),
            steps: vec![Step {
                argv: vec!["sh".into(), "-c".into(), "echo \u{202e}\nls\n".into()],
                env: vec![("A".into(), Blob(vec![0xff]))],
                cwd: "/sandbox".into(),
            }],
            keep_going: false,
            stdin: "in\x1b".into(),
            files: vec![File { path: "a b".into(), mode: 0o644, content: "x\n".into() }],
            timeout_ms: 60_000,
            output_limit: 8 << 20,
            cage: Cage {
                image: "busybox:1.37".into(),
                userland_fallback: true,
                user: "65534:65534".into(),
                working_dir: "/sandbox".into(),
                environment: BTreeMap::from([("HOME".into(), "/sandbox".into())]),
                memory: 128 << 20,
                milli_cpus: 500,
                cpu_shares: 1024,
                pids: 64,
                ulimits: BTreeMap::new(),
                network: Network::None,
                runtime: None,
                scratch_size: 64 << 20,
                scratch_exec: true,
            },
            image_id: "sha256:1".into(),
        }
    }

    #[test]
    fn everything_that_would_run_is_shown_and_nothing_hides() {
        let text = text(&detail("abc"));
        for shown in [
            "proposal    abc\n",
            "reason      | look\n            | around\n",
            "command     sh -c 'echo ⟨U+202E⟩⟨U+000A⟩ls⟨U+000A⟩'\n",
            "  word 3    | echo ⟨U+202E⟩\n            | ls\n",
            "  variable  A=⟨xFF⟩\n",
            "stdin       | in⟨U+001B⟩\n            (no line end at its end)\n",
            "file        a b (mode 644)\n            | x\n",
            "limits      1m, 8m output\n",
            "  cage      user 65534:65534, memory 128m, CPUs 0.5, processes 64, network none",
            "  scratch   64m at /sandbox\n",
        ] {
            assert!(text.contains(shown), "{shown}\nis missing in\n{text}");
        }
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
