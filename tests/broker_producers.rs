//! Producers that count what they publish: exactly once by the last sequence of each.

#[path = "support/broker.rs"]
mod support;

use forebay::command::{DedupKey, Refusal, Reply};
use support::Bench;

fn publish(bench: &mut Bench, producer: u64, epoch: u32, sequence: u64) -> Result<bool, Refusal> {
    let key = DedupKey::Sequence { producer, epoch, sequence };
    let body = format!("{producer}.{epoch}.{sequence}");
    match bench.publish_with("q", &body, |publish| publish.dedup = Some(key))? {
        Reply::Published { duplicate, .. } => Ok(duplicate),
        other => panic!("{other:?}"),
    }
}

fn bodies(bench: &mut Bench) -> Vec<String> {
    let id = match bench.execute(forebay::command::Command::FindQueue { name: "q" }) {
        Ok(Reply::Queue { id, .. }) => id,
        other => panic!("{other:?}"),
    };
    bench.consume(id, 10);
    bench.drain()
}

#[test]
fn what_is_not_above_the_last_sequence_was_published_before() {
    let mut bench = Bench::new();
    bench.durable_queue("q");
    assert_eq!(publish(&mut bench, 1, 1, 5), Ok(false));
    assert_eq!(publish(&mut bench, 1, 1, 5), Ok(true));
    assert_eq!(publish(&mut bench, 1, 1, 3), Ok(true));
    assert_eq!(publish(&mut bench, 1, 1, 9), Ok(false));
    assert_eq!(publish(&mut bench, 2, 1, 5), Ok(false));
    bench.settle();
    let mut bench = bench.restart();
    assert_eq!(publish(&mut bench, 1, 1, 9), Ok(true));
    assert_eq!(publish(&mut bench, 2, 1, 5), Ok(true));
    assert_eq!(publish(&mut bench, 1, 1, 10), Ok(false));
    // The producer's counter was lost: it begins anew, and what came before does not count.
    assert_eq!(publish(&mut bench, 1, 2, 1), Ok(false));
    assert_eq!(publish(&mut bench, 1, 2, 1), Ok(true));
    bench.settle();
    let mut bench = bench.restart();
    assert_eq!(publish(&mut bench, 1, 2, 1), Ok(true));
    assert_eq!(bodies(&mut bench), ["1.1.5", "1.1.9", "2.1.5", "1.1.10", "1.2.1"]);
}

#[test]
fn a_producer_is_known_after_its_record_was_reclaimed_many_times() {
    let mut bench = Bench::new();
    bench.durable_queue("q");
    assert_eq!(publish(&mut bench, 7, 3, 41), Ok(false));
    assert_eq!(publish(&mut bench, 7, 3, 42), Ok(false));
    assert_eq!(bodies(&mut bench).len(), 2);
    let laps = |bench: &Bench| bench.broker.info().log.tail_sequence / 64;
    let start = laps(&bench);
    let mut sequence = 0;
    for restarts in 0..3 {
        while laps(&bench) < start + 3 * (restarts + 1) {
            sequence += 1;
            assert_eq!(publish(&mut bench, 8, 1, sequence), Ok(false));
            bench.publish("q", &"x".repeat(400)).unwrap();
            bench.settle();
            for got in bench.take() {
                bench.ack(&got);
            }
        }
        bench.settle();
        bench = bench.restart();
        let id = bench.durable_queue("q");
        bench.consume(id, 10);
        bench.settle();
        for got in bench.take() {
            bench.ack(&got);
        }
        for sequence in [1, 41, 42] {
            assert_eq!(publish(&mut bench, 7, 3, sequence), Ok(true), "{sequence} after {restarts}");
        }
        assert_eq!(publish(&mut bench, 8, 1, sequence), Ok(true));
    }
    assert_eq!(publish(&mut bench, 7, 3, 43), Ok(false));
}

#[test]
fn a_publish_that_is_refused_does_not_count() {
    let mut bench = Bench::new();
    bench.durable_queue("q");
    assert_eq!(publish(&mut bench, 1, 1, 1), Ok(false));
    let key = DedupKey::Sequence { producer: 1, epoch: 1, sequence: 2 };
    let large = "x".repeat(4000);
    let refused = bench.publish_with("q", &large, |publish| publish.dedup = Some(key));
    assert_eq!(refused, Err(Refusal::TooLarge));
    assert_eq!(publish(&mut bench, 1, 1, 2), Ok(false));
    assert_eq!(publish(&mut bench, 1, 1, 1), Ok(true));
}

#[test]
fn what_was_not_durable_when_power_went_may_come_again() {
    let mut bench = Bench::new();
    bench.durable_queue("q");
    assert_eq!(publish(&mut bench, 1, 1, 1), Ok(false));
    bench.settle();
    assert_eq!(publish(&mut bench, 1, 1, 2), Ok(false));
    let mut bench = bench.restart();
    assert_eq!(publish(&mut bench, 1, 1, 1), Ok(true));
    assert_eq!(publish(&mut bench, 1, 1, 2), Ok(false));
    assert_eq!(bodies(&mut bench), ["1.1.1", "1.1.2"]);
}
