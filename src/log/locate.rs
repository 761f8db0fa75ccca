//! Finding a store on a device, and making one.
//!
//! Sequences rise by one along the ring up to the newest segment and drop by a lap behind it, so
//! on a device that writes in order the newest is found in a few reads. Torn, dropped and damaged
//! segments may hide in between; what follows the place that was found is therefore read until it
//! confirms it, and if it does not, all segments are. On other devices they are in any case: a segment
//! may show the lap before while a later one made it to the medium.

use super::bytes::put;
use super::layout::{Header, NoHeader, Ring, HEADER_SIZE, VERSION};
use super::medium::Medium;
use super::types::{FormatError, MountError};
use super::Log;
use crate::flash::{Flash, Geometry};
use crate::units::{Millis, Position};

/// The header with the highest sequence.
pub(super) fn newest<F: Flash>(medium: &mut Medium<F>) -> Result<Header, MountError> {
    let first = first(medium)?;
    let count = medium.ring.count();
    let (mut low, mut high) = (medium.ring.index(first.sequence), count);
    let mut newest = first;
    let mut doubt = !medium.flash.ordered();
    while !doubt && high.saturating_sub(low) > 1 {
        let middle = low.midpoint(high);
        match lap_header(medium, middle, &first) {
            Some(header) => (low, newest) = (middle, header),
            None => high = middle,
        }
    }
    for index in low.saturating_add(1)..count {
        if let Some(header) = header_of(medium, index, first.salt) {
            doubt |= header.sequence > first.sequence;
            break;
        }
    }
    if doubt {
        for index in low.saturating_add(1)..count {
            if let Some(header) = header_of(medium, index, first.salt) {
                newest = if header.sequence > newest.sequence { header } else { newest };
            }
        }
    }
    Ok(newest)
}

/// The first header there is; it belongs to the newest lap.
fn first<F: Flash>(medium: &mut Medium<F>) -> Result<Header, MountError> {
    let mut error = MountError::NotAStore;
    for index in 0..medium.ring.count() {
        match medium.header_at(index) {
            Ok(found) if found.geometry != medium.ring.geometry => {
                return Err(MountError::WrongGeometry { found: found.geometry });
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

/// The header at an index, if it is of the same lap as the first.
fn lap_header<F: Flash>(medium: &mut Medium<F>, index: u32, first: &Header) -> Option<Header> {
    let ahead = index.checked_sub(medium.ring.index(first.sequence))?;
    let header = header_of(medium, index, first.salt)?;
    (header.sequence.checked_sub(first.sequence)? == ahead).then_some(header)
}

/// The sizes of the store that has a segment which begins with these bytes; none if they are not the
/// header of one, or of a version that is not known here.
pub fn probe(bytes: &[u8]) -> Option<Geometry> {
    match identify(bytes)? {
        Identity::Segment(facts) => Some(facts.geometry),
        Identity::Newer(_) => None,
    }
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

/// Whether a segment begins with these bytes, and what it says. `probe` says only the sizes.
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
