//! `brig` alone: opens a console, and starts a supervisor first where none runs.

use std::fs::{File, OpenOptions};
use std::io::{self, IsTerminal as _, Read as _, Seek as _, SeekFrom};
use std::os::unix::fs::OpenOptionsExt as _;
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use brig_core::problem::{Code, Problem};
use brig_core::visible;

use super::color;
use super::context::Context;
use super::exit::{Exit, Stop};
use crate::api::client::Client;
use crate::api::wire::Snapshot;
use crate::config::{Places, Settings, profiles};
use crate::console::theme::Theme;
use crate::console::{self, Leave};

/// How long a supervisor may take until it answers.
const START: Duration = Duration::from_secs(10);
/// How long a supervisor that somebody else has just started may take to write its token, once it listens.
const TOKEN: Duration = Duration::from_secs(1);
/// How often it is asked meanwhile.
const ASK: Duration = Duration::from_millis(20);
/// Lines of the log that explain why it did not.
const LAST_LINES: usize = 8;
/// Bytes of the log in which those are looked for.
const LAST_BYTES: u64 = 16 << 10;

/// Opens a console.
///
/// # Errors
/// That there is no terminal, what is wrong with the settings, or why no supervisor could be started.
pub async fn open(context: &Context) -> Result<Exit, Stop> {
    if context.json || !context.screen.is_terminal() || !io::stdin().is_terminal() {
        let problem = Problem::new(Code::Malformed, "the console needs a terminal");
        return Err(Stop::Usage(
            problem.help("see `brig --help` for what works without one, as in `brig queue --json`"),
        ));
    }
    // Settings that are wrong are said here, in words, rather than in the log of a supervisor that does not start.
    let settings = Settings::load(&context.places)?;
    profiles::load(&context.places, &settings)?;
    ensure_supervisor(context).await?;
    enter(context.operator()?, &context.places, &settings).await
}

async fn enter(client: Client, places: &Places, settings: &Settings) -> Result<Exit, Stop> {
    let theme = Theme::load(&settings.theme, &places.themes_dir())?;
    let options = console::Options { client, theme, color: color::of_console() };
    let left = console::run(options)
        .await
        .map_err(|error| Problem::new(Code::LocalIo, format!("the terminal cannot be used: {error:#}")))?;
    Ok(match left {
        Leave::Keep | Leave::Stopped => Exit::Done,
        Leave::Signal(signal) => Exit::Program(u8::try_from(128 + signal).unwrap_or(u8::MAX)),
    })
}

/// Makes sure that a supervisor answers, starting one where none does.
///
/// # Errors
/// Why it does not answer, with the last lines of its log.
pub async fn ensure_supervisor(context: &Context) -> Result<(), Problem> {
    let asked = Instant::now();
    loop {
        match answers(context).await {
            Err(problem) if problem.code == Code::NoSupervisor => break,
            Err(problem) if problem.code == Code::WrongToken && asked.elapsed() < TOKEN => {}
            other => return other,
        }
        tokio::time::sleep(ASK).await;
    }
    context.places.prepare()?;
    let (mut child, begin) = spawn(&context.places)?;
    let until = Instant::now() + START;
    let mut ended = None;
    loop {
        match answers(context).await {
            Err(problem) if problem.code == Code::NoSupervisor => {}
            // It listens before it has written its token.
            Err(problem) if problem.code == Code::WrongToken && Instant::now() < until => {}
            other => {
                // Should it end before this process does, somebody has to take note of it.
                std::thread::spawn(move || child.wait());
                return other;
            }
        }
        if ended.is_none() {
            ended = child.try_wait().map_err(|error| failed(&error))?;
        }
        // Two consoles that start at once start two supervisors. One of them finds the state taken and ends; its
        // console goes on waiting for the other.
        let lost_race = ended.is_some_and(|status| status.code() == Some(i32::from(Exit::AlreadyRunning.code())));
        if (ended.is_some() && !lost_race) || Instant::now() >= until {
            let what = ended.map_or_else(
                || format!("the supervisor did not answer within {} s", START.as_secs()),
                |status| format!("the supervisor could not start ({status})"),
            );
            return Err(explained(&what, &context.places, begin));
        }
        tokio::time::sleep(ASK).await;
    }
}

async fn answers(context: &Context) -> Result<(), Problem> {
    let client = context.operator()?;
    let asked = tokio::time::timeout(START, client.get::<Snapshot>("/v1/snapshot")).await;
    match asked {
        Ok(answer) => answer.map(drop),
        Err(_) => Err(Problem::new(Code::Internal, "a supervisor listens, but does not answer")
            .help("see its log in the state directory; `brig stop` ends it")),
    }
}

/// Starts a supervisor that this process's end does not end. Says where in the log its own lines begin.
fn spawn(places: &Places) -> Result<(Child, u64), Problem> {
    let path = places.log();
    let log = OpenOptions::new().create(true).append(true).mode(0o600).open(&path).map_err(|error| {
        Problem::new(Code::LocalIo, format!("cannot write the supervisor's log {}: {error}", path.display()))
    })?;
    let begin = log.metadata().map_err(|error| failed(&error))?.len();
    let second = log.try_clone().map_err(|error| failed(&error))?;
    let program = std::env::current_exe().map_err(|error| failed(&error))?;
    let child = Command::new(program)
        .args(["serve", "--detached", "--with-consoles"])
        .stdin(Stdio::null())
        .stdout(log)
        .stderr(second)
        // It keeps no directory busy, and a relative path would mean something else by then: there is none.
        .current_dir("/")
        .spawn()
        .map_err(|error| failed(&error))?;
    Ok((child, begin))
}

fn failed(error: &io::Error) -> Problem {
    Problem::new(Code::LocalIo, format!("cannot start a supervisor: {error}"))
        .help("start one yourself with `brig serve`")
}

fn explained(what: &str, places: &Places, begin: u64) -> Problem {
    let path = places.log();
    let lines = last_lines(&path, begin).unwrap_or_default();
    let said = if lines.is_empty() { "it said nothing".to_owned() } else { format!("it said: {}", lines.join(" / ")) };
    Problem::new(Code::Internal, format!("{what}; {said}"))
        .help(format!("its log is {}; `brig serve` shows the same in the foreground", path.display()))
}

/// The last lines that were written to the log after `begin`, fit to be shown.
fn last_lines(path: &std::path::Path, begin: u64) -> io::Result<Vec<String>> {
    let mut file = File::open(path)?;
    let end = file.metadata()?.len();
    file.seek(SeekFrom::Start(begin.max(end.saturating_sub(LAST_BYTES))))?;
    let mut bytes = Vec::new();
    file.take(LAST_BYTES).read_to_end(&mut bytes)?;
    let lines: Vec<String> = visible::lines(&bytes).filter(|line| !line.is_empty()).collect();
    Ok(lines[lines.len().saturating_sub(LAST_LINES)..].to_vec())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_the_new_end_of_the_log_is_shown() {
        let temp = tempfile::tempdir().unwrap();
        let path = temp.path().join("log");
        let lines: String = (0..20).map(|number| format!("new {number}\x1b\n")).collect();
        std::fs::write(&path, format!("old\n{lines}")).unwrap();
        let shown = last_lines(&path, 4).unwrap();
        assert_eq!(shown.len(), LAST_LINES);
        assert_eq!(shown[7], "new 19⟨U+001B⟩");
        assert_eq!(last_lines(&path, 4 + lines.len() as u64).unwrap(), Vec::<String>::new());
    }
}
