# Run inside a sandbox: tries what must not work and prints what it saw, as one JSON object.
import ctypes, errno, json, os, platform, socket, subprocess, sys, threading

libc = ctypes.CDLL(None, use_errno=True)
NUMBERS = {
    "x86_64": dict(unshare=272, setns=308, io_uring_setup=425, ptrace=101, bpf=321, keyctl=250, userfaultfd=323,
                   perf_event_open=298, clone3=435, mount=165, chroot=161, personality=135, sched_setscheduler=144,
                   sched_setaffinity=203, setpriority=141, prlimit64=302, ioprio_set=251, clone=56, get_mempolicy=239, ioctl=16),
    "aarch64": dict(unshare=97, setns=268, io_uring_setup=425, ptrace=117, bpf=280, keyctl=219, userfaultfd=282,
                    perf_event_open=241, clone3=435, mount=40, chroot=51, personality=92, sched_setscheduler=119,
                    sched_setaffinity=122, setpriority=140, prlimit64=261, ioprio_set=30, clone=220, get_mempolicy=236, ioctl=29),
}[platform.machine()]


def call(name, *arguments):
    ctypes.set_errno(0)
    longs = [argument if isinstance(argument, ctypes.Array) else ctypes.c_long(argument) for argument in arguments]
    result = libc.syscall(ctypes.c_long(NUMBERS[name]), *longs)
    return "ok" if result >= 0 else errno.errorcode.get(ctypes.get_errno(), ctypes.get_errno())


def opened(family, kind=socket.SOCK_DGRAM):
    try:
        socket.socket(family, kind).close()
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]


def wrote(path, size=1):
    try:
        with open(path, "wb") as file:
            for _ in range(max(1, size >> 20)):
                file.write(b"\0" * min(size, 1 << 20))
        return "ok"
    except OSError as error:
        return errno.errorcode[error.errno]
    finally:
        try:
            os.remove(path)
        except OSError:
            pass


def sqlite():
    import sqlite3
    return sqlite3.connect("/sandbox/db").execute("select 40 + 2").fetchone()[0]


def threads():
    seen = []
    started = [threading.Thread(target=seen.append, args=(number,)) for number in range(4)]
    for thread in started:
        thread.start()
    for thread in started:
        thread.join()
    return len(seen)


def processes():
    import multiprocessing
    with multiprocessing.get_context("fork").Pool(2) as pool:
        return sum(pool.map(abs, [-20, 22]))


def loop():
    import asyncio

    async def main():
        child = await asyncio.create_subprocess_exec("echo", "42", stdout=asyncio.subprocess.PIPE)
        return int((await child.communicate())[0])
    return asyncio.run(main())


param = (ctypes.c_int * 1)(0)
limit = (ctypes.c_ulong * 2)(16, 16)
mask = (ctypes.c_ulong * 1)(1)
status = dict(line.split(":\t", 1) for line in open("/proc/self/status").read().splitlines() if ":\t" in line)
IDLE, NEWUSER, NOFILE = 5, 0x10000000, 7

print(json.dumps({
    "capabilities": [status[name] for name in ("CapInh", "CapPrm", "CapEff", "CapBnd", "CapAmb")],
    "no_new_privs": status["NoNewPrivs"], "seccomp": status["Seccomp"], "ids": [os.getuid(), os.getgid(), os.getgroups()],
    "environment": sorted(os.environ), "init": open("/proc/1/comm").read().strip(), "hostname": socket.gethostname(),
    "interfaces": sorted(name for _, name in socket.if_nameindex()),
    "write": {path: wrote(path) for path in ("/x", "/etc/x", "/.brig/x", "/dev/x", "/sandbox/x", "/tmp/x", "/dev/shm/x", "/sys/x")},
    "fill": {"scratch": wrote("/sandbox/x", 24 << 20), "tmp": wrote("/tmp/x", 6 << 20), "shm": wrote("/dev/shm/x", 6 << 20)},
    "fit": {"scratch": wrote("/sandbox/x", 8 << 20), "tmp": wrote("/tmp/x", 2 << 20)},
    "refused": {
        "unshare": call("unshare", NEWUSER), "setns": call("setns", 0, 0), "io_uring_setup": call("io_uring_setup", 1, 0),
        "ptrace": call("ptrace", 0, 0, 0, 0), "bpf": call("bpf", 0, 0, 0), "keyctl": call("keyctl", 0, 0, 0),
        "userfaultfd": call("userfaultfd", 0), "perf_event_open": call("perf_event_open", 0, 0, 0, 0, 0),
        "mount": call("mount", 0, 0, 0, 0, 0), "chroot": call("chroot", 0), "clone": call("clone", NEWUSER | 17, 0, 0, 0, 0),
        "sched_setscheduler": call("sched_setscheduler", 1, IDLE, param), "setpriority": call("setpriority", 0, 1, 19),
        "setpriority_user": call("setpriority", 2, 0, 19), "sched_setaffinity": call("sched_setaffinity", 1, 8, mask),
        "prlimit64": call("prlimit64", 1, NOFILE, limit, 0), "ioprio_set": call("ioprio_set", 1, 1, 0x6000),
        "tiocsti": call("ioctl", 0, 0x5412, 0), "tiocsti_high": call("ioctl", 0, 0x5412 | 1 << 32, 0),
    },
    "not_there": {"clone3": call("clone3", 0, 0), "get_mempolicy": call("get_mempolicy", 0, 0, 0, 0, 0)},
    "personality": call("personality", 0x0400000),
    "allowed": {
        "sched_setscheduler": call("sched_setscheduler", 0, IDLE, param), "setpriority": call("setpriority", 0, 0, 1),
        "prlimit64": call("prlimit64", 0, NOFILE, 0, limit), "personality": call("personality", 0xffffffff),
    },
    "families": {str(family): opened(family, kind) for family, kind in
                 ((1, 1), (2, 1), (10, 1), (16, 3), (40, 1), (38, 5), (17, 3), (31, 3), (29, 3))},
    "works": {"sqlite": sqlite(), "threads": threads(), "processes": processes(), "loop": loop(),
              "shell": subprocess.check_output(["sh", "-c", "echo a b | awk '{print $2}' | sed s/b/42/"], text=True).strip()},
}))
