//! Locks, taken in one way everywhere.

use std::sync::{Mutex, MutexGuard, PoisonError};

/// A lock whose holders cannot leave anything half done, so that a panic of one does not matter to the next.
pub fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
