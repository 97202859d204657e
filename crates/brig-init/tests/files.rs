//! Files that come with the request.

use std::os::unix::fs::{PermissionsExt, symlink};

use brig_init::wire::{File, How, Request, Why};

use crate::support::*;

fn in_dir<'a>(dir: &'a Dir, files: Vec<File<'a>>, script: &'a str) -> Request<'a> {
    let mut request = request(vec![shell(script)]);
    request.steps[0].cwd = dir.bytes();
    request.files = files;
    request
}

#[test]
fn files_are_there_with_their_modes_before_the_first_step() {
    let dir = Dir::new();
    let absolute = dir.0.join("x/y/absolute");
    let files = vec![
        File { path: b"a/./b//tool", mode: 0o755, content: b"#!/bin/sh\necho ran\n" },
        File { path: b"sealed", mode: 0, content: b"" },
        File { path: b"a/shared", mode: 0o666, content: b"\0\xff" },
        File { path: absolute.as_os_str().as_encoded_bytes(), mode: 0o640, content: b"abs" },
    ];
    let request = in_dir(&dir, files, "a/b/tool; stat -c '%a %s' a/b/tool sealed a/shared x/y/absolute");
    assert_eq!(output_of(&request), "ran\n755 19\n0 0\n666 2\n640 3\n");
    assert_eq!(std::fs::read(dir.0.join("a/shared")).unwrap(), b"\0\xff");
}

#[test]
fn a_symbolic_link_on_the_way_is_refused() {
    let (dir, outside) = (Dir::new(), Dir::new());
    symlink(&outside.0, dir.0.join("link")).unwrap();
    symlink(outside.0.join("new"), dir.0.join("dangling")).unwrap();
    for (path, errno, reason) in [
        (b"link/new".as_slice(), 40, "Too many levels of symbolic links"),
        (b"dangling", 17, "File exists"),
        (b"link", 17, "File exists"),
    ] {
        let trailer = run(&in_dir(&dir, vec![File { path, mode: 0o600, content: b"x" }], "echo no")).trailer;
        assert_eq!((trailer.how, trailer.why), (How::NotStarted(errno), Why::FileFailed));
        let message = format!("create {}: {reason}", str::from_utf8(path).unwrap());
        assert_eq!(String::from_utf8(trailer.message).unwrap(), message);
        assert!(trailer.steps.is_empty());
    }
    assert_eq!(std::fs::read_dir(&outside.0).unwrap().count(), 0);
}

#[test]
fn a_file_that_exists_is_not_written_over() {
    let dir = Dir::new();
    std::fs::write(dir.0.join("mine"), "before").unwrap();
    std::fs::set_permissions(dir.0.join("mine"), PermissionsExt::from_mode(0o644)).unwrap();
    let ended = run(&in_dir(&dir, vec![File { path: b"mine", mode: 0o600, content: b"after" }], "echo no"));
    assert_eq!((ended.trailer.why, ended.trailer.how), (Why::FileFailed, How::NotStarted(17)));
    assert_eq!(ended.stdout, b"");
    assert_eq!(std::fs::read(dir.0.join("mine")).unwrap(), b"before");
}

#[test]
fn a_long_path_does_not_push_the_reason_out_of_the_message() {
    let dir = Dir::new();
    let path = [b"d/".repeat(500), vec![b'n'; 300]].concat();
    let trailer = run(&in_dir(&dir, vec![File { path: &path, mode: 0o600, content: b"" }], "echo no")).trailer;
    assert_eq!((trailer.why, trailer.how), (Why::FileFailed, How::NotStarted(36)));
    assert!(trailer.message.ends_with(b": File name too long"));
}
