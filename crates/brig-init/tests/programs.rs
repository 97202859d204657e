//! How programs are started, and what they find.

use brig_init::wire::{How, Request, Resource, Rlimit, Step, Why};

use crate::support::*;

fn program<'a>(argv: Vec<&'a [u8]>) -> Step<'a> {
    Step { argv, env: vec![PATH], cwd: b"/", code: None }
}

#[test]
fn the_environment_is_exactly_that_of_the_request_in_its_order() {
    let mut step = program(vec![b"/usr/bin/env", b"-0"]);
    step.env = vec![(b"Z", b"1"), (b"A", b"two words\n"), (b"EMPTY", b""), (b"RAW", b"\xff")];
    assert_eq!(run(&request(vec![step])).stdout, b"Z=1\0A=two words\n\0EMPTY=\0RAW=\xff\0");
}

#[test]
fn arguments_are_passed_byte_for_byte() {
    let step = program(vec![b"printf", b"[%s]", b"", b"a b", b"\xff\n", b"$HOME"]);
    assert_eq!(run(&request(vec![step])).stdout, b"[][a b][\xff\n][$HOME]");
}

#[test]
fn a_program_is_looked_up_in_the_path_of_its_own_environment() {
    let dir = Dir::new();
    write_script(&dir, "tool", "#!/bin/sh\necho \"found as $0 by $1\"\n");
    let mut step = program(vec![b"tool", b"me"]);
    let path = [b"/nowhere:/etc/passwd:".as_slice(), dir.bytes(), b":/bin"].concat();
    step.env = vec![(b"PATH", &path)];
    let expected = format!("found as {}/tool by me\n", dir.0.display());
    assert_eq!(output_of(&request(vec![step.clone()])), expected);
    step.env.clear();
    let trailer = run(&request(vec![step])).trailer;
    assert_eq!(trailer.how, How::NotStarted(2));
}

#[test]
fn without_a_path_the_usual_places_are_searched() {
    let step = Step { argv: vec![b"sh", b"-c", b"echo found"], env: vec![], cwd: b"/", code: None };
    assert_eq!(output_of(&request(vec![step])), "found\n");
}

#[test]
fn a_relative_program_begins_at_the_working_directory() {
    let dir = Dir::new();
    write_script(&dir, "tool", "#!/bin/sh\npwd\n");
    let mut step = program(vec![b"./tool"]);
    step.cwd = dir.bytes();
    assert_eq!(output_of(&request(vec![step])), format!("{}\n", dir.0.display()));
}

#[test]
fn what_cannot_be_started_is_told_with_step_errno_and_name() {
    let dir = Dir::new();
    std::fs::write(dir.0.join("plain"), "echo no\n").unwrap();
    write_script(&dir, "headless", "echo a shell would run this\n");
    let (plain, headless) = (dir.0.join("plain"), dir.0.join("headless"));
    let missing_cwd = Step { cwd: b"/nope/nope", ..program(vec![b"true"]) };
    let cases = [
        (program(vec![b"/bin/nope"]), 2, "execve /bin/nope: No such file or directory".to_owned()),
        (program(vec![b"nope"]), 2, "execve nope: No such file or directory".to_owned()),
        (program(vec![path(&plain)]), 13, format!("execve {}: Permission denied", plain.display())),
        (program(vec![path(&headless)]), 8, format!("execve {}: Exec format error", headless.display())),
        (program(vec![b"/bin"]), 13, "execve /bin: Permission denied".to_owned()),
        (missing_cwd, 2, "chdir /nope/nope: No such file or directory".to_owned()),
    ];
    for (step, errno, message) in cases {
        let trailer = run(&request(vec![program(vec![b"true"]), step])).trailer;
        assert_eq!((trailer.how, trailer.why, trailer.step), (How::NotStarted(errno), Why::Finished, 1));
        assert_eq!(String::from_utf8(trailer.message).unwrap(), message);
    }
}

#[test]
fn steps_stop_at_the_first_that_fails() {
    let ended = run(&request(vec![shell("echo 0"), shell("echo 1; exit 9"), shell("echo 2")]));
    assert_eq!(ended.stdout, b"0\n1\n");
    assert_eq!((ended.trailer.how, ended.trailer.step, ended.trailer.steps.len()), (How::Exited(9), 1, 2));
}

#[test]
fn with_keep_going_all_run_and_the_first_failure_is_told() {
    let not_there = program(vec![b"nope"]);
    let mut request = request(vec![shell("echo 0"), not_there, shell("exit 9"), shell("echo 3")]);
    request.keep_going = true;
    let ended = run(&request);
    assert_eq!(ended.stdout, b"0\n3\n");
    assert_eq!((ended.trailer.how, ended.trailer.step, ended.trailer.steps.len()), (How::NotStarted(2), 1, 4));
    assert_eq!(ended.trailer.message, b"execve nope: No such file or directory");
}

#[test]
fn what_a_step_leaves_in_the_background_serves_the_next_one() {
    let mark = mark();
    let first = format!("sleep {mark} & echo $!");
    let ended = run(&request(vec![shell(&first), shell("echo still here")]));
    assert!(ended.stdout.ends_with(b"still here\n"));
    assert_eq!(marked(&mark), 0);
}

#[test]
fn stdin_is_complete_for_the_first_step_and_empty_for_the_others() {
    let stdin: Vec<u8> = (0..2_000_000_u32).map(|number| (number % 251) as u8).collect();
    let mut request = request(vec![program(vec![b"cat"]), shell("cat; echo end")]);
    request.stdin = &stdin;
    let ended = run(&request);
    assert_eq!(ended.stdout, [stdin.as_slice(), b"end\n"].concat());
}

#[test]
fn an_empty_stdin_ends_at_once() {
    assert_eq!(output_of(&request(vec![shell("wc -c")])).trim(), "0");
}

#[test]
fn a_program_inherits_no_signal_setting_no_descriptor_and_no_session() {
    let signals = output_of(&request(vec![shell("grep -E 'Sig(Ign|Blk)' /proc/self/status")]));
    assert_eq!(signals, "SigBlk:\t0000000000000000\nSigIgn:\t0000000000000000\n");
    // The fourth is the one that `ls` itself has open.
    assert_eq!(output_of(&request(vec![program(vec![b"ls", b"/proc/self/fd"])])), "0\n1\n2\n3\n");
    let ids = output_of(&request(vec![shell("set -- $(cat /proc/$$/stat); echo $$ $5 $6")]));
    let ids: Vec<&str> = ids.split_whitespace().collect();
    assert!(ids[0] == ids[1] && ids[1] == ids[2], "{ids:?}");
}

#[test]
fn limits_are_lowered_and_never_raised() {
    let limits = vec![
        Rlimit { resource: Resource::OpenFiles, value: 32 },
        Rlimit { resource: Resource::Core, value: 0 },
        Rlimit { resource: Resource::CpuSeconds, value: 77 },
        Rlimit { resource: Resource::FileSize, value: 5 * 512 },
    ];
    let script = "ulimit -Sn; ulimit -Hn; ulimit -c; ulimit -t; ulimit -f";
    let lowered = output_of(&Request { rlimits: limits, ..request(vec![shell(script)]) });
    assert_eq!(lowered, "32\n32\n0\n77\n5\n");
    let inherited = output_of(&request(vec![shell("ulimit -Sn; ulimit -Hn")]));
    let raised = vec![Rlimit { resource: Resource::OpenFiles, value: u64::MAX }];
    let same = output_of(&Request { rlimits: raised, ..request(vec![shell("ulimit -Sn; ulimit -Hn")]) });
    assert_eq!(same, inherited);
}

fn path(path: &std::path::Path) -> &[u8] {
    path.as_os_str().as_encoded_bytes()
}

fn write_script(dir: &Dir, name: &str, text: &str) {
    use std::os::unix::fs::PermissionsExt;
    let path = dir.0.join(name);
    std::fs::write(&path, text).unwrap();
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755)).unwrap();
}
