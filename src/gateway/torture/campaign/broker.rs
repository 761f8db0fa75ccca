//! Campaigns 1 and 2 again, a smaller share of them under the real broker.
//!
//! What the log promises the broker has to pass on: declarations, bindings, runs of acknowledgements,
//! copies that reclaim makes. A script of it is recorded and cut at every step; of every
//! [`TWICE_EVERY`]th cut the recovery is recorded and cut at every [`SECOND_EVERY`]th of its steps.

use super::{spread, Bounds};
use crate::flash::fault::{FaultFlash, Tape, Tear};
use crate::flash::Geometry;
use crate::gateway::torture::random::Random;
use crate::gateway::torture::script::{format, Setting};
use crate::gateway::torture::shop::{Desk, Facts, Sight};
use crate::gateway::torture::stats::{Failure, Stats};

/// Name of the campaign.
pub const NAME: &str = "broker";
/// Write units of devices that erase, and of those that do not.
const UNITS: [[u32; 4]; 2] = [[1, 4, 16, 64], [64; 4]];
/// Number of cases.
pub const CASES: u64 = (4 * 2 * Tear::ALL.len()) as u64;
/// Acts before the recorded stretch, and in it.
const ACTS: [u32; 2] = [220, 50];
/// Of so many cuts one goes on.
const ON_EVERY: u64 = 16;
/// Of so many cuts the recovery is cut as well, at one of so many steps.
const TWICE_EVERY: u64 = 64;
/// See above.
const SECOND_EVERY: u64 = 5;
/// Messages published to see that a store goes on.
const ON_COUNT: u32 = 2;

/// A case: its device, and what a loss of power does to it.
pub fn case(number: u64) -> (Setting, Tear) {
    let tear = Tear::ALL[number as usize % Tear::ALL.len()];
    let number = number as usize / Tear::ALL.len();
    let cached = number / 4 % 2 == 1;
    let write_unit = UNITS[usize::from(cached)][number % 4];
    let geometry = Geometry { segment_size: 2048, segment_count: 12, write_unit };
    let erased = if number % 2 == 0 { 0xff } else { 0 };
    (Setting { geometry, erased, cached, tail: 2048, live: 0 }, tear)
}

/// Runs the campaign.
pub fn run(bounds: &Bounds, seed: u64) -> Result<Stats, Failure> {
    spread(bounds, CASES, |number| one(bounds, number, seed))
}

fn one(bounds: &Bounds, number: u64, seed: u64) -> Result<Stats, Failure> {
    let (setting, tear) = case(number);
    let failure = |cut: u64, second: Option<u64>, what: String| {
        let setting = format!("{setting}, {tear:?}");
        Failure { campaign: NAME, seed, case: number, cut, second, setting, what }
    };
    let script = Random::part(seed, number / Tear::ALL.len() as u64).draw();
    let mut trade = Trade::record(&setting, script).map_err(|what| failure(0, None, what))?;
    let mut device = setting.device(script).ok_or_else(|| failure(0, None, "no such device".into()))?;
    let tape = trade.tape.clone();
    let mut player = tape.play();
    for cut in tape.first_step()..=tape.steps() {
        if !bounds.has_cut(number, cut) {
            continue;
        }
        player.seek(cut);
        player.cut(tear, script ^ cut, &mut device);
        let on = cut % ON_EVERY == 0 || bounds.cut.is_some();
        let twice = cut % TWICE_EVERY == 1 || bounds.second.is_some();
        if twice {
            device.record();
        }
        trade.check(&mut device, cut, on && !twice, tear).map_err(|what| failure(cut, None, what))?;
        if !twice {
            continue;
        }
        let again = device.tape();
        let mut second = again.play();
        for step in (again.first_step()..=again.steps()).step_by(SECOND_EVERY as usize) {
            second.seek(step);
            second.cut(tear, script ^ cut ^ step << 32, &mut device);
            let checked = trade.check(&mut device, cut, false, tear);
            checked.map_err(|what| failure(cut, Some(step), what))?;
        }
    }
    Ok(trade.stats)
}

/// A recorded stretch of a broker's work.
struct Trade {
    tape: Tape,
    facts: Facts,
    next: u32,
    desk: Desk,
    seen: Sight,
    again: Sight,
    stats: Stats,
}

impl Trade {
    fn record(setting: &Setting, seed: u64) -> Result<Trade, String> {
        let mut device = setting.device(seed).ok_or("no such device")?;
        format(&mut device)?;
        let mut desk = Desk::new(setting.geometry);
        let mut random = Random::part(seed, 5);
        let mut facts = Facts::default();
        let mut next = 0;
        let refused = |refusal| format!("the broker refuses: {refusal:?}");
        let step = |device: &&mut FaultFlash| device.steps();
        for acts in ACTS {
            let (mut shop, _) = desk.mount(&mut device).map_err(|error| format!("{error:?}"))?;
            if next == 0 {
                shop.furnish().map_err(refused)?;
            }
            shop.consume().map_err(refused)?;
            next = shop.work(next, acts, &mut random, &mut facts, step).map_err(refused)?;
            if acts == ACTS[0] {
                // All is durable: nothing is lost, and a device that is cached is another one.
                device.restart(Tear::Prefix);
                device.record();
            }
        }
        let (seen, again, stats) = Default::default();
        Ok(Trade { tape: device.tape(), facts, next, desk, seen, again, stats })
    }

    /// Mounts a device whose power went at a step, and looks.
    fn check(&mut self, device: &mut FaultFlash, step: u64, on: bool, tear: Tear) -> Result<(), String> {
        self.stats.cuts += 1;
        self.stats.mounts += 1;
        let (mut shop, mounted) =
            self.desk.mount(&mut *device).map_err(|error| format!("cannot be mounted: {error:?}"))?;
        shop.look(&mut self.seen);
        self.stats.recoveries += u64::from(mounted.log.copied > 0);
        if mounted.log.damages > 0 || !self.seen.unreadable.is_empty() {
            let unreadable = &self.seen.unreadable;
            return Err(format!("damage where only power was lost: {unreadable:?}, {:?}", mounted.log));
        }
        if let Some(what) = self.facts.wrong(&self.seen, step) {
            return Err(format!("{what}, {:?}", mounted.log));
        }
        if on {
            shop.settle();
            shop.go_on(self.next, ON_COUNT).map_err(|refusal| format!("goes not on: {refusal:?}"))?;
            shop.look(&mut self.seen);
            device.restart(tear);
            let again = self.desk.mount(&mut *device);
            let (mut shop, mounted) = again.map_err(|error| format!("cannot be mounted again: {error:?}"))?;
            shop.look(&mut self.again);
            self.stats.mounts += 1;
            self.stats.continued += 1;
            if self.again != self.seen {
                let what = self.seen.difference(&self.again);
                return Err(format!("a second mount shows something else: {what}, {:?}", mounted.log));
            }
        }
        match device.meter().misuses {
            0 => Ok(()),
            count => Err(format!("the device was misused {count} times")),
        }
    }
}
