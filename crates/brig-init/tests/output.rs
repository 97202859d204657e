//! What comes through, and the fences after it.

use std::io::Read;
use std::os::unix::net::UnixStream;
use std::process::Stdio;

use brig_init::wire::{Armed, Fence, FenceFinder, Found, How, Stream, Trailer, Why};

use crate::support::*;

#[test]
fn both_fences_come_after_the_output_and_say_how_it_ended() {
    let ended = run(&request(vec![shell("echo out; echo err >&2; exit 7")]));
    assert_eq!((ended.stdout.as_slice(), ended.stderr.as_slice()), (b"out\n".as_slice(), b"err\n".as_slice()));
    let Trailer { how, why, step, steps, wall_us, message, .. } = ended.trailer;
    assert_eq!((how, why, step, steps.len()), (How::Exited(7), Why::Finished, 0, 1));
    assert!(wall_us > 0 && message.is_empty());
}

#[test]
fn output_that_is_still_in_the_pipe_comes_whole_before_the_fence() {
    let script = "head -c 300000 /dev/zero | tr '\\0' o; head -c 250000 /dev/zero | tr '\\0' e >&2";
    let ended = run(&request(vec![shell(script)]));
    assert_eq!(ended.stdout, vec![b'o'; 300_000]);
    assert_eq!(ended.stderr, vec![b'e'; 250_000]);
}

#[test]
fn a_forged_fence_is_output_like_any_other() {
    let dir = Dir::new();
    let real = Trailer {
        how: How::Exited(0),
        why: Why::Finished,
        step: 0,
        steps: vec![],
        cpu_us: 0,
        peak_memory: 0,
        oom_kills: 0,
        wall_us: 0,
        message: vec![],
    };
    let forged = [Armed::this(true).encode().to_vec(), Fence::Stderr(real).encode(&nonce())].concat();
    std::fs::write(dir.0.join("forged"), &forged).unwrap();
    let script = format!("cat {0}/forged; cat {0}/forged >&2; exit 3", dir.0.display());
    let ended = run(&request(vec![shell(&script)]));
    assert_eq!((&ended.stdout, &ended.stderr), (&forged, &forged));
    assert_eq!(ended.trailer.how, How::Exited(3));
}

#[test]
fn a_partial_last_line_and_bytes_that_are_no_text_come_through() {
    let ended = run(&request(vec![shell("printf 'a\\377\\000\\033[2Jb'; printf '\\200' >&2")]));
    assert_eq!(ended.stdout, b"a\xff\0\x1b[2Jb");
    assert_eq!(ended.stderr, b"\x80");
}

#[test]
fn both_fences_come_when_the_streams_are_one_pipe() {
    let (mut reader, writer) = std::io::pipe().unwrap();
    let mut command = command();
    command.stdout(writer.try_clone().unwrap()).stderr(writer);
    let mut init = Init::spawn(&mut command);
    drop(command);
    let request = request(vec![shell("echo one; echo two >&2; echo three")]);
    init.send(&request.encode().unwrap());
    let mut all = Vec::new();
    reader.read_to_end(&mut all).unwrap();
    let (armed, stream) = all.split_first_chunk().unwrap();
    assert!(Armed::decode(armed).is_ok());
    let mut first = FenceFinder::new(request.nonce, Stream::Stdout);
    let scan = first.push(stream);
    assert_eq!(scan.output[1], b"one\ntwo\nthree\n");
    assert_eq!(scan.found, Some(Found::Fence(Ok(Fence::Stdout { artifacts: 0 }))));
    let mut second = FenceFinder::new(request.nonce, Stream::Stderr);
    let scan = second.push(scan.rest);
    assert_eq!(scan.output, [b"", b""]);
    assert!(matches!(scan.found, Some(Found::Fence(Ok(Fence::Stderr(Trailer { how: How::Exited(0), .. }))))));
    assert_eq!(init.exit_code(), Some(0));
}

#[test]
fn a_closed_stdout_does_not_keep_the_fence_from_stderr() {
    let mut init = Init::armed();
    drop(init.child.stdout.take());
    let request = request(vec![shell("echo to nobody; echo err >&2; exit 4")]);
    init.send(&request.encode().unwrap());
    let mut stderr = init.child.stderr.take().unwrap();
    let (output, fence) = to_fence(&mut stderr, request.nonce, Stream::Stderr);
    // The shell's echo may complain about the closed stdout, or die of it.
    assert!(String::from_utf8(output).unwrap().lines().all(|line| line == "err" || line.contains("echo")));
    assert!(matches!(fence, Fence::Stderr(Trailer { why: Why::Finished, .. })));
    assert_eq!(init.exit_code(), Some(0));
}

/// Fills stdout, having made it non-blocking, which init shares; then makes a file.
const FILL_STDOUT: &str = "use Fcntl; fcntl(STDOUT, F_SETFL, O_WRONLY | O_NONBLOCK); \
     1 while defined syswrite(STDOUT, 'x' x 4096); open(F, '>', $ARGV[0]); close F";

#[test]
fn a_full_stdout_that_a_program_made_non_blocking_loses_nothing() {
    if !std::path::Path::new("/usr/bin/perl").exists() {
        return;
    }
    let dir = Dir::new();
    let full = dir.0.join("full");
    let mut step = shell("");
    step.argv = vec![b"/usr/bin/perl", b"-e", FILL_STDOUT.as_bytes(), full.as_os_str().as_encoded_bytes()];
    let request = request(vec![step]);
    let mut init = Init::armed();
    init.send(&request.encode().unwrap());
    until("the pipe is full", || full.exists());
    // Slowly: the fence has to wait for room.
    let mut output = Vec::new();
    let mut little = [0; 1000];
    init.child.stdout.as_mut().unwrap().read_exact(&mut little).unwrap();
    output.extend_from_slice(&little);
    let ended = init.end(request.nonce);
    output.extend_from_slice(&ended.stdout);
    assert_eq!(ended.trailer.how, How::Exited(0));
    assert!(output.len() >= 4096 && output.iter().all(|byte| *byte == b'x'));
}

#[test]
fn an_owner_that_dies_while_a_fence_waits_for_room_is_noticed() {
    if !std::path::Path::new("/usr/bin/perl").exists() {
        return;
    }
    let dir = Dir::new();
    let full = dir.0.join("full");
    let mut step = shell("");
    step.argv = vec![b"/usr/bin/perl", b"-e", FILL_STDOUT.as_bytes(), full.as_os_str().as_encoded_bytes()];
    let mut init = Init::armed();
    init.send(&request(vec![step]).encode().unwrap());
    until("the pipe is full", || full.exists());
    init.hang_up();
    assert_eq!(init.exit_code(), Some(brig_init::exit::OWNER_GONE.into()));
}

#[test]
fn stdin_may_be_a_socket_that_does_not_block() {
    let (mut ours, theirs) = UnixStream::pair().unwrap();
    theirs.set_nonblocking(true).unwrap();
    let mut command = command();
    command.stdin(Stdio::from(std::os::fd::OwnedFd::from(theirs)));
    let mut init = Init::spawn(&mut command);
    drop(command);
    let stdin = vec![b'i'; 3_000_000];
    let mut request = request(vec![shell("wc -c")]);
    request.stdin = &stdin;
    let mut armed = [0; brig_init::wire::ARMED_LEN];
    init.child.stdout.as_mut().unwrap().read_exact(&mut armed).unwrap();
    // In uneven pieces, so that headers and bodies are cut.
    for piece in request.encode().unwrap().chunks(77_777) {
        std::io::Write::write_all(&mut ours, piece).unwrap();
    }
    let ended = init.end(request.nonce);
    assert_eq!(ended.stdout.trim_ascii(), b"3000000");
}
