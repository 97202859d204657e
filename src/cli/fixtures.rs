//! Rows for the tests of the commands.

use brig_core::id::ProposalId;
use brig_core::profile::Hash;
use brig_core::proposal::{Agent, EndKind, Judgement, OutputSummary, Ruling, RunEnd, RunUsage, Status};
use brig_core::time::Wall;

use crate::api::wire::ProposalRow;

pub fn proposal(id: &str) -> ProposalRow {
    ProposalRow {
        id: ProposalId(id.to_owned()),
        digest: Hash::of(id.as_bytes()),
        status: Status::Waiting,
        profile: "shell".into(),
        command: "ls -la".into(),
        command_is_all: true,
        reason: "look around".into(),
        agent: Agent { name: "bot".into(), uid: 1, pid: Some(2), is_operator_user: false },
        ruling: Ruling { effect: Judgement::Ask, rule: "shell".into(), why: "a person decides".into() },
        returned: None,
        received_at: Wall(0),
        expires_at: Wall(60_000),
        verdict: None,
        run: None,
        end: None,
    }
}

pub fn end(kind: EndKind) -> RunEnd {
    RunEnd {
        kind,
        exit_code: None,
        signal: None,
        by: None,
        note: String::new(),
        step: 0,
        steps: Vec::new(),
        usage: RunUsage::default(),
        output: OutputSummary::default(),
        at: Wall(0),
    }
}
