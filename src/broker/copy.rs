//! Copy: a message that stands in the log is written again under another digest.
//!
//! Dead letters, retained values for a new subscription and what reclaim moves are all the same
//! step: new routes and a stamp for the segment written to, then the rest of the record as it
//! was, straight from the log. Only a dead letter may change its key and its times.

use super::dead::NAME_MAX;
use super::record::{read_payload, write_digest, write_key_length, Head, Stamp, STAMP_MAX};
use super::Broker;
use crate::fixed::Writer;
use crate::flash::Flash;
use crate::log::{AppendError, Purpose, ReadError};
use crate::model::key::Key;
use crate::units::At;

/// What a copy is to be.
pub(super) struct Copy<'k> {
    /// Its digest before the routes.
    pub head: Head,
    /// Its routes are those from here on in the table of routes,
    pub from: usize,
    /// up to here.
    pub to: usize,
    /// Its times, if they are not those of the original.
    pub stamp: Option<Stamp>,
    /// Its key, if it is not that of the original.
    pub key: Option<Key<'k>>,
    /// What for.
    pub purpose: Purpose,
}

impl<F: Flash> Broker<'_, F> {
    /// Copies the message at `at`; returns where the copy stands, and the bytes of its digest and payload.
    pub(super) fn copy_message(&mut self, at: At, copy: &Copy<'_>) -> Result<(At, u32), AppendError> {
        let record = self.log.read(at).map_err(AppendError::Source)?;
        let payload = read_payload(record.kind, record.base, record.payload)
            .ok_or(AppendError::Source(ReadError::Corrupt))?;
        let stamp = copy.stamp.unwrap_or(payload.stamp);
        let skip = if copy.key.is_some() { payload.after_key } else { payload.stamp_size };
        let has_headers = !payload.message.headers.is_empty();
        let size = record.size;
        let payload_size = record.payload.len() as u32;
        let routes = self.state.routes.iter().take(copy.to).skip(copy.from).copied();
        let digest = write_digest(self.state.scratch, &copy.head, routes).ok_or(AppendError::TooLarge)?;
        let front_size = STAMP_MAX + copy.key.map_or(0, |key| key.text.len());
        let total = size.saturating_add((digest.len() + front_size) as u32);
        let base = self.log.prepare(total, copy.purpose)?;
        let mut buffer = [0; STAMP_MAX + NAME_MAX];
        let mut writer = Writer::new(&mut buffer);
        stamp.write(base, &mut writer);
        if let Some(key) = copy.key {
            write_key_length(&mut writer, key, has_headers);
            writer.bytes(key.text);
        }
        let front = writer.finish().ok_or(AppendError::TooLarge)?;
        let own = (digest.len() + front.len()) as u32;
        let rest = payload_size.saturating_sub(skip as u32);
        let new_at = self.log.copy(at, copy.head.kind(), digest, front, skip, copy.purpose)?;
        Ok((new_at, own.saturating_add(rest)))
    }
}
