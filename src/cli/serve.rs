//! `brig serve`: the supervisor, in the foreground or, as a console starts it, detached.

use std::io::{self, IsTerminal as _};

use brig_core::problem::{Code, Problem};
use serde_json::json;

use super::context::Context;
use super::exit::{Exit, Stop};
use super::output::say;
use crate::config::Settings;
use crate::supervisor;

/// Arguments of `brig serve`.
#[derive(Debug, clap::Args)]
pub struct Args {
    /// Leave the terminal's session, so that its end does not end the supervisor
    #[arg(long)]
    detached: bool,
    /// End with the last console, unless runs or questions are open
    #[arg(long)]
    with_consoles: bool,
}

/// Serves until it is told to end. Prints one line when it is ready.
///
/// # Errors
/// Why it cannot start, or why it had to end.
pub async fn serve(context: &Context, args: &Args) -> Result<Exit, Stop> {
    if args.detached {
        rustix::process::setsid().map_err(|error| {
            Problem::new(Code::LocalIo, format!("cannot leave the session: {error}"))
                .help("it leads a session already; leave --detached out, or start it as `setsid brig serve`")
        })?;
    }
    log()?;
    let options = supervisor::Options {
        places: context.places.clone(),
        settings: Settings::load(&context.places)?,
        with_consoles: args.with_consoles,
    };
    let as_json = context.json;
    supervisor::serve(options, |ready: &supervisor::Ready| {
        let (agent, operator) = (ready.agent_socket.display(), ready.operator_socket.display());
        let line = if as_json {
            json!({ "ready": true, "agent_socket": agent.to_string(), "operator_socket": operator.to_string() })
                .to_string()
        } else {
            format!("brig: ready, agent socket {agent}, operator socket {operator}")
        };
        // Whoever started it may not read. It serves all the same.
        let _ = say(&line);
    })
    .await?;
    Ok(Exit::Done)
}

/// What happens, as lines on the standard error; how much of it, by `BRIG_LOG` (`info` unless it is set).
fn log() -> Result<(), Problem> {
    let filter = std::env::var("BRIG_LOG").ok().filter(|text| !text.is_empty()).unwrap_or_else(|| "info".to_owned());
    let filter = filter.parse::<tracing_subscriber::EnvFilter>().map_err(|error| {
        Problem::new(Code::Config, format!("BRIG_LOG is \"{filter}\", which cannot be read: {error}"))
            .help("write error, warn, info, debug or trace, for parts too, as in BRIG_LOG=info,brig::engine=debug")
    })?;
    tracing_subscriber::fmt()
        .with_env_filter(filter)
        .with_ansi(io::stderr().is_terminal())
        .with_writer(io::stderr)
        .init();
    Ok(())
}
