//! Which files go into the image.

use std::collections::HashMap;
use std::fs;
use std::io::{self, Read as _};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use brig_core::encoding::Encoder;
use brig_core::profile::Hash;

use super::{node, python};
use crate::archive::{Item, Items};

/// Tools that people and agents expect of a shell. What the machine does not have is left out.
#[rustfmt::skip]
const PROGRAMS: &[&str] = &[
    "[", "awk", "base32", "base64", "basename", "bash", "bzip2", "cat", "chmod", "cksum", "cmp", "comm", "cp", "cut",
    "date", "dd", "df", "diff", "dirname", "du", "echo", "egrep", "env", "expand", "expr", "factor", "false", "fgrep",
    "file", "find", "fmt", "fold", "free", "getconf", "grep", "gunzip", "gzip", "head", "hexdump", "hostname", "id",
    "install", "join", "jq", "kill", "ldd", "less", "link", "ln", "ls", "md5sum", "mkdir", "mkfifo", "mktemp", "more",
    "mv", "nice", "nl", "nohup", "nproc", "numfmt", "od", "paste", "patch", "pgrep", "pkill", "printenv", "printf",
    "ps", "pwd", "readlink", "realpath", "rev", "rm", "rmdir", "sed", "seq", "setsid", "sh", "sha1sum", "sha256sum",
    "sha512sum", "shuf", "sleep", "sort", "split", "stat", "stdbuf", "stty", "sum", "sync", "tac", "tail", "tar",
    "tee", "test", "timeout", "touch", "tr", "true", "truncate", "tsort", "tty", "uname", "unexpand", "uniq", "unlink",
    "uptime", "wc", "which", "who", "whoami", "xargs", "xxd", "xz", "yes", "zcat",
];

/// Where a system keeps its own programs. Not PATH: what a user has put in front of these is not the system's.
const DIRECTORIES: &[&str] = &["/usr/bin", "/bin", "/usr/sbin", "/sbin"];

/// Where the loader looks by itself. Libraries from elsewhere are put beside the C library, where it looks as well.
const LIBRARIES: &[&str] = &["/lib/", "/lib64/", "/usr/lib/", "/usr/lib64/"];

/// Which interpreters the image has, beside the shells.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Languages {
    /// python3 with its standard library.
    pub python: bool,
    /// node.
    pub node: bool,
}

impl Languages {
    /// Those that commands begin with. A command that none of this machine's programs can run is an error.
    pub fn of<'a>(commands: impl IntoIterator<Item = &'a [String]>) -> Result<Self, String> {
        let mut languages = Self::default();
        for program in commands.into_iter().filter_map(<[String]>::first) {
            let name = program.rsplit('/').next().unwrap_or(program);
            match name {
                "node" | "nodejs" => languages.node = true,
                name if PROGRAMS.contains(&name) => {}
                name if is_python(name) => languages.python = true,
                _ => return Err(format!("brig takes python3, node and shells over, and not {name}")),
            }
        }
        Ok(languages)
    }

    /// As it is part of the image's name.
    pub fn text(self) -> &'static str {
        match (self.python, self.node) {
            (false, false) => "shell",
            (true, false) => "python",
            (false, true) => "node",
            (true, true) => "python-node",
        }
    }
}

/// Whether this names a python, as `python`, `python3` and `python3.13` do.
fn is_python(name: &str) -> bool {
    name.strip_prefix("python").is_some_and(|version| version.bytes().all(|b| b.is_ascii_digit() || b == b'.'))
}

/// Every path of the image.
#[derive(Debug, Default)]
pub struct Plan {
    pub items: Items,
}

impl Plan {
    /// Looks at this machine for the usual tools and these languages. Blocking: it reads directories and runs `ldd`
    /// and the languages' interpreters.
    pub fn collect(languages: &Languages) -> io::Result<Self> {
        let mut plan = Self::default();
        plan.skeleton();
        let mut binaries = plan.programs()?;
        let missing = |name: &str| io::Error::new(io::ErrorKind::NotFound, format!("there is no {name} among them"));
        if languages.python {
            let python = python::find().ok_or_else(|| missing("python3"))?;
            binaries.extend(python::add(&mut plan, &python)?);
        }
        if languages.node {
            let node = node::find().ok_or_else(|| missing("node"))?;
            binaries.extend(node::add(&mut plan, &node)?);
        }
        plan.libraries(&binaries)?;
        plan.parents();
        Ok(plan)
    }

    /// A hash over every path with its mode, size, time and kind: the same files give the same. Compiled modules are not
    /// in it: they come and go as somebody uses python, and mean the same as their sources.
    pub fn hash(&self) -> Hash {
        let mut out = Encoder::new(b"brig-userland-1");
        for (path, (mode, item)) in self.items.iter().filter(|(path, _)| !python::is_compiled(path)) {
            out.text(path).u64(u64::from(*mode));
            match item {
                Item::Directory => out.text("directory"),
                Item::Copy(_, size, time) => out.text("copy").u64(*size).text(&time.to_string()),
                Item::Text(text) => out.text("text").text(text),
                Item::Link(target) => out.text("link").text(target),
            };
        }
        out.hash()
    }

    /// Bytes of all files together.
    pub fn bytes(&self) -> u64 {
        let size = |item: &Item| if let Item::Copy(_, size, _) = item { *size } else { 0 };
        self.items.values().map(|(_, item)| size(item)).sum()
    }

    /// Puts a copy of `source`, following links, at `path`. What is no regular file or not readable is left out.
    pub fn copy(&mut self, path: &str, source: &Path) {
        let Ok(source) = source.canonicalize() else { return };
        let Ok(metadata) = fs::metadata(&source) else { return };
        if metadata.is_file() {
            let mode = if metadata.mode() & 0o111 == 0 { 0o644 } else { 0o755 };
            let item = Item::Copy(source, metadata.len(), metadata.mtime());
            self.items.insert(path.trim_start_matches('/').to_owned(), (mode, item));
        }
    }

    /// Puts a symbolic link at `path`.
    pub fn link(&mut self, path: &str, target: &str) {
        let item = Item::Link(target.to_owned());
        self.items.entry(path.to_owned()).or_insert((0o777, item));
    }

    fn skeleton(&mut self) {
        for path in ["dev", "etc", "proc", "sandbox", "sys", "usr/bin", "usr/local/bin", "usr/local/lib"] {
            self.items.insert(path.to_owned(), (0o755, Item::Directory));
        }
        self.items.insert("tmp".to_owned(), (0o1777, Item::Directory));
        self.link("bin", "usr/bin");
        self.link("sbin", "usr/bin");
        self.link("usr/sbin", "bin");
        let texts = [
            ("etc/passwd", "root:x:0:0:root:/:/bin/sh\nnobody:x:65534:65534:nobody:/sandbox:/bin/sh\n"),
            ("etc/group", "root:x:0:\nnogroup:x:65534:\n"),
            ("etc/nsswitch.conf", "passwd: files\ngroup: files\nhosts: files dns\n"),
        ];
        for (path, text) in texts {
            self.items.insert(path.to_owned(), (0o644, Item::Text(text)));
        }
    }

    /// Puts every program there is, once: names of one and the same file become links to it.
    fn programs(&mut self) -> io::Result<Vec<PathBuf>> {
        let mut names: HashMap<PathBuf, &str> = HashMap::new();
        for name in PROGRAMS {
            let found = DIRECTORIES.iter().find_map(|directory| fs::canonicalize(Path::new(directory).join(name)).ok());
            let Some(source) = found else { continue };
            match names.get(&source) {
                Some(first) => self.link(&format!("usr/bin/{name}"), first),
                None => {
                    self.copy(&format!("usr/bin/{name}"), &source);
                    names.insert(source, name);
                }
            }
        }
        if !self.items.contains_key("usr/bin/sh") {
            return Err(io::Error::new(io::ErrorKind::NotFound, "there is no sh among them"));
        }
        Ok(names.into_keys().filter(|path| is_elf(path)).collect())
    }

    /// Puts the libraries that the binaries need, as `ldd` finds them.
    fn libraries(&mut self, binaries: &[PathBuf]) -> io::Result<()> {
        let output = Command::new("ldd").args(binaries).stdin(Stdio::null()).env("LC_ALL", "C").output()?;
        // Static ones among them make it exit with 1.
        let found = parse_ldd(&String::from_utf8_lossy(&output.stdout));
        let c_library = found.iter().find(|path| path.contains("/libc.so.") || path.contains("/libc.musl-"));
        let beside = c_library.and_then(|path| path.rsplit_once('/')).map_or("/lib", |(directory, _)| directory);
        // On a system where /lib is /usr/lib, a library can be named in two ways.
        let mut copied: HashMap<PathBuf, String> = HashMap::new();
        for path in &found {
            let name = path.rsplit('/').next().unwrap_or(path);
            let is_found = LIBRARIES.iter().any(|directory| path.starts_with(directory));
            let place = if is_found { path.clone() } else { format!("{beside}/{name}") };
            let source = fs::canonicalize(path)?;
            match copied.get(&source) {
                Some(first) => self.link(place.trim_start_matches('/'), first),
                None => {
                    self.copy(&place, &source);
                    copied.insert(source, place);
                }
            }
        }
        Ok(())
    }

    /// Makes the directories that files are in.
    fn parents(&mut self) {
        let mut missing = Vec::new();
        for path in self.items.keys() {
            let mut parent = path.as_str();
            while let Some((up, _)) = parent.rsplit_once('/') {
                missing.push(up.to_owned());
                parent = up;
            }
        }
        for path in missing {
            self.items.entry(path).or_insert((0o755, Item::Directory));
        }
    }
}

/// The paths in what `ldd` says: `libc.so.6 => /lib/libc.so.6 (0x…)` and `/lib64/ld-linux-x86-64.so.2 (0x…)`.
fn parse_ldd(text: &str) -> Vec<String> {
    let path = |line: &str| {
        let line = line.split_once(" => ").map_or(line, |(_, path)| path).trim();
        let (path, _) = line.split_once(" (0x")?;
        path.starts_with('/').then(|| path.to_owned())
    };
    let mut paths: Vec<String> = text.lines().filter_map(path).collect();
    paths.sort_unstable();
    paths.dedup();
    paths
}

/// Whether the file is a program or library for the loader, rather than a script.
pub fn is_elf(path: &Path) -> bool {
    let mut magic = [0; 4];
    fs::File::open(path).and_then(|mut file| file.read_exact(&mut magic)).is_ok() && magic == *b"\x7fELF"
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libraries_are_read_from_what_ldd_says() {
        let text = "/usr/bin/bash:\n\tlinux-vdso.so.1 (0x00007f)\n\tlibtinfo.so.6 => /lib/a/libtinfo.so.6 (0x01)\n\
                    \tlibgone.so => not found\n\t/lib64/ld-linux-x86-64.so.2 (0x02)\n/bin/x:\n\tnot a dynamic executable\n\
                    \tlibtinfo.so.6 => /lib/a/libtinfo.so.6 (0x01)\n";
        assert_eq!(parse_ldd(text), ["/lib/a/libtinfo.so.6", "/lib64/ld-linux-x86-64.so.2"]);
    }

    #[test]
    fn every_file_has_its_directory_before_it() {
        let mut plan = Plan::default();
        plan.link("a/b/c", "x");
        plan.parents();
        let paths: Vec<_> = plan.items.keys().map(String::as_str).collect();
        assert_eq!(paths, ["a", "a/b", "a/b/c"]);
    }

    #[test]
    fn languages_are_those_that_the_interpreters_are_of() {
        let of = |programs: &[&str]| {
            let commands: Vec<_> =
                programs.iter().map(|program| vec![(*program).to_owned(), "-x".to_owned()]).collect();
            Languages::of(commands.iter().map(Vec::as_slice)).map(Languages::text)
        };
        assert_eq!(of(&[]), Ok("shell"));
        assert_eq!(of(&["/bin/bash", "sh"]), Ok("shell"));
        assert_eq!(of(&["/usr/bin/python3.13"]), Ok("python"));
        assert_eq!(of(&["node", "python3", "python"]), Ok("python-node"));
        assert!(of(&["perl"]).unwrap_err().contains("perl"));
        assert!(of(&["pythonic"]).is_err());
    }

    #[test]
    fn this_machine_gives_the_same_plan_twice_and_another_for_another_language() {
        let [shell, python] = [false, true].map(|python| Languages { python, node: false });
        let collect = |languages| Plan::collect(&languages).unwrap();
        let (first, second) = (collect(python), collect(python));
        assert_ne!(collect(shell).hash(), first.hash());
        assert!(first.items.keys().any(|path| python::is_compiled(path) && path.contains("/os.")));
        assert_eq!(first.hash(), second.hash());
        assert!(first.items.contains_key("usr/bin/ls") && first.bytes() > 1_000_000);
        let outside = first.items.keys().find(|path| path.starts_with('/') || path.contains(".."));
        assert_eq!(outside, None);
    }
}
