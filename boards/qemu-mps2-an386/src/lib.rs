//! Forebay's parts for the mps2-an386 as QEMU plays it: a Cortex-M4 at 25 MHz.
//!
//! ```text
//! host     semihosting: files of the host, the command line, the way out      (bkpt 0xAB)
//! flash    1 MiB of NOR, 256 x 4 KiB, in such a file                          over host
//! memory   the same flash in memory, for measurements                         0x2100_0000
//! uart     UART0, a CMSDK APB UART, as an embedded-io stream                  0x4000_4000
//! clock    TIMER0, a CMSDK APB timer, as milliseconds; sleep                  0x4000_0000
//! stack    how deep the stack has been
//! ```
//! All `unsafe` of this board is in these files: the addresses of its registers, and the traps to the host.
//! Interrupts are never taken: they are masked from the start, and only end a sleep.

#![no_std]

pub mod clock;
pub mod flash;
pub mod host;
pub mod memory;
pub mod stack;
pub mod uart;
