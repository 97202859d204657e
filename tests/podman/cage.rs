//! What a sandbox is on Podman.

use brig::engine::Engine as _;
use brig_core::problem::Code;
use brig_core::profile::{Cage, Ulimit, Volume};
use brig_init::wire::How;

use crate::docker_engine::hardening::assert_caged;
use crate::support::docker::{cage, run};
use crate::support::podman::Bed;

#[tokio::test]
async fn a_program_inside_sees_the_cage_from_all_sides() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(cage()).await;
    let ran = run(&mut sandbox, &["python3", "-I", "-"], include_bytes!("../docker_engine/probe.py")).await;
    assert_eq!(ran.trailer.how, How::Exited(0), "{}", ran.stderr);
    assert_caged(&serde_json::from_str(&ran.stdout).unwrap());
}

/// Podman makes some places of a read-only root writable by itself, and fills a tmpfs from the image.
#[tokio::test]
async fn nothing_but_the_scratch_is_writable() {
    let bed = Bed::new();
    let mut sandbox = bed.arm(cage()).await;
    let script = "while read -r _ point kind options _; do case $options in rw,*) \
                  (: > $point/x) 2>/dev/null && echo $point;; esac; done < /proc/mounts; ls -A /tmp /sandbox";
    let ran = run(&mut sandbox, &["sh", "-c", script], b"").await;
    let mut lines: Vec<_> = ran.stdout.lines().collect();
    lines.sort_unstable();
    assert_eq!(
        lines,
        ["", "/dev/mqueue", "/dev/shm", "/sandbox", "/sandbox:", "/tmp", "/tmp:", "x", "x"],
        "{}",
        ran.stderr
    );
}

#[tokio::test]
async fn limits_are_those_of_the_profile() {
    let bed = Bed::new();
    let ulimits = [("nofile".to_owned(), Ulimit { soft: 33, hard: 44 })].into();
    let mut sandbox = bed.arm(Cage { scratch_exec: false, milli_cpus: 250, ulimits, ..cage() }).await;
    let usage = sandbox.meter.as_ref().expect("a meter").read().unwrap();
    assert_eq!((usage.memory_limit, usage.pids_limit), (128 << 20, 64));
    let script = "cp /bin/true /sandbox/t && chmod 755 /sandbox/t && /sandbox/t; \
                  echo $? $(ulimit -Sn) $(ulimit -Hn) $(ulimit -c)";
    let ran = run(&mut sandbox, &["sh", "-c", script], b"").await;
    assert_eq!(ran.stdout, "126 33 44 0\n", "{}", ran.stderr);
    let mut sandbox = bed.arm(Cage { milli_cpus: 250, cpu_shares: 100, ..cage() }).await;
    let format = "{{.HostConfig.CpuQuota}} {{.HostConfig.CpuPeriod}} {{.HostConfig.CpuShares}}";
    assert_eq!(bed.podman.says(&["inspect", "--format", format, &sandbox.engine_id]), "25000 100000 100");
    // A profile may leave these alone: what Podman would give by itself does not start everywhere.
    let ran = run(&mut sandbox, &["sh", "-c", "[ $(ulimit -Hn) -le 65536 ] && echo few"], b"").await;
    assert_eq!(ran.stdout, "few\n", "{}", ran.stderr);
}

#[tokio::test]
async fn a_mount_is_read_only_and_shows_nothing_that_is_mounted_below_it() {
    let bed = Bed::new();
    let data = bed.podman.path("data");
    std::fs::create_dir_all(data.join("below")).unwrap();
    std::fs::write(data.join("file"), "content").unwrap();
    // Nothing says read-only of what is mounted below: with it, the sandbox could write there.
    let below = data.join("below").display().to_string();
    let mounted =
        std::process::Command::new("mount").args(["-t", "tmpfs", "-o", "mode=1777", "tmpfs", &below]).status();
    assert!(mounted.unwrap().success(), "mounting {below}");
    let source = data.display().to_string();
    let volumes = vec![Volume { source, target: "/data".to_owned() }];
    let mut sandbox = bed.arm(Cage { volumes, ..cage() }).await;
    let script = "cat /data/file; for file in /data/file /data/below/x; do (: > $file) 2>/dev/null || echo refused; done; \
                  grep -c ' /data' /proc/mounts";
    let ran = run(&mut sandbox, &["sh", "-c", script], b"").await;
    assert_eq!(ran.stdout, "contentrefused\nrefused\n1\n", "{}", ran.stderr);
}

#[tokio::test]
async fn what_an_image_declares_has_no_effect_on_the_cage() {
    let bed = Bed::new();
    let image = bed.engine.resolve_image(&cage(), &|_| ()).await.unwrap().id;
    let lines = "VOLUME /data\nVOLUME /sandbox\nENV SECRET=1\nHEALTHCHECK CMD touch /tmp/checked\n";
    let base = image.trim_start_matches("sha256:");
    let dockerfile = bed.podman.path("Dockerfile");
    std::fs::write(&dockerfile, format!("FROM {base}\n{lines}")).unwrap();
    let (file, context) = (dockerfile.display().to_string(), bed.podman.path("files").display().to_string());
    bed.podman.says(&["build", "--format", "docker", "--tag", "localhost/derived:1", "--file", &file, &context]);
    let mut sandbox = bed.arm(Cage { image: "localhost/derived:1".to_owned(), ..cage() }).await;
    let test = bed.podman.says(&["inspect", "--format", "{{.Config.Healthcheck.Test}}", &sandbox.engine_id]);
    assert_eq!(test, "[NONE]");
    let script = "touch /data/x; echo $?; touch /sandbox/x; echo $?; echo \"<$SECRET>\"";
    let ran = run(&mut sandbox, &["sh", "-c", script], b"").await;
    assert_eq!(ran.stdout, "1\n0\n<>\n", "{}", ran.stderr);
}

#[tokio::test]
async fn a_runtime_which_podman_would_ignore_is_refused() {
    let bed = Bed::new();
    let problem = bed.try_arm(Cage { runtime: Some("runsc".to_owned()), ..cage() }).await.err().unwrap();
    assert_eq!(problem.code, Code::Unsupported, "{problem}");
    assert!(problem.message.contains("runsc") && problem.help.contains("runtime"), "{problem}");
    let containers = bed.podman.containers();
    assert!(containers.is_empty(), "{containers:?}");
}
