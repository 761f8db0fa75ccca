//! A run that is recorded once, so that power can go at every step of it without running it again.
//!
//! To cut a run of n steps at each of them by running it n times is O(n^2). A [`Tape`] keeps what
//! reached the medium instead; a [`Player`] goes through it once, and at any step makes the device
//! that would be found had power gone there. Only segments that are not the same already are copied,
//! so a cut costs what was written since the cut before and what the mount in between wrote.
//!
//! Steps are those of [`FaultFlash::steps`]. What takes no step happens with the next one: a sync that
//! was told to be over when the count was s is over for every cut after s, not for the one at s.

use std::sync::atomic::{AtomicU64, Ordering};

use super::journal::{Act, Under};
use super::medium::{Fault, Medium};
use super::random::Random;
use super::{FaultFlash, FaultOptions, Tear, ERASE_STEPS, SYNC_STEPS};

/// Players so far: the states they stamp must differ from each other's.
static PLAYERS: AtomicU64 = AtomicU64::new(1);

/// Bits of a stamp that count the states of one player.
const STATE_BITS: u32 = 40;

#[derive(Clone, Copy, Debug)]
enum Op {
    Program { segment: u32, offset: u32, at: usize, len: usize },
    Erase { segment: u32 },
    StartSync { over: bool },
    EndSync { lie: bool },
    Fault(Fault),
}

/// What reached a device while it was recorded, and the device as it was before.
#[derive(Clone, Debug)]
pub struct Tape {
    base: Medium,
    options: FaultOptions,
    lives: u32,
    first_step: u64,
    ops: Vec<Op>,
    written: Vec<u8>,
    end_step: u64,
}

impl Tape {
    pub(super) fn new(base: Medium, options: FaultOptions, lives: u32, step: u64) -> Tape {
        let (ops, written) = (Vec::new(), Vec::new());
        Tape { base, options, lives, first_step: step, ops, written, end_step: step }
    }

    pub(super) fn write(&mut self, act: &Act<'_>) {
        let op = match *act {
            Act::Program { segment, offset, bytes } => {
                let at = self.written.len();
                self.written.extend_from_slice(bytes);
                Op::Program { segment, offset, at, len: bytes.len() }
            }
            Act::Erase { segment } => Op::Erase { segment },
        };
        self.push(op);
    }

    pub(super) fn start_sync(&mut self, over: bool) {
        self.push(Op::StartSync { over });
    }

    pub(super) fn end_sync(&mut self, lie: bool) {
        self.push(Op::EndSync { lie });
    }

    pub(super) fn fault(&mut self, fault: Fault) {
        self.push(Op::Fault(fault));
    }

    fn push(&mut self, op: Op) {
        self.end_step = self.end_step.saturating_add(self.cost(&op));
        self.ops.push(op);
    }

    fn cost(&self, op: &Op) -> u64 {
        match *op {
            Op::Program { len, .. } => len as u64,
            Op::Erase { .. } => ERASE_STEPS,
            Op::StartSync { .. } => SYNC_STEPS,
            Op::EndSync { .. } | Op::Fault(_) => 0,
        }
    }

    /// The write an operation is, if it is one.
    fn act(&self, op: &Op) -> Option<Act<'_>> {
        match *op {
            Op::Program { segment, offset, at, len } => {
                let bytes = self.written.get(at..at.checked_add(len)?)?;
                Some(Act::Program { segment, offset, bytes })
            }
            Op::Erase { segment } => Some(Act::Erase { segment }),
            _ => None,
        }
    }

    /// The count of steps when the recording began: no cut is before it.
    pub fn first_step(&self) -> u64 {
        self.first_step
    }

    /// The count of steps when the recording ended.
    pub fn steps(&self) -> u64 {
        self.end_step
    }

    /// Begins at the first step.
    pub fn play(&self) -> Player<'_> {
        let mut medium = self.base.clone();
        medium.stamp = PLAYERS.fetch_add(1, Ordering::Relaxed) << STATE_BITS;
        medium.stamp_all();
        Player { tape: self, medium, next: 0, reached: self.first_step, step: self.first_step }
    }
}

/// A device on its way through a tape.
#[derive(Clone, Debug)]
pub struct Player<'t> {
    tape: &'t Tape,
    /// As it is when the operations before `next` are over.
    medium: Medium,
    next: usize,
    /// The step at which the last of them was over.
    reached: u64,
    step: u64,
}

impl Player<'_> {
    /// Lets everything before `step` happen. It only goes forward; beyond the last step all is over,
    /// also what took no step.
    pub fn seek(&mut self, step: u64) {
        self.step = self.step.max(step);
        while let Some(op) = self.tape.ops.get(self.next).filter(|_| self.reached < self.step) {
            let end = self.reached.saturating_add(self.tape.cost(op));
            if end > self.step {
                break;
            }
            self.medium.stamp = self.medium.stamp.wrapping_add(1);
            match *op {
                Op::StartSync { over } => {
                    self.medium.journal.cover();
                    if over {
                        self.medium.journal.settle();
                    }
                }
                Op::EndSync { lie: true } => self.medium.journal.lied = true,
                Op::EndSync { lie: false } => self.medium.journal.settle(),
                Op::Fault(fault) => self.medium.fault(fault),
                Op::Program { .. } | Op::Erase { .. } => {
                    if let Some(act) = self.tape.act(op) {
                        self.medium.act(&act, end);
                    }
                }
            }
            self.reached = end;
            self.next = self.next.wrapping_add(1);
        }
    }

    /// The step it is at.
    pub fn step(&self) -> u64 {
        self.step
    }

    /// Makes `into` the device that is found when power returns that went at this step: at rest, with
    /// no limit of power, nothing counted and no step spent. Stuck bits, worn and unreadable segments
    /// are those of the recorded device; of programs and syncs none is to fail.
    pub fn cut(&self, tear: Tear, seed: u64, into: &mut FaultFlash) {
        into.medium.adopt(&self.medium);
        let partial = self.partial();
        let mut random = Random(seed);
        into.medium.crash(&self.medium.journal, partial, self.step, tear, &mut random);
        into.renew(self.tape.options, self.tape.lives.wrapping_add(1), random);
    }

    /// The write power goes away under.
    fn partial(&self) -> Option<Under<'_>> {
        let granted = self.step.checked_sub(self.reached).filter(|&steps| steps > 0)?;
        let act = self.tape.act(self.tape.ops.get(self.next)?)?;
        Some(Under { act, granted })
    }
}
