//! The HAL's serial port as an `embedded-io` stream.
//!
//! A byte with an error is left out: the frames on the line have a checksum, and what is missing is sent again.

use core::convert::Infallible;

use embedded_io::{ErrorType, Read, ReadReady, Write};
use rp2040_hal::uart::{Enabled, UartDevice, UartPeripheral, ValidUartPinout};

/// The line.
pub struct Line<D: UartDevice, P: ValidUartPinout<D>>(pub UartPeripheral<Enabled, D, P>);

impl<D: UartDevice, P: ValidUartPinout<D>> ErrorType for Line<D, P> {
    type Error = Infallible;
}

impl<D: UartDevice, P: ValidUartPinout<D>> ReadReady for Line<D, P> {
    fn read_ready(&mut self) -> Result<bool, Infallible> {
        Ok(self.0.uart_is_readable())
    }
}

impl<D: UartDevice, P: ValidUartPinout<D>> Read for Line<D, P> {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Infallible> {
        loop {
            // What was received before an error counts; what was not comes again by itself.
            if let Ok(count) = self.0.read_raw(into) {
                return Ok(count);
            }
        }
    }
}

impl<D: UartDevice, P: ValidUartPinout<D>> Write for Line<D, P> {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Infallible> {
        loop {
            if let Ok(rest) = self.0.write_raw(bytes) {
                return Ok(bytes.len() - rest.len());
            }
        }
    }

    fn flush(&mut self) -> Result<(), Infallible> {
        while self.0.uart_is_busy() {}
        Ok(())
    }
}
