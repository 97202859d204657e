//! What the owner of a sandbox needs in order to talk with `brig-init`: the wire format and the exit codes.
//!
//! This library is pure: byte slices in, values out, no IO and no `unsafe`. The program itself is `src/main.rs`.
#![forbid(unsafe_code)]
#![warn(missing_docs)]

pub mod exit;
pub mod wire;

/// The version of this init, as it announces itself in [`wire::Armed`]; the package's version.
///
/// It is written down rather than taken from `CARGO_PKG_VERSION`, because brig's build script compiles this crate with
/// plain `rustc`. A test holds the two together.
pub const INIT_VERSION: [u16; 3] = [0, 1, 0];

#[cfg(test)]
mod tests {
    use super::INIT_VERSION;

    #[test]
    fn the_announced_version_is_the_package_version() {
        let [major, minor, patch] = INIT_VERSION;
        assert_eq!(format!("{major}.{minor}.{patch}"), env!("CARGO_PKG_VERSION"));
    }
}
