//! Signatures that have been asked for and not answered yet.

use std::collections::HashMap;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};
use std::sync::{Mutex, PoisonError};

use crate::proto::SignResponse;
use crate::proto::sign_response::Result as Answer;

/// What became of one request.
#[derive(Debug)]
pub enum Outcome {
    Answered(Answer),
    /// The connection went before the answer came.
    Lost,
}

/// Correlates answers, which come in any order, with who waits for them.
#[derive(Default, Debug)]
pub struct Pending {
    last_id: AtomicU64,
    waiting: Mutex<HashMap<u64, SyncSender<Outcome>>>,
}

impl Pending {
    /// A new request: its id, and where its one outcome will arrive.
    pub fn register(&self) -> (u64, Receiver<Outcome>) {
        let id = self.last_id.fetch_add(1, Ordering::Relaxed) + 1;
        let (sender, receiver) = sync_channel(1);
        self.lock().insert(id, sender);
        (id, receiver)
    }

    /// The waiter has given up; a late answer is dropped.
    pub fn forget(&self, id: u64) {
        self.lock().remove(&id);
    }

    pub fn answer(&self, response: SignResponse) {
        let waiter = self.lock().remove(&response.request_id);
        if let (Some(waiter), Some(answer)) = (waiter, response.result) {
            let _ = waiter.send(Outcome::Answered(answer));
        }
    }

    /// The connection is gone: whoever waits is told so.
    pub fn lose_all(&self) {
        for (_, waiter) in self.lock().drain() {
            let _ = waiter.send(Outcome::Lost);
        }
    }

    #[cfg(test)]
    pub fn count(&self) -> usize {
        self.lock().len()
    }

    fn lock(&self) -> std::sync::MutexGuard<'_, HashMap<u64, SyncSender<Outcome>>> {
        self.waiting.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn signed(request_id: u64, byte: u8) -> SignResponse {
        SignResponse {
            request_id,
            result: Some(Answer::Signature(vec![byte])),
        }
    }

    #[test]
    fn answers_out_of_order_reach_their_own_waiter() {
        let pending = Pending::default();
        let (first, first_outcome) = pending.register();
        let (second, second_outcome) = pending.register();
        pending.answer(signed(second, 2));
        pending.answer(signed(first, 1));
        pending.answer(signed(first, 3)); // twice: dropped
        pending.answer(signed(99, 4)); // unknown: dropped
        for (outcome, byte) in [(first_outcome, 1), (second_outcome, 2)] {
            let Outcome::Answered(Answer::Signature(signature)) = outcome.recv().unwrap() else {
                panic!("no signature");
            };
            assert_eq!(signature, [byte]);
        }
    }

    #[test]
    fn a_lost_connection_wakes_every_waiter() {
        let pending = Pending::default();
        let waiting: Vec<_> = (0..3).map(|_| pending.register().1).collect();
        pending.lose_all();
        for outcome in waiting {
            assert!(matches!(outcome.recv().unwrap(), Outcome::Lost));
        }
    }
}
