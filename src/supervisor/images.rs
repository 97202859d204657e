//! Makes images be there, and tells how that goes.

use std::sync::Arc;
use std::time::Duration;

use brig_core::machine::Event;
use brig_core::profile::Cage;
use tokio::sync::watch;
use tokio::time::sleep;

use super::message::Mailbox;
use crate::engine::Engine;

/// How often a pool's row is told what is being done.
const LINES_EVERY: Duration = Duration::from_millis(100);

/// Resolves an image in a task of its own; ends with [`Event::ImageResolved`].
pub fn resolve(engine: Arc<dyn Engine>, mailbox: Mailbox, profile: String, request: u64, cage: Box<Cage>) {
    // The newest line is the only one that matters, and a build can say more of them than anybody reads.
    let (lines, mut inbox) = watch::channel(String::new());
    let (teller, name) = (mailbox.clone(), profile.clone());
    tokio::spawn(async move {
        while inbox.changed().await.is_ok() {
            let line = inbox.borrow_and_update().clone();
            teller.event(Event::ImageProgress { profile: name.clone(), request, line }).await;
            sleep(LINES_EVERY).await;
        }
    });
    tokio::spawn(async move {
        let progress = move |line: &str| drop(lines.send(line.to_owned()));
        let result = engine.resolve_image(&cage, &progress).await;
        if let Ok(image) = &result {
            tracing::info!("profile {profile}: image {} is {} ({:?})", cage.image, image.id, image.source);
        }
        mailbox.event(Event::ImageResolved { profile, request, result }).await;
    });
}
