//! What serves the two sockets.
//!
//! `agent.sock` is for those who propose ([`agent`]), `operator.sock` for those who decide ([`operator`]). Both only look,
//! through the mailbox, and ask: the state is not here. What goes over them is in [`crate::api::wire`].

mod access;
mod agent;
mod body;
mod describe;
mod follow;
mod history;
mod images;
mod listener;
mod names;
pub mod openapi;
mod operator;
mod reply;
mod server;

pub use access::Access;
pub use server::{Servers, Services};
