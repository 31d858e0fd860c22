//! A worker's queue of connections with news.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use super::target::Target;
use crate::abi::Scheduler;
use crate::stats::{self, Gauge};

/// One per thread that owns connections. Leaked: other threads may hold it
/// while its own ends.
#[derive(Debug)]
pub struct Worker(Mutex<Queue>);

#[derive(Debug)]
struct Queue {
    targets: Vec<Arc<Target>>,
    /// A commit is under way whose hook has not run yet.
    committed: bool,
    waker: Option<Waker>,
}

impl Queue {
    /// Has the hook run, if there is anything to be run and a waker. Under the
    /// lock, so that the scheduler cannot be deleted meanwhile.
    fn announce(&mut self) {
        if let Some(waker) = &self.waker
            && !self.committed
            && !self.targets.is_empty()
        {
            self.committed = true;
            waker.scheduler.commit();
        }
    }
}

/// The scheduler of a `meshkey_waker` filter on this thread.
#[derive(Debug)]
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
        queue.announce();
        stats::raise(Gauge::WorkersCovered);
        true
    }

    /// On this thread, when the filter is destroyed. What it should still have
    /// announced is woken another way.
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
            target.wake();
        }
    }

    /// Any thread. `false`: nothing wakes this thread, use another way.
    pub fn schedule(&self, target: &Arc<Target>) -> bool {
        let mut queue = self.lock();
        if queue.waker.is_none() {
            return false;
        }
        queue.targets.push(target.clone());
        queue.announce();
        true
    }

    /// Any thread: nothing wakes this thread now; what does so next has `target`
    /// looked at.
    pub fn keep(&self, target: &Arc<Target>) {
        let mut queue = self.lock();
        // So that it grows no longer than there are connections.
        queue
            .targets
            .retain(|kept| !kept.is_closed() && !Arc::ptr_eq(kept, target));
        queue.targets.push(target.clone());
        queue.announce();
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

#[cfg(test)]
mod tests {
    use std::os::fd::AsRawFd;
    use std::os::unix::net::UnixStream;

    use super::*;
    use crate::abi::fake::{self, seen};
    use crate::abi::{NetworkFilter, TransportSocket};

    const FILTER: usize = 1;

    fn attach() {
        let scheduler = NetworkFilter(FILTER as *mut _).scheduler();
        assert!(Worker::current().attach(FILTER, scheduler));
    }

    fn commits() -> usize {
        seen(|seen| seen.commits)
    }

    fn woken() -> Vec<usize> {
        Worker::current().run();
        seen(|seen| std::mem::take(&mut seen.woken))
    }

    /// A connection that no socket option wakes.
    fn unix(address: usize) -> (Arc<Target>, UnixStream) {
        let target = Target::new(TransportSocket(address as *mut _));
        let stream = UnixStream::pair().unwrap().0;
        target.has_fd(stream.as_raw_fd());
        (target, stream)
    }

    #[test]
    fn what_nothing_can_wake_waits_for_a_waker() {
        fake::install();
        let ((one, _a), (two, _b), (gone, _c)) = (unix(8), unix(16), unix(24));
        for target in [&one, &gone, &one, &two] {
            target.wake();
        }
        gone.detach();
        gone.wake();
        assert_eq!(commits(), 0);
        attach();
        assert_eq!(commits(), 1);
        assert_eq!(woken(), [8, 16]);
        one.wake();
        assert_eq!((commits(), woken()), (2, vec![8]));
    }

    #[test]
    fn what_a_waker_leaves_behind_is_for_the_next() {
        fake::install();
        let (target, _stream) = unix(8);
        attach();
        target.wake();
        Worker::current().detach(FILTER);
        attach();
        assert_eq!((commits(), woken()), (2, vec![8]));
    }

    #[test]
    fn one_commit_announces_all_that_wait() {
        fake::install();
        let ((one, _a), (two, _b)) = (unix(8), unix(16));
        attach();
        one.wake();
        two.wake();
        assert_eq!((commits(), woken()), (1, vec![8, 16]));
    }
}
