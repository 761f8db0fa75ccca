//! The second MiB of the Pico's flash: pages of 256 bytes, sectors of 4 KiB.
//!
//! Code runs from the same chip, so while it is written everything else stands still: interrupts are off, and
//! the second core must not run. A page takes 0.4 ms, a sector 45 ms (W25Q16JV data sheet, 9.6).

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};
use rp2040_flash::flash::{flash_range_erase, flash_range_program};

/// Bytes of the store.
pub const SIZE: usize = 1 << 20;
/// Bytes that are erased at once.
pub const SECTOR: usize = 4096;
/// Bytes that are programmed at once.
pub const PAGE: usize = 256;
/// Where it begins in the flash.
const START: u32 = 1 << 20;
/// Where the flash is mapped.
const MAPPED: usize = 0x1000_0000;

/// The flash.
pub struct PicoFlash(());

/// Out of it, or not whole pages or sectors.
#[derive(Clone, Copy, Debug)]
pub struct OutOfBounds;

impl NorFlashError for OutOfBounds {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::OutOfBounds
    }
}

impl PicoFlash {
    /// Takes the flash.
    ///
    /// # Safety
    /// To be called once, and the second core must never be started.
    pub unsafe fn take() -> PicoFlash {
        PicoFlash(())
    }
}

fn checked(from: u32, size: usize, unit: usize) -> Result<u32, OutOfBounds> {
    let whole = from as usize % unit == 0 && size % unit == 0;
    let end = (from as usize).checked_add(size).filter(|&end| end <= SIZE && whole);
    end.map(|_| from).ok_or(OutOfBounds)
}

impl ErrorType for PicoFlash {
    type Error = OutOfBounds;
}

impl ReadNorFlash for PicoFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), OutOfBounds> {
        let place = MAPPED + (START + checked(offset, bytes.len(), 1)?) as usize;
        for (index, byte) in bytes.iter_mut().enumerate() {
            // Safety: inside the mapped flash, and not compiled into anything: it changes.
            *byte = unsafe { core::ptr::read_volatile((place + index) as *const u8) };
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for PicoFlash {
    const WRITE_SIZE: usize = PAGE;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), OutOfBounds> {
        let size = to.checked_sub(from).ok_or(OutOfBounds)?;
        let place = START + checked(from, size as usize, SECTOR)?;
        // Safety: only the store, which holds no code; interrupts are off, and there is one core.
        cortex_m::interrupt::free(|_| unsafe { flash_range_erase(place, size, true) });
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), OutOfBounds> {
        let mut place = START + checked(offset, bytes.len(), PAGE)?;
        let mut page = [0; PAGE];
        for piece in bytes.chunks_exact(PAGE) {
            // The flash cannot be read meanwhile, so it has to come from RAM.
            page.copy_from_slice(piece);
            // Safety: as above.
            cortex_m::interrupt::free(|_| unsafe { flash_range_program(place, &page, true) });
            place += PAGE as u32;
        }
        Ok(())
    }
}
