//! The whole broker on its own flash: publishes readings into a durable queue, and reads them back.
//!
//! ```text
//! FILE publish     publishes readings until it is ended; says `confirmed N` once reading N is on flash,
//!                  and `full: WHY` when there is no room for more
//! FILE drain       hands out what is in the queue, says `reading N` for each, acknowledges it, and says
//!                  `empty` at the end
//! ```
//! FILE is the flash. At the start it says `mounted N messages`. It speaks over UART0.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use embedded_io::Write;
use forebay::broker::{Broker, MountFailure, Settings};
use forebay::command::{
    Command, Delivery, Message, Offer, Outlet, Publish, QueueOptions, Reply, Subscription,
};
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use forebay::model::key::Key;
use forebay::units::{ConsumerId, Millis, Position, QueueId, Tag};
use forebay_board::{decimal, profile, store, words};
use qemu_mps2_an386::clock::{sleep, Clock};
use qemu_mps2_an386::flash::{HostFlash, SECTOR, SECTORS, WORD};
use qemu_mps2_an386::host;
use qemu_mps2_an386::uart::Uart;
use static_cell::StaticCell;

const BAUD: u32 = 115_200;
const QUEUE: &str = "readings";
/// Readings that are published before one sync covers them.
const BATCH: usize = 4;
/// Readings handed out and not yet acknowledged.
const CREDIT: usize = 8;
const GEOMETRY: Geometry =
    Geometry { segment_size: SECTOR as u32, segment_count: SECTORS as u32, write_unit: WORD as u32 };

type Store = Broker<'static, NorDevice<HostFlash>>;

static BROKER: StaticCell<Result<Store, MountFailure>> = StaticCell::new();

#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    host::exit(false)
}

#[cortex_m_rt::entry]
fn main() -> ! {
    if run().is_none() {
        host::say(b"the firmware stopped: its arguments, its flash or its store are not as they should be\n");
    }
    host::exit(false)
}

fn run() -> Option<()> {
    let mut clock = Clock::start(&mut cortex_m::Peripherals::take()?);
    let mut uart = Uart::new(BAUD);
    let mut line = [0; host::LINE_MAX];
    let (file, mut words) = host::words(&mut line)?;
    let mut flash = NorDevice::new(HostFlash::open(file).ok()?, 0, GEOMETRY)?;
    store::make_if_none(&mut flash, host::random()).ok()?;
    let broker = make(flash)?;
    let mounted = broker.restore().ok()?;
    say(&mut uart, "mounted ", mounted.messages, " messages\n");
    let mut time = Time { clock: &mut clock, from: mounted.last };
    let options = QueueOptions { durable: true, ..QueueOptions::default() };
    let declare = Command::DeclareQueue { name: QUEUE, options };
    let Ok(Reply::Queue { id, .. }) = broker.execute(time.now(), declare, &mut Taken::default()) else {
        return None;
    };
    match words.next()? {
        "publish" => publish(broker, &mut time, &mut uart, id),
        "drain" => drain(broker, &mut time, &mut uart, id),
        _ => None,
    }
}

/// Makes the broker where it stays, with a stack of its own: what that takes is given back before it looks at the
/// flash.
#[inline(never)]
fn make(flash: NorDevice<HostFlash>) -> Option<&'static mut Store> {
    let storage = profile::storage()?;
    BROKER.try_init_with(|| Broker::new(flash, storage, Settings::default()))?.as_mut().ok()
}

/// Log time: goes on from the last that is in the store.
struct Time<'c> {
    clock: &'c mut Clock,
    from: Millis,
}

impl Time<'_> {
    fn now(&mut self) -> Millis {
        self.from.after(self.clock.now_ms())
    }
}

fn publish(broker: &mut Store, time: &mut Time<'_>, uart: &mut Uart, queue: QueueId) -> Option<()> {
    let mut next = 0;
    broker.for_each_queue(&mut |info| {
        if info.id == queue {
            next = info.next.0;
        }
    });
    let mut why = None;
    while why.is_none() {
        let mut confirm_at = Position(0);
        let first = next;
        for _ in 0..BATCH {
            let mut body = [b'.'; 64];
            decimal::write(next, &mut body);
            let message = Message { key: Key::dots(QUEUE.as_bytes()), headers: &[], body: &body };
            let publish = Publish { message, durable: true, ..Publish::default() };
            match broker.execute(time.now(), Command::Publish(publish), &mut Taken::default()) {
                Ok(Reply::Published { confirm_at: at, .. }) => confirm_at = at,
                Ok(_) => return None,
                Err(refusal) => {
                    why = Some(refusal);
                    break;
                }
            }
            next += 1;
        }
        while broker.durable() < confirm_at {
            broker.commit(time.now());
            broker.poll_durable();
            if broker.is_read_only() {
                return None;
            }
        }
        for number in first..next {
            say(uart, "confirmed ", number, "\n");
        }
    }
    let why = why.as_ref().map_or("", words::refusal);
    for text in ["full: ", why, "\n"] {
        uart.write_all(text.as_bytes()).ok()?;
    }
    loop {
        sleep();
    }
}

/// What was handed out in one turn.
#[derive(Default)]
struct Taken {
    tags: [Option<(Tag, u64)>; CREDIT],
    count: usize,
}

impl Outlet for Taken {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        let number = delivery.message.body.split(|&byte| byte == b'.').next().and_then(decimal::read);
        let (Some(tag), Some(slot)) = (delivery.tag, self.tags.get_mut(self.count)) else {
            return Offer::Busy;
        };
        *slot = Some((tag, number.unwrap_or(u64::MAX)));
        self.count += 1;
        Offer::Taken
    }

    fn cancelled(&mut self, _: u64, _: ConsumerId) {}
}

fn drain(broker: &mut Store, time: &mut Time<'_>, uart: &mut Uart, queue: QueueId) -> Option<()> {
    let subscribe =
        Command::Subscribe(Subscription { queue, credit: CREDIT as u32, ..Subscription::default() });
    broker.execute(time.now(), subscribe, &mut Taken::default()).ok()?;
    loop {
        let mut taken = Taken::default();
        broker.pump(time.now(), &mut taken);
        for (tag, number) in taken.tags.into_iter().flatten() {
            say(uart, "reading ", number, "\n");
            broker.execute(time.now(), Command::Ack(tag), &mut Taken::default()).ok()?;
        }
        broker.commit(time.now());
        broker.poll_durable();
        if broker.poll_timeout() <= time.now() {
            broker.handle_timeout(time.now(), &mut Taken::default());
        }
        if taken.count == 0 && broker.info().entries == 0 {
            break;
        }
    }
    broker.close(time.now());
    while !broker.is_closed() {
        broker.poll_durable();
    }
    uart.write_all(b"empty\n").ok()?;
    host::exit(true)
}

fn say(uart: &mut Uart, before: &str, number: u64, after: &str) {
    let mut digits = [0; decimal::DIGITS_MAX];
    for text in [before.as_bytes(), decimal::write(number, &mut digits), after.as_bytes()] {
        // It cannot fail.
        let _ = uart.write_all(text);
    }
}
