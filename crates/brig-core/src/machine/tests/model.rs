//! Thousands of short random lives, with what must always hold looked at after every step: no IO, no async.

use std::collections::{BTreeMap, BTreeSet};

use super::*;
use crate::profile::Hash;
use crate::proposal::VerdictKind;

mod check;
mod life;

use check::Records;

/// Lives a run of the tests goes through. Each is a function of its seed alone.
const LIVES: u64 = 2000;
/// Random steps in a life.
const STEPS: u64 = 120;
/// Steps in which everything must have ended once nothing new comes.
const PATIENCE: u32 = 4000;

#[test]
fn whatever_happens_what_must_hold_holds() {
    for seed in 0..LIVES {
        let life = std::panic::AssertUnwindSafe(|| Life::new(seed).live());
        if std::panic::catch_unwind(life).is_err() {
            panic!("it went wrong in the life with seed {seed}");
        }
    }
}

/// `SplitMix64`: small, and good enough to make a mess.
struct Dice(u64);

impl Dice {
    fn roll(&mut self) -> u64 {
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut mixed = self.0;
        mixed = (mixed ^ (mixed >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        mixed = (mixed ^ (mixed >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        mixed ^ (mixed >> 31)
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.roll() % limit
    }

    fn chance(&mut self, percent: u64) -> bool {
        self.below(100) < percent
    }

    fn pick<T: Clone>(&mut self, from: &[T]) -> Option<T> {
        if from.is_empty() {
            return None;
        }
        let at = usize::try_from(self.below(from.len() as u64)).unwrap();
        Some(from[at].clone())
    }
}

/// What a sandbox really does, whatever the machine thinks.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Real {
    Arming,
    Armed,
    Running,
    /// Its end was told, its going not yet.
    Dying,
    Gone,
}

/// What was told once and may be told again.
#[derive(Clone, Debug)]
enum Told {
    Armed(SandboxId),
    Started(SandboxId),
    Refused(SandboxId),
    Ended(SandboxId),
    Gone(SandboxId),
    Recorded(u64),
    Resolved(String, u64),
}

struct Life {
    seed: u64,
    dice: Dice,
    world: World,
    real: BTreeMap<SandboxId, Real>,
    told: Vec<Told>,
    asked: Vec<ProposalId>,
    records: Records,
    profiles: Vec<Profile>,
    /// Percent of what is asked for that fails.
    failures: u64,
    tickets: BTreeSet<Ticket>,
    generation: u64,
}

fn profiles() -> Vec<Profile> {
    let ask = fixtures::profile();
    let mut auto = fixtures::profile();
    auto.name = "auto".into();
    auto.approval.mode = ApprovalMode::Auto;
    auto.pool.target = 0;
    auto.pool.max = 2;
    auto.pool.max_age_ms = 5000;
    vec![ask, auto]
}
