//! The brig library: everything that the `brig` binary is made of.
pub mod api;
pub mod console;
pub mod engine;
