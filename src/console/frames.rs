//! When to draw: at once when nothing was drawn for a while, and else not more often than the eye can follow.

use tokio::time::{Duration, Instant};

/// The time between two frames: 30 a second.
const APART: Duration = Duration::from_millis(33);

/// Brings requests to draw together.
#[derive(Debug, Default)]
pub struct Frames {
    last: Option<Instant>,
    wanted: bool,
}

impl Frames {
    /// The screen may be another one now.
    pub fn request(&mut self) {
        self.wanted = true;
    }

    /// When to draw; nothing if there is nothing to draw.
    #[must_use]
    pub fn due(&self, now: Instant) -> Option<Instant> {
        self.wanted.then(|| self.last.map_or(now, |last| (last + APART).max(now)))
    }

    /// It was drawn.
    pub fn drawn(&mut self, now: Instant) {
        self.last = Some(now);
        self.wanted = false;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_first_request_is_due_at_once_and_a_flood_is_brought_together() {
        let start = Instant::now();
        let mut frames = Frames::default();
        assert_eq!(frames.due(start), None, "nothing is drawn for nothing");
        frames.request();
        assert_eq!(frames.due(start), Some(start));
        frames.drawn(start);
        assert_eq!(frames.due(start), None);
        let mut drawn = 0;
        for ms in 0..1000 {
            let now = start + Duration::from_millis(ms);
            frames.request();
            if frames.due(now).is_some_and(|due| due <= now) {
                frames.drawn(now);
                drawn += 1;
            }
        }
        assert!((29..=31).contains(&drawn), "{drawn} frames in a second");
    }
}
