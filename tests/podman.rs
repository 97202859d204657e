//! The promises of a sandbox once more, on a Podman of each test's own.

mod cage;
mod life;
mod session;
