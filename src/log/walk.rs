//! Walking: the records of the log one after the other, for a log that is used as one queue.
//!
//! Such a log needs no table of what is in it: where it begins and how far it was read are two
//! places, and what lies before the first of them is free, a segment at a time. What is damaged is
//! passed over.

use super::reclaim::Cursor;
use super::types::{AppendError, LogError, KIND_LIMIT};
use super::Log;
use crate::flash::Flash;
use crate::units::{At, Position};

/// How far a walk is.
#[derive(Clone, Copy, Debug, Default)]
pub struct Walk {
    cursor: Cursor,
    /// Where the record stands that it met last.
    met: u32,
}

impl Walk {
    /// Sequence of the segment it is in.
    pub fn segment(&self) -> u32 {
        self.cursor.sequence
    }

    /// The same, before the record it met last.
    pub fn before(&self) -> Walk {
        let mut walk = *self;
        walk.cursor.offset = self.met;
        walk
    }
}

impl<F: Flash> Log<'_, F> {
    /// A walk that begins with the oldest record there is.
    pub fn walk(&mut self) -> Walk {
        self.walk_from(self.space.head)
    }

    fn walk_from(&mut self, sequence: u32) -> Walk {
        let cursor = self.cursor_at(sequence);
        Walk { cursor, met: cursor.offset }
    }

    /// A walk that meets the record there next.
    pub fn walk_to(&mut self, at: At) -> Walk {
        let position = self.position(at);
        let mut walk = self.walk_from(position.sequence());
        walk.cursor.offset = position.offset();
        walk.met = position.offset();
        walk
    }

    /// The next record that is programmed; none if there is none yet.
    pub fn walk_on(&mut self, walk: &mut Walk) -> Option<At> {
        if walk.cursor.sequence < self.space.head {
            *walk = self.walk();
        }
        let ring = self.medium.ring;
        loop {
            let cursor = &mut walk.cursor;
            if cursor.offset >= cursor.limit {
                // A segment that was open grows until it is closed.
                cursor.limit = self.content_end(cursor.sequence);
            }
            if cursor.offset >= cursor.limit {
                if cursor.sequence >= self.space.last {
                    return None;
                }
                *walk = self.walk_from(cursor.sequence.saturating_add(1));
                continue;
            }
            match self.kind_at(cursor) {
                Some((0, _)) => cursor.offset = ring.align(cursor.offset),
                Some((framed, kind)) => {
                    let met = cursor.offset;
                    cursor.offset = met.saturating_add(framed);
                    if kind < KIND_LIMIT {
                        walk.met = met;
                        return Some(ring.at(Position::new(cursor.sequence, met)));
                    }
                }
                None => self.pass_damage(cursor),
            }
        }
    }

    /// Keeps every segment from this one on, and none before.
    pub fn keep_from(&mut self, from: u32) {
        let (mut sequence, mut live) = (self.space.freed, 0u64);
        while sequence <= self.space.last {
            let index = self.medium.ring.index(sequence) as usize;
            if let Some(segment) = self.segments.get_mut(index).filter(|segment| !segment.is_bad()) {
                segment.refs = u32::from(sequence >= from);
                live = live.saturating_add(segment.refs.into());
            }
            sequence = sequence.saturating_add(1);
        }
        self.live = live;
    }

    /// Frees the oldest segments that are not kept; they can be used after the next sync.
    pub fn free_unkept(&mut self) -> Result<(), AppendError> {
        match self.finish() {
            Ok(true) => Ok(()),
            Ok(false) => Err(AppendError::Full),
            Err(LogError::Medium(error)) => Err(AppendError::Medium(error)),
            Err(_) => Err(AppendError::ReadOnly),
        }
    }
}
