//! The few system calls that a store's file is used with, and the one place where tests make them fail.
//!
//! Every call that reaches the kernel first asks [`Disk::allow`] how many bytes it may move. In the
//! product that is all of them, at no cost; a test puts a rule there that counts calls, cuts them
//! short, or answers with the errors of a failing medium.
//!
//! A block device (a partition, a loop device, an mtdblock) is used like a file that has its size already: nothing is
//! reserved or cut off. It is opened with `O_EXCL`, which the kernel refuses for one that is mounted or taken.
//!
//! A call that was interrupted or moved only a part goes on with the rest. One that failed is never
//! made again on the same range: whoever asked decides what becomes of the store.

use std::fs::{File, OpenOptions};
use std::io::{Error, ErrorKind, IoSlice, Result, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt, OpenOptionsExt};
use std::path::Path;
#[cfg(test)]
use std::sync::{Mutex, PoisonError};

use rustix::fs::{fadvise, fallocate, flock, Advice, FallocateFlags, FlockOperation, OFlags};

/// What is asked of the kernel.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Call {
    /// `pread`
    Read,
    /// `pwritev`
    Write,
    /// `fdatasync`, or `fsync` of a store that is being made
    Sync,
    /// `fallocate`
    Allocate,
    /// `posix_fadvise` with `POSIX_FADV_DONTNEED`
    Forget,
}

/// Says how many bytes of a call at a place of the file may be moved, or how it fails.
#[cfg(test)]
pub type Rule = Box<dyn FnMut(Call, u64, usize) -> Result<usize> + Send>;

/// What a path leads to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A file, which can be given a size.
    File,
    /// A block device, which has one.
    Block,
    /// A character device, a pipe, a socket: nothing a store can be on.
    Unfit,
}

/// A file or block device, and whether this process has made it.
pub struct Disk {
    file: File,
    kind: Kind,
    is_new: bool,
    #[cfg(test)]
    rule: Mutex<Option<Rule>>,
}

impl Disk {
    /// Opens a file or block device, or makes a file.
    pub fn open(path: &Path) -> Result<Disk> {
        let mut options = OpenOptions::new();
        options.read(true).write(true);
        // Looked at first: what is opened with O_EXCL and O_CREAT cannot be there, and opening a pipe may wait.
        let kind = kind_of(path);
        let (file, is_new) = match kind {
            Some(Kind::Block) => (options.custom_flags(OFlags::EXCL.bits() as i32).open(path)?, false),
            Some(Kind::Unfit) => return Err(ErrorKind::InvalidInput.into()),
            Some(Kind::File) | None => match options.clone().create_new(true).open(path) {
                Ok(file) => (file, true),
                // A link may lead to a file that is still to be made.
                Err(error) if error.kind() == ErrorKind::AlreadyExists => {
                    (options.create(true).truncate(false).open(path)?, false)
                }
                Err(error) => return Err(error),
            },
        };
        Ok(Disk {
            file,
            kind: kind.unwrap_or(Kind::File),
            is_new,
            #[cfg(test)]
            rule: Mutex::new(None),
        })
    }

    /// It is a block device, which has the size it has.
    pub fn is_block(&self) -> bool {
        self.kind == Kind::Block
    }

    /// It was not there before.
    pub fn is_new(&self) -> bool {
        self.is_new
    }

    /// Locks it for this process; `WouldBlock` if another has it.
    pub fn lock(&self) -> Result<()> {
        Ok(flock(&self.file, FlockOperation::NonBlockingLockExclusive)?)
    }

    /// Its length in bytes.
    pub fn size_bytes(&self) -> Result<u64> {
        // A block device has no length but an end.
        (&self.file).seek(SeekFrom::End(0))
    }

    /// Gives all its room back; a file's alone can be.
    pub fn clear(&self) -> Result<()> {
        self.file.set_len(0)
    }

    /// Reserves room for this many bytes; `Unsupported` where the file system cannot.
    pub fn allocate(&self, size_bytes: u64) -> Result<()> {
        self.allow(Call::Allocate, 0, 0)?;
        Ok(fallocate(&self.file, FallocateFlags::empty(), 0, size_bytes)?)
    }

    /// Reads all of `into`.
    pub fn read(&self, into: &mut [u8], place: u64) -> Result<()> {
        let mut done = 0;
        while let Some(rest) = into.get_mut(done..).filter(|rest| !rest.is_empty()) {
            let place = place + done as u64;
            let most = self.allow(Call::Read, place, rest.len());
            let read =
                most.and_then(|most| self.file.read_at(rest.get_mut(..most).unwrap_or_default(), place));
            match read {
                Ok(0) => return Err(ErrorKind::UnexpectedEof.into()),
                Ok(count) => done += count,
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes one part behind the other.
    pub fn write(&self, parts: [&[u8]; 2], place: u64) -> Result<()> {
        let mut parts = parts;
        let mut place = place;
        while parts.iter().any(|part| !part.is_empty()) {
            let size = parts.iter().map(|part| part.len()).sum();
            let written = self.allow(Call::Write, place, size).and_then(|most| {
                let slices = if most < size { front(parts, most) } else { parts }.map(IoSlice::new);
                Ok(rustix::io::pwritev(&self.file, &slices, place)?)
            });
            match written {
                Ok(0) => return Err(ErrorKind::WriteZero.into()),
                Ok(count) => {
                    place += count as u64;
                    parts = behind(parts, count);
                }
                Err(error) if error.kind() == ErrorKind::Interrupted => {}
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Makes what was written durable.
    pub fn sync_data(&self) -> Result<()> {
        self.allow(Call::Sync, 0, 0)?;
        self.file.sync_data()
    }

    /// Makes what was written and the size durable.
    pub fn sync_all(&self) -> Result<()> {
        self.allow(Call::Sync, 0, 0)?;
        self.file.sync_all()
    }

    /// Makes the next reads ask the medium, and not a page that is kept in memory. A page that is not
    /// written yet stays: sync before.
    pub fn forget(&self) -> Result<()> {
        self.allow(Call::Forget, 0, 0)?;
        Ok(fadvise(&self.file, 0, None, Advice::DontNeed)?)
    }

    #[cfg(not(test))]
    #[inline(always)]
    fn allow(&self, _: Call, _: u64, size: usize) -> Result<usize> {
        Ok(size)
    }

    #[cfg(test)]
    fn allow(&self, call: Call, place: u64, size: usize) -> Result<usize> {
        match &mut *self.rule.lock().unwrap_or_else(PoisonError::into_inner) {
            Some(rule) => rule(call, place, size),
            None => Ok(size),
        }
    }

    /// Takes the file for a block device.
    #[cfg(test)]
    pub fn pretend_block(&mut self) {
        self.kind = Kind::Block;
    }

    /// Makes every call from now on ask this rule.
    #[cfg(test)]
    pub fn obey(&self, rule: impl FnMut(Call, u64, usize) -> Result<usize> + Send + 'static) {
        *self.rule.lock().unwrap_or_else(PoisonError::into_inner) = Some(Box::new(rule));
    }
}

/// What a path leads to, if to anything.
fn kind_of(path: &Path) -> Option<Kind> {
    let found = std::fs::metadata(path).ok()?.file_type();
    let is_unfit = found.is_char_device() || found.is_fifo() || found.is_socket();
    Some(match () {
        () if found.is_block_device() => Kind::Block,
        () if is_unfit => Kind::Unfit,
        // A directory is refused by the system.
        () => Kind::File,
    })
}

/// The first bytes of two parts.
fn front(parts: [&[u8]; 2], count: usize) -> [&[u8]; 2] {
    let [first, second] = parts;
    let (size, rest) = (count.min(first.len()), count.saturating_sub(first.len()));
    [first.get(..size).unwrap_or_default(), second.get(..rest).unwrap_or_default()]
}

/// What follows the first bytes of two parts.
fn behind(parts: [&[u8]; 2], count: usize) -> [&[u8]; 2] {
    let [first, second] = parts;
    let (size, rest) = (count.min(first.len()), count.saturating_sub(first.len()));
    [first.get(size..).unwrap_or_default(), second.get(rest..).unwrap_or_default()]
}

/// The number by which the system names an error; 0 if it has none.
pub fn errno(error: &Error) -> i32 {
    error.raw_os_error().unwrap_or(0)
}
