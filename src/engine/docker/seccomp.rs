//! The system calls that a sandbox may make.
//!
//! An allow-list: what is not named here fails with `ENOSYS`, so that a C library falls back to an older call, as it
//! would on an older kernel. What is refused on purpose fails with `EPERM`, so that a program reads "not allowed" and
//! not "not there". Calls that are fine for oneself but not for others (`sched_setscheduler`, `prlimit64`, …) are
//! allowed by their arguments: a child that could slow init down would outlive its deadline.
//!
//! Only the daemon's own processor architecture is in the table. The 32-bit entry points of a 64-bit kernel are not, as
//! their `socketcall` hides its arguments from a filter.

use serde_json::{Value, json};

const EPERM: u32 = 1;
const ENOSYS: u32 = 38;
const EAFNOSUPPORT: u32 = 97;

/// The profile in Docker's format, for `seccomp=` among the security options.
///
/// `processor` is `x86_64` or `aarch64`; anything else gives `None`.
pub fn profile(processor: &str) -> Option<Value> {
    let (architecture, own) = match processor {
        "x86_64" => ("SCMP_ARCH_X86_64", X86_64),
        "aarch64" => ("SCMP_ARCH_AARCH64", AARCH64),
        _ => return None,
    };
    let mut rules: Vec<Value> = ALLOWED.iter().map(|(_, names)| allow(names)).collect();
    rules.push(allow(own));
    rules.push(json!({ "names": REFUSED, "action": "SCMP_ACT_ERRNO", "errnoRet": EPERM }));
    rules.push(json!({ "names": MISSING, "action": "SCMP_ACT_ERRNO", "errnoRet": ENOSYS }));
    rules.extend(for_oneself());
    rules.extend(sockets());
    rules.extend(namespaces());
    rules.extend(terminals());
    rules.extend(PERSONALITIES.iter().map(|value| allow_if(&["personality"], &[equal(0, *value)])));
    Some(json!({
        "defaultAction": "SCMP_ACT_ERRNO",
        "defaultErrnoRet": ENOSYS,
        "architectures": [architecture],
        "syscalls": rules,
    }))
}

/// What ordinary programs need, by purpose.
#[rustfmt::skip]
const ALLOWED: &[(&str, &[&str])] = &[
    ("Reading, writing and waiting for file descriptors.", &[
        "close", "close_range", "copy_file_range", "dup", "dup3", "epoll_create1", "epoll_ctl", "epoll_pwait",
        "epoll_pwait2", "eventfd2", "fadvise64", "fcntl", "flock", "lseek", "pipe2", "ppoll", "pread64", "preadv",
        "preadv2", "pselect6", "pwrite64", "pwritev", "pwritev2", "read", "readahead", "readv", "sendfile", "signalfd4",
        "splice", "tee", "timerfd_create", "timerfd_gettime", "timerfd_settime", "vmsplice", "write", "writev",
    ]),
    ("Files and directories: permissions are the kernel's business, as everywhere.", &[
        "chdir", "faccessat", "faccessat2", "fallocate", "fchdir", "fchmod", "fchmodat", "fchmodat2", "fchown",
        "fchownat", "fdatasync", "fgetxattr", "flistxattr", "fremovexattr", "fsetxattr", "fstat", "fstatfs", "fsync",
        "ftruncate", "getcwd", "getdents64", "getxattr", "inotify_add_watch", "inotify_init1", "inotify_rm_watch",
        "lgetxattr", "linkat", "listxattr", "llistxattr", "lremovexattr", "lsetxattr", "mkdirat", "mknodat",
        "newfstatat", "openat", "openat2", "readlinkat", "removexattr", "renameat", "renameat2", "setxattr", "statfs",
        "statx", "symlinkat", "sync", "sync_file_range", "syncfs", "truncate", "umask", "unlinkat", "utimensat",
    ]),
    ("A process's own memory.", &[
        "brk", "madvise", "membarrier", "memfd_create", "mincore", "mlock", "mlock2", "mlockall", "mmap", "mprotect",
        "mremap", "msync", "munlock", "munlockall", "munmap", "pkey_alloc", "pkey_free", "pkey_mprotect",
        "remap_file_pages",
    ]),
    ("Making, replacing and ending processes and threads; `clone` is further down.", &[
        "execve", "execveat", "exit", "exit_group", "get_robust_list", "prctl", "restart_syscall", "rseq",
        "set_robust_list", "set_tid_address", "wait4", "waitid",
    ]),
    ("Who one is. Without capabilities nobody can become more than that.", &[
        "capget", "capset", "getegid", "geteuid", "getgid", "getgroups", "getpgid", "getpid", "getppid", "getresgid",
        "getresuid", "getsid", "gettid", "getuid", "setfsgid", "setfsuid", "setgid", "setgroups", "setpgid", "setregid",
        "setresgid", "setresuid", "setreuid", "setsid", "setuid",
    ]),
    ("Signals, and processes by file descriptor; init is PID 1, which a child's SIGKILL does not reach.", &[
        "kill", "pidfd_open", "pidfd_send_signal", "rt_sigaction", "rt_sigpending", "rt_sigprocmask", "rt_sigqueueinfo",
        "rt_sigreturn", "rt_sigsuspend", "rt_sigtimedwait", "rt_tgsigqueueinfo", "sigaltstack", "tgkill", "tkill",
    ]),
    ("Locks between threads.", &[
        "futex", "futex_requeue", "futex_wait", "futex_waitv", "futex_wake",
    ]),
    ("Reading clocks, and timers.", &[
        "clock_getres", "clock_gettime", "clock_nanosleep", "getitimer", "gettimeofday", "nanosleep", "setitimer",
        "timer_create", "timer_delete", "timer_getoverrun", "timer_gettime", "timer_settime", "times",
    ]),
    ("Reading how anything is scheduled and limited; lowering one's own limits.", &[
        "getcpu", "getpriority", "getrlimit", "getrusage", "ioprio_get", "sched_get_priority_max",
        "sched_get_priority_min", "sched_getaffinity", "sched_getattr", "sched_getparam", "sched_getscheduler",
        "sched_rr_get_interval", "sched_yield", "setrlimit",
    ]),
    ("Sockets that are open; which may be opened is further down.", &[
        "accept", "accept4", "bind", "connect", "getpeername", "getsockname", "getsockopt", "listen", "recvfrom",
        "recvmmsg", "recvmsg", "sendmmsg", "sendmsg", "sendto", "setsockopt", "shutdown",
    ]),
    ("IPC of the old kinds and message queues, all inside the sandbox's own namespace.", &[
        "mq_getsetattr", "mq_notify", "mq_open", "mq_timedreceive", "mq_timedsend", "mq_unlink", "msgctl", "msgget",
        "msgrcv", "msgsnd", "semctl", "semget", "semop", "semtimedop", "shmat", "shmctl", "shmdt", "shmget",
    ]),
    ("The old asynchronous IO, which databases still use.", &[
        "io_cancel", "io_destroy", "io_getevents", "io_pgetevents", "io_setup", "io_submit",
    ]),
    ("What the system is, randomness, and locking oneself in further.", &[
        "getrandom", "landlock_add_rule", "landlock_create_ruleset", "landlock_restrict_self", "seccomp", "sysinfo",
        "uname",
    ]),
];

/// Calls of x86-64 that newer architectures never had, and its thread-local storage.
#[rustfmt::skip]
const X86_64: &[&str] = &[
    "access", "alarm", "arch_prctl", "chmod", "chown", "creat", "dup2", "epoll_create", "epoll_wait", "eventfd", "fork",
    "futimesat", "getdents", "getpgrp", "inotify_init", "lchown", "link", "lstat", "mkdir", "mknod", "open", "pause",
    "pipe", "poll", "readlink", "rename", "rmdir", "select", "signalfd", "stat", "symlink", "time", "unlink", "utime",
    "utimes", "vfork",
];

/// Calls of 64-bit ARM alone.
const AARCH64: &[&str] = &["sync_file_range2"];

/// Refused whatever the arguments are: other processes' memory and descriptors, namespaces and mounts, the kernel's own
/// matters, keys that are not namespaced, and interfaces whose whole surface is out of a filter's sight (`io_uring`, `bpf`).
#[rustfmt::skip]
const REFUSED: &[&str] = &[
    "acct", "add_key", "bpf", "chroot", "clock_adjtime", "clock_settime", "adjtimex", "delete_module", "fanotify_init",
    "fanotify_mark", "finit_module", "fsconfig", "fsmount", "fsopen", "fspick", "init_module", "io_uring_enter",
    "io_uring_register", "io_uring_setup", "ioperm", "iopl", "kcmp", "kexec_file_load", "kexec_load", "keyctl",
    "lookup_dcookie", "memfd_secret", "migrate_pages", "modify_ldt", "mount", "mount_setattr", "move_mount",
    "move_pages", "name_to_handle_at", "nfsservctl", "open_by_handle_at", "open_tree", "perf_event_open",
    "pidfd_getfd", "pivot_root", "process_madvise", "process_mrelease", "process_vm_readv", "process_vm_writev",
    "ptrace", "quotactl", "quotactl_fd", "reboot", "request_key", "setdomainname", "sethostname", "setns",
    "settimeofday", "swapoff", "swapon", "syslog", "umount2", "unshare", "userfaultfd", "vhangup",
];

/// What would not be listed at all, if Docker 20.10 did not drop the default's errno and answer `EPERM`. `clone3` is
/// explained at [`namespaces`], the others are memory policies, newer calls and remains.
#[rustfmt::skip]
const MISSING: &[&str] = &[
    "_sysctl", "cachestat", "clone3", "create_module", "epoll_ctl_old", "epoll_wait_old", "get_kernel_syms",
    "get_mempolicy", "get_thread_area", "getpmsg", "getxattrat", "listmount", "listxattrat", "lsm_get_self_attr",
    "lsm_list_modules", "lsm_set_self_attr", "map_shadow_stack", "mbind", "mseal", "putpmsg", "query_module",
    "removexattrat", "security", "set_mempolicy", "set_mempolicy_home_node", "set_thread_area", "setxattrat",
    "statmount", "sysfs", "tuxcall", "uselib", "ustat", "vserver",
];

/// Linux with and without `ADDR`-less variants (`PER_LINUX32`, `UNAME26`), and the question what it is now.
const PERSONALITIES: &[u64] = &[0, 0x8, 0x2_0000, 0x2_0008, 0xffff_ffff];

/// Priorities, affinities and limits may be set for the caller itself, which the kernel spells as 0.
fn for_oneself() -> Vec<Value> {
    const BY_PID: &[&str] =
        &["prlimit64", "sched_setaffinity", "sched_setattr", "sched_setparam", "sched_setscheduler"];
    const PRIO_PROCESS: u64 = 0;
    const IOPRIO_WHO_PROCESS: u64 = 1;
    let mut rules = vec![allow_if(BY_PID, &[equal(0, 0)]), refuse_if(BY_PID, EPERM, &[unequal(0, 0)])];
    for (name, process) in [("setpriority", PRIO_PROCESS), ("ioprio_set", IOPRIO_WHO_PROCESS)] {
        rules.push(allow_if(&[name], &[equal(0, process), equal(1, 0)]));
        rules.push(refuse_if(&[name], EPERM, &[equal(0, process), unequal(1, 0)]));
        rules.push(refuse_if(&[name], EPERM, &[unequal(0, process)]));
    }
    rules
}

/// Unix, IPv4, IPv6 and netlink sockets. `AF_VSOCK` reaches a hypervisor past any network namespace, `AF_ALG` and the
/// rest are attack surface that no ordinary program misses: "address family not supported".
fn sockets() -> Vec<Value> {
    const FAMILIES: &[u64] = &[1, 2, 10, 16];
    const BOTH: &[&str] = &["socket", "socketpair"];
    const HIGHEST: u64 = 16;
    let mut rules: Vec<Value> = FAMILIES.iter().map(|family| allow_if(BOTH, &[equal(0, *family)])).collect();
    for family in (0..HIGHEST).filter(|family| !FAMILIES.contains(family)) {
        rules.push(refuse_if(BOTH, EAFNOSUPPORT, &[equal(0, family)]));
    }
    rules.push(refuse_if(BOTH, EAFNOSUPPORT, &[condition(0, HIGHEST, 0, "SCMP_CMP_GT")]));
    rules
}

/// `clone` without any new namespace. `clone3` keeps its flags in memory, where a filter cannot look, so it does not
/// exist here and libraries fall back.
fn namespaces() -> Vec<Value> {
    /// `CLONE_NEWNS`, `NEWCGROUP`, `NEWUTS`, `NEWIPC`, `NEWUSER`, `NEWPID`, `NEWNET`.
    const FLAGS: [u64; 7] = [0x2_0000, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000];
    let all = FLAGS.iter().fold(0, |all, flag| all | flag);
    let mut rules = vec![allow_if(&["clone"], &[masked(0, all, 0)])];
    rules.extend(FLAGS.iter().map(|flag| refuse_if(&["clone"], EPERM, &[masked(0, *flag, *flag)])));
    rules
}

/// `ioctl`, except for `TIOCSTI` and `TIOCLINUX`, which put words into a terminal's mouth.
///
/// The kernel looks at the low 32 bits only, so "not equal" on all 64 could be walked around. A filter knows no "not
/// equal under a mask": the complement is spelled out instead, a bit that differs or another last digit.
fn terminals() -> Vec<Value> {
    const TIOCSTI: u64 = 0x5412;
    const TIOCLINUX: u64 = 0x541c;
    const LOW: u64 = 0xffff_ffff;
    let common = TIOCSTI & !0xf;
    let mut rules = Vec::new();
    for bit in (4..32).map(|at| 1_u64 << at) {
        rules.push(allow_if(&["ioctl"], &[masked(1, bit, !common & bit)]));
    }
    for request in (common..=common + 0xf).filter(|request| ![TIOCSTI, TIOCLINUX].contains(request)) {
        rules.push(allow_if(&["ioctl"], &[masked(1, LOW, request)]));
    }
    for request in [TIOCSTI, TIOCLINUX] {
        rules.push(refuse_if(&["ioctl"], EPERM, &[masked(1, LOW, request)]));
    }
    rules
}

fn allow(names: &[&str]) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ALLOW" })
}

fn allow_if(names: &[&str], conditions: &[Value]) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ALLOW", "args": conditions })
}

fn refuse_if(names: &[&str], errno: u32, conditions: &[Value]) -> Value {
    json!({ "names": names, "action": "SCMP_ACT_ERRNO", "errnoRet": errno, "args": conditions })
}

fn equal(index: u32, value: u64) -> Value {
    condition(index, value, 0, "SCMP_CMP_EQ")
}

fn unequal(index: u32, value: u64) -> Value {
    condition(index, value, 0, "SCMP_CMP_NE")
}

/// In this format the mask comes as the value, and what must be under it as the second value.
fn masked(index: u32, mask: u64, value: u64) -> Value {
    condition(index, mask, value, "SCMP_CMP_MASKED_EQ")
}

fn condition(index: u32, value: u64, value_two: u64, op: &str) -> Value {
    json!({ "index": index, "value": value, "valueTwo": value_two, "op": op })
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::*;

    /// What the profile does with a call: the errno, or `None` when it is allowed. Reads the JSON as a filter would.
    fn verdict(profile: &Value, name: &str, arguments: &[u64]) -> Option<u64> {
        let holds = |condition: &Value| {
            let number = |key: &str| condition[key].as_u64().unwrap();
            let argument = arguments.get(usize::try_from(number("index")).unwrap()).copied().unwrap_or(0);
            match condition["op"].as_str().unwrap() {
                "SCMP_CMP_EQ" => argument == number("value"),
                "SCMP_CMP_NE" => argument != number("value"),
                "SCMP_CMP_GT" => argument > number("value"),
                "SCMP_CMP_MASKED_EQ" => argument & number("value") == number("valueTwo"),
                other => panic!("an operator that nobody knows: {other}"),
            }
        };
        let fits = |rule: &&Value| {
            rule["names"].as_array().unwrap().iter().any(|known| known == name)
                && rule.get("args").is_none_or(|all| all.as_array().unwrap().iter().all(holds))
        };
        let rules: Vec<&Value> = profile["syscalls"].as_array().unwrap().iter().filter(fits).collect();
        let actions: BTreeSet<&str> = rules.iter().map(|rule| rule["action"].as_str().unwrap()).collect();
        assert!(actions.len() < 2, "{name}{arguments:?} is both allowed and refused");
        match rules.first() {
            None => profile["defaultErrnoRet"].as_u64(),
            Some(rule) => rule.get("errnoRet").and_then(Value::as_u64),
        }
    }

    fn x86() -> Value {
        profile("x86_64").unwrap()
    }

    #[test]
    fn other_processors_have_no_table() {
        assert!(profile("riscv64").is_none());
        assert_eq!(profile("aarch64").unwrap()["architectures"], json!(["SCMP_ARCH_AARCH64"]));
    }

    #[test]
    fn no_call_is_named_twice_without_conditions() {
        let mut seen = BTreeSet::new();
        let groups = ALLOWED.iter().flat_map(|(_, names)| *names);
        for name in
            groups.chain(X86_64).chain(AARCH64).chain(REFUSED).chain(MISSING).chain(&["clone", "ioctl", "socket"])
        {
            assert!(seen.insert(name), "{name} twice");
        }
    }

    #[test]
    fn a_child_cannot_slow_init_down() {
        for name in ["sched_setscheduler", "sched_setparam", "sched_setattr", "sched_setaffinity", "prlimit64"] {
            assert_eq!(verdict(&x86(), name, &[0]), None, "{name} on oneself");
            assert_eq!(verdict(&x86(), name, &[1]), Some(1), "{name} on init");
            assert_eq!(verdict(&x86(), name, &[1 << 32]), Some(1), "{name} with a high bit");
        }
        assert_eq!(verdict(&x86(), "setpriority", &[0, 0]), None);
        assert_eq!(verdict(&x86(), "setpriority", &[0, 1]), Some(1), "init");
        assert_eq!(verdict(&x86(), "setpriority", &[2, 0]), Some(1), "the whole user");
        assert_eq!(verdict(&x86(), "ioprio_set", &[1, 0]), None);
        assert_eq!(verdict(&x86(), "ioprio_set", &[1, 1]), Some(1));
        assert_eq!(verdict(&x86(), "ioprio_set", &[3, 0]), Some(1));
    }

    #[test]
    fn four_families_of_sockets_can_be_opened() {
        let open: Vec<u64> = (0..64).filter(|family| verdict(&x86(), "socket", &[*family]).is_none()).collect();
        assert_eq!(open, [1, 2, 10, 16]);
        assert_eq!(verdict(&x86(), "socket", &[40]), Some(97), "AF_VSOCK");
        assert_eq!(verdict(&x86(), "socket", &[38]), Some(97), "AF_ALG");
        assert_eq!(verdict(&x86(), "socket", &[40 | 1 << 32]), Some(97));
    }

    #[test]
    fn no_namespace_can_be_made() {
        const THREAD: u64 = 0x3d_0f00;
        assert_eq!(verdict(&x86(), "clone", &[THREAD]), None);
        assert_eq!(verdict(&x86(), "clone", &[17]), None);
        for flag in [0x2_0000_u64, 0x200_0000, 0x400_0000, 0x800_0000, 0x1000_0000, 0x2000_0000, 0x4000_0000] {
            assert_eq!(verdict(&x86(), "clone", &[17 | flag]), Some(1), "{flag:x}");
        }
        assert_eq!(verdict(&x86(), "clone3", &[]), Some(38));
        assert_eq!(verdict(&x86(), "unshare", &[]), Some(1));
        assert_eq!(verdict(&x86(), "setns", &[]), Some(1));
    }

    #[test]
    fn nothing_can_be_typed_into_a_terminal() {
        const TCGETS: u64 = 0x5401;
        for request in [TCGETS, 0x5413, 0x541b, 0x541d, 0x8004_5430, 0, 0xffff_ffff] {
            assert_eq!(verdict(&x86(), "ioctl", &[1, request]), None, "{request:x}");
        }
        for request in [0x5412_u64, 0x541c, 0x5412 | 7 << 32] {
            assert_eq!(verdict(&x86(), "ioctl", &[1, request]), Some(1), "{request:x}");
        }
    }

    #[test]
    fn the_usual_personalities_and_no_others() {
        assert_eq!(verdict(&x86(), "personality", &[0xffff_ffff]), None);
        assert_eq!(verdict(&x86(), "personality", &[0x040_0000]), Some(38), "READ_IMPLIES_EXEC");
    }

    #[test]
    fn what_is_not_listed_does_not_exist() {
        assert_eq!(verdict(&x86(), "a_call_of_the_year_2040", &[]), Some(38));
        assert_eq!(verdict(&x86(), "io_uring_setup", &[]), Some(1));
        assert_eq!(verdict(&x86(), "ptrace", &[]), Some(1));
        assert_eq!(verdict(&x86(), "openat", &[]), None);
    }
}
