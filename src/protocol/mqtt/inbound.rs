//! Inbound: what a client publishes, subscribes to, and takes back (MQTT 3.1.1, 3.3, 3.8, 3.10).

use super::codec::{
    puback, pubcomp, pubrec, Answer, Packet, PacketId, Properties, Publish as PublishPacket, Qos, Reason,
    Reasons, Subscribe, Unsubscribe, Version,
};
use super::session::{append, grade_of, why, MqttSession, Open, EXCHANGE};
use crate::command::{Bind, Command, Commands, DedupKey, Destination, Message, Publish, Refusal, Reply};
use crate::model::key::Key;
use crate::protocol::Close;
use crate::units::Position;

impl MqttSession {
    pub(super) fn publish(
        &mut self,
        open: &mut Open,
        packet: &PublishPacket<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let mut publish = Publish {
            exchange: EXCHANGE,
            message: Message { key: Key::slashes(packet.topic), headers: &[], body: packet.payload },
            durable: packet.qos != Qos::AtMostOnce,
            grade: grade_of(packet.qos),
            retain: packet.retain,
            ..Publish::default()
        };
        let Some(packet_id) = packet.packet_id else {
            if let Err(refusal) = broker.execute(Command::Publish(publish)) {
                log::debug!("client {}: a QoS 0 message is dropped: {}", open.client_id, why(refusal));
            }
            return Ok(());
        };
        if packet.qos == Qos::ExactlyOnce {
            let (queue, _) = self.ensure_queue(open, broker).map_err(closed)?;
            publish.dedup = Some(DedupKey::Held { queue, packet: packet_id.get() });
        }
        // 3.1.1 has no way to refuse a publish but to end the connection; the client keeps the
        // message and tries again.
        let reply = broker.execute(Command::Publish(publish)).map_err(closed)?;
        let Reply::Published { confirm_at, .. } = reply else { return Ok(()) };
        let ack = match packet.qos {
            Qos::ExactlyOnce => pubrec(packet_id),
            _ => puback(packet_id),
        };
        self.pending.push(&ack, confirm_at, broker.durable(), out);
        Ok(())
    }

    /// The client has released a QoS 2 publish: its packet id is free again.
    pub(super) fn released(
        &mut self,
        open: &Open,
        packet_id: PacketId,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let mut position = Position(0);
        if let Some(queue) = open.queue {
            let key = DedupKey::Held { queue, packet: packet_id.get() };
            if let Reply::Done(done) = broker.execute(Command::Forget(key)).map_err(closed)? {
                position = done;
            }
        }
        self.pending.push(&pubcomp(packet_id), position, broker.durable(), out);
        Ok(())
    }

    pub(super) fn subscribe(
        &mut self,
        open: &mut Open,
        packet: &Subscribe<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let mut codes = Vec::new();
        let mut position = Position(0);
        let consumer = self.ensure_consumer(open, broker);
        for subscription in packet.filters.iter() {
            let bound = match consumer {
                Ok(_) => broker.execute(Command::Bind(binding(
                    open,
                    subscription.filter,
                    subscription.options.qos,
                ))),
                Err(refusal) => Err(refusal),
            };
            match bound {
                Ok(reply) => {
                    if let Reply::Done(done) = reply {
                        position = position.max(done);
                    }
                    codes.push(subscription.options.qos as u8);
                }
                Err(refusal) => {
                    log::warn!("client {}: subscription refused: {}", open.client_id, why(refusal));
                    codes.push(Reason::Unspecified.code());
                }
            }
        }
        let reasons = Reasons::codes(&codes);
        let answer = Answer { packet_id: packet.packet_id, properties: Properties::NONE, reasons };
        let mut bytes = Vec::new();
        append(&Packet::SubAck(answer), Version::V311, &mut bytes);
        self.pending.push(&bytes, position, broker.durable(), out);
        let Ok(consumer) = consumer else { return Ok(()) };
        let granted = packet.filters.iter().zip(&codes).filter(|(_, &code)| code <= 2);
        for (subscription, _) in granted {
            let pattern = Key::slashes(subscription.filter.as_bytes());
            let grade = grade_of(subscription.options.qos);
            if let Err(refusal) = broker.execute(Command::Retained { consumer, pattern, grade }) {
                log::warn!("client {}: retained messages not sent: {}", open.client_id, why(refusal));
            }
        }
        Ok(())
    }

    pub(super) fn unsubscribe(
        &mut self,
        open: &mut Open,
        packet: &Unsubscribe<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        if open.queue.is_some() {
            for filter in packet.filters.iter() {
                if let Err(refusal) = broker.execute(Command::Unbind(binding(open, filter, Qos::AtMostOnce)))
                {
                    log::debug!("client {}: nothing to unsubscribe: {}", open.client_id, why(refusal));
                }
            }
        }
        let reasons = Reasons::codes(&[]);
        let answer = Answer { packet_id: packet.packet_id, properties: Properties::NONE, reasons };
        append(&Packet::UnsubAck(answer), Version::V311, out);
        Ok(())
    }
}

fn binding<'k>(open: &'k Open, filter: &'k str, qos: Qos) -> Bind<'k> {
    Bind {
        exchange: EXCHANGE,
        destination: Destination::Queue(&open.queue_name),
        pattern: Key::slashes(filter.as_bytes()),
        arguments: &[],
        grade: grade_of(qos),
    }
}

fn closed(refusal: Refusal) -> Close {
    Close::Refused(why(refusal))
}
