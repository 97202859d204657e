//! Reads ahead what almost every run needs, while nobody waits: the shell, the loader and the C library.
//!
//! The first run in a sandbox would otherwise wait for them. How much that is depends on where images lie: nothing where
//! the kernel has their pages already, several milliseconds where each container has a file system of its own in user
//! space. Nothing is executed here, and nothing depends on any of it being there.

use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};

/// Bytes that are read of one file at most.
const MOST: u64 = 8 << 20;

/// Where C libraries lie, by the names that the usual distributions give them.
const LIBRARIES: [&str; 6] = [
    "/lib/x86_64-linux-gnu/libc.so.6",
    "/lib/aarch64-linux-gnu/libc.so.6",
    "/lib64/libc.so.6",
    "/usr/lib64/libc.so.6",
    "/usr/lib/libc.so.6",
    "/lib/libc.so.6",
];

/// Reads what is there of all that.
pub fn read() {
    let Some(shell) = whole(Path::new("/bin/sh")) else { return };
    // A static shell needs nothing more.
    if let Some(loader) = interpreter(&shell) {
        whole(&loader);
        whole(Path::new("/etc/ld.so.cache"));
        LIBRARIES.iter().find_map(|library| whole(Path::new(library)));
    }
}

fn whole(path: &Path) -> Option<Vec<u8>> {
    let mut bytes = Vec::new();
    File::open(path).ok()?.take(MOST).read_to_end(&mut bytes).ok()?;
    Some(bytes)
}

/// The loader that an ELF file of 64 bits and this machine's byte order names (`PT_INTERP` in elf(5)).
fn interpreter(elf: &[u8]) -> Option<PathBuf> {
    const PT_INTERP: u64 = 3;
    elf.strip_prefix(b"\x7fELF\x02")?;
    let (table, size, count) = (number(elf, 32, 8)?, number(elf, 54, 2)?, number(elf, 56, 2)?);
    let entry =
        (0..count).map(|at| table.saturating_add(at * size)).find(|entry| number(elf, *entry, 4) == Some(PT_INTERP))?;
    let (begin, length) = (number(elf, entry.saturating_add(8), 8)?, number(elf, entry.saturating_add(32), 8)?);
    let name = elf.get(usize::try_from(begin).ok()?..usize::try_from(begin.checked_add(length)?).ok()?)?;
    let name = name.split(|byte| *byte == 0).next()?;
    Some(PathBuf::from(std::str::from_utf8(name).ok()?))
}

/// A little-endian number of so many bytes, as both machines that init is made for have it.
fn number(bytes: &[u8], at: u64, width: usize) -> Option<u64> {
    let at = usize::try_from(at).ok()?;
    let bytes = bytes.get(at..at.checked_add(width)?)?;
    Some(bytes.iter().rev().fold(0, |number, byte| number << 8 | u64::from(*byte)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_loader_of_a_program_is_found() {
        let shell = std::fs::read("/bin/sh").unwrap();
        let loader = interpreter(&shell).unwrap();
        assert!(loader.is_absolute() && loader.exists(), "{loader:?}");
    }

    #[test]
    fn what_is_no_program_has_no_loader() {
        assert_eq!(interpreter(b""), None);
        assert_eq!(interpreter(b"#!/bin/sh\n"), None);
        let mut broken = std::fs::read("/bin/sh").unwrap();
        broken[32..40].copy_from_slice(&u64::MAX.to_le_bytes());
        assert_eq!(interpreter(&broken[..200]), None);
    }
}
