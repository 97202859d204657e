//! The volume that carries init into every sandbox.
//!
//! Each installation has one for each version of init, named by init's hash. It is filled through a container that is
//! created and never started, which works with a daemon anywhere. An upload cannot be made atomic there, so the volume
//! is never believed: each supervisor reads init back and compares it before the first sandbox starts from it. The
//! container's name serves as the lock between two supervisors that do this at once.

use std::collections::HashMap;
use std::io::Read as _;
use std::time::Duration;

use bollard::models::{
    ContainerCreateBody, HostConfig, Mount, MountType, MountVolumeOptions, Volume, VolumeCreateRequest,
};
use bollard::query_parameters::{
    CreateContainerOptionsBuilder, DownloadFromContainerOptionsBuilder, ListVolumesOptionsBuilder, RemoveVolumeOptions,
    UploadToContainerOptionsBuilder,
};
use brig_core::problem::{Code, Problem};
use bytes::{Bytes, BytesMut};
use futures_util::stream::StreamExt as _;
use tokio::time::Instant;

use super::create::{INIT_DIRECTORY, INIT_PATH, label, owned_labels};
use super::end::{self, Leftover};
use super::failure::{self, Failure};
use super::link::{Link, QUICK, SLOW};
use super::{DockerSettings, INIT, INIT_HASH, Shared};

/// A container that still holds the lock after this long was left by a supervisor that died.
const LOCK_AGE: Duration = Duration::from_secs(20);
/// How long a sandbox waits for another one's arming to fill the volume.
const OTHERS: Duration = Duration::from_secs(60);
/// How often an upload is repeated that does not come out right.
const ATTEMPTS: u32 = 3;

/// Makes sure that the volume is there and holds init, and gives back its name. It is looked at once in an engine's
/// life, unless [`forget`] says otherwise. `image` is any image that the daemon has: a container cannot be created
/// without one.
pub async fn ensure(shared: &Shared, link: &Link, image: &str) -> Result<String, Problem> {
    let name = name(&shared.settings);
    let Ok(mut is_filled) = tokio::time::timeout(OTHERS, shared.init_volume.lock()).await else {
        return Err(failure::too_late(&link.address, "fill the volume for init", OTHERS));
    };
    if !*is_filled {
        Box::pin(fill(&shared.settings, link, image, &name)).await?;
        remove_all(&shared.settings, link, Some(&name)).await;
        *is_filled = true;
    }
    Ok(name)
}

/// Whether a sandbox could not start because init was not there: somebody has removed the volume, which the daemon
/// allows as long as no sandbox uses it, and then makes an empty one of the same name.
pub fn is_missing(problem: &Problem) -> bool {
    problem.code == Code::EngineRefused && problem.message.contains(INIT_PATH)
}

/// The volume has to be looked at again.
pub async fn forget(shared: &Shared) {
    *shared.init_volume.lock().await = false;
}

/// Removes every volume of this installation but `except`. Best effort: the daemon refuses those that are in use.
pub async fn remove_all(settings: &DockerSettings, link: &Link, except: Option<&str>) {
    let filters =
        HashMap::from([("label", vec![format!("{}={}", label::INSTALL, settings.install), label::INIT.to_owned()])]);
    let options = ListVolumesOptionsBuilder::new().filters(&filters).build();
    let listing = link.docker.list_volumes(Some(options));
    let Ok(listed) = link.call("list volumes", QUICK, listing).await else { return };
    for volume in listed.volumes.unwrap_or_default() {
        if except != Some(volume.name.as_str()) {
            let removing = link.docker.remove_volume(&volume.name, None::<RemoveVolumeOptions>);
            let _ = link.call("remove an old volume", QUICK, removing).await;
        }
    }
}

/// What this installation's volume is called.
pub fn name(settings: &DockerSettings) -> String {
    format!("brig-{}-init-{}", settings.install, &INIT_HASH.hex()[..12])
}

async fn fill(settings: &DockerSettings, link: &Link, image: &str, name: &str) -> Result<(), Problem> {
    let mut labels = owned_labels(settings);
    labels.insert(label::INIT.to_owned(), INIT_HASH.hex());
    // One that exists with this name is given back as it is.
    let volume = create(link, name, &labels).await?;
    if !volume.labels.contains_key(label::INIT) {
        // The daemon made this one by itself. Without labels nobody would ever remove it.
        let removing = link.docker.remove_volume(name, None::<RemoveVolumeOptions>);
        let _ = link.call("remove a volume without labels", QUICK, removing).await;
        create(link, name, &labels).await?;
    }

    let helper = lock(link, name, || helper(image, name, labels.clone())).await?;
    for _ in 0..ATTEMPTS {
        if holds_init(link, name).await? {
            helper.clear().await;
            return Ok(());
        }
        let options = UploadToContainerOptionsBuilder::new().path(INIT_DIRECTORY).build();
        let body = bollard::body_full(archive()?);
        let uploading = link.docker.upload_to_container(name, Some(options), body);
        link.call("fill the volume for init", SLOW, uploading).await?;
    }
    helper.clear().await;
    let message = format!("the volume {name} does not hold init after {ATTEMPTS} uploads");
    Err(Problem::new(Code::EngineProtocol, message).help("see whether the daemon's disk is full or broken"))
}

async fn create(link: &Link, name: &str, labels: &HashMap<String, String>) -> Result<Volume, Problem> {
    let volume = VolumeCreateRequest {
        name: Some(name.to_owned()),
        labels: Some(labels.clone()),
        ..VolumeCreateRequest::default()
    };
    Ok(link.call("create the volume for init", QUICK, link.docker.create_volume(volume)).await?)
}

/// A container that mounts the volume and never starts.
fn helper(image: &str, volume: &str, labels: HashMap<String, String>) -> ContainerCreateBody {
    let mount = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(volume.to_owned()),
        target: Some(INIT_DIRECTORY.to_owned()),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    };
    ContainerCreateBody {
        image: Some(image.to_owned()),
        entrypoint: Some(vec![INIT_PATH.to_owned()]),
        labels: Some(labels),
        network_disabled: Some(true),
        host_config: Some(HostConfig {
            mounts: Some(vec![mount]),
            network_mode: Some("none".to_owned()),
            ..HostConfig::default()
        }),
        ..ContainerCreateBody::default()
    }
}

/// Creates the container of this name, waiting for another supervisor that has it to be done.
async fn lock(link: &Link, name: &str, body: impl Fn() -> ContainerCreateBody) -> Result<Leftover, Problem> {
    let begun = Instant::now();
    loop {
        let leftover = Leftover::expected(link.clone(), name.to_owned());
        let options = CreateContainerOptionsBuilder::new().name(name).build();
        let creating = link.docker.create_container(Some(options), body());
        match Box::pin(link.call("create a container to fill the volume for init", SLOW, creating)).await {
            Ok(created) => return Ok(leftover.created(created.id)),
            Err(failure) if failure.is_conflict() => leftover.keep(),
            Err(failure) => {
                if failure.status.is_some() {
                    leftover.keep();
                }
                return Err(failure.into());
            }
        }
        if begun.elapsed() > LOCK_AGE {
            let _ = end::remove(link, name).await;
        }
        if begun.elapsed() > 2 * LOCK_AGE {
            let message = format!("the container {name} is in the way of filling the volume for init");
            return Err(Problem::new(Code::EngineTimeout, message).help(format!("`docker rm -f {name}`")));
        }
        tokio::time::sleep(Duration::from_millis(50)).await;
    }
}

/// Reads init back and compares every byte.
async fn holds_init(link: &Link, helper: &str) -> Result<bool, Problem> {
    let reading = async {
        let options = DownloadFromContainerOptionsBuilder::new().path(INIT_PATH).build();
        let mut pieces = link.docker.download_from_container(helper, Some(options)).boxed();
        let mut archive = BytesMut::new();
        while let Some(piece) = pieces.next().await {
            archive.extend_from_slice(&piece?);
            if archive.len() > INIT.len() + (1 << 20) {
                break;
            }
        }
        Ok(archive.freeze())
    };
    match link.call("read init back from its volume", SLOW, reading).await {
        Ok(archive) => Ok(is_init(&archive)),
        Err(Failure { status: Some(404), .. }) => Ok(false),
        Err(failure) => Err(failure.into()),
    }
}

/// Whether an archive holds exactly init, as a file that can be executed and that nobody can change.
fn is_init(archive: &[u8]) -> bool {
    let mut archive = tar::Archive::new(archive);
    let Some(Ok(mut entry)) = archive.entries().ok().and_then(|mut entries| entries.next()) else { return false };
    let mut content = Vec::with_capacity(INIT.len());
    let is_plain =
        entry.header().entry_type().is_file() && entry.header().mode().is_ok_and(|mode| mode & 0o777 == MODE);
    is_plain && entry.read_to_end(&mut content).is_ok() && content == INIT
}

const MODE: u32 = 0o555;

fn archive() -> Result<Bytes, Problem> {
    let build = || -> std::io::Result<Vec<u8>> {
        let mut archive = tar::Builder::new(Vec::with_capacity(INIT.len() + 4096));
        let mut header = tar::Header::new_gnu();
        header.set_size(INIT.len() as u64);
        header.set_mode(MODE);
        archive.append_data(&mut header, "brig-init", INIT)?;
        archive.into_inner()
    };
    let failed = |error: std::io::Error| Problem::new(Code::Internal, format!("cannot pack init: {error}"));
    build().map(Bytes::from).map_err(failed)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn init_is_recognized_only_whole_and_executable() {
        let whole = archive().unwrap();
        assert!(is_init(&whole));
        assert!(!is_init(&whole[..whole.len() / 2]), "half of it");
        assert!(!is_init(b""));
        let mut other = whole.to_vec();
        other[1000] ^= 1;
        assert!(!is_init(&other), "one bit of it");
    }
}
