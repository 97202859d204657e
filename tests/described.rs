//! What is described: the API by OpenAPI, the commands' answers by schemas. What really goes over the sockets and to the
//! standard output is compared with it.

mod commands;
mod requests;

use std::path::{Path, PathBuf};

use serde_json::Value;

/// A file of the repository.
fn path(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join(name)
}

fn is_blessing() -> bool {
    std::env::var_os("BRIG_BLESS").is_some()
}

/// Fails unless the file holds this value; with `BRIG_BLESS=1` it is written.
fn assert_committed(name: &str, value: &Value) {
    let text = format!("{value:#}\n");
    let path = path(name);
    if is_blessing() {
        return std::fs::write(path, text).unwrap();
    }
    let committed = std::fs::read_to_string(path).unwrap();
    if committed != text {
        let mut lines = committed.lines().zip(text.lines());
        let at = lines
            .position(|(old, new)| old != new)
            .unwrap_or_else(|| committed.lines().count().min(text.lines().count()));
        let line = |text: &str| text.lines().nth(at).unwrap_or("(nothing)").trim().to_owned();
        panic!(
            "{name} is not what the code says, from line {}: it has {}, and should have {}. If that is meant: \
             BRIG_BLESS=1 cargo nextest run described",
            at + 1,
            line(&committed),
            line(&text)
        );
    }
}
