//! The bytes that connections hold between turns, out of one budget.
//!
//! An idle connection holds none: it takes a buffer when it has something unsent or unfinished and
//! gives it back when it is empty. All of them together keep to a budget by a *dynamic threshold*:
//! a connection may hold at most a share of what is still free, so however many clients stop
//! reading, what is left for the others shrinks but never runs out.
//!
//! Limits: `connections.buffers` (the budget), `connections.high_mark` (the most for one).

/// Capacity of a fresh buffer, and what any connection may hold whatever the others do.
pub const FLOOR_BYTES: usize = 2 * 1024;

/// Bytes of empty buffers kept for the next connection that needs one.
const SPARE_BYTES: usize = 256 * 1024;

/// Part of the free budget one connection may hold.
const SHARE: usize = 4;

/// The budget and the spare buffers.
#[derive(Debug)]
pub struct Buffers {
    budget_bytes: usize,
    high_mark_bytes: usize,
    used_bytes: usize,
    spare_bytes: usize,
    spare: Vec<Vec<u8>>,
}

impl Buffers {
    /// Buffers within a budget, at most `high_mark_bytes` for one connection.
    pub fn new(budget_bytes: usize, high_mark_bytes: usize) -> Buffers {
        Buffers { budget_bytes, high_mark_bytes, used_bytes: 0, spare_bytes: 0, spare: Vec::new() }
    }

    /// Most bytes one connection may hold now before its deliveries wait.
    pub fn high_mark(&self) -> usize {
        let share = self.budget_bytes.saturating_sub(self.used_bytes) / SHARE;
        self.high_mark_bytes.min(share).max(FLOOR_BYTES)
    }

    /// A connection that waited may go on when it holds less than this.
    pub fn low_mark(&self) -> usize {
        self.high_mark() / 4
    }

    /// Bytes held by connections.
    pub fn used(&self) -> usize {
        self.used_bytes
    }

    /// An empty buffer.
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = match self.spare.pop() {
            Some(buffer) => {
                self.spare_bytes = self.spare_bytes.saturating_sub(buffer.capacity());
                buffer
            }
            None => Vec::with_capacity(FLOOR_BYTES),
        };
        self.used_bytes = self.used_bytes.saturating_add(buffer.capacity());
        buffer
    }

    /// Takes a buffer back.
    pub fn give(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        if capacity == 0 {
            return;
        }
        self.used_bytes = self.used_bytes.saturating_sub(capacity);
        if self.spare_bytes + capacity <= SPARE_BYTES {
            buffer.clear();
            self.spare_bytes += capacity;
            self.spare.push(buffer);
        }
    }

    /// A buffer that was taken has grown from one capacity to another.
    pub fn grown(&mut self, from: usize, to: usize) {
        self.used_bytes = self.used_bytes.saturating_sub(from).saturating_add(to);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_that_stop_reading_never_take_the_last_of_the_budget() {
        let mut buffers = Buffers::new(1 << 20, 256 << 10);
        let mut held = Vec::new();
        for _ in 0..40 {
            let mut buffer = buffers.take();
            let before = buffer.capacity();
            buffer.reserve_exact(buffers.high_mark());
            buffers.grown(before, buffer.capacity());
            held.push(buffer);
        }
        assert!(buffers.used() < (1 << 20) + 40 * FLOOR_BYTES * 2);
        assert!(buffers.high_mark() >= FLOOR_BYTES);
    }

    #[test]
    fn a_buffer_given_back_is_used_again_and_free() {
        let mut buffers = Buffers::new(1 << 20, 256 << 10);
        let buffer = buffers.take();
        let address = buffer.as_ptr();
        buffers.give(buffer);
        assert_eq!(buffers.used(), 0);
        let again = buffers.take();
        assert_eq!(again.as_ptr(), address);
    }

    #[test]
    fn large_buffers_are_freed_instead_of_kept() {
        let mut buffers = Buffers::new(8 << 20, 1 << 20);
        let mut buffer = buffers.take();
        let before = buffer.capacity();
        buffer.reserve_exact(1 << 20);
        buffers.grown(before, buffer.capacity());
        buffers.give(buffer);
        assert!(buffers.take().capacity() <= FLOOR_BYTES);
    }
}
