//! The images that are on the daemon: what there is under a name, what this installation has made, and removing it.

use std::collections::HashMap;

use bollard::models::ImageInspect;
use bollard::query_parameters::{ListImagesOptionsBuilder, RemoveImageOptionsBuilder};
use brig_core::problem::{Code, Problem};
use brig_core::time::Wall;

use super::create::label;
use super::failure::Failure;
use super::link::{Link, QUICK, SLOW};
use crate::engine::StoredImage;

/// What there is under a name or an identifier.
pub async fn find(link: &Link, reference: &str) -> Result<Option<StoredImage>, Problem> {
    Ok(inspect(link, reference).await?.and_then(stored))
}

/// The images that this installation has made: built, or of the machine's own programs.
pub async fn made(link: &Link, install: &str) -> Result<Vec<StoredImage>, Problem> {
    let filters = HashMap::from([("label", vec![format!("{}={install}", label::IMAGE)])]);
    let options = ListImagesOptionsBuilder::new().filters(&filters).build();
    let listed = link.call("list the images", SLOW, link.docker.list_images(Some(options))).await?;
    let image = |image: bollard::models::ImageSummary| StoredImage {
        id: image.id,
        references: image.repo_tags.into_iter().filter(|tag| tag != "<none>:<none>").collect(),
        bytes: u64::try_from(image.size).unwrap_or(0),
        created: Some(Wall(image.created.saturating_mul(1000))),
    };
    Ok(listed.into_iter().map(image).collect())
}

/// Removes an image with all its names, without force. What this installation has not made, or what somebody has given a
/// name of their own, is refused.
pub async fn remove(link: &Link, install: &str, id: &str) -> Result<(), Problem> {
    let Some(image) = inspect(link, id).await? else { return Ok(()) };
    let labels = image.config.as_ref().and_then(|config| config.labels.clone()).unwrap_or_default();
    if labels.get(label::IMAGE).map(String::as_str) != Some(install) {
        return Err(Problem::new(Code::EngineRefused, format!("{id} was not made by this brig")));
    }
    let names = image.repo_tags.unwrap_or_default();
    if let Some(name) = names.iter().find(|name| !is_ours(name)) {
        return Err(Problem::new(Code::EngineRefused, format!("somebody has named it {name}")));
    }
    let names = if names.is_empty() { vec![id.to_owned()] } else { names };
    for name in names {
        let options = RemoveImageOptionsBuilder::new().build();
        match link.call("remove the image", SLOW, link.docker.remove_image(&name, Some(options), None)).await {
            Ok(_) => {}
            Err(failure) if failure.is_gone() => {}
            Err(failure) if failure.is_conflict() => {
                return Err(Problem::new(Code::EngineRefused, "a container uses it"));
            }
            Err(failure) => return Err(failure.into()),
        }
    }
    Ok(())
}

fn is_ours(name: &str) -> bool {
    ["brig-build:", "brig-userland:"].iter().any(|repository| name.starts_with(repository))
}

async fn inspect(link: &Link, reference: &str) -> Result<Option<ImageInspect>, Problem> {
    match Box::pin(link.call("look for the image", QUICK, link.docker.inspect_image(reference))).await {
        Ok(image) => Ok(Some(image)),
        Err(Failure { status: Some(404), .. }) => Ok(None),
        Err(failure) => Err(failure.into()),
    }
}

fn stored(image: ImageInspect) -> Option<StoredImage> {
    let created = image.created.and_then(|text| chrono::DateTime::parse_from_rfc3339(&text).ok());
    Some(StoredImage {
        id: image.id?,
        references: image.repo_tags.unwrap_or_default(),
        bytes: image.size.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
        created: created.map(|at| Wall(at.timestamp_millis())),
    })
}
