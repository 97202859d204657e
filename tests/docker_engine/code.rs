//! Interpreters that are started in advance, on the real daemon. What code itself can tell is in brig-init's own tests.

use std::collections::BTreeMap;
use std::path::Path;
use std::process::Command;

use bollard::query_parameters::{CreateImageOptionsBuilder, RemoveImageOptionsBuilder};
use brig_core::problem::Code as ProblemCode;
use brig_core::profile::{Cage, Interpreter};
use brig_init::wire::{Code, How, Request, Step};
use futures_util::StreamExt as _;

use crate::support::docker::{BOUND, Bed, NONCE, Ran, cage, run, send};

fn interpreted(language: &str, command: &[&str], prewarm: bool) -> Cage {
    let command = command.iter().map(|&word| word.to_owned()).collect();
    let interpreters = BTreeMap::from([(language.to_owned(), Interpreter { command, prewarm })]);
    let environment = [("PATH", "/usr/local/bin:/usr/bin:/bin"), ("HOME", "/sandbox")];
    let environment = environment.map(|(name, value)| (name.to_owned(), value.to_owned())).into();
    Cage { interpreters, environment, ..cage() }
}

/// Runs code as a supervisor asks for it.
async fn code(bed: &Bed, cage: Cage, language: &str, source: &str, stdin: &[u8]) -> Ran {
    let mut sandbox = bed.arm(cage.clone()).await;
    let path = cage.code_path(0, language);
    let mut argv: Vec<&[u8]> = cage.interpreters[language].command.iter().map(|word| word.as_bytes()).collect();
    argv.extend([path.as_bytes(), b"an argument"]);
    let code = Code { language: language.as_bytes(), path: path.as_bytes(), source: source.as_bytes() };
    let env = cage.environment.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    let step = Step { argv, env, cwd: b"/sandbox", code: Some(code) };
    let (keep_going, rlimits, files) = (false, vec![], vec![]);
    let request = Request {
        nonce: NONCE,
        deadline_ms: 50_000,
        keep_going,
        rlimits,
        steps: vec![step],
        marks: vec![],
        files,
        stdin,
    };
    send(&mut sandbox, &request.encode().unwrap()).await
}

/// The same code by an interpreter that waited, and by a fresh one.
async fn both(bed: &Bed, cage: &Cage, language: &str, source: &str) -> Ran {
    let mut fresh = cage.clone();
    fresh.interpreters.values_mut().for_each(|interpreter| interpreter.prewarm = false);
    let warm = code(bed, cage.clone(), language, source, b"in").await;
    let cold = code(bed, fresh, language, source, b"in").await;
    let all = |ran: &Ran| (ran.stdout.clone(), ran.stderr.clone(), ran.trailer.how);
    assert_eq!(all(&warm), all(&cold), "warm on the left, cold on the right");
    println!("{language}: warm {:?}, cold {:?}, peak {} kB", warm.took, cold.took, warm.trailer.peak_memory / 1024);
    warm
}

#[tokio::test]
async fn python_waits_and_runs_code_as_a_fresh_one_would() {
    let bed = Bed::new();
    let python = interpreted("python", &["python3", "-I"], true);
    let source =
        "import sys, os\nprint(sys.argv, sys.stdin.read(), os.getcwd(), dict(os.environ), os.listdir())\n1 / 0\n";
    let ran = both(&bed, &python, "python", source).await;
    assert_eq!(ran.trailer.how, How::Exited(1));
    assert!(ran.stdout.starts_with("['/sandbox/.code-1.py', 'an argument'] in /sandbox {'HOME': "), "{ran:?}");
    assert!(ran.stderr.contains("File \"/sandbox/.code-1.py\", line 3, in <module>\n    1 / 0\n"), "{ran:?}");
    assert!(ran.stderr.ends_with("ZeroDivisionError: division by zero\n"), "{ran:?}");

    let ids = "import os; print(os.getpid(), os.getppid(), os.getsid(0) == os.getpid())";
    let waited = code(&bed, python, "python", ids, b"").await;
    assert!(waited.stdout.ends_with(" 1 True\n"), "{waited:?}");
    println!("print(1) by the one that waited took {:?}", waited.took);
}

#[tokio::test]
async fn a_command_finds_nothing_of_the_interpreter_that_waited() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(interpreted("python", &["python3", "-I"], true)).await;
    let look = "sleep 0.2; for p in /proc/[0-9]*; do tr '\\0' ' ' < $p/cmdline; echo; done; ls -A /sandbox /tmp; ls /proc/self/fd";
    let ran = run(&mut sandbox, &["sh", "-c", look], b"").await;
    assert!(!ran.stdout.lines().any(|line| line.starts_with("python3")), "{ran:?}");
    assert!(ran.stdout.ends_with("/sandbox:\n\n/tmp:\n0\n1\n2\n3\n"), "{ran:?}");
}

#[tokio::test]
async fn node_waits_and_runs_code_as_a_fresh_one_would() {
    let bed = Bed::new();
    let image = node_image(&bed).await;
    let cage = Cage { image: image.clone(), userland_fallback: false, ..interpreted("node", &["node"], true) };
    let source = "console.log(process.argv, process.env, require('fs').readFileSync(0, 'utf8'), process.cwd());\n\
                  throw new Error('no');";
    let ran = both(&bed, &cage, "node", source).await;
    assert_eq!(ran.trailer.how, How::Exited(1));
    assert!(ran.stderr.contains("/sandbox/.code-1.js:2") && ran.stderr.contains("Error: no"), "{ran:?}");
    bed.gone(BOUND).await;
    let options = RemoveImageOptionsBuilder::new().force(true).build();
    bed.docker.remove_image(&image, Some(options), None).await.unwrap();
}

#[tokio::test]
async fn an_interpreter_that_cannot_be_had_fails_arming_with_its_last_words() {
    let bed = Bed::new();
    for (command, words) in [
        (
            ["python4", "-I"],
            "the interpreter of python could not be started: execve python4: No such file or directory",
        ),
        (
            ["python3", "-Z"],
            "the interpreter of python ended with exit status 2 before any request: Unknown option: -Z",
        ),
    ] {
        let problem = bed.try_arm(interpreted("python", &command, true)).await.err().unwrap();
        assert_eq!(problem.code, ProblemCode::InterpreterFailed, "{problem}");
        assert!(problem.message.starts_with(words), "{problem}");
    }
    bed.gone(BOUND).await;
}

/// An image of this machine's node with what it needs, under a name that this test alone has.
async fn node_image(bed: &Bed) -> String {
    let node = ["/usr/bin/node", "/usr/local/bin/node"].into_iter().find(|path| Path::new(path).exists());
    let node = node.expect("these tests need node in /usr/bin or /usr/local/bin");
    let ldd = Command::new("ldd").arg(node).output().unwrap();
    let mut archive = tar::Builder::new(Vec::new());
    archive.follow_symlinks(true);
    archive.append_path_with_name(node, "usr/bin/node").unwrap();
    let libraries = String::from_utf8(ldd.stdout).unwrap();
    for library in libraries.split_whitespace().filter(|word| word.starts_with('/')) {
        archive.append_path_with_name(library, library.trim_start_matches('/')).unwrap();
    }
    for directory in ["sandbox", "tmp", "proc", "dev", "sys", "etc"] {
        let mut header = tar::Header::new_gnu();
        header.set_entry_type(tar::EntryType::Directory);
        header.set_size(0);
        // A mode of the image's own is that of what is mounted there.
        header.set_mode(if directory == "tmp" { 0o1777 } else { 0o755 });
        archive.append_data(&mut header, directory, std::io::empty()).unwrap();
    }
    let name = format!("brig-test-node-{}", bed.install);
    let options = CreateImageOptionsBuilder::new().from_src("-").repo(&name).tag("1").build();
    let body = bollard::body_full(archive.into_inner().unwrap().into());
    let mut lines = bed.docker.create_image(Some(options), Some(body), None);
    while let Some(line) = lines.next().await {
        line.unwrap();
    }
    format!("{name}:1")
}
