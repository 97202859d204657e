//! stub: no IO, no async.
