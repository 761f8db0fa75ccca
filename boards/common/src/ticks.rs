//! A counter that goes round, as time that does not.

/// Adds up a counter of 32 bits. Right as long as it is asked more often than the counter goes round.
#[derive(Clone, Copy, Debug)]
pub struct Ticks {
    last: u32,
    total: u64,
}

impl Ticks {
    /// Begins to count at this reading.
    pub const fn new(reading: u32) -> Ticks {
        Ticks { last: reading, total: 0 }
    }

    /// Ticks since the beginning, at this reading.
    pub fn at(&mut self, reading: u32) -> u64 {
        self.total = self.total.wrapping_add(u64::from(reading.wrapping_sub(self.last)));
        self.last = reading;
        self.total
    }
}
