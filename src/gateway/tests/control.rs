//! The control socket: transcripts of what is asked and answered, over the loop and a store of its own.

use std::sync::mpsc::channel;

use super::faults::EIO;
use super::*;
use crate::command::{Command, Publish, QueueKind, QueueOptions, Reply, Subscription};
use crate::flash::file::Call;
use crate::gateway::control::request::LINE_MAX;
use crate::gateway::rooms::Room;
use crate::units::QueueId;

impl Bench {
    fn operator(&mut self) -> Client {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let index = self.gateway.connect(Stream::Unix(near), Room::Control).expect("there is room");
        Client { stream: far, owner: self.gateway.table.owner(index), seen: Rc::default() }
    }

    /// The answer to bytes that come in pieces of this size.
    fn answer_to(&mut self, bytes: &[u8], piece_size: usize) -> String {
        let mut operator = self.operator();
        for piece in bytes.chunks(piece_size) {
            // It may have hung up already.
            let _ = operator.stream.write_all(piece);
            self.turn(&operator, READABLE);
        }
        self.settle();
        String::from_utf8(operator.received()).unwrap()
    }

    fn ask(&mut self, line: &str) -> String {
        self.answer_to(format!("{line}\n").as_bytes(), usize::MAX)
    }

    fn carry_out(&mut self, command: Command<'_>) -> Reply {
        let now = self.gateway.table.now;
        self.gateway.engine.execute(now, command, &mut self.gateway.table).unwrap()
    }

    fn declare(&mut self, name: &str, kind: QueueKind) -> QueueId {
        let options = QueueOptions { kind, durable: true, ..QueueOptions::default() };
        match self.carry_out(Command::DeclareQueue { name, options }) {
            Reply::Queue { id, .. } => id,
            other => panic!("{other:?}"),
        }
    }

    fn publish(&mut self, queue: &str, body: &[u8], delay_ms: Option<u64>) {
        let message = Message { key: Key::dots(queue.as_bytes()), headers: &[], body };
        self.carry_out(Command::Publish(Publish { message, durable: true, delay_ms, ..Publish::default() }));
    }

    /// A queue with a message in flight, one that is ready, and two that are delayed.
    fn stocked() -> Bench {
        let mut bench = Bench::mqtt();
        let queue = bench.declare("work", QueueKind::Work);
        for body in ["taken", "next\nline"] {
            bench.publish("work", body.as_bytes(), None);
        }
        bench.publish("work", b"late", Some(3_600_000));
        bench.publish("work", b"later", Some(7_200_000));
        let consumer = bench.client();
        let asked = Subscription { queue, owner: consumer.owner, credit: 1, ..Subscription::default() };
        bench.carry_out(Command::Subscribe(asked));
        bench.settle();
        std::mem::forget(consumer);
        bench
    }
}

const LISTED: [&str; 4] = [
    "work#0  2020-01-01T00:00:00.000Z  in flight, delivered 1 times  work  taken\n",
    "work#1  2020-01-01T00:00:00.000Z  ready  work  next\\nline\n",
    "work#2  2020-01-01T00:00:00.000Z  delayed until 2020-01-01T01:00:00.000Z  work  late\n",
    "work#3  2020-01-01T00:00:00.000Z  delayed until 2020-01-01T02:00:00.000Z  work  later\n",
];

#[test]
fn list_shows_what_is_asked_for_and_takes_nothing() {
    let mut bench = Bench::stocked();
    for _ in 0..2 {
        assert_eq!(bench.ask("list work any 0 0 text"), LISTED.concat() + "\0done\n");
        assert_eq!(bench.ask("list work any 1 2 text"), LISTED[1..3].concat() + "\0done\n");
        assert_eq!(bench.ask("list work in-flight 0 0 text"), LISTED[0].to_string() + "\0done\n");
        assert_eq!(bench.ask("list work ready 0 0 text"), LISTED[1].to_string() + "\0done\n");
        assert_eq!(bench.ask("list work delayed 0 0 text"), LISTED[2..].concat() + "\0done\n");
        assert_eq!(bench.ask("list work delayed 4 0 text"), "\0done\n");
    }
    assert_eq!(
        bench.ask("list work delayed 0 1 json"),
        "{\"type\":\"message\",\"queue\":\"work\",\"offset\":2,\"published_ms\":1577836800000,\
         \"ready_ms\":1577840400000,\"priority\":0,\"grade\":\"at-least-once\",\"deliveries\":0,\
         \"redelivered\":false,\"received\":false,\"key\":\"work\",\"key_form\":\"dots\",\"body\":\"late\"}\n\
         \0done\n"
    );
}

#[test]
fn a_request_may_come_byte_by_byte_and_nothing_counts_behind_it() {
    let mut bench = Bench::stocked();
    let line = b"list work any 0 0 text\n";
    assert_eq!(bench.answer_to(line, 1), LISTED.concat() + "\0done\n");
    let doubled = [&line[..], b"cancel work 1\n"].concat();
    assert_eq!(bench.answer_to(&doubled, usize::MAX), LISTED.concat() + "\0done\n");
    assert_eq!(bench.ask("list work any 0 0 text"), LISTED.concat() + "\0done\n");
}

#[test]
fn what_makes_no_sense_is_answered_with_a_line() {
    let mut bench = Bench::stocked();
    let refused = "\0this is no request that this broker understands\n";
    for line in ["", "hello", "list work", "GET / HTTP/1.1\r", "cancel work one"] {
        assert_eq!(bench.ask(line), refused, "{line:?}");
    }
    assert_eq!(bench.answer_to(b"\xff\n", 1), refused);
    for size in [LINE_MAX + 1, 100_000] {
        assert_eq!(bench.answer_to(&vec![b'a'; size], 1_000), refused);
    }
    assert_eq!(bench.answer_to(&[b'a'; LINE_MAX], usize::MAX), "", "it may still end");
    assert_eq!(bench.gateway.table.count(), 2, "the consumer and who has not ended his line");
}

#[test]
fn a_queue_that_is_not_there_is_named_with_those_that_are() {
    let mut bench = Bench::stocked();
    bench.declare("a b", QueueKind::Stream);
    let answer = "\0there is no queue wrok in this broker; there are work, a b\n";
    assert_eq!(bench.ask("list wrok any 0 0 text"), answer);
    assert_eq!(bench.ask("cancel wrok 0"), answer);
    assert_eq!(bench.ask("list a%20b any 0 0 text"), "\0done\n");
    assert_eq!(
        Bench::mqtt().ask("list q any 0 0 text"),
        "\0there is no queue q in this broker, nor any other\n"
    );
}

#[test]
fn cancel_removes_what_is_not_in_flight_and_names_the_rest() {
    let mut bench = Bench::stocked();
    assert_eq!(
        bench.ask("cancel work 0 1 3 9 3"),
        "work#1  cancelled\nwork#3  cancelled\n\
         \0work#0 is in flight, at a consumer; work#9 is not there; work#3 is not there\n"
    );
    let left = [LISTED[0], LISTED[2]].concat() + "\0done\n";
    assert_eq!(bench.ask("list work any 0 0 text"), left);
    let stream = bench.declare("s", QueueKind::Stream);
    bench.declare("g", QueueKind::Group { stream });
    bench.publish("s", b"kept", None);
    for name in ["s", "g"] {
        let refused = format!("\0{name} is a stream or a group, from which nothing is cancelled\n");
        assert_eq!(bench.ask(&format!("cancel {name} 0 1")), refused);
    }
}

#[test]
fn cancel_is_answered_when_it_is_durable_and_the_connection_ends_soon_after() {
    let mut bench = Bench::stocked();
    let (open, gate) = channel::<()>();
    bench.gateway.engine.device().obey(move |call, _, size| {
        if call == Call::Sync {
            let _ = gate.recv();
        }
        Ok(size)
    });
    let mut operator = bench.operator();
    operator.stream.write_all(b"cancel work 2\n").unwrap();
    bench.turn(&operator, READABLE);
    for _ in 0..10 {
        bench.gateway.handle_sync();
        bench.turn(&operator, READABLE);
        assert_eq!(operator.received(), b"");
    }
    drop(open);
    bench.settle();
    assert_eq!(operator.received(), b"work#2  cancelled\n\0done\n");
    bench.gateway.table.now = Millis(300);
    bench.gateway.handle_time();
    bench.gateway.end_turn();
    assert_eq!(bench.gateway.table.find(operator.owner), None);
}

#[test]
fn a_store_that_takes_no_writes_cancels_nothing_for_good() {
    let mut bench = Bench::stocked();
    bench.fail(Call::Sync, EIO);
    let answer = bench.ask("cancel work 2");
    assert!(answer.starts_with("\0the store takes no writes any more, and what was cancelled"), "{answer:?}");
    let answer = bench.ask("cancel work 1 3");
    assert!(answer.starts_with("\0work#1 stays, since the store takes no writes any more"), "{answer:?}");
    assert!(answer.contains("; work#3 stays, "), "{answer:?}");
    assert_eq!(bench.ask("list work ready 0 0 text"), LISTED[1].to_string() + "\0done\n");
}

#[test]
fn a_list_that_nobody_takes_waits_in_bounded_memory_and_is_whole_in_the_end() {
    let mut bench = Bench::with(4, "8M", write_body);
    bench.declare("work", QueueKind::Work);
    for number in 0..3_000 {
        bench.publish("work", format!("{number} {}", "x".repeat(1_000)).as_bytes(), None);
        if number % 100 == 0 {
            bench.settle();
        }
    }
    let mut operator = bench.operator();
    operator.stream.write_all(b"list work any 0 0 text\n").unwrap();
    bench.turn(&operator, READABLE);
    bench.settle();
    assert!(bench.gateway.table.buffers.used() <= 600 << 10, "{}", bench.gateway.table.buffers.used());
    let mut received = Vec::new();
    while !received.ends_with(b"\0done\n") {
        let piece = operator.received();
        assert!(!piece.is_empty(), "it goes on");
        received.extend(piece);
        bench.turn(&operator, WRITABLE);
        bench.settle();
    }
    let lines = received.split(|&byte| byte == b'\n').filter(|line| line.starts_with(b"work#"));
    assert_eq!(lines.count(), 3_000);
    assert_eq!(bench.gateway.table.buffers.used(), 0);
    assert_eq!(bench.gateway.table.find(operator.owner), None);
}

#[test]
fn a_turn_adds_a_bounded_piece_to_a_list_and_notices_that_the_queue_went() {
    let mut bench = Bench::mqtt();
    bench.declare("work", QueueKind::Work);
    for _ in 0..200 {
        bench.publish("work", b"m", None);
    }
    let mut operator = bench.operator();
    operator.stream.write_all(b"list work any 0 0 text\n").unwrap();
    bench.turn(&operator, READABLE);
    assert_eq!(operator.received(), b"");
    bench.turn(&operator, READABLE);
    assert_eq!(operator.received().iter().filter(|&&byte| byte == b'\n').count(), 64);
    bench.carry_out(Command::DeleteQueue { name: "work", if_unused: false, if_empty: false });
    bench.declare("other", QueueKind::Work);
    bench.settle();
    assert_eq!(operator.received(), b"\0queue work was deleted while it was listed\n");
}

#[test]
fn messages_that_cannot_be_read_are_shown_and_counted() {
    let mut bench = Bench::stocked();
    for _ in 0..200 {
        bench.publish("work", &[7; 1_000], None);
    }
    bench.settle();
    bench.gateway.engine.device().obey(|call, _, size| match call {
        Call::Read => Err(std::io::Error::from_raw_os_error(EIO)),
        _ => Ok(size),
    });
    let answer = bench.ask("list work any 1 1 text");
    assert!(answer.starts_with("work#1  damaged\n\0messages that cannot be read: 1; "), "{answer:?}");
}

#[test]
fn status_is_answered_when_all_connections_are_taken_and_counts_only_those() {
    let mut bench = Bench::with(1, "1M", Rooms::write_direct());
    let _client = bench.client();
    let (near, _far) = UnixStream::pair().unwrap();
    assert!(bench.gateway.connect(Stream::Unix(near), Room::Mqtt).is_err());
    let text = bench.ask("status text");
    assert!(text.contains("connections  1 of 1, 0 B unsent\n") && text.ends_with("\0done\n"), "{text}");
    let json = bench.ask("status json");
    assert!(json.contains("\"connections\":{\"count\":1,\"limit\":1,"), "{json}");
    assert!(json.ends_with("]}\n\0done\n"), "{json}");
}

#[test]
fn who_asks_nothing_is_disconnected_in_time_and_who_waits_for_an_answer_is_not() {
    let mut bench = Bench::stocked();
    let (silent, mut waiting) = (bench.operator(), bench.operator());
    let (open, gate) = channel::<()>();
    bench.gateway.engine.device().obey(move |call, _, size| {
        if call == Call::Sync {
            let _ = gate.recv();
        }
        Ok(size)
    });
    waiting.stream.write_all(b"cancel work 1\n").unwrap();
    bench.turn(&waiting, READABLE);
    for now in [9_999, 10_000] {
        bench.gateway.table.now = Millis(now);
        bench.gateway.handle_time();
        bench.gateway.end_turn();
        assert_eq!(bench.gateway.table.find(silent.owner).is_none(), now == 10_000);
    }
    drop(open);
    bench.settle();
    assert_eq!(waiting.received(), b"work#1  cancelled\n\0done\n");
}

#[test]
fn what_is_cancelled_is_not_handed_out() {
    let mut bench = Bench::mqtt();
    let queue = bench.declare("work", QueueKind::Work);
    bench.publish("work", b"one", None);
    bench.publish("work", b"two", Some(1_000));
    bench.publish("work", b"three", Some(1_000));
    bench.settle();
    assert_eq!(bench.ask("cancel work 0 1"), "work#0  cancelled\nwork#1  cancelled\n\0done\n");
    let mut consumer = bench.client();
    let asked = Subscription { queue, owner: consumer.owner, credit: 8, ..Subscription::default() };
    bench.carry_out(Command::Subscribe(asked));
    bench.gateway.table.now = Millis(5_000);
    bench.gateway.handle_time();
    bench.settle();
    let received = consumer.received();
    assert!(received.windows(5).any(|window| window == b"three"), "{received:?}");
    assert!(!received.windows(3).any(|window| window == b"one" || window == b"two"), "{received:?}");
}
