//! A flash in memory, mapped as the flash of most microcontrollers is: what a call costs here is what the
//! processor does itself. For measurements: it survives a reset of the board, and is gone with QEMU.

use core::slice;

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

use crate::flash::{checked, FlashError, SECTOR, SIZE, WORD};

extern "C" {
    /// Where it lies; `memory.x` says.
    static mut _flash_in_memory: [u8; SIZE];
    /// A word behind it: how often this firmware has begun.
    static mut _starts_in_memory: u32;
}

/// The flash.
pub struct MemoryFlash(&'static mut [u8]);

impl MemoryFlash {
    /// Takes the memory, at the first start all erased; and how often the firmware had begun before.
    ///
    /// # Safety
    /// To be called once.
    pub unsafe fn take() -> (MemoryFlash, u32) {
        // Safety: RAM of the board that the linker places nothing in, and nobody else has. It is 0 at first.
        let (bytes, starts) = unsafe {
            let starts = (&raw const _starts_in_memory).read_volatile();
            (&raw mut _starts_in_memory).write_volatile(starts.wrapping_add(1));
            (slice::from_raw_parts_mut((&raw mut _flash_in_memory).cast::<u8>(), SIZE), starts)
        };
        if starts == 0 {
            bytes.fill(0xff);
        }
        (MemoryFlash(bytes), starts)
    }

    fn at(&mut self, place: usize, size: usize) -> Result<&mut [u8], FlashError> {
        self.0.get_mut(place..).and_then(|bytes| bytes.get_mut(..size)).ok_or(FlashError::OutOfBounds)
    }
}

impl ErrorType for MemoryFlash {
    type Error = FlashError;
}

impl ReadNorFlash for MemoryFlash {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), FlashError> {
        let place = checked(offset, bytes.len(), 1)?;
        let from = self.at(place, bytes.len())?;
        bytes.iter_mut().zip(from).for_each(|(to, from)| *to = *from);
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for MemoryFlash {
    const WRITE_SIZE: usize = WORD;
    const ERASE_SIZE: usize = SECTOR;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), FlashError> {
        let size = to.checked_sub(from).ok_or(FlashError::OutOfBounds)? as usize;
        let place = checked(from, size, SECTOR)?;
        self.at(place, size)?.fill(0xff);
        Ok(())
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let place = checked(offset, bytes.len(), WORD)?;
        let to = self.at(place, bytes.len())?;
        if to.iter().any(|&byte| byte != 0xff) {
            return Err(FlashError::NotErased);
        }
        to.iter_mut().zip(bytes).for_each(|(to, from)| *to = *from);
        Ok(())
    }
}
