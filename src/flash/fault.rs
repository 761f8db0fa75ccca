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

mod journal;
mod medium;
mod random;
mod tape;
mod tear;

pub use super::ram::{Meter, ERASE_STEPS};
pub use tape::{Player, Tape};

use super::{Flash, FlashError, Geometry, SyncState};
use journal::{Act, Under};
use medium::{Fault, Medium, Shape, Torn};
use random::Random;

/// Steps of the start of a sync.
pub const SYNC_STEPS: u64 = 1;
/// Polls that a sync of a cached device is pending for, at most.
const SYNC_POLLS_MAX: u64 = 4;

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
    /// and a recording anew if there is one.
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

    fn misuse(&mut self) -> FlashError {
        self.meter.misuses = self.meter.misuses.saturating_add(1);
        FlashError::OutOfBounds
    }

    /// Takes power for `steps`; how many of them there is power for.
    fn spend(&mut self, steps: u64) -> u64 {
        let granted = self.power.map_or(steps, |left| left.min(steps));
        self.power = self.power.map(|left| left.saturating_sub(granted));
        self.steps = self.steps.saturating_add(granted);
        granted
    }

    /// Does a write as far as there is power.
    fn write(&mut self, act: &Act<'_>) -> Result<(), FlashError> {
        let granted = self.spend(act.steps());
        if granted < act.steps() {
            let program = match *act {
                Act::Program { offset, bytes, .. } => Some((offset, bytes.to_vec())),
                Act::Erase { .. } => None,
            };
            self.cut_off = Some(CutOff { segment: act.segment(), program, granted });
            return Err(FlashError::Medium);
        }
        let right = self.medium.act(act, self.steps);
        if let Some(tape) = &mut self.recording {
            tape.write(act);
        }
        if right && !self.is_cut() {
            Ok(())
        } else {
            Err(FlashError::Medium)
        }
    }

    /// Whether this program falls short, and after how many bytes.
    fn falls_short(&mut self) -> Option<u32> {
        let (after, written) = self.short.take()?;
        match after.checked_sub(1) {
            None => Some(written),
            Some(left) => {
                self.short = Some((left, written));
                None
            }
        }
    }

    /// A read is over: what it touched stands one less.
    fn wear_torn(&mut self, segment: u32, offset: u32, len: u64) {
        let mut over = None;
        for torn in self.medium.torn.iter_mut().filter(|torn| torn.overlaps(segment, offset, len)) {
            if torn.reads_left == 1 {
                over = Some((torn.segment, torn.offset));
            } else {
                torn.reads_left = torn.reads_left.saturating_sub(1);
            }
        }
        if let Some((segment, offset)) = over {
            self.fault(Fault::Decay(segment, offset));
        }
    }
}

impl Flash for FaultFlash {
    fn geometry(&self) -> Geometry {
        self.medium.shape.geometry
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let len = into.len() as u64;
        self.meter.reads = self.meter.reads.saturating_add(1);
        self.meter.read_bytes = self.meter.read_bytes.saturating_add(len);
        if !self.medium.holds(segment, offset, into.len()) {
            return Err(self.misuse());
        }
        if !self.medium.blind.is_empty() && self.medium.blind.contains(&segment) {
            return Err(FlashError::Medium);
        }
        let unreadable = |torn: &Torn| torn.unreadable && torn.overlaps(segment, offset, len);
        if self.medium.torn.iter().any(unreadable) {
            return Err(FlashError::Medium);
        }
        let place = self.medium.bytes(segment, offset, into.len());
        if place.len() == into.len() {
            into.copy_from_slice(place);
        }
        if !self.medium.torn.is_empty() {
            self.wear_torn(segment, offset, len);
        }
        Ok(())
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        if self.is_cut() {
            return Err(FlashError::Medium);
        }
        let mask = self.medium.shape.geometry.write_unit.wrapping_sub(1);
        let aligned = offset & mask == 0 && bytes.len() & mask as usize == 0;
        let inside = self.medium.holds(segment, offset, bytes.len());
        if !aligned || !inside || self.medium.mark(segment) > offset {
            return Err(self.misuse());
        }
        self.meter.programs = self.meter.programs.saturating_add(1);
        self.meter.programmed_bytes = self.meter.programmed_bytes.saturating_add(bytes.len() as u64);
        if self.medium.worn.contains(&segment) {
            return Err(FlashError::Medium);
        }
        match self.falls_short() {
            Some(written) => {
                let bytes = bytes.get(..written as usize).unwrap_or(bytes);
                let written = self.write(&Act::Program { segment, offset, bytes });
                written.and(Err(FlashError::Medium))
            }
            None => self.write(&Act::Program { segment, offset, bytes }),
        }
    }

    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        if self.is_cut() {
            return Err(FlashError::Medium);
        }
        if segment >= self.medium.shape.geometry.segment_count {
            return Err(self.misuse());
        }
        self.meter.erases = self.meter.erases.saturating_add(1);
        if self.medium.worn.contains(&segment) {
            return Err(FlashError::Medium);
        }
        self.write(&Act::Erase { segment })
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
        if self.is_cut() {
            return Err(FlashError::Medium);
        }
        self.spend(SYNC_STEPS);
        let ending = match (self.syncs_failing.checked_sub(1), self.lying) {
            (Some(left), _) => {
                self.syncs_failing = left;
                Ending::Failure
            }
            (None, true) => Ending::Lie,
            (None, false) => Ending::Honest,
        };
        let over = ending == Ending::Honest && !self.options.cached;
        self.medium.journal.cover();
        if over {
            self.medium.journal.settle();
        }
        if let Some(tape) = &mut self.recording {
            tape.start_sync(over);
        }
        let polls = if self.options.cached { 1 + self.random.below(SYNC_POLLS_MAX) } else { 0 };
        self.sync = Some((ending, polls));
        if self.is_cut() {
            return Err(FlashError::Medium);
        }
        Ok(())
    }

    fn poll_sync(&mut self) -> SyncState {
        let Some((ending, polls)) = self.sync else { return SyncState::Idle };
        if let Some(left) = polls.checked_sub(1).filter(|_| !self.is_cut()) {
            self.sync = Some((ending, left));
            return SyncState::Pending;
        }
        self.sync = None;
        if ending == Ending::Failure || self.is_cut() {
            return SyncState::Failed;
        }
        let lie = ending == Ending::Lie;
        if lie {
            self.medium.journal.lied = true;
        } else if self.options.cached {
            self.medium.journal.settle();
        }
        if lie || self.options.cached {
            if let Some(tape) = &mut self.recording {
                tape.end_sync(lie);
            }
        }
        SyncState::Done
    }

    fn ordered(&self) -> bool {
        !self.options.cached
    }

    fn nonce(&self) -> u32 {
        if self.options.cached {
            (self.options.seed as u32).wrapping_add(self.lives)
        } else {
            0
        }
    }
}
