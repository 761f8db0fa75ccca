//! The misbehaving device: each way it misbehaves, and that a tape cuts as the device does.

use forebay::flash::fault::{FaultFlash, FaultOptions, Player, Tear, ERASE_STEPS};
use forebay::flash::{Flash, FlashError, Geometry, SyncState};

const SIZE: usize = 1024;

/// Numbers that are the same in every run.
struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        self.0 >> 29
    }

    fn below(&mut self, limit: u64) -> u64 {
        self.next() % limit
    }
}

fn geometry(write_unit: u32) -> Geometry {
    Geometry { segment_size: SIZE as u32, segment_count: 12, write_unit }
}

fn device(write_unit: u32, options: FaultOptions) -> FaultFlash {
    FaultFlash::new(geometry(write_unit), options).unwrap()
}

fn nor() -> FaultFlash {
    device(8, FaultOptions::default())
}

fn read(flash: &mut FaultFlash, segment: u32, offset: u32, len: usize) -> Result<Vec<u8>, FlashError> {
    let mut bytes = vec![0xee; len];
    flash.read(segment, offset, &mut bytes).map(|()| bytes)
}

fn sync(flash: &mut FaultFlash) -> SyncState {
    flash.start_sync().unwrap();
    loop {
        match flash.poll_sync() {
            SyncState::Pending => {}
            state => return state,
        }
    }
}

/// Power goes under a program of 32 bytes of 0x5a, after 19 of them.
fn torn_program(options: FaultOptions, tear: Tear) -> FaultFlash {
    let mut flash = device(8, options);
    flash.cut_after(19);
    assert_eq!(flash.program(1, 64, &[0x5a; 32]), Err(FlashError::Medium));
    assert!(flash.is_cut());
    assert_eq!(flash.program(2, 0, &[0; 8]), Err(FlashError::Medium));
    assert_eq!(flash.erase(2), Err(FlashError::Medium));
    assert_eq!(flash.start_sync(), Err(FlashError::Medium));
    flash.restart(tear);
    assert!(!flash.is_cut());
    flash
}

fn torn_bytes(seed: u64, tear: Tear) -> Vec<u8> {
    let mut flash = torn_program(FaultOptions { seed, ..FaultOptions::default() }, tear);
    read(&mut flash, 1, 64, 32).unwrap()
}

#[test]
fn a_prefix_is_written_up_to_the_cut() {
    let bytes = torn_bytes(0, Tear::Prefix);
    assert_eq!((&bytes[..19], &bytes[19..]), (&[0x5a; 19][..], &[0xff; 13][..]));
}

#[test]
fn torn_bits_are_those_that_were_to_change() {
    let mut kinds = [0; 2];
    for seed in 0..200 {
        let bytes = torn_bytes(seed, Tear::Bits);
        assert_eq!((&bytes[..16], &bytes[24..]), (&[0x5a; 16][..], &[0xff; 8][..]));
        assert!(bytes[16..24].iter().all(|byte| byte & 0x5a == 0x5a), "a bit changed that was not to");
        kinds[0] += u32::from(bytes[16..24] != [0x5a; 8]);
        kinds[1] += u32::from(bytes[16..24] != [0xff; 8]);
    }
    assert!(kinds.iter().all(|&kind| kind > 100), "{kinds:?}");
}

#[test]
fn garbage_is_in_the_torn_unit_only_and_erased_in_part() {
    let mut erased = 0;
    for seed in 0..200 {
        let bytes = torn_bytes(seed, Tear::Garbage);
        assert_eq!((&bytes[..16], &bytes[24..]), (&[0x5a; 16][..], &[0xff; 8][..]));
        erased += bytes[16..24].iter().filter(|&&byte| byte == 0xff).count();
    }
    assert!((400..1200).contains(&erased), "{erased} of 1600");
}

#[test]
fn zeros_fill_the_rest_of_the_call() {
    let bytes = torn_bytes(0, Tear::Zeroed);
    assert_eq!((&bytes[..19], &bytes[19..]), (&[0x5a; 19][..], &[0; 13][..]));
}

#[test]
fn a_decaying_unit_reads_as_meant_until_it_does_not() {
    let mut reads = [0; 12];
    for seed in 0..200 {
        let mut flash = torn_program(FaultOptions { seed, ..FaultOptions::default() }, Tear::Decays);
        let mut stood = 0;
        while read(&mut flash, 1, 80, 8).unwrap() == [0x5a; 8] {
            stood += 1;
        }
        reads[stood] += 1;
        let decayed = read(&mut flash, 1, 80, 8);
        assert_eq!(read(&mut flash, 1, 64, 16).unwrap(), [0x5a; 16]);
        assert_eq!(read(&mut flash, 1, 80, 8), decayed, "garbage stays what it is");
    }
    assert!(reads[0] == 0 && reads[1..9].iter().all(|&count| count > 5), "{reads:?}");
}

#[test]
fn a_decaying_unit_is_garbage_after_the_next_restart() {
    let mut flash = torn_program(FaultOptions::default(), Tear::Decays);
    assert_eq!(read(&mut flash, 1, 80, 8).unwrap(), [0x5a; 8]);
    flash.restart(Tear::Prefix);
    assert_ne!(read(&mut flash, 1, 80, 8).unwrap(), [0x5a; 8]);
}

#[test]
fn an_erase_heals_what_decays() {
    let mut flash = torn_program(FaultOptions { ecc: true, ..FaultOptions::default() }, Tear::Decays);
    flash.erase(1).unwrap();
    flash.program(1, 80, &[7; 8]).unwrap();
    sync(&mut flash);
    flash.restart(Tear::Prefix);
    for _ in 0..20 {
        assert_eq!(read(&mut flash, 1, 80, 8).unwrap(), [7; 8]);
    }
}

#[test]
fn the_last_unit_of_a_call_just_over_decays_unless_it_was_synced() {
    for synced in [false, true] {
        let mut flash = nor();
        flash.cut_after(32 + u64::from(synced));
        assert_eq!(flash.program(1, 64, &[0x5a; 32]).is_ok(), synced);
        assert_eq!(flash.start_sync(), Err(FlashError::Medium));
        flash.restart(Tear::Decays);
        assert_eq!(read(&mut flash, 1, 64, 32).unwrap(), [0x5a; 32]);
        flash.restart(Tear::Decays);
        assert_eq!(read(&mut flash, 1, 64, 24).unwrap(), [0x5a; 24]);
        assert_eq!(read(&mut flash, 1, 88, 8).unwrap() == [0x5a; 8], synced);
    }
}

#[test]
fn a_torn_unit_is_not_programmed_before_an_erase() {
    for tear in [Tear::Prefix, Tear::Bits, Tear::Garbage, Tear::Zeroed, Tear::Decays] {
        let mut flash = torn_program(FaultOptions::default(), tear);
        assert_eq!(flash.program(1, 80, &[0; 8]), Err(FlashError::OutOfBounds));
        assert_eq!(flash.meter().misuses, 1);
        // Zeros were programmed up to the end of the call; otherwise what is behind is erased.
        assert_eq!(flash.program(1, 88, &[0; 8]).is_ok(), tear != Tear::Zeroed);
        flash.erase(1).unwrap();
        flash.program(1, 80, &[0; 8]).unwrap();
    }
}

#[test]
fn with_ecc_the_torn_unit_cannot_be_read_and_others_can() {
    let options = FaultOptions { ecc: true, ..FaultOptions::default() };
    for tear in [Tear::Prefix, Tear::Bits, Tear::Garbage, Tear::Zeroed] {
        let mut flash = torn_program(options, tear);
        assert_eq!(read(&mut flash, 1, 79, 2), Err(FlashError::Medium), "{tear:?}");
        assert_eq!(read(&mut flash, 1, 87, 1), Err(FlashError::Medium));
        assert_eq!(read(&mut flash, 1, 64, 16).unwrap(), [0x5a; 16]);
        assert!(read(&mut flash, 1, 88, 100).is_ok());
        flash.restart(Tear::Prefix);
        assert_eq!(read(&mut flash, 1, 80, 8), Err(FlashError::Medium), "{tear:?}");
    }
    let mut flash = torn_program(options, Tear::Decays);
    assert_eq!(read(&mut flash, 1, 80, 8).unwrap(), [0x5a; 8]);
    assert!((0..10).any(|_| read(&mut flash, 1, 80, 8) == Err(FlashError::Medium)));
}

#[test]
fn a_torn_unit_cannot_be_read_again_after_an_erase_that_power_took_back() {
    let options = FaultOptions { ecc: true, ..FaultOptions::default() };
    let mut taken_back = 0;
    for seed in 0..64 {
        let mut flash = torn_program(options, Tear::Prefix);
        let before = flash.image().to_vec();
        assert_eq!(read(&mut flash, 1, 80, 8), Err(FlashError::Medium));
        flash.erase(1).unwrap();
        flash.restart_with(Tear::Reordered, seed);
        if flash.image() == before {
            taken_back += 1;
            assert_eq!(read(&mut flash, 1, 80, 8), Err(FlashError::Medium), "seed {seed}");
        }
    }
    assert!(taken_back > 0);
}

#[test]
fn a_torn_erase_leaves_a_segment_that_must_be_erased_again() {
    let (mut old, mut clean, mut unstable) = (0, 0, 0);
    for seed in 0..400 {
        let mut flash = device(8, FaultOptions { seed, ..FaultOptions::default() });
        flash.program(3, 0, &[0x11; SIZE]).unwrap();
        sync(&mut flash);
        flash.cut_after(1 + seed % (ERASE_STEPS - 1));
        assert_eq!(flash.erase(3), Err(FlashError::Medium));
        assert_eq!(read(&mut flash, 3, 0, SIZE).unwrap(), [0x11; SIZE]);
        flash.restart(Tear::Prefix);
        let bytes = read(&mut flash, 3, 0, SIZE).unwrap();
        assert!(bytes.iter().all(|byte| byte & 0x11 == 0x11));
        old += u32::from(bytes.contains(&0x11) && bytes.contains(&0xff));
        clean += u32::from(bytes == [0xff; SIZE]);
        for _ in 0..9 {
            read(&mut flash, 3, 8, 8).unwrap();
        }
        unstable += u32::from(read(&mut flash, 3, 0, SIZE).unwrap() != bytes);
        for offset in [0, 512, 1016] {
            assert_eq!(flash.program(3, offset, &[0; 8]), Err(FlashError::OutOfBounds));
        }
        flash.erase(3).unwrap();
        flash.program(3, 0, &[5; 8]).unwrap();
        flash.restart(Tear::Prefix);
        assert_eq!(read(&mut flash, 3, 0, 8).unwrap(), [5; 8]);
    }
    assert!(old > 200 && clean > 50 && unstable == clean, "{old} {clean} {unstable}");
}

#[test]
fn reordered_writes_made_it_segment_by_segment() {
    let (mut whole, mut none, mut partly, mut crossed) = (0, 0, 0, 0);
    for seed in 0..400 {
        let mut flash = device(8, FaultOptions { seed, cached: true, ..FaultOptions::default() });
        flash.program(0, 0, &[1; 64]).unwrap();
        assert_eq!(sync(&mut flash), SyncState::Done);
        flash.program(0, 64, &[2; 64]).unwrap();
        flash.program(5, 0, &[3; 64]).unwrap();
        flash.restart(Tear::Reordered);
        assert_eq!(read(&mut flash, 0, 0, 64).unwrap(), [1; 64], "synced");
        let first = read(&mut flash, 0, 64, 64).unwrap();
        let second = read(&mut flash, 5, 0, 64).unwrap();
        whole += u32::from(first == [2; 64]);
        none += u32::from(first == [0xff; 64]);
        partly += u32::from(first != [2; 64] && first != [0xff; 64]);
        crossed += u32::from(first == [0xff; 64] && second == [3; 64]);
    }
    assert!(whole > 50 && none > 50 && partly > 100 && crossed > 10, "{whole} {none} {partly} {crossed}");
}

#[test]
fn reordered_writes_of_an_ordered_device_are_a_prefix_of_them_all() {
    let (mut lost, mut kept) = (0, 0);
    for seed in 0..400 {
        let mut flash = device(8, FaultOptions { seed, ..FaultOptions::default() });
        flash.program(0, 0, &[1; 64]).unwrap();
        assert_eq!(sync(&mut flash), SyncState::Done);
        flash.program(0, 64, &[2; 64]).unwrap();
        flash.program(5, 0, &[3; 64]).unwrap();
        flash.restart(Tear::Reordered);
        assert_eq!(read(&mut flash, 0, 0, 64).unwrap(), [1; 64]);
        let first = read(&mut flash, 0, 64, 64).unwrap();
        let second = read(&mut flash, 5, 0, 64).unwrap();
        assert!(first == [2; 64] || second == [0xff; 64], "{first:?} {second:?}");
        lost += u32::from(first != [2; 64]);
        kept += u32::from(second == [3; 64]);
    }
    assert!(lost > 100 && kept > 50, "{lost} {kept}");
}

#[test]
fn a_sync_in_flight_covers_only_what_was_before_it() {
    for seed in 0..50 {
        let mut flash = device(8, FaultOptions { seed, cached: true, ..FaultOptions::default() });
        flash.program(0, 0, &[1; 8]).unwrap();
        flash.start_sync().unwrap();
        let mut polls = 0;
        flash.program(0, 8, &[2; 8]).unwrap();
        while flash.poll_sync() == SyncState::Pending {
            polls += 1;
        }
        assert!((1..=4).contains(&polls));
        assert_eq!(flash.poll_sync(), SyncState::Idle);
        flash.restart(Tear::Reordered);
        assert_eq!(read(&mut flash, 0, 0, 8).unwrap(), [1; 8]);
    }
}

#[test]
fn a_lying_sync_keeps_nothing_until_an_honest_one() {
    for cached in [false, true] {
        for tear in Tear::ALL {
            let mut flash = device(8, FaultOptions { cached, ..FaultOptions::default() });
            flash.program(0, 0, &[1; 8]).unwrap();
            assert_eq!(sync(&mut flash), SyncState::Done);
            flash.lie_about_syncs(true);
            flash.program(0, 8, &[2; 8]).unwrap();
            flash.erase(1).unwrap();
            assert_eq!(sync(&mut flash), SyncState::Done);
            assert_eq!(read(&mut flash, 0, 8, 8).unwrap(), [2; 8]);
            flash.restart(tear);
            assert_eq!(read(&mut flash, 0, 0, 16).unwrap(), [[1; 8], [0xff; 8]].concat());
            flash.program(0, 8, &[3; 8]).unwrap();
            assert_eq!(sync(&mut flash), SyncState::Done);
            flash.lie_about_syncs(false);
            assert_eq!(sync(&mut flash), SyncState::Done);
            flash.restart(tear);
            assert_eq!(read(&mut flash, 0, 8, 8).unwrap(), [3; 8]);
        }
    }
}

#[test]
fn failing_syncs_fail_as_often_as_asked() {
    for cached in [false, true] {
        let mut flash = device(8, FaultOptions { cached, ..FaultOptions::default() });
        flash.fail_syncs(2);
        let ends: Vec<_> = (0..3).map(|_| sync(&mut flash)).collect();
        assert_eq!(ends, [SyncState::Failed, SyncState::Failed, SyncState::Done]);
    }
}

#[test]
fn a_stuck_bit_fails_what_wanted_it_otherwise() {
    let mut flash = nor();
    flash.stick(8 * 3, false);
    assert_eq!(read(&mut flash, 0, 3, 1).unwrap(), [0xff], "not before it is written");
    flash.program(0, 0, &[0xfe; 8]).unwrap();
    flash.stick(8 * 11, true);
    assert_eq!(flash.program(0, 8, &[0; 8]), Err(FlashError::Medium));
    assert_eq!(read(&mut flash, 0, 8, 8).unwrap(), [0, 0, 0, 1, 0, 0, 0, 0]);
    assert_eq!(flash.erase(0), Err(FlashError::Medium));
    assert_eq!(read(&mut flash, 0, 3, 1).unwrap(), [0xfe]);
    assert_eq!(flash.program(0, 16, &[0; 8]), Err(FlashError::OutOfBounds), "it is not erased");
    flash.erase(1).unwrap();
}

#[test]
fn a_worn_segment_keeps_what_it_holds() {
    let mut flash = nor();
    flash.program(4, 0, &[9; 8]).unwrap();
    flash.wear_out(4);
    assert_eq!(flash.program(4, 8, &[9; 8]), Err(FlashError::Medium));
    assert_eq!(flash.erase(4), Err(FlashError::Medium));
    flash.restart(Tear::Prefix);
    assert_eq!(flash.erase(4), Err(FlashError::Medium));
    assert_eq!(read(&mut flash, 4, 0, 16).unwrap(), [[9; 8], [0xff; 8]].concat());
    assert_eq!(flash.meter().misuses, 0);
}

#[test]
fn a_program_falls_short_when_asked() {
    let mut flash = nor();
    flash.fail_programs(1, 11);
    flash.program(0, 0, &[1; 8]).unwrap();
    assert_eq!(flash.program(0, 8, &[2; 16]), Err(FlashError::Medium));
    assert_eq!(read(&mut flash, 0, 8, 16).unwrap(), [&[2; 11][..], &[0xff; 5][..]].concat());
    flash.program(0, 24, &[3; 8]).unwrap();
    flash.fail_programs(0, 0);
    assert_eq!(flash.program(0, 32, &[4; 8]), Err(FlashError::Medium));
    assert_eq!(read(&mut flash, 0, 32, 8).unwrap(), [0xff; 8]);
    assert_eq!((flash.meter().misuses, flash.steps()), (0, 8 + 11 + 8));
}

#[test]
fn an_unreadable_segment_and_a_flipped_bit_are_what_they_say() {
    let mut flash = nor();
    flash.fail_reads(2);
    assert_eq!(read(&mut flash, 2, 0, 1), Err(FlashError::Medium));
    flash.program(2, 0, &[0; 8]).unwrap();
    flash.flip(8 * (SIZE as u64 + 5) + 7);
    assert_eq!(read(&mut flash, 1, 5, 1).unwrap(), [0x7f]);
}

#[test]
fn misuses_are_refused_and_counted() {
    let mut flash = nor();
    flash.program(0, 16, &[1; 16]).unwrap();
    let before = flash.image().to_vec();
    let wrong = [(0, 16, 8), (0, 24, 8), (0, 0, 8), (0, 36, 8), (0, 40, 7), (0, 1024, 8), (12, 0, 8)];
    for (segment, offset, len) in wrong {
        assert_eq!(flash.program(segment, offset, &vec![0; len]), Err(FlashError::OutOfBounds));
    }
    assert_eq!(flash.erase(12), Err(FlashError::OutOfBounds));
    assert_eq!(read(&mut flash, 0, 1020, 5), Err(FlashError::OutOfBounds));
    assert_eq!(read(&mut flash, 12, 0, 1), Err(FlashError::OutOfBounds));
    assert_eq!(flash.meter().misuses, wrong.len() as u64 + 3);
    assert_eq!(flash.image(), before);
    assert_eq!(flash.steps(), 16);
}

#[test]
fn a_loaded_image_counts_as_programmed_where_it_is_not_erased() {
    for erased in [0xff, 0, 0x7e] {
        let mut flash = device(8, FaultOptions { erased, ..FaultOptions::default() });
        let mut image = vec![erased; 12 * SIZE];
        image[SIZE + 20] = 1;
        flash.load(&image);
        assert_eq!(flash.image(), image);
        assert_eq!(flash.program(1, 16, &[0; 8]), Err(FlashError::OutOfBounds));
        flash.program(1, 24, &[0; 8]).unwrap();
        flash.program(0, 0, &[0; 8]).unwrap();
        flash.erase(1).unwrap();
        assert_eq!(read(&mut flash, 1, 0, SIZE).unwrap(), [erased; SIZE]);
    }
}

#[test]
fn a_cached_device_has_another_nonce_each_life_and_erases_the_ends_only() {
    let mut flash = device(8, FaultOptions { cached: true, ..FaultOptions::default() });
    assert!(!flash.ordered());
    let first = flash.nonce();
    flash.program(0, 0, &[1; SIZE]).unwrap();
    flash.erase(0).unwrap();
    let wiped = [&[0xff; 64][..], &[1; SIZE - 128], &[0xff; 64]].concat();
    assert_eq!(read(&mut flash, 0, 0, SIZE).unwrap(), wiped);
    flash.program(0, 0, &[2; SIZE]).unwrap();
    flash.restart(Tear::Prefix);
    assert_ne!(flash.nonce(), first);
    assert_eq!((nor().ordered(), nor().nonce()), (true, 0));
}

/// Writes at random as a log would: ascending, erasing what is full, with a sync now and then.
struct Script {
    random: Random,
    ends: [u32; 12],
    unit: u32,
}

impl Script {
    fn new(seed: u64, unit: u32) -> Script {
        Script { random: Random(seed), ends: [0; 12], unit }
    }

    /// Until power goes; true if it did not.
    fn run(&mut self, flash: &mut FaultFlash, calls: u32) -> bool {
        for _ in 0..calls {
            let segment = self.random.below(4) as u32;
            let end = &mut self.ends[segment as usize];
            let len = (self.unit * (1 + self.random.below(6) as u32)).min(SIZE as u32 - *end);
            let choice = self.random.below(12);
            if choice == 0 || len == 0 {
                *end = 0;
                let _ = flash.erase(segment);
            } else if choice < 3 {
                let _ = flash.start_sync();
            } else if choice < 5 {
                flash.poll_sync();
            } else if choice == 5 && self.random.below(4) == 0 {
                flash.flip(self.random.below(8 * 12 * SIZE as u64));
            } else if choice == 6 {
                let _ = flash.read(segment, 0, &mut [0; 100]);
            } else {
                let bytes: Vec<u8> = (0..len).map(|_| self.random.next() as u8).collect();
                let _ = flash.program(segment, *end, &bytes);
                *end += len;
            }
            if flash.is_cut() {
                return false;
            }
        }
        true
    }
}

/// A device with a past: something unsynced, something torn.
fn with_a_past(unit: u32, options: FaultOptions, script: &mut Script) -> FaultFlash {
    let mut flash = device(unit, options);
    script.run(&mut flash, 30);
    flash.cut_after(u64::from(unit) / 2 + 1);
    let _ = flash.program(7, 0, &vec![0x77; unit as usize]);
    flash.restart(Tear::Decays);
    script.run(&mut flash, 10);
    flash
}

fn assert_same(flash: &mut FaultFlash, cut: &mut FaultFlash, what: &str) {
    assert!(flash.image() == cut.image(), "{what}: another image");
    assert_eq!(flash.nonce(), cut.nonce(), "{what}");
    for _ in 0..10 {
        for segment in 0..12 {
            for offset in (0..SIZE as u32).step_by(128) {
                let (own, other) = (read(flash, segment, offset, 128), read(cut, segment, offset, 128));
                assert!(own == other, "{what}: segment {segment}, offset {offset}");
            }
        }
    }
    for segment in 0..12 {
        for offset in (0..SIZE as u32).step_by(geometry_unit(flash)) {
            let unit = vec![0; geometry_unit(flash)];
            let (own, other) = (flash.program(segment, offset, &unit), cut.program(segment, offset, &unit));
            assert_eq!(own, other, "{what}: segment {segment}, offset {offset}");
        }
    }
}

fn geometry_unit(flash: &FaultFlash) -> usize {
    flash.geometry().write_unit as usize
}

fn compare_cuts(unit: u32, options: FaultOptions, prepare: impl Fn(&mut FaultFlash)) -> u64 {
    let mut past = Script::new(options.seed, unit);
    let mut base = with_a_past(unit, options, &mut past);
    prepare(&mut base);
    let first = base.steps();
    let script = || Script { random: Random(options.seed ^ 99), ends: past.ends, unit };
    let mut recorded = base.clone();
    recorded.record();
    assert!(script().run(&mut recorded, 60));
    let tape = recorded.tape();
    assert_eq!((tape.first_step(), tape.steps()), (first, recorded.steps()));
    let mut player = tape.play();
    let mut into = device(4, FaultOptions::default());
    let mut cuts = 0;
    for step in first + 1..=tape.steps() {
        player.seek(step);
        for tear in Tear::ALL {
            let seed = step * 7 + tear as u64;
            let mut flash = base.clone();
            flash.cut_after(step - first);
            assert!(!script().run(&mut flash, 60) && flash.steps() == step);
            flash.restart_with(tear, seed);
            flash.fail_programs(u64::MAX, 0);
            player.cut(tear, seed, &mut into);
            let what = format!("unit {unit}, {options:?}, step {step}, {tear:?}");
            assert_eq!((into.meter().reads, into.steps(), into.is_cut()), (0, 0, false));
            if flash.image() != into.image() || (step + tear as u64) % 23 == 0 {
                assert_same(&mut flash, &mut into, &what);
            }
            cuts += 1;
        }
    }
    cuts
}

#[test]
fn a_cut_from_a_tape_is_what_a_cut_and_a_restart_give() {
    let mut cuts = 0;
    for (unit, seed) in [(1, 1), (8, 2), (32, 3)] {
        for cached in [false, true] {
            let options = FaultOptions { seed, cached, ecc: seed == 2, erased: [0xff, 0][seed as usize % 2] };
            cuts += compare_cuts(unit, options, |_| {});
        }
    }
    assert!(cuts > 10_000, "{cuts}");
}

#[test]
fn a_cut_from_a_tape_keeps_the_faults_of_the_device() {
    let options = FaultOptions { seed: 5, cached: true, ..FaultOptions::default() };
    compare_cuts(16, options, |flash| {
        flash.stick(8 * 100 + 3, true);
        flash.wear_out(2);
        flash.fail_reads(1);
        flash.fail_programs(5, 21);
        flash.lie_about_syncs(true);
    });
    compare_cuts(16, FaultOptions { cached: false, ecc: true, ..options }, |flash| {
        flash.stick(8 * 2000, false);
        flash.fail_programs(3, 21);
        flash.fail_syncs(2);
    });
}

#[test]
fn a_device_made_by_a_cut_is_cut_and_recorded_again() {
    let mut flash = nor();
    flash.record();
    flash.program(0, 0, &[1; 64]).unwrap();
    let tape = flash.tape();
    let mut player = tape.play();
    let mut into = nor();
    player.seek(20);
    player.cut(Tear::Prefix, 1, &mut into);
    into.record();
    into.program(0, 24, &[2; 32]).unwrap();
    into.start_sync().unwrap();
    let second = into.tape();
    let mut again = second.play();
    again.seek(second.steps() - 2);
    again.cut(Tear::Prefix, 2, &mut flash);
    let mut wanted = vec![0xff; 12 * SIZE];
    wanted[..20].fill(1);
    wanted[24..55].fill(2);
    assert_eq!(flash.image(), wanted);
    // What was done to the device since does not show in the next cut.
    into.erase(0).unwrap();
    player.cut(Tear::Prefix, 1, &mut into);
    wanted[24..].fill(0xff);
    assert_eq!(into.image(), wanted);
}

#[test]
fn a_recorded_mount_of_a_torn_device_goes_on_like_the_device() {
    // Decay by reading while recorded must be on the tape.
    let mut flash = torn_program(FaultOptions::default(), Tear::Decays);
    flash.record();
    for _ in 0..20 {
        let _ = read(&mut flash, 1, 64, 32);
    }
    flash.program(2, 0, &[1; 8]).unwrap();
    let tape = flash.tape();
    let mut player = tape.play();
    player.seek(u64::MAX);
    let mut into = nor();
    player.cut(Tear::Prefix, 0, &mut into);
    assert_eq!(into.image(), flash.image());
}

/// A run of many small programs, as group commits make them.
fn busy_tape(geometry: Geometry, options: FaultOptions) -> forebay::flash::fault::Tape {
    let mut flash = FaultFlash::new(geometry, options).unwrap();
    flash.record();
    let mut random = Random(3);
    for round in 0..3 {
        for segment in 0..geometry.segment_count.min(12) {
            let _ = flash.erase(segment);
            let mut at = 0;
            while at + 64 <= geometry.segment_size {
                let bytes = [random.next() as u8 ^ round; 64];
                flash.program(segment, at, &bytes).unwrap();
                at += 64;
                if random.below(3) == 0 {
                    let _ = flash.start_sync();
                    while flash.poll_sync() == SyncState::Pending {}
                }
            }
        }
    }
    flash.tape()
}

fn cuts_per_second(player: &mut Player<'_>, first: u64, last: u64, into: &mut FaultFlash) -> f64 {
    let start = std::time::Instant::now();
    let mut cuts = 0u64;
    let mut bytes = [0; 64];
    for step in first + 1..=last {
        player.seek(step);
        for tear in Tear::ALL {
            player.cut(tear, step, into);
            // What a mount writes at least: a segment of its own.
            let spare = (step % 12) as u32;
            into.erase(spare).unwrap();
            into.program(spare, 0, &[1; 64]).unwrap();
            let _ = into.read(spare, 0, &mut bytes);
            cuts += 1;
        }
    }
    cuts as f64 / start.elapsed().as_secs_f64()
}

#[test]
#[ignore = "a measurement, for a release build"]
fn a_hundred_thousand_cuts_a_second() {
    for (segment_size, segment_count) in [(1024, 12), (4096, 256)] {
        for cached in [false, true] {
            let geometry = Geometry { segment_size, segment_count, write_unit: 8 };
            let tape = busy_tape(geometry, FaultOptions { cached, ..FaultOptions::default() });
            let mut into = FaultFlash::new(geometry, FaultOptions::default()).unwrap();
            let rate = cuts_per_second(&mut tape.play(), tape.first_step(), tape.steps(), &mut into);
            println!("{segment_count} x {segment_size}, cached {cached}: {rate:.0} cuts a second");
            assert!(segment_count > 12 || rate > 100_000.0, "{rate:.0} a second");
        }
    }
}
