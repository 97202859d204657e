//! The supervisor on a scripted engine: what agents, operators and their consoles notice.

mod consoles;
mod crowding;
mod deciding;
mod ending;
mod engine;
mod history;
mod journal;
mod pools;
mod refused;
mod retention;
mod runs;
mod settings;
mod starting;
mod streams;
