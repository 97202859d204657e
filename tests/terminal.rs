//! The console in a real pseudo-terminal, on a real supervisor and a real daemon.

mod deciding;
mod harmless;
mod leaving;
mod looking;
