//! Everything that ends a run, and that nothing of it is left then.

use brig_init::exit;
use brig_init::wire::{How, Why, cancel, end};

use crate::support::*;

#[test]
fn background_writers_are_dead_when_the_fence_comes() {
    let mark = mark();
    let ended = run(&request(vec![shell(&format!("(sleep {mark}; echo late) & echo hi"))]));
    assert_eq!(marked(&mark), 0);
    assert_eq!(ended.stdout, b"hi\n");
    assert_eq!(ended.trailer.how, How::Exited(0));
}

#[test]
fn daemons_with_a_session_of_their_own_are_dead_too() {
    let mark = mark();
    let script = format!(
        "setsid sh -c 'setsid sleep {mark} & setsid sleep {mark} & sleep {mark}' & \
                          while [ $(grep -l {mark} /proc/[0-9]*/cmdline 2>/dev/null | wc -l) -lt 5 ]; do :; done"
    );
    let ended = run(&request(vec![shell(&script)]));
    assert_eq!(marked(&mark), 0);
    assert_eq!(ended.trailer.how, How::Exited(0));
}

#[test]
fn the_deadline_kills_what_ignores_every_signal_it_can() {
    let mark = mark();
    let script = format!("trap '' TERM INT HUP QUIT; echo begun; while :; do sleep {mark}; done");
    let mut request = request(vec![shell(&script), shell("echo never")]);
    request.deadline_ms = 200;
    let ended = run(&request);
    assert_eq!(marked(&mark), 0);
    assert_eq!(ended.stdout, b"begun\n");
    assert_eq!((ended.trailer.how, ended.trailer.why), (How::Signalled(9), Why::Deadline));
    assert_eq!((ended.trailer.step, ended.trailer.steps.len()), (0, 1));
    assert!((200_000..20_000_000).contains(&ended.trailer.wall_us), "{}", ended.trailer.wall_us);
}

#[test]
fn the_deadline_kills_a_whole_tree() {
    let mark = mark();
    let script = format!(
        "tree() {{ if [ $1 -gt 0 ]; then tree $(($1 - 1)) & tree $(($1 - 1)) & fi; sleep {mark}; }}; tree 3; wait"
    );
    let mut request = request(vec![shell(&script)]);
    request.deadline_ms = 300;
    let ended = run(&request);
    assert_eq!(marked(&mark), 0);
    assert_eq!((ended.trailer.how, ended.trailer.why), (How::Signalled(9), Why::Deadline));
}

#[test]
fn the_deadline_is_one_for_all_steps() {
    let mark = mark();
    let sleep = format!("sleep {mark}");
    let mut request = request(vec![shell("true"), shell("false"), shell(&sleep), shell("true")]);
    request.keep_going = true;
    request.deadline_ms = 200;
    let trailer = run(&request).trailer;
    assert_eq!((trailer.how, trailer.why), (How::Signalled(9), Why::Deadline));
    assert_eq!((trailer.step, trailer.steps.len()), (2, 3));
}

#[test]
fn cancel_kills_everything_and_is_told_from_a_deadline() {
    let mark = mark();
    let request_ = format!("echo begun; sleep {mark} & sleep {mark}");
    let request = request(vec![shell(&request_)]);
    let mut init = Init::armed();
    init.send(&request.encode().unwrap());
    assert_eq!(init.line(), "begun");
    init.send(&cancel());
    let ended = init.end(request.nonce);
    assert_eq!(marked(&mark), 0);
    assert_eq!((ended.trailer.how, ended.trailer.why), (How::Signalled(9), Why::Cancelled));
}

#[test]
fn a_cancel_right_behind_the_request_counts() {
    let mark = mark();
    let script = format!("sleep {mark}");
    let request = request(vec![shell(&script)]);
    let mut init = Init::armed();
    init.send(&[request.encode().unwrap(), cancel().to_vec()].concat());
    assert_eq!(init.end(request.nonce).trailer.why, Why::Cancelled);
    assert_eq!(marked(&mark), 0);
}

#[test]
fn the_end_of_stdin_while_armed_is_the_end() {
    let mut init = Init::armed();
    init.hang_up();
    assert_eq!(init.exit_code(), Some(exit::DONE.into()));
}

#[test]
fn the_end_of_stdin_in_a_run_means_that_the_owner_is_dead() {
    let mark = mark();
    let script = format!("setsid sleep {mark} & echo $$; sleep {mark}");
    let mut init = Init::armed();
    init.send(&request(vec![shell(&script)]).encode().unwrap());
    let pid = init.line();
    assert!(std::path::Path::new("/proc").join(&pid).exists());
    init.hang_up();
    assert_eq!(init.exit_code(), Some(exit::OWNER_GONE.into()));
    assert!(!std::path::Path::new("/proc").join(&pid).exists());
    assert_eq!(marked(&mark), 0);
}

#[test]
fn after_end_the_run_goes_on_without_its_owner() {
    let dir = Dir::new();
    let go = dir.0.join("go");
    let script = format!("echo begun; until [ -e {} ]; do sleep 0.01; done; exit 5", go.display());
    let request = request(vec![shell(&script)]);
    let mut init = Init::armed();
    init.send(&[request.encode().unwrap(), end().to_vec()].concat());
    init.hang_up();
    assert_eq!(init.line(), "begun");
    assert!(init.child.try_wait().unwrap().is_none());
    std::fs::write(go, "").unwrap();
    assert_eq!(init.end(request.nonce).trailer.how, How::Exited(5));
}

#[test]
fn a_signal_that_ends_a_program_is_told() {
    let ended = run(&request(vec![shell("kill -SEGV $$")]));
    assert_eq!(ended.trailer.how, How::Signalled(11));
}

#[test]
fn zombies_that_a_program_leaves_are_reaped_while_it_runs() {
    let dir = Dir::new();
    // The orphans become children of init; when it reaps them, nothing is left in /proc but what runs.
    let script = format!(
        "for i in 1 2 3 4 5; do (sh -c 'echo $$ >> {0}/pids; exit 0' &); done; \
         while [ $(cat {0}/pids 2>/dev/null | wc -l) -lt 5 ]; do sleep 0.01; done; \
         for pid in $(cat {0}/pids); do while [ -e /proc/$pid ]; do sleep 0.01; done; done; echo all gone",
        dir.0.display()
    );
    assert_eq!(output_of(&request(vec![shell(&script)])), "all gone\n");
}

#[test]
fn cpu_time_and_memory_are_told() {
    let trailer = run(&request(vec![shell("i=0; while [ $i -lt 200000 ]; do i=$((i+1)); done")])).trailer;
    assert!(trailer.cpu_us > 1_000 && trailer.peak_memory > 100_000, "{trailer:?}");
    assert!(trailer.oom_kills == 0);
}
