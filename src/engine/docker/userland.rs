//! An image made of this machine's own programs, for when there is no registry to pull from.
//!
//! It holds a shell with the usual tools, the interpreters that a profile names (python3 with its standard library,
//! node), and the shared libraries that these need. It only works on a daemon of the same machine, and is no substitute for an image that
//! somebody pinned: it is used when a profile allows it and its image could not be had.

mod node;
mod plan;
mod python;

use std::time::Duration;

use bollard::models::CreateImageInfo;
use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder, TagImageOptionsBuilder};
use brig_core::problem::{Code, Problem};
use futures_util::stream::StreamExt as _;
use tokio::sync::Mutex;

use self::plan::{Languages, Plan};
use super::create::label;
use super::failure;
use super::images::has;
use super::link::{Link, QUICK};
use crate::archive;
use crate::engine::Progress;

/// The name of such images; the tag is what they are for and the hash of what is in them.
const REPOSITORY: &str = "brig-userland";
/// For collecting the list of files, which runs `ldd`, `python3` and `node`.
const PLANNING: Duration = Duration::from_secs(60);
/// For the daemon to take the archive in.
const IMPORTING: Duration = Duration::from_secs(180);

/// One at a time in this process: the second finds what the first has made.
static MAKING: Mutex<()> = Mutex::const_new(());

/// Makes the image for these interpreters' commands, or finds the one made earlier of the same files, and gives back its
/// name.
pub async fn make(
    link: &Link,
    install: &str,
    commands: &[&[String]],
    progress: Progress<'_>,
) -> Result<String, Problem> {
    if !link.is_local() {
        let message = format!("the daemon at {} is not on this machine", link.address);
        return Err(Problem::new(Code::ImageUnavailable, message));
    }
    let languages = Languages::of(commands.iter().copied()).map_err(|why| Problem::new(Code::ImageUnavailable, why))?;
    let _one_at_a_time = MAKING.lock().await;
    progress("making an image of this machine's own programs");
    let plan = collect(languages).await?;
    let tag = format!("{}-{}", languages.text(), &plan.hash().hex()[..12]);
    let reference = format!("{REPOSITORY}:{tag}");
    if !has(link, &reference).await? {
        let image = tokio::time::timeout(IMPORTING, import(link, install, plan, progress))
            .await
            .map_err(|_| failure::too_late(&link.address, "import an image", IMPORTING))??;
        adopt(link, &image, &tag, &reference).await?;
    }
    Ok(reference)
}

async fn collect(languages: Languages) -> Result<Plan, Problem> {
    let failed = |reason: String| Problem::new(Code::ImageUnavailable, reason);
    let collecting = tokio::task::spawn_blocking(move || Plan::collect(&languages));
    match tokio::time::timeout(PLANNING, collecting).await {
        Ok(Ok(Ok(plan))) => Ok(plan),
        Ok(Ok(Err(error))) => Err(failed(error.to_string())),
        Ok(Err(error)) => Err(failed(error.to_string())),
        Err(_) => Err(failed(format!("its programs were not found out within {} s", PLANNING.as_secs()))),
    }
}

/// Streams the archive to the daemon and gives back the new image's identifier. It has no name yet.
async fn import(link: &Link, install: &str, plan: Plan, progress: Progress<'_>) -> Result<String, Problem> {
    let changes = vec![
        format!("LABEL {}={} {}={install}", label::USERLAND, plan.hash().hex(), label::IMAGE),
        "ENV PATH=/usr/local/bin:/usr/bin:/bin".to_owned(),
        "CMD [\"/bin/sh\"]".to_owned(),
    ];
    let options = CreateImageOptionsBuilder::new().from_src("-").changes(changes).build();
    progress(&format!("importing {} MB of this machine's own programs", plan.bytes() / 1_000_000));
    let body = bollard::body_try_stream(archive::stream(plan.items));
    let mut lines = link.docker.create_image(Some(options), Some(body), None).boxed();
    let mut image = None;
    while let Some(line) = lines.next().await {
        let line = line.map_err(|error| failure::explain(&link.address, "import an image", &error).problem)?;
        image = identifier(&line).or(image);
    }
    image.ok_or_else(|| Problem::new(Code::EngineProtocol, "the daemon did not say what the imported image is"))
}

fn identifier(line: &CreateImageInfo) -> Option<String> {
    line.status.as_deref().filter(|status| status.starts_with("sha256:")).map(str::to_owned)
}

/// Names the image, unless another supervisor was faster: then that one's is taken and ours removed, so that none is
/// left without a name.
async fn adopt(link: &Link, image: &str, tag: &str, reference: &str) -> Result<(), Problem> {
    if has(link, reference).await? {
        let removing = link.docker.remove_image(image, Some(RemoveImageOptionsBuilder::new().build()), None);
        let _ = link.call("remove an image that was made twice", QUICK, removing).await;
        return Ok(());
    }
    let options = TagImageOptionsBuilder::new().repo(REPOSITORY).tag(tag).build();
    link.call("name an image", QUICK, link.docker.tag_image(image, Some(options))).await?;
    Ok(())
}
