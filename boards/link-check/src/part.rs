//! The part this would run on: a flash of 1 MiB and a serial port, as registers.
//!
//! Addresses are made up; what matters is that reads and writes cannot be foreseen.

use embedded_storage::nor_flash::{ErrorType, NorFlash, NorFlashError, NorFlashErrorKind, ReadNorFlash};

const DATA: usize = 0x9000_0000;
const CONTROL: usize = 0x4002_2000;
const SERIAL: usize = 0x4000_4400;
/// Bytes of the region.
pub const SIZE: usize = 1 << 20;

/// A byte in, a byte out.
pub struct Port;

impl Port {
    /// The next byte received.
    pub fn read(&mut self) -> u8 {
        // Safety: a device register, always readable.
        unsafe { core::ptr::read_volatile(SERIAL as *const u8) }
    }

    /// Sends a byte.
    pub fn write(&mut self, byte: u8) {
        // Safety: a device register, always writable.
        unsafe { core::ptr::write_volatile((SERIAL + 4) as *mut u8, byte) }
    }
}

/// The flash.
pub struct Part;

/// The controller reported an error.
#[derive(Debug)]
pub struct PartError;

impl NorFlashError for PartError {
    fn kind(&self) -> NorFlashErrorKind {
        NorFlashErrorKind::Other
    }
}

impl ErrorType for Part {
    type Error = PartError;
}

impl ReadNorFlash for Part {
    const READ_SIZE: usize = 1;

    fn read(&mut self, offset: u32, bytes: &mut [u8]) -> Result<(), PartError> {
        let end = (offset as usize).checked_add(bytes.len()).filter(|&end| end <= SIZE);
        end.ok_or(PartError)?;
        for (index, byte) in bytes.iter_mut().enumerate() {
            // Safety: within the mapped region.
            *byte = unsafe { core::ptr::read_volatile((DATA + offset as usize + index) as *const u8) };
        }
        Ok(())
    }

    fn capacity(&self) -> usize {
        SIZE
    }
}

impl NorFlash for Part {
    const WRITE_SIZE: usize = 4;
    const ERASE_SIZE: usize = 4096;

    fn erase(&mut self, from: u32, to: u32) -> Result<(), PartError> {
        command(1, from, to)
    }

    fn write(&mut self, offset: u32, bytes: &[u8]) -> Result<(), PartError> {
        for (index, word) in bytes.chunks_exact(4).enumerate() {
            let word = word.iter().rev().fold(0u32, |sum, &byte| sum << 8 | u32::from(byte));
            command(2, offset.wrapping_add(4 * index as u32), word)?;
        }
        Ok(())
    }
}

fn command(code: u32, first: u32, second: u32) -> Result<(), PartError> {
    let register = |index: usize| CONTROL + 4 * index;
    // Safety: device registers of the flash controller.
    unsafe {
        core::ptr::write_volatile(register(0) as *mut u32, first);
        core::ptr::write_volatile(register(1) as *mut u32, second);
        core::ptr::write_volatile(register(2) as *mut u32, code);
        match core::ptr::read_volatile(register(3) as *const u32) {
            0 => Ok(()),
            _ => Err(PartError),
        }
    }
}
