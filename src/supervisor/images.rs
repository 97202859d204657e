//! Makes images be there, and tells how that goes.

use std::sync::Arc;

use brig_core::machine::Event;
use brig_core::profile::Cage;
use tokio::sync::mpsc;

use super::message::Mailbox;
use crate::engine::Engine;

/// Resolves an image in a task of its own; ends with [`Event::ImageResolved`].
pub fn resolve(engine: Arc<dyn Engine>, mailbox: Mailbox, profile: String, request: u64, cage: Box<Cage>) {
    // The newest line is the only one that matters, so one place is enough and a full one loses nothing of worth.
    let (lines, mut inbox) = mpsc::channel::<String>(1);
    let (teller, name) = (mailbox.clone(), profile.clone());
    tokio::spawn(async move {
        while let Some(line) = inbox.recv().await {
            teller.event(Event::ImageProgress { profile: name.clone(), request, line }).await;
        }
    });
    tokio::spawn(async move {
        let progress = move |line: &str| drop(lines.try_send(line.to_owned()));
        let result = engine.resolve_image(&cage, &progress).await;
        if let Ok(image) = &result {
            tracing::info!("profile {profile}: image {} is {} ({:?})", cage.image, image.id, image.source);
        }
        mailbox.event(Event::ImageResolved { profile, request, result }).await;
    });
}
