//! Answers in order, those behind one that waits for the flash included.
//!
//! What declares something durable is answered when its record is on flash. Clients match answers with
//! what they asked by their order, so later answers wait behind such a one. Deliveries and confirms do
//! not wait; a consumer whose consume-ok waits gets nothing before it (see `consume`).
//!
//! Limits: [`BYTES_MAX`] for a connection.

use crate::units::Position;
use std::collections::VecDeque;

/// Bytes of answers that may wait.
const BYTES_MAX: usize = 64 * 1024;

/// Answers that wait, and for what.
#[derive(Default)]
pub struct Replies {
    bytes: Vec<u8>,
    /// Position, and the end of the bytes that may be sent once it is durable.
    marks: VecDeque<(Position, usize)>,
}

impl Replies {
    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// More waits than a client that reads its answers can cause.
    pub fn is_over(&self) -> bool {
        self.bytes.len() > BYTES_MAX
    }

    /// Writes an answer that waits for a position: to `out` if nothing has to wait.
    pub fn push(
        &mut self,
        position: Position,
        durable: Position,
        out: &mut Vec<u8>,
        write: impl FnOnce(&mut Vec<u8>),
    ) {
        if self.bytes.is_empty() && position <= durable {
            return write(out);
        }
        write(&mut self.bytes);
        let end = self.bytes.len();
        match self.marks.back_mut() {
            Some((last, old_end)) if *last >= position => *old_end = end,
            _ => self.marks.push_back((position, end)),
        }
    }

    /// Moves what need not wait any more to `out`.
    pub fn release(&mut self, durable: Position, out: &mut Vec<u8>) {
        let mut ready = 0;
        while let Some(&(position, end)) = self.marks.front() {
            if position > durable {
                break;
            }
            ready = end;
            self.marks.pop_front();
        }
        out.extend(self.bytes.drain(..ready));
        self.marks.iter_mut().for_each(|(_, end)| *end -= ready);
        if self.bytes.is_empty() {
            // An idle connection keeps nothing.
            *self = Replies::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_leave_in_order_and_not_before_their_position() {
        let (mut replies, mut out) = (Replies::default(), Vec::new());
        let durable = Position(10);
        replies.push(Position(10), durable, &mut out, |out| out.push(b'a'));
        assert_eq!(out, b"a");
        replies.push(Position(20), durable, &mut out, |out| out.push(b'b'));
        replies.push(Position(0), durable, &mut out, |out| out.push(b'c'));
        replies.push(Position(30), durable, &mut out, |out| out.push(b'd'));
        replies.release(Position(19), &mut out);
        assert_eq!(out, b"a");
        replies.release(Position(20), &mut out);
        assert_eq!(out, b"abc");
        assert!(!replies.is_empty());
        replies.release(Position(30), &mut out);
        assert_eq!(out, b"abcd");
        assert!(replies.is_empty());
    }
}
