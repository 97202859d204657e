//! The create request of a sandbox: everything that makes it a cage is decided here, from the specification alone.

use std::collections::HashMap;
use std::path::Path;

use bollard::models::{
    ContainerCreateBody, HealthConfig, HostConfig, HostConfigCgroupnsModeEnum, HostConfigLogConfig, Mount,
    MountBindOptions, MountBindOptionsPropagationEnum, MountTmpfsOptions, MountType, MountVolumeOptions,
    ResourcesUlimits, RestartPolicy, RestartPolicyNameEnum,
};
use brig_core::id::SandboxId;
use brig_core::problem::{Code, Problem};
use brig_core::profile::{Cage, SandboxSpec};

use super::DockerSettings;
use crate::engine::Owner;

/// Changes whenever the request that is made here changes: part of every sandbox's configuration hash.
pub const REQUEST_VERSION: u32 = 2;

/// Where init's volume is mounted in a sandbox.
pub const INIT_DIRECTORY: &str = "/.brig";
/// Init itself.
pub const INIT_PATH: &str = "/.brig/brig-init";

/// Labels that everything of brig's carries.
pub mod label {
    /// Which installation it belongs to.
    pub const INSTALL: &str = "brig.install";
    /// The host whose process identifiers `OWNER` speaks of.
    pub const HOST: &str = "brig.host";
    /// The supervisor that made it, `pid:start time`.
    pub const OWNER: &str = "brig.owner";
    /// The profile.
    pub const PROFILE: &str = "brig.profile";
    /// The sandbox.
    pub const SANDBOX: &str = "brig.sandbox";
    /// On init's volume and on the container that fills it: the hash of init.
    pub const INIT: &str = "brig.init";
    /// On an image that brig has made: the installation. Not [`INSTALL`], which sandboxes would inherit from it.
    pub const IMAGE: &str = "brig.image";
    /// On an image that was built: the hash of the files that it was built from.
    pub const BUILD: &str = "brig.build";
    /// On an image made of a machine's userland: the hash of what is in it.
    pub const USERLAND: &str = "brig.userland";
}

/// What the request depends on besides the specification.
pub struct Surroundings<'a> {
    /// Whose it is.
    pub settings: &'a DockerSettings,
    /// The volume with init.
    pub init_volume: &'a str,
    /// The seccomp profile as JSON text.
    pub seccomp: &'a str,
    /// The daemon's control groups: 1 or 2.
    pub cgroup_version: u8,
    /// Paths that the image declares as volumes.
    pub image_volumes: &'a [String],
    /// Names of the variables that the image sets.
    pub image_environment: &'a [String],
}

/// The labels of anything that a supervisor makes.
pub fn owned_labels(settings: &DockerSettings) -> HashMap<String, String> {
    HashMap::from([
        (label::INSTALL.to_owned(), settings.install.clone()),
        (label::HOST.to_owned(), settings.host.clone()),
        (label::OWNER.to_owned(), owner_text(settings.owner)),
    ])
}

/// `pid:started`.
pub fn owner_text(owner: Owner) -> String {
    format!("{}:{}", owner.pid, owner.started)
}

/// Reads what [`owner_text`] wrote.
pub fn parse_owner(text: &str) -> Option<Owner> {
    let (pid, started) = text.split_once(':')?;
    Some(Owner { pid: pid.parse().ok()?, started: started.parse().ok()? })
}

/// The create request of one sandbox.
pub fn request(id: &SandboxId, spec: &SandboxSpec, around: &Surroundings<'_>) -> Result<ContainerCreateBody, Problem> {
    let cage = &spec.cage;
    let mut labels = owned_labels(around.settings);
    labels.insert(label::PROFILE.to_owned(), spec.profile.clone());
    labels.insert(label::SANDBOX.to_owned(), id.0.clone());
    Ok(ContainerCreateBody {
        image: Some(spec.image.id.clone()),
        entrypoint: Some(vec![INIT_PATH.to_owned()]),
        cmd: Some(in_advance(cage)),
        user: Some(cage.user.clone()),
        working_dir: Some(cage.working_dir.clone()),
        env: Some(no_environment(around.image_environment)),
        hostname: Some("brig".to_owned()),
        labels: Some(labels),
        open_stdin: Some(true),
        stdin_once: Some(true),
        attach_stdin: Some(true),
        attach_stdout: Some(true),
        attach_stderr: Some(true),
        tty: Some(false),
        network_disabled: Some(true),
        stop_signal: Some("SIGKILL".to_owned()),
        stop_timeout: Some(0),
        healthcheck: Some(HealthConfig { test: Some(vec!["NONE".to_owned()]), ..HealthConfig::default() }),
        host_config: Some(host_config(cage, around)?),
        ..ContainerCreateBody::default()
    })
}

/// Init's arguments: the interpreters to start in advance, and in which environment. brig-init's `warm.rs` reads them.
fn in_advance(cage: &Cage) -> Vec<String> {
    let mut words = Vec::new();
    for (language, interpreter) in cage.interpreters.iter().filter(|(_, interpreter)| interpreter.prewarm) {
        words.extend(["--interpreter".to_owned(), language.clone(), cage.code_path(0, language)]);
        words.push(interpreter.command.len().to_string());
        words.extend(interpreter.command.iter().cloned());
    }
    if !words.is_empty() {
        let variable = |(name, value): (&String, &String)| ["--env".to_owned(), format!("{name}={value}")];
        words.extend(cage.environment.iter().flat_map(variable));
    }
    words
}

/// A name without a value takes the variable away. `PATH` and `HOSTNAME` are the daemon's, the rest the image's: what a
/// step gets is what was approved, and nothing else.
fn no_environment(image: &[String]) -> Vec<String> {
    let mut names = vec!["PATH".to_owned(), "HOSTNAME".to_owned()];
    names.extend(image.iter().filter(|name| !names.contains(name)).cloned().collect::<Vec<_>>());
    names
}

fn host_config(cage: &Cage, around: &Surroundings<'_>) -> Result<HostConfig, Problem> {
    let memory = number("mem_limit", cage.memory)?;
    // With `NanoCpus` the daemon refuses to change the quota later, and killing has to lift it.
    const PERIOD_US: i64 = 100_000;
    let quota = number("cpus", cage.milli_cpus.saturating_mul(100))?;
    Ok(HostConfig {
        cap_drop: Some(vec!["ALL".to_owned()]),
        security_opt: Some(vec!["no-new-privileges:true".to_owned(), format!("seccomp={}", around.seccomp)]),
        readonly_rootfs: Some(true),
        privileged: Some(false),
        memory: Some(memory),
        memory_swap: Some(memory),
        // Version 2 of control groups has no such thing.
        memory_swappiness: (around.cgroup_version == 1).then_some(0),
        oom_kill_disable: Some(false),
        cpu_shares: Some(number("cpu_shares", cage.cpu_shares)?),
        cpu_period: (quota > 0).then_some(PERIOD_US),
        cpu_quota: (quota > 0).then_some(quota),
        pids_limit: Some(number("pids_limit", cage.pids)?),
        ulimits: Some(ulimits(cage)?),
        network_mode: Some(cage.network.text().to_owned()),
        ipc_mode: Some("private".to_owned()),
        cgroupns_mode: Some(HostConfigCgroupnsModeEnum::PRIVATE),
        shm_size: Some(number("scratch.size", small(cage))?),
        tmpfs: Some(scratch(cage)?),
        mounts: Some(mounts(cage, around)),
        log_config: Some(HostConfigLogConfig { typ: Some("none".to_owned()), config: None }),
        restart_policy: Some(RestartPolicy { name: Some(RestartPolicyNameEnum::NO), maximum_retry_count: None }),
        auto_remove: Some(true),
        init: Some(false),
        runtime: cage.runtime.clone(),
        ..HostConfig::default()
    })
}

fn number(key: &str, value: u64) -> Result<i64, Problem> {
    i64::try_from(value).map_err(|_| Problem::new(Code::InvalidField, format!("`{key}` of {value} is too large")))
}

/// What the profile sets, and no core files: they would be written by the host's rules.
fn ulimits(cage: &Cage) -> Result<Vec<ResourcesUlimits>, Problem> {
    let one = |name: &str, soft: u64, hard: u64| -> Result<ResourcesUlimits, Problem> {
        let key = format!("ulimits.{name}");
        Ok(ResourcesUlimits {
            name: Some(name.to_owned()),
            soft: Some(limit(&key, soft)?),
            hard: Some(limit(&key, hard)?),
        })
    };
    let mut all = Vec::with_capacity(cage.ulimits.len() + 1);
    if !cage.ulimits.contains_key("core") {
        all.push(one("core", 0, 0)?);
    }
    for (name, limit) in &cage.ulimits {
        all.push(one(name, limit.soft, limit.hard)?);
    }
    Ok(all)
}

/// The daemon spells "no limit" as -1.
fn limit(key: &str, value: u64) -> Result<i64, Problem> {
    if value == u64::MAX { Ok(-1) } else { number(key, value) }
}

/// `/tmp` and `/dev/shm`: a quarter of the scratch each, and at least a page.
fn small(cage: &Cage) -> u64 {
    (cage.scratch_size / 4).max(4096)
}

fn scratch(cage: &Cage) -> Result<HashMap<String, String>, Problem> {
    let (uid, gid) = cage.user.split_once(':').ok_or_else(|| {
        Problem::new(Code::InvalidField, format!("`user` is `{}` and not of the form uid:gid", cage.user))
    })?;
    let place = cage.working_dir.trim_end_matches('/');
    let taken = ["/.brig", "/dev", "/proc", "/sys"];
    if !place.starts_with('/') || taken.iter().any(|taken| Path::new(place).starts_with(taken)) {
        let message = format!("`working_dir` cannot be `{}`", cage.working_dir);
        return Err(Problem::new(Code::InvalidField, message).help("an absolute path of its own, such as /sandbox"));
    }
    let exec = if cage.scratch_exec { "exec" } else { "noexec" };
    let scratch = format!("rw,nosuid,nodev,{exec},size={},mode=0700,uid={uid},gid={gid}", cage.scratch_size.max(4096));
    // Of the user as well: runc gives what it mounts the permissions of the image's directory, which may let the owner alone.
    let temporary = format!("rw,nosuid,nodev,{exec},size={},mode=1777,uid={uid},gid={gid}", small(cage));
    Ok(HashMap::from([("/tmp".to_owned(), temporary), (place.to_owned(), scratch)]))
}

/// Init's volume, what the profile mounts, and an empty read-only place over each volume that the image declares, which the daemon would
/// otherwise make writable and as large as its disk.
fn mounts(cage: &Cage, around: &Surroundings<'_>) -> Vec<Mount> {
    let ours = ["/tmp", INIT_DIRECTORY, cage.working_dir.trim_end_matches('/')];
    let init = Mount {
        typ: Some(MountType::VOLUME),
        source: Some(around.init_volume.to_owned()),
        target: Some(INIT_DIRECTORY.to_owned()),
        read_only: Some(true),
        volume_options: Some(MountVolumeOptions { no_copy: Some(true), ..MountVolumeOptions::default() }),
        ..Mount::default()
    };
    let is_taken = |path: &str| ours.contains(&path) || cage.volumes.iter().any(|volume| volume.target == path);
    let sealed = around.image_volumes.iter().filter(|path| !is_taken(path.trim_end_matches('/'))).map(|path| Mount {
        typ: Some(MountType::TMPFS),
        target: Some(path.clone()),
        read_only: Some(true),
        tmpfs_options: Some(MountTmpfsOptions { size_bytes: Some(4096), mode: Some(0o555), options: None }),
        ..Mount::default()
    });
    let volumes = cage.volumes.iter().map(|volume| Mount {
        typ: Some(MountType::BIND),
        source: Some(volume.source.clone()),
        target: Some(volume.target.clone()),
        read_only: Some(true),
        // What is mounted below the source would stay writable: read-only is said of the one mount alone.
        bind_options: Some(MountBindOptions {
            non_recursive: Some(true),
            propagation: Some(MountBindOptionsPropagationEnum::RPRIVATE),
            ..MountBindOptions::default()
        }),
        ..Mount::default()
    });
    std::iter::once(init).chain(sealed).chain(volumes).collect()
}

#[cfg(test)]
pub mod tests {
    use std::collections::BTreeMap;

    use brig_core::profile::{ImageSource, Network, ResolvedImage, Ulimit, Volume};

    use super::*;

    pub fn cage() -> Cage {
        Cage {
            image: "busybox".to_owned(),
            build: None,
            userland_fallback: false,
            user: "65534:65533".to_owned(),
            working_dir: "/sandbox".to_owned(),
            environment: BTreeMap::new(),
            memory: 64 << 20,
            milli_cpus: 0,
            cpu_shares: 512,
            pids: 32,
            ulimits: BTreeMap::new(),
            network: Network::None,
            runtime: None,
            scratch_size: 16 << 20,
            secrets: BTreeMap::new(),
            volumes: Vec::new(),
            interpreters: BTreeMap::new(),
            scratch_exec: false,
        }
    }

    pub fn made(cage: Cage, cgroup_version: u8) -> HostConfig {
        let settings = DockerSettings {
            install: "i".to_owned(),
            files: "/nowhere".into(),
            host: "h".to_owned(),
            owner: Owner { pid: 7, started: 9 },
            address: None,
            context: None,
            tls: None,
        };
        let around = Surroundings {
            settings: &settings,
            init_volume: "v",
            seccomp: "{}",
            cgroup_version,
            image_volumes: &["/data".to_owned(), "/tmp/".to_owned(), "/sandbox".to_owned()],
            image_environment: &["PATH".to_owned(), "LANG".to_owned()],
        };
        let image = ResolvedImage { id: "sha256:0".to_owned(), source: ImageSource::Local };
        let spec = SandboxSpec { profile: "p".to_owned(), cage, image, engine_fingerprint: String::new() };
        let body = request(&SandboxId("s-1".to_owned()), &spec, &around).unwrap();
        assert_eq!(body.env.unwrap(), ["PATH", "HOSTNAME", "LANG"], "names alone take away");
        body.host_config.unwrap()
    }

    #[test]
    fn an_owner_is_read_back() {
        let owner = Owner { pid: 4_194_304, started: u64::MAX };
        assert_eq!(parse_owner(&owner_text(owner)), Some(owner));
        assert_eq!(parse_owner("12"), None);
        assert_eq!(parse_owner("a:b"), None);
    }

    #[test]
    fn no_quota_is_set_where_none_is_asked_for() {
        assert_eq!(made(cage(), 1).cpu_quota, None);
        let tenth = made(Cage { milli_cpus: 100, ..cage() }, 1);
        assert_eq!((tenth.cpu_quota, tenth.cpu_period, tenth.nano_cpus), (Some(10_000), Some(100_000), None));
    }

    #[test]
    fn core_files_are_off_unless_the_profile_sets_them() {
        let core =
            |config: HostConfig| config.ulimits.unwrap().into_iter().find(|one| one.name.as_deref() == Some("core"));
        assert_eq!(core(made(cage(), 1)).unwrap().hard, Some(0));
        let ulimits = BTreeMap::from([("core".to_owned(), Ulimit { soft: 1, hard: 2 })]);
        let set = made(Cage { ulimits, ..cage() }, 1).ulimits.unwrap();
        assert_eq!((set.len(), set[0].hard), (1, Some(2)));
    }

    #[test]
    fn scratch_and_tmp_are_the_only_writable_mounts() {
        let config = made(cage(), 1);
        let tmpfs = config.tmpfs.unwrap();
        assert_eq!(tmpfs["/sandbox"], "rw,nosuid,nodev,noexec,size=16777216,mode=0700,uid=65534,gid=65533");
        assert_eq!(tmpfs["/tmp"], "rw,nosuid,nodev,noexec,size=4194304,mode=1777,uid=65534,gid=65533");
        let mounts = config.mounts.unwrap();
        let targets: Vec<_> = mounts.iter().filter_map(|mount| mount.target.as_deref()).collect();
        assert_eq!(targets, ["/.brig", "/data"]);
        assert!(mounts.iter().all(|mount| mount.read_only == Some(true)));
    }

    #[test]
    fn a_volume_is_read_only_with_nothing_mounted_below_it_and_takes_the_place_of_the_images() {
        let volume = Volume { source: "/srv/data".to_owned(), target: "/data".to_owned() };
        let mounts = made(Cage { volumes: vec![volume], ..cage() }, 1).mounts.unwrap();
        let [_, data] = mounts.as_slice() else { panic!("{mounts:?}") };
        assert_eq!((data.typ, data.read_only), (Some(MountType::BIND), Some(true)));
        assert_eq!((data.source.as_deref(), data.target.as_deref()), (Some("/srv/data"), Some("/data")));
        let options = data.bind_options.clone().unwrap();
        assert_eq!(options.non_recursive, Some(true), "what is mounted below would be writable");
        assert_eq!(options.propagation, Some(MountBindOptionsPropagationEnum::RPRIVATE));
    }

    #[test]
    fn the_scratch_cannot_hide_what_a_sandbox_needs() {
        for working_dir in ["/", "", "here", "/proc", "/.brig/", "/dev/shm"] {
            let cage = Cage { working_dir: working_dir.to_owned(), ..cage() };
            assert_eq!(scratch(&cage).err().map(|problem| problem.code), Some(Code::InvalidField), "{working_dir}");
        }
        assert!(scratch(&Cage { working_dir: "/device".to_owned(), ..cage() }).is_ok());
    }

    #[test]
    fn swappiness_is_only_for_control_groups_that_have_it() {
        assert_eq!(made(cage(), 1).memory_swappiness, Some(0));
        assert_eq!(made(cage(), 2).memory_swappiness, None);
    }

    #[test]
    fn numbers_that_the_daemon_cannot_hold_are_refused() {
        assert!(number("mem_limit", u64::MAX).is_err());
        assert_eq!(limit("ulimits.nofile", u64::MAX), Ok(-1), "but a limit can be none");
    }
}
