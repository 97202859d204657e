//! Looking at the daemon: what of ours is there, and what happens.

use std::collections::HashMap;
use std::sync::Arc;

use bollard::models::{ContainerSummary, ContainerSummaryStateEnum, EventMessage, EventMessageTypeEnum};
use bollard::query_parameters::{EventsOptionsBuilder, InspectContainerOptions, ListContainersOptionsBuilder};
use brig_core::id::SandboxId;
use brig_core::problem::{Code, Problem};
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::create::{label, parse_owner};
use super::link::{Link, QUICK};
use super::{Shared, failure, podman, until_problem};
use crate::engine::{EngineEvent, Sighting};

/// See [`crate::engine::Engine::sightings`].
pub async fn sightings(shared: &Shared) -> Result<Vec<Sighting>, Problem> {
    let link = shared.link().await?;
    let ours = format!("{}={}", label::INSTALL, shared.settings.install);
    if link.is_podman {
        let listed = podman::list(link, &ours).await?;
        return Ok(listed.into_iter().map(|one| sighting(one.id, one.labels.unwrap_or_default())).collect());
    }
    let filters = HashMap::from([("label", vec![ours])]);
    let options = ListContainersOptionsBuilder::new().all(true).filters(&filters).build();
    let listed = link.call("list the sandboxes", QUICK, link.docker.list_containers(Some(options))).await?;
    let mut seen = Vec::with_capacity(listed.len());
    for container in listed {
        if !is_ghost(link, &container).await {
            seen.extend(container.id.map(|id| sighting(id, container.labels.unwrap_or_default())));
        }
    }
    Ok(seen)
}

/// Docker 20.10 can forget a container and keep it in its list, as being removed, until the daemon restarts: nothing is
/// there any more, and nothing can be done about the entry.
async fn is_ghost(link: &Link, container: &ContainerSummary) -> bool {
    let (Some(id), Some(ContainerSummaryStateEnum::REMOVING)) = (container.id.as_deref(), container.state) else {
        return false;
    };
    let looking = link.docker.inspect_container(id, None::<InspectContainerOptions>);
    Box::pin(link.call("look at a sandbox", QUICK, looking)).await.is_err_and(|failure| failure.is_gone())
}

fn sighting(engine_id: String, mut labels: HashMap<String, String>) -> Sighting {
    Sighting {
        engine_id,
        sandbox: labels.remove(label::SANDBOX).map(SandboxId),
        owner: labels.get(label::OWNER).and_then(|text| parse_owner(text)),
        host: labels.remove(label::HOST).unwrap_or_default(),
    }
}

/// See [`crate::engine::Engine::events`]. Two subscriptions, as the label would filter images away. Podman has its own
/// words for some events, which are asked for beside Docker's.
pub fn events(shared: &Arc<Shared>) -> BoxStream<'static, Result<EngineEvent, Problem>> {
    let shared = Arc::clone(shared);
    stream::once(async move {
        match shared.link().await {
            Ok(link) => subscribe(link, &shared.settings.install),
            Err(problem) => stream::iter([Err(problem)]).boxed(),
        }
    })
    .flatten()
    .boxed()
}

fn subscribe(link: &Link, install: &str) -> BoxStream<'static, Result<EngineEvent, Problem>> {
    let filter = |pairs: &[(&str, &[&str])]| -> HashMap<String, Vec<String>> {
        let owned = |values: &[&str]| values.iter().map(|value| (*value).to_owned()).collect();
        pairs.iter().map(|(key, values)| ((*key).to_owned(), owned(values))).collect()
    };
    let ours = format!("{}={install}", label::INSTALL);
    let containers = filter(&[("type", &["container"]), ("label", &[&ours]), ("event", &["die", "died", "oom"])]);
    let images = filter(&[
        ("type", &["image"]),
        ("event", &["tag", "untag", "pull", "delete", "remove", "import", "load", "loadfromarchive", "build"]),
    ]);
    let open = |filters: HashMap<String, Vec<String>>| {
        let options = EventsOptionsBuilder::new().filters(&filters).build();
        let docker = link.docker.clone();
        let address = link.address.clone();
        let what = "follow the daemon's events";
        let lost = Problem::new(Code::EngineUnreachable, format!("the daemon at {address} has ended its events"));
        docker
            .events(Some(options))
            .map(move |item| item.map_err(|error| failure::explain(&address, what, &error).problem))
            .chain(stream::iter([Err(lost)]))
            .boxed()
    };
    let both = stream::select(open(containers), open(images));
    until_problem(both.filter_map(|item| std::future::ready(item.map(translate).transpose())).boxed())
}

fn translate(message: EventMessage) -> Option<EngineEvent> {
    let actor = message.actor?;
    let id = actor.id?;
    match (message.typ?, message.action?.as_str()) {
        (EventMessageTypeEnum::CONTAINER, "die" | "died") => Some(EngineEvent::Died { engine_id: id }),
        (EventMessageTypeEnum::CONTAINER, "oom") => Some(EngineEvent::OutOfMemory { engine_id: id }),
        // A pull names the reference, the others the image and, where there is one, the reference as an attribute.
        (EventMessageTypeEnum::IMAGE, "pull") => Some(EngineEvent::ImageChanged { reference: id }),
        (EventMessageTypeEnum::IMAGE, _) => {
            let name = actor.attributes.and_then(|mut attributes| attributes.remove("name"));
            Some(EngineEvent::ImageChanged { reference: name.unwrap_or(id) })
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::EventActor;

    use super::*;

    fn event(typ: EventMessageTypeEnum, action: &str, id: &str, name: Option<&str>) -> Option<EngineEvent> {
        let attributes = name.map(|name| HashMap::from([("name".to_owned(), name.to_owned())]));
        translate(EventMessage {
            typ: Some(typ),
            action: Some(action.to_owned()),
            actor: Some(EventActor { id: Some(id.to_owned()), attributes }),
            ..EventMessage::default()
        })
    }

    #[test]
    fn a_death_and_a_want_of_memory_name_the_container() {
        let died = event(EventMessageTypeEnum::CONTAINER, "die", "c1", Some("brig-x"));
        assert_eq!(died, Some(EngineEvent::Died { engine_id: "c1".to_owned() }));
        let oom = event(EventMessageTypeEnum::CONTAINER, "oom", "c1", None);
        assert_eq!(oom, Some(EngineEvent::OutOfMemory { engine_id: "c1".to_owned() }));
        assert_eq!(event(EventMessageTypeEnum::CONTAINER, "start", "c1", None), None);
    }

    #[test]
    fn an_image_is_named_by_its_reference_where_the_daemon_says_it() {
        let changed = |reference: &str| Some(EngineEvent::ImageChanged { reference: reference.to_owned() });
        let image = EventMessageTypeEnum::IMAGE;
        assert_eq!(event(image, "pull", "busybox:1.37", Some("busybox")), changed("busybox:1.37"));
        assert_eq!(event(image, "tag", "sha256:1", Some("me/it:2")), changed("me/it:2"));
        assert_eq!(event(image, "delete", "sha256:1", None), changed("sha256:1"));
    }
}
