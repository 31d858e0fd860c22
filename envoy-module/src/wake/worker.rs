//! A worker's queue of connections with news.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::target::Target;
use crate::abi::Scheduler;
use crate::stats::{self, Gauge};

/// One per thread that owns connections. Leaked: other threads may hold it
/// while its own ends.
pub struct Worker(Mutex<Queue>);

struct Queue {
    targets: Vec<Arc<Target>>,
    /// A commit is under way whose hook has not run yet.
    committed: bool,
    waker: Option<Waker>,
}

/// The scheduler of a `meshkey_waker` filter on this thread.
struct Waker {
    scheduler: Scheduler,
    /// The filter that it belongs to.
    owner: usize,
}

impl Worker {
    /// The calling thread's.
    pub fn current() -> &'static Self {
        thread_local! {
            static CURRENT: &'static Worker = Box::leak(Box::new(Worker::new()));
        }
        CURRENT.with(|worker| *worker)
    }

    fn new() -> Self {
        Self(Mutex::new(Queue {
            targets: Vec::new(),
            committed: false,
            waker: None,
        }))
    }

    /// On this thread: from now on `scheduler` wakes it. `false` if another
    /// filter already does.
    pub fn attach(&self, owner: usize, scheduler: Scheduler) -> bool {
        let mut queue = self.lock();
        if queue.waker.is_some() {
            return false;
        }
        queue.waker = Some(Waker { scheduler, owner });
        queue.committed = false;
        stats::raise(Gauge::WorkersCovered);
        true
    }

    /// On this thread, when the filter is destroyed. What it should still have
    /// announced is woken the other way.
    pub fn detach(&self, owner: usize) {
        let stranded = {
            let mut queue = self.lock();
            match &queue.waker {
                Some(waker) if waker.owner == owner => queue.waker = None,
                _ => return,
            }
            stats::lower(Gauge::WorkersCovered);
            std::mem::take(&mut queue.targets)
        };
        for target in stranded {
            target.provoke();
        }
    }

    /// Any thread. `false`: nothing wakes this thread, use another way.
    pub fn schedule(&self, target: &Arc<Target>) -> bool {
        let mut queue = self.lock();
        if queue.waker.is_none() {
            return false;
        }
        queue.targets.push(target.clone());
        if !queue.committed {
            queue.committed = true;
            // Under the lock, so that the scheduler cannot be deleted meanwhile.
            if let Some(waker) = &queue.waker {
                waker.scheduler.commit();
            }
        }
        true
    }

    /// On this thread, in the filter's scheduled hook.
    pub fn run(&self) {
        let targets = {
            let mut queue = self.lock();
            queue.committed = false;
            std::mem::take(&mut queue.targets)
        };
        for target in targets {
            target.activate();
        }
    }

    fn lock(&self) -> MutexGuard<'_, Queue> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}
