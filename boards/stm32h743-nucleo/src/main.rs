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
use forebay::leaf::{Leaf, LeafMemory, LeafOptions};
use forebay_board::leaf::{run as run_leaf, Board, Identity, FRAME_MAX};
use forebay_board::store;
use forebay_board::ticks::Ticks;
use serial::Line;
use static_cell::{ConstStaticCell, StaticCell};
use stm32h7xx_hal::flash::{FlashExt, LockedFlashBank, UnlockedFlashBank};
use stm32h7xx_hal::pac::{CorePeripherals, Peripherals};
use stm32h7xx_hal::prelude::*;
use stm32h7xx_hal::rng::RngCore;

const HERTZ: u32 = 100_000_000;
const GEOMETRY: Geometry = Geometry { segment_size: 128 * 1024, segment_count: 8, write_unit: 32 };

type Device = NorDevice<UnlockedFlashBank<'static>>;

static MEMORY: ConstStaticCell<LeafMemory<8, 256, FRAME_MAX>> = ConstStaticCell::new(LeafMemory::new());
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
    let port = chip.GPIOD.split(ccdr.peripheral.GPIOD);
    let pins = (port.pd8.into_alternate(), port.pd9.into_alternate());
    let serial = chip.USART3.serial(pins, 115_200.bps(), ccdr.peripheral.USART3, &ccdr.clocks).ok()?;
    let mut line = Line::new(serial);
    let bank = BANK.try_init(chip.FLASH.split().1?)?;
    let device = NorDevice::new(bank.unlocked(), 0, GEOMETRY)?;
    let seed: u32 = chip.RNG.constrain(ccdr.peripheral.RNG, &ccdr.clocks).gen().ok()?;
    let identity = Identity { device: "nucleo", topic: "plant/nucleo", every_ms: 1000, seed };
    let mut leaf = start(device, identity.options(&["set/nucleo/every_ms"]))?;
    leaf.restore().ok()?;
    run_leaf(&mut leaf, &mut line, &mut Nucleo { ticks: Ticks::new(DWT::cycle_count()) }, &identity);
    None
}

/// The leaf, not restored yet: what making it takes of the stack is given back before that.
#[inline(never)]
fn start(mut device: Device, options: LeafOptions<'static>) -> Option<Leaf<'static, Device>> {
    store::make_if_none(&mut device, options.seed).ok()?;
    Leaf::new(device, MEMORY.try_take()?.storage(), options).ok()
}

/// The board's own part.
struct Nucleo {
    ticks: Ticks,
}

impl Board for Nucleo {
    fn now_ms(&mut self) -> u64 {
        self.ticks.at(DWT::cycle_count()) / u64::from(HERTZ / 1000)
    }

    /// Seconds since the start.
    fn value(&mut self) -> u64 {
        self.now_ms() / 1000
    }
}
