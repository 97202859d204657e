//! Keys that readers of Compose files know and a profile does not have, each with the reason.

use crate::config::read::Refusal;

const NEVER: &str = "brig never does that: no profile can loosen a sandbox. Leave the key out";
const ALWAYS: &str = "this is always so and needs no key: capabilities dropped, no new privileges, read-only root, seccomp, \
                      an init, no swap, no log, removed after one run. Leave the key out";
const LATER: &str = "this is planned and not there yet. Leave the key out";
const COMMAND: &str = "what runs is what an agent proposes. Leave the key out";
const NETWORK: &str = "sandboxes reach no network today: write network_mode = \"none\", or leave it out";
const SCRATCH: &str = "the only writable place is the scratch: write [scratch] with size and exec";
const SECRETS: &str = "secrets are variables here: environment = { NAME = { file = \"./path\" } } or \
                       { NAME = { environment = \"VARIABLE\" } }";
const DEPLOY: &str = "write mem_limit, cpus and pids_limit at the top of the file";
const ENV_FILE: &str = "write the variables into [environment]";

/// Key and reason.
pub(super) const REFUSED: [Refusal; 49] = [
    ("privileged", NEVER),
    ("cap_add", NEVER),
    ("security_opt", NEVER),
    ("devices", NEVER),
    ("device_cgroup_rules", NEVER),
    ("gpus", NEVER),
    ("pid", NEVER),
    ("ipc", NEVER),
    ("uts", NEVER),
    ("cgroup", NEVER),
    ("cgroup_parent", NEVER),
    ("userns_mode", NEVER),
    ("group_add", NEVER),
    ("sysctls", NEVER),
    ("oom_kill_disable", NEVER),
    ("oom_score_adj", NEVER),
    ("use_api_socket", NEVER),
    ("volumes_from", NEVER),
    ("cap_drop", ALWAYS),
    ("read_only", ALWAYS),
    ("init", ALWAYS),
    ("logging", ALWAYS),
    ("memswap_limit", ALWAYS),
    ("mem_swappiness", ALWAYS),
    ("restart", ALWAYS),
    ("stop_signal", ALWAYS),
    ("stop_grace_period", ALWAYS),
    ("stdin_open", ALWAYS),
    ("tty", ALWAYS),
    ("healthcheck", LATER),
    ("platform", LATER),
    ("pull_policy", LATER),
    ("extends", LATER),
    ("secrets", SECRETS),
    ("configs", LATER),
    ("command", COMMAND),
    ("entrypoint", COMMAND),
    ("networks", NETWORK),
    ("network", NETWORK),
    ("ports", NETWORK),
    ("expose", NETWORK),
    ("dns", NETWORK),
    ("extra_hosts", NETWORK),
    ("links", NETWORK),
    ("tmpfs", SCRATCH),
    ("shm_size", SCRATCH),
    ("deploy", DEPLOY),
    ("env_file", ENV_FILE),
    ("container_name", "sandboxes name themselves. Leave the key out"),
];
