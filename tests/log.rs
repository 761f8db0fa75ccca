//! The log at work: on every device and write unit, around the ring, and at its limits.

#[path = "support/log.rs"]
mod support;

use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::Arc;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use forebay::flash::file::{FileError, FileFlash, OpenOptions};
use forebay::flash::nor::NorDevice;
use forebay::flash::{Flash, FlashError, Geometry, SyncState};
use forebay::log::{AppendError, Log, LogError, MountError, Purpose, ReadError, KIND_LIMIT};
use forebay::units::{At, Millis};
use support::*;

const UNITS: [u32; 6] = [1, 4, 8, 32, 256, 512];

fn geometry(write_unit: u32) -> Geometry {
    Geometry { segment_size: if write_unit < 256 { 2048 } else { 8192 }, segment_count: 12, write_unit }
}

/// Appends, reads, remounts and reads again, with and without a close.
fn append_and_reopen<F: Flash>(mut flash: F, tail: usize, what: &str) {
    let geometry = flash.geometry();
    let mut memory = Memory::new(geometry, tail, 300);
    let mut random = Random(u64::from(geometry.write_unit) + tail as u64);
    let mut toy = Toy::new(250);
    Log::format(&mut flash, SALT, Millis(5), &mut [0; 512]).unwrap();
    for round in 0..6 {
        let mut told = Toy::new(250);
        let (mut log, report) = memory.mount(&mut flash, &mut told).unwrap();
        assert_eq!(report.damages, 0, "{what}, round {round}");
        assert_eq!(report.unclean, round % 2 == 0 && round > 0, "{what}, round {round}: {report:?}");
        let ids = |toy: &Toy| toy.live.keys().copied().collect::<Vec<_>>();
        assert_eq!(ids(&told), ids(&toy), "{what}, round {round}");
        toy = told;
        toy.hold_all(&mut log);
        toy.check(&mut log, "");
        // Until what was recovered counts there is one segment, which ten records may not fit into.
        settle(&mut log);
        for _ in 0..10 {
            toy.publish(&mut log).unwrap();
            if random.below(3) == 0 {
                settle(&mut log);
            }
            let id = *toy.live.keys().nth(random.below(toy.live.len() as u64) as usize).unwrap();
            if random.below(2) == 0 {
                toy.ack(&mut log, id).unwrap();
            }
        }
        toy.check(&mut log, "");
        settle(&mut log);
        if round % 2 == 0 {
            log.close().unwrap();
            settle(&mut log);
        }
    }
}

#[test]
fn records_come_back_on_every_write_unit_and_tail_size() {
    for unit in UNITS {
        for tail in [unit as usize, 512, 8192] {
            let mut image = Image::blank(geometry(unit));
            append_and_reopen(&mut image.flash(), tail, &format!("unit {unit}, tail {tail}"));
            assert_eq!(image.flash().meter().misuses, 0);
        }
    }
}

/// A NOR flash as drivers present them, which checks what it is asked.
struct Chip {
    memory: Vec<u8>,
    programmed: Vec<bool>,
    /// A cell that stays 0, by its address.
    worn: Option<u32>,
}

impl Chip {
    fn new() -> Chip {
        Chip { memory: vec![0; 32 * 1024], programmed: vec![false; 4096], worn: None }
    }
}

#[derive(Debug)]
struct ChipError;

impl NorFlashError for ChipError {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for Chip {
    type Error = ChipError;
}

impl ReadNorFlash for Chip {
    const READ_SIZE: usize = 4;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), ChipError> {
        assert!(offset % 4 == 0 && bytes.len() % 4 == 0);
        bytes.copy_from_slice(&self.memory[offset as usize..][..bytes.len()]);
        Ok(())
    }

    fn capacity(&self) -> usize {
        self.memory.len()
    }
}

impl NorFlash for Chip {
    const WRITE_SIZE: usize = 8;
    const ERASE_SIZE: usize = 1024;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), ChipError> {
        assert!(from % 1024 == 0 && to % 1024 == 0);
        self.memory[from as usize..to as usize].fill(0);
        self.programmed[from as usize / 8..to as usize / 8].fill(false);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), ChipError> {
        assert!(offset % 8 == 0 && bytes.len() % 8 == 0);
        for unit in &mut self.programmed[offset as usize / 8..][..bytes.len() / 8] {
            assert!(!std::mem::replace(unit, true), "programmed twice");
        }
        self.memory[offset as usize..][..bytes.len()].copy_from_slice(bytes);
        self.worn.into_iter().for_each(|worn| self.memory[worn as usize] = 0);
        Ok(())
    }
}

#[test]
fn a_worn_cell_fails_the_write_instead_of_the_read() {
    let chip = Chip { worn: Some(100), ..Chip::new() };
    let mut device = NorDevice::new(chip, 0, geometry(8)).unwrap();
    assert_eq!(device.program(0, 0, &[7; 96]), Ok(()));
    assert_eq!(device.program(0, 96, &[7; 96]), Err(FlashError::Medium));
    assert_eq!(device.program(0, 192, &[7; 200]), Ok(()));
}

#[test]
fn records_come_back_on_a_nor_flash_that_erases_to_zeros_and_reads_words() {
    for unit in [8, 32] {
        let chip = Chip::new();
        let device = NorDevice::new(chip, 4096, geometry(unit)).unwrap();
        append_and_reopen(device, 256, &format!("NOR, unit {unit}"));
    }
    let chip = Chip::new;
    assert!(NorDevice::new(chip(), 0, geometry(4)).is_none(), "less than the flash's write unit");
    assert!(NorDevice::new(chip(), 16 * 1024, geometry(8)).is_none(), "beyond the flash");
}

/// A directory that goes when the test does.
struct Place(std::path::PathBuf);

impl Place {
    fn new(name: &str) -> Place {
        let path = std::env::temp_dir().join(format!("forebay-log-{name}-{}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

const FILE: OpenOptions = OpenOptions { size_bytes: 64 << 10, segment_size: 4096, write_unit: 512 };

#[test]
fn records_come_back_from_a_file() {
    let place = Place::new("file");
    let path = place.0.join("store.fby");
    let (mut device, created) = FileFlash::open(&path, FILE).unwrap();
    assert!(created);
    let ended = Arc::new(AtomicU32::new(0));
    let told = ended.clone();
    device.set_waker(Box::new(move || {
        told.fetch_add(1, Ordering::SeqCst);
    }));
    append_and_reopen(&mut device, 4096, "file");
    drop(device);
    assert!(ended.load(Ordering::SeqCst) > 10);
    let (device, created) = FileFlash::open(&path, FILE).unwrap();
    assert!(!created);
    let mut told = Told::default();
    Memory::new(device.geometry(), 4096, 300).mount(device, &mut told).unwrap();
    assert!(!told.records.is_empty());
}

#[test]
fn a_file_that_cannot_be_a_store_is_refused_by_its_reason() {
    let place = Place::new("refused");
    let path = place.0.join("store.fby");
    let (mut device, _) = FileFlash::open(&path, FILE).unwrap();
    assert!(matches!(FileFlash::open(&path, FILE), Err(FileError::InUse(_))));
    Log::format(&mut device, SALT, Millis(0), &mut [0; 512]).unwrap();
    drop(device);
    let larger = OpenOptions { size_bytes: 128 << 10, ..FILE };
    let error = FileFlash::open(&path, larger).unwrap_err();
    assert!(matches!(error, FileError::SizeMismatch { found_bytes: 65536, asked_bytes: 131072, .. }));
    assert!(error.to_string().contains("configure its size"));
    let note = place.0.join("note.txt");
    std::fs::write(&note, "no store at all").unwrap();
    assert!(matches!(FileFlash::open(&note, FILE), Err(FileError::NotAStore(_))));
    assert_eq!(std::fs::read(&note).unwrap(), b"no store at all");
    let nowhere = place.0.join("missing/store.fby");
    assert!(matches!(FileFlash::open(&nowhere, FILE), Err(FileError::NoDirectory(_))));
    assert!(matches!(FileFlash::open(&place.0, FILE), Err(FileError::NotAStore(_))));
    let odd = OpenOptions { size_bytes: 4097, ..FILE };
    assert!(matches!(FileFlash::open(&note, odd), Err(FileError::BadSizes)));
    let vast = OpenOptions { size_bytes: 1 << 50, segment_size: 1 << 20, write_unit: 512 };
    let full = FileFlash::open(place.0.join("vast.fby"), vast).unwrap_err();
    assert!(matches!(full, FileError::DiskFull { .. }), "{full}");
}

#[test]
fn a_store_whose_making_was_interrupted_is_made_again() {
    let place = Place::new("interrupted");
    let path = place.0.join("store.fby");
    std::fs::write(&path, vec![0; 10_000]).unwrap();
    let (device, created) = FileFlash::open(&path, FILE).unwrap();
    assert!(created);
    assert_eq!(std::fs::metadata(&path).unwrap().len(), FILE.size_bytes);
    assert_eq!(device.geometry().segment_count, 16);
}

#[test]
fn many_laps_keep_what_is_live_and_level_the_wear() {
    for (unit, tail) in [(1, 2048), (4, 256), (32, 512), (256, 8192)] {
        let geometry = Geometry { segment_count: 16, ..geometry(unit) };
        let mut image = Image::formatted(geometry);
        let mut memory = Memory::new(geometry, tail, 140);
        let mut toy = Toy::new(120);
        let mut random = Random(unit.into());
        for session in 0..4 {
            let mut flash = image.flash();
            let mut told = Toy::new(120);
            let (mut log, report) = memory.mount(&mut flash, &mut told).unwrap();
            assert_eq!(told.live.len(), toy.live.len(), "unit {unit}, session {session}, {report:?}");
            toy = told;
            toy.hold_all(&mut log);
            let room = log.capacity_bytes() / 140;
            for step in 0..2500 {
                toy.publish(&mut log).unwrap_or_else(|e| panic!("unit {unit}, step {step}: {e:?}"));
                // A few live for long, most for a short time.
                while toy.live.len() as u64 > room {
                    let skip = room / 2 + random.below(room / 2);
                    let id = *toy.live.keys().nth(skip as usize).unwrap();
                    toy.ack(&mut log, id).unwrap();
                }
                if step % 8 == 0 {
                    settle(&mut log);
                }
            }
            toy.check(&mut log, "");
            settle(&mut log);
            log.close().unwrap();
            settle(&mut log);
            let stats = log.stats();
            assert!(stats.erases_max - stats.erases_min <= 1, "{stats:?}");
            assert!(stats.erases_max > 2 * session + 2, "{stats:?}");
        }
        assert_eq!(image.flash().meter().misuses, 0);
    }
}

#[test]
fn mounting_twice_tells_the_same_and_the_second_time_writes_nothing() {
    let geometry = geometry(4);
    let mut image = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, 256, 300);
    {
        let mut flash = image.flash();
        let (mut log, _) = memory.mount(&mut flash, &mut Told::default()).unwrap();
        for n in 0..40 {
            let at = log.append(1, &varint(n), &[&payload(n, 200)], Purpose::Publish).unwrap();
            log.hold(at);
            if n % 7 == 0 {
                log.commit().unwrap();
                log.poll().unwrap();
            }
        }
        log.flush().unwrap();
    }
    let mut mounts = Vec::new();
    for _ in 0..3 {
        let mut told = Told::default();
        let mut flash = image.flash();
        let (_, report) = memory.mount(&mut flash, &mut told).unwrap();
        mounts.push((told, report.copied, flash.meter().programs));
    }
    assert!(mounts[0].1 > 0 && mounts[0].2 > 0);
    assert_eq!((mounts[1].1, mounts[1].2), (0, 0));
    assert_eq!(mounts[0].0, mounts[1].0);
    assert_eq!(mounts[1].0, mounts[2].0);
    assert_eq!(mounts[0].0.records.len(), 40);
}

#[test]
fn a_copy_comes_from_the_tail_a_window_or_the_flash() {
    for tail in [64, 2048] {
        let geometry = geometry(4);
        let mut image = Image::formatted(geometry);
        let mut memory = Memory::new(geometry, tail, 300);
        let (mut log, _) = memory.mount(image.flash(), &mut Told::default()).unwrap();
        let first = log.append(1, b"one", &[b"head", b"body"], Purpose::Publish).unwrap();
        log.hold(first);
        let copy = |log: &mut Log<'_, _>, from, skip| {
            let pieces = [(&b"n"[..], 0..0), (b"ew", skip..skip + 1), (b"", skip + 1..usize::MAX)];
            let to = log.copy(from, 2, b"two", &pieces, Purpose::Keep).unwrap();
            let record = log.read(to).unwrap();
            assert_eq!((record.kind, record.digest, record.payload), (2, &b"two"[..], &b"newbody"[..]));
            assert_eq!(record.size, 10);
            to
        };
        let second = copy(&mut log, first, 4);
        log.flush().unwrap();
        copy(&mut log, second, 3);
        for n in 0..60u64 {
            log.append(1, &varint(n), &[&[n as u8; 100]], Purpose::Publish).unwrap();
        }
        copy(&mut log, first, 4);
        settle(&mut log);
        copy(&mut log, first, 4);
        let beyond = log.copy(first, 2, b"", &[(b"x", 100..200)], Purpose::Keep).unwrap();
        assert_eq!(log.read(beyond).unwrap().payload, b"x");
    }
}

#[test]
fn new_content_is_refused_before_acknowledgements_are_and_those_before_reclaim() {
    let geometry = geometry(8);
    let mut image = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, 512, 300);
    let mut toy = Toy::new(200);
    let (mut log, _) = memory.mount(image.flash(), &mut toy).unwrap();
    let mut free = Vec::new();
    for purpose in [Purpose::Publish, Purpose::Keep, Purpose::Reclaim] {
        let refused = loop {
            match log.append(MESSAGE, b"x", &[&[7; 200]], purpose) {
                Ok(at) => log.hold(at),
                Err(error) => break error,
            }
        };
        assert_eq!(refused, AppendError::Full);
        free.push(log.stats().free_segments);
    }
    assert_eq!(free, [5, 3, 2]);
}

#[test]
fn a_full_log_takes_every_acknowledgement_and_then_content_again() {
    let geometry = geometry(8);
    let mut image = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, 512, 300);
    let mut toy = Toy::new(200);
    let (mut log, _) = memory.mount(image.flash(), &mut toy).unwrap();
    while toy.publish(&mut log).is_ok() {}
    let before = toy.live.len();
    // The newest first: what they free is as far from the oldest segment as can be.
    for id in toy.live.keys().copied().rev().take(before / 2).collect::<Vec<_>>() {
        toy.ack(&mut log, id).unwrap();
        settle(&mut log);
    }
    for _ in 0..before / 5 {
        toy.publish(&mut log).unwrap();
        settle(&mut log);
    }
    toy.check(&mut log, "");
}

#[test]
fn what_does_not_fit_is_refused_and_changes_nothing() {
    let geometry = geometry(4);
    let mut image = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, 256, 300);
    let (mut log, _) = memory.mount(image.flash(), &mut Told::default()).unwrap();
    let tail = log.tail();
    let mut append =
        |kind, digest: &[u8], size| log.append(kind, digest, &[&vec![0; size]], Purpose::Publish);
    assert_eq!(append(1, b"", 301), Err(AppendError::TooLarge));
    assert_eq!(append(KIND_LIMIT, b"", 1), Err(AppendError::TooLarge));
    assert_eq!(append(1, &[0; 256], 1), Err(AppendError::TooLarge));
    assert_eq!(log.tail(), tail);
    assert_eq!(log.read(At(u64::MAX)), Err(ReadError::Gone));
    assert_eq!(log.read(At(3)), Err(ReadError::Gone));
    assert!(log.append(1, &[9; 255], &[&[0; 45]], Purpose::Publish).is_ok());
}

#[test]
fn a_failed_sync_makes_the_log_read_only_and_reads_go_on() {
    let geometry = geometry(4);
    let mut image = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, 256, 300);
    let shared = Shared::new(Wayward::new(image.flash()).into());
    let (mut log, _) = memory.mount(Handle(shared.clone()), &mut Told::default()).unwrap();
    let at = log.append(1, b"a", &[b"first"], Purpose::Publish).unwrap();
    log.commit().unwrap();
    assert!(log.syncing() && !log.unsynced());
    assert_eq!(log.poll(), Ok(false));
    // Appended while the sync is in flight: the next one covers it.
    let late = log.append(1, b"b", &[b"second"], Purpose::Publish).unwrap();
    shared.borrow_mut().sync = SyncState::Done;
    assert_eq!(log.poll(), Ok(true));
    assert!(log.position(at) < log.durable() && log.position(late) >= log.durable());
    log.commit().unwrap();
    shared.borrow_mut().sync = SyncState::Failed;
    assert_eq!(log.poll(), Err(LogError::SyncFailed));
    let durable = log.durable();
    assert_eq!(log.append(1, b"c", &[], Purpose::Keep), Err(AppendError::ReadOnly));
    assert_eq!(log.commit(), Err(LogError::ReadOnly));
    assert_eq!(log.close(), Err(LogError::ReadOnly));
    assert_eq!(log.reclaim_next(), Err(LogError::ReadOnly));
    shared.borrow_mut().sync = SyncState::Done;
    assert_eq!(log.poll(), Ok(false));
    assert_eq!(log.durable(), durable);
    assert_eq!(log.read(at).unwrap().payload, b"first");
    assert_eq!(log.read(late).unwrap().payload, b"second");
}

#[test]
fn a_segment_that_cannot_be_erased_is_passed_over() {
    let geometry = geometry(4);
    let mut image = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, 256, 140);
    let mut toy = Toy::new(120);
    for session in 0..2 {
        let mut wayward = Wayward::new(image.flash());
        wayward.bad = vec![3];
        let shared = Shared::new(wayward.into());
        let mut told = Toy::new(120);
        let (mut log, report) = memory.mount(Handle(shared.clone()), &mut told).unwrap();
        assert_eq!((report.damages, told.live.len()), (0, toy.live.len()), "session {session}");
        toy = told;
        toy.hold_all(&mut log);
        shared.borrow_mut().sync = SyncState::Done;
        for _ in 0..400 {
            toy.publish(&mut log).unwrap();
            while toy.live.len() > 15 {
                let id = *toy.live.keys().next().unwrap();
                toy.ack(&mut log, id).unwrap();
            }
            log.commit().unwrap();
            shared.borrow_mut().sync = SyncState::Done;
            log.poll().unwrap();
        }
        toy.check(&mut log, "");
        assert_eq!(log.stats().bad_segments, 1);
    }
}

#[test]
fn other_things_are_not_mounted_as_a_store() {
    let geometry = geometry(4);
    let mut memory = Memory::new(geometry, 256, 140);
    let refused = |image: &mut Image, memory: &mut Memory| {
        memory.mount(image.flash(), &mut Told::default()).map(|_| ()).unwrap_err()
    };
    assert_eq!(refused(&mut Image::blank(geometry), &mut memory), MountError::NotAStore);
    let mut image = Image::formatted(geometry);
    image.geometry = Geometry { segment_size: 1024, segment_count: 24, write_unit: 4 };
    image.marks = vec![0; 24];
    let mut finer = Memory::new(image.geometry, 256, 140);
    let found = refused(&mut image, &mut finer);
    assert_eq!(found, MountError::WrongGeometry { found: geometry });
    memory.tail = vec![0; 3];
    let mut image = Image::formatted(geometry);
    assert_eq!(refused(&mut image, &mut memory), MountError::StorageTooSmall("tail"));
}

#[test]
fn a_store_that_is_formatted_again_is_empty_and_keeps_count_of_its_wear() {
    let geometry = geometry(4);
    let mut image = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, 256, 140);
    let mut toy = Toy::new(120);
    let (mut log, _) = memory.mount(image.flash(), &mut toy).unwrap();
    for _ in 0..300 {
        toy.publish(&mut log).unwrap();
        let id = *toy.live.keys().next().unwrap();
        toy.ack(&mut log, id).unwrap();
    }
    settle(&mut log);
    let wear = log.stats().erases_max;
    Log::format(&mut image.flash(), SALT + 1, Millis(1), &mut [0; 64]).unwrap();
    let mut told = Told::default();
    let (log, _) = memory.mount(image.flash(), &mut told).unwrap();
    assert_eq!(told, Told::default());
    assert!(log.stats().erases_max > wear && wear > 1);
}

/// 64-byte payloads on 1 MiB of 256 segments of 4 KiB, 4-byte units, committed one by one.
#[test]
fn programming_and_mounting_stay_within_what_is_promised() {
    let geometry = Geometry { segment_size: 4096, segment_count: 256, write_unit: 4 };
    let mut image = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, 512, 300);
    memory.windows = vec![0; 2048];
    let mut count = 0u64;
    {
        let mut flash = image.flash();
        let (mut log, _) = memory.mount(&mut flash, &mut Told::default()).unwrap();
        while let Ok(at) = log.append(1, &varint((1 << 21) + count), &[&[count as u8; 64]], Purpose::Publish)
        {
            log.hold(at);
            log.commit().unwrap();
            log.poll().unwrap();
            count += 1;
        }
        let stats = log.stats();
        assert!(stats.program_calls as f64 <= count as f64 * 1.10, "{count} {stats:?}");
        assert!(stats.programmed as f64 <= count as f64 * 64.0 * 1.25, "{count} {stats:?}");
    }
    for clean in [false, true] {
        let mut told = Told::default();
        let mut flash = image.flash();
        let (mut log, _) = memory.mount(&mut flash, &mut told).unwrap();
        assert_eq!(told.records.len() as u64, count);
        let reads = log.device().meter().reads;
        assert!(reads <= 320, "{reads} reads, clean {clean}");
        told.records.iter().for_each(|record| log.hold(record.0));
        log.append(1, b"x", &[], Purpose::Reclaim).unwrap();
        settle(&mut log);
        log.close().unwrap();
        settle(&mut log);
        count += 1;
    }
}

#[test]
fn reading_in_order_reads_ahead_and_reading_at_random_reads_little() {
    let geometry = Geometry { segment_size: 1 << 17, segment_count: 8, write_unit: 512 };
    let mut image = Image::formatted(geometry);
    let mut memory = Memory::new(geometry, 1 << 17, 1000);
    memory.windows = vec![0; 4 << 15];
    memory.index = vec![0; 1 << 14];
    let mut places = Vec::new();
    let mut flash = image.flash();
    {
        let (mut log, _) = memory.mount(&mut flash, &mut Told::default()).unwrap();
        for n in 0..1500u64 {
            places.push(log.append(1, &varint(n), &[&[n as u8; 100]], Purpose::Publish).unwrap());
            log.hold(places[n as usize]);
        }
        log.close().unwrap();
        settle(&mut log);
    }
    let (mut log, _) = memory.mount(&mut flash, &mut Told::default()).unwrap();
    let before = log.device().meter();
    for (n, &at) in places.iter().enumerate() {
        assert_eq!(log.read(at).unwrap().payload, [n as u8; 100]);
    }
    let between = log.device().meter();
    assert!(between.reads - before.reads < 40, "{} reads", between.reads - before.reads);
    let mut random = Random(8);
    for _ in 0..100 {
        let n = random.below(1500) as usize;
        assert_eq!(log.read(places[n]).unwrap().payload, [n as u8; 100]);
    }
    let after = log.device().meter();
    assert!(after.read_bytes - between.read_bytes < 100 * 600);
}
