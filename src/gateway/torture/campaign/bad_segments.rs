//! Campaign 7: segments that wear out, bits that stick, programs that fall short, syncs that fail.
//!
//! A device gets worse while a script runs on it. After a failed write the log is read-only; the driver
//! then mounts it again, as a firmware would restart, and goes on. At every mount, and in the end, all
//! that was confirmed must be there, also when no good segment is left; how much can still be published then
//! is another matter. A segment that fails never fails to be read here.

use super::{spread, Bounds};
use crate::flash::fault::{FaultFlash, Tear};
use crate::flash::Geometry;
use crate::gateway::torture::ledger::{mix, Act, Ledger, NEVER};
use crate::gateway::torture::random::Random;
use crate::gateway::torture::script::{plain_bodies, Setting};
use crate::gateway::torture::stats::{Failure, Stats};
use crate::gateway::torture::toy::{Bench, Bodies, Toy};
use crate::log::{AppendError, Log, LogError};

/// Name of the campaign.
pub const NAME: &str = "bad-segments";
/// Number of cases.
pub const CASES: u64 = 10_000;
/// Acts of a case.
const ACTS: u32 = 400;
/// Messages of a case at most.
const MESSAGES: usize = 420;
/// Mounts in a row that may fail while segments fail under them.
const MOUNTS_MAX: u32 = 16;

/// The device of a case.
pub fn case(number: u64) -> Setting {
    let unit = [1, 4, 16, 64][number as usize % 4];
    let count = if number / 4 % 2 == 0 { 10 } else { 16 };
    let geometry = Geometry { segment_size: 1024, segment_count: count, write_unit: unit };
    let erased = if number / 8 % 2 == 0 { 0xff } else { 0 };
    // See `two_cuts` for why only these.
    let cached = unit == 64 && number / 16 % 2 == 1;
    Setting { geometry, erased, cached, tail: 256, live: 6 }
}

/// Runs the campaign.
pub fn run(bounds: &Bounds, seed: u64) -> Result<Stats, Failure> {
    spread(bounds, CASES, |number| {
        let setting = case(number);
        let script = Random::part(seed, number).draw();
        let wrong = |what| Failure {
            campaign: NAME,
            seed,
            case: number,
            cut: 0,
            second: None,
            setting: setting.to_string(),
            what,
        };
        let bodies = plain_bodies(MESSAGES, script);
        let mut wear = Wear::new(&setting, &bodies, script, 1 + number / 32 % 4).map_err(wrong)?;
        wear.run().map_err(wrong)?;
        Ok(wear.stats)
    })
}

/// A device that gets worse.
struct Wear<'b> {
    setting: Setting,
    flash: FaultFlash,
    bench: Bench,
    bodies: &'b Bodies,
    toy: Toy,
    ledger: Ledger,
    random: Random,
    left: u32,
    /// How much breaks at the end of a life at most.
    pace: u64,
    stats: Stats,
}

impl<'b> Wear<'b> {
    fn new(setting: &Setting, bodies: &'b Bodies, seed: u64, pace: u64) -> Result<Wear<'b>, String> {
        let mut ledger = Ledger::default();
        ledger.begin(0);
        Ok(Wear {
            setting: *setting,
            flash: setting.formatted(seed)?,
            bench: Bench::new(setting.geometry, setting.tail),
            bodies,
            toy: Toy::new(MESSAGES),
            ledger,
            random: Random::part(seed, 7),
            left: ACTS,
            pace,
            stats: Stats::default(),
        })
    }

    fn run(&mut self) -> Result<(), String> {
        while self.left > 0 {
            self.life()?;
            self.flash.restart(Tear::Prefix);
            self.stats.cuts += 1;
        }
        Ok(())
    }

    /// Mounts, checks, and works until a write fails or there is nothing left to do.
    fn life(&mut self) -> Result<(), String> {
        for attempt in 1.. {
            self.toy.clear();
            let mounted = self.bench.mount(&mut self.flash, &mut self.toy);
            self.stats.mounts += 1;
            match mounted {
                Ok((mut log, report)) => {
                    let state = self.toy.print();
                    if !self.ledger.allowed(NEVER - 1).contains(&state) || report.damages > 0 {
                        let known = self.ledger.explain(NEVER - 1, state);
                        return Err(format!("{known}, {report:?}, {:?}", log.stats()));
                    }
                    if let Some(id) = self.toy.wrong(&mut log, self.bodies) {
                        return Err(format!("message {id} is not what was published, {report:?}"));
                    }
                    self.stats.recoveries += u64::from(report.copied > 0);
                    self.toy.hold_all(&mut log);
                    let work = Work {
                        toy: &mut self.toy,
                        ledger: &mut self.ledger,
                        random: &mut self.random,
                        bodies: self.bodies,
                        live: self.setting.live,
                    };
                    self.left = work.until_it_fails(&mut log, self.left);
                    break;
                }
                Err(error) if attempt == MOUNTS_MAX => {
                    return Err(format!("cannot be mounted any more: {error:?}"));
                }
                Err(_) => self.flash.restart(Tear::Prefix),
            }
        }
        for _ in 0..=self.random.below(self.pace) {
            self.worsen();
        }
        Ok(())
    }

    /// Something breaks.
    fn worsen(&mut self) {
        let Geometry { segment_size, segment_count, .. } = self.setting.geometry;
        let bits = u64::from(segment_size) * 8;
        let segment = self.random.below(u64::from(segment_count)) as u32;
        match self.random.below(4) {
            0 => self.flash.wear_out(segment),
            1 => {
                let value = self.random.once_in(2);
                self.flash.stick(u64::from(segment) * bits + self.random.below(bits), value);
            }
            2 => self.flash.fail_programs(self.random.below(30), self.random.below(80) as u32),
            _ => self.flash.fail_syncs(1),
        }
    }
}

/// What a life does.
struct Work<'w> {
    toy: &'w mut Toy,
    ledger: &'w mut Ledger,
    random: &'w mut Random,
    bodies: &'w Bodies,
    live: usize,
}

impl Work<'_> {
    /// Works until a write or a sync fails, or for a while; the acts that are left then.
    fn until_it_fails(mut self, log: &mut Log<'_, &mut FaultFlash>, left: u32) -> u32 {
        self.ledger.forget_ends();
        // What a mount found is durable with the first sync that ends well.
        self.ledger.push(Act::Mounted, 0, self.toy.print());
        let most = 20 + self.random.below(40) as u32;
        for done in 0..left.min(most) {
            if self.act(log).is_err() || log.read_only() {
                return left - done - 1;
            }
        }
        left.saturating_sub(most)
    }

    fn act(&mut self, log: &mut Log<'_, &mut FaultFlash>) -> Result<(), LogError> {
        let place = self.random.below(4) as usize;
        let full = self.toy.live().count() >= self.live || self.toy.next as usize >= self.bodies.0.len();
        let before = self.toy.print();
        match self.random.below(10) {
            0..=4 if !full => {
                // It may be there also if it is said to have failed.
                let id = self.toy.next;
                self.ledger.push(Act::Publish(id), 0, before ^ mix(u64::from(id) + 1));
                let done = self.toy.publish(log, self.bodies).map(|_| ());
                self.undo_if_refused(done)?;
            }
            0..=7 => {
                let Some((id, _)) = self.toy.live().nth(place) else { return Ok(()) };
                self.ledger.push(Act::Ack(id), 0, before ^ mix(u64::from(id) + 1));
                let done = self.toy.ack(log, id);
                self.undo_if_refused(done)?;
            }
            _ => {}
        }
        self.toy.reclaim(log)?;
        self.ledger.ends_at(log.tail());
        if self.random.once_in(3) {
            log.commit()?;
            log.poll()?;
            self.ledger.settle_to(log.durable(), 0);
        }
        Ok(())
    }

    fn undo_if_refused(&mut self, done: Result<(), AppendError>) -> Result<(), LogError> {
        match done {
            Ok(()) => Ok(()),
            Err(AppendError::Full) => {
                // For lack of room: nothing was done.
                self.ledger.push(Act::Mounted, 0, self.toy.print());
                Ok(())
            }
            Err(_) => Err(LogError::ReadOnly),
        }
    }
}
