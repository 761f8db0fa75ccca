//! What is shown of a queue without taking it out: in the order of offsets, whatever state it is in.

#[path = "support/broker.rs"]
mod support;

use forebay::command::*;
use forebay::units::*;
use std::collections::BTreeMap;
use support::{Bench, Got};

/// A message as it is to be found.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Known {
    body: String,
    standing: Standing,
    priority: u8,
}

fn browse(bench: &mut Bench, queue: QueueId, from: u64, which: Which) -> Vec<(u64, Known)> {
    let mut seen = Vec::new();
    let mut from = Offset(from);
    while let Some((next, standee)) = bench.broker.browse(queue, from, which) {
        assert!(next > from || standee.is_none(), "it goes on");
        from = next;
        let Some(standee) = standee else { continue };
        let body = String::from_utf8(standee.content.unwrap().message.body.to_vec()).unwrap();
        let Standee { standing, priority, .. } = standee;
        seen.push((standee.offset.0, Known { body, standing, priority }));
    }
    seen
}

/// Holds what is shown against what is known, from every side.
fn check(bench: &mut Bench, queue: QueueId, model: &BTreeMap<u64, Known>, from: u64) {
    for which in [Which::Any, Which::Ready, Which::InFlight, Which::Delayed] {
        let is_meant = |known: &Known| match which {
            Which::Any => true,
            Which::Ready => known.standing == Standing::Ready,
            Which::InFlight => known.standing == Standing::InFlight,
            Which::Delayed => matches!(known.standing, Standing::Delayed(_)),
        };
        let meant = model.range(from..).filter(|(_, known)| is_meant(known));
        let meant: Vec<_> = meant.map(|(offset, known)| (*offset, known.clone())).collect();
        assert_eq!(browse(bench, queue, from, which), meant, "{which:?} from {from}");
    }
}

fn next(state: &mut u64, bound: u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state % bound
}

#[test]
fn messages_of_every_state_and_priority_are_shown_by_offset_as_a_plain_map_has_them() {
    for seed in 1..=6u64 {
        let mut random = seed.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let mut bench = Bench::new();
        let options = QueueOptions { durable: true, max_priority: 5, ..QueueOptions::default() };
        let queue = bench.queue("q", options);
        let mut model: BTreeMap<u64, Known> = BTreeMap::new();
        let mut flying: Vec<Got> = Vec::new();
        let mut offset = 0;
        let mut consumer = bench.consume(queue, 8);
        for step in 0..600 {
            match next(&mut random, 8) {
                0..=3 => {
                    let (priority, is_late) = (next(&mut random, 6) as u8, next(&mut random, 2) == 0);
                    let delay_ms = is_late.then(|| 1_000_000 + next(&mut random, 1_000_000));
                    let body = format!("m{offset}");
                    let sent = bench.publish_with("q", &body, |publish| {
                        (publish.priority, publish.delay_ms) = (priority, delay_ms);
                    });
                    if sent.is_err() {
                        continue;
                    }
                    let due = delay_ms.map(|delay_ms| bench.now.after(delay_ms));
                    let standing = due.map_or(Standing::Ready, Standing::Delayed);
                    model.insert(offset, Known { body, standing, priority });
                    offset += 1;
                }
                4 if !flying.is_empty() => {
                    let got = flying.swap_remove(next(&mut random, flying.len() as u64) as usize);
                    bench.ack(&got);
                    model.remove(&got.offset.unwrap());
                }
                5 if !model.is_empty() => {
                    let place = next(&mut random, model.len() as u64) as usize;
                    let (&offset, known) = model.iter().nth(place).unwrap();
                    let cancel = Command::Cancel { queue, offset: Offset(offset) };
                    let is_flying = known.standing == Standing::InFlight;
                    assert_eq!(bench.execute(cancel).is_err(), is_flying, "{known:?}");
                    if !is_flying {
                        model.remove(&offset);
                    }
                }
                6 => bench.settle(),
                _ if step % 100 == 99 => {
                    bench.settle();
                    bench = bench.restart();
                    flying.clear();
                    consumer = bench.consume(queue, 8);
                    for known in model.values_mut().filter(|known| known.standing == Standing::InFlight) {
                        known.standing = Standing::Ready;
                    }
                }
                _ => {}
            }
            for got in bench.take() {
                model.get_mut(&got.offset.unwrap()).unwrap().standing = Standing::InFlight;
                flying.push(got);
            }
            let from = next(&mut random, offset + 2);
            check(&mut bench, queue, &model, from);
        }
        check(&mut bench, queue, &model, 0);
        assert!(offset > 200 && model.len() > 40, "{offset}, {}", model.len());
        bench.execute(Command::Unsubscribe(consumer)).unwrap();
    }
}

#[test]
fn a_step_looks_at_a_bounded_number_of_what_is_not_meant() {
    let mut bench = Bench::with(forebay::flash::Geometry { segment_count: 256, ..support::SMALL }, 512);
    let queue = bench.durable_queue("q");
    for _ in 0..9_000 {
        bench.publish("q", "m").unwrap();
    }
    bench.publish_with("q", "late", |publish| publish.delay_ms = Some(60_000)).unwrap();
    let mut froms = Vec::new();
    let mut from = Offset(0);
    while let Some((next, standee)) = bench.broker.browse(queue, from, Which::Delayed) {
        froms.push((next.0, standee.is_some()));
        from = next;
    }
    assert_eq!(froms, [(4096, false), (8192, false), (9001, true)]);
}

#[test]
fn what_is_passed_over_is_not_read() {
    let mut bench = Bench::new();
    let queue = bench.durable_queue("q");
    for number in 0..40 {
        bench.publish("q", &format!("m{number}")).unwrap();
    }
    bench.publish_with("q", "late", |publish| publish.delay_ms = Some(60_000)).unwrap();
    bench.settle();
    // Nothing of the ready ones can be read any more, which nobody notices who does not ask for them.
    let mut bench = bench.restart();
    let late = bench.broker.browse(queue, Offset(40), Which::Any).unwrap().1.unwrap().at.0 as usize;
    bench.flash.medium.borrow_mut().written[64..late].fill(0);
    let (_, standee) = bench.broker.browse(queue, Offset(0), Which::Delayed).unwrap();
    assert_eq!(standee.unwrap().content.unwrap().message.body, b"late");
}

#[test]
fn a_stream_that_took_the_place_of_another_queue_is_shown_from_its_own_beginning() {
    let mut bench = Bench::new();
    bench.durable_queue("q");
    for _ in 0..50 {
        bench.publish("q", "old").unwrap();
    }
    bench.settle();
    bench.execute(Command::DeleteQueue { name: "q", if_unused: false, if_empty: false }).unwrap();
    bench.settle();
    let options = QueueOptions { kind: QueueKind::Stream, durable: true, ..QueueOptions::default() };
    let stream = bench.queue("s", options);
    let mut bodies = Vec::new();
    for number in 0..40 {
        bench.publish("s", &format!("m{number}")).unwrap();
        bodies.push((number, format!("m{number}")));
    }
    let shown = |bench: &mut Bench, from: u64| {
        let seen = browse(bench, stream, from, Which::Ready).into_iter();
        seen.map(|(offset, known)| (offset, known.body)).collect::<Vec<_>>()
    };
    assert_eq!(shown(&mut bench, 0), bodies);
    assert_eq!(shown(&mut bench, 35), bodies[35..]);
    assert_eq!(browse(&mut bench, stream, 0, Which::InFlight), []);
    assert!(bench.broker.browse(QueueId(31), Offset(0), Which::Any).is_none());
}

#[test]
fn what_a_group_has_in_flight_is_shown_where_reclaim_has_moved_it() {
    let mut bench = Bench::new();
    let durable = QueueOptions { durable: true, ..QueueOptions::default() };
    let stream = bench.queue("s", QueueOptions { kind: QueueKind::Stream, ..durable });
    let group = bench.queue("g", QueueOptions { kind: QueueKind::Group { stream }, ..durable });
    bench.consume(group, 1);
    bench.publish("s", "moved").unwrap();
    bench.settle();
    let before = bench.broker.browse(group, Offset(0), Which::InFlight).unwrap().1.unwrap().at;
    bench.take();
    let busy = bench.durable_queue("busy");
    bench.consume(busy, 8);
    for _ in 0..700 {
        bench.work();
    }
    let shown = bench.broker.browse(group, Offset(0), Which::InFlight).unwrap().1.unwrap();
    assert_ne!(shown.at, before, "reclaim has moved it");
    assert_eq!(shown.content.unwrap().message.body, b"moved");
}
