//! A channel: what one strand of a connection remembers (specification, class channel).
//!
//! ```text
//!  channel.open        error: channel.close sent
//! -------------> open -----------------------------> closing --channel.close-ok--> gone
//!                  \---- channel.close received, answered -------------------------> gone
//! ```
//! A delivery gets the next number of its channel and stands in the [`Window`] until it is settled.
//!
//! Limits: `amqp.channel_max`, `amqp.max_inflight` deliveries of one consumer.

use super::confirms::Confirms;
use super::publish::Assembly;
use super::transaction::Transaction;
use crate::units::{ConsumerId, Tag};
use std::collections::VecDeque;

/// What publishes and acknowledgements of a channel lead to.
#[derive(Default)]
pub enum Mode {
    /// They take effect at once, and nothing is said of them.
    #[default]
    Plain,
    /// Publishes are confirmed.
    Confirm(Box<Confirms>),
    /// They take effect together at tx.commit.
    Transaction(Box<Transaction>),
}

/// One channel.
pub struct Channel {
    /// Its number.
    pub number: u16,
    /// channel.close was sent; everything but its answer is ignored.
    pub is_closing: bool,
    /// What publishes lead to.
    pub mode: Mode,
    /// A content that is not whole yet.
    pub assembly: Option<Box<Assembly>>,
    /// Deliveries that wait to be settled.
    pub window: Window,
    /// Most unsettled deliveries of a consumer that is started from now on; 0 is no limit.
    pub prefetch: u16,
    /// Most unsettled deliveries of all consumers together; 0 is no limit.
    pub limit: u16,
    /// The client wants no deliveries for now.
    pub is_stopped: bool,
    /// A delivery was turned away because of `limit` or `is_stopped`.
    pub is_stalled: bool,
    /// The queue declared last, which an empty name stands for.
    pub last_queue: Box<str>,
    /// The queue that direct replies come through.
    pub reply_queue: Option<Box<str>>,
}

impl Channel {
    /// A channel that was just opened.
    pub fn new(number: u16) -> Channel {
        Channel {
            number,
            is_closing: false,
            mode: Mode::Plain,
            assembly: None,
            window: Window::default(),
            prefetch: 0,
            limit: 0,
            is_stopped: false,
            is_stalled: false,
            last_queue: "".into(),
            reply_queue: None,
        }
    }

    /// Bytes that are kept of what is not whole or not committed yet.
    pub fn held_bytes(&self) -> usize {
        let assembly = self.assembly.as_ref().map_or(0, |assembly| assembly.held_bytes());
        match &self.mode {
            Mode::Transaction(transaction) => assembly + transaction.held_bytes(),
            _ => assembly,
        }
    }

    /// One more delivery that is to be settled may be sent.
    pub fn has_room(&self) -> bool {
        !self.is_stopped && (self.limit == 0 || self.window.count() < usize::from(self.limit))
    }
}

/// A delivery that waits to be settled.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsettled {
    /// Its number on the channel.
    pub number: u64,
    /// Its name in the broker.
    pub tag: Tag,
    /// Whose it is.
    pub consumer: ConsumerId,
    /// How often it was delivered before.
    pub delivery_count: u8,
}

/// The deliveries of a channel that wait to be settled, by number.
#[derive(Default)]
pub struct Window {
    list: VecDeque<Unsettled>,
    last: u64,
    /// The last number when it was looked for late ones.
    checked: u64,
}

impl Window {
    /// How many wait.
    pub fn count(&self) -> usize {
        self.list.len()
    }

    /// Whether a delivery waits that did when this was asked last.
    pub fn was_waiting(&mut self) -> bool {
        let checked = std::mem::replace(&mut self.checked, self.last);
        self.list.front().is_some_and(|oldest| oldest.number <= checked)
    }

    /// The number of the next delivery.
    pub fn number(&mut self) -> u64 {
        self.last += 1;
        self.last
    }

    /// The delivery numbered last waits.
    pub fn push(&mut self, tag: Tag, consumer: ConsumerId, delivery_count: u8) {
        self.list.push_back(Unsettled { number: self.last, tag, consumer, delivery_count });
    }

    /// Takes out the delivery of a number.
    pub fn take(&mut self, number: u64) -> Option<Unsettled> {
        // Most are settled in order.
        if self.list.front().is_some_and(|first| first.number == number) {
            return self.pop();
        }
        let place = self.list.binary_search_by_key(&number, |unsettled| unsettled.number).ok()?;
        self.list.remove(place)
    }

    /// Takes out the oldest if its number is at most this.
    pub fn take_up_to(&mut self, number: u64) -> Option<Unsettled> {
        match self.list.front() {
            Some(first) if first.number <= number => self.pop(),
            _ => None,
        }
    }

    fn pop(&mut self) -> Option<Unsettled> {
        let first = self.list.pop_front();
        if self.list.is_empty() && self.list.capacity() > KEPT_COUNT {
            // An idle connection keeps little.
            self.list = VecDeque::new();
        }
        first
    }

    /// Whether the number was given to a delivery: then `multiple` may name it.
    pub fn has_sent(&self, number: u64) -> bool {
        number >= 1 && number <= self.last
    }

    /// Puts deliveries back that were taken out.
    pub fn restore(&mut self, taken: impl Iterator<Item = Unsettled>) {
        self.list.extend(taken);
        self.list.make_contiguous().sort_unstable_by_key(|unsettled| unsettled.number);
    }

    /// Forgets everything.
    pub fn clear(&mut self) {
        self.list = VecDeque::new();
    }
}

/// Places of an empty window that are kept.
const KEPT_COUNT: usize = 64;

#[cfg(test)]
mod tests {
    use super::*;

    fn window(count: u64) -> Window {
        let mut window = Window::default();
        for tag in 1..=count {
            window.number();
            window.push(Tag(tag), ConsumerId(0), 0);
        }
        window
    }

    #[test]
    fn deliveries_are_settled_by_number_in_any_order_and_once() {
        let mut window = window(5);
        assert_eq!(window.take(3).map(|unsettled| unsettled.tag), Some(Tag(3)));
        assert_eq!(window.take(3), None);
        assert_eq!(window.take(6), None);
        assert_eq!(window.take(1).map(|unsettled| unsettled.tag), Some(Tag(1)));
        let rest: Vec<u64> = std::iter::from_fn(|| window.take_up_to(4)).map(|other| other.number).collect();
        assert_eq!(rest, [2, 4]);
        assert_eq!(window.count(), 1);
    }
}
