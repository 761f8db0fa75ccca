//! A script on one device: the past that fills the ring, then the stretch that is recorded.
//!
//! What is done is drawn from the seed, so a script is the same whenever it is run: publishes of
//! different sizes, acknowledgements among the oldest, commits, flushes without a sync, polls of syncs
//! that take their time, a close or a remount in the middle. It keeps as many messages live as the
//! store has room for, so that reclaim is always at work.

use std::fmt;

use super::ledger::{Act, Ledger};
use super::random::Random;
use super::toy::{Bench, Bodies, Toy, BODY_MAX};
use crate::flash::fault::{FaultFlash, FaultOptions, Tape};
use crate::flash::{Flash, Geometry, SyncState};
use crate::log::{AppendError, Log, LogError};
use crate::units::{At, Millis};

/// The salt of every store that is made here.
pub const SALT: u32 = 0x5eed_1234;
/// Most acts that lead up to the recorded stretch.
const PAST_MAX: u32 = 2_000;
/// Turns of commit and poll after which nothing can be under way any more.
const SETTLE_MAX: u32 = 64;

/// A device, and the memory of the log on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting {
    /// Sizes of the device.
    pub geometry: Geometry,
    /// What erased bytes read.
    pub erased: u8,
    /// Writes are kept back until a sync.
    pub cached: bool,
    /// Bytes of the open segment in memory.
    pub tail: u32,
    /// Messages that are kept live.
    pub live: usize,
}

impl fmt::Display for Setting {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Geometry { segment_size, segment_count, write_unit } = self.geometry;
        let kind = if self.cached { "cached" } else { "ordered" };
        write!(f, "{segment_count} segments of {segment_size} bytes, unit {write_unit}, {kind}, ")?;
        write!(f, "erased {:#04x}, {} bytes of tail, {} live", self.erased, self.tail, self.live)
    }
}

impl Setting {
    /// A device of this setting, erased.
    pub fn device(&self, seed: u64) -> Option<FaultFlash> {
        let options = FaultOptions { seed, erased: self.erased, cached: self.cached, ecc: false };
        FaultFlash::new(self.geometry, options)
    }

    /// A device with an empty store.
    pub fn formatted(&self, seed: u64) -> Result<FaultFlash, String> {
        let mut flash = self.device(seed).ok_or("no such device")?;
        format(&mut flash)?;
        Ok(flash)
    }
}

/// Makes an empty store that is durable.
pub fn format(flash: &mut FaultFlash) -> Result<(), String> {
    let told = |error| format!("cannot be formatted: {error:?}");
    Log::format(flash, SALT, Millis(1000), &mut [0; 512]).map_err(told)?;
    flash.start_sync().map_err(|error| format!("cannot be synced: {error:?}"))?;
    while flash.poll_sync() == SyncState::Pending {}
    Ok(())
}

/// Commits and polls until everything is durable.
pub fn settle<F: Flash>(log: &mut Log<'_, F>) -> Result<(), LogError> {
    for _ in 0..SETTLE_MAX {
        if !log.unsynced() && !log.syncing() {
            break;
        }
        log.commit()?;
        log.poll()?;
    }
    Ok(())
}

/// Bodies of messages, drawn from a seed.
pub fn plain_bodies(count: usize, seed: u64) -> Bodies {
    let mut random = Random::part(seed, 0xb0d7);
    let mut body = |_| {
        let len = random.below(u64::from(BODY_MAX) * 3 / 4);
        // Some are erased flash, some zeros: what a scan takes for the end, and for padding.
        match random.below(8) {
            0 => vec![0xff; len as usize],
            1 => vec![0; len as usize],
            _ => (0..len).map(|_| random.draw() as u8).collect(),
        }
    };
    Bodies((0..count).map(&mut body).collect())
}

/// A stretch that was recorded.
pub struct Recording {
    /// The device in it.
    pub tape: Tape,
    /// What was done in it.
    pub ledger: Ledger,
    /// The messages.
    pub bodies: Bodies,
    /// Where each of them was published.
    pub places: Vec<At>,
    /// The bytes of the device before and after.
    pub images: [Vec<u8>; 2],
}

/// Runs a script: `acts` of it are recorded.
pub fn record(setting: &Setting, bodies: Bodies, acts: u32, seed: u64) -> Result<Recording, String> {
    record_on(setting, bodies, acts, seed, |_| ())
}

/// The same, after something was done to the device.
pub fn record_on(
    setting: &Setting,
    bodies: Bodies,
    acts: u32,
    seed: u64,
    prepare: impl FnOnce(&mut FaultFlash),
) -> Result<Recording, String> {
    let mut flash = setting.formatted(seed)?;
    let mut bench = Bench::new(setting.geometry, setting.tail);
    let mut run = Run::new(&bodies, setting.live, Random::part(seed, 1));
    let laps = 2 + (seed % 3) as u32;
    run.past(&mut bench, &mut flash, laps * setting.geometry.segment_count)?;
    let begun = flash.steps();
    let before = flash.image().to_vec();
    flash.record();
    prepare(&mut flash);
    run.ledger.begin(run.toy.print());
    // A cached device is another one to whoever opens it again: no remount without a loss of power.
    let split = if setting.cached { acts } else { acts / 3 + run.random.below(u64::from(acts) / 3) as u32 };
    run.stretch(&mut bench, &mut flash, split)?;
    if split < acts {
        run.stretch(&mut bench, &mut flash, acts - split)?;
    }
    debug_assert!(flash.steps() > begun);
    let (ledger, places) = (std::mem::take(&mut run.ledger), std::mem::take(&mut run.places));
    let images = [before, flash.image().to_vec()];
    Ok(Recording { tape: flash.tape(), ledger, bodies, places, images })
}

/// A script that runs.
struct Run<'b> {
    toy: Toy,
    ledger: Ledger,
    bodies: &'b Bodies,
    live: usize,
    random: Random,
    /// Where each message was published.
    places: Vec<At>,
}

impl<'b> Run<'b> {
    fn new(bodies: &'b Bodies, live: usize, random: Random) -> Run<'b> {
        let toy = Toy::new(bodies.0.len());
        Run { toy, ledger: Ledger::default(), bodies, live, random, places: Vec::new() }
    }

    /// Runs until the ring has been around so often.
    fn past(&mut self, bench: &mut Bench, flash: &mut FaultFlash, segments: u32) -> Result<(), String> {
        self.ledger.begin(0);
        let mut log = self.mount(bench, flash)?;
        for _ in 0..PAST_MAX {
            if log.stats().tail_sequence >= segments {
                break;
            }
            self.act(&mut log)?;
        }
        if self.random.once_in(2) {
            settle(&mut log).map_err(|error| format!("cannot settle: {error:?}"))?;
            log.close().map_err(|error| format!("cannot be closed: {error:?}"))?;
        }
        settle(&mut log).map_err(|error| format!("cannot settle: {error:?}"))?;
        self.ledger.forget_ends();
        Ok(())
    }

    /// Mounts and runs some acts.
    fn stretch(&mut self, bench: &mut Bench, flash: &mut FaultFlash, acts: u32) -> Result<(), String> {
        let mut log = self.mount(bench, flash)?;
        for _ in 0..acts {
            self.act(&mut log)?;
        }
        // What is only in memory is not lost when nothing but the program ends.
        log.flush().map_err(|error| format!("cannot be flushed: {error:?}"))
    }

    /// Mounts; what is there then is made durable.
    fn mount<'m>(
        &mut self,
        bench: &'m mut Bench,
        flash: &'m mut FaultFlash,
    ) -> Result<Log<'m, &'m mut FaultFlash>, String> {
        let before = self.ledger.last();
        self.toy.clear();
        let mounted = bench.mount(flash, &mut self.toy);
        let (mut log, report) = mounted.map_err(|error| format!("cannot be mounted: {error:?}"))?;
        if self.toy.print() != before || report.damages > 0 {
            return Err(format!("another state without a loss of power: {report:?}"));
        }
        self.toy.hold_all(&mut log);
        settle(&mut log).map_err(|error| format!("cannot settle: {error:?}"))?;
        self.ledger.forget_ends();
        let step = log.device().steps();
        self.ledger.push(Act::Mounted, step, before);
        self.ledger.settle(self.ledger.len(), step + 1);
        Ok(log)
    }

    fn act(&mut self, log: &mut Log<'_, &mut FaultFlash>) -> Result<(), String> {
        let wrong = |error: LogError| format!("the log refuses: {error:?}");
        match self.random.below(20) {
            0..=9 => self.publish(log)?,
            10..=13 => self.ack(log)?,
            14..=16 => log.commit().map_err(wrong)?,
            17 => log.flush().map_err(wrong)?,
            _ => {}
        }
        if self.random.below(3) > 0 {
            log.poll().map_err(wrong)?;
        }
        self.toy.reclaim(log).map_err(wrong)?;
        self.note_durable(log);
        Ok(())
    }

    fn publish(&mut self, log: &mut Log<'_, &mut FaultFlash>) -> Result<(), String> {
        if self.toy.live().count() >= self.live || self.toy.next as usize >= self.bodies.0.len() {
            return self.ack(log);
        }
        let step = log.device().steps();
        match self.toy.publish(log, self.bodies) {
            Ok(id) => {
                let at = self.toy.place(id);
                self.places.resize(id as usize + 1, at);
                self.note(log, Act::Publish(id), step);
            }
            Err(AppendError::Full) => {
                let wrong = |error: LogError| format!("the log refuses: {error:?}");
                self.toy.reclaim(log).map_err(wrong)?;
                log.commit().map_err(wrong)?;
            }
            Err(error) => return Err(format!("a publish is refused: {error:?}")),
        }
        Ok(())
    }

    fn ack(&mut self, log: &mut Log<'_, &mut FaultFlash>) -> Result<(), String> {
        let place = self.random.below(5) as usize;
        let Some((id, _)) = self.toy.live().nth(place) else { return Ok(()) };
        let step = log.device().steps();
        match self.toy.ack(log, id) {
            Ok(()) => self.note(log, Act::Ack(id), step),
            Err(AppendError::Full) => {}
            Err(error) => return Err(format!("an acknowledgement is refused: {error:?}")),
        }
        Ok(())
    }

    fn note(&mut self, log: &Log<'_, &mut FaultFlash>, act: Act, step: u64) {
        self.ledger.push(act, step, self.toy.print());
        self.ledger.ends_at(log.tail());
    }

    fn note_durable(&mut self, log: &Log<'_, &mut FaultFlash>) {
        // The end of a sync takes no step of its own: it has happened for every later cut.
        self.ledger.settle_to(log.durable(), log.device().steps() + 1);
    }
}
