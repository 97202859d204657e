//! A journal that is recorded to, pruned, restarted and verified in random order, beside a list of what has to be in it.

use std::collections::BTreeMap;

use brig_core::problem::Code;
use brig_core::proposal::VerdictKind;
use brig_core::retention::Retention;

use super::pruning::{ALL, Steps, verified};
use super::*;

/// xorshift64*: the same numbers for the same seed, which a failure names.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, sides: u64) -> u64 {
        self.0 ^= self.0 >> 12;
        self.0 ^= self.0 << 25;
        self.0 ^= self.0 >> 27;
        (self.0.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 33) % sides
    }
}

#[derive(Default)]
struct Known {
    output: String,
    chunks: u64,
    runs: bool,
    over: bool,
}

async fn play(seed: u64) {
    let mut dice = Dice(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15) | 1);
    let home = Home::new();
    let mut known: BTreeMap<String, Known> = BTreeMap::new();
    for round in 0..8 {
        let journal = home.journal();
        for _ in 0..dice.roll(30) {
            act(&mut dice, &journal, &mut known).await;
        }
        journal.close().await;
        let limits = Retention {
            output_bytes: 200 * dice.roll(30),
            journal_bytes: 2000 * (1 + dice.roll(20)),
            journal_age_ms: if dice.roll(6) == 0 { 1 } else { ALL.journal_age_ms },
            ..ALL
        };
        let mut steps = Steps::of(&home, limits);
        if dice.roll(3) == 0 {
            // Dies in the middle of it.
            for _ in 0..dice.roll(6) {
                steps.step();
            }
        } else {
            steps.all();
        }
        drop(steps);
        let what = format!("seed {seed}, round {round}");
        let found = verified(&home).await;
        assert_eq!(found.fault, None, "{what}");
        check(&home, &known, &what).await;
    }
    let last = home.count("SELECT max(number) FROM entries");
    let first = home.count("SELECT min(number) FROM entries");
    for sql in [
        format!(
            "DELETE FROM entries WHERE number = {}",
            first + i64::try_from(dice.roll((last - first + 1).cast_unsigned())).unwrap()
        ),
        format!(
            "UPDATE entries SET at = at + 1 WHERE number = {}",
            first + i64::try_from(dice.roll((last - first + 1).cast_unsigned())).unwrap()
        ),
    ] {
        let removes_the_last = sql == format!("DELETE FROM entries WHERE number = {last}");
        let other = home.other();
        let transaction = other.unchecked_transaction().unwrap();
        transaction.execute_batch(&sql).unwrap();
        transaction.commit().unwrap();
        drop(other);
        // A tail that is cut off where the index knows nothing of it is the one thing that the chain cannot see.
        assert!(removes_the_last || verified(&home).await.fault.is_some(), "seed {seed}: {sql} is not found");
        if removes_the_last {
            return;
        }
    }
}

async fn act(dice: &mut Dice, journal: &Journal, known: &mut BTreeMap<String, Known>) {
    let open: Vec<String> = known.iter().filter(|(_, it)| !it.over).map(|(name, _)| name.clone()).collect();
    let pick = |dice: &mut Dice| open[usize::try_from(dice.roll(open.len() as u64)).unwrap()].clone();
    match dice.roll(10) {
        _ if open.is_empty() => propose(journal, known).await,
        0..3 => propose(journal, known).await,
        3..7 => {
            let name = pick(dice);
            let it = known.get_mut(&name).unwrap();
            if !it.runs {
                it.runs = true;
                let begin = [decided(&name, VerdictKind::Approved), launched(&name)];
                journal.record(begin.into_iter().map(|entry| (NOW, entry)).collect()).await.unwrap();
            }
            let text = "y".repeat(usize::try_from(1 + dice.roll(3000)).unwrap());
            journal.output(&id(&name), out(it.chunks, &text)).await.unwrap();
            (it.chunks, it.output) = (it.chunks + 1, format!("{}{text}", it.output));
        }
        _ => {
            let name = pick(dice);
            let it = known.get_mut(&name).unwrap();
            it.over = true;
            let end =
                if it.runs { ended(&name, summary(&it.output, "")) } else { decided(&name, VerdictKind::Withdrawn) };
            journal.record(vec![(Wall(NOW.0 - 10), end)]).await.unwrap();
        }
    }
}

async fn propose(journal: &Journal, known: &mut BTreeMap<String, Known>) {
    let name = format!("p{:04}", known.len());
    journal.record(vec![(Wall(NOW.0 - 10), proposed(&name))]).await.unwrap();
    known.insert(name, Known::default());
}

/// What is not over is there to the last byte. What is over is whole, or is said to be pruned, or is gone altogether.
async fn check(home: &Home, known: &BTreeMap<String, Known>, what: &str) {
    let (journal, recovered) = home.open();
    let reader = journal.reader();
    let open: Vec<_> = known.iter().filter(|(_, it)| !it.over).map(|(name, _)| name.as_str()).collect();
    assert_eq!(names(&recovered.open), open, "{what}");
    for (name, it) in known {
        let entries = reader.entries_of(&id(name)).await.unwrap();
        let whole = entries.first().is_some_and(|first| matches!(first.entry, Entry::Proposed { .. }));
        assert!(whole || it.over, "{what}: {name} has lost its beginning");
        match reader.output_of(&id(name), 0, usize::MAX).await {
            Ok(chunks) if !entries.is_empty() => {
                let bytes: Vec<u8> = chunks.iter().flat_map(|chunk| chunk.bytes.to_vec()).collect();
                assert!(bytes == it.output.as_bytes(), "{what}: {name} has other output");
            }
            Ok(chunks) => assert_eq!(chunks, [], "{what}: {name} is gone, and its output is not"),
            Err(problem) => assert!(problem.code == Code::Pruned && it.over, "{what}: {name}: {problem}"),
        }
    }
    journal.close().await;
}

#[tokio::test]
async fn whatever_is_recorded_and_pruned_the_journal_verifies_and_keeps_what_is_not_over() {
    for seed in 0..8 {
        play(seed).await;
    }
}
