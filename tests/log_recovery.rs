//! The log after flipped bits, lost segments and syncs that never ended. For losses of power see `torture`.

#[path = "support/log.rs"]
mod support;

use forebay::flash::fault::{FaultFlash, FaultOptions, Tear};
use forebay::flash::Geometry;
use forebay::log::{BatchSize, Damage, Log, Purpose, ReadError};
use forebay::units::{At, Millis};
use support::*;

fn geometry(write_unit: u32) -> Geometry {
    Geometry { segment_size: 1024, segment_count: 12, write_unit }
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

/// A store left open after `batches` syncs of `batch` messages each, and where the last batch begins.
fn open_store(memory: &mut Memory, geometry: Geometry, batch: u32, batches: u32) -> (Image, Toy, usize) {
    let mut base = Image::formatted(geometry);
    let mut toy = Toy::new(if batch > 1 { 20 } else { 90 });
    let mut last_at = 0;
    let mut flash = base.flash();
    let (mut log, _) = memory.mount(&mut flash, &mut toy).unwrap();
    for _ in 0..batches {
        let first = toy.next;
        for _ in 0..batch {
            toy.publish(&mut log).unwrap();
        }
        settle(&mut log);
        last_at = toy.live[&first].0 as usize;
    }
    assert!(log.tail().offset() < 1024);
    (base, toy, last_at)
}

#[test]
fn a_flipped_bit_below_the_watermark_of_an_open_segment_is_mended_and_two_are_reported() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    // All but the last record are known to be durable by what the last one says.
    let (base, toy, last_at) = open_store(&mut memory, geometry, 1, 8);
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
}

#[test]
fn a_length_that_flips_to_zero_is_not_taken_for_padding() {
    for unit in [2, 4, 32, 64] {
        let geometry = geometry(unit);
        let mut memory = Memory::new(geometry, 256, 100);
        let (base, toy, last_at) = open_store(&mut memory, geometry, 4, 6);
        for bit in (1024 + 60) * 8..last_at * 8 {
            let mut image = base.clone();
            image.memory[bit / 8] ^= 1 << (bit % 8);
            let mut told = Toy::new(20);
            let mut flash = image.flash();
            let (_, report) = memory.mount(&mut flash, &mut told).unwrap();
            assert!(told.live.keys().eq(toy.live.keys()), "unit {unit}, bit {bit}: {report:?}");
        }
    }
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
fn a_read_that_fails_once_costs_nothing() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let (base, toy, _) = open_store(&mut memory, geometry, 1, 8);
    for every in 2..30 {
        let mut image = base.clone();
        let device = Shared::new(Wayward::new(image.flash()).into());
        device.borrow_mut().disturbed_every = every;
        let mut told = Toy::new(90);
        let (mut log, report) = memory.mount(Handle(device.clone()), &mut told).unwrap();
        assert!(report.damages == 0 && told.live.keys().eq(toy.live.keys()), "every {every}: {report:?}");
        told.check(&mut log, &format!("every {every}"));
        assert!(device.borrow().reads > every, "every {every}");
    }
}

#[test]
fn a_dead_stretch_costs_what_is_in_it_and_few_reads() {
    let geometry = Geometry { segment_size: 1 << 16, segment_count: 12, write_unit: 512 };
    let mut memory = Memory::new(geometry, 1 << 16, 2000);
    let mut image = Image::formatted(geometry);
    let mut toy = Toy::new(1500);
    let mut flash = image.flash();
    let (mut log, _) = memory.mount(&mut flash, &mut toy).unwrap();
    while toy.next < 150 {
        toy.publish(&mut log).unwrap();
        settle(&mut log);
    }
    // The middle of the second segment and all of its footer, so that its records have to be looked for.
    let second = 1 << 16;
    for dead in [second + 9000..second + 30_000, second + 9000..2 * second] {
        let mut image = image.clone();
        image.memory[2 * second as usize - 600..2 * second as usize].fill(0x5a);
        let device = Shared::new(Wayward::new(image.flash()).into());
        device.borrow_mut().dead = dead.clone();
        let mut told = Toy::new(1500);
        let (mut log, report) = memory.mount(Handle(device.clone()), &mut told).unwrap();
        let reads = device.borrow().reads;
        let dead_units = (dead.end - dead.start).div_ceil(512);
        assert!(reads < 400 + 2 * dead_units, "{reads} reads for {dead_units} units");
        assert!(report.damages > 0);
        let is_hit = |at: At, id: u64| {
            let end = at.0 + payload(id, 1500).len() as u64 + 12;
            at.0 < dead.end && dead.start < end
        };
        let (lost, rest): (Vec<_>, Vec<_>) = toy.live.iter().partition(|(&id, &at)| is_hit(at, id));
        assert!(lost.len() > 10 && rest.iter().all(|(id, _)| told.live.contains_key(id)), "{report:?}");
        told.check(&mut log, "beside a dead stretch");
    }
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

/// A store whose last messages no sync covered: what they are, and where the first of them stands.
fn store_in_doubt(device: &mut FaultFlash, memory: &mut Memory) -> (Toy, At) {
    Log::format(&mut *device, SALT, Millis(1000), &mut [0; 512]).unwrap();
    let mut toy = Toy::new(60);
    let (mut log, _) = memory.mount(&mut *device, &mut toy).unwrap();
    for _ in 0..4 {
        toy.publish(&mut log).unwrap();
    }
    settle(&mut log);
    let first = toy.next;
    for _ in 0..3 {
        toy.publish(&mut log).unwrap();
    }
    log.flush().unwrap();
    let at = toy.live[&first];
    (toy, at)
}

#[test]
fn a_recovery_is_durable_only_when_its_seal_is() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let mut claims = 0;
    for seed in 0..200 {
        let cached = seed % 2 == 0;
        let options = FaultOptions { seed, cached, ..FaultOptions::default() };
        let mut device = FaultFlash::new(geometry, options).unwrap();
        let (toy, first) = store_in_doubt(&mut device, &mut memory);
        // All of it has reached the medium, though nobody knows.
        let image = device.image().to_vec();
        device.load(&image);
        let mut told = Toy::new(60);
        let (mut log, report) = memory.mount(&mut device, &mut told).unwrap();
        assert_eq!((report.copied, &told.live.len()), (3, &toy.live.len()), "{report:?}");
        let newest = told.live.values().max().copied().unwrap();
        // Nobody asks for another sync: what the mount began has to be enough for what it claims.
        for _ in 0..8 {
            log.poll().unwrap();
        }
        let is_claimed = log.durable() > log.position(newest);
        claims += u32::from(is_claimed);
        device.restart_with(Tear::Reordered, seed);
        if is_claimed {
            // The originals decay: nothing depends on them any more.
            let mut image = device.image().to_vec();
            let end = (first.0 as usize / 1024 + 1) * 1024;
            image[first.0 as usize..end].fill(0x5a);
            device.load(&image);
        }
        let mut again = Toy::new(60);
        let (mut log, report) = memory.mount(&mut device, &mut again).unwrap();
        assert!(again.live.keys().eq(toy.live.keys()), "seed {seed}, cached {cached}: {report:?}");
        again.check(&mut log, "after the seal may be lost");
    }
    assert!(claims >= 100, "{claims}");
}

/// Whether a full store gets no message off any more, however often it tries.
fn is_stuck(device: &mut FaultFlash, memory: &mut Memory) -> bool {
    let mut told = Toy::new(90);
    let (mut log, _) = memory.mount(&mut *device, &mut told).unwrap();
    told.hold_all(&mut log);
    for _ in 0..200 {
        let _ = told.reclaim(&mut log);
        let _ = log.commit().and_then(|()| log.poll());
        let id = *told.live.keys().next_back().unwrap();
        if told.ack(&mut log, id).is_ok() {
            return false;
        }
    }
    true
}

#[test]
fn copies_that_count_by_a_hint_do_not_take_the_room_of_what_would_free_some() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 1024, 100);
    let mut device = FaultFlash::new(geometry, FaultOptions::default()).unwrap();
    Log::format(&mut device, SALT, Millis(1000), &mut [0; 512]).unwrap();
    // Full, then what acknowledgements may still take, and once more after a loss of power.
    for life in 0..2 {
        let mut toy = Toy::new(90);
        let (mut log, _) = memory.mount(&mut device, &mut toy).unwrap();
        while life == 0 && toy.publish(&mut log).is_ok() {
            settle(&mut log);
        }
        while log.append(ACK, &varint(1_000_000), &[&[7; 50]], Purpose::Keep).is_ok() {}
        log.flush().unwrap();
        device.restart(Tear::Prefix);
    }
    let mut cut = 0;
    loop {
        cut += 1;
        let mut once = device.clone();
        once.cut_after(cut);
        let mounted = memory.mount(&mut once, &mut Toy::new(90)).is_ok();
        if mounted && !once.is_cut() {
            break;
        }
        once.restart(Tear::Prefix);
        assert!(!is_stuck(&mut once, &mut memory), "after a loss of power at step {cut} of the mount");
    }
    assert!(cut > 100, "{cut}");
}

#[test]
fn a_recovery_fits_also_where_less_of_it_is_kept_in_memory_than_before() {
    let geometry = Geometry { segment_size: 4096, segment_count: 12, write_unit: 64 };
    let mut copied = 0;
    for count in 1..90 {
        let mut device = FaultFlash::new(geometry, FaultOptions::default()).unwrap();
        Log::format(&mut device, SALT, Millis(1000), &mut [0; 512]).unwrap();
        let mut memory = Memory::new(geometry, 4096, 200);
        let mut toy = Toy::new(150);
        let (mut log, _) = memory.mount(&mut device, &mut toy).unwrap();
        for _ in 0..count {
            toy.publish(&mut log).unwrap();
        }
        log.flush().unwrap();
        // Every other record now ends a unit.
        let mut memory = Memory::new(geometry, 64, 200);
        let mut told = Toy::new(150);
        let (mut log, report) = memory.mount(&mut device, &mut told).unwrap();
        assert!(told.live.keys().eq(toy.live.keys()), "{count} messages: {report:?}");
        told.hold_all(&mut log);
        for _ in 0..20 {
            told.publish(&mut log).unwrap();
            settle(&mut log);
        }
        told.check(&mut log, &format!("{count} messages"));
        assert_eq!(log.device().meter().misuses, 0, "{count} messages: {report:?}");
        copied = copied.max(report.copied);
    }
    assert!(copied > 10, "{copied}");
}

#[test]
fn a_batch_is_whole_also_where_a_recovery_can_copy_only_part_of_it() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    let mut divided = 0;
    for before in 0..12 {
        let mut device = FaultFlash::new(geometry, FaultOptions::default()).unwrap();
        Log::format(&mut device, SALT, Millis(1000), &mut [0; 512]).unwrap();
        let mut toy = Toy::new(60);
        let (mut log, _) = memory.mount(&mut device, &mut toy).unwrap();
        for _ in 0..before {
            toy.publish(&mut log).unwrap();
        }
        let mut size = BatchSize::default();
        (0..3).for_each(|_| size.add(8, 60));
        log.begin_batch(&size, Purpose::Publish).unwrap();
        for _ in 0..3 {
            toy.publish(&mut log).unwrap();
        }
        log.end_batch().unwrap();
        for _ in 0..9 {
            toy.publish(&mut log).unwrap();
        }
        log.flush().unwrap();
        let image = device.image().to_vec();
        for (steps, tear) in
            (0..1800).step_by(4).flat_map(|steps| [(steps, Tear::Prefix), (steps, Tear::Decays)])
        {
            device.load(&image);
            device.cut_after(steps);
            let mounted = memory.mount(&mut device, &mut Toy::new(60)).map(|(_, report)| report);
            divided +=
                u32::from(mounted.is_ok_and(|report| report.copied > 0 && report.copied < before + 12));
            device.restart_with(tear, u64::from(before));
            let mut again = Toy::new(60);
            let (mut log, report) = memory.mount(&mut device, &mut again).unwrap();
            assert!(
                again.live.keys().eq(toy.live.keys()),
                "{before} before, {tear:?} after {steps}: {report:?}"
            );
            again.check(&mut log, "after a cut in the recovery");
        }
    }
    assert!(divided > 100, "{divided}");
}

#[test]
fn everything_up_to_a_place_is_reclaimed_when_asked_also_where_nobody_appends_any_more() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 100);
    for count in [0, 1, 12, 40] {
        let mut device = FaultFlash::new(geometry, FaultOptions::default()).unwrap();
        Log::format(&mut device, SALT, Millis(1000), &mut [0; 512]).unwrap();
        let mut toy = Toy::new(60);
        let (mut log, _) = memory.mount(&mut device, &mut toy).unwrap();
        for _ in 0..count {
            toy.publish(&mut log).unwrap();
        }
        let ids: Vec<_> = toy.live.keys().copied().collect();
        for id in ids.into_iter().skip(2) {
            toy.ack(&mut log, id).unwrap();
        }
        settle(&mut log);
        let tail = log.tail();
        log.reclaim_upto(tail);
        for _ in 0..4 {
            toy.reclaim(&mut log).unwrap();
            settle(&mut log);
        }
        assert!(log.is_reclaimed(tail), "{count}: {:?}", log.stats());
        assert!(!log.reclaim_due(), "{count}: {:?}", log.stats());
        toy.check(&mut log, "after that");
    }
}
