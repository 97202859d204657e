//! Before the request: everything that can be done in advance, and then waiting.

use std::time::Duration;

use brig_init::wire::Armed;

use crate::ahead;
use crate::fatal::Fatal;
use crate::inbox::Heard;
use crate::outlets::Outlets;
use crate::station::{Outlet, Station};
use crate::sys;
use crate::usage::Meters;
use crate::warm::Warmed;

/// Long enough to be no load at all; when it is over, the waiting begins again.
const A_WHILE: Duration = Duration::from_secs(60 * 60);

/// Makes everything ready, and says so on stdout.
///
/// # Errors
/// [`Fatal::Setup`] when the kernel refuses something, [`Fatal::Interpreter`] when one that is wanted in advance cannot be
/// had, and the errors of a write.
pub fn arm(station: &mut Station, warm: &mut Warmed) -> Result<(), Fatal> {
    warm.start(std::env::args_os().skip(1))?;
    let is_pid_1 = std::process::id() == 1;
    if is_pid_1 {
        ahead::read();
    }
    warm.wait_until_ready(station)?;
    station.deliver(Outlet::Stdout, &Armed::this(is_pid_1).encode())
}

/// What init needs for itself.
///
/// # Errors
/// [`Fatal::Setup`] when the kernel refuses something.
pub fn station() -> Result<Station, Fatal> {
    let is_pid_1 = std::process::id() == 1;
    // Before becoming undumpable, which gives the files in /proc/self to root.
    let meters = Meters::open(is_pid_1);
    let outlets = Outlets::open();
    sys::become_undumpable().map_err(|error| Fatal::Setup("prctl dumpable", error))?;
    if !is_pid_1 {
        sys::become_subreaper().map_err(|error| Fatal::Setup("prctl subreaper", error))?;
    }
    let signals = sys::child_signals().map_err(|error| Fatal::Setup("signalfd", error))?;
    Ok(Station::new(signals, meters, outlets))
}

/// Waits for the body of the request. Nothing when the owner has closed stdin instead.
///
/// # Errors
/// When something else than a request comes, or an interpreter ends before it.
pub fn wait_for_request(station: &mut Station, warm: &Warmed) -> Result<Option<Vec<u8>>, Fatal> {
    loop {
        match station.wait(A_WHILE)? {
            Heard::Request(body) => return Ok(Some(body)),
            Heard::Goodbye => return Ok(None),
            Heard::Ping => station.deliver(Outlet::Stdout, &Armed::this(std::process::id() == 1).encode())?,
            Heard::Nothing | Heard::Cancel => warm.check()?,
        }
    }
}
