//! What each source has of its share.

use std::collections::HashMap;
use std::time::{Duration, Instant};

use super::rate::{Bucket, Rate};
use super::source::Source;

/// So many sources are told apart at a time, in some hundred kilobytes.
const MOST: usize = 4096;
/// How often the table is looked through for room.
const SWEEP: Duration = Duration::from_secs(1);

/// A bounded table of sources.
///
/// A source is forgotten only when it has no handshake in flight and its bucket
/// is full again: a new bucket is then exactly the same, so nobody gains by being
/// forgotten, and nobody can bring it about by filling the table. While every
/// place is taken by a source that is not at rest, newcomers share one bucket: a
/// flood from very many networks takes the newcomers' share, and not that of
/// sources which are known already. Evicting the least recently used instead
/// would hand fresh buckets to whoever has more networks than the table places.
///
/// The table is looked through at most once in [`SWEEP`], so newcomers do not cost
/// a search each; hashes are keyed with random bytes, so collisions cannot be
/// arranged.
#[derive(Debug)]
pub struct Sources {
    known: HashMap<Source, Share>,
    newcomers: Share,
    most: usize,
    swept: Instant,
}

/// Of one source, or of all newcomers.
#[derive(Clone, Copy, Debug)]
struct Share {
    bucket: Bucket,
    in_flight: usize,
}

/// What one source may have.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Allowance {
    pub rate: Option<Rate>,
    pub in_flight: Option<usize>,
}

/// Whose share a handshake is counted in.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Counted {
    Known(Source),
    Newcomer,
}

/// Which limit is reached.
#[derive(Clone, Copy, PartialEq, Eq, Debug)]
pub enum Exhausted {
    InFlight(usize),
    Rate(Rate),
}

impl Allowance {
    pub fn is_unlimited(&self) -> bool {
        self.rate.is_none() && self.in_flight.is_none()
    }
}

impl Share {
    fn new(now: Instant) -> Self {
        Self {
            bucket: Bucket::full(now),
            in_flight: 0,
        }
    }

    fn is_at_rest(&self, now: Instant) -> bool {
        self.in_flight == 0 && self.bucket.is_full(now)
    }
}

impl Sources {
    pub fn new(now: Instant) -> Self {
        Self::with_room_for(MOST, now)
    }

    fn with_room_for(most: usize, now: Instant) -> Self {
        Self {
            known: HashMap::new(),
            newcomers: Share::new(now),
            most,
            swept: now,
        }
    }

    /// Whether one more handshake may begin; nothing is counted yet.
    pub fn check(
        &mut self,
        source: Source,
        allowance: &Allowance,
        now: Instant,
    ) -> Result<Counted, Exhausted> {
        let counted = self.place(source, now);
        let share = match counted {
            Counted::Known(_) => self.known.get(&source).copied(),
            Counted::Newcomer => Some(self.newcomers),
        };
        let share = share.unwrap_or_else(|| Share::new(now));
        if let Some(most) = allowance.in_flight
            && share.in_flight >= most
        {
            return Err(Exhausted::InFlight(most));
        }
        match allowance.rate {
            Some(rate) if !share.bucket.has_room(rate, now) => Err(Exhausted::Rate(rate)),
            _ => Ok(counted),
        }
    }

    /// What was checked begins.
    pub fn begin(&mut self, counted: Counted, allowance: &Allowance, now: Instant) {
        let share = match counted {
            Counted::Known(source) => self.known.entry(source).or_insert_with(|| Share::new(now)),
            Counted::Newcomer => &mut self.newcomers,
        };
        share.in_flight += 1;
        if let Some(rate) = allowance.rate {
            share.bucket.take(rate, now);
        }
    }

    /// What began is over.
    pub fn end(&mut self, counted: Counted) {
        let share = match counted {
            Counted::Known(source) => self.known.get_mut(&source),
            Counted::Newcomer => Some(&mut self.newcomers),
        };
        // A source with something in flight is never forgotten.
        if let Some(share) = share {
            share.in_flight = share.in_flight.saturating_sub(1);
        }
    }

    fn place(&mut self, source: Source, now: Instant) -> Counted {
        if self.known.contains_key(&source) {
            return Counted::Known(source);
        }
        if self.known.len() >= self.most && now.duration_since(self.swept) >= SWEEP {
            self.swept = now;
            self.known.retain(|_, share| !share.is_at_rest(now));
        }
        if self.known.len() >= self.most {
            return Counted::Newcomer;
        }
        Counted::Known(source)
    }
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const RATE: Rate = Rate {
        per_second: 10,
        burst: 2,
    };
    const RATED: Allowance = Allowance {
        rate: Some(RATE),
        in_flight: None,
    };

    fn source(number: u8) -> Source {
        Source::V4([10, 0, number])
    }

    fn begin(
        sources: &mut Sources,
        source: Source,
        allowance: &Allowance,
        now: Instant,
    ) -> Result<Counted, Exhausted> {
        let counted = sources.check(source, allowance, now)?;
        sources.begin(counted, allowance, now);
        Ok(counted)
    }

    /// One that is over at once.
    fn pass(sources: &mut Sources, source: Source, allowance: &Allowance, now: Instant) {
        let counted = begin(sources, source, allowance, now).unwrap();
        sources.end(counted);
    }

    #[test]
    fn each_source_has_a_share_of_its_own() {
        let now = Instant::now();
        let mut sources = Sources::new(now);
        let allowance = Allowance {
            rate: Some(RATE),
            in_flight: Some(1),
        };
        let counted = begin(&mut sources, source(1), &allowance, now).unwrap();
        assert_eq!(
            begin(&mut sources, source(1), &allowance, now),
            Err(Exhausted::InFlight(1))
        );
        assert!(begin(&mut sources, source(2), &allowance, now).is_ok());
        sources.end(counted);
        pass(&mut sources, source(1), &allowance, now);
        assert_eq!(
            begin(&mut sources, source(1), &allowance, now),
            Err(Exhausted::Rate(RATE))
        );
    }

    #[test]
    fn filling_the_table_frees_nobodys_bucket_and_takes_nobodys_share() {
        let now = Instant::now();
        let mut sources = Sources::with_room_for(2, now);
        // The flooder's first network, emptied, and an honest one.
        for _ in 0..2 {
            pass(&mut sources, source(1), &RATED, now);
        }
        pass(&mut sources, source(2), &RATED, now);
        // Later, but before the first bucket is full.
        let now = now + Duration::from_millis(100);
        for number in 3..100 {
            let counted = begin(&mut sources, source(number), &RATED, now);
            match number {
                3 | 4 => assert_eq!(counted, Ok(Counted::Newcomer)),
                _ => assert_eq!(counted, Err(Exhausted::Rate(RATE))),
            }
        }
        assert!(begin(&mut sources, source(1), &RATED, now).is_ok());
        assert_eq!(
            begin(&mut sources, source(1), &RATED, now),
            Err(Exhausted::Rate(RATE))
        );
        assert!(begin(&mut sources, source(2), &RATED, now).is_ok());
    }

    #[test]
    fn a_source_at_rest_makes_room_and_one_with_a_handshake_in_flight_does_not() {
        let now = Instant::now();
        let mut sources = Sources::with_room_for(2, now);
        pass(&mut sources, source(1), &RATED, now);
        let busy = begin(&mut sources, source(2), &RATED, now).unwrap();
        let later = now + SWEEP;
        let third = begin(&mut sources, source(3), &RATED, later).unwrap();
        assert_eq!(third, Counted::Known(source(3)));
        assert!(sources.known.contains_key(&source(2)) && sources.known.len() == 2);
        sources.end(busy);
    }

    proptest! {
        #[test]
        fn the_table_stays_small_and_what_began_and_ended_leaves_nothing_in_flight(
            steps in proptest::collection::vec((0..20u8, 0..400u64), 1..200),
        ) {
            let mut now = Instant::now();
            let mut sources = Sources::with_room_for(5, now);
            let mut in_flight = Vec::new();
            for (number, pause) in steps {
                now += Duration::from_millis(pause);
                if let Ok(counted) = begin(&mut sources, source(number), &RATED, now) {
                    in_flight.push(counted);
                }
                if pause % 3 == 0 && !in_flight.is_empty() {
                    sources.end(in_flight.remove(0));
                }
                prop_assert!(sources.known.len() <= 5);
            }
            for counted in in_flight {
                sources.end(counted);
            }
            let shares = sources.known.values().chain([&sources.newcomers]);
            prop_assert_eq!(shares.map(|share| share.in_flight).sum::<usize>(), 0);
        }
    }
}
