//! How one segment leads to the next: by what its footer and the next header say.

use super::layout::{Header, Trailer, TRAILER_SIZE};
use super::medium::Medium;
use super::types::SegmentState;
use crate::flash::Flash;

/// The next segment that is there, up to the last, if it goes on where this one ends.
pub(super) fn goes_on<F: Flash>(
    medium: &mut Medium<F>,
    segments: &[SegmentState],
    salt: u32,
    link: u32,
    last: u32,
) -> Option<Header> {
    let there = (link.saturating_add(1).max(medium.ring.oldest(last))..=last).find_map(|sequence| {
        let index = medium.ring.index(sequence) as usize;
        segments.get(index).filter(|segment| !segment.is_dropped())?;
        medium.header(sequence, salt)
    });
    there.filter(|header| header.resume.sequence() == link)
}

/// The trailer of a segment, if it is closed.
pub(super) fn trailer<F: Flash>(medium: &mut Medium<F>, salt: u32, sequence: u32) -> Option<Trailer> {
    let ring = medium.ring;
    let mut bytes = [0; TRAILER_SIZE as usize];
    let offset = ring.size().checked_sub(TRAILER_SIZE)?;
    medium.read(ring.index(sequence), offset, &mut bytes).ok()?;
    Trailer::decode(&ring, &bytes, salt, sequence)
}
