//! Methods and contents that a server sends, as frames at the end of a buffer.

use super::frame::{self, BODY, END, HEADER, METHOD, OVERHEAD};
use super::method::MethodId;
use super::table::{push_short, write_table, TableWriter};

/// Writes a method frame; `fill` writes its arguments.
pub fn method(channel: u16, class: u16, method: u16, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    frame::write(METHOD, channel, out, |out| {
        out.extend_from_slice(&class.to_be_bytes());
        out.extend_from_slice(&method.to_be_bytes());
        fill(out);
    });
}

/// Writes a method without arguments.
pub fn plain(channel: u16, class: u16, id: u16, out: &mut Vec<u8>) {
    method(channel, class, id, out, |_| {});
}

/// connection.start.
pub fn connection_start(out: &mut Vec<u8>, properties: impl FnOnce(&mut TableWriter<'_>)) {
    method(0, 10, 10, out, |out| {
        out.extend_from_slice(&[0, 9]);
        write_table(out, properties);
        push_long(out, b"PLAIN AMQPLAIN");
        push_long(out, b"en_US");
    });
}

/// connection.tune.
pub fn connection_tune(channel_max: u16, frame_max: u32, heartbeat_s: u16, out: &mut Vec<u8>) {
    method(0, 10, 30, out, |out| {
        out.extend_from_slice(&channel_max.to_be_bytes());
        out.extend_from_slice(&frame_max.to_be_bytes());
        out.extend_from_slice(&heartbeat_s.to_be_bytes());
    });
}

/// connection.open-ok.
pub fn connection_open_ok(out: &mut Vec<u8>) {
    method(0, 10, 41, out, |out| out.push(0));
}

/// connection.blocked.
pub fn connection_blocked(reason: &str, out: &mut Vec<u8>) {
    method(0, 10, 60, out, |out| push_short(out, reason.as_bytes()));
}

/// connection.close, or channel.close where `channel` is not 0.
pub fn close(channel: u16, code: u16, text: &str, id: MethodId, out: &mut Vec<u8>) {
    let (class, number) = if channel == 0 { (10, 50) } else { (20, 40) };
    method(channel, class, number, out, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        push_short(out, text.as_bytes());
        out.extend_from_slice(&id.class.to_be_bytes());
        out.extend_from_slice(&id.method.to_be_bytes());
    });
}

/// channel.open-ok.
pub fn channel_open_ok(channel: u16, out: &mut Vec<u8>) {
    method(channel, 20, 11, out, |out| out.extend_from_slice(&[0; 4]));
}

/// channel.flow-ok.
pub fn channel_flow_ok(channel: u16, active: bool, out: &mut Vec<u8>) {
    method(channel, 20, 21, out, |out| out.push(u8::from(active)));
}

/// queue.declare-ok.
pub fn queue_declare_ok(channel: u16, queue: &str, messages: u32, consumers: u32, out: &mut Vec<u8>) {
    method(channel, 50, 11, out, |out| {
        push_short(out, queue.as_bytes());
        out.extend_from_slice(&messages.to_be_bytes());
        out.extend_from_slice(&consumers.to_be_bytes());
    });
}

/// queue.purge-ok (31) or queue.delete-ok (41).
pub fn queue_count(channel: u16, id: u16, messages: u32, out: &mut Vec<u8>) {
    method(channel, 50, id, out, |out| out.extend_from_slice(&messages.to_be_bytes()));
}

/// basic.consume-ok (21) or basic.cancel-ok (31).
pub fn basic_tag(channel: u16, id: u16, tag: &str, out: &mut Vec<u8>) {
    method(channel, 60, id, out, |out| push_short(out, tag.as_bytes()));
}

/// basic.cancel, sent because the queue is gone; no answer is wanted.
pub fn basic_cancel(channel: u16, tag: &str, out: &mut Vec<u8>) {
    method(channel, 60, 30, out, |out| {
        push_short(out, tag.as_bytes());
        out.push(1);
    });
}

/// basic.ack of publishes.
pub fn basic_ack(channel: u16, number: u64, multiple: bool, out: &mut Vec<u8>) {
    confirm(channel, 80, number, u8::from(multiple), out);
}

/// basic.nack of publishes.
pub fn basic_nack(channel: u16, number: u64, multiple: bool, out: &mut Vec<u8>) {
    confirm(channel, 120, number, u8::from(multiple), out);
}

fn confirm(channel: u16, id: u8, number: u64, bits: u8, out: &mut Vec<u8>) {
    let [high, low] = channel.to_be_bytes();
    let mut bytes = [METHOD, high, low, 0, 0, 0, 13, 0, 60, 0, id, 0, 0, 0, 0, 0, 0, 0, 0, bits, END];
    if let Some(place) = bytes.get_mut(11..19) {
        place.copy_from_slice(&number.to_be_bytes());
    }
    out.extend_from_slice(&bytes);
}

/// What stands in front of a delivered content.
#[derive(Clone, Copy, Debug)]
pub struct Deliver<'a> {
    /// The channel.
    pub channel: u16,
    /// The consumer's name on it.
    pub consumer_tag: &'a [u8],
    /// The number it is acknowledged with.
    pub number: u64,
    /// It may have been delivered before.
    pub redelivered: bool,
    /// Where it was published to.
    pub exchange: &'a [u8],
    /// With which key.
    pub routing_key: &'a [u8],
}

/// basic.deliver.
pub fn basic_deliver(deliver: &Deliver<'_>, out: &mut Vec<u8>) {
    method(deliver.channel, 60, 60, out, |out| {
        push_short(out, deliver.consumer_tag);
        out.extend_from_slice(&deliver.number.to_be_bytes());
        out.push(u8::from(deliver.redelivered));
        push_short(out, deliver.exchange);
        push_short(out, deliver.routing_key);
    });
}

/// basic.get-ok.
pub fn basic_get_ok(deliver: &Deliver<'_>, remaining: u32, out: &mut Vec<u8>) {
    method(deliver.channel, 60, 71, out, |out| {
        out.extend_from_slice(&deliver.number.to_be_bytes());
        out.push(u8::from(deliver.redelivered));
        push_short(out, deliver.exchange);
        push_short(out, deliver.routing_key);
        out.extend_from_slice(&remaining.to_be_bytes());
    });
}

/// basic.get-empty.
pub fn basic_get_empty(channel: u16, out: &mut Vec<u8>) {
    method(channel, 60, 72, out, |out| out.push(0));
}

/// basic.return.
pub fn basic_return(
    channel: u16,
    code: u16,
    text: &str,
    exchange: &str,
    routing_key: &[u8],
    out: &mut Vec<u8>,
) {
    method(channel, 60, 50, out, |out| {
        out.extend_from_slice(&code.to_be_bytes());
        push_short(out, text.as_bytes());
        push_short(out, exchange.as_bytes());
        push_short(out, routing_key);
    });
}

/// The header of a content; `fill` writes flags and list of its properties.
pub fn content_header(channel: u16, body_size: usize, out: &mut Vec<u8>, fill: impl FnOnce(&mut Vec<u8>)) {
    frame::write(HEADER, channel, out, |out| {
        out.extend_from_slice(&[0, 60, 0, 0]);
        out.extend_from_slice(&(body_size as u64).to_be_bytes());
        fill(out);
    });
}

/// The body of a content, in as many frames as it takes.
pub fn content_body(channel: u16, body: &[u8], frame_max: u32, out: &mut Vec<u8>) {
    let most = (frame_max as usize).saturating_sub(OVERHEAD).max(1);
    let [high, low] = channel.to_be_bytes();
    for piece in body.chunks(most) {
        let [a, b, c, d] = (piece.len() as u32).to_be_bytes();
        out.extend_from_slice(&[BODY, high, low, a, b, c, d]);
        out.extend_from_slice(piece);
        out.push(END);
    }
}

/// Writes a long string.
pub fn push_long(out: &mut Vec<u8>, bytes: &[u8]) {
    out.extend_from_slice(&(bytes.len() as u32).to_be_bytes());
    out.extend_from_slice(bytes);
}
