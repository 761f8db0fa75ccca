//! A device in memory that misbehaves in every way flash does, the same way from the same seed.
//!
//! It holds the log to the contract: programming twice, out of order or a place that is not erased is
//! refused and counted. Power can go at any step, a step being a programmed byte, a quarter of an
//! erase or the start of a sync, and what is then found is as the [`Tear`] says. Bits flip and stick,
//! segments wear out, programs fall short, syncs fail and lie. For campaigns a run is recorded on a
//! [`Tape`], which makes the device as found after power went at each of its steps (`tape`).
//!
//! ```text
//! options   cached: false   raw NOR: ordered, a sync is over when it starts, an erase wipes all
//!           cached: true    a file: writes between two syncs are in any order, a sync takes several
//!                           polls, an erase wipes the ends of a segment only, the nonce changes
//! life      working -> power gone (reads go on, as before the call it went in) -> restart -> working
//! ```
//! Invariants
//! - The same calls with the same seed give the same bytes and the same answers.
//! - A cut from a tape is what [`FaultFlash::cut_after`] and [`FaultFlash::restart_with`] give.
//! - Nothing an honest sync was told `Done` of is lost, but for [`FaultFlash::flip`].
//!
//! Limits: [`ERASE_STEPS`], [`SYNC_STEPS`].

mod device;
mod journal;
mod medium;
mod random;
mod tape;
mod tear;

pub use super::ram::{Meter, ERASE_STEPS};
pub use tape::{Player, Tape};

use super::{Flash, Geometry, SyncState};
use journal::{Act, Under};
use medium::{Fault, Medium, Shape};
use random::Random;

/// Steps of the start of a sync.
pub const SYNC_STEPS: u64 = 1;

/// What a device is like.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultOptions {
    /// Whatever is left to chance follows from it.
    pub seed: u64,
    /// What erased bytes read.
    pub erased: u8,
    /// Writes are kept back until a sync, as for a file.
    pub cached: bool,
    /// A read that touches a torn unit fails; only then.
    pub ecc: bool,
}

impl Default for FaultOptions {
    fn default() -> Self {
        FaultOptions { seed: 0, erased: 0xff, cached: false, ecc: false }
    }
}

/// What a loss of power does to the unit it comes under, or to more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tear {
    /// The bytes up to the cut are written, the rest is as it was.
    Prefix,
    /// Some of the bits that were to change did.
    Bits,
    /// The torn unit is erased in part, and anything in between.
    Garbage,
    /// From the cut on to the end of the call there are zeros, and programmed.
    Zeroed,
    /// The torn unit, or the last one of a call that was just over, reads as meant, and as garbage
    /// after some reads or the next restart.
    Decays,
    /// What was written since the last finished sync made it or not: as a whole, up to some byte, or
    /// unit by unit, each segment by itself; on an ordered device up to some byte of it all.
    Reordered,
}

impl Tear {
    /// All of them.
    pub const ALL: [Tear; 6] =
        [Tear::Prefix, Tear::Bits, Tear::Garbage, Tear::Zeroed, Tear::Decays, Tear::Reordered];
}

/// How a sync will end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Ending {
    Honest,
    Lie,
    Failure,
}

/// A write that power went away under, kept for the restart.
#[derive(Clone, Debug)]
struct CutOff {
    segment: u32,
    /// Where and what it programmed; none for an erase.
    program: Option<(u32, Vec<u8>)>,
    granted: u64,
}

impl CutOff {
    fn under(&self) -> Under<'_> {
        let segment = self.segment;
        let act = match &self.program {
            Some((offset, bytes)) => Act::Program { segment, offset: *offset, bytes },
            None => Act::Erase { segment },
        };
        Under { act, granted: self.granted }
    }
}

/// A device in memory that misbehaves.
#[derive(Clone)]
pub struct FaultFlash {
    medium: Medium,
    options: FaultOptions,
    random: Random,
    lives: u32,
    power: Option<u64>,
    cut_off: Option<CutOff>,
    steps: u64,
    meter: Meter,
    /// The sync in flight, and for how many polls it still is.
    sync: Option<(Ending, u64)>,
    syncs_failing: u64,
    lying: bool,
    /// After how many programs one falls short, and after how many bytes.
    short: Option<(u64, u32)>,
    recording: Option<Tape>,
}

impl core::fmt::Debug for FaultFlash {
    /// Without its memory, which nobody wants to read.
    fn fmt(&self, f: &mut core::fmt::Formatter<'_>) -> core::fmt::Result {
        f.debug_struct("FaultFlash")
            .field("options", &self.options)
            .field("lives", &self.lives)
            .field("steps", &self.steps)
            .field("meter", &self.meter)
            .finish_non_exhaustive()
    }
}

impl FaultFlash {
    /// A device that is erased. None if the segment size is no multiple of the write unit, or that no
    /// power of two.
    pub fn new(geometry: Geometry, options: FaultOptions) -> Option<FaultFlash> {
        let FaultOptions { seed, erased, cached, ecc } = options;
        Some(FaultFlash {
            medium: Medium::new(Shape { geometry, erased, cached, ecc })?,
            options,
            random: Random(seed),
            lives: 0,
            power: None,
            cut_off: None,
            steps: 0,
            meter: Meter::default(),
            sync: None,
            syncs_failing: 0,
            lying: false,
            short: None,
            recording: None,
        })
    }

    /// Power goes after so many more steps. The call in which it happens fails, and every later one
    /// but reads.
    pub fn cut_after(&mut self, steps: u64) {
        self.power = Some(steps);
    }

    /// Whether the power is gone.
    pub fn is_cut(&self) -> bool {
        self.power == Some(0)
    }

    /// Power returns after it went, or after the device was let alone without a word. Begins a life,
    /// and a recording anew if there is one. What is still to fail or to be lied about stays so.
    pub fn restart(&mut self, tear: Tear) {
        let seed = self.random.next();
        self.restart_with(tear, seed);
    }

    /// As [`restart`](FaultFlash::restart), with a seed for what is left to chance from here on.
    pub fn restart_with(&mut self, tear: Tear, seed: u64) {
        let mut random = Random(seed);
        let mut journal = std::mem::take(&mut self.medium.journal);
        let cut_off = self.cut_off.take();
        let partial = cut_off.as_ref().map(CutOff::under);
        self.medium.crash(&journal, partial, self.steps, tear, &mut random);
        journal.clear();
        self.medium.journal = journal;
        self.random = random;
        self.lives = self.lives.wrapping_add(1);
        self.power = None;
        self.sync = None;
        self.record_anew();
    }

    /// Is opened, after a loss of power or just by another process: ends with a sync.
    pub fn reopen(&mut self) {
        let started = self.start_sync();
        while started.is_ok() && self.poll_sync() == SyncState::Pending {}
    }

    /// Becomes a device at rest, whose medium is that already.
    fn renew(&mut self, options: FaultOptions, lives: u32, random: Random) {
        self.medium.journal.clear();
        self.options = options;
        self.random = random;
        self.lives = lives;
        self.power = None;
        self.cut_off = None;
        self.steps = 0;
        self.meter = Meter::default();
        self.sync = None;
        self.syncs_failing = 0;
        self.lying = false;
        self.short = None;
        self.recording = None;
    }

    /// What was asked of it.
    pub fn meter(&self) -> Meter {
        self.meter
    }

    /// Steps spent so far.
    pub fn steps(&self) -> u64 {
        self.steps
    }

    /// The bytes a read would give, torn or not.
    pub fn image(&self) -> &[u8] {
        &self.medium.image
    }

    /// Takes any bytes as the content: units that are not erased count as programmed. Begins a
    /// recording anew if there is one.
    pub fn load(&mut self, image: &[u8]) {
        self.medium.load(image);
        self.cut_off = None;
        self.sync = None;
        self.record_anew();
    }

    /// Flips a bit of the region, counted from its first byte's lowest.
    pub fn flip(&mut self, bit: u64) {
        self.fault(Fault::Flip(bit));
    }

    /// From the next program or erase on the bit reads as `value`. One that wanted it otherwise fails,
    /// since the driver reads back what it wrote.
    pub fn stick(&mut self, bit: u64, value: bool) {
        self.fault(Fault::Stick(bit, value));
    }

    /// The segment cannot be erased or programmed any more. What it holds still reads.
    pub fn wear_out(&mut self, segment: u32) {
        self.fault(Fault::WearOut(segment));
    }

    /// The segment cannot be read any more.
    pub fn fail_reads(&mut self, segment: u32) {
        self.fault(Fault::Blind(segment));
    }

    /// After `after` more programs one fails, and has written the first `written` bytes of what it was
    /// to write.
    pub fn fail_programs(&mut self, after: u64, written: u32) {
        self.short = Some((after, written));
    }

    /// The next `count` syncs fail.
    pub fn fail_syncs(&mut self, count: u64) {
        self.syncs_failing = count;
    }

    /// Whether syncs that start from here on are said to be done and are not. A loss of power then
    /// costs everything since the last honest one.
    pub fn lie_about_syncs(&mut self, lying: bool) {
        self.lying = lying;
    }

    /// From here on what reaches the device is kept, and how it is now.
    pub fn record(&mut self) {
        self.recording = Some(Tape::new(self.medium.clone(), self.options, self.lives, self.steps));
    }

    /// Ends the recording; without one, the tape is empty. A write that power went away under is not
    /// on it.
    pub fn tape(&mut self) -> Tape {
        self.recording
            .take()
            .unwrap_or_else(|| Tape::new(self.medium.clone(), self.options, self.lives, self.steps))
    }

    fn record_anew(&mut self) {
        if self.recording.is_some() {
            self.record();
        }
    }

    fn fault(&mut self, fault: Fault) {
        self.medium.fault(fault);
        if let Some(tape) = &mut self.recording {
            tape.fault(fault);
        }
    }
}
