//! Outbound: deliveries that wait for the device, by their numbers in the session.
//!
//! ```text
//! acked | in flight: number, tag ... | next number
//! ```
//! A number is used once. What the device did not get is taken back and comes again from the broker
//! under new numbers, so nothing is kept here but tags; the distance of the next delivery says which
//! numbers are void. What the device has is not taken back: where nothing is heard of a delivery the
//! device is asked first, and what it answers is believed, since a line keeps the order.

use super::session::{say, unix_ms, Open};
use crate::command::{Command, Commands, Delivery, Offer, Rejection};
use crate::model::key::{Form, Key};
use crate::units::{Millis, Tag};
use crate::wire::frame::{flag, Bytes, Deliver, Nack, Pong, Verdict};
use crate::wire::{Frame, Seed};
use std::borrow::Cow;
use std::collections::VecDeque;

/// A delivery of which nothing was heard for so long is asked after; doubled up to [`ASK_MAX_MS`].
const ASK_MS: u64 = 3000;
const ASK_MAX_MS: u64 = 30_000;
/// Bytes of a Deliver besides topic and body, at most, with its checksum.
const DELIVER_OVERHEAD: usize = 1 + 5 + 5 + 1 + 10 + 3 + 3 + 4;

/// What is on its way to the device.
#[derive(Debug)]
pub(super) struct Outbound {
    flights: VecDeque<(u32, Tag)>,
    /// Number of the last delivery.
    last: u32,
    acked: u32,
    max_frame: usize,
    /// When the device is asked after the oldest.
    ask_at: Millis,
    ask_pause_ms: u64,
    /// Something was sent, and it is not said yet when the device is asked after it.
    is_fresh: bool,
    /// Deliveries larger than the device takes.
    unfit: Vec<Tag>,
}

impl Outbound {
    pub(super) fn new(max_frame: usize) -> Outbound {
        Outbound {
            flights: VecDeque::new(),
            last: 0,
            acked: 0,
            max_frame,
            ask_at: Millis::NEVER,
            ask_pause_ms: ASK_MS,
            is_fresh: false,
            unfit: Vec::new(),
        }
    }

    pub(super) fn poll_timeout(&self) -> Millis {
        match self.unfit.is_empty() && !self.is_fresh {
            true => self.ask_at,
            false => Millis(0),
        }
    }

    pub(super) fn handle_timeout(
        &mut self,
        seed: Seed,
        now: Millis,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) {
        for tag in std::mem::take(&mut self.unfit) {
            reject(tag, Rejection::DeadLetter, broker);
        }
        if std::mem::take(&mut self.is_fresh) && !self.flights.is_empty() && self.ask_at == Millis::NEVER {
            self.ask_at = now.after(self.ask_pause_ms);
        }
        if now >= self.ask_at {
            say(&Frame::Ping { token: self.last }, seed, out);
            self.ask_at = now.after(self.ask_pause_ms);
            self.ask_pause_ms = (self.ask_pause_ms * 2).min(ASK_MAX_MS);
        }
    }

    /// The device is done with everything up to a number.
    pub(super) fn acked(&mut self, upto: u32, broker: &mut dyn Commands) {
        if upto > self.last {
            return;
        }
        let before = self.flights.len();
        while let Some(&(number, tag)) = self.flights.front().filter(|&&(number, _)| number <= upto) {
            self.flights.pop_front();
            self.acked = number;
            if let Err(refusal) = broker.execute(Command::Ack(tag)) {
                log::debug!("an acknowledgement came too late: {refusal:?}");
            }
        }
        if self.flights.len() < before {
            self.ask_pause_ms = ASK_MS;
        }
        self.ask_at = match self.flights.is_empty() {
            true => Millis::NEVER,
            false => broker.now().after(self.ask_pause_ms),
        };
    }

    /// The device did not accept the one behind `upto`, and passed over what came behind that.
    pub(super) fn nacked(&mut self, nack: &Nack, broker: &mut dyn Commands) {
        self.acked(nack.upto, broker);
        // One that was taken back already is said again by an old Nack.
        if self.flights.front().is_none_or(|&(number, _)| number > nack.seen) {
            return;
        }
        let first = match nack.verdict {
            Verdict::Again => Rejection::Requeue,
            Verdict::Delay(delay_ms) => Rejection::Delay(delay_ms.into()),
            Verdict::DeadLetter => Rejection::DeadLetter,
        };
        self.take_back(first, broker);
    }

    /// The device says how far it is. What was sent before it was asked and is behind that is lost.
    pub(super) fn answered(&mut self, pong: &Pong, broker: &mut dyn Commands) {
        self.acked(pong.upto, broker);
        if self.flights.front().is_some_and(|&(number, _)| number <= pong.token) {
            self.take_back(Rejection::Requeue, broker);
        }
    }

    fn take_back(&mut self, first: Rejection, broker: &mut dyn Commands) {
        let mut rejection = first;
        for (_, tag) in std::mem::take(&mut self.flights) {
            reject(tag, rejection, broker);
            rejection = Rejection::Requeue;
        }
        self.ask_at = Millis::NEVER;
    }
}

fn reject(tag: Tag, rejection: Rejection, broker: &mut dyn Commands) {
    if let Err(refusal) = broker.execute(Command::Reject(tag, rejection)) {
        log::debug!("a rejection came too late: {refusal:?}");
    }
}

impl Open {
    pub(super) fn deliver(&mut self, delivery: &Delivery<'_>, out: &mut Vec<u8>) -> Offer {
        let outbound = &mut self.outbound;
        let topic = topic_of(delivery.message.key);
        let body = delivery.message.body;
        if topic.len() + body.len() + DELIVER_OVERHEAD > outbound.max_frame {
            log::warn!("device {}: a message is larger than it takes and is passed over", self.device);
            outbound.unfit.extend(delivery.tag);
            return Offer::Taken;
        }
        let before = outbound.flights.back().map_or(outbound.acked, |&(number, _)| number);
        let (number, distance) = match delivery.tag {
            Some(tag) => {
                outbound.last = outbound.last.saturating_add(1);
                outbound.flights.push_back((outbound.last, tag));
                (outbound.last, outbound.last.saturating_sub(before))
            }
            None => (0, 0),
        };
        outbound.is_fresh |= number > 0;
        let flags = if delivery.retained { flag::RETAIN } else { 0 }
            | if delivery.redelivered { flag::REDELIVERED } else { 0 };
        let time_ms = (unix_ms(delivery.published) as i64).saturating_sub(self.session_ms as i64);
        let deliver = Deliver { number, distance, flags, time_ms, topic: &topic, body: Bytes(body) };
        say(&Frame::Deliver(deliver), self.seed, out);
        Offer::Taken
    }
}

/// A routing key as a topic.
fn topic_of(key: Key<'_>) -> Cow<'_, str> {
    match key.form {
        Form::Slashes => String::from_utf8_lossy(key.text),
        Form::Dots => {
            let swapped = key.text.iter().map(|&byte| match byte {
                b'.' => b'/',
                b'/' => b'.',
                other => other,
            });
            Cow::Owned(String::from_utf8_lossy(&swapped.collect::<Vec<u8>>()).into_owned())
        }
    }
}
