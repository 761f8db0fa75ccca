//! Finding a store on a device, and making one.
//!
//! The newest segment has the highest sequence, and sequences rise by one along the ring. So samples all
//! over the ring tell about where it is, and the segments behind the highest sample where exactly; this takes
//! a fraction of the reads. It cannot be relied on where writes are cached, since any segment may then
//! show the lap before, nor once a segment has refused to be erased, since it keeps the header of its lap
//! for good. Every header since tells of that, and then all are read. What is left to chance is a stretch of
//! [`BEYOND`] segments that refuse for the first time in one lap, at a mount before the next sample is reached.

use super::bytes::put;
use super::layout::{Header, NoHeader, Ring, HEADER_SIZE, VERSION, WOUNDED};
use super::medium::Medium;
use super::types::{FormatError, MountError};
use super::Log;
use crate::flash::{Flash, Geometry};
use crate::units::{Millis, Position};

/// Samples that are taken of the ring, about.
const SAMPLES: u32 = 16;
/// Segments behind the newest that are looked at before it is taken for that.
const BEYOND: u32 = 12;

/// The header with the highest sequence.
pub(super) fn newest<F: Flash>(medium: &mut Medium<F>) -> Result<Header, MountError> {
    let first = first(medium)?;
    if medium.flash.ordered() {
        if let Some(newest) = newest_by_samples(medium, &first) {
            return Ok(newest);
        }
    }
    let mut newest = first;
    for index in medium.ring.index(first.sequence).saturating_add(1)..medium.ring.count() {
        if let Some(header) = header_of(medium, index, first.salt) {
            newest = if header.sequence > newest.sequence { header } else { newest };
        }
    }
    Ok(newest)
}

/// The newest header by samples; none if one of them tells that they cannot be relied on.
fn newest_by_samples<F: Flash>(medium: &mut Medium<F>, first: &Header) -> Option<Header> {
    let count = medium.ring.count();
    let mut newest = *first;
    let mut look = |index: u32, newest: &mut Header| {
        let found = header_of(medium, index, first.salt);
        if let Some(found) = found.filter(|found| found.sequence > newest.sequence) {
            *newest = found;
            return true;
        }
        false
    };
    for index in (0..count).step_by((count / SAMPLES).max(1) as usize) {
        look(index, &mut newest);
    }
    let mut index = newest.sequence.checked_rem(count)?;
    let mut left = BEYOND;
    while left > 0 && newest.flags & WOUNDED == 0 {
        index = index.saturating_add(1).checked_rem(count)?;
        left = if look(index, &mut newest) { BEYOND } else { left.saturating_sub(1) };
    }
    (newest.flags & WOUNDED == 0).then_some(newest)
}

/// The first header there is.
fn first<F: Flash>(medium: &mut Medium<F>) -> Result<Header, MountError> {
    let mut error = MountError::NotAStore;
    for index in 0..medium.ring.count() {
        match medium.header_at(index) {
            Ok(found) if found.geometry != medium.ring.geometry => {
                error = MountError::WrongGeometry { found: found.geometry };
                // Where a store begins it is believed; elsewhere it may be of an earlier one.
                if index == 0 {
                    break;
                }
            }
            Ok(found) if medium.ring.index(found.sequence) == index => return Ok(found),
            Err(NoHeader::Newer(found)) => error = MountError::NewerVersion { found },
            _ => {}
        }
    }
    Err(error)
}

fn header_of<F: Flash>(medium: &mut Medium<F>, index: u32, salt: u32) -> Option<Header> {
    let header = medium.header_at(index).ok()?;
    (header.salt == salt && medium.ring.index(header.sequence) == index).then_some(header)
}

/// What the first bytes of a segment tell of the store it belongs to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SegmentFacts {
    /// Version of the format it was written in.
    pub version: u8,
    /// Sizes of the store.
    pub geometry: Geometry,
    /// Tells the store from others.
    pub salt: u32,
    /// Its place in the order of the log.
    pub sequence: u32,
    /// Its place on the device.
    pub index: u32,
    /// How often it was erased.
    pub erases: u32,
    /// Log time when it was begun.
    pub base: Millis,
}

/// Whose the bytes are.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Identity {
    /// A segment of a store begins there.
    Segment(SegmentFacts),
    /// The same of a newer version, which is all that is known of it.
    Newer(u8),
}

/// Whether a segment begins with these bytes, and what it says.
pub fn identify(bytes: &[u8]) -> Option<Identity> {
    let header = match Header::decode(bytes.first_chunk::<HEADER_SIZE>()?) {
        Ok(header) => header,
        Err(NoHeader::Newer(version)) => return Some(Identity::Newer(version)),
        Err(NoHeader::Invalid) => return None,
    };
    let ring = Ring::new(header.geometry)?;
    Some(Identity::Segment(SegmentFacts {
        version: VERSION,
        geometry: ring.geometry,
        salt: header.salt,
        sequence: header.sequence,
        index: ring.index(header.sequence),
        erases: header.erases,
        base: header.base,
    }))
}

impl<F: Flash> Log<'_, F> {
    /// Makes an empty store; whatever was there is lost. `salt` tells it from others that were
    /// on the device: use a random number. `scratch` holds at least one segment header, rounded
    /// up to the write unit (512 bytes do for units up to that).
    ///
    /// If power goes meanwhile, there is an old store with parts missing, or none: format again.
    pub fn format(flash: &mut F, salt: u32, now: Millis, scratch: &mut [u8]) -> Result<(), FormatError> {
        let ring = Ring::new(flash.geometry()).ok_or(FormatError::Unusable)?;
        let start = ring.start() as usize;
        let scratch = scratch.get_mut(..start).ok_or(FormatError::ScratchTooSmall)?;
        let mut wear = 0;
        for index in (0..ring.count()).rev() {
            let mut bytes = [0; HEADER_SIZE];
            flash.read(index, 0, &mut bytes).map_err(FormatError::Medium)?;
            let before = Header::decode(&bytes);
            wear = before.map_or(wear, |header| wear.max(header.erases));
            if index == 0 || before != Err(NoHeader::Invalid) {
                flash.erase(index).map_err(FormatError::Medium)?;
            }
        }
        let begin = Position::new(ring.count(), ring.start());
        let mut header = Header {
            flags: 0,
            geometry: ring.geometry,
            salt,
            sequence: ring.count(),
            erases: wear.saturating_add(1),
            head: ring.count(),
            resume: begin,
            durable: begin,
            base: now,
            nonce: flash.nonce(),
            seed: 0,
        };
        scratch.fill(0);
        let bytes = header.encode();
        let _ = put(scratch, 0, &bytes);
        flash.program(0, 0, scratch).map_err(FormatError::Medium)
    }
}
