//! The exit codes of the `brig-init` process. They say how *init* ended; how the run ended is in the fence.

/// Both fences were offered to their streams (a stream that nobody can read any more counts as offered), or stdin
/// ended while init was armed and no run had begun.
pub const DONE: u8 = 0;

/// Something that is not a valid message arrived on stdin. Whatever ran is dead; there is no fence, unless it was the
/// body of a request with a readable nonce: that one is answered with [`crate::wire::Why::BadRequest`].
pub const PROTOCOL: u8 = 2;

/// Stdin ended during a run without an END message: the owner is dead. Whatever ran is dead too; there is no fence.
pub const OWNER_GONE: u8 = 3;

/// The run is over, but nobody read a stream for so long that its fence could not be written.
pub const UNDELIVERED: u8 = 4;

/// The run is over, but some process did not die of SIGKILL in time. No fence is written, because it would claim that
/// nothing runs any more. As PID 1, init's exit leaves the rest to the kernel.
pub const UNKILLABLE: u8 = 5;

/// Init could not arm itself.
pub const SETUP: u8 = 6;

/// An interpreter that was started in advance could not be had, or ended before the request.
pub const INTERPRETER: u8 = 7;
