//! The loop over a store whose medium fails or is slow, with real sessions and injected errors.

use std::io::Error;
use std::sync::mpsc::channel;

use super::*;
use crate::command::{Command, ExchangeKind, ExchangeOptions, Publish};
use crate::flash::file::Call;
use crate::gateway::report;
use crate::gateway::rooms::Room;

pub(super) const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;

fn text(text: &str) -> Vec<u8> {
    [&[0, text.len() as u8], text.as_bytes()].concat()
}

fn packet(first: u8, parts: &[&[u8]]) -> Vec<u8> {
    let body = parts.concat();
    assert!(body.len() < 128);
    [&[first, body.len() as u8], &body[..]].concat()
}

fn publish(topic: &str, id: u16, body: &[u8]) -> Vec<u8> {
    match id {
        0 => packet(0x30, &[&text(topic), body]),
        id => packet(0x32, &[&text(topic), &id.to_be_bytes(), body]),
    }
}

fn puback(id: u8) -> [u8; 4] {
    [0x40, 2, 0, id]
}

impl Bench {
    pub(super) fn mqtt() -> Bench {
        Bench::with(8, "1M", Rooms::write_direct())
    }

    /// An MQTT client that has introduced itself, and what it got besides the answer to that.
    fn connect_and_receive(&mut self, name: &str, is_clean: bool) -> (Client, Vec<u8>) {
        let (near, far) = UnixStream::pair().unwrap();
        near.set_nonblocking(true).unwrap();
        far.set_nonblocking(true).unwrap();
        let index = self.gateway.connect(Stream::Unix(near), Room::Mqtt).expect("there is room");
        let owner = self.gateway.table.owner(index);
        let mut client = Client { stream: far, owner, seen: Rc::default() };
        let flags = if is_clean { 2 } else { 0 };
        let connect = packet(0x10, &[&text("MQTT"), &[4, flags, 0, 0], &text(name)]);
        let answer = self.exchange(&mut client, &connect);
        assert_eq!((answer[0], answer[3]), (0x20, 0), "{answer:?}");
        (client, answer[4..].to_vec())
    }

    /// The same for one that gets nothing else.
    fn connect(&mut self, name: &str, is_clean: bool) -> Client {
        let (client, received) = self.connect_and_receive(name, is_clean);
        assert_eq!(received, b"", "{name}");
        client
    }

    /// Sends, runs until nothing moves, and takes what came back.
    fn exchange(&mut self, client: &mut Client, bytes: &[u8]) -> Vec<u8> {
        client.stream.write_all(bytes).unwrap();
        self.turn(client, READABLE);
        self.settle();
        client.received()
    }

    /// Turns until no sync is under way and nothing is left to do.
    pub(super) fn settle(&mut self) {
        loop {
            self.gateway.handle_sync();
            self.gateway.serve_ready();
            self.gateway.end_turn();
            if self.gateway.engine.is_settled() && self.gateway.timeout_ms() != Some(0) {
                return;
            }
            std::thread::yield_now();
        }
    }

    pub(super) fn fail(&self, failing: Call, errno: i32) {
        self.gateway.engine.device().obey(move |call, _, size| match call {
            call if call == failing => Err(Error::from_raw_os_error(errno)),
            _ => Ok(size),
        });
    }

    fn status(&self) -> String {
        let (engine, table) = (&self.gateway.engine, &self.gateway.table);
        report::text(engine, table) + &report::json(engine, table)
    }
}

fn is_closed(client: &mut Client) -> bool {
    matches!(client.stream.read(&mut [0; 1]), Ok(0))
}

#[test]
fn after_a_failure_nothing_is_confirmed_and_what_can_be_is_served() {
    let subscribe = |filter: &str, qos| packet(0x82, &[&[0, 1], &text(filter), &[qos]]);
    for (call, errno, reason) in [
        (Call::Sync, EIO, "sync failed: Input/output error"),
        (Call::Write, EIO, "write failed: Input/output error"),
        (Call::Write, ENOSPC, "no room on the file system: No space left on device"),
        (Call::Write, EROFS, "read-only file system: Read-only file system"),
    ] {
        let mut bench = Bench::mqtt();
        let mut session = bench.connect("away", false);
        bench.exchange(&mut session, &subscribe("a/#", 1));
        assert_eq!(bench.exchange(&mut session, &[0xe0, 0]), b"");
        let mut first = bench.connect("first", true);
        let mut idle = bench.connect("idle", true);
        bench.exchange(&mut idle, &subscribe("a/#", 0));
        assert_eq!(bench.exchange(&mut first, &publish("a/b", 1, b"kept")), puback(1));
        idle.received();
        assert!(bench.status().contains("\"read_only\":false"));

        bench.fail(call, errno);
        assert_eq!(bench.exchange(&mut first, &publish("a/b", 2, b"in doubt")), b"", "{reason}");
        assert!(is_closed(&mut first), "{reason}: it is told by the end of its connection");
        idle.received();
        // The medium seems well again: that changes nothing.
        bench.gateway.engine.device().obey(|_, _, size| Ok(size));
        let mut again = bench.connect("first", true);
        assert_eq!(bench.exchange(&mut again, &publish("a/b", 2, b"in doubt")), b"");
        assert!(is_closed(&mut again));
        assert_eq!(idle.received(), b"", "{reason}: nobody is handed what is refused");

        let mut plain = bench.connect("plain", true);
        assert_eq!(bench.exchange(&mut plain, &publish("a/c", 0, b"go on")), b"");
        assert_eq!(idle.received(), publish("a/c", 0, b"go on"));

        let (mut session, received) = bench.connect_and_receive("away", false);
        assert_eq!(received, publish("a/b", 1, b"kept"), "{reason}");
        assert_eq!(bench.exchange(&mut session, &subscribe("a/#", 1)), [0x90, 3, 0, 1, 1], "as it was");
        assert_eq!(bench.exchange(&mut session, &subscribe("b/#", 1)), [0x90, 3, 0, 1, 0x80], "new");
        assert_eq!(bench.exchange(&mut session, &puback(1)), b"");
        // Acknowledged: it does not come again to who takes over.
        bench.connect("away", false);

        let status = bench.status();
        assert!(status.contains(&format!("READ-ONLY    {reason}")), "{status}");
        let cause = reason.split(':').next().unwrap();
        assert!(status.contains(&format!("\"read_only\":true,\"read_only_reason\":\"{cause}\"")), "{status}");
    }
}

#[test]
fn a_place_whose_connection_died_on_a_list_confirms_and_is_read_again() {
    let mut bench = Bench::new(1);
    // What becomes durable is told to every session: those here always wait for it.
    let make_durable = |bench: &mut Bench, name: &str| {
        let options =
            ExchangeOptions { kind: ExchangeKind::Fanout, durable: true, ..ExchangeOptions::default() };
        let declare = Command::DeclareExchange { name, options };
        bench.gateway.engine.execute(Millis(0), declare, &mut bench.gateway.table).unwrap();
        bench.settle();
    };
    let gone = bench.client();
    bench.gateway.handle_event(gone.owner, READABLE);
    let index = gone.owner as u32;
    bench.gateway.table.remove(index);
    bench.gateway.serve_ready();
    make_durable(&mut bench, "one");
    let mut next = bench.client();
    assert_eq!(next.owner as u32, index);
    make_durable(&mut bench, "two");
    assert_eq!(next.received(), b"durable");
    next.send(b"hello");
    bench.turn(&next, READABLE);
    assert_eq!(next.received(), b"ok");
}

#[test]
fn a_tight_store_leaves_clients_waiting_until_reclaim_made_room_but_not_for_long() {
    for is_slow in [false, true] {
        let mut bench = Bench::with(4, "4M", write_body);
        let (open, gate) = channel::<()>();
        bench.gateway.engine.device().obey(move |call, _, size| {
            if call == Call::Sync {
                // Ends with an error when the test has let go of the other end: then nothing is held.
                let _ = gate.recv();
            }
            Ok(size)
        });
        let mut client = bench.client();
        let body = [7; 4096];
        let value = Publish {
            exchange: "amq.topic",
            message: Message { key: Key::slashes(b"value"), headers: &[], body: &body },
            durable: true,
            retain: true,
            ..Publish::default()
        };
        let mut count = 0;
        while !bench.gateway.engine.is_tight() {
            let table = &mut bench.gateway.table;
            bench.gateway.engine.execute(Millis(0), Command::Publish(value), table).unwrap();
            count += 1;
            assert!(count < 2000, "each value takes the place of the one before");
        }
        client.send(b"hello");
        bench.turn(&client, READABLE);
        assert!(bench.gateway.engine.is_tight());
        assert_eq!(client.seen.borrow().frames.len(), 0, "it is left alone");
        assert_eq!(bench.gateway.timeout_ms(), Some(1));
        if is_slow {
            bench.gateway.table.now = Millis(1000);
            bench.gateway.end_turn();
            assert!(bench.gateway.engine.is_tight());
            bench.gateway.serve_ready();
        } else {
            drop(open);
            bench.settle();
            assert!(!bench.gateway.engine.is_tight());
            bench.settle();
        }
        assert_eq!(client.seen.borrow().frames, [b"hello"], "slow {is_slow}");
    }
}
