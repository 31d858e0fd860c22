//! The connection to be woken.

use std::os::fd::RawFd;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Arc, Mutex, Once, PoisonError};

use super::lowat;
use super::worker::Worker;
use crate::abi::{Level, TransportSocket, log};

/// One connection, as the threads see it that it does not belong to.
#[derive(Debug)]
pub struct Target {
    /// Dereferenced by the connection's own thread only; 0 once closed.
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

    /// Any thread: has `do_read` and `do_write` called soon, or else as soon as
    /// something wakes the worker.
    pub fn wake(self: &Arc<Self>) {
        if !self.worker.schedule(self) && !self.provoke() {
            self.worker.keep(self);
        }
    }

    /// Any thread.
    pub fn is_closed(&self) -> bool {
        self.envoy.load(Ordering::Relaxed) == 0
    }

    /// Whether that is all that needs to be done.
    fn provoke(&self) -> bool {
        let fd = self.fd.lock().unwrap_or_else(PoisonError::into_inner);
        let provoked = match *fd {
            Some(fd) => lowat::provoke_write_event(fd),
            None if self.is_closed() => Ok(()),
            None => Err(std::io::Error::other("no file descriptor")),
        };
        provoked.inspect_err(say_what_is_missing).is_ok()
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

/// Once: until the listener is there, it concerns every connection.
fn say_what_is_missing(error: &std::io::Error) {
    static SAID: Once = Once::new();
    SAID.call_once(|| {
        let detail = format!(
            "handshakes on connections that are not TCP wait for a meshkey_waker listener, which \
             must be configured: {error}"
        );
        log(Level::Warn, &detail);
    });
}
