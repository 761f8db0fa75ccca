//! What reclaim moves, and power that goes while it does.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::flash::Geometry;
use forebay::model::key::Key;
use forebay::units::*;
use support::{Bench, TestFlash};

const GEOMETRY: Geometry = Geometry { segment_size: 4096, segment_count: 16, write_unit: 4 };
const PAGES: usize = 16;

/// Address, received, deliveries and delay of the only message of a queue.
type Sight = (At, bool, u8, Standing);

fn sight(bench: &mut Bench, queue: QueueId) -> Option<Sight> {
    let standee = bench.broker.browse(queue, Offset(0), Which::Any)?.1?;
    Some((standee.at, standee.received, standee.deliveries, standee.standing))
}

/// What would be found if power went now.
fn sight_after_loss(flash: &TestFlash, queue: QueueId, now: Millis) -> Option<Sight> {
    sight(&mut Bench::look(flash.fork(), PAGES, now), queue)
}

/// Power goes behind the copy that reclaim makes of a message, and in front of all that follows it.
fn lose_all_behind_the_copy(mut bench: Bench, queue: QueueId) -> Bench {
    let (before, ..) = sight(&mut bench, queue).unwrap();
    while sight(&mut bench, queue).unwrap().0 == before {
        bench.work();
    }
    let (copy, ..) = sight(&mut bench, queue).unwrap();
    let segment = copy.0 as usize / 4096 * 4096;
    let written = bench.flash.medium.borrow().written.clone();
    for end in (copy.0 as usize..segment + 4096).step_by(4) {
        let torn = bench.flash.fork();
        {
            let mut medium = torn.medium.borrow_mut();
            medium.synced.clone_from(&written);
            medium.synced[end..segment + 4096].fill(0xff);
        }
        torn.lose_power();
        if sight_after_loss(&torn, queue, bench.now).is_some_and(|(at, ..)| at == copy) {
            return Bench::try_mount(torn, PAGES, bench.now).unwrap();
        }
    }
    panic!("the copy is never whole");
}

/// A message is known as before through a lap of the log, wherever power goes in it.
fn keeps_through_a_lap(mut bench: Bench, queue: QueueId) {
    let known = sight_after_loss(&bench.flash, queue, bench.now).expect("it is there");
    let (_, received, deliveries, standing) = known;
    let busy = bench.durable_queue("busy");
    bench.consume(busy, 8);
    // What power left unacknowledged comes again.
    bench.drain();
    for turn in 0..100 {
        bench.work();
        let found = sight_after_loss(&bench.flash, queue, bench.now).expect("it is there");
        assert_eq!((found.1, found.2, found.3), (received, deliveries, standing), "turn {turn}");
    }
}

/// One message that was handed out, among others that come and go.
fn handed_out(options: QueueOptions<'_>) -> (Bench, QueueId, Tag) {
    let mut bench = Bench::with(GEOMETRY, PAGES);
    let queue = bench.queue("q", QueueOptions { durable: true, ..options });
    let busy = bench.durable_queue("busy");
    bench.consume(queue, 1);
    bench.publish_with("q", "a", |publish| publish.grade = Grade::ExactlyOnce).unwrap();
    bench.settle();
    let tag = bench.take()[0].tag.unwrap();
    bench.consume(busy, 8);
    (bench, queue, tag)
}

#[test]
fn what_was_received_is_remembered_though_power_went_behind_the_copy_of_reclaim() {
    let (mut bench, queue, tag) = handed_out(QueueOptions::default());
    bench.execute(Command::Received(tag)).unwrap();
    bench.settle();
    let mut bench = lose_all_behind_the_copy(bench, queue);
    assert!(sight(&mut bench, queue).unwrap().1);
    keeps_through_a_lap(bench, queue);
}

#[test]
fn deliveries_and_a_delay_are_remembered_though_power_went_behind_the_copy_of_reclaim() {
    let (mut bench, queue, tag) = handed_out(QueueOptions { delivery_limit: 3, ..QueueOptions::default() });
    bench.execute(Command::Reject(tag, Rejection::Delay(3_600_000))).unwrap();
    bench.settle();
    let mut bench = lose_all_behind_the_copy(bench, queue);
    let (_, _, deliveries, standing) = sight(&mut bench, queue).unwrap();
    assert!(deliveries == 1 && matches!(standing, Standing::Delayed(_)), "{deliveries} {standing:?}");
    keeps_through_a_lap(bench, queue);
}

#[test]
fn a_delay_that_was_over_when_reclaim_moved_its_message_is_over_also_while_its_mark_is_there() {
    let (mut bench, queue, tag) = handed_out(QueueOptions::default());
    bench.execute(Command::Reject(tag, Rejection::Delay(1_000))).unwrap();
    bench.settle();
    bench.wait(2_000);
    assert_eq!(bench.bodies(), ["a"], "it was handed out again");
    let (before, ..) = sight(&mut bench, queue).unwrap();
    while sight(&mut bench, queue).unwrap().0 == before {
        bench.work();
    }
    let (.., standing) = sight_after_loss(&bench.flash, queue, bench.now).unwrap();
    assert_eq!(standing, Standing::Ready);
    keeps_through_a_lap(bench, queue);
}

#[test]
fn a_group_begins_with_the_oldest_of_its_stream_wherever_reclaim_has_moved_that() {
    let mut bench = Bench::with(GEOMETRY, PAGES);
    let durable = QueueOptions { durable: true, ..QueueOptions::default() };
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, ..durable });
    let group = bench.queue("g", QueueOptions { kind: QueueKind::Group { stream }, ..durable });
    let busy = bench.durable_queue("busy");
    bench.consume(busy, 8);
    let all: Vec<String> = (0..40).map(|number| number.to_string()).collect();
    for (number, body) in all.iter().enumerate() {
        if number == 31 {
            // What is of the second page of the stream is far behind what is of the first.
            (0..40).for_each(|_| bench.work());
        }
        bench.publish("s", body).unwrap();
    }
    for turn in 0..100 {
        bench.work();
        let mut other = Bench::try_mount(bench.flash.fork(), PAGES, bench.now).unwrap();
        other.consume(group, 64);
        other.settle();
        assert_eq!(other.bodies(), all, "turn {turn}");
    }
}

#[test]
fn a_publish_is_known_only_where_all_its_queues_have_it() {
    let mut bench = Bench::with(GEOMETRY, 64);
    let names: Vec<String> = (0..20).map(|n| format!("q{n}")).collect();
    let queues: Vec<_> = names.iter().map(|name| bench.durable_queue(name)).collect();
    names.iter().for_each(|name| bench.bind("amq.fanout", name, Key::dots(b""), Grade::ExactlyOnce));
    bench.settle();
    let publish = |bench: &mut Bench| {
        let known = DedupKey::Window(7);
        let done = bench.publish_with("", "m", |publish| {
            (publish.exchange, publish.dedup) = ("amq.fanout", Some(known));
        });
        matches!(done, Ok(Reply::Published { duplicate: true, .. }))
    };
    let before = bench.flash.medium.borrow().written.clone();
    bench.flash.medium.borrow_mut().hold_sync = true;
    assert!(!publish(&mut bench));
    bench.broker.commit(bench.now);
    let written = bench.flash.medium.borrow().written.clone();
    let changed: Vec<usize> = (0..written.len()).filter(|&at| written[at] != before[at]).collect();
    let (from, to) = (changed[0] / 4 * 4, changed[changed.len() - 1] / 4 * 4 + 4);
    let mut known = 0;
    for end in (from..=to).step_by(4) {
        let torn = bench.flash.fork();
        {
            let mut medium = torn.medium.borrow_mut();
            medium.synced.clone_from(&written);
            medium.synced[end..to].fill(0xff);
        }
        torn.lose_power();
        let mut other = Bench::try_mount(torn, 64, bench.now).unwrap();
        known += u32::from(publish(&mut other));
        assert!(queues.iter().all(|&queue| other.counts(queue).0 >= 1), "cut at {end}");
    }
    assert!(known > 0, "it is known when all is there");
}

/// Where a text stands on the flash.
fn find(flash: &TestFlash, text: &[u8]) -> usize {
    let medium = flash.medium.borrow();
    medium.written.windows(text.len()).position(|bytes| bytes == text).expect("it is on flash")
}

#[test]
fn what_cannot_be_read_any_more_does_not_keep_reclaim_from_going_on() {
    let mut bench = Bench::with(GEOMETRY, PAGES);
    let exchange = ExchangeOptions { durable: true, ..ExchangeOptions::default() };
    bench.exchange("exchange-idle", exchange).unwrap();
    for name in ["busy", "idle-queue", "idle"] {
        bench.durable_queue(name);
    }
    bench.bind("exchange-idle", "idle", Key::dots(b"pattern-idle"), Grade::AtLeastOnce);
    let (busy, idle) = (bench.durable_queue("busy"), bench.durable_queue("idle"));
    bench.consume(busy, 8);
    bench.publish("idle", "lost body").unwrap();
    bench.publish("idle", "kept body").unwrap();
    bench.topic("idle/topic", "lost value", Grade::AtLeastOnce, true);
    // The segment is closed, so its footer tells where they are.
    (0..8).for_each(|_| bench.work());
    for text in ["lost body", "lost value", "exchange-idle", "idle-queue", "pattern-idle"] {
        let at = find(&bench.flash, text.as_bytes());
        bench.flash.medium.borrow_mut().written[at..at + 4].copy_from_slice(b"????");
    }
    (0..300).for_each(|_| bench.work());
    let log = bench.broker.info().log;
    assert!(log.head_sequence > 40, "{log:?}");
    assert_eq!(bench.counts(idle).0, 1);
    let mut bench = bench.restart();
    for name in ["idle-queue", "idle"] {
        assert!(matches!(bench.execute(Command::FindQueue { name }), Ok(Reply::Queue { .. })), "{name}");
    }
    let message = Message { key: Key::dots(b"pattern-idle"), headers: &[], body: b"routed" };
    let publish = Publish { exchange: "exchange-idle", message, durable: true, ..Publish::default() };
    let routed = bench.execute(Command::Publish(publish));
    assert!(matches!(routed, Ok(Reply::Published { routed: 1, .. })), "{routed:?}");
    let idle = bench.durable_queue("idle");
    bench.consume(idle, 9);
    assert_eq!(bench.drain(), ["kept body", "routed"]);
}

#[test]
fn an_auto_delete_exchange_goes_with_its_last_binding_though_reclaim_has_moved_it_behind_that() {
    let mut bench = Bench::with(GEOMETRY, PAGES);
    let busy = bench.durable_queue("busy");
    bench.consume(busy, 8);
    bench.durable_queue("q");
    let (kind, durable) = (ExchangeKind::Fanout, true);
    let options = ExchangeOptions { kind, durable, auto_delete: true, internal: false, alternate: None };
    bench.exchange("x", options).unwrap();
    // The binding is written where reclaim comes to it much later.
    (0..25).for_each(|_| bench.work());
    bench.bind("x", "q", Key::dots(b""), Grade::ExactlyOnce);
    for turn in 0..100 {
        bench.work();
        let mut other = Bench::try_mount(bench.flash.fork(), PAGES, bench.now).unwrap();
        let destination = Destination::Queue("q");
        let (pattern, grade) = (Key::dots(b""), Grade::ExactlyOnce);
        let bind = Bind { exchange: "x", destination, pattern, arguments: &[], grade };
        assert_eq!(other.execute(Command::Unbind(bind)), Ok(Reply::Removed(1)), "turn {turn}");
        let found = other.execute(Command::FindExchange { name: "x" });
        assert_eq!(found, Err(Refusal::NoExchange), "turn {turn}");
    }
}

/// Bytes that a queue is charged, and all of them.
fn bytes(bench: &Bench, id: QueueId) -> (u64, u64) {
    let mut bytes = None;
    bench.broker.for_each_queue(&mut |queue| bytes = bytes.or((queue.id == id).then_some(queue.bytes)));
    (bytes.expect("the queue exists"), bench.broker.info().live_bytes)
}

#[test]
fn a_queue_is_charged_alone_for_a_copy_that_is_its_own_and_the_same_after_a_restart() {
    let mut bench = Bench::with(GEOMETRY, PAGES);
    let busy = bench.durable_queue("busy");
    bench.consume(busy, 8);
    let queue = bench.durable_queue("q");
    let sharers = ["a", "b", "c", "d", "e", "f", "g"].map(|name| bench.durable_queue(name));
    for name in ["q", "a", "b", "c", "d", "e", "f", "g"] {
        bench.bind("amq.fanout", name, Key::dots(b""), Grade::ExactlyOnce);
    }
    let body = "x".repeat(600);
    for _ in 0..2 {
        bench.publish_with("k", &body, |publish| publish.exchange = "amq.fanout").unwrap();
    }
    // That of one queue is charged as before.
    bench.publish("q", "alone").unwrap();
    bench.settle();
    assert!(bytes(&bench, queue).0 < 2 * 600 / 4, "it is shared");
    sharers.iter().for_each(|&id| _ = bench.consume(id, 8));
    bench.drain();
    let segments = |bench: &Bench| bench.broker.info().log.head_sequence;
    let (before, ..) = sight(&mut bench, queue).unwrap();
    while sight(&mut bench, queue).unwrap().0 == before {
        bench.work();
    }
    let head = segments(&bench);
    while segments(&bench) <= head + 1 {
        bench.work();
    }
    let charged = bytes(&bench, queue);
    let other = Bench::try_mount(bench.flash.fork(), PAGES, bench.now).unwrap();
    assert_eq!(charged, bytes(&other, queue));
    assert!(charged.0 > 2 * 600 && charged.1 == charged.0, "{charged:?}");
}

#[test]
fn records_that_were_overwritten_with_zeros_are_not_taken_for_padding() {
    // Of a segment with its footer, and of units that hold several records.
    let geometry = Geometry { segment_size: 4096, segment_count: 32, write_unit: 256 };
    let mut bench = Bench::with(geometry, PAGES);
    let (busy, idle) = (bench.durable_queue("busy"), bench.durable_queue("idle"));
    bench.consume(busy, 8);
    for number in 0..20 {
        bench.publish("idle", &format!("lost {number}")).unwrap();
    }
    bench.settle();
    (0..8).for_each(|_| bench.work());
    let from = find(&bench.flash, b"lost 3");
    let to = find(&bench.flash, b"lost 17");
    bench.flash.medium.borrow_mut().written[from..to].fill(0);
    (0..500).for_each(|_| bench.work());
    let log = bench.broker.info().log;
    assert!(log.head_sequence > 64, "{log:?}");
    let left = bench.counts(idle).0;
    assert!((3..10).contains(&left), "{left} of 20 are left");
    bench.consume(idle, 20);
    let got = bench.drain();
    assert_eq!(got.len() as u64, u64::from(left));
    assert!(got.iter().all(|body| body.starts_with("lost ")), "{got:?}");
}

#[test]
fn a_message_that_is_larger_than_is_allowed_now_keeps_the_store_shut_until_it_is_gone() {
    let mut bench = Bench::with(GEOMETRY, PAGES);
    let queue = bench.durable_queue("q");
    bench.publish("q", &"x".repeat(700)).unwrap();
    bench.settle();
    let mount = |bench: &Bench| {
        let mut smaller = support::storage(GEOMETRY, PAGES);
        smaller.max_record = 256;
        let settings = forebay::broker::Settings::default();
        forebay::broker::Broker::mount(bench.flash.fork(), smaller, settings)
            .map(|(_, mounted)| mounted.messages)
    };
    let refused = mount(&bench).expect_err("it cannot be read");
    assert!(format!("{refused:?}").contains("max_message_bytes"), "{refused:?}");
    bench.consume(queue, 1);
    assert_eq!(bench.drain().len(), 1);
    bench.wait(1_000);
    assert_eq!(mount(&bench).expect("it is gone"), 0);
}

/// Fills a store with small messages in many queues, and hands out and delays all but those of the first.
fn full_of_returned(geometry: Geometry) -> Bench {
    let mut bench = Bench::with(geometry, 4096);
    let names: Vec<String> = (0..12).map(|number| format!("q{number}")).collect();
    let options = QueueOptions { durable: true, delivery_limit: 9, ..QueueOptions::default() };
    let queues: Vec<_> = names.iter().map(|name| bench.queue(name, options)).collect();
    let (mut number, mut refused) = (0, 0);
    while refused < 200 {
        let name = &names[number * 7 % names.len()];
        let body = "a body of some forty bytes, as a sensor sends";
        refused += u32::from(bench.publish(name, body).is_err());
        number += 1;
        if number % 500 == 0 || refused > 0 {
            bench.settle();
        }
    }
    for &queue in &queues[1..] {
        let asked = support::subscription(queue, 32);
        let Ok(Reply::Consumer(consumer)) = bench.execute(asked) else { panic!() };
        loop {
            bench.settle();
            let got = bench.take();
            if got.is_empty() {
                break;
            }
            for got in got {
                bench.execute(Command::Reject(got.tag.unwrap(), Rejection::Delay(3_600_000))).unwrap();
            }
        }
        bench.execute(Command::Pause(consumer, true)).unwrap();
    }
    bench
}

#[test]
fn copies_that_are_larger_than_their_originals_find_room_in_a_full_store() {
    for (segment_size, segment_count, write_unit) in [(1 << 15, 64, 512), (1 << 15, 32, 512), (4096, 64, 4)] {
        let mut bench = full_of_returned(Geometry { segment_size, segment_count, write_unit });
        let Ok(Reply::Queue { id, .. }) = bench.execute(Command::FindQueue { name: "q0" }) else { panic!() };
        let held = bench.counts(id).0 as usize;
        assert!(held > 50, "{held}");
        // It goes on, lap after lap, and what is acknowledged stays so.
        for lap in 0..6 {
            bench.consume(id, 8);
            assert_eq!(bench.drain().len(), held, "lap {lap}");
            bench.wait(100);
            bench = bench.restart();
            assert_eq!(bench.counts(id), (0, 0, 0), "lap {lap}");
            for number in 0..held {
                let body = format!("a body of some forty bytes, as a sensor {number}");
                bench.publish("q0", &body).unwrap_or_else(|refusal| panic!("lap {lap}: {refusal:?}"));
            }
            bench.settle();
        }
    }
}
