//! What operators ask about images: which there are, pull or build one now, remove those that nothing uses.

use std::collections::BTreeSet;

use axum::extract::State;
use axum::response::Response;
use brig_core::problem::{Code, Problem};
use bytes::Bytes;
use tokio::sync::mpsc;

use super::body::Payload;
use super::describe::Route;
use super::follow::{self, Lines};
use super::operator::Asker;
use super::reply::{self, Refusal};
use super::server::Services;
use crate::api::ndjson;
use crate::api::wire::{BringImage, Bringing, ImageLine, ImageRow, KeptImage, PruneImages, Pruned, RemovedImage};
use crate::engine::{Anew, StoredImage};
use crate::supervisor::message::{ProfileImage, Query};

/// Lines of a build that may wait for a client; one that is further behind misses some.
const BEHIND: usize = 1024;

/// The requests.
pub fn routes() -> Vec<Route> {
    vec![
        Route::get("/v1/images", "images", "List the images", list)
            .details("That of each profile, then those that this installation has made and no profile uses.")
            .json::<Vec<ImageRow>>(),
        Route::post("/v1/images/bring", "bring_image", "Pull or build an image", bring)
            .details("A client that goes away ends it. Nothing is taken in the image's place.")
            .body::<BringImage>()
            .lines::<ImageLine>()
            .refuses(&[Code::UnknownProfile, Code::InvalidField]),
        Route::post("/v1/images/prune", "prune_images", "Remove images that nothing uses", prune)
            .details("Only those that this installation has made, that nobody has named and that no container uses.")
            .body::<PruneImages>()
            .json::<Pruned>(),
    ]
}

async fn list(State(services): State<Services>, _: Asker) -> Result<Response, Refusal> {
    let named = services.mailbox.query(Query::Images).await?;
    let mut rows = Vec::new();
    for image in &named {
        // What the pool has is what is used, even when the name has come to mean another.
        let wanted = image.resolved.as_ref().map_or(&image.cage.image, |resolved| &resolved.id);
        let stored = services.engine.find_image(wanted).await?;
        rows.push(row(image, stored));
    }
    let used = used(&named);
    for stored in services.engine.made_images().await? {
        if !is_used(&stored, &used) {
            rows.push(unused(stored));
        }
    }
    Ok(reply::json(&rows))
}

fn row(image: &ProfileImage, stored: Option<StoredImage>) -> ImageRow {
    ImageRow {
        profile: Some(image.profile.clone()),
        image: image.cage.image.clone(),
        built_from: image.cage.build.as_ref().map(|build| build.context.text()),
        source: image.resolved.as_ref().map(|resolved| resolved.source),
        progress: image.progress.clone(),
        sandboxes: image.sandboxes,
        bytes: stored.as_ref().map(|stored| stored.bytes),
        created: stored.as_ref().and_then(|stored| stored.created),
        id: stored.map(|stored| stored.id),
    }
}

fn unused(stored: StoredImage) -> ImageRow {
    ImageRow {
        profile: None,
        image: stored.references.first().unwrap_or(&stored.id).clone(),
        built_from: None,
        source: None,
        progress: None,
        sandboxes: 0,
        bytes: Some(stored.bytes),
        created: stored.created,
        id: Some(stored.id),
    }
}

/// Names and identifiers that profiles use.
fn used(named: &[ProfileImage]) -> BTreeSet<&str> {
    let resolved = named.iter().filter_map(|image| image.resolved.as_ref()).map(|resolved| resolved.id.as_str());
    named.iter().map(|image| image.cage.image.as_str()).chain(resolved).collect()
}

fn is_used(stored: &StoredImage, used: &BTreeSet<&str>) -> bool {
    used.contains(stored.id.as_str()) || stored.references.iter().any(|name| used.contains(name.as_str()))
}

async fn bring(State(services): State<Services>, Asker(operator): Asker, body: Payload) -> Result<Response, Refusal> {
    let (request, _): (BringImage, _) = body.read()?;
    let named = services.mailbox.query(Query::Images).await?;
    let image = wanted(&request, named)?;
    tracing::info!("{} has the image of profile {} brought: {:?}", operator.name, image.profile, request.how);
    let (lines, stream) = follow::channel();
    tokio::spawn(tell(services, request, image, lines));
    Ok(reply::lines(stream))
}

fn wanted(request: &BringImage, named: Vec<ProfileImage>) -> Result<ProfileImage, Problem> {
    let names: Vec<_> = named.iter().map(|image| image.profile.clone()).collect();
    let Some(image) = named.into_iter().find(|image| image.profile == request.profile) else {
        let shown = brig_core::visible::line(request.profile.as_bytes());
        return Err(Problem::new(Code::UnknownProfile, format!("there is no profile `{shown}`"))
            .help(format!("there are: {}", names.join(", "))));
    };
    let name = &image.profile;
    let wrong = |what: &str, instead: &str| Err(Problem::new(Code::InvalidField, what).help(instead));
    match (request.how, image.cage.build.is_some()) {
        (Bringing::Pull, true) => wrong(
            &format!("the image of profile `{name}` is built and not pulled"),
            &format!("`brig image build {name}`; with --pull it asks for the newest base"),
        ),
        (Bringing::Build, false) => wrong(
            &format!("profile `{name}` has no `build`: its image is pulled"),
            &format!("`brig image pull {name}`"),
        ),
        _ => Ok(image),
    }
}

/// Has it brought, and writes what is told of it. A client that goes away ends it.
async fn tell(services: Services, request: BringImage, image: ProfileImage, lines: Lines) {
    let (told, mut inbox) = mpsc::channel::<Bytes>(BEHIND);
    let progress = move |line: &str| {
        // A client that does not read misses what is only told for it to look at.
        let _ = told.try_send(ndjson(&ImageLine::Progress { line: line.to_owned() }));
    };
    let engine = services.engine;
    let anew = Anew { no_cache: request.no_cache, pull: request.pull };
    let bringing = async move { engine.bring_image(&image.cage, anew, &progress).await };
    let mut bringing = std::pin::pin!(bringing);
    let result = loop {
        tokio::select! {
            biased;
            () = lines.closed() => return,
            Some(line) = inbox.recv() => {
                if lines.send(line).await.is_err() {
                    return;
                }
            }
            result = &mut bringing => break result,
        }
    };
    while let Ok(line) = inbox.try_recv() {
        if lines.send(line).await.is_err() {
            return;
        }
    }
    let last = match result {
        Ok(image) => ImageLine::Done { id: image.id, source: image.source },
        Err(problem) => ImageLine::Problem(problem),
    };
    // The last line; nobody is left to be told that it could not be written.
    let _ = lines.send(ndjson(&last)).await;
}

async fn prune(State(services): State<Services>, Asker(operator): Asker, body: Payload) -> Result<Response, Refusal> {
    let (PruneImages { dry_run }, _) = body.read()?;
    let mut pruned = Pruned::default();
    for stored in services.engine.made_images().await? {
        // Looked at anew for each: a profile may have come to use it.
        let named = services.mailbox.query(Query::Images).await?;
        if is_used(&stored, &used(&named)) {
            continue;
        }
        let image = stored.references.first().unwrap_or(&stored.id).clone();
        if !dry_run && let Err(problem) = services.engine.remove_image(&stored.id).await {
            pruned.kept.push(KeptImage { image, id: stored.id, why: problem.message });
            continue;
        }
        pruned.bytes += stored.bytes;
        pruned.removed.push(RemovedImage { image, id: stored.id, bytes: stored.bytes });
    }
    if !dry_run && !pruned.removed.is_empty() {
        tracing::info!("{} had {} images removed that nothing used", operator.name, pruned.removed.len());
    }
    Ok(reply::json(&pruned))
}
