//! One client's connection (MQTT 3.1.1).
//!
//! ```text
//! greeting --CONNECT--> open --DISCONNECT, error, silence, take-over--> closed
//! ```
//! A session with clean session 0 is the durable queue `mqtt.CLIENT`: it is there from CONNECT
//! until a CONNECT with clean session 1. With clean session 1 the queue is made by the first
//! SUBSCRIBE (or QoS 2 publish), is not durable, and goes with the connection.

use super::codec::{
    decode, ConnAck, Connect, DecodeError, Packet, Properties, Qos, Reason, Version, PINGRESP,
};
use super::outbound::Window;
use super::pending::Pending;
use crate::command::{
    Command, Commands, Delivery, Grade, Message, Offer, Overflow, Publish, QueueOptions, Refusal, Reply,
    Subscription,
};
use crate::model::key::Key;
use crate::protocol::{About, Close, Dialect, Direct, Session};
use crate::units::{ConsumerId, Millis, Position, QueueId};
use std::cell::RefCell;
use std::collections::HashMap;
use std::rc::Rc;

/// The exchange that is MQTT's topic space.
pub(super) const EXCHANGE: &str = "amq.topic";
/// Longest client identifier, in bytes; its queue's name has a prefix.
const CLIENT_ID_MAX: usize = 128;

/// What the configuration says of MQTT.
#[derive(Clone, Copy, Debug)]
pub struct Settings {
    /// Largest packet a client may send, in bytes.
    pub max_packet_size: u32,
    /// Most deliveries in flight to one client.
    pub max_inflight: u16,
    /// Most messages waiting for one session; 0 is no limit.
    pub max_session_queue: u32,
}

/// What all MQTT sessions share: who is connected under which client identifier.
#[derive(Default)]
pub struct Shared {
    clients: HashMap<Box<str>, u64>,
}

/// A will, kept until the connection ends (3.1.2.5).
struct Will {
    topic: Box<[u8]>,
    payload: Box<[u8]>,
    qos: Qos,
    retain: bool,
}

/// What is known once CONNECT was accepted.
pub(super) struct Open {
    pub(super) client_id: Box<str>,
    /// Name of its queue.
    pub(super) queue_name: Box<str>,
    pub(super) clean: bool,
    pub(super) queue: Option<QueueId>,
    pub(super) consumer: Option<ConsumerId>,
    pub(super) window: Window,
    will: Option<Will>,
    /// 0: the client may be silent.
    silence_max_ms: u64,
}

/// The session of one connection.
pub struct MqttSession {
    pub(super) settings: Settings,
    shared: Rc<RefCell<Shared>>,
    pub(super) owner: u64,
    pub(super) pending: Pending,
    heard: Millis,
    open: Option<Box<Open>>,
}

impl MqttSession {
    /// A session for a new connection; `owner` is the number deliveries are addressed with.
    pub fn new(settings: Settings, shared: Rc<RefCell<Shared>>, owner: u64, now: Millis) -> MqttSession {
        MqttSession { settings, shared, owner, pending: Pending::default(), heard: now, open: None }
    }

    fn handle_packet(
        &mut self,
        packet: &Packet<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let Some(mut open) = self.open.take() else { return self.greet(packet, broker, out) };
        let outcome = self.handle_open(&mut open, packet, broker, out);
        self.open = Some(open);
        outcome
    }

    fn handle_open(
        &mut self,
        open: &mut Open,
        packet: &Packet<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        match packet {
            Packet::Publish(publish) => self.publish(open, publish, broker, out),
            Packet::PubAck(ack) | Packet::PubComp(ack) => {
                open.window.acked(ack.packet_id, open.consumer, broker);
                Ok(())
            }
            Packet::PubRec(ack) => {
                open.window.received(ack.packet_id, broker, &mut self.pending, out);
                Ok(())
            }
            Packet::PubRel(ack) => self.released(open, ack.packet_id, broker, out),
            Packet::Subscribe(subscribe) => self.subscribe(open, subscribe, broker, out),
            Packet::Unsubscribe(unsubscribe) => self.unsubscribe(open, unsubscribe, broker, out),
            Packet::PingReq => {
                out.extend_from_slice(&PINGRESP);
                Ok(())
            }
            Packet::Disconnect(_) => {
                // The will is dropped without being published [MQTT-3.1.2-10].
                open.will = None;
                Err(Close::Normal)
            }
            Packet::Connect(_) => Err(Close::Protocol("a second CONNECT on one connection [MQTT-3.1.0-2]")),
            _ => Err(Close::Protocol("a packet that only a server sends")),
        }
    }

    /// The first packet must be CONNECT [MQTT-3.1.0-1].
    fn greet(
        &mut self,
        packet: &Packet<'_>,
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        let Packet::Connect(connect) = packet else {
            return Err(Close::Protocol("the first packet was not CONNECT [MQTT-3.1.0-1]"));
        };
        if connect.version == Version::V5 {
            refuse(Version::V5, Reason::UnsupportedProtocolVersion, out);
            return Err(Close::Protocol("MQTT 5 is not served yet; connect with 3.1.1"));
        }
        if connect.client_id.is_empty() && !connect.clean_start {
            refuse(Version::V311, Reason::ClientIdNotValid, out);
            return Err(Close::Protocol("an empty client id needs clean session 1 [MQTT-3.1.3-8]"));
        }
        if connect.client_id.len() > CLIENT_ID_MAX {
            refuse(Version::V311, Reason::ClientIdNotValid, out);
            return Err(Close::Protocol("the client id is longer than 128 bytes"));
        }
        let mut open = self.open_state(connect);
        self.take_over(&open.client_id, broker);
        match self.resume(&mut open, broker) {
            Ok(session_present) => {
                let ack = ConnAck { session_present, reason: Reason::Success, properties: Properties::NONE };
                append(&Packet::ConnAck(ack), Version::V311, out);
                self.open = Some(Box::new(open));
                Ok(())
            }
            Err(refusal) => {
                self.shared.borrow_mut().clients.remove(&open.client_id);
                refuse(Version::V311, Reason::ServerUnavailable, out);
                Err(Close::Refused(why(refusal)))
            }
        }
    }

    fn open_state(&self, connect: &Connect<'_>) -> Open {
        let client_id: Box<str> = match connect.client_id {
            "" => format!("auto-{:x}", self.owner).into(),
            id => id.into(),
        };
        let will = connect.will.as_ref().map(|will| Will {
            topic: will.topic.into(),
            payload: will.payload.into(),
            qos: will.qos,
            retain: will.retain,
        });
        Open {
            queue_name: format!("mqtt.{client_id}").into(),
            client_id,
            clean: connect.clean_start,
            queue: None,
            consumer: None,
            window: Window::default(),
            will,
            silence_max_ms: u64::from(connect.keep_alive_s) * 1500,
        }
    }

    /// Ends the connection that has this client identifier, if there is one [MQTT-3.1.4-2].
    fn take_over(&mut self, client_id: &str, broker: &mut dyn Commands) {
        let before = self.shared.borrow_mut().clients.insert(client_id.into(), self.owner);
        if let Some(owner) = before {
            broker.disconnect(owner);
        }
    }

    /// Finds or makes the session; tells whether it was there (3.1.2.4).
    fn resume(&mut self, open: &mut Open, broker: &mut dyn Commands) -> Result<bool, Refusal> {
        if open.clean {
            return match broker.execute(delete(&open.queue_name)) {
                Ok(_) | Err(Refusal::NoQueue) => Ok(false),
                Err(refusal) => Err(refusal),
            };
        }
        let existed = self.ensure_queue(open, broker)?.1;
        self.ensure_consumer(open, broker)?;
        Ok(existed)
    }

    /// The queue of the session, made if need be; and whether it was there.
    pub(super) fn ensure_queue(
        &self,
        open: &mut Open,
        broker: &mut dyn Commands,
    ) -> Result<(QueueId, bool), Refusal> {
        if let Some(queue) = open.queue {
            return Ok((queue, true));
        }
        let name = &open.queue_name;
        if let Ok(Reply::Queue { id, .. }) = broker.execute(Command::FindQueue { name }) {
            open.queue = Some(id);
            return Ok((id, true));
        }
        let options = QueueOptions {
            durable: !open.clean,
            session: true,
            max_count: self.settings.max_session_queue,
            overflow: Overflow::DropOldest,
            ..QueueOptions::default()
        };
        match broker.execute(Command::DeclareQueue { name, options })? {
            Reply::Queue { id, existed, .. } => {
                open.queue = Some(id);
                Ok((id, existed))
            }
            _ => Err(Refusal::NotAllowed),
        }
    }

    pub(super) fn ensure_consumer(
        &self,
        open: &mut Open,
        broker: &mut dyn Commands,
    ) -> Result<ConsumerId, Refusal> {
        if let Some(consumer) = open.consumer {
            return Ok(consumer);
        }
        let (queue, _) = self.ensure_queue(open, broker)?;
        let credit = u32::from(self.settings.max_inflight);
        let asked = Subscription { queue, owner: self.owner, credit, ..Subscription::default() };
        match broker.execute(Command::Subscribe(asked))? {
            Reply::Consumer(consumer) => {
                open.consumer = Some(consumer);
                Ok(consumer)
            }
            _ => Err(Refusal::NotAllowed),
        }
    }
}

impl Session for MqttSession {
    fn handle_input(
        &mut self,
        input: &[u8],
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<usize, Close> {
        self.heard = broker.now();
        let mut used = 0;
        loop {
            let rest = input.get(used..).unwrap_or_default();
            if rest.is_empty() {
                break;
            }
            match decode(rest, Version::V311, self.settings.max_packet_size) {
                Ok(Some((packet, size))) => {
                    self.handle_packet(&packet, broker, out)?;
                    used += size;
                }
                Ok(None) => break,
                Err(error) => {
                    self.explain(error, out);
                    return Err(Close::Protocol(error.text()));
                }
            }
        }
        self.pending.mark();
        if self.pending.is_over() {
            return Err(Close::Protocol("more packets wait for confirms than there are packet ids"));
        }
        Ok(used)
    }

    fn handle_delivery(&mut self, delivery: &Delivery<'_>, out: &mut Vec<u8>) -> Offer {
        match &mut self.open {
            Some(open) => open.window.deliver(Version::V311, delivery, out),
            None => Offer::Busy,
        }
    }

    fn handle_durable(&mut self, durable: Position, _broker: &mut dyn Commands, out: &mut Vec<u8>) {
        self.pending.release(durable, out);
    }

    fn handle_read_only(&mut self, _out: &mut Vec<u8>) -> Result<(), Close> {
        // 3.1.1 has no word for it; the client keeps what was not confirmed and tries again. A
        // subscriber whose releases wait just never gets them.
        let owes_confirms = self.pending.owes_confirms();
        self.pending = Pending::default();
        match owes_confirms {
            true => Err(Close::Refused(why(Refusal::ReadOnly))),
            false => Ok(()),
        }
    }

    fn direct(&self) -> Option<Direct> {
        self.open.as_ref()?;
        Some(Direct { dialect: Dialect::Mqtt311, max_frame_size: u32::MAX })
    }

    fn awaits_durable(&self) -> bool {
        !self.pending.is_empty()
    }

    fn about(&self) -> About {
        About { protocol: "mqtt", ..About::default() }
    }

    fn poll_timeout(&self) -> Millis {
        match &self.open {
            Some(open) if open.silence_max_ms > 0 => self.heard.after(open.silence_max_ms),
            _ => Millis::NEVER,
        }
    }

    fn handle_timeout(
        &mut self,
        now: Millis,
        _broker: &mut dyn Commands,
        _out: &mut Vec<u8>,
    ) -> Result<(), Close> {
        // One and a half times the keep-alive without a packet [MQTT-3.1.2-24].
        if self.poll_timeout() <= now {
            return Err(Close::Silent);
        }
        Ok(())
    }

    fn handle_close(&mut self, _reason: &Close, broker: &mut dyn Commands) {
        let Some(mut open) = self.open.take() else { return };
        {
            let mut shared = self.shared.borrow_mut();
            if shared.clients.get(&open.client_id) == Some(&self.owner) {
                shared.clients.remove(&open.client_id);
            }
        }
        if let Some(will) = open.will.take() {
            publish_will(&will, broker);
        }
        let detached = match (open.clean, open.consumer) {
            (true, _) => broker.execute(delete(&open.queue_name)),
            (false, Some(consumer)) => broker.execute(Command::Unsubscribe(consumer)),
            (false, None) => return,
        };
        if let Err(refusal) = detached {
            log::debug!("client {}: nothing to detach: {refusal:?}", open.client_id);
        }
    }
}

impl MqttSession {
    /// Says why a first packet cannot be understood, where the protocol has words for it.
    fn explain(&self, error: DecodeError, out: &mut Vec<u8>) {
        if self.open.is_none() {
            if let Some(version) = error.refusal() {
                refuse(version, Reason::UnsupportedProtocolVersion, out);
            }
        }
    }
}

fn publish_will(will: &Will, broker: &mut dyn Commands) {
    let publish = Publish {
        exchange: EXCHANGE,
        message: Message { key: Key::slashes(&will.topic), headers: &[], body: &will.payload },
        durable: will.qos != Qos::AtMostOnce,
        grade: grade_of(will.qos),
        retain: will.retain,
        ..Publish::default()
    };
    if let Err(refusal) = broker.execute(Command::Publish(publish)) {
        log::warn!("a will could not be published: {}", why(refusal));
    }
}

/// The grade that a quality of service asks for.
/// Asks for the end of a session's queue.
fn delete(name: &str) -> Command<'_> {
    Command::DeleteQueue { name, if_unused: false, if_empty: false }
}

pub(super) fn grade_of(qos: Qos) -> Grade {
    match qos {
        Qos::AtMostOnce => Grade::AtMostOnce,
        Qos::AtLeastOnce => Grade::AtLeastOnce,
        Qos::ExactlyOnce => Grade::ExactlyOnce,
    }
}

/// What a refusal means to an operator, and what to do.
pub(super) fn why(refusal: Refusal) -> &'static str {
    match refusal {
        Refusal::StoreFull => "the store is full: let messages be consumed, or make store.size larger",
        Refusal::ReadOnly => {
            "the store takes no writes since an error of the medium; `forebay status` shows which"
        }
        Refusal::Limit("entries") => "limits.entries is reached: consume messages or raise it",
        Refusal::Limit("queues") => "limits.queues is reached: remove sessions or raise it",
        Refusal::Limit("consumers") => "limits.consumers is reached: raise it",
        Refusal::Limit("retained") => "limits.retained is reached: clear retained messages or raise it",
        Refusal::Limit("dedup held") => {
            "limits.held is reached: too many QoS 2 publishes wait for their release"
        }
        Refusal::Limit(_) => "a limit is reached; `forebay status` shows which",
        Refusal::QueueFull => "a queue is full and rejects",
        Refusal::TooLarge => "the message is larger than limits.max_message_size",
        _ => "the broker refused",
    }
}

fn refuse(version: Version, reason: Reason, out: &mut Vec<u8>) {
    let ack = ConnAck { session_present: false, reason, properties: Properties::NONE };
    append(&Packet::ConnAck(ack), version, out);
}

/// Writes one of the packets that cannot fail to be written.
pub(super) fn append(packet: &Packet<'_>, version: Version, out: &mut Vec<u8>) {
    if let Err(error) = packet.append(version, out) {
        log::error!("a packet could not be written: {error:?}; please report this");
    }
}
