//! The connection to be woken.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, PoisonError};

use super::lowat;
use super::worker::Worker;
use crate::abi::{Level, TransportSocket, log};

/// One connection, as the threads see it that it does not belong to.
pub struct Target {
    /// Read and dereferenced by the connection's own thread only; 0 once closed.
    envoy: AtomicUsize,
    /// For `lowat`; the lock keeps the descriptor open while it is used.
    fd: Mutex<Option<RawFd>>,
    worker: &'static Worker,
}

impl Target {
    /// On the connection's thread.
    pub fn new(envoy: TransportSocket) -> Arc<Self> {
        Arc::new(Self {
            envoy: AtomicUsize::new(envoy.0 as usize),
            fd: Mutex::new(None),
            worker: Worker::current(),
        })
    }

    /// On the connection's thread, once it has a descriptor.
    pub fn has_fd(&self, fd: RawFd) {
        *self.fd.lock().unwrap_or_else(PoisonError::into_inner) = (fd >= 0).then_some(fd);
    }

    /// On the connection's thread, before the descriptor is closed.
    pub fn detach(&self) {
        self.envoy.store(0, Ordering::Relaxed);
        *self.fd.lock().unwrap_or_else(PoisonError::into_inner) = None;
    }

    /// Any thread: has `do_read` and `do_write` called soon.
    pub fn wake(self: &Arc<Self>) {
        if !self.worker.schedule(self) {
            self.provoke();
        }
    }

    /// Any thread.
    pub fn provoke(&self) {
        let fd = self.fd.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(fd) = *fd
            && let Err(error) = lowat::provoke_write_event(fd)
        {
            let detail = format!(
                "cannot wake a connection that is not TCP: {error}; configure a meshkey_waker \
                 listener"
            );
            log(Level::Error, &detail);
        }
    }

    /// On the connection's thread.
    pub fn activate(&self) {
        let envoy = self.envoy.load(Ordering::Relaxed);
        if envoy != 0 {
            let envoy = TransportSocket(envoy as *mut _);
            // Both: reading may be disabled, and there may be nothing to write.
            envoy.set_is_readable();
            envoy.set_is_writable();
        }
    }
}
