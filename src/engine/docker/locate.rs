//! Which daemon: what brig's settings say, then what the `docker` command would take, then who listens at a usual place.

use std::path::{Path, PathBuf};

use brig_core::problem::{Code, Problem};

use super::DockerSettings;
use super::address::{Address, TlsFiles};
use super::contexts::{self, Contexts};

/// Where Docker listens when nobody says otherwise.
const DOCKER: &str = "/var/run/docker.sock";
/// Where Podman does, for root.
const PODMAN: &str = "/run/podman/podman.sock";

/// A daemon's address, and who said so.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Located {
    /// Where it is.
    pub address: Address,
    /// As in `DOCKER_HOST` or "the docker context `east`, which DOCKER_CONTEXT names".
    pub origin: String,
}

/// The daemon that the settings and the environment mean. `lookup` gives a variable's value.
pub fn locate(settings: &DockerSettings, lookup: &dyn Fn(&str) -> Option<String>) -> Result<Located, Problem> {
    let variable = |name: &str| lookup(name).filter(|value| !value.is_empty());
    if let Some(text) = &settings.address {
        let address = Address::parse(text, settings.tls.as_ref())?;
        return Ok(Located { address, origin: "`engine.address` in brig.toml".to_owned() });
    }
    let contexts = Contexts::new(configuration(&variable));
    let of = |name: &str, said_by: &str| -> Result<Located, Problem> {
        let address = contexts.address(name, said_by)?;
        Ok(Located { address, origin: format!("the docker context `{name}`, which {said_by} names") })
    };
    if let Some(name) = &settings.context {
        let said_by = "`engine.context` in brig.toml";
        return if name == contexts::DEFAULT { usual(&variable) } else { of(name, said_by) };
    }
    if let Some(text) = variable("DOCKER_HOST") {
        let tls = encryption(&variable)?;
        let address = Address::parse(&text, tls.as_ref())?;
        return Ok(Located { address, origin: "DOCKER_HOST".to_owned() });
    }
    match variable("DOCKER_CONTEXT") {
        Some(name) if name == contexts::DEFAULT => usual(&variable),
        Some(name) => of(&name, "DOCKER_CONTEXT"),
        None => match contexts.current()? {
            Some(name) => of(&name, &format!("`currentContext` in {}", contexts.config_file().display())),
            None => usual(&variable),
        },
    }
}

/// Docker's own socket; Podman's where only that is there.
fn usual(variable: &dyn Fn(&str) -> Option<String>) -> Result<Located, Problem> {
    let mut podmans = vec![PathBuf::from(PODMAN)];
    if let Some(directory) = variable("XDG_RUNTIME_DIR").filter(|path| path.starts_with('/')) {
        podmans.insert(0, Path::new(&directory).join("podman/podman.sock"));
    }
    Ok(found(Path::new(DOCKER), &podmans))
}

fn found(docker: &Path, podmans: &[PathBuf]) -> Located {
    let podman = podmans.iter().find(|path| path.exists()).filter(|_| !docker.exists());
    let (path, origin) = match podman {
        Some(podman) => (podman.as_path(), format!("Podman's usual place, as there is no {}", docker.display())),
        None => (docker, "Docker's usual place".to_owned()),
    };
    Located { address: Address::Unix(path.display().to_string()), origin }
}

/// Whether TCP is encrypted, as the `docker` command's variables say.
fn encryption(variable: &dyn Fn(&str) -> Option<String>) -> Result<Option<TlsFiles>, Problem> {
    if variable("DOCKER_TLS_VERIFY").is_none() {
        return match variable("DOCKER_TLS") {
            None => Ok(None),
            Some(_) => Err(Problem::new(Code::Config, "DOCKER_TLS without DOCKER_TLS_VERIFY verifies nobody").help(
                "set DOCKER_TLS_VERIFY=1, and DOCKER_CERT_PATH to the directory with ca.pem, cert.pem and key.pem",
            )),
        };
    }
    let directory = variable("DOCKER_CERT_PATH").map_or_else(|| configuration(variable), PathBuf::from);
    contexts::tls_files(&directory).map(Some).ok_or_else(|| {
        let message =
            format!("DOCKER_TLS_VERIFY is set, and {} has none of ca.pem, cert.pem and key.pem", directory.display());
        Problem::new(Code::Config, message).help("set DOCKER_CERT_PATH to the directory that has them")
    })
}

/// Where the `docker` command keeps its configuration.
fn configuration(variable: &dyn Fn(&str) -> Option<String>) -> PathBuf {
    let home = || Path::new(&variable("HOME").unwrap_or_else(|| "/".to_owned())).join(".docker");
    variable("DOCKER_CONFIG").map_or_else(home, PathBuf::from)
}

#[cfg(test)]
mod tests {
    use std::fs;

    use brig_core::profile::Hash;

    use super::*;
    use crate::engine::Owner;

    /// A made-up home with contexts.
    struct Home(tempfile::TempDir);

    impl Home {
        fn new() -> Self {
            Self(tempfile::tempdir().unwrap())
        }

        fn context(&self, name: &str, endpoint: &str) -> PathBuf {
            let hash = Hash::of(name.as_bytes()).hex();
            let meta = self.0.path().join(".docker/contexts/meta").join(&hash);
            fs::create_dir_all(&meta).unwrap();
            let json = format!(r#"{{"Name":"{name}","Metadata":{{}},"Endpoints":{{"docker":{endpoint}}}}}"#);
            fs::write(meta.join("meta.json"), json).unwrap();
            self.0.path().join(".docker/contexts/tls").join(hash).join("docker")
        }

        fn config(&self, text: &str) {
            fs::create_dir_all(self.0.path().join(".docker")).unwrap();
            fs::write(self.0.path().join(".docker/config.json"), text).unwrap();
        }

        fn locate(&self, change: impl FnOnce(&mut DockerSettings), env: &[(&str, &str)]) -> Result<Located, Problem> {
            let owner = Owner { pid: 1, started: 1 };
            let mut settings = DockerSettings {
                install: "i".to_owned(),
                files: "/nowhere".into(),
                host: "h".to_owned(),
                owner,
                address: None,
                context: None,
                tls: None,
            };
            change(&mut settings);
            let home = self.0.path().to_str().unwrap();
            let lookup = |name: &str| {
                let set = env.iter().find(|(key, _)| *key == name).map(|(_, value)| (*value).to_owned());
                set.or_else(|| (name == "HOME").then(|| home.to_owned()))
            };
            locate(&settings, &lookup)
        }
    }

    fn spelled(located: Result<Located, Problem>) -> (String, String) {
        let located = located.unwrap();
        (located.address.to_string(), located.origin)
    }

    #[test]
    fn who_is_asked_first_wins_as_with_the_docker_command() {
        let home = Home::new();
        home.context("east", r#"{"Host":"ssh://me@east"}"#);
        home.context("west", r#"{"Host":"tcp://west:1"}"#);
        home.config(r#"{"auths":{},"currentContext":"east"}"#);
        let env = [("DOCKER_HOST", "tcp://host:3"), ("DOCKER_CONTEXT", "west")];
        let set = |settings: &mut DockerSettings| settings.address = Some("unix:///own".to_owned());
        assert_eq!(spelled(home.locate(set, &env)).0, "unix:///own");
        let (address, origin) = spelled(home.locate(|it| it.context = Some("west".to_owned()), &env));
        assert_eq!((address.as_str(), origin.contains("`engine.context`")), ("tcp://west:1", true));
        assert_eq!(spelled(home.locate(|_| (), &env)), ("tcp://host:3".to_owned(), "DOCKER_HOST".to_owned()));
        let (address, origin) = spelled(home.locate(|_| (), &env[1..]));
        assert_eq!((address.as_str(), origin.contains("DOCKER_CONTEXT")), ("tcp://west:1", true));
        let (address, origin) = spelled(home.locate(|_| (), &[]));
        assert_eq!((address.as_str(), origin.contains("currentContext")), ("ssh://me@east", true));
        let (_, origin) = spelled(home.locate(|_| (), &[("DOCKER_CONTEXT", "default")]));
        assert!(origin.contains("usual place"), "{origin}");
    }

    #[test]
    fn a_context_that_names_nothing_is_told_with_those_that_are_near() {
        let home = Home::new();
        home.context("production", r#"{"Host":"ssh://box"}"#);
        let problem = home.locate(|_| (), &[("DOCKER_CONTEXT", "prodction")]).unwrap_err();
        assert_eq!(problem.code, Code::Config);
        for part in ["no docker context `prodction`", "DOCKER_CONTEXT", "did you mean `production`?"] {
            assert!(problem.message.contains(part), "{problem}");
        }
        assert!(problem.help.contains("default, production"), "{problem}");
        home.config(r#"{"currentContext":"gone"}"#);
        let problem = home.locate(|_| (), &[]).unwrap_err();
        assert!(problem.message.contains("`gone`") && problem.message.contains(".docker/config.json"), "{problem}");
    }

    #[test]
    fn a_contexts_certificates_come_along_and_one_that_verifies_nobody_is_refused() {
        let home = Home::new();
        let tls = home.context("east", r#"{"Host":"tcp://east:2376","SkipTLSVerify":false}"#);
        fs::create_dir_all(&tls).unwrap();
        for name in ["ca.pem", "cert.pem", "key.pem"] {
            fs::write(tls.join(name), "").unwrap();
        }
        let located = home.locate(|_| (), &[("DOCKER_CONTEXT", "east")]).unwrap();
        let Address::Tls { files, .. } = located.address else { panic!("{located:?}") };
        assert_eq!(files.key, Some(tls.join("key.pem")));
        home.context("lax", r#"{"Host":"tcp://east:2376","SkipTLSVerify":true}"#);
        let problem = home.locate(|_| (), &[("DOCKER_CONTEXT", "lax")]).unwrap_err();
        assert!(problem.message.contains("SkipTLSVerify"), "{problem}");
        home.context("empty", "{}");
        let problem = home.locate(|_| (), &[("DOCKER_CONTEXT", "empty")]).unwrap_err();
        assert!(problem.message.contains("no address"), "{problem}");
        home.context("odd", r#"{"Host":"npipe:////./pipe/docker"}"#);
        let problem = home.locate(|_| (), &[("DOCKER_CONTEXT", "odd")]).unwrap_err();
        assert!(problem.message.contains("`odd` cannot be used"), "{problem}");
    }

    #[test]
    fn a_broken_configuration_is_named_unless_nobody_needs_it() {
        let home = Home::new();
        home.config("{");
        let problem = home.locate(|_| (), &[]).unwrap_err();
        assert!(problem.message.contains(".docker/config.json: EOF"), "{problem}");
        assert!(home.locate(|_| (), &[("DOCKER_HOST", "unix:///x")]).is_ok());
    }

    #[test]
    fn the_docker_commands_variables_for_tls_are_heeded() {
        let home = Home::new();
        let host = ("DOCKER_HOST", "tcp://box");
        let problem = home.locate(|_| (), &[host, ("DOCKER_TLS_VERIFY", "1")]).unwrap_err();
        assert!(problem.message.contains("none of ca.pem"), "{problem}");
        let certificates = home.0.path().join("certs");
        fs::create_dir(&certificates).unwrap();
        fs::write(certificates.join("ca.pem"), "").unwrap();
        let path = ("DOCKER_CERT_PATH", certificates.to_str().unwrap());
        let located = home.locate(|_| (), &[host, path, ("DOCKER_TLS_VERIFY", "1")]).unwrap();
        assert!(matches!(&located.address, Address::Tls { files, .. } if files.ca.is_some()), "{located:?}");
        assert!(matches!(home.locate(|_| (), &[host, path]).unwrap().address, Address::Tcp(_)));
        let problem = home.locate(|_| (), &[host, ("DOCKER_TLS", "1")]).unwrap_err();
        assert!(problem.message.contains("verifies nobody"), "{problem}");
    }

    #[test]
    fn podmans_socket_is_taken_where_there_is_no_docker() {
        let home = tempfile::tempdir().unwrap();
        let (docker, podman) = (home.path().join("docker.sock"), home.path().join("podman.sock"));
        let podmans = [home.path().join("none"), podman.clone()];
        assert_eq!(found(&docker, &podmans).address, Address::Unix(docker.display().to_string()));
        fs::write(&podman, "").unwrap();
        let located = found(&docker, &podmans);
        assert_eq!(located.address, Address::Unix(podman.display().to_string()));
        assert!(located.origin.contains("Podman"), "{located:?}");
        fs::write(&docker, "").unwrap();
        assert_eq!(found(&docker, &podmans).address, Address::Unix(docker.display().to_string()));
    }
}
