//! Code, run by an interpreter that was started before, and the same by a fresh one: nothing may tell them apart.

use std::path::Path;

use brig_init::wire::{Code, How, Request, Why};

use crate::support::*;

/// An interpreter of this machine.
#[derive(Clone, Copy)]
struct Language {
    name: &'static str,
    command: &'static [&'static str],
    extension: &'static str,
}

const PYTHON: Language = Language { name: "python", command: &["/usr/bin/python3", "-I"], extension: "py" };
const NODE: Language = Language { name: "node", command: &["/usr/bin/node"], extension: "js" };

/// What a run came to, with its own directory's name taken out.
#[derive(Debug, PartialEq, Eq)]
struct Came {
    stdout: String,
    stderr: String,
    how: How,
}

/// One piece of code with all that may come with it.
#[derive(Clone, Copy)]
struct Piece<'a> {
    source: &'a str,
    arguments: &'a [&'a str],
    env: &'a [(&'a str, &'a str)],
    stdin: &'a [u8],
    /// The environment in which the interpreter waits.
    env_before: &'a [(&'a str, &'a str)],
}

fn piece(source: &str) -> Piece<'_> {
    let env = &[("PATH", "/usr/bin:/bin"), ("HOME", "/tmp"), ("LANG", "C.UTF-8")];
    Piece { source, arguments: &["one", "two words"], env, stdin: b"in\n", env_before: env }
}

fn file(language: Language, dir: &Dir) -> String {
    format!("{}/.code-1.{}", dir.0.display(), language.extension)
}

/// The arguments that make init start the interpreter in advance.
fn in_advance(language: Language, file: &str, env: &[(&str, &str)]) -> Vec<String> {
    let mut words = Vec::new();
    for (name, value) in env {
        words.extend(["--env".to_owned(), format!("{name}={value}")]);
    }
    words.extend(["--interpreter", language.name, file].map(str::to_owned));
    words.push(language.command.len().to_string());
    words.extend(language.command.iter().map(|&word| word.to_owned()));
    words
}

fn came(language: Language, piece: Piece<'_>, warm: bool) -> Came {
    let dir = Dir::new();
    let file = file(language, &dir);
    let words = if warm { in_advance(language, &file, piece.env_before) } else { Vec::new() };
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let mut init = Init::armed_with(&words);
    let mut step = shell("");
    step.argv = language.command.iter().map(|word| word.as_bytes()).collect();
    step.argv.push(file.as_bytes());
    step.argv.extend(piece.arguments.iter().map(|word| word.as_bytes()));
    step.env = piece.env.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    step.cwd = dir.bytes();
    let source = piece.source.as_bytes();
    step.code = Some(Code { language: language.name.as_bytes(), path: file.as_bytes(), source });
    let request = Request { stdin: piece.stdin, ..request(vec![step]) };
    init.send(&request.encode().unwrap());
    let ended = init.end(request.nonce);
    assert_eq!(ended.trailer.why, Why::Finished, "{ended:?}");
    let clean = |bytes: Vec<u8>| String::from_utf8(bytes).unwrap().replace(&dir.0.display().to_string(), "DIR");
    Came { stdout: clean(ended.stdout), stderr: clean(ended.stderr), how: ended.trailer.how }
}

/// Runs a piece in both ways, and gives what both came to.
fn both(language: Language, piece: Piece<'_>) -> Came {
    let (warm, cold) = (came(language, piece, true), came(language, piece, false));
    assert_eq!(warm, cold, "warm on the left, cold on the right, of\n{}", piece.source);
    warm
}

fn exits(language: Language, source: &str, status: i32) -> Came {
    let came = both(language, piece(source));
    assert_eq!(came.how, How::Exited(status), "{came:?} of\n{source}");
    came
}

#[test]
fn python_code_finds_what_a_file_would() {
    let came = exits(
        PYTHON,
        "import sys, os\n\
         print(sys.argv, sys.orig_argv, __file__, __name__, sorted(globals()), __spec__, sys.path, sys.flags)\n\
         print(os.getcwd(), list(os.environ.items()), os.getsid(0) == os.getpid(), sys.stdin.read(), os.listdir('.'))\n\
         print(os.listdir('/proc/self/fd'), sys.stdout.encoding, sys.stdout.line_buffering, os.umask(0), sys.excepthook)\n\
         print(__import__('__main__').__dict__ is globals(), sys.getrecursionlimit(), os.nice(0))",
        0,
    );
    assert!(came.stdout.starts_with("['DIR/.code-1.py', 'one', 'two words']"), "{came:?}");
    assert!(came.stdout.contains("in\n"), "{came:?}");
}

#[test]
fn python_ends_as_it_would_from_a_file() {
    for (source, how) in [
        ("", How::Exited(0)),
        ("import sys; sys.exit()", How::Exited(0)),
        ("import sys; sys.exit(7)", How::Exited(7)),
        ("import sys; sys.exit(-1)", How::Exited(255)),
        ("import sys; sys.exit('words')", How::Exited(1)),
        ("raise SystemExit(True)", How::Exited(1)),
        ("import os; os._exit(9)", How::Exited(9)),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", How::Signalled(15)),
        ("raise KeyboardInterrupt", How::Signalled(2)),
        ("import sys; sys.excepthook = lambda *a: print('mine', a[0]); 1/0", How::Exited(1)),
        ("import atexit; atexit.register(print, 'bye'); print('hi')", How::Exited(0)),
        ("import atexit, sys; atexit.register(exec, '1/0'); sys.exit(3)", How::Exited(3)),
        (
            "import threading, time\nthreading.Thread(target=lambda: (time.sleep(.1), print('late'))).start()",
            How::Exited(0),
        ),
        ("import threading\nthreading.Thread(target=lambda: 1/0, name='t').start()", How::Exited(0)),
        ("class A:\n  def __del__(self): print('gone')\na = A()\nb = [a]; b.append(b)", How::Exited(0)),
        ("f = open('out', 'w'); f.write('kept')\nimport os, atexit", How::Exited(0)),
        ("import sys; sys.stdout.close()", How::Exited(0)),
        ("import os; os.close(1); print('lost')", How::Exited(120)),
        ("def g():\n  try: yield\n  finally: print('closed')\nx = g(); next(x)", How::Exited(0)),
        ("import weakref\nclass A: pass\na = A(); weakref.finalize(a, print, 'final')", How::Exited(0)),
        ("import sys\nclass M:\n  @property\n  def __file__(self): 1/0\nsys.modules['m'] = M()", How::Exited(0)),
        ("class M(type):\n  @property\n  def __mro__(self): 1/0\nclass A(metaclass=M): pass", How::Exited(0)),
        ("import ctypes; ctypes.CDLL(None).printf(b'from C\\n')", How::Exited(0)),
        ("import os\nif os.fork() == 0: print('child'); raise SystemExit(4)\nprint(os.wait()[1] >> 8)", How::Exited(0)),
    ] {
        let came = both(PYTHON, piece(source));
        assert_eq!(came.how, how, "{came:?} of\n{source}");
    }
}

/// Taking it down takes ten times as long as `print(1)`. It is told by who flushes its output last: the bootstrap, or the
/// interpreter itself, which has no frame.
#[test]
fn python_leaves_at_once_where_nobody_could_notice() {
    const ORDINARY: &str = "import sys, os, json, re, datetime, random\n\
         class Out:\n  closed = False\n  def write(self, text): return len(text)\n\
         \x20 def flush(self): os.write(1, b'left' if sys._getframe().f_back else b'taken down')\n\
         json.dumps({'a': [1, 2]}), re.sub('a', 'b', 'aaa'), datetime.date(2026, 1, 2), random.random()\n\
         sys.stdout = Out()\n";
    assert_eq!(came(PYTHON, piece(ORDINARY), true).stdout, "left");
    let made = format!("{ORDINARY}class A:\n  def __del__(self): pass\na = A()\n");
    assert!(!came(PYTHON, piece(&made), true).stdout.contains("left"), "what the program made is finalized");
}

#[test]
fn python_tells_of_errors_as_it_would_from_a_file() {
    for source in [
        "def f(x):\n    return 1 / x\n\nf(0)\n",
        "try:\n    1 / 0\nexcept ZeroDivisionError as error:\n    raise ValueError('so') from error",
        "print(1",
        "x = 1\n  y = 2",
        "# -*- coding: latin-1 -*-\nprint(ascii('\u{e9}'))\nraise OSError",
        "raise ExceptionGroup('many', [ValueError(1), TypeError(2)])",
        "import nothing_of_that_name",
        "exec('1/0')",
        "print(1)\0\nprint(2)",
        "# coding: nothing-of-that-name\nprint(1)",
        "import traceback\ntry: 1/0\nexcept ZeroDivisionError: traceback.print_exc()\nraise SystemExit(1)",
        "import sys\ntry: 1/0\nfinally: print('finally', sys.exc_info()[0])",
    ] {
        let came = exits(PYTHON, source, 1);
        assert!(!came.stderr.contains("brig") && !came.stderr.contains("<string>, line"), "{came:?}");
    }
    let came = exits(PYTHON, "def f(x):\n    return 1 / x\n\nf(0)\n", 1);
    assert!(came.stderr.contains("File \"DIR/.code-1.py\", line 2, in f\n    return 1 / x\n"), "{came:?}");
}

#[test]
fn python_runs_whatever_python_runs() {
    for source in [
        "import asyncio\nasync def main():\n    await asyncio.sleep(0)\n    return 3\nprint(asyncio.run(main()))",
        "from multiprocessing import get_context\ndef f(x): return x * x\nif __name__ == '__main__':\n  for way in 'fork', 'spawn':\n    with get_context(way).Pool(2) as p: print(p.map(f, [1, 2, 3]))",
        "import subprocess, sys\nprint(subprocess.run([sys.executable, '-c', 'import os; print(os.environ)'], capture_output=True, text=True))",
        "from concurrent.futures import ThreadPoolExecutor as T\nwith T(3) as t: print(list(t.map(abs, [-1, -2])))",
        "import json, re, datetime, collections, math\nprint(json.dumps({'a': [1]}), re.findall('a+', 'caat'), math.pi)",
        "from __future__ import annotations\nx: Nothing = 1\nprint(__annotations__)",
        "import dataclasses, pickle\n@dataclasses.dataclass\nclass A: x: int\nprint(pickle.loads(pickle.dumps(A(1))))",
        "import inspect\ndef f(): pass\nprint(inspect.getsource(f), inspect.getsourcefile(f))",
        "import sys\nfor line in sys.stdin: print(repr(line))\nprint(input if sys.stdin.closed else 'open')",
        "import logging, warnings\nlogging.warning('w')\nwarnings.warn('old', DeprecationWarning)",
        "print(brig)",
    ] {
        let status = if source == "print(brig)" { 1 } else { 0 };
        exits(PYTHON, source, status);
    }
}

#[test]
fn what_is_random_is_not_shared() {
    let source = "import random, uuid; print(random.random(), hash('a'), uuid.uuid4())";
    let one = came(PYTHON, piece(source), true);
    assert_ne!(one.stdout, came(PYTHON, piece(source), true).stdout);
}

#[test]
fn node_code_finds_what_a_file_would() {
    let came = exits(
        NODE,
        "console.log(process.argv, process.execArgv, process.execPath, process.env, __filename, __dirname, module.id);\n\
         console.log(require.main === module, Object.keys(require.cache), process.cwd(), typeof globalThis.require);\n\
         console.log(module.paths, module.parent, module.children, process._eval, process.mainModule === module);\n\
         console.log(require('fs').readFileSync(0, 'utf8'), require('fs').readdirSync('.'), process.umask());\n\
         console.log(require('fs').readdirSync('/proc/self/fd').length, process.exitCode, process.title);",
        0,
    );
    assert!(
        came.stdout.starts_with("[\n  '/usr/bin/node',\n  'DIR/.code-1.js',\n  'one',\n  'two words'\n] []"),
        "{came:?}"
    );
}

#[test]
fn node_ends_as_it_would_from_a_file() {
    for (source, how) in [
        ("", How::Exited(0)),
        ("process.exit(7)", How::Exited(7)),
        ("process.exitCode = 5", How::Exited(5)),
        ("process.on('exit', (code) => console.log('bye', code)); process.exit(3)", How::Exited(3)),
        ("function f() { throw new Error('no'); }\nf();", How::Exited(1)),
        ("Promise.reject(new TypeError('so'))", How::Exited(1)),
        ("let x = ;", How::Exited(1)),
        ("process.kill(process.pid, 'SIGTERM'); setTimeout(() => {}, 10000)", How::Signalled(15)),
        ("process.abort", How::Exited(0)),
        ("require('./nothing')", How::Exited(1)),
        ("setTimeout(() => console.log('late'), 50); console.log('early')", How::Exited(0)),
        ("process.stdin.on('data', (d) => console.log(String(d))).on('end', () => console.log('end'))", How::Exited(0)),
        (
            "import os from 'node:os'; console.log(typeof os.EOL, await Promise.resolve(2), import.meta.url)",
            How::Exited(0),
        ),
        ("console.log(await Promise.resolve(2)); throw new Error('esm')", How::Exited(1)),
        (
            "const { fork } = require('child_process');\nif (process.argv[2] === 'child') { console.log('child', process.execArgv); } else { fork(__filename, ['child']); }",
            How::Exited(0),
        ),
        (
            "const { Worker, isMainThread } = require('worker_threads');\nif (isMainThread) { new Worker(__filename); } else { console.log('worker'); }",
            How::Exited(0),
        ),
        (
            "console.log(require('child_process').execFileSync(process.execPath, ['-p', 'process.env.HOME']).toString())",
            How::Exited(0),
        ),
        ("process.stdout.write('x'.repeat(300000)); console.error('err')", How::Exited(0)),
    ] {
        let came = both(NODE, piece(source));
        assert_eq!(came.how, how, "{came:?} of\n{source}");
        assert!(!came.stderr.contains(".brig-"), "{came:?}");
    }
}

#[test]
fn what_is_only_read_at_the_start_is_heeded_all_the_same() {
    let seed = Piece { env: &[("PYTHONHASHSEED", "0"), ("PATH", "/usr/bin")], ..piece("print(hash('a'))") };
    let unisolated = Language { command: &["/usr/bin/python3"], ..PYTHON };
    both(unisolated, seed);
    let options = Piece {
        env: &[("NODE_OPTIONS", "--max-http-header-size=99999"), ("PATH", "/usr/bin")],
        ..piece("console.log(require('http').maxHeaderSize)")
    };
    assert_eq!(both(NODE, options).stdout, "99999\n");
    let latin =
        Piece { env: &[("LC_ALL", "C"), ("PYTHONUTF8", "0")], ..piece("import sys; print(sys.stdout.encoding)") };
    both(unisolated, latin);
}

#[test]
fn without_isolation_the_directory_of_the_code_is_looked_in() {
    let unisolated = Language { command: &["/usr/bin/python3"], ..PYTHON };
    both(
        unisolated,
        piece("import sys; print(sys.path[0])\nopen('helper.py', 'w').write('x = 5')\nimport helper; print(helper.x)"),
    );
}

#[test]
fn the_one_that_waits_is_the_one_that_runs() {
    let dir = Dir::new();
    let file = file(PYTHON, &dir);
    let words = in_advance(PYTHON, &file, piece("").env);
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let mut init = Init::armed_with(&words);
    let waiting = children(init.child.id());
    assert_eq!(waiting.len(), 1, "{waiting:?}");
    let mut step = shell("");
    step.argv = vec![b"/usr/bin/python3", b"-I", file.as_bytes()];
    step.env = piece("").env.iter().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
    step.code = Some(Code { language: b"python", path: file.as_bytes(), source: b"import os; print(os.getpid())" });
    let request = request(vec![step]);
    init.send(&request.encode().unwrap());
    let ended = init.end(request.nonce);
    assert_eq!(String::from_utf8(ended.stdout).unwrap().trim(), waiting[0]);
}

#[test]
fn those_that_are_not_needed_are_gone_before_anything_runs() {
    let dir = Dir::new();
    let (python, node) = (file(PYTHON, &dir), file(NODE, &dir));
    let mut words = in_advance(PYTHON, &python, &[]);
    words.extend(in_advance(NODE, &node, &[]));
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let mut init = Init::armed_with(&words);
    let waiting = children(init.child.id());
    assert_eq!(waiting.len(), 2, "{waiting:?}");
    let request = request(vec![shell("sleep 0.2; for p in /proc/[0-9]*; do echo ${p#/proc/} $(cat $p/comm); done")]);
    init.send(&request.encode().unwrap());
    let ended = init.end(request.nonce);
    let seen = String::from_utf8(ended.stdout).unwrap();
    for pid in waiting {
        assert!(!seen.lines().any(|line| line.starts_with(&format!("{pid} "))), "{pid} in {seen}");
    }
}

#[test]
fn a_later_step_gets_a_fresh_interpreter_and_its_code() {
    let dir = Dir::new();
    let (first, second) = (file(PYTHON, &dir), format!("{}/.code-2.py", dir.0.display()));
    let words = in_advance(PYTHON, &first, piece("").env);
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let mut init = Init::armed_with(&words);
    let step = |path, source| {
        let mut step = shell("");
        step.argv = vec![b"/usr/bin/python3".as_slice(), b"-I", path];
        step.cwd = dir.bytes();
        step.code = Some(Code { language: b"python", path, source });
        step
    };
    let request = request(vec![
        step(first.as_bytes(), b"import os; print(1, os.listdir())"),
        step(second.as_bytes(), b"import os; print(2, sorted(os.listdir()))"),
    ]);
    init.send(&request.encode().unwrap());
    let ended = init.end(request.nonce);
    let said = String::from_utf8(ended.stdout).unwrap();
    assert_eq!(said, "1 ['.code-1.py']\n2 ['.code-1.py', '.code-2.py']\n", "{:?}", String::from_utf8(ended.stderr));
}

#[test]
fn code_does_not_replace_what_lies_in_its_place() {
    let dir = Dir::new();
    let file = file(PYTHON, &dir);
    std::os::unix::fs::symlink("/etc/passwd", Path::new(&file)).unwrap();
    let mut init = Init::armed();
    let mut step = shell("");
    step.code = Some(Code { language: b"python", path: file.as_bytes(), source: b"print(1)" });
    let request = request(vec![step]);
    init.send(&request.encode().unwrap());
    let trailer = init.end(request.nonce).trailer;
    assert_eq!(trailer.how, How::NotStarted(17));
    assert_eq!(String::from_utf8(trailer.message).unwrap(), format!("create {file}: File exists"));
}

#[test]
fn one_that_cannot_be_had_or_ends_is_told_with_its_last_words() {
    let python = "/usr/bin/python3";
    for (command, words) in [
        (
            vec!["/nowhere/python"],
            "the interpreter of python could not be started: execve /nowhere/python: No such file",
        ),
        (
            vec!["/bin/sh", "-c", "echo some words >&2; exit 3"],
            "the interpreter of python ended with exit status 3 before",
        ),
        (vec!["/bin/sh", "-c", "kill -9 $$"], "the interpreter of python was ended by signal 9 before any request"),
        (vec![python, "--no-such-option"], "ended with exit status 2 before any request"),
    ] {
        let count = command.len().to_string();
        let mut arguments = vec!["--interpreter", "python", "/tmp/never.py", &count];
        arguments.extend(command);
        let mut init = Init::spawn(crate::support::command().args(arguments));
        assert_eq!(init.exit_code(), Some(7));
        let mut said = String::new();
        std::io::Read::read_to_string(init.child.stderr.as_mut().unwrap(), &mut said).unwrap();
        assert!(said.contains(words), "{said}");
    }
}

#[test]
fn one_that_dies_while_it_waits_ends_init_with_the_reason() {
    let dir = Dir::new();
    let words = in_advance(NODE, &file(NODE, &dir), &[]);
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let mut init = Init::armed_with(&words);
    let waiting = children(init.child.id());
    std::process::Command::new("kill").args(["-9", &waiting[0]]).status().unwrap();
    assert_eq!(init.exit_code(), Some(7));
    let mut said = String::new();
    std::io::Read::read_to_string(init.child.stderr.as_mut().unwrap(), &mut said).unwrap();
    assert_eq!(said, "brig-init: the interpreter of node was ended by signal 9 before any request\n");
}

#[test]
fn those_that_wait_end_with_their_owner() {
    let dir = Dir::new();
    let words = in_advance(PYTHON, &file(PYTHON, &dir), &[]);
    let words: Vec<&[u8]> = words.iter().map(String::as_bytes).collect();
    let mut init = Init::armed_with(&words);
    let waiting = children(init.child.id());
    init.hang_up();
    assert_eq!(init.exit_code(), Some(0));
    assert!(!Path::new(&format!("/proc/{}", waiting[0])).exists());
}

/// The children of a process.
fn children(of: u32) -> Vec<String> {
    let text = std::fs::read_to_string(format!("/proc/{of}/task/{of}/children")).unwrap();
    text.split_whitespace().map(str::to_owned).collect()
}
