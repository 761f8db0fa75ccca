//! Which bytes of an image are the store.
//!
//! A store's file and a partition begin with a segment, and its header says everything. If that
//! segment is damaged, or the image is that of a whole card, every 4 KiB may be where a segment
//! begins. A header names the segment's place in the store, so each one found is a vote:
//! ```text
//! begin = where the header is - its segment's index x the segment size
//! ```
//! The store with the most votes wins, of two with equally many the one that was written last.
//! The search ends behind a store that has two votes or more.

use crate::flash::image::Image;
use crate::flash::Geometry;
use crate::log::{identify, Identity, SegmentFacts};
use crate::units::Millis;

use super::progress::{Progress, Unit};

/// Segments of a store on a medium with partitions or files begin at multiples of this.
const STEP: usize = 4096;
/// Bytes of the image that are read at once.
const CHUNK: usize = 1 << 20;
/// Bytes in which a header is looked for.
const HEADER_BYTES: usize = 64;

/// Where a store is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Found {
    /// Where in the image it begins; before its start, if the image lacks the beginning.
    pub begin: i64,
    /// Its sizes.
    pub geometry: Geometry,
    /// Version of its format.
    pub version: u8,
    /// Tells it from others.
    pub salt: u32,
}

/// Why none was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum NotFound {
    /// There are no bytes.
    Empty,
    /// No segment begins anywhere.
    Nothing,
    /// Only segments of a version to come.
    Newer(u8),
}

/// A store that may be there.
struct Candidate {
    found: Found,
    votes: u32,
    last: Millis,
}

impl Candidate {
    fn end(&self) -> i64 {
        let Geometry { segment_size, segment_count, .. } = self.found.geometry;
        self.found.begin.saturating_add(i64::from(segment_size) * i64::from(segment_count))
    }
}

/// Finds the store in an image.
pub fn find(image: &Image, progress: &Progress) -> Result<Found, NotFound> {
    if image.size_bytes() == 0 {
        return Err(NotFound::Empty);
    }
    let mut header = [0; HEADER_BYTES];
    image.read(0, &mut header);
    if let Some(Identity::Segment(facts)) = identify(&header) {
        if facts.index == 0 {
            return Ok(found(0, &facts));
        }
    }
    progress.begin("looking for the store", Unit::Bytes, image.size_bytes());
    let chosen = search(image);
    progress.end();
    chosen
}

fn search(image: &Image) -> Result<Found, NotFound> {
    let mut candidates: Vec<Candidate> = Vec::new();
    let mut newer = None;
    let mut chunk = vec![0; CHUNK];
    for start in (0..image.size_bytes()).step_by(CHUNK) {
        let start = start as i64;
        if candidates.iter().any(|candidate| candidate.votes > 1 && candidate.end() <= start) {
            break;
        }
        image.read(start, &mut chunk);
        for (number, bytes) in chunk.chunks(STEP).enumerate() {
            match identify(bytes) {
                Some(Identity::Segment(facts)) => {
                    vote(&mut candidates, start + (number * STEP) as i64, &facts)
                }
                Some(Identity::Newer(version)) => newer = newer.max(Some(version)),
                None => {}
            }
        }
    }
    let best = candidates.into_iter().max_by_key(|candidate| (candidate.votes, candidate.last));
    match (best, newer) {
        (Some(candidate), _) => Ok(candidate.found),
        (None, Some(version)) => Err(NotFound::Newer(version)),
        (None, None) => Err(NotFound::Nothing),
    }
}

fn vote(candidates: &mut Vec<Candidate>, place: i64, facts: &SegmentFacts) {
    let found = found(place, facts);
    match candidates.iter_mut().find(|candidate| candidate.found == found) {
        Some(candidate) => {
            candidate.votes += 1;
            candidate.last = candidate.last.max(facts.base);
        }
        None => candidates.push(Candidate { found, votes: 1, last: facts.base }),
    }
}

fn found(place: i64, facts: &SegmentFacts) -> Found {
    let before = i64::from(facts.index) * i64::from(facts.geometry.segment_size);
    Found {
        begin: place.saturating_sub(before),
        geometry: facts.geometry,
        version: facts.version,
        salt: facts.salt,
    }
}

/// The headers of a store's segments, by place, and how many places cannot be read.
pub fn segments(image: &Image, found: &Found) -> (Vec<Option<SegmentFacts>>, u32) {
    let mut unreadable = 0;
    let mut header = [0; HEADER_BYTES];
    let headers = (0..found.geometry.segment_count).map(|index| {
        let place = i64::from(index) * i64::from(found.geometry.segment_size);
        if !image.read(found.begin.saturating_add(place), &mut header) {
            unreadable += 1;
            return None;
        }
        match identify(&header) {
            Some(Identity::Segment(facts)) if facts.salt == found.salt && facts.index == index => Some(facts),
            _ => None,
        }
    });
    (headers.collect(), unreadable)
}
