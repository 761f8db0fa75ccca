//! Publish, deliver, settle, expire: what happens to one message, in sentences.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::model::key::Key;
use forebay::units::*;
use support::Bench;

fn durable() -> QueueOptions<'static> {
    QueueOptions { durable: true, ..QueueOptions::default() }
}

fn session() -> QueueOptions<'static> {
    QueueOptions { durable: true, session: true, ..QueueOptions::default() }
}

#[test]
fn a_durable_message_is_handed_over_only_after_its_sync() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.consume(id, 10);
    bench.settle();
    bench.flash.medium.borrow_mut().hold_sync = true;
    let Ok(Reply::Published { confirm_at, .. }) = bench.publish("q", "m") else { panic!() };
    bench.settle();
    assert!(bench.take().is_empty() && bench.broker.durable() < confirm_at);
    bench.flash.medium.borrow_mut().hold_sync = false;
    bench.settle();
    assert_eq!(bench.bodies(), ["m"]);
    assert!(bench.broker.durable() >= confirm_at);
}

#[test]
fn a_confirmed_message_survives_and_an_acknowledged_one_does_not_return() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    for number in 0..100 {
        bench.publish("q", &format!("m{number}")).unwrap();
    }
    bench.consume(id, 30);
    bench.settle();
    let got = bench.take();
    assert_eq!(got.len(), 30);
    got[..20].iter().for_each(|got| bench.ack(got));
    bench.wait(1000);
    let mut bench = bench.restart();
    assert_eq!(bench.mounted.messages, 80);
    let Ok(Reply::Queue { id, existed: true, .. }) = bench.execute(Command::FindQueue { name: "q" }) else {
        panic!()
    };
    bench.consume(id, 64);
    let expected: Vec<String> = (20..100).map(|number| format!("m{number}")).collect();
    assert_eq!(bench.drain(), expected);
}

#[test]
fn what_was_not_synced_may_be_lost_but_its_offset_was_never_seen() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.consume(id, 10);
    bench.publish("q", "kept").unwrap();
    bench.settle();
    assert_eq!(bench.take()[0].offset, Some(0));
    bench.flash.medium.borrow_mut().hold_sync = true;
    bench.publish("q", "lost").unwrap();
    bench.settle();
    let mut bench = bench.restart();
    bench.consume(id, 10);
    bench.publish("q", "new").unwrap();
    bench.settle();
    let got = bench.take();
    assert_eq!(
        got.iter().map(|got| (&*got.body, got.offset)).collect::<Vec<_>>(),
        [("kept", Some(0)), ("new", Some(1))]
    );
    assert!(got[0].redelivered && !got[1].redelivered);
}

#[test]
fn only_what_may_have_been_seen_is_flagged_as_redelivered() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.publish("q", "a").unwrap();
    bench.settle();
    let mut bench = bench.restart();
    let consumer = bench.consume(id, 1);
    bench.settle();
    assert!(!bench.take()[0].redelivered, "nobody was there before");
    bench.execute(Command::Unsubscribe(consumer)).unwrap();
    bench.publish("q", "b").unwrap();
    bench.settle();
    let mut bench = bench.restart();
    bench.consume(id, 10);
    bench.settle();
    let flags: Vec<_> = bench.take().into_iter().map(|got| (got.body, got.redelivered)).collect();
    assert_eq!(flags, [("a".to_string(), true), ("b".to_string(), false)]);
}

#[test]
fn rejected_messages_return_to_their_place_before_younger_ones() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    for body in ["a", "b", "c", "d"] {
        bench.publish("q", body).unwrap();
    }
    bench.consume(id, 3);
    bench.settle();
    let got = bench.take();
    bench.execute(Command::Reject(got[1].tag.unwrap(), Rejection::Requeue)).unwrap();
    bench.execute(Command::Reject(got[0].tag.unwrap(), Rejection::Requeue)).unwrap();
    bench.settle();
    let again = bench.take();
    assert_eq!(again.iter().map(|got| &*got.body).collect::<Vec<_>>(), ["a", "b"]);
    assert!(again.iter().all(|got| got.redelivered && got.count == 1));
    again.iter().chain([&got[2]]).for_each(|got| bench.ack(got));
    assert_eq!(bench.drain(), ["d"]);
    assert_eq!(bench.counts(id), (0, 0, 0));
}

#[test]
fn a_tag_names_one_delivery_and_nothing_afterwards() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.consume(id, 1);
    bench.publish("q", "a").unwrap();
    bench.publish("q", "b").unwrap();
    bench.settle();
    let first = bench.take().remove(0);
    bench.ack(&first);
    bench.settle();
    assert_eq!(bench.execute(Command::Ack(first.tag.unwrap())), Err(Refusal::UnknownTag));
    assert_eq!(bench.bodies(), ["b"]);
    assert_eq!(bench.counts(id), (0, 1, 0));
}

#[test]
fn a_delayed_message_comes_when_it_is_due_also_after_a_restart() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.publish_with("q", "later", |publish| publish.delay_ms = Some(10_000)).unwrap();
    bench.publish_with("q", "soon", |publish| publish.delay_ms = Some(5_000)).unwrap();
    bench.publish("q", "now").unwrap();
    bench.settle();
    assert_eq!(bench.counts(id), (1, 0, 2));
    let mut bench = bench.restart();
    bench.consume(id, 10);
    assert_eq!(bench.drain(), ["now"]);
    bench.wait(4_999);
    assert!(bench.take().is_empty());
    bench.wait(1);
    assert_eq!(bench.drain(), ["soon"]);
    bench.wait(4_999);
    assert!(bench.take().is_empty());
    bench.wait(1);
    assert_eq!(bench.drain(), ["later"]);
}

#[test]
fn a_message_rejected_with_a_delay_waits_that_long_also_over_a_restart() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.publish("q", "m").unwrap();
    bench.consume(id, 1);
    bench.settle();
    let tag = bench.take()[0].tag.unwrap();
    bench.execute(Command::Reject(tag, Rejection::Delay(3_000))).unwrap();
    bench.wait(1_000);
    assert_eq!(bench.counts(id), (0, 0, 1));
    let mut bench = bench.restart();
    bench.consume(id, 1);
    bench.wait(1_999);
    assert!(bench.take().is_empty());
    bench.wait(1);
    let got = bench.take();
    assert_eq!((got[0].body.as_str(), got[0].count), ("m", 1));
}

#[test]
fn ttl_is_exact_anywhere_in_the_queue_and_dead_letters() {
    let mut bench = Bench::new();
    let dead = bench.durable_queue("dead");
    let options = QueueOptions {
        dead_letter_exchange: Some(""),
        dead_letter_key: Some(Key::dots(b"dead")),
        ..durable()
    };
    let id = bench.queue("q", options);
    bench.publish("q", "stays").unwrap();
    bench.publish_with("q", "short", |publish| publish.ttl_ms = Some(500)).unwrap();
    bench.publish_with("q", "long", |publish| publish.ttl_ms = Some(900)).unwrap();
    bench.wait(499);
    assert_eq!((bench.counts(id), bench.counts(dead)), ((3, 0, 0), (0, 0, 0)));
    bench.wait(1);
    assert_eq!((bench.counts(id), bench.counts(dead)), ((2, 0, 0), (1, 0, 0)));
    let mut bench = bench.restart();
    bench.wait(400);
    assert_eq!((bench.counts(id), bench.counts(dead)), ((1, 0, 0), (2, 0, 0)));
    bench.consume(dead, 9);
    assert_eq!(bench.drain(), ["short", "long"]);
}

#[test]
fn a_queue_ttl_holds_for_every_message_and_ignores_what_is_in_flight() {
    let mut bench = Bench::new();
    let id = bench.queue("q", QueueOptions { ttl_ms: Some(1_000), ..durable() });
    bench.publish("q", "a").unwrap();
    bench.wait(600);
    bench.publish("q", "b").unwrap();
    bench.consume(id, 1);
    bench.settle();
    let held = bench.take().remove(0);
    bench.wait(600);
    assert_eq!(bench.counts(id), (1, 1, 0), "in flight does not expire");
    bench.execute(Command::Reject(held.tag.unwrap(), Rejection::Requeue)).unwrap();
    bench.settle();
    assert_eq!(bench.drain(), ["b"], "back in the queue it is too old");
}

#[test]
fn the_delivery_limit_dead_letters_and_survives_a_restart() {
    let mut bench = Bench::new();
    let dead = bench.durable_queue("dead");
    let options = QueueOptions {
        delivery_limit: 2,
        dead_letter_exchange: Some(""),
        dead_letter_key: Some(Key::dots(b"dead")),
        ..durable()
    };
    let id = bench.queue("q", options);
    bench.publish("q", "poison").unwrap();
    bench.consume(id, 1);
    bench.settle();
    let tag = bench.take()[0].tag.unwrap();
    bench.execute(Command::Reject(tag, Rejection::Requeue)).unwrap();
    bench.wait(1_000);
    bench.take();
    let mut bench = bench.restart();
    bench.consume(id, 1);
    bench.settle();
    let got = bench.take();
    assert_eq!(got[0].count, 1);
    bench.execute(Command::Reject(got[0].tag.unwrap(), Rejection::Requeue)).unwrap();
    bench.settle();
    assert_eq!((bench.counts(id), bench.counts(dead)), ((0, 0, 0), (1, 0, 0)));
    let bench = bench.restart();
    assert_eq!((bench.counts(id), bench.counts(dead)), ((0, 0, 0), (1, 0, 0)));
}

#[test]
fn a_lease_that_runs_out_returns_the_message_and_an_extended_one_does_not() {
    let mut bench = Bench::new();
    let id = bench.queue("q", QueueOptions { lease_ms: 1_000, ..durable() });
    bench.publish("q", "m").unwrap();
    bench.consume(id, 1);
    bench.settle();
    let first = bench.take().remove(0);
    bench.wait(900);
    bench.execute(Command::Extend(first.tag.unwrap())).unwrap();
    bench.wait(900);
    assert!(bench.take().is_empty());
    bench.wait(100);
    let second = bench.take().remove(0);
    assert!(second.redelivered);
    assert_eq!(bench.execute(Command::Ack(first.tag.unwrap())), Err(Refusal::UnknownTag));
    bench.ack(&second);
    assert_eq!(bench.counts(id), (0, 0, 0));
}

#[test]
fn higher_priorities_come_first_and_keep_their_order() {
    let mut bench = Bench::new();
    let id = bench.queue("q", QueueOptions { max_priority: 5, ..durable() });
    for (body, priority) in [("l1", 0), ("h1", 9), ("m1", 3), ("h2", 5), ("l2", 0)] {
        bench.publish_with("q", body, |publish| publish.priority = priority).unwrap();
    }
    bench.settle();
    let mut bench = bench.restart();
    bench.consume(id, 9);
    assert_eq!(bench.drain(), ["h1", "h2", "m1", "l1", "l2"]);
    let bench = bench.restart();
    assert_eq!(bench.mounted.messages, 5, "acknowledgements were not due yet");
}

#[test]
fn a_full_queue_drops_its_oldest_or_rejects_by_its_policy() {
    let mut bench = Bench::new();
    let drops = bench.queue("drops", QueueOptions { max_count: 2, ..durable() });
    bench.queue("rejects", QueueOptions { max_count: 2, overflow: Overflow::Reject, ..durable() });
    for body in ["a", "b", "c"] {
        bench.publish("drops", body).unwrap();
    }
    bench.publish("rejects", "a").unwrap();
    bench.publish("rejects", "b").unwrap();
    assert_eq!(bench.publish("rejects", "c"), Err(Refusal::QueueFull));
    bench.consume(drops, 9);
    assert_eq!(bench.drain(), ["b", "c"]);
}

#[test]
fn a_session_gets_transient_messages_at_once_and_in_order_even_when_busy() {
    let mut bench = Bench::new();
    let id = bench.queue("s", session());
    bench.bind("amq.topic", "s", Key::slashes(b"t/#"), Grade::ExactlyOnce);
    assert_eq!(
        bench.topic("t", "nobody", Grade::AtMostOnce, false),
        Reply::Published { confirm_at: Position(0), routed: 1, duplicate: false }
    );
    let consumer = bench.consume(id, 10);
    bench.inbox.room = 1;
    for body in ["a", "b", "c"] {
        bench.topic("t/x", body, Grade::AtMostOnce, false);
    }
    assert_eq!(bench.counts(id), (2, 0, 0), "what it could not take waits");
    bench.inbox.room = usize::MAX;
    bench.topic("t/x", "d", Grade::AtMostOnce, false);
    bench.execute(Command::Pause(consumer, false)).unwrap();
    bench.settle();
    bench.topic("t/x", "e", Grade::AtMostOnce, false);
    let got = bench.take();
    assert_eq!(got.iter().map(|got| &*got.body).collect::<Vec<_>>(), ["a", "b", "c", "d", "e"]);
    assert!(got.iter().all(|got| got.tag.is_none()));
    assert_eq!(bench.counts(id), (0, 0, 0));
}

#[test]
fn a_message_without_takers_is_neither_stored_nor_waited_for() {
    let mut bench = Bench::new();
    let before = bench.broker.info().log.appended;
    let Reply::Published { confirm_at, routed, .. } = bench.topic("t", "m", Grade::AtLeastOnce, false) else {
        panic!()
    };
    assert_eq!((confirm_at, routed), (Position(0), 0));
    assert_eq!(bench.broker.info().log.appended, before);
}

#[test]
fn exactly_once_in_both_directions_survives_a_restart_at_every_step() {
    let mut bench = Bench::new();
    let id = bench.queue("s", session());
    let held = DedupKey::Held { queue: id, packet: 7 };
    let publish = |bench: &mut Bench| {
        bench.publish_with("s", "m", |publish| {
            publish.dedup = Some(held);
            publish.grade = Grade::ExactlyOnce;
        })
    };
    assert!(matches!(publish(&mut bench), Ok(Reply::Published { duplicate: false, .. })));
    bench.settle();
    let mut bench = bench.restart();
    assert!(matches!(publish(&mut bench), Ok(Reply::Published { duplicate: true, .. })));
    bench.execute(Command::Forget(held)).unwrap();
    bench.settle();
    let mut bench = bench.restart();
    bench.consume(id, 9);
    bench.settle();
    let got = bench.take().remove(0);
    assert!(!got.received);
    let Ok(Reply::Done(position)) = bench.execute(Command::Received(got.tag.unwrap())) else { panic!() };
    bench.settle();
    assert!(bench.broker.durable() >= position);
    let mut bench = bench.restart();
    bench.consume(id, 9);
    bench.settle();
    let again = bench.take().remove(0);
    assert!(again.received, "only the release is outstanding");
    bench.ack(&again);
    bench.wait(1_000);
    let mut bench = bench.restart();
    assert_eq!(bench.mounted.messages, 0);
    assert!(matches!(publish(&mut bench), Ok(Reply::Published { duplicate: false, .. })), "7 is free again");
}

#[test]
fn a_repeated_publish_of_a_producer_is_recognised_within_its_window() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    let publish = |bench: &mut Bench, key| {
        let reply = bench.publish_with("q", "m", |publish| publish.dedup = Some(DedupKey::Window(key)));
        matches!(reply, Ok(Reply::Published { duplicate: true, .. }))
    };
    assert!(!publish(&mut bench, 1));
    assert!(publish(&mut bench, 1));
    bench.settle();
    let mut bench = bench.restart();
    assert!(publish(&mut bench, 1));
    assert!(!publish(&mut bench, 2));
    bench.wait(600_001);
    assert!(!publish(&mut bench, 1), "the window is over");
    assert_eq!(bench.counts(id), (3, 0, 0));
}

#[test]
fn a_message_goes_once_to_a_queue_however_many_bindings_match_with_the_highest_grade() {
    let mut bench = Bench::new();
    let id = bench.queue("s", session());
    bench.bind("amq.topic", "s", Key::slashes(b"a/#"), Grade::AtMostOnce);
    bench.bind("amq.topic", "s", Key::slashes(b"+/b"), Grade::AtLeastOnce);
    bench.consume(id, 9);
    bench.topic("a/b", "m", Grade::ExactlyOnce, false);
    bench.settle();
    let got = bench.take();
    assert_eq!(got.iter().map(|got| got.grade).collect::<Vec<_>>(), [Grade::AtLeastOnce]);
}

#[test]
fn messages_of_many_queues_are_shared_fairly_among_consumers() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    let (first, second) = (bench.consume(id, 100), bench.consume(id, 100));
    for number in 0..10 {
        bench.publish("q", &number.to_string()).unwrap();
    }
    bench.settle();
    let got = bench.take();
    let share = |consumer| got.iter().filter(|got| got.consumer == consumer).count();
    assert_eq!((share(first), share(second)), (5, 5));
    bench.execute(Command::Unsubscribe(first)).unwrap();
    bench.settle();
    assert_eq!(bench.take().len(), 5, "what the first had goes to the second");
}

#[test]
fn retained_values_are_sent_to_new_subscriptions_and_survive() {
    let mut bench = Bench::new();
    bench.topic("lamp/1", "on", Grade::AtMostOnce, true);
    bench.topic("lamp/2", "off", Grade::AtLeastOnce, true);
    bench.topic("lamp/1", "dim", Grade::AtLeastOnce, true);
    bench.topic("lamp/3", "x", Grade::AtLeastOnce, true);
    bench.topic("lamp/3", "", Grade::AtLeastOnce, true);
    bench.settle();
    let mut bench = bench.restart();
    let id = bench.queue("s", session());
    let consumer = bench.consume(id, 9);
    let pattern = Key::slashes(b"lamp/+");
    let send = |bench: &mut Bench, grade| {
        bench.execute(Command::Retained { consumer, pattern, grade }).unwrap();
        bench.settle();
        let mut got: Vec<_> = bench
            .take()
            .into_iter()
            .map(|got| (got.key, got.body, got.retained, got.tag.is_some()))
            .collect();
        got.sort();
        got
    };
    let expected = |acked| {
        [("lamp/1", "dim"), ("lamp/2", "off")]
            .map(|(key, body)| (key.to_string(), body.to_string(), true, acked))
    };
    assert_eq!(send(&mut bench, Grade::AtMostOnce), expected(false));
    assert_eq!(send(&mut bench, Grade::AtLeastOnce), expected(true));
}

#[test]
fn an_acknowledgement_is_durable_after_its_time_though_a_publish_that_needed_its_page_wrote_it() {
    let mut bench = Bench::with(support::SMALL, 2);
    for name in ["a", "b"] {
        let id = bench.durable_queue(name);
        bench.consume(id, 1);
        bench.publish(name, name).unwrap();
    }
    bench.queue("c", QueueOptions::default());
    bench.settle();
    let got = bench.take();
    bench.ack(&got[0]);
    let reply = bench.publish_with("c", "c", |publish| publish.durable = false);
    assert!(matches!(reply, Ok(Reply::Published { routed: 1, .. })), "{reply:?}");
    bench.wait(1_000);
    assert_eq!(bench.broker.poll_timeout(), Millis::NEVER);
    let bench = bench.restart();
    assert_eq!(bench.mounted.messages, 1);
}

#[test]
fn a_failed_sync_confirms_nothing_and_refuses_from_then_on() {
    let mut bench = Bench::new();
    bench.durable_queue("q");
    bench.settle();
    bench.flash.medium.borrow_mut().fail_sync = true;
    let Ok(Reply::Published { confirm_at, .. }) = bench.publish("q", "m") else { panic!() };
    bench.settle();
    bench.flash.medium.borrow_mut().fail_sync = false;
    bench.wait(1_000);
    assert!(bench.broker.durable() < confirm_at);
    assert_eq!(bench.publish("q", "m"), Err(Refusal::ReadOnly));
}
