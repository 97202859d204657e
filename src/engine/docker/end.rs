//! Taking sandboxes down, and the guard that does it for those that never came up.

use std::time::Duration;

use bollard::models::ContainerUpdateBody;
use bollard::query_parameters::{KillContainerOptionsBuilder, RemoveContainerOptionsBuilder};
use brig_core::problem::Problem;
use tokio::runtime::Handle;
use tokio::time::Instant;

use super::failure::Failure;
use super::link::{Link, QUICK};
use super::{Shared, lock};

/// How long a container that may yet appear is waited for: a create request whose answer nobody waited for.
const MAY_APPEAR: Duration = Duration::from_secs(20);

/// See [`crate::engine::Engine::kill`].
pub async fn kill(shared: &Shared, container: &str) -> Result<(), Problem> {
    let link = shared.link().await?;
    // Forty spinning processes with a tenth of a CPU take seconds to notice that they are dead, as each has to run
    // once to die. Without the quota it is a tenth of a second.
    if !lock(&shared.unthrottled).contains(container) {
        let lifted = ContainerUpdateBody { cpu_quota: Some(-1), ..ContainerUpdateBody::default() };
        let lifting = link.docker.update_container(container, lifted);
        match Box::pin(link.call("lift a sandbox's CPU quota", Duration::from_secs(3), lifting)).await {
            Err(failure) if failure.is_gone() => return Ok(()),
            // Killing matters more than killing fast.
            _ => {}
        }
    }
    let options = KillContainerOptionsBuilder::new().signal("SIGKILL").build();
    let killing = link.docker.kill_container(container, Some(options));
    match link.call("kill a sandbox", QUICK, killing).await {
        Ok(()) => Ok(()),
        Err(failure) if failure.is_gone() => Ok(()),
        // It is not running (created, dead, just ending), or the daemon lost patience: then by force.
        Err(_) => match remove(link, container).await {
            Err(failure) if !failure.is_gone() && !failure.is_conflict() => Err(failure.into()),
            // A conflict is a removal that is going on.
            _ => Ok(()),
        },
    }
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
    /// Whether the daemon has said that it is there.
    is_certain: bool,
    runtime: Option<Handle>,
}

impl Leftover {
    /// A container that is about to be asked for.
    pub fn expected(link: Link, name: String) -> Self {
        Self { link, container: Some(name), is_certain: false, runtime: Handle::try_current().ok() }
    }

    /// The daemon has made it.
    pub fn certain(mut self, id: String) -> Self {
        self.container = Some(id);
        self.is_certain = true;
        self
    }

    /// Removes it now, and waits for that.
    pub async fn clear(mut self) {
        if let Some(container) = self.container.as_deref() {
            clear(&self.link, container, self.is_certain).await;
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
            let (link, is_certain) = (self.link.clone(), self.is_certain);
            runtime.spawn(async move { clear(&link, &container, is_certain).await });
        }
    }
}

async fn clear(link: &Link, container: &str, is_certain: bool) {
    let begun = Instant::now();
    let mut pause = Duration::from_millis(50);
    while begun.elapsed() < MAY_APPEAR {
        match remove(link, container).await {
            Ok(()) => return,
            Err(failure) if failure.is_gone() && is_certain => return,
            Err(_) => {}
        }
        tokio::time::sleep(pause).await;
        pause = (pause * 2).min(Duration::from_secs(2));
    }
}
