//! Groups: what a restart makes of what they handed out, in sentences.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::model::key::Key;
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
    (0..700).for_each(|_| bench.work());
    let mut bench = bench.restart();
    let marks = marks_of_what_comes_again(&mut bench, group);
    assert_eq!(marks, [("a".to_string(), false), ("b".to_string(), true)]);
}

#[test]
fn a_durable_stream_keeps_everything_so_that_no_offset_comes_twice() {
    let mut bench = Bench::with(SMALL, 8);
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
    // Nobody sees one that no sync has covered.
    bench.flash.medium.borrow_mut().hold_sync = true;
    bench.publish_with("s", "e", |publish| publish.durable = false).unwrap();
    bench.settle();
    assert_eq!(bench.bodies(), [""; 0]);
    let mut bench = bench.restart();
    bench.flash.medium.borrow_mut().hold_sync = false;
    assert_eq!(bench.mounted.messages, 4);
    bench.execute(Command::Subscribe(asked)).unwrap();
    bench.publish("s", "f").unwrap();
    bench.settle();
    let got = bench.take();
    assert_eq!(got.iter().map(|got| (got.body.as_str(), got.offset)).collect::<Vec<_>>(), [("f", Some(3))]);
}

#[test]
fn a_group_that_gets_the_id_of_a_deleted_queue_is_not_taken_for_it() {
    let mut bench = Bench::with(SMALL, 128);
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, ..durable() });
    let before = bench.durable_queue("w");
    let busy = bench.durable_queue("busy");
    // All that the table of queues still holds: the next gets the id that becomes free.
    for number in 0..29 {
        bench.queue(&format!("other{number}"), QueueOptions::default());
    }
    bench.bind("amq.fanout", "s", Key::dots(b""), Grade::ExactlyOnce);
    bench.bind("amq.fanout", "w", Key::dots(b""), Grade::ExactlyOnce);
    let all: Vec<String> = (0..40).map(|number| format!("m{number}")).collect();
    for body in &all {
        bench.publish_with("", body, |publish| publish.exchange = "amq.fanout").unwrap();
    }
    bench.settle();
    bench.execute(Command::DeleteQueue { name: "w", if_unused: false, if_empty: false }).unwrap();
    bench.settle();
    let group = bench.queue("g", QueueOptions { kind: QueueKind::Group { stream }, ..durable() });
    assert_eq!(group, before);
    bench.consume(group, 60);
    bench.settle();
    assert_eq!(bench.take().len(), 40);
    bench.consume(busy, 1);
    for round in 0..400 {
        bench.work();
        if round % 20 == 19 {
            let fork = Bench::try_mount(bench.flash.fork(), 128, bench.now).unwrap();
            assert_eq!(fork.counts(stream).0, 40, "round {round}");
        }
    }
    let mut bench = bench.restart();
    bench.consume(group, 60);
    assert_eq!(bench.drain(), all, "nothing was acknowledged");
}

#[test]
fn what_groups_have_pending_is_bounded_by_what_reclaim_can_write_anew() {
    let mut bench = Bench::with(SMALL, 512);
    let group = stream_and_group(&mut bench, durable());
    let busy = bench.durable_queue("busy");
    bench.consume(busy, 8);
    bench.consume(group, 60);
    let later = Rejection::Delay(86_400_000);
    for number in 0..1000 {
        bench.publish("s", &number.to_string()).unwrap();
        bench.settle();
        for got in bench.take() {
            bench.execute(Command::Reject(got.tag.unwrap(), later)).unwrap();
        }
    }
    assert_eq!(bench.counts(group), (0, 0, 64), "the others wait in the stream");
    (0..700).for_each(|_| bench.work());
    // What is done with makes room for the others, also where nothing is synced for it.
    bench.wait(86_400_000);
    let mut seen = 0;
    loop {
        let got = bench.take();
        if got.is_empty() {
            break;
        }
        seen += got.len();
        got.iter().for_each(|got| bench.ack(got));
        bench.settle();
    }
    assert_eq!(seen, 1000);
}

#[test]
fn a_group_that_waits_for_a_page_gets_one_also_where_nothing_is_synced() {
    let mut bench = Bench::with(SMALL, 4);
    let transient = |publish: &mut Publish<'_>| publish.durable = false;
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, ..QueueOptions::default() });
    let kind = QueueKind::Group { stream };
    let group = bench.queue("g", QueueOptions { kind, ..QueueOptions::default() });
    let filler = bench.queue("filler", QueueOptions::default());
    for _ in 0..96 {
        bench.publish_with("filler", "filler", transient).unwrap();
    }
    bench.publish_with("s", "m", transient).unwrap();
    bench.consume(group, 10);
    bench.settle();
    assert_eq!(bench.bodies(), [""; 0]);
    bench.consume(filler, 60);
    let mut got = bench.drain();
    got.retain(|body| body == "m");
    assert_eq!(got, ["m"]);
}

#[test]
fn a_stream_has_no_priorities() {
    let mut bench = Bench::new();
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, max_priority: 9, ..durable() });
    let group = bench.queue("g", QueueOptions { kind: QueueKind::Group { stream }, ..durable() });
    bench.consume(group, 10);
    for (body, priority) in [("a", 0), ("b", 5), ("c", 0)] {
        bench.publish_with("s", body, |publish| publish.priority = priority).unwrap();
    }
    bench.settle();
    assert_eq!(bench.bodies(), ["a", "b", "c"]);
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
