//! Starting, where something stands in the way.

use std::os::unix::fs::PermissionsExt as _;
use std::sync::Arc;

use brig::config::Settings;
use brig::config::settings::EngineSettings;
use brig::engine::scripted::ScriptedEngine;
use brig::supervisor::{self, Options, process};
use brig_core::problem::Code;

use crate::support::world::{World, bounded, places_in};

fn settings() -> Settings {
    Settings {
        engine: EngineSettings {
            address: Some("unix:///nonexistent/docker.sock".to_owned()),
            ..EngineSettings::default()
        },
        ..Settings::default()
    }
}

#[tokio::test]
async fn a_second_supervisor_on_the_same_state_is_refused() {
    let directory = tempfile::tempdir().unwrap();
    let options =
        |run: &str| Options { places: places_in(directory.path(), run), settings: settings(), with_consoles: false };
    let (ready, is_ready) = tokio::sync::oneshot::channel();
    let first = tokio::spawn(supervisor::serve(options("run"), move |_| {
        let _ = ready.send(());
    }));
    bounded("the first supervisor", is_ready).await.unwrap();
    let problem = bounded("the second one", supervisor::serve(options("other"), |_| {})).await.unwrap_err();
    assert_eq!(problem.code, Code::AlreadyRunning);
    assert!(problem.message.starts_with(&format!("a supervisor (process {}) already uses", std::process::id())));
    assert!(problem.help.contains("BRIG_STATE_DIR"), "{problem}");
    assert!(!first.is_finished());
    first.abort();
}

#[tokio::test(start_paused = true)]
async fn a_second_supervisor_on_the_same_sockets_is_refused_and_harms_nothing() {
    let world = World::new().await;
    let other = tempfile::tempdir().unwrap();
    // Its own state, and the first one's sockets.
    let lookup = |name: &str| {
        let path = match name {
            "BRIG_RUNTIME_DIR" => world.places.runtime_dir().to_owned(),
            "BRIG_STATE_DIR" => other.path().join("state"),
            "BRIG_CONFIG_DIR" => other.path().join("config"),
            _ => return None,
        };
        Some(path.into())
    };
    let places = brig::config::Places::new(lookup, process::uid(), other.path()).unwrap();
    places.prepare().unwrap();
    let owner = process::me().unwrap();
    let engine = Arc::new(ScriptedEngine::new(owner, &process::host()));
    let options = Options { places, settings: Settings::default(), with_consoles: false };
    let serving = supervisor::serve_with(options, engine, owner, |_| panic!("it is ready"));
    let problem = bounded("the second one", serving).await.unwrap_err();
    assert_eq!(problem.code, Code::AlreadyRunning);
    assert!(problem.help.contains("BRIG_RUNTIME_DIR"), "{problem}");
    // The first one still can be spoken with, under the token that it made.
    let row = world.run("ls").await;
    world.stands(&row, "finished").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn sockets_that_a_dead_supervisor_left_are_in_nobodys_way() {
    let mut world = World::idle("", |_| {});
    for path in [world.places.agent_socket(), world.places.operator_socket()] {
        drop(std::os::unix::net::UnixListener::bind(path).unwrap());
    }
    std::fs::write(world.places.operator_token(), "an old one").unwrap();
    world.start().await.unwrap();
    let mode = |path: &std::path::Path| std::fs::metadata(path).unwrap().permissions().mode() & 0o777;
    assert_eq!(mode(&world.places.operator_socket()), 0o600);
    assert_eq!(mode(&world.places.operator_token()), 0o600);
    assert!(mode(world.root()) & 0o077 == 0 || mode(world.places.runtime_dir()) == 0o700);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_wrong_profile_keeps_it_from_starting_and_leaves_nothing() {
    let mut world = World::idle("mem_limit = \"lots\"\n", |_| {});
    let problem = world.start().await.unwrap_err();
    assert_eq!(problem.code, Code::Config);
    assert!(problem.message.contains("shell.toml:5:13"), "{problem}");
    world.leaves_nothing();
}

#[tokio::test(start_paused = true)]
async fn a_socket_that_cannot_be_made_leaves_the_other_one_neither() {
    let mut world = World::idle("", |_| {});
    let operator = world.places.operator_socket();
    std::fs::create_dir(&operator).unwrap();
    let problem = world.start().await.unwrap_err();
    assert_eq!(problem.code, Code::LocalIo, "{problem}");
    std::fs::remove_dir(operator).unwrap();
    world.leaves_nothing();
}
