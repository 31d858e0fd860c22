//! How often something may begin.

use std::time::{Duration, Instant};

/// A token bucket: `burst` at once, and `per_second` in the long run.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub struct Rate {
    pub per_second: u32,
    pub burst: u32,
}

/// What is left in one bucket, as the moment at which it will be full again
/// (the generic cell rate algorithm): no refilling, no rounding that adds up.
#[derive(Clone, Copy, Debug)]
pub struct Bucket {
    full_at: Instant,
}

impl Rate {
    fn interval(self) -> Duration {
        Duration::from_secs(1) / self.per_second.max(1)
    }
}

impl Bucket {
    pub fn full(now: Instant) -> Self {
        Self { full_at: now }
    }

    /// A full bucket knows nothing that a new one does not.
    pub fn is_full(&self, now: Instant) -> bool {
        self.full_at <= now
    }

    pub fn has_room(&self, rate: Rate, now: Instant) -> bool {
        let (missing, most) = (self.missing(now), rate.interval() * rate.burst);
        missing + rate.interval() <= most
    }

    pub fn take(&mut self, rate: Rate, now: Instant) {
        self.full_at = now + self.missing(now) + rate.interval();
    }

    fn missing(&self, now: Instant) -> Duration {
        self.full_at.saturating_duration_since(now)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    fn admitted(rate: Rate, pauses: &[u64]) -> Vec<u64> {
        let (begin, mut at) = (Instant::now(), 0);
        let mut bucket = Bucket::full(begin);
        let mut admitted = Vec::new();
        for pause in pauses {
            at += pause;
            let now = begin + Duration::from_millis(at);
            if bucket.has_room(rate, now) {
                bucket.take(rate, now);
                admitted.push(at);
            }
        }
        admitted
    }

    #[test]
    fn a_burst_goes_through_and_then_the_rate() {
        let rate = Rate {
            per_second: 10,
            burst: 3,
        };
        assert_eq!(admitted(rate, &[0; 9]), [0, 0, 0]);
        assert_eq!(
            admitted(rate, &[0, 0, 0, 99, 1, 0, 100]),
            [0, 0, 0, 100, 200]
        );
        // However long it was quiet.
        assert_eq!(admitted(rate, &[0, 60_000, 0, 0, 0]).len(), 1 + 3);
    }

    proptest! {
        #[test]
        fn no_window_has_more_than_its_burst_and_its_rate(
            per_second in 1..2000u32,
            burst in 1..50u32,
            pauses in proptest::collection::vec(0..400u64, 1..200),
        ) {
            let rate = Rate { per_second, burst };
            let at = admitted(rate, &pauses);
            for (index, begin) in at.iter().enumerate() {
                for (count, end) in at[index..].iter().enumerate() {
                    let window = (end - begin) as f64 / 1000.0;
                    let most = f64::from(burst) + window * f64::from(per_second);
                    // An interval is rounded down to whole nanoseconds.
                    prop_assert!((count + 1) as f64 <= most * 1.000_01 + 0.001);
                }
            }
        }

        #[test]
        fn whoever_keeps_to_the_rate_is_never_refused(
            per_second in 1..1000u32,
            burst in 1..50u32,
            count in 1..200usize,
        ) {
            let rate = Rate { per_second, burst };
            let pause = u64::from(1000_u32.div_ceil(per_second));
            prop_assert_eq!(admitted(rate, &vec![pause; count]).len(), count);
        }
    }
}
