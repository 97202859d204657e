//! What a person wants to know of a daemon before anything runs on it: for `brig doctor`. Nothing is made here.

use std::collections::HashMap;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use bollard::models::ContainerSummaryStateEnum;
use bollard::query_parameters::{InspectContainerOptions, ListContainersOptionsBuilder};
use brig_core::problem::Problem;
use brig_core::profile::Cage;
use chrono::DateTime;
use schemars::JsonSchema;
use serde::Serialize;

use super::create::label;
use super::link::{self, Link, QUICK};
use super::meter::CgroupMeter;
use super::{DockerEngine, images, init_volume, podman};

/// Where the daemon is looked for, and why there.
#[derive(Clone, Debug)]
pub struct Whereabouts {
    /// As in `unix:///var/run/docker.sock`.
    pub address: String,
    /// What protects the connection, in words.
    pub protection: &'static str,
    /// What says that it is there.
    pub origin: String,
    /// Whoever reaches the address is as mighty as root there.
    pub open_to_all: bool,
}

/// What a daemon says of itself.
#[derive(Clone, Debug, Serialize, JsonSchema)]
pub struct EngineFacts {
    /// As in `Docker 20.10.24`.
    pub name: String,
    /// As in `1.41`.
    pub api_version: String,
    /// As in `unix:///var/run/docker.sock`.
    pub address: String,
    /// What says that it is there, as in `DOCKER_HOST`.
    pub origin: String,
    /// Whether it may be on this machine, by its address.
    pub is_local: bool,
    /// Its machine's system, as in `Debian GNU/Linux 12 (bookworm)`.
    pub system: String,
    /// Its machine's processor, as in `x86_64`.
    pub processor: String,
    /// `1` or `2`.
    pub cgroup_version: u8,
    /// As in `overlay2`.
    pub storage: String,
    /// Those that a profile's `runtime` can name.
    pub runtimes: Vec<String>,
    /// The one that is taken where a profile names none.
    pub default_runtime: String,
    /// What it says of security: seccomp, AppArmor, user namespaces.
    pub security: Vec<String>,
    /// CPUs it can use.
    pub cpus: u32,
    /// Bytes of memory it has.
    pub memory: u64,
    /// How far its clock is ahead of this machine's, in milliseconds.
    pub clock_ahead_ms: Option<i64>,
    /// Why brig cannot keep its promises there, if it cannot.
    pub unsupported: Option<Problem>,
}

/// Where an image would come from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ImageFound {
    /// The daemon has it.
    Here,
    /// Its registry has it.
    Pullable,
    /// It is built from the profile's own files.
    Buildable,
    /// It cannot be had, and the profile allows one of this machine's own programs in its place.
    Userland {
        /// Why it cannot be had.
        reason: String,
    },
}

impl DockerEngine {
    /// Where the daemon is looked for.
    #[must_use]
    pub fn located(&self) -> Whereabouts {
        let address = &self.shared.address;
        Whereabouts {
            address: address.to_string(),
            protection: address.protection(),
            origin: self.shared.origin.clone(),
            open_to_all: matches!(address, super::Address::Tcp(_)),
        }
    }

    /// What the daemon says of itself, whether or not brig can work with it.
    ///
    /// # Errors
    /// When it is not reached, or its answer is not understood.
    pub async fn facts(&self) -> Result<EngineFacts, Problem> {
        let address = &self.shared.address;
        let begun = SystemTime::now();
        let (version, info) = link::describe(address).await?;
        let took = begun.elapsed().unwrap_or_default();
        let unsupported = link::check(address, &version, &info).err();
        let known = link::summary(address, &version, &info);
        let mut runtimes: Vec<String> = info.runtimes.unwrap_or_default().into_keys().collect();
        if podman::is_it(&version) {
            // It lists what it has heard of, and takes one for all.
            runtimes = info.default_runtime.iter().cloned().collect();
        }
        runtimes.sort();
        Ok(EngineFacts {
            name: known.name,
            api_version: known.api_version,
            address: known.address,
            origin: self.shared.origin.clone(),
            is_local: address.is_local(),
            system: info.operating_system.unwrap_or_default(),
            processor: info.architecture.unwrap_or_default(),
            cgroup_version: known.cgroup_version,
            storage: info.driver.unwrap_or_default(),
            runtimes,
            default_runtime: info.default_runtime.unwrap_or_default(),
            security: info.security_options.unwrap_or_default(),
            cpus: known.cpus,
            memory: known.memory,
            // Between the question and the answer, so half of that time belongs to neither.
            clock_ahead_ms: info.system_time.and_then(|text| ahead(&text, begun + took / 2)),
            unsupported,
        })
    }

    /// Whether init's volume is there already.
    ///
    /// # Errors
    /// When the daemon does not say.
    pub async fn has_init_volume(&self) -> Result<bool, Problem> {
        let link = self.shared.link().await?;
        let name = init_volume::name(&self.shared.settings);
        let looking = link.docker.inspect_volume(&name);
        match Box::pin(link.call("look for init's volume", QUICK, looking)).await {
            Ok(_) => Ok(true),
            Err(failure) if failure.is_gone() => Ok(false),
            Err(failure) => Err(failure.into()),
        }
    }

    /// Where an image would come from. Nothing is pulled.
    ///
    /// # Errors
    /// `image_unavailable` when it can be had from nowhere.
    pub async fn find_image(&self, cage: &Cage) -> Result<ImageFound, Problem> {
        let link = self.shared.link().await?;
        if images::find(&self.shared, link, &cage.image).await?.is_some() {
            return Ok(ImageFound::Here);
        }
        if cage.build.is_some() {
            return Ok(ImageFound::Buildable);
        }
        let asking = link.docker.inspect_registry_image(&cage.image, None);
        let reason = match Box::pin(link.call("ask its registry", Duration::from_secs(20), asking)).await {
            Ok(_) => return Ok(ImageFound::Pullable),
            Err(failure) => failure.problem.message,
        };
        if cage.userland_fallback && link.is_local() {
            return Ok(ImageFound::Userland { reason });
        }
        Err(images::unavailable(&cage.image, &reason))
    }

    /// Whether the control groups of containers can be read from here: proven where a sandbox runs, else judged by
    /// whether the daemon's own process is of this machine.
    pub async fn reads_cgroups(&self) -> bool {
        let Ok(link) = self.shared.link().await else { return false };
        if !link.is_local() {
            return false;
        }
        match self.some_container(link).await {
            Some((pid, id)) => CgroupMeter::open(pid, &id).is_some(),
            None => link.serves_here().await,
        }
    }

    /// The first process of a running sandbox of this installation.
    async fn some_container(&self, link: &Link) -> Option<(u32, String)> {
        let filters = HashMap::from([("label", vec![format!("{}={}", label::INSTALL, self.shared.settings.install)])]);
        let options = ListContainersOptionsBuilder::new().filters(&filters).build();
        let listing = link.docker.list_containers(Some(options));
        let all = Box::pin(link.call("list the sandboxes", QUICK, listing)).await.ok()?;
        let running = all.into_iter().find(|one| one.state == Some(ContainerSummaryStateEnum::RUNNING));
        let id = running?.id?;
        let looking = link.docker.inspect_container(&id, None::<InspectContainerOptions>);
        let seen = Box::pin(link.call("look at a sandbox", QUICK, looking)).await.ok()?;
        Some((u32::try_from(seen.state?.pid?).ok().filter(|pid| *pid != 0)?, id))
    }
}

fn ahead(theirs: &str, ours: SystemTime) -> Option<i64> {
    let theirs = DateTime::parse_from_rfc3339(theirs).ok()?.timestamp_millis();
    let ours = i64::try_from(ours.duration_since(UNIX_EPOCH).ok()?.as_millis()).ok()?;
    Some(theirs - ours)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clocks_are_compared_with_their_sign() {
        let ours = UNIX_EPOCH + Duration::from_secs(1_000);
        assert_eq!(ahead("1970-01-01T00:16:43.5Z", ours), Some(3_500));
        assert_eq!(ahead("1970-01-01T01:16:39+01:00", ours), Some(-1_000));
        assert_eq!(ahead("soon", ours), None);
    }
}
