//! A store that is only looked at: its file, a partition, or the image of a whole card.
//!
//! For whoever pulls a card out of a dead device. Nothing is ever written, whatever the caller
//! does: the file is opened for reading, and the device refuses to program and to erase. A store
//! need not begin where its medium does, nor be there as a whole:
//! ```text
//! card      | partition table | file system ... | segment 0 | segment 1 | ... | seg
//!                                                 ^ begin                         ^ the image ends early
//! ```
//! - What lies outside of the image cannot be read; everything else can.
//! - Where the medium fails, it is read again sector by sector, and only the sectors that fail are
//!   lost: they read as zeros, which no checksum takes for a record.
//! - A shared `flock` keeps a broker from starting meanwhile, and is refused while one runs. Where
//!   the file system has no locks, it is read without.
//!
//! Limits: [`SECTOR`], what is lost where the medium fails.

use std::cell::RefCell;
use std::collections::BTreeSet;
use std::fs::File;
use std::io::{Error, ErrorKind, Seek, SeekFrom};
use std::os::unix::fs::{FileExt, FileTypeExt};
use std::path::Path;
use std::rc::Rc;

use rustix::fs::{flock, FlockOperation};
use rustix::io::Errno;

use super::{Flash, FlashError, Geometry, SyncState};

/// Bytes that are read at once where a larger read failed.
pub const SECTOR: usize = 512;

/// Why there is nothing to look at.
#[derive(Debug)]
pub enum ImageError {
    /// A broker runs on it.
    InUse,
    /// A directory, a pipe or a socket.
    Unfit,
    /// What the system says.
    Io(Error),
}

/// Called with the bytes of every read.
pub type Watcher = Rc<dyn Fn(u64)>;

/// A file or block device, opened for reading. Copies share what they know of it.
#[derive(Clone)]
pub struct Image {
    file: Rc<File>,
    size_bytes: u64,
    bad_sectors: Rc<RefCell<BTreeSet<u64>>>,
    watcher: Option<Watcher>,
}

impl std::fmt::Debug for Image {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Image").field("size_bytes", &self.size_bytes).finish_non_exhaustive()
    }
}

impl Image {
    /// Opens it, if no broker runs on it.
    pub fn open(path: &Path) -> Result<Image, ImageError> {
        // Looked at first: opening a pipe would wait for somebody to write into it.
        let kind = std::fs::metadata(path).map_err(ImageError::Io)?.file_type();
        if kind.is_dir() || kind.is_fifo() || kind.is_socket() {
            return Err(ImageError::Unfit);
        }
        let mut file = File::open(path).map_err(ImageError::Io)?;
        if flock(&file, FlockOperation::NonBlockingLockShared) == Err(Errno::WOULDBLOCK) {
            return Err(ImageError::InUse);
        }
        // A block device has no length but an end.
        let size_bytes = file.seek(SeekFrom::End(0)).map_err(ImageError::Io)?;
        Ok(Image { file: Rc::new(file), size_bytes, bad_sectors: Rc::default(), watcher: None })
    }

    /// Sets what is told of every read.
    pub fn set_watcher(&mut self, watcher: Watcher) {
        self.watcher = Some(watcher);
    }

    /// Bytes there are.
    pub fn size_bytes(&self) -> u64 {
        self.size_bytes
    }

    /// Sectors that were tried and could not be read.
    pub fn bad_sectors(&self) -> u64 {
        self.bad_sectors.borrow().len() as u64
    }

    /// Bytes of a store that begins there which are not in the image.
    pub fn missing_of(&self, begin: i64, size_bytes: u64) -> u64 {
        let before = begin.saturating_neg().max(0).unsigned_abs();
        let end = u64::try_from(begin.saturating_add_unsigned(size_bytes)).unwrap_or(0);
        before.saturating_add(end.saturating_sub(self.size_bytes)).min(size_bytes)
    }

    /// The store that begins at a byte of this image, or before it.
    pub fn device(&self, begin: i64, geometry: Geometry) -> ImageFlash {
        ImageFlash { image: self.clone(), begin, geometry }
    }

    /// Reads what can be read at a place, zeros for the rest; false if that is nothing.
    pub fn read(&self, place: i64, into: &mut [u8]) -> bool {
        if let Some(watcher) = &self.watcher {
            watcher(into.len() as u64);
        }
        let before = usize::try_from(place.saturating_neg()).unwrap_or(0).min(into.len());
        let (outside, inside) = into.split_at_mut(before);
        outside.fill(0);
        let Ok(start) = u64::try_from(place.saturating_add(before as i64)) else { return false };
        let there = self.size_bytes.saturating_sub(start).min(inside.len() as u64) as usize;
        let (inside, outside) = inside.split_at_mut(there);
        outside.fill(0);
        if inside.is_empty() {
            return false;
        }
        self.file.read_exact_at(inside, start).is_ok() || self.read_sectors(start, inside)
    }

    /// Reads sector by sector; false if every one of them fails.
    fn read_sectors(&self, start: u64, into: &mut [u8]) -> bool {
        let mut place = start;
        let mut rest = into;
        let mut is_any = false;
        while !rest.is_empty() {
            let size = (SECTOR - place as usize % SECTOR).min(rest.len());
            let (sector, behind) = rest.split_at_mut(size);
            match self.file.read_exact_at(sector, place) {
                Ok(()) => is_any = true,
                Err(error) => {
                    sector.fill(0);
                    // An end that moved is no defect of the medium.
                    if error.kind() != ErrorKind::UnexpectedEof {
                        self.bad_sectors.borrow_mut().insert(place / SECTOR as u64);
                    }
                }
            }
            place += size as u64;
            rest = behind;
        }
        is_any
    }
}

/// A store in an image, as a device that cannot be written.
#[derive(Clone, Debug)]
pub struct ImageFlash {
    image: Image,
    begin: i64,
    geometry: Geometry,
}

impl Flash for ImageFlash {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let Geometry { segment_size, segment_count, .. } = self.geometry;
        if segment >= segment_count || u64::from(offset) + into.len() as u64 > u64::from(segment_size) {
            return Err(FlashError::OutOfBounds);
        }
        let place = i64::from(segment) * i64::from(segment_size) + i64::from(offset);
        match self.image.read(self.begin.saturating_add(place), into) {
            true => Ok(()),
            false => Err(FlashError::Medium),
        }
    }

    fn program(&mut self, _: u32, _: u32, _: &[u8]) -> Result<(), FlashError> {
        Err(FlashError::ReadOnly)
    }

    fn erase(&mut self, _: u32) -> Result<(), FlashError> {
        Err(FlashError::ReadOnly)
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
        Err(FlashError::ReadOnly)
    }

    fn poll_sync(&mut self) -> SyncState {
        SyncState::Idle
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_outside_of_the_image_reads_as_zeros_or_not_at_all() {
        let path = std::env::temp_dir().join(format!("forebay-image-{}", std::process::id()));
        std::fs::write(&path, [7; 6000]).unwrap();
        let image = Image::open(&path).unwrap();
        std::fs::remove_file(&path).unwrap();
        let geometry = Geometry { segment_size: 4096, segment_count: 8, write_unit: 4 };
        let mut into = [1; 10];
        let mut late = image.device(-4, geometry);
        assert_eq!(late.read(0, 0, &mut into), Ok(()));
        assert_eq!(into, [0, 0, 0, 0, 7, 7, 7, 7, 7, 7]);
        let mut device = image.device(0, geometry);
        assert_eq!(device.read(1, 1900, &mut into), Ok(()));
        assert_eq!(into, [7, 7, 7, 7, 0, 0, 0, 0, 0, 0]);
        assert_eq!(device.read(2, 0, &mut into), Err(FlashError::Medium));
        assert_eq!(device.read(8, 0, &mut into), Err(FlashError::OutOfBounds));
        assert_eq!(device.program(0, 0, &into), Err(FlashError::ReadOnly));
        assert_eq!((image.size_bytes(), image.bad_sectors()), (6000, 0));
    }

    #[test]
    fn a_directory_is_refused_and_so_is_a_file_that_a_broker_has() {
        assert!(matches!(Image::open(&std::env::temp_dir()), Err(ImageError::Unfit)));
        let path = std::env::temp_dir().join(format!("forebay-locked-{}", std::process::id()));
        let file = File::create(&path).unwrap();
        flock(&file, FlockOperation::LockExclusive).unwrap();
        assert!(matches!(Image::open(&path), Err(ImageError::InUse)));
        drop(file);
        assert!(Image::open(&path).is_ok());
        std::fs::remove_file(&path).unwrap();
    }
}
