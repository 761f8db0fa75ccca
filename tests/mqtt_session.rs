//! MQTT 3.1.1 sessions as transcripts: packets in, packets out, no socket.

#[path = "support/broker.rs"]
mod support;

use forebay::broker::Broker;
use forebay::command::{Command, Commands, Delivery, Offer, Outlet, Refusal, Reply};
use forebay::protocol::mqtt::codec::*;
use forebay::protocol::mqtt::{write_direct, MqttSession, Settings, Shared};
use forebay::protocol::{Close, Dialect, Session};
use forebay::units::*;
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use support::{Bench, TestFlash};

struct Peer {
    session: Option<MqttSession>,
    out: Vec<u8>,
    closed: Option<Close>,
}

#[derive(Default)]
struct Peers(BTreeMap<u64, Peer>);

impl Outlet for Peers {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        let Some(peer) = self.0.get_mut(&delivery.owner) else { return Offer::Busy };
        match (&mut peer.session, delivery.tag) {
            (Some(session), _) => session.handle_delivery(delivery, &mut peer.out),
            (None, None) => {
                write_direct(Dialect::Mqtt311, delivery, &mut peer.out);
                Offer::Taken
            }
            _ => Offer::Busy,
        }
    }

    fn cancelled(&mut self, _: u64, _: ConsumerId) {}
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

    fn durable(&self) -> Position {
        self.broker.durable()
    }

    fn is_short(&self) -> bool {
        self.broker.is_short()
    }

    fn now(&self) -> Millis {
        self.now
    }

    fn disconnect(&mut self, owner: u64) {
        let session = self.peers.0.get_mut(&owner).and_then(|peer| peer.session.take());
        if let Some(mut session) = session {
            session.handle_close(&Close::TakenOver, self);
            self.peers.0.get_mut(&owner).unwrap().closed = Some(Close::TakenOver);
        }
    }
}

struct World {
    bench: Bench,
    peers: Peers,
    shared: Rc<RefCell<Shared>>,
    next: u64,
}

impl World {
    fn new() -> World {
        World { bench: Bench::new(), peers: Peers::default(), shared: Rc::default(), next: 1 }
    }

    /// Power goes: connections and unsynced bytes are lost.
    fn restart(self) -> World {
        World { bench: self.bench.restart(), peers: Peers::default(), shared: Rc::default(), next: self.next }
    }

    fn open(&mut self) -> u64 {
        let settings = Settings { max_packet_size: 4096, max_inflight: 10, max_session_queue: 0 };
        let session = MqttSession::new(settings, self.shared.clone(), self.next, self.bench.now);
        self.peers.0.insert(self.next, Peer { session: Some(session), out: Vec::new(), closed: None });
        self.next += 1;
        self.next - 1
    }

    fn bytes(&mut self, peer: u64, input: &[u8]) -> usize {
        let mut session = self.peers.0.get_mut(&peer).unwrap().session.take().expect("open");
        let mut replies = Vec::new();
        let mut desk = Desk { broker: &mut self.bench.broker, now: self.bench.now, peers: &mut self.peers };
        let outcome = session.handle_input(input, &mut desk, &mut replies);
        let used = match outcome {
            Ok(used) => {
                self.peers.0.get_mut(&peer).unwrap().session = Some(session);
                used
            }
            Err(reason) => {
                session.handle_close(&reason, &mut desk);
                self.peers.0.get_mut(&peer).unwrap().closed = Some(reason);
                input.len()
            }
        };
        self.peers.0.get_mut(&peer).unwrap().out.extend(replies);
        used
    }

    fn send(&mut self, peer: u64, packet: Packet<'_>) {
        let mut bytes = Vec::new();
        packet.append(Version::V311, &mut bytes).unwrap();
        self.bytes(peer, &bytes);
    }

    fn settle(&mut self) {
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
                let mut all = std::mem::take(&mut self.peers);
                for peer in all.0.values_mut() {
                    let mut desk = Desk { broker: &mut self.bench.broker, now, peers: &mut self.peers };
                    if let Some(session) = &mut peer.session {
                        session.handle_durable(durable, &mut desk, &mut peer.out);
                    }
                }
                self.peers = all;
            }
            if !more && moved.is_none() {
                return;
            }
        }
        panic!("it does not come to rest");
    }

    /// What was written to a peer since the last call, in short.
    fn got(&mut self, peer: u64) -> Vec<String> {
        self.settle();
        let out = std::mem::take(&mut self.peers.0.get_mut(&peer).unwrap().out);
        let mut rest = &out[..];
        let mut words = Vec::new();
        while let Some((packet, size)) = decode(rest, Version::V311, u32::MAX).unwrap() {
            words.push(short(&packet));
            rest = &rest[size..];
        }
        assert!(rest.is_empty());
        words
    }

    fn connect(&mut self, id: &str, clean: bool) -> u64 {
        let peer = self.open();
        self.send(peer, connect(id, clean));
        peer
    }

    fn subscribe(&mut self, peer: u64, filter: &str, qos: Qos) {
        let options = SubscribeOptions { qos, ..SubscribeOptions::default() };
        let list = [Subscription { filter, options }];
        let filters = Subscriptions::list(&list);
        self.send(
            peer,
            Packet::Subscribe(Subscribe { packet_id: id(9), properties: Properties::NONE, filters }),
        );
    }

    fn publish(&mut self, peer: u64, topic: &str, qos: Qos, packet: u16, payload: &str) {
        self.send(peer, publish(topic, qos, packet, payload, false));
    }

    fn lose(&mut self, peer: u64) {
        let mut session = self.peers.0.get_mut(&peer).unwrap().session.take().unwrap();
        let mut desk = Desk { broker: &mut self.bench.broker, now: self.bench.now, peers: &mut self.peers };
        session.handle_close(&Close::Lost, &mut desk);
        self.peers.0.remove(&peer);
    }
}

fn id(number: u16) -> PacketId {
    PacketId::new(number).unwrap()
}

fn connect(client_id: &str, clean_start: bool) -> Packet<'_> {
    Packet::Connect(Connect {
        version: Version::V311,
        clean_start,
        keep_alive_s: 10,
        client_id,
        will: None,
        user_name: None,
        password: None,
        properties: Properties::NONE,
    })
}

fn publish<'a>(topic: &'a str, qos: Qos, packet: u16, payload: &'a str, retain: bool) -> Packet<'a> {
    Packet::Publish(Publish {
        dup: false,
        qos,
        retain,
        topic: topic.as_bytes(),
        packet_id: PacketId::new(packet),
        properties: Properties::NONE,
        payload: payload.as_bytes(),
    })
}

fn short(packet: &Packet<'_>) -> String {
    match packet {
        Packet::ConnAck(ack) => format!("connack {} {:?}", ack.session_present, ack.reason),
        Packet::Publish(publish) => format!(
            "publish{}{} {} {} {} {}",
            if publish.dup { " dup" } else { "" },
            if publish.retain { " retain" } else { "" },
            publish.qos as u8,
            publish.packet_id.map_or(0, PacketId::get),
            String::from_utf8_lossy(publish.topic),
            String::from_utf8_lossy(publish.payload)
        ),
        Packet::PubAck(ack) => format!("puback {}", ack.packet_id.get()),
        Packet::PubRec(ack) => format!("pubrec {}", ack.packet_id.get()),
        Packet::PubRel(ack) => format!("pubrel {}", ack.packet_id.get()),
        Packet::PubComp(ack) => format!("pubcomp {}", ack.packet_id.get()),
        Packet::SubAck(answer) => {
            let codes: Vec<String> = answer.reasons.iter().map(|reason| reason.code().to_string()).collect();
            format!("suback {} {}", answer.packet_id.get(), codes.join(" "))
        }
        Packet::UnsubAck(answer) => format!("unsuback {}", answer.packet_id.get()),
        Packet::PingResp => "pingresp".into(),
        other => format!("{:?}", other.kind()),
    }
}

#[test]
fn puback_waits_for_the_flash_and_keeps_the_order() {
    let mut world = World::new();
    let (a, b) = (world.connect("a", true), world.connect("b", false));
    world.subscribe(b, "t", Qos::AtLeastOnce);
    assert_eq!(world.got(b), ["connack false Success", "suback 9 1"]);
    world.got(a);
    world.bench.flash.medium.borrow_mut().hold_sync = true;
    world.publish(a, "t", Qos::AtLeastOnce, 5, "m");
    world.publish(a, "nobody", Qos::AtLeastOnce, 6, "m");
    world.publish(a, "t", Qos::AtLeastOnce, 7, "n");
    assert_eq!((world.got(a), world.got(b)), (vec![], vec![]));
    world.bench.flash.medium.borrow_mut().hold_sync = false;
    assert_eq!(world.got(a), ["puback 5", "puback 6", "puback 7"]);
    assert_eq!(world.got(b), ["publish 1 1 t m", "publish 1 2 t n"]);
}

#[test]
fn a_persistent_session_collects_over_a_power_cut_and_repeats_with_dup_and_the_same_id() {
    let mut world = World::new();
    let line = world.connect("line7", false);
    world.subscribe(line, "plant/#", Qos::AtLeastOnce);
    assert_eq!(world.got(line), ["connack false Success", "suback 9 1"]);
    world.send(line, Packet::Disconnect(Disconnect::because(Reason::Success)));
    let a = world.connect("a", true);
    for number in 1..=3 {
        world.publish(a, "plant/x", Qos::AtLeastOnce, number, &number.to_string());
    }
    world.got(a);
    let mut world = world.restart();
    let line = world.connect("line7", false);
    assert_eq!(
        world.got(line),
        ["connack true Success", "publish 1 1 plant/x 1", "publish 1 2 plant/x 2", "publish 1 3 plant/x 3"]
    );
    world.send(line, Packet::PubAck(Ack::success(id(2))));
    world.settle();
    world.bench.now = world.bench.now.after(1_000);
    world.settle();
    let mut world = world.restart();
    let line = world.connect("line7", false);
    assert_eq!(
        world.got(line),
        ["connack true Success", "publish dup 1 1 plant/x 1", "publish dup 1 3 plant/x 3"]
    );
}

#[test]
fn qos_2_goes_through_once_in_both_directions_over_reconnects() {
    let mut world = World::new();
    let line = world.connect("line7", false);
    world.subscribe(line, "t", Qos::ExactlyOnce);
    let a = world.connect("a", false);
    world.got(line);
    world.got(a);
    world.publish(a, "t", Qos::ExactlyOnce, 4, "m");
    assert_eq!(world.got(a), ["pubrec 4"]);
    let mut world = world.restart();
    let a = world.connect("a", false);
    world.publish(a, "t", Qos::ExactlyOnce, 4, "m");
    world.send(a, Packet::PubRel(Ack::success(id(4))));
    assert_eq!(world.got(a), ["connack true Success", "pubrec 4", "pubcomp 4"]);
    let line = world.connect("line7", false);
    assert_eq!(world.got(line), ["connack true Success", "publish dup 2 1 t m"]);
    world.send(line, Packet::PubRec(Ack::success(id(1))));
    assert_eq!(world.got(line), ["pubrel 1"]);
    let mut world = world.restart();
    let line = world.connect("line7", false);
    assert_eq!(world.got(line), ["connack true Success", "pubrel 1"]);
    world.send(line, Packet::PubComp(Ack::success(id(1))));
    world.lose(line);
    let line = world.connect("line7", false);
    assert_eq!(world.got(line), ["connack true Success"]);
}

#[test]
fn a_second_connection_with_the_same_id_takes_over() {
    let mut world = World::new();
    let first = world.connect("same", false);
    world.subscribe(first, "t", Qos::AtLeastOnce);
    world.got(first);
    let second = world.connect("same", false);
    assert_eq!(world.got(second), ["connack true Success"]);
    assert_eq!(world.peers.0[&first].closed, Some(Close::TakenOver));
    world.publish(second, "t", Qos::AtLeastOnce, 1, "m");
    assert_eq!(world.got(second), ["puback 1", "publish 1 1 t m"]);
    let clean = world.connect("same", true);
    assert_eq!(world.got(clean), ["connack false Success"]);
}

#[test]
fn a_will_is_published_unless_the_client_says_goodbye() {
    let mut world = World::new();
    let watcher = world.connect("w", true);
    world.subscribe(watcher, "will/+", Qos::AtMostOnce);
    world.got(watcher);
    let with_will = |world: &mut World, topic: &'static str| {
        let peer = world.open();
        let Packet::Connect(mut connect) = connect("victim", true) else { unreachable!() };
        connect.will = Some(Will {
            topic: topic.as_bytes(),
            payload: b"gone",
            qos: Qos::AtMostOnce,
            retain: false,
            properties: Properties::NONE,
        });
        world.send(peer, Packet::Connect(connect));
        peer
    };
    let polite = with_will(&mut world, "will/polite");
    world.send(polite, Packet::Disconnect(Disconnect::because(Reason::Success)));
    let lost = with_will(&mut world, "will/lost");
    world.lose(lost);
    assert_eq!(world.got(watcher), ["publish 0 0 will/lost gone"]);
}

#[test]
fn silence_beyond_one_and_a_half_keep_alives_ends_the_connection() {
    let mut world = World::new();
    let peer = world.connect("p", true);
    let session = world.peers.0.get_mut(&peer).unwrap().session.as_mut().unwrap();
    assert_eq!(session.poll_timeout(), world.bench.now.after(15_000));
    world.bench.now = world.bench.now.after(9_000);
    world.send(peer, Packet::PingReq);
    let mut session = world.peers.0.get_mut(&peer).unwrap().session.take().unwrap();
    let now = world.bench.now;
    let mut desk = Desk { broker: &mut world.bench.broker, now, peers: &mut world.peers };
    let mut out = Vec::new();
    assert_eq!(session.handle_timeout(now.after(14_999), &mut desk, &mut out), Ok(()));
    assert_eq!(session.handle_timeout(now.after(15_000), &mut desk, &mut out), Err(Close::Silent));
}

#[test]
fn what_breaks_the_protocol_closes_with_its_reason() {
    let cases: [(&str, &[u8], &str); 6] = [
        ("not CONNECT first", &[0xC0, 0x00], "the first packet was not CONNECT [MQTT-3.1.0-1]"),
        ("reserved type", &[0x00, 0x00], "reserved packet type"),
        ("over the limit", &[0x30, 0xFF, 0xFF, 0x7F], "packet over the size limit"),
        ("bad length", &[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], "packet over the size limit"),
        ("SUBSCRIBE flags", &[0x80, 0x05], "reserved flags in the fixed header"),
        ("QoS 3", &[0x36, 0x05, 0x00, 0x01, b't', 0x00, 0x01], "reserved flags in the fixed header"),
    ];
    for (what, bytes, reason) in cases {
        let mut world = World::new();
        let peer = world.open();
        world.bytes(peer, bytes);
        let closed = world.peers.0[&peer].closed.clone();
        assert!(matches!(closed, Some(Close::Protocol(_))), "{what}: {closed:?}");
        if what != "bad length" && what != "QoS 3" {
            assert_eq!(closed, Some(Close::Protocol(reason)), "{what}");
        }
    }
}

#[test]
fn other_protocol_levels_are_answered_in_their_own_words() {
    let mut world = World::new();
    let old = world.open();
    world.bytes(old, b"\x10\x0f\x00\x06MQIsdp\x03\x02\x00\x0a\x00\x01a");
    assert_eq!(world.peers.0[&old].out, [0x20, 2, 0, 1]);
    let five = world.open();
    world.bytes(five, b"\x10\x0e\x00\x04MQTT\x05\x02\x00\x0a\x00\x00\x01a");
    assert_eq!(world.peers.0[&five].out, [0x20, 3, 0, 0x84, 0]);
    let nameless = world.open();
    world.send(nameless, connect("", false));
    assert_eq!(world.peers.0[&nameless].out, [0x20, 2, 0, 2]);
}

#[test]
fn a_partial_packet_is_left_until_it_is_whole() {
    let mut world = World::new();
    let peer = world.open();
    let mut bytes = Vec::new();
    connect("p", true).append(Version::V311, &mut bytes).unwrap();
    bytes.extend([0xC0, 0x00, 0xC0]);
    for end in 0..bytes.len() - 3 {
        assert_eq!(world.bytes(peer, &bytes[..end]), 0);
    }
    assert_eq!(world.bytes(peer, &bytes), bytes.len() - 1);
    assert_eq!(world.got(peer), ["connack false Success", "pingresp"]);
}

#[test]
fn the_window_holds_back_what_is_beyond_it() {
    let mut world = World::new();
    let (a, b) = (world.connect("a", true), world.connect("b", true));
    world.subscribe(b, "t", Qos::AtLeastOnce);
    world.got(b);
    for number in 1..=25 {
        world.publish(a, "t", Qos::AtLeastOnce, number, "m");
    }
    assert_eq!(world.got(b).len(), 10);
    for number in 1..=4 {
        world.send(b, Packet::PubAck(Ack::success(id(number))));
    }
    assert_eq!(world.got(b).len(), 4);
}

#[test]
fn unsubscribing_stops_deliveries_and_retained_values_come_with_a_subscription() {
    let mut world = World::new();
    let (a, b) = (world.connect("a", true), world.connect("b", true));
    world.send(a, publish("state/x", Qos::AtLeastOnce, 1, "on", true));
    world.got(a);
    world.subscribe(b, "state/#", Qos::AtLeastOnce);
    assert_eq!(world.got(b), ["connack false Success", "suback 9 1", "publish retain 1 1 state/x on"]);
    let filters = ["state/#"];
    let filters = Filters::list(&filters);
    world.send(
        b,
        Packet::Unsubscribe(Unsubscribe { packet_id: id(3), properties: Properties::NONE, filters }),
    );
    world.publish(a, "state/x", Qos::AtLeastOnce, 2, "off");
    assert_eq!(world.got(b), ["unsuback 3"]);
}

#[test]
fn random_and_damaged_bytes_cost_their_own_connection_only() {
    let mut world = World::new();
    let steady = world.connect("steady", false);
    world.subscribe(steady, "s", Qos::AtLeastOnce);
    world.got(steady);
    let mut state = 0x1234_5678_9ABC_DEF1u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    let mut good = Vec::new();
    connect("x", false).append(Version::V311, &mut good).unwrap();
    for number in 1..=8 {
        let qos = [Qos::AtMostOnce, Qos::AtLeastOnce, Qos::ExactlyOnce][number as usize % 3];
        let packet = if qos == Qos::AtMostOnce { 0 } else { number };
        publish("r/t", qos, packet, "payload", number % 2 == 0).append(Version::V311, &mut good).unwrap();
    }
    for _ in 0..3_000 {
        let peer = world.open();
        let mut bytes = good.clone();
        for _ in 0..random() % 4 {
            let at = random() as usize % bytes.len();
            bytes[at] = random() as u8;
        }
        bytes.truncate(random() as usize % bytes.len());
        world.bytes(peer, &bytes);
        world.settle();
        if world.peers.0[&peer].session.is_some() {
            world.lose(peer);
        }
    }
    world.publish(steady, "s", Qos::AtLeastOnce, 77, "still here");
    let got = world.got(steady);
    assert!(got.contains(&"puback 77".to_string()), "{got:?}");
    assert!(got.iter().any(|packet| packet.ends_with("still here")));
}
