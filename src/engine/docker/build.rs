//! Building an image from what a profile names, by the builder that every daemon has.

use std::collections::{HashMap, VecDeque};
use std::time::Duration;

use bollard::models::BuildInfo;
use bollard::query_parameters::BuildImageOptionsBuilder;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Build, Cage};
use futures_util::stream::StreamExt as _;
use tokio::sync::Mutex;

use super::create::label;
use super::images::Layers;
use super::link::Link;
use super::{credentials, failure};
use crate::archive::{self, Items};
use crate::context;
use crate::engine::{Anew, Progress};

/// For reading the context, which can be some hundred megabytes.
const READING: Duration = Duration::from_secs(60);
/// A build that has not said anything for so long hangs. A step that compiles can be silent for minutes.
const SILENT: Duration = Duration::from_secs(15 * 60);
/// A whole build.
const LONGEST: Duration = Duration::from_secs(60 * 60);
/// Of what a step wrote before it failed, lines and characters of each that are told.
const LAST_LINES: usize = 6;
const LINE: usize = 160;

/// One at a time in this process: the second finds what the first has built.
static BUILDING: Mutex<()> = Mutex::const_new(());

/// Why there is no image.
pub struct Failed {
    /// What to tell.
    pub problem: Problem,
    /// It was not the Dockerfile's fault: what it begins from could not be had.
    pub no_base: bool,
}

impl From<Problem> for Failed {
    fn from(problem: Problem) -> Self {
        Self { problem, no_base: false }
    }
}

/// Builds the image under the cage's name. Where nothing is wanted anew, an image that has come meanwhile will do.
pub async fn build(
    link: &Link,
    install: &str,
    cage: &Cage,
    build: &Build,
    anew: Anew,
    progress: Progress<'_>,
) -> Result<(), Failed> {
    progress(&format!("waiting to build {}", cage.image));
    let _one_at_a_time = BUILDING.lock().await;
    if anew == Anew::default() && super::images::has(link, &cage.image).await? {
        return Ok(());
    }
    progress(&format!("building {}: reading {}", cage.image, build.context.text()));
    let items = read(build).await?;
    let sending = run(link, install, cage, build, items, anew, progress);
    match tokio::time::timeout(LONGEST, Box::pin(sending)).await {
        Ok(result) => result,
        Err(_) => Err(failure::too_late(&link.address, "build the image", LONGEST).into()),
    }
}

/// The files, if they are still those that the profile was read with.
async fn read(build: &Build) -> Result<Items, Problem> {
    let (context, dockerfile) = (build.context.clone(), build.dockerfile.clone());
    let reading = tokio::task::spawn_blocking(move || context::read(&context, &dockerfile));
    let files = match tokio::time::timeout(READING, reading).await {
        Ok(Ok(files)) => files?,
        Ok(Err(error)) => return Err(Problem::new(Code::Internal, format!("cannot read the context: {error}"))),
        Err(_) => {
            let message = format!("{} could not be read within {} s", build.context.text(), READING.as_secs());
            return Err(Problem::new(Code::ImageUnavailable, message));
        }
    };
    if files.content != build.content {
        let message = format!("{} has changed since the profile was read", build.context.text());
        return Err(Problem::new(Code::ImageUnavailable, message).help("it is read anew within seconds"));
    }
    Ok(files.items)
}

async fn run(
    link: &Link,
    install: &str,
    cage: &Cage,
    build: &Build,
    items: Items,
    anew: Anew,
    progress: Progress<'_>,
) -> Result<(), Failed> {
    let labels = HashMap::from([(label::IMAGE, install.to_owned()), (label::BUILD, build.content.hex())]);
    let labels: HashMap<&str, &str> = labels.iter().map(|(name, value)| (*name, value.as_str())).collect();
    let args: HashMap<&str, &str> = build.args.iter().map(|(name, value)| (name.as_str(), value.as_str())).collect();
    let mut options = BuildImageOptionsBuilder::new()
        .dockerfile(&build.dockerfile)
        .t(&cage.image)
        .labels(&labels)
        .buildargs(&args)
        .target(build.target.as_deref().unwrap_or(""))
        .nocache(anew.no_cache)
        .rm(true)
        .forcerm(true);
    if anew.pull {
        options = options.pull("true");
    }
    let (logins, remark) = credentials::all().await;
    let body = bollard::body_try_stream(archive::stream(items));
    let mut lines = link.docker.build_image(options.build(), Some(logins), Some(body)).boxed();
    let mut told = Told::default();
    loop {
        let line = match tokio::time::timeout(SILENT, lines.next()).await {
            Err(_) => return Err(failure::too_late(&link.address, "build the image", SILENT).into()),
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => {
                let found = failure::explain(&link.address, "build the image", &error);
                if found.problem.code == Code::EngineUnreachable {
                    return Err(found.problem.into());
                }
                return Err(told.failed(cage, &reason(&error, &found.problem), remark.as_deref()));
            }
            Ok(Some(Ok(line))) => line,
        };
        told.take(line, |text| progress(&format!("building {}: {text}", cage.image)));
    }
}

/// The daemon's own words, without ours in front.
fn reason(error: &bollard::errors::Error, explained: &Problem) -> String {
    match error {
        bollard::errors::Error::DockerStreamError { error } => failure::tidy(error),
        bollard::errors::Error::DockerResponseServerError { message, .. } => failure::tidy(message),
        _ => explained.message.clone(),
    }
}

/// What a build has said so far.
#[derive(Default)]
struct Told {
    /// The step that it is at, as in `Step 2/5 : RUN make`.
    step: String,
    last: VecDeque<String>,
    layers: Layers,
    /// A line that has not ended.
    begun: String,
}

impl Told {
    fn take(&mut self, line: BuildInfo, mut tell: impl FnMut(&str)) {
        if let Some(text) = line.stream {
            self.begun.push_str(&text);
            while let Some(at) = self.begun.find(['\n', '\r']) {
                let line: String = self.begun.drain(..=at).collect();
                self.line(&line, &mut tell);
            }
            // A program that never ends its line must not fill the memory.
            if self.begun.len() > 16 * LINE {
                let line = std::mem::take(&mut self.begun);
                self.line(&line, &mut tell);
            }
        } else if let Some(text) = self.layers.take(line.id, line.status.as_deref(), line.progress_detail) {
            tell(&format!("pulling what it begins from: {text}"));
        }
    }

    fn line(&mut self, line: &str, tell: &mut impl FnMut(&str)) {
        // The daemon's own marks for what came on the standard error.
        let line = short(&line.replace("\u{1b}[91m", "").replace("\u{1b}[0m", ""));
        if line.is_empty() {
            return;
        }
        if line.starts_with("Step ") {
            self.step.clone_from(&line);
            self.last.clear();
        } else if !line.starts_with("---> ") && !line.starts_with("Removing intermediate container") {
            if self.last.len() == LAST_LINES {
                self.last.pop_front();
            }
            self.last.push_back(line.clone());
        } else {
            return;
        }
        tell(&line);
    }

    fn failed(&mut self, cage: &Cage, reason: &str, remark: Option<&str>) -> Failed {
        let rest = std::mem::take(&mut self.begun);
        self.line(&rest, &mut |_| ());
        let mut words = self.step.splitn(3, ' ').skip(2);
        let is_base = words.next().is_some_and(|text| text.trim_start_matches(": ").to_uppercase().starts_with("FROM"));
        let mut message = format!("the image {} cannot be built", cage.image);
        if !self.step.is_empty() {
            message.push_str(&format!(", it fails at `{}`", self.step));
        }
        message.push_str(&format!(": {reason}"));
        if !self.last.is_empty() {
            let last: Vec<_> = self.last.iter().map(String::as_str).collect();
            message.push_str(&format!("; the step's last lines: {}", last.join(" | ")));
        }
        if let Some(remark) = remark.filter(|_| is_base) {
            message.push_str(&format!("; {remark}"));
        }
        let help = if is_base {
            "what it begins from has to be here or be pulled: `docker pull` or `docker load` it, or name another one in \
             the profile's `build.args`"
        } else {
            "mend the Dockerfile or its context: it is built anew when one of them changes; `brig image build` shows all \
             that a build says"
        };
        Failed { problem: Problem::new(Code::ImageUnavailable, message).help(help), no_base: is_base }
    }
}

/// One line of a program, short enough to be told.
fn short(line: &str) -> String {
    let line = line.trim();
    match line.char_indices().nth(LINE) {
        Some((end, _)) => format!("{}…", &line[..end]),
        None => line.to_owned(),
    }
}

#[cfg(test)]
mod tests {
    use brig_core::profile::{Context, Hash};

    use super::*;

    fn says(told: &mut Told, text: &str) -> Vec<String> {
        let mut lines = Vec::new();
        told.take(BuildInfo { stream: Some(text.to_owned()), ..BuildInfo::default() }, |line| {
            lines.push(line.to_owned())
        });
        lines
    }

    fn cage() -> Cage {
        let mut cage = super::super::create::tests::cage();
        cage.image = "brig-build:x-1".to_owned();
        cage.build = Some(Build {
            context: Context::Directory("/x".to_owned()),
            dockerfile: "Dockerfile".to_owned(),
            args: std::collections::BTreeMap::new(),
            target: None,
            content: Hash::of(b""),
        });
        cage
    }

    #[test]
    fn a_step_that_fails_is_named_with_its_last_lines() {
        let mut told = Told::default();
        assert_eq!(says(&mut told, "Step 1/2 : FROM x\n"), ["Step 1/2 : FROM x"]);
        says(&mut told, " ---> 0123\nStep 2/2 : RUN make\n");
        for number in 0..20 {
            says(&mut told, &format!("line {number}\n"));
        }
        says(&mut told, "no rule to ");
        says(&mut told, "make it");
        let failed = told.failed(&cage(), "returned a non-zero code: 2", Some("no login"));
        let message = failed.problem.message;
        for part in ["`Step 2/2 : RUN make`", "non-zero code: 2", "line 19 | no rule to make it"] {
            assert!(message.contains(part), "{message}");
        }
        assert!(!message.contains("line 9 ") && !message.contains("no login") && !failed.no_base, "{message}");
    }

    #[test]
    fn a_base_that_cannot_be_had_is_told_apart() {
        let mut told = Told::default();
        says(&mut told, "Step 1/2 : FROM x\n");
        let failed = told.failed(&cage(), "no such host", Some("no login"));
        assert!(failed.no_base && failed.problem.message.ends_with("no such host; no login"), "{}", failed.problem);
        assert!(failed.problem.help.contains("build.args"));
    }

    #[test]
    fn a_program_that_never_ends_its_line_is_cut() {
        let mut told = Told::default();
        let lines = says(&mut told, &"x".repeat(100_000));
        assert!(lines.len() == 1 && lines[0].chars().count() == LINE + 1);
        assert!(told.begun.is_empty());
    }
}
