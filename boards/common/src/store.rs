//! The store of a board: made at the first start, and never again.
//!
//! Formatted is only a flash in which not one segment belongs to a store. Power may have gone during
//! that, so it need not be blank. The store of a newer version is left alone.

use forebay::flash::Flash;
use forebay::log::{identify, FormatError, Identity, Log};
use forebay::units::Millis;

/// Bytes of a segment's header.
const HEADER: usize = 64;
/// Largest write unit that a board may have, in bytes.
const UNIT_MAX: usize = 256;

/// Why there is no store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NoStore {
    /// There is one that a newer version wrote: use that.
    Newer,
    /// The sizes of the flash cannot hold one, or it refused.
    Format(FormatError),
}

/// Makes a store if the flash holds none; true if it did. `salt` is another number for each new store.
pub fn make_if_none<F: Flash>(flash: &mut F, salt: u32) -> Result<bool, NoStore> {
    let mut header = [0; HEADER];
    for segment in 0..flash.geometry().segment_count {
        if flash.read(segment, 0, &mut header).is_err() {
            continue;
        }
        match identify(&header) {
            Some(Identity::Segment(_)) => return Ok(false),
            Some(Identity::Newer(_)) => return Err(NoStore::Newer),
            None => {}
        }
    }
    Log::format(flash, salt, Millis(0), &mut [0; UNIT_MAX]).map_err(NoStore::Format)?;
    Ok(true)
}
