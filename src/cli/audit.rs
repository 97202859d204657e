//! `brig audit`: what the journal says. Reads the file itself, so it needs no supervisor and trusts none.

use std::io::{self, Write};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use brig_core::id::ProposalId;
use brig_core::journal::Entry;
use brig_core::problem::{Code, Problem};
use brig_core::profile::Hash;
use brig_core::retention::Usage;
use brig_core::time::Wall;
use brig_core::visible;
use clap::Subcommand;
use schemars::JsonSchema;
use serde::Serialize;

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output;
use crate::config::Settings;
use crate::config::units::size_text;
use crate::console::text::bytes;
use crate::journal::{Cut, Reader, Verified, removed};

/// Arguments of `brig audit`.
#[derive(Debug, clap::Args)]
pub struct Args {
    #[command(subcommand)]
    what: What,
}

#[derive(Debug, Subcommand)]
enum What {
    /// Check that no entry of the journal was changed, removed or added; exits with 1 when one was
    ///
    /// Keep the head that it prints somewhere else: a journal that was rewritten as a whole has another one.
    ///
    /// What the limits of [retention] in brig.toml have removed is said, and no fault: the chain itself says what and when.
    Verify,
    /// Print every entry as a line of JSON: number, at, hash, entry
    ///
    /// Kept elsewhere, this is the archive of what the limits of [retention] will remove.
    Export,
    /// Show what the journal and the output of runs take, and what they may take
    Usage,
}

/// Reads the journal.
///
/// # Errors
/// `local_io` when there is none, `journal_failed` when it cannot be read.
pub async fn audit(context: &Context, args: &Args) -> Result<Exit, Stop> {
    let path = context.places.journal();
    if !path.exists() {
        return Err(Problem::new(Code::LocalIo, format!("there is no journal at {}", path.display()))
            .help("a supervisor begins one; BRIG_STATE_DIR says where it is")
            .into());
    }
    let reader = Reader::open(&path)?;
    match args.what {
        What::Verify => {
            let verified = reader.verify().await?;
            if context.json {
                output::json(&report(&verified))?
            } else {
                output::say(&text(&verified))?
            }
            Ok(if verified.fault.is_none() { Exit::Done } else { Exit::Failed })
        }
        What::Usage => {
            let usage = reader.usage(Settings::load(&context.places)?.retention).await?;
            if context.json {
                output::json(&usage)?
            } else {
                output::say(&usage_text(&usage))?
            }
            Ok(Exit::Done)
        }
        What::Export => {
            let closed = Arc::new(AtomicBool::new(false));
            match reader.export(Sink { out: io::stdout(), closed: Arc::clone(&closed) }).await {
                Err(_) if closed.load(Ordering::Relaxed) => Err(Stop::Pipe),
                Err(problem) => Err(problem.into()),
                Ok(_) => Ok(Exit::Done),
            }
        }
    }
}

fn text(verified: &Verified) -> String {
    let Verified { cut, entries, runs, output_bytes, pruned_runs, head, fault, .. } = verified;
    let mut fits = format!("{entries} entries and {runs} ended runs with {output_bytes} bytes of output fit");
    if *pruned_runs > 0 {
        fits.push_str(&format!("\nthe output of {pruned_runs} more was pruned, as entries say"));
    }
    if let Some(Cut { through, at, limit, .. }) = cut {
        fits.push_str(&format!("\nentries 1 to {through} were {}", removed(*at, limit)));
    }
    fits.push_str(&format!("\nhead {head}"));
    let Some(fault) = fault else { return format!("the journal is intact: {fits}\n") };
    let at = fault.number.map_or_else(String::new, |number| format!(" at entry {number}"));
    let of = fault.proposal.as_ref().map_or_else(String::new, |id| format!(", proposal {id}"));
    let how = visible::line(fault.how.as_bytes());
    format!("the journal is not as brig wrote it{at}{of}: {how}\nbefore that, {fits}\n")
}

/// What `audit verify --json` prints.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Report<'a> {
    /// Nothing was changed, removed or added.
    intact: bool,
    /// Entries that fit; all of them where it is intact.
    entries: u64,
    /// Runs among them that have ended, and whose output fits.
    runs: u64,
    /// Bytes of the output of these runs.
    output_bytes: u64,
    /// Runs beside these whose output was removed by a limit, as the chain itself says.
    pruned_runs: u64,
    /// What of the beginning was removed by a limit, as the chain itself says.
    cut: Option<&'a Cut>,
    /// The hash of the last entry that fits. Kept somewhere else, it proves later that nothing before it has changed.
    head: Hash,
    /// The first thing that is wrong.
    fault: Option<Fault<'a>>,
}

/// Something in a journal that is not as brig wrote it.
#[derive(Debug, Serialize, JsonSchema)]
struct Fault<'a> {
    /// The number of the entry, where it is about one.
    number: Option<u64>,
    /// The proposal, where it is about one.
    proposal: Option<&'a ProposalId>,
    /// What is wrong, for people.
    message: &'a str,
}

/// A line of `audit export`, which is written byte by byte: `entry` is what was hashed.
#[derive(JsonSchema)]
#[expect(dead_code, reason = "it is described, not made")]
pub struct Exported {
    /// Counts up from 1.
    number: u64,
    /// When it was recorded.
    at: Wall,
    /// Its hash, which covers the one before.
    hash: Hash,
    /// What happened.
    entry: Entry,
}

fn report(verified: &Verified) -> Report<'_> {
    let fault = verified.fault.as_ref().map(|fault| Fault {
        number: fault.number,
        proposal: fault.proposal.as_ref(),
        message: &fault.how,
    });
    let Verified { entries, runs, output_bytes, pruned_runs, ref cut, head, .. } = *verified;
    Report { intact: fault.is_none(), entries, runs, output_bytes, pruned_runs, cut: cut.as_ref(), head, fault }
}

fn usage_text(usage: &Usage) -> String {
    let of = |have: u64, most: u64| format!("{:>8} of {}", bytes(have), size_text(most));
    let mut text = format!(
        "entries  {}\noutput   {}\nfiles    {:>8} with what is free in them\n",
        of(usage.journal_bytes, usage.journal_limit),
        of(usage.output_bytes, usage.output_limit),
        bytes(usage.file_bytes),
    );
    if let Some(free) = usage.free_bytes {
        text.push_str(&format!("disk     {:>8} left, {} stay free\n", bytes(free), size_text(usage.keep_free)));
    }
    if let Some(warning) = &usage.warning {
        text.push_str(&format!("warning  {warning}\n"));
    }
    text
}

/// The standard output, remembering whether its reader has gone: that is no failure of the journal.
struct Sink {
    out: io::Stdout,
    closed: Arc<AtomicBool>,
}

impl Sink {
    fn noted<T>(&self, result: io::Result<T>) -> io::Result<T> {
        if result.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::BrokenPipe) {
            self.closed.store(true, Ordering::Relaxed);
        }
        result
    }
}

impl Write for Sink {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let result = self.out.write(bytes);
        self.noted(result)
    }

    fn flush(&mut self) -> io::Result<()> {
        let result = self.out.flush();
        self.noted(result)
    }
}

#[cfg(test)]
mod tests {
    use brig_core::retention::Limit;

    use super::*;
    use crate::journal::Fault;

    #[test]
    fn what_the_limits_removed_is_said_and_is_no_fault() {
        let limit = Limit::JournalAge { ms: 86_400_000 };
        let verified = Verified {
            cut: Some(Cut { through: 12, hash: Hash::of(b""), at: Wall(1_700_000_000_000), limit }),
            entries: 7,
            entry_bytes: 1,
            runs: 2,
            output_bytes: 2048,
            pruned_runs: 3,
            head: Hash::of(b""),
            fault: None,
        };
        let shown = text(&verified);
        assert!(shown.starts_with("the journal is intact: 7 entries"), "{shown}");
        assert!(shown.contains("\nthe output of 3 more was pruned, as entries say\n"), "{shown}");
        assert!(shown.contains("\nentries 1 to 12 were pruned on 2023-11-1"), "{shown}");
        assert!(shown.contains("by the limit of 1d (journal_age)\nhead "), "{shown}");
        assert_eq!(serde_json::to_value(report(&verified)).unwrap()["cut"]["through"], 12);
    }

    #[test]
    fn a_fault_is_said_with_its_place() {
        let mut verified = Verified {
            cut: None,
            entries: 7,
            entry_bytes: 1,
            runs: 2,
            output_bytes: 2048,
            pruned_runs: 0,
            head: Hash::of(b""),
            fault: None,
        };
        let fits = "7 entries and 2 ended runs with 2048 bytes of output fit";
        assert!(text(&verified).starts_with(&format!("the journal is intact: {fits}\nhead e3b0c442")));
        let how = "its hash is another".to_owned();
        verified.fault = Some(Fault { number: Some(8), proposal: Some(ProposalId("abc".into())), how });
        let shown = text(&verified);
        assert!(shown.starts_with("the journal is not as brig wrote it at entry 8, proposal abc: its hash"), "{shown}");
        assert_eq!(report(&verified).fault.unwrap().number, Some(8));
    }
}
