//! The log after a loss of power at any byte, and after flipped bits.

#[path = "support/log.rs"]
mod support;

use std::collections::BTreeSet;

use forebay::flash::{Flash, Geometry};
use forebay::log::{AppendError, Damage, Log, ReadError};
use forebay::units::Millis;
use support::*;

fn geometry(write_unit: u32) -> Geometry {
    Geometry { segment_size: 1024, segment_count: 12, write_unit }
}

/// What was asked of the log until power went, and what it had promised.
#[derive(Default, Clone)]
struct Ledger {
    /// Messages that were durable, less those whose acknowledgement was appended.
    durable: BTreeSet<u64>,
    /// Acknowledgements that were durable.
    gone: BTreeSet<u64>,
    /// Every message that was appended, in order.
    published: u64,
}

/// Runs a script of publishes, acknowledgements and commits; ends early when power goes.
fn script<F: Flash>(
    log: &mut Log<'_, F>,
    toy: &mut Toy,
    ledger: &mut Ledger,
    steps: u64,
    random: &mut Random,
) -> Result<(), AppendError> {
    let mut acked = BTreeSet::new();
    for _ in 0..steps {
        let choice = random.below(10);
        let room = if log.device().geometry().write_unit < 128 { 30 } else { 10 };
        if choice < 6 && toy.live.len() < room {
            ledger.published = toy.next + 1;
            toy.publish(log)?;
        } else if choice < 8 {
            let Some(&id) = toy.live.keys().nth(random.below(3) as usize) else { continue };
            // From here on it may be gone.
            ledger.durable.remove(&id);
            acked.insert(id);
            toy.ack(log, id)?;
        } else {
            let live: BTreeSet<u64> = toy.live.keys().copied().collect();
            let before = log.tail();
            log.commit().map_err(|_| AppendError::ReadOnly)?;
            if log.poll().map_err(|_| AppendError::ReadOnly)? || log.durable() >= before {
                ledger.durable = live;
                ledger.gone.append(&mut acked);
            }
        }
    }
    Ok(())
}

/// Mounts an image, and checks it against what was promised.
fn check(image: &mut Image, memory: &mut Memory, ledger: &Ledger, what: &str) -> Toy {
    let max = 90;
    let mut toy = Toy::new(max);
    let mut flash = image.flash();
    let (mut log, report) = memory.mount(&mut flash, &mut toy).unwrap_or_else(|e| panic!("{what}: {e:?}"));
    assert_eq!((report.damages, toy.lost), (0, 0), "{what}: {report:?}");
    for id in &ledger.durable {
        assert!(toy.live.contains_key(id), "{what}: message {id} is lost, {report:?}");
    }
    for id in &ledger.gone {
        assert!(!toy.live.contains_key(id), "{what}: message {id} is back, {report:?}");
    }
    assert!(toy.next <= ledger.published, "{what}");
    toy.check(&mut log, what);
    assert_eq!(flash.meter().misuses, 0, "{what}: programmed twice");
    toy
}

fn cut_everywhere(write_unit: u32, tail: usize, seed: u64, stride: usize) -> u32 {
    let geometry = geometry(write_unit);
    let mut base = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, tail, 100);
    // A past, so that the ring has been around and reclaim is at work.
    let mut past = Ledger::default();
    let mut start = Toy::new(90);
    {
        let mut flash = base.flash();
        let (mut log, _) = memory.mount(&mut flash, &mut start).unwrap();
        script(&mut log, &mut start, &mut past, 250, &mut Random(seed)).unwrap();
        settle(&mut log);
        past.durable = start.live.keys().copied().collect();
        past.published = start.next;
    }
    let mut cuts = 0;
    for cut in (1..).step_by(stride) {
        let mut image = base.clone();
        let mut ledger = past.clone();
        let survived = {
            let mut toy = Toy::new(90);
            let mut flash = image.flash();
            flash.cut_after(cut);
            match memory.mount(&mut flash, &mut toy) {
                Ok((mut log, _)) => {
                    toy.hold_all(&mut log);
                    let done = script(&mut log, &mut toy, &mut ledger, 60, &mut Random(seed ^ 1));
                    assert!(done.is_ok() || log.device().is_cut(), "seed {seed}, cut {cut}: {done:?}");
                    done.is_ok()
                }
                Err(_) => false,
            }
        };
        let what = format!("unit {write_unit}, seed {seed}, cut {cut}");
        let first = check(&mut image, &mut memory, &ledger, &what);
        let second = check(&mut image, &mut memory, &ledger, &what);
        let ids = |toy: &Toy| toy.live.keys().copied().collect::<Vec<_>>();
        assert_eq!(ids(&first), ids(&second), "{what}: another state at the second mount");
        go_on(&mut image, &mut memory, second, &what);
        cuts += 1;
        if survived {
            break;
        }
    }
    cuts
}

/// Appends to what a mount left, and mounts again.
fn go_on(image: &mut Image, memory: &mut Memory, mut toy: Toy, what: &str) {
    let mut ledger = Ledger::default();
    {
        let mut flash = image.flash();
        toy.live.clear();
        let (mut log, _) = memory.mount(&mut flash, &mut toy).unwrap();
        toy.hold_all(&mut log);
        for _ in 0..4 {
            toy.publish(&mut log).unwrap_or_else(|error| panic!("{what}: {error:?}"));
        }
        settle(&mut log);
        ledger.durable = toy.live.keys().copied().collect();
        ledger.published = toy.next;
    }
    let after = check(image, memory, &ledger, what);
    assert_eq!(after.live.len(), ledger.durable.len(), "{what}");
}

#[test]
fn power_cut_at_any_byte_keeps_what_was_durable() {
    let mut cuts = 0;
    for (unit, tail, seed) in [(1, 1024, 1), (4, 256, 2), (8, 64, 3), (32, 1024, 4), (128, 128, 5)] {
        cuts += cut_everywhere(unit, tail, seed, 5);
    }
    assert!(cuts > 2500, "{cuts}");
}

#[test]
fn power_cut_during_recovery_keeps_what_was_durable() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let mut twice = 0;
    for seed in 0..8 {
        let mut base = Image::formatted(geometry);
        let mut ledger = Ledger::default();
        {
            let mut toy = Toy::new(90);
            let mut flash = base.flash();
            flash.cut_after(1500 + seed * 331);
            let (mut log, _) = memory.mount(&mut flash, &mut toy).unwrap();
            // Several records between commits, so that there is something to copy.
            while toy.publish(&mut log).is_ok() {
                ledger.published = toy.next;
                if toy.next % 5 == 0 && log.commit().is_ok() && log.poll() == Ok(true) {
                    ledger.durable = toy.live.keys().copied().collect();
                }
            }
            ledger.published = toy.next + 1;
        }
        for cut in 1.. {
            let mut image = base.clone();
            let mut flash = image.flash();
            flash.cut_after(cut);
            let done = memory.mount(&mut flash, &mut Toy::new(90)).is_ok() && !flash.is_cut();
            let what = format!("seed {seed}, second cut {cut}");
            let toy = check(&mut image, &mut memory, &ledger, &what);
            go_on(&mut image, &mut memory, toy, &what);
            twice += 1;
            if done {
                break;
            }
        }
    }
    assert!(twice > 300, "{twice}");
}

/// A store of closed segments full of messages, all durable.
fn closed_store(geometry: Geometry, memory: &mut Memory) -> (Image, Toy) {
    let mut image = Image::formatted(geometry);
    let mut toy = Toy::new(90);
    {
        let mut flash = image.flash();
        let (mut log, _) = memory.mount(&mut flash, &mut toy).unwrap();
        for _ in 0..40 {
            toy.publish(&mut log).unwrap();
            settle(&mut log);
        }
        log.close().unwrap();
        settle(&mut log);
    }
    (image, toy)
}

#[test]
fn a_flipped_bit_anywhere_in_a_closed_store_costs_nothing() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let (base, toy) = closed_store(geometry, &mut memory);
    let mut mended = 0;
    for bit in (0..7 * 1024 * 8).step_by(3) {
        let mut image = base.clone();
        image.memory[bit / 8] ^= 1 << (bit % 8);
        let mut told = Toy::new(90);
        let mut flash = image.flash();
        let (mut log, report) = memory.mount(&mut flash, &mut told).unwrap();
        // Where the last footer is damaged, the last message was copied.
        assert!(report.damages == 0 && told.live.keys().eq(toy.live.keys()), "bit {bit}: {report:?}");
        told.check(&mut log, &format!("bit {bit}"));
        let mut segment = None;
        loop {
            let scrubbed = log.scrub(segment, &mut |damage| panic!("bit {bit}: {damage:?}"));
            mended += scrubbed.mended;
            segment = scrubbed.next;
            if segment.is_none() {
                break;
            }
        }
    }
    assert!(mended > 5000, "{mended}");
}

#[test]
fn two_flipped_bits_in_a_record_cost_that_record_which_a_scrub_names() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let (base, toy) = closed_store(geometry, &mut memory);
    let mut random = Random(3);
    for (&id, &at) in &toy.live {
        let size = payload(id, 90).len() as u64 + 8;
        let mut image = base.clone();
        let first = at.0 * 8 + random.below(size * 8);
        for bit in [first, at.0 * 8 + (first - at.0 * 8 + 1 + random.below(size * 8 - 1)) % (size * 8)] {
            image.memory[bit as usize / 8] ^= 1 << (bit % 8);
        }
        let mut told = Toy::new(90);
        let mut flash = image.flash();
        let (mut log, _) = memory.mount(&mut flash, &mut told).unwrap();
        assert_eq!(told.live, toy.live);
        assert_eq!(log.read(at).map(|record| record.size), Err(ReadError::Corrupt), "message {id}");
        let mut damaged = Vec::new();
        let mut segment = None;
        loop {
            let mut note = |damage: &Damage<'_>| {
                let (kind, digest) = damage.record.expect("the footer knows it");
                damaged.push((damage.at, kind, number(digest)));
            };
            segment = log.scrub(segment, &mut note).next;
            if segment.is_none() {
                break;
            }
        }
        assert_eq!(damaged, [(at, MESSAGE, id)]);
    }
}

#[test]
fn a_lost_header_costs_nothing_as_long_as_its_footer_is_there() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let (mut image, toy) = closed_store(geometry, &mut memory);
    image.memory[2048..2048 + 60].fill(0x5a);
    let mut told = Toy::new(90);
    let mut flash = image.flash();
    let (mut log, report) = memory.mount(&mut flash, &mut told).unwrap();
    assert_eq!((report.damages, &told.live), (0, &toy.live), "{report:?}");
    told.check(&mut log, "without a header");
    assert!(log.scrub(Some(14), &mut |damage| panic!("{damage:?}")).header_lost);
}

#[test]
fn a_flipped_bit_below_the_watermark_of_an_open_segment_is_mended_and_two_are_reported() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let mut base = Image::formatted(geometry);
    let mut toy = Toy::new(90);
    let last = {
        let mut flash = base.flash();
        let (mut log, _) = memory.mount(&mut flash, &mut toy).unwrap();
        for _ in 0..8 {
            toy.publish(&mut log).unwrap();
            settle(&mut log);
        }
        log.tail().offset() as usize
    };
    // All but the last record are known to be durable by what the last one says.
    let last_at = toy.live.values().next_back().unwrap().0 as usize;
    for bit in (1024 + 60) * 8..(last_at) * 8 {
        for second in [None, Some(bit + 7)] {
            let mut image = base.clone();
            image.memory[bit / 8] ^= 1 << (bit % 8);
            if let Some(second) = second.filter(|second| *second < last_at * 8) {
                image.memory[second / 8] ^= 1 << (second % 8);
            }
            let mut told = Toy::new(90);
            let mut flash = image.flash();
            let (_, report) = memory.mount(&mut flash, &mut told).unwrap();
            let missing = toy.live.keys().filter(|id| !told.live.contains_key(id)).count();
            let allowed = 2 * usize::from(second.is_some());
            assert!(missing <= allowed, "bit {bit}: {missing} lost, {report:?}");
            assert!(missing == 0 || report.damages > 0, "bit {bit}: {report:?}");
        }
    }
    assert!(last < 1024);
}

#[test]
fn a_dead_segment_is_reported_and_the_rest_goes_on() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let (mut image, toy) = closed_store(geometry, &mut memory);
    image.memory[2 * 1024..3 * 1024].fill(0x5a);
    let mut told = Toy::new(90);
    let mut flash = image.flash();
    let (mut log, report) = memory.mount(&mut flash, &mut told).unwrap();
    assert_eq!((report.damages, told.lost), (1, 1));
    let lost = toy.live.iter().filter(|(_, at)| at.0 / 1024 == 2).count();
    assert_eq!(told.live.len() + lost, toy.live.len());
    told.check(&mut log, "");
    told.hold_all(&mut log);
    told.publish(&mut log).unwrap();
    settle(&mut log);
}

#[test]
fn a_record_damaged_in_a_closed_segment_does_not_stop_reclaim() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let (mut image, toy) = closed_store(geometry, &mut memory);
    // One message in the second segment, in its length, and the footer of the third.
    let victim = *toy.live.values().find(|at| at.0 / 1024 == 1).unwrap();
    image.memory[victim.0 as usize] ^= 0x44;
    image.memory[4 * 1024 - 30] ^= 1;
    let mut told = Toy::new(90);
    let mut flash = image.flash();
    let (mut log, report) = memory.mount(&mut flash, &mut told).unwrap();
    assert_eq!((report.scanned, report.damages), (1, 0), "{report:?}");
    told.hold_all(&mut log);
    let mut random = Random(4);
    for _ in 0..600 {
        while told.live.len() > 30 {
            let id = *told.live.keys().nth(random.below(20) as usize).unwrap();
            told.ack(&mut log, id).unwrap();
        }
        told.publish(&mut log).unwrap();
        settle(&mut log);
    }
    assert_eq!(told.lost, 1);
    told.check(&mut log, "");
    assert!(log.stats().head_sequence > 24, "{:?}", log.stats());
}

#[test]
fn what_was_dropped_never_comes_back() {
    // Syncs that do not end: everything is in doubt, over several segments.
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 1024, 100);
    let mut base = Image::formatted(geometry);
    let mut toy = Toy::new(90);
    {
        let shared = Shared::new(Wayward::new(base.flash()).into());
        let (mut log, _) = memory.mount(Handle(shared), &mut toy).unwrap();
        for _ in 0..45 {
            toy.publish(&mut log).unwrap();
        }
        log.flush().unwrap();
        assert!(log.tail().sequence() > 14);
    }
    let mut shorter = 0;
    for torn in (1024 + 60..4 * 1024).step_by(97) {
        let mut image = base.clone();
        // The rest of that segment did not reach the medium, later ones did.
        let end = (torn / 1024 + 1) * 1024;
        image.memory[torn..end].fill(0xff);
        let mut first = Told::default();
        let mut ids = Vec::new();
        for round in 0..3 {
            let mut told = Told::default();
            let mut flash = image.flash();
            let (mut log, report) = memory.mount(&mut flash, &mut told).unwrap();
            assert_eq!(report.damages, 0, "torn {torn}, round {round}");
            let now: Vec<u64> = told.records.iter().map(|record| number(&record.2)).collect();
            let prefix: Vec<u64> = (0..now.len() as u64).collect();
            assert_eq!(now, prefix, "torn {torn}: not a prefix");
            if round == 0 {
                ids = now;
                first = told;
                shorter += u32::from(report.dropped > 0);
            } else {
                assert_eq!(now, ids, "torn {torn}, round {round}");
            }
            log.set_time(Millis(5000));
            settle(&mut log);
        }
        // What was torn may have been no more than a footer.
        assert!(first.records.len() <= 45);
    }
    assert!(shorter > 10, "{shorter}");
}

/// One life of a broker on a device with a cache; what is durable or may be gone is noted.
fn live_a_while(log: &mut Log<'_, &mut Cached>, toy: &mut Toy, ledger: &mut Ledger, random: &mut Random) {
    let mut waiting: Vec<(forebay::units::Position, BTreeSet<u64>, BTreeSet<u64>)> = Vec::new();
    let mut acked = BTreeSet::new();
    let steps = random.below(80);
    for _ in 0..steps {
        if toy.live.len() < 18 && random.below(3) > 0 {
            match toy.publish(log) {
                Ok(_) | Err(AppendError::Full) => {}
                Err(error) => panic!("{error:?}"),
            }
            ledger.published = toy.next;
        } else if let Some(&id) = toy.live.keys().nth(random.below(6) as usize) {
            // Acknowledged only if durable, as anything that was delivered is.
            if ledger.durable.contains(&id) && toy.ack(log, id).is_ok() {
                ledger.durable.remove(&id);
                waiting.iter_mut().for_each(|(_, live, _)| {
                    live.remove(&id);
                });
                acked.insert(id);
            }
        }
        if random.below(3) == 0 {
            log.commit().unwrap();
            waiting.push((log.tail(), toy.live.keys().copied().collect(), std::mem::take(&mut acked)));
        }
        log.poll().unwrap();
        let durable = log.durable();
        while waiting.first().is_some_and(|(at, ..)| *at <= durable) {
            let (_, live, mut gone) = waiting.remove(0);
            ledger.durable.extend(live);
            ledger.gone.append(&mut gone);
        }
    }
}

#[test]
fn power_cuts_with_a_write_cache_keep_what_was_durable() {
    let mut copied = 0;
    let mut dropped = 0;
    for seed in 0..SEEDS {
        let geometry =
            Geometry { segment_size: 1024, segment_count: 16, write_unit: [64, 8][seed as usize % 2] };
        let mut memory = Memory::new(geometry, [1024, 256][seed as usize / 2 % 2], 100);
        let mut random = Random(seed);
        let mut device = Cached::new(geometry, seed);
        Log::format(&mut device, SALT, Millis(0), &mut [0; 64]).unwrap();
        device.settle();
        let mut ledger = Ledger::default();
        for life in 0..12 {
            let what = format!("seed {seed}, life {life}");
            let mut toy = Toy::new(90);
            let (mut log, report) =
                memory.mount(&mut device, &mut toy).unwrap_or_else(|error| panic!("{what}: {error:?}"));
            assert_eq!(report.damages, 0, "{what}: {report:?}");
            for id in &ledger.durable {
                assert!(toy.live.contains_key(id), "{what}: message {id} is lost, {report:?}");
            }
            for id in &ledger.gone {
                assert!(!toy.live.contains_key(id), "{what}: message {id} is back, {report:?}");
            }
            toy.check(&mut log, &what);
            toy.hold_all(&mut log);
            copied += report.copied;
            dropped += report.dropped;
            // What came back above the watermark may go again until it is durable.
            ledger.durable.retain(|id| toy.live.contains_key(id));
            if random.below(4) > 0 {
                live_a_while(&mut log, &mut toy, &mut ledger, &mut random);
            }
            if random.below(6) > 0 {
                device.crash();
            }
        }
    }
    assert!(copied > 100 && dropped > 100, "{copied} copied, {dropped} dropped");
}

/// Devices the test with a write cache goes through.
const SEEDS: u64 = 60;
