//! What a dead letter takes along of its death: the record in its headers, see `model::deaths`.
//!
//! The new header is pieced together from new bytes and ranges of the old record, so a message is
//! still copied straight from the log. Where the record would become larger than the log takes, the
//! death is not recorded, which must not keep the message where it is.

use super::copy::Letter;
use super::costs::RECORD_SLACK;
use super::dead::{Name, NAME_MAX};
use super::record::{read_payload, Payload};
use super::state::State;
use super::topology::partition;
use super::Broker;
use crate::command::Reason;
use crate::flash::Flash;
use crate::log::ReadError;
use crate::model::deaths::{is_circle, obituary, Death};
use crate::units::{At, QueueId};

impl<F: Flash> Broker<'_, F> {
    /// Drops the routes of a dead letter that would let it go round for ever; returns how many are left.
    pub(super) fn drop_circles(
        &mut self,
        id: QueueId,
        at: At,
        count: usize,
        reason: Reason,
    ) -> Result<usize, ReadError> {
        let record = self.log.read(at)?;
        let payload = read_payload(record.kind, record.base, record.payload).ok_or(ReadError::Corrupt)?;
        let name: Option<Name> =
            self.state.queues.place(id).and_then(|queue| self.state.texts.to_string(queue.name?));
        let name = name.as_deref().unwrap_or_default();
        let death = Death { reason, count: 1, queue: name, ..nowhere(&payload) };
        Ok(self.state.drop_circles(count, payload.message.headers, &death))
    }

    /// Adds the death of a message to the letter it becomes.
    pub(super) fn record_death(
        &mut self,
        id: QueueId,
        at: At,
        reason: Reason,
        letter: &mut Letter<'_>,
    ) -> Result<(), ReadError> {
        let record = self.log.read(at)?;
        let size = record.size;
        let payload = read_payload(record.kind, record.base, record.payload).ok_or(ReadError::Corrupt)?;
        let name: Option<Name> =
            self.state.queues.place(id).and_then(|queue| self.state.texts.to_string(queue.name?));
        let mut exchange = [0; NAME_MAX];
        let death = Death {
            reason,
            first: letter.stamp.published,
            queue: name.as_deref().unwrap_or_default(),
            exchange: self.state.exchanges.name(payload.exchange, &mut exchange).unwrap_or_default(),
            ..nowhere(&payload)
        };
        let fits = |new: usize| size.saturating_add(new as u32) <= self.state.max_record - RECORD_SLACK / 2;
        letter.obituary =
            obituary(payload.message.headers, &death).filter(|obituary| fits(obituary.front.len()));
        Ok(())
    }
}

impl State<'_> {
    /// The same for a message with these headers.
    pub(super) fn drop_circles(&mut self, count: usize, headers: &[u8], death: &Death<'_>) -> usize {
        let State { routes, queues, texts, .. } = self;
        partition(routes, count, |route| {
            let target = queues.get(route.queue).and_then(|queue| queue.name);
            let is_there = |queue: &str| {
                let form = crate::model::key::Form::Dots;
                target.is_some_and(|text| texts.equals(text, queue.as_bytes(), form))
            };
            !is_circle(headers, death, is_there)
        })
    }
}

/// A death of which only is known what its message tells.
fn nowhere<'m>(payload: &Payload<'m>) -> Death<'m> {
    Death {
        reason: Reason::Rejected,
        count: 1,
        first: payload.stamp.published,
        ttl_ms: payload.stamp.ttl_ms,
        queue: "",
        exchange: "",
        key: payload.message.key,
    }
}
