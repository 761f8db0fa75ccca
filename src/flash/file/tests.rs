//! A store's file whose system calls fail as those of a failing medium do.

use std::io::{Error, ErrorKind, Result};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU32, AtomicUsize, Ordering};
use std::sync::{Arc, Mutex};

use super::disk::Disk;
use super::*;

const EIO: i32 = 5;
const ENOSPC: i32 = 28;
const EROFS: i32 = 30;
const EDQUOT: i32 = 122;

const SIZES: OpenOptions = OpenOptions { size_bytes: 128 << 10, segment_size: 16 << 10, write_unit: 512 };

/// A directory of its own, removed at the end.
struct Place(PathBuf);

impl Place {
    fn new() -> Place {
        static NEXT: AtomicUsize = AtomicUsize::new(0);
        let number = NEXT.fetch_add(1, Ordering::Relaxed);
        let path = std::env::temp_dir().join(format!("forebay-file-{}-{number}", std::process::id()));
        std::fs::create_dir_all(&path).unwrap();
        Place(path)
    }

    fn store(&self) -> PathBuf {
        self.0.join("store.fby")
    }

    fn device(&self) -> FileFlash {
        FileFlash::open(self.store(), SIZES).unwrap().0
    }

    /// Makes a store under a rule.
    fn make(
        &self,
        rule: impl FnMut(Call, u64, usize) -> Result<usize> + Send + 'static,
    ) -> std::result::Result<(FileFlash, bool), FileError> {
        let path = self.store();
        let disk = Disk::open(&path).unwrap();
        disk.obey(rule);
        FileFlash::over(disk, &path, SIZES)
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        let _ = std::fs::remove_dir_all(&self.0);
    }
}

fn os(errno: i32) -> Error {
    Error::from_raw_os_error(errno)
}

/// Waits for the sync that was started.
fn synced(device: &mut FileFlash) -> SyncState {
    loop {
        match device.poll_sync() {
            SyncState::Pending => std::thread::yield_now(),
            over => return over,
        }
    }
}

fn bytes_at(path: &Path, place: usize, len: usize) -> Vec<u8> {
    std::fs::read(path).unwrap()[place..place + len].to_vec()
}

#[test]
fn a_failed_sync_ends_all_writing_and_reads_go_on() {
    let place = Place::new();
    let mut device = place.device();
    let syncs = Arc::new(AtomicU32::new(0));
    let counted = syncs.clone();
    device.obey(move |call, _, size| match call {
        Call::Sync if counted.fetch_add(1, Ordering::Relaxed) == 1 => Err(os(EIO)),
        _ => Ok(size),
    });
    device.program(0, 0, &[1; 512]).unwrap();
    device.start_sync().unwrap();
    assert_eq!(synced(&mut device), SyncState::Done);
    device.program(0, 512, &[2; 512]).unwrap();
    device.start_sync().unwrap();
    assert_eq!(synced(&mut device), SyncState::Failed);
    assert_eq!(device.failure(), Some(Failure { cause: Cause::Sync, errno: EIO }));
    assert_eq!(device.poll_sync(), SyncState::Idle);
    for _ in 0..3 {
        assert_eq!(device.start_sync(), Err(FlashError::ReadOnly));
        assert_eq!(device.program(0, 512, &[2; 512]), Err(FlashError::ReadOnly));
        assert_eq!(device.erase(1), Err(FlashError::ReadOnly));
        assert_eq!(device.poll_sync(), SyncState::Idle);
    }
    assert_eq!(syncs.load(Ordering::Relaxed), 2, "no sync is asked for again");
    let mut read = [0; 1024];
    device.read(0, 0, &mut read).unwrap();
    assert_eq!((read[0], read[1023]), (1, 2));
}

#[test]
fn a_full_or_read_only_file_system_ends_all_writing() {
    for (errno, cause) in
        [(ENOSPC, Cause::NoRoom), (EDQUOT, Cause::NoRoom), (EROFS, Cause::ReadOnlyFileSystem)]
    {
        let place = Place::new();
        let mut device = place.device();
        let writes = Arc::new(AtomicU32::new(0));
        let counted = writes.clone();
        device.obey(move |call, _, size| match call {
            Call::Write if counted.fetch_add(1, Ordering::Relaxed) > 0 => Err(os(errno)),
            _ => Ok(size),
        });
        device.program(0, 0, &[1; 512]).unwrap();
        assert_eq!(device.program(0, 512, &[2; 512]), Err(FlashError::ReadOnly));
        assert_eq!(device.failure(), Some(Failure { cause, errno }));
        assert_eq!(device.program(0, 512, &[2; 512]), Err(FlashError::ReadOnly));
        assert_eq!(device.erase(3), Err(FlashError::ReadOnly));
        assert_eq!(device.start_sync(), Err(FlashError::ReadOnly));
        assert_eq!(writes.load(Ordering::Relaxed), 2, "{cause}: nothing is written again");
        device.read(0, 0, &mut [0; 512]).unwrap();
    }
}

#[test]
fn a_place_that_takes_no_writes_does_not_speak_for_the_others() {
    let place = Place::new();
    let mut device = place.device();
    device.obey(|call, at, size| match call {
        Call::Write if at < u64::from(SIZES.segment_size) => Err(os(EIO)),
        _ => Ok(size),
    });
    assert_eq!(device.erase(0), Err(FlashError::Medium));
    assert_eq!(device.failure(), Some(Failure { cause: Cause::Write, errno: EIO }));
    device.erase(1).unwrap();
    device.program(1, 0, &[7; 512]).unwrap();
    device.start_sync().unwrap();
    assert_eq!(synced(&mut device), SyncState::Done);
}

#[test]
fn a_short_write_goes_on_where_it_stopped() {
    for most in [1, 511, 512, 700, 4095] {
        let place = Place::new();
        let mut device = place.device();
        device.obey(move |call, _, size| Ok(if call == Call::Write { size.min(most) } else { size }));
        let content: Vec<u8> = (0..1024).map(|i| (i % 251) as u8 | 1).collect();
        device.program(2, 512, &content).unwrap();
        let begin = 2 * SIZES.segment_size as usize;
        assert_eq!(bytes_at(&place.store(), begin + 512, 1024), content, "{most}");
        // The page is filled up behind it, and nothing is written beyond.
        assert_eq!(bytes_at(&place.store(), begin + 1536, 4096), [0; 4096], "{most}");
    }
}

#[test]
fn an_error_after_a_short_write_is_an_error_and_the_rest_is_not_tried_again() {
    let place = Place::new();
    let mut device = place.device();
    let asked = Arc::new(Mutex::new(Vec::new()));
    let told = asked.clone();
    device.obey(move |call, at, size| {
        if call == Call::Write {
            told.lock().unwrap().push((at, size));
        }
        match (call, at) {
            (Call::Write, 0) => Ok(300),
            (Call::Write, _) => Err(os(EIO)),
            _ => Ok(size),
        }
    });
    assert_eq!(device.program(0, 0, &[9; 4096]), Err(FlashError::Medium));
    assert_eq!(*asked.lock().unwrap(), [(0, 4096), (300, 3796)]);
}

#[test]
fn interrupted_calls_are_made_again() {
    let place = Place::new();
    let mut device = place.device();
    let mut turn = 0;
    device.obey(move |call, _, size| {
        turn += 1;
        match call {
            Call::Read | Call::Write if turn % 2 == 1 => Err(ErrorKind::Interrupted.into()),
            _ => Ok(size.min(1000)),
        }
    });
    device.program(0, 0, &[5; 4096]).unwrap();
    let mut read = [0; 4096];
    device.read(0, 0, &mut read).unwrap();
    assert_eq!(read, [5; 4096]);
}

#[test]
fn a_page_that_cannot_be_read_hides_nothing_else() {
    let place = Place::new();
    let mut device = place.device();
    for segment in 0..4 {
        device.program(segment, 0, &[segment as u8 + 1; 8192]).unwrap();
    }
    let bad = u64::from(SIZES.segment_size) + 4096..u64::from(SIZES.segment_size) + 8192;
    device.obey(move |call, at, size| match call {
        // As the kernel does it: what comes before the page is read, then the error.
        Call::Read if bad.contains(&at) => Err(os(EIO)),
        Call::Read if at < bad.start => Ok(size.min((bad.start - at) as usize)),
        _ => Ok(size),
    });
    assert_eq!(device.read(1, 0, &mut [0; 8192]), Err(FlashError::Medium));
    assert_eq!(device.read(1, 4096, &mut [0; 16]), Err(FlashError::Medium));
    for (segment, offset) in [(0, 0), (0, 4096), (1, 0), (2, 0), (3, 4096)] {
        let mut read = [0; 4096];
        device.read(segment, offset, &mut read).unwrap();
        assert_eq!(read, [segment as u8 + 1; 4096]);
    }
    assert_eq!(device.failure(), None, "a read does not end the writing");
}

#[test]
fn a_store_whose_first_page_cannot_be_read_is_still_one() {
    let place = Place::new();
    let mut device = place.device();
    for segment in [0, 5] {
        device.program(segment, 0, b"FBSG").unwrap();
    }
    drop(device);
    let made = place.make(|call, at, size| match call {
        Call::Read if at < 4096 => Err(os(EIO)),
        _ => Ok(size),
    });
    assert!(matches!(made, Ok((_, false))));
    drop(made);
    // Where nothing says what it is, it is not taken for blank.
    let before = std::fs::read(place.store()).unwrap();
    assert!(matches!(place.make(|_, _, _| Err(os(EIO))), Err(FileError::Io(..))));
    assert_eq!(std::fs::read(place.store()).unwrap(), before);
}

#[test]
fn what_a_killed_process_left_in_the_cache_is_synced_before_a_mount_builds_on_it() {
    let place = Place::new();
    place.device().program(0, 0, b"FBSG").unwrap();
    let syncs = Arc::new(AtomicU32::new(0));
    let counted = syncs.clone();
    let made = place.make(move |call, _, size| {
        counted.fetch_add(u32::from(call == Call::Sync), Ordering::Relaxed);
        Ok(size)
    });
    assert!(matches!(made, Ok((_, false))));
    assert_eq!(syncs.load(Ordering::Relaxed), 1);
    drop(made);
    let made = place.make(|call, _, size| if call == Call::Sync { Err(os(EIO)) } else { Ok(size) });
    assert!(matches!(made, Err(FileError::Io(..))));
    assert!(place.store().exists());
}

#[test]
fn a_store_that_finds_no_room_is_not_left_half_made() {
    // The file system says at once that there is no room, or only while zeros are written, or at the sync.
    type Step = fn(Call, u64, usize) -> Result<usize>;
    let steps: [(Step, bool); 4] = [
        (|call, _, size| if call == Call::Allocate { Err(os(ENOSPC)) } else { Ok(size) }, true),
        (
            |call, at, size| match call {
                Call::Allocate => Err(ErrorKind::Unsupported.into()),
                Call::Write if at >= 65_536 => Err(os(EDQUOT)),
                _ => Ok(size),
            },
            true,
        ),
        (|call, _, size| if call == Call::Sync { Err(os(ENOSPC)) } else { Ok(size) }, true),
        (|call, _, size| if call == Call::Sync { Err(os(EIO)) } else { Ok(size) }, false),
    ];
    for (step, is_full) in steps {
        let place = Place::new();
        let error = place.make(step).unwrap_err();
        let says_full =
            matches!(&error, FileError::DiskFull { size_bytes, .. } if *size_bytes == SIZES.size_bytes);
        assert_eq!(says_full, is_full, "{error}");
        assert!(error.to_string().contains("store.fby"), "{error}");
        assert!(!place.store().exists(), "{error}");
        assert!(matches!(FileFlash::open(place.store(), SIZES), Ok((_, true))), "the next start makes it");
        // A file that somebody put there stays, and takes no room.
        let place = Place::new();
        std::fs::write(place.store(), [0; 8192]).unwrap();
        place.make(step).unwrap_err();
        assert_eq!(std::fs::metadata(place.store()).unwrap().len(), 0);
        assert!(matches!(FileFlash::open(place.store(), SIZES), Ok((_, true))));
    }
}

#[test]
fn where_room_cannot_be_reserved_zeros_are_written() {
    let place = Place::new();
    let made = place.make(|call, _, size| match call {
        Call::Allocate => Err(ErrorKind::Unsupported.into()),
        _ => Ok(size.min(5000)),
    });
    assert!(matches!(made, Ok((_, true))));
    assert_eq!(std::fs::read(place.store()).unwrap(), vec![0; SIZES.size_bytes as usize]);
}

#[test]
fn a_store_that_could_not_be_formatted_is_removed() {
    let place = Place::new();
    let (mut device, _) = FileFlash::open(place.store(), SIZES).unwrap();
    device.program(0, 0, b"FBSG, and then nothing").unwrap();
    device.discard(place.store());
    assert!(!place.store().exists());
}

/// A block device of this content, which is a file that is taken for one.
fn block(place: &Place, content: &[u8]) -> std::result::Result<(FileFlash, bool), FileError> {
    std::fs::write(place.store(), content).unwrap();
    open_block(place)
}

fn open_block(place: &Place) -> std::result::Result<(FileFlash, bool), FileError> {
    let mut disk = Disk::open(&place.store()).unwrap();
    disk.pretend_block();
    disk.obey(|call, _, size| match call {
        Call::Allocate => panic!("room of a block device is not reserved"),
        _ => Ok(size),
    });
    FileFlash::over(disk, &place.store(), SIZES)
}

#[test]
fn a_cleared_or_erased_block_device_is_taken_as_it_is() {
    for blank in [0, 255] {
        let place = Place::new();
        let larger = SIZES.size_bytes as usize + 12_345;
        let (mut device, is_blank) = block(&place, &vec![blank; larger]).unwrap();
        assert!(is_blank);
        device.program(0, 0, b"FBSG").unwrap();
        drop(device);
        assert_eq!(std::fs::metadata(place.store()).unwrap().len(), larger as u64, "it keeps its size");
        assert!(matches!(open_block(&place), Ok((_, false))), "{blank}: the store is found again");
    }
}

#[test]
fn a_block_device_with_something_on_it_is_left_alone() {
    // A file system's header somewhere in front, and flash that is erased in part.
    for (at, byte) in [(0, 7), (1080, 0x53), (100_000, 1), (70_000, 255)] {
        let place = Place::new();
        let mut content = vec![0; SIZES.size_bytes as usize];
        content[at] = byte;
        let error = block(&place, &content).unwrap_err();
        assert!(matches!(error, FileError::NotCleared(_)), "{error}");
        assert!(error.to_string().contains("blkdiscard -z"), "{error}");
        assert_eq!(std::fs::read(place.store()).unwrap(), content);
    }
}

#[test]
fn a_store_is_found_on_a_block_device_whose_front_was_lost() {
    let place = Place::new();
    let mut content = vec![0; SIZES.size_bytes as usize];
    content[3 * SIZES.segment_size as usize..][..4].copy_from_slice(b"FBSG");
    assert!(matches!(block(&place, &content), Ok((_, false))));
}

#[test]
fn a_block_device_that_is_too_small_is_refused() {
    let place = Place::new();
    let content = vec![0; SIZES.size_bytes as usize - 1];
    assert!(matches!(block(&place, &content), Err(FileError::DeviceTooSmall { found_bytes, .. })
        if found_bytes == SIZES.size_bytes - 1));
    assert_eq!(std::fs::read(place.store()).unwrap(), content);
}

#[test]
fn a_block_device_on_which_no_store_could_be_made_is_blank_again() {
    let place = Place::new();
    let (mut device, _) = block(&place, &vec![0; SIZES.size_bytes as usize]).unwrap();
    device.program(0, 0, b"FBSG, and then nothing").unwrap();
    device.discard(place.store());
    assert_eq!(std::fs::read(place.store()).unwrap(), vec![0; SIZES.size_bytes as usize]);
}

#[test]
fn what_is_neither_a_file_nor_a_block_device_is_refused() {
    for path in ["/dev/null", "/dev/zero"] {
        assert!(matches!(FileFlash::open(path, SIZES), Err(FileError::Unfit(_))), "{path}");
    }
}

#[test]
fn what_is_forgotten_is_read_from_the_medium_again() {
    let place = Place::new();
    let mut device = place.device();
    device.program(0, 0, &[1; 512]).unwrap();
    let calls = Arc::new(Mutex::new(Vec::new()));
    let told = calls.clone();
    device.obey(move |call, _, size| {
        told.lock().unwrap().push(call);
        Ok(size)
    });
    assert!(device.forget());
    assert_eq!(*calls.lock().unwrap(), [Call::Forget]);
    // What no sync has written is not lost.
    let mut read = [0; 512];
    device.read(0, 0, &mut read).unwrap();
    assert_eq!(read, [1; 512]);
    device.obey(|_, _, _| Err(os(EIO)));
    assert!(!device.forget(), "reading again tells nothing else");
}
