//! Profiles that are changed while the supervisor runs.

use std::time::Duration;

use brig_core::problem::Code;

use crate::support::world::{World, draft, pass, until};

#[tokio::test(start_paused = true)]
async fn what_waits_under_a_profile_that_changes_is_asked_anew() {
    let world = World::new().await;
    world.warm().await;
    let before = world.propose("ls").await.row;
    let sandbox = world.engine.alive().remove(0);
    world.write_profile("mem_limit = \"77m\"\n");
    pass(Duration::from_secs(3)).await;
    let row = until("its return", async || Some(world.look(&before).await).filter(|row| row.returned.is_some())).await;
    assert_eq!((row.status.text(), row.returned.as_deref()), ("waiting", Some("the profile has changed")));
    assert_ne!(row.digest, before.digest);
    assert_eq!(world.approve(&before).await.unwrap_err().code, Code::DigestMismatch);
    until("the old sandbox's end", async || (!world.engine.alive().contains(&sandbox)).then_some(())).await;
    world.approve(&row).await.unwrap();
    world.stands(&row, "finished").await;
    assert!(world.engine.served().iter().all(|served| served.engine_id != sandbox));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_is_wrong_leaves_the_one_before_in_force() {
    let world = World::new().await;
    world.warm().await;
    let path = world.places.profiles_dir().join("shell.toml");
    let right = std::fs::read_to_string(&path).unwrap();
    std::fs::write(&path, format!("mem_limti = \"64m\"\n{right}")).unwrap();
    pass(Duration::from_secs(3)).await;
    let since = world.sees("what is wrong", |all| all.supervisor.config_problem.clone()).await;
    assert_eq!(since.problem.code, Code::Config);
    assert!(since.problem.message.contains("shell.toml:1:1: `mem_limti` is no key"), "{}", since.problem);
    let row = world.run("ls").await;
    world.stands(&row, "finished").await;
    std::fs::write(&path, right).unwrap();
    pass(Duration::from_secs(3)).await;
    world.sees("that it is right again", |all| all.supervisor.config_problem.is_none().then_some(())).await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_profile_that_is_removed_takes_what_waits_under_it_along() {
    let world = World::new().await;
    let extra = world.places.profiles_dir().join("extra.toml");
    std::fs::write(&extra, "image = \"scripted\"\nuser = \"1000:1000\"\nworking_dir = \"/sandbox\"\n").unwrap();
    pass(Duration::from_secs(3)).await;
    let mut asked = draft("ls");
    asked["profile"] = "extra".into();
    let row = until("the new profile", async || world.propose_as("ada", &asked).await.ok()).await.row;
    std::fs::remove_file(&extra).unwrap();
    pass(Duration::from_secs(3)).await;
    let verdict = world.stands(&row, "rejected").await.verdict.unwrap();
    assert_eq!(verdict.reason, "profile `extra` was removed");
    assert_eq!(world.propose_as("ada", &asked).await.unwrap_err().code, Code::UnknownProfile);
    world.end().await;
}
