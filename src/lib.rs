//! The brig library: everything that the `brig` binary is made of.

pub mod api;
mod archive;
pub mod cli;
pub mod config;
pub mod console;
mod context;
pub mod doctor;
pub mod engine;
pub mod journal;
pub mod supervisor;
mod sync;
