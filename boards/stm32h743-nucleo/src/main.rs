//! A leaf on a NUCLEO-H743ZI2.
//!
//! PD8 is TX, PD9 is RX, 115,200 baud: the serial port of the debugger on the board. What it publishes is its
//! uptime. The store is bank 2 of the flash: words of 32 bytes with ECC, sectors of 128 KiB. Code
//! runs from bank 1 and goes on while bank 2 is erased. After a panic it starts again.

#![no_std]
#![no_main]

mod serial;

use core::panic::PanicInfo;

use cortex_m::peripheral::{DWT, SCB};
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use forebay_board::ticks::Ticks;
use serial::Link;
use static_cell::StaticCell;
use stm32h7xx_hal::flash::{FlashExt, LockedFlashBank};
use stm32h7xx_hal::pac::{CorePeripherals, Peripherals};
use stm32h7xx_hal::prelude::*;

const HERTZ: u32 = 100_000_000;
const GEOMETRY: Geometry = Geometry { segment_size: 128 * 1024, segment_count: 8, write_unit: 32 };

static BANK: StaticCell<LockedFlashBank> = StaticCell::new();

#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    SCB::sys_reset()
}

#[cortex_m_rt::entry]
fn main() -> ! {
    run();
    SCB::sys_reset()
}

fn run() -> Option<()> {
    let (chip, mut core) = (Peripherals::take()?, CorePeripherals::take()?);
    let power = chip.PWR.constrain().freeze();
    let ccdr = chip.RCC.constrain().sys_ck(HERTZ.Hz()).freeze(power, &chip.SYSCFG);
    core.DCB.enable_trace();
    DWT::unlock();
    core.DWT.enable_cycle_counter();
    let mut ticks = Ticks::new(DWT::cycle_count());
    let port = chip.GPIOD.split(ccdr.peripheral.GPIOD);
    let pins = (port.pd8.into_alternate(), port.pd9.into_alternate());
    let serial = chip.USART3.serial(pins, 115_200.bps(), ccdr.peripheral.USART3, &ccdr.clocks).ok()?;
    let mut link = Link::new(serial);
    let bank = BANK.try_init(chip.FLASH.split().1?)?;
    let device = NorDevice::new(bank.unlocked(), 0, GEOMETRY)?;
    let mut now = || ticks.at(DWT::cycle_count()) / u64::from(HERTZ / 1000);
    None
}
