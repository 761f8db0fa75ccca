//! The misbehaving device as the log sees it: [`Flash`], call by call.
//!
//! A call is checked against the contract first, then against what is physically wrong, and is then
//! done as far as there is power. What reached the medium goes on the tape, if one is recorded.

use super::journal::Act;
use super::medium::{Fault, Torn};
use super::{CutOff, Ending, FaultFlash, SYNC_STEPS};
use crate::flash::{Flash, FlashError, Geometry, SyncState};

/// Polls that a sync of a cached device is pending for, at most.
const SYNC_POLLS_MAX: u64 = 4;

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

impl FaultFlash {
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
