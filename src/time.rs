//! Log time: milliseconds since 2020-01-01 UTC that never go back.
//!
//! Delays, TTLs and retention are promises about spans, and the clocks of edge devices are
//! not to be trusted with them: a board without a battery boots in 1970 and jumps by decades
//! when the network comes. Log time therefore follows the monotonic clock while the broker
//! runs, and takes the wall clock's word only for the time it was switched off:
//!
//! - It starts at the last time found in the log.
//! - The first time the wall clock is ahead of it, it moves there, once per boot: that is the
//!   time spent without power (or the beginning of a new store).
//! - A log that began in 1970 never jumps to the true date, since nothing tells how much of
//!   that jump is real; its spans stay right and only its dates are wrong.
//! - After that, steps of the wall clock in either direction change nothing.
//!
//! 40 bits are kept of it, which lasts until 2054.

use crate::units::Millis;

/// 2020-01-01T00:00:00Z in milliseconds of Unix time: where log time begins.
pub const EPOCH_UNIX_MS: u64 = 1_577_836_800_000;

/// A wall clock before this much log time (a day after the epoch) was never set.
const PLAUSIBLE_MS: u64 = 86_400_000;

/// Turns a monotonic and a wall clock into log time.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    now: Millis,
    mono_ms: u64,
    caught_up: bool,
}

impl Clock {
    /// Continues after the last time found in the log (`Millis(0)` for a new store), at this
    /// reading of the monotonic clock.
    pub const fn new(last: Millis, mono_ms: u64) -> Clock {
        Clock { now: last, mono_ms, caught_up: false }
    }

    /// Log time at these readings: any monotonic clock in milliseconds, and Unix time.
    pub fn tick(&mut self, mono_ms: u64, unix_ms: u64) -> Millis {
        let passed_ms = mono_ms.saturating_sub(self.mono_ms);
        self.mono_ms = self.mono_ms.max(mono_ms);
        self.now = self.now.after(passed_ms);
        if !self.caught_up {
            self.catch_up(Millis(unix_ms.saturating_sub(EPOCH_UNIX_MS)));
        }
        self.now
    }

    fn catch_up(&mut self, wall: Millis) {
        let wall_was_set = wall.0 >= PLAUSIBLE_MS;
        let log_is_dated = self.now.0 >= PLAUSIBLE_MS || self.now == Millis(0);
        if wall_was_set && log_is_dated && wall >= self.now {
            self.now = wall;
            self.caught_up = true;
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const DAY_MS: u64 = 86_400_000;
    const IN_2026: u64 = EPOCH_UNIX_MS + 6 * 365 * DAY_MS;

    #[test]
    fn a_new_store_takes_the_wall_clock_and_then_the_monotonic_one() {
        let mut clock = Clock::new(Millis(0), 50);
        let start = clock.tick(50, IN_2026);
        assert_eq!(start, Millis(IN_2026 - EPOCH_UNIX_MS));
        assert_eq!(clock.tick(150, IN_2026 + 10 * 365 * DAY_MS), start.after(100));
        assert_eq!(clock.tick(250, 0), start.after(200));
    }

    #[test]
    fn time_without_power_counts_once_the_wall_clock_is_right() {
        let last = Millis(IN_2026 - EPOCH_UNIX_MS);
        let mut clock = Clock::new(last, 0);
        assert_eq!(clock.tick(1000, 3_000), last.after(1000), "booted in 1970");
        assert_eq!(clock.tick(2000, IN_2026 + DAY_MS), last.after(DAY_MS), "network time came");
        assert_eq!(clock.tick(2000, IN_2026 - DAY_MS), last.after(DAY_MS), "never back");
    }

    #[test]
    fn a_log_that_began_in_1970_keeps_its_spans_when_the_date_comes() {
        let mut clock = Clock::new(Millis(0), 0);
        assert_eq!(clock.tick(5000, 8_000), Millis(5000));
        assert_eq!(clock.tick(6000, IN_2026), Millis(6000));
    }
}
