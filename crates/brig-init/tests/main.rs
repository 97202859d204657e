//! `brig-init` as an ordinary process: what its owner sees of it.
//!
//! What only PID 1 does (killing a whole PID namespace, reading its own cgroup) is not here; brig's tests with a
//! container engine have that.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first thing that is wrong"
)]

mod support;

mod code;
mod ends;
mod files;
mod messages;
mod output;
mod programs;
mod steps;
