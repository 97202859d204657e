//! Images: pulled from a registry of the test's own, and built. These tests fail where there is no daemon, or no
//! `docker-registry`.

mod building;
mod pulling;
mod shipped;
