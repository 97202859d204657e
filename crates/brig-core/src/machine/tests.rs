//! Tests of the machine: no IO, no async.
