//! The contexts of the `docker` command: named daemons, in its own configuration.
//!
//! Format: `config.json` names the current one; each has `contexts/meta/HASH/meta.json`, and where it has certificates
//! `contexts/tls/HASH/docker/{ca,cert,key}.pem`; `HASH` is the SHA-256 of its name
//! (<https://github.com/docker/cli/tree/master/cli/context/store>).

use std::io;
use std::path::{Path, PathBuf};

use brig_core::problem::{Code, Problem};
use brig_core::profile::Hash;
use serde::Deserialize;
use serde::de::DeserializeOwned;

use super::address::{Address, TlsFiles};
use brig_core::nearest;

/// The one that is always there: the usual socket, or what `DOCKER_HOST` says.
pub const DEFAULT: &str = "default";
/// More than anybody has daemons.
const MOST: usize = 1000;
/// Far more than such a file has.
const LARGEST: u64 = 1 << 20;

/// The directory that `docker` keeps its configuration in.
pub struct Contexts {
    directory: PathBuf,
}

#[derive(Deserialize)]
struct ClientConfig {
    #[serde(rename = "currentContext", default)]
    current: String,
}

#[derive(Deserialize)]
struct Meta {
    #[serde(rename = "Name")]
    name: String,
    #[serde(rename = "Endpoints", default)]
    endpoints: Endpoints,
}

#[derive(Default, Deserialize)]
struct Endpoints {
    docker: Option<Endpoint>,
}

#[derive(Deserialize)]
struct Endpoint {
    #[serde(rename = "Host", default)]
    host: String,
    #[serde(rename = "SkipTLSVerify", default)]
    unverified: bool,
}

impl Contexts {
    /// Those in a directory, which need not be there.
    pub fn new(directory: PathBuf) -> Self {
        Self { directory }
    }

    /// The file that says which one is current, for messages.
    pub fn config_file(&self) -> PathBuf {
        self.directory.join("config.json")
    }

    /// The one that `docker context use` has chosen.
    pub fn current(&self) -> Result<Option<String>, Problem> {
        let config: Option<ClientConfig> = read(&self.config_file())?;
        Ok(config.map(|config| config.current).filter(|name| !name.is_empty() && name != DEFAULT))
    }

    /// Where the daemon of a context is. `said_by` is what names it, for the message that there is none.
    pub fn address(&self, name: &str, said_by: &str) -> Result<Address, Problem> {
        let hash = Hash::of(name.as_bytes()).hex();
        let path = self.directory.join("contexts/meta").join(&hash).join("meta.json");
        let Some(meta) = read::<Meta>(&path)? else { return Err(self.missing(name, said_by)) };
        let wrong = |why: String| Problem::new(Code::Config, format!("the docker context `{name}` {why}"));
        let Some(endpoint) = meta.endpoints.docker.filter(|endpoint| !endpoint.host.is_empty()) else {
            return Err(wrong("has no address of a daemon".to_owned()).help(format!("see {}", path.display())));
        };
        if endpoint.unverified {
            return Err(wrong("does not verify who the daemon is (SkipTLSVerify)".to_owned())
                .help("brig talks to nobody whom it cannot verify: give the context the daemon's CA (`docker context update`)"));
        }
        let files = tls_files(&self.directory.join("contexts/tls").join(&hash).join("docker"));
        Address::parse(&endpoint.host, files.as_ref())
            .map_err(|problem| wrong(format!("cannot be used: {}", problem.message)).help(problem.help))
    }

    fn missing(&self, name: &str, said_by: &str) -> Problem {
        let names = self.names();
        let known: Vec<&str> = names.iter().map(String::as_str).collect();
        let hint = nearest::hint(name, &known);
        Problem::new(Code::Config, format!("there is no docker context `{name}`, which {said_by} names{hint}"))
            .help(format!("those that there are: {}; `docker context create {name}` makes one", known.join(", ")))
    }

    /// All names, as far as they can be read.
    fn names(&self) -> Vec<String> {
        let entries = std::fs::read_dir(self.directory.join("contexts/meta")).into_iter().flatten().flatten();
        let meta = |entry: std::fs::DirEntry| read::<Meta>(&entry.path().join("meta.json")).ok().flatten();
        let mut names: Vec<String> = entries.take(MOST).filter_map(meta).map(|meta| meta.name).collect();
        names.sort();
        names.insert(0, DEFAULT.to_owned());
        names
    }
}

/// The usual three files, those that are there; nothing when none is.
pub fn tls_files(directory: &Path) -> Option<TlsFiles> {
    let file = |name: &str| Some(directory.join(name)).filter(|path| path.exists());
    let files = TlsFiles { ca: file("ca.pem"), cert: file("cert.pem"), key: file("key.pem") };
    (files != TlsFiles::default()).then_some(files)
}

fn read<T: DeserializeOwned>(path: &Path) -> Result<Option<T>, Problem> {
    let failed = |why: String| {
        Problem::new(Code::Config, format!("cannot read {}: {why}", path.display()))
            .help("mend it, or say where the daemon is with `engine.address` in brig.toml or DOCKER_HOST")
    };
    match std::fs::metadata(path) {
        Ok(facts) if facts.len() > LARGEST => return Err(failed(format!("it has more than {LARGEST} bytes"))),
        Ok(_) => {}
        Err(error) if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::NotADirectory) => {
            return Ok(None);
        }
        Err(error) => return Err(failed(error.to_string())),
    }
    let bytes = std::fs::read(path).map_err(|error| failed(error.to_string()))?;
    serde_json::from_slice(&bytes).map(Some).map_err(|error| failed(error.to_string()))
}
