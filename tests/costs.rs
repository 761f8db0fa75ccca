//! What a message costs the flash, counted on a device of 256 x 4 KiB with units of 4 bytes.

use forebay::broker::{Broker, Settings};
use forebay::command::*;
use forebay::flash::ram::{Meter, RamFlash};
use forebay::flash::{Flash, Geometry};
use forebay::gateway::memory::Tables;
use forebay::limits::Limits;
use forebay::log::{Log, LogStats};
use forebay::model::key::Key;
use forebay::units::*;

const GEOMETRY: Geometry = Geometry { segment_size: 4096, segment_count: 256, write_unit: 4 };
const BODY: [u8; 64] = [7; 64];
const BATCH: usize = 8;

const LIMITS: Limits = Limits {
    queues: 16,
    entries: 16_384,
    in_flight: 64,
    consumers: 16,
    exchanges: 8,
    bindings: 16,
    nodes: 32,
    text_bytes: 2048,
    dedup: 16,
    held: 16,
    producers: 4,
    retained: 16,
    max_message_bytes: 512,
    tail_bytes: 4096,
    index_bytes: 1024,
    windows: 2,
};

/// Takes deliveries and keeps their tags.
#[derive(Default)]
struct Tags(Vec<Tag>);

impl Outlet for Tags {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        assert_eq!(delivery.message.body, BODY);
        self.0.extend(delivery.tag);
        Offer::Taken
    }

    fn cancelled(&mut self, _: u64, _: ConsumerId) {}
}

struct Region {
    memory: Vec<u8>,
    marks: Vec<u32>,
}

impl Region {
    fn new() -> Region {
        let mut region = Region { memory: vec![0xff; 1 << 20], marks: vec![0; 256] };
        Log::format(&mut region.flash(), 1, Millis(0), &mut [0; 64]).unwrap();
        region
    }

    fn flash(&mut self) -> RamFlash<'_> {
        RamFlash::new(&mut self.memory, &mut self.marks, GEOMETRY).unwrap()
    }
}

struct Bench<'a, 'd> {
    broker: Broker<'a, &'a mut RamFlash<'d>>,
    now: Millis,
    tags: Tags,
}

impl<'a, 'd> Bench<'a, 'd> {
    fn mount(flash: &'a mut RamFlash<'d>, tables: &'a mut Tables) -> Bench<'a, 'd> {
        let (broker, mounted) = Broker::mount(flash, tables.storage(), Settings::default()).unwrap();
        Bench { broker, now: mounted.last.after(1), tags: Tags::default() }
    }

    fn execute(&mut self, command: Command<'_>) -> Result<Reply, Refusal> {
        self.broker.execute(self.now, command, &mut self.tags)
    }

    fn queue(&mut self, name: &str) -> QueueId {
        let options = QueueOptions { durable: true, ..QueueOptions::default() };
        match self.execute(Command::DeclareQueue { name, options }) {
            Ok(Reply::Queue { id, .. }) => id,
            other => panic!("{other:?}"),
        }
    }

    fn consume(&mut self, queue: QueueId) {
        let asked = Subscription { queue, owner: 1, credit: 64, ..Subscription::default() };
        self.execute(Command::Subscribe(asked)).unwrap();
    }

    fn publish(&mut self, queue: &str) -> Result<Reply, Refusal> {
        let message = Message { key: Key::dots(queue.as_bytes()), headers: &[], body: &BODY };
        self.execute(Command::Publish(Publish { message, durable: true, ..Publish::default() }))
    }

    /// One turn of a loop: hand out, commit, take the end of the sync.
    fn turn(&mut self) {
        self.now = self.now.after(5);
        while self.broker.pump(self.now, &mut self.tags) {}
        self.broker.commit(self.now);
        self.broker.poll_durable();
        while self.broker.pump(self.now, &mut self.tags) {}
    }

    fn ack_all(&mut self) {
        for tag in std::mem::take(&mut self.tags.0) {
            self.execute(Command::Ack(tag)).unwrap();
        }
    }

    fn stats(&self) -> LogStats {
        self.broker.info().log
    }
}

fn spent(before: LogStats, after: LogStats, count: usize) -> (f64, f64) {
    let each = |before: u64, after: u64| (after - before) as f64 / count as f64;
    (each(before.program_calls, after.program_calls), each(before.programmed, after.programmed))
}

#[test]
fn a_publish_takes_few_program_calls_and_little_more_than_its_payload() {
    let (mut region, mut tables) = (Region::new(), Tables::new(&LIMITS, GEOMETRY));
    let mut flash = region.flash();
    let mut bench = Bench::mount(&mut flash, &mut tables);
    bench.queue("q");
    let before = bench.stats();
    for _ in 0..600 {
        for _ in 0..BATCH {
            bench.publish("q").unwrap();
        }
        bench.turn();
    }
    let (calls, bytes) = spent(before, bench.stats(), 600 * BATCH);
    println!("publish: {calls:.3} program calls, {bytes:.1} bytes = {:.3} x payload", bytes / 64.0);
    assert!(calls <= 1.10 && bytes <= 64.0 * 1.26, "{calls} calls, {bytes} bytes");
}

#[test]
fn a_life_with_its_acknowledgement_takes_less_than_a_third_more_than_the_payload() {
    let (mut region, mut tables) = (Region::new(), Tables::new(&LIMITS, GEOMETRY));
    let mut flash = region.flash();
    let mut bench = Bench::mount(&mut flash, &mut tables);
    let queue = bench.queue("q");
    bench.consume(queue);
    bench.turn();
    let before = bench.stats();
    for _ in 0..20_000 {
        for _ in 0..BATCH {
            bench.publish("q").unwrap();
        }
        bench.turn();
        bench.ack_all();
    }
    let after = bench.stats();
    let (calls, bytes) = spent(before, after, 20_000 * BATCH);
    println!("life: {calls:.3} program calls, {bytes:.1} bytes = {:.3} x payload", bytes / 64.0);
    assert!(calls <= 1.25 && bytes <= 64.0 * 1.32, "{calls} calls, {bytes} bytes");
    assert!(after.erases_max - after.erases_min <= 1, "{after:?}");
    assert!(after.erases > 10 * 256, "many laps");
}

/// Messages that stay, up to this share of what the store has room for, spread among others that go.
fn keep(bench: &mut Bench<'_, '_>, percent: u64) -> u64 {
    let live = |bench: &Bench<'_, '_>| {
        let info = bench.broker.info();
        (info.live_bytes + info.entries * 44) * 100 / info.room
    };
    while live(bench) < percent && bench.publish("kept").is_ok() {
        for _ in 0..BATCH - 1 {
            let _ = bench.publish("q");
        }
        bench.turn();
        bench.ack_all();
    }
    bench.broker.info().live_bytes
}

#[test]
fn what_is_kept_is_copied_within_bounds_and_no_publish_waits_for_more_than_two_segments() {
    let (mut region, mut tables) = (Region::new(), Tables::new(&LIMITS, GEOMETRY));
    let mut flash = region.flash();
    let mut bench = Bench::mount(&mut flash, &mut tables);
    let queue = bench.queue("q");
    bench.queue("kept");
    bench.consume(queue);
    bench.turn();
    for (percent, bound) in [(25, 1.4), (50, 1.8), (70, 2.4), (95, 4.0)] {
        let kept = keep(&mut bench, percent);
        let before = bench.stats();
        let (mut count, mut worst) = (0, (0, 0));
        for _ in 0..10_000 {
            for _ in 0..BATCH {
                let one = bench.stats();
                count += usize::from(bench.publish("q").is_ok());
                let now = bench.now;
                bench.broker.pump(now, &mut bench.tags);
                let other = bench.stats();
                worst.0 = worst.0.max(other.erases - one.erases);
                worst.1 = worst.1.max(other.copied - one.copied);
            }
            bench.turn();
            bench.ack_all();
        }
        let after = bench.stats();
        let (_, bytes) = spent(before, after, count);
        let copied = (after.copied - before.copied) as f64 / count as f64;
        let amplification = bytes / (bytes - copied);
        println!(
            "{percent} % of the room = {} KiB of 1024 kept: amplification {amplification:.2}; worst publish {} erases, {} bytes copied; erases {} to {}",
            kept / 1024, worst.0, worst.1, after.erases_min, after.erases_max
        );
        assert!(count > 70_000, "{count} of 80,000 published");
        assert!(worst.0 <= 1 && worst.1 <= 2 * 4096, "{worst:?} for one publish");
        assert!(amplification <= bound, "{amplification}");
        assert!(after.erases_max - after.erases_min <= 1, "{after:?}");
    }
}

#[test]
fn a_mount_reads_what_is_live() {
    let (mut region, mut tables) = (Region::new(), Tables::new(&LIMITS, GEOMETRY));
    {
        // Some laps of a past.
        let mut flash = region.flash();
        let mut bench = Bench::mount(&mut flash, &mut tables);
        let queue = bench.queue("q");
        bench.consume(queue);
        for _ in 0..5000 {
            for _ in 0..BATCH {
                bench.publish("q").unwrap();
            }
            bench.turn();
            bench.ack_all();
        }
        bench.turn();
    }
    for (fill, close, bound) in [(0, true, 64), (500, true, 64), (100, false, 320), (20_000, false, 320)] {
        {
            let mut flash = region.flash();
            let mut bench = Bench::mount(&mut flash, &mut tables);
            bench.queue("q");
            for _ in 0..fill {
                if bench.publish("q").is_err() {
                    break;
                }
                bench.turn();
            }
            bench.now = bench.now.after(100);
            bench.turn();
            if close {
                let now = bench.now;
                for _ in 0..3 {
                    bench.broker.close(now);
                    bench.broker.poll_durable();
                }
            }
        }
        let mut flash = region.flash();
        let (entries, used) = {
            let bench = Bench::mount(&mut flash, &mut tables);
            (bench.broker.info().entries, bench.stats().used / 4096)
        };
        let Meter { reads, read_bytes, .. } = flash.meter();
        println!(
            "{entries} messages in {used} segments, closed {close}: {reads} reads of {read_bytes} bytes"
        );
        assert!(reads <= bound, "{reads} reads");
    }
    assert_eq!(region.flash().geometry(), GEOMETRY);
}
