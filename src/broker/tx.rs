//! Transactions: publishes, acknowledgements and rejections that happen together or not at all.
//!
//! ```text
//! ask everything -> | begin | messages | acknowledgements, returns, dead letters | end | -> the rest
//! ```
//! The records stand in the log as one batch, so a loss of power leaves all of them or none. Only
//! durable messages are among them; what need not be kept is handed out behind the end. What was
//! asked before need not hold for the second message to the same queue: then those of this
//! transaction are acknowledged within the batch, which thus changes nothing, and it is refused.
//!
//! Limits: all records have to fit one segment and its index; else it is refused with the limit `tx`.

use super::dead::NAME_MAX;
use super::meta::Meta;
use super::publish::ROUTES_MAX;
use super::record::{dedup_bits, STAMP_MAX, TAIL_MAX};
use super::{refusal_of, Broker};
use crate::command::{Outlet, Publish, Refusal, Rejection, Reply, Step};
use crate::flash::Flash;
use crate::log::{AppendError, BatchSize, Purpose};
use crate::model::deaths::ENTRY_MAX;
use crate::units::{Offset, Position, QueueId, Tag};
use core::cell::Cell;

/// Bytes of an acknowledgement's digest, or a returned delivery's, at most.
const MARK_SIZE: usize = 22;
/// Bytes of one route at most.
const ROUTE_SIZE: usize = 10;
/// Bytes of a message's digest before its routes at most.
const HEAD_SIZE: usize = 28;
/// Queues of which messages are taken back for which room is set aside.
const UNDO_MAX: usize = 32;
/// Noted as the number of queues of a message that was appended.
const HERE: u16 = u16::MAX;

impl<F: Flash> Broker<'_, F> {
    pub(super) fn transact(&mut self, steps: &[Step<'_>], outlet: &mut dyn Outlet) -> Result<Reply, Refusal> {
        if self.log.read_only() {
            return Err(Refusal::ReadOnly);
        }
        let mut size = BatchSize::default();
        // In case it is taken back: an acknowledgement for each queue, of few as a rule.
        (0..steps.len().min(UNDO_MAX)).for_each(|_| size.add(MARK_SIZE, 0));
        for step in steps {
            match step {
                Step::Publish(publish, routed) => {
                    routed.set(0);
                    self.ask(publish, &mut size)?;
                }
                Step::Ack(tag) => {
                    self.tagged(*tag)?;
                    size.add(MARK_SIZE, 0);
                }
                Step::Reject(tag, rejection) => self.ask_reject(*tag, *rejection, &mut size)?,
            }
        }
        // What was acknowledged before is no part of it.
        self.write_runs();
        let begun = self.log.begin_batch(&size, Purpose::Publish);
        begun.map_err(|error| match error {
            AppendError::TooLarge => Refusal::Limit("tx"),
            error => refusal_of(error),
        })?;
        let begin = self.log.tail();
        self.in_tx = true;
        let published = self.publish_all(steps);
        self.in_tx = false;
        if let Err(refusal) = published {
            self.withdraw_all(steps, begin);
            self.log.end_batch().map_err(refusal_of)?;
            return Err(refusal);
        }
        for step in steps {
            // One that was named twice is gone the second time.
            let _ = match step {
                Step::Publish(..) => continue,
                Step::Ack(tag) => self.ack(*tag),
                Step::Reject(tag, rejection) => self.reject(*tag, *rejection),
            };
        }
        self.write_runs();
        self.log.end_batch().map_err(refusal_of)?;
        let position = self.make_durable();
        self.publish_rest(steps, outlet);
        Ok(Reply::Done(position))
    }

    /// Asks whether a message can be published, and adds what it needs.
    fn ask(&mut self, publish: &Publish<'_>, size: &mut BatchSize) -> Result<(), Refusal> {
        if publish.retain {
            return Err(Refusal::NotAllowed);
        }
        let routed = self.route(publish)?;
        if self.state.is_source_internal() {
            return Err(Refusal::NotAllowed);
        }
        if !publish.durable {
            return Ok(());
        }
        let certain = self.state.sort_routes(publish, routed);
        if certain > 0 {
            self.admit(publish, certain)?;
        }
        let content = publish.message.size();
        for from in (0..certain.max(1)).step_by(ROUTES_MAX) {
            let routes = certain.saturating_sub(from).min(ROUTES_MAX);
            let has_key = publish.dedup.is_some() || publish.identity.is_some();
            let head_size = if has_key { HEAD_SIZE } else { 1 };
            size.add(head_size + routes * ROUTE_SIZE, content + STAMP_MAX + TAIL_MAX);
        }
        if publish.dedup.is_some() {
            // In case it is taken back.
            size.add(MARK_SIZE, 0);
        }
        for _ in 0..if publish.identity.is_some() { certain } else { 0 } {
            // Remembered in each queue, and perhaps taken back.
            size.add(MARK_SIZE, 0);
            size.add(MARK_SIZE, 0);
        }
        Ok(())
    }

    /// Asks whether a delivery can be rejected, and adds what that needs.
    fn ask_reject(&mut self, tag: Tag, rejection: Rejection, size: &mut BatchSize) -> Result<(), Refusal> {
        let (_, id, slot) = self.tagged(tag)?;
        size.add(MARK_SIZE, 0);
        size.add(MARK_SIZE, 0);
        let has_exchange =
            self.state.queues.place(id).is_some_and(|queue| queue.policy.dead_letter_exchange.is_some());
        let may_move = rejection == Rejection::DeadLetter || self.is_worn_out(id, slot);
        let at = self.address_of(id, slot);
        if let (Some(at), true) = (at, may_move && has_exchange) {
            let message_size = self.log.read(at).map_or(0, |record| record.size as usize);
            let routed = self.route_dead_letter(id, at).unwrap_or(None).map_or(0, |(count, _)| count);
            for _ in 0..routed.div_ceil(ROUTES_MAX) {
                let moved = message_size + STAMP_MAX + TAIL_MAX + ENTRY_MAX + NAME_MAX;
                size.add(HEAD_SIZE + ROUTES_MAX * ROUTE_SIZE, moved);
            }
        }
        Ok(())
    }

    /// Appends the durable messages and enters them into their queues.
    fn publish_all(&mut self, steps: &[Step<'_>]) -> Result<(), Refusal> {
        if steps.iter().any(|step| matches!(step, Step::Publish(publish, _) if publish.dedup.is_some())) {
            self.state.dedup.expire(self.now);
        }
        for step in steps {
            match step {
                Step::Publish(publish, routed) if publish.durable => self.publish_one(publish, routed)?,
                _ => {}
            }
        }
        Ok(())
    }

    fn publish_one(&mut self, publish: &Publish<'_>, routed: &Cell<u16>) -> Result<(), Refusal> {
        let dedup = self.dedup_of(publish);
        if dedup.is_some_and(|(key, _)| self.state.dedup.contains(key)) {
            self.state.counters.duplicates += 1;
            return Ok(());
        }
        let count = self.route(publish)?;
        let count = self.drop_known(publish, count);
        let dedup = dedup.or(self.first_identity(publish, count));
        let certain = self.state.sort_routes(publish, count);
        if certain > 0 || dedup.is_some() {
            self.admit(publish, certain)?;
        }
        routed.set(HERE);
        self.state.counters.published += 1;
        if certain > 0 || dedup.is_some() {
            self.store(publish, certain, dedup)?;
        }
        Ok(())
    }

    /// Acknowledges every message that was appended since the begin.
    fn withdraw_all(&mut self, steps: &[Step<'_>], begin: Position) {
        for step in steps {
            let Step::Publish(publish, routed) = step else { continue };
            if routed.replace(0) != HERE {
                continue;
            }
            let count = self.route(publish).unwrap_or(0);
            for place in 0..count {
                let Some(id) = self.state.routes.get(place).map(|route| route.queue) else { break };
                self.withdraw(id, begin);
            }
            self.unremember(publish, count);
            let key = self.dedup_of(publish).map(|(key, _)| key);
            if let Some(key) = key.filter(|&key| self.state.dedup.contains(key)) {
                self.state.dedup.forget(key);
                self.write_meta(&Meta::KeyGone(dedup_bits(key)));
            }
        }
        self.write_runs();
    }

    /// Acknowledges the newest messages of a queue that stand behind a position.
    fn withdraw(&mut self, id: QueueId, begin: Position) {
        let Some(next) = self.state.queues.get(id).map(|queue| queue.next.0) else { return };
        let mut first = next;
        while let Some(before) = first.checked_sub(1) {
            let at = self.find_entry(id, Offset(before)).and_then(|slot| self.address_of(id, slot));
            if at.is_none_or(|at| self.log.position(at) < begin) {
                break;
            }
            first = before;
        }
        // In their order, so that it is one record.
        for offset in first..next {
            let slot = self.find_entry(id, Offset(offset));
            slot.into_iter().for_each(|slot| self.finish(id, slot));
        }
        if self.state.queues.get(id).is_some_and(|queue| queue.is_stream()) {
            self.set_stream_first(id);
        }
    }

    /// What comes behind the end: messages that need not be kept, and queues that have become too long.
    fn publish_rest(&mut self, steps: &[Step<'_>], outlet: &mut dyn Outlet) {
        for step in steps {
            let Step::Publish(publish, routed) = step else { continue };
            if !publish.durable {
                if let Ok(Reply::Published { routed: count, .. }) = self.publish(publish, outlet) {
                    routed.set(count);
                }
            } else if routed.get() == HERE {
                let count = self.route(publish).unwrap_or(0);
                let certain = self.state.sort_routes(publish, count);
                routed.set(count as u16);
                self.hand_over_rest(publish, certain, count, outlet);
                self.trim_queues(publish, certain);
            }
        }
    }

    /// Hands a message to those who get it at most once; there it is not kept for later.
    fn hand_over_rest(
        &mut self,
        publish: &Publish<'_>,
        certain: usize,
        count: usize,
        outlet: &mut dyn Outlet,
    ) {
        for place in certain..count {
            let Some(route) = self.state.routes.get(place).copied() else { return };
            if !self.needs_no_storing(publish, &route, outlet) {
                self.state.counters.dropped += 1;
            }
        }
    }
}
