//! Text pieced together in a buffer of a fixed size.

use crate::decimal;

/// What was written so far. What does not fit is left out.
#[derive(Debug)]
pub struct Text<'b> {
    buffer: &'b mut [u8],
    len: usize,
}

impl<'b> Text<'b> {
    /// Writes into this.
    pub fn new(buffer: &'b mut [u8]) -> Text<'b> {
        Text { buffer, len: 0 }
    }

    /// Adds bytes.
    pub fn put(mut self, bytes: &[u8]) -> Self {
        let rest = self.buffer.get_mut(self.len..).unwrap_or_default();
        for (to, byte) in rest.iter_mut().zip(bytes) {
            *to = *byte;
            self.len = self.len.saturating_add(1);
        }
        self
    }

    /// Adds a number.
    pub fn number(mut self, number: u64) -> Self {
        let rest = self.buffer.get_mut(self.len..).unwrap_or_default();
        self.len = self.len.saturating_add(decimal::write(number, rest).len());
        self
    }

    /// All of it.
    pub fn done(self) -> &'b [u8] {
        self.buffer.get(..self.len).unwrap_or_default()
    }
}
