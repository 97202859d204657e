//! `brig show`: a proposal with all that it would do.

use brig_core::blob::Blob;
use brig_core::envelope::{Code, File, Step};
use brig_core::profile::{Cage, Volume};
use brig_core::proposal::{Status, StepKind};
use brig_core::visible;

use super::completions::proposals;
use super::context::{Context, patiently};
use super::exit::{Exit, Stop};
use super::output::{json, say};
use super::values;
use crate::api::wire::{ProposalDetail, ProposalRow, end_text, step_end_text};
use crate::config::units::{cpus_text, duration_text, size_text};
use crate::console::text::{decider, moment, moment_after, shown as line, ulimits};

/// Arguments of `brig show`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// The proposal
    #[arg(value_parser = values::id, add = proposals())]
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

/// Everything that would run and where, nothing cut and all of it visible. What is approved is taken apart by name, so
/// that nothing of it can be forgotten here.
#[must_use]
pub fn text(detail: &ProposalDetail) -> String {
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
        image_id,
        output_pruned,
    } = detail;
    let mut page = Page::default();
    page.field("proposal", &row.id.0);
    page.field("digest", &row.digest.hex());
    page.field("status", &super::queue::outcome(row));
    let expires = match row.status {
        Status::Waiting => format!(", expires {}", moment_after(row.received_at, row.expires_at)),
        _ => String::new(),
    };
    page.field("received", &format!("{}{expires}", moment(row.received_at)));
    let who = if row.agent.is_operator_user { ", the operator's own user" } else { "" };
    let pid = row.agent.pid.map_or_else(String::new, |pid| format!(", process {pid}"));
    page.field("agent", &format!("{} (user {}{pid}{who})", line(&row.agent.name), row.agent.uid));
    page.blob("reason", &Blob::from(full_reason.as_str()), false);
    page.field("policy", &format!("{} by {}: {}", effect(row), line(&row.ruling.rule), line(&row.ruling.why)));
    if let Some(why) = &row.returned {
        page.field("returned", &line(why));
    }
    for (at, step) in steps.iter().enumerate() {
        let name = if steps.len() == 1 { "command".to_owned() } else { format!("step {}", at + 1) };
        page.step(&name, step);
    }
    if steps.len() > 1 {
        page.field("on failure", if *keep_going { "the next step runs all the same" } else { "the rest is left out" });
    }
    if !stdin.0.is_empty() {
        page.blob("stdin", stdin, true);
    }
    for File { path, mode, content } in files {
        page.field("file", &format!("{} (mode {mode:03o})", visible::line(&path.0)));
        page.blob("", content, true);
    }
    page.field("limits", &format!("{}, {} output", duration_text(*timeout_ms), size_text(*output_limit)));
    page.cage(&row.profile, cage, image_id);
    page.outcome(row);
    if let Some(pruned) = output_pruned {
        page.field("output", &line(pruned));
    }
    page.text
}

fn effect(row: &ProposalRow) -> &'static str {
    match row.ruling.effect {
        brig_core::proposal::Judgement::Allow => "allowed",
        brig_core::proposal::Judgement::Ask => "asked",
    }
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
        let Step { argv, code, env, cwd } = step;
        if let Some(Code { language, source }) = code {
            self.field(name, &format!("code in {}", line(language)));
            self.blob("", source, true);
            if !argv.is_empty() {
                self.field("  arguments", &visible::command([argv.as_slice()]));
            }
        } else {
            self.field(name, &visible::command([argv.as_slice()]));
        }
        let lines = |argument: &Blob| argument.0.contains(&b'\n');
        if argv.iter().any(lines) {
            // A script in one argument reads better as the lines that it is.
            for (at, argument) in argv.iter().enumerate().filter(|(_, argument)| lines(argument)) {
                self.blob(&format!("  word {}", at + 1), argument, true);
            }
        }
        for (name, value) in env {
            self.field("  variable", &format!("{}={}", visible::line(&name.0), visible::line(&value.0)));
        }
        self.field("  in", &visible::line(&cwd.0));
    }

    fn cage(&mut self, profile: &str, cage: &Cage, image_id: &str) {
        let Cage {
            image,
            build,
            userland_fallback,
            user,
            working_dir,
            environment,
            secrets,
            volumes,
            interpreters,
            memory,
            milli_cpus,
            cpu_shares,
            pids,
            ulimits: limits,
            network,
            runtime,
            scratch_size,
            scratch_exec,
        } = cage;
        self.field("profile", &line(profile));
        let or_else =
            if *userland_fallback { ", or of this machine's own programs where that cannot be had" } else { "" };
        self.field("  image", &format!("{}{or_else} ({})", line(image), line(image_id)));
        if let Some(build) = build {
            self.field("  built from", &line(&format!("{} by {}", build.context.text(), build.dockerfile)));
            for (name, value) in &build.args {
                self.field("  argument", &format!("{}={}", line(name), line(value)));
            }
        }
        let cpus = if *milli_cpus == 0 { "any".to_owned() } else { cpus_text(*milli_cpus) };
        self.field(
            "  cage",
            &format!(
                "user {}, memory {}, CPUs {cpus} with weight {cpu_shares}, processes {pids}, network {}, runtime {}",
                line(user),
                size_text(*memory),
                network.text(),
                line(runtime.as_deref().unwrap_or("the daemon's own"))
            ),
        );
        self.field("  ulimits", &ulimits(limits));
        let exec = if *scratch_exec { "" } else { ", nothing in them is executed" };
        let size = size_text(*scratch_size);
        self.field("  scratch", &format!("{size} at {}, a quarter of that at /tmp{exec}", line(working_dir)));
        for (name, value) in environment {
            self.field("  variable", &format!("{}={}", line(name), line(value)));
        }
        for (name, source) in secrets {
            self.field("  secret", &format!("{} from {}", line(name), line(&source.text())));
        }
        for Volume { source, target } in volumes {
            self.field("  mount", &format!("{} at {}, read-only; its content can change", line(source), line(target)));
        }
        for (language, interpreter) in interpreters {
            let warm = if interpreter.prewarm { ", started before the request" } else { "" };
            self.field("  code", &format!("{} by {}{warm}", line(language), line(&interpreter.command.join(" "))));
        }
    }

    fn outcome(&mut self, row: &ProposalRow) {
        if let Some(verdict) = &row.verdict {
            let at = moment_after(row.received_at, verdict.at);
            let reason = if verdict.reason.is_empty() { String::new() } else { format!(": {}", line(&verdict.reason)) };
            self.field("verdict", &format!("{} by {} at {at}{reason}", verdict.kind.text(), decider(&verdict.by)));
        }
        if let Some(run) = &row.run {
            let how = if run.cold { "cold, as none was warm" } else { "warm" };
            self.field(
                "sandbox",
                &format!("{} ({how}) at {}", run.sandbox, moment_after(row.received_at, run.started_at)),
            );
        }
        if let Some(end) = &row.end {
            self.field("end", &format!("{} at {}", line(&end_text(end)), moment_after(row.received_at, end.at)));
            for (at, step) in end.steps.iter().enumerate() {
                let took = match step.kind {
                    StepKind::Skipped | StepKind::Lost => String::new(),
                    _ => format!(" after {:.3} s", step.wall_us as f64 / 1e6),
                };
                let wrote = match step.stdout_bytes + step.stderr_bytes {
                    0 => String::new(),
                    bytes => format!(", {bytes} bytes written"),
                };
                self.field(&format!("  step {}", at + 1), &format!("{}{took}{wrote}", line(&step_end_text(step))));
            }
            self.field(
                "used",
                &format!(
                    "{:.3} s, {:.3} s of CPU, {} of memory at most",
                    end.usage.wall_us as f64 / 1e6,
                    end.usage.cpu_us as f64 / 1e6,
                    size_text(end.usage.peak_memory)
                ),
            );
        }
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use brig_core::envelope::File;
    use brig_core::profile::{Network, Ulimit};
    use brig_core::time::Wall;

    use super::*;
    use crate::cli::fixtures;

    fn detail(id: &str) -> ProposalDetail {
        ProposalDetail {
            row: fixtures::proposal(id),
            full_reason: "look\naround".into(),
            steps: vec![Step {
                code: None,
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
                build: None,
                userland_fallback: true,
                user: "65534:65534".into(),
                working_dir: "/sandbox".into(),
                environment: BTreeMap::from([("HOME".into(), "/sandbox".into())]),
                memory: 128 << 20,
                milli_cpus: 125,
                cpu_shares: 1024,
                pids: 64,
                ulimits: BTreeMap::from([("nofile".into(), Ulimit { soft: 64, hard: 128 })]),
                network: Network::None,
                runtime: None,
                scratch_size: 64 << 20,
                secrets: BTreeMap::new(),
                volumes: Vec::new(),
                interpreters: BTreeMap::new(),
                scratch_exec: true,
            },
            image_id: "sha256:1".into(),
            output_pruned: None,
        }
    }

    #[test]
    fn everything_that_would_run_is_shown_and_nothing_hides() {
        let text = text(&detail("abc"));
        for shown in [
            "proposal    abc\n",
            &format!("received    {}, expires {}\n", moment(Wall(0)), moment_after(Wall(0), Wall(60_000))),
            "reason      | look\n            | around\n",
            "command     sh -c 'echo ⟨U+202E⟩⟨U+000A⟩ls⟨U+000A⟩'\n",
            "  word 3    | echo ⟨U+202E⟩\n            | ls\n",
            "  variable  A=⟨xFF⟩\n",
            "stdin       | in⟨U+001B⟩\n            (no line end at its end)\n",
            "file        a b (mode 644)\n            | x\n",
            "limits      1m, 8m output\n",
            "  cage      user 65534:65534, memory 128m, CPUs 0.125 with weight 1024, processes 64, network none",
            "  image     busybox:1.37, or of this machine's own programs where that cannot be had (sha256:1)\n",
            "  ulimits   nofile 64 (at most 128)\n",
            "  scratch   64m at /sandbox, a quarter of that at /tmp\n",
            "  variable  HOME=/sandbox\n",
        ] {
            assert!(text.contains(shown), "{shown}\nis missing in\n{text}");
        }
        assert!(text.chars().all(|c| c == '\n' || !c.is_control()));
    }
}
