//! The profiles python and node as they are shipped, with their Dockerfiles, on a base of this machine's own programs.

use std::fs;

use brig::engine::Engine as _;
use brig_core::profile::{Cage, ImageSource};

use crate::support::brig::Brig;
use crate::support::docker::{BOUND, Bed, run};

/// What a shipped profile says.
fn shipped(name: &str) -> Cage {
    let (name, text) = brig::config::profiles::SHIPPED.into_iter().find(|(shipped, _)| *shipped == name).unwrap();
    brig::config::profiles::parse(name, name, text, &brig::config::profiles::Base::NOWHERE).unwrap().cage
}

/// Not what is tried here: an interpreter that is started before there is anything to run.
fn cold(mut cage: Cage) -> Cage {
    for interpreter in cage.interpreters.values_mut() {
        interpreter.prewarm = false;
    }
    cage
}

/// The image of this machine's own programs that has this profile's interpreter: its name.
async fn userland(bed: &Bed, name: &str) -> String {
    let mut cage = shipped(name);
    (cage.build, cage.image) = (None, "brig.invalid/tests:1".to_owned());
    let image = bed.engine.resolve_image(&cage, &|_| ()).await.unwrap();
    assert_eq!(image.source, ImageSource::Userland);
    let names = bed.docker.inspect_image(&image.id).await.unwrap().repo_tags.unwrap();
    names.into_iter().find(|tag| tag.starts_with(&format!("brig-userland:{name}-"))).expect("a name for its language")
}

/// A built image, with the profile's sandbox around it.
async fn caged(bed: &Bed, name: &str) -> Cage {
    let mut cage = cold(shipped(name));
    let mut build = cage.build.take().unwrap();
    build.args.insert("BASE".to_owned(), userland(bed, name).await);
    cage.image = build.reference(&format!("test-{}", bed.install));
    cage.build = Some(build);
    cage
}

/// What runs as another user, what the sandbox's own could write outside of the scratch, and who that is.
const HARDENED: &str = "find / -xdev -type f -perm /6000; \
    find / -xdev ! -type l -perm /0002 ! -path /sandbox ! -path /tmp; \
    find / -xdev -user 10001 ! -path /sandbox ! -path /tmp; id -u; id -un; pwd; \
    echo scratch > /sandbox/a; echo temporary > /tmp/b; cat /sandbox/a /tmp/b";

#[tokio::test]
async fn python_is_built_hardened_and_works() {
    let bed = Bed::new();
    let cage = caged(&bed, "python").await;
    let mut sandbox = bed.arm(cage.clone()).await;
    assert_eq!(
        run(&mut sandbox, &["sh", "-c", HARDENED], b"").await.stdout,
        "10001\nsandbox\n/sandbox\nscratch\ntemporary\n"
    );
    let mut sandbox = bed.arm(cage).await;
    let code = b"import asyncio, ctypes, decimal, json, sqlite3, ssl, zlib, os\nprint(os.path.exists(json.__cached__), sqlite3.connect(':memory:').execute('select 6*7').fetchone()[0])";
    let ran = run(&mut sandbox, &["python3", "-I", "-"], code).await;
    assert_eq!(ran.stdout, "True 42\n", "{}", ran.stderr);
}

#[tokio::test]
async fn node_is_built_hardened_and_works() {
    let bed = Bed::new();
    let cage = caged(&bed, "node").await;
    let mut sandbox = bed.arm(cage.clone()).await;
    assert_eq!(
        run(&mut sandbox, &["sh", "-c", HARDENED], b"").await.stdout,
        "10001\nsandbox\n/sandbox\nscratch\ntemporary\n"
    );
    let mut sandbox = bed.arm(cage).await;
    let code = b"const c = require('crypto'); console.log(c.createHash('sha256').update('abc').digest('hex').slice(0, 8), 6 * 7)";
    let ran = run(&mut sandbox, &["node", "-"], code).await;
    assert_eq!(ran.stdout, "ba7816bf 42\n", "{}", ran.stderr);
}

#[tokio::test]
async fn the_images_of_different_languages_are_different_and_the_shells_has_neither() {
    let bed = Bed::new();
    let (python, node) = (userland(&bed, "python").await, userland(&bed, "node").await);
    assert_ne!(python, node);
    let mut cage = shipped("shell");
    cage.image = "brig.invalid/other:1".to_owned();
    let mut sandbox = bed.arm(cage).await;
    let ran = run(&mut sandbox, &["sh", "-c", "command -v python3 node; echo nothing"], b"").await;
    assert_eq!(ran.stdout, "nothing\n");
}

#[tokio::test]
async fn who_has_only_the_binary_has_the_profiles_and_what_they_are_built_from() {
    let mut brig = Brig::as_shipped();
    let text = include_str!("../../profiles/python.toml").replace("python:3.13-alpine", "brig.invalid/python:3");
    fs::write(brig.path("c/profiles/python.toml"), text.replace("target = 2", "target = 0")).unwrap();
    brig.write_profile("shell", &crate::support::brig::profile(&[("target = 1 ", "target = 0 ")]));
    brig.serve().await;
    let rows = brig.rows(&["image", "ls"]).await;
    let names: Vec<_> = rows.iter().filter_map(|row| row["profile"].as_str()).collect();
    assert_eq!(names, ["node", "python", "shell"]);
    assert_eq!(rows[1]["built_from"], "what brig ships for python");
    let said = tokio::time::timeout(BOUND, brig.brig(&["image", "build", "python"])).await.unwrap();
    assert!(said.code == 1 && said.err.contains("FROM ${BASE}") && said.err.contains("build.args"), "{said:?}");
}
