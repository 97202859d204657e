//! The files of a request, written before anything runs.

use std::ffi::{CStr, CString};
use std::fs::{File, Permissions};
use std::io::{self, ErrorKind, Write};
use std::os::fd::OwnedFd;
use std::os::unix::fs::PermissionsExt;

use brig_init::wire;

use crate::sys;

/// Writes one file. The directories on the way are created where they are missing, and are walked one by one without
/// following a symbolic link: so the file ends up where its path says and nowhere else.
///
/// # Errors
/// ELOOP for a symbolic link on the way, EEXIST when the file is there already, and what else a kernel can say.
pub fn write(file: &wire::File<'_>, cwd: &CStr) -> io::Result<()> {
    let start = if file.path.starts_with(b"/") { c"/" } else { cwd };
    let mut parts: Vec<&[u8]> =
        file.path.split(|byte| *byte == b'/').filter(|part| !part.is_empty() && *part != b".").collect();
    let Some(name) = parts.pop() else {
        return Err(io::Error::from_raw_os_error(sys::EINVAL));
    };
    let mut directory = sys::open_start(start)?;
    for part in parts {
        directory = enter(&directory, &CString::new(part)?)?;
    }
    let mut created = File::from(sys::create_file(&directory, &CString::new(name)?)?);
    created.write_all(file.content)?;
    // Set last and outright, so that no umask takes part and a mode without `w` does not hinder the writing.
    created.set_permissions(Permissions::from_mode(file.mode))
}

/// Opens a directory below another one, making it if it is not there.
fn enter(parent: &OwnedFd, name: &CStr) -> io::Result<OwnedFd> {
    match sys::open_directory(parent, name) {
        Err(error) if error.kind() == ErrorKind::NotFound => {
            sys::make_directory(parent, name)?;
            sys::open_directory(parent, name)
        }
        // With O_PATH a symbolic link is opened itself, and then is not the directory that was asked for.
        Err(error) if error.raw_os_error() == Some(sys::ENOTDIR) => Err(io::Error::from_raw_os_error(sys::ELOOP)),
        result => result,
    }
}
