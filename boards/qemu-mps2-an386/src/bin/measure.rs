//! What the broker takes on a Cortex-M: memory, stack, instructions. Over UART0, a table.
//!
//! To be run with `-icount shift=0`: QEMU then lets a nanosecond pass with each instruction, so a timer of
//! 25 MHz counts them in forties; thousands of messages are counted together. The flash is memory, as a
//! part has it mapped: reading and programming cost the copying, waiting for the flash is not in it.
//!
//! The first start measures, then keeps the broker busy with all it can do until the log has gone round; the
//! second, after a reset, mounts what that left. The deepest stack of either is told.

#![no_std]
#![no_main]

use core::panic::PanicInfo;

use cortex_m::peripheral::{Peripherals, SCB};
use embedded_io::Write;
use forebay::broker::{Broker, MountFailure, Settings};
use forebay::command::{
    Bind, Command, Delivery, Destination, ExchangeKind, ExchangeOptions, Grade, Message, Offer, Outlet,
    Publish, QueueKind, QueueOptions, Refusal, Rejection, Reply, Subscription,
};
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use forebay::model::key::Key;
use forebay::units::{ConsumerId, Millis, Offset, QueueId, Tag};
use forebay_board::{decimal, profile, store};
use qemu_mps2_an386::clock::{Clock, HERTZ};
use qemu_mps2_an386::flash::{SECTOR, SECTORS, WORD};
use qemu_mps2_an386::memory::MemoryFlash;
use qemu_mps2_an386::uart::Uart;
use qemu_mps2_an386::{host, stack};
use static_cell::StaticCell;

const GEOMETRY: Geometry =
    Geometry { segment_size: SECTOR as u32, segment_count: SECTORS as u32, write_unit: WORD as u32 };
/// Instructions in a tick of the clock, at one a nanosecond.
const INSTRUCTIONS: u64 = 1_000_000_000 / HERTZ as u64;
/// Messages that are counted together.
const MESSAGES: u64 = 512;
/// Messages that keep it busy: the log goes round about twice.
const BUSY: u64 = 24_000;

type Store = Broker<'static, NorDevice<MemoryFlash>>;

static BROKER: StaticCell<Result<Store, MountFailure>> = StaticCell::new();

#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    host::exit(false)
}

#[cortex_m_rt::entry]
fn main() -> ! {
    host::exit(run().is_some())
}

fn run() -> Option<()> {
    let mut clock = Clock::start(&mut Peripherals::take()?);
    let mut uart = Uart::new(115_200);
    // Safety: nowhere else.
    let (flash, starts) = unsafe { MemoryFlash::take() };
    let mut device = NorDevice::new(flash, 0, GEOMETRY)?;
    store::make_if_none(&mut device, 1).ok()?;
    let before = clock.ticks();
    let broker = make(device)?;
    let mounted = broker.restore().ok()?;
    let mount = (clock.ticks() - before) * INSTRUCTIONS;
    let mut bench = Bench { broker, clock: &mut clock, now: mounted.last };
    if starts == 0 {
        tell_memory(&mut uart);
        bench.costs(&mut uart)?;
        tell(&mut uart, "bytes of stack, deepest, mount of an empty store", stack::deepest() as u64);
        stack::paint();
        bench.busy()?;
        tell(&mut uart, "bytes of stack, deepest, busy with everything", stack::deepest() as u64);
        SCB::sys_reset();
    }
    tell(&mut uart, "instructions, mount of what that left", mount);
    tell(&mut uart, "messages in it", mounted.messages);
    tell(&mut uart, "bytes of stack, deepest, in that mount", stack::deepest() as u64);
    Some(())
}

/// Makes the broker where it stays, with a stack of its own: what that takes is given back before it looks at the
/// flash.
#[inline(never)]
fn make(device: NorDevice<MemoryFlash>) -> Option<&'static mut Store> {
    let storage = profile::storage()?;
    BROKER.try_init_with(|| Broker::new(device, storage, Settings::default()))?.as_mut().ok()
}

fn tell(uart: &mut Uart, what: &str, number: u64) {
    let mut digits = [0; decimal::DIGITS_MAX];
    for text in [decimal::write(number, &mut digits), b" ", what.as_bytes(), b"\n"] {
        // It cannot fail.
        let _ = uart.write_all(text);
    }
}

fn tell_memory(uart: &mut Uart) {
    let mut sum = 0;
    for (name, count, bytes) in profile::SIZES {
        let mut digits = [0; decimal::DIGITS_MAX];
        let _ = uart.write_all(b"RAM ");
        let _ = uart.write_all(decimal::write(count as u64, &mut digits));
        let _ = uart.write_all(b" ");
        let _ = uart.write_all(name.as_bytes());
        let _ = uart.write_all(b": ");
        tell(uart, "bytes", bytes as u64);
        sum += bytes;
    }
    tell(uart, "bytes of RAM, all tables", sum as u64);
    tell(uart, "bytes of the broker itself", size_of::<Store>() as u64);
}

/// Takes what is handed out, and remembers the tags.
#[derive(Default)]
struct Taken {
    tags: [Option<Tag>; 8],
    count: usize,
}

impl Outlet for Taken {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        let Some(slot) = self.tags.get_mut(self.count) else { return Offer::Busy };
        *slot = delivery.tag;
        self.count += 1;
        Offer::Taken
    }

    fn cancelled(&mut self, _: u64, _: ConsumerId) {}
}

struct Bench<'b> {
    broker: &'b mut Store,
    clock: &'b mut Clock,
    now: Millis,
}

impl Bench<'_> {
    fn execute(&mut self, command: Command<'_>) -> Result<Reply, Refusal> {
        self.broker.execute(self.now, command, &mut Taken::default())
    }

    fn queue(&mut self, name: &str, options: QueueOptions<'_>) -> Option<QueueId> {
        let options = QueueOptions { durable: true, ..options };
        match self.execute(Command::DeclareQueue { name, options }) {
            Ok(Reply::Queue { id, .. }) => Some(id),
            _ => None,
        }
    }

    fn commit(&mut self) {
        self.broker.commit(self.now);
        self.broker.poll_durable();
    }

    /// Hands out and acknowledges; how many.
    fn settle(&mut self) -> usize {
        let mut taken = Taken::default();
        self.broker.pump(self.now, &mut taken);
        for tag in taken.tags.into_iter().flatten() {
            let _ = self.execute(Command::Ack(tag));
        }
        taken.count
    }

    /// Instructions of one turn of `work`, on average.
    fn count(&mut self, mut work: impl FnMut(&mut Self) -> Option<()>) -> Option<u64> {
        let before = self.clock.ticks();
        for _ in 0..MESSAGES {
            work(self)?;
        }
        Some((self.clock.ticks() - before) * INSTRUCTIONS / MESSAGES)
    }

    fn costs(&mut self, uart: &mut Uart) -> Option<()> {
        let id = self.queue("readings", QueueOptions::default())?;
        let body = [b'.'; 64];
        let message = Message { key: Key::dots(b"readings"), headers: &[], body: &body };
        let publish = Command::Publish(Publish { message, durable: true, ..Publish::default() });
        let each = self.count(|bench| {
            bench.execute(publish).ok()?;
            bench.commit();
            Some(())
        })?;
        tell(uart, "instructions, publish of 64 bytes, each on flash before the next", each);
        self.execute(Command::Subscribe(Subscription { queue: id, credit: 8, ..Subscription::default() }))
            .ok()?;
        while self.settle() > 0 {
            self.now = self.now.after(1);
            self.commit();
        }
        let mut turn = 0;
        let each = self.count(|bench| {
            bench.execute(publish).ok()?;
            turn += 1;
            if turn % 8 == 0 {
                bench.commit();
                bench.settle();
                bench.now = bench.now.after(1);
            }
            Some(())
        })?;
        tell(uart, "instructions, publish, deliver and acknowledge, eight to a commit", each);
        let each = self.count(|bench| {
            bench.execute(publish).ok()?;
            bench.commit();
            bench.settle();
            bench.now = bench.now.after(1);
            Some(())
        })?;
        tell(uart, "instructions, publish, deliver and acknowledge, each on flash before the next", each);
        Some(())
    }

    fn declare_all(&mut self) -> Option<()> {
        for (name, kind) in
            [("plant", ExchangeKind::Topic), ("labels", ExchangeKind::Headers), ("all", ExchangeKind::Fanout)]
        {
            let alternate = (name == "plant").then_some("all");
            self.execute(Command::DeclareExchange {
                name,
                options: ExchangeOptions { kind, durable: true, alternate, ..ExchangeOptions::default() },
            })
            .ok()?;
        }
        let dead = self.queue("dead", QueueOptions { max_count: 20, ..QueueOptions::default() })?;
        let dead_letters = QueueOptions {
            dead_letter_exchange: Some(""),
            dead_letter_key: Some(Key::dots(b"dead")),
            delivery_limit: 3,
            ..QueueOptions::default()
        };
        let work = self.queue("work", QueueOptions { lease_ms: 50, max_priority: 3, ..dead_letters })?;
        let brief = self.queue("brief", QueueOptions { ttl_ms: Some(40), max_count: 50, ..dead_letters })?;
        let stream = self.queue(
            "stream",
            QueueOptions { kind: QueueKind::Stream, max_count: 100, ..QueueOptions::default() },
        )?;
        let group = self
            .queue("group", QueueOptions { kind: QueueKind::Group { stream }, ..QueueOptions::default() })?;
        for (exchange, queue, pattern) in [
            ("plant", "work", "plant.*.temperature"),
            ("plant", "brief", "plant.#"),
            ("plant", "stream", "#"),
            ("all", "dead", ""),
        ] {
            self.execute(Command::Bind(Bind {
                exchange,
                destination: Destination::Queue(queue),
                pattern: Key::dots(pattern.as_bytes()),
                arguments: &[],
                grade: Grade::ExactlyOnce,
            }))
            .ok()?;
        }
        for queue in [dead, work, brief, group] {
            self.execute(Command::Subscribe(Subscription {
                queue,
                credit: 4,
                no_ack: queue == dead,
                ..Subscription::default()
            }))
            .ok()?;
        }
        Some(())
    }

    fn busy(&mut self) -> Option<()> {
        self.declare_all()?;
        let body = [b'.'; 100];
        for turn in 0..BUSY {
            let key: &[u8] = if turn % 3 == 0 { b"plant.line7.temperature" } else { b"plant.line8.pressure" };
            let _ = self.execute(Command::Publish(Publish {
                exchange: "plant",
                message: Message {
                    key: Key::dots(key),
                    headers: &[],
                    body: body.get(..64 + turn as usize % 32)?,
                },
                durable: turn % 5 > 0,
                grade: Grade::ExactlyOnce,
                retain: turn % 50 == 0,
                ttl_ms: (turn % 11 == 0).then_some(30),
                delay_ms: (turn % 7 == 0).then_some(20),
                priority: (turn % 4) as u8,
                dedup: (turn % 9 == 0).then_some(forebay::command::DedupKey::Window(turn)),
            }));
            let mut taken = Taken::default();
            self.broker.pump(self.now, &mut taken);
            for (place, tag) in taken.tags.into_iter().flatten().enumerate() {
                let command = match (turn as usize + place) % 8 {
                    0 => Command::Reject(tag, Rejection::Requeue),
                    1 => Command::Reject(tag, Rejection::Delay(10)),
                    2 => Command::Reject(tag, Rejection::DeadLetter),
                    3 => Command::Extend(tag),
                    4 => Command::Received(tag),
                    _ => Command::Ack(tag),
                };
                let _ = self.execute(command);
            }
            self.now = self.now.after(1);
            self.broker.handle_timeout(self.now, &mut Taken::default());
            self.commit();
            if turn % 4000 == 3999 {
                self.execute(Command::Purge { name: "work" }).ok()?;
                self.execute(Command::DeleteQueue { name: "brief", if_unused: false, if_empty: false })
                    .ok()?;
                self.queue(
                    "brief",
                    QueueOptions {
                        ttl_ms: Some(40),
                        max_count: 50,
                        start: Offset(0),
                        ..QueueOptions::default()
                    },
                )?;
            }
        }
        Some(())
    }
}
