//! UART0, a CMSDK APB UART, as a byte stream.
//!
//! ```text
//! 0x00 DATA      a byte out or in
//! 0x04 STATE     bit 0: a byte waits to be sent, bit 1: a byte was received
//! 0x08 CTRL      bit 0: send, bit 1: receive, bit 3: interrupt when a byte was received
//! 0x0c INTCLEAR  bit 1: the same interrupt, to be cleared
//! 0x10 BAUDDIV   clock / baud rate, at least 16
//! ```
//! (Arm, "Cortex-M System Design Kit Technical Reference Manual", 4.3.) It holds one byte in each direction, so
//! it has to be emptied often; QEMU waits with the next byte until it is. The interrupt is not taken, it
//! ends a sleep.

use core::convert::Infallible;
use core::ptr;

use embedded_io::{ErrorType, Read, ReadReady, Write, WriteReady};

const BASE: usize = 0x4000_4000;
const DATA: usize = BASE;
const STATE: usize = BASE + 0x04;
const CTRL: usize = BASE + 0x08;
const INTCLEAR: usize = BASE + 0x0c;
const BAUDDIV: usize = BASE + 0x10;

const SENDING: u32 = 1 << 0;
const RECEIVED: u32 = 1 << 1;
/// Send, receive, and an interrupt for the latter.
const ENABLED: u32 = 1 << 0 | 1 << 1 | 1 << 3;

/// The port.
#[derive(Debug)]
pub struct Uart(());

fn read(register: usize) -> u32 {
    // Safety: a register of UART0; reading has no effect on memory.
    unsafe { ptr::read_volatile(register as *const u32) }
}

fn write(register: usize, value: u32) {
    // Safety: a register of UART0; writing has no effect on memory.
    unsafe { ptr::write_volatile(register as *mut u32, value) }
}

impl Uart {
    /// Switches it on, at this rate.
    pub fn new(baud: u32) -> Uart {
        write(BAUDDIV, (crate::clock::HERTZ / baud.max(1)).max(16));
        write(CTRL, ENABLED);
        Uart(())
    }
}

impl ErrorType for Uart {
    type Error = Infallible;
}

impl ReadReady for Uart {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(read(STATE) & RECEIVED != 0)
    }
}

impl WriteReady for Uart {
    fn write_ready(&mut self) -> Result<bool, Infallible> {
        Ok(read(STATE) & SENDING == 0)
    }
}

impl Read for Uart {
    /// Waits for a byte, then takes what there is.
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        while !into.is_empty() && !self.read_ready()? {
            crate::clock::sleep();
        }
        let mut count = 0;
        for byte in into {
            if read(STATE) & RECEIVED == 0 {
                break;
            }
            *byte = read(DATA) as u8;
            write(INTCLEAR, RECEIVED);
            count += 1;
        }
        Ok(count)
    }
}

impl Write for Uart {
    /// Waits until a byte can be sent, then sends what goes.
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        while !bytes.is_empty() && !self.write_ready()? {}
        let mut count = 0;
        for &byte in bytes {
            if read(STATE) & SENDING != 0 {
                break;
            }
            write(DATA, byte.into());
            count += 1;
        }
        Ok(count)
    }

    /// Sends all of it. (The usual one can panic.)
    fn write_all(&mut self, bytes: &[u8]) -> Result<(), Infallible> {
        for &byte in bytes {
            self.flush()?;
            write(DATA, byte.into());
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while !self.write_ready()? {}
        Ok(())
    }
}
