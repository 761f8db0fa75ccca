//! Any `embedded-storage` NOR flash as a device.
//!
//! The region is a part of the flash, or all of it. A segment is one or more of its erase units; the
//! write unit may be larger than the flash's own. NOR keeps what was programmed when the call
//! returns, so a sync is over at once. Everything programmed is read back: a worn cell that keeps its
//! old value would break the contract, and is reported as a failed write instead.

use embedded_storage::nor_flash::{NorFlash, NorFlashError, NorFlashErrorKind};

use super::{Flash, FlashError, Geometry, SyncState};

/// Largest read unit that is supported, in bytes.
const READ_UNIT_MAX: usize = 32;
/// Bytes that are read back at once.
const READ_BACK: usize = 64;

/// A region of a NOR flash.
#[derive(Debug)]
pub struct NorDevice<T> {
    flash: T,
    start: u32,
    geometry: Geometry,
    synced: bool,
}

impl<T: NorFlash> NorDevice<T> {
    /// Uses the region at `start`. None if the geometry does not go with the flash: the region lies
    /// outside, segments are not whole erase units, or the write unit is no multiple of the flash's.
    pub fn new(flash: T, start: u32, geometry: Geometry) -> Option<Self> {
        let size = u64::from(geometry.segment_size).checked_mul(geometry.segment_count.into())?;
        let end = size.checked_add(start.into())?;
        let whole = |number: u32, unit: usize| (number as usize).checked_rem(unit) == Some(0);
        let goes = end <= flash.capacity() as u64
            && u32::try_from(end).is_ok()
            && whole(start, T::ERASE_SIZE)
            && whole(geometry.segment_size, T::ERASE_SIZE)
            && whole(geometry.write_unit, T::WRITE_SIZE)
            && T::READ_SIZE.is_power_of_two()
            && T::READ_SIZE <= READ_UNIT_MAX;
        goes.then_some(NorDevice { flash, start, geometry, synced: false })
    }

    /// Gives the flash back.
    pub fn into_inner(self) -> T {
        self.flash
    }

    fn place(&self, segment: u32, offset: u32, len: usize) -> Result<u32, FlashError> {
        let inside = segment < self.geometry.segment_count
            && u64::from(offset).saturating_add(len as u64) <= u64::from(self.geometry.segment_size);
        let start = segment.checked_mul(self.geometry.segment_size);
        let place = start.and_then(|start| self.start.checked_add(start)?.checked_add(offset));
        place.filter(|_| inside).ok_or(FlashError::OutOfBounds)
    }

    /// Reads what is not whole read units, a unit at a time.
    fn read_units(&mut self, place: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let mask = T::READ_SIZE.wrapping_sub(1) as u32;
        let mut unit = [0; READ_UNIT_MAX];
        let mut place = place;
        let mut rest = into.iter_mut();
        while rest.len() > 0 {
            let bytes = unit.get_mut(..T::READ_SIZE).ok_or(FlashError::OutOfBounds)?;
            self.flash.read(place & !mask, bytes).map_err(translate)?;
            let wanted = bytes.iter().skip((place & mask) as usize);
            for (byte, to) in wanted.zip(rest.by_ref()) {
                *to = *byte;
                place = place.saturating_add(1);
            }
        }
        Ok(())
    }
}

impl<T: NorFlash> Flash for NorDevice<T> {
    fn geometry(&self) -> Geometry {
        self.geometry
    }

    fn read(&mut self, segment: u32, offset: u32, into: &mut [u8]) -> Result<(), FlashError> {
        let place = self.place(segment, offset, into.len())?;
        let mask = T::READ_SIZE.wrapping_sub(1);
        let before = (place.wrapping_neg() as usize & mask).min(into.len());
        let whole = into.len().saturating_sub(before) & !mask;
        let (head, rest) = into.split_at_mut_checked(before).ok_or(FlashError::OutOfBounds)?;
        let (middle, tail) = rest.split_at_mut_checked(whole).ok_or(FlashError::OutOfBounds)?;
        let behind = place.saturating_add(before as u32);
        self.read_units(place, head)?;
        if !middle.is_empty() {
            self.flash.read(behind, middle).map_err(translate)?;
        }
        self.read_units(behind.saturating_add(whole as u32), tail)
    }

    fn program(&mut self, segment: u32, offset: u32, bytes: &[u8]) -> Result<(), FlashError> {
        let place = self.place(segment, offset, bytes.len())?;
        self.flash.write(place, bytes).map_err(translate)?;
        let mut back = [0; READ_BACK];
        let mut at = offset;
        for piece in bytes.chunks(READ_BACK) {
            let back = back.get_mut(..piece.len()).ok_or(FlashError::OutOfBounds)?;
            self.read(segment, at, back)?;
            if back != piece {
                return Err(FlashError::Medium);
            }
            at = at.saturating_add(piece.len() as u32);
        }
        Ok(())
    }

    fn erase(&mut self, segment: u32) -> Result<(), FlashError> {
        let from = self.place(segment, 0, self.geometry.segment_size as usize)?;
        let to = from.saturating_add(self.geometry.segment_size);
        self.flash.erase(from, to).map_err(translate)
    }

    fn start_sync(&mut self) -> Result<(), FlashError> {
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

fn translate(error: impl NorFlashError) -> FlashError {
    match error.kind() {
        NorFlashErrorKind::NotAligned | NorFlashErrorKind::OutOfBounds => FlashError::OutOfBounds,
        _ => FlashError::Medium,
    }
}
