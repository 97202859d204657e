//! What is no valid message.

use std::io::Read;

use brig_init::exit;
use brig_init::wire::{ARMED_LEN, Armed, HEADER_LEN, Header, How, Kind, MAX_BODY, Why, cancel, end, ping};

use crate::support::*;

/// Sends these bytes to an armed init, hangs up if asked to, and gives the exit code and what was said on stderr.
fn refusal(bytes: &[u8], hang_up: bool) -> (Option<i32>, String) {
    let mut init = Init::armed();
    init.send(bytes);
    if hang_up {
        init.hang_up();
    }
    let code = init.exit_code();
    let mut said = String::new();
    init.child.stderr.take().unwrap().read_to_string(&mut said).unwrap();
    (code, said)
}

#[test]
fn garbage_ends_init_with_a_code_of_its_own_and_one_line() {
    let oversized = Header { kind: Kind::Request, length: MAX_BODY + 1 }.encode();
    for (bytes, reason) in [
        (b"GET / HTTP/1.1\r\n".as_slice(), "header magic at byte 0: is not what brig sends"),
        (&oversized, "header length at byte 8: 67108865 is more than the limit of 67108864"),
        (&cancel(), "header kind at byte 5: 2 is not a value of this field"),
        (&end(), "header kind at byte 5: 3 is not a value of this field"),
        (b"BRIG\x02\x01\0\0\0\0\0\0", "header version at byte 4: 2 is not a value of this field"),
    ] {
        let said = format!("brig-init: not a valid message on stdin: {reason}\n");
        assert_eq!(refusal(bytes, false), (Some(exit::PROTOCOL.into()), said));
    }
}

#[test]
fn a_request_that_is_cut_runs_nothing() {
    let frame = request(vec![shell("echo no")]).encode().unwrap();
    for length in [1, HEADER_LEN - 1, HEADER_LEN, HEADER_LEN + 40, frame.len() - 1] {
        let (code, said) = refusal(&frame[..length], true);
        assert_eq!(code, Some(exit::PROTOCOL.into()), "cut at {length}");
        let missing = if length < HEADER_LEN { HEADER_LEN - length } else { frame.len() - length };
        assert!(said.contains(&format!("ends {missing} bytes too early")), "{said}");
    }
}

#[test]
fn a_request_with_a_nonce_and_a_wrong_body_is_answered() {
    let request = request(vec![shell("echo no")]);
    let mut frame = request.encode().unwrap();
    // The last byte of the script becomes a NUL byte.
    let at = frame.windows(7).position(|window| window == b"echo no").unwrap();
    frame[at + 6] = 0;
    let mut init = Init::armed();
    init.send(&frame);
    let ended = init.end(request.nonce);
    assert_eq!((ended.trailer.how, ended.trailer.why), (How::NotStarted(0), Why::BadRequest));
    let message = String::from_utf8(ended.trailer.message).unwrap();
    assert!(message.starts_with("step argv at byte") && message.ends_with("has a NUL byte in it"), "{message}");
    assert_eq!(ended.stdout, b"");
}

#[test]
fn bytes_left_over_in_a_request_are_refused() {
    let request = request(vec![shell("echo no")]);
    let frame = request.encode().unwrap();
    let header = Header { kind: Kind::Request, length: frame.len() - HEADER_LEN + 1 }.encode();
    let mut init = Init::armed();
    init.send(&[&header, &frame[HEADER_LEN..], b"!"].concat());
    let trailer = init.end(request.nonce).trailer;
    assert_eq!(trailer.why, Why::BadRequest);
    assert!(trailer.message.ends_with(b"1 bytes left over"));
}

#[test]
fn a_body_too_short_for_a_nonce_cannot_be_answered() {
    let header = Header { kind: Kind::Request, length: 31 }.encode();
    let (code, said) = refusal(&[header.as_slice(), &[0; 31]].concat(), false);
    assert_eq!(code, Some(exit::PROTOCOL.into()));
    assert!(said.contains("nonce"), "{said}");
}

#[test]
fn an_armed_init_says_so_again_whenever_it_is_asked() {
    let mut init = Init::armed();
    for _ in 0..3 {
        init.send(&ping());
        let mut again = [0; ARMED_LEN];
        init.child.stdout.as_mut().unwrap().read_exact(&mut again).unwrap();
        assert_eq!(again, Armed::this(false).encode());
    }
    let request = request(vec![shell("echo still here")]);
    init.send(&request.encode().unwrap());
    let ended = init.end(request.nonce);
    assert_eq!((ended.stdout.as_slice(), ended.trailer.why), (b"still here\n".as_slice(), Why::Finished));
}

#[test]
fn anything_but_cancel_and_end_in_a_run_kills_it() {
    for message in [request(vec![shell("echo two")]).encode().unwrap(), ping().to_vec(), b"what is this?".to_vec()] {
        let mark = mark();
        let script = format!("echo begun; setsid sleep {mark} & sleep {mark}");
        let mut init = Init::armed();
        init.send(&request(vec![shell(&script)]).encode().unwrap());
        assert_eq!(init.line(), "begun");
        init.send(&message);
        assert_eq!(init.exit_code(), Some(exit::PROTOCOL.into()));
        assert_eq!(marked(&mark), 0);
    }
}
