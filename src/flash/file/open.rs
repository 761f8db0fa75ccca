//! Opening a store's file or making it, with a word for everything that can be in the way.
//!
//! Making one is all or nothing: where there is no room for the whole of it, or it cannot be synced, what
//! was made is removed again, so that it neither fills the disk nor stands in the way of the next start.
//!
//! On a block device a store begins at its start and may be smaller than the device. One is only made there if the
//! first [`FRONT`] bytes are all zeros or all ones, as on a medium that was cleared or erased: every file system and
//! partition table has something in them. What is behind is not looked at, since that would be all of a large card.

use std::fmt;
use std::fs::File;
use std::io::{Error, ErrorKind};
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::disk::Disk;
use super::{Geometry, PAGE, PAGE_ZEROS};

/// What the first bytes of a segment of a store are.
const MAGIC: &[u8; 4] = b"FBSG";
/// Bytes written or read at once where the whole file is gone through.
const ZEROS: usize = 1 << 16;
/// Bytes at the start of a block device that say whether something is on it.
const FRONT: u64 = 1 << 20;
/// How often a block device is tried to be locked: whatever watches for new devices locks them for a moment.
const LOCK_TRIES: u32 = 20;
const LOCK_PAUSE: Duration = Duration::from_millis(50);

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
    /// A block device that is mounted or that another process uses.
    Taken(PathBuf),
    /// A character device, a pipe or a socket.
    Unfit(PathBuf),
    /// A block device with something else on it.
    NotCleared(PathBuf),
    /// The device is smaller than the store is to be.
    DeviceTooSmall {
        /// The device.
        path: PathBuf,
        /// Its size.
        found_bytes: u64,
        /// The size that was asked for.
        asked_bytes: u64,
    },
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
    Io(PathBuf, Error),
}

impl fmt::Display for FileError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            FileError::InUse(path) => {
                write!(f, "{} is in use by another broker; stop that one, or give this one a store of its own", path.display())
            }
            FileError::Taken(path) => {
                write!(f, "{} is mounted, or another program has it; unmount it, or give this broker a store of its own", path.display())
            }
            FileError::Unfit(path) => {
                write!(f, "{} is neither a file nor a block device; for raw flash (/dev/mtd0) name a file on UBIFS, or its block device (/dev/mtdblock0)", path.display())
            }
            FileError::NotCleared(path) => {
                write!(f, "{} has something on it that is no store, and is left alone; if that is not needed: blkdiscard -z {}", path.display(), path.display())
            }
            FileError::DeviceTooSmall { path, found_bytes, asked_bytes } => {
                write!(f, "{} has {found_bytes} bytes, the store is to have {asked_bytes}; leave store.size out to use all of it", path.display())
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

impl OpenOptions {
    /// The sizes as the log counts them.
    pub(super) fn geometry(self) -> Result<Geometry, FileError> {
        let OpenOptions { size_bytes, segment_size, write_unit } = self;
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
}

/// Opens the file of a store, or makes an empty one.
pub(super) fn open(path: &Path, options: OpenOptions) -> Result<Disk, FileError> {
    options.geometry()?;
    Disk::open(path).map_err(|error| match error.kind() {
        ErrorKind::PermissionDenied | ErrorKind::ReadOnlyFilesystem => FileError::ReadOnly(path.to_owned()),
        ErrorKind::NotFound => FileError::NoDirectory(path.to_owned()),
        ErrorKind::IsADirectory => FileError::NotAStore(path.to_owned()),
        ErrorKind::ResourceBusy => FileError::Taken(path.to_owned()),
        ErrorKind::InvalidInput => FileError::Unfit(path.to_owned()),
        _ => failed(path, options, error),
    })
}

/// Takes the file for this process and gives it its size; true if it is blank.
pub(super) fn prepare(disk: &Disk, path: &Path, options: OpenOptions) -> Result<bool, FileError> {
    let failed = |error| failed(path, options, error);
    lock(disk).map_err(|error| match error.kind() {
        ErrorKind::WouldBlock => FileError::InUse(path.to_owned()),
        _ => failed(error),
    })?;
    let (found_bytes, asked_bytes) = (disk.size_bytes().map_err(failed)?, options.size_bytes);
    let path_buf = || path.to_owned();
    if disk.is_block() {
        if found_bytes < asked_bytes {
            return Err(FileError::DeviceTooSmall { path: path_buf(), found_bytes, asked_bytes });
        }
        return match has_segment(disk, asked_bytes, options.segment_size).map_err(failed)? {
            true => Ok(false),
            false if uniform(disk, FRONT.min(found_bytes)).map_err(failed)?.is_some() => Ok(true),
            false => Err(FileError::NotCleared(path_buf())),
        };
    }
    let is_blank = !has_segment(disk, found_bytes, options.segment_size).map_err(failed)?;
    if !is_blank && found_bytes != asked_bytes {
        return Err(FileError::SizeMismatch { path: path_buf(), found_bytes, asked_bytes });
    }
    if is_blank {
        if uniform(disk, found_bytes).map_err(failed)? != Some(0) {
            return Err(FileError::NotAStore(path_buf()));
        }
        disk.clear().and_then(|()| allocate(disk, path, asked_bytes)).map_err(|error| {
            discard(disk, path);
            failed(error)
        })?;
    }
    Ok(is_blank)
}

/// Locks it. What watches for new block devices holds one for a moment.
fn lock(disk: &Disk) -> std::io::Result<()> {
    for _ in 1..LOCK_TRIES {
        match disk.lock() {
            Err(error) if error.kind() == ErrorKind::WouldBlock && disk.is_block() => {
                std::thread::sleep(LOCK_PAUSE);
            }
            over => return over,
        }
    }
    disk.lock()
}

/// Removes what was made of a store that could not be finished. A file that was there before stays, empty; so does
/// a block device, with zeros in front.
pub(super) fn discard(disk: &Disk, path: &Path) {
    let cleared = if disk.is_block() { disk.write([&PAGE_ZEROS, &[]], 0) } else { disk.clear() };
    let removed = if disk.is_new() { std::fs::remove_file(path) } else { cleared };
    if let Err(error) = removed {
        log::warn!("{} is left behind and should be removed: {error}", path.display());
    }
}

fn failed(path: &Path, options: OpenOptions, error: Error) -> FileError {
    let path = path.to_owned();
    match error.kind() {
        ErrorKind::StorageFull | ErrorKind::QuotaExceeded | ErrorKind::FileTooLarge => {
            FileError::DiskFull { path, size_bytes: options.size_bytes }
        }
        ErrorKind::ReadOnlyFilesystem => FileError::ReadOnly(path),
        _ => FileError::Io(path, error),
    }
}

/// Whether it has a header in front of one of its segments: every store that is not still being made has one.
fn has_segment(disk: &Disk, len: u64, segment_size: u32) -> std::io::Result<bool> {
    let mut unread = None;
    for place in (0..len.saturating_sub(3)).step_by(segment_size as usize) {
        let mut bytes = [0; MAGIC.len()];
        match disk.read(&mut bytes, place) {
            Ok(()) if bytes == *MAGIC => return Ok(true),
            Ok(()) => {}
            // One place that cannot be read does not hide the store in the others.
            Err(error) => unread = Some(error),
        }
    }
    unread.map_or(Ok(false), Err)
}

/// The byte that all of the first bytes are, if that is 0, or 255 as on erased flash; 0 if there are none.
fn uniform(disk: &Disk, len: u64) -> std::io::Result<Option<u8>> {
    let mut bytes = vec![0; ZEROS];
    let mut first = None;
    for place in (0..len).step_by(ZEROS) {
        let there = (len - place).min(ZEROS as u64) as usize;
        let bytes = bytes.get_mut(..there).unwrap_or(&mut []);
        disk.read(bytes, place)?;
        let first = *first.get_or_insert(bytes.first().copied().unwrap_or(0));
        if !matches!(first, 0 | 255) || bytes.iter().any(|&byte| byte != first) {
            return Ok(None);
        }
    }
    Ok(Some(first.unwrap_or(0)))
}

/// Gives the file its size, and makes sure that it is there after a loss of power.
fn allocate(disk: &Disk, path: &Path, size_bytes: u64) -> std::io::Result<()> {
    match disk.allocate(size_bytes) {
        Err(error) if error.kind() == ErrorKind::Unsupported => {
            let zeros = vec![0; ZEROS];
            for place in (0..size_bytes).step_by(ZEROS) {
                let len = (size_bytes - place).min(ZEROS as u64) as usize;
                disk.write([zeros.get(..len).unwrap_or(&[]), &[]], place)?;
            }
        }
        allocated => allocated?,
    }
    disk.sync_all()?;
    let directory = path.parent().filter(|parent| !parent.as_os_str().is_empty());
    File::open(directory.unwrap_or(Path::new("."))).and_then(|parent| parent.sync_all())
}
