//! The daemon, and what the profiles need of it.

use brig_core::profile::Profile;

use super::{Check, Status};
use crate::engine::docker::{DockerEngine, EngineFacts, ImageFound};

/// Clocks further apart than this make ages and times look wrong.
const APART_MS: i64 = 2_000;

/// What was found out about the daemon.
#[derive(Default)]
pub struct Found {
    /// Where a supervisor that starts now would look for it.
    pub address: Option<String>,
    /// What it says of itself.
    pub facts: Option<EngineFacts>,
}

/// Looks at the daemon, and at what each profile needs there.
pub async fn examine(docker: &DockerEngine, profiles: &[Profile], checks: &mut Vec<Check>) -> Found {
    let located = docker.located();
    let address = Some(located.address.clone());
    let place = format!("{} ({}), from {}", located.address, located.protection, located.origin);
    if located.open_to_all {
        let help = "use ssh://, or TLS (`[engine.tls]`, DOCKER_TLS_VERIFY): who reaches that port is root there";
        checks.push(Check::warning("engine", "address", place).help(help));
    } else {
        checks.push(Check::ok("engine", "address", place));
    }
    let facts = match docker.facts().await {
        Ok(facts) => facts,
        Err(problem) => {
            checks.push(Check::failed("engine", "daemon", &problem));
            return Found { address, facts: None };
        }
    };
    let name = format!("{}, API {}, {} on {}", facts.name, facts.api_version, facts.system, facts.processor);
    match &facts.unsupported {
        Some(problem) => {
            checks.push(Check::ok("engine", "daemon", name));
            checks.push(Check::failed("engine", "support", problem));
        }
        None => {
            checks.push(Check::ok("engine", "daemon", name));
            checks.push(Check::ok("engine", "support", "version, processor, Linux and seccomp are what brig needs"));
            meters(docker, &facts, checks).await;
            init(docker, checks).await;
            for profile in profiles {
                runtime(profile, &facts, checks);
                image(docker, profile, checks).await;
            }
        }
    }
    let (storage, cgroup) = (&facts.storage, facts.cgroup_version);
    let machine = format!("cgroups version {cgroup}, storage {storage}, runtimes {}", facts.runtimes.join(", "));
    checks.push(Check::ok("engine", "machine", machine));
    clock(&facts, checks);
    Found { address, facts: Some(facts) }
}

async fn meters(docker: &DockerEngine, facts: &EngineFacts, checks: &mut Vec<Check>) {
    let (what, told) = ("usage", "asked of the daemon, for running sandboxes while somebody looks");
    if docker.reads_cgroups().await {
        let message = format!("read live from control groups version {}", facts.cgroup_version);
        checks.push(Check::ok("engine", what, message));
    } else if facts.is_local {
        let help = "run brig where the daemon's processes are to be seen: in its PID namespace, with /sys/fs/cgroup";
        checks
            .push(Check::warning("engine", what, format!("{told}: its control groups cannot be read here")).help(help));
    } else {
        checks.push(Check::ok("engine", what, format!("{told}: the daemon is elsewhere")));
    }
}

async fn init(docker: &DockerEngine, checks: &mut Vec<Check>) {
    match docker.has_init_volume().await {
        Ok(true) => checks.push(Check::ok("engine", "init", "its volume is there; each supervisor verifies it")),
        Ok(false) => checks.push(Check::ok("engine", "init", "its volume is made with the first sandbox")),
        Err(problem) => checks.push(Check::failed("engine", "init", &problem)),
    }
}

fn runtime(profile: &Profile, facts: &EngineFacts, checks: &mut Vec<Check>) {
    let Some(wanted) = &profile.cage.runtime else { return };
    let what = format!("runtime of {}", profile.name);
    if facts.runtimes.contains(wanted) {
        checks.push(Check::ok("engine", what, wanted.clone()));
    } else {
        let message = format!("the daemon has no runtime `{wanted}`, only {}", facts.runtimes.join(", "));
        let help =
            "add it to `runtimes` in the daemon's configuration (/etc/docker/daemon.json), or change the profile";
        checks.push(Check::new("engine", what, Status::Failed, message).help(help));
    }
}

async fn image(docker: &DockerEngine, profile: &Profile, checks: &mut Vec<Check>) {
    let image = &profile.cage.image;
    let what = format!("image of {}", profile.name);
    checks.push(match docker.find_image(&profile.cage).await {
        Ok(ImageFound::Here) => Check::ok("images", what, format!("{image} is here")),
        Ok(ImageFound::Pullable) => {
            Check::ok("images", what, format!("{image} can be pulled, and is when it is needed"))
        }
        Ok(ImageFound::Buildable) => {
            Check::ok("images", what, format!("{image} is not built yet, and is when it is needed: `brig image build`"))
        }
        Ok(ImageFound::Userland { reason }) => {
            let message =
                format!("{image} cannot be had ({reason}): one of this machine's own programs takes its place");
            let help = format!("`docker pull {image}` or `docker load` for the one that the profile means");
            Check::warning("images", what, message).help(help)
        }
        Err(problem) => Check::failed("images", what, &problem),
    });
}

fn clock(facts: &EngineFacts, checks: &mut Vec<Check>) {
    let Some(ahead) = facts.clock_ahead_ms else { return };
    let seconds = ahead.abs() / 1000;
    let direction = if ahead > 0 { "ahead of" } else { "behind" };
    checks.push(if ahead.abs() > APART_MS {
        let message = format!("the daemon's is {seconds} s {direction} this machine's");
        Check::warning("engine", "clock", message).help("let both be set by NTP (`timedatectl set-ntp true`)")
    } else {
        Check::ok("engine", "clock", "the daemon's and this machine's agree")
    });
}
