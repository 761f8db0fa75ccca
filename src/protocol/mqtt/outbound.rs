//! Outbound: what is delivered to a client, and what it says of it (MQTT 3.1.1, 4.3).
//!
//! ```text
//! QoS 0   PUBLISH                                     nothing is remembered
//! QoS 1   PUBLISH ---> PUBACK                         ack
//! QoS 2   PUBLISH ---> PUBREC   received, on flash
//!         PUBREL  ---> PUBCOMP                        ack
//! ```
//! After a reconnect the broker hands out again what was not acknowledged: a message that was
//! received goes on with its PUBREL, the others with PUBLISH and DUP.

use super::codec::{pubrel, PacketId, Properties, Publish, Qos, Version};
use super::pending::Pending;
use crate::command::{Command, Commands, Delivery, Grade, Offer, Refusal, Reply};
use crate::model::key::{Form, Key};
use crate::protocol::Dialect;
use crate::units::{ConsumerId, Offset, Position, Tag};
use std::collections::VecDeque;

/// Packet ids are 1 to this.
const IDS: u64 = 65_535;

/// A delivery that waits for the client.
struct Outgoing {
    packet: u16,
    offset: Offset,
    tag: Tag,
}

/// The deliveries of one session that wait for the client, in the order they were sent.
#[derive(Default)]
pub struct Window {
    outgoing: VecDeque<Outgoing>,
    /// The next delivery has the packet id of one that still waits.
    stalled: bool,
}

impl Window {
    /// Writes a delivery; Busy if its packet id is still taken.
    pub fn deliver(&mut self, version: Version, delivery: &Delivery<'_>, out: &mut Vec<u8>) -> Offer {
        let (Some(tag), Some(offset)) = (delivery.tag, delivery.offset) else {
            write_publish(version, delivery, None, out);
            return Offer::Taken;
        };
        let oldest = self.outgoing.front().map_or(offset, |oldest| oldest.offset);
        if offset.0.abs_diff(oldest.0) >= IDS {
            self.stalled = true;
            return Offer::Busy;
        }
        let packet = (offset.0 % IDS) as u16 + 1;
        let Some(packet_id) = PacketId::new(packet) else { return Offer::Taken };
        if delivery.received {
            out.extend_from_slice(&pubrel(packet_id));
        } else {
            write_publish(version, delivery, Some(packet_id), out);
        }
        self.outgoing.push_back(Outgoing { packet, offset, tag });
        Offer::Taken
    }

    /// The client has acknowledged a delivery, with PUBACK or PUBCOMP.
    pub fn acked(&mut self, packet: PacketId, consumer: Option<ConsumerId>, broker: &mut dyn Commands) {
        let Some(place) = self.find(packet) else { return };
        let Some(outgoing) = self.outgoing.remove(place) else { return };
        if let Err(refusal) = broker.execute(Command::Ack(outgoing.tag)) {
            log::debug!("an acknowledgement came too late: {refusal:?}");
        }
        if self.outgoing.is_empty() {
            self.outgoing = VecDeque::new();
        }
        if std::mem::take(&mut self.stalled) {
            if let Some(consumer) = consumer {
                let _ = broker.execute(Command::Pause(consumer, false));
            }
        }
    }

    /// The client has a QoS 2 delivery: its release follows when that is on flash.
    pub fn received(
        &mut self,
        packet: PacketId,
        broker: &mut dyn Commands,
        pending: &mut Pending,
        out: &mut Vec<u8>,
    ) {
        let tag = self.find(packet).and_then(|place| self.outgoing.get(place)).map(|outgoing| outgoing.tag);
        // A release for an unknown id completes an exchange that the client still remembers.
        let position = match tag.map(|tag| broker.execute(Command::Received(tag))) {
            Some(Ok(Reply::Done(position))) => position,
            // It stays unreleased, and comes again when the client does: then the store may take writes again.
            Some(Err(Refusal::ReadOnly | Refusal::StoreFull)) => return,
            _ => Position(0),
        };
        pending.push(&pubrel(packet), position, broker.durable(), out);
    }

    fn find(&self, packet: PacketId) -> Option<usize> {
        // Clients acknowledge in order, so it is nearly always the first.
        self.outgoing.iter().position(|outgoing| outgoing.packet == packet.get())
    }
}

/// Writes a delivery that nothing is remembered of, for any connection of a dialect.
pub fn write_direct(dialect: Dialect, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
    let version = match dialect {
        Dialect::Mqtt311 => Version::V311,
        Dialect::Mqtt5 => Version::V5,
    };
    write_publish(version, delivery, None, out);
}

fn write_publish(version: Version, delivery: &Delivery<'_>, packet_id: Option<PacketId>, out: &mut Vec<u8>) {
    let key = delivery.message.key;
    let mut respelled = Vec::new();
    let topic = match key.form {
        Form::Slashes => key.text,
        Form::Dots => {
            respelled.extend(topic_of(key));
            &respelled
        }
    };
    let qos = match (packet_id, delivery.grade) {
        (None, _) | (_, Grade::AtMostOnce) => Qos::AtMostOnce,
        (_, Grade::AtLeastOnce) => Qos::AtLeastOnce,
        (_, Grade::ExactlyOnce) => Qos::ExactlyOnce,
    };
    let publish = Publish {
        dup: delivery.redelivered && qos != Qos::AtMostOnce,
        qos,
        retain: delivery.retained,
        topic,
        packet_id: packet_id.filter(|_| qos != Qos::AtMostOnce),
        properties: Properties::NONE,
        payload: delivery.message.body,
    };
    if publish.append(version, out).is_err() {
        log::warn!("queue {}: a message cannot be written in MQTT and is passed over", delivery.queue);
    }
}

/// An AMQP routing key as a topic; what MQTT does not allow in one becomes `_`.
fn topic_of(key: Key<'_>) -> impl Iterator<Item = u8> + '_ {
    let valid = std::str::from_utf8(key.text).is_ok();
    key.text.iter().map(move |&byte| match byte {
        b'.' => b'/',
        b'/' => b'.',
        0 | b'+' | b'#' => b'_',
        0x80.. if !valid => b'_',
        _ => byte,
    })
}
