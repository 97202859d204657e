//! The OpenAPI documents, and everything that goes over the sockets held against them.

use std::collections::BTreeMap;
use std::path::PathBuf;

use brig::api::wire::{SandboxRow, SandboxState};
use brig::engine::scripted::{Act, Script};
use brig::supervisor::sockets::openapi::{AGENT, Example, OPERATOR, documents};
use brig_core::proposal::OutputStream;
use bytes::Bytes;
use http_body_util::{BodyExt as _, Full};
use hyper::Request;
use hyper::client::conn::http1;
use hyper_util::rt::TokioIo;
use serde_json::{Value, json};
use tokio::net::UnixStream;

use super::{assert_committed, is_blessing, path};
use crate::support::schema::{assert_fits, fits};
use crate::support::world::{World, bounded};

const EXAMPLES: &str = "docs/examples.json";

/// The examples are sent one after another to a real supervisor; so each may speak of what came of those before it.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_documents_are_what_the_code_says_and_their_examples_work() {
    let mut examples: Vec<Example> = serde_json::from_str(&std::fs::read_to_string(path(EXAMPLES)).unwrap()).unwrap();
    let described = documents(&examples);
    let mut play = Play::new().await;
    for example in &mut examples {
        play.run(example, &described[usize::from(example.socket == "operator")]).await;
    }
    play.world.ended().await.unwrap();
    play.world.leaves_nothing();
    if is_blessing() {
        assert_committed(EXAMPLES, &serde_json::to_value(&examples).unwrap());
    }
    let [agent, operator] = documents(&examples);
    assert_committed("docs/openapi-agent.json", &agent);
    assert_committed("docs/openapi-operator.json", &operator);
}

#[test]
fn every_request_that_is_described_has_an_example() {
    for name in ["agent", "operator"] {
        let text = committed(name);
        let document: Value = serde_json::from_str(&text).unwrap();
        for (path, method, operation) in operations(&document) {
            let contents = operation["responses"]["200"]["content"].as_object().unwrap();
            for (media, content) in contents {
                // Not a second time in itself.
                let shown = content["examples"].is_object() || path == "/v1/openapi.json";
                assert!(shown, "{EXAMPLES} has no {method} {path} of the {name} socket that answers with {media}");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_socket_serves_its_own_document() {
    let world = World::new().await;
    for (socket, token, document) in
        [(world.places.agent_socket(), None, AGENT), (world.places.operator_socket(), token(&world), OPERATOR)]
    {
        let served =
            bounded("the document", ask(socket, token, "GET /v1/openapi.json".to_owned(), None, Until::End)).await;
        assert_eq!(served, (200, document.to_owned()));
    }
    world.end().await;
}

#[test]
fn agents_are_told_of_no_request_that_they_cannot_make() {
    let document: Value = serde_json::from_str(&committed("agent")).unwrap();
    let paths: Vec<_> = document["paths"].as_object().unwrap().keys().collect();
    assert!(
        paths
            .iter()
            .all(|path| !["verdict", "kill", "shutdown", "snapshot", "events"].iter().any(|it| path.contains(it)))
    );
    let schemas = document["components"]["schemas"].as_object().unwrap();
    for foreign in ["VerdictRequest", "Snapshot", "SandboxRow", "PoolRow", "Update"] {
        assert!(!schemas.contains_key(foreign), "{foreign}");
    }
}

#[test]
fn the_documents_refer_to_nothing_that_is_not_there_and_keep_nothing_that_nobody_refers_to() {
    for text in ["agent", "operator"].map(committed) {
        let document: Value = serde_json::from_str(&text).unwrap();
        let schemas = document["components"]["schemas"].as_object().unwrap();
        let mut names: Vec<_> =
            text.split("\"#/components/schemas/").skip(1).map(|it| it.split('"').next().unwrap()).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names, schemas.keys().collect::<Vec<_>>());
        for (name, schema) in schemas {
            // A number is what a second type of the same name gets, and which one is second is chance.
            assert!(!name.ends_with(|it: char| it.is_ascii_digit()), "two types have the name of {name}");
            for (field, schema) in schema["properties"].as_object().into_iter().flatten() {
                let is_told = schema.get("description").is_some() || schema.get("$ref").is_some();
                assert!(is_told, "{name}.{field} has no description");
            }
        }
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn every_line_that_consoles_and_followers_get_is_described() {
    let world = World::new().await;
    let [agent, operator] = ["agent", "operator"].map(|name| serde_json::from_str::<Value>(&committed(name)).unwrap());
    world.warm().await;
    let acts = [Act::out("hi\n"), Act::Say(OutputStream::Stderr, Bytes::from_static(&[0xff])), Act::Gate("go")];
    world.engine.script("it", Script::new(acts));
    let console = tokio::spawn(ask(
        world.places.operator_socket(),
        token(&world),
        "GET /v1/events".to_owned(),
        None,
        Until::Broken,
    ));
    world.sees("a console", |all| (all.supervisor.consoles == 1).then_some(())).await;
    let body = json!({"steps": [{"argv": ["it"]}]});
    let target = "POST /v1/proposals?follow=true";
    let follower = tokio::spawn(ask(world.places.agent_socket(), None, target.into(), Some(body), Until::End));
    let row = world.sees("the proposal", |all| all.proposals.first().cloned()).await;
    // One that comes and goes changes what is said of the supervisor.
    let other = world.console().await;
    world.sees("two consoles", |all| (all.supervisor.consoles == 2).then_some(())).await;
    world.approve(&row).await.unwrap();
    world.stands(&row, "running").await;
    drop(other);
    world.sees("one console", |all| (all.supervisor.consoles == 1).then_some(())).await;
    world.engine.open("go");
    let (status, lines) = bounded("the follower's end", follower).await.unwrap();
    let followed = lines_of(&lines);
    assert_eq!(status, 200);
    let schema = json!({"$ref": "#/components/schemas/FollowLine"});
    followed.iter().for_each(|line| assert_fits(&agent, &schema, line));
    assert!(["waiting", "running", "finished"].iter().all(|it| followed.iter().any(|line| line["status"] == *it)));
    assert!(followed.iter().any(|line| line["data"]["base64"] == "/w=="), "{followed:?}");
    world.stands(&row, "finished").await;
    world.sees("the sandbox gone", |all| all.sandboxes.iter().all(|it| it.proposal.is_none()).then_some(())).await;
    world.end().await;
    let (_, lines) = bounded("the console's end", console).await.unwrap();
    let seen = lines_of(&lines);
    let schema = json!({"$ref": "#/components/schemas/Update"});
    seen.iter().for_each(|line| assert_fits(&operator, &schema, line));
    for kind in ["snapshot", "proposal", "sandbox", "sandbox-gone", "pool", "supervisor"] {
        assert!(seen.iter().any(|line| line["type"] == kind), "no {kind} in {seen:#?}");
    }
}

/// A supervisor that the examples are sent to, and what their names for things mean in it.
struct Play {
    world: World,
    real: BTreeMap<String, String>,
}

impl Play {
    async fn new() -> Self {
        let world = World::new().await;
        let lines =
            Script::new([Act::out("bin\netc\n"), Act::Say(OutputStream::Stderr, Bytes::from_static(b"\xff\n"))]);
        world.engine.script("ls", lines);
        world.engine.script("sleep", Script::new([Act::Hang]));
        world.warm().await;
        Self { world, real: BTreeMap::new() }
    }

    async fn run(&mut self, example: &mut Example, document: &Value) {
        let title = example.title.clone();
        let operation = operation_of(document, example).unwrap_or_else(|| panic!("{title}: there is no such request"));
        if let Some(body) = &example.body
            && example.status == 200
        {
            let schema = &operation["requestBody"]["content"]["application/json"]["schema"];
            fits(document, schema, body).unwrap_or_else(|wrong| panic!("{title}: what is sent: {wrong}"));
        }
        let (socket, token) = match example.socket.as_str() {
            "operator" => (self.world.places.operator_socket(), token(&self.world)),
            _ => (self.world.places.agent_socket(), Some("the token of ada".to_owned())),
        };
        if example.request.contains("/kill") {
            // It has to run before it can be killed, and the sandbox is known only then.
            let is_running = |row: &&SandboxRow| row.state == SandboxState::Running;
            let sandbox = self.world.sees("a run", |all| all.sandboxes.iter().find(is_running).cloned()).await;
            if let Some(name) = example.request.split('/').nth(3).filter(|name| name.contains('-')) {
                self.real.insert(name.to_owned(), sandbox.id.0);
            }
        }
        if example.request.ends_with("/verdict") {
            self.world.warm().await;
        }
        let request = self.real_names(&example.request);
        let body = example.body.as_ref().map(|body| serde_json::from_str(&self.real_names(&body.to_string())).unwrap());
        let until = if example.request.contains("/v1/events") { Until::FirstLine } else { Until::End };
        let (status, text) = bounded(&title, ask(socket, token, request, body, until)).await;
        assert_eq!(status, example.status, "{title}: {text}");
        let content = &operation["responses"][status.to_string()]["content"];
        let (media, real) = match &example.lines {
            Some(_) => ("application/x-ndjson", lines_of(&text)),
            None => ("application/json", vec![serde_json::from_str(&text).unwrap()]),
        };
        let schema = &content[media]["schema"];
        for value in &real {
            fits(document, schema, value).unwrap_or_else(|wrong| panic!("{title}: {wrong} in {value:#}"));
        }
        let mut shown = example.lines.clone().unwrap_or_else(|| example.answer.iter().cloned().collect());
        for (shown, real) in shown.iter().zip(&real) {
            learn(&mut self.real, shown, real);
        }
        if is_blessing() {
            shown = real.iter().enumerate().map(|(at, real)| self.example_of(shown.get(at), real)).collect();
        }
        for value in &shown {
            fits(document, schema, value).unwrap_or_else(|wrong| panic!("{title}: the example: {wrong} in {value:#}"));
        }
        assert_eq!(shown.len().min(1), real.len().min(1), "{title}: the example shows nothing");
        match &mut example.lines {
            Some(lines) => *lines = shown,
            None => example.answer = shown.pop(),
        }
    }

    /// The example's names, replaced by those that they have here.
    fn real_names(&self, text: &str) -> String {
        self.real.iter().fold(text.to_owned(), |text, (shown, real)| text.replace(shown, real))
    }

    /// What was answered, with the names and times of the example before.
    fn example_of(&self, before: Option<&Value>, real: &Value) -> Value {
        let text = self.real.iter().fold(real.to_string(), |text, (shown, real)| text.replace(real, shown));
        let mut value = serde_json::from_str(&text).unwrap();
        settle(&mut value, before);
        value
    }
}

/// Keeps what is another each time as it was in the example before.
fn settle(value: &mut Value, before: Option<&Value>) {
    const PASSING: [&str; 18] = [
        "at",
        "since",
        "started_at",
        "received_at",
        "expires_at",
        "deadline_at",
        "uid",
        "pid",
        "host",
        "wall_us",
        "cpu_us",
        "peak_memory",
        "version",
        "status",
        "state",
        "cold",
        "ready",
        "arming",
    ];
    match value {
        Value::Object(fields) => {
            for (name, field) in fields {
                let before = before.and_then(|before| before.get(name));
                match before {
                    Some(before) if PASSING.contains(&name.as_str()) => *field = before.clone(),
                    _ => settle(field, before),
                }
            }
        }
        Value::Array(items) => {
            for (at, item) in items.iter_mut().enumerate() {
                settle(item, before.and_then(|before| before.get(at)));
            }
        }
        _ => {}
    }
}

/// Which of the real names the example's stand for.
fn learn(names: &mut BTreeMap<String, String>, shown: &Value, real: &Value) {
    match (shown, real) {
        (Value::Object(shown), Value::Object(real)) => {
            for (name, value) in shown {
                match (value, real.get(name)) {
                    (Value::String(shown), Some(Value::String(real)))
                        if ["id", "digest", "sandbox"].contains(&name.as_str()) =>
                    {
                        names.entry(shown.clone()).or_insert_with(|| real.clone());
                    }
                    (value, Some(real)) => learn(names, value, real),
                    _ => {}
                }
            }
        }
        (Value::Array(shown), Value::Array(real)) => {
            shown.iter().zip(real).for_each(|(shown, real)| learn(names, shown, real))
        }
        _ => {}
    }
}

/// The document of a socket, as it is in the repository.
fn committed(socket: &str) -> String {
    std::fs::read_to_string(path(&format!("docs/openapi-{socket}.json"))).unwrap()
}

fn operations(document: &Value) -> Vec<(String, String, &Value)> {
    let paths = document["paths"].as_object().unwrap();
    let of = |(path, methods): (&String, &'_ Value)| {
        let methods: Vec<_> = methods.as_object().unwrap().keys().cloned().collect();
        methods.into_iter().map(|method| (path.clone(), method)).collect::<Vec<_>>()
    };
    let all = paths.iter().flat_map(of).collect::<Vec<_>>();
    all.into_iter()
        .map(|(path, method)| {
            let it = &document["paths"][&path][&method];
            (path, method, it)
        })
        .collect()
}

fn operation_of<'a>(document: &'a Value, example: &Example) -> Option<&'a Value> {
    let (method, target) = example.request.split_once(' ').unwrap();
    let parts = |path: &str| path.split('?').next().unwrap().split('/').map(str::to_owned).collect::<Vec<_>>();
    let asked = parts(target);
    operations(document).into_iter().find_map(|(path, known, operation)| {
        let path = parts(&path);
        let fits =
            path.len() == asked.len() && path.iter().zip(&asked).all(|(it, asked)| it.starts_with('{') || it == asked);
        (fits && known.eq_ignore_ascii_case(method)).then_some(operation)
    })
}

fn token(world: &World) -> Option<String> {
    Some(std::fs::read_to_string(world.places.operator_token()).unwrap().trim().to_owned())
}

fn lines_of(text: &str) -> Vec<Value> {
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}

/// When an answer has been read.
#[derive(Clone, Copy, PartialEq)]
enum Until {
    End,
    FirstLine,
    /// Or the end of the supervisor, which cuts it off.
    Broken,
}

/// Asks for `METHOD /path`, and gives the status and what is answered.
async fn ask(
    socket: PathBuf,
    token: Option<String>,
    target: String,
    body: Option<Value>,
    until: Until,
) -> (u16, String) {
    let (method, path) = target.split_once(' ').unwrap();
    let stream = UnixStream::connect(socket).await.unwrap();
    let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.unwrap();
    tokio::spawn(connection);
    let mut request = Request::builder().method(method).uri(path).header("host", "brig");
    if let Some(token) = token {
        request = request.header("authorization", format!("Bearer {token}"));
    }
    let body = body.map(|body| body.to_string()).unwrap_or_default();
    let answer = sender.send_request(request.body(Full::new(Bytes::from(body))).unwrap()).await.unwrap();
    let status = answer.status().as_u16();
    let mut body = answer.into_body();
    let mut all = Vec::new();
    while let Some(frame) = body.frame().await {
        match frame {
            Ok(frame) => all.extend_from_slice(frame.data_ref().map_or(&[], |data| data)),
            Err(error) if until != Until::Broken => panic!("{target}: {error}"),
            Err(_) => break,
        }
        if until == Until::FirstLine && all.contains(&b'\n') {
            break;
        }
    }
    (status, String::from_utf8(all).unwrap())
}
