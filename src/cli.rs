//! The command line: one file a command.
//!
//! A command is a client of the supervisor like any other: what it prints came over a socket. Tables are for people and
//! may change; `--json` and the exit codes ([`exit::Exit`]) are for programs and stay.

use std::ffi::OsString;
use std::process::ExitCode;

use brig_core::problem::{Code, Problem};
use clap::error::ErrorKind;
use clap::{CommandFactory as _, FromArgMatches as _, Parser, Subcommand};

pub mod again;
pub mod answers;
pub mod approve;
pub mod audit;
pub mod color;
pub mod completions;
pub mod console;
pub mod context;
pub mod doctor;
pub mod exit;
pub mod export;
#[cfg(test)]
mod fixtures;
pub mod history;
pub mod image;
pub mod kill;
pub mod live;
pub mod logs;
pub mod man;
pub mod output;
pub mod pools;
pub mod ps;
pub mod queue;
pub mod reject;
pub mod run;
pub mod serve;
pub mod show;
pub mod steps;
pub mod stop;
pub mod table;
pub mod top;
pub mod values;
pub mod wait;
pub mod withdraw;

use context::Context;
use exit::{Exit, Stop};

/// A console where a person supervises AI agents that want to run commands.
///
/// Without a command, brig opens the console, and starts a supervisor first where none runs.
///
/// An ID may be shortened to what is unique.
#[derive(Debug, Parser)]
#[command(name = "brig", version, after_long_help = exit::HELP)]
struct Args {
    /// Answer with JSON on the standard output, errors too
    #[arg(long, global = true)]
    json: bool,
    /// Whether tables and errors have colours
    #[arg(long, global = true, value_enum, value_name = "WHEN", default_value_t)]
    color: color::When,
    #[command(subcommand)]
    command: Option<Command>,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// Run the supervisor in the foreground
    Serve(serve::Args),
    /// Propose a command, wait for the verdict, and be that command: its output, its exit status
    ///
    /// Ctrl-C takes the proposal back, or kills its run. With --json nothing is streamed: at the end comes one object,
    /// the proposal as `brig queue` lists it, with its verdict and its end, and with stdout, stderr (text, or
    /// {"base64": …} where it is none) and exit_status; of several steps also with step_output, the stdout and stderr of
    /// each.
    ///
    /// Several steps are one proposal: --step 'make' --step 'make test', one program each, no shell in between. The words
    /// of a step are split at blanks; '…' and "…" and a backslash quote as in a shell, and what else would mean something
    /// to a shell has to be quoted. They run one after another in one sandbox and stop at the first that fails, whose exit
    /// status is that of brig run.
    #[command(after_long_help = exit::HELP)]
    Run(Box<run::Args>),
    /// Propose what was proposed before once more, as it is recorded, and follow it as `brig run` does
    ///
    /// Whoever runs this proposes, and it is judged anew. With --json the object of `brig run` has again_of, same (whether
    /// the digest is the same) and changed (what differs) on top.
    Again(again::Args),
    /// Wait until proposals are over, and exit as the first of them that did not succeed
    #[command(after_long_help = exit::HELP)]
    Wait(wait::Args),
    /// Take a proposal back, or end its run
    Withdraw(withdraw::Args),
    /// List what waits for a verdict, the oldest first
    Queue(queue::Args),
    /// Find proposals of any age and what became of them, the newest first
    History(history::Args),
    /// List the sandboxes, warm ones too
    Ps(ps::Args),
    /// Watch the sandboxes, those first that use most; q leaves
    Top(top::Args),
    /// List the pools of warm sandboxes, or steer one
    ///
    /// What is set lasts until the supervisor ends or the profile's file changes; a pause or a drain lasts until `resume`, or
    /// the supervisor's end. Each is recorded with who asked for it.
    Pools(pools::Args),
    /// Show a proposal with all that it would do, nothing hidden
    Show(show::Args),
    /// Print what a run wrote
    ///
    /// With --json an array of {type, seq, at, stream, data}; with --follow too, one of these objects a line.
    Logs(logs::Args),
    /// Write what a run wrote as a file: its bytes, lines, or a recording
    Export(export::Args),
    /// Let a proposal run, once
    Approve(approve::Args),
    /// Refuse a proposal, with a reason for the agent
    Reject(reject::Args),
    /// Kill running proposals or sandboxes at once
    Kill(kill::Args),
    /// The images that sandboxes are made from: list, pull, build, prune
    Image(image::Args),
    /// Verify or export the journal
    Audit(audit::Args),
    /// Look at everything that brig needs, and say how to mend what is not so; exits with 1 when something failed
    ///
    /// It starts nothing, changes nothing, and works with a supervisor and without. With --json one object: ok, engine
    /// (what the daemon says of itself) and checks, an array of {area, what, status, message, help}.
    Doctor,
    /// End the supervisor, and with it everything that runs
    Stop(stop::Args),
    /// Print the script with which a shell completes brig's arguments, proposals and profiles too
    Completions(completions::Args),
    /// Print brig's manual page, or write those of all commands
    Man(man::Args),
}

/// Does what the process's arguments say.
#[must_use]
pub fn main() -> ExitCode {
    clap_complete::CompleteEnv::with_factory(Args::command).var(completions::VARIABLE).complete();
    let arguments: Vec<OsString> = std::env::args_os().collect();
    let command = Args::command().color(color::of_arguments(&arguments));
    let args = match command.try_get_matches_from(&arguments).and_then(|matches| Args::from_arg_matches(&matches)) {
        Ok(args) => args,
        Err(error) => return misused(&error, wants_json(&arguments)).into(),
    };
    let json = args.json;
    color::choose(args.color);
    let result = runtime(&args).and_then(|runtime| {
        let result = runtime.block_on(dispatch(args));
        // Without waiting: a write that blocks, or a read from a terminal, must not keep the process.
        runtime.shutdown_background();
        result
    });
    result.unwrap_or_else(|stop| exit::report(stop, json)).into()
}

async fn dispatch(args: Args) -> Result<Exit, Stop> {
    match &args.command {
        // These two are asked where packages are made, which has no places of its own.
        Some(Command::Completions(inner)) => return completions::completions(args.json, inner),
        Some(Command::Man(inner)) => return man::man(args.json, inner, Args::command()),
        _ => {}
    }
    let context = Context::from_env(args.json)?;
    match args.command {
        None => Box::pin(console::open(&context)).await,
        Some(Command::Serve(args)) => Box::pin(serve::serve(&context, &args)).await,
        Some(Command::Run(args)) => Box::pin(run::run(&context, *args)).await,
        Some(Command::Again(args)) => Box::pin(again::again(&context, args)).await,
        Some(Command::Wait(args)) => wait::wait(&context, &args).await,
        Some(Command::Withdraw(args)) => withdraw::withdraw(&context, &args).await,
        Some(Command::Queue(args)) => queue::queue(&context, &args).await,
        Some(Command::Ps(args)) => Box::pin(ps::ps(&context, &args)).await,
        Some(Command::History(args)) => history::history(&context, &args).await,
        Some(Command::Top(args)) => Box::pin(top::top(&context, &args)).await,
        Some(Command::Export(args)) => Box::pin(export::export(&context, &args)).await,
        Some(Command::Pools(args)) => pools::pools(&context, args).await,
        Some(Command::Show(args)) => show::show(&context, &args).await,
        Some(Command::Logs(args)) => Box::pin(logs::logs(&context, &args)).await,
        Some(Command::Approve(args)) => Box::pin(approve::approve(&context, &args)).await,
        Some(Command::Reject(args)) => reject::reject(&context, &args).await,
        Some(Command::Kill(args)) => kill::kill(&context, &args).await,
        Some(Command::Image(args)) => Box::pin(image::image(&context, args)).await,
        Some(Command::Audit(args)) => audit::audit(&context, &args).await,
        Some(Command::Doctor) => Box::pin(doctor::doctor(&context)).await,
        Some(Command::Stop(args)) => stop::stop(&context, &args).await,
        Some(Command::Completions(_) | Command::Man(_)) => Ok(Exit::Done),
    }
}

/// The supervisor and the console do several things at once; a client does one.
fn runtime(args: &Args) -> Result<tokio::runtime::Runtime, Stop> {
    let mut builder = match args.command {
        // What draws must be ended by a signal, even while a terminal takes nothing.
        Some(Command::Ps(ps::Args { watch: true, .. })) | None | Some(Command::Serve(_) | Command::Top(_)) => {
            let mut builder = tokio::runtime::Builder::new_multi_thread();
            builder.worker_threads(2);
            builder
        }
        Some(_) => tokio::runtime::Builder::new_current_thread(),
    };
    let started = builder.enable_all().build();
    started.map_err(|error| Problem::new(Code::LocalIo, format!("cannot start: {error}")).into())
}

/// Help and version are no errors; what is one is said in clap's own words, or as JSON.
fn misused(error: &clap::Error, json: bool) -> Exit {
    let asked = matches!(error.kind(), ErrorKind::DisplayHelp | ErrorKind::DisplayVersion);
    if json && !asked {
        let text = error.to_string();
        let (message, help) = text.trim_start_matches("error: ").split_once("\n\n").unwrap_or((&text, ""));
        let problem = Problem::new(Code::Malformed, one_line(message)).help(one_line(help));
        return exit::report(Stop::Usage(problem), true);
    }
    // A pipe that is closed already has nobody to tell.
    let _ = error.print();
    if asked { Exit::Done } else { Exit::Usage }
}

fn one_line(text: &str) -> String {
    text.split_whitespace().collect::<Vec<_>>().join(" ")
}

/// Whether `--json` was among the arguments that are brig's own.
fn wants_json(arguments: &[OsString]) -> bool {
    arguments.iter().take_while(|argument| *argument != "--").any(|argument| argument == "--json")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_arguments_are_consistent() {
        Args::command().debug_assert();
    }

    #[test]
    fn what_follows_the_command_belongs_to_it() {
        let args = Args::try_parse_from(["brig", "run", "-p", "shell", "ls", "--json", "-la"]).unwrap();
        assert!(!args.json);
        let args = Args::try_parse_from(["brig", "run", "--json", "--", "ls", "--json"]).unwrap();
        assert!(args.json);
        assert!(Args::try_parse_from(["brig", "run"]).is_err());
    }

    #[test]
    fn the_help_lists_the_exit_codes() {
        let help = Args::command().render_long_help().to_string();
        for exit in exit::Exit::DOCUMENTED {
            assert!(help.contains(&format!("{} ", exit.code())), "{exit:?} is missing in:\n{help}");
        }
    }
}
