//! The real binary on a real daemon, as its users meet it. These tests fail where there is no daemon.

mod caging;
mod code;
mod deciding;
mod doctor;
mod failing;
mod lending;
mod pooling;
mod records;
mod running;
mod steps;
