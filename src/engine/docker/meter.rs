//! What a sandbox uses, read from its control group's files.
//!
//! The path comes from `/proc/PID/cgroup`, never from the container's identifier: drivers name groups in their own way.
//! The files are opened once and read again and again, which costs a fraction of what the daemon takes for the same.

use std::fs::{self, File};
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};

use crate::engine::{Meter, Usage};

/// The open files of one sandbox's control groups.
pub struct CgroupMeter {
    cpu: Cpu,
    memory: File,
    memory_stat: File,
    /// The line of `memory_stat` with the page cache that can be given back at once, which `docker stats` leaves out too.
    cache: &'static str,
    pids: File,
    io: Option<Io>,
    memory_limit: u64,
    pids_limit: u64,
}

enum Cpu {
    /// `cpuacct.usage`: nanoseconds.
    Nanoseconds(File),
    /// `cpu.stat`: `usage_usec`.
    Stat(File),
}

enum Io {
    /// `blkio.throttle.io_service_bytes*`: `8:0 Read 4096`.
    Blkio(File),
    /// `io.stat`: `8:0 rbytes=4096 wbytes=0 …`.
    Stat(File),
}

impl CgroupMeter {
    /// Opens the files of the container whose first process is `pid`. `None` when that process is not of the container
    /// (the daemon is on another machine, or in a PID namespace of its own), or when the files are not to be seen here.
    pub fn open(pid: u32, container: &str) -> Option<Self> {
        let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok()?;
        if !groups.contains(container) {
            return None;
        }
        let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
        let directory = |controller: &str| directory(&groups, &mounts, controller);
        match directory("memory") {
            Some(memory) => {
                Self::version_1(&memory, &directory("cpuacct")?, &directory("pids")?, directory("blkio").as_deref())
            }
            None => Self::version_2(&directory("")?),
        }
    }

    fn version_1(memory: &Path, cpuacct: &Path, pids: &Path, blkio: Option<&Path>) -> Option<Self> {
        let io = blkio.and_then(|blkio| {
            let names = ["blkio.throttle.io_service_bytes_recursive", "blkio.throttle.io_service_bytes"];
            names.iter().find_map(|name| File::open(blkio.join(name)).ok())
        });
        Some(Self {
            cpu: Cpu::Nanoseconds(File::open(cpuacct.join("cpuacct.usage")).ok()?),
            memory: File::open(memory.join("memory.usage_in_bytes")).ok()?,
            memory_stat: File::open(memory.join("memory.stat")).ok()?,
            cache: "total_inactive_file",
            memory_limit: limit(&memory.join("memory.limit_in_bytes")),
            pids: File::open(pids.join("pids.current")).ok()?,
            pids_limit: limit(&pids.join("pids.max")),
            io: io.map(Io::Blkio),
        })
    }

    fn version_2(directory: &Path) -> Option<Self> {
        let open = |name: &str| File::open(directory.join(name)).ok();
        Some(Self {
            cpu: Cpu::Stat(open("cpu.stat")?),
            memory: open("memory.current")?,
            memory_stat: open("memory.stat")?,
            cache: "inactive_file",
            memory_limit: limit(&directory.join("memory.max")),
            pids: open("pids.current")?,
            pids_limit: limit(&directory.join("pids.max")),
            io: open("io.stat").map(Io::Stat),
        })
    }
}

/// Takes the CPU quota from the control group of a container whose first process is `pid`.
pub fn lift_quota(pid: u32, container: &str) -> Option<()> {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).ok().filter(|groups| groups.contains(container))?;
    let mounts = fs::read_to_string("/proc/self/mountinfo").ok()?;
    match directory(&groups, &mounts, "cpu") {
        Some(first) => fs::write(first.join("cpu.cfs_quota_us"), "-1"),
        None => fs::write(directory(&groups, &mounts, "")?.join("cpu.max"), "max"),
    }
    .ok()
}

impl Meter for CgroupMeter {
    fn read(&self) -> Option<Usage> {
        let mut buffer = [0; 8192];
        let cpu_us = match &self.cpu {
            Cpu::Nanoseconds(file) => number(text(file, &mut buffer)?)? / 1000,
            Cpu::Stat(file) => field(text(file, &mut buffer)?, "usage_usec")?,
        };
        let memory = number(text(&self.memory, &mut buffer)?)?;
        let cache = field(text(&self.memory_stat, &mut buffer)?, self.cache).unwrap_or(0);
        let pids = number(text(&self.pids, &mut buffer)?)?;
        let (io_read, io_write) = match &self.io {
            Some(Io::Blkio(file)) => text(file, &mut buffer).map_or((0, 0), blkio),
            Some(Io::Stat(file)) => text(file, &mut buffer).map_or((0, 0), io_stat),
            None => (0, 0),
        };
        Some(Usage {
            cpu_us,
            memory: memory.saturating_sub(cache),
            memory_limit: self.memory_limit,
            pids,
            pids_limit: self.pids_limit,
            io_read,
            io_write,
        })
    }
}

/// Where a controller's group of the process is to be seen here. Version 2 has no controllers: its name is empty.
fn directory(groups: &str, mounts: &str, controller: &str) -> Option<PathBuf> {
    let path = groups.lines().find_map(|line| {
        let (_, rest) = line.split_once(':')?;
        let (controllers, path) = rest.split_once(':')?;
        controllers.split(',').any(|one| one == controller).then_some(path)
    })?;
    mounts.lines().find_map(|line| {
        let (before, after) = line.split_once(" - ")?;
        let mut before = before.split(' ').skip(3);
        let (root, mounted) = (before.next()?, before.next()?);
        let mut after = after.split(' ');
        let (kind, options) = (after.next()?, after.nth(1)?);
        let is_it = match controller {
            "" => kind == "cgroup2",
            controller => kind == "cgroup" && options.split(',').any(|option| option == controller),
        };
        let below = path.strip_prefix(root.trim_end_matches('/')).filter(|below| below.starts_with('/'))?;
        is_it.then(|| Path::new(mounted).join(below.trim_start_matches('/')))
    })
}

/// A limit's file; `max`, and the huge numbers that mean the same, as they are.
fn limit(path: &Path) -> u64 {
    fs::read_to_string(path).ok().and_then(|text| number(&text)).unwrap_or(u64::MAX)
}

/// The beginning of a file as it is now. `None` when it cannot be read any more, as its group is gone.
fn text<'a>(file: &File, buffer: &'a mut [u8]) -> Option<&'a str> {
    let mut filled = 0;
    while filled < buffer.len() {
        match file.read_at(&mut buffer[filled..], filled as u64) {
            Ok(0) => break,
            Ok(read) => filled += read,
            Err(error) if error.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return None,
        }
    }
    std::str::from_utf8(&buffer[..filled]).ok()
}

fn number(text: &str) -> Option<u64> {
    text.trim().parse().ok()
}

fn field(text: &str, name: &str) -> Option<u64> {
    text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' ').and_then(number))
}

fn blkio(text: &str) -> (u64, u64) {
    let sum = |kind: &str| {
        let of_kind = |line: &str| {
            let mut words = line.split(' ').skip(1);
            (words.next()? == kind).then(|| words.next().and_then(number)).flatten()
        };
        text.lines().filter_map(of_kind).sum()
    };
    (sum("Read"), sum("Write"))
}

fn io_stat(text: &str) -> (u64, u64) {
    let sum = |key: &str| text.split([' ', '\n']).filter_map(|word| number(word.strip_prefix(key)?)).sum();
    (sum("rbytes="), sum("wbytes="))
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOUNTS: &str = "\
25 1 0:20 / /proc rw - proc proc rw
30 1 0:30 / /sys/fs/cgroup/cpu,cpuacct rw - cgroup cgroup rw,cpu,cpuacct
31 1 0:31 /outer /sys/fs/cgroup/memory rw - cgroup cgroup rw,memory
32 1 0:32 / /sys/fs/cgroup/unified rw shared:9 - cgroup2 cgroup2 rw,nsdelegate
";

    #[test]
    fn a_group_is_found_below_where_its_controller_is_mounted() {
        let groups = "4:memory:/outer/docker/abc\n3:cpu,cpuacct:/docker/abc\n0::/system.slice/docker-abc.scope\n";
        let found = |controller: &str| directory(groups, MOUNTS, controller);
        assert_eq!(found("cpuacct"), Some(PathBuf::from("/sys/fs/cgroup/cpu,cpuacct/docker/abc")));
        assert_eq!(found("memory"), Some(PathBuf::from("/sys/fs/cgroup/memory/docker/abc")));
        assert_eq!(found(""), Some(PathBuf::from("/sys/fs/cgroup/unified/system.slice/docker-abc.scope")));
        assert_eq!(found("pids"), None);
    }

    #[test]
    fn a_group_outside_of_what_is_mounted_here_is_not_guessed() {
        assert_eq!(directory("4:memory:/outermost/abc\n", MOUNTS, "memory"), None);
    }

    #[test]
    fn both_spellings_of_io_are_added_up() {
        assert_eq!(blkio("8:0 Read 4096\n8:0 Write 10\n8:16 Read 1\n8:16 Total 5\nTotal 9\n"), (4097, 10));
        assert_eq!(io_stat("8:0 rbytes=5 wbytes=6 rios=1\n8:16 rbytes=7 wbytes=8 rios=1\n"), (12, 14));
        assert_eq!(blkio(""), (0, 0));
    }

    #[test]
    fn a_field_is_its_whole_name() {
        let stat = "total_inactive_file_x 1\ntotal_inactive_file 2\n";
        assert_eq!(field(stat, "total_inactive_file"), Some(2));
        assert_eq!(field(stat, "inactive_file"), None);
    }

    #[test]
    fn a_process_of_nobody_has_no_meter() {
        assert!(CgroupMeter::open(std::process::id(), "no-container-has-this-identifier").is_none());
    }

    #[test]
    fn version_2_is_read_from_its_files() {
        let directory = tempfile::tempdir().unwrap();
        let files = [
            ("cpu.stat", "usage_usec 1500\nuser_usec 1\n"),
            ("memory.current", "5000\n"),
            ("memory.stat", "anon 1\ninactive_file 1000\n"),
            ("memory.max", "max\n"),
            ("pids.current", "3\n"),
            ("pids.max", "64\n"),
            ("io.stat", "8:0 rbytes=5 wbytes=6\n"),
        ];
        for (name, content) in files {
            fs::write(directory.path().join(name), content).unwrap();
        }
        let usage = CgroupMeter::version_2(directory.path()).unwrap().read().unwrap();
        let expected = Usage {
            cpu_us: 1500,
            memory: 4000,
            memory_limit: u64::MAX,
            pids: 3,
            pids_limit: 64,
            io_read: 5,
            io_write: 6,
        };
        assert_eq!(usage, expected);
    }
}
