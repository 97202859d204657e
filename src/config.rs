//! Settings: files and variables in, validated values out.
//!
//! [`Places`] says where brig's files and sockets are, [`Settings`] is `brig.toml`, and [`profiles::load`] reads the
//! shipped and the user's own profiles. Nothing here guesses: a key that is unknown, a value out of its range or a unit
//! that is missing is one [`brig_core::problem::Problem`] with the file, the line and the column, what is wrong there,
//! and what to write instead.

pub mod places;
pub mod profiles;
pub mod read;
pub mod settings;
pub mod units;

pub use places::Places;
pub use settings::Settings;
