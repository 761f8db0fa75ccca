//! A leaf on a Cortex-M4, linked but not run.
//!
//! Everything a leaf can do is reachable from a byte that the linker cannot foresee. `.ci/leaf-check`
//! builds it, prints the sizes, and fails if a panic or an allocator is in it.
//!
//! Profile: 1 MiB in 128 segments of 8 KiB, write unit 4, messages to 200 bytes, one subscription. What
//! `MEMORY`, `LEAF` and `OUT` take is all the RAM a leaf needs, however many messages wait in it.

#![no_std]
#![no_main]

#[path = "../../link-check/src/part.rs"]
mod part;

use core::panic::PanicInfo;
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use forebay::leaf::{Answer, Event, Inbox, Incoming, Leaf, LeafMemory, LeafOptions, Message, WhenFull};
use forebay::units::Millis;
use part::{Part, Port};
use static_cell::{ConstStaticCell, StaticCell};

/// There is no way here: the check fails if this is ever linked with a caller.
#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// Everything the leaf works in.
static MEMORY: ConstStaticCell<LeafMemory<128, 64, 280>> = ConstStaticCell::new(LeafMemory::new());
/// The leaf itself.
static LEAF: StaticCell<Leaf<'static, NorDevice<Part>>> = StaticCell::new();
/// What goes out.
static OUT: ConstStaticCell<[u8; 280]> = ConstStaticCell::new([0; 280]);

/// Writes what comes to the port.
struct Uart(Port);

impl Inbox for Uart {
    fn deliver(&mut self, message: &Incoming<'_>) -> Answer {
        message.topic.bytes().chain(message.body.iter().copied()).for_each(|byte| self.0.write(byte));
        self.0.write(message.published_ms as u8 ^ u8::from(message.retained) ^ u8::from(message.redelivered));
        match self.0.read() {
            0 => Answer::Done,
            1 => Answer::Never,
            delay_ms => Answer::Later(u32::from(delay_ms)),
        }
    }

    fn event(&mut self, event: Event) {
        self.0.write(match event {
            Event::Up => 1,
            Event::Down => 2,
            Event::Refused(_) => 3,
            Event::Rejected(sequence, _) => sequence as u8,
            Event::NotGranted(index, _) => index as u8,
        });
    }
}

/// Where the processor begins.
#[unsafe(no_mangle)]
pub extern "C" fn reset() -> ! {
    run();
    loop {}
}

fn run() -> Option<()> {
    let mut port = Port;
    let geometry = Geometry { segment_size: 8192, segment_count: 128, write_unit: 4 };
    let mut flash = NorDevice::new(Part, 0, geometry)?;
    if port.read() == 0 {
        Leaf::format(&mut flash, 1, &mut [0; 64]).ok()?;
    }
    let options = LeafOptions {
        device: "leaf",
        seed: u32::from(port.read()),
        subscriptions: &["to/leaf/#"],
        max_message: 200,
        when_full: if port.read() == 0 { WhenFull::DropOldest } else { WhenFull::Refuse },
        ..LeafOptions::default()
    };
    let memory = MEMORY.try_take()?;
    let leaf = LEAF.try_init(Leaf::new(flash, memory.storage(), options).ok()?)?;
    leaf.restore().ok()?;
    let out = OUT.try_take()?;
    let mut uart = Uart(Port);
    let mut now = Millis(0);
    leaf.connect(now);
    let mut buffer = [0u8; 32];
    loop {
        now = now.after(u64::from(port.read()));
        buffer.iter_mut().for_each(|byte| *byte = port.read());
        if port.read() == 0 {
            let topic = core::str::from_utf8(buffer.get(..8)?).ok()?;
            let message = Message {
                topic,
                body: &buffer,
                retain: port.read() == 0,
                priority: port.read(),
                ttl_ms: u32::from(port.read()),
                delay_ms: u32::from(port.read()),
            };
            port.write(leaf.publish(&message, now).is_ok() as u8);
        }
        leaf.handle_input(&buffer, now, &mut uart);
        let count = leaf.poll_output(out, now, &mut uart);
        out.get(..count)?.iter().for_each(|&byte| port.write(byte));
        match port.read() {
            0 => leaf.connect(now),
            1 => leaf.disconnect(&mut uart),
            2 => leaf.pause(port.read() == 0),
            _ => {}
        }
        port.write(leaf.stats().waiting as u8 ^ leaf.poll_timeout().0 as u8);
        port.write(leaf.time_ms(now).unwrap_or(0) as u8);
    }
}
