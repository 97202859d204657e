//! The machine's node. Its library is inside of it, but for what a distribution may have taken out.

use std::io;
use std::path::PathBuf;
use std::process::{Command, Stdio};

use super::plan::{Plan, is_elf};

/// A node that was asked where it lives.
pub struct Node {
    executable: PathBuf,
    /// Parts of its own library that this build reads from files, as Debian's does.
    parts: Vec<PathBuf>,
}

/// Asks the first node that answers. What is found on PATH may be a shim, so it is asked for its own executable.
pub fn find() -> Option<Node> {
    ["node", "/usr/bin/node", "nodejs"].into_iter().find_map(ask)
}

fn ask(command: &str) -> Option<Node> {
    const QUESTION: &str = "console.log(require('fs').realpathSync(process.execPath));\
        for (const [name, value] of Object.entries(process.config.variables))\
            if (/^node_shared_builtin_.*_path$/.test(name) && value) console.log(value)";
    let answer = Command::new(command).args(["-e", QUESTION]).stdin(Stdio::null()).output().ok()?;
    let text = String::from_utf8(answer.stdout).ok()?;
    let mut lines = text.lines().map(PathBuf::from);
    let executable = lines.next()?;
    (answer.status.success() && is_elf(&executable)).then(|| Node { executable, parts: lines.collect() })
}

/// Puts it into `/usr/local/bin`. Gives back the binaries among its files.
pub fn add(plan: &mut Plan, node: &Node) -> io::Result<Vec<PathBuf>> {
    plan.copy("usr/local/bin/node", &node.executable);
    plan.link("usr/bin/node", "../local/bin/node");
    for part in &node.parts {
        let path = part.to_str().filter(|path| path.starts_with('/') && !path.contains("/../"));
        let path = path.ok_or_else(|| io::Error::other(format!("node reads {}, which is no path", part.display())))?;
        plan.copy(path, part);
    }
    Ok(vec![node.executable.clone()])
}
