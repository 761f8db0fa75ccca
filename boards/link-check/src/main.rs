//! The whole core on a Cortex-M4, linked but not run.
//!
//! Everything the broker can do is reachable from a byte that the linker cannot foresee, so
//! nothing is dropped as unused. `.ci/link-check` builds it, prints the sizes, and fails if a
//! panic or an allocator is in it, or if it is larger than the product promises.
//!
//! Profile: that of `forebay_board::profile`: 16 queues, 1,024 entries, 64 in flight, 256 segments of 4 KiB, write unit 4.

#![no_std]
#![no_main]

mod part;

use core::panic::PanicInfo;
use forebay::broker::{Broker, MountFailure, Settings};
use forebay::command::{
    Bind, Command, DedupKey, Delivery, Destination, ExchangeKind, ExchangeOptions, Grade, Message, Offer,
    Outlet, Publish, QueueKind, QueueOptions, Rejection, Subscription,
};
use forebay::flash::nor::NorDevice;
use forebay::flash::Geometry;
use forebay::log::Log;
use forebay::model::key::Key;
use forebay::units::{ConsumerId, Millis, Offset, QueueId, Tag};
use forebay_board::static_cell::StaticCell;
use part::{Part, Port};

/// It stays where it is made: its bytes count as RAM here, and not as stack.
static BROKER: StaticCell<Result<Broker<'static, NorDevice<Part>>, MountFailure>> = StaticCell::new();

/// There is no way here: the check fails if this is ever linked with a caller.
#[panic_handler]
fn on_panic(_: &PanicInfo<'_>) -> ! {
    loop {}
}

/// Writes deliveries to the port.
struct Uart(Port);

impl Outlet for Uart {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        delivery.message.key.text.iter().chain(delivery.message.body).for_each(|&byte| self.0.write(byte));
        if let Some(tag) = delivery.tag {
            self.0.write(tag.0 as u8);
        }
        Offer::Taken
    }

    fn cancelled(&mut self, owner: u64, consumer: ConsumerId) {
        self.0.write(owner as u8 ^ consumer.0 as u8);
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
    let geometry = Geometry { segment_size: 4096, segment_count: 256, write_unit: 4 };
    let mut flash = NorDevice::new(Part, 0, geometry)?;
    if port.read() == 0 {
        Log::format(&mut flash, 1, Millis(0), &mut [0; 64]).ok()?;
    }
    let broker = make(flash)?;
    let mounted = broker.restore().ok()?;
    port.write(mounted.queues as u8);
    let mut uart = Uart(Port);
    let mut buffer = [0u8; 64];
    let mut now = mounted.last;
    loop {
        buffer.iter_mut().for_each(|byte| *byte = port.read());
        now = now.after(u64::from(port.read()));
        let command = command(&mut port, &buffer)?;
        match broker.execute(now, command, &mut uart) {
            Ok(_) => port.write(0),
            Err(_) => port.write(1),
        }
        broker.pump(now, &mut uart);
        broker.commit(now);
        broker.poll_durable();
        if broker.poll_timeout() <= now {
            broker.handle_timeout(now, &mut uart);
        }
        broker.for_each_queue(&mut |queue| Port.write(queue.ready as u8));
        port.write(broker.info().entries as u8);
    }
}

/// Makes the broker where it stays.
#[inline(never)]
fn make(flash: NorDevice<Part>) -> Option<&'static mut Broker<'static, NorDevice<Part>>> {
    let storage = forebay_board::profile::storage()?;
    BROKER.try_init_with(|| Broker::new(flash, storage, Settings::default()))?.as_mut().ok()
}

fn command<'b>(port: &mut Port, buffer: &'b [u8; 64]) -> Option<Command<'b>> {
    let name = core::str::from_utf8(buffer.get(..8)?).ok()?;
    let other = core::str::from_utf8(buffer.get(8..16)?).ok()?;
    let key = Key::slashes(buffer.get(16..32)?);
    let tag = Tag(u64::from(port.read()));
    let consumer = ConsumerId(u32::from(port.read()));
    let queue = QueueId(u16::from(port.read()));
    let dedup = DedupKey::Held { queue, packet: u16::from(port.read()) };
    Some(match port.read() {
        0 => Command::DeclareExchange {
            name,
            options: ExchangeOptions {
                kind: kind(port),
                durable: true,
                auto_delete: port.read() > 0,
                internal: port.read() > 0,
                alternate: Some(other),
            },
        },
        1 => Command::DeleteExchange { name, if_unused: port.read() > 0 },
        2 => Command::DeclareQueue { name, options: options(port, other, key) },
        3 => Command::DeleteQueue { name, if_unused: port.read() > 0, if_empty: port.read() > 0 },
        4 => Command::Purge { name },
        5 => Command::Bind(bind(port, name, other, key, buffer)),
        6 => Command::Unbind(bind(port, name, other, key, buffer)),
        7 => Command::Subscribe(Subscription {
            queue,
            owner: 1,
            credit: u32::from(port.read()),
            no_ack: port.read() > 0,
            priority: port.read() as i8,
            exclusive: port.read() > 0,
            pull: port.read() > 0,
        }),
        8 => Command::Unsubscribe(consumer),
        9 => Command::Ack(tag),
        10 => Command::Received(tag),
        11 => Command::Reject(tag, rejection(port)),
        12 => Command::Extend(tag),
        13 => Command::Forget(dedup),
        14 => Command::Retained { consumer, pattern: key, grade: grade(port) },
        15 => Command::Pause(consumer, port.read() > 0),
        16 => Command::FindQueue { name },
        _ => Command::Publish(Publish {
            exchange: name,
            message: Message { key, headers: buffer.get(32..48)?, body: buffer.get(48..)? },
            durable: port.read() > 0,
            grade: grade(port),
            retain: port.read() > 0,
            ttl_ms: Some(u64::from(port.read())),
            delay_ms: Some(u64::from(port.read())),
            priority: port.read(),
            dedup: Some(dedup),
        }),
    })
}

fn bind<'b>(port: &mut Port, name: &'b str, other: &'b str, key: Key<'b>, buffer: &'b [u8; 64]) -> Bind<'b> {
    let destination = if port.read() > 0 { Destination::Queue(other) } else { Destination::Exchange(other) };
    Bind {
        exchange: name,
        destination,
        pattern: key,
        arguments: buffer.get(32..).unwrap_or(&[]),
        grade: grade(port),
    }
}

fn options<'b>(port: &mut Port, name: &'b str, key: Key<'b>) -> QueueOptions<'b> {
    QueueOptions {
        kind: match port.read() {
            0 => QueueKind::Work,
            1 => QueueKind::Stream,
            id => QueueKind::Group { stream: QueueId(u16::from(id)) },
        },
        durable: port.read() > 0,
        auto_delete: port.read() > 0,
        session: port.read() > 0,
        max_count: u32::from(port.read()),
        max_bytes: u64::from(port.read()),
        ttl_ms: Some(u64::from(port.read())),
        delivery_limit: port.read(),
        max_priority: port.read(),
        lease_ms: u64::from(port.read()),
        dead_letter_exchange: Some(name),
        dead_letter_key: Some(key),
        start: Offset(u64::from(port.read())),
        ..QueueOptions::default()
    }
}

fn kind(port: &mut Port) -> ExchangeKind {
    match port.read() {
        0 => ExchangeKind::Direct,
        1 => ExchangeKind::Fanout,
        2 => ExchangeKind::Topic,
        _ => ExchangeKind::Headers,
    }
}

fn grade(port: &mut Port) -> Grade {
    match port.read() {
        0 => Grade::AtMostOnce,
        1 => Grade::AtLeastOnce,
        _ => Grade::ExactlyOnce,
    }
}

fn rejection(port: &mut Port) -> Rejection {
    match port.read() {
        0 => Rejection::Requeue,
        1 => Rejection::DeadLetter,
        delay_ms => Rejection::Delay(u64::from(delay_ms)),
    }
}
