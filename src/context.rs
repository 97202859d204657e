//! What an image is built from: the files of a context, without those that its `.dockerignore` leaves out.
//!
//! Read twice: with the profile, for the hash that an approval rests on, and when the image is built, for the archive.

mod ignore;

use std::fs::{self, File};
use std::io::{self, Read as _};
use std::os::unix::fs::{MetadataExt as _, PermissionsExt as _};
use std::path::Path;

use brig_core::encoding::Encoder;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Build, Context, Hash};
use sha2::{Digest as _, Sha256};

use self::ignore::Ignore;
use crate::archive::{self, Item, Items};

/// Bytes of all files together, at most.
pub const LARGEST: u64 = 256 << 20;
/// Files, directories and links, at most.
pub const MOST: usize = 20_000;
/// Directories in each other, at most.
const DEEPEST: usize = 64;
/// What a `.dockerignore` may have.
const LONGEST_IGNORE: u64 = 64 << 10;

/// The contexts that come with brig, by the name of the profile that each came with: its Dockerfile alone.
pub const SHIPPED: [(&str, &str); 2] =
    [("node", include_str!("../profiles/node/Dockerfile")), ("python", include_str!("../profiles/python/Dockerfile"))];

/// The files of a context.
#[derive(Debug)]
pub struct Files {
    /// What goes into the archive.
    pub items: Items,
    /// Over every path with its mode and content.
    pub content: Hash,
}

/// Reads a context. Blocking: it reads every file.
///
/// # Errors
/// `image_unavailable`, with the file that is in the way and what to do.
pub fn read(context: &Context, dockerfile: &str) -> Result<Files, Problem> {
    let mut walk = Walk::default();
    match context {
        Context::Directory(path) => walk.directory(Path::new(path), dockerfile)?,
        Context::Shipped(name) => {
            let Some((_, text)) = SHIPPED.iter().find(|(shipped, _)| shipped == name) else {
                return Err(unusable(format!("brig ships nothing to build for {name}")));
            };
            walk.items.insert("Dockerfile".to_owned(), (0o644, Item::Text(text)));
        }
    }
    if !matches!(walk.items.get(dockerfile), Some((_, Item::Copy(..) | Item::Text(_)))) {
        return Err(unusable(format!("there is no file {dockerfile} in {}", context.text()))
            .help("put a Dockerfile there, or name it: build = { context = \"DIRECTORY\", dockerfile = \"NAME\" }"));
    }
    let content = hash(&walk.items)?;
    Ok(Files { items: walk.items, content })
}

fn unusable(message: String) -> Problem {
    Problem::new(Code::ImageUnavailable, message)
}

fn unreadable(path: &Path, error: &io::Error) -> Problem {
    unusable(format!("cannot read {}: {error}", path.display()))
        .help("make it readable for the user that runs the supervisor, or leave it out in .dockerignore")
}

/// Collects what is in a directory.
#[derive(Default)]
struct Walk {
    items: Items,
    bytes: u64,
}

impl Walk {
    fn directory(&mut self, root: &Path, dockerfile: &str) -> Result<(), Problem> {
        let ignore = Ignore::parse(&ignore_file(root)?);
        let mut rest = vec![(String::new(), 0)];
        while let Some((below, depth)) = rest.pop() {
            let directory = root.join(&below);
            for entry in fs::read_dir(&directory).map_err(|error| unreadable(&directory, &error))? {
                let entry = entry.map_err(|error| unreadable(&directory, &error))?;
                let path = entry.path();
                let name = entry.file_name();
                let Some(name) = name.to_str() else {
                    return Err(unusable(format!("the name of {} is no UTF-8", path.display()))
                        .help("rename it, or leave it out in .dockerignore"));
                };
                let at = if below.is_empty() { name.to_owned() } else { format!("{below}/{name}") };
                // What says how to build is always sent, as Docker's own client does.
                let is_left_out = ignore.leaves_out(&at) && at != dockerfile;
                let facts = entry.metadata().map_err(|error| unreadable(&path, &error))?;
                if facts.is_dir() {
                    if is_left_out && !ignore.may_take_back(&at) && !dockerfile.starts_with(&format!("{at}/")) {
                        continue;
                    }
                    if depth >= DEEPEST {
                        return Err(unusable(format!("{} is more than {DEEPEST} directories deep", path.display()))
                            .help("leave it out in .dockerignore"));
                    }
                    rest.push((at.clone(), depth + 1));
                }
                if !is_left_out {
                    self.add(at, &path, &facts)?;
                }
                self.check(root)?;
            }
        }
        Ok(())
    }

    /// Sockets, pipes and devices are nothing that can be in an image.
    fn add(&mut self, at: String, path: &Path, facts: &fs::Metadata) -> Result<(), Problem> {
        let mode = facts.permissions().mode() & 0o777;
        let item = if facts.is_dir() {
            Item::Directory
        } else if facts.is_symlink() {
            let target = fs::read_link(path).map_err(|error| unreadable(path, &error))?;
            let Some(target) = target.to_str() else {
                return Err(unusable(format!("where {} leads is no UTF-8", path.display())));
            };
            Item::Link(target.to_owned())
        } else if facts.is_file() {
            self.bytes += facts.len();
            Item::Copy(path.to_owned(), facts.len(), facts.mtime())
        } else {
            return Ok(());
        };
        self.items.insert(at, (mode, item));
        Ok(())
    }

    fn check(&self, root: &Path) -> Result<(), Problem> {
        let what = if self.bytes > LARGEST {
            format!("more than {} MiB", LARGEST >> 20)
        } else if self.items.len() > MOST {
            format!("more than {MOST} files")
        } else {
            return Ok(());
        };
        Err(unusable(format!("the context {} has {what}", root.display())).help(
            "write what the Dockerfile does not copy into .dockerignore, or name a smaller directory as the context",
        ))
    }
}

fn ignore_file(root: &Path) -> Result<String, Problem> {
    let path = root.join(".dockerignore");
    let mut text = String::new();
    let mut read = |path: &Path| match fs::metadata(path)?.is_file() {
        true => File::open(path)?.take(LONGEST_IGNORE).read_to_string(&mut text),
        // A pipe would be waited for.
        false => Err(io::Error::other("it is no file")),
    };
    let read = read(&path);
    match read {
        Ok(_) => Ok(text),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(text),
        Err(error) => Err(unreadable(&path, &error)),
    }
}

fn hash(items: &Items) -> Result<Hash, Problem> {
    let mut out = Encoder::new(b"brig-context-1");
    for (path, (mode, item)) in items {
        out.text(path).u64(u64::from(*mode));
        match item {
            Item::Directory => out.text("directory"),
            Item::Link(target) => out.text("link").text(target),
            Item::Text(text) => out.text("file").text(&Hash::of(text.as_bytes()).hex()),
            Item::Copy(source, ..) => {
                let hash = hash_of(source).map_err(|error| unreadable(source, &error))?;
                out.text("file").text(&hash.hex())
            }
        };
    }
    Ok(out.hash())
}

fn hash_of(path: &Path) -> io::Result<Hash> {
    let mut hasher = Sha256::new();
    let mut file = archive::open(path)?;
    let mut piece = vec![0; 64 << 10];
    loop {
        match file.read(&mut piece)? {
            0 => return Ok(Hash(hasher.finalize().into())),
            length => hasher.update(&piece[..length]),
        }
    }
}

/// What can be seen of a context without reading its files: changes when one of them does. Nothing for what brig ships,
/// which does not change.
#[must_use]
pub fn glance(build: &Build) -> Option<Hash> {
    let Context::Directory(path) = &build.context else { return None };
    let mut walk = Walk::default();
    // One that cannot be read looks different from one that can.
    let walked = walk.directory(Path::new(path), &build.dockerfile);
    let mut out = Encoder::new(b"brig-glance-1");
    out.flag(walked.is_ok());
    for (path, (mode, item)) in &walk.items {
        out.text(path).u64(u64::from(*mode));
        if let Item::Copy(_, size, time) = item {
            out.u64(*size).text(&time.to_string());
        }
        if let Item::Link(target) = item {
            out.text(target);
        }
    }
    Some(out.hash())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn context(files: &[(&str, &str)]) -> (tempfile::TempDir, Context) {
        let directory = tempfile::tempdir().unwrap();
        for (name, text) in files {
            let path = directory.path().join(name);
            fs::create_dir_all(path.parent().unwrap()).unwrap();
            fs::write(path, text).unwrap();
        }
        let context = Context::Directory(directory.path().to_str().unwrap().to_owned());
        (directory, context)
    }

    fn build_of(context: &Context) -> Build {
        Build {
            context: context.clone(),
            dockerfile: "Dockerfile".to_owned(),
            args: std::collections::BTreeMap::new(),
            target: None,
            content: Hash::of(b""),
        }
    }

    #[test]
    fn files_are_there_but_for_those_that_are_ignored() {
        let files = [
            ("Dockerfile", "FROM x"),
            (".dockerignore", "*\n!src\n# nothing\nsrc/**/*.tmp\n"),
            ("src/a/b.py", "1"),
            ("src/a/b.tmp", "2"),
            ("secret", "3"),
        ];
        let (_directory, context) = context(&files);
        let read = read(&context, "Dockerfile").unwrap();
        let paths: Vec<_> = read.items.keys().map(String::as_str).collect();
        assert_eq!(paths, ["Dockerfile", "src", "src/a", "src/a/b.py"]);
    }

    #[test]
    fn the_hash_is_of_what_is_there_and_not_of_when_it_was_written() {
        let files = [("Dockerfile", "FROM x"), ("a", "1")];
        let (directory, first) = context(&files);
        let (_other, second) = context(&files);
        let before = read(&first, "Dockerfile").unwrap().content;
        assert_eq!(before, read(&second, "Dockerfile").unwrap().content);
        let seen = glance(&build_of(&first));
        fs::write(directory.path().join("a"), "2 and more").unwrap();
        assert_ne!(before, read(&first, "Dockerfile").unwrap().content);
        assert_ne!(seen, glance(&build_of(&first)));
    }

    #[test]
    fn a_context_without_a_dockerfile_or_too_large_says_what_to_do() {
        let (directory, context) = context(&[("a", "1")]);
        let problem = read(&context, "Dockerfile").unwrap_err();
        assert!(problem.message.contains("no file Dockerfile") && problem.help.contains("dockerfile ="), "{problem}");
        File::create(directory.path().join("huge")).unwrap().set_len(LARGEST + 1).unwrap();
        let problem = read(&context, "Dockerfile").unwrap_err();
        assert!(problem.message.contains("256 MiB") && problem.help.contains(".dockerignore"), "{problem}");
    }

    #[test]
    fn pipes_are_not_waited_for_and_links_that_took_a_files_place_not_followed() {
        let (directory, context) = context(&[("Dockerfile", "FROM x"), ("a", "1")]);
        let pipe = directory.path().join(".dockerignore");
        rustix::fs::mkfifoat(rustix::fs::CWD, &pipe, rustix::fs::Mode::RUSR).unwrap();
        let problem = read(&context, "Dockerfile").unwrap_err();
        assert!(problem.message.contains(".dockerignore: it is no file"), "{problem}");
        fs::rename(&pipe, directory.path().join("b")).unwrap();
        let files = read(&context, "Dockerfile").unwrap();
        assert!(!files.items.contains_key("b"));
        fs::remove_file(directory.path().join("a")).unwrap();
        std::os::unix::fs::symlink("/etc/passwd", directory.path().join("a")).unwrap();
        let problem = hash(&files.items).unwrap_err();
        assert!(problem.message.contains("it is a link"), "{problem}");
    }

    #[test]
    fn what_brig_ships_can_be_read() {
        for (name, _) in SHIPPED {
            let read = read(&Context::Shipped(name.to_owned()), "Dockerfile").unwrap();
            assert_eq!(read.items.len(), 1);
        }
    }
}
