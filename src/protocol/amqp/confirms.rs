//! Confirms: a publish is acknowledged when it is on flash (RabbitMQ's confirm extension).
//!
//! ```text
//! numbers  1 .. confirmed | .. marked (wait for positions) | .. last (published in this read)
//! ```
//! Publishes are numbered from 1. All of one read share a mark: their last number and the position
//! that covers them. After a sync the marks it reached become one basic.ack with `multiple`. A publish
//! that is refused is told at once by basic.nack, before anything behind it is acknowledged.

use super::codec::write;
use crate::units::Position;
use std::collections::VecDeque;

/// Marks one channel may have waiting; beyond it they are joined, which only makes confirms later.
const MARKS_MAX: usize = 4096;

/// What a channel in confirm mode knows of its publishes.
#[derive(Default)]
pub struct Confirms {
    last: u64,
    marked: u64,
    confirmed: u64,
    /// What the publishes behind the last mark wait for.
    open: Position,
    marks: VecDeque<(Position, u64)>,
}

impl Confirms {
    /// The number of the next publish.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The publish numbered last waits for a position.
    pub fn accept(&mut self, position: Position) {
        self.open = self.open.max(position);
    }

    /// The publish numbered last was refused.
    pub fn refuse(&mut self, channel: u16, out: &mut Vec<u8>) {
        write::basic_nack(channel, self.last, false, out);
        // A confirm of all up to it need not come before it.
        if self.last == self.confirmed + 1 {
            self.confirmed = self.last;
            self.marked = self.last;
        }
    }

    /// Nothing waits for the flash.
    pub fn is_empty(&self) -> bool {
        self.marks.is_empty()
    }

    /// Ends a read: what is durable already is confirmed, the rest gets a mark.
    pub fn mark(&mut self, channel: u16, durable: Position, out: &mut Vec<u8>) {
        if self.last == self.marked {
            return;
        }
        self.marked = self.last;
        if self.marks.is_empty() && self.open <= durable {
            return self.confirm(channel, self.last, out);
        }
        let is_full = self.marks.len() >= MARKS_MAX;
        match self.marks.back_mut() {
            Some((position, number)) if *position >= self.open || is_full => {
                *position = self.open.max(*position);
                *number = self.last;
            }
            _ => self.marks.push_back((self.open, self.last)),
        }
    }

    fn confirm(&mut self, channel: u16, number: u64, out: &mut Vec<u8>) {
        if number > self.confirmed {
            write::basic_ack(channel, number, number > self.confirmed + 1, out);
            self.confirmed = number;
        }
    }

    /// Confirms what a sync has made durable.
    pub fn release(&mut self, channel: u16, durable: Position, out: &mut Vec<u8>) {
        let mut number = 0;
        while let Some(&(position, last)) = self.marks.front() {
            if position > durable {
                break;
            }
            number = last;
            self.marks.pop_front();
        }
        self.confirm(channel, number, out);
        if self.marks.is_empty() {
            self.marks = VecDeque::new();
        }
    }

    /// Nothing becomes durable any more: all that waits is refused.
    pub fn give_up(&mut self, channel: u16, out: &mut Vec<u8>) {
        self.marks = VecDeque::new();
        if self.last > self.confirmed {
            write::basic_nack(channel, self.last, self.last > self.confirmed + 1, out);
        }
        self.confirmed = self.last;
        self.marked = self.last;
        self.open = Position(0);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::protocol::amqp::codec::{parse, split, Method, FRAME_MIN};

    /// What was written, such as "ack 3+" for all up to 3.
    fn said(out: &mut Vec<u8>) -> Vec<String> {
        let bytes = std::mem::take(out);
        let (mut rest, mut all) = (&bytes[..], Vec::new());
        while let Ok(Some((frame, size))) = split(rest, FRAME_MIN) {
            let plus = |multiple| if multiple { "+" } else { "" };
            all.push(match parse(frame.payload) {
                Ok((_, Method::BasicAck { number, multiple })) => format!("ack {number}{}", plus(multiple)),
                Ok((_, Method::BasicNack { number, multiple, .. })) => {
                    format!("nack {number}{}", plus(multiple))
                }
                other => panic!("{other:?}"),
            });
            rest = &rest[size..];
        }
        all
    }

    fn publish(confirms: &mut Confirms, position: u64) {
        confirms.number();
        confirms.accept(Position(position));
    }

    #[test]
    fn all_of_one_read_are_confirmed_by_one_frame_after_the_sync() {
        let (mut confirms, mut out) = (Confirms::default(), Vec::new());
        for position in [11, 12, 13] {
            publish(&mut confirms, position);
        }
        confirms.mark(1, Position(10), &mut out);
        publish(&mut confirms, 20);
        confirms.mark(1, Position(10), &mut out);
        confirms.release(1, Position(12), &mut out);
        assert!(said(&mut out).is_empty() && !confirms.is_empty());
        confirms.release(1, Position(13), &mut out);
        assert_eq!(said(&mut out), ["ack 3+"]);
        confirms.release(1, Position(20), &mut out);
        assert_eq!(said(&mut out), ["ack 4"]);
        assert!(confirms.is_empty());
    }

    #[test]
    fn what_need_not_wait_is_confirmed_at_the_end_of_the_read_but_in_order() {
        let (mut confirms, mut out) = (Confirms::default(), Vec::new());
        publish(&mut confirms, 0);
        confirms.mark(1, Position(10), &mut out);
        assert_eq!(said(&mut out), ["ack 1"]);
        publish(&mut confirms, 20);
        confirms.mark(1, Position(10), &mut out);
        publish(&mut confirms, 0);
        confirms.mark(1, Position(10), &mut out);
        assert!(said(&mut out).is_empty());
        confirms.release(1, Position(20), &mut out);
        assert_eq!(said(&mut out), ["ack 3+"]);
    }

    #[test]
    fn a_refused_publish_is_told_before_what_is_behind_it() {
        let (mut confirms, mut out) = (Confirms::default(), Vec::new());
        publish(&mut confirms, 20);
        confirms.number();
        confirms.refuse(1, &mut out);
        publish(&mut confirms, 21);
        confirms.mark(1, Position(10), &mut out);
        assert_eq!(said(&mut out), ["nack 2"]);
        confirms.release(1, Position(21), &mut out);
        assert_eq!(said(&mut out), ["ack 3+"]);
        confirms.number();
        confirms.refuse(1, &mut out);
        confirms.mark(1, Position(21), &mut out);
        assert_eq!(said(&mut out), ["nack 4"]);
    }

    #[test]
    fn when_nothing_becomes_durable_all_that_waits_is_refused() {
        let (mut confirms, mut out) = (Confirms::default(), Vec::new());
        publish(&mut confirms, 20);
        publish(&mut confirms, 21);
        confirms.mark(1, Position(10), &mut out);
        confirms.give_up(1, &mut out);
        assert_eq!(said(&mut out), ["nack 2+"]);
        assert!(confirms.is_empty());
    }
}
