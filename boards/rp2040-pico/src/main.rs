//! A leaf on a Raspberry Pi Pico.
//!
//! GP0 is TX, GP1 is RX, 115,200 baud; its uptime in seconds is what it publishes. The store is the second
//! MiB of the flash. After a panic it starts again: what it had stored is still there.

#![no_std]
#![no_main]

mod flash;
mod serial;

use core::panic::PanicInfo;

use flash::{PicoFlash, PAGE, SECTOR, SIZE};
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use forebay::leaf::{Leaf, LeafMemory, LeafOptions};
use forebay_board::leaf::{run as run_leaf, Board, Identity, FRAME_MAX};
use forebay_board::store;
use rp2040_hal::clocks::init_clocks_and_plls;
use rp2040_hal::fugit::RateExtU32;
use rp2040_hal::gpio::{FunctionUart, Pins};
use rp2040_hal::rosc::RingOscillator;
use rp2040_hal::uart::{DataBits, StopBits, UartConfig, UartPeripheral};
use rp2040_hal::{pac, Clock, Sio, Timer, Watchdog};
use serial::Line;
use static_cell::ConstStaticCell;

/// The chip loads this first; it sets the flash up.
#[unsafe(link_section = ".boot2")]
#[used]
static BOOT2_FIRMWARE: [u8; 256] = rp2040_boot2::BOOT_LOADER_W25Q080;

const CRYSTAL_HERTZ: u32 = 12_000_000;
const BAUD: u32 = 115_200;
const GEOMETRY: Geometry =
    Geometry { segment_size: SECTOR as u32, segment_count: (SIZE / SECTOR) as u32, write_unit: PAGE as u32 };

static MEMORY: ConstStaticCell<LeafMemory<{ SIZE / SECTOR }, PAGE, FRAME_MAX>> =
    ConstStaticCell::new(LeafMemory::new());

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
    let config = UartConfig::new(BAUD.Hz(), DataBits::Eight, None, StopBits::One);
    let port = UartPeripheral::new(chip.UART0, pins, &mut chip.RESETS)
        .enable(config, clocks.peripheral_clock.freq())
        .ok()?;
    let mut line = Line(port);
    // Safety: here only, and the second core is left asleep.
    let device = NorDevice::new(unsafe { PicoFlash::take() }, 0, GEOMETRY)?;
    let seed = seed(chip.ROSC);
    let identity = Identity { device: "pico", topic: "plant/pico", every_ms: 1000, seed };
    let mut leaf = start(device, identity.options(&["set/pico/every_ms"]))?;
    leaf.restore().ok()?;
    run_leaf(&mut leaf, &mut line, &mut Pico { timer }, &identity);
    None
}

/// The leaf, not restored yet: what making it takes of the stack is given back before that.
#[inline(never)]
fn start(
    mut device: NorDevice<PicoFlash>,
    options: LeafOptions<'static>,
) -> Option<Leaf<'static, NorDevice<PicoFlash>>> {
    store::make_if_none(&mut device, options.seed).ok()?;
    Leaf::new(device, MEMORY.try_take()?.storage(), options).ok()
}

/// A number from the jitter of the ring oscillator: another at each boot.
fn seed(oscillator: pac::ROSC) -> u32 {
    let oscillator = RingOscillator::new(oscillator).initialize();
    (0..32).fold(0, |seed, _| {
        cortex_m::asm::delay(1000);
        seed << 1 | u32::from(oscillator.get_random_bit())
    })
}

/// The board's own part.
struct Pico {
    timer: Timer,
}

impl Board for Pico {
    fn now_ms(&mut self) -> u64 {
        self.timer.get_counter().ticks() / 1000
    }

    fn value(&mut self) -> u64 {
        self.now_ms() / 1000
    }
}
