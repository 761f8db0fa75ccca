//! Queues that go by themselves, and what is asked of a queue, as transcripts.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::model::key::Key;
use forebay::units::*;
use support::Bench;

fn durable() -> QueueOptions<'static> {
    QueueOptions { durable: true, ..QueueOptions::default() }
}

fn mortal() -> QueueOptions<'static> {
    QueueOptions { dead_letter_exchange: Some(""), dead_letter_key: Some(Key::dots(b"dead")), ..durable() }
}

fn find(bench: &mut Bench, name: &str) -> Result<Reply, Refusal> {
    bench.execute(Command::FindQueue { name })
}

fn is_there(bench: &mut Bench, name: &str) -> bool {
    find(bench, name).is_ok()
}

fn delete(bench: &mut Bench, name: &str, if_unused: bool, if_empty: bool) -> Result<Reply, Refusal> {
    bench.execute(Command::DeleteQueue { name, if_unused, if_empty })
}

#[test]
fn find_queue_tells_owner_and_kind() {
    let mut bench = Bench::new();
    bench.queue("own", QueueOptions { exclusive: 7, ..durable() });
    bench.queue("log", QueueOptions { kind: QueueKind::Stream, ..durable() });
    assert!(matches!(find(&mut bench, "own"), Ok(Reply::Queue { exclusive: 7, kind: QueueKind::Work, .. })));
    assert!(matches!(
        find(&mut bench, "log"),
        Ok(Reply::Queue { exclusive: 0, kind: QueueKind::Stream, .. })
    ));
    let again =
        |exclusive| Command::DeclareQueue { name: "own", options: QueueOptions { exclusive, ..durable() } };
    assert!(matches!(bench.execute(again(7)), Ok(Reply::Queue { existed: true, .. })));
    assert_eq!(bench.execute(again(8)), Err(Refusal::Mismatch));
}

#[test]
fn an_exclusive_queue_goes_with_its_owner() {
    let mut bench = Bench::new();
    let own = |exclusive| QueueOptions { exclusive, ..durable() };
    let first = bench.queue("first", own(7));
    bench.queue("second", own(7));
    bench.queue("other", own(8));
    bench.durable_queue("common");
    let consumer = bench.consume(first, 1);
    assert_eq!(bench.execute(Command::DeleteExclusive { owner: 0 }), Ok(Reply::Removed(0)));
    assert_eq!(bench.execute(Command::DeleteExclusive { owner: 7 }), Ok(Reply::Removed(2)));
    assert_eq!(bench.inbox.cancelled, [consumer]);
    let left = ["first", "second", "other", "common"].map(|name| is_there(&mut bench, name));
    assert_eq!(left, [false, false, true, true]);
}

#[test]
fn an_exclusive_queue_is_not_there_after_a_restart_nor_are_its_messages() {
    let mut bench = Bench::new();
    bench.queue("own", QueueOptions { exclusive: 7, ..durable() });
    bench.bind("amq.topic", "own", Key::dots(b"#"), Grade::ExactlyOnce);
    bench.publish("own", "m").unwrap();
    bench.wait(1_000);
    let mut bench = bench.restart();
    assert!(!is_there(&mut bench, "own"));
    assert_eq!(bench.mounted.messages, 0);
}

#[test]
fn an_unused_queue_expires() {
    let mut bench = Bench::new();
    bench.queue("q", QueueOptions { expires_ms: 1_000, ..durable() });
    bench.publish("q", "m").unwrap();
    bench.wait(900);
    assert!(is_there(&mut bench, "q"));
    // It was only looked at, which is no use of it.
    bench.wait(100);
    assert!(!is_there(&mut bench, "q"));
    let mut bench = bench.restart();
    assert!(!is_there(&mut bench, "q"));
}

#[test]
fn a_queue_does_not_expire_while_it_is_used() {
    let mut bench = Bench::new();
    let options = QueueOptions { expires_ms: 1_000, ..durable() };
    let id = bench.queue("q", options);
    let consumer = bench.consume(id, 1);
    bench.wait(5_000);
    bench.execute(Command::Unsubscribe(consumer)).unwrap();
    bench.wait(900);
    bench.queue("q", options);
    bench.wait(900);
    let puller = subscribe(&mut bench, Subscription { queue: id, credit: 9, pull: true, ..plain() }).unwrap();
    bench.execute(Command::Fetch { consumer: puller, count: 1 }).unwrap();
    bench.wait(900);
    assert!(is_there(&mut bench, "q"));
    bench.wait(100);
    assert!(!is_there(&mut bench, "q"), "that somebody may fetch is no use");
    assert_eq!(bench.inbox.cancelled, [puller]);
}

#[test]
fn the_time_of_an_unused_queue_begins_anew_at_a_restart() {
    let mut bench = Bench::new();
    bench.queue("q", QueueOptions { expires_ms: 1_000, ..durable() });
    bench.wait(900);
    let mut bench = bench.restart();
    bench.now = bench.now.after(60_000);
    bench.settle();
    bench.wait(900);
    assert!(is_there(&mut bench, "q"));
    bench.wait(100);
    assert!(!is_there(&mut bench, "q"));
}

#[test]
fn delete_if_unused_and_if_empty_refuse_and_change_nothing() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.publish("q", "a").unwrap();
    assert_eq!(delete(&mut bench, "q", false, true), Err(Refusal::NotEmpty));
    let consumer = bench.consume(id, 1);
    assert_eq!(delete(&mut bench, "q", true, false), Err(Refusal::InUse));
    bench.settle();
    assert_eq!(bench.bodies(), ["a"]);
    bench.execute(Command::Unsubscribe(consumer)).unwrap();
    assert_eq!(delete(&mut bench, "q", true, false), Ok(Reply::Removed(1)));
    assert_eq!(delete(&mut bench, "q", true, true), Err(Refusal::NoQueue));
}

#[test]
fn purge_takes_a_bounded_number_and_says_whether_there_is_more() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    for number in 0..1_800 {
        bench.publish("q", &number.to_string()).unwrap();
        if number % 100 == 0 {
            bench.settle();
        }
    }
    bench.consume(id, 3);
    bench.settle();
    let mut purged = Vec::new();
    loop {
        let Ok(Reply::Purged { count, more }) = bench.execute(Command::Purge { name: "q" }) else { panic!() };
        purged.push(count);
        if !more {
            break;
        }
    }
    assert_eq!(purged, [1024, 773]);
    assert_eq!(bench.counts(id), (0, 3, 0));
    bench.wait(1_000);
    assert_eq!(bench.restart().mounted.messages, 3);
}

fn plain() -> Subscription {
    Subscription { owner: 1, credit: 1, ..Subscription::default() }
}

fn subscribe(bench: &mut Bench, asked: Subscription) -> Result<ConsumerId, Refusal> {
    match bench.execute(Command::Subscribe(asked))? {
        Reply::Consumer(id) => Ok(id),
        other => panic!("{other:?}"),
    }
}

#[test]
fn a_ttl_of_0_hands_a_message_to_a_waiting_consumer_or_expires_it_at_once() {
    for of_the_queue in [true, false] {
        let mut bench = Bench::new();
        bench.durable_queue("dead");
        let id = bench.queue("q", QueueOptions { ttl_ms: Some(0).filter(|_| of_the_queue), ..mortal() });
        let publish = |bench: &mut Bench, body: &str| {
            bench
                .publish_with("q", body, |publish| publish.ttl_ms = Some(0).filter(|_| !of_the_queue))
                .unwrap();
            bench.settle();
        };
        publish(&mut bench, "nobody there");
        assert_eq!(bench.counts(id), (0, 0, 0));
        bench.consume(id, 1);
        bench.flash.medium.borrow_mut().hold_sync = true;
        publish(&mut bench, "awaited");
        bench.wait(20);
        bench.flash.medium.borrow_mut().hold_sync = false;
        bench.settle();
        let got = bench.take();
        assert_eq!(got.iter().map(|got| &*got.body).collect::<Vec<_>>(), ["awaited"]);
        publish(&mut bench, "no credit");
        bench.wait(5);
        bench.ack(&got[0]);
        bench.settle();
        assert!(bench.take().is_empty());
        let Ok(Reply::Queue { id: dead, .. }) = find(&mut bench, "dead") else { panic!() };
        bench.consume(dead, 9);
        assert_eq!(bench.drain(), ["nobody there", "no credit"]);
        bench.wait(1_000);
        let mut bench = bench.restart();
        bench.consume(id, 9);
        assert!(bench.drain().is_empty());
    }
}

#[test]
fn one_active_consumer_receives_and_the_next_takes_over() {
    let mut bench = Bench::new();
    let id = bench.queue("q", QueueOptions { single_active: true, ..durable() });
    let consumers: Vec<_> = [0, 0, 3, 0]
        .into_iter()
        .map(|priority| {
            subscribe(&mut bench, Subscription { queue: id, credit: 2, priority, ..plain() }).unwrap()
        })
        .collect();
    for body in ["a", "b", "c", "d", "e"] {
        bench.publish("q", body).unwrap();
    }
    bench.settle();
    let got = bench.take();
    assert!(got.iter().all(|got| got.consumer == consumers[0]), "{got:?}");
    assert_eq!(got.len(), 2, "nobody else steps in");
    got.iter().for_each(|got| bench.ack(got));
    bench.settle();
    assert_eq!(bench.take().len(), 2);
    // The highest priority comes next, then who was there first.
    bench.execute(Command::Unsubscribe(consumers[0])).unwrap();
    bench.settle();
    let got = bench.take();
    let seen: Vec<_> = got.iter().map(|got| (got.consumer, &*got.body)).collect();
    assert_eq!(seen, [(consumers[2], "c"), (consumers[2], "d")]);
    bench.execute(Command::Unsubscribe(consumers[2])).unwrap();
    bench.settle();
    let got = bench.take();
    let seen: Vec<_> = got.iter().map(|got| (got.consumer, &*got.body)).collect();
    assert_eq!(seen, [(consumers[3], "c"), (consumers[3], "d")]);
    bench.wait(1_000);
    let mut bench = bench.restart();
    let again = QueueOptions { single_active: true, ..durable() };
    assert!(matches!(
        bench.execute(Command::DeclareQueue { name: "q", options: again }),
        Ok(Reply::Queue { existed: true, ready: 3, .. })
    ));
}

#[test]
fn consumers_of_a_higher_priority_come_first_while_they_can_take_more() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    let mut consumer = |priority, credit| {
        subscribe(&mut bench, Subscription { queue: id, credit, priority, ..plain() }).unwrap()
    };
    let (low, high, other, last) = (consumer(0, 9), consumer(5, 2), consumer(5, 2), consumer(-1, 9));
    for number in 0..6 {
        bench.publish("q", &number.to_string()).unwrap();
    }
    bench.settle();
    let got = bench.take();
    let count = |id| got.iter().filter(|got| got.consumer == id).count();
    assert_eq!([count(low), count(high), count(other), count(last)], [2, 2, 2, 0]);
    assert!(got[..4].iter().all(|got| got.consumer != low));
    bench.ack(&got[0]);
    bench.publish("q", "next").unwrap();
    bench.settle();
    assert_eq!(bench.take()[0].consumer, got[0].consumer);
}

#[test]
fn an_exclusive_consumer_is_alone() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    let only = Subscription { queue: id, exclusive: true, ..plain() };
    let any = Subscription { exclusive: false, ..only };
    let first = subscribe(&mut bench, any).unwrap();
    assert_eq!(subscribe(&mut bench, only), Err(Refusal::Exclusive));
    bench.execute(Command::Unsubscribe(first)).unwrap();
    let first = subscribe(&mut bench, only).unwrap();
    assert_eq!(subscribe(&mut bench, any), Err(Refusal::Exclusive));
    assert_eq!(subscribe(&mut bench, only), Err(Refusal::Exclusive));
    bench.execute(Command::Unsubscribe(first)).unwrap();
    subscribe(&mut bench, any).unwrap();
}

fn fetch(bench: &mut Bench, consumer: ConsumerId, count: u32) -> Result<Reply, Refusal> {
    bench.execute(Command::Fetch { consumer, count })
}

fn puller(bench: &mut Bench, queue: QueueId) -> ConsumerId {
    subscribe(bench, Subscription { queue, credit: u32::MAX, pull: true, ..plain() }).unwrap()
}

#[test]
fn fetch_hands_over_what_is_ready_and_nothing_comes_unasked() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    let consumer = puller(&mut bench, id);
    assert!(matches!(find(&mut bench, "q"), Ok(Reply::Queue { consumers: 0, .. })));
    for number in 0..5 {
        bench.publish("q", &number.to_string()).unwrap();
    }
    bench.settle();
    assert!(bench.take().is_empty());
    assert_eq!(fetch(&mut bench, consumer, 2), Ok(Reply::Fetched { count: 2, remaining: 3 }));
    let got = bench.take();
    assert_eq!(got.iter().map(|got| &*got.body).collect::<Vec<_>>(), ["0", "1"]);
    assert_eq!(bench.counts(id), (3, 2, 0));
    bench.ack(&got[0]);
    bench.execute(Command::Reject(got[1].tag.unwrap(), Rejection::Requeue)).unwrap();
    assert_eq!(fetch(&mut bench, consumer, 9), Ok(Reply::Fetched { count: 4, remaining: 0 }));
    let got = bench.take();
    assert_eq!(got.iter().map(|got| &*got.body).collect::<Vec<_>>(), ["1", "2", "3", "4"]);
    assert!(got[0].redelivered && !got[1].redelivered);
    assert_eq!(fetch(&mut bench, consumer, 1), Ok(Reply::Fetched { count: 0, remaining: 0 }));
    bench.execute(Command::Unsubscribe(consumer)).unwrap();
    assert_eq!(bench.counts(id), (4, 0, 0));
    assert_eq!(fetch(&mut bench, consumer, 1), Err(Refusal::NoConsumer));
}

#[test]
fn fetch_waits_for_the_sync_of_the_message_and_for_one_more_only_for_a_backlog() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.publish("q", "backlog").unwrap();
    bench.settle();
    let consumer = puller(&mut bench, id);
    let Ok(Reply::Wait(position)) = fetch(&mut bench, consumer, 1) else { panic!() };
    assert!(position > bench.broker.durable());
    bench.settle();
    assert!(position <= bench.broker.durable());
    assert_eq!(fetch(&mut bench, consumer, 1), Ok(Reply::Fetched { count: 1, remaining: 0 }));
    let Ok(Reply::Published { confirm_at, .. }) = bench.publish("q", "new") else { panic!() };
    let Ok(Reply::Wait(position)) = fetch(&mut bench, consumer, 1) else { panic!() };
    assert!(position <= confirm_at, "the publisher's sync is enough");
    bench.settle();
    assert_eq!(fetch(&mut bench, consumer, 1), Ok(Reply::Fetched { count: 1, remaining: 0 }));
    assert_eq!(bench.bodies(), ["backlog", "new"]);
    // Power goes before anything was acknowledged: both may have been seen.
    let mut bench = bench.restart();
    bench.consume(id, 9);
    bench.settle();
    assert!(bench.take().iter().all(|got| got.redelivered));
}

#[test]
fn fetch_without_acknowledgement_is_done_when_handed_over() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    let asked = Subscription { queue: id, no_ack: true, pull: true, ..plain() };
    let consumer = subscribe(&mut bench, asked).unwrap();
    bench.publish("q", "m").unwrap();
    bench.settle();
    assert_eq!(fetch(&mut bench, consumer, 1), Ok(Reply::Fetched { count: 1, remaining: 0 }));
    assert_eq!(bench.counts(id), (0, 0, 0));
    let ordinary = bench.consume(id, 1);
    assert_eq!(fetch(&mut bench, ordinary, 1), Err(Refusal::NotAllowed));
}

#[test]
fn fetch_stops_where_the_receiver_is_busy_and_goes_on_later() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    let consumer = puller(&mut bench, id);
    for number in 0..5 {
        bench.publish("q", &number.to_string()).unwrap();
    }
    bench.settle();
    bench.inbox.room = 2;
    assert_eq!(fetch(&mut bench, consumer, 4), Ok(Reply::Fetched { count: 2, remaining: 3 }));
    bench.inbox.room = 9;
    assert_eq!(fetch(&mut bench, consumer, 4), Ok(Reply::Fetched { count: 3, remaining: 0 }));
    assert_eq!(bench.bodies(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn fetch_reads_a_stream_through_a_group() {
    let mut bench = Bench::new();
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, ..durable() });
    let kind = QueueKind::Group { stream };
    let group = bench.queue("g", QueueOptions { kind, auto_delete: true, ..QueueOptions::default() });
    let consumer = puller(&mut bench, group);
    for number in 0..5 {
        bench.publish("s", &number.to_string()).unwrap();
    }
    bench.settle();
    assert_eq!(fetch(&mut bench, consumer, 3), Ok(Reply::Fetched { count: 3, remaining: 2 }));
    assert_eq!(fetch(&mut bench, consumer, 3), Ok(Reply::Fetched { count: 2, remaining: 0 }));
    assert_eq!(bench.bodies(), ["0", "1", "2", "3", "4"]);
}

#[test]
fn locate_finds_the_first_message_of_a_time() {
    let mut bench = Bench::new();
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, max_count: 80, ..durable() });
    let mut times = Vec::new();
    for number in 0..200 {
        // Some in the same millisecond.
        bench.now = bench.now.after(number % 3 * 10);
        times.push(bench.now);
        bench.publish("s", "m").unwrap();
        bench.settle();
    }
    bench.wait(1_000);
    for restarts in 0..2 {
        let mut kept: Vec<Offset> = Vec::new();
        let mut from = Offset(0);
        while let Some((next, standee)) = bench.broker.browse(stream, from, Which::Any) {
            kept.extend(standee.map(|standee| standee.offset));
            from = next;
        }
        let mut end = Offset(0);
        bench.broker.for_each_queue(&mut |queue| end = end.max(queue.next));
        assert_eq!(kept.len(), 80, "{restarts} restarts");
        for at in times[0].0 - 1..=times[199].0 + 1 {
            let located = bench.execute(Command::Locate { queue: stream, at: Millis(at) });
            let expected = kept.iter().find(|offset| times[offset.0 as usize].0 >= at).copied();
            assert_eq!(located, Ok(Reply::Located(expected.unwrap_or(end))), "{at}");
        }
        bench = bench.restart();
    }
    let work = bench.durable_queue("w");
    assert_eq!(bench.execute(Command::Locate { queue: work, at: Millis(0) }), Err(Refusal::NotAllowed));
}

#[test]
fn cancel_removes_a_delayed_message_for_good() {
    let mut bench = Bench::new();
    let id = bench.queue("q", QueueOptions { max_priority: 5, ..durable() });
    for (body, priority) in [("a", 0), ("b", 3), ("c", 5)] {
        bench
            .publish_with("q", body, |publish| {
                publish.delay_ms = Some(60_000);
                publish.priority = priority;
            })
            .unwrap();
    }
    bench.settle();
    let cancel =
        |bench: &mut Bench, offset| bench.execute(Command::Cancel { queue: id, offset: Offset(offset) });
    let Ok(Reply::Done(position)) = cancel(&mut bench, 1) else { panic!() };
    assert_eq!(cancel(&mut bench, 1), Err(Refusal::NoMessage));
    assert_eq!(cancel(&mut bench, 9), Err(Refusal::NoMessage));
    bench.settle();
    assert!(bench.broker.durable() >= position);
    let mut bench = bench.restart();
    assert_eq!(bench.counts(id).2, 2);
    bench.consume(id, 1);
    bench.wait(60_000);
    let got = bench.take();
    assert_eq!(&*got[0].body, "c");
    assert_eq!(cancel(&mut bench, 2), Err(Refusal::NoMessage), "in flight");
    assert!(cancel(&mut bench, 0).is_ok());
    assert_eq!(bench.counts(id), (0, 1, 0));
}

#[test]
fn the_store_is_short_before_it_refuses_and_until_there_is_clearly_more_room() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    let body = "x".repeat(200);
    let mut was_short_for = 0;
    loop {
        was_short_for += u32::from(bench.broker.is_short());
        if bench.publish("q", &body).is_err() {
            break;
        }
        bench.settle();
    }
    assert!(was_short_for > 20, "{was_short_for}");
    bench.consume(id, 10);
    let mut taken = 0;
    while bench.broker.is_short() {
        bench.settle();
        for got in bench.take() {
            bench.ack(&got);
            taken += 1;
        }
        bench.settle();
    }
    assert!(taken > was_short_for, "{taken} taken, {was_short_for} published while it was short");
}
