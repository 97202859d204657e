//! `brig serve`: the supervisor, in the foreground or, as a console starts it, detached.

use std::io::{self, Write};

use brig_core::problem::{Code, Problem};
use brig_core::visible;
use schemars::JsonSchema;
use serde::Serialize;

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

/// What `serve --json` prints once it is ready.
#[derive(Debug, Serialize, JsonSchema)]
pub struct Ready {
    /// It can be asked.
    ready: bool,
    /// The socket for those who propose.
    agent_socket: String,
    /// The socket for those who decide.
    operator_socket: String,
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
            let ready = Ready { ready: true, agent_socket: agent.to_string(), operator_socket: operator.to_string() };
            serde_json::to_string(&ready).unwrap_or_default()
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
        .with_ansi(false)
        .with_writer(|| Visible(io::stderr().lock()))
        .init();
    Ok(())
}

/// Writes each event as one line that hides nothing: there are words of agents, daemons and files in it. Each write is an
/// event. No colours, which could not be told from what somebody else wrote.
struct Visible<W>(W);

impl<W: Write> Write for Visible<W> {
    fn write(&mut self, event: &[u8]) -> io::Result<usize> {
        let mut line = visible::line(event.strip_suffix(b"\n").unwrap_or(event));
        line.push('\n');
        self.0.write_all(line.as_bytes())?;
        Ok(event.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        self.0.flush()
    }
}

#[cfg(test)]
mod tests {
    use std::io::{Read as _, Seek as _};

    use super::*;

    #[test]
    fn an_event_is_one_line_that_hides_nothing() {
        let mut file = tempfile::tempfile().unwrap();
        let log = file.try_clone().unwrap();
        let subscriber = tracing_subscriber::fmt()
            .with_ansi(false)
            .without_time()
            .with_writer(move || Visible(log.try_clone().unwrap()))
            .finish();
        tracing::subscriber::with_default(subscriber, || {
            tracing::info!("a \u{1b}[31mred\r\n INFO forged \u{202e}txt.exe\u{200b}");
            tracing::warn!("plain");
        });
        let mut text = String::new();
        file.rewind().unwrap();
        file.read_to_string(&mut text).unwrap();
        let lines: Vec<_> = text.split_terminator('\n').collect();
        assert_eq!(lines.len(), 2, "{text:?}");
        for mark in ["⟨U+000D⟩⟨U+000A⟩ INFO forged", "⟨U+202E⟩txt", "⟨U+200B⟩"] {
            assert!(lines[0].contains(mark), "{mark}: {text:?}");
        }
        assert!(lines[1].ends_with("plain"), "{text:?}");
        assert!(!text.contains(['\u{1b}', '\r', '\u{202e}', '\u{200b}']), "{text:?}");
    }
}
