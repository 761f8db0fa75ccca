//! The loop with sessions that only record, over real sockets and without a wait.

use std::cell::{Cell, RefCell};
use std::io::{Read, Write};
use std::os::unix::net::UnixStream;
use std::rc::Rc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::Arc;

use super::buffers::Buffers;
use super::config::Config;
use super::engine::Engine;
use super::poller::Readiness;
use super::rooms::Rooms;
use super::stream::Stream;
use super::table::{Table, RESERVED_COUNT};
use super::turn::{Gateway, Patience, INPUT_BYTES};
use crate::command::{Commands, Delivery, Message, Offer, Outlet};
use crate::model::key::Key;
use crate::protocol::{Close, Dialect, Direct, Session, WriteDirect};
use crate::units::{ConsumerId, Millis, Position, Tag};

mod control;
mod faults;
mod serial;

/// What happened to a session.
#[derive(Default)]
struct Seen {
    frames: Vec<Vec<u8>>,
    closed: Option<Close>,
}

/// Frames are two bytes of length and that many bytes; each is answered with `ok`. `X` closes, `D`
/// and a digit disconnects the owner in that place, `W` and a digit takes so many turns.
struct Recorder {
    seen: Rc<RefCell<Seen>>,
    is_established: bool,
    turns: u8,
}

impl Session for Recorder {
    fn handle_input(
        &mut self,
        input: &[u8],
        broker: &mut dyn Commands,
        out: &mut Vec<u8>,
    ) -> Result<usize, Close> {
        let mut used = 0;
        self.turns = self.turns.saturating_sub(1);
        if self.turns > 0 {
            return Ok(0);
        }
        while let [high, low, rest @ ..] = &input[used..] {
            let length = usize::from(*high) << 8 | usize::from(*low);
            let Some(frame) = rest.get(..length) else { break };
            used += 2 + length;
            self.seen.borrow_mut().frames.push(frame.to_vec());
            match frame {
                b"X" => return Err(Close::Protocol("asked to")),
                [b'D', place] => broker.disconnect(u64::from(place - b'0')),
                [b'W', turns] => {
                    self.turns = turns - b'0';
                    return Ok(used);
                }
                _ => out.extend_from_slice(b"ok"),
            }
        }
        Ok(used)
    }

    fn is_unfinished(&self) -> bool {
        self.turns > 0
    }

    fn handle_delivery(&mut self, delivery: &Delivery<'_>, out: &mut Vec<u8>) -> Offer {
        out.extend_from_slice(delivery.message.body);
        Offer::Taken
    }

    fn handle_durable(&mut self, _: Position, _: &mut dyn Commands, out: &mut Vec<u8>) {
        out.extend_from_slice(b"durable");
    }

    fn direct(&self) -> Option<Direct> {
        Some(Direct { dialect: Dialect::Mqtt311, max_frame_size: 1 << 20 })
    }

    fn is_established(&self) -> bool {
        self.is_established
    }

    fn poll_timeout(&self) -> Millis {
        Millis::NEVER
    }

    fn handle_timeout(&mut self, _: Millis, _: &mut dyn Commands, _: &mut Vec<u8>) -> Result<(), Close> {
        Ok(())
    }

    fn handle_close(&mut self, reason: &Close, _: &mut dyn Commands) {
        self.seen.borrow_mut().closed = Some(reason.clone());
    }
}

thread_local! {
    static ENCODED_COUNT: Cell<usize> = const { Cell::new(0) };
}

fn write_body(_: Dialect, delivery: &Delivery<'_>, out: &mut Vec<u8>) {
    ENCODED_COUNT.set(ENCODED_COUNT.get() + 1);
    out.extend_from_slice(delivery.message.body);
}

const READABLE: Readiness = Readiness { readable: true, writable: false, hangup: false };
const WRITABLE: Readiness = Readiness { readable: false, writable: true, hangup: false };

/// A gateway with clients whose ends of the streams are at hand.
struct Bench {
    gateway: Gateway,
    config: Config,
    _store: StoreFile,
}

/// A store in a directory of its own, removed at the end.
struct StoreFile(std::path::PathBuf);

impl Drop for StoreFile {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

struct Client {
    stream: UnixStream,
    owner: u64,
    seen: Rc<RefCell<Seen>>,
}

impl Client {
    fn send(&mut self, frame: &[u8]) {
        let length = u16::try_from(frame.len()).unwrap().to_be_bytes();
        self.stream.write_all(&length).unwrap();
        self.stream.write_all(frame).unwrap();
    }

    fn received(&mut self) -> Vec<u8> {
        let mut all = Vec::new();
        match self.stream.read_to_end(&mut all) {
            Ok(_) => {}
            Err(error) => assert_eq!(error.kind(), std::io::ErrorKind::WouldBlock),
        }
        all
    }
}

impl Bench {
    fn new(connections: u32) -> Bench {
        Bench::with(connections, "1M", write_body)
    }

    fn with(connections: u32, store_size: &str, write_direct: WriteDirect) -> Bench {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let directory = std::env::temp_dir().join(format!("forebay-loop-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&directory).unwrap();
        let mut config = Config::default();
        config.store.path = directory.join("store.fby");
        config.apply_flag("store.size", store_size).unwrap();
        config.apply_flag("store.segment_size", "64K").unwrap();
        let wake = Arc::new(rustix::event::eventfd(0, rustix::event::EventfdFlags::NONBLOCK).unwrap());
        let (engine, _) = Engine::open(&config, wake).unwrap();
        let table = Table::new(connections, Buffers::new(4 << 20, 256 << 10), write_direct);
        let patience = Patience { handshake_ms: 10_000, stall_ms: 60_000 };
        let gateway = Gateway::new(engine, table, Rooms::new(&config), patience);
        Bench { gateway, config, _store: StoreFile(directory) }
    }

    fn client(&mut self) -> Client {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let seen = Rc::new(RefCell::new(Seen::default()));
        let index = self.gateway.connect_with(Stream::Unix(near), RESERVED_COUNT, |_, _| {
            Box::new(Recorder { seen: Rc::clone(&seen), is_established: true, turns: 0 })
        });
        let index = index.expect("there is room");
        Client { stream: far, owner: self.gateway.table.owner(index), seen }
    }

    fn turn(&mut self, client: &Client, readiness: Readiness) {
        self.gateway.handle_event(client.owner, readiness);
        self.gateway.serve_ready();
        self.gateway.end_turn();
    }

    fn deliver(&mut self, client: &Client, body: &[u8], tag: Option<Tag>) -> Offer {
        let message = Message { key: Key::slashes(b"a"), headers: &[], body };
        self.gateway.table.deliver(&Delivery {
            consumer: ConsumerId(client.owner as u32),
            owner: client.owner,
            queue: Default::default(),
            exchange: "amq.topic",
            offset: None,
            tag,
            grade: Default::default(),
            redelivered: false,
            received: false,
            retained: false,
            delivery_count: 0,
            published: Millis(0),
            message,
        })
    }
}

#[test]
fn frames_are_answered_in_one_write_at_the_end_of_the_turn() {
    let mut bench = Bench::new(4);
    let mut client = bench.client();
    client.send(b"one");
    client.send(b"two");
    bench.gateway.handle_event(client.owner, READABLE);
    bench.gateway.serve_ready();
    assert_eq!(client.received(), b"");
    bench.gateway.end_turn();
    assert_eq!(client.received(), b"okok");
    assert_eq!(bench.gateway.table.buffers.used(), 0);
}

#[test]
fn a_frame_that_comes_in_pieces_is_kept_until_it_is_whole() {
    let mut bench = Bench::new(4);
    let mut client = bench.client();
    for piece in [&b"\x00"[..], b"\x05he", b"llo\x00\x01"] {
        client.stream.write_all(piece).unwrap();
        bench.turn(&client, READABLE);
    }
    assert_eq!(client.seen.borrow().frames, [b"hello"]);
    assert!(bench.gateway.table.buffers.used() > 0);
    client.stream.write_all(b"!").unwrap();
    bench.turn(&client, READABLE);
    assert_eq!(client.seen.borrow().frames, [&b"hello"[..], b"!"]);
    assert_eq!(bench.gateway.table.buffers.used(), 0);
    // Waking up for nothing changes nothing.
    client.stream.write_all(b"\x00").unwrap();
    bench.turn(&client, READABLE);
    bench.turn(&client, READABLE);
    client.stream.write_all(b"\x01?").unwrap();
    bench.turn(&client, READABLE);
    assert_eq!(client.seen.borrow().frames.last().unwrap(), b"?");
}

#[test]
fn a_session_that_is_not_finished_comes_again_without_anything_being_read() {
    let mut bench = Bench::new(4);
    let (mut slow, mut other) = (bench.client(), bench.client());
    slow.send(b"W3");
    slow.send(b"next");
    bench.turn(&slow, READABLE);
    // What comes meanwhile stays where it is.
    slow.send(b"later");
    other.send(b"turn");
    for turns in 1..3 {
        assert_eq!(bench.gateway.timeout_ms(), Some(0), "{turns}");
        assert_eq!(slow.received(), b"");
        bench.turn(&other, READABLE);
    }
    assert_eq!(other.received(), b"ok");
    bench.gateway.serve_ready();
    bench.gateway.end_turn();
    assert_eq!(slow.received(), b"ok");
    assert_eq!(slow.seen.borrow().frames, [&b"W3"[..], b"next"]);
    bench.turn(&slow, READABLE);
    assert_eq!(slow.seen.borrow().frames.last().unwrap(), b"later");
    assert_eq!(bench.gateway.table.buffers.used(), 0);
}

#[test]
fn a_frame_of_the_size_of_the_read_buffer_is_put_together() {
    let mut bench = Bench::new(4);
    let mut client = bench.client();
    let large: Vec<u8> = (0..INPUT_BYTES - 1).map(|i| (i % 251) as u8).collect();
    let mut wire = u16::try_from(large.len()).unwrap().to_be_bytes().to_vec();
    wire.extend_from_slice(&large);
    wire.extend_from_slice(b"\x00\x05after");
    for piece in wire.chunks(10_000) {
        client.stream.write_all(piece).unwrap();
        bench.turn(&client, READABLE);
    }
    assert_eq!(client.seen.borrow().frames, [&large[..], b"after"]);
    assert_eq!(bench.gateway.table.buffers.used(), 0);
}

#[test]
fn a_client_that_breaks_the_protocol_costs_only_itself() {
    let mut bench = Bench::new(4);
    let (mut good, mut bad) = (bench.client(), bench.client());
    bad.send(b"fine");
    bad.send(b"X");
    bad.send(b"never seen");
    bench.turn(&bad, READABLE);
    assert_eq!(bad.received(), b"ok");
    assert_eq!(bad.stream.read(&mut [0; 1]).unwrap(), 0);
    assert_eq!(bad.seen.borrow().closed, Some(Close::Protocol("asked to")));
    assert_eq!(bad.seen.borrow().frames.len(), 2);
    good.send(b"fine");
    bench.turn(&good, READABLE);
    assert_eq!(good.received(), b"ok");
    assert_eq!(bench.gateway.table.count(), 1);
}

#[test]
fn a_lost_connection_is_told_to_its_session_and_its_number_finds_nothing_more() {
    let mut bench = Bench::new(1);
    let client = bench.client();
    let (owner, seen) = (client.owner, Rc::clone(&client.seen));
    drop(client);
    let again = Readiness { readable: true, writable: true, hangup: true };
    bench.gateway.handle_event(owner, again);
    bench.gateway.serve_ready();
    bench.gateway.end_turn();
    assert_eq!(seen.borrow().closed, Some(Close::Lost));
    let next = bench.client();
    assert_eq!(next.owner as u32, owner as u32);
    assert_ne!(next.owner, owner);
    assert_eq!(bench.gateway.table.find(owner), None);
}

#[test]
fn the_limit_of_connections_hands_the_stream_back() {
    let mut bench = Bench::new(1);
    let _client = bench.client();
    let (near, _far) = UnixStream::pair().unwrap();
    assert!(bench.gateway.connect(Stream::Unix(near), super::rooms::Room::Mqtt).is_err());
    let (near, _far) = UnixStream::pair().unwrap();
    assert!(bench.gateway.connect(Stream::Unix(near), super::rooms::Room::Control).is_ok());
}

#[test]
fn another_connection_may_take_over() {
    let mut bench = Bench::new(4);
    let (first, mut second) = (bench.client(), bench.client());
    assert_eq!(first.owner, 0);
    second.send(b"D0");
    second.send(b"D1");
    bench.turn(&second, READABLE);
    assert_eq!(first.seen.borrow().closed, Some(Close::TakenOver));
    assert_eq!(second.seen.borrow().closed, None);
    assert_eq!(bench.gateway.table.count(), 1);
}

#[test]
fn a_transient_message_is_encoded_once_for_all_its_receivers() {
    let mut bench = Bench::new(8);
    let mut clients: Vec<Client> = (0..5).map(|_| bench.client()).collect();
    for client in &clients {
        bench.turn(client, READABLE);
    }
    let before = ENCODED_COUNT.get();
    bench.gateway.table.set_publishing(true);
    for client in &clients {
        assert_eq!(bench.deliver(client, b"first", None), Offer::Taken);
    }
    bench.gateway.table.set_publishing(false);
    assert_eq!(ENCODED_COUNT.get() - before, 1);
    bench.gateway.table.set_publishing(true);
    for client in &clients {
        assert_eq!(bench.deliver(client, b"again", None), Offer::Taken);
    }
    bench.gateway.table.set_publishing(false);
    bench.gateway.end_turn();
    for client in &mut clients {
        assert_eq!(client.received(), b"firstagain");
    }
}

#[test]
fn a_client_that_does_not_read_is_paused_and_goes_on_when_it_reads() {
    let mut bench = Bench::new(4);
    let mut slow = bench.client();
    let body = vec![7; 10_000];
    let mut taken = 0;
    while bench.deliver(&slow, &body, Some(Tag(1))) == Offer::Taken {
        taken += body.len();
        assert!(taken < 4 << 20, "it is never told to wait");
    }
    assert!(bench.gateway.table.buffers.used() <= 600 << 10);
    bench.gateway.end_turn();
    assert_eq!(bench.gateway.table.pop_retry(), None);
    let mut received = 0;
    for _ in 0..1000 {
        received += slow.received().len();
        bench.gateway.handle_event(slow.owner, WRITABLE);
        bench.gateway.table.flush_dirty();
        if received == taken {
            break;
        }
    }
    assert_eq!(received, taken);
    assert_eq!(bench.gateway.table.pop_retry(), Some(ConsumerId(slow.owner as u32)));
    assert_eq!(bench.gateway.table.buffers.used(), 0);
}

#[test]
fn a_client_that_stalls_is_cut_off() {
    let mut bench = Bench::new(4);
    let slow = bench.client();
    while bench.deliver(&slow, &[0; 10_000], None) == Offer::Taken {}
    bench.gateway.end_turn();
    for now in [59_700, 60_000] {
        bench.gateway.table.now = Millis(now);
        bench.gateway.handle_time();
        bench.gateway.end_turn();
        assert_eq!(slow.seen.borrow().closed.is_some(), now == 60_000);
    }
    assert_eq!(bench.gateway.table.count(), 0);
    assert_eq!(bench.gateway.table.buffers.used(), 0);
}

#[test]
fn who_does_not_introduce_himself_in_time_is_disconnected() {
    let mut bench = Bench::new(4);
    let (near, _far) = UnixStream::pair().unwrap();
    near.set_nonblocking(true).unwrap();
    let seen = Rc::new(RefCell::new(Seen::default()));
    let recorded = Rc::clone(&seen);
    let opened = bench.gateway.connect_with(Stream::Unix(near), RESERVED_COUNT, |_, _| {
        Box::new(Recorder { seen: recorded, is_established: false, turns: 0 })
    });
    assert!(opened.is_ok());
    for now in [9_999, 10_000] {
        bench.gateway.table.now = Millis(now);
        bench.gateway.handle_time();
        bench.gateway.end_turn();
        assert_eq!(seen.borrow().closed.is_some(), now == 10_000);
    }
    assert_eq!(bench.gateway.table.count(), 0);
}

#[test]
fn a_publisher_ahead_of_a_blocked_subscriber_is_held_and_then_read_in_pieces() {
    let mut bench = Bench::new(4);
    let (slow, mut publisher) = (bench.client(), bench.client());
    while bench.deliver(&slow, &[0; 10_000], None) == Offer::Taken {}
    let index = publisher.owner as u32;
    assert!(bench.gateway.table.hold_if_ahead(index));
    let wire = b"\x00\x02hi".repeat(2048);
    publisher.stream.write_all(&wire).unwrap();
    bench.turn(&publisher, READABLE);
    assert_eq!(publisher.seen.borrow().frames.len(), 0, "held");
    bench.gateway.table.now = Millis(10);
    bench.gateway.end_turn();
    bench.gateway.serve_ready();
    assert_eq!(publisher.seen.borrow().frames.len(), 1024, "one piece");
    bench.gateway.serve_ready();
    assert_eq!(publisher.seen.borrow().frames.len(), 2048, "it met nobody, so the rest at once");
}

#[test]
fn a_subscriber_that_stays_slow_holds_up_nobody() {
    let mut bench = Bench::new(4);
    let (slow, publisher) = (bench.client(), bench.client());
    bench.gateway.table.now = Millis(1_000_000);
    while bench.deliver(&slow, &[0; 10_000], None) == Offer::Taken {}
    bench.gateway.table.suspect_pressure();
    assert!(bench.gateway.table.hold_if_ahead(publisher.owner as u32));
    bench.gateway.table.now = Millis(1_001_000);
    bench.gateway.table.suspect_pressure();
    assert!(!bench.gateway.table.hold_if_ahead(publisher.owner as u32));
}
