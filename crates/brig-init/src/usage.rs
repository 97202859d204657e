//! What a run has used: from the sandbox's own cgroup, whose files are opened before any program runs.

use std::fs::{self, File};
use std::os::unix::fs::FileExt;

use crate::sys;

/// The open files, and what they said before the run.
///
/// Only PID 1 looks at a cgroup: it is the sandbox's own then. An ordinary process would count its neighbours, so it
/// asks the kernel about its children instead, as is done for every file that is missing.
pub struct Meters {
    cpu: Option<Meter>,
    memory: Option<Meter>,
    oom: Option<Meter>,
    cpu_before: u64,
    oom_before: u64,
}

/// What was used since [`Meters::begin`].
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Usage {
    pub cpu_us: u64,
    pub peak_memory: u64,
    pub oom_kills: u64,
}

impl Meters {
    /// Opens what there is.
    pub fn open(is_pid_1: bool) -> Meters {
        let mut meters = Meters { cpu: None, memory: None, oom: None, cpu_before: 0, oom_before: 0 };
        if is_pid_1 {
            let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
            // Version 2 first; the unified hierarchy of a mixed system has none of these files.
            meters.cpu = Meter::open(&groups, "", "cpu.stat", Some("usage_usec"), 1)
                .or_else(|| Meter::open(&groups, "cpuacct", "cpuacct.usage", None, 1000));
            meters.memory = Meter::open(&groups, "", "memory.peak", None, 1)
                .or_else(|| Meter::open(&groups, "memory", "memory.max_usage_in_bytes", None, 1));
            meters.oom = Meter::open(&groups, "", "memory.events", Some("oom_kill"), 1)
                .or_else(|| Meter::open(&groups, "memory", "memory.oom_control", Some("oom_kill"), 1));
        }
        meters.begin();
        meters
    }

    /// Counts from here on: what was used before the request is none of the run's.
    pub fn begin(&mut self) {
        self.cpu_before = read(self.cpu.as_ref()).unwrap_or(0);
        self.oom_before = read(self.oom.as_ref()).unwrap_or(0);
    }

    /// What was used until now. To be asked when everything is dead and reaped.
    pub fn read(&self) -> Usage {
        let (children_cpu, children_memory) = sys::usage_of_children();
        Usage {
            cpu_us: read(self.cpu.as_ref()).map_or(children_cpu, |cpu| cpu.saturating_sub(self.cpu_before)),
            // A peak has no difference: it is that of the sandbox's life, which serves one run.
            peak_memory: read(self.memory.as_ref()).unwrap_or(children_memory),
            oom_kills: read(self.oom.as_ref()).map_or(0, |kills| kills.saturating_sub(self.oom_before)),
        }
    }
}

fn read(meter: Option<&Meter>) -> Option<u64> {
    meter?.read()
}

/// One number in one file.
struct Meter {
    file: File,
    /// The line that begins with this, or else the whole file.
    key: Option<&'static str>,
    /// What to divide the number by.
    divisor: u64,
}

impl Meter {
    /// Opens a file of this process's cgroup, if it is there and has the number.
    ///
    /// What `/proc/self/cgroup` says may be the path on the host while the mount shows only the sandbox's own part:
    /// then the file is right at the mount's root.
    fn open(groups: &str, controller: &str, name: &str, key: Option<&'static str>, divisor: u64) -> Option<Meter> {
        let path = groups.lines().find_map(|line| {
            let mut fields = line.splitn(3, ':').skip(1);
            let controllers = fields.next()?;
            controllers.split(',').any(|one| one == controller).then(|| fields.next())?
        })?;
        [path, ""].iter().find_map(|path| {
            let file = File::open(format!("/sys/fs/cgroup/{controller}{path}/{name}")).ok()?;
            let meter = Meter { file, key, divisor };
            meter.read().is_some().then_some(meter)
        })
    }

    fn read(&self) -> Option<u64> {
        let mut buffer = [0; 4096];
        let length = self.file.read_at(&mut buffer, 0).ok()?;
        let text = str::from_utf8(&buffer[..length]).ok()?;
        let number = match self.key {
            None => text,
            Some(key) => text.lines().find_map(|line| line.strip_prefix(key)?.strip_prefix(' '))?,
        };
        Some(number.trim().parse::<u64>().ok()? / self.divisor)
    }
}
