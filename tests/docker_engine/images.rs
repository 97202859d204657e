//! Where images come from, and init's volume.

use std::sync::Mutex;

use bollard::models::VolumeCreateRequest;
use bollard::query_parameters::{DownloadFromContainerOptionsBuilder, ListImagesOptionsBuilder, RemoveVolumeOptions};
use brig::engine::Engine as _;
use brig_core::problem::Code;
use brig_core::profile::{Cage, ImageSource};

use futures_util::StreamExt as _;

use crate::support::docker::{BOUND, Bed, cage, run, until, volumes};

#[tokio::test]
async fn an_image_that_cannot_be_had_is_one_clear_problem() {
    let bed = Bed::new();
    let cage = Cage { userland_fallback: false, ..cage() };
    let problem = bed.engine.resolve_image(&cage, &|_| ()).await.unwrap_err();
    assert_eq!(problem.code, Code::ImageUnavailable);
    assert!(problem.message.contains("brig.invalid/tests:1"), "{problem}");
    assert!(problem.help.contains("docker load"), "{problem}");
}

#[tokio::test]
async fn the_userland_is_made_once_and_only_where_the_profile_allows_it() {
    let bed = Bed::new();
    let lines = Mutex::new(Vec::new());
    let progress = |line: &str| lines.lock().unwrap().push(line.to_owned());
    let first = bed.engine.resolve_image(&cage(), &progress).await.unwrap();
    let second = bed.sibling().resolve_image(&cage(), &|_| ()).await.unwrap();
    assert_eq!((first.source, &first.id), (ImageSource::Userland, &second.id));
    assert!(lines.lock().unwrap()[0].contains("brig.invalid"), "{lines:?}");
    let filters = std::collections::HashMap::from([("label", vec!["brig.userland"]), ("dangling", vec!["true"])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let unnamed = bed.docker.list_images(Some(options)).await.unwrap();
    assert!(unnamed.iter().all(|image| image.id != first.id), "none is left without a name");
}

#[tokio::test]
async fn an_image_that_is_there_is_taken_as_it_is() {
    let bed = Bed::new();
    let id = bed.image().await.id;
    let found = bed.engine.resolve_image(&Cage { image: id.clone(), ..cage() }, &|_| ()).await.unwrap();
    assert_eq!((found.source, found.id), (ImageSource::Local, id));
}

#[tokio::test]
async fn an_image_that_was_removed_since_it_was_resolved_has_to_be_resolved_again() {
    let bed = Bed::new();
    let mut spec = (*bed.spec(cage()).await).clone();
    spec.image.id = format!("sha256:{}", "7".repeat(64));
    let problem = bed.engine.arm(&bed.id(), spec.into()).await.err().unwrap();
    assert_eq!(problem.code, Code::ImageUnavailable, "{problem}");
}

#[tokio::test]
async fn the_usual_tools_work_in_the_userland() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(cage()).await;
    let script = "seq 3 | xargs echo | tr ' ' + ; printf abc | sha256sum | cut -c1-8; tar cf t.tar /etc/passwd 2>/dev/null \
                  && tar tf t.tar; id -un; bash -c 'echo $((6*7))'; python3 -c 'import ssl, json, zlib; print(json.dumps(1))'";
    let ran = run(&mut sandbox, &["sh", "-c", script], b"").await;
    assert_eq!(ran.stdout, "1+2+3\nba7816bf\netc/passwd\nnobody\n42\n1\n", "{}", ran.stderr);
}

#[tokio::test]
async fn two_supervisors_fill_the_volume_at_once_and_both_get_sandboxes() {
    let bed = Bed::new();
    let spec = bed.spec(cage()).await;
    let (other, ids) = (bed.sibling(), [bed.id(), bed.id()]);
    let (first, second) = tokio::join!(bed.engine.arm(&ids[0], spec.clone()), other.arm(&ids[1], spec));
    assert!(first.is_ok() && second.is_ok(), "{:?} {:?}", first.err(), second.err());
    assert_eq!(volumes(&bed.docker, &bed.install).await.len(), 1);
    assert_eq!(bed.containers().await.len(), 2, "the container that filled it is gone");
}

#[tokio::test]
async fn a_volume_that_was_filled_halfway_is_filled_again() {
    let bed = Bed::new();
    drop(bed.arm(cage()).await);
    bed.gone(BOUND).await;
    spoil(&bed).await;
    let engine = bed.sibling();
    let sandbox = engine.arm(&bed.id(), bed.spec(cage()).await).await.expect("a sandbox from the mended volume");
    let options = DownloadFromContainerOptionsBuilder::new().path("/.brig/brig-init").build();
    let pieces: Vec<_> = bed.docker.download_from_container(&sandbox.engine_id, Some(options)).collect().await;
    let archive: usize = pieces.into_iter().map(|piece| piece.unwrap().len()).sum();
    assert!(archive > 100_000, "{archive} bytes");
}

#[tokio::test]
async fn a_volume_that_somebody_removed_is_made_again() {
    let bed = Bed::new();
    drop(bed.arm(cage()).await);
    bed.gone(BOUND).await;
    for volume in volumes(&bed.docker, &bed.install).await {
        bed.docker.remove_volume(&volume, None::<RemoveVolumeOptions>).await.unwrap();
    }
    bed.arm(cage()).await;
    assert_eq!(volumes(&bed.docker, &bed.install).await.len(), 1, "with its labels");
}

#[tokio::test]
async fn the_volume_of_an_older_init_is_removed_and_nobody_elses() {
    let (bed, other) = (Bed::new(), Bed::new());
    for (install, name) in [(&bed.install, "old"), (&other.install, "theirs")] {
        let labels = [("brig.install".to_owned(), install.clone()), ("brig.init".to_owned(), "0".to_owned())];
        let volume = VolumeCreateRequest {
            name: Some(format!("brig-{install}-init-{name}")),
            labels: Some(labels.into()),
            ..VolumeCreateRequest::default()
        };
        bed.docker.create_volume(volume).await.unwrap();
    }
    let _sandbox = bed.arm(cage()).await;
    let ours = volumes(&bed.docker, &bed.install).await;
    assert!(ours.len() == 1 && !ours[0].ends_with("old"), "{ours:?}");
    assert_eq!(volumes(&bed.docker, &other.install).await.len(), 1);
}

#[tokio::test]
async fn an_installation_can_remove_its_volume() {
    let bed = Bed::new();
    drop(bed.arm(cage()).await);
    bed.gone(BOUND).await;
    until("the volume is removed", BOUND, async || {
        bed.engine.remove_init_volume().await;
        volumes(&bed.docker, &bed.install).await.is_empty()
    })
    .await;
}

/// Cuts init short in its volume, as a supervisor that was killed while uploading would leave it.
async fn spoil(bed: &Bed) {
    use bollard::models::{ContainerCreateBody, HostConfig};
    use bollard::query_parameters::{CreateContainerOptions, RemoveContainerOptions, UploadToContainerOptionsBuilder};
    let volume = volumes(&bed.docker, &bed.install).await.remove(0);
    let body = ContainerCreateBody {
        image: Some(bed.image().await.id),
        cmd: Some(vec!["true".to_owned()]),
        labels: Some([("brig.install".to_owned(), bed.install.clone())].into()),
        host_config: Some(HostConfig { binds: Some(vec![format!("{volume}:/v:nocopy")]), ..HostConfig::default() }),
        ..ContainerCreateBody::default()
    };
    let container = bed.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    let mut archive = tar::Builder::new(Vec::new());
    let mut header = tar::Header::new_gnu();
    header.set_size(4);
    header.set_mode(0o555);
    archive.append_data(&mut header, "brig-init", b"\x7fELF".as_slice()).unwrap();
    let options = UploadToContainerOptionsBuilder::new().path("/v").build();
    let body = bollard::body_full(archive.into_inner().unwrap().into());
    bed.docker.upload_to_container(&container, Some(options), body).await.unwrap();
    bed.docker.remove_container(&container, None::<RemoveContainerOptions>).await.unwrap();
}
