//! The machine's python3 with its standard library.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::plan::{Plan, is_elf};

/// A python that was asked where it lives.
pub struct Python {
    executable: PathBuf,
    prefix: PathBuf,
    library: PathBuf,
    /// What the names of its compiled modules end in, as in `.cpython-313.pyc`. Others beside them are another python's.
    compiled: String,
}

/// Parts of the standard library that a sandbox has no use for, or that are not part of it.
const LEFT_OUT: &[&str] = &[
    "dist-packages",
    "ensurepip",
    "idlelib",
    "lib2to3",
    "pydoc_data",
    "site-packages",
    "test",
    "tests",
    "tkinter",
    "turtle.py",
    "turtledemo",
];

/// Asks the first python3 that answers. What is found on PATH may be a shim, so it is asked for its own executable.
pub fn find() -> Option<Python> {
    ["python3", "/usr/bin/python3"].into_iter().find_map(ask)
}

fn ask(command: &str) -> Option<Python> {
    const QUESTION: &str = "import os, sys, sysconfig\n\
        executable = getattr(sys, '_base_executable', None) or sys.executable\n\
        print(os.path.realpath(executable), sys.base_prefix, sysconfig.get_path('stdlib'), sep='\\n')\n\
        print(sys.implementation.cache_tag)";
    let answer = Command::new(command).args(["-I", "-c", QUESTION]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let mut lines = text.lines();
    let mut path = || lines.next().map(PathBuf::from);
    let (executable, prefix, library) = (path()?, path()?, path()?);
    let compiled = format!(".{}.pyc", lines.next()?);
    (answer.status.success() && library.is_dir() && is_elf(&executable)).then_some(Python {
        executable,
        prefix,
        library,
        compiled,
    })
}

/// Puts it below `/usr/local`: it finds its library from where it is itself. Gives back the binaries among its files.
pub fn add(plan: &mut Plan, python: &Python) -> io::Result<Vec<PathBuf>> {
    let Some(name) = python.executable.file_name().and_then(|name| name.to_str()) else { return Ok(Vec::new()) };
    let Ok(below) = python.library.strip_prefix(&python.prefix) else { return Ok(Vec::new()) };
    plan.copy(&format!("usr/local/bin/{name}"), &python.executable);
    for alias in ["python3", "python"] {
        if alias != name {
            plan.link(&format!("usr/local/bin/{alias}"), name);
        }
    }
    // Scripts name it as `/usr/bin/python3`.
    plan.link("usr/bin/python3", &format!("../local/bin/{name}"));
    let mut binaries = vec![python.executable.clone()];
    tree(plan, &format!("usr/local/{}", below.display()), &python.library, &python.compiled, &mut binaries)?;
    Ok(binaries)
}

fn tree(plan: &mut Plan, path: &str, source: &Path, compiled: &str, binaries: &mut Vec<PathBuf>) -> io::Result<()> {
    for entry in fs::read_dir(source)? {
        let entry = entry?;
        let name = entry.file_name();
        let Some(name) = name.to_str().filter(|name| is_wanted(name, compiled)) else { continue };
        let (path, source) = (format!("{path}/{name}"), entry.path());
        // A link to a directory could lead anywhere, and round in circles.
        if entry.file_type()?.is_dir() {
            tree(plan, &path, &source, compiled, binaries)?;
        } else {
            plan.copy(&path, &source);
            if name.ends_with(".so") && is_elf(&source) {
                binaries.push(source);
            }
        }
    }
    Ok(())
}

fn is_wanted(name: &str, compiled: &str) -> bool {
    let is_test = name.starts_with("_test") || name.starts_with("_xxtestfuzz") || name.starts_with("_ctypes_test");
    let is_for_building = name.starts_with("config-") || name.ends_with(".a") || name.ends_with(".exe");
    // Those of `-O`, which nobody uses, end in another way, and so do those of other pythons.
    let module = name.strip_suffix(compiled).map(|module| format!("{module}.py"));
    let is_foreign = name.ends_with(".pyc") && module.is_none();
    let is_left_out = LEFT_OUT.contains(&module.as_deref().unwrap_or(name));
    !is_left_out && !is_test && !is_for_building && !is_foreign && !name.starts_with("_tkinter")
}

/// Whether this is a compiled module. The image has them, as a read-only system cannot keep new ones, and compiling
/// anew at each start takes longer than most programs run.
pub fn is_compiled(path: &str) -> bool {
    path.contains("/__pycache__")
}

#[cfg(test)]
mod tests {
    use super::*;

    const COMPILED: &str = ".cpython-313.pyc";

    #[test]
    fn what_is_not_needed_at_run_time_is_left_out() {
        for name in [
            "test",
            "os.cpython-313.opt-1.pyc",
            "os.cpython-312.pyc",
            "turtle.cpython-313.pyc",
            "site-packages",
            "config-3.13-x86_64-linux-gnu",
            "libpython.a",
            "_tkinter.so",
        ] {
            assert!(!is_wanted(name, COMPILED), "{name}");
        }
        for name in [
            "os.py",
            "asyncio",
            "lib-dynload",
            "_sqlite3.cpython-313-x86_64-linux-gnu.so",
            "unittest",
            "__pycache__",
            "os.cpython-313.pyc",
        ] {
            assert!(is_wanted(name, COMPILED), "{name}");
        }
    }
}
