//! Transactions: together or not at all, also if power goes, as transcripts.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::flash::Geometry;
use forebay::model::key::Key;
use forebay::units::*;
use std::cell::Cell;
use std::collections::BTreeMap;
use support::{Bench, Got};

fn durable() -> QueueOptions<'static> {
    QueueOptions { durable: true, ..QueueOptions::default() }
}

fn message<'m>(queue: &'m str, body: &'m str) -> Publish<'m> {
    let message = Message { key: Key::dots(queue.as_bytes()), headers: &[], body: body.as_bytes() };
    Publish { message, durable: true, grade: Grade::AtLeastOnce, ..Publish::default() }
}

fn counts(bench: &mut Bench) -> BTreeMap<String, u32> {
    let mut counts = BTreeMap::new();
    bench.broker.for_each_queue(&mut |queue| {
        counts.insert(queue.name.to_string(), queue.ready + queue.in_flight + queue.delayed);
    });
    counts
}

fn held(bench: &mut Bench, queue: QueueId, credit: u32) -> Vec<Got> {
    bench.consume(queue, credit);
    bench.settle();
    bench.take()
}

#[test]
fn commit_publishes_acknowledges_and_rejects_as_one() {
    let mut bench = Bench::new();
    let dead = QueueOptions {
        dead_letter_exchange: Some(""),
        dead_letter_key: Some(Key::dots(b"dead")),
        ..durable()
    };
    let inbox = bench.queue("in", dead);
    for queue in ["out", "copy", "dead"] {
        bench.durable_queue(queue);
    }
    bench.bind("amq.fanout", "out", Key::dots(b""), Grade::ExactlyOnce);
    bench.bind("amq.fanout", "copy", Key::dots(b""), Grade::ExactlyOnce);
    for body in ["a", "b", "c"] {
        bench.publish("in", body).unwrap();
    }
    bench.settle();
    let got = held(&mut bench, inbox, 3);
    let routed = [const { Cell::new(9) }; 4];
    let steps = [
        Step::Publish(Publish { exchange: "amq.fanout", ..message("", "both") }, &routed[0]),
        Step::Ack(got[0].tag.unwrap()),
        Step::Publish(message("nowhere", "lost"), &routed[1]),
        Step::Reject(got[1].tag.unwrap(), Rejection::DeadLetter),
        Step::Publish(message("out", "more"), &routed[2]),
        Step::Publish(Publish { durable: false, ..message("out", "fleeting") }, &routed[3]),
    ];
    let Ok(Reply::Done(position)) = bench.execute(Command::Tx(&steps)) else { panic!() };
    assert!(position > bench.broker.durable());
    assert_eq!(routed.map(|cell| cell.get()), [2, 0, 1, 1]);
    bench.settle();
    assert!(position <= bench.broker.durable());
    let mut bench = bench.restart();
    let expected = [("copy", 1), ("dead", 1), ("in", 1), ("out", 2)];
    assert_eq!(counts(&mut bench), expected.map(|(name, count)| (name.to_string(), count)).into());
    bench.consume(inbox, 9);
    assert_eq!(bench.drain(), ["c"]);
}

#[test]
fn a_step_that_cannot_be_done_refuses_them_all() {
    let mut bench = Bench::new();
    let inbox = bench.durable_queue("in");
    bench.durable_queue("out");
    bench.queue("full", QueueOptions { max_count: 2, overflow: Overflow::Reject, ..durable() });
    let internal = ExchangeOptions { internal: true, ..ExchangeOptions::default() };
    bench.exchange("inner", internal).unwrap();
    bench.publish("in", "a").unwrap();
    bench.publish("full", "stands").unwrap();
    bench.settle();
    let got = held(&mut bench, inbox, 1);
    let before = counts(&mut bench);
    let (cell, first, second) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let good = [Step::Publish(message("out", "x"), &cell), Step::Ack(got[0].tag.unwrap())];
    let full = [&first, &second].map(|cell| Step::Publish(message("full", "y"), cell));
    let bad = [
        (vec![Step::Publish(Publish { exchange: "none", ..message("", "") }, &first)], Refusal::NoExchange),
        (vec![Step::Publish(Publish { exchange: "inner", ..message("", "") }, &cell)], Refusal::NotAllowed),
        (vec![Step::Publish(Publish { retain: true, ..message("out", "") }, &cell)], Refusal::NotAllowed),
        (vec![Step::Ack(Tag(12_345))], Refusal::UnknownTag),
        (vec![Step::Reject(Tag(12_345), Rejection::Requeue)], Refusal::UnknownTag),
        // The first still has its place, and is taken back.
        (full.to_vec(), Refusal::QueueFull),
    ];
    for (steps, refusal) in bad {
        let steps: Vec<_> = good.iter().chain(&steps).copied().collect();
        assert_eq!(bench.execute(Command::Tx(&steps)), Err(refusal));
        bench.settle();
        assert_eq!(counts(&mut bench), before, "{refusal:?}");
    }
    bench.wait(1_000);
    let mut bench = bench.restart();
    assert_eq!(counts(&mut bench), before);
    bench.consume(inbox, 1);
    assert_eq!(bench.drain(), ["a"]);
    assert!(matches!(bench.execute(Command::Tx(&[])), Ok(Reply::Done(_))));
}

#[test]
fn what_was_taken_back_may_be_published_again_also_after_a_restart() {
    let mut bench = Bench::new();
    let out = bench.durable_queue("out");
    bench.queue("full", QueueOptions { max_count: 1, overflow: Overflow::Reject, ..durable() });
    let (cell, first, second) = (Cell::new(0), Cell::new(0), Cell::new(0));
    let keyed = Publish { dedup: Some(DedupKey::Window(77)), ..message("out", "once") };
    let [full, more] = [&first, &second].map(|cell| Step::Publish(message("full", "y"), cell));
    let steps = [Step::Publish(keyed, &cell), full, more];
    assert_eq!(bench.execute(Command::Tx(&steps)), Err(Refusal::QueueFull));
    bench.settle();
    bench.wait(1_000);
    let mut bench = bench.restart();
    for routed in [1, 0] {
        bench.execute(Command::Tx(&[Step::Publish(keyed, &cell)])).unwrap();
        assert_eq!(cell.get(), routed, "the second is a repeated one");
    }
    bench.settle();
    let mut bench = bench.restart();
    bench.consume(out, 9);
    assert_eq!(bench.drain(), ["once"]);
}

#[test]
fn a_transaction_larger_than_a_segment_is_refused() {
    let mut bench = Bench::new();
    bench.durable_queue("q");
    let body = "x".repeat(400);
    let cells = [const { Cell::new(0) }; 10];
    let steps: Vec<_> = cells.iter().map(|cell| Step::Publish(message("q", &body), cell)).collect();
    assert_eq!(bench.execute(Command::Tx(&steps)), Err(Refusal::Limit("tx")));
    assert!(bench.execute(Command::Tx(&steps[..6])).is_ok());
    // The rest of the segment is too small for one more.
    assert!(bench.execute(Command::Tx(&steps[..6])).is_ok());
    bench.settle();
    assert_eq!(bench.restart().mounted.messages, 12);
}

#[test]
fn a_queue_that_drops_its_oldest_does_so_behind_a_transaction() {
    let mut bench = Bench::new();
    let id = bench.queue("q", QueueOptions { max_count: 2, ..durable() });
    bench.publish("q", "old").unwrap();
    let cells = [const { Cell::new(0) }; 3];
    let [a, b, c] = &cells;
    let steps = [("a", a), ("b", b), ("c", c)].map(|(body, cell)| Step::Publish(message("q", body), cell));
    bench.execute(Command::Tx(&steps)).unwrap();
    bench.wait(1_000);
    let mut bench = bench.restart();
    bench.consume(id, 9);
    assert_eq!(bench.drain(), ["b", "c"]);
}

/// What is there after a restart on an image.
fn found(image: &[u8], bench: &Bench) -> BTreeMap<String, u32> {
    let flash = support::TestFlash::new(support::SMALL);
    flash.medium.borrow_mut().synced = image.to_vec();
    flash.lose_power();
    let mut other = Bench::try_mount(flash, bench.pages, bench.now).unwrap();
    let before = counts(&mut other);
    // It takes more, and the next restart finds the same.
    other.publish("spare", "m").unwrap();
    other.settle();
    let mut again = other.restart();
    let mut after = counts(&mut again);
    *after.get_mut("spare").unwrap() -= 1;
    assert_eq!(after, before);
    before
}

#[test]
fn power_that_goes_at_any_byte_leaves_all_of_a_transaction_or_nothing() {
    let geometry = Geometry { write_unit: 4, ..support::SMALL };
    let mut bench = Bench::with(geometry, 128);
    let inbox = bench.durable_queue("in");
    for queue in ["one", "two", "spare"] {
        bench.durable_queue(queue);
    }
    for body in ["a", "b", "c"] {
        bench.publish("in", body).unwrap();
    }
    bench.settle();
    let got = held(&mut bench, inbox, 3);
    bench.wait(1_000);
    bench.flash.medium.borrow_mut().hold_sync = true;
    // Something stands before it in the same batch of writes, and something behind it.
    bench.publish("spare", "before").unwrap();
    let cells = [const { Cell::new(0) }; 3];
    let steps = [
        Step::Publish(message("one", "x"), &cells[0]),
        Step::Publish(message("two", "y"), &cells[1]),
        Step::Ack(got[0].tag.unwrap()),
        Step::Ack(got[2].tag.unwrap()),
        Step::Publish(message("one", "z"), &cells[2]),
    ];
    bench.execute(Command::Tx(&steps)).unwrap();
    bench.publish("spare", "behind").unwrap();
    bench.settle();
    let (synced, written) = {
        let medium = bench.flash.medium.borrow();
        (medium.synced.clone(), medium.written.clone())
    };
    let places: Vec<usize> = (0..synced.len()).filter(|&place| synced[place] != written[place]).collect();
    assert!(places.len() > 60, "{}", places.len());
    let story = |in_count, one, two, spare| -> BTreeMap<String, u32> {
        [("in", in_count), ("one", one), ("two", two), ("spare", spare)]
            .map(|(name, count)| (name.to_string(), count))
            .into()
    };
    let stories = [story(3, 0, 0, 0), story(3, 0, 0, 1), story(1, 2, 1, 1), story(1, 2, 1, 2)];
    let mut image = synced.clone();
    let mut seen = Vec::new();
    for cut in 0..=places.len() {
        let state = found(&image, &bench);
        let which = stories.iter().position(|story| *story == state);
        seen.push(which.unwrap_or_else(|| panic!("cut at byte {cut}: {state:?}")));
        if let Some(&place) = places.get(cut) {
            image[place] = written[place];
        }
    }
    assert!(seen.is_sorted(), "{seen:?}");
    seen.dedup();
    assert_eq!(seen, [0, 1, 2, 3]);
    // Any one unit that is not written voids it, and what is behind.
    let unit = geometry.write_unit as usize;
    for place in places.iter().step_by(2) {
        let start = place / unit * unit;
        let mut image = written.clone();
        image[start..start + unit].copy_from_slice(&synced[start..start + unit]);
        assert!(stories.contains(&found(&image, &bench)), "without the unit at {start}");
    }
}

#[test]
fn what_is_refused_has_pushed_nothing_out_of_a_stream() {
    let mut bench = Bench::new();
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, max_count: 10, ..durable() });
    bench.queue("q", QueueOptions { overflow: Overflow::Reject, max_count: 1, ..durable() });
    for number in 0..10 {
        bench.publish("s", &number.to_string()).unwrap();
    }
    bench.settle();
    let routed = [const { Cell::new(0) }; 7];
    let publishes = |names: &[&'static str]| -> Vec<_> {
        names.iter().zip(&routed).map(|(name, routed)| Step::Publish(message(name, "tx"), routed)).collect()
    };
    let refused = publishes(&["s", "s", "s", "s", "s", "q", "q"]);
    assert_eq!(bench.execute(Command::Tx(&refused)), Err(Refusal::QueueFull));
    bench.settle();
    let mut offsets = Vec::new();
    let mut from = Offset(0);
    while let Some((next, standee)) = bench.broker.browse(stream, from, Which::Any) {
        offsets.extend(standee.map(|standee| standee.offset.0));
        from = next;
    }
    assert_eq!(offsets, (0..10).collect::<Vec<_>>());
    // One that is not refused does.
    bench.execute(Command::Tx(&publishes(&["s", "s", "q"]))).unwrap();
    bench.settle();
    assert_eq!(bench.counts(stream).0, 10);
}
