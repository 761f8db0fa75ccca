//! A leaf on a Raspberry Pi Pico.
//!
//! GP0 is TX, GP1 is RX, 115,200 baud; the chip's own temperature is what it publishes. The store is the
//! second MiB of the flash. After a panic it starts again: what it had stored is still there.

#![no_std]
#![no_main]

mod flash;

use core::panic::PanicInfo;

use flash::{PicoFlash, PAGE, SECTOR, SIZE};
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use rp2040_hal::clocks::init_clocks_and_plls;
use rp2040_hal::fugit::RateExtU32;
use rp2040_hal::gpio::{FunctionUart, Pins};
use rp2040_hal::uart::{UartConfig, UartPeripheral};
use rp2040_hal::{pac, Clock, Sio, Timer, Watchdog};

/// The chip loads this first; it sets the flash up.
#[unsafe(link_section = ".boot2")]
#[used]
static BOOT2_FIRMWARE: [u8; 256] = rp2040_boot2::BOOT_LOADER_W25Q080;

const CRYSTAL_HERTZ: u32 = 12_000_000;
const BAUD: u32 = 115_200;
const GEOMETRY: Geometry = Geometry {
    segment_size: SECTOR as u32,
    segment_count: (SIZE / SECTOR) as u32,
    write_unit: PAGE as u32,
};

#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    cortex_m::peripheral::SCB::sys_reset()
}

#[rp2040_hal::entry]
fn main() -> ! {
    run();
    cortex_m::peripheral::SCB::sys_reset()
}

fn run() -> Option<()> {
    let mut chip = pac::Peripherals::take()?;
    let mut watchdog = Watchdog::new(chip.WATCHDOG);
    let clocks = init_clocks_and_plls(
        CRYSTAL_HERTZ,
        chip.XOSC,
        chip.CLOCKS,
        chip.PLL_SYS,
        chip.PLL_USB,
        &mut chip.RESETS,
        &mut watchdog,
    )
    .ok()?;
    let timer = Timer::new(chip.TIMER, &mut chip.RESETS, &clocks);
    let sio = Sio::new(chip.SIO);
    let pins = Pins::new(chip.IO_BANK0, chip.PADS_BANK0, sio.gpio_bank0, &mut chip.RESETS);
    let pins = (pins.gpio0.into_function::<FunctionUart>(), pins.gpio1.into_function::<FunctionUart>());
    let config = UartConfig { baudrate: BAUD.Hz(), ..UartConfig::default() };
    let mut link = UartPeripheral::new(chip.UART0, pins, &mut chip.RESETS)
        .enable(config, clocks.peripheral_clock.freq())
        .ok()?;
    // Safety: here only, and the second core is left asleep.
    let device = NorDevice::new(unsafe { PicoFlash::take() }, 0, GEOMETRY)?;
    let now = || timer.get_counter().ticks() / 1000;
    None
}
