//! Finding what was, and names that are short or nearly right.

use brig::api::wire::{History, ProposalDetail, SandboxRow};
use brig::engine::scripted::{Act, Script};
use brig_core::problem::{Code, Problem};
use serde_json::json;

use crate::support::world::{World, draft, until};

/// The commands that a query finds, the newest first.
async fn found(world: &World, query: &str) -> Vec<String> {
    let page: History = world.operator().get(&format!("/v1/history{query}")).await.unwrap();
    page.proposals.into_iter().map(|row| row.command).collect()
}

#[tokio::test(start_paused = true)]
async fn what_was_proposed_is_found_after_a_restart_too() {
    let mut world = World::new().await;
    world.engine.script("build", Script::new([Act::out("x"), Act::Exit(1)]));
    let built = world.run("build").await;
    world.stands(&built, "finished").await;
    let refused =
        world.propose_as("bob", &json!({"steps": [{"argv": ["rm", "-rf"]}], "reason": "tidy UP"})).await.unwrap();
    let no = json!({"digest": refused.row.digest, "verdict": "rejected", "reason": "no"});
    world.decide(&refused.row, no).await.unwrap();
    let waits = world.propose("later").await;
    for _ in 0..2 {
        assert_eq!(found(&world, "").await, ["later", "rm -rf", "build"]);
        assert_eq!(found(&world, "?agent=bob").await, ["rm -rf"]);
        assert_eq!(found(&world, "?text=up+RM").await, ["rm -rf"]);
        assert_eq!(found(&world, "?status=waiting").await, ["later"]);
        assert_eq!(found(&world, "?verdict=approved&end=exited").await, ["build"]);
        assert_eq!(found(&world, "?profile=other").await, Vec::<String>::new());
        assert_eq!(found(&world, &format!("?before={}", &waits.row.id.0[..6])).await, ["rm -rf", "build"]);
        assert_eq!(found(&world, &format!("?since={}", refused.row.received_at.0)).await.len(), 2);
        let page: History = world.operator().get("/v1/history?limit=2").await.unwrap();
        assert_eq!((page.proposals.len(), page.more), (2, true));
        let row = &page.proposals[1];
        assert_eq!((row.id.clone(), row.verdict.as_ref().unwrap().reason.as_str()), (refused.row.id.clone(), "no"));
        let page: History = world.operator().get("/v1/history?limit=3").await.unwrap();
        assert!(!page.more);
        world.crash().await;
        world.start().await.unwrap();
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_query_that_makes_no_sense_is_refused() {
    let world = World::new().await;
    for (query, code) in [
        ("?limit=0", Code::InvalidField),
        ("?limit=1001", Code::InvalidField),
        ("?status=sleeping", Code::Malformed),
        ("?since=yesterday", Code::Malformed),
        ("?agnet=bob", Code::Malformed),
        ("?before=nobodyxx", Code::NotFound),
    ] {
        let problem = world.operator().get::<History>(&format!("/v1/history{query}")).await.unwrap_err();
        assert_eq!(problem.code, code, "{query}: {problem}");
        assert!(!problem.help.is_empty(), "{query}: {problem}");
    }
    // It has everybody's proposals.
    let problem = world.agent("ada").get::<History>("/v1/history").await.unwrap_err();
    assert_eq!(problem.code, Code::NotFound);
    world.end().await;
}

async fn looks(world: &World, agent: Option<&str>, name: &str) -> Result<String, Problem> {
    let client = agent.map_or_else(|| world.operator(), |agent| world.agent(agent));
    client.get::<ProposalDetail>(&format!("/v1/proposals/{name}")).await.map(|detail| detail.row.id.0)
}

/// The name with its last letter replaced.
fn mistyped(name: &str) -> String {
    let last = if name.ends_with('2') { '3' } else { '2' };
    format!("{}{last}", &name[..name.len() - 1])
}

#[tokio::test(start_paused = true)]
async fn names_may_be_short_and_a_slip_is_answered_with_what_was_meant() {
    let mut world = World::new().await;
    let own = world.propose_as("ada", &draft("a")).await.unwrap().row;
    let other = world.propose_as("bob", &draft("b")).await.unwrap().row;
    let no = |digest| json!({"digest": digest, "verdict": "rejected", "reason": "no"});
    world.decide(&own, no(own.digest)).await.unwrap();
    world.decide(&other, no(other.digest)).await.unwrap();
    let own = own.id.0;
    for _ in 0..2 {
        for agent in [Some("ada"), None] {
            assert_eq!(looks(&world, agent, &own[..6]).await.unwrap(), own);
            assert_eq!(looks(&world, agent, &own.to_uppercase()).await.unwrap(), own);
            let problem = looks(&world, agent, &mistyped(&own)).await.unwrap_err();
            assert_eq!((problem.code, problem.help), (Code::NotFound, format!("did you mean `{own}`?")));
        }
        // An agent learns nothing of those of others, however near it comes.
        for name in [&other.id.0[..6], &other.id.0, &mistyped(&other.id.0)] {
            let problem = looks(&world, Some("ada"), name).await.unwrap_err();
            assert_eq!(problem.code, Code::NotFound);
            assert!(!problem.help.contains(&other.id.0), "{problem}");
        }
        world.crash().await;
        world.start().await.unwrap();
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_name_that_fits_several_is_answered_with_them() {
    let world = World::with("", |settings| settings.queue_limit = 200).await;
    let mut ids = Vec::new();
    // There are 32 letters to begin with: of 33 names two begin alike.
    for number in 0..33 {
        ids.push(world.propose(&format!("p{number}")).await.row.id.0);
    }
    ids.sort();
    let pair = ids.windows(2).find(|pair| pair[0][..1] == pair[1][..1]).unwrap();
    for agent in [Some("ada"), None] {
        let problem = looks(&world, agent, &pair[0][..1]).await.unwrap_err();
        assert_eq!(problem.code, Code::Ambiguous);
        assert!(problem.message.contains(&pair[0]) && problem.message.contains(" fits "), "{problem}");
    }
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_mistyped_profile_is_answered_with_what_was_meant() {
    let world = World::new().await;
    let asked = json!({"steps": [{"argv": ["a"]}], "profile": "shel"});
    let problem = world.propose_as("ada", &asked).await.unwrap_err();
    assert_eq!(problem.code, Code::UnknownProfile);
    assert_eq!(problem.message, "there is no profile `shel`, did you mean `shell`?");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn sandboxes_are_listed_by_themselves() {
    let world = World::new().await;
    world.warm().await;
    let rows: Vec<SandboxRow> = until("a warm sandbox", async || {
        let rows: Vec<SandboxRow> = world.operator().get("/v1/sandboxes").await.unwrap();
        rows.iter().any(|row| row.state.text() == "warm").then_some(rows)
    })
    .await;
    assert_eq!(rows, world.snapshot().await.sandboxes);
    world.end().await;
}
