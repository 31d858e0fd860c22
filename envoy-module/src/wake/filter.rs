//! The `meshkey_waker` network filter: terminal, on a listener of its own.

use std::sync::atomic::{AtomicBool, Ordering};

use super::dialer::Dialer;
use super::worker::Worker;
use crate::abi::{self, Alive, Level, NetworkFilter, log};
use crate::config::WakerConfig;
use crate::stats::{self, Anchored};

/// The configuration of one waker listener.
pub struct WakerListener {
    _dialer: Dialer,
    _stats: Anchored,
    _alive: Alive,
}

impl WakerListener {
    /// In `network_filter_config_new`, on the main thread.
    pub fn new(envoy: *mut std::ffi::c_void, json: &[u8]) -> Result<Self, String> {
        let config = WakerConfig::parse(json)?;
        Ok(Self {
            _dialer: Dialer::start(&config.socket, abi::concurrency())?,
            _stats: stats::anchor(envoy),
            _alive: Alive::new(),
        })
    }
}

/// One waker connection.
pub struct WakerFilter {
    envoy: NetworkFilter,
    /// The worker of the thread that made the filter.
    worker: &'static Worker,
    attached: AtomicBool,
}

impl WakerFilter {
    pub fn new(envoy: NetworkFilter) -> Self {
        Self {
            envoy,
            worker: Worker::current(),
            attached: AtomicBool::new(false),
        }
    }

    /// Makes this connection the one that wakes its worker.
    pub fn connected(&self) {
        let scheduler = self.envoy.scheduler();
        if self.worker.attach(self.envoy.0 as usize, scheduler) {
            self.attached.store(true, Ordering::Relaxed);
            let index = self.envoy.worker_index();
            log(
                Level::Info,
                &format!("worker {index} is woken by meshkey_waker"),
            );
        } else {
            self.envoy.close();
        }
    }

    pub fn close(&self) {
        self.envoy.close();
    }

    /// Nobody has anything to say here.
    pub fn received(&self, count: usize) {
        self.envoy.drain_read_buffer(count);
    }
}

impl Drop for WakerFilter {
    fn drop(&mut self) {
        if *self.attached.get_mut() {
            self.worker.detach(self.envoy.0 as usize);
        }
    }
}
