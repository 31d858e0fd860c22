//! Ends handshakes whose peer keeps them waiting.
//!
//! A transport socket has no timer of its own: the I/O thread looks through the
//! deadlines a few times a second and wakes the workers of those that passed.

use std::collections::VecDeque;
use std::sync::{Arc, Mutex, PoisonError, Weak};
use std::time::{Duration, Instant};

use super::mailbox::Mailbox;
use crate::signer::runtime;

const SWEEP: Duration = Duration::from_millis(100);

/// The deadlines of one factory. All its handshakes have the same time, so they
/// expire in the order in which they were added.
#[derive(Default)]
pub struct Deadlines(Mutex<VecDeque<(Instant, Weak<Mailbox>)>>);

impl Deadlines {
    pub fn start() -> Result<Arc<Self>, String> {
        let deadlines = Arc::new(Self::default());
        runtime::handle()?.spawn(sweep(Arc::downgrade(&deadlines)));
        Ok(deadlines)
    }

    pub fn add(&self, deadline: Instant, mailbox: &Arc<Mailbox>) {
        let entry = (deadline, Arc::downgrade(mailbox));
        self.lock().push_back(entry);
    }

    fn expired(&self, now: Instant) -> Vec<Arc<Mailbox>> {
        let mut entries = self.lock();
        let count = entries.iter().take_while(|(at, _)| *at <= now).count();
        let expired = entries.drain(..count);
        expired
            .filter_map(|(_, mailbox)| mailbox.upgrade())
            .collect()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, VecDeque<(Instant, Weak<Mailbox>)>> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

async fn sweep(deadlines: Weak<Deadlines>) {
    loop {
        tokio::time::sleep(SWEEP).await;
        let Some(deadlines) = deadlines.upgrade() else {
            return;
        };
        for mailbox in deadlines.expired(Instant::now()) {
            // Closed: the handshake was done in time, or the socket is gone.
            if !mailbox.is_closed() {
                mailbox.target().wake();
            }
        }
    }
}
