//! A NOR flash that survives the end of QEMU: a file of the host.
//!
//! 256 sectors of 4 KiB, words of 4 bytes, as many a serial NOR and an nRF52840 have it; erased is 0xFF. As
//! flash with an error-correcting code does, it refuses to program a word that is not erased, so whoever
//! programs twice is found out. A file that does not exist yet is made, all erased.
//!
//! What may be in the file if QEMU is killed: each write of up to [`PIECE_BYTES`] is done or not, and an
//! erase may end between two of them, like that of a real part.

use core::ffi::CStr;

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

use crate::host::{File, HostError, Mode};

/// Bytes of the flash.
pub const SIZE: usize = SECTOR * SECTORS;
/// Bytes that are erased at once.
pub const SECTOR: usize = 4096;
/// Sectors.
pub const SECTORS: usize = 256;
/// Bytes that are programmed at once.
pub const WORD: usize = 4;
/// Bytes handed to the host at once.
const PIECE_BYTES: usize = 64;

/// The flash.
#[derive(Debug)]
pub struct HostFlash(File);

/// Why the flash did not do it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum FlashError {
    /// Not whole words or sectors.
    NotAligned,
    /// Beyond the end.
    OutOfBounds,
    /// A word there was programmed since it was erased.
    NotErased,
    /// The host did not read or write its file.
    Host,
}

impl From<HostError> for FlashError {
    fn from(_: HostError) -> FlashError {
        FlashError::Host
    }
}

impl NorFlashError for FlashError {
    fn kind(&self) -> NorFlashErrorKind {
        match self {
            FlashError::NotAligned => NorFlashErrorKind::NotAligned,
            FlashError::OutOfBounds => NorFlashErrorKind::OutOfBounds,
            FlashError::NotErased | FlashError::Host => NorFlashErrorKind::Other,
        }
    }
}

impl HostFlash {
    /// Opens the file, or makes it.
    pub fn open(path: &CStr) -> Result<HostFlash, FlashError> {
        if let Ok(file) = File::open(path, Mode::Existing) {
            if file.size()? == SIZE {
                return Ok(HostFlash(file));
            }
        }
        let mut flash = HostFlash(File::open(path, Mode::New)?);
        flash.fill(0, SIZE)?;
        Ok(flash)
    }

    fn fill(&mut self, from: usize, to: usize) -> Result<(), FlashError> {
        for place in (from..to).step_by(PIECE_BYTES) {
            self.0.write(place, &[0xff; PIECE_BYTES])?;
        }
        Ok(())
    }
}

/// Checks that a range lies inside and on whole units.
pub(crate) fn checked(from: u32, size: usize, unit: usize) -> Result<usize, FlashError> {
    let from = from as usize;
    let end = from.checked_add(size).ok_or(FlashError::OutOfBounds)?;
    if end > SIZE {
        Err(FlashError::OutOfBounds)
    } else if from % unit != 0 || size % unit != 0 {
        Err(FlashError::NotAligned)
    } else {
        Ok(from)
    }
}

impl ErrorType for HostFlash {
    type Error = FlashError;
}

impl ReadNorFlash for HostFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let place = checked(offset, bytes.len(), 1)?;
        if !bytes.is_empty() {
            self.0.read(place, bytes)?;
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for HostFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let size = to.checked_sub(from).ok_or(FlashError::OutOfBounds)? as usize;
        let place = checked(from, size, SECTOR)?;
        self.fill(place, place + size)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let mut place = checked(offset, bytes.len(), WORD)?;
        let mut before = [0; PIECE_BYTES];
        for piece in bytes.chunks(PIECE_BYTES) {
            let before = before.get_mut(..piece.len()).ok_or(FlashError::OutOfBounds)?;
            self.0.read(place, before)?;
            if before.iter().any(|&byte| byte != 0xff) {
                return Err(FlashError::NotErased);
            }
            self.0.write(place, piece)?;
            place += piece.len();
        }
        Ok(())
    }
}
