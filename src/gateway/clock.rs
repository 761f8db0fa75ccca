//! The gateway's clock: log time from the system's clocks.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::time;
use crate::units::Millis;

/// Log time that moved so much more than the monotonic clock has leapt.
const LEAP_MS: u64 = 2000;

/// Log time, and the clocks it follows.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    log: time::Clock,
    started: Instant,
    shown_ms: u64,
    shown: Millis,
}

impl Clock {
    /// Goes on from where log time stood when the store was mounted.
    pub fn going_on_from(last: Millis) -> Clock {
        let mut clock =
            Clock { log: time::Clock::new(last, 0), started: Instant::now(), shown_ms: 0, shown: last };
        clock.tick();
        clock
    }

    /// The time, and whether it leapt: the time without power was added because the wall clock is
    /// set at last.
    pub fn tick(&mut self) -> (Millis, bool) {
        let passed_ms = millis(self.started.elapsed());
        let unix_ms = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis);
        let now = self.log.tick(passed_ms, unix_ms);
        let leapt = now.since(self.shown) > passed_ms.saturating_sub(self.shown_ms) + LEAP_MS;
        (self.shown_ms, self.shown) = (passed_ms, now);
        (now, leapt)
    }
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
