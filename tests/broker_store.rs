//! Declarations, streams, reclaim and whole histories: what a restart finds, in sentences.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::flash::Geometry;
use forebay::model::key::Key;
use forebay::units::*;
use std::collections::{BTreeMap, VecDeque};
use support::{subscription, Bench, Got};

fn durable() -> QueueOptions<'static> {
    QueueOptions { durable: true, ..QueueOptions::default() }
}

fn find(bench: &mut Bench, name: &str) -> Option<QueueId> {
    match bench.execute(Command::FindQueue { name }) {
        Ok(Reply::Queue { id, .. }) => Some(id),
        _ => None,
    }
}

#[test]
fn declarations_and_bindings_survive_and_their_removal_does_too() {
    let mut bench = Bench::new();
    let exchange = |name| Command::DeclareExchange {
        name,
        options: ExchangeOptions { durable: true, ..Default::default() },
    };
    bench.execute(exchange("x")).unwrap();
    bench.execute(exchange("gone")).unwrap();
    bench.durable_queue("a");
    bench.durable_queue("b");
    bench.queue("transient", QueueOptions::default());
    for queue in ["a", "b"] {
        bench.bind("x", queue, Key::dots(b"k"), Grade::ExactlyOnce);
    }
    let unbind = Bind {
        exchange: "x",
        destination: Destination::Queue("b"),
        pattern: Key::dots(b"k"),
        arguments: &[],
        grade: Grade::AtMostOnce,
    };
    assert_eq!(bench.execute(Command::Unbind(unbind)), Ok(Reply::Removed(1)));
    bench.execute(Command::DeleteExchange { name: "gone", if_unused: false }).unwrap();
    bench.settle();
    let mut bench = bench.restart();
    assert!(find(&mut bench, "transient").is_none());
    let message = Message { key: Key::dots(b"k"), headers: &[], body: b"m" };
    let mut publish = Publish { exchange: "x", message, durable: true, ..Publish::default() };
    assert!(matches!(bench.execute(Command::Publish(publish)), Ok(Reply::Published { routed: 1, .. })));
    publish.exchange = "gone";
    assert_eq!(bench.execute(Command::Publish(publish)), Err(Refusal::NoExchange));
    let other = QueueOptions { ttl_ms: Some(5), ..durable() };
    assert_eq!(bench.execute(Command::DeclareQueue { name: "a", options: other }), Err(Refusal::Mismatch));
    assert!(matches!(
        bench.execute(Command::DeclareQueue { name: "a", options: durable() }),
        Ok(Reply::Queue { existed: true, ready: 1, .. })
    ));
}

#[test]
fn a_deleted_queue_does_not_come_back_and_its_id_starts_clean() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("old");
    let consumer = bench.consume(id, 2);
    for number in 0..50 {
        bench.publish("old", &number.to_string()).unwrap();
    }
    bench.settle();
    bench.execute(Command::DeleteQueue { name: "old", if_unused: false, if_empty: false }).unwrap();
    bench.settle();
    assert_eq!(bench.inbox.cancelled, [consumer]);
    // The next queues take every free id, that one too.
    let ids: Vec<_> = (0..32)
        .filter_map(|number| {
            let name = format!("new{number}");
            bench.execute(Command::DeclareQueue { name: &name, options: durable() }).ok()
        })
        .collect();
    assert!(ids.iter().any(|reply| matches!(reply, Reply::Queue { id: new, ready: 0, .. } if *new == id)));
    bench.settle();
    let bench = bench.restart();
    assert_eq!(bench.mounted.messages, 0);
    assert_eq!(bench.mounted.queues, 32);
}

#[test]
fn purge_leaves_what_is_in_flight() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.consume(id, 3);
    for number in 0..100 {
        bench.publish("q", &number.to_string()).unwrap();
    }
    bench.settle();
    assert_eq!(bench.execute(Command::Purge { name: "q" }), Ok(Reply::Purged { count: 97, more: false }));
    assert_eq!(bench.counts(id), (0, 3, 0));
    bench.wait(1_000);
    let mut bench = bench.restart();
    bench.consume(id, 9);
    assert_eq!(bench.drain(), ["0", "1", "2"]);
}

#[test]
fn groups_read_a_stream_each_on_their_own_and_go_on_after_a_restart() {
    let mut bench = Bench::new();
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, ..durable() });
    let group = |start| QueueOptions { kind: QueueKind::Group { stream }, start, ..durable() };
    let all = bench.queue("all", group(Offset(0)));
    for number in 0..10 {
        bench.publish("s", &number.to_string()).unwrap();
    }
    let late = bench.queue("late", group(Offset(u64::MAX)));
    let middle = bench.queue("middle", group(Offset(5)));
    bench.publish("s", "10").unwrap();
    bench.consume(late, 9);
    assert_eq!(bench.drain(), ["10"]);
    bench.consume(middle, 9);
    assert_eq!(bench.drain(), ["5", "6", "7", "8", "9", "10"]);
    bench.consume(all, 5);
    bench.settle();
    let got = bench.take();
    assert_eq!(got.len(), 5);
    [0, 1, 3].iter().for_each(|&index: &usize| bench.ack(&got[index]));
    bench.wait(1_000);
    let mut bench = bench.restart();
    assert_eq!(bench.counts(stream), (11, 0, 0));
    bench.consume(all, 64);
    assert_eq!(bench.drain(), ["2", "4", "5", "6", "7", "8", "9", "10"]);
    bench.consume(middle, 9);
    assert!(bench.drain().is_empty());
    bench.execute(Command::DeleteQueue { name: "s", if_unused: false, if_empty: false }).unwrap();
    bench.settle();
    assert!(find(&mut bench, "all").is_none() && find(&mut bench, "middle").is_none());
}

#[test]
fn retention_drops_the_oldest_of_a_stream_by_count_bytes_and_age() {
    let mut bench = Bench::new();
    let stream = |max_count, max_bytes, ttl_ms| QueueOptions {
        kind: QueueKind::Stream,
        max_count,
        max_bytes,
        ttl_ms,
        ..durable()
    };
    let count = bench.queue("count", stream(3, 0, None));
    let bytes = bench.queue("bytes", stream(0, 300, None));
    let age = bench.queue("age", stream(0, 0, Some(1_000)));
    for number in 0..10 {
        for name in ["count", "bytes", "age"] {
            bench.publish(name, &format!("{number:060}")).unwrap();
        }
        bench.wait(200);
    }
    assert_eq!(bench.counts(count).0, 3);
    assert!((2..=4).contains(&bench.counts(bytes).0), "{:?}", bench.counts(bytes));
    assert_eq!(bench.counts(age).0, 4);
    bench.wait(500);
    let mut bench = bench.restart();
    bench.settle();
    assert_eq!((bench.counts(count).0, bench.counts(age).0), (3, 2));
    bench.wait(10_000);
    assert_eq!(bench.counts(age).0, 0);
}

#[test]
fn long_lived_messages_outlast_many_laps_of_the_log() {
    let geometry = Geometry { segment_size: 4096, segment_count: 16, write_unit: 4 };
    let mut bench = Bench::with(geometry, 64);
    let keep = bench.durable_queue("keep");
    let flow = bench.durable_queue("flow");
    bench.bind("amq.topic", "keep", Key::dots(b"never.*"), Grade::ExactlyOnce);
    let kept: Vec<String> = (0..60).map(|number| format!("kept {number}")).collect();
    for body in &kept {
        bench.publish("keep", body).unwrap();
    }
    bench.publish_with("keep", "delayed", |publish| publish.delay_ms = Some(9_000_000)).unwrap();
    bench.topic("retained", "value", Grade::AtLeastOnce, true);
    bench.consume(flow, 64);
    for round in 0..40 {
        for number in 0..100 {
            bench.publish("flow", &format!("{round} {number} and some more bytes to fill segments")).unwrap();
        }
        assert_eq!(bench.drain().len(), 100);
        bench.wait(100);
    }
    let stats = bench.broker.info().log;
    assert!(stats.tail_sequence > 4 * 16, "{} segments written", stats.tail_sequence);
    assert!(stats.erases_max - stats.erases_min <= 1);
    let mut bench = bench.restart();
    assert_eq!(bench.mounted.messages, 61);
    bench.consume(keep, 64);
    assert_eq!(bench.drain(), kept);
    assert_eq!(bench.counts(keep), (0, 0, 1));
    bench.topic("never/x", "bound", Grade::AtLeastOnce, false);
    assert_eq!(bench.drain(), ["bound"], "the binding outlasted the laps");
    let session = bench.queue("session", QueueOptions { session: true, ..durable() });
    let consumer = bench.consume(session, 9);
    let retained = Command::Retained { consumer, pattern: Key::slashes(b"#"), grade: Grade::AtMostOnce };
    assert_eq!(bench.execute(retained), Ok(Reply::Removed(1)));
}

#[test]
fn what_a_session_that_is_gone_held_does_not_hinder_the_next_start() {
    let mut bench = Bench::new();
    bench.durable_queue("q");
    for round in 0..4 {
        let id = bench.queue("session", QueueOptions { session: true, ..QueueOptions::default() });
        for packet in 1..=16 {
            let held = DedupKey::Held { queue: id, packet };
            let reply = bench.publish_with("q", "m", |publish| publish.dedup = Some(held));
            assert!(
                matches!(reply, Ok(Reply::Published { duplicate: false, .. })),
                "round {round}: {reply:?}"
            );
        }
        bench.execute(Command::DeleteQueue { name: "session", if_unused: false, if_empty: false }).unwrap();
        bench.settle();
    }
    let bench = bench.restart();
    assert_eq!(bench.mounted.messages, 64);
}

#[test]
fn a_full_store_refuses_publishes_and_still_takes_acknowledgements() {
    let geometry = Geometry { segment_size: 4096, segment_count: 12, write_unit: 4 };
    let mut bench = Bench::with(geometry, 128);
    let id = bench.durable_queue("q");
    let mut accepted = 0;
    let refusal = loop {
        match bench.publish("q", "a body of a certain length, so that the store fills before the table") {
            Ok(_) => accepted += 1,
            Err(refusal) => break refusal,
        }
        bench.settle();
    };
    assert_eq!(refusal, Refusal::StoreFull);
    bench.consume(id, 32);
    assert_eq!(bench.drain().len(), accepted);
    bench.wait(1_000);
    for _ in 0..accepted {
        bench.publish("q", "there is room again").unwrap();
        bench.settle();
        bench.drain();
    }
    let bench = bench.restart();
    assert!(bench.mounted.messages <= 32, "{}", bench.mounted.messages);
}

/// A store with something of everything in it.
fn furnished() -> Bench {
    let mut bench = Bench::with(Geometry { segment_size: 4096, segment_count: 16, write_unit: 4 }, 64);
    let dead = QueueOptions { dead_letter_exchange: Some("amq.topic"), delivery_limit: 3, ..durable() };
    bench.queue("work", dead);
    bench.bind("amq.topic", "work", Key::slashes(b"plant/#"), Grade::AtLeastOnce);
    let stream = bench.queue("stream", QueueOptions { kind: QueueKind::Stream, ..durable() });
    let group = QueueOptions { kind: QueueKind::Group { stream }, start: Offset(0), ..durable() };
    let group = bench.queue("group", group);
    bench.consume(group, 5);
    for number in 0..80 {
        bench.topic("plant/x", &format!("message {number}"), Grade::AtLeastOnce, number % 9 == 0);
        bench.publish("stream", &number.to_string()).unwrap();
        bench.publish_with("work", "later", |publish| publish.delay_ms = Some(1 + number * 50)).unwrap();
        bench.settle();
        for got in bench.take().iter().filter(|got| got.tag.is_some()) {
            bench.ack(got);
        }
    }
    bench.wait(1_000);
    bench
}

#[test]
fn no_content_of_the_store_makes_the_broker_panic_or_hang() {
    let image = {
        let bench = furnished();
        let medium = bench.flash.medium.borrow();
        medium.synced.clone()
    };
    let geometry = Geometry { segment_size: 4096, segment_count: 16, write_unit: 4 };
    let mut random = Random(77);
    let (mut mounted, mut refused) = (0, 0);
    for round in 0..400 {
        let flash = support::TestFlash::new(geometry);
        let mut damaged = image.clone();
        for _ in 0..1 + random.below(12) {
            let at = random.below(damaged.len() as u64) as usize;
            let end =
                (at + 1 + random.below(if round % 5 == 0 { 5_000 } else { 4 }) as usize).min(damaged.len());
            let kind = random.below(3);
            damaged[at..end].iter_mut().for_each(|byte| match kind {
                0 => *byte = 0xFF,
                1 => *byte = 0,
                _ => *byte ^= 1 << (at % 8),
            });
        }
        flash.medium.borrow_mut().synced = damaged;
        flash.lose_power();
        match Bench::try_mount(flash, 64, Millis(0)) {
            Ok(mut bench) => {
                mounted += 1;
                use_everything(&mut bench);
            }
            Err(error) => {
                println!("round {round}: {error:?}");
                refused += 1;
            }
        }
    }
    assert!(mounted > 300, "{mounted} of 400 mounted, {refused} refused");
}

/// Goes through all queues of a store that may be damaged.
fn use_everything(bench: &mut Bench) {
    for name in ["work", "stream", "group"] {
        let _ = bench.publish(name, "new");
        let Some(id) = find(bench, name) else { continue };
        let _ = bench.execute(subscription(id, 8));
    }
    bench.drain();
    bench.wait(10_000);
    bench.drain();
}

struct Random(u64);

impl Random {
    fn below(&mut self, bound: u64) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0 % bound
    }
}

/// The broker as a few plain lines: what each queue holds, and what is certain of it.
#[derive(Default)]
struct Model {
    queues: BTreeMap<String, VecDeque<String>>,
    in_flight: BTreeMap<String, Vec<Got>>,
}

#[test]
fn random_histories_with_power_cuts_lose_nothing_confirmed_and_keep_the_order() {
    for seed in 1..=30 {
        history(seed);
    }
}

fn history(seed: u64) {
    let mut random = Random(seed.wrapping_mul(0x9E37_79B9_7F4A_7C15));
    let geometry = Geometry { segment_size: 4096, segment_count: 20, write_unit: 1 << random.below(6) };
    let mut bench = Bench::with(geometry, 64);
    let names = ["q0", "q1", "q2"];
    let mut model = Model::default();
    for name in names {
        bench.durable_queue(name);
        model.queues.entry(name.into()).or_default();
    }
    bench.settle();
    attach(&mut bench, &names);
    for step in 0..1500 {
        let name = names[random.below(3) as usize];
        match random.below(20) {
            0..=8 => {
                let body = format!("{seed}-{step}-{}", "x".repeat(random.below(60) as usize));
                if bench.publish(name, &body).is_ok() {
                    bench.settle();
                    model.queues.get_mut(name).unwrap().push_back(body);
                }
            }
            9..=14 => acknowledge(&mut bench, &mut model, name, &mut random),
            15 | 16 => {
                let held = model.in_flight.entry(name.into()).or_default();
                if let Some(got) = held.pop() {
                    bench.execute(Command::Reject(got.tag.unwrap(), Rejection::Requeue)).unwrap();
                }
            }
            17 => bench.wait(random.below(200)),
            18 => bench.settle(),
            _ if random.below(8) == 0 => {
                // What was acknowledged long enough ago is durable; the rest may come again.
                bench.wait(1_000);
                bench = bench.restart();
                model.in_flight.clear();
                let expected: usize = model.queues.values().map(VecDeque::len).sum();
                assert_eq!(bench.mounted.messages as usize, expected, "seed {seed} step {step}");
                attach(&mut bench, &names);
            }
            _ => {}
        }
        take_in(&mut bench, &mut model, &names, seed);
    }
}

fn attach(bench: &mut Bench, names: &[&str]) {
    for name in names {
        let id = find(bench, name).expect("declared");
        bench.consume(id, 8);
    }
    bench.settle();
}

fn take_in(bench: &mut Bench, model: &mut Model, names: &[&str], seed: u64) {
    bench.settle();
    for got in bench.take() {
        let name = names[got.queue.0 as usize];
        let queue = &model.queues[name];
        assert!(queue.contains(&got.body), "seed {seed}: {} was not published or is acknowledged", got.body);
        let held = model.in_flight.entry(name.into()).or_default();
        let place = |body: &String| queue.iter().position(|other| other == body);
        // What is handed out is the oldest that is not in flight.
        let first = queue.iter().find(|body| held.iter().all(|held| held.body != **body));
        assert_eq!(first, Some(&got.body), "seed {seed}: out of order at {:?}", place(&got.body));
        held.push(got);
    }
}

fn acknowledge(bench: &mut Bench, model: &mut Model, name: &str, random: &mut Random) {
    let held = model.in_flight.entry(name.into()).or_default();
    if held.is_empty() {
        return;
    }
    let got = held.remove(random.below(held.len() as u64) as usize);
    bench.ack(&got);
    model.queues.get_mut(name).unwrap().retain(|body| *body != got.body);
}

#[test]
fn a_store_can_be_looked_at_without_a_byte_being_written() {
    let mut bench = Bench::new();
    let queue = bench.durable_queue("q");
    for body in ["one", "two", "three"] {
        bench.publish("q", body).unwrap();
    }
    bench.publish_with("q", "later", |publish| publish.delay_ms = Some(60_000)).unwrap();
    bench.settle();
    // Written and not known to be durable: a mount that may write would copy it.
    bench.flash.medium.borrow_mut().hold_sync = true;
    bench.publish("q", "doubtful").unwrap();
    let now = bench.now;
    bench.broker.commit(now);
    let image = bench.flash.medium.borrow().written.clone();
    let mut look = Bench::look(bench.flash.clone(), bench.pages, bench.now);
    let mut seen = Vec::new();
    let mut from = Offset(0);
    while let Some((next, standee)) = look.broker.browse(queue, from, Which::Any) {
        from = next;
        let standee = standee.unwrap();
        let body = standee.content.unwrap().message.body;
        seen.push((standee.offset.0, String::from_utf8_lossy(body).to_string(), standee.standing));
    }
    let ready = |offset: u64, body: &str| (offset, body.to_string(), Standing::Ready);
    let delayed = (3, "later".to_string(), Standing::Delayed(now.after(60_000)));
    assert_eq!(seen, [ready(0, "one"), ready(1, "two"), ready(2, "three"), delayed, ready(4, "doubtful")]);
    assert_eq!(look.publish("q", "no"), Err(Refusal::ReadOnly));
    look.settle();
    assert!(bench.flash.medium.borrow().written == image, "something was written");
}

#[test]
fn a_publish_is_recognised_after_its_segment_was_reclaimed_and_power_went() {
    let mut bench = Bench::new();
    let queue = bench.durable_queue("q");
    bench.consume(queue, 64);
    let known = DedupKey::Window(77);
    bench.publish_with("q", "once", |publish| publish.dedup = Some(known)).unwrap();
    assert_eq!(bench.drain(), ["once"]);
    // Nothing refers to its record any more; the log goes around.
    let laps = bench.broker.info().log.tail_sequence + 3 * 64;
    while bench.broker.info().log.tail_sequence < laps {
        bench.publish("q", &"x".repeat(500)).unwrap();
        bench.drain();
    }
    let mut bench = bench.restart();
    let again = bench.publish_with("q", "once", |publish| publish.dedup = Some(known)).unwrap();
    assert!(matches!(again, Reply::Published { duplicate: true, .. }), "{again:?}");
}
