//! The connection to a daemon, and what is known about it.

use std::future::Future;
use std::time::Duration;

use bollard::Docker;
use bollard::errors::Error;
use bollard::models::{SystemInfo, SystemInfoCgroupVersionEnum, SystemVersion};
use brig_core::problem::{Code, Problem};
use tokio::net::UnixStream;

use super::address::Address;
use super::dial;
use super::failure::{self, Failure};
use super::podman;
use crate::engine::EngineInfo;

/// The oldest version of the API that brig works with: Docker 20.10.
const OLDEST: (u32, u32) = (1, 41);
/// For questions that a daemon answers from memory.
pub const QUICK: Duration = Duration::from_secs(10);
/// For what a daemon needs other programs and disks for.
pub const SLOW: Duration = Duration::from_secs(30);

/// A daemon that was reached and found to be one that brig works with. Cheap to clone.
#[derive(Clone)]
pub struct Link {
    /// The client; each call has a connection of its own.
    pub docker: Docker,
    /// Where it is.
    pub address: Address,
    /// What it said of itself when it was reached.
    pub info: EngineInfo,
    /// Whether it is Podman, which takes some things in another way: see [`podman`].
    pub is_podman: bool,
}

impl Link {
    /// Reaches the daemon and looks whether it will do.
    pub async fn establish(address: &Address) -> Result<Self, Problem> {
        let docker = dial::client(address).map_err(|error| failure::explain(address, "reach the daemon", &error))?;
        let info = ask(&docker, address).await?;
        let is_podman = info.name.starts_with(podman::NAME);
        Ok(Self { docker, address: address.clone(), info, is_podman })
    }

    /// Asks the daemon again who it is.
    pub async fn ask(&self) -> Result<EngineInfo, Problem> {
        ask(&self.docker, &self.address).await
    }

    /// One call, bounded and explained. `what` completes "cannot …".
    pub fn call<'a, T: Send + 'a>(
        &'a self,
        what: &'a str,
        limit: Duration,
        call: impl Future<Output = Result<T, Error>> + Send + 'a,
    ) -> impl Future<Output = Result<T, Failure>> + Send + 'a {
        failure::bounded(&self.address, what, limit, call)
    }

    /// Whether the process at the other end of the daemon's socket is one of this machine's.
    pub async fn serves_here(&self) -> bool {
        let Address::Unix(path) = &self.address else { return false };
        let Ok(Ok(stream)) = tokio::time::timeout(QUICK, UnixStream::connect(path)).await else { return false };
        let peer = stream.peer_cred().ok().and_then(|peer| peer.pid());
        // A daemon in another PID namespace has the number 0 here.
        let group = peer.filter(|pid| *pid > 0).map(|pid| std::fs::read_to_string(format!("/proc/{pid}/cgroup")));
        group.is_some_and(|group| group.is_ok_and(|text| !text.is_empty()))
    }

    /// Whether the daemon may be on this machine.
    pub fn is_local(&self) -> bool {
        self.address.is_local()
    }
}

async fn ask(docker: &Docker, address: &Address) -> Result<EngineInfo, Problem> {
    let (version, info) = asked(docker, address).await?;
    check(address, &version, &info)?;
    Ok(summary(address, &version, &info))
}

/// What a daemon says of itself, without judging it.
pub async fn describe(address: &Address) -> Result<(SystemVersion, SystemInfo), Problem> {
    let docker = dial::client(address).map_err(|error| failure::explain(address, "reach the daemon", &error))?;
    asked(&docker, address).await
}

async fn asked(docker: &Docker, address: &Address) -> Result<(SystemVersion, SystemInfo), Problem> {
    let both = async { tokio::try_join!(docker.version(), docker.info()) };
    Ok(failure::bounded(address, "ask the daemon who it is", QUICK, both).await?)
}

/// What of that everybody wants to know.
pub fn summary(address: &Address, version: &SystemVersion, info: &SystemInfo) -> EngineInfo {
    let name = if podman::is_it(version) { podman::NAME } else { "Docker" };
    EngineInfo {
        name: format!("{name} {}", version.version.as_deref().unwrap_or_default()),
        api_version: version.api_version.clone().unwrap_or_default(),
        address: address.to_string(),
        cgroup_version: if info.cgroup_version == Some(SystemInfoCgroupVersionEnum::_2) { 2 } else { 1 },
        cpus: info.ncpu.and_then(|cpus| u32::try_from(cpus).ok()).unwrap_or(1),
        memory: info.mem_total.and_then(|bytes| u64::try_from(bytes).ok()).unwrap_or(0),
    }
}

/// Refuses what brig cannot keep its promises on.
pub fn check(address: &Address, version: &SystemVersion, info: &SystemInfo) -> Result<(), Problem> {
    let unsupported = |message: String, help: &str| Err(Problem::new(Code::Unsupported, message).help(help));
    if podman::is_it(version) {
        podman::check(address, info)?;
    }
    let spoken = version.api_version.as_deref().unwrap_or("none");
    if parse_version(spoken).is_none_or(|spoken| spoken < OLDEST) {
        let (major, minor) = OLDEST;
        let message = format!("the daemon speaks version {spoken} of the API, brig needs {major}.{minor}");
        return unsupported(message, "update Docker to 20.10 or later");
    }
    let system = info.os_type.as_deref().unwrap_or("linux");
    if system != "linux" {
        return unsupported(
            format!("the daemon runs {system} containers"),
            "brig needs a daemon with Linux containers",
        );
    }
    let processor = info.architecture.as_deref().unwrap_or(std::env::consts::ARCH);
    if processor_name(processor) != std::env::consts::ARCH {
        let message = format!("the daemon's processor is {processor}, brig was built for {}", std::env::consts::ARCH);
        return unsupported(message, "use a brig that was built for the daemon's processor: its init runs there");
    }
    let options = info.security_options.as_deref().unwrap_or_default();
    if !options.iter().any(|option| option.starts_with("name=seccomp")) {
        return unsupported(
            "the daemon does not filter system calls (no seccomp)".to_owned(),
            "use a kernel and a Docker that were built with seccomp",
        );
    }
    Ok(())
}

fn parse_version(text: &str) -> Option<(u32, u32)> {
    let (major, minor) = text.split_once('.')?;
    Some((major.parse().ok()?, minor.parse().ok()?))
}

/// Daemons and images name processors as `uname` or as Go does.
pub fn processor_name(name: &str) -> &str {
    match name {
        "amd64" => "x86_64",
        "arm64" => "aarch64",
        other => other,
    }
}

#[cfg(test)]
mod tests {
    use bollard::models::SystemVersionComponents;

    use super::*;

    fn here() -> Address {
        Address::Unix("/x".to_owned())
    }

    fn elsewhere() -> Address {
        Address::Tcp("box:2375".to_owned())
    }

    fn good() -> (SystemVersion, SystemInfo) {
        let version = SystemVersion { api_version: Some("1.41".to_owned()), ..SystemVersion::default() };
        let info = SystemInfo {
            os_type: Some("linux".to_owned()),
            architecture: Some(std::env::consts::ARCH.to_owned()),
            security_options: Some(vec!["name=seccomp,profile=default".to_owned()]),
            ..SystemInfo::default()
        };
        (version, info)
    }

    fn refusal(change: impl FnOnce(&mut SystemVersion, &mut SystemInfo)) -> String {
        let (mut version, mut info) = good();
        change(&mut version, &mut info);
        let problem = check(&elsewhere(), &version, &info).unwrap_err();
        assert_eq!(problem.code, Code::Unsupported);
        assert!(!problem.help.is_empty());
        problem.message
    }

    #[test]
    fn a_daemon_that_will_do_is_taken() {
        let (version, info) = good();
        assert_eq!(check(&here(), &version, &info), Ok(()));
    }

    #[test]
    fn a_daemon_that_cannot_keep_the_promises_is_refused() {
        assert!(refusal(|version, _| version.api_version = Some("1.40".to_owned())).contains("1.40"));
        assert!(refusal(|_, info| info.os_type = Some("windows".to_owned())).contains("windows"));
        assert!(refusal(|_, info| info.architecture = Some("s390x".to_owned())).contains("s390x"));
        assert!(refusal(|_, info| info.security_options = None).contains("seccomp"));
        let podman = SystemVersionComponents { name: "Podman Engine".to_owned(), ..Default::default() };
        assert!(refusal(|version, _| version.components = Some(vec![podman])).contains("Podman"), "it is elsewhere");
    }
}
