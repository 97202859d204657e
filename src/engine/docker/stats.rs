//! What a sandbox uses, as the daemon tells it: for those whose control groups cannot be read from here.
//!
//! Always as a stream. Each question of its own takes the daemon a second, as it waits for a second value; a stream costs
//! it 1.6 ms of CPU for each container and second.

use std::sync::Arc;

use bollard::models::{ContainerBlkioStatEntry, ContainerStatsResponse};
use bollard::query_parameters::StatsOptionsBuilder;
use futures_util::future::ready;
use futures_util::stream::{self, BoxStream, StreamExt as _};

use super::Shared;
use crate::engine::Usage;

/// See [`crate::engine::Engine::usage`].
pub fn usage<'a>(shared: &'a Arc<Shared>, container: &'a str) -> BoxStream<'a, Usage> {
    stream::once(async move {
        let Ok(link) = shared.link().await else { return stream::empty().boxed() };
        let options = StatsOptionsBuilder::new().stream(true).build();
        link.docker.stats(container, Some(options)).boxed()
    })
    .flatten()
    .take_while(|item| ready(item.is_ok()))
    .filter_map(|item| ready(item.ok().and_then(counters)))
    .boxed()
}

/// `None` for a container that has just ended: the daemon then tells of one that uses nothing.
fn counters(stats: ContainerStatsResponse) -> Option<Usage> {
    let cpu = stats.cpu_stats?.cpu_usage?.total_usage.filter(|used| *used > 0)?;
    let memory = stats.memory_stats.unwrap_or_default();
    let kinds = memory.stats.unwrap_or_default();
    // Page cache that can be given back at once, as versions 1 and 2 of control groups call it.
    let cache = kinds.get("total_inactive_file").or_else(|| kinds.get("inactive_file")).copied().unwrap_or(0);
    let pids = stats.pids_stats.unwrap_or_default();
    let io = stats.blkio_stats.unwrap_or_default().io_service_bytes_recursive.unwrap_or_default();
    Some(Usage {
        cpu_us: cpu / 1000,
        memory: memory.usage.unwrap_or(0).saturating_sub(cache),
        memory_limit: memory.limit.unwrap_or(u64::MAX),
        pids: pids.current.unwrap_or(0),
        pids_limit: pids.limit.filter(|limit| *limit > 0).unwrap_or(u64::MAX),
        io_read: sum(&io, "read"),
        io_write: sum(&io, "write"),
    })
}

/// Version 1 spells its words with a capital.
fn sum(entries: &[ContainerBlkioStatEntry], kind: &str) -> u64 {
    let of_kind =
        |entry: &&ContainerBlkioStatEntry| entry.op.as_deref().is_some_and(|op| op.eq_ignore_ascii_case(kind));
    entries.iter().filter(of_kind).filter_map(|entry| entry.value).sum()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_versions_of_control_groups_are_understood() {
        let read = |text: &str| counters(serde_json::from_str(text).unwrap());
        let first = r#"{"cpu_stats":{"cpu_usage":{"total_usage":5000}},"pids_stats":{"current":3,"limit":64},
            "memory_stats":{"usage":100,"limit":1000,"stats":{"total_inactive_file":30,"inactive_file":1}},
            "blkio_stats":{"io_service_bytes_recursive":[{"op":"Read","value":7},{"op":"Write","value":2},
            {"op":"Read","value":1},{"op":"Total","value":10}]}}"#;
        let used =
            Usage { cpu_us: 5, memory: 70, memory_limit: 1000, pids: 3, pids_limit: 64, io_read: 8, io_write: 2 };
        assert_eq!(read(first), Some(used));
        let second = r#"{"cpu_stats":{"cpu_usage":{"total_usage":5000}},
            "memory_stats":{"usage":100,"limit":1000,"stats":{"inactive_file":30}},
            "blkio_stats":{"io_service_bytes_recursive":[{"op":"write","value":2}]}}"#;
        let used = Usage { pids: 0, pids_limit: u64::MAX, io_read: 0, ..used };
        assert_eq!(read(second), Some(used));
        assert_eq!(read(r#"{"cpu_stats":{"cpu_usage":{"total_usage":0}}}"#), None, "it has ended");
        assert_eq!(read("{}"), None);
    }
}
