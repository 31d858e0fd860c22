//! Where the pool leaves a step's result for the worker.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::step::Finished;
use crate::wake::target::Target;

/// Shared by a socket and the steps of its handshake.
pub struct Mailbox {
    finished: Mutex<Option<Finished>>,
    closed: AtomicBool,
    target: Arc<Target>,
}

impl Mailbox {
    pub fn new(target: Arc<Target>) -> Self {
        Self {
            finished: Mutex::new(None),
            closed: AtomicBool::new(false),
            target,
        }
    }

    /// Any thread: leaves the result and wakes the worker; for a closed socket
    /// the result is dropped.
    pub fn deliver(&self, finished: Finished) {
        if self.is_closed() {
            return;
        }
        *self.lock() = Some(finished);
        self.target.wake();
    }

    pub fn take(&self) -> Option<Finished> {
        self.lock().take()
    }

    /// The socket is gone or needs no more results.
    pub fn close(&self) {
        self.closed.store(true, Ordering::Release);
        self.lock().take();
    }

    pub fn is_closed(&self) -> bool {
        self.closed.load(Ordering::Acquire)
    }

    pub fn target(&self) -> &Arc<Target> {
        &self.target
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, Option<Finished>> {
        self.finished.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
