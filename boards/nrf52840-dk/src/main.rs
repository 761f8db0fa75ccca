//! A leaf on an nRF52840 DK.
//!
//! P0.06 is TXD, P0.08 is RXD, 115,200 baud: the serial port of the debugger on the board. The chip's
//! temperature is what it publishes. The store is the upper half of the flash: words of 4 bytes, pages
//! of 4 KiB. Erasing a page stops the processor for 85 ms (product specification, 4.3.9), so
//! what is received meanwhile is lost and sent again. After a panic it starts again.

#![no_std]
#![no_main]

use core::panic::PanicInfo;
use core::slice;

use cortex_m::peripheral::{DWT, SCB};
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use forebay_board::ticks::Ticks;
use nrf52840_hal::gpio::{p0, Level};
use nrf52840_hal::nvmc::Nvmc;
use nrf52840_hal::pac::{CorePeripherals, Peripherals};
use nrf52840_hal::uarte::{Baudrate, Parity, Pins, Uarte};
use nrf52840_hal::{Clocks, Temp};
use static_cell::ConstStaticCell;

const HERTZ: u64 = 64_000_000;
const GEOMETRY: Geometry = Geometry { segment_size: 4096, segment_count: 128, write_unit: 4 };
const SIZE: usize = 4096 * 128;

/// One byte each: the HAL's stream sends with every write only what fills its buffer.
static SENT: ConstStaticCell<[u8; 1]> = ConstStaticCell::new([0]);
static RECEIVED: ConstStaticCell<[u8; 1]> = ConstStaticCell::new([0]);

extern "C" {
    /// Where the store begins; `memory.x` says.
    static mut _store: [u8; SIZE];
}

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
    let _clocks = Clocks::new(chip.CLOCK).enable_ext_hfosc();
    core.DCB.enable_trace();
    core.DWT.enable_cycle_counter();
    let mut ticks = Ticks::new(DWT::cycle_count());
    let port = p0::Parts::new(chip.P0);
    let pins = Pins {
        txd: port.p0_06.into_push_pull_output(Level::High).degrade(),
        rxd: port.p0_08.into_floating_input().degrade(),
        cts: None,
        rts: None,
    };
    let serial = Uarte::new(chip.UARTE0, pins, Parity::EXCLUDED, Baudrate::BAUD115200);
    let (mut tx, mut rx) = serial.split(SENT.try_take()?, RECEIVED.try_take()?).ok()?;
    // Safety: flash that the linker places nothing in, taken here only; `Nvmc` writes it by its controller.
    let store = unsafe { slice::from_raw_parts_mut((&raw mut _store).cast::<u8>(), SIZE) };
    let device = NorDevice::new(Nvmc::new(chip.NVMC, store), 0, GEOMETRY)?;
    let mut now = || ticks.at(DWT::cycle_count()) / (HERTZ / 1000);
    None
}
