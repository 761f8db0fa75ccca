//! A real medium under simulated losses of power: the broker on a file, on the card it is to run on.
//!
//! Every life opens the file as the gateway does, mounts, compares, publishes and acknowledges with real
//! syncs, and ends within a write. Software cannot take the power away, so what the page cache would
//! lose is undone: each write since the last finished sync is kept, taken back, or cut at a sector,
//! independently of the others.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{File, OpenOptions};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};

use super::random::Random;
use super::stats::Stats;
use crate::broker::{Broker, Settings};
use crate::command::*;
use crate::flash::file::{FileFlash, OpenOptions as StoreOptions};
use crate::flash::{Flash, FlashError, Geometry, SyncState};
use crate::gateway::memory::Tables;
use crate::limits::Limits;
use crate::log::Log;
use crate::model::key::Key;
use crate::units::{ConsumerId, Millis, Offset, Position, QueueId, Tag};

/// Size of the file in bytes.
const SIZE: u64 = 8 << 20;
/// Size of a segment.
const SEGMENT: u32 = 1 << 17;
/// Size of what a medium writes wholly or not.
const SECTOR: u32 = 512;
/// A page of the page cache, which a write may fill up.
const PAGE: usize = 4096;
/// Most messages in the queue.
const BACKLOG: usize = 400;
/// How long a sync may take.
const SYNC_MAX: Duration = Duration::from_secs(60);

const LIMITS: Limits = Limits {
    queues: 4,
    entries: 2048,
    in_flight: 64,
    consumers: 4,
    exchanges: 8,
    bindings: 8,
    nodes: 16,
    text_bytes: 1024,
    dedup: 8,
    held: 8,
    producers: 4,
    retained: 8,
    max_message_bytes: 4096,
    tail_bytes: SEGMENT,
    index_bytes: 8192,
    windows: 2,
};

/// A write that no finished sync covers: where, and what was there before.
struct Write {
    place: u64,
    before: Vec<u8>,
    after: Vec<u8>,
}

/// A file whose unsynced writes can be taken back.
struct Losing {
    flash: FileFlash,
    file: File,
    unsynced: Vec<Write>,
    covered: usize,
    calls_left: u64,
}

impl Losing {
    /// Does a write, or fails it when the power is gone, and notes what it changed.
    fn note(
        &mut self,
        place: u64,
        len: usize,
        write: impl FnOnce(&mut FileFlash) -> Result<(), FlashError>,
    ) -> Result<(), FlashError> {
        if self.calls_left == 0 {
            return Err(FlashError::Medium);
        }
        self.calls_left -= 1;
        let mut before = vec![0; len];
        self.file.read_exact_at(&mut before, place).map_err(|_| FlashError::Medium)?;
        write(&mut self.flash)?;
        let mut after = vec![0; len];
        self.file.read_exact_at(&mut after, place).map_err(|_| FlashError::Medium)?;
        self.unsynced.push(Write { place, before, after });
        Ok(())
    }

    /// The power goes: of the writes without a sync, some are undone in part or as a whole.
    fn lose(&mut self, random: &mut Random) -> std::io::Result<()> {
        for write in self.unsynced.drain(..).rev() {
            let sectors = write.before.len().div_ceil(SECTOR as usize) as u64;
            let kept = match random.below(3) {
                0 => write.before.len(),
                1 => 0,
                _ => (random.below(sectors + 1) * u64::from(SECTOR)) as usize,
            };
            let kept = kept.min(write.before.len());
            self.file.write_all_at(&write.after[..kept], write.place)?;
            self.file.write_all_at(&write.before[kept..], write.place + kept as u64)?;
        }
        Ok(())
    }
}

impl Flash for &mut Losing {
    fn geometry(&self) -> Geometry {
        self.flash.geometry()
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        self.flash.read(segment, offset, into)
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let end = (offset as usize + bytes.len()).next_multiple_of(PAGE).min(SEGMENT as usize);
        let place = u64::from(segment) * u64::from(SEGMENT) + u64::from(offset);
        self.note(place, end - offset as usize, |flash| flash.program(segment, offset, bytes))
    }

    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        let place = u64::from(segment) * u64::from(SEGMENT);
        self.note(place, SEGMENT as usize, |flash| flash.erase(segment))
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
        if self.calls_left == 0 {
            return Err(FlashError::Medium);
        }
        self.covered = self.unsynced.len();
        self.flash.start_sync()
    }

    fn poll_sync(&mut self) -> SyncState {
        let state = self.flash.poll_sync();
        if state == SyncState::Done {
            self.unsynced.drain(..self.covered);
            self.covered = 0;
        }
        state
    }

    fn nonce(&self) -> u32 {
        self.flash.nonce()
    }
}

/// What is known of the messages, by their numbers.
#[derive(Default)]
struct Known {
    /// Confirmed, and not acknowledged by anybody.
    confirmed: BTreeSet<u64>,
    /// Acknowledged, and that is durable.
    gone: BTreeSet<u64>,
    /// There after the last mount.
    found: BTreeSet<u64>,
    next: u64,
}

/// Takes deliveries and keeps number and tag.
#[derive(Default)]
struct Inbox(Vec<(u64, Tag)>);

impl Outlet for Inbox {
    fn deliver(&mut self, delivery: &Delivery<'_>) -> Offer {
        let number = number_of(delivery.message.body).unwrap_or(u64::MAX);
        self.0.extend(delivery.tag.map(|tag| (number, tag)));
        Offer::Taken
    }

    fn cancelled(&mut self, _: u64, _: ConsumerId) {}
}

/// The body of a message; everything in it follows from its number.
fn body(number: u64) -> Vec<u8> {
    let mut random = Random::part(number, 1);
    let most = if random.once_in(8) { 3000 } else { 200 };
    let len = 8 + random.below(most) as usize;
    let mut body = number.to_le_bytes().to_vec();
    body.extend(std::iter::repeat_with(|| random.draw() as u8).take(len));
    body
}

fn number_of(bytes: &[u8]) -> Option<u64> {
    let number = u64::from_le_bytes(*bytes.first_chunk()?);
    (bytes == body(number)).then_some(number)
}

/// Runs so many lives in a file of this directory, which is removed if all went well.
pub fn run(directory: &Path, lives: u64, seed: u64, show: &mut dyn FnMut(&Stats)) -> Result<Stats, String> {
    let path = directory.join(format!("forebay-torture-{}.fby", std::process::id()));
    let done = on_file(&path, lives, seed, show);
    match &done {
        Ok(_) => drop(std::fs::remove_file(&path)),
        Err(_) => return done.map_err(|what| format!("{what}; the store is left in {}", path.display())),
    }
    done
}

fn on_file(path: &PathBuf, lives: u64, seed: u64, show: &mut dyn FnMut(&Stats)) -> Result<Stats, String> {
    let options = StoreOptions { size_bytes: SIZE, segment_size: SEGMENT, write_unit: SECTOR };
    let geometry = Geometry {
        segment_size: SEGMENT,
        segment_count: (SIZE / u64::from(SEGMENT)) as u32,
        write_unit: SECTOR,
    };
    let mut random = Random::part(seed, 0);
    let (mut known, mut stats, begun) = (Known::default(), Stats::default(), Instant::now());
    let mut tables = Tables::new(&LIMITS, geometry);
    for life in 0..lives {
        let (mut flash, blank) = FileFlash::open(path, options).map_err(|error| error.to_string())?;
        if blank {
            Log::format(&mut flash, random.draw() as u32, Millis(0), &mut [0; SECTOR as usize])
                .map_err(|error| format!("the store cannot be made: {error:?}"))?;
        }
        let file = OpenOptions::new().read(true).write(true).open(path).map_err(|error| error.to_string())?;
        let calls_left = 1 + random.below(60);
        let mut losing = Losing { flash, file, unsynced: Vec::new(), covered: 0, calls_left };
        live(&mut losing, &mut tables, &mut known, &mut random).map_err(|what| {
            format!(
                "life {life}: {what}; forebay torture --on {} --cuts {lives} --seed {seed}",
                path.display()
            )
        })?;
        losing.lose(&mut random).map_err(|error| error.to_string())?;
        (stats.cuts, stats.mounts) = (stats.cuts + 1, stats.mounts + 1);
        stats.elapsed = begun.elapsed();
        show(&stats);
    }
    Ok(stats)
}

/// A life of a broker, with what its client saw.
struct Life<'l, 'd> {
    broker: Broker<'l, &'d mut Losing>,
    queue: QueueId,
    inbox: Inbox,
    now: Millis,
}

fn live(
    losing: &mut Losing,
    tables: &mut Tables,
    known: &mut Known,
    random: &mut Random,
) -> Result<(), String> {
    let settings = Settings { ack_delay_ms: 0, ..Settings::default() };
    let (broker, mounted) = match Broker::mount(losing, tables.storage(), settings) {
        Ok(mounted) => mounted,
        // The power went during the recovery.
        Err(crate::log::MountError::Medium(_)) => return Ok(()),
        Err(error) => return Err(format!("it does not mount: {error:?}")),
    };
    if mounted.log.damages > 0 {
        return Err(format!("damage where there is none: {:?}", mounted.log));
    }
    let mut life = Life { broker, queue: QueueId(0), inbox: Inbox::default(), now: mounted.last.after(1) };
    let options = QueueOptions { durable: true, ..QueueOptions::default() };
    match life.execute(Command::DeclareQueue { name: "torture", options }) {
        Ok(Reply::Queue { id, .. }) => life.queue = id,
        // The power went before anything was ever confirmed.
        Err(_) if known.confirmed.is_empty() => return Ok(()),
        other => return Err(format!("the queue is gone: {other:?}")),
    }
    life.compare(known)?;
    life.work(known, random)
}

impl Life<'_, '_> {
    fn execute(&mut self, command: Command<'_>) -> Result<Reply, Refusal> {
        self.broker.execute(self.now, command, &mut self.inbox)
    }

    /// What is in the queue against what is known.
    fn compare(&mut self, known: &mut Known) -> Result<(), String> {
        let mut found = BTreeSet::new();
        let mut by_offset = BTreeMap::new();
        let mut from = Offset(0);
        while let Some((next, standee)) = self.broker.browse(self.queue, from, Which::Any) {
            from = next;
            let Some(standee) = standee else { continue };
            let content = standee.content.map_err(|error| format!("{}: {error:?}", standee.offset.0))?;
            let number = number_of(content.message.body).filter(|&number| number < known.next);
            let number = number.ok_or("a message that was never published")?;
            by_offset.insert(standee.offset, number);
            found.insert(number);
        }
        if !by_offset.values().is_sorted() || by_offset.len() != found.len() {
            return Err("messages are doubled or out of order".into());
        }
        if let Some(lost) = known.confirmed.difference(&found).next() {
            return Err(format!("message {lost} was confirmed and is lost"));
        }
        if let Some(back) = known.gone.intersection(&found).next() {
            return Err(format!("message {back} was acknowledged and is back"));
        }
        known.gone.clear();
        known.found = found;
        Ok(())
    }

    /// Publishes and acknowledges until the power goes.
    fn work(&mut self, known: &mut Known, random: &mut Random) -> Result<(), String> {
        let credit = 32;
        let asked = Subscription { queue: self.queue, owner: 1, credit, ..Subscription::default() };
        if self.execute(Command::Subscribe(asked)).is_err() {
            return Ok(());
        }
        let mut waiting: BTreeMap<u64, Position> = BTreeMap::new();
        let mut acked = BTreeSet::new();
        loop {
            for _ in 0..random.below(6) {
                if known.confirmed.len() < BACKLOG && !self.publish(known, &mut waiting) {
                    return Ok(());
                }
            }
            for _ in 0..random.below(6) {
                let Some((number, tag)) = self.inbox.0.pop() else { break };
                if !known.confirmed.contains(&number) && !known.found.contains(&number) {
                    return Err(format!("message {number} was handed out and never confirmed"));
                }
                known.confirmed.remove(&number);
                known.found.remove(&number);
                acked.insert(number);
                let _ = self.execute(Command::Ack(tag));
            }
            if !self.turn()? {
                return Ok(());
            }
            let durable = self.broker.durable();
            waiting.retain(|&number, at| {
                let is_safe = *at <= durable;
                known.confirmed.extend(is_safe.then_some(number));
                !is_safe
            });
            // What came back unconfirmed is durable now as well.
            known.confirmed.append(&mut known.found);
            known.gone.append(&mut acked);
        }
    }

    fn publish(&mut self, known: &mut Known, waiting: &mut BTreeMap<u64, Position>) -> bool {
        let number = known.next;
        known.next += 1;
        let message = Message { key: Key::dots(b"torture"), headers: &[], body: &body(number) };
        match self.execute(Command::Publish(Publish { message, durable: true, ..Publish::default() })) {
            Ok(Reply::Published { confirm_at, .. }) => {
                waiting.insert(number, confirm_at);
                true
            }
            // Nothing was promised; a store that is full waits for the next turn.
            Err(Refusal::StoreFull) => true,
            _ => false,
        }
    }

    /// Commits and waits for the sync; false if the power is gone.
    fn turn(&mut self) -> Result<bool, String> {
        self.now = self.now.after(1);
        self.broker.commit(self.now);
        let begun = Instant::now();
        while !self.broker.is_closed() {
            self.broker.poll_durable();
            std::thread::yield_now();
            if begun.elapsed() > SYNC_MAX {
                return Err("a sync does not end".into());
            }
        }
        while self.broker.pump(self.now, &mut self.inbox) {}
        Ok(!self.broker.is_read_only())
    }
}
