//! A preallocated file as a device.
//!
//! The file has its full size from the start, so that a full disk is noticed when the store is made and
//! not when it is needed. It is written with positioned writes and made durable with `fdatasync` on
//! a thread of its own, one at a time; a waker tells the event loop when one is over. A failed sync
//! makes the device read-only: the kernel may have marked the lost pages as clean, so another sync
//! would succeed without having written them.
//!
//! - The space is reserved by `fallocate`, not by writing zeros. On ext4 here, 600 times 512 bytes and
//!   `fdatasync` took 145 us each (mean of three) into reserved space and 128 us into written zeros;
//!   only the first lap pays that, and zeros would cost every store a second write of all of it.
//! - A write that begins a page of the page cache fills it up with zeros: the kernel need not read
//!   the page first, and what is behind is not programmed yet.
//! - Erasing wipes the first page and the last, where header and footer are. What is left between
//!   them does not check any more.
//! - An exclusive `flock` keeps a second broker out; it ends with the process.
//! - A write that failed for want of room or because the file system is read-only ends all writing, as a
//!   failed sync does. What the system said is kept for whoever has to explain it ([`Failure`]).

mod disk;
mod open;
#[cfg(test)]
mod tests;

use std::collections::hash_map::RandomState;
use std::fmt;
use std::hash::BuildHasher;
use std::io::Error;
use std::path::Path;
use std::sync::atomic::{AtomicI32, AtomicU8, Ordering};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::io::Errno;

use super::{Flash, FlashError, Geometry, SyncState};
#[cfg(test)]
pub use disk::Call;
use disk::{errno, Disk};
pub use open::{FileError, OpenOptions};

/// Size of a page of the page cache, or a part of it.
const PAGE: u32 = 4096;

/// What ended the writing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Cause {
    /// A sync: what was written since the one before may be lost, and may seem not to be.
    Sync,
    /// A write.
    Write,
    /// A write, because the file system or a quota is full.
    NoRoom,
    /// A write, because the file system takes none.
    ReadOnlyFileSystem,
}

impl fmt::Display for Cause {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Cause::Sync => "sync failed",
            Cause::Write => "write failed",
            Cause::NoRoom => "no room on the file system",
            Cause::ReadOnlyFileSystem => "read-only file system",
        })
    }
}

/// A write or sync that failed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failure {
    /// What failed.
    pub cause: Cause,
    /// What the system says of it.
    pub errno: i32,
}

impl Failure {
    fn of_write(error: &Error) -> Failure {
        let cause = match Errno::from_io_error(error) {
            Some(Errno::NOSPC | Errno::DQUOT) => Cause::NoRoom,
            Some(Errno::ROFS) => Cause::ReadOnlyFileSystem,
            _ => Cause::Write,
        };
        Failure { cause, errno: errno(error) }
    }

    /// What the system says of it, in words.
    pub fn error(&self) -> Error {
        Error::from_raw_os_error(self.errno)
    }
}

const IDLE: u8 = 0;
const PENDING: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;

type Waker = Box<dyn Fn() + Send>;

/// What the device and its syncing thread share.
#[derive(Default)]
struct Shared {
    state: AtomicU8,
    errno: AtomicI32,
    waker: Mutex<Option<Waker>>,
}

/// A store's file.
pub struct FileFlash {
    disk: Arc<Disk>,
    geometry: Geometry,
    shared: Arc<Shared>,
    requests: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    nonce: u32,
    read_only: bool,
    failure: Option<Failure>,
}

impl fmt::Debug for FileFlash {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("FileFlash").field("geometry", &self.geometry).finish_non_exhaustive()
    }
}

impl FileFlash {
    /// Opens the file, or makes it. The second value says that it is blank: format it.
    pub fn open(path: impl AsRef<Path>, options: OpenOptions) -> Result<(FileFlash, bool), FileError> {
        let path = path.as_ref();
        FileFlash::over(open::open(path, options)?, path, options)
    }

    fn over(disk: Disk, path: &Path, options: OpenOptions) -> Result<(FileFlash, bool), FileError> {
        let geometry = options.geometry()?;
        let failed = |error| FileError::Io(path.to_owned(), error);
        let blank = open::prepare(&disk, path, options)?;
        if !blank {
            disk.sync_data().map_err(failed)?;
        }
        let flash = FileFlash::start(disk, geometry).map_err(failed)?;
        Ok((flash, blank))
    }

    /// Removes a store that could not be made, so that nothing of it is in the way of the next start.
    pub fn discard(self, path: impl AsRef<Path>) {
        open::discard(&self.disk, path.as_ref());
    }

    /// Sets what is called, on the syncing thread, whenever a sync is over.
    pub fn set_waker(&mut self, waker: Box<dyn Fn() + Send>) {
        *self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    /// The last write or sync that failed.
    pub fn failure(&self) -> Option<Failure> {
        self.failure
    }

    /// Makes every system call from now on ask this rule: how many bytes it may move, or how it fails.
    #[cfg(test)]
    pub fn obey(&self, rule: impl FnMut(Call, u64, usize) -> std::io::Result<usize> + Send + 'static) {
        self.disk.obey(rule);
    }

    fn start(disk: Disk, geometry: Geometry) -> std::io::Result<FileFlash> {
        let disk = Arc::new(disk);
        let shared = Arc::new(Shared::default());
        let (requests, received) = channel::<()>();
        let (synced, told) = (disk.clone(), shared.clone());
        let thread = std::thread::Builder::new().name("sync".into()).spawn(move || {
            for () in received {
                let outcome = synced.sync_data();
                told.errno.store(outcome.as_ref().err().map_or(0, errno), Ordering::Release);
                told.state.store(if outcome.is_ok() { DONE } else { FAILED }, Ordering::Release);
                if let Some(waker) = &*told.waker.lock().unwrap_or_else(PoisonError::into_inner) {
                    waker();
                }
            }
        })?;
        let (requests, thread) = (Some(requests), Some(thread));
        // The hasher's keys are random: that is all that is wanted of it.
        let nonce = RandomState::new().hash_one(0u8) as u32;
        Ok(FileFlash { disk, geometry, shared, requests, thread, nonce, read_only: false, failure: None })
    }

    fn place(&self, segment: u32, offset: u32, len: usize) -> Result<u64, FlashError> {
        let Geometry { segment_size, segment_count, .. } = self.geometry;
        let inside = segment < segment_count && u64::from(offset) + len as u64 <= u64::from(segment_size);
        let place = u64::from(segment) * u64::from(segment_size) + u64::from(offset);
        inside.then_some(place).ok_or(FlashError::OutOfBounds)
    }

    fn write(&mut self, place: u64, parts: [&[u8]; 2]) -> Result<(), FlashError> {
        if self.read_only {
            return Err(FlashError::ReadOnly);
        }
        let Err(error) = self.disk.write(parts, place) else { return Ok(()) };
        let failure = Failure::of_write(&error);
        self.failure = Some(failure);
        // Another place of the file might take it, another place of the file system would not.
        self.read_only = failure.cause != Cause::Write;
        Err(if self.read_only { FlashError::ReadOnly } else { FlashError::Medium })
    }
}

impl Flash for FileFlash {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let place = self.place(segment, offset, into.len())?;
        self.disk.read(into, place).map_err(|_| FlashError::Medium)
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let place = self.place(segment, offset, bytes.len())?;
        let end = offset + bytes.len() as u32;
        // Only a page this write begins: an earlier one is in the page cache already.
        let begun = end / PAGE * PAGE >= offset;
        let filled = end.next_multiple_of(PAGE).min(self.geometry.segment_size);
        let padding = if begun { (filled - end) as usize } else { 0 };
        self.write(place, [bytes, PAGE_ZEROS.get(..padding).unwrap_or(&[])])
    }

    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        let place = self.place(segment, 0, PAGE as usize)?;
        self.write(place, [&PAGE_ZEROS, &[]])?;
        let last = self.geometry.segment_size.saturating_sub(PAGE);
        let place = self.place(segment, last, PAGE as usize)?;
        self.write(place, [&PAGE_ZEROS, &[]])
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
        let requests = self.requests.as_ref().filter(|_| !self.read_only).ok_or(FlashError::ReadOnly)?;
        self.shared.state.store(PENDING, Ordering::Release);
        requests.send(()).map_err(|_| FlashError::Medium)
    }

    fn poll_sync(&mut self) -> SyncState {
        match self.shared.state.load(Ordering::Acquire) {
            IDLE => SyncState::Idle,
            PENDING => SyncState::Pending,
            over => {
                self.shared.state.store(IDLE, Ordering::Release);
                if over == DONE {
                    return SyncState::Done;
                }
                self.read_only = true;
                let errno = self.shared.errno.load(Ordering::Acquire);
                self.failure = Some(Failure { cause: Cause::Sync, errno });
                SyncState::Failed
            }
        }
    }

    /// After a failed sync the kernel may keep what was lost as if it were written.
    fn forget(&mut self) -> bool {
        self.disk.forget().is_ok()
    }

    fn nonce(&self) -> u32 {
        self.nonce
    }
}

impl Drop for FileFlash {
    fn drop(&mut self) {
        self.requests = None;
        if let Some(thread) = self.thread.take() {
            let _ = thread.join();
        }
    }
}

static PAGE_ZEROS: [u8; PAGE as usize] = [0; PAGE as usize];
