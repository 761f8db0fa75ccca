//! Campaign 1: power is cut at every byte of every operation of a script.
//!
//! For every tear, write unit and kind of device a script is recorded once, and every step of the tape
//! is a cut. All cuts are mounted and checked; every [`AGAIN_EVERY`]th is mounted a second time, and
//! every [`ON_EVERY`]th goes on, loses power once more and is mounted again.

use super::{spread, Bounds};
use crate::flash::fault::Tear;
use crate::flash::Geometry;
use crate::gateway::torture::inspect::{Depth, Inspector, Wrong};
use crate::gateway::torture::random::Random;
use crate::gateway::torture::script::{plain_bodies, record, Recording, Setting};
use crate::gateway::torture::stats::{Failure, Stats};
use crate::gateway::torture::toy::Bench;

/// Name of the campaign.
pub const NAME: &str = "every-byte";
/// Write units, in bytes.
pub const UNITS: [u32; 7] = [1, 2, 4, 8, 16, 32, 256];
/// What erased bytes read.
pub const ERASED: [u8; 2] = [0xff, 0x00];
/// Acts of a script that are recorded.
pub const ACTS: u32 = 90;
/// Messages of a script at most.
pub const MESSAGES: usize = 1000;
/// Of these, how many are published behind a cut only.
pub const SPARE: usize = 16;
/// Of so many cuts one is mounted a second time.
const AGAIN_EVERY: u64 = 4;
/// Of so many cuts one goes on.
const ON_EVERY: u64 = 32;

/// Number of cases.
pub const CASES: u64 = (UNITS.len() * ERASED.len() * 2 * Tear::ALL.len()) as u64;

/// A case: its device, and what a loss of power does to it.
pub fn case(number: u64) -> (Setting, Tear) {
    let number = number as usize;
    let tear = Tear::ALL[number % Tear::ALL.len()];
    let number = number / Tear::ALL.len();
    let unit = UNITS[number % UNITS.len()];
    let number = number / UNITS.len();
    (setting(unit, ERASED[number % 2], number / 2 % 2 == 1), tear)
}

/// The device with this write unit.
pub fn setting(unit: u32, erased: u8, cached: bool) -> Setting {
    // With fewer units a batch may not fit the segment its copies go to, and what is torn stays in place.
    let segment_size = if unit > 64 { 4096 } else { 1024 };
    let segment_count = if unit > 8 { 12 } else { 10 };
    let geometry = Geometry { segment_size, segment_count, write_unit: unit };
    // Where a unit holds more than a message, each commit takes a unit.
    let live = if unit > 8 { 8 } else { 14 };
    let tail = if unit.is_power_of_two() && unit.trailing_zeros() % 2 == 0 { segment_size } else { 128 };
    Setting { geometry, erased, cached, tail, live }
}

/// Runs the campaign.
pub fn run(bounds: &Bounds, seed: u64) -> Result<Stats, Failure> {
    spread(bounds, CASES, |number| one(bounds, number, seed))
}

fn one(bounds: &Bounds, number: u64, seed: u64) -> Result<Stats, Failure> {
    let script = script_of(number, seed);
    let recording = record(&case(number).0, plain_bodies(MESSAGES - SPARE, script), ACTS, script);
    sweep(NAME, bounds, number, seed, recording)
}

/// The seed of a case's script: the tears of one device share it.
pub fn script_of(number: u64, seed: u64) -> u64 {
    Random::part(seed, number / Tear::ALL.len() as u64).draw()
}

/// Cuts what was recorded of the script of a case everywhere.
pub fn sweep(
    campaign: &'static str,
    bounds: &Bounds,
    number: u64,
    seed: u64,
    recording: Result<Recording, String>,
) -> Result<Stats, Failure> {
    let (setting, tear) = case(number);
    let script = script_of(number, seed);
    let failure = |cut: u64, what: String| {
        let setting = format!("{setting}, {tear:?}");
        Failure { campaign, seed, case: number, cut, second: None, setting, what }
    };
    let recording = recording.map_err(|what| failure(0, what))?;
    let mut inspector = Inspector::new(Bench::new(setting.geometry, setting.tail), MESSAGES);
    let mut device = setting.device(script).ok_or_else(|| failure(0, "no such device".into()))?;
    let mut player = recording.tape.play();
    for cut in recording.tape.first_step()..=recording.tape.steps() {
        if !bounds.has_cut(number, cut) {
            continue;
        }
        player.seek(cut);
        let depth = match cut {
            _ if cut % ON_EVERY == 0 => Depth::On,
            _ if cut % AGAIN_EVERY == 1 => Depth::Again,
            _ => Depth::Once,
        };
        // One that is asked for alone is asked for everything.
        let more = bounds.cut.map(|_| Depth::On).filter(|&more| more != depth);
        for depth in std::iter::once(depth).chain(more) {
            player.cut(tear, script ^ cut, &mut device);
            let allowed = recording.ledger.allowed(cut);
            let checked = inspector.inspect(&mut device, allowed, &recording.bodies, depth, tear);
            checked.map_err(|wrong| {
                let more = match wrong {
                    Wrong::State(print) => recording.ledger.explain(cut, print),
                    _ => String::new(),
                };
                failure(cut, format!("{wrong} {more}"))
            })?;
        }
    }
    Ok(inspector.stats)
}
