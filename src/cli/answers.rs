//! What each command prints with `--json`, as JSON schemas: `docs/schema.json`.
//!
//! A command has a line in [`all`], or it says in [`NONE`] why it prints no JSON; a test looks that none is left out, and
//! others run each of them and compare.

use schemars::generate::SchemaSettings;
use schemars::{JsonSchema, Schema, SchemaGenerator};
use serde_json::{Map, Value, json};

use brig_core::retention::Usage;

use super::{audit, completions, export, image, kill, man, run, serve, stop};
use crate::api::described::tidy;
use crate::api::wire::{ErrorBody, FollowLine, ImageRow, PoolRow, ProposalDetail, ProposalRow, Pruned, SandboxRow};
use crate::doctor;

/// What a command prints.
#[derive(Clone, Copy, Debug)]
pub struct Answer {
    /// The command's words, with the option that changes its answer, as in `logs --follow`.
    pub command: &'static str,
    /// One value a line, instead of one value.
    pub is_lines: bool,
    schema: fn(&mut SchemaGenerator) -> Schema,
}

/// Every answer.
#[must_use]
pub fn all() -> Vec<Answer> {
    vec![
        one::<Vec<ProposalRow>>("queue"),
        one::<Vec<SandboxRow>>("ps"),
        one::<Vec<PoolRow>>("pools"),
        one::<PoolRow>("pools set"),
        one::<PoolRow>("pools drain"),
        one::<PoolRow>("pools pause"),
        one::<PoolRow>("pools resume"),
        one::<PoolRow>("pools recycle"),
        one::<ProposalDetail>("show"),
        one::<run::Outcome>("run"),
        one::<ProposalRow>("run --detach"),
        one::<run::Outcome>("again"),
        one::<run::Proposed>("again --detach"),
        one::<Vec<ProposalRow>>("history"),
        one::<Vec<SandboxRow>>("top"),
        one::<export::ExportedRun>("export"),
        one::<completions::Script>("completions"),
        one::<man::Manual>("man"),
        one::<Vec<ProposalRow>>("wait"),
        one::<ProposalRow>("withdraw"),
        one::<ProposalRow>("approve"),
        one::<ProposalRow>("reject"),
        one::<Vec<kill::Killed>>("kill"),
        one::<Vec<FollowLine>>("logs"),
        lines::<FollowLine>("logs --follow"),
        one::<Vec<ImageRow>>("image ls"),
        lines::<image::Told>("image pull"),
        lines::<image::Told>("image build"),
        one::<Pruned>("image prune"),
        one::<audit::Report>("audit verify"),
        lines::<audit::Exported>("audit export"),
        one::<Usage>("audit usage"),
        one::<serve::Ready>("serve"),
        one::<doctor::Report>("doctor"),
        one::<stop::Stopped>("stop"),
    ]
}

/// Commands that print no JSON, and why.
pub const NONE: &[(&str, &str)] = &[];

fn one<T: JsonSchema>(command: &'static str) -> Answer {
    Answer { command, is_lines: false, schema: SchemaGenerator::subschema_for::<T> }
}

fn lines<T: JsonSchema>(command: &'static str) -> Answer {
    Answer { command, is_lines: true, schema: SchemaGenerator::subschema_for::<T> }
}

impl Answer {
    /// Its name among the definitions, as in `logs-follow`.
    #[must_use]
    pub fn name(&self) -> String {
        self.command.split_whitespace().map(|word| word.trim_start_matches('-')).collect::<Vec<_>>().join("-")
    }
}

/// The document: a definition a command under its name, `error`, and the types that they refer to.
#[must_use]
pub fn document() -> Value {
    let mut generator = SchemaSettings::draft2020_12().for_serialize().into_generator();
    let mut definitions = Map::new();
    for answer in all() {
        let mut schema = (answer.schema)(&mut generator).to_value();
        let each = if answer.is_lines { "Each line" } else { "What is printed" };
        let about = format!("{each} by `brig {} --json`.", answer.command);
        match schema["description"].as_str() {
            Some(own) => schema["description"] = format!("{about} {own}").into(),
            None => schema["description"] = about.into(),
        }
        definitions.insert(answer.name(), schema);
    }
    let mut error = generator.subschema_for::<ErrorBody>().to_value();
    error["description"] = "What any command prints with `--json` when it fails.".into();
    definitions.insert("error".to_owned(), error);
    definitions.extend(generator.take_definitions(true));
    let mut document = json!({
        "$schema": "https://json-schema.org/draft/2020-12/schema",
        "title": "What brig's commands print with --json",
        "description": "A definition a command. More fields may come to be.",
        "$defs": definitions,
    });
    tidy(&mut document);
    document
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory as _;

    use super::*;

    #[test]
    fn every_command_says_what_it_prints_as_json() {
        let mut open = vec![(String::new(), super::super::Args::command())];
        while let Some((path, command)) = open.pop() {
            let parts: Vec<_> = command.get_subcommands().filter(|it| it.get_name() != "help").cloned().collect();
            for part in &parts {
                open.push((format!("{path} {}", part.get_name()), part.clone()));
            }
            let path = path.trim();
            let is_known = |known: &str| known == path || known.starts_with(&format!("{path} --"));
            let says = all().iter().any(|it| is_known(it.command)) || NONE.iter().any(|(none, _)| *none == path);
            assert!(says || !parts.is_empty(), "`brig {path}` is neither in `answers::all` nor in `answers::NONE`");
        }
    }
}
