//! A flash in memory, mapped as the flash of most microcontrollers is: what a call costs here is what the
//! processor does itself. For measurements; it is gone with QEMU.

use core::slice;

use embedded_storage::nor_flash::{ErrorType, NorFlash, ReadNorFlash};

use crate::flash::{checked, FlashError, SECTOR, SIZE, WORD};

extern "C" {
    /// Where it lies; `memory.x` says.
    static mut _flash_in_memory: [u8; SIZE];
}

/// The flash.
pub struct MemoryFlash(&'static mut [u8]);

impl MemoryFlash {
    /// Takes the memory, all erased.
    ///
    /// # Safety
    /// To be called once.
    pub unsafe fn take() -> MemoryFlash {
        // Safety: RAM of the board that the linker places nothing in, and nobody else has.
        let bytes = unsafe { slice::from_raw_parts_mut((&raw mut _flash_in_memory).cast::<u8>(), SIZE) };
        bytes.fill(0xff);
        MemoryFlash(bytes)
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
