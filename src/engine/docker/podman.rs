//! What Podman takes in another way than Docker, all of it.
//!
//! It speaks Docker's API, and differs in what matters here: it reads a seccomp profile from a file of its own machine;
//! it has a word of its own for the owner of a tmpfs, and for no health check; it ignores a container's runtime; it makes `/run` and `/var/tmp` writable where the
//! root is not; it changes no limit of a running container; and it has states that the client library does not know.
//! So a request is made for Docker and [`adapt`]ed, what has come of it is [`verify`]ed, and a few questions are asked
//! without the client library. All of that needs a service on this machine: [`check`].

use std::collections::HashMap;
use std::path::{Path, PathBuf};

use bollard::models::{
    ContainerCreateBody, ContainerStateStatusEnum as Status, HealthConfig, Mount, MountTmpfsOptions, MountType,
    ResourcesUlimits, SystemInfo, SystemVersion,
};
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, Hash};
use bytes::Bytes;
use http_body_util::{BodyExt as _, Empty, Limited};
use hyper::client::conn::http1;
use hyper::{Request, header};
use hyper_util::rt::TokioIo;
use rustix::process::{Resource, getrlimit};
use serde::Deserialize;
use serde::de::DeserializeOwned;
use tokio::net::UnixStream;

use super::address::Address;
use super::failure::{self, Failure};
use super::link::{Link, QUICK};
use super::meter;
use crate::engine::Usage;

/// How Podman calls itself.
pub const NAME: &str = "Podman";

/// Whether a daemon is Podman.
pub fn is_it(version: &SystemVersion) -> bool {
    version.components.as_deref().unwrap_or_default().iter().any(|component| component.name.contains(NAME))
}

/// Refuses where the promises cannot be kept.
pub fn check(address: &Address, info: &SystemInfo) -> Result<(), Problem> {
    let unsupported = |message: String, help: &str| Err(Problem::new(Code::Unsupported, message).help(help));
    if !address.is_local() {
        return unsupported(
            format!("at {address} is Podman, which takes a seccomp profile only as a file of its own machine"),
            "without brig's profile a run could outlive its deadline: run brig on that machine, or use Docker there",
        );
    }
    let limits = [
        ("memory", info.memory_limit),
        ("swap", info.swap_limit),
        ("processes", info.pids_limit),
        ("CPU time", info.cpu_cfs_quota),
    ];
    let missing: Vec<_> = limits.iter().filter(|(_, is_kept)| *is_kept == Some(false)).map(|(name, _)| *name).collect();
    let options = info.security_options.as_deref().unwrap_or_default();
    let is_rootless = options.iter().any(|option| option == "name=rootless");
    let is_first = info.cgroup_version.is_none_or(|version| version.to_string() != "2");
    if is_rootless && is_first {
        return unsupported(
            "this Podman runs without root on version 1 of control groups, where it ignores all limits".to_owned(),
            "use Podman's socket for root, or a system with version 2 of control groups",
        );
    }
    if !missing.is_empty() {
        return unsupported(
            format!("this Podman cannot limit {}", missing.join(", ")),
            "for a Podman without root, systemd has to delegate these controllers to its user (`Delegate=` of user@.service)",
        );
    }
    Ok(())
}

/// Makes the request for Docker one for Podman. `seccomp` is the path of the profile.
pub fn adapt(body: &mut ContainerCreateBody, cage: &Cage, seccomp: &Path) -> Result<(), Problem> {
    if let Some(runtime) = &cage.runtime {
        let message = format!("the profile wants the runtime `{runtime}`, and Podman's service has one for all");
        return Err(Problem::new(Code::Unsupported, message).help(
            "take `runtime` out of the profile, or use Docker; Podman's own is set where its service is started",
        ));
    }
    // Podman's word for no check is another one than Docker's. The timer that it makes all the same comes too late to
    // find a sandbox.
    const A_DAY_NS: i64 = 24 * 3600 * 1_000_000_000;
    let test = Some(vec!["none".to_owned()]);
    body.healthcheck = Some(HealthConfig { test, interval: Some(A_DAY_NS), ..HealthConfig::default() });
    let Some(host) = &mut body.host_config else { return Ok(()) };
    for option in host.security_opt.iter_mut().flatten().filter(|option| option.starts_with("seccomp=")) {
        *option = format!("seccomp={}", seccomp.display());
    }
    for options in host.tmpfs.iter_mut().flat_map(HashMap::values_mut) {
        *options = tmpfs(options);
    }
    let limits = host.ulimits.get_or_insert_default();
    // Docker's containers inherit these two from the daemon. Podman's get a million of each, and do not start where that
    // is more than their maker may have; it is on this machine, so what this process may have is a measure.
    for (name, resource, most) in [("nofile", Resource::Nofile, 1 << 16), ("nproc", Resource::Nproc, 1 << 15)] {
        if !cage.ulimits.contains_key(name) {
            let limit = getrlimit(resource).maximum.unwrap_or(u64::MAX).min(most);
            let limit = i64::try_from(limit).ok();
            limits.push(ResourcesUlimits { name: Some(name.to_owned()), soft: limit, hard: limit });
        }
    }
    let mounts = host.mounts.get_or_insert_default();
    let tmpfs = host.tmpfs.get_or_insert_default();
    for path in ["/run", "/var/tmp"] {
        let is_taken = tmpfs.contains_key(path) || mounts.iter().any(|mount| mount.target.as_deref() == Some(path));
        if !is_taken {
            mounts.push(sealed(path));
        }
    }
    Ok(())
}

/// `U` is Podman's word for "of the container's user". What an image has at that place stays out, as with Docker.
fn tmpfs(options: &str) -> String {
    let is_owner = |option: &&str| option.starts_with("uid=") || option.starts_with("gid=");
    let owned = options.split(',').any(|option| is_owner(&option)).then_some("U");
    let kept = options.split(',').filter(|option| !is_owner(option));
    kept.chain(owned).chain(["notmpcopyup"]).collect::<Vec<_>>().join(",")
}

fn sealed(path: &str) -> Mount {
    Mount {
        typ: Some(MountType::TMPFS),
        target: Some(path.to_owned()),
        read_only: Some(true),
        tmpfs_options: Some(MountTmpfsOptions { size_bytes: Some(4096), mode: Some(0o555), options: None }),
        ..Mount::default()
    }
}

/// The seccomp profile as a file, which Podman reads when it makes a container. Written whole or not at all, and anew
/// when it is not what it should be.
pub async fn seccomp_file(directory: &Path, profile: &str) -> Result<PathBuf, Problem> {
    let name = format!("seccomp-{}.json", &Hash::of(profile.as_bytes()).hex()[..12]);
    let path = directory.join(name);
    if tokio::fs::read(&path).await.is_ok_and(|found| found == profile.as_bytes()) {
        return Ok(path);
    }
    let draft = path.with_extension(std::process::id().to_string());
    let written = async {
        tokio::fs::write(&draft, profile).await?;
        tokio::fs::rename(&draft, &path).await
    };
    written.await.map_err(|error| {
        Problem::new(Code::LocalIo, format!("cannot write the seccomp profile {}: {error}", path.display()))
    })?;
    Ok(path)
}

/// Refuses a sandbox that has not got its limits: where Podman cannot set one, it says so to its own log alone.
pub fn verify(cage: &Cage, usage: Option<Usage>) -> Result<(), Problem> {
    let unsupported = |message: String| {
        Err(Problem::new(Code::Unsupported, message)
            .help("see what Podman's service says about control groups, or use Docker"))
    };
    let Some(usage) = usage else {
        return unsupported("it cannot be seen whether Podman has set the sandbox's limits".to_owned());
    };
    if usage.memory_limit > cage.memory || usage.pids_limit > cage.pids {
        return unsupported(format!(
            "Podman has not set the sandbox's limits: memory is {} and processes {}, not {} and {}",
            usage.memory_limit, usage.pids_limit, cage.memory, cage.pids
        ));
    }
    Ok(())
}

/// Takes the CPU quota from a running container, so that killing it is quick. The API has nothing for that, and the control
/// group is this machine's. Best effort.
pub async fn lift_quota(link: &Link, container: &str) {
    if let Ok(Inspected { state: State { pid, .. } }) = inspect(link, container).await {
        let container = container.to_owned();
        let _ = tokio::task::spawn_blocking(move || meter::lift_quota(pid, &container)).await;
    }
}

/// What a container is doing.
pub async fn status(link: &Link, container: &str) -> Result<Option<Status>, Failure> {
    let inspected = inspect(link, container).await?;
    Ok(Some(match inspected.state.status.as_str() {
        "created" | "configured" | "initialized" => Status::CREATED,
        "removing" => Status::REMOVING,
        "exited" | "stopped" | "stopping" => Status::EXITED,
        "paused" => Status::PAUSED,
        _ => Status::RUNNING,
    }))
}

/// A container in a list.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
pub struct Listed {
    /// Its identifier.
    pub id: String,
    /// Its labels.
    #[serde(default)]
    pub labels: Option<HashMap<String, String>>,
}

/// All containers with a label, whatever their state.
pub async fn list(link: &Link, label: &str) -> Result<Vec<Listed>, Failure> {
    let filters = serde_json::json!({ "label": [label] }).to_string();
    let query = url_encoded(&filters);
    get(link, "list the sandboxes", &format!("/v1.41/containers/json?all=true&filters={query}")).await
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct Inspected {
    state: State,
}

#[derive(Debug, Deserialize)]
#[serde(rename_all = "PascalCase")]
struct State {
    status: String,
    pid: u32,
}

async fn inspect(link: &Link, container: &str) -> Result<Inspected, Failure> {
    get(link, "look at a sandbox", &format!("/v1.41/containers/{}/json", url_encoded(container))).await
}

/// Asks without the client library, which refuses a whole answer for one state that it does not know.
async fn get<T: DeserializeOwned>(link: &Link, what: &str, path: &str) -> Result<T, Failure> {
    /// Far more than a thousand containers need.
    const LONGEST: usize = 64 << 20;
    let Address::Unix(socket) = &link.address else {
        let problem = Problem::new(Code::Unsupported, "Podman is asked over a socket of this machine");
        return Err(Failure { status: None, problem });
    };
    let asking = async {
        let stream = UnixStream::connect(socket).await?;
        let (mut sender, connection) = http1::handshake(TokioIo::new(stream)).await.map_err(std::io::Error::other)?;
        let connection = tokio::spawn(connection);
        let answered = async {
            let request = Request::get(path).header(header::HOST, "podman").body(Empty::<Bytes>::new())?;
            let response = sender.send_request(request).await?;
            let status = response.status().as_u16();
            let body = Limited::new(response.into_body(), LONGEST).collect().await?;
            Ok::<_, Box<dyn std::error::Error + Send + Sync>>((status, body.to_bytes()))
        };
        let answered = answered.await;
        connection.abort();
        answered.map_err(std::io::Error::other)
    };
    let asking = async { asking.await.map_err(bollard::errors::Error::from) };
    let (status, body) = failure::bounded(&link.address, what, QUICK, asking).await?;
    let said = |text: String| Problem::new(Code::EngineRefused, format!("cannot {what}: the daemon says: {text}"));
    match status {
        200 => serde_json::from_slice(&body).map_err(|error| {
            let message = format!("cannot {what}: the daemon's answer is not understood: {error}");
            Failure { status: None, problem: Problem::new(Code::EngineProtocol, message) }
        }),
        status => {
            let text = failure::tidy(&String::from_utf8_lossy(&body));
            Err(Failure { status: Some(status), problem: said(text) })
        }
    }
}

fn url_encoded(text: &str) -> String {
    text.bytes().fold(String::with_capacity(text.len() * 3), |mut all, byte| {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'-' | b'_' | b'.' => all.push(char::from(byte)),
            _ => all.push_str(&format!("%{byte:02X}")),
        }
        all
    })
}

#[cfg(test)]
mod tests {
    use super::super::create::tests::{cage, made};
    use super::*;

    fn adapted(cage: Cage) -> Result<ContainerCreateBody, Problem> {
        let host_config = Some(made(cage.clone(), 2));
        let mut body = ContainerCreateBody { host_config, ..ContainerCreateBody::default() };
        adapt(&mut body, &cage, Path::new("/s/seccomp.json")).map(|()| body)
    }

    #[test]
    fn a_request_says_the_same_in_podmans_words() {
        let host = adapted(cage()).unwrap().host_config.unwrap();
        let docker = made(cage(), 2);
        let security = host.security_opt.unwrap();
        assert_eq!(security, ["no-new-privileges:true", "seccomp=/s/seccomp.json"]);
        assert_eq!((host.cap_drop, host.memory, host.readonly_rootfs), (docker.cap_drop, docker.memory, Some(true)));
        let tmpfs = host.tmpfs.unwrap();
        assert!(tmpfs["/sandbox"].ends_with("mode=0700,U,notmpcopyup"), "{tmpfs:?}");
        assert!(tmpfs["/tmp"].ends_with("mode=1777,U,notmpcopyup"), "{tmpfs:?}");
        for path in ["/run", "/var/tmp"] {
            let mounts = host.mounts.as_deref().unwrap();
            let sealed = mounts.iter().find(|mount| mount.target.as_deref() == Some(path)).expect(path);
            assert_eq!((sealed.typ, sealed.read_only), (Some(MountType::TMPFS), Some(true)));
        }
    }

    #[test]
    fn what_the_profile_has_at_a_place_of_podmans_stays() {
        let host = adapted(Cage { working_dir: "/var/tmp".to_owned(), ..cage() }).unwrap().host_config.unwrap();
        assert!(host.tmpfs.unwrap().contains_key("/var/tmp"));
        assert!(host.mounts.unwrap().iter().all(|mount| mount.target.as_deref() != Some("/var/tmp")));
    }

    #[test]
    fn a_runtime_is_refused_as_it_would_be_ignored() {
        let problem = adapted(Cage { runtime: Some("runsc".to_owned()), ..cage() }).unwrap_err();
        assert_eq!(problem.code, Code::Unsupported);
    }

    #[test]
    fn a_podman_that_cannot_keep_the_promises_is_refused() {
        let here = Address::Unix("/x".to_owned());
        let refused = |address: &Address, info: SystemInfo| {
            let problem = check(address, &info).unwrap_err();
            assert!(problem.code == Code::Unsupported && !problem.help.is_empty(), "{problem}");
            problem.message
        };
        assert_eq!(check(&here, &SystemInfo::default()), Ok(()));
        let elsewhere = Address::Tcp("box:2375".to_owned());
        assert!(refused(&elsewhere, SystemInfo::default()).contains("seccomp"));
        let without = SystemInfo { memory_limit: Some(false), pids_limit: Some(false), ..SystemInfo::default() };
        assert!(refused(&here, without).contains("memory, processes"));
        let rootless = Some(vec!["name=seccomp,profile=default".to_owned(), "name=rootless".to_owned()]);
        assert!(
            refused(&here, SystemInfo { security_options: rootless, ..SystemInfo::default() }).contains("version 1")
        );
    }

    #[test]
    fn limits_that_are_not_there_are_noticed() {
        let is = |memory_limit, pids_limit| {
            Some(Usage { cpu_us: 1, memory: 1, memory_limit, pids: 1, pids_limit, io_read: 0, io_write: 0 })
        };
        let cage = cage();
        assert_eq!(verify(&cage, is(cage.memory, cage.pids)), Ok(()));
        for seen in [None, is(u64::MAX, cage.pids), is(cage.memory, u64::MAX)] {
            assert_eq!(verify(&cage, seen).unwrap_err().code, Code::Unsupported);
        }
    }

    #[test]
    fn a_query_is_encoded() {
        assert_eq!(url_encoded("{\"label\":[\"a=b\"]}"), "%7B%22label%22%3A%5B%22a%3Db%22%5D%7D");
    }
}
