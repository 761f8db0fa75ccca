//! What a dead letter tells of its deaths, as transcripts.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::model::deaths::{deaths, COUNT_MAX};
use forebay::model::headers::{find, Value};
use forebay::model::key::Key;
use forebay::units::*;
use support::{Bench, Got};

fn durable() -> QueueOptions<'static> {
    QueueOptions { durable: true, ..QueueOptions::default() }
}

/// Its dead letters go to the queue of this name.
fn dying<'n>(to: &'n str) -> QueueOptions<'n> {
    let dead_letter_key = Some(Key::dots(to.as_bytes()));
    QueueOptions { dead_letter_exchange: Some(""), dead_letter_key, ..durable() }
}

const HEADERS: &[u8] = &[1, b'h', 1, 1, 0, 1];

fn publish(bench: &mut Bench, queue: &str, body: &str) {
    bench.publish_with(queue, body, |publish| publish.message.headers = HEADERS).unwrap();
}

/// Takes the one message there is.
fn one(bench: &mut Bench, queue: QueueId) -> Got {
    let Ok(Reply::Consumer(consumer)) = bench.execute(support::subscription(queue, 1)) else { panic!() };
    bench.settle();
    let mut got = bench.take();
    assert_eq!(got.len(), 1, "{got:?}");
    let got = got.remove(0);
    assert_eq!(find(&got.headers, "h"), Some(Value::Bool(true)), "other headers stay");
    // What is rejected must not go to a consumer that is still there.
    bench.execute(Command::Pause(consumer, true)).unwrap();
    got
}

fn reject(bench: &mut Bench, got: &Got) {
    bench.execute(Command::Reject(got.tag.unwrap(), Rejection::DeadLetter)).unwrap();
    bench.settle();
}

/// Queue, reason and count, the latest first.
fn story(got: &Got) -> Vec<(String, &'static str, u32)> {
    deaths(&got.headers).map(|death| (death.queue.to_string(), death.reason.text(), death.count)).collect()
}

fn told(entries: &[(&str, &'static str, u32)]) -> Vec<(String, &'static str, u32)> {
    entries.iter().map(|&(queue, reason, count)| (queue.to_string(), reason, count)).collect()
}

#[test]
fn reject_tells_queue_exchange_key_and_time_also_after_a_restart() {
    let mut bench = Bench::new();
    let id = bench.queue("q", dying("dead"));
    let dead = bench.durable_queue("dead");
    bench.bind("amq.topic", "q", Key::dots(b"#"), Grade::ExactlyOnce);
    bench
        .publish_with("a.b", "m", |publish| {
            publish.exchange = "amq.topic";
            publish.message.headers = HEADERS;
            publish.ttl_ms = Some(60_000);
        })
        .unwrap();
    let got = one(&mut bench, id);
    let died = bench.now;
    reject(&mut bench, &got);
    bench.wait(1_000);
    let mut bench = bench.restart();
    let got = one(&mut bench, dead);
    assert_eq!(story(&got), told(&[("q", "rejected", 1)]));
    let death = deaths(&got.headers).next().unwrap();
    assert_eq!((death.exchange, death.key, death.first), ("amq.topic", Key::dots(b"a.b"), died));
    assert_eq!(death.ttl_ms, Some(60_000));
    assert_eq!((&*got.key, &*got.exchange), ("dead", ""));
    bench.wait(70_000);
    assert_eq!(bench.counts(dead), (0, 1, 0), "its own TTL is gone");
}

#[test]
fn each_reason_is_told_by_its_name() {
    let mut bench = Bench::new();
    let dead = bench.durable_queue("dead");
    let worn = bench.queue("worn", QueueOptions { delivery_limit: 1, ..dying("dead") });
    bench.queue("late", QueueOptions { ttl_ms: Some(100), ..dying("dead") });
    bench.queue("full", QueueOptions { max_count: 1, ..dying("dead") });
    for (queue, body) in [("worn", "worn"), ("late", "late"), ("full", "pushed"), ("full", "stays")] {
        publish(&mut bench, queue, body);
        bench.settle();
    }
    let got = one(&mut bench, worn);
    bench.execute(Command::Reject(got.tag.unwrap(), Rejection::Requeue)).unwrap();
    bench.wait(200);
    bench.consume(dead, 9);
    bench.settle();
    let got = bench.take();
    let mut seen: Vec<_> = got.iter().map(|got| (&*got.body, story(got))).collect();
    seen.sort();
    assert_eq!(
        seen,
        [
            ("late", told(&[("late", "expired", 1)])),
            ("pushed", told(&[("full", "maxlen", 1)])),
            ("worn", told(&[("worn", "delivery_limit", 1)])),
        ]
    );
}

#[test]
fn a_retry_that_comes_round_counts_up_and_tells_the_latest_first() {
    let mut bench = Bench::new();
    let id = bench.queue("q", dying("wait"));
    bench.queue("wait", QueueOptions { ttl_ms: Some(1_000), ..dying("q") });
    publish(&mut bench, "q", "m");
    for round in 1..=3 {
        let got = one(&mut bench, id);
        let expected = match round {
            1 => vec![],
            _ => told(&[("wait", "expired", round - 1), ("q", "rejected", round - 1)]),
        };
        assert_eq!(story(&got), expected);
        reject(&mut bench, &got);
        bench.wait(1_000);
        bench = bench.restart();
    }
    assert_eq!(story(&one(&mut bench, id)), told(&[("wait", "expired", 3), ("q", "rejected", 3)]));
}

#[test]
fn a_message_that_goes_in_a_circle_by_itself_is_dropped() {
    let mut bench = Bench::new();
    for (queue, to) in [("a", "b"), ("b", "c"), ("c", "a")] {
        bench.queue(queue, QueueOptions { ttl_ms: Some(100), ..dying(to) });
    }
    let itself = bench.queue("self", QueueOptions { ttl_ms: Some(100), ..dying("self") });
    let full = bench.queue("full", QueueOptions { max_count: 1, ..dying("full") });
    publish(&mut bench, "a", "m");
    publish(&mut bench, "self", "m");
    publish(&mut bench, "full", "m");
    publish(&mut bench, "full", "n");
    bench.wait(100);
    bench.wait(100);
    assert_eq!(bench.broker.info().entries, 2, "in c and in full");
    bench.wait(100);
    assert_eq!(bench.broker.info().entries, 1);
    assert_eq!((bench.counts(itself), bench.counts(full)), ((0, 0, 0), (1, 0, 0)));
    bench.wait(1_000);
    assert_eq!(bench.restart().mounted.messages, 1);
}

#[test]
fn many_deaths_are_bounded_and_the_first_is_kept() {
    let mut bench = Bench::new();
    let names: Vec<String> = (0..12).map(|number| format!("q{number}")).collect();
    let mut ids = Vec::new();
    for (place, name) in names.iter().enumerate() {
        let next = names.get(place + 1).map_or("end", |next| next);
        ids.push(bench.queue(name, dying(next)));
    }
    ids.push(bench.durable_queue("end"));
    publish(&mut bench, "q0", "body");
    let mut got = one(&mut bench, ids[0]);
    for &id in &ids[1..] {
        bench.wait(10);
        reject(&mut bench, &got);
        got = one(&mut bench, id);
    }
    let queues: Vec<_> = deaths(&got.headers).map(|death| death.queue.to_string()).collect();
    assert_eq!(queues.len(), COUNT_MAX);
    assert_eq!((&*queues[0], &**queues.last().unwrap()), ("q11", "q0"));
    assert_eq!(got.body, "body");
}

#[test]
fn a_dead_letter_without_room_for_the_record_goes_without_it() {
    let mut bench = Bench::new();
    let id = bench.queue("q", dying("dead"));
    let dead = bench.durable_queue("dead");
    // The largest record is 1024 bytes here.
    let body = "x".repeat(700);
    publish(&mut bench, "q", &body);
    let got = one(&mut bench, id);
    reject(&mut bench, &got);
    let got = one(&mut bench, dead);
    assert_eq!((got.body == body, story(&got)), (true, vec![]));
}
