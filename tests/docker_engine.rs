//! The Docker engine, on a real daemon. These tests fail where there is none.

mod code;
pub mod hardening;
mod images;
mod lifecycle;
mod pulling;
mod watching;
