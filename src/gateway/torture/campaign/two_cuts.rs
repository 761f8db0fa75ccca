//! Campaign 2: power is cut twice, the second time at every byte of the recovery from the first.
//!
//! On a small device, for every cut of a short script the recovery is recorded (the mount, what makes it
//! durable, and one publish after it), and its tape is cut at each of its steps. The tears of the two
//! cuts are all pairs.

use super::{spread, Bounds};
use crate::flash::fault::Tear;
use crate::flash::Geometry;
use crate::gateway::torture::inspect::{Depth, Inspector, Wrong};
use crate::gateway::torture::ledger::Ledger;
use crate::gateway::torture::random::Random;
use crate::gateway::torture::script::{plain_bodies, record, Recording, Setting};
use crate::gateway::torture::stats::{Failure, Stats};
use crate::gateway::torture::toy::Bench;

/// Name of the campaign.
pub const NAME: &str = "two-cuts";
/// Write units, in bytes.
const UNITS: [u32; 4] = [1, 4, 16, 64];
/// The same of cached devices, whose erases leave things behind: there a header must be one unit, or the
/// units of two headers of the same number may make a third.
const CACHED_UNITS: [u32; 4] = [64; 4];
/// Acts of a script that are recorded.
const ACTS: u32 = 24;
/// Messages of a script, and what is published behind it.
const MESSAGES: usize = 300;
/// Of these, how many are published behind a cut only.
const SPARE: usize = 8;
/// Of so many second cuts one goes on.
const ON_EVERY: u64 = 64;

/// Number of cases.
pub const CASES: u64 = (UNITS.len() * 2 * TEARS * TEARS) as u64;
const TEARS: usize = Tear::ALL.len();

/// A case: its device, and what the two losses of power do.
pub fn case(number: u64) -> (Setting, Tear, Tear) {
    let number = number as usize;
    let (first, second) = (Tear::ALL[number % TEARS], Tear::ALL[number / TEARS % TEARS]);
    let number = number / TEARS / TEARS;
    let cached = number / 4 % 2 == 1;
    let write_unit = if cached { CACHED_UNITS } else { UNITS }[number % 4];
    // Between two syncs more is in doubt, and should fit the segment its copies go to.
    let segment_size = if cached { 2048 } else { 1024 };
    let geometry = Geometry { segment_size, segment_count: 8, write_unit };
    let erased = if number % 2 == 0 { 0xff } else { 0 };
    let setting = Setting { geometry, erased, cached, tail: 256, live: 5 };
    (setting, first, second)
}

/// Runs the campaign.
pub fn run(bounds: &Bounds, seed: u64) -> Result<Stats, Failure> {
    spread(bounds, CASES, |number| one(bounds, number, seed))
}

fn one(bounds: &Bounds, number: u64, seed: u64) -> Result<Stats, Failure> {
    let (setting, tear, _) = case(number);
    let script = Random::part(seed, number / (TEARS * TEARS) as u64).draw();
    let recorded = record(&setting, plain_bodies(MESSAGES - SPARE, script), ACTS, script);
    let recording = recorded.map_err(|what| failure(number, seed, 0, None, what))?;
    let mut inspector = Inspector::new(Bench::new(setting.geometry, setting.tail), MESSAGES);
    let no_device = || failure(number, seed, 0, None, "no such device".into());
    let mut device = setting.device(script).ok_or_else(no_device)?;
    let mut player = recording.tape.play();
    for cut in recording.tape.first_step()..=recording.tape.steps() {
        if !bounds.has_cut(number, cut) {
            continue;
        }
        player.seek(cut);
        player.cut(tear, script ^ cut, &mut device);
        let first = First { recording: &recording, cut, number, seed: script ^ cut };
        let done = first.cut_again(bounds, &mut device, &mut inspector);
        done.map_err(|(second, what)| failure(number, seed, cut, second, what))?;
    }
    Ok(inspector.stats)
}

/// A first cut.
struct First<'r> {
    recording: &'r Recording,
    cut: u64,
    number: u64,
    seed: u64,
}

impl First<'_> {
    /// Records the recovery and cuts it at each of its steps.
    fn cut_again(
        &self,
        bounds: &Bounds,
        device: &mut crate::flash::fault::FaultFlash,
        inspector: &mut Inspector,
    ) -> Result<(), (Option<u64>, String)> {
        let (_, _, tear) = case(self.number);
        let bodies = &self.recording.bodies;
        let before = self.recording.ledger.allowed(self.cut);
        let mut ledger = Ledger::default();
        device.record();
        let revived = inspector.revive(device, bodies, &mut ledger);
        let settled = revived.map_err(|wrong| (None, wrong.to_string()))?;
        let tape = device.tape();
        let mut player = tape.play();
        for second in tape.first_step()..=tape.steps() {
            if bounds.second.is_some_and(|only| only != second) {
                continue;
            }
            player.seek(second);
            player.cut(tear, self.seed ^ second << 32, device);
            let depth = if second % ON_EVERY == 0 { Depth::On } else { Depth::Once };
            // What the recovery showed is certain once it was made durable.
            let allowed = if second > settled { ledger.allowed(second) } else { before };
            let checked = inspector.inspect(device, allowed, bodies, depth, tear);
            checked.map_err(|wrong| {
                let more = match wrong {
                    Wrong::State(print) if second > settled => ledger.explain(second, print),
                    Wrong::State(print) => self.recording.ledger.explain(self.cut, print),
                    _ => String::new(),
                };
                (Some(second), format!("{wrong} {more}"))
            })?;
        }
        Ok(())
    }
}

fn failure(case: u64, seed: u64, cut: u64, second: Option<u64>, what: String) -> Failure {
    let (setting, first, then) = self::case(case);
    let setting = format!("{setting}, {first:?}, then {then:?}");
    Failure { campaign: NAME, seed, case, cut, second, setting, what }
}
