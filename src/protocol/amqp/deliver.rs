//! Deliveries: from the broker to the client, pushed or fetched.
//!
//! ```text
//! deliver or get-ok (number, key) · header (size, properties) · body, in frames the client takes
//! ```
//! A delivery is written once, straight into what is to be sent; numbers count up on each channel.

use super::channel::Channel;
use super::codec::write::{self, Deliver};
use super::consumers::{Consumer, Fetch, State};
use super::errors::{of_refusal, Fault};
use super::message::{write_properties, Extra};
use super::session::{AmqpSession, Work};
use crate::command::{Delivery, Offer, Outlet, Reply};
use crate::model::key::Form;
use crate::units::{ConsumerId, Position};

impl AmqpSession {
    /// Writes a delivery, or turns it away for now.
    pub(super) fn deliver(&mut self, delivery: &Delivery<'_>, out: &mut Vec<u8>) -> Offer {
        let Some(consumer) = self.consumers.find(delivery.consumer) else { return Offer::Busy };
        if consumer.state != State::Running {
            return Offer::Busy;
        }
        let place = self.channels.get_mut(usize::from(consumer.channel));
        let Some(channel) = place.and_then(|place| place.as_deref_mut()) else { return Offer::Busy };
        let is_held = channel.is_stopped || delivery.tag.is_some() && !channel.has_room();
        if is_held || channel.is_closing {
            channel.is_stalled = true;
            return Offer::Busy;
        }
        let number = number(channel, consumer, delivery);
        self.has_spoken = true;
        let place = Deliver {
            channel: channel.number,
            consumer_tag: consumer.tag.as_bytes(),
            number,
            redelivered: delivery.redelivered,
            exchange: delivery.exchange.as_bytes(),
            routing_key: delivery.message.key.text,
        };
        with_key(place, delivery, |place| write::basic_deliver(place, out));
        write_content(channel.number, consumer, delivery, self.frame_max, out);
        Offer::Taken
    }

    /// Asks the broker for a message for a basic.get, and answers it unless the flash has to be waited for.
    pub(super) fn fetch(
        &mut self,
        channel: &mut Channel,
        fetch: Fetch,
        work: &mut Work<'_>,
    ) -> Result<(), Fault> {
        let frame_max = self.frame_max;
        let Some(consumer) = self.consumers.find(fetch.consumer) else {
            self.reply(Position(0), work, |out| write::basic_get_empty(fetch.channel, out));
            return Ok(());
        };
        let mut basket = Basket { channel, consumer, frame_max, answer: Vec::new(), count_end: 0 };
        let outcome = work.broker.fetch(fetch.consumer, 1, &mut basket);
        let (mut answer, end) = (basket.answer, basket.count_end);
        match outcome {
            Ok(Reply::Fetched { count: 1, remaining }) if end >= 4 => {
                if let Some(place) = answer.get_mut(end - 4..end) {
                    place.copy_from_slice(&remaining.to_be_bytes());
                }
                self.reply(Position(0), work, |out| out.extend_from_slice(&answer));
            }
            Ok(Reply::Wait(_)) => self.consumers.push_fetch(fetch),
            Ok(_) => self.reply(Position(0), work, |out| write::basic_get_empty(fetch.channel, out)),
            Err(refusal) => return Err(of_refusal(refusal, "basic.get")),
        }
        Ok(())
    }

    /// Tries those again that waited for the flash.
    pub(super) fn fetch_again(&mut self, work: &mut Work<'_>) {
        if !self.consumers.is_fetching() {
            return;
        }
        for fetch in self.consumers.take_fetches() {
            let Some(mut channel) = self.take_channel(fetch.channel) else { continue };
            let outcome = self.fetch(&mut channel, fetch, work);
            self.put_channel(channel);
            if let Err(fault) = outcome {
                let id = super::codec::MethodId { class: 60, method: 70 };
                self.fault(fetch.channel, id, fault, work);
            }
        }
    }
}

/// Takes what is fetched for a basic.get.
struct Basket<'b> {
    channel: &'b mut Channel,
    consumer: &'b mut Consumer,
    frame_max: u32,
    answer: Vec<u8>,
    /// Where in the answer the count of messages ends.
    count_end: usize,
}

impl Outlet for Basket<'_> {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        let number = number(self.channel, self.consumer, delivery);
        let place = Deliver {
            channel: self.channel.number,
            consumer_tag: &[],
            number,
            redelivered: delivery.redelivered,
            exchange: delivery.exchange.as_bytes(),
            routing_key: delivery.message.key.text,
        };
        let answer = &mut self.answer;
        with_key(place, delivery, |place| write::basic_get_ok(place, 0, answer));
        self.count_end = answer.len() - 1;
        write_content(self.channel.number, self.consumer, delivery, self.frame_max, answer);
        Offer::Taken
    }

    fn cancelled(&mut self, _owner: u64, _consumer: ConsumerId) {}
}

/// Gives a delivery its number, and remembers it if it is to be settled.
fn number(channel: &mut Channel, consumer: &mut Consumer, delivery: &Delivery<'_>) -> u64 {
    let number = channel.window.number();
    if let Some(tag) = delivery.tag {
        channel.window.push(tag, consumer.id, delivery.delivery_count);
        consumer.unsettled += 1;
    }
    number
}

/// A topic of MQTT is written as the routing key it is.
fn with_key(place: Deliver<'_>, delivery: &Delivery<'_>, write: impl FnOnce(&Deliver<'_>)) {
    let key = delivery.message.key;
    if key.form == Form::Dots {
        return write(&place);
    }
    let respelled: Vec<u8> = key.canonical().collect();
    write(&Deliver { routing_key: &respelled, ..place });
}

fn write_content(
    channel: u16,
    consumer: &Consumer,
    delivery: &Delivery<'_>,
    frame_max: u32,
    out: &mut Vec<u8>,
) {
    let mut extras: [Extra<'_>; 2] = [("", 0); 2];
    let mut count = 0;
    let mut add = |name, number: i64| {
        if let Some(place) = extras.get_mut(count) {
            *place = (name, number);
            count += 1;
        }
    };
    if let (true, Some(offset)) = (consumer.is_stream, delivery.offset) {
        add("x-stream-offset", offset.0 as i64);
    }
    if delivery.delivery_count > 0 {
        add("x-delivery-count", delivery.delivery_count.into());
    }
    let body = delivery.message.body;
    write::content_header(channel, body.len(), out, |out| {
        write_properties(delivery, extras.get(..count).unwrap_or_default(), out);
    });
    write::content_body(channel, body, frame_max, out);
}
