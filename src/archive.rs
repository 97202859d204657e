//! Writes files of this machine as a tar archive, piece by piece, never holding it all.

use std::collections::BTreeMap;
use std::fs::File;
use std::io::{self, Read as _, Write};
use std::path::{Path, PathBuf};

use bytes::Bytes;
use futures_util::stream::{self, Stream};
use rustix::fs::{Mode, OFlags};
use rustix::io::Errno;
use tokio::sync::mpsc;

/// Bytes in one piece of the stream.
const PIECE: usize = 256 << 10;

/// What is at one path of an archive.
#[derive(Debug, PartialEq, Eq)]
pub enum Item {
    /// A directory.
    Directory,
    /// A copy of a file of this machine, of this many bytes, last changed at that second.
    Copy(PathBuf, u64, i64),
    /// Text that brig itself has.
    Text(&'static str),
    /// A symbolic link.
    Link(String),
}

/// Every path of an archive, without the leading slash, with its mode. Ordered, so that a directory comes before what is
/// in it and the same files always make the same archive.
pub type Items = BTreeMap<String, (u32, Item)>;

/// The archive. Reading it is blocking work, done on a thread for that which stays at most a few pieces ahead.
pub fn stream(items: Items) -> impl Stream<Item = io::Result<Bytes>> + Send + 'static {
    let (sender, receiver) = mpsc::channel(4);
    tokio::task::spawn_blocking(move || {
        let pieces = Pieces { sender: sender.clone() };
        // What cannot be read must not look like a short archive. That nobody reads any more is no matter.
        if let Err(error) = write(&items, io::BufWriter::with_capacity(PIECE, pieces)) {
            let _ = sender.blocking_send(Err(error));
        }
    });
    stream::unfold(receiver, |mut receiver| async { receiver.recv().await.map(|piece| (piece, receiver)) })
}

fn write(items: &Items, out: impl Write) -> io::Result<()> {
    let mut archive = tar::Builder::new(out);
    for (path, (mode, item)) in items {
        let mut header = tar::Header::new_gnu();
        header.set_mode(*mode);
        match item {
            Item::Directory => {
                header.set_entry_type(tar::EntryType::Directory);
                header.set_size(0);
                archive.append_data(&mut header, path, io::empty())?;
            }
            Item::Copy(source, size, time) => {
                header.set_size(*size);
                header.set_mtime(u64::try_from(*time).unwrap_or(0));
                let name = |error: io::Error| io::Error::new(error.kind(), format!("{}: {error}", source.display()));
                let mut file = open(source).map_err(name)?.take(*size);
                archive.append_data(&mut header, path, &mut file)?;
                if file.limit() != 0 {
                    return Err(io::Error::other(format!("{} has become shorter", source.display())));
                }
            }
            Item::Text(text) => {
                header.set_size(text.len() as u64);
                archive.append_data(&mut header, path, text.as_bytes())?;
            }
            Item::Link(target) => {
                header.set_entry_type(tar::EntryType::Symlink);
                header.set_size(0);
                archive.append_link(&mut header, path, target)?;
            }
        }
    }
    archive.into_inner()?.flush()
}

/// Opens what is a file itself: no link that has taken its place, and no pipe to wait for.
///
/// # Errors
/// As for any file; also when it is none.
pub fn open(path: &Path) -> io::Result<File> {
    let flags = OFlags::RDONLY | OFlags::NOFOLLOW | OFlags::NONBLOCK | OFlags::CLOEXEC;
    let file = match rustix::fs::open(path, flags, Mode::empty()) {
        Err(Errno::LOOP) => return Err(io::Error::other("it is a link")),
        opened => File::from(opened?),
    };
    if file.metadata()?.is_file() { Ok(file) } else { Err(io::Error::other("it is no file")) }
}

/// Sends what is written to it on, a piece at a time.
struct Pieces {
    sender: mpsc::Sender<io::Result<Bytes>>,
}

impl Write for Pieces {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let piece = Bytes::copy_from_slice(bytes);
        self.sender.blocking_send(Ok(piece)).map_err(|_| io::Error::from(io::ErrorKind::BrokenPipe))?;
        Ok(bytes.len())
    }

    fn flush(&mut self) -> io::Result<()> {
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_that_shrank_is_an_error_and_not_a_short_archive() {
        let directory = tempfile::tempdir().unwrap();
        let source = directory.path().join("x");
        std::fs::write(&source, "four").unwrap();
        let items = Items::from([("x".to_owned(), (0o644, Item::Copy(source, 9, 0)))]);
        assert!(write(&items, Vec::new()).unwrap_err().to_string().contains("shorter"));
    }
}
