//! Peers that were not let in, in Envoy's log, without letting their number fill
//! a disk.

use std::sync::{Mutex, PoisonError};
use std::time::{Duration, Instant};

use crate::abi::{Level, log};
use crate::failure::{Failure, Reason};
use crate::stats::Role;

const PERIOD: Duration = Duration::from_secs(1);
const LINES_PER_PERIOD: u32 = 100;

static LIMIT: Mutex<Limit> = Mutex::new(Limit::new());

/// A handshake that failed.
pub fn failed(role: Role, failure: &Failure) {
    // Port scanners and TCP health checks are no news.
    let level = match failure.reason {
        Reason::PeerClosed => Level::Info,
        _ => Level::Warn,
    };
    let role = role.as_str();
    limited(level, &format!("{role} handshake failed: {failure}"));
}

/// An established connection that was closed because of what the signer said.
pub fn ended(role: Role, detail: &str) {
    let role = role.as_str();
    limited(Level::Warn, &format!("{role} connection closed: {detail}"));
}

/// A connection that the companion has closed.
pub fn closed(reason: &str) {
    limited(
        Level::Warn,
        &format!("meshkey_peer closed a connection: {reason}"),
    );
}

/// Logs one line, if there is room; the counters have those that are left out.
fn limited(level: Level, line: &str) {
    let admitted = LIMIT
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .admit(Instant::now());
    let Some(left_out) = admitted else {
        return;
    };
    if left_out > 0 {
        log(
            Level::Warn,
            &format!("{left_out} more failed or closed connections were not logged"),
        );
    }
    log(level, line);
}

struct Limit {
    begin: Option<Instant>,
    lines: u32,
    left_out: u64,
}

impl Limit {
    const fn new() -> Self {
        Self {
            begin: None,
            lines: 0,
            left_out: 0,
        }
    }

    /// Whether there is room for a line, and how many were left out before it.
    fn admit(&mut self, now: Instant) -> Option<u64> {
        if self.begin.is_none_or(|begin| now - begin >= PERIOD) {
            self.begin = Some(now);
            self.lines = 0;
        }
        if self.lines < LINES_PER_PERIOD {
            self.lines += 1;
            return Some(std::mem::take(&mut self.left_out));
        }
        self.left_out += 1;
        None
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_flood_is_cut_short_and_counted() {
        let (mut limit, now) = (Limit::new(), Instant::now());
        for _ in 0..LINES_PER_PERIOD {
            assert_eq!(limit.admit(now), Some(0));
        }
        for _ in 0..7 {
            assert_eq!(limit.admit(now), None);
        }
        assert_eq!(limit.admit(now + PERIOD), Some(7));
        assert_eq!(limit.admit(now + PERIOD), Some(0));
    }
}
