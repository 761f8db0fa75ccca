//! Copy: a message that stands in the log is written again under another digest.
//!
//! Dead letters, retained values for a new subscription and what reclaim moves are all the same
//! step: new routes and a stamp for the segment written to, then the rest of the record as it
//! was, straight from the log. Only a dead letter changes its times and its exchange, and may change its
//! key.

use super::reclaim::marks_of;
use super::record::{
    read_payload, write_digest, write_key_length, write_tail, Head, Marks, Payload, Route, Stamp, STAMP_MAX,
    TAIL_MAX,
};
use super::Broker;
use crate::fixed::Writer;
use crate::flash::Flash;
use crate::log::{AppendError, Purpose, ReadError, PIECES_MAX};
#[cfg(feature = "gateway")]
use crate::model::deaths::Obituary;
use crate::model::key::Key;
use crate::units::{At, ExchangeId};
use core::ops::Range;

/// What a copy is to be.
pub(super) struct Copy<'k> {
    /// Its digest before the routes.
    pub head: Head,
    /// Its routes are those from here on in the table of routes,
    pub from: usize,
    /// up to here.
    pub to: usize,
    /// What changes if it is a dead letter.
    pub letter: Option<Letter<'k>>,
    /// What for.
    pub purpose: Purpose,
}

/// What a dead letter has of its own.
pub(super) struct Letter<'k> {
    /// Its times.
    pub stamp: Stamp,
    /// Its key, if it is not that of the original.
    pub key: Option<Key<'k>>,
    /// The exchange it goes through.
    pub exchange: ExchangeId,
    /// What it died of.
    #[cfg(feature = "gateway")]
    pub obituary: Option<Obituary>,
}

impl Letter<'_> {
    /// Bytes it adds, besides stamp and tail.
    fn new_size(&self) -> usize {
        let key_size = self.key.map_or(0, |key| key.text.len());
        #[cfg(feature = "gateway")]
        let key_size = self.obituary.as_ref().map_or(key_size, |new| key_size + new.front.len());
        key_size
    }
}

/// One piece of a copy: new bytes, and a range of the old payload.
type Piece<'p> = (&'p [u8], Range<usize>);

const NOTHING: Piece<'static> = (&[], 0..0);

fn set<'p>(pieces: &mut [Piece<'p>; PIECES_MAX], place: usize, new: &'p [u8], kept: Range<usize>) {
    if let Some(piece) = pieces.get_mut(place) {
        *piece = (new, kept);
    }
}

impl<F: Flash> Broker<'_, F> {
    /// Copies the message at `at`; returns where the copy stands, and the bytes of its digest and payload.
    pub(super) fn copy_message(&mut self, at: At, copy: &Copy<'_>) -> Result<(At, u32), AppendError> {
        let record = self.log.read(at).map_err(AppendError::Source)?;
        let payload = read_payload(record.kind, record.base, record.payload)
            .ok_or(AppendError::Source(ReadError::Corrupt))?;
        let Payload { stamp: old_stamp, stamp_size, key_start, before_headers, message, .. } = payload;
        let stamp = copy.letter.as_ref().map_or(old_stamp, |letter| letter.stamp);
        let (key, headers_size) = (message.key, message.headers.len());
        let (old_key, form) = (key_start..key_start.saturating_add(key.text.len()), key.form);
        let end = record.payload.len();
        let (queues, pages) = (&self.state.queues, &self.state.pages);
        let moves = copy.purpose == Purpose::Reclaim;
        let marks_of = |route: &Route| match moves {
            true => marks_of(queues, pages, route, copy.head.priority).unwrap_or_default(),
            false => Marks::default(),
        };
        let routes = self.state.routes.iter().take(copy.to).skip(copy.from);
        let routes = routes.map(|route| (*route, marks_of(route)));
        let digest = write_digest(self.state.scratch, &copy.head, routes).ok_or(AppendError::TooLarge)?;
        let new_size = copy.letter.as_ref().map_or(0, Letter::new_size);
        let total = end.saturating_add(digest.len() + new_size + STAMP_MAX + TAIL_MAX);
        let base = self.log.prepare(total as u32, copy.purpose)?;
        let (mut front, mut tail) = ([0; STAMP_MAX], [0; TAIL_MAX]);
        let (mut front, mut tail) = (Writer::new(&mut front), Writer::new(&mut tail));
        stamp.write(base, &mut front);
        let mut pieces = [NOTHING; PIECES_MAX];
        match &copy.letter {
            None => set(&mut pieces, 1, &[], stamp_size..end),
            Some(letter) => {
                let (key, kept) = match letter.key {
                    Some(key) => (key, 0..0),
                    None => (Key { text: &[], form }, old_key),
                };
                let key_size = key.text.len().saturating_add(kept.len());
                #[cfg(feature = "gateway")]
                let headers_size = letter.obituary.as_ref().map_or(headers_size, |new| new.size);
                write_key_length(&mut front, key_size, key.form, letter.exchange, headers_size);
                write_tail(&mut tail, key.form, letter.exchange, headers_size);
                let tail = tail.finish().ok_or(AppendError::TooLarge)?;
                set(&mut pieces, 1, key.text, kept);
                set(&mut pieces, 2, tail, before_headers..end);
                #[cfg(feature = "gateway")]
                if let Some(Obituary { front, kept: [again, before, after, rest], .. }) = &letter.obituary {
                    let moved =
                        |range: &Range<usize>| range.start + before_headers..range.end + before_headers;
                    set(&mut pieces, 2, tail, 0..0);
                    set(&mut pieces, 3, front, moved(again));
                    set(&mut pieces, 4, &[], moved(before));
                    set(&mut pieces, 5, &[], moved(after));
                    set(&mut pieces, 6, &[], rest.start + before_headers..end);
                }
            }
        }
        set(&mut pieces, 0, front.finish().ok_or(AppendError::TooLarge)?, 0..0);
        let new_size = pieces.iter().fold(digest.len(), |sum, (new, kept)| sum + new.len() + kept.len());
        let new_at = self.log.copy(at, copy.head.kind(), digest, &pieces, copy.purpose)?;
        Ok((new_at, new_size as u32))
    }
}
