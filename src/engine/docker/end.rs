//! Taking sandboxes down, and the guard that does it for those that never came up.

use std::time::Duration;

use bollard::models::{ContainerStateStatusEnum as Status, ContainerUpdateBody};
use bollard::query_parameters::{InspectContainerOptions, KillContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use brig_core::problem::Problem;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::failure::Failure;
use super::link::{Link, QUICK};
use super::{Shared, lock, podman};

/// How long a container that may yet appear is waited for: a create request whose answer nobody waited for.
const MAY_APPEAR: Duration = Duration::from_secs(20);
/// How long one that should end, or be removed, by itself is given for that.
const ON_ITS_WAY: Duration = Duration::from_secs(5);
/// Between two looks.
const PAUSE: Duration = Duration::from_millis(50);
/// Between two looks at what may not be there at all.
const LONGEST_PAUSE: Duration = Duration::from_secs(1);

/// See [`crate::engine::Engine::kill`].
pub async fn kill(shared: &Shared, container: &str) -> Result<(), Problem> {
    let link = shared.link().await?;
    // Forty spinning processes with a tenth of a CPU take seconds to notice that they are dead, as each has to run
    // once to die. Without the quota it is a tenth of a second.
    if !lock(&shared.unthrottled).contains(container) {
        if link.is_podman {
            podman::lift_quota(link, container).await;
        } else {
            let lifted = ContainerUpdateBody { cpu_quota: Some(-1), ..ContainerUpdateBody::default() };
            let lifting = link.docker.update_container(container, lifted);
            match Box::pin(link.call("lift a sandbox's CPU quota", Duration::from_secs(3), lifting)).await {
                Err(failure) if failure.is_gone() => return Ok(()),
                // Killing matters more than killing fast.
                _ => {}
            }
        }
    }
    let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    let killing = link.docker.kill_container(container, Some(options));
    match link.call("kill a sandbox", QUICK, killing).await {
        Ok(()) => Ok(()),
        Err(failure) if failure.is_gone() => Ok(()),
        // It is not running (created, ended, just being removed), or the daemon lost patience.
        Err(_) => Ok(see_off(link, container, Phase::Created).await?),
    }
}

/// How far a container has come, as far as is known here.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Phase {
    /// It was asked for, and may yet appear.
    Expected,
    /// The daemon has made it.
    Created,
    /// The daemon was asked to start it.
    Starting,
}

/// Brings a container that is not to live to its end.
///
/// The daemon removes a sandbox by itself when it ends. Removing it by force at the same moment, or while it starts,
/// can leave Docker 20.10 with an entry in its list that nothing removes but a restart of the daemon. So what is on its
/// way is given time, and force is for what stays.
async fn see_off(link: &Link, container: &str, phase: Phase) -> Result<(), Failure> {
    let begun = Instant::now();
    let mut pause = PAUSE;
    loop {
        let state = match status(link, container).await {
            Ok(status) => status,
            Err(failure) if failure.is_gone() && phase != Phase::Expected => return Ok(()),
            Err(failure) if failure.is_gone() && begun.elapsed() > MAY_APPEAR => return Ok(()),
            Err(failure) if failure.is_gone() => {
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(LONGEST_PAUSE);
                continue;
            }
            Err(failure) => return Err(failure),
        };
        let is_on_its_way = match state {
            Some(Status::CREATED | Status::RUNNING) => phase == Phase::Starting,
            Some(Status::REMOVING | Status::EXITED | Status::DEAD) => true,
            _ => false,
        };
        if !is_on_its_way || begun.elapsed() > ON_ITS_WAY {
            match remove(link, container).await {
                Err(failure) if failure.is_conflict() && begun.elapsed() < 2 * ON_ITS_WAY => {}
                Err(failure) if !failure.is_gone() => return Err(failure),
                _ => return Ok(()),
            }
        }
        tokio::time::sleep(PAUSE).await;
    }
}

/// What a container is doing, if the daemon says it.
async fn status(link: &Link, container: &str) -> Result<Option<Status>, Failure> {
    if link.is_podman {
        return podman::status(link, container).await;
    }
    let looking = link.docker.inspect_container(container, None::<InspectContainerOptions>);
    let seen = Box::pin(link.call("look at a sandbox", QUICK, looking)).await?;
    Ok(seen.state.and_then(|state| state.status))
}

/// Removes a container, dead or alive, with its anonymous volumes.
pub async fn remove(link: &Link, container: &str) -> Result<(), Failure> {
    let options = RemoveContainerOptionsBuilder::new().force(true).v(true).build();
    link.call("remove a sandbox", QUICK, link.docker.remove_container(container, Some(options))).await
}

/// Removes a container when it is dropped, unless it is kept: for whatever ends the making of one halfway, the
/// dropping of its future included.
pub struct Leftover {
    link: Link,
    /// Its name, or its identifier once that is known.
    container: Option<String>,
    phase: Phase,
    runtime: Option<Handle>,
}

impl Leftover {
    /// A container that is about to be asked for.
    pub fn expected(link: Link, name: String) -> Self {
        Self { link, container: Some(name), phase: Phase::Expected, runtime: Handle::try_current().ok() }
    }

    /// The daemon has made it.
    pub fn created(mut self, id: String) -> Self {
        self.container = Some(id);
        self.phase = Phase::Created;
        self
    }

    /// The daemon is about to be asked to start it.
    pub fn starting(&mut self) {
        self.phase = Phase::Starting;
    }

    /// Removes it now, and waits for that. What cannot be removed keeps its labels, by which it is found again.
    pub async fn clear(mut self) {
        if let Some(container) = self.container.as_deref() {
            let _ = see_off(&self.link, container, self.phase).await;
        }
        self.container = None;
    }

    /// It stays, or it was removed in another way.
    pub fn keep(mut self) {
        self.container = None;
    }
}

impl Drop for Leftover {
    fn drop(&mut self) {
        // Without a runtime the process is ending: the labels say whose it is, and the next supervisor looks.
        if let (Some(container), Some(runtime)) = (self.container.take(), self.runtime.take()) {
            let (link, phase) = (self.link.clone(), self.phase);
            runtime.spawn(async move { see_off(&link, &container, phase).await });
        }
    }
}
