//! Campaign 8: power that comes and goes, a thousand times in a row, and never stays for long.
//!
//! A failing supply lets a device boot, do a little and die, again and again, often after the same time.
//! Each start here has power for so many steps: those of one stretch have the same number of them, those of
//! the next are drawn one by one. Whatever happens, every start that has power for it mounts, shows what was
//! confirmed, and in the end, when power stays, the store takes messages and acknowledgements again (where a
//! device has a write cache it may be out of room). What a mount did not find must never come back later.

use super::{spread, Bounds};
use crate::flash::fault::{FaultFlash, Tear};
use crate::flash::{Flash, Geometry};
use crate::gateway::torture::ledger::mix;
use crate::gateway::torture::random::Random;
use crate::gateway::torture::script::{plain_bodies, settle, Setting};
use crate::gateway::torture::stats::{Failure, Stats};
use crate::gateway::torture::toy::{Bench, Bodies, Toy};
use crate::log::{AppendError, Log, LogError, MountError};
use crate::units::Position;

/// Name of the campaign.
pub const NAME: &str = "boot-loops";
/// Number of cases.
pub const CASES: u64 = 2 * 960;
/// Starts of a case.
const BOOTS: u64 = 1_000;
/// Starts of one stretch.
const STRETCH: u64 = 50;
/// Most steps of power of a start.
const STEPS_MAX: u64 = 3_000;
/// Messages of a case at most.
const MESSAGES: usize = 4_000;
/// Messages that have to find room when power stays.
const ON_COUNT: u32 = 8;
/// Rounds of reclaim and sync in which there must be room for one of them.
const ROOM_ROUNDS: u32 = 64;

/// The device of a case, and what a loss of power does to it; none: another thing each time.
pub fn case(number: u64) -> (Setting, Option<Tear>) {
    let number = number as usize;
    let cached = number % 2 == 1;
    let write_unit = if cached { 64 } else { [1, 4, 16, 64][number / 2 % 4] };
    let (segment_count, live) = [(LEAST, 4), (12, 14), (16, 30)][number / 8 % 3];
    let erased = if number / 24 % 2 == 0 { 0xff } else { 0 };
    let geometry = Geometry { segment_size: if cached { 2048 } else { 1024 }, segment_count, write_unit };
    // In a unit there is one message at least.
    let live = if write_unit > 16 { live / 2 } else { live };
    let tear = Tear::ALL.get(number / 48 % (Tear::ALL.len() + 1)).copied();
    (Setting { geometry, erased, cached, tail: 256, live }, tear)
}

/// Segments of the least store.
const LEAST: u32 = crate::log::SEGMENTS_MIN;

/// Runs the campaign.
pub fn run(bounds: &Bounds, seed: u64) -> Result<Stats, Failure> {
    spread(bounds, CASES, |number| {
        let (setting, tear) = case(number);
        let script = Random::part(seed, number).draw();
        let bodies = plain_bodies(MESSAGES, script);
        let failure = |cut: u64, what| {
            let setting = format!("{setting}, {tear:?}");
            Failure { campaign: NAME, seed, case: number, cut, second: None, setting, what }
        };
        let mut supply = Supply::new(&setting, &bodies, script).map_err(|what| failure(0, what))?;
        for boot in 0..BOOTS / bounds.cuts_apart.max(1) {
            supply.boot(boot, tear).map_err(|what| failure(boot, what))?;
        }
        supply.stays().map_err(|what| failure(BOOTS, what))?;
        Ok(supply.stats)
    })
}

/// A device whose power comes and goes.
struct Supply<'b> {
    setting: Setting,
    flash: FaultFlash,
    bench: Bench,
    bodies: &'b Bodies,
    toy: Toy,
    random: Random,
    steps: u64,
    /// The states that are right at the next mount, the oldest first.
    allowed: Vec<u64>,
    stats: Stats,
}

impl<'b> Supply<'b> {
    fn new(setting: &Setting, bodies: &'b Bodies, seed: u64) -> Result<Supply<'b>, String> {
        Ok(Supply {
            setting: *setting,
            flash: setting.formatted(seed)?,
            bench: Bench::new(setting.geometry, setting.tail),
            bodies,
            toy: Toy::new(MESSAGES),
            random: Random::part(seed, 8),
            steps: 0,
            allowed: vec![0],
            stats: Stats::default(),
        })
    }

    /// One start, and what it gets done until power goes.
    fn boot(&mut self, number: u64, tear: Option<Tear>) -> Result<(), String> {
        if number % STRETCH == 0 || number / STRETCH % 2 == 1 {
            self.steps = 1 + self.random.below(STEPS_MAX);
        }
        // Once in a while there is time for something to be done: that is what fills a store.
        let steps = if number < STRETCH / 2 { 4 * STEPS_MAX } else { self.steps };
        self.flash.cut_after(steps);
        self.life(false)?;
        let tear = tear.unwrap_or_else(|| Tear::ALL[self.random.below(Tear::ALL.len() as u64) as usize]);
        self.flash.restart(tear);
        self.stats.cuts += 1;
        Ok(())
    }

    /// Power stays: there is room again.
    fn stays(&mut self) -> Result<(), String> {
        self.life(true)?;
        self.stats.continued += 1;
        match self.flash.meter().misuses {
            0 => Ok(()),
            count => Err(format!("the device was misused {count} times")),
        }
    }

    /// Mounts, checks, and works until power goes.
    fn life(&mut self, stays: bool) -> Result<(), String> {
        self.toy.clear();
        let mounted = self.bench.mount(&mut self.flash, &mut self.toy);
        let (mut log, report) = match mounted {
            Ok(mounted) => mounted,
            Err(MountError::Medium(_)) if !stays => return Ok(()),
            Err(error) => return Err(format!("cannot be mounted: {error:?}")),
        };
        if log.device().is_cut() {
            // What it says by then nobody gets to know.
            return Ok(());
        }
        self.stats.mounts += 1;
        self.stats.recoveries += u64::from(report.copied > 0);
        let found = self.allowed.iter().rposition(|&print| print == self.toy.print());
        let found = found.ok_or_else(|| {
            format!("not one of {} states that may be, {report:?}, {:?}", self.allowed.len(), log.stats())
        })?;
        if report.damages > 0 || self.toy.strays > 0 {
            return Err(format!("damage where only power was lost: {report:?}"));
        }
        if let Some(id) = self.toy.wrong(&mut log, self.bodies) {
            return Err(format!("message {id} is not what was published, {report:?}"));
        }
        // What was not found is gone for good.
        self.allowed.truncate(found + 1);
        self.toy.hold_all(&mut log);
        let mut work = Work {
            toy: &mut self.toy,
            bodies: self.bodies,
            random: &mut self.random,
            live: self.setting.live,
            pending: vec![(log.tail(), found)],
            allowed: &mut self.allowed,
        };
        if stays {
            return work.goes_on(&mut log);
        }
        work.until_it_fails(&mut log);
        match log.read_only() && !log.device().is_cut() {
            true => Err(format!("takes no more writes, {:?}", log.stats())),
            false => Ok(()),
        }
    }
}

/// What a life does.
struct Work<'w> {
    toy: &'w mut Toy,
    bodies: &'w Bodies,
    random: &'w mut Random,
    live: usize,
    /// Ends of what is not durable, and which state it led to.
    pending: Vec<(Position, usize)>,
    allowed: &'w mut Vec<u64>,
}

impl Work<'_> {
    fn until_it_fails(&mut self, log: &mut Log<'_, &mut FaultFlash>) {
        // As the broker does, before anything else.
        let mut done = self.toy.reclaim(log);
        let most = 1 + self.random.below(40);
        for _ in 0..most {
            if done.is_err() || log.device().is_cut() {
                return;
            }
            done = self.act(log);
        }
    }

    fn act(&mut self, log: &mut Log<'_, &mut FaultFlash>) -> Result<(), LogError> {
        let full = self.toy.live().count() >= self.live || self.toy.next as usize >= self.bodies.0.len() - 64;
        match self.random.below(8) {
            0..=2 if !full => self.publish(log).map(|_| ())?,
            0..=4 => {
                let place = self.random.below(4) as usize;
                let id = self.toy.live().nth(place).map(|(id, _)| id);
                if let Some(id) = id {
                    self.acknowledge(log, id)?;
                }
            }
            _ => {}
        }
        log.commit()?;
        log.poll()?;
        self.note_durable(log);
        self.toy.reclaim(log)
    }

    /// Publishes; false if there is no room.
    fn publish(&mut self, log: &mut Log<'_, &mut FaultFlash>) -> Result<bool, LogError> {
        let (before, id) = (self.toy.print(), self.toy.next);
        let done = self.toy.publish(log, self.bodies).map(|_| ());
        self.note(log, done, before ^ mix(u64::from(id) + 1))
    }

    /// Acknowledges; false if there is no room.
    fn acknowledge(&mut self, log: &mut Log<'_, &mut FaultFlash>, id: u32) -> Result<bool, LogError> {
        let before = self.toy.print();
        let done = self.toy.ack(log, id);
        self.note(log, done, before ^ mix(u64::from(id) + 1))
    }

    /// What was done may be there also if it is said to have failed.
    fn note(
        &mut self,
        log: &Log<'_, &mut FaultFlash>,
        done: Result<(), AppendError>,
        state: u64,
    ) -> Result<bool, LogError> {
        if done == Err(AppendError::Full) {
            return Ok(false);
        }
        self.allowed.push(state);
        done.map_err(|_| LogError::ReadOnly)?;
        self.pending.push((log.tail(), self.allowed.len() - 1));
        Ok(true)
    }

    fn note_durable(&mut self, log: &Log<'_, &mut FaultFlash>) {
        let durable = log.durable();
        let over = self.pending.iter().rposition(|&(end, _)| end <= durable);
        let Some((_, state)) = over.and_then(|over| self.pending.drain(..=over).next_back()) else { return };
        self.allowed.drain(..state);
        self.pending.iter_mut().for_each(|(_, later)| *later -= state);
    }

    fn goes_on(&mut self, log: &mut Log<'_, &mut FaultFlash>) -> Result<(), String> {
        let wrong = |error: LogError| format!("the log refuses: {error:?}");
        // With a write cache each start in doubt may take a segment.
        let full = |log: &Log<'_, &mut FaultFlash>| match log.device().ordered() {
            true => Err(format!("there is no room any more: {:?}", log.stats())),
            false => Ok(()),
        };
        for _ in 0..ON_COUNT {
            for round in 0.. {
                self.toy.reclaim(log).map_err(wrong)?;
                settle(log).map_err(wrong)?;
                if self.publish(log).map_err(wrong)? {
                    break;
                }
                if round == ROOM_ROUNDS {
                    return full(log);
                }
            }
            let Some((id, _)) = self.toy.live().next() else { continue };
            if !self.acknowledge(log, id).map_err(wrong)? {
                return full(log);
            }
        }
        settle(log).map_err(wrong)
    }
}
