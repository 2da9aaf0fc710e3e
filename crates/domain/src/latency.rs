//! Distributions of how long things took, as the ledger folds them: two places for each doubling of the time, so that each is
//! at most 42 % longer than the one before, from a millisecond to hours in 48 numbers. Does not own the folding (`store`).

/// Places of a distribution.
pub const LATENCY_BUCKETS: usize = 48;

/// The longest time that falls into a place, in milliseconds; the last one takes all that is longer.
#[must_use]
pub fn latency_bound_ms(bucket: usize) -> i64 {
    let doublings = (bucket + 1) as f64 / 2.0;
    (doublings.exp2() - 1.0).ceil() as i64
}

/// The time within which so much of all that was counted took, in milliseconds, rounded up to the bound of its place; `None`
/// where nothing was counted. `share` lies between 0 and 1.
#[must_use]
pub fn latency_percentile_ms(counts: &[i64], share: f64) -> Option<i64> {
    let all: i64 = counts.iter().sum();
    if all <= 0 {
        return None;
    }
    let wanted = ((all as f64 * share).ceil() as i64).clamp(1, all);
    let mut seen = 0;
    let place = counts.iter().position(|count| {
        seen += count;
        seen >= wanted
    });
    place.map(latency_bound_ms)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds_grow_and_reach_hours() {
        let bounds: Vec<i64> = (0..LATENCY_BUCKETS).map(latency_bound_ms).collect();
        assert!(bounds.is_sorted(), "{bounds:?}");
        assert_eq!((bounds[0], bounds[1], bounds[3]), (1, 1, 3));
        assert!(*bounds.last().unwrap() > 4 * 3_600_000);
    }

    #[test]
    fn a_share_of_what_was_counted_took_no_longer() {
        let mut counts = vec![0; LATENCY_BUCKETS];
        assert_eq!(latency_percentile_ms(&counts, 0.5), None);
        (counts[3], counts[20]) = (95, 5);
        let at = |share| latency_percentile_ms(&counts, share).unwrap();
        assert_eq!((at(0.5), at(0.95), at(0.0)), (3, 3, 3));
        assert_eq!((at(0.951), at(0.99), at(1.0)), (latency_bound_ms(20), latency_bound_ms(20), latency_bound_ms(20)));
    }
}
