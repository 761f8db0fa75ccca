//! Copy: a message that stands in the log is written again under another digest.
//!
//! Dead letters, retained values for a new subscription and what reclaim moves are all the same
//! step: new routes and a stamp for the segment written to, then the rest of the record as it
//! was, straight from the log. Only a dead letter changes its times and its exchange, and may change its
//! key.

use super::record::{
    read_payload, write_digest, write_key_length, write_tail, Head, Payload, Stamp, STAMP_MAX, TAIL_MAX,
};
use super::Broker;
use crate::fixed::Writer;
use crate::flash::Flash;
use crate::log::{AppendError, Purpose, ReadError};
use crate::model::key::Key;
use crate::units::{At, ExchangeId};

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
        let (size, end) = (record.size, record.payload.len());
        let routes = self.state.routes.iter().take(copy.to).skip(copy.from).copied();
        let digest = write_digest(self.state.scratch, &copy.head, routes).ok_or(AppendError::TooLarge)?;
        let key_size = copy.letter.as_ref().and_then(|letter| letter.key).map_or(0, |key| key.text.len());
        let total = size.saturating_add((digest.len() + key_size + STAMP_MAX + TAIL_MAX) as u32);
        let base = self.log.prepare(total, copy.purpose)?;
        let (mut front, mut tail) = ([0; STAMP_MAX], [0; TAIL_MAX]);
        let (mut front, mut tail) = (Writer::new(&mut front), Writer::new(&mut tail));
        stamp.write(base, &mut front);
        let nothing = (&[][..], 0..0);
        let [named, rest] = match &copy.letter {
            None => [nothing, (&[][..], stamp_size..end)],
            Some(letter) => {
                let (key, kept) = match letter.key {
                    Some(key) => (key, 0..0),
                    None => (Key { text: &[], form }, old_key),
                };
                let key_size = key.text.len().saturating_add(kept.len());
                write_key_length(&mut front, key_size, key.form, letter.exchange, headers_size);
                write_tail(&mut tail, key.form, letter.exchange, headers_size);
                [(key.text, kept), (tail.finish().ok_or(AppendError::TooLarge)?, before_headers..end)]
            }
        };
        let front = front.finish().ok_or(AppendError::TooLarge)?;
        let pieces = [(front, 0..0), named, rest];
        let new_size = pieces.iter().fold(digest.len(), |sum, (new, kept)| sum + new.len() + kept.len());
        let new_at = self.log.copy(at, copy.head.kind(), digest, &pieces, copy.purpose)?;
        Ok((new_at, new_size as u32))
    }
}
