//! brig's domain, without any IO: what a proposal is, how it is admitted, decided and run, and how pools are filled.
//!
//! Everything here is a function of its arguments. Time arrives as [`time::Now`], identifiers arrive with events, and
//! what has to be done in the world leaves as [`machine::Effect`]s. The reader's path: [`machine`] holds the state and
//! the picture of it, [`envelope`] says what exactly is approved, [`pool`] does the arithmetic of warm sandboxes.

#![warn(missing_docs)]

pub mod admission;
pub mod blob;
pub mod encoding;
pub mod envelope;
#[cfg(test)]
mod fixtures;
pub mod histogram;
pub mod id;
pub mod journal;
pub mod machine;
pub mod nearest;
pub mod policy;
pub mod pool;
pub mod problem;
pub mod profile;
pub mod proposal;
pub mod retention;
pub mod time;
pub mod visible;
