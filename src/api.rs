//! How others speak with the supervisor: HTTP and JSON on two Unix sockets.
//!
//! `agent.sock` is for those who propose, `operator.sock` for those who decide. What goes over them is in [`wire`], and
//! nothing else is; [`client`] is what the command line and the console use.

pub mod client;
pub mod wire;
