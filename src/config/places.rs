//! Where brig's files and sockets are.
//!
//! By the XDG base directory specification (<https://specifications.freedesktop.org/basedir-spec/latest/>), each place
//! overridable by a variable of brig's own, so that several brigs live side by side.

use std::ffi::{OsStr, OsString};
use std::fs::{self, DirBuilder, OpenOptions};
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{DirBuilderExt as _, MetadataExt as _, OpenOptionsExt as _};
use std::path::{Path, PathBuf};

use brig_core::problem::{Code, Problem};

/// Bytes that a Unix socket's path may have: `sun_path` is 108 with its closing NUL, see unix(7).
const SOCKET_PATH_LIMIT: usize = 107;

/// The directories of one brig.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Places {
    config: PathBuf,
    state: PathBuf,
    runtime: PathBuf,
    home: Option<PathBuf>,
}

impl Places {
    /// The places that the process's environment says.
    ///
    /// # Errors
    /// As [`Places::new`].
    pub fn from_env() -> Result<Self, Problem> {
        Self::new(|name| std::env::var_os(name), rustix::process::getuid().as_raw(), Path::new("/tmp"))
    }

    /// The places that `lookup` says, for the user `uid`. Where there is no runtime directory, one is named under
    /// `fallback`, which other users can write to; one that is there already must be the user's own.
    ///
    /// # Errors
    /// `config` when a variable is no absolute path, when HOME is needed and missing, or when a socket's path would be
    /// too long; `wrong_user` when somebody else has made the fallback.
    pub fn new(lookup: impl Fn(&str) -> Option<OsString>, uid: u32, fallback: &Path) -> Result<Self, Problem> {
        let look = Lookup(&lookup);
        let config = look.place("BRIG_CONFIG_DIR", "XDG_CONFIG_HOME", ".config")?;
        let state = look.place("BRIG_STATE_DIR", "XDG_STATE_HOME", ".local/state")?;
        let runtime = match look.own("BRIG_RUNTIME_DIR")? {
            Some(path) => path,
            None => match look.xdg("XDG_RUNTIME_DIR") {
                Some(path) => path.join("brig"),
                None => ours(fallback.join(format!("brig-{uid}")), uid)?,
            },
        };
        let home = lookup("HOME").map(PathBuf::from).filter(|path| path.is_absolute());
        let places = Self { config, state, runtime, home };
        for (what, socket) in [("agent", places.agent_socket()), ("operator", places.operator_socket())] {
            let length = socket.as_os_str().as_bytes().len();
            if length > SOCKET_PATH_LIMIT {
                let message = format!(
                    "the path of the {what} socket is {length} bytes long, over the limit of {SOCKET_PATH_LIMIT}: {}",
                    socket.display()
                );
                return Err(Problem::new(Code::Config, message)
                    .help(format!("set BRIG_RUNTIME_DIR to a shorter path, as in BRIG_RUNTIME_DIR=/tmp/brig-{uid}")));
            }
        }
        Ok(places)
    }

    /// Makes the directories that are missing: state and runtime for this user alone. The agent's directory is left
    /// as it is where it exists, as its owner may have let a group in.
    ///
    /// # Errors
    /// `local_io` when that fails, `wrong_user` when the runtime directory is somebody else's.
    pub fn prepare(&self) -> Result<(), Problem> {
        for directory in [&self.state, &self.runtime, &self.runtime.join("agent")] {
            DirBuilder::new().recursive(true).mode(0o700).create(directory).map_err(|error| {
                Problem::new(Code::LocalIo, format!("cannot make the directory {}: {error}", directory.display()))
                    .help("make it yourself, or point BRIG_STATE_DIR and BRIG_RUNTIME_DIR somewhere else")
            })?;
        }
        ours(self.runtime.clone(), rustix::process::getuid().as_raw()).map(drop)
    }

    /// The settings.
    #[must_use]
    pub fn brig_toml(&self) -> PathBuf {
        self.config.join("brig.toml")
    }

    /// The user's own profiles.
    #[must_use]
    pub fn profiles_dir(&self) -> PathBuf {
        self.config.join("profiles")
    }

    /// The user's own themes.
    #[must_use]
    pub fn themes_dir(&self) -> PathBuf {
        self.config.join("themes")
    }

    /// Where all that lasts is.
    #[must_use]
    pub fn state_dir(&self) -> &Path {
        &self.state
    }

    /// The journal.
    #[must_use]
    pub fn journal(&self) -> PathBuf {
        self.state.join("journal.db")
    }

    /// What a detached supervisor says.
    #[must_use]
    pub fn log(&self) -> PathBuf {
        self.state.join("brig.log")
    }

    /// Locked by the one supervisor of this state.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.state.join("lock")
    }

    /// This installation's identifier.
    #[must_use]
    pub fn install_file(&self) -> PathBuf {
        self.state.join("install")
    }

    /// The user's home directory, where HOME says one.
    #[must_use]
    pub fn home(&self) -> Option<&Path> {
        self.home.as_deref()
    }

    /// What no sandbox may see: the sockets, the journal with everybody's output, and the settings with their tokens.
    #[must_use]
    pub fn own_secrets(&self) -> Vec<PathBuf> {
        let places = [self.runtime.clone(), self.state.clone(), self.brig_toml()];
        places.into_iter().map(|path| path.canonicalize().unwrap_or(path)).collect()
    }

    /// Where the sockets are.
    #[must_use]
    pub fn runtime_dir(&self) -> &Path {
        &self.runtime
    }

    /// For those who propose; in a directory of its own that others can be let into.
    #[must_use]
    pub fn agent_socket(&self) -> PathBuf {
        self.runtime.join("agent/agent.sock")
    }

    /// For those who decide.
    #[must_use]
    pub fn operator_socket(&self) -> PathBuf {
        self.runtime.join("operator.sock")
    }

    /// What those who decide show; made by the supervisor for its user alone.
    #[must_use]
    pub fn operator_token(&self) -> PathBuf {
        self.runtime.join("operator.token")
    }

    /// Reads this installation's identifier, 16 hexadecimal digits; the first time, makes it. Two that begin at once
    /// get the same one. The state directory must exist.
    ///
    /// # Errors
    /// `local_io` when the file cannot be made or read, or holds something else.
    pub fn install_id(&self) -> Result<String, Problem> {
        let path = self.install_file();
        let failed = |error: io::Error| Problem::new(Code::LocalIo, format!("cannot use {}: {error}", path.display()));
        if !path.try_exists().map_err(failed)? {
            make_install_id(&path).map_err(failed)?;
        }
        let id = fs::read_to_string(&path).map_err(failed)?.trim_end().to_owned();
        if id.len() == 16 && id.bytes().all(|byte| byte.is_ascii_hexdigit()) {
            return Ok(id);
        }
        Err(Problem::new(Code::LocalIo, format!("{} is not an identifier of 16 hexadecimal digits", path.display()))
            .help("restore it, or remove it to begin as a new installation, which does not clean up after the old one"))
    }
}

/// Written in full beside its place and linked into it: a file that is there is complete, and the first one stays.
fn make_install_id(path: &Path) -> io::Result<()> {
    let mut bytes = [0_u8; 8];
    getrandom::fill(&mut bytes).map_err(|error| io::Error::other(error.to_string()))?;
    let id = bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let draft = path.with_extension(&id);
    let mut file = OpenOptions::new().write(true).create_new(true).mode(0o600).open(&draft)?;
    let linked = writeln!(file, "{id}").and_then(|()| file.sync_all()).and_then(|()| fs::hard_link(&draft, path));
    fs::remove_file(&draft)?;
    match linked {
        Err(error) if error.kind() == io::ErrorKind::AlreadyExists => Ok(()),
        done => done,
    }
}

/// The directory, if it is missing or nobody else's. Where others can write, somebody could have made it first and
/// listen there in brig's place.
fn ours(path: PathBuf, uid: u32) -> Result<PathBuf, Problem> {
    let found = match fs::symlink_metadata(&path) {
        Ok(found) => found,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(path),
        Err(error) => {
            return Err(Problem::new(Code::LocalIo, format!("cannot look at {}: {error}", path.display())));
        }
    };
    let why = if !found.is_dir() {
        "is no directory".to_owned()
    } else if found.uid() != uid {
        format!("belongs to user {}, not to user {uid}", found.uid())
    } else if found.mode() & 0o022 != 0 {
        format!("can be written by others (mode {:03o})", found.mode() & 0o777)
    } else {
        return Ok(path);
    };
    Err(Problem::new(Code::WrongUser, format!("{} {why}, so the sockets in it cannot be trusted", path.display()))
        .help("set BRIG_RUNTIME_DIR to a directory of your own with mode 0700"))
}

struct Lookup<'a, F>(&'a F);

impl<F: Fn(&str) -> Option<OsString>> Lookup<'_, F> {
    fn place(&self, own: &str, xdg: &str, under_home: &str) -> Result<PathBuf, Problem> {
        if let Some(path) = self.own(own)? {
            return Ok(path);
        }
        if let Some(path) = self.xdg(xdg) {
            return Ok(path.join("brig"));
        }
        match self.xdg("HOME") {
            Some(home) => Ok(home.join(under_home).join("brig")),
            None => {
                Err(Problem::new(Code::Config, "HOME is not set to an absolute path, so brig's files have no place")
                    .help(format!("set HOME, or set {own} (and {xdg}) to a directory of your own")))
            }
        }
    }

    /// A variable of brig's own: what it says is meant, so a path that would depend on where one stands is an error.
    fn own(&self, name: &str) -> Result<Option<PathBuf>, Problem> {
        let Some(value) = self.set(name) else { return Ok(None) };
        let path = PathBuf::from(value);
        if path.is_absolute() {
            return Ok(Some(path));
        }
        Err(Problem::new(Code::Config, format!("{name} is \"{}\", which is no absolute path", path.display()))
            .help(format!("write the whole path, as in {name}=\"$PWD/{}\"", path.display())))
    }

    /// A variable of the specification, which wants relative paths to be ignored.
    fn xdg(&self, name: &str) -> Option<PathBuf> {
        self.set(name).map(PathBuf::from).filter(|path| path.is_absolute())
    }

    fn set(&self, name: &str) -> Option<OsString> {
        (self.0)(name).filter(|value| value.as_os_str() != OsStr::new(""))
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    fn places(variables: &[(&str, &str)]) -> Result<Places, Problem> {
        let lookup = |name: &str| variables.iter().find(|(key, _)| *key == name).map(|(_, value)| value.into());
        Places::new(lookup, 1000, Path::new("/nonexistent"))
    }

    #[test]
    fn places_follow_xdg_and_brigs_own_variables_come_first() {
        let home = places(&[("HOME", "/home/a")]).unwrap();
        assert_eq!(home.brig_toml(), Path::new("/home/a/.config/brig/brig.toml"));
        assert_eq!(home.journal(), Path::new("/home/a/.local/state/brig/journal.db"));
        assert_eq!(home.operator_socket(), Path::new("/nonexistent/brig-1000/operator.sock"));

        let xdg = places(&[("XDG_CONFIG_HOME", "/c"), ("XDG_STATE_HOME", "/s"), ("XDG_RUNTIME_DIR", "/r")]).unwrap();
        assert_eq!(xdg.profiles_dir(), Path::new("/c/brig/profiles"));
        assert_eq!(xdg.log(), Path::new("/s/brig/brig.log"));
        assert_eq!(xdg.agent_socket(), Path::new("/r/brig/agent/agent.sock"));

        let all = [("BRIG_CONFIG_DIR", "/1"), ("BRIG_STATE_DIR", "/2"), ("BRIG_RUNTIME_DIR", "/3"), ("HOME", "/h")];
        let own = places(&all).unwrap();
        assert_eq!(own.themes_dir(), Path::new("/1/themes"));
        assert_eq!(own.install_file(), Path::new("/2/install"));
        assert_eq!(own.operator_token(), Path::new("/3/operator.token"));
    }

    #[test]
    fn empty_variables_count_as_unset_and_relative_xdg_paths_are_ignored() {
        let found = places(&[("HOME", "/h"), ("BRIG_CONFIG_DIR", ""), ("XDG_CONFIG_HOME", "rel")]).unwrap();
        assert_eq!(found.brig_toml(), Path::new("/h/.config/brig/brig.toml"));
    }

    #[test]
    fn what_is_wrong_with_a_place_is_said_with_what_to_set() {
        let problem = places(&[]).unwrap_err();
        assert_eq!(problem.message, "HOME is not set to an absolute path, so brig's files have no place");
        assert_eq!(problem.help, "set HOME, or set BRIG_CONFIG_DIR (and XDG_CONFIG_HOME) to a directory of your own");

        let problem = places(&[("HOME", "/h"), ("BRIG_STATE_DIR", "here")]).unwrap_err();
        assert_eq!(problem.message, "BRIG_STATE_DIR is \"here\", which is no absolute path");

        let long = format!("/{}", "x".repeat(100));
        let problem = places(&[("HOME", "/h"), ("BRIG_RUNTIME_DIR", &long)]).unwrap_err();
        assert!(
            problem.message.starts_with("the path of the agent socket is 118 bytes long, over the limit of 107: /x")
        );
        assert!(problem.help.contains("BRIG_RUNTIME_DIR=/tmp/brig-1000"), "{problem}");
    }

    #[test]
    fn a_runtime_directory_that_others_could_have_made_is_refused() {
        let temp = tempfile::tempdir().unwrap();
        let uid = rustix::process::getuid().as_raw();
        let home = |name: &str| (name == "HOME").then(|| OsString::from("/h"));
        let directory = temp.path().join(format!("brig-{uid}"));
        fs::create_dir(&directory).unwrap();
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o777)).unwrap();
        let problem = Places::new(home, uid, temp.path()).unwrap_err();
        assert!(problem.message.contains("can be written by others (mode 777)"), "{problem}");
        fs::set_permissions(&directory, fs::Permissions::from_mode(0o700)).unwrap();
        assert!(Places::new(home, uid, temp.path()).is_ok());

        let other = temp.path().join(format!("brig-{}", uid + 1));
        fs::create_dir(&other).unwrap();
        let problem = Places::new(home, uid + 1, temp.path()).unwrap_err();
        assert_eq!(problem.code, Code::WrongUser);
        assert!(problem.message.contains(&format!("belongs to user {uid}, not to user {}", uid + 1)), "{problem}");

        fs::remove_dir(&directory).unwrap();
        std::os::unix::fs::symlink("/", &directory).unwrap();
        assert!(Places::new(home, uid, temp.path()).unwrap_err().message.contains("is no directory"));
    }

    #[test]
    fn the_installation_keeps_its_identifier() {
        let temp = tempfile::tempdir().unwrap();
        let root = temp.path().to_str().unwrap();
        let places = places(&[("HOME", "/h"), ("BRIG_STATE_DIR", root), ("BRIG_RUNTIME_DIR", &format!("{root}/r"))]);
        let places = places.unwrap();
        places.prepare().unwrap();
        places.prepare().unwrap();
        assert_eq!(fs::metadata(places.runtime_dir()).unwrap().mode() & 0o777, 0o700);
        let ids: Vec<_> = std::thread::scope(|scope| {
            let made: Vec<_> = (0..8).map(|_| scope.spawn(|| places.install_id().unwrap())).collect();
            made.into_iter().map(|thread| thread.join().unwrap()).collect()
        });
        assert!(ids.iter().all(|id| *id == ids[0]), "{ids:?}");
        fs::write(places.install_file(), "x").unwrap();
        assert!(places.install_id().unwrap_err().message.contains("16 hexadecimal digits"));
    }
}
