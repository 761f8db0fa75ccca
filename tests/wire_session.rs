//! The gateway's side of the wire protocol as transcripts: frames in, frames out, no line.

#[path = "support/broker.rs"]
mod support;

use forebay::broker::Broker;
use forebay::command::{Command, Commands, Delivery, Grade, Offer, Outlet, Refusal, Reply};
use forebay::model::key::Key;
use forebay::protocol::wire::{Access, Device, Settings, Shared, WireSession};
use forebay::protocol::{Close, Session};
use forebay::units::*;
use forebay::wire::frame::*;
use forebay::wire::{seal, unwrap, Frame, Seed};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::rc::Rc;
use support::{Bench, TestFlash};

#[derive(Default)]
struct Peers(BTreeMap<u64, (Option<WireSession>, Vec<u8>)>);

impl Outlet for Peers {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        match self.0.get_mut(&delivery.owner) {
            Some((Some(session), out)) => session.handle_delivery(delivery, out),
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
        let session = self.peers.0.get_mut(&owner).and_then(|peer| peer.0.take());
        if let Some(mut session) = session {
            session.handle_close(&Close::TakenOver, self);
        }
    }
}

struct World {
    bench: Bench,
    peers: Peers,
    settings: Rc<Settings>,
    shared: Rc<RefCell<Shared>>,
    seeds: BTreeMap<u64, Seed>,
}

const NONCE: u32 = 99;

fn hello(device: &str) -> Hello<'_> {
    Hello {
        version: 1,
        nonce: NONCE,
        device,
        secret: Bytes(b""),
        window: 2,
        max_frame: 200,
        clean: false,
        keep_alive_s: 10,
    }
}

fn publish(sequence: u64, distance: u64, body: &str) -> Frame<'_> {
    Frame::Publish(Publish {
        flags: 0,
        sequence,
        distance,
        time_ms: 0,
        topic: "up/t",
        options: None,
        body: Bytes(body.as_bytes()),
    })
}

impl World {
    fn new(access: Access) -> World {
        let mut bench = Bench::new();
        bench.durable_queue("all");
        bench.bind("amq.topic", "all", Key::slashes(b"up/#"), Grade::AtLeastOnce);
        bench.settle();
        let settings = Rc::new(Settings { max_frame: 300, window: 4, max_queue: 0, access });
        let shared = Rc::new(RefCell::new(Shared::new(1)));
        World { bench, peers: Peers::default(), settings, shared, seeds: BTreeMap::new() }
    }

    fn connect(&mut self) -> u64 {
        let owner = self.peers.0.len() as u64 + 1;
        let session =
            WireSession::new(self.settings.clone(), self.shared.clone(), owner, None, self.bench.now);
        self.peers.0.insert(owner, (Some(session), Vec::new()));
        owner
    }

    fn bytes(&mut self, owner: u64, bytes: &[u8]) -> Result<usize, Close> {
        let mut session = self.peers.0.get_mut(&owner).unwrap().0.take().expect("open");
        let mut out = Vec::new();
        let mut desk = Desk { broker: &mut self.bench.broker, now: self.bench.now, peers: &mut self.peers };
        let used = session.handle_input(bytes, &mut desk, &mut out);
        let peer = self.peers.0.get_mut(&owner).unwrap();
        peer.1.extend(out);
        peer.0 = Some(session);
        used
    }

    fn send(&mut self, owner: u64, frame: Frame<'_>) -> Result<usize, Close> {
        let seed = match frame {
            Frame::Hello(_) => Seed::GREETING,
            _ => self.seeds.get(&owner).copied().unwrap_or_default(),
        };
        let mut line = [0; 1000];
        let size = seal(&frame, seed, &mut line).unwrap();
        self.bytes(owner, &line[..size])
    }

    fn greet(&mut self, owner: u64, hello: Hello<'_>) -> Vec<String> {
        self.send(owner, Frame::Hello(hello)).unwrap();
        self.got(owner)
    }

    fn settle(&mut self) {
        let now = self.bench.now;
        for _ in 0..100 {
            self.bench.broker.pump(now, &mut self.peers);
            self.bench.broker.commit(now);
            let Some(durable) = self.bench.broker.poll_durable() else { return };
            let owners: Vec<u64> = self.peers.0.keys().copied().collect();
            for owner in owners {
                let Some(mut session) = self.peers.0.get_mut(&owner).unwrap().0.take() else { continue };
                let mut out = Vec::new();
                let mut desk = Desk { broker: &mut self.bench.broker, now, peers: &mut self.peers };
                session.handle_durable(durable, &mut desk, &mut out);
                let peer = self.peers.0.get_mut(&owner).unwrap();
                peer.1.extend(out);
                peer.0 = Some(session);
            }
        }
    }

    /// What was said to a device since the last call, without waiting for the flash.
    fn heard(&mut self, owner: u64) -> Vec<String> {
        let out = std::mem::take(&mut self.peers.0.get_mut(&owner).unwrap().1);
        let mut words = Vec::new();
        for piece in out.split(|&byte| byte == 0).filter(|piece| !piece.is_empty()) {
            let mut piece = piece.to_vec();
            let sealed = unwrap(&mut piece).expect("a frame");
            let session = self.seeds.get(&owner).copied();
            if let (true, Some(Frame::Welcome(welcome))) =
                (sealed.checks(Seed::answer(NONCE)), sealed.frame())
            {
                self.seeds.insert(owner, Seed::session(NONCE, welcome.nonce));
                words.push(format!("welcome window {} resumed {}", welcome.window, welcome.is_resumed));
                continue;
            }
            assert!(sealed.checks(Seed::GREETING) || session.is_some_and(|seed| sealed.checks(seed)));
            words.push(match sealed.frame().expect("known") {
                Frame::Confirm { lane, upto } => format!("confirm {lane} {upto}"),
                Frame::Again(again) => {
                    format!("again {} {} {} {:?}", again.lane, again.upto, again.after_ms, again.code)
                }
                Frame::Reject { sequence, code, .. } => format!("reject {sequence} {code:?}"),
                Frame::Deliver(deliver) => {
                    let body = String::from_utf8_lossy(deliver.body.0).into_owned();
                    let again = if deliver.flags & flag::REDELIVERED != 0 { " again" } else { "" };
                    format!("deliver {}+{} {} {body}{again}", deliver.number, deliver.distance, deliver.topic)
                }
                other => format!("{other:?}"),
            });
        }
        words
    }

    fn got(&mut self, owner: u64) -> Vec<String> {
        self.settle();
        self.heard(owner)
    }

    fn open(&mut self, device: &str) -> u64 {
        let owner = self.connect();
        self.greet(owner, hello(device));
        self.send(owner, Frame::Open(Open { lane: 0, epoch: 1, settled: 0 })).unwrap();
        owner
    }

    fn arrived(&mut self) -> Vec<String> {
        let id = self.bench.durable_queue("all");
        self.bench.consume(id, 10);
        self.bench.drain()
    }
}

#[test]
fn a_publish_is_confirmed_when_it_is_on_flash_and_not_before() {
    let mut world = World::new(Access::default());
    let owner = world.connect();
    assert_eq!(world.greet(owner, hello("pump")), ["welcome window 4 resumed false"]);
    world.send(owner, Frame::Open(Open { lane: 0, epoch: 1, settled: 0 })).unwrap();
    world.send(owner, publish(1, 1, "a")).unwrap();
    world.send(owner, publish(2, 1, "b")).unwrap();
    assert!(world.heard(owner).is_empty());
    assert_eq!(world.got(owner), ["confirm 0 2"]);
    world.send(owner, publish(2, 1, "b")).unwrap();
    assert_eq!(world.got(owner), ["confirm 0 2"], "said again");
    assert_eq!(world.arrived(), ["a", "b"]);
}

#[test]
fn a_gap_is_not_taken_and_the_device_told_once_where_to_go_on() {
    let mut world = World::new(Access::default());
    let owner = world.open("pump");
    world.send(owner, publish(1, 1, "a")).unwrap();
    world.send(owner, publish(3, 1, "c")).unwrap();
    world.send(owner, publish(4, 1, "d")).unwrap();
    assert_eq!(world.got(owner), ["again 0 1 0 None", "confirm 0 1"]);
    // The device dropped 2, and says so by the distance.
    world.send(owner, publish(3, 2, "c")).unwrap();
    world.send(owner, publish(4, 1, "d")).unwrap();
    assert_eq!(world.got(owner), ["confirm 0 4"]);
    assert_eq!(world.arrived(), ["a", "c", "d"]);
}

#[test]
fn a_lane_that_was_not_opened_takes_nothing() {
    let mut world = World::new(Access::default());
    let owner = world.connect();
    world.greet(owner, hello("pump"));
    world.send(owner, publish(5, 1, "a")).unwrap();
    assert_eq!(world.got(owner), ["again 0 0 0 None"]);
    world.send(owner, Frame::Open(Open { lane: 0, epoch: 1, settled: 4 })).unwrap();
    world.send(owner, publish(5, 1, "a")).unwrap();
    assert_eq!(world.got(owner), ["confirm 0 5"]);
}

#[test]
fn what_comes_again_in_a_new_session_is_confirmed_and_not_doubled() {
    let mut world = World::new(Access::default());
    let owner = world.open("pump");
    world.send(owner, publish(1, 1, "a")).unwrap();
    world.settle();
    let again = world.open("pump");
    assert!(world.peers.0[&owner].0.is_none(), "the other connection is taken over");
    world.send(again, publish(1, 1, "a")).unwrap();
    world.send(again, publish(2, 1, "b")).unwrap();
    assert_eq!(world.got(again), ["confirm 0 1", "confirm 0 2"]);
    // Another epoch of the device, and the same sequence of another device, are something else.
    world.send(again, Frame::Open(Open { lane: 0, epoch: 2, settled: 0 })).unwrap();
    world.send(again, publish(1, 1, "new life")).unwrap();
    let other = world.open("fan");
    world.send(other, publish(1, 1, "fan")).unwrap();
    assert_eq!(world.got(other), ["confirm 0 1"]);
    assert_eq!(world.arrived(), ["a", "b", "new life", "fan"]);
}

#[test]
fn what_is_never_taken_is_rejected_and_the_next_is_taken() {
    let device = Device {
        name: "*".into(),
        secret: None,
        publish: vec!["up/t".into()],
        subscribe: vec!["to/#".into()],
    };
    let mut world = World::new(Access { devices: vec![device] });
    let owner = world.open("pump");
    for (sequence, topic) in [(1, "up/x"), (2, "up/#"), (3, "up/t")] {
        let frame =
            Publish { flags: 0, sequence, distance: 1, time_ms: 0, topic, options: None, body: Bytes(b"m") };
        world.send(owner, Frame::Publish(frame)).unwrap();
    }
    assert_eq!(
        world.got(owner),
        ["reject 1 Forbidden", "confirm 0 1", "reject 2 BadTopic", "confirm 0 2", "confirm 0 3"]
    );
    assert_eq!(world.arrived(), ["m"]);
}

#[test]
fn deliveries_are_numbered_and_what_is_nacked_comes_again_under_new_numbers() {
    let mut world = World::new(Access::default());
    let owner = world.open("pump");
    let subscribe = Subscribe { request: 0, pattern: "to/pump", retained: true };
    world.send(owner, Frame::Subscribe(subscribe)).unwrap();
    assert_eq!(world.got(owner), ["Granted { request: 0, refused: None }"]);
    for body in ["a", "b", "c"] {
        world.bench.topic("to/pump", body, Grade::AtLeastOnce, false);
    }
    assert_eq!(world.got(owner), ["deliver 1+1 to/pump a", "deliver 2+1 to/pump b"]);
    // It got 2 and not 1.
    world.send(owner, Frame::Nack(Nack { upto: 0, seen: 2, verdict: Verdict::Again })).unwrap();
    assert_eq!(world.got(owner), ["deliver 3+3 to/pump a again", "deliver 4+1 to/pump b again"]);
    // An old Nack, doubled by the line, means nothing any more.
    world.send(owner, Frame::Nack(Nack { upto: 0, seen: 2, verdict: Verdict::DeadLetter })).unwrap();
    assert!(world.got(owner).is_empty());
    world.send(owner, Frame::Ack { upto: 3 }).unwrap();
    assert_eq!(world.got(owner), ["deliver 5+1 to/pump c"]);
    world.send(owner, Frame::Nack(Nack { upto: 4, seen: 5, verdict: Verdict::DeadLetter })).unwrap();
    assert!(world.got(owner).is_empty());
    world.bench.topic("to/pump", "d", Grade::AtLeastOnce, false);
    assert_eq!(world.got(owner), ["deliver 6+2 to/pump d"]);
    world.send(owner, Frame::Ack { upto: 6 }).unwrap();
    world.send(owner, Frame::Credit { window: 0 }).unwrap();
    world.bench.topic("to/pump", "e", Grade::AtLeastOnce, false);
    assert!(world.got(owner).is_empty());
    world.send(owner, Frame::Credit { window: 2 }).unwrap();
    assert_eq!(world.got(owner), ["deliver 7+1 to/pump e"]);
}

#[test]
fn who_may_not_come_is_told_why() {
    let device = Device { name: "pump".into(), secret: Some("s".into()), publish: vec![], subscribe: vec![] };
    let mut world = World::new(Access { devices: vec![device] });
    let secret = |secret: &'static [u8]| Hello { secret: Bytes(secret), ..hello("pump") };
    for (hello, code) in [
        (hello("fan"), Code::Unauthorized),
        (secret(b"x"), Code::Unauthorized),
        (hello("a/b"), Code::BadName),
        (Hello { version: 0, ..secret(b"s") }, Code::Version),
    ] {
        let owner = world.connect();
        assert_eq!(world.send(owner, Frame::Hello(hello)), Err(Close::Protocol(code.text())));
        assert_eq!(world.heard(owner), [format!("Error({code:?})")]);
    }
    let owner = world.connect();
    assert_eq!(world.greet(owner, secret(b"s")), ["welcome window 4 resumed false"]);
}

#[test]
fn noise_is_passed_over_and_the_unknown_are_asked_who_they_are() {
    let mut world = World::new(Access::default());
    let owner = world.connect();
    assert_eq!(world.bytes(owner, b"GET / HTTP/1.1\r\n\r\n\0"), Ok(19));
    assert_eq!(world.heard(owner), ["Who"]);
    // Not more often than once a second.
    world.bytes(owner, b"\0\0noise\0").unwrap();
    assert!(world.heard(owner).is_empty());
    // More than a frame without an end, then the rest of it, is dropped.
    assert_eq!(world.bytes(owner, &[7; 1000]), Ok(1000));
    assert_eq!(world.bytes(owner, &[7; 10]), Ok(10));
    let mut line = vec![9, 9, 0];
    let mut frame = [0; 200];
    let size = seal(&Frame::Hello(hello("pump")), Seed::GREETING, &mut frame).unwrap();
    line.extend(&frame[..size]);
    assert_eq!(world.bytes(owner, &line), Ok(line.len()));
    assert_eq!(world.got(owner), ["welcome window 4 resumed false"]);
    // A frame of a session that is no more.
    world.bench.now = world.bench.now.after(2000);
    let seed = world.seeds.insert(owner, Seed::session(1, 2)).unwrap();
    for _ in 0..3 {
        world.send(owner, publish(1, 1, "a")).unwrap();
    }
    assert_eq!(world.heard(owner), ["Who"]);
    world.seeds.insert(owner, seed);
    assert_eq!(world.got(owner), Vec::<String>::new());
}

#[test]
fn any_bytes_at_all_end_nothing_and_hold_nothing() {
    let mut world = World::new(Access::default());
    let owner = world.open("pump");
    let seed = world.seeds[&owner];
    let mut state = 7u64;
    let mut random = move || {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        state
    };
    for _ in 0..20_000 {
        let mut line = [0; 400];
        // Well sealed nonsense reaches the session too.
        let frame = match random() % 8 {
            0 => Frame::Publish(Publish {
                flags: random() as u8,
                sequence: random() % 20,
                distance: random() % 4,
                time_ms: random() as i64,
                topic: "up/t",
                options: Some(Options { ttl_ms: 1, delay_ms: random() as u32, priority: random() as u8 }),
                body: Bytes(&[]),
            }),
            1 => Frame::Ack { upto: random() as u32 },
            2 => {
                Frame::Nack(Nack { upto: random() as u32, seen: random() as u32, verdict: Verdict::Delay(1) })
            }
            3 => Frame::Pong(Pong { token: random() as u32, time_ms: 0, upto: random() as u32 }),
            4 => Frame::Open(Open { lane: random() as u8, epoch: 1, settled: random() % 20 }),
            5 => Frame::Credit { window: random() as u16 },
            6 => Frame::Confirm { lane: 1, upto: random() },
            _ => Frame::Unsubscribe(Subscribe { request: random() as u16, pattern: "a/#", retained: false }),
        };
        let size = seal(&frame, seed, &mut line).unwrap();
        if random() % 4 == 0 {
            line[random() as usize % size] ^= 1 << (random() % 8);
        }
        world.bytes(owner, &line[..size]).unwrap();
        if random() % 50 == 0 {
            world.got(owner);
        }
    }
}
