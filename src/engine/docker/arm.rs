//! From a specification to a sandbox that waits for its request: create, attach, start, and hear that init is armed.

use std::path::Path;
use std::pin::Pin;
use std::sync::{Arc, Weak};
use std::task::{Context, Poll};
use std::time::Duration;

use bollard::query_parameters::{CreateContainerOptionsBuilder, InspectContainerOptions, StartContainerOptions};
use brig_core::id::SandboxId;
use brig_core::problem::{Code, Problem};
use brig_core::profile::SandboxSpec;
use brig_core::proposal::OutputStream;
use bytes::Bytes;
use futures_util::stream::{Stream, StreamExt as _};

use super::attach::{self, Output};
use super::create::{self, Surroundings};
use super::end::Leftover;
use super::failure::Failure;
use super::link::{Link, QUICK, SLOW};
use super::meter::CgroupMeter;
use super::{Shared, images, init_volume, lock, podman};
use crate::engine::{ArmedSandbox, Meter};

/// From the daemon's "started" to init's "armed". Init itself gives its interpreters 20 s.
const ARMING: Duration = Duration::from_secs(30);

/// See [`crate::engine::Engine::arm`]. Dropping the future at any point leaves nothing behind either.
pub async fn arm(shared: &Arc<Shared>, id: &SandboxId, spec: Arc<SandboxSpec>) -> Result<ArmedSandbox, Problem> {
    match Box::pin(make(shared, id, &spec)).await {
        Err(problem) if init_volume::is_missing(&problem) => {
            init_volume::forget(shared).await;
            Box::pin(make(shared, id, &spec)).await
        }
        made => made,
    }
}

async fn make(shared: &Arc<Shared>, id: &SandboxId, spec: &SandboxSpec) -> Result<ArmedSandbox, Problem> {
    let link = shared.link().await?;
    sources_are_as_approved(link, spec)?;
    let facts = images::facts(shared, link, &spec.image.id).await?;
    let init_volume = init_volume::ensure(shared, link, &spec.image.id).await?;
    let around = Surroundings {
        settings: &shared.settings,
        init_volume: &init_volume,
        seccomp: &shared.seccomp,
        cgroup_version: link.info.cgroup_version,
        image_volumes: &facts.volumes,
        image_environment: &facts.environment,
    };
    let mut body = create::request(id, spec, &around)?;
    if link.is_podman {
        let seccomp = podman::seccomp_file(&shared.settings.files, &shared.seccomp).await?;
        podman::adapt(&mut body, &spec.cage, &seccomp)?;
    }

    let name = format!("brig-{}-{id}", shared.settings.install);
    let leftover = Leftover::expected(link.clone(), name.clone());
    let options = CreateContainerOptionsBuilder::new().name(&name).build();
    let creating = link.docker.create_container(Some(options), body);
    let created = match Box::pin(link.call("create a sandbox", SLOW, creating)).await {
        Ok(created) => created,
        Err(failure) => {
            // The daemon has refused, so there is nothing; and a taken name belongs to somebody else.
            if failure.status.is_some() {
                leftover.keep();
            }
            return Err(match missing_source(spec, &failure) {
                Some(problem) => problem,
                None if failure.is_gone() => images::removed(&spec.image.id),
                None => failure.into(),
            });
        }
    };
    let mut leftover = leftover.created(created.id.clone());

    let armed = bring_up(shared, link, spec, &created.id, &mut leftover).await;
    match armed.and_then(|armed| sources_are_as_approved(link, spec).map(|()| armed)) {
        Ok(armed) => {
            leftover.keep();
            Ok(armed)
        }
        Err(problem) => {
            leftover.clear().await;
            Err(problem)
        }
    }
}

/// The daemon follows links when it mounts, and what was approved is a path without any: looked at before and after, as whoever
/// can write beside a source could lead the daemon elsewhere. Only where the daemon's paths are this machine's.
fn sources_are_as_approved(link: &Link, spec: &SandboxSpec) -> Result<(), Problem> {
    if !link.is_local() {
        return Ok(());
    }
    spec.cage.volumes.iter().try_for_each(|volume| source_is_as_approved(&spec.profile, &volume.source))
}

fn source_is_as_approved(profile: &str, source: &str) -> Result<(), Problem> {
    let path = Path::new(source);
    // What is not there is for the daemon to say.
    let Ok(found) = path.canonicalize() else { return Ok(()) };
    let refused = |what: &str, help: &str| {
        let message = format!("profile `{profile}` mounts {source}, which {what}");
        Err(Problem::new(Code::EngineRefused, message).help(help))
    };
    if found != path {
        let help = "put back what was there, or write the profile anew, so that it is approved as what it is now";
        return refused(&format!("leads to {} now", found.display()), help);
    }
    match path.metadata() {
        Ok(facts) if !facts.is_dir() && !facts.is_file() => {
            refused("is neither a directory nor a file", "a socket or a device is not for a sandbox: mount data")
        }
        _ => Ok(()),
    }
}

/// A volume whose source is not there, which the daemon says in words alone.
fn missing_source(spec: &SandboxSpec, failure: &Failure) -> Option<Problem> {
    let (_, rest) = failure.problem.message.split_once("bind source path does not exist: ")?;
    let volume = spec.cage.volumes.iter().find(|volume| rest.starts_with(&volume.source))?;
    let message = format!("profile `{}` mounts {}, which is not there", spec.profile, volume.source);
    Some(Problem::new(Code::EngineRefused, message).help("make it on the daemon's machine, or change `volumes`"))
}

/// Attaches, starts, and listens.
async fn bring_up(
    shared: &Arc<Shared>,
    link: &Link,
    spec: &SandboxSpec,
    container: &str,
    leftover: &mut Leftover,
) -> Result<ArmedSandbox, Problem> {
    let (stdin, output) = attach::attach(link, container).await?;
    leftover.starting();
    let starting = link.docker.start_container(container, None::<StartContainerOptions>);
    link.call("start a sandbox", SLOW, starting).await?;
    let (output, meter) = tokio::join!(hear(link, output), meter(link, container));
    let output = output?;
    if link.is_podman {
        podman::verify(&spec.cage, meter.as_ref().and_then(|meter| meter.read()))?;
    }
    if spec.cage.milli_cpus == 0 {
        lock(&shared.unthrottled).insert(container.to_owned());
    }
    let output = Remembered { output, shared: Arc::downgrade(shared), container: container.to_owned() };
    Ok(ArmedSandbox { engine_id: container.to_owned(), stdin: Box::pin(stdin), output: output.boxed(), meter })
}

async fn hear(link: &Link, output: Output) -> Result<Output, Problem> {
    tokio::time::timeout(ARMING, attach::armed(output)).await.unwrap_or_else(|_| {
        let message = format!("the sandbox's init was not armed within {} s", ARMING.as_secs());
        Err(Problem::new(Code::EngineTimeout, message)
            .help(format!("see whether the machine of {} is overloaded", link.address)))
    })
}

/// The meter, if the sandbox's processes are this machine's. That it cannot be had is no failure of the sandbox.
async fn meter(link: &Link, container: &str) -> Option<Box<dyn Meter>> {
    if !link.is_local() {
        return None;
    }
    let inspecting = link.docker.inspect_container(container, None::<InspectContainerOptions>);
    let inspected = Box::pin(link.call("look at a sandbox", QUICK, inspecting)).await.ok()?;
    let pid = u32::try_from(inspected.state?.pid?).ok().filter(|pid| *pid != 0)?;
    let container = container.to_owned();
    let opened = tokio::task::spawn_blocking(move || CgroupMeter::open(pid, &container));
    Some(Box::new(opened.await.ok()??))
}

/// A sandbox's output. When nobody reads it any more, what was remembered for killing it is forgotten.
struct Remembered {
    output: Output,
    shared: Weak<Shared>,
    container: String,
}

impl Stream for Remembered {
    type Item = Result<(OutputStream, Bytes), Problem>;

    fn poll_next(mut self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<Option<Self::Item>> {
        self.output.poll_next_unpin(cx)
    }
}

impl Drop for Remembered {
    fn drop(&mut self) {
        if let Some(shared) = self.shared.upgrade() {
            lock(&shared.unthrottled).remove(&self.container);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_source_that_became_a_link_or_a_socket_is_not_mounted() {
        let folder = tempfile::tempdir().unwrap();
        let place = folder.path().canonicalize().unwrap();
        let source = place.join("data");
        let look = || source_is_as_approved("p", source.to_str().unwrap());
        assert!(look().is_ok(), "what is not there is said by the daemon");
        std::fs::create_dir(&source).unwrap();
        assert!(look().is_ok());
        std::fs::remove_dir(&source).unwrap();
        std::os::unix::fs::symlink("/etc", &source).unwrap();
        let problem = look().unwrap_err();
        assert!(problem.message.contains("leads to /etc now"), "{problem}");
        std::fs::remove_file(&source).unwrap();
        let _listener = std::os::unix::net::UnixListener::bind(&source).unwrap();
        let problem = look().unwrap_err();
        assert!(problem.message.contains("neither a directory nor a file"), "{problem}");
    }
}
