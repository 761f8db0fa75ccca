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
use embedded_io::{ErrorType, Read, ReadReady, Write};
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use forebay::leaf::{Leaf, LeafMemory, LeafOptions};
use forebay_board::leaf::{run as run_leaf, Board, Identity, FRAME_MAX};
use forebay_board::store;
use forebay_board::ticks::Ticks;
use nrf52840_hal::gpio::{p0, Level};
use nrf52840_hal::nvmc::Nvmc;
use nrf52840_hal::pac::{CorePeripherals, Peripherals, NVMC, UARTE0};
use nrf52840_hal::uarte::{Baudrate, Error, Parity, Pins, Uarte, UarteRx, UarteTx};
use nrf52840_hal::{Clocks, Rng, Temp};
use static_cell::ConstStaticCell;

const HERTZ: u64 = 64_000_000;
const GEOMETRY: Geometry = Geometry { segment_size: 4096, segment_count: 128, write_unit: 4 };
const SIZE: usize = 4096 * 128;

type Device = NorDevice<Nvmc<NVMC>>;

static MEMORY: ConstStaticCell<LeafMemory<128, 256, FRAME_MAX>> = ConstStaticCell::new(LeafMemory::new());
/// One byte each: the HAL's stream takes no write that does not fill its buffer.
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
    let port = p0::Parts::new(chip.P0);
    let pins = Pins {
        txd: port.p0_06.into_push_pull_output(Level::High).degrade(),
        rxd: port.p0_08.into_floating_input().degrade(),
        cts: None,
        rts: None,
    };
    let serial = Uarte::new(chip.UARTE0, pins, Parity::EXCLUDED, Baudrate::BAUD115200);
    let (tx, rx) = serial.split(SENT.try_take()?, RECEIVED.try_take()?).ok()?;
    let mut line = Line { tx, rx };
    // Safety: flash that the linker places nothing in, taken here only; `Nvmc` writes it by its controller.
    let store = unsafe { slice::from_raw_parts_mut((&raw mut _store).cast::<u8>(), SIZE) };
    let device = NorDevice::new(Nvmc::new(chip.NVMC, store), 0, GEOMETRY)?;
    let seed = Rng::new(chip.RNG).random_u32();
    let identity = Identity { device: "nrf52840", topic: "plant/nrf52840", every_ms: 1000, seed };
    let mut leaf = start(device, identity.options(&["set/nrf52840/every_ms"]))?;
    leaf.restore().ok()?;
    let mut board = Dk { ticks: Ticks::new(DWT::cycle_count()), sensor: Temp::new(chip.TEMP) };
    run_leaf(&mut leaf, &mut line, &mut board, &identity);
    None
}

/// The leaf, not restored yet: what making it takes of the stack is given back before that.
#[inline(never)]
fn start(mut device: Device, options: LeafOptions<'static>) -> Option<Leaf<'static, Device>> {
    store::make_if_none(&mut device, options.seed).ok()?;
    Leaf::new(device, MEMORY.try_take()?.storage(), options).ok()
}

/// The board's own part.
struct Dk {
    ticks: Ticks,
    sensor: Temp,
}

impl Board for Dk {
    fn now_ms(&mut self) -> u64 {
        self.ticks.at(DWT::cycle_count()) / (HERTZ / 1000)
    }

    /// Hundredths of a degree, from 0 on.
    fn value(&mut self) -> u64 {
        (self.sensor.measure().to_num::<i32>() * 100).max(0) as u64
    }
}

/// Both halves of the serial port.
struct Line {
    tx: UarteTx<UARTE0>,
    rx: UarteRx<UARTE0>,
}

impl ErrorType for Line {
    type Error = Error;
}

impl ReadReady for Line {
    fn read_ready(&mut self) -> Result<bool, Error> {
        self.rx.read_ready()
    }
}

impl Read for Line {
    fn read(&mut self, into: &mut [u8]) -> Result<usize, Error> {
        self.rx.read(into)
    }
}

impl Write for Line {
    fn write(&mut self, bytes: &[u8]) -> Result<usize, Error> {
        self.tx.write(bytes)
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.tx.flush()
    }
}
