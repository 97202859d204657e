//! The console's tests: what a user would notice. No terminal, no supervisor, except in [`terminal`].

mod decide;
mod move_about;
mod pictures;
mod screen;
mod terminal;
