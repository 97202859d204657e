//! What a sandbox is, as the daemon says and as a program inside it sees.

use std::collections::HashMap;

use bollard::models::{
    ContainerConfig, ContainerCreateBody, ContainerInspectResponse, HostConfig, HostConfigCgroupnsModeEnum,
};
use bollard::query_parameters::{
    CommitContainerOptionsBuilder, CreateContainerOptions, InspectContainerOptions, RemoveContainerOptions,
    RemoveImageOptions,
};
use brig_core::profile::{Cage, Ulimit};
use brig_init::wire::How;
use serde_json::{Value, json};

use crate::support::docker::{BOUND, Bed, cage, run};

async fn inspect(bed: &Bed, cage: Cage) -> ContainerInspectResponse {
    let sandbox = bed.arm(cage).await;
    bed.docker.inspect_container(&sandbox.engine_id, None::<InspectContainerOptions>).await.unwrap()
}

#[tokio::test]
async fn every_property_of_the_cage_is_on_the_container() {
    let bed = Bed::new();
    let limited = Cage { milli_cpus: 250, ..cage() };
    let inspected = inspect(&bed, limited).await;
    let host: HostConfig = inspected.host_config.unwrap();
    assert_eq!(host.cap_drop.unwrap(), ["ALL"]);
    assert!(host.cap_add.unwrap_or_default().is_empty());
    assert_eq!((host.privileged, host.readonly_rootfs), (Some(false), Some(true)));
    let security = host.security_opt.unwrap();
    assert!(security.contains(&"no-new-privileges:true".to_owned()));
    assert!(security.iter().any(|option| option.starts_with("seccomp={")), "our own profile");
    assert_eq!((host.memory, host.memory_swap), (Some(128 << 20), Some(128 << 20)));
    assert_eq!((host.cpu_shares, host.cpu_quota, host.cpu_period), (Some(512), Some(25_000), Some(100_000)));
    assert_eq!(host.pids_limit, Some(64));
    assert_ne!(host.oom_kill_disable, Some(true));
    assert_eq!(host.network_mode.as_deref(), Some("none"));
    assert_eq!(host.ipc_mode.as_deref(), Some("private"));
    assert_eq!(host.cgroupns_mode, Some(HostConfigCgroupnsModeEnum::PRIVATE));
    assert_eq!(host.log_config.unwrap().typ.as_deref(), Some("none"));
    assert_eq!((host.auto_remove, host.init), (Some(true), Some(false)));
    assert!(host.devices.unwrap_or_default().is_empty() && host.binds.unwrap_or_default().is_empty());
    assert_eq!(host.pid_mode.as_deref(), Some(""), "a PID namespace of its own");
    assert!(host.masked_paths.unwrap().contains(&"/proc/kcore".to_owned()));
    assert!(host.readonly_paths.unwrap().contains(&"/proc/sys".to_owned()));
    let core = host.ulimits.unwrap().into_iter().find(|limit| limit.name.as_deref() == Some("core")).unwrap();
    assert_eq!((core.soft, core.hard), (Some(0), Some(0)));
}

#[tokio::test]
async fn the_container_is_labelled_and_holds_nothing_of_the_image() {
    let bed = Bed::new();
    let inspected = inspect(&bed, cage()).await;
    assert!(inspected.name.unwrap().ends_with(&format!("brig-{}-t0", bed.install)));
    let mounts = inspected.mounts.unwrap();
    assert_eq!(mounts.len(), 1, "init's volume and no other: {mounts:?}");
    assert_eq!((mounts[0].destination.as_deref(), mounts[0].rw), (Some("/.brig"), Some(false)));
    let config = inspected.config.unwrap();
    assert_eq!(config.user.as_deref(), Some("65534:65534"));
    assert_eq!(config.entrypoint.unwrap(), ["/.brig/brig-init"]);
    assert!(config.cmd.unwrap_or_default().is_empty());
    assert_eq!((config.tty, config.open_stdin, config.stdin_once), (Some(false), Some(true), Some(true)));
    assert_eq!(config.hostname.as_deref(), Some("brig"));
    assert_eq!(config.healthcheck.unwrap().test.unwrap(), ["NONE"]);
    assert!(config.env.unwrap().iter().all(|variable| !variable.contains('=')), "an empty environment");
    let labels = config.labels.unwrap();
    let owner = format!("{}:42", std::process::id());
    let expected = [
        ("brig.install", bed.install.as_str()),
        ("brig.host", "test-host"),
        ("brig.owner", owner.as_str()),
        ("brig.profile", "tests"),
        ("brig.sandbox", "t0"),
    ];
    for (name, value) in expected {
        assert_eq!(labels.get(name).map(String::as_str), Some(value), "{name}");
    }
}

#[tokio::test]
async fn a_program_inside_sees_the_cage_from_all_sides() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(cage()).await;
    let ran = run(&mut sandbox, &["python3", "-I", "-"], include_bytes!("probe.py")).await;
    assert_eq!(ran.trailer.how, How::Exited(0), "{}", ran.stderr);
    assert_caged(&serde_json::from_str(&ran.stdout).unwrap());
}

/// What the probe has seen is what each sandbox promises.
pub fn assert_caged(seen: &Value) {
    assert_eq!(seen["capabilities"], json!(vec!["0000000000000000"; 5]));
    assert_eq!((&seen["no_new_privs"], &seen["seccomp"]), (&json!("1"), &json!("2")));
    assert_eq!(seen["ids"][0], 65534);
    assert_eq!(seen["ids"][1], 65534);
    assert_eq!(seen["init"], "brig-init");
    assert_eq!(seen["hostname"], "brig");
    assert_eq!(seen["environment"], json!(["HOME", "PATH"]));
    assert_eq!(seen["interfaces"], json!(["lo"]));
    for (path, result) in seen["write"].as_object().unwrap() {
        let is_scratch = ["/sandbox/x", "/tmp/x", "/dev/shm/x"].contains(&path.as_str());
        assert_eq!(result == "ok", is_scratch, "writing {path}: {result}");
    }
    assert_eq!(seen["fill"], json!({ "scratch": "ENOSPC", "tmp": "ENOSPC", "shm": "ENOSPC" }));
    assert_eq!(seen["fit"], json!({ "scratch": "ok", "tmp": "ok" }));
    for (name, result) in seen["refused"].as_object().unwrap() {
        assert_eq!(result, "EPERM", "{name}");
    }
    assert_eq!(seen["not_there"], json!({ "clone3": "ENOSYS", "get_mempolicy": "ENOSYS" }));
    assert_ne!(seen["personality"], "ok");
    for (name, result) in seen["allowed"].as_object().unwrap() {
        assert_eq!(result, "ok", "{name} for oneself");
    }
    let ordinary = ["1", "2", "10", "16"];
    for (family, result) in seen["families"].as_object().unwrap() {
        let expected = if ordinary.contains(&family.as_str()) { "ok" } else { "EAFNOSUPPORT" };
        assert_eq!(result, expected, "address family {family}");
    }
    assert_eq!(seen["works"], json!({ "sqlite": 42, "threads": 4, "processes": 42, "loop": 42, "shell": "42" }));
}

#[tokio::test]
async fn a_scratch_without_exec_starts_no_program_and_a_ulimit_holds() {
    let bed = Bed::new();
    let ulimits = [("nofile".to_owned(), Ulimit { soft: 33, hard: 44 })].into();
    let mut sandbox = bed.arm(Cage { scratch_exec: false, ulimits, ..cage() }).await;
    let script = "cp /bin/true /sandbox/t && chmod 755 /sandbox/t && /sandbox/t; echo $? $(ulimit -Sn) $(ulimit -Hn) $(ulimit -c)";
    let ran = run(&mut sandbox, &["sh", "-c", script], b"").await;
    assert_eq!(ran.stdout, "126 33 44 0\n", "{}", ran.stderr);
}

#[tokio::test]
async fn what_an_image_declares_has_no_effect_on_the_cage() {
    let bed = Bed::new();
    let image = derived(&bed, &["VOLUME /data", "VOLUME /sandbox", "ENV SECRET=1", "HEALTHCHECK CMD true"]).await;
    let mut sandbox = bed.arm(Cage { image: image.clone(), ..cage() }).await;
    let script = "touch /data/x; echo $?; touch /sandbox/x; echo $?; echo \"<$SECRET>\"";
    let ran = run(&mut sandbox, &["sh", "-c", script], b"").await;
    assert_eq!(ran.stdout, "1\n0\n<>\n", "{}", ran.stderr);
    drop(sandbox);
    bed.gone(BOUND).await;
    bed.docker.remove_image(&image, None::<RemoveImageOptions>, None).await.unwrap();
}

/// An image with the shared one's files and other settings.
async fn derived(bed: &Bed, changes: &[&str]) -> String {
    let labels = HashMap::from([("brig.install".to_owned(), bed.install.clone())]);
    let body = ContainerCreateBody {
        image: Some(bed.image().await.id),
        cmd: Some(vec!["true".to_owned()]),
        labels: Some(labels),
        ..ContainerCreateBody::default()
    };
    let container = bed.docker.create_container(None::<CreateContainerOptions>, body).await.unwrap().id;
    let options = CommitContainerOptionsBuilder::new()
        .container(&container)
        .repo(&bed.install)
        .tag("1")
        .changes(&changes.join("\n"));
    bed.docker.commit_container(options.build(), ContainerConfig::default()).await.unwrap();
    bed.docker.remove_container(&container, None::<RemoveContainerOptions>).await.unwrap();
    format!("{}:1", bed.install)
}
