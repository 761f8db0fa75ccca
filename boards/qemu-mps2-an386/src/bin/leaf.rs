//! A leaf: readings into its own flash, and over the UART to a gateway whenever there is one.
//!
//! ```text
//! FILE DEVICE EVERY_MS      FILE is the flash, DEVICE its name, a reading comes every so many milliseconds
//! ```
//! On the terminal, not the UART, it says `mounted N` at the start, `stored N` when reading N is on flash, and
//! `confirmed N` when the gateway has everything up to it. Its topic is `plant/DEVICE`.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m::peripheral::Peripherals;
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use forebay::leaf::{Leaf, LeafMemory};
use forebay_board::leaf::{run, Board, Identity, FRAME_MAX};
use forebay_board::text::Text;
use forebay_board::{decimal, store};
use qemu_mps2_an386::clock::{sleep, Clock};
use qemu_mps2_an386::flash::{HostFlash, SECTOR, SECTORS, WORD};
use qemu_mps2_an386::host;
use qemu_mps2_an386::uart::Uart;
use static_cell::ConstStaticCell;

const BAUD: u32 = 115_200;
const TAIL: usize = 256;
const GEOMETRY: Geometry =
    Geometry { segment_size: SECTOR as u32, segment_count: SECTORS as u32, write_unit: WORD as u32 };

static MEMORY: ConstStaticCell<LeafMemory<SECTORS, TAIL, FRAME_MAX>> =
    ConstStaticCell::new(LeafMemory::new());

#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    host::exit(false)
}

#[cortex_m_rt::entry]
fn main() -> ! {
    start();
    host::say(b"the firmware stopped: its arguments, its flash or its store are not as they should be\n");
    host::exit(false)
}

fn start() -> Option<()> {
    let clock = Clock::start(&mut Peripherals::take()?);
    let mut uart = Uart::new(BAUD);
    let mut line = [0; host::LINE_MAX];
    let (file, mut words) = host::words(&mut line)?;
    let device = words.next()?;
    let every_ms = words.next().map(str::as_bytes).and_then(decimal::read)?;
    let mut flash = NorDevice::new(HostFlash::open(file).ok()?, 0, GEOMETRY)?;
    store::make_if_none(&mut flash, host::random()).ok()?;
    let (mut topic, mut wish) = ([0; 80], [0; 80]);
    let topic = Text::new(&mut topic).put(b"plant/").put(device.as_bytes()).done();
    let wish = Text::new(&mut wish).put(b"set/").put(device.as_bytes()).put(b"/every_ms").done();
    let topic = core::str::from_utf8(topic).ok()?;
    let subscriptions = [core::str::from_utf8(wish).ok()?];
    let identity = Identity { device, topic, every_ms, seed: host::random() };
    let memory = MEMORY.try_take()?;
    let mut leaf = Leaf::new(flash, memory.storage(), identity.options(&subscriptions)).ok()?;
    leaf.restore().ok()?;
    let mut board = Mps2 { clock };
    tell(b"mounted ", leaf.stats().newest);
    run(&mut leaf, &mut uart, &mut board, &identity);
    None
}

/// The board's own part.
struct Mps2 {
    clock: Clock,
}

impl Board for Mps2 {
    fn now_ms(&mut self) -> u64 {
        self.clock.now_ms()
    }

    fn value(&mut self) -> u64 {
        self.clock.ticks()
    }

    fn idle(&mut self) {
        sleep();
    }

    fn stored(&mut self, sequence: u64) {
        tell(b"stored ", sequence);
    }

    fn confirmed(&mut self, sequence: u64) {
        tell(b"confirmed ", sequence);
    }
}

fn tell(what: &[u8], number: u64) {
    host::say(Text::new(&mut [0; 40]).put(what).number(number).put(b"\n").done());
}
