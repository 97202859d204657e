//! Marks between steps, and how each step ended.

use brig_init::wire::{How, Request, StepEnd, Why};

use crate::support::*;

fn text(parts: &[Vec<u8>]) -> Vec<String> {
    parts.iter().map(|part| String::from_utf8_lossy(part).into_owned()).collect()
}

fn hows(steps: &[StepEnd]) -> Vec<How> {
    steps.iter().map(|step| step.how).collect()
}

#[test]
fn each_steps_output_is_told_apart_on_both_streams() {
    let steps = vec![shell("echo a; echo x >&2"), shell("true"), shell("printf c; printf z >&2")];
    let (ended, [out, err]) = run_marked(&request(steps));
    assert_eq!(
        (text(&out), text(&err)),
        (vec!["a\n".into(), "".into(), "c".into()], vec!["x\n".into(), "".into(), "z".into()])
    );
    assert_eq!(hows(&ended.trailer.steps), [How::Exited(0); 3]);
}

#[test]
fn how_each_step_ended_is_told_and_what_did_not_run_is_not() {
    let steps = || vec![shell("sleep 0.05"), shell("exit 3"), program_named("nope"), shell("kill -TERM $$")];
    let (ended, _) = run_marked(&request(steps()));
    assert_eq!(hows(&ended.trailer.steps), [How::Exited(0), How::Exited(3)]);
    assert!(ended.trailer.steps[0].wall_us >= 50_000 && ended.trailer.steps[0].wall_us <= ended.trailer.wall_us);
    let keep_going = Request { keep_going: true, ..request(steps()) };
    let (ended, _) = run_marked(&keep_going);
    let all = [How::Exited(0), How::Exited(3), How::NotStarted(2), How::Signalled(15)];
    assert_eq!((hows(&ended.trailer.steps), ended.trailer.step), (all.to_vec(), 1));
}

fn program_named(name: &str) -> brig_init::wire::Step<'_> {
    brig_init::wire::Step { argv: vec![name.as_bytes()], env: vec![PATH], cwd: b"/", code: None }
}

#[test]
fn output_that_is_still_in_the_pipes_at_a_boundary_is_its_steps_own() {
    let (first, second) = ("head -c 300000 /dev/zero | tr '\\0' a", "head -c 200000 /dev/zero | tr '\\0' b");
    let (_, [out, _]) = run_marked(&request(vec![shell(first), shell(second)]));
    assert_eq!(out, [vec![b'a'; 300_000], vec![b'b'; 200_000]]);
}

/// Fills stdout, and leaves it as it was: blocking.
const FILL: &str = "import os
os.set_blocking(1, False)
try:
    while True: os.write(1, b'x')
except BlockingIOError:
    os.set_blocking(1, True)
";

#[test]
fn the_deadline_counts_while_a_mark_waits_for_room() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return;
    }
    let dir = Dir::new();
    // Nobody reads what fills it, and somebody waits for each place that becomes free.
    let script = format!("python3 -c \"$1\"; yes & touch {}/full", dir.0.display());
    let first =
        brig_init::wire::Step { argv: vec![b"sh", b"-c", script.as_bytes(), b"sh", FILL.as_bytes()], ..shell("") };
    let secrets = vec![[secret(), secret()]];
    let request = Request { deadline_ms: 2_000, marks: secrets.clone(), ..request(vec![first, shell("echo second")]) };
    let mut init = Init::armed();
    init.send(&request.encode().unwrap());
    until("what ran is dead", || dir.0.join("full").exists() && children_of(init.child.id()) == 0);
    let (ended, [out, _]) = init.end_of_steps(request.nonce, &secrets);
    assert_eq!((ended.trailer.why, ended.trailer.step), (Why::Deadline, 1));
    assert_eq!(hows(&ended.trailer.steps), [How::Exited(0), How::Signalled(9)]);
    assert_eq!(out.len(), 1, "no mark, and nothing of the second step");
}

#[test]
fn a_flood_across_a_boundary_loses_no_byte_and_holds_nothing_up() {
    let steps = vec![shell("yes x & exit 0"), shell("head -c 3000000 /dev/zero | tr '\\0' b; echo end >&2")];
    let (ended, [out, err]) = run_marked(&request(steps));
    assert_eq!((ended.trailer.why, hows(&ended.trailer.steps)), (Why::Finished, vec![How::Exited(0); 2]));
    assert_eq!(text(&err), ["", "end\n"]);
    let [before, after] = out.as_slice() else { panic!("{} parts", out.len()) };
    assert!(before.iter().all(|byte| b"x\n".contains(byte)));
    assert!(after.iter().all(|byte| b"x\nb".contains(byte)));
    assert_eq!(after.iter().filter(|byte| **byte == b'b').count(), 3_000_000);
}

/// Opens its own stdout and stderr for reading, where the marks of the boundary before are still to be read, takes what is
/// there and writes all of it back, twice.
const READS_ITS_OWN: &str = "import os, sys
for fd in (1, 2):
    r = os.open(f'/proc/self/fd/{fd}', os.O_RDONLY | os.O_NONBLOCK)
    try:
        taken = os.read(r, 65536)
    except BlockingIOError:
        taken = b''
    os.close(r)
    os.write(fd, taken + b'<' + taken + b'>')
";

#[test]
fn a_program_that_reads_its_own_output_back_forges_no_later_mark_and_no_end() {
    if !std::path::Path::new("/usr/bin/python3").exists() {
        return;
    }
    let (dir, mut thief) = (Dir::new(), shell(""));
    let last = format!("echo last; echo last >&2; touch {}/last; exit 4", dir.0.display());
    thief.argv = vec![b"/usr/bin/python3", b"-c", READS_ITS_OWN.as_bytes()];
    let steps = vec![shell("echo one; echo one >&2"), thief.clone(), thief, shell(&last)];
    let secrets: Vec<_> = steps[1..].iter().map(|_| [secret(), secret()]).collect();
    let request = Request { marks: secrets.clone(), ..request(steps) };
    let mut init = Init::armed();
    init.send(&request.encode().unwrap());
    // Nobody reads until all is over, so the thieves find everything.
    until("the run is over", || dir.0.join("last").exists() && children_of(init.child.id()) == 0);
    let (ended, [out, err]) = init.end_of_steps(request.nonce, &secrets);
    assert_eq!((ended.trailer.how, ended.trailer.step, ended.trailer.steps.len()), (How::Exited(4), 3, 4));
    for stream in [out, err] {
        assert_eq!(text(&stream[3..]), ["last\n"], "the step after them is what it is");
        let earlier = stream[..3].concat();
        // Each thief wrote what it found twice, and one mark counts once: of what was taken nothing is lost.
        assert!(earlier.ends_with(b">") && earlier.starts_with(b"one\n"), "{}", String::from_utf8_lossy(&earlier));
    }
}

/// How many children a process has, the zombies left out.
fn children_of(parent: u32) -> usize {
    let is_child = |entry: &std::fs::DirEntry| {
        let stat = std::fs::read_to_string(entry.path().join("stat")).unwrap_or_default();
        let after = stat.rsplit(')').next().unwrap_or_default();
        let mut fields = after.split_ascii_whitespace();
        let state = fields.next();
        state.is_some_and(|state| state != "Z") && fields.next() == Some(&parent.to_string())
    };
    std::fs::read_dir("/proc").unwrap().filter_map(Result::ok).filter(is_child).count()
}
