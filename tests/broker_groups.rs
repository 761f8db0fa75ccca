//! Groups: what a restart makes of what they handed out, in sentences.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::units::*;
use support::{Bench, SMALL};

fn durable() -> QueueOptions<'static> {
    QueueOptions { durable: true, ..QueueOptions::default() }
}

/// A stream, and a group that begins with it.
fn stream_and_group(bench: &mut Bench, options: QueueOptions<'static>) -> QueueId {
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, ..durable() });
    bench.queue("g", QueueOptions { kind: QueueKind::Group { stream }, durable: true, ..options })
}

/// Two messages are handed out, and the second is received and not released.
fn second_is_received(bench: &mut Bench) -> QueueId {
    let group = stream_and_group(bench, durable());
    bench.consume(group, 2);
    for body in ["a", "b"] {
        bench.publish_with("s", body, |publish| publish.grade = Grade::ExactlyOnce).unwrap();
    }
    bench.settle();
    let got = bench.take();
    bench.execute(Command::Received(got[1].tag.unwrap())).unwrap();
    bench.settle();
    group
}

fn marks_of_what_comes_again(bench: &mut Bench, group: QueueId) -> Vec<(String, bool)> {
    bench.consume(group, 2);
    bench.settle();
    bench.take().into_iter().map(|got| (got.body, got.received)).collect()
}

#[test]
fn received_by_a_group_before_it_acknowledged_anything_is_remembered() {
    let mut bench = Bench::new();
    let group = second_is_received(&mut bench);
    let mut bench = bench.restart();
    let marks = marks_of_what_comes_again(&mut bench, group);
    assert_eq!(marks, [("a".to_string(), false), ("b".to_string(), true)]);
}

#[test]
fn received_by_a_group_is_remembered_when_reclaim_has_moved_its_declaration() {
    let mut bench = Bench::new();
    let group = second_is_received(&mut bench);
    let busy = bench.durable_queue("busy");
    bench.consume(busy, 8);
    let body = "x".repeat(700);
    for _ in 0..700 {
        bench.publish("busy", &body).unwrap();
        assert_eq!(bench.drain(), [body.as_str()]);
    }
    let mut bench = bench.restart();
    let marks = marks_of_what_comes_again(&mut bench, group);
    assert_eq!(marks, [("a".to_string(), false), ("b".to_string(), true)]);
}

#[test]
fn a_group_that_was_handed_what_is_not_kept_needs_no_page_for_it_after_a_restart() {
    // One page for the stream, one for what is handed out or for the queue.
    let mut bench = Bench::with(SMALL, 2);
    let group = stream_and_group(&mut bench, durable());
    bench.durable_queue("q");
    let asked = Subscription { queue: group, owner: 1, credit: 8, no_ack: true, ..Subscription::default() };
    bench.execute(Command::Subscribe(asked)).unwrap();
    for (body, durable) in [("a", true), ("b", false), ("c", true)] {
        bench.publish_with("s", body, |publish| publish.durable = durable).unwrap();
    }
    bench.settle();
    assert_eq!(bench.bodies(), ["a", "b", "c"]);
    bench.publish("q", "d").unwrap();
    bench.settle();
    let bench = bench.restart();
    assert_eq!(bench.mounted.messages, 3);
}

#[test]
fn what_is_given_up_and_nobody_wants_is_counted() {
    let mut bench = Bench::new();
    let queue = bench.queue("q", QueueOptions { delivery_limit: 1, ..durable() });
    bench.consume(queue, 1);
    bench.publish("q", "a").unwrap();
    bench.settle();
    let tag = bench.take()[0].tag.unwrap();
    bench.execute(Command::Reject(tag, Rejection::Requeue)).unwrap();
    assert_eq!(bench.counts(queue), (0, 0, 0));
    assert_eq!(bench.broker.info().counters.dropped, 1);
}

#[test]
fn what_a_group_passed_over_needs_no_pages_though_only_what_came_behind_is_on_flash() {
    let mut bench = Bench::with(SMALL, 8);
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, max_count: 4, ..durable() });
    let group = bench.queue("g", QueueOptions { kind: QueueKind::Group { stream }, ..durable() });
    for number in 0..1_000 {
        bench.publish("s", &number.to_string()).unwrap();
        bench.settle();
    }
    bench.consume(group, 1);
    bench.settle();
    let tag = bench.take()[0].tag.unwrap();
    bench.execute(Command::Reject(tag, Rejection::Delay(60_000))).unwrap();
    let before = bench.broker.info().log.tail_sequence;
    while bench.broker.info().log.tail_sequence == before {
        bench.publish("s", &"x".repeat(500)).unwrap();
    }
    // What is programmed is there, though nobody has asked for a sync.
    let torn = bench.flash.fork();
    torn.medium.borrow_mut().synced.clone_from(&bench.flash.medium.borrow().written);
    torn.lose_power();
    let found = Bench::try_mount(torn, 8, bench.now);
    assert!(found.is_ok(), "{:?}", found.err());
}

#[test]
fn a_group_does_not_outlast_its_stream() {
    let mut bench = Bench::new();
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, ..QueueOptions::default() });
    let group =
        |durable| QueueOptions { kind: QueueKind::Group { stream }, durable, ..QueueOptions::default() };
    let declared = bench.execute(Command::DeclareQueue { name: "g", options: group(true) });
    assert_eq!(declared, Err(Refusal::NotAllowed));
    bench.queue("g", group(false));
}
