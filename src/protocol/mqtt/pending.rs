//! Confirms that wait for the flash.
//!
//! They are kept as the bytes they will be, in order, with marks: everything up to a mark may
//! be sent once the log is durable up to its position. One mark serves all packets of one
//! read, so a publisher with a thousand packets on the way costs four bytes each.

use crate::units::Position;
use std::collections::VecDeque;

/// Bytes of confirms one connection may have waiting: every packet id twice.
const BYTES_MAX: usize = 2 * 4 * 65_536;

/// First byte of a PUBREL.
const PUBREL: u8 = 0x62;

/// Confirms in order, and what they wait for.
#[derive(Default)]
pub struct Pending {
    bytes: Vec<u8>,
    marks: VecDeque<(Position, usize)>,
    /// Bytes behind the last mark, and what they wait for.
    open: Position,
    /// Something other than the release of a delivery is among them.
    owes_confirms: bool,
}

impl Pending {
    /// Nothing waits.
    pub fn is_empty(&self) -> bool {
        self.bytes.is_empty()
    }

    /// A client waits for something it asked for, not only for the release of what it received.
    pub fn owes_confirms(&self) -> bool {
        self.owes_confirms
    }

    /// More waits than a well-behaved client can cause.
    pub fn is_over(&self) -> bool {
        self.bytes.len() > BYTES_MAX
    }

    /// Adds a confirm that waits for a position; it goes to `out` at once if nothing waits
    /// before it and the log is durable that far.
    pub fn push(&mut self, packet: &[u8], position: Position, durable: Position, out: &mut Vec<u8>) {
        if self.bytes.is_empty() && position <= durable {
            out.extend_from_slice(packet);
            return;
        }
        self.bytes.extend_from_slice(packet);
        self.owes_confirms |= packet.first() != Some(&PUBREL);
        self.open = self.open.max(position);
    }

    /// Closes the group of confirms added since the last call.
    pub fn mark(&mut self) {
        let end = self.bytes.len();
        let marked = self.marks.back().map_or(0, |&(_, end)| end);
        if end > marked {
            self.marks.push_back((self.open, end));
        }
    }

    /// Moves everything that is durable to `out`.
    pub fn release(&mut self, durable: Position, out: &mut Vec<u8>) {
        self.mark();
        let mut ready = 0;
        while let Some(&(position, end)) = self.marks.front() {
            if position > durable {
                break;
            }
            ready = end;
            self.marks.pop_front();
        }
        if ready == 0 {
            return;
        }
        out.extend(self.bytes.drain(..ready));
        self.marks.iter_mut().for_each(|(_, end)| *end -= ready);
        if self.bytes.is_empty() {
            // An idle connection keeps nothing.
            *self = Pending::default();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn confirms_leave_in_order_and_not_before_their_position() {
        let (mut pending, mut out) = (Pending::default(), Vec::new());
        pending.push(b"a", Position(10), Position(10), &mut out);
        assert_eq!(out, b"a");
        pending.push(b"b", Position(20), Position(10), &mut out);
        pending.push(b"c", Position(0), Position(10), &mut out);
        pending.mark();
        pending.push(b"d", Position(30), Position(10), &mut out);
        pending.mark();
        assert_eq!(out, b"a");
        pending.release(Position(19), &mut out);
        assert_eq!(out, b"a");
        pending.release(Position(20), &mut out);
        assert_eq!(out, b"abc");
        pending.release(Position(31), &mut out);
        assert_eq!(out, b"abcd");
        assert!(pending.is_empty());
    }

    #[test]
    fn a_release_is_not_owed_as_a_confirm_is() {
        let (mut pending, mut out) = (Pending::default(), Vec::new());
        pending.push(&[PUBREL, 2, 0, 1], Position(10), Position(0), &mut out);
        assert!(!pending.owes_confirms());
        pending.push(&[0x40, 2, 0, 1], Position(10), Position(0), &mut out);
        assert!(pending.owes_confirms());
        pending.release(Position(11), &mut out);
        assert!(!pending.owes_confirms() && out.len() == 8);
    }
}
