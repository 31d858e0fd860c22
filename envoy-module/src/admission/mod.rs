//! Which handshakes may begin, decided before anything is spent on them: a
//! signature above all, of which a token makes some hundred in a second.
//!
//! Whoever sends the first octets of a ClientHello costs a signature, and need
//! not show a certificate before. So what is bounded is not who, but how many: at
//! once and in time, of the listener and of each source.

pub mod rate;
pub mod source;
mod sources;

use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Instant;

use crate::failure::{Failure, Reason};
use rate::{Bucket, Rate};
use source::Source;
use sources::{Counted, Exhausted, Sources};

pub use sources::Allowance;

/// What one listener or cluster may have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    pub in_flight: usize,
    pub rate: Option<Rate>,
    /// Of each source.
    pub source: Allowance,
}

/// The handshakes of one listener or cluster that are in flight, and have been.
#[derive(Debug)]
pub struct Admission {
    limits: Limits,
    state: Mutex<State>,
}

#[derive(Debug)]
struct State {
    in_flight: usize,
    bucket: Bucket,
    sources: Sources,
}

/// A place among those in flight; to be given back once.
#[derive(Debug)]
pub struct Place(Option<Counted>);

impl Admission {
    pub fn new(limits: Limits, now: Instant) -> Self {
        Self {
            limits,
            state: Mutex::new(State {
                in_flight: 0,
                bucket: Bucket::full(now),
                sources: Sources::new(now),
            }),
        }
    }

    /// Whether it matters where a connection comes from.
    pub fn asks_for_source(&self) -> bool {
        !self.limits.source.is_unlimited()
    }

    /// A place, or which limit is in the way. Never waits. What is refused counts
    /// nowhere: a source that is over its limit takes nothing from the listener's
    /// rate, and the listener's nothing from the source's.
    pub fn admit(&self, source: Option<Source>, now: Instant) -> Result<Place, Failure> {
        let (limits, mut state) = (&self.limits, self.state());
        let counted = source
            .map(|source| state.sources.check(source, &limits.source, now))
            .transpose()
            .map_err(source_is_exhausted)?;
        if state.in_flight >= limits.in_flight {
            return Err(listener_is_exhausted(Exhausted::InFlight(limits.in_flight)));
        }
        if let Some(rate) = limits.rate {
            if !state.bucket.has_room(rate, now) {
                return Err(listener_is_exhausted(Exhausted::Rate(rate)));
            }
            state.bucket.take(rate, now);
        }
        if let Some(counted) = counted {
            state.sources.begin(counted, &limits.source, now);
        }
        state.in_flight += 1;
        Ok(Place(counted))
    }

    pub fn give_back(&self, place: &Place) {
        let mut state = self.state();
        state.in_flight -= 1;
        if let Some(counted) = place.0 {
            state.sources.end(counted);
        }
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

fn listener_is_exhausted(exhausted: Exhausted) -> Failure {
    match exhausted {
        Exhausted::InFlight(most) => Failure::new(
            Reason::TooMany,
            format!("too many handshakes in flight (max_handshakes: {most})"),
        ),
        Exhausted::Rate(Rate { per_second, .. }) => Failure::new(
            Reason::RateLimited,
            format!("too many handshakes in a second (handshake_rate: {per_second})"),
        ),
    }
}

fn source_is_exhausted(exhausted: Exhausted) -> Failure {
    match exhausted {
        Exhausted::InFlight(most) => Failure::new(
            Reason::SourceTooMany,
            format!(
                "too many handshakes in flight from one source (source_max_handshakes: {most})"
            ),
        ),
        Exhausted::Rate(Rate { per_second, .. }) => Failure::new(
            Reason::SourceRateLimited,
            format!("too many handshakes in a second from one source (source_rate: {per_second})"),
        ),
    }
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const FLOODER: Option<Source> = Some(Source::V4([192, 0, 2]));
    const HONEST: Option<Source> = Some(Source::V4([198, 51, 100]));

    fn rate(per_second: u32, burst: u32) -> Option<Rate> {
        Some(Rate { per_second, burst })
    }

    fn admission(in_flight: usize, rate: Option<Rate>, source: Allowance) -> (Admission, Instant) {
        let now = Instant::now();
        let limits = Limits {
            in_flight,
            rate,
            source,
        };
        (Admission::new(limits, now), now)
    }

    fn refused(admission: &Admission, source: Option<Source>, now: Instant) -> Reason {
        admission.admit(source, now).unwrap_err().reason
    }

    #[test]
    fn a_place_that_is_given_back_is_free_again() {
        let (admission, now) = admission(1, None, Allowance::default());
        let place = admission.admit(None, now).unwrap();
        assert_eq!(refused(&admission, None, now), Reason::TooMany);
        admission.give_back(&place);
        assert!(admission.admit(None, now).is_ok());
    }

    #[test]
    fn the_rate_of_a_listener_is_for_all_of_its_sources() {
        let (admission, now) = admission(99, rate(10, 2), Allowance::default());
        for source in [FLOODER, HONEST] {
            assert!(admission.admit(source, now).is_ok());
        }
        let failure = admission.admit(None, now).unwrap_err();
        assert_eq!(failure.reason, Reason::RateLimited);
        let detail = "too many handshakes in a second (handshake_rate: 10)";
        assert_eq!(failure.detail, detail);
        assert!(
            admission
                .admit(None, now + Duration::from_millis(100))
                .is_ok()
        );
    }

    #[test]
    fn a_source_over_its_limit_takes_nothing_from_the_others() {
        let allowance = Allowance {
            rate: rate(1, 2),
            in_flight: None,
        };
        let (admission, now) = admission(4, rate(1, 4), allowance);
        for _ in 0..2 {
            assert!(admission.admit(FLOODER, now).is_ok());
        }
        for _ in 0..1000 {
            assert_eq!(refused(&admission, FLOODER, now), Reason::SourceRateLimited);
        }
        for _ in 0..2 {
            assert!(admission.admit(HONEST, now).is_ok());
        }
    }

    #[test]
    fn what_the_listener_refuses_takes_nothing_from_the_source() {
        let allowance = Allowance {
            rate: rate(1, 1),
            in_flight: Some(1),
        };
        let (admission, now) = admission(1, None, allowance);
        let place = admission.admit(FLOODER, now).unwrap();
        assert_eq!(refused(&admission, HONEST, now), Reason::TooMany);
        admission.give_back(&place);
        assert!(admission.admit(HONEST, now).is_ok());
    }

    #[test]
    fn a_source_has_only_so_many_in_flight() {
        let allowance = Allowance {
            rate: None,
            in_flight: Some(2),
        };
        let (admission, now) = admission(4, None, allowance);
        let places = [(); 2].map(|()| admission.admit(FLOODER, now).unwrap());
        assert_eq!(refused(&admission, FLOODER, now), Reason::SourceTooMany);
        assert!(admission.admit(HONEST, now).is_ok());
        admission.give_back(&places[0]);
        assert!(admission.admit(FLOODER, now).is_ok());
    }
}
