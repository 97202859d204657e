//! Bringing a profile's image to the daemon, and what has to be known of it.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use bollard::models::{ImageInspect, ProgressDetail};
use bollard::query_parameters::CreateImageOptionsBuilder;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, ImageSource, ResolvedImage};
use futures_util::stream::StreamExt as _;

use super::build::{self, Failed};
use super::failure::{self, Failure};
use super::link::{Link, QUICK, processor_name};
use super::{Shared, credentials, lock, userland};
use crate::engine::{Anew, Progress};

/// A pull that has not said anything for so long at its beginning goes nowhere: no registry is reached.
const FIRST_WORD: Duration = Duration::from_secs(20);
/// A pull that has made no progress for so long has stalled.
const STALLED: Duration = Duration::from_secs(60);
/// More images than anybody has profiles: beyond it what is known about them is asked again.
const REMEMBERED: usize = 256;

/// What an image brings along that a sandbox must not have.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct ImageFacts {
    /// Paths that it declares as volumes.
    pub volumes: Vec<String>,
    /// Names of the variables that it sets.
    pub environment: Vec<String>,
}

/// See [`crate::engine::Engine::resolve_image`]. An image that is there under the profile's name is always taken; one
/// made of the machine's userland only when that name could not be pulled, or what it is built from not be had.
pub async fn resolve(shared: &Shared, cage: &Cage, progress: Progress<'_>) -> Result<ResolvedImage, Problem> {
    let link = shared.link().await?;
    if let Some(id) = find(shared, link, &cage.image).await? {
        let source = if cage.build.is_some() { ImageSource::Built } else { ImageSource::Local };
        return Ok(ResolvedImage { id, source });
    }
    let failed = match Box::pin(fetch(shared, link, cage, Anew::default(), progress)).await {
        Ok(image) => return Ok(image),
        Err(failed) if failed.problem.code == Code::EngineUnreachable => return Err(failed.problem),
        Err(failed) => failed,
    };
    if !cage.userland_fallback || !failed.no_base {
        return Err(failed.problem);
    }
    let commands: Vec<_> = cage.interpreters.values().map(|interpreter| interpreter.command.as_slice()).collect();
    let install = &shared.settings.install;
    let why = match Box::pin(userland::make(link, install, &commands, progress)).await {
        Ok(reference) => match find(shared, link, &reference).await? {
            Some(id) => return Ok(ResolvedImage { id, source: ImageSource::Userland }),
            None => "it is not there after it was made".to_owned(),
        },
        Err(problem) => problem.message,
    };
    let Problem { code, message, help } = failed.problem;
    Err(Problem::new(code, format!("{message}; nor can one be made of this machine's own programs: {why}")).help(help))
}

/// See [`crate::engine::Engine::bring_image`].
pub async fn bring(shared: &Shared, cage: &Cage, anew: Anew, progress: Progress<'_>) -> Result<ResolvedImage, Problem> {
    let link = shared.link().await?;
    Box::pin(fetch(shared, link, cage, anew, progress)).await.map_err(|failed| failed.problem)
}

/// Pulls or builds.
async fn fetch(
    shared: &Shared,
    link: &Link,
    cage: &Cage,
    anew: Anew,
    progress: Progress<'_>,
) -> Result<ResolvedImage, Failed> {
    let source = if let Some(from) = &cage.build {
        Box::pin(build::build(link, &shared.settings.install, cage, from, anew, progress)).await?;
        ImageSource::Built
    } else {
        if let Err(problem) = Box::pin(pull(link, &cage.image, progress)).await {
            let is_away = problem.code == Code::EngineUnreachable;
            let problem = if is_away { problem } else { unavailable(&cage.image, &problem.message) };
            return Err(Failed { problem, no_base: true });
        }
        ImageSource::Pulled
    };
    match find(shared, link, &cage.image).await? {
        Some(id) => Ok(ResolvedImage { id, source }),
        None => Err(unavailable(&cage.image, "it was brought, and is not there").into()),
    }
}

/// Whether there is an image of that name.
pub async fn has(link: &Link, reference: &str) -> Result<bool, Problem> {
    match Box::pin(link.call("look for the image", QUICK, link.docker.inspect_image(reference))).await {
        Ok(_) => Ok(true),
        Err(Failure { status: Some(404), .. }) => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

/// What has to be known of an image, from memory where it was asked before: an identifier is a hash of the content.
pub async fn facts(shared: &Shared, link: &Link, id: &str) -> Result<Arc<ImageFacts>, Problem> {
    if let Some(known) = lock(&shared.images).get(id) {
        return Ok(Arc::clone(known));
    }
    match Box::pin(link.call("look at the image", QUICK, link.docker.inspect_image(id))).await {
        Ok(image) => Ok(remember(shared, id, image)),
        Err(failure) if failure.is_gone() => Err(removed(id)),
        Err(failure) => Err(failure.into()),
    }
}

/// The image was there when it was resolved: a code of its own, as resolving it again is what helps.
pub fn removed(id: &str) -> Problem {
    Problem::new(Code::ImageUnavailable, format!("the image {id} was removed from the daemon"))
        .help("it is pulled or made again when the profile's image is resolved again")
}

fn remember(shared: &Shared, id: &str, image: ImageInspect) -> Arc<ImageFacts> {
    let config = image.config.unwrap_or_default();
    let name = |variable: String| variable.split('=').next().map(str::to_owned);
    let facts = Arc::new(ImageFacts {
        volumes: config.volumes.unwrap_or_default(),
        environment: config.env.unwrap_or_default().into_iter().filter_map(name).collect(),
    });
    let mut images = lock(&shared.images);
    if images.len() >= REMEMBERED {
        images.clear();
    }
    images.insert(id.to_owned(), Arc::clone(&facts));
    facts
}

/// The identifier of the image of that name, if the daemon has it.
pub async fn find(shared: &Shared, link: &Link, reference: &str) -> Result<Option<String>, Problem> {
    let image = match Box::pin(link.call("look for the image", QUICK, link.docker.inspect_image(reference))).await {
        Ok(image) => image,
        Err(Failure { status: Some(404), .. }) => return Ok(None),
        Err(failure) => return Err(failure.into()),
    };
    let processor = processor_name(image.architecture.as_deref().unwrap_or(std::env::consts::ARCH)).to_owned();
    if processor != std::env::consts::ARCH {
        let message =
            format!("the image {reference} is for {processor}, and the daemon runs {}", std::env::consts::ARCH);
        return Err(Problem::new(Code::ImageUnavailable, message)
            .help(format!("remove it (`docker rmi {reference}`) and pull it for this processor")));
    }
    let Some(id) = image.id.clone() else {
        return Err(Problem::new(
            Code::EngineProtocol,
            format!("the daemon gives the image {reference} no identifier"),
        ));
    };
    remember(shared, &id, image);
    Ok(Some(id))
}

/// Nowhere is it to be had.
pub fn unavailable(image: &str, reason: &str) -> Problem {
    let message = format!("the image {image} is not here and cannot be brought here: {reason}");
    let says = |words: &[&str]| words.iter().any(|word| reason.to_lowercase().contains(word));
    let help = if says(&["denied", "unauthorized", "authentication", "no basic auth"]) {
        "the registry wants another login, or there is no such image: `docker login` as the user of the supervisor, and \
         look whether `image` in the profile is right"
            .to_owned()
    } else if says(&["manifest unknown", "manifest for", "not found"]) {
        "the registry has no such image: look whether name and tag of `image` in the profile are right".to_owned()
    } else {
        format!(
            "on a machine with a connection `docker pull {image}` and `docker save {image} -o image.tar`, here \
             `docker load -i image.tar`; or set `image` in the profile to one that `docker images` lists"
        )
    };
    Problem::new(Code::ImageUnavailable, message).help(help)
}

/// Pulls, with the login that the docker client has for the registry.
async fn pull(link: &Link, reference: &str, progress: Progress<'_>) -> Result<(), Problem> {
    let (name, tag) = split(reference);
    let options = CreateImageOptionsBuilder::new().from_image(name).tag(tag).build();
    progress(&format!("pulling {reference}"));
    let (login, remark) = credentials::of(reference).await;
    let with_remark = |mut problem: Problem| {
        if let Some(remark) = &remark {
            problem.message.push_str(&format!("; {remark}"));
        }
        problem
    };
    let mut lines = link.docker.create_image(Some(options), None, login).boxed();
    let what = "pull it";
    let mut layers = Layers::default();
    let mut patience = FIRST_WORD;
    loop {
        let next = tokio::time::timeout(patience, lines.next()).await;
        let line = match next {
            Err(_) => return Err(with_remark(failure::too_late(&link.address, what, patience))),
            Ok(None) => return Ok(()),
            Ok(Some(Err(error))) => {
                return Err(with_remark(failure::explain(&link.address, what, &error).problem));
            }
            Ok(Some(Ok(line))) => line,
        };
        patience = STALLED;
        if let Some(text) = layers.take(line.id, line.status.as_deref(), line.progress_detail) {
            progress(&format!("pulling {reference}: {text}"));
        }
    }
}

/// A reference as the daemon wants it to be pulled. Without a tag it would pull all there are.
fn split(reference: &str) -> (&str, &str) {
    if reference.contains('@') {
        return (reference, "");
    }
    match reference.rsplit_once(':') {
        Some((name, tag)) if !tag.contains('/') => (name, tag),
        _ => (reference, "latest"),
    }
}

/// What has come of each layer.
#[derive(Default)]
pub struct Layers {
    bytes: BTreeMap<String, (i64, i64)>,
    said: String,
}

impl Layers {
    /// Takes in one line of a pull, and gives back what is new to say.
    pub fn take(&mut self, id: Option<String>, status: Option<&str>, detail: Option<ProgressDetail>) -> Option<String> {
        // What the daemon tries again by itself, every second one line.
        if let Some(status) = status.filter(|status| status.starts_with("Retrying")) {
            return Some(status.to_lowercase());
        }
        let (layer, detail) = (id?, detail?);
        if status != Some("Downloading") {
            return None;
        }
        self.bytes.insert(layer, (detail.current?, detail.total?));
        let megabytes = |bytes: i64| format!("{}.{}", bytes / 1_000_000, bytes / 100_000 % 10);
        let (done, all) = self.bytes.values().fold((0, 0), |sum, layer| (sum.0 + layer.0, sum.1 + layer.1));
        let text = format!("{} of {} MB", megabytes(done), megabytes(all));
        (text != self.said).then(|| {
            self.said.clone_from(&text);
            text
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_reference_without_a_tag_means_the_latest() {
        assert_eq!(split("busybox"), ("busybox", "latest"));
        assert_eq!(split("box:5000/me/it"), ("box:5000/me/it", "latest"));
        assert_eq!(split("box:5000/me/it:2"), ("box:5000/me/it", "2"));
        assert_eq!(split("it@sha256:00"), ("it@sha256:00", ""));
    }

    #[test]
    fn progress_is_said_when_it_changes_and_as_one_sum() {
        let mut layers = Layers::default();
        let mut take = |layer: &str, current, total| {
            let detail = ProgressDetail { current: Some(current), total: Some(total) };
            layers.take(Some(layer.to_owned()), Some("Downloading"), Some(detail))
        };
        assert_eq!(take("a", 2_300_000, 21_000_000).as_deref(), Some("2.3 of 21.0 MB"));
        assert_eq!(take("a", 2_300_001, 21_000_000), None);
        assert_eq!(take("b", 10_000_000, 10_000_000).as_deref(), Some("12.3 of 31.0 MB"));
        assert_eq!(layers.take(None, None, None), None);
        assert_eq!(layers.take(None, Some("Retrying in 5 seconds"), None).as_deref(), Some("retrying in 5 seconds"));
    }

    #[test]
    fn an_image_that_cannot_be_had_comes_with_what_to_do() {
        for (reason, help) in [
            ("no route", "docker load"),
            ("pull access denied for it", "docker login"),
            ("manifest unknown", "name and tag"),
        ] {
            let problem = unavailable("python:3", reason);
            assert_eq!(problem.code, Code::ImageUnavailable);
            assert!(problem.message.contains("python:3") && problem.message.contains(reason), "{problem}");
            assert!(problem.help.contains(help) && problem.help.contains("`image`"), "{problem}");
        }
    }
}
