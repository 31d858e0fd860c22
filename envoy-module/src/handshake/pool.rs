//! The threads that handshakes run on.
//!
//! rustls' `Signer::sign` is synchronous, so the number of threads bounds the
//! signatures asked for at once: with a signer that takes t, throughput is at
//! most 64/t. The queue is bounded by who fills it: each handshake in flight has
//! at most one step in it (`max_handshakes`).

use std::collections::VecDeque;
use std::sync::{Condvar, Mutex, PoisonError};

use super::step::Step;

const MAX_THREADS: usize = 64;

static QUEUE: Mutex<Queue> = Mutex::new(Queue {
    steps: VecDeque::new(),
    threads: 0,
    idle: 0,
});
static FILLED: Condvar = Condvar::new();

struct Queue {
    steps: VecDeque<Step>,
    threads: usize,
    idle: usize,
}

/// Has `step` run soon. Never blocks.
pub fn submit(step: Step) {
    let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    queue.steps.push_back(step);
    if queue.steps.len() <= queue.idle {
        FILLED.notify_one();
    } else if queue.threads < MAX_THREADS {
        // Threads are never joined: Envoy exits under them.
        let thread = std::thread::Builder::new().name("meshkey-hs".to_owned());
        match thread.spawn(work) {
            Ok(_) => queue.threads += 1,
            // The threads that there are will get to it.
            Err(_) if queue.threads > 0 => FILLED.notify_one(),
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

fn work() {
    loop {
        next().run();
    }
}

fn next() -> Step {
    let mut queue = QUEUE.lock().unwrap_or_else(PoisonError::into_inner);
    loop {
        if let Some(step) = queue.steps.pop_front() {
            return step;
        }
        queue.idle += 1;
        queue = FILLED.wait(queue).unwrap_or_else(PoisonError::into_inner);
        queue.idle -= 1;
    }
}
