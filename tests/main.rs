//! The one integration binary: a module for each area.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first thing that is wrong"
)]

mod budget;
mod cli;
mod described;
mod docker_engine;
mod end_to_end;
mod images;
mod podman;
mod remote;
mod supervisor;
mod terminal;
mod support {
    pub mod brig;
    pub mod docker;
    pub mod fake;
    pub mod fake_daemon;
    pub mod podman;
    pub mod proxy;
    pub mod registry;
    pub mod schema;
    pub mod screen;
    pub mod sshd;
    pub mod tls;
    pub mod world;
}
