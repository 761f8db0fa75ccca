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

use std::collections::hash_map::RandomState;
use std::fmt;
use std::fs::{File, OpenOptions as FileOpenOptions};
use std::hash::BuildHasher;
use std::io::{ErrorKind, IoSlice};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::mpsc::{channel, Sender};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;

use rustix::fs::{fallocate, flock, FallocateFlags, FlockOperation};
use rustix::io::Errno;

use super::{Flash, FlashError, Geometry, SyncState};

/// Size of a page of the page cache, or a part of it.
const PAGE: u32 = 4096;
/// What the first bytes of a segment of a store are.
const MAGIC: &[u8; 4] = b"FBSG";
/// Bytes written or read at once where the whole file is gone through.
const ZEROS: usize = 1 << 16;

/// Sizes of a store in a file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct OpenOptions {
    /// Bytes of the file; a multiple of the segment size.
    pub size_bytes: u64,
    /// Bytes of a segment; a power of two, 4 KiB or more.
    pub segment_size: u32,
    /// Bytes written at once: the sector of the medium.
    pub write_unit: u32,
}

impl Default for OpenOptions {
    fn default() -> Self {
        OpenOptions { size_bytes: 256 << 20, segment_size: 1 << 20, write_unit: 512 }
    }
}

/// Why a file cannot be used as a store.
#[derive(Debug)]
pub enum FileError {
    /// Another process uses it.
    InUse(PathBuf),
    /// It holds something else.
    NotAStore(PathBuf),
    /// It may not be written.
    ReadOnly(PathBuf),
    /// The disk has not enough room for it.
    DiskFull {
        /// The file.
        path: PathBuf,
        /// Its size.
        size_bytes: u64,
    },
    /// It is a store of another size.
    SizeMismatch {
        /// The file.
        path: PathBuf,
        /// Its size.
        found_bytes: u64,
        /// The size that was asked for.
        asked_bytes: u64,
    },
    /// Size, segment size and write unit do not go together.
    BadSizes,
    /// The directory is not there.
    NoDirectory(PathBuf),
    /// Anything else the system says.
    Io(PathBuf, std::io::Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::InUse(path) => {
                write!(f, "{} is in use by another broker; stop that one, or give this one a store of its own", path.display())
            }
            FileError::NotAStore(path) => {
                write!(f, "{} is not a store and is left alone; name another file, or move this one away", path.display())
            }
            FileError::ReadOnly(path) => {
                write!(f, "{} cannot be written; check its owner and mode, and that the file system is not mounted read-only", path.display())
            }
            FileError::DiskFull { path, size_bytes } => {
                write!(f, "there is no room for the {size_bytes} bytes of {}; make room, or configure a smaller store", path.display())
            }
            FileError::SizeMismatch { path, found_bytes, asked_bytes } => {
                write!(f, "{} is a store of {found_bytes} bytes, configured are {asked_bytes}; configure its size, or name another file", path.display())
            }
            FileError::BadSizes => write!(
                f,
                "the size of a store must be a multiple of its segment size, which must be a power of two of 4096 or more and of 8 write units or more"
            ),
            FileError::NoDirectory(path) => {
                write!(f, "the directory of {} is not there; make it, or name another file", path.display())
            }
            FileError::Io(path, error) => write!(f, "{}: {error}; check the medium", path.display()),
        }
    }
}

impl std::error::Error for FileError {}

const IDLE: u8 = 0;
const PENDING: u8 = 1;
const DONE: u8 = 2;
const FAILED: u8 = 3;

type Waker = Box<dyn Fn() + Send>;

/// What the device and its syncing thread share.
#[derive(Default)]
struct Shared {
    state: AtomicU8,
    waker: Mutex<Option<Waker>>,
}

/// A store's file.
pub struct FileFlash {
    file: Arc<File>,
    geometry: Geometry,
    shared: Arc<Shared>,
    requests: Option<Sender<()>>,
    thread: Option<JoinHandle<()>>,
    nonce: u32,
    read_only: bool,
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
        let geometry = geometry(options)?;
        let file = FileOpenOptions::new()
            .read(true)
            .write(true)
            .create(true)
            .truncate(false)
            .open(path)
            .map_err(|error| open_error(path, error))?;
        let failed = |error: std::io::Error| FileError::Io(path.to_owned(), error);
        match flock(&file, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => {}
            Err(Errno::WOULDBLOCK) => return Err(FileError::InUse(path.to_owned())),
            Err(error) => return Err(failed(error.into())),
        }
        let found_bytes = file.metadata().map_err(failed)?.len();
        let blank = is_blank(&file, found_bytes, geometry.segment_size)
            .map_err(failed)?
            .ok_or_else(|| FileError::NotAStore(path.to_owned()))?;
        let asked_bytes = options.size_bytes;
        if blank {
            file.set_len(0).map_err(failed)?;
            allocate(&file, path, asked_bytes)?;
        } else if found_bytes != asked_bytes {
            return Err(FileError::SizeMismatch { path: path.to_owned(), found_bytes, asked_bytes });
        }
        Ok((FileFlash::start(file, geometry).map_err(failed)?, blank))
    }

    /// Sets what is called, on the syncing thread, whenever a sync is over.
    pub fn set_waker(&mut self, waker: Box<dyn Fn() + Send>) {
        *self.shared.waker.lock().unwrap_or_else(PoisonError::into_inner) = Some(waker);
    }

    fn start(file: File, geometry: Geometry) -> std::io::Result<FileFlash> {
        let file = Arc::new(file);
        let shared = Arc::new(Shared::default());
        let (requests, received) = channel::<()>();
        let (synced, told) = (file.clone(), shared.clone());
        let thread = std::thread::Builder::new().name("sync".into()).spawn(move || {
            for () in received {
                let state = if synced.sync_data().is_ok() { DONE } else { FAILED };
                told.state.store(state, Ordering::Release);
                if let Some(waker) = &*told.waker.lock().unwrap_or_else(PoisonError::into_inner) {
                    waker();
                }
            }
        })?;
        let (requests, thread) = (Some(requests), Some(thread));
        // The hasher's keys are random: that is all that is wanted of it.
        let nonce = RandomState::new().hash_one(0u8) as u32;
        Ok(FileFlash { file, geometry, shared, requests, thread, nonce, read_only: false })
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
        let [bytes, padding] = parts;
        let slices = [IoSlice::new(bytes), IoSlice::new(padding)];
        let written = match rustix::io::pwritev(&*self.file, &slices, place) {
            Ok(written) => written,
            Err(Errno::INTR) => 0,
            Err(Errno::NOSPC | Errno::ROFS | Errno::DQUOT) => return Err(FlashError::ReadOnly),
            Err(_) => return Err(FlashError::Medium),
        };
        let mut begin = 0;
        for part in parts {
            let skip = written.saturating_sub(begin).min(part.len());
            let rest = part.get(skip..).unwrap_or(&[]);
            let at = place + (begin + skip) as u64;
            self.file.write_all_at(rest, at).map_err(|_| FlashError::Medium)?;
            begin += part.len();
        }
        Ok(())
    }
}

impl Flash for FileFlash {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let place = self.place(segment, offset, into.len())?;
        self.file.read_exact_at(into, place).map_err(|_| FlashError::Medium)
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
                self.read_only |= over == FAILED;
                if over == DONE {
                    SyncState::Done
                } else {
                    SyncState::Failed
                }
            }
        }
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

fn geometry(options: OpenOptions) -> Result<Geometry, FileError> {
    let OpenOptions { size_bytes, segment_size, write_unit } = options;
    let sound = segment_size.is_power_of_two()
        && segment_size >= PAGE
        && write_unit.is_power_of_two()
        && write_unit <= segment_size / 8
        && size_bytes % u64::from(segment_size) == 0;
    match u32::try_from(size_bytes / u64::from(segment_size.max(1))) {
        Ok(segment_count) if sound => Ok(Geometry { segment_size, segment_count, write_unit }),
        _ => Err(FileError::BadSizes),
    }
}

fn open_error(path: &Path, error: std::io::Error) -> FileError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => FileError::ReadOnly(path),
        ErrorKind::NotFound => FileError::NoDirectory(path),
        ErrorKind::IsADirectory => FileError::NotAStore(path),
        ErrorKind::StorageFull => FileError::DiskFull { path, size_bytes: 0 },
        _ => FileError::Io(path, error),
    }
}

/// Whether nothing was stored yet; none if it is something else. A store has a header in front of one
/// of its segments at least; where none was written yet, everything is zero.
fn is_blank(file: &File, len: u64, segment_size: u32) -> std::io::Result<Option<bool>> {
    for place in (0..len.saturating_sub(3)).step_by(segment_size as usize) {
        let mut bytes = [0; MAGIC.len()];
        file.read_exact_at(&mut bytes, place)?;
        if bytes == *MAGIC {
            return Ok(Some(false));
        }
    }
    let mut bytes = vec![0; ZEROS];
    for place in (0..len).step_by(ZEROS) {
        let there = (len - place).min(ZEROS as u64) as usize;
        let bytes = bytes.get_mut(..there).unwrap_or(&mut []);
        file.read_exact_at(bytes, place)?;
        if bytes.iter().any(|&byte| byte != 0) {
            return Ok(None);
        }
    }
    Ok(Some(true))
}

/// Gives the file its size, and makes sure that it is there after a loss of power.
fn allocate(file: &File, path: &Path, size_bytes: u64) -> Result<(), FileError> {
    let full = || FileError::DiskFull { path: path.to_owned(), size_bytes };
    let failed = |error: std::io::Error| match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => full(),
        _ => FileError::Io(path.to_owned(), error),
    };
    match fallocate(file, FallocateFlags::empty(), 0, size_bytes) {
        Ok(()) => {}
        Err(Errno::OPNOTSUPP | Errno::NOSYS) => {
            let zeros = vec![0; ZEROS];
            for place in (0..size_bytes).step_by(ZEROS) {
                let len = (size_bytes - place).min(ZEROS as u64) as usize;
                file.write_all_at(zeros.get(..len).unwrap_or(&[]), place).map_err(failed)?;
            }
        }
        Err(error) => return Err(failed(error.into())),
    }
    file.sync_all().map_err(failed)?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all()).map_err(failed)
}
