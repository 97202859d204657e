//! Pulling, against a daemon that only pretends: a test needs no registry.

use std::sync::Mutex;

use brig::engine::Engine as _;
use brig::engine::docker::DockerEngine;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, ImageSource, ResolvedImage};

use crate::support::docker::{cage, settings};
use crate::support::fake_daemon::{self, Pulls};

async fn pull(pulls: Pulls) -> (Result<ResolvedImage, Problem>, Vec<String>) {
    let directory = tempfile::tempdir().unwrap();
    let socket = directory.path().join("docker.sock");
    fake_daemon::start(&socket, pulls);
    let address = format!("unix://{}", socket.display());
    let engine = DockerEngine::connect(settings("pulling", Some(&address))).unwrap();
    let lines = Mutex::new(Vec::new());
    let cage = Cage { image: "box:2".to_owned(), userland_fallback: false, ..cage() };
    let result = engine.resolve_image(&cage, &|line| lines.lock().unwrap().push(line.to_owned())).await;
    (result, lines.into_inner().unwrap())
}

#[tokio::test]
async fn a_pull_tells_how_far_it_is_as_one_sum() {
    let (result, lines) = pull(Pulls::Work).await;
    assert_eq!(result, Ok(ResolvedImage { id: "sha256:77".to_owned(), source: ImageSource::Pulled }));
    assert_eq!(lines, ["pulling box:2", "pulling box:2: 1.0 of 4.0 MB", "pulling box:2: 3.5 of 6.5 MB"]);
}

#[tokio::test]
async fn a_pull_that_fails_on_the_way_says_why() {
    let problem = pull(Pulls::Fail).await.0.unwrap_err();
    assert_eq!(problem.code, Code::ImageUnavailable);
    assert!(problem.message.contains("toomanyrequests"), "{problem}");
}

/// The clock jumps ahead whenever everything waits, so this takes no time.
#[tokio::test(start_paused = true)]
async fn a_pull_that_says_nothing_is_given_up() {
    let problem = pull(Pulls::Hang).await.0.unwrap_err();
    assert_eq!(problem.code, Code::ImageUnavailable);
    assert!(problem.message.contains("20 s"), "{problem}");
}
