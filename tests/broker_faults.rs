//! A broker whose medium fails while it runs: what is confirmed, refused, and still served.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::flash::{FlashError, Geometry};
use forebay::model::key::Key;
use forebay::units::*;
use support::Bench;

fn session() -> QueueOptions<'static> {
    QueueOptions { durable: true, session: true, ..QueueOptions::default() }
}

/// The next sync fails, and so does every later one.
fn fail_sync(bench: &mut Bench) {
    let mut medium = bench.flash.medium.borrow_mut();
    medium.fail_sync = true;
    medium.hold_sync = false;
    drop(medium);
    bench.settle();
    bench.wait(1_000);
}

fn hold_sync(bench: &Bench) {
    bench.flash.medium.borrow_mut().hold_sync = true;
}

/// An exactly-once publish under a packet id.
fn held(bench: &mut Bench, queue: QueueId, packet: u16) -> Result<Reply, Refusal> {
    bench.publish_with("q", "once", |publish| {
        publish.grade = Grade::ExactlyOnce;
        publish.dedup = Some(DedupKey::Held { queue, packet });
    })
}

fn position(reply: Result<Reply, Refusal>) -> Position {
    match reply {
        Ok(Reply::Done(position) | Reply::Published { confirm_at: position, .. }) => position,
        other => panic!("{other:?}"),
    }
}

#[test]
fn what_was_confirmed_is_handed_out_and_what_was_not_is_not() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.publish("q", "kept").unwrap();
    bench.settle();
    bench.publish("q", "in doubt").unwrap();
    fail_sync(&mut bench);
    bench.consume(id, 9);
    bench.settle();
    let got = bench.take();
    assert_eq!(got.iter().map(|got| got.body.as_str()).collect::<Vec<_>>(), ["kept"]);
    bench.ack(&got[0]);
    assert_eq!(bench.drain(), [""; 0]);
    // The acknowledgement was in memory only: after a restart the message comes again.
    bench.flash.medium.borrow_mut().fail_sync = false;
    let mut bench = bench.restart();
    bench.consume(id, 9);
    assert_eq!(bench.drain()[0], "kept");
}

#[test]
fn a_backlog_is_handed_out_also_where_the_mark_that_says_so_is_in_doubt() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.publish("q", "kept").unwrap();
    bench.settle();
    hold_sync(&bench);
    bench.consume(id, 9);
    bench.settle();
    assert_eq!(bench.bodies(), [""; 0], "it waits for the mark");
    fail_sync(&mut bench);
    assert_eq!(bench.bodies(), ["kept"]);
}

#[test]
fn a_message_that_reclaim_was_moving_is_handed_out() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    let churned = bench.durable_queue("churn");
    bench.consume(churned, 1000);
    // So many that they are not all moved at once.
    let old: Vec<String> = (0..30).map(|number| format!("{number:0100}")).collect();
    for body in &old {
        bench.publish("q", body).unwrap();
    }
    bench.settle();
    let filler = "x".repeat(700);
    for _ in 0..2_000 {
        let before = bench.broker.info().log.copied;
        hold_sync(&bench);
        bench.publish("churn", &filler).unwrap();
        bench.drain();
        if bench.broker.info().log.copied > before {
            fail_sync(&mut bench);
            bench.take();
            bench.consume(id, 99);
            bench.settle();
            assert_eq!(bench.bodies(), old);
            return;
        }
        bench.flash.medium.borrow_mut().hold_sync = false;
        bench.drain();
    }
    panic!("nothing was ever moved");
}

#[test]
fn nothing_that_wants_to_be_durable_is_confirmed_after_a_failure() {
    for by_write in [false, true] {
        let mut bench = Bench::new();
        let id = bench.durable_queue("q");
        bench
            .execute(Command::DeclareExchange {
                name: "x",
                options: ExchangeOptions {
                    kind: ExchangeKind::Fanout,
                    durable: true,
                    ..ExchangeOptions::default()
                },
            })
            .unwrap();
        bench.settle();
        let mut waiting = Vec::new();
        waiting.push(position(held(&mut bench, id, 1)));
        if by_write {
            // Until the open segment is full, so that it fails while the next one is begun.
            bench.flash.medium.borrow_mut().refuse_program = Some(FlashError::Medium);
            while let Ok(reply) = bench.publish("q", &"x".repeat(500)) {
                waiting.push(position(Ok(reply)));
            }
            bench.settle();
        } else {
            fail_sync(&mut bench);
        }
        assert!(bench.broker.is_read_only());
        // The medium seems well again: that changes nothing.
        bench.flash.medium.borrow_mut().refuse_program = None;
        bench.flash.medium.borrow_mut().fail_sync = false;
        bench.wait(1_000);
        assert_eq!(held(&mut bench, id, 1), Err(Refusal::ReadOnly), "a repeated publish");
        assert_eq!(held(&mut bench, id, 2), Err(Refusal::ReadOnly));
        let forget = Command::Forget(DedupKey::Held { queue: id, packet: 1 });
        assert_eq!(bench.execute(forget), Err(Refusal::ReadOnly));
        assert_eq!(bench.publish("nowhere", "m"), Err(Refusal::ReadOnly), "also where nobody would get it");
        assert_eq!(
            bench.execute(Command::DeleteExchange { name: "x", if_unused: false }),
            Err(Refusal::ReadOnly)
        );
        bench.wait(1_000);
        let durable = bench.broker.durable();
        assert!(waiting.iter().all(|position| *position > durable), "{durable:?} {waiting:?}");
    }
}

#[test]
fn a_release_is_confirmed_only_when_it_is_on_flash_however_often_it_comes() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    held(&mut bench, id, 1).unwrap();
    bench.settle();
    hold_sync(&bench);
    for _ in 0..2 {
        let released = bench.execute(Command::Forget(DedupKey::Held { queue: id, packet: 1 }));
        assert!(position(released) > bench.broker.durable());
        bench.settle();
    }
}

#[test]
fn an_exactly_once_delivery_is_not_released_without_a_mark_on_flash() {
    let mut bench = Bench::new();
    let id = bench.durable_queue("q");
    bench.publish_with("q", "once", |publish| publish.grade = Grade::ExactlyOnce).unwrap();
    bench.settle();
    bench.consume(id, 9);
    bench.settle();
    let tag = bench.take()[0].tag.unwrap();
    bench.publish("q", "in doubt").unwrap();
    fail_sync(&mut bench);
    assert_eq!(bench.execute(Command::Received(tag)), Err(Refusal::ReadOnly));
    bench.execute(Command::Ack(tag)).unwrap();
}

#[test]
fn transient_messages_go_on_to_those_who_are_there() {
    let mut bench = Bench::new();
    let (there, away) = (bench.queue("there", session()), bench.queue("away", session()));
    for name in ["there", "away"] {
        bench.bind("amq.topic", name, Key::slashes(b"#"), Grade::AtLeastOnce);
    }
    bench.topic("lamp", "on", Grade::AtLeastOnce, true);
    let consumer = bench.consume(there, 9);
    bench.settle();
    bench.take();
    bench.publish("there", "in doubt").unwrap();
    fail_sync(&mut bench);
    for retain in [false, true] {
        bench.topic("lamp", "off", Grade::AtMostOnce, retain);
        let got = bench.take();
        assert_eq!(got.len(), 1);
        assert_eq!((got[0].queue, got[0].body.as_str(), got[0].tag), (there, "off", None));
    }
    assert_eq!(bench.counts(away).0, 1);
    // The retained value stays what it was.
    let pattern = Key::slashes(b"lamp");
    let grade = Grade::AtMostOnce;
    bench.execute(Command::Retained { consumer, pattern, grade }).unwrap();
    assert_eq!(bench.bodies(), ["on"]);
}

#[test]
fn a_full_queue_drops_nothing_for_a_message_that_cannot_be_stored() {
    let mut bench = Bench::new();
    let options = QueueOptions { max_count: 1, ..session() };
    let id = bench.queue("s", options);
    bench.bind("amq.topic", "s", Key::slashes(b"#"), Grade::AtLeastOnce);
    bench.topic("a", "kept", Grade::AtLeastOnce, false);
    bench.settle();
    bench.publish("s", "in doubt").unwrap();
    fail_sync(&mut bench);
    bench.inbox.room = 0;
    bench.consume(id, 9);
    let before = bench.counts(id);
    bench.topic("a", "transient", Grade::AtMostOnce, false);
    assert_eq!(bench.counts(id), before);
}

#[test]
fn who_subscribes_to_what_he_had_is_served() {
    let mut bench = Bench::new();
    let id = bench.queue("s", session());
    bench.bind("amq.topic", "s", Key::slashes(b"a/+"), Grade::AtLeastOnce);
    bench.settle();
    bench.publish("s", "in doubt").unwrap();
    fail_sync(&mut bench);
    bench.consume(id, 9);
    let mut bind = |pattern: &'static [u8], grade| {
        bench.execute(Command::Bind(Bind {
            exchange: "amq.topic",
            destination: Destination::Queue("s"),
            pattern: Key::slashes(pattern),
            arguments: &[],
            grade,
        }))
    };
    assert_eq!(bind(b"a/+", Grade::AtLeastOnce), Ok(Reply::Done(Position(0))));
    assert_eq!(bind(b"b/+", Grade::AtLeastOnce), Err(Refusal::ReadOnly));
    bench.topic("a/1", "go on", Grade::AtMostOnce, false);
    assert_eq!(bench.bodies(), ["go on"]);
    // A session that lives as long as its connection needs nothing of the store.
    let fleeting = bench.queue("t", QueueOptions { durable: false, ..session() });
    bench.bind("amq.topic", "t", Key::slashes(b"a/+"), Grade::AtLeastOnce);
    bench.consume(fleeting, 9);
    bench.topic("a/1", "both", Grade::AtMostOnce, false);
    assert_eq!(bench.bodies(), ["both", "both"]);
}

#[test]
fn a_medium_that_takes_no_writes_is_not_taken_for_bad_segments_or_a_full_store() {
    for (error, most_bad) in [(FlashError::Medium, 2), (FlashError::ReadOnly, 0)] {
        let mut bench = Bench::new();
        bench.durable_queue("q");
        bench.settle();
        // What is open can be filled and closed; no other segment can be begun.
        bench.flash.medium.borrow_mut().refuse_erase = Some(error);
        let mut last = Ok(Reply::Removed(0));
        for _ in 0..20 {
            last = bench.publish("q", &"x".repeat(500));
        }
        assert_eq!(last, Err(Refusal::ReadOnly), "{error:?}");
        assert!(bench.broker.is_read_only());
        assert!(bench.broker.info().log.bad_segments <= most_bad);
    }
}

#[test]
fn what_the_log_did_not_take_as_done_keeps_its_place_for_a_restart() {
    refuse_acknowledgements(false);
}

#[test]
fn a_log_that_is_emptied_after_it_did_not_take_what_was_done_goes_on() {
    refuse_acknowledgements(true);
}

/// Fills the log up to where it does not take an acknowledgement, with marks of what is put off; syncs are held.
fn fill_up(bench: &mut Bench) {
    hold_sync(bench);
    while bench.publish("fill", &"x".repeat(300)).is_ok() {}
    while unwritten(bench) == 0 {
        let tag = bench.take().pop().expect("it comes again").tag.unwrap();
        bench.execute(Command::Reject(tag, Rejection::Delay(1))).unwrap();
        bench.wait(2);
    }
}

fn unwritten(bench: &Bench) -> u64 {
    bench.broker.info().counters.unwritten
}

/// A queue for what fills the log, and one for what is put off.
fn prepare_to_fill(bench: &mut Bench) {
    bench.durable_queue("fill");
    let retry = bench.durable_queue("retry");
    bench.consume(retry, 1);
    bench.publish("retry", "again").unwrap();
}

/// What was delivered from a queue; what came from others stays.
fn take_from(bench: &mut Bench, queue: QueueId) -> Vec<support::Got> {
    let (got, others) = bench.take().into_iter().partition(|got| got.queue == queue);
    bench.inbox.got = others;
    got
}

/// A queue that goes with its last consumer, and another from which so much is handed out that its acknowledgements
/// fill what little room is left.
fn mortal_and_other(bench: &mut Bench) -> (QueueId, QueueId) {
    let options = QueueOptions { durable: true, auto_delete: true, ..QueueOptions::default() };
    let (mortal, other) = (bench.queue("mortal", options), bench.durable_queue("other"));
    for _ in 0..60 {
        bench.publish("other", "x").unwrap();
    }
    bench.consume(other, 60);
    (mortal, other)
}

/// The last consumer of the mortal queue goes while the log does not take that; then there is room again.
fn end_unwritten(bench: &mut Bench, mortal: QueueId, other: QueueId) {
    let consumer = bench.consume(mortal, 1);
    bench.settle();
    let got = take_from(bench, other);
    fill_up(bench);
    // What is smaller than those marks finds room; then that does not either.
    let before = unwritten(bench);
    got.iter().step_by(2).for_each(|got| bench.ack(got));
    assert!(unwritten(bench) > before);
    let before = unwritten(bench);
    bench.execute(Command::Unsubscribe(consumer)).unwrap();
    assert!(unwritten(bench) > before, "its end finds no room");
    bench.flash.medium.borrow_mut().hold_sync = false;
    bench.execute(Command::Purge { name: "fill" }).unwrap();
}

#[test]
fn what_was_received_is_not_released_where_the_log_did_not_take_that() {
    let mut bench = Bench::with(Geometry { segment_size: 4096, segment_count: 16, write_unit: 4 }, 4);
    prepare_to_fill(&mut bench);
    let queue = bench.durable_queue("q");
    bench.consume(queue, 30);
    for _ in 0..30 {
        bench.publish_with("q", "once", |publish| publish.grade = Grade::ExactlyOnce).unwrap();
    }
    bench.settle();
    let got = take_from(&mut bench, queue);
    fill_up(&mut bench);
    // A few find room where the larger mark did not.
    let mut said = got.iter().map(|got| (got, bench.execute(Command::Received(got.tag.unwrap()))));
    let (refused, answer) = said.find(|(_, answer)| answer.is_err()).expect("one is refused");
    assert_eq!(answer, Err(Refusal::StoreFull));
    bench.flash.medium.borrow_mut().hold_sync = false;
    bench.settle();
    bench.execute(Command::Purge { name: "fill" }).unwrap();
    bench.wait(100);
    assert!(matches!(bench.execute(Command::Received(refused.tag.unwrap())), Ok(Reply::Done(_))));
    bench.settle();
    let mut bench = bench.restart();
    bench.consume(queue, 30);
    bench.settle();
    let received = bench.take().into_iter().filter(|got| got.received).map(|got| got.offset);
    assert!(received.into_iter().any(|offset| offset == refused.offset));
}

#[test]
fn held_keys_of_a_queue_whose_end_the_log_did_not_take_keep_their_places() {
    let mut bench = Bench::with(Geometry { segment_size: 4096, segment_count: 16, write_unit: 4 }, 4);
    prepare_to_fill(&mut bench);
    let (mortal, other) = mortal_and_other(&mut bench);
    let hold = |bench: &mut Bench, queue, packet| {
        let key = DedupKey::Held { queue, packet };
        bench.publish_with("", "", |publish| (publish.dedup, publish.grade) = (Some(key), Grade::ExactlyOnce))
    };
    let mut count = 0;
    while hold(&mut bench, mortal, count).is_ok() {
        count += 1;
    }
    assert!(count > 3, "{count}");
    end_unwritten(&mut bench, mortal, other);
    let mut held = 0;
    for turn in 0..1_000 {
        // A little of reclaim at a time.
        bench.broker.pump(bench.now, &mut bench.inbox);
        held += u16::from(hold(&mut bench, other, held).is_ok());
        bench.broker.commit(bench.now);
        bench.broker.poll_durable();
        let found = Bench::try_mount(bench.flash.fork(), 4, bench.now);
        assert!(found.is_ok(), "turn {turn}, held {held}: {:?}", found.err());
        if held == count {
            return;
        }
    }
    panic!("{held} of {count} places are given");
}

#[test]
fn a_queue_whose_end_the_log_did_not_take_is_there_for_good_or_not_at_all() {
    let mut bench = Bench::with(Geometry { segment_size: 4096, segment_count: 16, write_unit: 4 }, 8);
    prepare_to_fill(&mut bench);
    bench.exchange("e", ExchangeOptions { durable: true, ..ExchangeOptions::default() }).unwrap();
    let (mortal, other) = mortal_and_other(&mut bench);
    bench.bind("e", "mortal", Key::dots(b"k"), Grade::AtLeastOnce);
    end_unwritten(&mut bench, mortal, other);
    let find = |bench: &mut Bench| bench.execute(Command::FindQueue { name: "mortal" }).is_ok();
    let mut found = 0;
    for turn in 0..100 {
        bench.broker.pump(bench.now, &mut bench.inbox);
        // All that is programmed is there, and then only what was synced.
        for is_all_there in [true, false] {
            let flash = bench.flash.fork();
            if is_all_there {
                flash.medium.borrow_mut().synced.clone_from(&bench.flash.medium.borrow().written);
                flash.lose_power();
            }
            let mut other = Bench::try_mount(flash, 8, bench.now).unwrap();
            if find(&mut other) && other.publish("mortal", "kept").is_ok() {
                found += 1;
                other.settle();
                let mut other = other.restart();
                assert!(find(&mut other), "turn {turn}, all there {is_all_there}");
            }
        }
        bench.broker.commit(bench.now);
        bench.broker.poll_durable();
    }
    assert!(found > 0, "it is found while the log still tells of it");
}

fn refuse_acknowledgements(is_emptied: bool) {
    // Two pages for what is acknowledged, one for what is put off, one for what fills the log.
    let geometry = Geometry { segment_size: 4096, segment_count: 16, write_unit: 4 };
    let mut bench = Bench::with(geometry, 4);
    bench.durable_queue("new");
    prepare_to_fill(&mut bench);
    let queue = bench.durable_queue("q");
    for _ in 0..62 {
        bench.publish("q", &"x".repeat(100)).unwrap();
    }
    bench.publish("q", "last").unwrap();
    bench.consume(queue, 63);
    bench.settle();
    let got = take_from(&mut bench, queue);
    assert_eq!(got.len(), 63);
    fill_up(&mut bench);
    // Every other first, so that none can be said together with its neighbours.
    let refused = unwritten(&bench);
    got.iter().step_by(2).chain(got.iter().skip(1).step_by(2)).for_each(|got| bench.ack(got));
    assert!(unwritten(&bench) > refused + 32, "{} acknowledgements are refused", unwritten(&bench) - refused);
    bench.flash.medium.borrow_mut().hold_sync = false;
    if is_emptied {
        bench.settle();
        for name in ["fill", "retry"] {
            bench.execute(Command::Purge { name }).unwrap();
        }
    }

    // Whatever may be published then, a restart has room for all that it finds again.
    let mut published = 0;
    for turn in 0..1_000 {
        bench.wait(100);
        published += u32::from(bench.publish("new", "y").is_ok());
        bench.settle();
        let found = Bench::try_mount(bench.flash.fork(), 4, bench.now);
        assert!(found.is_ok(), "turn {turn}, published {published}: {:?}", found.err());
        if published == 3 {
            return;
        }
    }
    panic!("{published} messages were taken after reclaim had all the time it wants");
}

#[test]
fn a_clear_that_is_refused_clears_nothing_at_the_next_start_either() {
    let mut bench = Bench::new();
    let busy = bench.durable_queue("busy");
    bench.durable_queue("q");
    bench.bind("amq.topic", "q", Key::slashes(b"a/#"), Grade::AtLeastOnce);
    let topic = format!("a/{}", "t".repeat(200));
    bench.topic(&topic, "value", Grade::AtLeastOnce, true);
    bench.consume(busy, 60);
    bench.settle();
    // Without a sync nothing is freed: the log fills up.
    bench.flash.medium.borrow_mut().hold_sync = true;
    let body = "y".repeat(100);
    while bench.publish_with("busy", &body, |publish| publish.durable = false).is_ok() {
        bench.broker.pump(bench.now, &mut bench.inbox);
        for got in bench.take() {
            bench.ack(&got);
        }
    }
    let message = Message { key: Key::slashes(topic.as_bytes()), headers: &[], body: b"" };
    let grade = Grade::AtLeastOnce;
    let clear =
        Publish { exchange: "amq.topic", message, durable: true, grade, retain: true, ..Publish::default() };
    assert_eq!(bench.execute(Command::Publish(clear)), Err(Refusal::StoreFull));
    assert_eq!(bench.broker.info().retained, 1);
    bench.flash.medium.borrow_mut().hold_sync = false;
    bench.wait(100);
    let bench = bench.restart();
    assert_eq!(bench.broker.info().retained, 1);
}
