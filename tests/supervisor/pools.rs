//! Pools: what operators tell them, how long things take in them, and warm sandboxes that do not answer.

use std::time::Duration;

use brig::api::wire::{PoolRow, PoolState, Snapshot};
use brig_core::problem::{Code, Problem};
use serde_json::{Value, json};

use crate::support::world::{World, pass, until};

impl World {
    async fn order(&self, profile: &str, order: Value) -> Result<PoolRow, Problem> {
        self.operator().post(&format!("/v1/pools/{profile}"), &order).await
    }

    async fn pool(&self) -> PoolRow {
        self.snapshot().await.pools.into_iter().find(|pool| pool.profile == "shell").unwrap()
    }
}

fn shell(all: &Snapshot) -> &PoolRow {
    all.pools.iter().find(|pool| pool.profile == "shell").unwrap()
}

#[tokio::test(start_paused = true)]
async fn a_drained_pool_has_nothing_and_says_who_did_it_until_it_resumes() {
    let world = World::new().await;
    world.warm().await;
    let row = world.order("shell", json!({"order": "drain"})).await.unwrap();
    assert!(matches!(row.state, PoolState::Draining | PoolState::Drained), "{row:?}");
    let by = row.held.unwrap().by;
    assert_eq!(row.reason, format!("none wanted: drained by {by}"));
    world
        .sees("an empty pool", |all| (shell(all).state == PoolState::Drained && all.sandboxes.is_empty()).then_some(()))
        .await;
    pass(Duration::from_secs(60)).await;
    assert_eq!(world.engine.alive(), Vec::<String>::new());
    let row = world.order("shell", json!({"order": "resume"})).await.unwrap();
    assert_eq!((row.held, row.reason.as_str()), (None, "1 ready wanted: the target at rest"));
    world.warm().await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_an_operator_tells_a_pool_is_in_the_journal_and_ends_with_the_supervisor() {
    let mut world = World::new().await;
    world.warm().await;
    world.order("shell", json!({"order": "set", "target": 3})).await.unwrap();
    world.sees("three warm ones", |all| (shell(all).ready == 3).then_some(())).await;
    let paused = world.order("shell", json!({"order": "pause"})).await.unwrap();
    assert_eq!((paused.state, paused.target, paused.set.is_some()), (PoolState::Paused, 3, true));
    let _: Value = world.operator().post("/v1/shutdown", &json!({})).await.unwrap();
    world.ended().await.unwrap();
    let journal = std::fs::read(world.places.journal()).unwrap();
    let says = |text: &str| journal.windows(text.len()).any(|window| window == text.as_bytes());
    assert!(says(r#"{"kind":"pool-ordered","profile":"shell","order":{"order":"set","target":3},"operator":{"name":"#));
    assert!(says(r#""order":{"order":"pause"}"#));
    world.start().await.unwrap();
    world.warm().await;
    let pool = world.pool().await;
    assert_eq!((pool.target, pool.held, pool.set), (1, None, None));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn an_order_that_makes_no_sense_is_refused_with_what_would() {
    let world = World::new().await;
    world.warm().await;
    for (profile, order, code, words) in [
        ("shel", json!({"order": "drain"}), Code::UnknownProfile, "did you mean `shell`?"),
        ("shell", json!({"order": "set"}), Code::InvalidField, "none of min, target and max is given"),
        ("shell", json!({"order": "set", "min": 2}), Code::InvalidField, "min would be 2 and target 1"),
        ("shell", json!({"order": "drian"}), Code::Malformed, "drian"),
        ("shell", json!({"order": "set", "traget": 2}), Code::Malformed, "traget"),
    ] {
        let problem = world.order(profile, order).await.unwrap_err();
        assert_eq!(problem.code, code, "{problem}");
        assert!(problem.message.contains(words), "{problem}");
    }
    let refused: Result<PoolRow, _> = world.agent("ada").post("/v1/pools/shell", &json!({"order": "drain"})).await;
    assert_eq!(refused.unwrap_err().code, Code::NotFound, "agents have no say in it");
    assert_eq!(world.pool().await.state, PoolState::Ready);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn everything_warm_is_replaced_when_an_operator_wants_it() {
    let world = World::new().await;
    world.warm().await;
    let before = world.engine.alive();
    world.order("shell", json!({"order": "recycle"})).await.unwrap();
    let replaced = |all: &Snapshot| {
        let pool = shell(all);
        (pool.replacing.is_none() && pool.ready == 1 && all.sandboxes.len() == 1).then_some(())
    };
    world.sees("another one", replaced).await;
    assert!(!world.engine.alive().contains(&before[0]));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_warm_sandbox_that_does_not_answer_is_replaced_and_the_reason_is_shown() {
    let world = World::new().await;
    world.warm().await;
    let first = world.engine.alive().remove(0);
    pass(Duration::from_secs(60)).await;
    assert_eq!(world.engine.alive(), std::slice::from_ref(&first), "one that answers stays, however often it is asked");
    world.engine.mute(true);
    let row = until("what is wrong", async || Some(world.pool().await).filter(|pool| pool.last_error.is_some())).await;
    let problem = row.last_error.unwrap();
    assert!(problem.message.contains("did not answer within 5 s, so another one takes its place"), "{problem}");
    world.engine.mute(false);
    until("another one", async || (!world.engine.alive().contains(&first)).then_some(())).await;
    world.warm().await;
    let row = world.run("ls").await;
    world.stands(&row, "finished").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn how_long_things_take_is_known_after_a_restart_too() {
    let mut world = World::new().await;
    world.warm().await;
    world.engine.script("say", brig::engine::scripted::Script::says("hi"));
    let row = world.run("say").await;
    world.stands(&row, "finished").await;
    let latency = world.pool().await.latency;
    assert_eq!(latency.first_byte.hour.map(|it| it.count), Some(1));
    assert_eq!(latency.overhead.ever.map(|it| it.count), Some(1));
    let armed = latency.arming.ever.unwrap().count;
    assert!(armed >= 1);
    let _: Value = world.operator().post("/v1/shutdown", &json!({})).await.unwrap();
    world.ended().await.unwrap();
    world.start().await.unwrap();
    world.warm().await;
    let latency = world.pool().await.latency;
    assert_eq!(latency.first_byte.hour, None);
    assert_eq!(latency.first_byte.ever.map(|it| it.count), Some(1));
    assert!(latency.arming.ever.unwrap().count > armed, "and it goes on counting");
    world.end().await;
}
