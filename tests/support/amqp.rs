//! Peers that speak AMQP (and MQTT) with sessions over one broker: frames in, words out, no socket.

#![allow(dead_code)]

use super::broker::{Bench, TestFlash};
use forebay::broker::Broker;
use forebay::command::{Command, Commands, Delivery, Offer, Outlet, Refusal, Reply};
use forebay::flash::Geometry;
use forebay::protocol::amqp::codec::cursor::Cursor;
use forebay::protocol::amqp::codec::frame::{self, BODY, HEADER, HEARTBEAT, METHOD};
use forebay::protocol::amqp::codec::table::{push_short, write_table};
use forebay::protocol::amqp::codec::{split, Table, TableWriter, GREETING};
use forebay::protocol::amqp::{AmqpSession, Settings, User};
use forebay::protocol::mqtt::{self, MqttSession};
use forebay::protocol::{Close, Session};
use forebay::units::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;

pub struct Peer {
    session: Option<Box<dyn Session>>,
    pub out: Vec<u8>,
    pub closed: Option<Close>,
    /// The beginning of something that was not consumed yet.
    rest: Vec<u8>,
}

#[derive(Default)]
pub struct Peers {
    map: BTreeMap<u64, Peer>,
    cancelled: Vec<ConsumerId>,
    short: bool,
}

impl Outlet for Peers {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        let Some(peer) = self.map.get_mut(&delivery.owner) else { return Offer::Busy };
        match &mut peer.session {
            Some(session) => session.handle_delivery(delivery, &mut peer.out),
            None => Offer::Busy,
        }
    }

    fn cancelled(&mut self, owner: u64, consumer: ConsumerId) {
        let Some(peer) = self.map.get_mut(&owner) else { return };
        match &mut peer.session {
            Some(session) => session.handle_cancelled(consumer, &mut peer.out),
            None => self.cancelled.push(consumer),
        }
    }
}

struct Desk<'d> {
    broker: &'d mut Broker<'static, TestFlash>,
    now: Millis,
    peers: &'d mut Peers,
}

impl Commands for Desk<'_> {
    fn execute(&mut self, command: Command<'_>) -> Result<Reply, Refusal> {
        self.broker.execute(self.now, command, self.peers)
    }

    fn fetch(&mut self, consumer: ConsumerId, count: u32, outlet: &mut dyn Outlet) -> Result<Reply, Refusal> {
        self.broker.execute(self.now, Command::Fetch { consumer, count }, outlet)
    }

    fn poll_cancelled(&mut self) -> Option<ConsumerId> {
        self.peers.cancelled.pop()
    }

    fn durable(&self) -> Position {
        self.broker.durable()
    }

    fn now(&self) -> Millis {
        self.now
    }

    fn is_short(&self) -> bool {
        self.peers.short
    }

    fn disconnect(&mut self, owner: u64) {
        let session = self.peers.map.get_mut(&owner).and_then(|peer| peer.session.take());
        if let Some(mut session) = session {
            session.handle_close(&Close::TakenOver, self);
            self.peers.map.get_mut(&owner).unwrap().closed = Some(Close::TakenOver);
        }
    }
}

/// Bytes a session may leave unconsumed: less than the frame it agreed to.
const REST_MAX: usize = 8192;

/// A broker and those who are connected to it.
pub struct World {
    pub bench: Bench,
    peers: Peers,
    shared: Rc<RefCell<mqtt::Shared>>,
    /// What the next connections find configured.
    pub settings: Settings,
    next: u64,
}

pub fn settings() -> Settings {
    Settings {
        users: vec![User { name: "guest".into(), password: "guest".into() }],
        permissions: Vec::new(),
        virtual_hosts: vec!["/".into(), "plant".into()],
        frame_max: 8192,
        channel_max: 20,
        heartbeat_s: 60,
        max_inflight: 30,
        consumer_timeout_ms: 1_800_000,
        max_message_bytes: 900,
    }
}

impl World {
    pub fn new() -> World {
        World {
            bench: Bench::new(),
            peers: Peers::default(),
            shared: Rc::default(),
            settings: settings(),
            next: 1,
        }
    }

    /// The same with room for many small messages.
    pub fn large() -> World {
        let geometry = Geometry { segment_size: 65_536, segment_count: 128, write_unit: 4 };
        World { bench: Bench::with(geometry, 1024), ..World::new() }
    }

    /// A broker on what is on a flash.
    pub fn on(flash: TestFlash) -> World {
        let bench = Bench::try_mount(flash, 128, Millis(1_000_000)).unwrap();
        World { bench, peers: Peers::default(), shared: Rc::default(), settings: settings(), next: 1 }
    }

    /// Power goes: connections and unsynced bytes are lost.
    pub fn restart(self) -> World {
        World {
            bench: self.bench.restart(),
            peers: Peers::default(),
            shared: Rc::default(),
            settings: settings(),
            next: self.next,
        }
    }

    /// The store is, or is not, short of room.
    pub fn set_short(&mut self, short: bool) {
        self.peers.short = short;
    }

    fn add(&mut self, session: Box<dyn Session>) -> u64 {
        self.peers.map.insert(
            self.next,
            Peer { session: Some(session), out: Vec::new(), closed: None, rest: Vec::new() },
        );
        self.next += 1;
        self.next - 1
    }

    /// A connection of which nothing is known yet.
    pub fn open(&mut self, is_local: bool) -> u64 {
        let session =
            AmqpSession::new(Rc::new(self.settings.clone()), self.next, is_local, 7, self.bench.now);
        self.add(Box::new(session))
    }

    /// A connection of an MQTT client.
    pub fn open_mqtt(&mut self) -> u64 {
        let settings = mqtt::Settings { max_packet_size: 4096, max_inflight: 10, max_session_queue: 0 };
        let session = MqttSession::new(settings, self.shared.clone(), self.next, self.bench.now);
        self.add(Box::new(session))
    }

    /// A connection that is through with its introduction, and has channel 1 open.
    pub fn connect(&mut self) -> u64 {
        self.connect_as("guest")
    }

    /// The same for a user whose password is the name.
    pub fn connect_as(&mut self, user: &str) -> u64 {
        let peer = self.open(true);
        self.say(peer, &GREETING);
        self.say(peer, &start_ok("PLAIN", format!("\0{user}\0{user}").as_bytes(), true));
        self.say(peer, &tune_ok(20, 4096, 0));
        self.say(peer, &method(0, 10, 40, &[&short("/")[..], &[0, 0]]));
        self.say(peer, &method(1, 20, 10, &[&[0]]));
        let got = self.got(peer);
        assert_eq!(got.last().map(String::as_str), Some("1 channel.open-ok"), "{got:?}");
        peer
    }

    /// Bytes from a peer; what the session does not consume stands in front of the next.
    pub fn say(&mut self, peer: u64, bytes: &[u8]) {
        let place = self.peers.map.get_mut(&peer).unwrap();
        let Some(mut session) = place.session.take() else { return };
        let mut input = std::mem::take(&mut place.rest);
        input.extend_from_slice(bytes);
        let mut replies = Vec::new();
        let mut desk = Desk { broker: &mut self.bench.broker, now: self.bench.now, peers: &mut self.peers };
        let outcome = session.handle_input(&input, &mut desk, &mut replies);
        if let Err(reason) = &outcome {
            session.handle_close(reason, &mut desk);
        }
        let place = self.peers.map.get_mut(&peer).unwrap();
        place.out.extend(replies);
        match outcome {
            Ok(used) => {
                place.session = Some(session);
                place.rest = input.split_off(used);
                assert!(place.rest.len() < REST_MAX, "a session leaves more than a frame");
            }
            Err(reason) => place.closed = Some(reason),
        }
    }

    /// The connection breaks.
    pub fn lose(&mut self, peer: u64) {
        let mut session = self.peers.map.get_mut(&peer).unwrap().session.take().unwrap();
        let mut desk = Desk { broker: &mut self.bench.broker, now: self.bench.now, peers: &mut self.peers };
        session.handle_close(&Close::Lost, &mut desk);
        self.peers.map.remove(&peer);
    }

    /// Why the connection of a peer is over, if it is.
    pub fn closed(&self, peer: u64) -> Option<&Close> {
        self.peers.map.get(&peer).and_then(|peer| peer.closed.as_ref())
    }

    /// The session of a peer, for what a driver asks it.
    pub fn session(&self, peer: u64) -> &dyn Session {
        self.peers.map[&peer].session.as_deref().expect("open")
    }

    /// What was written to a peer and not taken yet, as it is.
    pub fn unread(&self, peer: u64) -> &[u8] {
        self.peers.map.get(&peer).map_or(&[], |peer| &peer.out)
    }

    /// Bytes that are kept for a peer besides: by its session, and of a frame that is not whole.
    pub fn held(&self, peer: u64) -> usize {
        let Some(peer) = self.peers.map.get(&peer) else { return 0 };
        peer.rest.len() + peer.session.as_ref().map_or(0, |session| session.about().held_bytes)
    }

    /// Runs until nothing changes.
    pub fn settle(&mut self) {
        for _ in 0..1000 {
            let now = self.bench.now;
            let broker = &mut self.bench.broker;
            if broker.poll_timeout() <= now {
                broker.handle_timeout(now, &mut self.peers);
            }
            let more = broker.pump(now, &mut self.peers);
            broker.commit(now);
            let moved = broker.poll_durable();
            if let Some(durable) = moved {
                for number in 0..self.next {
                    let found = self.peers.map.get_mut(&number).and_then(|peer| peer.session.take());
                    let Some(mut session) = found else { continue };
                    let mut out = Vec::new();
                    let mut desk = Desk { broker: &mut self.bench.broker, now, peers: &mut self.peers };
                    session.handle_durable(durable, &mut desk, &mut out);
                    let peer = self.peers.map.get_mut(&number).unwrap();
                    peer.out.extend(out);
                    peer.session = Some(session);
                }
            }
            if !more && moved.is_none() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// Time goes by; deadlines of sessions come.
    pub fn wait(&mut self, span_ms: u64) {
        self.bench.now = self.bench.now.after(span_ms);
        self.settle();
        let now = self.bench.now;
        for number in 0..self.next {
            let found = self.peers.map.get_mut(&number).and_then(|peer| peer.session.take());
            let Some(mut session) = found else { continue };
            let mut out = Vec::new();
            let mut desk = Desk { broker: &mut self.bench.broker, now, peers: &mut self.peers };
            let due = session.poll_timeout() <= now;
            let outcome = if due { session.handle_timeout(now, &mut desk, &mut out) } else { Ok(()) };
            if let Err(reason) = &outcome {
                session.handle_close(reason, &mut desk);
            }
            let peer = self.peers.map.get_mut(&number).unwrap();
            peer.out.extend(out);
            match outcome {
                Ok(()) => peer.session = Some(session),
                Err(reason) => peer.closed = Some(reason),
            }
        }
        self.settle();
    }

    /// The broker stops, which every session is told.
    pub fn stop(&mut self) {
        for peer in self.peers.map.values_mut() {
            peer.session.as_mut().into_iter().for_each(|session| session.say_farewell(&mut peer.out));
        }
    }

    /// The store takes no writes any more, which every session is told.
    pub fn become_read_only(&mut self) {
        for peer in self.peers.map.values_mut() {
            if let Some(session) = &mut peer.session {
                if let Err(reason) = session.handle_read_only(&mut peer.out) {
                    peer.closed = Some(reason);
                }
            }
        }
    }

    /// What was written to a peer since the last call, in short.
    pub fn got(&mut self, peer: u64) -> Vec<String> {
        self.settle();
        self.said(peer)
    }

    /// The same without letting anything happen before.
    pub fn said(&mut self, peer: u64) -> Vec<String> {
        words(&std::mem::take(&mut self.peers.map.get_mut(&peer).unwrap().out))
    }

    /// The bytes that were written to a peer.
    pub fn bytes(&mut self, peer: u64) -> Vec<u8> {
        self.settle();
        std::mem::take(&mut self.peers.map.get_mut(&peer).unwrap().out)
    }
}

/// A method frame.
pub fn method(channel: u16, class: u16, id: u16, arguments: &[&[u8]]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(METHOD, channel, &mut out, |out| {
        out.extend_from_slice(&class.to_be_bytes());
        out.extend_from_slice(&id.to_be_bytes());
        arguments.iter().for_each(|argument| out.extend_from_slice(argument));
    });
    out
}

pub fn short(text: &str) -> Vec<u8> {
    let mut out = Vec::new();
    push_short(&mut out, text.as_bytes());
    out
}

pub fn long(bytes: &[u8]) -> Vec<u8> {
    [&(bytes.len() as u32).to_be_bytes(), bytes].concat()
}

pub fn table(fill: impl FnOnce(&mut TableWriter<'_>)) -> Vec<u8> {
    let mut out = Vec::new();
    write_table(&mut out, fill);
    out
}

pub fn start_ok(mechanism: &str, response: &[u8], is_capable: bool) -> Vec<u8> {
    let properties = table(|table| {
        table.table("capabilities", |table| {
            for name in ["authentication_failure_close", "connection.blocked", "consumer_cancel_notify"] {
                table.bool(name, is_capable);
            }
        });
    });
    method(0, 10, 11, &[&properties, &short(mechanism), &long(response), &short("en_US")])
}

pub fn tune_ok(channel_max: u16, frame_max: u32, heartbeat_s: u16) -> Vec<u8> {
    method(0, 10, 31, &[&channel_max.to_be_bytes(), &frame_max.to_be_bytes(), &heartbeat_s.to_be_bytes()])
}

/// Bits of queue.declare.
pub const PASSIVE: u8 = 1;
pub const DURABLE: u8 = 2;
pub const EXCLUSIVE: u8 = 4;
pub const AUTO_DELETE: u8 = 8;
pub const NOWAIT: u8 = 16;

/// Declares a durable queue whose dead letters go to the queue `grave`, with more arguments.
pub fn declare_mortal(name: &str, grave: &str, fill: impl FnOnce(&mut TableWriter<'_>)) -> Vec<u8> {
    declare_with(name, DURABLE, |table| {
        table.text("x-dead-letter-exchange", "");
        table.text("x-dead-letter-routing-key", grave);
        fill(table);
    })
}

pub fn declare_with(queue: &str, bits: u8, fill: impl FnOnce(&mut TableWriter<'_>)) -> Vec<u8> {
    method(1, 50, 10, &[&[0, 0], &short(queue), &[bits], &table(fill)])
}

pub fn declare(queue: &str, bits: u8) -> Vec<u8> {
    declare_with(queue, bits, |_| {})
}

pub fn exchange(name: &str, kind: &str, bits: u8) -> Vec<u8> {
    method(1, 40, 10, &[&[0, 0], &short(name), &short(kind), &[bits], &table(|_| {})])
}

pub fn bind(queue: &str, exchange: &str, key: &str) -> Vec<u8> {
    method(1, 50, 20, &[&[0, 0], &short(queue), &short(exchange), &short(key), &[0], &table(|_| {})])
}

pub fn bind_with(queue: &str, exchange: &str, key: &str, fill: impl FnOnce(&mut TableWriter<'_>)) -> Vec<u8> {
    method(1, 50, 20, &[&[0, 0], &short(queue), &short(exchange), &short(key), &[0], &table(fill)])
}

/// basic.consume: 1 no-local, 2 no-ack, 4 exclusive, 8 nowait.
pub fn consume(queue: &str, tag: &str, bits: u8) -> Vec<u8> {
    consume_with(queue, tag, bits, |_| {})
}

pub fn consume_with(queue: &str, tag: &str, bits: u8, fill: impl FnOnce(&mut TableWriter<'_>)) -> Vec<u8> {
    method(1, 60, 20, &[&[0, 0], &short(queue), &short(tag), &[bits], &table(fill)])
}

pub fn cancel(tag: &str) -> Vec<u8> {
    method(1, 60, 30, &[&short(tag), &[0]])
}

pub fn qos(count: u16, global: bool) -> Vec<u8> {
    method(1, 60, 10, &[&[0; 4], &count.to_be_bytes(), &[u8::from(global)]])
}

pub fn ack(number: u64, multiple: bool) -> Vec<u8> {
    method(1, 60, 80, &[&number.to_be_bytes(), &[u8::from(multiple)]])
}

pub fn nack(number: u64, multiple: bool, requeue: bool) -> Vec<u8> {
    method(1, 60, 120, &[&number.to_be_bytes(), &[u8::from(multiple) | u8::from(requeue) << 1]])
}

pub fn reject(number: u64, requeue: bool) -> Vec<u8> {
    method(1, 60, 90, &[&number.to_be_bytes(), &[u8::from(requeue)]])
}

pub fn get(queue: &str, no_ack: bool) -> Vec<u8> {
    method(1, 60, 70, &[&[0, 0], &short(queue), &[u8::from(no_ack)]])
}

/// The method of a publish; bit 1 is mandatory.
pub fn publish_method(exchange: &str, key: &str, bits: u8) -> Vec<u8> {
    method(1, 60, 40, &[&[0, 0], &short(exchange), &short(key), &[bits]])
}

pub fn header(size: u64, flags: u16, list: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(HEADER, 1, &mut out, |out| {
        out.extend_from_slice(&[0, 60, 0, 0]);
        out.extend_from_slice(&size.to_be_bytes());
        out.extend_from_slice(&flags.to_be_bytes());
        out.extend_from_slice(list);
    });
    out
}

pub fn body(bytes: &[u8]) -> Vec<u8> {
    let mut out = Vec::new();
    frame::write(BODY, 1, &mut out, |out| out.extend_from_slice(bytes));
    out
}

/// A whole publish with properties.
pub fn publish_with(exchange: &str, key: &str, bits: u8, (flags, list): (u16, &[u8]), text: &str) -> Vec<u8> {
    let content = if text.is_empty() { Vec::new() } else { body(text.as_bytes()) };
    [publish_method(exchange, key, bits), header(text.len() as u64, flags, list), content].concat()
}

/// A whole persistent publish.
pub fn publish(exchange: &str, key: &str, text: &str) -> Vec<u8> {
    publish_with(exchange, key, 0, (0x1000, &[2]), text)
}

/// What is written in some frames; contents are joined to their methods.
pub fn words(bytes: &[u8]) -> Vec<String> {
    let mut all: Vec<String> = Vec::new();
    let mut rest = bytes;
    if rest.starts_with(b"AMQP") {
        all.push("greeting".into());
        rest = &rest[8..];
    }
    while !rest.is_empty() {
        let (frame, size) = split(rest, 1 << 20).expect("a frame").expect("a whole frame");
        rest = &rest[size..];
        match frame.kind {
            METHOD => all.push(format!("{} {}", frame.channel, method_words(frame.payload))),
            HEADER => {
                let flags = u16::from_be_bytes([frame.payload[12], frame.payload[13]]);
                let list = &frame.payload[14..];
                let plain = flags == 0x1000 && list == [2];
                let properties =
                    if plain { String::new() } else { format!(" {{{flags:04x} {}}}", text(list)) };
                let last = all.last_mut().expect("a method before a header");
                *last = format!("{last}{properties} ");
            }
            BODY => {
                let last = all.last_mut().expect("a header before a body");
                last.push_str(&text(frame.payload));
            }
            HEARTBEAT => all.push("heartbeat".into()),
            _ => unreachable!(),
        }
    }
    all.iter().map(|line| line.trim_end().to_string()).collect()
}

/// The header and the body of every content in some frames.
pub fn contents(bytes: &[u8]) -> Vec<(Vec<u8>, String)> {
    let mut all: Vec<(Vec<u8>, String)> = Vec::new();
    let mut rest = bytes;
    while !rest.is_empty() {
        let (frame, size) = split(rest, 1 << 20).expect("a frame").expect("a whole frame");
        rest = &rest[size..];
        match frame.kind {
            HEADER => all.push((frame.payload.to_vec(), String::new())),
            BODY => all.last_mut().expect("a header before a body").1.push_str(&text(frame.payload)),
            _ => {}
        }
    }
    all
}

/// What an array of deaths tells: queue, reason, count, exchange and key, and the time to live if there was one.
pub fn deaths(array: &[u8]) -> Vec<String> {
    let mut cursor = Cursor::new(array);
    let mut all = Vec::new();
    while !cursor.is_empty() {
        assert_eq!(cursor.u8(), Some(b'F'));
        let death = Table(cursor.long().expect("a table"));
        let told = |name: &str| death.get(name).and_then(|field| field.text()).unwrap_or("?");
        let count = death.get("count").and_then(|field| field.int()).expect("a count");
        let keys = death.get("routing-keys").expect("keys").bytes;
        let mut cursor = Cursor::new(keys);
        let mut texts = Vec::new();
        while cursor.u8() == Some(b'S') {
            texts.push(text(cursor.long().expect("a key")));
        }
        assert_eq!(death.get("time").map(|field| field.kind), Some(b'T'));
        let ttl = match told("original-expiration") {
            "?" => String::new(),
            ttl => format!(" ttl {ttl}"),
        };
        let (queue, reason, exchange) = (told("queue"), told("reason"), told("exchange"));
        all.push(format!("{queue} {reason} {count} {exchange}:{}{ttl}", texts.join(",")));
    }
    all
}

/// Text as it is, other bytes as \xNN.
pub fn text(bytes: &[u8]) -> String {
    let letter = |&byte: &u8| match byte {
        b' '..=b'~' => char::from(byte).to_string(),
        _ => format!("\\x{byte:02x}"),
    };
    bytes.iter().map(letter).collect()
}

fn method_words(payload: &[u8]) -> String {
    let mut cursor = Cursor::new(payload);
    let (class, id) = (cursor.u16().unwrap(), cursor.u16().unwrap());
    let all = &mut cursor;
    let name = |cursor: &mut Cursor<'_>| text(cursor.short().unwrap());
    let bit = |cursor: &mut Cursor<'_>, word: &str| match cursor.u8() {
        Some(1) => format!(" {word}"),
        _ => String::new(),
    };
    match (class, id) {
        (10, 10) => "connection.start".into(),
        (10, 30) => {
            let (channels, frame, beat) = (all.u16().unwrap(), all.u32().unwrap(), all.u16().unwrap());
            format!("connection.tune {channels} {frame} {beat}")
        }
        (10, 41) => "connection.open-ok".into(),
        (10, 50) | (20, 40) => {
            let (code, text) = (all.u16().unwrap(), name(all));
            let (class, id) = (all.u16().unwrap(), all.u16().unwrap());
            let noun = if class_is_connection(payload) { "connection" } else { "channel" };
            format!("{noun}.close {code} {text} ({class}.{id})")
        }
        (10, 51) => "connection.close-ok".into(),
        (10, 60) => format!("connection.blocked {}", name(all)),
        (10, 61) => "connection.unblocked".into(),
        (10, 71) => "connection.update-secret-ok".into(),
        (20, 11) => "channel.open-ok".into(),
        (20, 21) => format!("channel.flow-ok{}", bit(all, "active")),
        (20, 41) => "channel.close-ok".into(),
        (40, 11) => "exchange.declare-ok".into(),
        (40, 21) => "exchange.delete-ok".into(),
        (40, 31) => "exchange.bind-ok".into(),
        (40, 51) => "exchange.unbind-ok".into(),
        (50, 11) => {
            let queue = name(all);
            format!("queue.declare-ok {queue} {} {}", all.u32().unwrap(), all.u32().unwrap())
        }
        (50, 21) => "queue.bind-ok".into(),
        (50, 31) => format!("queue.purge-ok {}", all.u32().unwrap()),
        (50, 41) => format!("queue.delete-ok {}", all.u32().unwrap()),
        (50, 51) => "queue.unbind-ok".into(),
        (60, 11) => "basic.qos-ok".into(),
        (60, 21) => format!("basic.consume-ok {}", name(all)),
        (60, 30) => format!("basic.cancel {}", name(all)),
        (60, 31) => format!("basic.cancel-ok {}", name(all)),
        (60, 50) => {
            let (code, text) = (all.u16().unwrap(), name(all));
            format!("return {code} {text} {}:{}", name(all), name(all))
        }
        (60, 60) => {
            let (tag, number, again) = (name(all), all.u64().unwrap(), bit(all, "again"));
            format!("deliver {tag} {number}{again} {}:{}", name(all), name(all))
        }
        (60, 71) => {
            let (number, again) = (all.u64().unwrap(), bit(all, "again"));
            let (exchange, key) = (name(all), name(all));
            format!("get-ok {number}{again} {exchange}:{key} ({} more)", all.u32().unwrap())
        }
        (60, 72) => "get-empty".into(),
        (60, 80) => format!("ack {}{}", all.u64().unwrap(), bit(all, "multiple")),
        (60, 120) => format!("nack {}{}", all.u64().unwrap(), bit(all, "multiple")),
        (60, 111) => "basic.recover-ok".into(),
        (85, 11) => "confirm.select-ok".into(),
        (90, 11) => "tx.select-ok".into(),
        (90, 21) => "tx.commit-ok".into(),
        (90, 31) => "tx.rollback-ok".into(),
        other => panic!("a server does not send {other:?}"),
    }
}

fn class_is_connection(payload: &[u8]) -> bool {
    payload.starts_with(&[0, 10])
}
