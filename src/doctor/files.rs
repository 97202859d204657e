//! Directories, the disk and the journal.

use std::os::unix::fs::MetadataExt as _;
use std::path::Path;

use brig_core::problem::{Code, Problem};
use rustix::fs::{Access, access, statvfs};

use super::{Check, Status};
use crate::config::{Places, units};
use crate::journal::Reader;
use crate::supervisor::process;

/// Less than this and a supervisor may soon be unable to record a verdict: then nothing new runs.
const SCARCE: u64 = 1 << 30;
const TOO_LITTLE: u64 = 64 << 20;

/// Looks at where brig's files are.
pub async fn examine(places: &Places, checks: &mut Vec<Check>) {
    for (what, path, is_private) in [
        ("configuration", places.profiles_dir().parent().map(Path::to_owned).unwrap_or_default(), false),
        ("state", places.state_dir().to_owned(), true),
        ("runtime", places.runtime_dir().to_owned(), true),
    ] {
        checks.push(directory(what, &path, is_private));
    }
    checks.push(disk(places.state_dir()));
    checks.push(journal(&places.journal()).await);
}

fn directory(what: &'static str, path: &Path, is_private: bool) -> Check {
    let shown = path.display();
    let failed = |message: String, help: String| Check::new("files", what, Status::Failed, message).help(help);
    let Ok(found) = std::fs::metadata(path) else {
        if !is_private {
            return Check::ok("files", what, format!("{shown} is not there, and need not be"));
        }
        let above = nearest(path);
        if access(above, Access::WRITE_OK | Access::EXEC_OK).is_ok() {
            return Check::ok("files", what, format!("{shown} is made when a supervisor starts"));
        }
        let message = format!("{shown} is not there, and cannot be made in {}", above.display());
        return failed(message, "make it yourself, or set BRIG_STATE_DIR and BRIG_RUNTIME_DIR".to_owned());
    };
    if !found.is_dir() {
        return failed(format!("{shown} is no directory"), "move it away".to_owned());
    }
    let needed = if is_private {
        Access::READ_OK | Access::WRITE_OK | Access::EXEC_OK
    } else {
        Access::READ_OK | Access::EXEC_OK
    };
    if access(path, needed).is_err() {
        let help = format!("`chown -R {} '{shown}'`, or set another directory", process::user_name(process::uid()));
        return failed(format!("{shown} (mode {:03o}) is not open to this user", found.mode() & 0o777), help);
    }
    if is_private && found.mode() & 0o022 != 0 {
        let message = format!("{shown} can be written by others (mode {:03o})", found.mode() & 0o777);
        return failed(message, format!("`chmod 700 '{shown}'`"));
    }
    Check::ok("files", what, format!("{shown} (mode {:03o})", found.mode() & 0o777))
}

/// The directory that is there, nearest above one that may not be.
fn nearest(path: &Path) -> &Path {
    path.ancestors().find(|path| path.exists()).unwrap_or(Path::new("/"))
}

fn disk(state: &Path) -> Check {
    let Ok(found) = statvfs(nearest(state)) else {
        return Check::warning("files", "disk", format!("cannot ask how full the disk of {} is", state.display()));
    };
    let free = found.f_bavail.saturating_mul(found.f_frsize);
    let message = format!("{} free for the journal", units::size_text(free & !((1 << 20) - 1)));
    let help = "make room: a supervisor that cannot record a verdict runs nothing new";
    match free {
        0..TOO_LITTLE => Check::new("files", "disk", Status::Failed, message).help(help),
        TOO_LITTLE..SCARCE => Check::warning("files", "disk", message).help(help),
        _ => Check::ok("files", "disk", message),
    }
}

async fn journal(path: &Path) -> Check {
    let size = match std::fs::metadata(path) {
        Ok(found) => found.len(),
        Err(_) => return Check::ok("files", "journal", "none yet: the first supervisor begins it"),
    };
    let path = path.to_owned();
    let looking = tokio::task::spawn_blocking(move || Reader::look(&path)).await;
    let looked = looking.map_err(|_| Problem::new(Code::Internal, "the journal was not looked at"));
    match looked.and_then(|looked| looked) {
        Ok(version) => {
            let message =
                format!("opens, version {version}, {} KiB; `brig audit verify` checks its chain", size / 1024);
            Check::ok("files", "journal", message)
        }
        Err(problem) => Check::failed("files", "journal", &problem),
    }
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::PermissionsExt as _;

    use super::*;

    #[test]
    fn a_directory_that_others_can_write_is_no_place_for_a_socket() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("r");
        assert_eq!(directory("runtime", &path, true).status, Status::Ok, "it can be made");
        std::fs::create_dir(&path).unwrap();
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o770)).unwrap();
        let open = directory("runtime", &path, true);
        assert_eq!((open.status, open.help.contains("chmod 700")), (Status::Failed, true), "{open:?}");
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o700)).unwrap();
        assert_eq!(directory("runtime", &path, true).status, Status::Ok);
        let file = home.path().join("file");
        std::fs::write(&file, "").unwrap();
        assert_eq!(directory("state", &file, true).status, Status::Failed);
    }

    #[tokio::test]
    async fn a_file_that_is_no_journal_is_said_to_be_none() {
        let home = tempfile::tempdir().unwrap();
        let path = home.path().join("journal.db");
        assert_eq!(journal(&path).await.status, Status::Ok, "none is begun yet");
        std::fs::write(&path, "not a journal at all, but long enough to be looked at").unwrap();
        assert_eq!(journal(&path).await.status, Status::Failed);
    }
}
