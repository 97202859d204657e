//! Daemons that are somewhere else: over TCP with TLS and over SSH, and what it means that one is not reached.

mod runs;
mod ssh;
mod tls;
mod usage;
