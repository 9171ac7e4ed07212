//! The clock that retention goes by. It is kept with the conversations, because the system's may
//! jump: a board without a battery starts in the past, and a wrong date would otherwise delete
//! everything at once.

use std::time::Duration;

/// How far the clock may move when hobd starts, in seconds: a board that was off for longer needs
/// some starts, or the running time below, to catch up. Until then conversations stay longer.
const AT_START_MAX: u64 = 7 * 24 * 3600;
/// How much faster than time passes the clock may move while hobd runs.
const SPEED_MAX: u32 = 8;

/// The clock after `ran`, which is how long hobd ran since the last look, or `None` at its start.
///
/// It follows the system's clock, forward and back, as far as the bounds let it. A jump that is
/// taken back after an hour has deleted at most what would have been deleted eight hours later, or a
/// week if hobd was started within that hour.
pub(super) fn follow(clock: u64, system: u64, ran: Option<Duration>) -> u64 {
    let bound = match ran {
        None => AT_START_MAX,
        Some(ran) => ran.saturating_mul(SPEED_MAX).as_secs(),
    };
    system.clamp(clock.saturating_sub(bound), clock.saturating_add(bound))
}

#[cfg(test)]
mod tests {
    use proptest::prelude::*;

    use super::*;

    const HOUR: Duration = Duration::from_secs(3600);
    const NOW: u64 = 1_800_000_000;
    const YEAR: u64 = 365 * 24 * 3600;

    #[test]
    fn it_goes_with_the_system_in_ordinary_times() {
        assert_eq!(follow(NOW, NOW + 3600, Some(HOUR)), NOW + 3600);
        // Off over a weekend.
        assert_eq!(follow(NOW, NOW + 200_000, None), NOW + 200_000);
        // Set right by some minutes, in either direction.
        assert_eq!(follow(NOW, NOW - 600, Some(HOUR)), NOW - 600);
    }

    #[test]
    fn a_jump_is_followed_slowly_and_back_again() {
        let ahead = follow(NOW, NOW + 20 * YEAR, Some(HOUR));
        assert_eq!(ahead, NOW + 8 * 3600);
        assert_eq!(follow(ahead, NOW + 3600, Some(HOUR)), NOW + 3600);
        assert_eq!(follow(NOW, 0, Some(HOUR)), NOW - 8 * 3600);
        assert_eq!(follow(NOW, u64::MAX, None), NOW + AT_START_MAX);
    }

    #[test]
    fn after_a_month_off_it_has_caught_up_within_three_days() {
        let mut clock = NOW;
        let mut system = NOW + 30 * 24 * 3600;
        clock = follow(clock, system, None);
        for _ in 0..3 * 24 + 8 {
            system += 3600;
            clock = follow(clock, system, Some(HOUR));
        }
        // 23 days behind, at seven hours an hour.
        assert_eq!(clock, system);
    }

    proptest! {
        #[test]
        fn it_never_leaves_its_bounds(clock: u64, system: u64, seconds: Option<u32>) {
            let ran = seconds.map(|seconds| Duration::from_secs(seconds.into()));
            let next = follow(clock, system, ran);
            let bound = seconds.map_or(AT_START_MAX, |seconds| u64::from(seconds) * 8);
            prop_assert!(next.abs_diff(clock) <= bound);
            prop_assert!(next.abs_diff(system) <= clock.abs_diff(system));
        }
    }
}
