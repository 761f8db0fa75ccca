//! Campaign 6: images that nobody wrote never panic, and mount in bounded steps.
//!
//! ```text
//! made from   a store at two moments of its life, and another store of the same salt or of another
//! made by     bits flipped · bytes drawn · a range copied from one to another · segments permuted
//!             or taken from the other · a range filled · headers changed and sealed again · all drawn
//! ```
//! A mount may refuse such a store, and may find any damage in it. What it shows must be readable or say
//! that it is not, no mount makes more than [`calls_max`] calls to the device, and whatever is published
//! then must be there at the next mount. That is asked where one thing was done and no header forged; else
//! it need only mount.

use super::{spread, Bounds};
use crate::flash::fault::{FaultFlash, FaultOptions, Tear};
use crate::flash::Geometry;
use crate::gateway::torture::random::Random;
use crate::gateway::torture::script::{plain_bodies, record, settle, Setting};
use crate::gateway::torture::stats::{Failure, Stats};
use crate::gateway::torture::toy::{Bench, Bodies, Toy};
use crate::log::{Log, MountError, MountReport};

/// Name of the campaign.
pub const NAME: &str = "images";
/// Number of cases.
pub const CASES: u64 = 2_000;
/// Images of a case.
const IMAGES: u64 = 500;
/// Acts that lead from one moment to the other.
const ACTS: u32 = 60;
/// Messages at most.
const MESSAGES: usize = 600;
/// Bytes of a header, its checksum included.
const HEADER: usize = 60;

/// Most calls that a mount may make: so many for each write unit, which a scan may try each, times the
/// passes over it that a mount makes at most.
pub fn calls_max(geometry: Geometry) -> u64 {
    let units = u64::from(geometry.segment_size / geometry.write_unit) * u64::from(geometry.segment_count);
    PASSES * (units + 8 * u64::from(geometry.segment_count))
}

/// Passes over a store that a mount makes at most.
const PASSES: u64 = 8;

/// The device of a case.
pub fn case(number: u64) -> Setting {
    let unit = [1, 4, 16, 64][number as usize % 4];
    let geometry = Geometry { segment_size: 1024, segment_count: 10, write_unit: unit };
    let erased = if number / 4 % 2 == 0 { 0xff } else { 0 };
    Setting { geometry, erased, cached: number / 8 % 2 == 1, tail: 256, live: 8 }
}

/// Runs the campaign.
pub fn run(bounds: &Bounds, seed: u64) -> Result<Stats, Failure> {
    spread(bounds, CASES, |number| one(bounds, number, seed))
}

fn one(bounds: &Bounds, number: u64, seed: u64) -> Result<Stats, Failure> {
    let setting = case(number);
    let failure = |cut: u64, what: String| Failure {
        campaign: NAME,
        seed,
        case: number,
        cut,
        second: None,
        setting: setting.to_string(),
        what,
    };
    let mut forger = forger(seed, number).map_err(|what| failure(0, what))?;
    for cut in (0..IMAGES).filter(|&cut| bounds.has_cut(number, cut)) {
        forger.at(cut);
        forger.try_it().map_err(|what| failure(cut, what))?;
    }
    Ok(forger.stats)
}

/// What makes the images of a case.
fn forger(seed: u64, number: u64) -> Result<Forger, String> {
    let setting = case(number);
    let script = Random::part(seed, number).draw();
    let mut sources = Vec::new();
    for store in 0..2 {
        let bodies = plain_bodies(MESSAGES - 16, script ^ store);
        sources.extend(record(&setting, bodies, ACTS, script ^ store)?.images);
    }
    // Another seed gives other nonces than the sources have, as opening a device does.
    let options = FaultOptions { seed: !script, erased: setting.erased, cached: setting.cached, ecc: false };
    Ok(Forger {
        geometry: setting.geometry,
        device: FaultFlash::new(setting.geometry, options).ok_or("no such device")?,
        bench: Bench::new(setting.geometry, setting.tail),
        toy: Toy::new(MESSAGES),
        bodies: plain_bodies(MESSAGES, script),
        sources,
        script,
        forged: false,
        image: Vec::new(),
        stats: Stats::default(),
    })
}

/// Makes images and mounts them.
struct Forger {
    geometry: Geometry,
    /// The device they are put on.
    device: FaultFlash,
    bench: Bench,
    toy: Toy,
    bodies: Bodies,
    sources: Vec<Vec<u8>>,
    /// The image that was made last.
    image: Vec<u8>,
    script: u64,
    /// A header in it was changed and sealed again, or more than one thing was done to it.
    forged: bool,
    stats: Stats,
}

impl Forger {
    /// Makes the image of a number, by one change or several.
    fn at(&mut self, number: u64) {
        let random = &mut Random::part(self.script, number);
        self.image.clone_from(&self.sources[random.below(4) as usize]);
        let changes = random.below(5);
        self.forged = changes > 0;
        for _ in 0..=changes {
            self.change(random);
        }
    }

    fn change(&mut self, random: &mut Random) {
        let size = self.geometry.segment_size as usize;
        let len = self.image.len();
        let place = random.below(len as u64) as usize;
        let end = (place + 1 + random.below(300) as usize).min(len);
        let segment = place / size * size;
        let other = &self.sources[random.below(4) as usize];
        match random.below(8) {
            0 => (0..=random.below(64)).for_each(|_| {
                self.image[random.below(len as u64) as usize] ^= 1 << random.below(8);
            }),
            1 => self.image[place..end].iter_mut().for_each(|byte| *byte = random.draw() as u8),
            2 => {
                let from = random.below((len - (end - place)) as u64) as usize;
                self.image[place..end].copy_from_slice(&other[from..][..end - place]);
            }
            3 => self.image[segment..][..size].copy_from_slice(&other[segment..][..size]),
            4 => {
                let from = random.below((len / size) as u64) as usize * size;
                self.image[segment..][..size].copy_from_slice(&other[from..][..size]);
            }
            5 => {
                let fill = [0, 0xff, random.draw() as u8][random.below(3) as usize];
                self.image[place..end].fill(fill);
            }
            6 if random.once_in(2) => self.reseal(segment, random),
            _ if random.once_in(20) => self.image.iter_mut().for_each(|byte| *byte = random.draw() as u8),
            _ => self.image[segment..][..size].rotate_right(random.below(size as u64) as usize),
        }
    }

    /// Changes a header and makes its checksum right again.
    fn reseal(&mut self, segment: usize, random: &mut Random) {
        self.forged = true;
        let header = &mut self.image[segment..][..HEADER];
        // Flags, or one of the numbers behind the salt.
        let field = if random.once_in(6) { 5 } else { 16 + 4 * random.below(10) as usize };
        let near =
            u32::from_le_bytes([header[field], header[field + 1], header[field + 2], header[field + 3]]);
        let number = match random.below(4) {
            0 => random.draw() as u32,
            1 => near.wrapping_add(random.below(40) as u32).wrapping_sub(20),
            2 => [0, u32::MAX, 1 << 31][random.below(3) as usize],
            _ => near ^ 1 << random.below(32),
        };
        match field {
            5 => header[5] ^= 1,
            _ => header[field..field + 4].copy_from_slice(&number.to_le_bytes()),
        }
        let sum = crc32c::crc32c(&header[..HEADER - 4]);
        header[HEADER - 4..].copy_from_slice(&sum.to_le_bytes());
    }

    /// Mounts the image; goes on if that is possible, and mounts again.
    fn try_it(&mut self) -> Result<(), String> {
        self.device.load(&self.image);
        self.stats.cuts += 1;
        let mounted = mount(&mut self.bench, &mut self.device, &mut self.toy, &mut self.stats)?;
        let Ok((mut log, report)) = mounted else { return Ok(()) };
        self.stats.reported += u64::from(report.damages);
        self.toy.hold_all(&mut log);
        // Whatever is found must be whole or say that it is not; both are fine.
        self.stats.lost += u64::from(self.toy.wrong(&mut log, &self.bodies).is_some());
        let first = self.toy.next.min(MESSAGES as u32 - 4);
        self.toy.next = first;
        let mut published = Vec::new();
        for _ in 0..3 {
            published.extend(self.toy.publish(&mut log, &self.bodies));
            let room = self.toy.reclaim(&mut log).and_then(|()| log.commit()).and_then(|()| log.poll());
            if room.is_err() {
                return Ok(());
            }
        }
        if settle(&mut log).is_err() || log.unsynced() || published.is_empty() {
            return Ok(());
        }
        self.device.restart(Tear::Reordered);
        let again = mount(&mut self.bench, &mut self.device, &mut self.toy, &mut self.stats)?;
        let (mut log, report) = again.map_err(|error| format!("it does not mount again: {error:?}"))?;
        self.stats.continued += 1;
        // A header that lies about what is durable cannot be told from one that does not, and where
        // several segments are gone the way to what comes later may be, too.
        for id in published.into_iter().filter(|_| !self.forged) {
            let found = self.toy.is_live(id).then(|| self.toy.place(id)).and_then(|at| log.read(at).ok());
            if found.is_none_or(|record| record.payload != self.bodies.of(id)) {
                return Err(format!("message {id}, published on it, is lost: {report:?}"));
            }
        }
        Ok(())
    }
}

type Mounted<'m> = Result<(Log<'m, &'m mut FaultFlash>, MountReport), MountError>;

fn mount<'m>(
    bench: &'m mut Bench,
    device: &'m mut FaultFlash,
    toy: &mut Toy,
    stats: &mut Stats,
) -> Result<Mounted<'m>, String> {
    toy.clear();
    let geometry = crate::flash::Flash::geometry(device);
    let before = device.meter();
    let mounted = bench.mount(device, toy);
    stats.mounts += 1;
    stats.refused += u64::from(mounted.is_err());
    if let Ok((log, _)) = &mounted {
        let after = log.device().meter();
        let calls = (after.reads - before.reads) + (after.programs - before.programs);
        stats.most_calls = stats.most_calls.max(calls);
        if calls > calls_max(geometry) {
            return Err(format!("a mount makes {calls} calls"));
        }
    }
    Ok(mounted)
}
