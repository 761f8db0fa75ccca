//! A device in memory: for tests, and for what need not outlive the power.
//!
//! It holds the log to the contract: programming out of order or twice is refused and counted. It
//! counts what is asked of it, and its power can be cut after so many bytes, also in the middle of a
//! call, so that a test can mount what is left. Syncs are over at once.

use super::{Flash, FlashError, Geometry, SyncState};

/// What was asked of a device since it was made.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Meter {
    /// Read calls.
    pub reads: u64,
    /// Bytes read.
    pub read_bytes: u64,
    /// Program calls.
    pub programs: u64,
    /// Bytes programmed.
    pub programmed_bytes: u64,
    /// Erase calls.
    pub erases: u64,
    /// Calls that broke the contract; they were refused.
    pub misuses: u64,
}

/// Steps of an erase at which power can go.
pub const ERASE_STEPS: u64 = 4;

/// A device over borrowed memory.
#[derive(Debug)]
pub struct RamFlash<'a> {
    memory: &'a mut [u8],
    marks: &'a mut [u32],
    geometry: Geometry,
    power: Option<u64>,
    synced: bool,
    meter: Meter,
}

impl<'a> RamFlash<'a> {
    /// Uses `memory` as the region; `marks` holds, for each segment, up to where it is programmed,
    /// and belongs to the memory as long as that is not erased. None if the sizes do not fit.
    pub fn new(memory: &'a mut [u8], marks: &'a mut [u32], geometry: Geometry) -> Option<Self> {
        let size = u64::from(geometry.segment_size).checked_mul(geometry.segment_count.into())?;
        let fits = memory.len() as u64 == size
            && marks.len() == geometry.segment_count as usize
            && geometry.write_unit.is_power_of_two();
        fits.then_some(RamFlash {
            memory,
            marks,
            geometry,
            power: None,
            synced: false,
            meter: Meter::default(),
        })
    }

    /// Cuts the power after so many more programmed bytes, where an erase counts as
    /// [`ERASE_STEPS`]. The call in which it happens fails, and every later one but reads.
    pub fn cut_after(&mut self, bytes: u64) {
        self.power = Some(bytes);
    }

    /// Whether the power is gone.
    pub fn is_cut(&self) -> bool {
        self.power == Some(0)
    }

    /// What was asked of it.
    pub fn meter(&self) -> Meter {
        self.meter
    }

    /// The raw bytes.
    pub fn memory(&mut self) -> &mut [u8] {
        self.memory
    }

    fn place(&mut self, segment: u32, offset: u32, len: usize) -> Option<&mut [u8]> {
        let size = self.geometry.segment_size;
        let inside = segment < self.geometry.segment_count
            && offset as usize <= size as usize
            && len <= size.wrapping_sub(offset) as usize;
        let start = (segment as usize).checked_mul(size as usize)?.checked_add(offset as usize)?;
        let (_, rest) = self.memory.split_at_mut_checked(start).filter(|_| inside)?;
        rest.split_at_mut_checked(len).map(|(place, _)| place)
    }

    /// Takes power for `steps`; how many of them there is power for.
    fn spend(&mut self, steps: u64) -> u64 {
        let granted = self.power.map_or(steps, |left| left.min(steps));
        self.power = self.power.map(|left| left.saturating_sub(granted));
        granted
    }

    fn misuse(&mut self) -> FlashError {
        self.meter.misuses = self.meter.misuses.saturating_add(1);
        FlashError::OutOfBounds
    }
}

impl Flash for RamFlash<'_> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        self.meter.reads = self.meter.reads.saturating_add(1);
        self.meter.read_bytes = self.meter.read_bytes.saturating_add(into.len() as u64);
        match self.place(segment, offset, into.len()) {
            Some(place) if place.len() == into.len() => {
                into.copy_from_slice(place);
                Ok(())
            }
            _ => Err(self.misuse()),
        }
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        if self.is_cut() {
            return Err(FlashError::Medium);
        }
        let mask = self.geometry.write_unit.wrapping_sub(1);
        let aligned = offset & mask == 0 && bytes.len() as u32 & mask == 0;
        let fresh = self.marks.get(segment as usize).is_some_and(|&mark| mark <= offset);
        if !aligned || !fresh || self.place(segment, offset, bytes.len()).is_none() {
            return Err(self.misuse());
        }
        self.meter.programs = self.meter.programs.saturating_add(1);
        self.meter.programmed_bytes = self.meter.programmed_bytes.saturating_add(bytes.len() as u64);
        let granted = self.spend(bytes.len() as u64);
        // The unit in which power goes holds a mix of what it held and what it was to hold.
        let touched = granted.saturating_add(u64::from(mask)) & !u64::from(mask);
        if let Some(mark) = self.marks.get_mut(segment as usize) {
            *mark = offset.saturating_add(touched as u32);
        }
        let done = bytes.get(..granted as usize).unwrap_or(&[]);
        if let Some(place) = self.place(segment, offset, done.len()).filter(|p| p.len() == done.len()) {
            place.copy_from_slice(done);
        }
        let torn = bytes.get(granted as usize..touched as usize).unwrap_or(&[]);
        let from = offset.saturating_add(granted as u32);
        for (to, from) in self.place(segment, from, torn.len()).unwrap_or(&mut []).iter_mut().zip(torn) {
            *to &= *from | 0x55;
        }
        if granted < bytes.len() as u64 || self.is_cut() {
            return Err(FlashError::Medium);
        }
        Ok(())
    }

    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        if self.is_cut() {
            return Err(FlashError::Medium);
        }
        let size = self.geometry.segment_size;
        let granted = self.spend(ERASE_STEPS);
        self.meter.erases = self.meter.erases.saturating_add(1);
        let done = u64::from(size) / ERASE_STEPS * granted;
        let Some(place) = self.place(segment, 0, done as usize) else { return Err(self.misuse()) };
        place.fill(0xff);
        if granted < ERASE_STEPS || self.is_cut() {
            // Not erased to the end: nothing may be programmed.
            if let Some(mark) = self.marks.get_mut(segment as usize) {
                *mark = size;
            }
            return Err(FlashError::Medium);
        }
        if let Some(mark) = self.marks.get_mut(segment as usize) {
            *mark = 0;
        }
        Ok(())
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
        if self.is_cut() {
            return Err(FlashError::Medium);
        }
        self.synced = true;
        Ok(())
    }

    fn poll_sync(&mut self) -> SyncState {
        if core::mem::take(&mut self.synced) {
            SyncState::Done
        } else {
            SyncState::Idle
        }
    }

    fn ordered(&self) -> bool {
        true
    }
}
