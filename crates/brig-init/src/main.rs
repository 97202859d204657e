//! `brig-init`: PID 1 inside a sandbox.
//!
//! It arms itself, waits for one request on stdin, runs it, kills whatever is left, says on both streams how it ended,
//! and exits when its owner lets go. The wire format is in [`brig_init::wire`], the exit codes in [`brig_init::exit`].
//!
//! ```text
//!            REQUEST                 last step ended, or a step failed
//!   armed ─────────────▶ running ───────────────────────────────────────▶ killing ──▶ fences ──▶ (end of stdin, 300 ms) ──▶ exit 0
//!     │                    │  │      deadline, CANCEL, bad request, file failed  ▲
//!     │ end of stdin       │  └──────────────────────────────────────────────────┘
//!     ▼                    │ end of stdin without END, or garbage
//!   exit 0                 └──────────────────────▶ killing ──▶ exit 3 or 2
//! ```
//!
//! As PID 1 it kills everything in its PID namespace. As an ordinary process, which is for tests and for engines
//! without PID namespaces, it kills its descendants and nobody else.

mod ahead;
mod armed;
mod exec;
mod fatal;
mod files;
mod inbox;
mod outcome;
mod outlets;
mod plan;
mod reap;
mod run;
mod station;
mod sys;
mod usage;
mod warm;

use std::process::ExitCode;

use brig_init::exit;

use fatal::Fatal;
use reap::Children;
use station::Station;
use warm::Warmed;

fn main() -> ExitCode {
    let ended = armed::station().and_then(|mut station| serve(&mut station));
    match ended {
        Ok(()) => ExitCode::from(exit::DONE),
        Err(fatal) => {
            // Nobody is there to read it when the owner is gone.
            if !matches!(fatal, Fatal::OwnerGone) {
                station::say(&format!("brig-init: {fatal}\n"));
            }
            ExitCode::from(fatal.code())
        }
    }
}

fn serve(station: &mut Station) -> Result<(), Fatal> {
    let mut warm = Warmed::default();
    let heard = armed::arm(station, &mut warm).and_then(|()| armed::wait_for_request(station, &warm));
    let answered = match heard {
        Ok(Some(body)) => run::answer(station, warm, body),
        Ok(None) if warm.is_empty() => return Ok(()),
        Ok(None) => reap::everything(station, &mut Children::none()),
        Err(error) => Err(error),
    };
    if answered.is_err() {
        reap::everything(station, &mut Children::none())?;
    }
    answered
}
