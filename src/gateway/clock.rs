//! The gateway's clock: milliseconds that never go back.

use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use crate::units::Millis;

/// Counts from where log time stood when the store was mounted.
#[derive(Clone, Copy, Debug)]
pub struct Clock {
    base: Millis,
    started: Instant,
}

impl Clock {
    /// A clock that shows `base` now.
    pub fn starting_at(base: Millis) -> Clock {
        Clock { base, started: Instant::now() }
    }

    /// The time.
    pub fn now(&self) -> Millis {
        self.base.after(millis(self.started.elapsed()))
    }
}

/// The wall clock: milliseconds since 1970, whatever it is set to.
pub fn wall() -> Millis {
    Millis(SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, millis))
}

fn millis(span: Duration) -> u64 {
    u64::try_from(span.as_millis()).unwrap_or(u64::MAX)
}
