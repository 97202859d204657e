//! What is turned away: each with its status, its code, what is wrong and what to do.

use brig::api::client::{Client, Lines};
use brig::api::wire::{Done, FollowLine, ProposalDetail, Snapshot};
use brig::engine::scripted::Call;
use brig_core::problem::Code;
use serde_json::{Value, json};

use crate::support::world::{World, draft, next_line, pass};

fn post(body: &str) -> Vec<u8> {
    request("POST /v1/proposals", body)
}

fn request(line: &str, body: &str) -> Vec<u8> {
    let length = body.len();
    format!("{line} HTTP/1.1\r\nhost: brig\r\nconnection: close\r\ncontent-length: {length}\r\n\r\n{body}").into_bytes()
}

#[tokio::test(start_paused = true)]
async fn whatever_is_wrong_with_a_request_is_said_with_what_to_do() {
    let world = World::new().await;
    world.warm().await;
    let argv = |argv: Value| json!({"steps": [{"argv": argv}]}).to_string();
    let cases: Vec<(Vec<u8>, u16, &str, &str)> = vec![
        (post("{"), 400, "malformed", "the request's body is not what is expected here: EOF"),
        (post("[]"), 400, "malformed", "the request's body is not what is expected here: "),
        (
            post(r#"{"steps": [], "shell": true}"#),
            400,
            "malformed",
            "the request's body is not what is expected here: unknown field `shell`",
        ),
        (
            post(r#"{"steps": [{"argv": [7]}]}"#),
            400,
            "malformed",
            "the request's body is not what is expected here: wanted a string, or",
        ),
        (post(&"[".repeat(100_000)), 400, "malformed", "the request's body is not what is expected here: "),
        (post(r#"{"steps": []}"#), 400, "invalid_field", "steps is empty"),
        (post(&argv(json!([]))), 400, "invalid_field", "steps[0].argv is empty"),
        (post(&argv(json!(["a", "b\0c"]))), 400, "invalid_field", "steps[0].argv[1] has a NUL byte at position 1"),
        (
            post(&json!({"steps": [{"argv": ["ls"]}], "profile": "sehll"}).to_string()),
            400,
            "unknown_profile",
            "there is no profile `sehll`",
        ),
        (
            post(&json!({"steps": [{"argv": ["ls"]}], "timeout_ms": 9_000_000}).to_string()),
            400,
            "loosens",
            "timeout_ms: 9000000 ms is more than",
        ),
        (
            post(&json!({"steps": [{"argv": ["cat"]}], "stdin": "x".repeat(9 << 20)}).to_string()),
            413,
            "too_large",
            "code, stdin and files: 9437184 bytes, which is over the limit of 8388608",
        ),
        (post(&"x".repeat((16 << 20) + 1)), 413, "too_large", "the request's body is over 16777216 bytes"),
        (request("POST /v1/proposals?follow=perhaps", "{}"), 400, "malformed", "what follows the `?` cannot be read: "),
        (request("GET /v1/proposals/abc?wait_ms=-1", ""), 400, "malformed", "what follows the `?` cannot be read: "),
        (request("GET /v1/proposals/%ff", ""), 400, "malformed", "the name in the path cannot be read: "),
        (request("GET /v1/proposals/nothere0", ""), 404, "not_found", "there is no proposal `nothere0`"),
        (request("GET /v1/proposals/a%1b%5bm", ""), 404, "not_found", "there is no proposal `a"),
        (request("GET /v1/snapshot", ""), 404, "not_found", "there is no GET /v1/snapshot here"),
        (request("DELETE /v1/proposals", ""), 405, "malformed", "/v1/proposals cannot be asked with DELETE"),
        (request("POST /v1/proposals/abc/verdict", "{}"), 404, "not_found", "there is no POST"),
    ];
    for (bytes, status, code, message) in cases {
        let shown = String::from_utf8_lossy(&bytes[..bytes.len().min(200)]).into_owned();
        let (answered, body) = world.raw(&bytes).await;
        let error = &body["error"];
        assert_eq!((answered, error["code"].as_str().unwrap()), (status, code), "{shown}: {body}");
        let said = error["message"].as_str().unwrap();
        assert!(said.starts_with(message), "{shown}: {said}");
        assert!(!said.contains('\u{1b}'), "{shown}: {said:?}");
        let needs_help = !matches!(code, "too_large" | "invalid_field");
        assert!(!needs_help || !error["help"].as_str().unwrap_or_default().is_empty(), "{shown}: no help: {body}");
    }
    assert_eq!(world.snapshot().await.proposals, [], "something of what was turned away is left");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn who_does_not_show_the_right_token_decides_nothing() {
    let world = World::new().await;
    let row = world.propose("ls").await.row;
    let verdict = json!({"digest": row.digest, "verdict": "approved"});
    for token in [None, Some(String::new()), Some("0".repeat(64)), Some("the token of ada".to_owned())] {
        let client = Client::new(&world.places.operator_socket(), token.clone());
        let refused = [
            client.get::<Snapshot>("/v1/snapshot").await.map(drop),
            client.post::<ProposalDetail>(&format!("/v1/proposals/{}/verdict", row.id), &verdict).await.map(drop),
            client.post::<Done>("/v1/shutdown", &json!({})).await.map(drop),
            client.follow::<Value>("/v1/events").await.map(drop),
        ];
        for refused in refused {
            let problem = refused.unwrap_err();
            assert_eq!(problem.code, Code::WrongToken, "{token:?}");
            assert!(!problem.help.is_empty());
        }
    }
    assert_eq!(world.look(&row).await.status.text(), "waiting");
    let unknown = Client::new(&world.places.agent_socket(), Some("guess".to_owned()));
    let problem = unknown.post::<ProposalDetail>("/v1/proposals", &draft("ls")).await.unwrap_err();
    assert_eq!((problem.code, problem.message.as_str()), (Code::WrongToken, "the token is no agent's"));
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn what_another_agent_proposed_is_as_good_as_not_there() {
    let world = World::new().await;
    let row = world.propose("ls").await.row;
    let bob = world.agent("bob");
    let path = format!("/v1/proposals/{}", row.id);
    let tries = [
        bob.get::<ProposalDetail>(&path).await.map(drop),
        bob.follow::<FollowLine>(&format!("{path}/output")).await.map(drop),
        bob.post::<Done>(&format!("{path}/withdraw"), &json!({})).await.map(drop),
    ];
    for tried in tries {
        let problem = tried.unwrap_err();
        assert_eq!((problem.code, problem.message), (Code::NotFound, format!("there is no proposal `{}`", row.id)));
    }
    assert_eq!(world.look(&row).await.status.text(), "waiting");
    let _: Done = world.agent("ada").post(&format!("{path}/withdraw"), &json!({})).await.unwrap();
    assert_eq!(world.look(&row).await.status.text(), "withdrawn");
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_user_whose_name_is_an_agents_needs_that_agents_token() {
    let me = brig::supervisor::process::user_name(brig::supervisor::process::uid());
    let world = World::with("", |settings| {
        settings.agent_tokens.insert(me.clone(), brig_core::profile::Hash::of(b"secret"));
    })
    .await;
    let without = Client::new(&world.places.agent_socket(), None);
    let problem = without.post::<ProposalDetail>("/v1/proposals", &draft("ls")).await.unwrap_err();
    assert_eq!(problem.code, Code::WrongToken);
    assert_eq!(problem.message, format!("agent `{me}` has a token, and none was shown"));
    let with = Client::new(&world.places.agent_socket(), Some("secret".to_owned()));
    assert_eq!(with.post::<ProposalDetail>("/v1/proposals", &draft("ls")).await.unwrap().row.agent.name, me);
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_key_stands_for_one_request_of_one_agent() {
    let world = World::new().await;
    let keyed = |program: &str| json!({"steps": [{"argv": [program]}], "key": "monday"});
    let first = world.propose_as("ada", &keyed("ls")).await.unwrap();
    assert_eq!(world.propose_as("ada", &keyed("ls")).await.unwrap().row.id, first.row.id);
    let problem = world.propose_as("ada", &keyed("rm")).await.unwrap_err();
    assert_eq!(problem.code, Code::KeyConflict);
    assert!(problem.message.contains(&first.row.id.0) && !problem.help.is_empty(), "{problem}");
    assert_ne!(world.propose_as("bob", &keyed("rm")).await.unwrap().row.id, first.row.id);
    // Who follows a repetition follows the first one, and takes that back.
    let mut lines: Lines<FollowLine> = world.follow(&keyed("ls"), true).await.unwrap();
    next_line("the first one's row", &mut lines, |line| match line {
        FollowLine::Proposal(row) if row.id == first.row.id => Some(()),
        _ => None,
    })
    .await;
    drop(lines);
    world.stands(&first.row, "withdrawn").await;
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_takes_no_more_until_something_is_decided() {
    let world = World::with("", |settings| settings.queue_limit = 2).await;
    world.warm().await;
    let first = world.propose("a").await.row;
    world.propose("b").await;
    let problem = world.propose_as("bob", &draft("c")).await.unwrap_err();
    assert_eq!(problem.code, Code::QueueFull);
    assert!(problem.help.contains("[queue] limit"), "{problem}");
    world.approve(&first).await.unwrap();
    world.stands(&first, "finished").await;
    world.propose_as("bob", &draft("c")).await.unwrap();
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_full_queue_counts_those_that_wait_for_their_image() {
    let mut world = World::idle("", |settings| settings.queue_limit = 1);
    world.engine.hold(Call::ResolveImage);
    world.start().await.unwrap();
    let lines = world.follow(&draft("a"), true).await.unwrap();
    assert_eq!(world.propose_as("bob", &draft("b")).await.unwrap_err().code, Code::QueueFull);
    drop(lines);
    pass(std::time::Duration::from_secs(1)).await;
    world.engine.mend(Call::ResolveImage);
    world.propose_as("bob", &draft("b")).await.unwrap();
    world.end().await;
}

#[tokio::test(start_paused = true)]
async fn a_request_that_is_repeated_while_its_image_is_fetched_is_the_same_one() {
    let mut world = World::idle("", |_| {});
    world.engine.hold(Call::ResolveImage);
    world.start().await.unwrap();
    let asked = json!({"steps": [{"argv": ["ls"]}], "key": "monday"});
    let both = [world.agent("ada"), world.agent("ada")].map(|client| {
        let asked = asked.clone();
        tokio::spawn(async move { client.post::<ProposalDetail>("/v1/proposals", &asked).await })
    });
    pass(std::time::Duration::from_secs(1)).await;
    world.engine.mend(Call::ResolveImage);
    let [first, second] = both;
    let (first, second) = (first.await.unwrap().unwrap(), second.await.unwrap().unwrap());
    assert_eq!(first.row.id, second.row.id);
    world.end().await;
}
