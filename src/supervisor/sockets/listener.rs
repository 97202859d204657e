//! Listens for as many as there are places: what a client can open is bounded, so that those who propose cannot take the
//! file descriptors from those who decide; and what one user can open is less than all, so that no user of the socket
//! can hold it shut for the others.

use std::collections::BTreeMap;
use std::io::ErrorKind;
use std::sync::Arc;
use std::time::Duration;

use tokio::net::{UnixListener, UnixStream};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};

use super::access::{Peer, PeerId};
use super::body::Room;

/// How long to wait when the system has no file descriptor left for a connection.
const RETRY: Duration = Duration::from_secs(1);

/// How much of a socket there is.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    /// Connections at once. Who comes when all are taken waits until one is free.
    pub all: usize,
    /// Connections at once of one user. One more is closed at once: left to wait, it would take a place all the same.
    pub each: usize,
}

/// A socket with places.
pub struct Bounded {
    listener: UnixListener,
    each: usize,
    places: Arc<Semaphore>,
    room: Room,
    users: BTreeMap<Option<u32>, User>,
}

/// What one user may have at once.
struct User {
    places: Arc<Semaphore>,
    room: Room,
}

/// A connection, and the places that it takes: one of all, and one of its user's.
pub struct Connection {
    /// The socket itself.
    pub stream: UnixStream,
    /// Who is at its other end.
    pub peer: Peer,
    /// What the bodies of its requests are read into.
    pub room: Room,
    /// For as long as the connection is there.
    pub places: [OwnedSemaphorePermit; 2],
}

impl Bounded {
    /// At most so many connections at once on `listener`.
    pub fn new(listener: UnixListener, Places { all, each }: Places) -> Self {
        let places = Arc::new(Semaphore::new(all));
        Self { listener, each, places, room: Room::for_all(), users: BTreeMap::new() }
    }

    /// The next connection for which there is a place.
    pub async fn accept(&mut self) -> Connection {
        loop {
            // The semaphore is never closed, so there always is a place in the end.
            let Ok(place) = Arc::clone(&self.places).acquire_owned().await else {
                return std::future::pending().await;
            };
            let stream = self.next().await;
            let peer = Peer::of(&stream);
            let uid = peer.0.map(|PeerId { uid, .. }| uid);
            let each = self.each;
            // Users without a connection are forgotten, so there are at most as many as there are places.
            self.users.retain(|_, user| user.places.available_permits() < each);
            let user = self
                .users
                .entry(uid)
                .or_insert_with(|| User { places: Arc::new(Semaphore::new(each)), room: self.room.for_one() });
            match Arc::clone(&user.places).try_acquire_owned() {
                Ok(own) => return Connection { stream, peer, room: user.room.clone(), places: [place, own] },
                Err(_) => tracing::debug!("a connection of user {uid:?} is closed: it has {each} already"),
            }
        }
    }

    async fn next(&self) -> UnixStream {
        loop {
            match self.listener.accept().await {
                Ok((stream, _)) => return stream,
                Err(error) if matches!(error.kind(), ErrorKind::ConnectionAborted | ErrorKind::ConnectionReset) => {}
                Err(error) => {
                    tracing::error!("a connection cannot be accepted: {error}");
                    tokio::time::sleep(RETRY).await;
                }
            }
        }
    }
}
