//! What is to happen in a run, drawn from its seed: the device, the lives, the actions, the cuts.

use super::random::Random;
use super::simulator::{Defect, Options, IN_FLIGHT};
use crate::flash::fault::{FaultOptions, Tear};
use crate::flash::Geometry;
use crate::limits::Limits;

/// How a life ends.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// Power goes after so many steps of the device, if there are so many.
    Cut(u64),
    /// Power goes when all is done.
    Late,
    /// The program dies and the device goes on.
    Kill,
    /// In order.
    Close,
}

/// One life, and how it comes back from its end.
#[derive(Clone, Debug)]
pub struct LifeScript {
    /// One number for each action.
    pub actions: Vec<u64>,
    /// How it ends.
    pub end: End,
    /// What that does to the device.
    pub tear: (Tear, u64),
    /// The next mounts are cut after so many steps.
    pub mount_cuts: Vec<(u64, Tear, u64)>,
    /// It is mounted a second time at once.
    pub twice: bool,
}

/// A run.
#[derive(Clone, Debug)]
pub struct Script {
    /// Where it comes from.
    pub seed: u64,
    /// Sizes of the device.
    pub geometry: Geometry,
    /// What the device is like.
    pub device: FaultOptions,
    /// Pages for entries.
    pub pages: u32,
    /// The lives.
    pub lives: Vec<LifeScript>,
    /// See [`Options`].
    pub defect: Option<Defect>,
    /// See [`Options`].
    pub beyond_reserve: bool,
}

impl Script {
    /// The script of a seed.
    pub fn of(seed: u64, options: &Options) -> Script {
        let random = &mut Random::part(seed, 3);
        let unit = [1, 2, 4, 8, 16, 32, 256][random.below(7) as usize];
        let segment_size = [2048, 2048, 4096, 8192][random.below(4) as usize].max(unit * 16);
        let segment_count = [10, 12, 16, 16, 24, 32][random.below(6) as usize];
        let erased = if random.once_in(3) { random.draw() as u8 } else { 0xff };
        let cached = random.once_in(2);
        let device = FaultOptions { seed: random.draw(), erased, cached, ecc: random.once_in(4) };
        let pages = [14, 24, 24, 48][random.below(4) as usize];
        let lives = (0..options.lives).map(|_| life_script(random)).collect();
        let geometry = Geometry { segment_size, segment_count, write_unit: unit };
        Script {
            seed,
            geometry,
            device,
            pages,
            lives,
            defect: options.defect,
            beyond_reserve: options.beyond_reserve,
        }
    }

    /// The limits of its broker.
    pub(super) fn limits(&self) -> Limits {
        Limits {
            queues: 16,
            entries: self.pages * 32,
            in_flight: IN_FLIGHT,
            consumers: 24,
            exchanges: 8,
            bindings: 16,
            nodes: 32,
            text_bytes: 2048,
            dedup: 16,
            held: 8,
            producers: 4,
            retained: 6,
            max_message_bytes: 256,
            tail_bytes: self.geometry.segment_size,
            index_bytes: 768,
            windows: 2,
        }
    }
}

fn tear(random: &mut Random) -> (Tear, u64) {
    (Tear::ALL[random.below(Tear::ALL.len() as u64) as usize], random.draw())
}

fn life_script(random: &mut Random) -> LifeScript {
    let most = [6, 20, 40, 120][random.below(4) as usize];
    let actions = (0..random.below(most)).map(|_| random.draw()).collect();
    let steps = [40, 400, 4_000, 20_000][random.below(4) as usize];
    let end = match random.below(12) {
        0 => End::Kill,
        1 => End::Close,
        2 | 3 => End::Late,
        _ => End::Cut(random.below(steps)),
    };
    let cuts = if random.once_in(3) { random.below(5) } else { 0 };
    let mount_cuts = (0..cuts)
        .map(|_| {
            let (tear, seed) = tear(random);
            let most = if random.once_in(2) { 150 } else { 1_500 };
            (random.below(most), tear, seed)
        })
        .collect();
    LifeScript { actions, end, tear: tear(random), mount_cuts, twice: random.once_in(3) }
}
