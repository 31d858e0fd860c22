//! The threads that handshakes run on.
//!
//! rustls' `Signer::sign` is synchronous, so the number of threads bounds the
//! signatures asked for at once: with a signer that takes t, throughput is at
//! most 64/t. Each link to a signer has a pool per role. So a signer that hangs
//! holds up its own handshakes only, and a flood of inbound ones leaves the
//! outbound ones their threads. A queue is bounded by who fills it: each
//! handshake in flight has at most one step in it (`max_handshakes`).

use std::collections::VecDeque;
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::Duration;

use super::step::Step;

const MAX_THREADS: usize = 64;
/// How long a thread without work stays.
const IDLE: Duration = Duration::from_secs(10);

/// The handshakes of one role that one link signs for.
#[derive(Default)]
pub struct Pool {
    queue: Mutex<Queue>,
    filled: Condvar,
}

#[derive(Default)]
struct Queue {
    steps: VecDeque<Step>,
    threads: usize,
    idle: usize,
}

impl Pool {
    /// Has `step` run soon. Never blocks.
    pub fn submit(self: &Arc<Self>, step: Step) {
        let mut queue = self.lock();
        queue.steps.push_back(step);
        if queue.steps.len() <= queue.idle {
            self.filled.notify_one();
        } else if queue.threads < MAX_THREADS {
            // Threads are never joined: Envoy exits under them.
            let thread = std::thread::Builder::new().name("meshkey-hs".to_owned());
            let pool = self.clone();
            match thread.spawn(move || pool.work()) {
                Ok(_) => queue.threads += 1,
                // The threads that there are will get to it.
                Err(_) if queue.threads > 0 => self.filled.notify_one(),
                Err(error) => {
                    let step = queue.steps.pop_back();
                    drop(queue);
                    if let Some(step) = step {
                        step.fail_internally(&format!("cannot start a handshake thread: {error}"));
                    }
                }
            }
        }
    }

    fn work(&self) {
        while let Some(step) = self.next() {
            step.run();
        }
    }

    /// Waits for a step; `None`: there was none for so long that the calling
    /// thread ends.
    fn next(&self) -> Option<Step> {
        let mut queue = self.lock();
        loop {
            if let Some(step) = queue.steps.pop_front() {
                return Some(step);
            }
            queue.idle += 1;
            let (woken, waited) = self
                .filled
                .wait_timeout(queue, IDLE)
                .unwrap_or_else(PoisonError::into_inner);
            queue = woken;
            queue.idle -= 1;
            if waited.timed_out() && queue.steps.is_empty() {
                queue.threads -= 1;
                return None;
            }
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.queue.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
#[path = "pool_tests.rs"]
mod tests;
