//! The OpenAPI documents of both sockets, made of the tables of requests and of the wire types.
//!
//! They are committed, and what is served is what is committed: `tests/described.rs` compares, so that a running supervisor
//! makes none of this. There is one a socket, as neither knows the requests of the other.

use std::collections::{BTreeMap, BTreeSet};

use brig_core::problem::{Code, Problem};
use schemars::generate::{SchemaGenerator, SchemaSettings};
use serde::{Deserialize, Serialize};
use serde_json::{Map, Value, json};

use super::describe::{Form, Route, SchemaOf};
use super::{agent, operator, reply};
use crate::api::described;

/// What the agent socket serves.
pub const AGENT: &str = include_str!("../../../docs/openapi-agent.json");
/// What the operator socket serves.
pub const OPERATOR: &str = include_str!("../../../docs/openapi-operator.json");

/// Where schemas are in a document.
const SCHEMAS: &str = "#/components/schemas/";

/// A request with its answer, as a test has seen them.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Example {
    /// In a few words; no two have the same.
    pub title: String,
    /// `agent` or `operator`.
    pub socket: String,
    /// Method, path and query.
    pub request: String,
    /// What is sent.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub body: Option<Value>,
    /// The HTTP status of the answer.
    pub status: u16,
    /// The answer, where it is one value.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub answer: Option<Value>,
    /// The answer, where it is lines.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub lines: Option<Vec<Value>>,
}

/// Both documents: the agents' and the operators'.
#[must_use]
pub fn documents(examples: &[Example]) -> [Value; 2] {
    let of = |socket: &str| examples.iter().filter(|it| it.socket == socket).collect::<Vec<_>>();
    [
        document(
            "brig, the agents' socket",
            "HTTP and JSON on the Unix socket `RUNTIME/agent/agent.sock`, for those who propose. Without a token an agent \
             is called as its user is; with one, as `[agents.tokens]` in `brig.toml` names it. It sees what was proposed \
             under its own name.",
            &agent::routes(),
            &of("agent"),
        ),
        document(
            "brig, the operators' socket",
            "HTTP and JSON on the Unix socket `RUNTIME/operator.sock`, for those who decide: the supervisor's own user and \
             root, with the token in `RUNTIME/operator.token`, which is new at each start of the supervisor.",
            &operator::routes(),
            &of("operator"),
        ),
    ]
}

const VALUES: &str = "Times are milliseconds since 1970-01-01T00:00:00Z, durations milliseconds (`_ms`) or microseconds \
    (`_us`), sizes bytes. Fields without a value are left out of answers, and more fields may come to be. A field that a \
    request does not know is an error. Text that an agent or a program chose comes as it is: whoever shows it has to make \
    it harmless.\n\nAn answer of lines (`application/x-ndjson`) is one object a line, each as the schema says; after 10 \
    seconds of silence comes `{\"type\":\"alive\"}`.\n\nA path that is not here is answered with 404 and the code \
    `not_found`, a method that a path does not know with 405 and the code `malformed`.\n\n`RUNTIME` is \
    `$BRIG_RUNTIME_DIR`, else `$XDG_RUNTIME_DIR/brig`, else `/tmp/brig-UID`. The host in an address is not looked at.";

fn document(title: &str, about: &str, routes: &[Route], examples: &[&Example]) -> Value {
    let mut schemas = Schemas::new();
    let problem = schemas.of_answer(SchemaGenerator::subschema_for::<Problem>);
    let mut paths: BTreeMap<&str, Map<String, Value>> = BTreeMap::new();
    for route in routes {
        let examples: Vec<_> = examples.iter().copied().filter(|it| is_for(route, it)).collect();
        let operation = operation(route, &mut schemas, &problem, &examples);
        paths.entry(route.path).or_default().insert(route.method.to_owned(), operation);
    }
    let schemas = schemas.finish(&mut paths);
    let mut document = json!({
        "openapi": "3.1.0",
        "info": {
            "title": title,
            "version": env!("CARGO_PKG_VERSION"),
            "description": format!("{about}\n\n{VALUES}"),
            "license": { "name": "MIT OR Apache-2.0", "identifier": "MIT OR Apache-2.0" },
        },
        "servers": [{ "url": "http://brig", "description": "Over the Unix socket" }],
        "security": if title.contains("agent") { json!([{ "token": [] }, {}]) } else { json!([{ "token": [] }]) },
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": { "token": { "type": "http", "scheme": "bearer" } },
        },
    });
    described::tidy(&mut document["components"]["schemas"]);
    described::tidy(&mut document["paths"]);
    document
}

fn operation(route: &Route, schemas: &mut Schemas, problem: &Value, examples: &[&Example]) -> Value {
    let mut operation = json!({ "operationId": route.name, "summary": route.summary });
    if !route.details.is_empty() {
        operation["description"] = route.details.into();
    }
    let parameters = parameters(route, schemas);
    if !parameters.is_empty() {
        operation["parameters"] = parameters.into();
    }
    if let Some(body) = route.body {
        let shown = examples.iter().filter_map(|it| Some((it.title.clone(), json!({ "value": it.body.as_ref()? }))));
        let content = content(schemas.of_request(body), shown.collect());
        operation["requestBody"] = json!({ "required": true, "content": { "application/json": content } });
    }
    operation["responses"] = responses(route, schemas, problem, examples);
    operation
}

fn parameters(route: &Route, schemas: &mut Schemas) -> Vec<Value> {
    let names = route.path.split('/').filter_map(|part| part.strip_prefix('{')?.strip_suffix('}'));
    let mut all: Vec<_> = names
        .map(|name| {
            let about = route.subject.unwrap_or_default();
            let schema = json!({ "type": "string" });
            json!({ "name": name, "in": "path", "required": true, "description": about, "schema": schema })
        })
        .collect();
    let query = route.query.map(|query| schemas.of_request(query)).unwrap_or_default();
    for (name, schema) in query["properties"].as_object().into_iter().flatten() {
        let mut schema = unless_null(schema);
        let about = schema.as_object_mut().and_then(|it| it.remove("description"));
        let is_needed = query["required"].as_array().is_some_and(|all| all.iter().any(|it| it == name));
        all.push(json!({ "name": name, "in": "query", "required": is_needed, "description": about, "schema": schema }));
    }
    all
}

/// A parameter that is not there is none; there is no null among them.
fn unless_null(schema: &Value) -> Value {
    let mut schema = schema.clone();
    let null = json!({ "type": "null" });
    if let Some([one, other]) = schema["anyOf"].as_array().map(Vec::as_slice)
        && *other == null
    {
        let mut one = one.clone();
        one["description"] = schema["description"].take();
        return one;
    }
    if let Some([one, other]) = schema["type"].as_array().map(Vec::as_slice)
        && other == "null"
    {
        schema["type"] = one.clone();
    }
    schema
}

fn responses(route: &Route, schemas: &mut Schemas, problem: &Value, examples: &[&Example]) -> Value {
    let mut content_of = Map::new();
    for (form, schema) in &route.answers {
        let (media, about) = match form {
            Form::Json => ("application/json", None),
            Form::Lines => ("application/x-ndjson", Some("Each line.")),
        };
        let shown = examples.iter().filter(|it| it.status == 200).filter_map(|it| {
            let value = match form {
                Form::Json => it.answer.clone()?,
                Form::Lines => it.lines.as_ref()?.iter().map(|line| format!("{line}\n")).collect::<String>().into(),
            };
            Some((it.title.clone(), json!({ "value": value })))
        });
        let mut schema = schemas.of_answer(*schema);
        if let Some(about) = about {
            schema["description"] = about.into();
        }
        content_of.insert(media.to_owned(), content(schema, shown.collect()));
    }
    let mut all = Map::new();
    all.insert("200".to_owned(), json!({ "description": "The answer.", "content": content_of }));
    let mut by_status: BTreeMap<u16, Vec<Code>> = BTreeMap::new();
    for code in Code::ALL.iter().filter(|code| route.refusals.contains(code)) {
        by_status.entry(reply::status(*code).as_u16()).or_default().push(*code);
    }
    for (status, codes) in by_status {
        let names: Vec<_> = codes.iter().map(|code| code.text()).collect();
        let mut error = problem.clone();
        error["properties"] = json!({ "code": { "enum": names } });
        let schema = json!({ "type": "object", "properties": { "error": error }, "required": ["error"] });
        let shown = examples
            .iter()
            .filter(|it| it.status == status)
            .filter_map(|it| Some((it.title.clone(), json!({ "value": it.answer.as_ref()? }))));
        let content = content(schema, shown.collect());
        let about = format!("`{}`", names.join("`, `"));
        all.insert(status.to_string(), json!({ "description": about, "content": { "application/json": content } }));
    }
    all.into()
}

fn content(schema: Value, examples: Map<String, Value>) -> Value {
    if examples.is_empty() { json!({ "schema": schema }) } else { json!({ "schema": schema, "examples": examples }) }
}

/// Whether the example is one of this request.
fn is_for(route: &Route, example: &Example) -> bool {
    let (method, target) = example.request.split_once(' ').unwrap_or_default();
    let path = target.split_once('?').map_or(target, |(path, _)| path);
    let fits = |(part, asked): (&str, &str)| part.starts_with('{') || part == asked;
    method.eq_ignore_ascii_case(route.method)
        && path.split('/').count() == route.path.split('/').count()
        && route.path.split('/').zip(path.split('/')).all(fits)
}

/// The schemas that a document refers to.
struct Schemas {
    answers: SchemaGenerator,
    requests: SchemaGenerator,
}

impl Schemas {
    fn new() -> Self {
        let settings = SchemaSettings::draft2020_12().with(|it| {
            it.definitions_path = "/components/schemas".into();
            it.meta_schema = None;
        });
        Self {
            answers: settings.clone().for_serialize().into_generator(),
            requests: settings.for_deserialize().into_generator(),
        }
    }

    fn of_answer(&mut self, schema: SchemaOf) -> Value {
        schema(&mut self.answers).to_value()
    }

    fn of_request(&mut self, schema: SchemaOf) -> Value {
        schema(&mut self.requests).to_value()
    }

    /// All of them. A type whose field may be left out where it is sent and is always there where it is answered has two;
    /// the one that is sent has another name, also where `paths` refer to it.
    fn finish(mut self, paths: &mut BTreeMap<&str, Map<String, Value>>) -> Map<String, Value> {
        let mut all = self.answers.take_definitions(true);
        let mut sent = self.requests.take_definitions(true);
        let mut other: BTreeSet<String> = BTreeSet::new();
        loop {
            let known = other.len();
            for (name, schema) in &sent {
                let differs = all.get(name).is_some_and(|answered| answered != schema);
                if differs || all.contains_key(name) && refers_to(schema, &other) {
                    other.insert(name.clone());
                }
            }
            if other.len() == known {
                break;
            }
        }
        for operation in paths.values_mut().flat_map(|path| path.values_mut()) {
            for part in ["requestBody", "parameters"] {
                if let Some(part) = operation.get_mut(part) {
                    each_reference(part, &mut |reference| *reference = renamed(reference, &other));
                }
            }
        }
        sent.values_mut()
            .for_each(|schema| each_reference(schema, &mut |reference| *reference = renamed(reference, &other)));
        for (name, schema) in sent {
            let name = if other.contains(&name) { sent_name(&name) } else { name };
            all.insert(name, schema);
        }
        all
    }
}

fn sent_name(name: &str) -> String {
    format!("{name}Sent")
}

fn renamed(reference: &str, names: &BTreeSet<String>) -> String {
    match reference.strip_prefix(SCHEMAS) {
        Some(name) if names.contains(name) => format!("{SCHEMAS}{}", sent_name(name)),
        _ => reference.to_owned(),
    }
}

fn refers_to(schema: &Value, names: &BTreeSet<String>) -> bool {
    let mut found = false;
    each_reference(&mut schema.clone(), &mut |reference| {
        found |= reference.strip_prefix(SCHEMAS).is_some_and(|name| names.contains(name));
    });
    found
}

fn each_reference(schema: &mut Value, act: &mut impl FnMut(&mut String)) {
    match schema {
        Value::Object(fields) => {
            for (name, value) in fields {
                match value {
                    Value::String(reference) if name == "$ref" => act(reference),
                    other => each_reference(other, act),
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| each_reference(item, act)),
        _ => {}
    }
}
