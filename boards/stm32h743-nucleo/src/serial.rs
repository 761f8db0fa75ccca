//! The HAL's serial port as an `embedded-io` stream.
//!
//! A byte with an error is left out: the frames on the line have a checksum, and what is missing is sent again.

use core::convert::Infallible;

use embedded_io::{ErrorType, Read, ReadReady, Write};
use stm32h7xx_hal::pac::USART3;
use stm32h7xx_hal::prelude::*;
use stm32h7xx_hal::serial::Serial;

/// The line.
pub struct Line {
    port: Serial<USART3>,
    /// A byte that was found when it was asked whether there is one.
    found: Option<u8>,
}

impl Line {
    /// Over this port.
    pub fn new(port: Serial<USART3>) -> Line {
        Line { port, found: None }
    }

    fn next(&mut self) -> Option<u8> {
        self.found.take().or_else(|| self.port.read().ok())
    }
}

impl ErrorType for Line {
    type Error = Infallible;
}

impl ReadReady for Line {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        self.found = self.next();
        Ok(self.found.is_some())
    }
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        let Some(first) = into.first_mut() else { return Ok(0) };
        loop {
            if let Some(byte) = self.next() {
                *first = byte;
                return Ok(1);
            }
        }
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        let Some(&first) = bytes.first() else { return Ok(0) };
        while self.port.write(first).is_err() {}
        Ok(1)
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while self.port.flush().is_err() {}
        Ok(())
    }
}
